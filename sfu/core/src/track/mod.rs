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

/// One run of sequence numbers of an up track. An encoding whose sender begins to count anew becomes another
/// stream, so that a number is never mistaken for one of the run before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Index of the encoding, 0 is the lowest.
    pub encoding: u8,
    /// Which run of it. A run costs its sender a packet or two and its number must not come again: what departed
    /// under it would be sealed anew with other bytes.
    pub epoch: u64,
}

#[cfg(test)]
pub(crate) mod testing {
    use std::time::Instant;

    use super::packet_cache::PacketFacts;
    use crate::rtp::params::Codec;

    /// Where virtual time begins.
    #[expect(clippy::disallowed_methods, reason = "an `Instant` can be made in no other way")]
    pub(crate) fn start() -> Instant {
        Instant::now()
    }

    /// A packet of video at which decoding can start.
    pub(crate) fn facts(seq: u64, time: u32) -> PacketFacts {
        PacketFacts {
            seq,
            time,
            arrival: start(),
            marker: false,
            codec: Codec::Vp8,
            vp8: None,
            starts_decoding: true,
            audio_level: None,
            orientation: None,
        }
    }

    /// Marsaglia's xorshift64: the same numbers in every run.
    pub(crate) struct Xorshift(pub(crate) u64);

    impl Xorshift {
        /// A number below `bound`.
        pub(crate) fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }
}
