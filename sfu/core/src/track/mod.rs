//! A source as its publisher sends it to us: numbers extended, losses noticed and asked for again, payloads kept
//! for all who receive them. Nothing here knows a receiver.

pub mod encoding;
pub mod keyframe;
pub mod layers;
pub mod nack;
pub mod packet_cache;
pub mod receive_stats;
pub mod reception;
pub mod up_track;

use std::fmt;

/// One run of sequence numbers of an up track. An encoding whose sender begins to count anew becomes another
/// stream, so that a number is never mistaken for one of the run before. One word, as names of packets are kept and
/// compared all the time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey(u64);

impl StreamKey {
    /// A run of the encoding with that index, 0 being the lowest. `epoch` says which run, below 2^56. A run costs its
    /// sender a packet or two and its number must not come again: what departed under it would be sealed anew with
    /// other bytes.
    pub const fn new(encoding: u8, epoch: u64) -> Self {
        Self(epoch << 8 | encoding as u64)
    }

    /// Index of the encoding.
    #[inline]
    pub const fn encoding(self) -> u8 {
        self.0 as u8
    }

    /// Which run of it.
    pub const fn epoch(self) -> u64 {
        self.0 >> 8
    }

    /// The run behind this one.
    pub const fn next_run(self) -> Self {
        Self::new(self.encoding(), self.epoch() + 1)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamKey({}, run {})", self.encoding(), self.epoch())
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::packet_cache::PacketFacts;
    use crate::rtp::params::Codec;
    use crate::testing::origin;

    /// A packet of video at which decoding can start.
    pub(crate) fn facts(seq: u64, time: u32) -> PacketFacts {
        PacketFacts {
            seq,
            time,
            arrival: origin(),
            marker: false,
            codec: Codec::Vp8,
            vp8: None,
            starts_decoding: true,
            audio_level: None,
            orientation: None,
        }
    }
}
