//! The frames of Opus packets (RFC 6716 §3.2): several packets of one frame each become one packet that holds them
//! all, with their bytes as they were. Nothing is decoded.
//!
//! ```text
//! code 0   | toc | frame                                   |
//! code 1   | toc | frame          | frame of the same size |
//! code 2   | toc | length | frame | frame                  |
//! code 3   | toc |v|p|  M  | [padding] | [lengths] | M frames | [padding] |
//! ```
//! A length (§3.2.1) is one byte up to 251, else two: 252..=255 and a quarter of what is beyond. The last frame of
//! a packet has none, its end tells; where all are of one size (v = 0) none has. Two frames need no count, and
//! leave as code 1 or 2.

use arrayvec::ArrayVec;

/// The longest frame (§3.4, R2).
pub const MAX_FRAME_LEN: usize = 1275;

/// The most frames of a packet: 120 ms of the shortest (R5).
pub const MAX_FRAMES: usize = 48;

/// The longest frame whose length takes one byte.
const MAX_SHORT: usize = 251;

const CODE: u8 = 0x03;
const VBR: u8 = 0x80;
#[cfg(any(test, feature = "sim"))]
const PADDING: u8 = 0x40;
#[cfg(any(test, feature = "sim"))]
const COUNT: u8 = 0x3f;

/// The one frame of a packet that holds one (code 0) and may stand in another packet as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoneFrame<'a> {
    /// Its table of contents: frames of one packet share it.
    pub toc: u8,
    /// The frame.
    pub bytes: &'a [u8],
}

impl<'a> LoneFrame<'a> {
    /// The frame of a packet, `None` where it holds several, or one that is too long.
    #[inline]
    pub fn of(packet: &'a [u8]) -> Option<Self> {
        let (&toc, bytes) = packet.split_first()?;
        (toc & CODE == 0 && bytes.len() <= MAX_FRAME_LEN).then_some(Self { toc, bytes })
    }
}

