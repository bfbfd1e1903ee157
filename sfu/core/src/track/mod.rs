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
