//! The payloads of one encoding, kept once for everybody who receives them: fan-out, pacing and resending hold
//! a [`StreamKey`](super::StreamKey) and a number, and find the bytes here when a packet leaves.
//!
//! ```text
//!   index  [ seq % n -> facts, position, length ]      a slot knows the number that it was filled with
//!   arena  [ payload | payload | .. write -> ]         oldest bytes are overwritten
//! ```
//!
//! A slot's number and its arena position both only grow, so they are the generation: a reference that outlived
//! its packet finds another number, or a position that was overwritten, and gets `None`. To forget everything is
//! to believe no slot whose position is from before: it costs nothing, however often a sender has it done.

use std::time::Instant;

use crate::rtp::ext::{AudioLevel, VideoOrientation};
use crate::rtp::params::Codec;
use crate::rtp::vp8::Vp8Descriptor;

/// What the packet path needs to know of a packet besides its payload.
#[derive(Clone, Copy, Debug)]
pub struct PacketFacts {
    /// Extended sequence number in its stream.
    pub seq: u64,
    /// RTP timestamp as it came.
    pub time: u32,
    /// When it arrived.
    pub arrival: Instant,
    /// End of a video frame, start of a talk spurt.
    pub marker: bool,
    /// What the payload is.
    pub codec: Codec,
    /// The VP8 payload descriptor, in VP8.
    pub vp8: Option<Vp8Descriptor>,
    /// Whether decoding can start here: the first packet of a key frame; any packet of audio.
    pub starts_decoding: bool,
    /// How loud it is, where it says so.
    pub audio_level: Option<AudioLevel>,
    /// How the camera was held, where it says so.
    pub orientation: Option<VideoOrientation>,
}

/// What became of a packet handed to [`PacketCache::insert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is kept.
    Kept,
    /// This number is here already.
    Duplicate,
    /// Older than everything that the cache keeps.
    TooOld,
}

/// Size of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSize {
    /// Bytes of payload.
    pub bytes: usize,
    /// Packets: a power of two.
    pub packets: usize,
}

impl CacheSize {
    /// About two seconds of a 2 Mbit/s camera, four times that of small layers.
    pub const VIDEO: Self = Self { bytes: 512 * 1024, packets: 1024 };
    /// Five seconds of Opus in 20 ms packets.
    pub const AUDIO: Self = Self { bytes: 64 * 1024, packets: 256 };
}

/// The recent packets of one stream. Allocates when it is made and never after.
pub struct PacketCache {
    index: Box<[Option<Slot>]>,
    arena: Box<[u8]>,
    /// Bytes written since the beginning; the next payload goes to this position modulo the arena's length.
    written: u64,
    /// Slots with a position below are forgotten.
    floor: u64,
    highest: Option<u64>,
}

#[derive(Clone, Copy)]
struct Slot {
    facts: PacketFacts,
    position: u64,
    len: u16,
}

impl PacketCache {
    /// An empty cache.
    pub fn new(size: CacheSize) -> Self {
        debug_assert!(size.packets.is_power_of_two());
        Self {
            index: vec![None; size.packets].into_boxed_slice(),
            arena: vec![0; size.bytes].into_boxed_slice(),
            written: 0,
            floor: 0,
            highest: None,
        }
    }

    /// Copies a packet in, over the oldest ones. A number is accepted once while the index reaches back to it.
    pub fn insert(&mut self, facts: &PacketFacts, payload: &[u8]) -> Inserted {
        let reach = self.index.len() as u64;
        if self.highest.is_some_and(|highest| facts.seq + reach <= highest) {
            return Inserted::TooOld;
        }
        if self.slot_of(facts.seq).is_some() {
            return Inserted::Duplicate;
        }
        let (Ok(len), true) = (u16::try_from(payload.len()), payload.len() <= self.arena.len()) else {
            return Inserted::TooOld;
        };
        let position = self.reserve(payload.len());
        let at = self.offset(position);
        self.arena[at..at + payload.len()].copy_from_slice(payload);
        let slot = self.place(facts.seq);
        self.index[slot] = Some(Slot { facts: *facts, position, len });
        self.highest = self.highest.max(Some(facts.seq));
        Inserted::Kept
    }

