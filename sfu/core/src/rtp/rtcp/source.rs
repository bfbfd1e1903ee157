//! What sources say about themselves: their name (RFC 3550 §6.5) and their goodbye (§6.6).

use super::{ParseError, ssrcs};
use crate::rtp::params::Ssrc;

/// SDES item types (RFC 3550 §12.2).
pub(super) const ITEM_END: u8 = 0;
pub(super) const ITEM_CNAME: u8 = 1;

/// Source descriptions. Only canonical names are read.
#[derive(Clone, Copy, Debug)]
pub struct Sdes<'a> {
    chunks: u8,
    body: &'a [u8],
}

impl<'a> Sdes<'a> {
    pub(super) fn new(chunks: u8, body: &'a [u8]) -> Self {
        Self { chunks, body }
    }

    /// The canonical names (§6.5.1), 1..=255 bytes of what should be UTF-8. Ends where a chunk is cut; at most 31.
    pub fn cnames(&self) -> impl Iterator<Item = (Ssrc, &'a [u8])> + use<'a> {
        let mut rest = self.body;
        (0..self.chunks)
            .map_while(move |_| {
                let (&ssrc, items) = rest.split_first_chunk()?;
                let (cname, len) = chunk(items)?;
                // Chunks begin at multiples of four bytes; a last one may come without its padding.
                rest = items.get(len.next_multiple_of(4)..).unwrap_or(&[]);
                Some((Ssrc(u32::from_be_bytes(ssrc)), cname))
            })
            .filter_map(|(ssrc, cname)| Some((ssrc, cname?)))
    }
}

/// The canonical name among a chunk's items, and their length with the item that ends them.
fn chunk(items: &[u8]) -> Option<(Option<&[u8]>, usize)> {
    let (mut cname, mut at) = (None, 0);
    loop {
        let kind = *items.get(at)?;
        if kind == ITEM_END {
            return Some((cname, at + 1));
        }
        let len = usize::from(*items.get(at + 1)?);
        let text = items.get(at + 2..at + 2 + len)?;
        if kind == ITEM_CNAME && !text.is_empty() {
            cname = Some(text);
        }
        at += 2 + len;
    }
}

/// Streams that ended.
#[derive(Clone, Copy, Debug)]
pub struct Bye<'a> {
    sources: &'a [u8],
}

impl<'a> Bye<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, ParseError> {
        Ok(Self { sources: body.get(..4 * usize::from(count)).ok_or(ParseError::Bye)? })
    }

    /// The streams, at most 31.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        ssrcs(self.sources)
    }
}
