//! RTP header extensions (RFC 8285): an iterator over both forms, the values that we use, and a writer of the
//! one-byte form.
//!
//! ```text
//! one-byte form, profile 0xBEDE              two-byte form, profile 0x100X
//!  0                                          0                   1
//!  0 1 2 3 4 5 6 7                            0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
//! +-+-+-+-+-+-+-+-+------------------+       +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+----------------+
//! |  id   | len-1 |  value, 1..=16 B |       |       id      |     length    | value, 0..=255 |
//! +-+-+-+-+-+-+-+-+------------------+       +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+----------------+
//! ```
//! A zero byte between elements is padding. Broken elements end the iteration: what came before them counts.

use std::ops::Range;
use std::time::Duration;

use super::params::{Extension, ExtensionMap};

/// Bytes of profile and length before the elements.
pub(super) const BLOCK_HEADER_LEN: usize = 4;

const ONE_BYTE_PROFILE: u16 = 0xbede;
const TWO_BYTE_PROFILE: u16 = 0x1000;
/// The low four bits are the application's (RFC 8285 §4.3).
const TWO_BYTE_PROFILE_MASK: u16 = 0xfff0;

#[derive(Clone, Copy, Debug)]
enum Form {
    OneByte,
    TwoByte,
}

/// The extensions of a packet: an iterator of (id, value).
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    form: Form,
    block: &'a [u8],
    at: usize,
}

impl<'a> Extensions<'a> {
    /// The elements of `block`, the bytes behind profile and length.
    #[inline]
    pub fn new(profile: u16, block: &'a [u8]) -> Self {
        let form = match profile {
            ONE_BYTE_PROFILE => Form::OneByte,
            _ if profile & TWO_BYTE_PROFILE_MASK == TWO_BYTE_PROFILE => Form::TwoByte,
            _ => return Self::none(),
        };
        Self { form, block, at: 0 }
    }

    /// No extensions.
    #[inline]
    pub fn none() -> Self {
        Self { form: Form::OneByte, block: &[], at: 0 }
    }

    /// The value of the first extension called `id`.
    #[inline]
    pub fn get(mut self, id: u8) -> Option<&'a [u8]> {
        self.find(|&(found, _)| found == id).map(|(_, value)| value)
    }

    /// Where in the block the value of the first extension called `id` begins.
    #[inline]
    pub(super) fn offset(mut self, id: u8) -> Option<usize> {
        loop {
            let (found, value) = self.element()?;
            if found == id {
                return Some(value.start);
            }
        }
    }

    /// The next element's id and place.
    #[inline]
    fn element(&mut self) -> Option<(u8, Range<usize>)> {
        let first = loop {
            let byte = *self.block.get(self.at)?;
            self.at += 1;
            if byte != 0 {
                break byte;
            }
        };
        let (id, len) = match self.form {
            Form::OneByte => (first >> 4, usize::from(first & 0x0f) + 1),
            Form::TwoByte => {
                let len = usize::from(*self.block.get(self.at)?);
                self.at += 1;
                (first, len)
            }
        };
        let value = self.at..self.at + len;
        // RFC 8285 §4.2: id 0 with a length, and id 15, end the one-byte form.
        let ends = matches!(self.form, Form::OneByte) && (id == 0 || id == 15);
        if ends || value.end > self.block.len() {
            self.at = self.block.len();
            return None;
        }
        self.at = value.end;
        Some((id, value))
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let block = self.block;
        self.element().map(|(id, value)| (id, &block[value]))
    }
}

/// The values that we use, read in one pass. `None` where a packet lacks one or it is malformed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values<'a> {
    /// The m-line (RFC 9143).
    pub mid: Option<&'a str>,
    /// The simulcast encoding (RFC 8852).
    pub rid: Option<&'a str>,
    /// The simulcast encoding that this packet retransmits (RFC 8852).
    pub repaired_rid: Option<&'a str>,
    /// How loud it is.
    pub audio_level: Option<AudioLevel>,
    /// The transport-wide sequence number.
    pub transport_cc: Option<u16>,
    /// When it was sent.
    pub abs_send_time: Option<AbsSendTime>,
    /// How the camera was held.
    pub video_orientation: Option<VideoOrientation>,
}

impl<'a> Values<'a> {
    /// Reads those that `map` names.
    #[inline]
    pub fn read(extensions: Extensions<'a>, map: &ExtensionMap) -> Self {
        let mut values = Self::default();
        for (id, value) in extensions {
            match map.extension(id) {
                Some(Extension::Mid) => values.mid = text(value),
                Some(Extension::Rid) => values.rid = text(value),
                Some(Extension::RepairedRid) => values.repaired_rid = text(value),
                Some(Extension::AudioLevel) => values.audio_level = AudioLevel::parse(value),
                Some(Extension::TransportCc) => values.transport_cc = transport_cc(value),
                Some(Extension::AbsSendTime) => values.abs_send_time = AbsSendTime::parse(value),
                Some(Extension::VideoOrientation) => {
                    values.video_orientation = VideoOrientation::parse(value);
                }
                None => {}
            }
        }
        values
    }
}

