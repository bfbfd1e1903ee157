//! The VP8 payload descriptor (RFC 7741 §4.2), and what the frame header behind it says about key frames.
//!
//! ```text
//!       0 1 2 3 4 5 6 7
//!      +-+-+-+-+-+-+-+-+
//!      |X|R|N|S|R| PID |
//!      +-+-+-+-+-+-+-+-+
//! X:   |I|L|T|K| RSV   |
//!      +-+-+-+-+-+-+-+-+
//! I:   |M| PictureID   |
//!      +-+-+-+-+-+-+-+-+
//! M:   |   PictureID   |
//!      +-+-+-+-+-+-+-+-+
//! L:   |   TL0PICIDX   |
//!      +-+-+-+-+-+-+-+-+
//! T/K: |TID|Y| KEYIDX  |
//!      +-+-+-+-+-+-+-+-+
//! ```

/// Why bytes are not a VP8 payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// The required first byte is missing.
    #[error("no descriptor")]
    Descriptor,
    /// The extension bits are missing.
    #[error("extension bits past the end")]
    ExtensionBits,
    /// The picture id reaches past the end.
    #[error("picture id past the end")]
    PictureId,
    /// TL0PICIDX reaches past the end.
    #[error("TL0PICIDX past the end")]
    Tl0PicIdx,
    /// TID, Y and KEYIDX reach past the end.
    #[error("TID past the end")]
    TemporalId,
    /// Nothing follows the descriptor.
    #[error("no payload behind the descriptor")]
    Payload,
}

/// The picture id, in the length that the sender chose: a rewritten one must keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureId {
    /// 7 bits.
    Short(u8),
    /// 15 bits.
    Long(u16),
}

impl PictureId {
    /// The number.
    #[inline]
    pub fn value(self) -> u16 {
        match self {
            Self::Short(value) => u16::from(value),
            Self::Long(value) => value,
        }
    }

    /// The largest number of this length: counting goes on at 0 behind it.
    #[inline]
    pub fn mask(self) -> u16 {
        match self {
            Self::Short(_) => 0x7f,
            Self::Long(_) => 0x7fff,
        }
    }

    /// Bytes in the descriptor.
    #[inline]
    fn len(self) -> usize {
        match self {
            Self::Short(_) => 1,
            Self::Long(_) => 2,
        }
    }
}

/// The temporal layer of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemporalLayer {
    /// Its index, 0..=3; 0 is the base layer.
    pub tid: u8,
    /// Whether the frame refers to the base layer only: a receiver may step up to `tid` here.
    pub layer_sync: bool,
}

/// A parsed descriptor. Small enough to be kept beside a cached payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// Whether no other frame refers to this one (N).
    pub non_reference: bool,
    /// Whether the packet begins a partition (S).
    pub partition_start: bool,
    /// The partition that it begins or goes on with, 0..=7 (PID).
    pub partition: u8,
    /// The frame's number (I), where the sender counts.
    pub picture_id: Option<PictureId>,
    /// The number of the base-layer frame that it builds upon (L).
    pub tl0_pic_idx: Option<u8>,
    /// The temporal layer (T).
    pub temporal: Option<TemporalLayer>,
    /// The key frame that it builds upon, 0..=31 (K).
    pub key_idx: Option<u8>,
    /// Whether a key frame begins in this packet.
    pub key_frame_start: bool,
    len: u8,
}

