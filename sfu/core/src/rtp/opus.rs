//! What an Opus packet says about itself (RFC 6716 §3): how much sound it holds. Nothing is decoded, and the
//! frames' own lengths are not looked at.
//!
//! ```text
//!  0 1 2 3 4 5 6 7        code 0: one frame             code 1, 2: two frames
//! +-+-+-+-+-+-+-+-+       code 3: a second byte         |v|p|     M     |: M frames
//! | config  |s| c |
//! +-+-+-+-+-+-+-+-+
//! ```

use std::time::Duration;

/// Samples a second that timestamps count in, whatever the coded bandwidth (RFC 7587 §4.1).
pub const CLOCK_RATE: u32 = 48_000;

/// The longest packet: 120 ms (RFC 6716 §3.2.5).
const MAX_SAMPLES: u32 = CLOCK_RATE / 1000 * 120;

/// Why bytes are not an Opus packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// Empty (RFC 6716 §3.4, R1).
    #[error("no table of contents")]
    Toc,
    /// No frame count in a code 3 packet, or one that makes no frame or more than 120 ms (R5).
    #[error("frame count")]
    FrameCount,
}

/// The facts of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusPacket {
    /// Samples per frame at 48 kHz: 120 (2.5 ms) to 2880 (60 ms).
    pub frame_samples: u32,
    /// How many frames, 1..=48.
    pub frames: u8,
    /// Whether it is coded in stereo.
    pub stereo: bool,
    /// Whether it holds no sound: at most two bytes, as sent where discontinuous transmission (RFC 7587
    /// §3.1.3) finds silence.
    pub silence: bool,
}

impl OpusPacket {
    /// Reads the table of contents of an RTP payload.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let &toc = payload.first().ok_or(ParseError::Toc)?;
        let frame_samples = u32::from(FRAME_SAMPLES[usize::from(toc >> 3)]);
        let frames = match toc & 0x03 {
            0 => 1,
            1 | 2 => 2,
            _ => payload.get(1).ok_or(ParseError::FrameCount)? & 0x3f,
        };
        if frames == 0 || u32::from(frames) * frame_samples > MAX_SAMPLES {
            return Err(ParseError::FrameCount);
        }
        Ok(Self { frame_samples, frames, stereo: toc & 0x04 != 0, silence: payload.len() <= 2 })
    }

    /// How far the timestamp advances over it.
    #[inline]
    pub fn samples(&self) -> u32 {
        self.frame_samples * u32::from(self.frames)
    }

    /// How long it sounds, at most 120 ms.
    pub fn duration(&self) -> Duration {
        // A sample lasts 20 5/6 us and all lengths are multiples of 2.5 ms: exact.
        Duration::from_micros(u64::from(self.samples()) * 125 / 6)
    }
}

/// Samples of a frame at 48 kHz by configuration number (RFC 6716 §3.1, table 2).
#[rustfmt::skip]
const FRAME_SAMPLES: [u16; 32] = [
    480, 960, 1920, 2880, // SILK, narrowband
    480, 960, 1920, 2880, // SILK, mediumband
    480, 960, 1920, 2880, // SILK, wideband
    480, 960, // hybrid, super-wideband
    480, 960, // hybrid, fullband
    120, 240, 480, 960, // CELT, narrowband
    120, 240, 480, 960, // CELT, wideband
    120, 240, 480, 960, // CELT, super-wideband
    120, 240, 480, 960, // CELT, fullband
];

/// Parses `data` and expects a length that an Opus packet can have.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    let Ok(packet) = OpusPacket::parse(data) else { return };
    assert!((120..=MAX_SAMPLES).contains(&packet.samples()) && packet.samples().is_multiple_of(120));
    assert_eq!(packet.duration().as_micros() * 48, u128::from(packet.samples()) * 1000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_how_long_a_packet_sounds() {
        // (table of contents and what follows, microseconds a frame, frames)
        let table: [(&[u8], u64, u8); 9] = [
            (&[0x78, 1, 2, 3], 20_000, 1), // hybrid fullband, 20 ms: what browsers send for speech
            (&[0xfc, 0xff, 0xfe], 20_000, 1), // CELT fullband in stereo: the browsers' silence
            (&[0x80, 1, 2, 3], 2_500, 1),  // CELT narrowband
            (&[0x18, 1, 2, 3], 60_000, 1), // SILK narrowband
            (&[0x59, 1, 2, 3], 60_000, 2), // SILK wideband, two frames of equal size
            (&[0x0a, 1, 2, 3], 20_000, 2), // two frames of different sizes
            (&[0x7b, 0x03, 1, 2, 3], 20_000, 3), // three merged frames
            (&[0x83, 48, 1], 2_500, 48),   // the most frames
            (&[0x7b, 0x86, 9, 1], 20_000, 6), // 120 ms, variable bitrate
        ];
        for (payload, frame, frames) in table {
            let packet = OpusPacket::parse(payload).unwrap();
            assert_eq!(packet.frames, frames, "{payload:02x?}");
            assert_eq!(packet.duration(), Duration::from_micros(frame * u64::from(frames)), "{payload:02x?}");
        }
    }

    #[test]
    fn tells_silence_and_stereo() {
        let facts = |payload: &[u8]| OpusPacket::parse(payload).map(|packet| (packet.silence, packet.stereo));
        assert_eq!(facts(&[0x78]), Ok((true, false)));
        assert_eq!(facts(&[0x7c, 0]), Ok((true, true)));
        assert_eq!(facts(&[0xfc, 0xff, 0xfe]), Ok((false, true)));
    }

    #[test]
    fn refuses_counts_that_make_no_packet() {
        assert_eq!(OpusPacket::parse(&[]), Err(ParseError::Toc));
        for payload in [&[0x7b][..], &[0x7b, 0x00], &[0x7b, 0x07], &[0x1b, 0x03], &[0x83, 0x3f]] {
            assert_eq!(OpusPacket::parse(payload), Err(ParseError::FrameCount), "{payload:02x?}");
        }
    }
}