/// A source description item (RFC 7941): UTF-8, not empty.
fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| !text.is_empty())
}

/// The transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01 §2), with or without
/// version 2's request for feedback behind it.
#[inline]
pub fn transport_cc(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|seq| u16::from_be_bytes(*seq))
}

/// Stores a transport-wide sequence number at an `offset` that the header writer or
/// [`RtpView::extension_offset`](super::packet::RtpView::extension_offset) gave: the stamp at departure.
/// `false`, with nothing stored, where the offset lies outside of the packet.
#[inline]
#[must_use]
pub fn patch_transport_cc(packet: &mut [u8], offset: usize, seq: u16) -> bool {
    let Some(value) = packet.get_mut(offset..).and_then(<[u8]>::first_chunk_mut) else { return false };
    *value = seq.to_be_bytes();
    true
}

/// How loud the audio of a packet is (RFC 6464).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// Whether the sender found speech in it.
    pub voice: bool,
    /// In -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
}

impl AudioLevel {
    /// Reads a value; the two-byte form allows bytes behind it.
    #[inline]
    pub fn parse(value: &[u8]) -> Option<Self> {
        value.first().map(|&byte| Self { voice: byte & 0x80 != 0, level: byte & 0x7f })
    }

    /// The value.
    pub fn to_bytes(self) -> [u8; 1] {
        [u8::from(self.voice) << 7 | self.level & 0x7f]
    }
}

/// When a packet was sent: seconds modulo 64, in 6.18 fixed point (libwebrtc's `abs-send-time`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsSendTime(u32);

impl AbsSendTime {
    /// From a time since any fixed moment.
    pub fn from_duration(since: Duration) -> Self {
        let fraction = (u64::from(since.subsec_nanos()) << 18) / 1_000_000_000;
        Self(((since.as_secs() << 18 | fraction) & 0xff_ffff) as u32)
    }

    /// The time since the last multiple of 64 s.
    pub fn as_duration(self) -> Duration {
        Duration::from_nanos((u64::from(self.0) * 1_000_000_000) >> 18)
    }

    /// Reads a value.
    #[inline]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let &[a, b, c] = value.first_chunk()?;
        Some(Self(u32::from_be_bytes([0, a, b, c])))
    }

    /// The value.
    pub fn to_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }
}

/// How the camera was held (3GPP TS 26.114 §7.4.5): `0 0 0 0 C F R1 R0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoOrientation {
    /// The camera faces away from the user.
    pub back_camera: bool,
    /// The picture is to be mirrored.
    pub flip: bool,
    /// Quarter turns clockwise that make it upright, 0..=3.
    pub quarter_turns: u8,
}

impl VideoOrientation {
    /// Reads a value.
    #[inline]
    pub fn parse(value: &[u8]) -> Option<Self> {
        value.first().map(|&byte| Self {
            back_camera: byte & 0x08 != 0,
            flip: byte & 0x04 != 0,
            quarter_turns: byte & 0x03,
        })
    }

    /// The value.
    pub fn to_bytes(self) -> [u8; 1] {
        [u8::from(self.back_camera) << 3 | u8::from(self.flip) << 2 | self.quarter_turns & 0x03]
    }
}

/// Writes a one-byte element at `at`. Returns where its value begins.
#[inline]
pub(super) fn write_element(out: &mut [u8], at: usize, id: u8, value: &[u8]) -> Option<usize> {
    if !(1..=14).contains(&id) || !(1..=16).contains(&value.len()) {
        return None;
    }
    // The block is closed with up to three bytes of padding: they need room, too.
    let end = at + 1 + value.len();
    let element = out.get_mut(at..end.next_multiple_of(4))?;
    element[0] = id << 4 | (value.len() - 1) as u8;
    element[1..=value.len()].copy_from_slice(value);
    Some(at + 1)
}

/// Pads the one-byte block that begins at `start` and ends at `end`, writes its profile and length, and returns
/// where it ends now.
#[inline]
pub(super) fn close_block(out: &mut [u8], start: usize, end: usize) -> usize {
    let padded = end.next_multiple_of(4);
    out[end..padded].fill(0);
    let words = ((padded - start - BLOCK_HEADER_LEN) / 4) as u16;
    out[start..start + 2].copy_from_slice(&ONE_BYTE_PROFILE.to_be_bytes());
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
    padded
}