impl Vp8Descriptor {
    /// Reads the descriptor at the front of an RTP payload (and one bit of the frame header behind it).
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let mut at = 0;
        let mut byte = |error| {
            let byte = payload.get(at).copied().ok_or(error);
            at += 1;
            byte
        };
        let required = byte(ParseError::Descriptor)?;
        let bits = if required & 0x80 != 0 { byte(ParseError::ExtensionBits)? } else { 0 };
        let mut picture_id = None;
        if bits & 0x80 != 0 {
            let high = byte(ParseError::PictureId)?;
            picture_id = Some(match high & 0x80 {
                0 => PictureId::Short(high),
                _ => PictureId::Long(u16::from_be_bytes([high & 0x7f, byte(ParseError::PictureId)?])),
            });
        }
        let tl0_pic_idx = if bits & 0x40 != 0 { Some(byte(ParseError::Tl0PicIdx)?) } else { None };
        let layer = if bits & 0x30 != 0 { byte(ParseError::TemporalId)? } else { 0 };
        let frame = *payload.get(at).ok_or(ParseError::Payload)?;
        let (partition_start, partition) = (required & 0x10 != 0, required & 0x07);
        Ok(Self {
            non_reference: required & 0x20 != 0,
            partition_start,
            partition,
            picture_id,
            tl0_pic_idx,
            temporal: (bits & 0x20 != 0)
                .then_some(TemporalLayer { tid: layer >> 6, layer_sync: layer & 0x20 != 0 }),
            key_idx: (bits & 0x10 != 0).then_some(layer & 0x1f),
            // RFC 7741 §4.3: P of the frame header is 0 in key frames.
            key_frame_start: partition_start && partition == 0 && frame & 0x01 == 0,
            len: at as u8,
        })
    }

    /// Bytes of the descriptor, 1..=6.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a descriptor is never empty")]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether a frame begins in this packet.
    #[inline]
    pub fn frame_start(&self) -> bool {
        self.partition_start && self.partition == 0
    }

    /// Width and height of the key frame that begins in `payload`; `None` where none does or its header is cut.
    pub fn resolution(&self, payload: &[u8]) -> Option<(u16, u16)> {
        // RFC 6386 §9.1: a tag of 3 bytes, a start code, then 14 bits each and 2 bits of scaling.
        let frame: &[u8; 10] = payload.get(self.len()..)?.first_chunk()?;
        let size = |low, high| u16::from_le_bytes([low, high]) & 0x3fff;
        (self.key_frame_start && frame[3..6] == [0x9d, 0x01, 0x2a])
            .then(|| (size(frame[6], frame[7]), size(frame[8], frame[9])))
    }

    /// Stores other numbers into a copy of the payload that this descriptor was read from. A number that the
    /// payload does not carry stays away, and a picture id keeps its length: `picture_id` is cut to it.
    #[inline]
    pub fn patch(&self, payload: &mut [u8], picture_id: u16, tl0_pic_idx: u8) {
        let Some(descriptor) = payload.get_mut(..self.len()) else { return };
        let mut at = 2;
        if let Some(present) = self.picture_id {
            let value = picture_id & present.mask();
            match present {
                PictureId::Short(_) => descriptor[at] = value as u8,
                PictureId::Long(_) => descriptor[at..at + 2].copy_from_slice(&(value | 0x8000).to_be_bytes()),
            }
            at += present.len();
        }
        if self.tl0_pic_idx.is_some() {
            descriptor[at] = tl0_pic_idx;
        }
    }
}

