//! What a packet of the voice holds when it arrives: a frame as it was sent, several that were merged on the way
//! (RFC 6716 §3.2.5), and those of the packet before it (RFC 2198).

use sfu_core::rtp::opus_frames::split;
use sfu_core::rtp::red::{OVERHEAD, RedView};

use super::media::{Mark, RED};

/// The frames in a packet of the voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speech {
    /// The first new one.
    pub mark: Mark,
    /// How many are new, that one among them.
    pub frames: u32,
    /// How many before these are repeated.
    pub repeated: u32,
    /// Bytes of one as it was sent.
    pub frame_bytes: u64,
    /// Bytes in the packet for what is repeated.
    pub repeated_bytes: u64,
}

impl Speech {
    /// Reads the payload of a packet of that payload type.
    pub fn read(pt: u8, payload: &[u8]) -> Option<Self> {
        if pt != RED {
            return Self::new_frames(payload);
        }
        let view = RedView::parse(payload).ok()?;
        let new = Self::new_frames(view.new_block().payload)?;
        let Some(block) = view.repeated().last() else { return Some(new) };
        let repeated = Self::new_frames(block.payload)?.frames;
        Some(Self { repeated, repeated_bytes: (block.payload.len() + OVERHEAD) as u64, ..new })
    }

    fn new_frames(payload: &[u8]) -> Option<Self> {
        let (_, frames) = split(payload)?;
        let first = frames.first()?;
        Some(Self {
            mark: Mark::of_voice(first)?,
            frames: frames.len() as u32,
            repeated: 0,
            // With the byte in front that all frames of a packet share.
            frame_bytes: first.len() as u64 + 1,
            repeated_bytes: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sfu_core::rtp::red;

    use super::super::media::{Kind, codecs, payloads};
    use super::super::sources::Frame;
    use super::*;

    fn frame(number: u32) -> Vec<u8> {
        let at = Duration::from_millis(20) * number;
        let frame = Frame { at, number, key: false, tid: 0, sync: false, base: 0, bytes: 60 };
        payloads(Kind::Voice, 0, 0, &frame).remove(0)
    }

    /// Three frames in a packet (code 3, all of one size).
    fn merged(first: u32) -> Vec<u8> {
        let frames = (first..first + 3).flat_map(|number| frame(number).split_off(1));
        [frame(first)[0] | 3, 3].into_iter().chain(frames).collect()
    }

    #[test]
    fn new_and_repeated_frames_are_told_apart() {
        let opus = codecs(Kind::Voice.codec())[0].pt;
        let repeating = [&red::headers(opus, 2880, 179).unwrap()[..], &merged(4), &merged(7)].concat();
        let cases = [(opus, frame(7), 1, 0, 0), (opus, merged(7), 3, 0, 0), (RED, repeating, 3, 3, 184)];
        for (pt, payload, frames, repeated, repeated_bytes) in cases {
            let mark = Mark { at: Duration::from_millis(140), number: 7, encoding: 0 };
            let speech = Speech { mark, frames, repeated, frame_bytes: 60, repeated_bytes };
            assert_eq!(Speech::read(pt, &payload), Some(speech));
        }
        assert_eq!(Speech::read(opus, &[31 << 3, 1, 2]), None);
    }
}