/// Appends one packet with these frames, as short as it can be. `false`, with `out` as it was, where they cannot be
/// one: there is none or too many, they are not alike, or `out` has no room.
pub fn join<const N: usize>(frames: &[LoneFrame<'_>], out: &mut ArrayVec<u8, N>) -> bool {
    let before = out.len();
    let joined = try_join(frames, out).is_some();
    if !joined {
        out.truncate(before);
    }
    joined
}

fn try_join<const N: usize>(frames: &[LoneFrame<'_>], out: &mut ArrayVec<u8, N>) -> Option<()> {
    let (last, others) = frames.split_last()?;
    let toc = last.toc;
    if others.iter().any(|other| other.toc != toc) || frames.len() > MAX_FRAMES {
        return None;
    }
    let same_size = others.iter().all(|other| other.bytes.len() == last.bytes.len());
    match (frames.len(), same_size) {
        (1, _) => out.try_push(toc).ok()?,
        (2, true) => out.try_push(toc | 1).ok()?,
        (2, false) => out.try_push(toc | 2).ok()?,
        (count, _) => {
            let vbr = if same_size { 0 } else { VBR };
            out.try_extend_from_slice(&[toc | CODE, vbr | count as u8]).ok()?;
        }
    }
    if !same_size {
        others.iter().try_for_each(|other| push_len(other.bytes.len(), out))?;
    }
    frames.iter().try_for_each(|frame| out.try_extend_from_slice(frame.bytes).ok())
}

/// How long a packet with frames of these lengths is.
pub fn joined_len(lens: &[usize]) -> usize {
    let Some((last, others)) = lens.split_last() else { return 0 };
    let same_size = others.iter().all(|len| len == last);
    let said = |len: &usize| if *len <= MAX_SHORT { 1 } else { 2 };
    let said: usize = if same_size { 0 } else { others.iter().map(said).sum() };
    let head = if lens.len() <= 2 { 1 } else { 2 };
    head + said + lens.iter().sum::<usize>()
}

fn push_len<const N: usize>(len: usize, out: &mut ArrayVec<u8, N>) -> Option<()> {
    if len <= MAX_SHORT {
        return out.try_push(len as u8).ok();
    }
    let first = 252 + (len & 0x03);
    out.try_extend_from_slice(&[first as u8, ((len - first) / 4) as u8]).ok()
}

/// The frames of a packet, as a decoder finds them: what tests and simulated receivers compare with. `None` where
/// the packet breaks one of the rules R1 to R7 of §3.4.
#[cfg(any(test, feature = "sim"))]
pub fn split(packet: &[u8]) -> Option<(u8, ArrayVec<&[u8], MAX_FRAMES>)> {
    let facts = super::opus::OpusPacket::parse(packet).ok()?;
    let (toc, body) = (packet[0] & !CODE, &packet[1..]);
    let frames = match packet[0] & CODE {
        0 => same_sized(body, 1),
        1 => same_sized(body, 2),
        2 => {
            let (len, rest) = take_len(body)?;
            rest.split_at_checked(len).map(|(first, second)| ArrayVec::from_iter([first, second]))
        }
        _ => split_many(body, usize::from(facts.frames)),
    }?;
    frames.iter().all(|frame| frame.len() <= MAX_FRAME_LEN).then_some((toc, frames))
}

#[cfg(any(test, feature = "sim"))]
fn split_many(body: &[u8], count: usize) -> Option<ArrayVec<&[u8], MAX_FRAMES>> {
    let (&flags, mut rest) = body.split_first()?;
    debug_assert_eq!(usize::from(flags & COUNT), count);
    if flags & PADDING != 0 {
        let mut padding = 0;
        loop {
            let (&byte, behind) = rest.split_first()?;
            rest = behind;
            // 255 stands for 254 and another byte.
            padding += usize::from(byte.min(254));
            if byte < 255 {
                break;
            }
        }
        rest = &rest[..rest.len().checked_sub(padding)?];
    }
    if flags & VBR == 0 {
        return same_sized(rest, count);
    }
    let mut lens = ArrayVec::<usize, MAX_FRAMES>::new();
    for _ in 1..count {
        let (len, behind) = take_len(rest)?;
        lens.push(len);
        rest = behind;
    }
    let mut frames = ArrayVec::new();
    for len in lens {
        let (frame, behind) = rest.split_at_checked(len)?;
        frames.push(frame);
        rest = behind;
    }
    frames.push(rest);
    Some(frames)
}

#[cfg(any(test, feature = "sim"))]
fn same_sized(body: &[u8], count: usize) -> Option<ArrayVec<&[u8], MAX_FRAMES>> {
    let len = body.len() / count;
    (body.len() == len * count).then(|| (0..count).map(|i| &body[i * len..(i + 1) * len]).collect())
}

#[cfg(any(test, feature = "sim"))]
fn take_len(body: &[u8]) -> Option<(usize, &[u8])> {
    match *body {
        [first, ref rest @ ..] if usize::from(first) <= MAX_SHORT => Some((first.into(), rest)),
        [first, second, ref rest @ ..] => Some((usize::from(first) + 4 * usize::from(second), rest)),
        _ => None,
    }
}

/// Splits arbitrary bytes, and joins what came of them: the same frames come out again.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    let Some((toc, frames)) = split(data) else { return };
    let alike: ArrayVec<_, MAX_FRAMES> = frames.iter().map(|&bytes| LoneFrame { toc, bytes }).collect();
    let mut joined = ArrayVec::<u8, { MAX_FRAMES * (MAX_FRAME_LEN + 2) + 2 }>::new();
    assert!(join(&alike, &mut joined));
    assert!(joined.len() <= data.len(), "nothing says it shorter");
    assert_eq!(split(&joined), Some((toc, frames)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Hybrid, fullband, 20 ms, mono: what browsers send for speech.
    const SPEECH: u8 = 0x78;

    fn joined(packets: &[&[u8]]) -> Option<Vec<u8>> {
        let frames: Option<Vec<_>> = packets.iter().map(|packet| LoneFrame::of(packet)).collect();
        let mut out = ArrayVec::<u8, 4000>::new();
        join(&frames?, &mut out).then(|| out.to_vec())
    }

    #[test]
    fn frames_are_laid_out_as_the_rfc_draws_them() {
        let (long, longer) = ([&[SPEECH][..], &[7; 252]].concat(), [&[SPEECH][..], &[8; 1275]].concat());
        let cases: [(&[&[u8]], Vec<u8>); 8] = [
            (&[&[0x78, 1, 2]], vec![0x78, 1, 2]),
            (&[&[0x78, 1, 2], &[0x78, 3, 4]], vec![0x79, 1, 2, 3, 4]),
            (&[&[0x78, 1, 2], &[0x78, 3]], vec![0x7a, 2, 1, 2, 3]),
            // Constant: no lengths.
            (&[&[0x7c, 1, 2], &[0x7c, 3, 4], &[0x7c, 5, 6]], vec![0x7f, 0x03, 1, 2, 3, 4, 5, 6]),
            // Variable: all but the last have one.
            (&[&[0x78, 1], &[0x78, 2, 3], &[0x78, 4, 5, 6]], vec![0x7b, 0x83, 1, 2, 1, 2, 3, 4, 5, 6]),
            (&[&[0x78, 1], &[0x78], &[0x78, 4]], vec![0x7b, 0x83, 1, 0, 1, 4]),
            // 252 = 252 + 4 * 0.
            (&[&long, &[0x78, 1]], [&[0x7a, 252, 0][..], &[7; 252], &[1]].concat()),
            // 1275 = 255 + 4 * 255.
            (&[&longer, &[0x78, 1]], [&[0x7a, 255, 255][..], &[8; 1275], &[1]].concat()),
        ];
        for (packets, expected) in cases {
            assert_eq!(joined(packets).unwrap(), expected);
            let lens: Vec<_> = packets.iter().map(|packet| packet.len() - 1).collect();
            assert_eq!(joined_len(&lens), expected.len());
            let (toc, frames) = split(&expected).unwrap();
            let frames: Vec<_> = frames.iter().map(|frame| [&[toc][..], frame].concat()).collect();
            assert_eq!(frames, packets);
        }
    }

    #[test]
    fn what_is_not_alike_does_not_become_one() {
        let stereo: &[&[u8]] = &[&[0x78, 1], &[0x7c, 1]];
        let config: &[&[u8]] = &[&[0x78, 1], &[0x70, 1]];
        let several: &[&[u8]] = &[&[0x79, 1, 2], &[0x79, 1, 2]];
        let too_long = [&[SPEECH][..], &[0; 1276]].concat();
        for packets in [&[][..], stereo, config, several, &[&too_long], &[&[]]] {
            assert_eq!(joined(packets), None);
        }
        assert_eq!(joined(&[&[SPEECH, 1][..]; 49]), None);
    }

    #[test]
    fn without_room_nothing_is_written() {
        let frames = [LoneFrame { toc: SPEECH, bytes: &[1, 2, 3] }; 2];
        let mut out = ArrayVec::<u8, 8>::from_iter([9, 9]);
        assert!(!join(&frames, &mut out));
        assert_eq!(out[..], [9, 9]);
        out.pop();
        assert!(join(&frames, &mut out));
        assert_eq!(out[..], [9, SPEECH | 1, 1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn splitting_gives_the_frames_byte_for_byte() {
        let mut random = Random::new(5);
        for _ in 0..2000 {
            let count = 1 + random.below(6) as usize;
            let toc = random.below(64) as u8 * 4;
            let even = random.chance(300).then(|| random.below(400));
            let packets: Vec<Vec<u8>> = (0..count)
                .map(|_| {
                    let len = even.unwrap_or_else(|| random.below([20, 300, 1276][count % 3]));
                    let frame = (0..len).map(|_| random.below(256) as u8);
                    std::iter::once(toc).chain(frame).collect()
                })
                .collect();
            let borrowed: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
            let Some(merged) = joined(&borrowed) else { continue };
            let lens: Vec<_> = packets.iter().map(|packet| packet.len() - 1).collect();
            assert_eq!(joined_len(&lens), merged.len());
            let Some((found, frames)) = split(&merged) else {
                // More than 120 ms: for the caller to avoid.
                assert!(super::super::opus::OpusPacket::parse(&merged).is_err());
                continue;
            };
            assert_eq!((found, frames.len()), (toc, count));
            for (frame, packet) in frames.iter().zip(&packets) {
                assert_eq!(*frame, &packet[1..]);
            }
        }
    }

    #[test]
    fn padding_and_broken_packets_are_told_apart() {
        let padded = [0x7b, 0x40 | 3, 2, 1, 2, 3, 0, 0];
        let (_, frames) = split(&padded).unwrap();
        assert_eq!(frames[..], [&[1][..], &[2], &[3]]);
        let long_padding = [&[0x7b, 0x40 | 1, 255, 1, 9][..], &[0; 255]].concat();
        assert_eq!(split(&long_padding).unwrap().1[..], [&[9][..]]);
        let broken: [&[u8]; 8] = [
            &[],                    // R1
            &[0x79, 1, 2, 3],       // R3: an odd length
            &[0x7a, 5, 1],          // R4: longer than the packet
            &[0x7a, 252],           // R4: half a length
            &[0x7b, 0],             // R5
            &[0x7b, 3, 1, 2],       // R6
            &[0x7b, 0x83, 1, 9, 1], // R7
            &[0x7b, 0x41, 200, 1],  // R6: padding beyond the packet
        ];
        for packet in broken {
            assert_eq!(split(packet), None, "{packet:02x?}");
        }
    }
}
