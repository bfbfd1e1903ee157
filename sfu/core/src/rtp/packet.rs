//! The RTP packet (RFC 3550 §5.1): a view over received bytes, and a header writer into the caller's buffer.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                           timestamp                           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           synchronization source (SSRC) identifier            |
//! +=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+
//! |       contributing source (CSRC) identifiers, CC times        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | if X:    profile              |  length, in 32-bit words      |
//! |                     length * 4 bytes of extensions            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                            payload                            |
//! |              if P: padding, whose last byte says its length   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use super::ext::{self, BLOCK_HEADER_LEN, Extensions};
use super::params::Ssrc;

/// Bytes of the fixed header.
pub const FIXED_HEADER_LEN: usize = 12;

const VERSION: u8 = 2;
const PADDING_BIT: u8 = 0x20;
const EXTENSION_BIT: u8 = 0x10;
const MARKER_BIT: u8 = 0x80;

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// Shorter than the fixed header.
    #[error("shorter than the fixed header")]
    FixedHeader,
    /// Not version 2.
    #[error("not version 2")]
    Version,
    /// The contributing sources reach past the end.
    #[error("contributing sources reach past the end")]
    Csrc,
    /// The header extension reaches past the end.
    #[error("header extension reaches past the end")]
    Extension,
    /// The padding is longer than what follows the header, or says that it has no length.
    #[error("padding longer than the payload")]
    Padding,
}

/// A valid RTP packet in received (and already decrypted) bytes.
#[derive(Clone, Copy, Debug)]
pub struct RtpView<'a> {
    bytes: &'a [u8],
    fixed: &'a [u8; FIXED_HEADER_LEN],
    header_len: usize,
    padding_len: u8,
}

impl<'a> RtpView<'a> {
    /// Checks version and lengths; afterwards every accessor is infallible.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (fixed, _) = bytes.split_first_chunk().ok_or(ParseError::FixedHeader)?;
        let flags = fixed[0];
        if flags >> 6 != VERSION {
            return Err(ParseError::Version);
        }
        let mut header_len = csrc_end(flags);
        let after_csrc = bytes.get(header_len..).ok_or(ParseError::Csrc)?;
        if flags & EXTENSION_BIT != 0 {
            let (block, _) = after_csrc.split_first_chunk().ok_or(ParseError::Extension)?;
            let [_, _, high, low]: [u8; BLOCK_HEADER_LEN] = *block;
            header_len += BLOCK_HEADER_LEN + 4 * usize::from(u16::from_be_bytes([high, low]));
            if header_len > bytes.len() {
                return Err(ParseError::Extension);
            }
        }
        let mut padding_len = 0;
        if flags & PADDING_BIT != 0 {
            padding_len = bytes[bytes.len() - 1];
            if padding_len == 0 || usize::from(padding_len) > bytes.len() - header_len {
                return Err(ParseError::Padding);
            }
        }
        Ok(Self { bytes, fixed, header_len, padding_len })
    }

    /// The marker bit: end of a video frame, start of a talk spurt.
    #[inline]
    pub fn marker(&self) -> bool {
        self.fixed[1] & MARKER_BIT != 0
    }

    /// The payload type, 0..=127.
    #[inline]
    pub fn pt(&self) -> u8 {
        self.fixed[1] & !MARKER_BIT
    }

    /// The sequence number.
    #[inline]
    pub fn seq(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// The timestamp, in ticks of the codec's clock.
    #[inline]
    pub fn timestamp(&self) -> u32 {
        u32::from_be_bytes([self.fixed[4], self.fixed[5], self.fixed[6], self.fixed[7]])
    }

    /// The synchronisation source.
    #[inline]
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(u32::from_be_bytes([self.fixed[8], self.fixed[9], self.fixed[10], self.fixed[11]]))
    }

    /// How many contributing sources it lists, 0..=15.
    #[inline]
    pub fn csrc_count(&self) -> usize {
        usize::from(self.fixed[0] & 0x0f)
    }

    /// The payload without padding; empty in a packet that is nothing but padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len..self.bytes.len() - usize::from(self.padding_len)]
    }

    /// Bytes of padding, the one that says so included; 0 where there is none.
    #[inline]
    pub fn padding_len(&self) -> usize {
        usize::from(self.padding_len)
    }

    /// Bytes before the payload: fixed header, contributing sources, extension block.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// The whole packet.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The header extensions, none where there is no block or its profile is not one of RFC 8285's.
    #[inline]
    pub fn extensions(&self) -> Extensions<'a> {
        let start = csrc_end(self.fixed[0]);
        if self.header_len == start {
            return Extensions::none();
        }
        let profile = u16::from_be_bytes([self.bytes[start], self.bytes[start + 1]]);
        Extensions::new(profile, &self.bytes[start + BLOCK_HEADER_LEN..self.header_len])
    }

    /// Where the value of the extension `id` begins in the packet, `None` where it has none: the place that
    /// [`patch_transport_cc`](super::ext::patch_transport_cc) stores to.
    #[inline]
    pub fn extension_offset(&self, id: u8) -> Option<usize> {
        Some(csrc_end(self.fixed[0]) + BLOCK_HEADER_LEN + self.extensions().offset(id)?)
    }

    /// The fixed header's fields, to be written again with changes.
    #[inline]
    pub fn header(&self) -> Header {
        Header {
            marker: self.marker(),
            pt: self.pt(),
            seq: self.seq(),
            timestamp: self.timestamp(),
            ssrc: self.ssrc(),
        }
    }
}