/// Reads `value` as each of the values that we use and expects the same bytes again where they are canonical.
#[cfg(feature = "sim")]
pub(super) fn fuzz_value(value: &[u8]) {
    if let Some(level) = AudioLevel::parse(value) {
        assert_eq!(level.to_bytes(), value[..1]);
    }
    if let Some(time) = AbsSendTime::parse(value) {
        assert_eq!(time.to_bytes(), value[..3]);
    }
    if let Some(orientation) = VideoOrientation::parse(value) {
        assert_eq!(orientation.to_bytes(), [value[0] & 0x0f]);
    }
    assert_eq!(transport_cc(value).map(u16::to_be_bytes).as_ref().map(<[u8; 2]>::as_slice), value.get(..2));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(profile: u16, block: &[u8]) -> Vec<(u8, &[u8])> {
        Extensions::new(profile, block).collect()
    }

    #[test]
    fn reads_the_one_byte_form() {
        // The shape of RFC 8285's figure in §4.2: lengths 1, 2 and 4, padding in the middle and at the end.
        let block = [0x10, 0xaa, 0x21, 0xbb, 0xbc, 0, 0, 0x33, 1, 2, 3, 4, 0, 0];
        assert_eq!(read(0xbede, &block), [(1, &[0xaa][..]), (2, &[0xbb, 0xbc][..]), (3, &[1, 2, 3, 4][..])]);
    }

    #[test]
    fn reads_the_two_byte_form() {
        // RFC 8285 §4.3: an empty value, one byte, padding, four bytes; ids above 14 are allowed.
        let block = [1, 0, 2, 1, 0xaa, 0, 0xc8, 4, 1, 2, 3, 4];
        let expected = [(1, &[][..]), (2, &[0xaa][..]), (200, &[1, 2, 3, 4][..])];
        for profile in [0x1000, 0x1005, 0x100f] {
            assert_eq!(read(profile, &block), expected);
        }
        assert_eq!(read(0x1010, &block), []);
    }

    #[test]
    fn stops_at_broken_elements() {
        let table: [(u16, &[u8], usize); 6] = [
            (0xbede, &[0x10, 1, 0x23, 1, 2, 3], 1),    // reaches past the end
            (0xbede, &[0x10, 1, 0x20], 1),             // the same, at its first byte
            (0xbede, &[0x10, 1, 0xf0, 1, 0x20, 2], 1), // id 15
            (0xbede, &[0x10, 1, 0x01, 1, 0x20, 2], 1), // id 0 with a length
            (0x1000, &[1, 1, 0xaa, 2], 1),             // no length
            (0x1000, &[1, 1, 0xaa, 2, 2, 1], 1),       // reaches past the end
        ];
        for (profile, block, elements) in table {
            assert_eq!(read(profile, block).len(), elements, "{block:02x?}");
        }
    }

    #[test]
    fn reads_typed_values_in_one_pass() {
        let mut map = ExtensionMap::default();
        for (id, extension) in (1..).zip(Extension::ALL) {
            assert!(map.insert(id, extension));
        }
        let block = [
            &[0x10, b'0'][..],
            &[0x21, b'h', b'i'],
            &[0x31, b'l', b'o'],
            &[0x40, 0x80 | 23],
            &[0x51, 0x12, 0x34],
            &[0x62, 0x01, 0x02, 0x03],
            &[0x70, 0x0b],
            &[0x80, 0xff],
        ]
        .concat();
        let values = Values::read(Extensions::new(0xbede, &block), &map);
        let expected = Values {
            mid: Some("0"),
            rid: Some("hi"),
            repaired_rid: Some("lo"),
            audio_level: Some(AudioLevel { voice: true, level: 23 }),
            transport_cc: Some(0x1234),
            abs_send_time: AbsSendTime::parse(&[1, 2, 3]),
            video_orientation: Some(VideoOrientation { back_camera: true, flip: false, quarter_turns: 3 }),
        };
        assert_eq!(values, expected);
        assert_eq!(Values::read(Extensions::new(0xbede, &[0x10, 0xff]), &map), Values::default());
    }

    #[test]
    fn send_times_count_in_six_and_eighteen_bits() {
        let bytes = |millis| AbsSendTime::from_duration(Duration::from_millis(millis)).to_bytes();
        assert_eq!(bytes(1000), [0x04, 0, 0]);
        assert_eq!(bytes(500), [0x02, 0, 0]);
        assert_eq!(bytes(64_000), [0, 0, 0], "it starts anew every 64 s");
        assert_eq!(bytes(127_250), bytes(63_250));
        let time = AbsSendTime::parse(&bytes(63_250)).unwrap();
        assert_eq!(time.as_duration(), Duration::from_millis(63_250));
    }

    #[test]
    fn stamps_the_transport_wide_number_at_its_place() {
        let mut packet = [0; 4];
        assert!(patch_transport_cc(&mut packet, 1, 0xabcd));
        assert_eq!(packet, [0, 0xab, 0xcd, 0]);
        assert!(!patch_transport_cc(&mut packet, 3, 1));
        assert!(!patch_transport_cc(&mut packet, usize::MAX, 1));
        assert_eq!(packet, [0, 0xab, 0xcd, 0]);
    }
}
