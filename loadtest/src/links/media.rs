//! Packets of the emulated lesson: payloads that tell a receiver which frame they are of, in the shape of Opus and
//! VP8.

use std::time::Duration;

use arrayvec::ArrayVec;
use sfu_core::rtp::params::{Codec, CodecParams, Extension, ExtensionMap, MAX_CODECS, Mid};
use sfu_core::units::{MediaKind, Source, TrackId};

use super::sources::Frame;

/// What a track is of a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The teacher's voice.
    Voice,
    /// The teacher's slides.
    Slides,
    /// The teacher's camera.
    Camera,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Voice, Self::Slides, Self::Camera];

    /// Its codec.
    pub fn codec(self) -> Codec {
        if self == Self::Voice { Codec::Opus } else { Codec::Vp8 }
    }

    /// What the server is told that it is.
    pub fn source(self) -> Source {
        match self {
            Self::Voice => Source::Microphone,
            Self::Slides => Source::Screen,
            Self::Camera => Source::Camera,
        }
    }

    /// Its track.
    pub fn track(self) -> TrackId {
        TrackId(1 + self as u64)
    }

    /// Its m-line.
    pub fn mid(self) -> Mid {
        Mid::new(["0", "1", "2"][self as usize]).expect("a digit is short")
    }
}

/// Largest part of a frame in one packet: with all headers a browser's packet.
pub const MAX_PART: usize = 1100;

/// A VP8 payload descriptor with a 15-bit picture id, TL0PICIDX and a temporal layer (RFC 7741 §4.2).
const DESCRIPTOR_LEN: usize = 6;

/// Where the mark is in a VP8 payload: behind the descriptor and the header of a key frame.
const VP8_MARK: usize = DESCRIPTOR_LEN + 10;

/// Where it is in an Opus payload: behind the TOC byte.
const OPUS_MARK: usize = 1;

/// The payload type of redundant audio (RFC 2198).
pub const RED: u8 = 63;

/// IPv4 and UDP, bytes.
pub const UNDER_UDP: u64 = 20 + 8;

/// What a packet takes on the wire besides its payload: also the header, the four extensions that receivers agree
/// to, and the tag of AEAD_AES_128_GCM.
pub const OVERHEAD: u64 = UNDER_UDP + 12 + 16 + 16;

/// Bytes on the wire of a frame's packets.
pub fn wire_bytes(kind: Kind, frame: &Frame) -> u64 {
    match kind {
        Kind::Voice => frame.bytes as u64 + OVERHEAD,
        Kind::Slides | Kind::Camera => {
            let packets = frame.bytes.div_ceil(MAX_PART) as u64;
            frame.bytes as u64 + packets * (OVERHEAD + DESCRIPTOR_LEN as u64)
        }
    }
}

/// Which frame a packet is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When it was captured, since the lesson began.
    pub at: Duration,
    /// Its number in its encoding.
    pub number: u32,
    /// Its encoding.
    pub encoding: u8,
}

impl Mark {
    const LEN: usize = 13;

    fn write(self, out: &mut [u8]) {
        out[..8].copy_from_slice(&(self.at.as_nanos() as u64).to_be_bytes());
        out[8..12].copy_from_slice(&self.number.to_be_bytes());
        out[12] = self.encoding;
    }

    /// Reads what the payload of a track's packet says.
    pub fn read(kind: Kind, payload: &[u8]) -> Option<Self> {
        let offset = if kind == Kind::Voice { OPUS_MARK } else { VP8_MARK };
        Self::parse(payload.get(offset..)?)
    }

    /// Reads what a frame of the voice says, without the TOC byte.
    pub fn of_voice(frame: &[u8]) -> Option<Self> {
        Self::parse(frame)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..Self::LEN)?;
        let (at, rest) = bytes.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        Some(Self {
            at: Duration::from_nanos(u64::from_be_bytes(*at)),
            number: u32::from_be_bytes(*number),
            encoding: *rest.first()?,
        })
    }
}