/// Where the contributing sources end, of a header that begins with `flags`.
#[inline]
fn csrc_end(flags: u8) -> usize {
    FIXED_HEADER_LEN + 4 * usize::from(flags & 0x0f)
}

/// The fixed header's fields, as we write them: no contributing sources, padding only through [`add_padding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// End of a video frame, start of a talk spurt.
    pub marker: bool,
    /// The payload type, 0..=127.
    pub pt: u8,
    /// The sequence number.
    pub seq: u16,
    /// The timestamp, in ticks of the codec's clock.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: Ssrc,
}

impl Header {
    /// Stores the fields; the first byte, which says what follows the fixed header, stays.
    #[inline]
    pub fn write(&self, fixed: &mut [u8; FIXED_HEADER_LEN]) {
        fixed[1] = u8::from(self.marker) << 7 | self.pt & !MARKER_BIT;
        fixed[2..4].copy_from_slice(&self.seq.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.ssrc.0.to_be_bytes());
    }
}

/// Writes a header at the front of the caller's buffer: [`new`](Self::new), then an
/// [`extension`](Self::extension) each, then [`finish`](Self::finish). The payload goes right behind.
#[derive(Debug)]
pub struct HeaderWriter<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> HeaderWriter<'a> {
    /// Writes the fixed header. `None` where `out` has no room for it.
    #[inline]
    pub fn new(out: &'a mut [u8], header: &Header) -> Option<Self> {
        let fixed: &mut [u8; FIXED_HEADER_LEN] = out.first_chunk_mut()?;
        fixed[0] = VERSION << 6;
        header.write(fixed);
        Some(Self { out, len: FIXED_HEADER_LEN })
    }

    /// Adds a one-byte extension (RFC 8285 §4.2): `id` 1..=14, 1..=16 bytes. Returns where in the packet the
    /// value begins; `None`, with nothing added, where it is out of range or finds no room.
    #[inline]
    pub fn extension(&mut self, id: u8, value: &[u8]) -> Option<usize> {
        let block = if self.len == FIXED_HEADER_LEN { FIXED_HEADER_LEN + BLOCK_HEADER_LEN } else { self.len };
        let at = ext::write_element(self.out, block, id, value)?;
        self.len = at + value.len();
        Some(at)
    }

    /// Closes the extension block, where there is one, and returns the header's length.
    #[inline]
    pub fn finish(self) -> usize {
        if self.len == FIXED_HEADER_LEN {
            return self.len;
        }
        self.out[0] |= EXTENSION_BIT;
        ext::close_block(self.out, FIXED_HEADER_LEN, self.len)
    }
}

/// Changes single fields of a packet in place. Its length and everything behind the fixed header stay.
#[derive(Debug)]
pub struct RtpMut<'a> {
    fixed: &'a mut [u8; FIXED_HEADER_LEN],
}

impl<'a> RtpMut<'a> {
    /// Takes a packet that was parsed or written here. `None` where it is shorter than the fixed header.
    #[inline]
    pub fn new(packet: &'a mut [u8]) -> Option<Self> {
        Some(Self { fixed: packet.first_chunk_mut()? })
    }

