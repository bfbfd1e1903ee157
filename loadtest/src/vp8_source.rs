//! Synthetic picture: RTP packets of VP8 (RFC 7741) whose descriptors and frame headers are right and whose
//! picture is noise. A decoder would show garbage; all that an SFU reads is there.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rtc::rtp::{Packet, header::Header};

use crate::seed::Random;

/// What a camera sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Camera {
    /// Mean bitrate of the VP8 payload, kbit/s.
    pub kbps: u32,
    /// Frames a second, 1 to 90.
    pub fps: u32,
    /// Frames between two key frames that nobody asked for.
    pub key_frame_every: u32,
    /// Width of the picture, pixels, at most 16383.
    pub width: u16,
    /// Height of the picture, pixels, at most 16383.
    pub height: u16,
}

impl Camera {
    /// 640x360 at 20 frames/s, with a key frame every ten seconds.
    pub fn new(kbps: u32) -> Self {
        Self { kbps, fps: 20, key_frame_every: 200, width: 640, height: 360 }
    }

    /// Time between frames.
    pub fn frame_interval(&self) -> Duration {
        Duration::from_secs(1) / self.fps.clamp(1, MAX_FPS)
    }
}

/// One camera's encoder.
#[derive(Debug)]
pub struct Vp8Source {
    camera: Camera,
    random: Random,
    next: Header,
    picture_id: u16,
    tl0_pic_idx: u8,
    /// Frames since the last key frame. None: the next frame is one.
    since_key_frame: Option<u32>,
    /// Bytes that key frames took beyond their share, to be saved on the frames that follow.
    overdrawn: usize,
}

impl Vp8Source {
    /// A source that starts with a key frame. Numbers start at random values; `seed` makes them repeatable.
    pub fn new(ssrc: u32, payload_type: u8, camera: Camera, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            camera,
            next: Header {
                version: 2,
                payload_type,
                sequence_number: random.bits() as u16,
                timestamp: random.bits() as u32,
                ssrc,
                ..Header::default()
            },
            picture_id: random.bits() as u16 & PICTURE_ID_MASK,
            tl0_pic_idx: random.bits() as u8,
            random,
            since_key_frame: None,
            overdrawn: 0,
        }
    }

    /// Makes the next frame a key frame: somebody's decoder needs one (RFC 4585 §6.3.1).
    pub fn request_key_frame(&mut self) {
        self.since_key_frame = None;
    }

    /// The packets of the next frame: sizes differ by a byte at most, the last one is marked.
    pub fn frame(&mut self) -> Vec<Packet> {
        let key_frame = self.since_key_frame.is_none_or(|frames| frames + 1 >= self.camera.key_frame_every);
        self.since_key_frame =
            if key_frame { Some(0) } else { self.since_key_frame.map(|frames| frames + 1) };

        let frame = self.encode(key_frame);
        let count = frame.len().div_ceil(MAX_FRAGMENT);
        let mut rest = frame;
        let packets = (0..count)
            .map(|index| {
                let fragment = rest.split_to(rest.len().div_ceil(count - index));
                let packet = Packet {
                    header: Header { marker: index + 1 == count, ..self.next.clone() },
                    payload: self.payload(index == 0, &fragment),
                };
                self.next.sequence_number = self.next.sequence_number.wrapping_add(1);
                packet
            })
            .collect();
        self.picture_id = (self.picture_id + 1) & PICTURE_ID_MASK;
        self.tl0_pic_idx = self.tl0_pic_idx.wrapping_add(1);
        self.pass();
        packets
    }

    /// Lets the time of one frame pass without one, as a camera that is off does.
    pub fn skip(&mut self) {
        // Who comes back from a pause starts with a key frame, as browsers do.
        self.request_key_frame();
        self.pass();
    }

    fn pass(&mut self) {
        let ticks = VIDEO_CLOCK / self.camera.fps.clamp(1, MAX_FPS);
        self.next.timestamp = self.next.timestamp.wrapping_add(ticks);
    }

    /// A frame that a VP8 parser takes for one (RFC 6386 §9.1), of the size that the bitrate allows.
    fn encode(&mut self, key_frame: bool) -> BytesMut {
        let share =
            (u64::from(self.camera.kbps) * 1000 / 8 / u64::from(self.camera.fps.clamp(1, MAX_FPS))) as usize;
        let size = if key_frame {
            self.overdrawn += share * (KEY_FRAME_SHARES - 1);
            share * KEY_FRAME_SHARES
        } else {
            let saved = self.overdrawn.min(share / 4);
            self.overdrawn -= saved;
            share - saved
        }
        .clamp(MIN_FRAME, MAX_FRAME);

        let mut frame = BytesMut::with_capacity(size);
        // Frame tag: P (1 = not a key frame), version 0, shown, and the length of the first partition.
        let first_partition = (size - MIN_FRAME).min(0x7_FFFF) as u32;
        let tag = u32::from(!key_frame) | 1 << 4 | first_partition << 5;
        frame.put_slice(&tag.to_le_bytes()[..3]);
        if key_frame {
            frame.put_slice(&START_CODE);
            frame.put_u16_le(self.camera.width & 0x3FFF);
            frame.put_u16_le(self.camera.height & 0x3FFF);
        }
        let header = frame.len();
        frame.resize(size, 0);
        self.random.fill(&mut frame[header..]);
        frame
    }

    /// A packet's payload: the descriptor (RFC 7741 §4.2) and a piece of the frame.
    ///
    /// ```text
    ///  0 1 2 3 4 5 6 7
    /// +-+-+-+-+-+-+-+-+
    /// |X|R|N|S|R| PID |  X = 1, N = 0, S = starts the frame, PID = 0
    /// |I|L|T|K| RSV   |  all four are there
    /// |M| PictureID   |  M = 1: fifteen bits
    /// |   PictureID   |
    /// |   TL0PICIDX   |
    /// |TID|Y| KEYIDX  |  one temporal layer
    /// +-+-+-+-+-+-+-+-+
    /// ```
    fn payload(&self, starts_frame: bool, fragment: &[u8]) -> Bytes {
        let mut payload = BytesMut::with_capacity(DESCRIPTOR_LEN + fragment.len());
        payload.put_u8(0x80 | u8::from(starts_frame) << 4);
        payload.put_u8(0xF0);
        payload.put_u16(0x8000 | self.picture_id);
        payload.put_u8(self.tl0_pic_idx);
        payload.put_u8(0);
        payload.put_slice(fragment);
        payload.freeze()
    }
}