/// Parses `data` and expects that patched numbers read back, and that nothing else of the payload changes.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    let Ok(descriptor) = Vp8Descriptor::parse(data) else { return };
    assert!((1..=6).contains(&descriptor.len()) && descriptor.len() < data.len());
    assert!(!descriptor.key_frame_start || descriptor.frame_start());
    assert!(descriptor.resolution(data).is_none() || descriptor.key_frame_start);

    let mut patched = data.to_vec();
    descriptor.patch(&mut patched, 0x5aa5, 0x77);
    let again = Vp8Descriptor::parse(&patched).expect("a patched descriptor keeps its length");
    assert_eq!(again.picture_id.map(PictureId::value), descriptor.picture_id.map(|id| 0x5aa5 & id.mask()));
    assert_eq!(again.tl0_pic_idx, descriptor.tl0_pic_idx.map(|_| 0x77));
    let original = descriptor.picture_id.map_or(0, PictureId::value);
    again.patch(&mut patched, original, descriptor.tl0_pic_idx.unwrap_or(0));
    assert_eq!(patched, data);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Vp8Descriptor = Vp8Descriptor {
        non_reference: false,
        partition_start: true,
        partition: 0,
        picture_id: None,
        tl0_pic_idx: None,
        temporal: None,
        key_idx: None,
        key_frame_start: false,
        len: 1,
    };

    /// A frame header's first byte: of a key frame, of another.
    const KEY: u8 = 0x10;
    const DELTA: u8 = 0x11;

    #[test]
    fn reads_packets_shaped_like_the_examples_of_rfc_7741() {
        // A key frame, a frame that none refers to, the middle of a later partition, a long picture id.
        let table: [(&[u8], Vp8Descriptor); 4] = [
            (
                &[0x90, 0x80, 17, KEY],
                Vp8Descriptor {
                    picture_id: Some(PictureId::Short(17)),
                    key_frame_start: true,
                    len: 3,
                    ..BARE
                },
            ),
            (&[0x30, DELTA], Vp8Descriptor { non_reference: true, ..BARE }),
            (
                &[0x81, 0x80, 17, KEY],
                Vp8Descriptor {
                    partition_start: false,
                    partition: 1,
                    picture_id: Some(PictureId::Short(17)),
                    len: 3,
                    ..BARE
                },
            ),
            (
                &[0x90, 0x80, 0x92, 0x11, DELTA],
                Vp8Descriptor { picture_id: Some(PictureId::Long(4625)), len: 4, ..BARE },
            ),
        ];
        for (payload, descriptor) in table {
            assert_eq!(Vp8Descriptor::parse(payload), Ok(descriptor), "{payload:02x?}");
        }
    }

    #[test]
    fn reads_every_extension() {
        // As browsers send a temporal layer: everything but KEYIDX in use.
        let descriptor = Vp8Descriptor::parse(&[0x90, 0xf0, 0x92, 0x11, 200, 0x63, DELTA]).unwrap();
        let temporal = Some(TemporalLayer { tid: 1, layer_sync: true });
        let picture_id = Some(PictureId::Long(4625));
        let expected =
            Vp8Descriptor { picture_id, tl0_pic_idx: Some(200), temporal, key_idx: Some(3), len: 6, ..BARE };
        assert_eq!(descriptor, expected);
    }

    #[test]
    fn names_the_field_that_is_cut() {
        let whole = [0x90, 0xf0, 0x92, 0x11, 200, 0x63, DELTA];
        let errors = [
            ParseError::Descriptor,
            ParseError::ExtensionBits,
            ParseError::PictureId,
            ParseError::PictureId,
            ParseError::Tl0PicIdx,
            ParseError::TemporalId,
            ParseError::Payload,
        ];
        for (len, error) in errors.into_iter().enumerate() {
            assert_eq!(Vp8Descriptor::parse(&whole[..len]), Err(error));
        }
    }

    #[test]
    fn a_key_frame_begins_at_partition_0_only() {
        for (payload, begins) in [
            ([0x10, KEY], true),
            ([0x10, DELTA], false),
            ([0x00, KEY], false), // goes on with partition 0
            ([0x11, KEY], false), // begins partition 1
        ] {
            assert_eq!(Vp8Descriptor::parse(&payload).unwrap().key_frame_start, begins, "{payload:02x?}");
        }
    }

    #[test]
    fn reads_the_resolution_without_the_scaling_bits() {
        let frame = [0x10, KEY, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x41];
        let resolution = |payload: &[u8]| Vp8Descriptor::parse(payload).unwrap().resolution(payload);
        assert_eq!(resolution(&frame), Some((640, 480)));
        assert_eq!(resolution(&frame[..10]), None, "cut");
        let mut wrong_start_code = frame;
        wrong_start_code[4] = 0;
        assert_eq!(resolution(&wrong_start_code), None);
    }

    #[test]
    fn patches_numbers_in_the_length_they_have() {
        let table: [(&[u8], &[u8]); 5] = [
            (&[0x10, KEY], &[0x10, KEY]),
            (&[0x90, 0x80, 17, KEY], &[0x90, 0x80, 0x34, KEY]),
            (&[0x90, 0x80, 0x92, 0x11, KEY], &[0x90, 0x80, 0x92, 0x34, KEY]),
            (&[0x90, 0x60, 1, 0x20, KEY], &[0x90, 0x60, 99, 0x20, KEY]),
            (&[0x90, 0xe0, 0x80, 0x00, 1, 0x20, KEY], &[0x90, 0xe0, 0x92, 0x34, 99, 0x20, KEY]),
        ];
        for (payload, expected) in table {
            let mut payload = payload.to_vec();
            Vp8Descriptor::parse(&payload).unwrap().patch(&mut payload, 0x1234, 99);
            assert_eq!(payload, expected);
        }
    }
}