    /// Sets or clears the marker bit.
    #[inline]
    pub fn set_marker(&mut self, marker: bool) {
        self.fixed[1] = u8::from(marker) << 7 | self.fixed[1] & !MARKER_BIT;
    }

    /// Sets the payload type, 0..=127.
    #[inline]
    pub fn set_pt(&mut self, pt: u8) {
        self.fixed[1] = self.fixed[1] & MARKER_BIT | pt & !MARKER_BIT;
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: u16) {
        self.fixed[2..4].copy_from_slice(&seq.to_be_bytes());
    }

    /// Sets the timestamp.
    #[inline]
    pub fn set_timestamp(&mut self, timestamp: u32) {
        self.fixed[4..8].copy_from_slice(&timestamp.to_be_bytes());
    }

    /// Sets the synchronisation source.
    #[inline]
    pub fn set_ssrc(&mut self, ssrc: Ssrc) {
        self.fixed[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
    }
}

/// Adds `padding` bytes behind the `len` bytes of an unpadded packet in `buf`: a probe without a payload, or a
/// byte or two that make a run of datagrams equally long. Returns the new length; `None`, with nothing changed,
/// where there is no room. Zero bytes add nothing.
pub fn add_padding(buf: &mut [u8], len: usize, padding: u8) -> Option<usize> {
    let Some(zeros) = usize::from(padding).checked_sub(1) else { return Some(len) };
    let room = buf.get_mut(len..=len + zeros)?;
    room.fill(0);
    room[zeros] = padding;
    buf[0] |= PADDING_BIT;
    Some(len + zeros + 1)
}

/// Parses `data` and expects: lengths that add up, extension offsets that point at their values, and the same
/// fields again from what the writer makes of them.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    let Ok(view) = RtpView::parse(data) else { return };
    assert_eq!(view.header_len() + view.payload().len() + view.padding_len(), data.len());
    for (id, value) in view.extensions() {
        let offset = view.extension_offset(id).expect("an extension that is there has a place");
        let first = view.extensions().get(id).expect("an extension that is there has a value");
        assert_eq!(&data[offset..offset + first.len()], first);
        ext::fuzz_value(value);
    }

    let mut out = vec![0; data.len() + 64];
    let mut writer = HeaderWriter::new(&mut out, &view.header()).expect("there is room");
    let written: Vec<_> =
        view.extensions().filter(|(id, value)| writer.extension(*id, value).is_some()).collect();
    let header_len = writer.finish();
    out[header_len..header_len + view.payload().len()].copy_from_slice(view.payload());
    let len = add_padding(&mut out, header_len + view.payload().len(), view.padding_len() as u8);
    let again = RtpView::parse(&out[..len.expect("there is room")]).expect("what we write, we read");
    assert_eq!(again.header(), view.header());
    assert_eq!(again.payload(), view.payload());
    assert_eq!(again.padding_len(), view.padding_len());
    assert!(again.extensions().eq(written));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As captured from a browser, with a header extension of a profile that is not RFC 8285's.
    const CAPTURED: [u8; 25] = [
        0x90, 0xe0, 0x69, 0x8f, 0xd9, 0xc2, 0x93, 0xda, 0x1c, 0x64, 0x27, 0x82, 0x00, 0x01, 0x00, 0x01, 0xff,
        0xff, 0xff, 0xff, 0x98, 0x36, 0xbe, 0x88, 0x9e,
    ];

    const HEADER: Header = Header { marker: true, pt: 96, seq: 258, timestamp: 0x0304_0506, ssrc: Ssrc(7) };

    #[test]
    fn reads_every_field() {
        let view = RtpView::parse(&CAPTURED).unwrap();
        assert!(view.marker());
        assert_eq!(view.pt(), 96);
        assert_eq!(view.seq(), 27023);
        assert_eq!(view.timestamp(), 3_653_407_706);
        assert_eq!(view.ssrc(), Ssrc(476_325_762));
        assert_eq!(view.csrc_count(), 0);
        assert_eq!(view.header_len(), 20);
        assert_eq!(view.payload(), &[0x98, 0x36, 0xbe, 0x88, 0x9e]);
        assert_eq!(view.padding_len(), 0);
        assert_eq!(view.extensions().next(), None);
    }