/// What a receiver learns from a packet of VP8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8Facts {
    /// First packet of a key frame.
    pub key_frame_start: bool,
    /// The picture's number, 7 or 15 bits of it. None: not sent.
    pub picture_id: Option<u16>,
}

impl Vp8Facts {
    /// Reads a payload. None: not VP8, or cut off.
    pub fn of(payload: &[u8]) -> Option<Self> {
        let mut rest = payload.iter().copied();
        let first = rest.next()?;
        let extension = if first & 0x80 != 0 { rest.next()? } else { 0 };
        let picture_id = if extension & 0x80 == 0 {
            None
        } else {
            let high = rest.next()?;
            if high & 0x80 == 0 {
                Some(u16::from(high))
            } else {
                Some(u16::from_be_bytes([high & 0x7F, rest.next()?]))
            }
        };
        if extension & 0x40 != 0 {
            rest.next()?;
        }
        if extension & 0x30 != 0 {
            rest.next()?;
        }
        let frame_tag = rest.next()?;
        let starts_frame = first & 0x10 != 0 && first & 0x07 == 0;
        Some(Self { key_frame_start: starts_frame && frame_tag & 1 == 0, picture_id })
    }
}

/// The RTP clock of video (RFC 7741 §4.1).
const VIDEO_CLOCK: u32 = 90_000;

/// Keeps the ticks of a frame above 1000, so that rounding them costs nothing.
const MAX_FPS: u32 = 90;

const PICTURE_ID_MASK: u16 = 0x7FFF;

const DESCRIPTOR_LEN: usize = 6;

/// With headers, extensions and SRTP a packet stays below the 1200 bytes that browsers keep to.
const MAX_FRAGMENT: usize = 1100;

/// A key frame takes the bits of this many others, about what libvpx needs for a still scene.
const KEY_FRAME_SHARES: usize = 5;

/// Frame tag, start code and size.
const MIN_FRAME: usize = 10;

/// Bounds what a bitrate of any size costs in memory.
const MAX_FRAME: usize = 512 * 1024;

/// RFC 6386 §9.1.
const START_CODE: [u8; 3] = [0x9D, 0x01, 0x2A];

#[cfg(test)]
mod tests {
    use rtc::rtp::codec::vp8::Vp8Packet;
    use rtc::rtp::packetizer::Depacketizer;

    use super::*;

    fn source(kbps: u32) -> Vp8Source {
        Vp8Source::new(9, 96, Camera::new(kbps), 3)
    }

