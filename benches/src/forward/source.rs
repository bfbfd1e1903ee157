//! The publisher: VP8 in three encodings, packet by packet as a browser sends them, sealed ahead of the measurement.

use std::ops::Range;
use std::time::Duration;

use sfu_core::rtp::ext::AbsSendTime;
use sfu_core::rtp::packet::{Header, HeaderWriter};
use sfu_core::rtp::params::{EncodingParams, Extension, Rid, Ssrc};
use sfu_core::transport::bench::{Client, MAX_OVERHEAD};

use super::params::{MID, VP8_IN, extensions_in};

/// What the publisher sends each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Packets of each encoding, the lowest first.
    pub packets: [usize; ENCODINGS],
    /// Frames a second.
    pub fps: u32,
}

impl Shape {
    /// A camera at 720p: 2.2 Mbit/s in the highest encoding, whose frames divide into runs of 1, 2, 4 and 8.
    pub const FULL: Self = Self { packets: [1, 2, 8], fps: 30 };
    /// What passes a line of 300 kbit/s: 24 packets a second.
    pub const THIN: Self = Self { packets: [1, 1, 2], fps: 12 };

    /// Packets of the highest encoding, which the subscribers get.
    pub fn forwarded(&self) -> usize {
        self.packets[ENCODINGS - 1]
    }
}

const ENCODINGS: usize = 3;
const RIDS: [&str; ENCODINGS] = ["q", "h", "f"];
const SIZES: [(u16, u16); ENCODINGS] = [(320, 180), (640, 360), (1280, 720)];
/// Bytes of payload of a packet, nearly equal within a frame, as browsers split them.
const PAYLOADS: [usize; ENCODINGS] = [625, 1040, crate::limit::PACKET - crate::limit::HEADER];

/// How long a sender takes between two batches of a frame.
const SPACING: Duration = Duration::from_millis(1);

/// Packets that arrive together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// When, since the publisher began.
    pub at: Duration,
    /// How many.
    pub packets: usize,
    /// Where they lie, end to end.
    pub bytes: Range<usize>,
    /// Bytes of each.
    pub segment: usize,
}

/// The publisher and its counters.
pub struct Publisher {
    client: Client,
    shape: Shape,
    streams: [Stream; ENCODINGS],
    transport_seq: u16,
    frame: u32,
}

#[derive(Clone, Copy, Default)]
struct Stream {
    seq: u16,
}

impl Publisher {
    /// With its side of the transport.
    pub fn new(client: Client, shape: Shape) -> Self {
        Self { client, shape, streams: Default::default(), transport_seq: 0, frame: 0 }
    }

    /// Its encodings as negotiated: named, their SSRCs unknown.
    pub fn encodings() -> impl Iterator<Item = EncodingParams> {
        RIDS.iter().map(|rid| EncodingParams { rid: Rid::new(rid), ssrc: None, rtx_ssrc: None })
    }

    /// Seals the next frame of all encodings behind what `memory` holds. The highest comes in batches of `run`.
    pub fn frame(&mut self, run: usize, memory: &mut Vec<u8>, batches: &mut Vec<Batch>) {
        let mut at = Duration::from_secs(self.frame.into()) / self.shape.fps;
        for encoding in 0..ENCODINGS {
            let packets = self.shape.packets[encoding];
            let run = if encoding + 1 == ENCODINGS { run.min(packets) } else { packets };
            for first in (0..packets).step_by(run) {
                let start = memory.len();
                let batch = first..packets.min(first + run);
                let count = batch.len();
                for packet in batch {
                    self.packet(encoding, packet, at, memory);
                }
                let bytes = start..memory.len();
                batches.push(Batch { at, packets: count, segment: bytes.len() / count, bytes });
                at += SPACING;
            }
        }
        self.frame += 1;
    }

    fn packet(&mut self, encoding: usize, packet: usize, at: Duration, memory: &mut Vec<u8>) {
        let header = Header {
            marker: packet + 1 == self.shape.packets[encoding],
            pt: VP8_IN,
            seq: self.streams[encoding].seq,
            timestamp: self.frame.wrapping_mul(90_000 / self.shape.fps),
            ssrc: Ssrc(0x1000 + encoding as u32),
        };
        self.streams[encoding].seq = header.seq.wrapping_add(1);
        let mut buf = [0; ROOM];
        let mut writer = HeaderWriter::new(&mut buf, &header).expect("there is room");
        let map = extensions_in();
        let mut extension = |extension, value: &[u8]| {
            writer.extension(map.id(extension).expect("it was agreed"), value).expect("there is room");
        };
        // Browsers name m-line and encoding until the first report on them.
        if self.frame < FRAMES_TO_BEGIN {
            extension(Extension::Mid, MID.as_bytes());
            extension(Extension::Rid, RIDS[encoding].as_bytes());
        }
        extension(Extension::AbsSendTime, &AbsSendTime::from_duration(at).to_bytes());
        extension(Extension::TransportCc, &self.transport_seq.to_be_bytes());
        self.transport_seq = self.transport_seq.wrapping_add(1);
        let start = writer.finish();
        let len = start + PAYLOADS[encoding];
        self.payload(encoding, packet == 0, &mut buf[start..len]);
        let sealed = self.client.protect_rtp(&mut buf, len);
        memory.extend_from_slice(&buf[..sealed]);
    }

    /// RFC 7741 §4.2 with a 15-bit picture id and three temporal layers; §4.3 behind it. The first frames are key
    /// frames, so that each subscriber has found its encoding when they end.
    fn payload(&self, encoding: usize, first: bool, out: &mut [u8]) {
        let [high, low] = (self.frame as u16 | 0x8000).to_be_bytes();
        let key = self.frame < FRAMES_TO_BEGIN;
        let (tid, sync) = if key { (0, 0) } else { LAYERS[self.frame as usize % LAYERS.len()] };
        let tl0 = (self.frame / LAYERS.len() as u32) as u8;
        out[..6].copy_from_slice(&[0x80 | u8::from(first) << 4, 0xe0, high, low, tl0, tid << 6 | sync << 5]);
        if first {
            let (width, height) = SIZES[encoding];
            out[6..12].copy_from_slice(&[u8::from(!key), 0, 0, 0x9d, 0x01, 0x2a]);
            out[12..14].copy_from_slice(&width.to_le_bytes());
            out[14..16].copy_from_slice(&height.to_le_bytes());
        }
    }
}

/// Frames until everything flows as it goes on.
pub const FRAMES_TO_BEGIN: u32 = 12;

/// Temporal layer and layer sync of frames as libvpx codes three layers.
const LAYERS: [(u8, u8); 4] = [(0, 0), (2, 1), (1, 1), (2, 0)];

/// More than any of these packets.
const ROOM: usize = crate::limit::PACKET + 32 + MAX_OVERHEAD;
