//! Feedback messages: NACK and PLI (RFC 4585 §6), FIR (RFC 5104 §4.3.1), REMB, and the outside of transport-wide
//! feedback, whose inside belongs to congestion control.

use super::{ParseError, ssrcs, word};
use crate::rtp::params::Ssrc;
use crate::units::Bitrate;

const SOURCES_LEN: usize = 8;

/// The sender and the media source in front of every feedback message, and what follows.
#[inline]
fn sources(body: &[u8]) -> Result<(Ssrc, Ssrc, &[u8]), ParseError> {
    let (sources, fci) = body.split_at_checked(SOURCES_LEN).ok_or(ParseError::FeedbackSources)?;
    Ok((Ssrc(word(sources, 0)), Ssrc(word(sources, 4)), fci))
}

/// Packets that a receiver misses (RFC 4585 §6.2.1): each entry names one and, in a bit mask, others of the 16
/// behind it.
#[derive(Clone, Copy, Debug)]
pub struct Nack<'a> {
    /// Who misses them.
    pub sender: Ssrc,
    /// The stream that they belong to.
    pub media: Ssrc,
    entries: &'a [u8],
}

impl<'a> Nack<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let (sender, media, entries) = sources(body)?;
        if entries.is_empty() || !entries.len().is_multiple_of(4) {
            return Err(ParseError::Nack);
        }
        Ok(Self { sender, media, entries })
    }

    /// Their sequence numbers as the entries list them, at most 17 an entry; a peer may name one twice.
    pub fn seqs(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.entries.chunks_exact(4).flat_map(|entry| {
            let pid = u16::from_be_bytes([entry[0], entry[1]]);
            let mask = u16::from_be_bytes([entry[2], entry[3]]);
            std::iter::once(pid).chain(SetBits(mask).map(move |bit| pid.wrapping_add(bit + 1)))
        })
    }
}

/// The places of the set bits, lowest first.
struct SetBits(u16);

impl Iterator for SetBits {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        let place = self.0.trailing_zeros() as u16;
        (self.0 != 0).then(|| {
            self.0 &= self.0 - 1;
            place
        })
    }
}

/// A receiver cannot decode and wants a key frame (RFC 4585 §6.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pli {
    /// Who wants it.
    pub sender: Ssrc,
    /// Of which stream.
    pub media: Ssrc,
}

impl Pli {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let (sender, media, _) = sources(body)?;
        Ok(Self { sender, media })
    }
}

/// Requests for key frames (RFC 5104 §4.3.1).
#[derive(Clone, Copy, Debug)]
pub struct Fir<'a> {
    /// Who wants them.
    pub sender: Ssrc,
    entries: &'a [u8],
}

impl<'a> Fir<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let (sender, _, entries) = sources(body)?;
        if entries.is_empty() || !entries.len().is_multiple_of(8) {
            return Err(ParseError::Fir);
        }
        Ok(Self { sender, entries })
    }

    /// The requests.
    pub fn entries(&self) -> impl Iterator<Item = FirEntry> + use<'a> {
        let entries = self.entries.chunks_exact(8);
        entries.map(|entry| FirEntry { media: Ssrc(word(entry, 0)), command: entry[4] })
    }
}

/// One request for a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirEntry {
    /// The stream.
    pub media: Ssrc,
    /// Counts requests: a number seen before is the same request again.
    pub command: u8,
}

/// What a receiver estimates that it can receive (draft-alvestrand-rmcat-remb-03 §2.2).
#[derive(Clone, Copy, Debug)]
pub struct Remb<'a> {
    /// Who estimates.
    pub sender: Ssrc,
    /// The estimate for all the streams together.
    pub bitrate: Bitrate,
    media: &'a [u8],
}

impl<'a> Remb<'a> {
    const NAME: &'static [u8; 4] = b"REMB";

    /// `None` where it is somebody else's application-layer feedback.
    pub(super) fn parse(body: &'a [u8]) -> Result<Option<Self>, ParseError> {
        let (sender, _, fci) = sources(body)?;
        let Some(rest) = fci.strip_prefix(Self::NAME) else { return Ok(None) };
        let (head, media) = rest.split_at_checked(4).ok_or(ParseError::Remb)?;
        let media = media.get(..4 * usize::from(head[0])).ok_or(ParseError::Remb)?;
        // 6 bits of exponent, 18 of mantissa: what 64 bits cannot hold is as good as unlimited.
        let exponent = u32::from(head[1] >> 2);
        let mantissa = u64::from(word(head, 0) & 0x3_ffff);
        let bps = if mantissa.leading_zeros() >= exponent { mantissa << exponent } else { u64::MAX };
        Ok(Some(Self { sender, bitrate: Bitrate::bps(bps), media }))
    }

    /// The streams, at most 255.
    pub fn media(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        ssrcs(self.media)
    }
}

/// Which packets of a transport arrived, and when (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    /// Who reports.
    pub sender: Ssrc,
    /// Any stream of the transport.
    pub media: Ssrc,
    /// The transport-wide sequence number of the first packet.
    pub base_seq: u16,
    /// How many packets it reports on.
    pub status_count: u16,
    /// The receiver's clock, in 64 ms, modulo 2^24.
    pub reference_time: u32,
    /// Counts the receiver's feedback.
    pub feedback_count: u8,
    /// Status chunks, then receive deltas, then possibly zeros.
    pub statuses: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let (sender, media, fci) = sources(body)?;
        let (head, statuses) = fci.split_at_checked(8).ok_or(ParseError::TransportFeedback)?;
        Ok(Self {
            sender,
            media,
            base_seq: u16::from_be_bytes([head[0], head[1]]),
            status_count: u16::from_be_bytes([head[2], head[3]]),
            reference_time: word(head, 4) >> 8,
            feedback_count: head[7],
            statuses,
        })
    }
}