    /// A packet, `None` where it never came or has been overwritten.
    #[inline]
    pub fn packet(&self, seq: u64) -> Option<(&PacketFacts, &[u8])> {
        let slot = self.slot_of(seq)?;
        if self.written - slot.position > self.arena.len() as u64 {
            return None;
        }
        let at = self.offset(slot.position);
        Some((&slot.facts, &self.arena[at..at + usize::from(slot.len)]))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        // One byte on, lest an empty payload here last has the position of the next.
        self.written += 1;
        self.floor = self.written;
        self.highest = None;
    }

    /// Makes room for `len` contiguous bytes: a payload never wraps around the arena's end.
    fn reserve(&mut self, len: usize) -> u64 {
        let to_end = self.arena.len() - self.offset(self.written);
        if len > to_end {
            self.written += to_end as u64;
        }
        let position = self.written;
        self.written += len as u64;
        position
    }

    /// The slot that was filled with this number.
    #[inline]
    fn slot_of(&self, seq: u64) -> Option<&Slot> {
        let slot = self.index[self.place(seq)].as_ref()?;
        (slot.facts.seq == seq && slot.position >= self.floor).then_some(slot)
    }

    fn place(&self, seq: u64) -> usize {
        seq as usize & (self.index.len() - 1)
    }

    fn offset(&self, position: u64) -> usize {
        (position % self.arena.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::testing::facts;

    const SMALL: CacheSize = CacheSize { bytes: 1000, packets: 16 };

    fn found(cache: &PacketCache, seq: u64) -> Option<Vec<u8>> {
        cache.packet(seq).map(|(facts, payload)| {
            assert_eq!(facts.seq, seq);
            payload.to_vec()
        })
    }

    #[test]
    fn packets_are_found_by_number_in_any_order_of_arrival() {
        let mut cache = PacketCache::new(SMALL);
        for seq in [100, 102, 101] {
            assert_eq!(cache.insert(&facts(seq, 0), &[seq as u8; 7]), Inserted::Kept);
        }
        for seq in 100..=102 {
            assert_eq!(found(&cache, seq), Some(vec![seq as u8; 7]));
        }
        assert_eq!(found(&cache, 103), None);
    }

    #[test]
    fn a_number_is_accepted_once() {
        let mut cache = PacketCache::new(SMALL);
        assert_eq!(cache.insert(&facts(5, 0), b"first"), Inserted::Kept);
        assert_eq!(cache.insert(&facts(5, 0), b"other"), Inserted::Duplicate);
        assert_eq!(found(&cache, 5), Some(b"first".to_vec()));
        cache.insert(&facts(21, 0), b"later");
        assert_eq!(cache.insert(&facts(5, 0), b"again"), Inserted::TooOld);
    }

    #[test]
    fn a_stale_reference_finds_nothing() {
        let mut cache = PacketCache::new(SMALL);
        cache.insert(&facts(1, 0), &[1; 300]);
        cache.insert(&facts(2, 0), &[2; 300]);
        cache.insert(&facts(3, 0), &[3; 300]);
        assert!(found(&cache, 1).is_some());
        cache.insert(&facts(4, 0), &[4; 300]);
        assert_eq!(found(&cache, 1), None, "its bytes were overwritten");
        assert_eq!(found(&cache, 2), Some(vec![2; 300]));
        cache.insert(&facts(18, 0), &[18; 10]);
        assert_eq!(found(&cache, 2), None, "its slot holds another number");
        assert_eq!(found(&cache, 3), Some(vec![3; 300]));
    }

    #[test]
    fn what_was_forgotten_is_not_found_and_its_numbers_are_accepted_again() {
        let mut cache = PacketCache::new(SMALL);
        for payload in [&b"first"[..], b"", b"third"] {
            for seq in [20, 21] {
                assert_eq!(cache.insert(&facts(seq, 0), payload), Inserted::Kept);
                assert_eq!(found(&cache, seq), Some(payload.to_vec()));
            }
            cache.clear();
            assert_eq!((found(&cache, 20), found(&cache, 21)), (None, None));
        }
        assert_eq!(cache.insert(&facts(1, 0), b"far below"), Inserted::Kept);
    }

    #[test]
    fn an_empty_payload_is_a_packet_too() {
        let mut cache = PacketCache::new(SMALL);
        cache.insert(&facts(9, 0), &[]);
        assert_eq!(found(&cache, 9), Some(vec![]));
    }
}