    #[test]
    fn skips_contributing_sources_and_padding() {
        let mut packet = vec![0xa2, 0x60, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend([0xcc; 8]);
        packet.extend([b'p', b'q', 0, 0, 3]);
        let view = RtpView::parse(&packet).unwrap();
        assert_eq!((view.csrc_count(), view.header_len(), view.padding_len()), (2, 20, 3));
        assert_eq!(view.payload(), b"pq");
    }

    #[test]
    fn names_the_broken_field() {
        let fixed = |flags| {
            let mut packet = [0_u8; 12];
            packet[0] = flags;
            packet.to_vec()
        };
        let with = |flags, tail: &[u8]| [fixed(flags), tail.to_vec()].concat();
        let table = [
            (vec![], ParseError::FixedHeader),
            (fixed(0x80)[..11].to_vec(), ParseError::FixedHeader),
            (fixed(0x40), ParseError::Version),
            (with(0x81, &[0; 3]), ParseError::Csrc),
            (with(0x9f, &[0; 59]), ParseError::Csrc),
            (with(0x90, &[0xbe, 0xde, 0]), ParseError::Extension),
            (with(0x90, &[0xbe, 0xde, 0, 1, 0, 0, 0]), ParseError::Extension),
            (with(0x90, &[0xbe, 0xde, 0xff, 0xff]), ParseError::Extension),
            (with(0xa0, &[0]), ParseError::Padding),
            (with(0xa0, &[0, 3]), ParseError::Padding),
            // What looks like padding is the header itself.
            (with(0xb0, &[0xbe, 0xde, 0, 1, 0, 0, 0, 1]), ParseError::Padding),
        ];
        for (packet, error) in table {
            assert_eq!(RtpView::parse(&packet).unwrap_err(), error, "{packet:02x?}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let mut out = [0xee; 64];
        let mut writer = HeaderWriter::new(&mut out, &HEADER).unwrap();
        assert_eq!(writer.extension(3, &[1, 2]), Some(17));
        assert_eq!(writer.extension(4, b"mid"), Some(20));
        let len = writer.finish();
        let wire = [
            0x90, 0xe0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 7, 0xbe, 0xde, 0, 2, 0x31, 1, 2, 0x42, b'm', b'i', b'd', 0,
        ];
        assert_eq!(out[..len], wire);
        let view = RtpView::parse(&out[..len]).unwrap();
        assert_eq!(view.header(), HEADER);
        assert_eq!(view.extension_offset(3), Some(17));
        assert_eq!(view.extension_offset(4), Some(20));
        assert_eq!(view.extension_offset(5), None);
    }

    #[test]
    fn a_header_without_extensions_has_no_block() {
        let mut out = [0xee; FIXED_HEADER_LEN];
        let mut writer = HeaderWriter::new(&mut out, &HEADER).unwrap();
        assert_eq!(writer.extension(3, &[1]), None, "there is no room");
        assert_eq!(writer.finish(), FIXED_HEADER_LEN);
        assert_eq!(out, [0x80, 0xe0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 7]);
        assert!(HeaderWriter::new(&mut [0; 11], &HEADER).is_none());
    }

    #[test]
    fn changes_single_fields_in_place() {
        let mut packet = CAPTURED;
        let mut change = RtpMut::new(&mut packet).unwrap();
        change.set_pt(111);
        change.set_seq(1);
        change.set_timestamp(2);
        change.set_ssrc(Ssrc(3));
        let header = Header { marker: true, pt: 111, seq: 1, timestamp: 2, ssrc: Ssrc(3) };
        assert_eq!(RtpView::parse(&packet).unwrap().header(), header);
        RtpMut::new(&mut packet).unwrap().set_marker(false);
        assert_eq!(RtpView::parse(&packet).unwrap().header(), Header { marker: false, ..header });
        assert_eq!(packet[12..], CAPTURED[12..]);
    }

    #[test]
    fn pads_only_where_there_is_room() {
        let mut buf = [0xee; 16];
        HeaderWriter::new(&mut buf, &HEADER).unwrap().finish();
        assert_eq!(add_padding(&mut buf, 13, 0), Some(13));
        assert_eq!(add_padding(&mut buf, 13, 4), None);
        assert_eq!(RtpView::parse(&buf[..13]).unwrap().payload(), &[0xee]);
        assert_eq!(add_padding(&mut buf, 13, 3), Some(16));
        let view = RtpView::parse(&buf).unwrap();
        assert_eq!((view.payload(), view.padding_len()), (&[0xee][..], 3));
    }
}