/// The payloads of a frame's packets.
pub fn payloads(kind: Kind, encoding: u8, height: u16, frame: &Frame) -> Vec<Vec<u8>> {
    let mark = Mark { at: frame.at, number: frame.number, encoding };
    if kind == Kind::Voice {
        let mut payload = vec![0; frame.bytes];
        // RFC 6716 §3.1: CELT, 20 ms, mono, one frame.
        payload[0] = 31 << 3;
        mark.write(&mut payload[OPUS_MARK..]);
        return vec![payload];
    }
    let packets = frame.bytes.div_ceil(MAX_PART);
    (0..packets)
        .map(|packet| {
            // Equal parts, as browsers make them.
            let part = frame.bytes * (packet + 1) / packets - frame.bytes * packet / packets;
            let mut payload = vec![0; DESCRIPTOR_LEN + part];
            let [high, low] = (frame.number as u16 | 0x8000).to_be_bytes();
            let start = u8::from(packet == 0) << 4;
            let layer = frame.tid << 6 | u8::from(frame.sync) << 5;
            payload[..DESCRIPTOR_LEN].copy_from_slice(&[0x80 | start, 0xe0, high, low, frame.base, layer]);
            if packet == 0 {
                payload[DESCRIPTOR_LEN] = u8::from(!frame.key);
                if frame.key {
                    let [width, height] = [height / 9 * 16, height].map(u16::to_le_bytes);
                    payload[9..12].copy_from_slice(&[0x9d, 0x01, 0x2a]);
                    payload[12..14].copy_from_slice(&width);
                    payload[14..16].copy_from_slice(&height);
                }
            }
            mark.write(&mut payload[VP8_MARK..]);
            payload
        })
        .collect()
}

/// The codec of a track, in both directions. RED is agreed to, as browsers do, and not sent by the teacher: the server's
/// answer names Opus first.
pub fn codecs(codec: Codec) -> ArrayVec<CodecParams, MAX_CODECS> {
    let video = codec.kind() == MediaKind::Video;
    ArrayVec::from_iter([CodecParams {
        codec,
        pt: if video { 96 } else { 111 },
        rtx_pt: video.then_some(97),
        red_pt: (!video).then_some(RED),
        nack: true,
        pli: video,
    }])
}

/// What receivers agree to, as browsers do.
pub fn extensions() -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for (id, extension) in [
        (1, Extension::AudioLevel),
        (2, Extension::AbsSendTime),
        (3, Extension::TransportCc),
        (4, Extension::Mid),
    ] {
        map.insert(id, extension);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu_core::rtp::vp8::Vp8Descriptor;

    #[test]
    fn what_is_written_is_read_again() {
        for (kind, bytes, packets) in [(Kind::Voice, 60, 1), (Kind::Camera, 28, 1), (Kind::Slides, 6000, 6)] {
            let frame = Frame {
                at: Duration::from_millis(1234),
                number: 77,
                key: kind != Kind::Voice,
                tid: 0,
                sync: false,
                base: 9,
                bytes,
            };
            let payloads = payloads(kind, 1, 720, &frame);
            assert_eq!(payloads.len(), packets);
            let wire: u64 = payloads.iter().map(|payload| payload.len() as u64 + OVERHEAD).sum();
            assert_eq!(wire, wire_bytes(kind, &frame));
            for (index, payload) in payloads.iter().enumerate() {
                let mark = Mark { at: frame.at, number: 77, encoding: 1 };
                assert_eq!(Mark::read(kind, payload), Some(mark));
                if kind != Kind::Voice {
                    let descriptor = Vp8Descriptor::parse(payload).unwrap();
                    assert_eq!(descriptor.frame_start(), index == 0);
                    assert_eq!(descriptor.key_frame_start, index == 0);
                    assert_eq!(descriptor.resolution(payload), (index == 0).then_some((1280, 720)));
                }
            }
        }
        assert_eq!(Mark::read(Kind::Voice, &[1, 2, 3]), None);
    }
}