    #[test]
    fn the_descriptor_is_what_an_independent_parser_reads() {
        let mut source = source(500);
        for frame in 0..3 {
            let id = source.picture_id;
            let packets = source.frame();
            assert!(packets.len() > 1, "several packets a frame");
            for (index, packet) in packets.iter().enumerate() {
                let mut vp8 = Vp8Packet::default();
                let body = vp8.depacketize(&packet.payload).unwrap();
                assert_eq!((vp8.x, vp8.i, vp8.l, vp8.t, vp8.k), (1, 1, 1, 1, 1));
                assert_eq!(vp8.s, u8::from(index == 0));
                assert_eq!(vp8.pid, 0);
                assert_eq!(vp8.picture_id, id, "fifteen bits, the same in all packets of a frame");
                let facts = Vp8Facts::of(&packet.payload).unwrap();
                assert_eq!(facts.picture_id, Some(id));
                assert_eq!(facts.key_frame_start, frame == 0 && index == 0);
                if facts.key_frame_start {
                    assert_eq!(body[3..6], START_CODE);
                    assert_eq!(u16::from_le_bytes([body[6], body[7]]), 640);
                    assert_eq!(u16::from_le_bytes([body[8], body[9]]), 360);
                }
            }
        }
    }

    #[test]
    fn picture_ids_wrap_at_fifteen_bits() {
        let mut source = source(10);
        source.picture_id = 0x7FFF;
        let ids: Vec<_> =
            (0..2).map(|_| Vp8Facts::of(&source.frame()[0].payload).unwrap().picture_id).collect();
        assert_eq!(ids, [Some(0x7FFF), Some(0)]);
    }

    #[test]
    fn packets_of_a_frame_share_time_and_the_last_is_marked() {
        let mut source = source(800);
        let first = source.frame();
        let second = source.frame();
        for packets in [&first, &second] {
            assert!(packets.iter().all(|p| p.header.timestamp == packets[0].header.timestamp));
            let marked: Vec<_> = packets.iter().map(|p| p.header.marker).collect();
            assert_eq!(marked.iter().filter(|m| **m).count(), 1);
            assert!(marked[marked.len() - 1]);
            let sizes: Vec<_> = packets.iter().map(|p| p.payload.len()).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
            assert!(sizes.iter().all(|size| *size <= MAX_FRAGMENT + DESCRIPTOR_LEN));
        }
        assert_eq!(second[0].header.timestamp, first[0].header.timestamp.wrapping_add(90_000 / 20));
        let last = first.last().unwrap().header.sequence_number;
        assert_eq!(second[0].header.sequence_number, last.wrapping_add(1));
    }

    #[test]
    fn a_key_frame_comes_when_asked_and_by_itself() {
        let mut source = Vp8Source::new(9, 96, Camera { key_frame_every: 5, ..Camera::new(100) }, 3);
        let mut key_frames = |asked: bool| {
            if asked {
                source.request_key_frame();
            }
            Vp8Facts::of(&source.frame()[0].payload).unwrap().key_frame_start
        };
        let seen: Vec<_> = (0..12).map(|n| key_frames(n == 7)).collect();
        let expected = [0, 5, 7, 12].map(|n: usize| n);
        for (n, key_frame) in seen.iter().enumerate() {
            assert_eq!(*key_frame, expected.contains(&n), "frame {n}");
        }
    }

    #[test]
    fn the_mean_bitrate_is_the_one_asked_for() {
        for kbps in [100, 500, 2500] {
            let mut source = source(kbps);
            let seconds = 60;
            let bytes: usize = (0..seconds * 20)
                .flat_map(|_| source.frame())
                .map(|packet| packet.payload.len() - DESCRIPTOR_LEN)
                .sum();
            let measured = bytes as f64 * 8.0 / 1000.0 / f64::from(seconds);
            assert!((measured / f64::from(kbps) - 1.0).abs() < 0.05, "{kbps}: {measured}");
        }
    }

    #[test]
    fn a_camera_that_was_off_returns_with_a_key_frame() {
        let mut source = source(100);
        let before = source.frame();
        source.skip();
        let after = source.frame();
        assert!(Vp8Facts::of(&after[0].payload).unwrap().key_frame_start);
        assert_eq!(after[0].header.timestamp, before[0].header.timestamp.wrapping_add(2 * 4500));
    }

    #[test]
    fn facts_of_short_payloads_are_none() {
        for payload in [&[][..], &[0x80], &[0x80, 0x80], &[0x80, 0x80, 0x81], &[0x90, 0xF0, 0x80, 1, 2, 3]] {
            assert_eq!(Vp8Facts::of(payload), None, "{payload:x?}");
        }
        let plain = Vp8Facts { key_frame_start: true, picture_id: None };
        assert_eq!(Vp8Facts::of(&[0x10, 0x10]), Some(plain));
    }
}
