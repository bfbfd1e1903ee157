//! Redundant audio (RFC 2198): a packet that repeats what those before it held.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |1|  block PT   |      timestamp offset     |   block length    |   each repeated block
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0|  block PT   |   the new block, whose length and timestamp are the packet's
//! +-+-+-+-+-+-+-+-+
//! | repeated blocks, oldest first | new block                     |
//! +---------------------------------------------------------------+
//! ```

/// The longest repeated block: its length has ten bits.
pub const MAX_REPEATED_LEN: usize = 1023;

/// How far back a repeated block may lie, in ticks of the timestamp: 14 bits, 341 ms of Opus.
pub const MAX_OFFSET: u32 = (1 << 14) - 1;

/// Bytes that one repeated block costs besides itself: its header, and the new block's.
pub const OVERHEAD: usize = REPEATED_HEADER_LEN + 1;

const REPEATED_HEADER_LEN: usize = 4;
const FOLLOWS: u8 = 0x80;

/// Why a payload is not redundant audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// It ends before the header of the new block.
    #[error("no header of a new block")]
    Header,
    /// The repeated blocks are longer than it.
    #[error("repeated blocks reach past the end")]
    Length,
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// Its payload type, 0..=127.
    pub pt: u8,
    /// How many ticks its timestamp lies before the packet's; 0 in the new block.
    pub offset: u16,
    /// Its payload.
    pub payload: &'a [u8],
}

/// A valid payload of redundant audio.
#[derive(Clone, Copy, Debug)]
pub struct RedView<'a> {
    /// Of the repeated blocks.
    headers: &'a [u8],
    repeated: &'a [u8],
    new: Block<'a>,
}

impl<'a> RedView<'a> {
    /// Checks headers and lengths; afterwards every accessor is infallible.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ParseError> {
        let (mut at, mut len) = (0, 0);
        let new_pt = loop {
            let rest = payload.get(at..).ok_or(ParseError::Header)?;
            match *rest {
                [pt, ..] if pt & FOLLOWS == 0 => break pt,
                [first, second, third, fourth, ..] => {
                    len += repeated_header([first, second, third, fourth]).2;
                    at += REPEATED_HEADER_LEN;
                }
                _ => return Err(ParseError::Header),
            }
        };
        let (headers, blocks) = (&payload[..at], &payload[at + 1..]);
        let (repeated, new) = blocks.split_at_checked(len).ok_or(ParseError::Length)?;
        Ok(Self { headers, repeated, new: Block { pt: new_pt, offset: 0, payload: new } })
    }

    /// The new block.
    pub fn new_block(&self) -> Block<'a> {
        self.new
    }

    /// The repeated blocks, oldest first.
    pub fn repeated(&self) -> impl Iterator<Item = Block<'a>> + use<'a> {
        let mut rest = self.repeated;
        let (headers, _) = self.headers.as_chunks();
        headers.iter().map(move |&header| {
            let (pt, offset, len) = repeated_header(header);
            let (payload, behind) = rest.split_at(len);
            rest = behind;
            Block { pt, offset, payload }
        })
    }
}

fn repeated_header(header: [u8; REPEATED_HEADER_LEN]) -> (u8, u16, usize) {
    let word = u32::from_be_bytes(header);
    ((word >> 24) as u8 & !FOLLOWS, (word >> 10) as u16 & MAX_OFFSET as u16, word as usize & MAX_REPEATED_LEN)
}

/// What stands in front of one repeated block and a new one, both of the same payload type. `None` where the
/// repeated block is too long or lies too far back.
pub fn headers(pt: u8, offset: u32, repeated_len: usize) -> Option<[u8; OVERHEAD]> {
    if offset > MAX_OFFSET || repeated_len > MAX_REPEATED_LEN {
        return None;
    }
    let word = u32::from(FOLLOWS | pt) << 24 | offset << 10 | repeated_len as u32;
    let [first, second, third, fourth] = word.to_be_bytes();
    Some([first, second, third, fourth, pt & !FOLLOWS])
}

/// Parses `data`; what is one repeated block and a new one is written again as it was.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    let Ok(view) = RedView::parse(data) else { return };
    let new = view.new_block();
    let blocks: Vec<_> = view.repeated().collect();
    let held: usize = blocks.iter().map(|block| block.payload.len() + REPEATED_HEADER_LEN).sum();
    assert_eq!(held + 1 + new.payload.len(), data.len());
    if let [old] = blocks[..]
        && old.pt == new.pt
    {
        let headers = headers(new.pt, old.offset.into(), old.payload.len()).expect("it was written so");
        assert_eq!([&headers[..], old.payload, new.payload].concat(), data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart() {
        /// A payload, the repeated blocks in it, and the new one.
        type Case = (&'static [u8], &'static [(u8, u16, &'static [u8])], &'static [u8]);
        let cases: [Case; 4] = [
            (&[111, 1, 2], &[], &[1, 2]),
            // 960 ticks back, three bytes.
            (&[0x80 | 111, 0x0f, 0x00, 0x03, 111, 7, 8, 9, 1], &[(111, 960, &[7, 8, 9])], &[1]),
            (
                &[0x80 | 111, 0x1e, 0x00, 0x01, 0x80 | 111, 0x0f, 0x00, 0x02, 111, 5, 6, 7],
                &[(111, 1920, &[5]), (111, 960, &[6, 7])],
                &[],
            ),
            (&[0x80, 0xff, 0xfc, 0x00, 63], &[(0, 16_383, &[])], &[]),
        ];
        for (payload, repeated, new) in cases {
            let view = RedView::parse(payload).unwrap();
            let blocks: Vec<_> =
                view.repeated().map(|Block { pt, offset, payload }| (pt, offset, payload)).collect();
            assert_eq!((&blocks[..], view.new_block().payload), (repeated, new));
        }
    }

    #[test]
    fn what_ends_too_early_is_refused() {
        let cases: [(&[u8], ParseError); 5] = [
            (&[], ParseError::Header),
            (&[0xef], ParseError::Header),
            (&[0xef, 0, 0], ParseError::Header),
            (&[0xef, 0, 0, 0], ParseError::Header),
            (&[0xef, 0x0f, 0, 3, 111, 1, 2], ParseError::Length),
        ];
        for (payload, error) in cases {
            assert_eq!(RedView::parse(payload).err(), Some(error), "{payload:02x?}");
        }
    }

    #[test]
    fn headers_are_read_as_they_were_written() {
        let written = [&headers(111, 2880, 300).unwrap()[..], &[4; 300], &[5; 9]].concat();
        let view = RedView::parse(&written).unwrap();
        let old = Block { pt: 111, offset: 2880, payload: &[4; 300] };
        assert_eq!(view.repeated().collect::<Vec<_>>(), [old]);
        assert_eq!(view.new_block(), Block { pt: 111, offset: 0, payload: &[5; 9] });
        assert_eq!(headers(111, MAX_OFFSET + 1, 1), None);
        assert_eq!(headers(111, 1, MAX_REPEATED_LEN + 1), None);
    }
}
