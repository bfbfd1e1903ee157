//! Synthetic media: packets with the headers and descriptors of real ones, and payloads that tell them apart.

use std::time::{Duration, Instant};

use crate::rtp::packet::Header;
use crate::rtp::params::{Codec, Ssrc};

/// Packets of one video frame.
const VIDEO_PACKETS: u16 = 4;

/// Bytes of a video payload, descriptor included: a full packet of a browser.
const VIDEO_PAYLOAD: usize = 1100;

/// Bytes of an Opus payload: 32 kbit/s at 20 ms.
const AUDIO_PAYLOAD: usize = 80;

/// One encoded stream, frame by frame.
pub struct MediaSource {
    codec: Codec,
    ssrc: Ssrc,
    due: Instant,
    seq: u16,
    timestamp: u32,
    picture: u16,
    width: u16,
    height: u16,
    /// The packet of the frame that comes next.
    packet: u16,
    key_frame: bool,
    key_frame_wanted: bool,
}

impl MediaSource {
    /// A source whose first frame, a key frame, is due at `now`.
    pub fn new(now: Instant, codec: Codec, ssrc: Ssrc) -> Self {
        Self {
            codec,
            ssrc,
            due: now,
            // Near their ends: a run of seconds crosses them.
            seq: u16::MAX - 100,
            timestamp: u32::MAX - 200_000,
            picture: 0x7fff - 20,
            width: 1280,
            height: 720,
            packet: 0,
            key_frame: true,
            key_frame_wanted: false,
        }
    }

    /// The same with a picture of this size.
    pub fn sized(self, width: u16, height: u16) -> Self {
        Self { width, height, ..self }
    }

    /// Its codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Its SSRC.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// When the next packet is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Makes the next frame a key frame.
    pub fn want_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    /// The next packet.
    pub fn next_packet(&mut self) -> (Header, Vec<u8>) {
        let last = self.codec == Codec::Opus || self.packet + 1 == VIDEO_PACKETS;
        let header = Header {
            marker: self.codec == Codec::Vp8 && last,
            pt: if self.codec == Codec::Vp8 { 96 } else { 111 },
            seq: self.seq,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        let payload = match self.codec {
            Codec::Opus => self.opus(),
            Codec::Vp8 => self.vp8(),
        };
        self.seq = self.seq.wrapping_add(1);
        self.packet += 1;
        if last {
            self.next_frame();
        }
        (header, payload)
    }

    fn next_frame(&mut self) {
        let interval = frame_interval(self.codec);
        self.due += interval;
        let ticks = interval.as_millis() as u32 * (self.codec.clock_rate() / 1000);
        self.timestamp = self.timestamp.wrapping_add(ticks);
        self.picture = (self.picture + 1) & 0x7fff;
        self.packet = 0;
        self.key_frame = std::mem::take(&mut self.key_frame_wanted);
    }

    /// RFC 6716 §3.1: CELT, 20 ms, mono, one frame.
    fn opus(&self) -> Vec<u8> {
        let mut payload = vec![0; AUDIO_PAYLOAD];
        payload[0] = 31 << 3;
        payload[1..3].copy_from_slice(&self.seq.to_be_bytes());
        payload
    }

    /// RFC 7741 §4.2 with a 15-bit picture id, TL0PICIDX and one temporal layer; §4.3 behind it.
    fn vp8(&self) -> Vec<u8> {
        let start = self.packet == 0;
        let [high, low] = (self.picture | 0x8000).to_be_bytes();
        let mut payload = vec![0x80 | u8::from(start) << 4, 0xe0, high, low, self.picture as u8, 0];
        if start {
            payload.push(u8::from(!self.key_frame));
        }
        if start && self.key_frame {
            payload.extend([0, 0, 0x9d, 0x01, 0x2a]);
            payload.extend([self.width, self.height].into_iter().flat_map(u16::to_le_bytes));
        }
        payload.extend(self.seq.to_be_bytes());
        payload.resize(VIDEO_PAYLOAD, 0xaa);
        payload
    }
}

/// How often a source has something to send.
const fn frame_interval(codec: Codec) -> Duration {
    match codec {
        Codec::Opus => Duration::from_millis(20),
        Codec::Vp8 => Duration::from_millis(40),
    }
}
