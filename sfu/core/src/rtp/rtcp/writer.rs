//! Writes RTCP packets behind one another into the caller's buffer.

use super::report::{ReportBlock, SenderInfo};
use super::source::{ITEM_CNAME, ITEM_END};
use super::{FirEntry, HEADER_LEN, PADDING_BIT, Pli, TransportFeedback, VERSION, fmt, pt};
use crate::rtp::params::Ssrc;

/// The most that the header's five bits can count.
const MAX_COUNT: usize = 31;

/// There is no room for a packet. Those written before stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for the packet")]
pub struct NoRoom;

/// A datagram of RTCP packets in the making. RFC 3550 §6.1 wants a report and a name in front, unless RFC 5506
/// was agreed: the caller sees to the order.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Writes at the front of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that are left.
    pub fn room(&self) -> usize {
        self.out.len() - self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A sender report of `ssrc` (RFC 3550 §6.4.1), with at most 31 blocks about others.
    pub fn sender_report(
        &mut self,
        ssrc: Ssrc,
        info: &SenderInfo,
        blocks: &[ReportBlock],
    ) -> Result<(), NoRoom> {
        self.packet(pt::SENDER_REPORT, |body| {
            body.ssrc(ssrc)?;
            body.bytes(&info.ntp.0.to_be_bytes())?;
            body.bytes(&info.rtp_time.to_be_bytes())?;
            body.bytes(&info.packets.to_be_bytes())?;
            body.bytes(&info.octets.to_be_bytes())?;
            body.blocks(blocks)
        })
    }

    /// A receiver report of `ssrc` (RFC 3550 §6.4.2), with at most 31 blocks.
    pub fn receiver_report(&mut self, ssrc: Ssrc, blocks: &[ReportBlock]) -> Result<(), NoRoom> {
        self.packet(pt::RECEIVER_REPORT, |body| {
            body.ssrc(ssrc)?;
            body.blocks(blocks)
        })
    }

    /// The canonical name of `ssrc` (RFC 3550 §6.5.1), at most 255 bytes.
    pub fn sdes_cname(&mut self, ssrc: Ssrc, cname: &str) -> Result<(), NoRoom> {
        let len = u8::try_from(cname.len()).map_err(|_| NoRoom)?;
        self.packet(pt::SOURCE_DESCRIPTION, |body| {
            body.ssrc(ssrc)?;
            body.bytes(&[ITEM_CNAME, len])?;
            body.bytes(cname.as_bytes())?;
            body.bytes(&[ITEM_END])?;
            body.pad(0)?;
            Ok(1)
        })
    }

    /// A goodbye of at most 31 streams (RFC 3550 §6.6).
    pub fn bye(&mut self, ssrcs: &[Ssrc]) -> Result<(), NoRoom> {
        self.packet(pt::BYE, |body| {
            for &ssrc in ssrcs {
                body.ssrc(ssrc)?;
            }
            count(ssrcs.len())
        })
    }

    /// A NACK of `seqs` (RFC 4585 §6.2.1), which must come in ascending order (modulo 2^16) to be packed well.
    /// Returns how many of them found room; with none, nothing is written.
    pub fn nack(&mut self, sender: Ssrc, media: Ssrc, seqs: &[u16]) -> Result<usize, NoRoom> {
        let mut named = 0;
        self.packet(pt::TRANSPORT_FEEDBACK, |body| {
            body.ssrc(sender)?;
            body.ssrc(media)?;
            while let Some(&pid) = seqs.get(named) {
                let (mask, taken) = nack_mask(pid, &seqs[named + 1..]);
                let [a, b] = pid.to_be_bytes();
                let [c, d] = mask.to_be_bytes();
                if body.bytes(&[a, b, c, d]).is_err() {
                    break;
                }
                named += 1 + taken;
            }
            if named == 0 { Err(NoRoom) } else { Ok(fmt::NACK) }
        })?;
        Ok(named)
    }

    /// Asks for a key frame (RFC 4585 §6.3.1).
    pub fn pli(&mut self, pli: Pli) -> Result<(), NoRoom> {
        self.packet(pt::PAYLOAD_FEEDBACK, |body| {
            body.ssrc(pli.sender)?;
            body.ssrc(pli.media)?;
            Ok(fmt::PLI)
        })
    }

    /// Asks for key frames (RFC 5104 §4.3.1).
    pub fn fir(&mut self, sender: Ssrc, entries: &[FirEntry]) -> Result<(), NoRoom> {
        self.packet(pt::PAYLOAD_FEEDBACK, |body| {
            body.ssrc(sender)?;
            // RFC 5104 §4.3.1.2: the media source is not used and shall be 0.
            body.ssrc(Ssrc(0))?;
            for entry in entries {
                body.ssrc(entry.media)?;
                body.bytes(&[entry.command, 0, 0, 0])?;
            }
            if entries.is_empty() { Err(NoRoom) } else { Ok(fmt::FIR) }
        })
    }

    /// Transport-wide feedback (TWCC draft-01 §3.1); its `statuses` are padded to a multiple of four bytes.
    pub fn transport_feedback(&mut self, feedback: &TransportFeedback<'_>) -> Result<(), NoRoom> {
        self.packet(pt::TRANSPORT_FEEDBACK, |body| {
            body.ssrc(feedback.sender)?;
            body.ssrc(feedback.media)?;
            body.bytes(&feedback.base_seq.to_be_bytes())?;
            body.bytes(&feedback.status_count.to_be_bytes())?;
            let time = feedback.reference_time << 8 | u32::from(feedback.feedback_count);
            body.bytes(&time.to_be_bytes())?;
            body.bytes(feedback.statuses)?;
            // As libwebrtc does: padding in RTCP's sense, so that the receiver knows where the deltas end.
            Ok(fmt::TRANSPORT_CC | body.pad_counted()?)
        })
    }

    /// Writes a packet: `fill` writes the body and returns the count or feedback message type (and possibly
    /// the padding bit). A packet that finds no room leaves no trace.
    #[inline]
    fn packet(
        &mut self,
        pt: u8,
        fill: impl FnOnce(&mut Body<'_>) -> Result<u8, NoRoom>,
    ) -> Result<(), NoRoom> {
        let (header, rest) = self.out[self.len..].split_first_chunk_mut().ok_or(NoRoom)?;
        let mut body = Body { out: rest, len: 0 };
        let flags = fill(&mut body)?;
        let words = u16::try_from(body.len / 4).map_err(|_| NoRoom)?.to_be_bytes();
        *header = [VERSION << 6 | flags, pt, words[0], words[1]];
        self.len += HEADER_LEN + body.len;
        Ok(())
    }
}

fn count(len: usize) -> Result<u8, NoRoom> {
    if len <= MAX_COUNT { Ok(len as u8) } else { Err(NoRoom) }
}

/// The bit mask of those of `seqs` that lie in the 16 behind `pid`, and how many they are.
fn nack_mask(pid: u16, seqs: &[u16]) -> (u16, usize) {
    let mut mask = 0;
    for (taken, seq) in seqs.iter().enumerate() {
        let bit = seq.wrapping_sub(pid).wrapping_sub(1);
        if bit >= 16 {
            return (mask, taken);
        }
        mask |= 1 << bit;
    }
    (mask, seqs.len())
}

/// A packet's body in the making.
struct Body<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Body<'_> {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end).ok_or(NoRoom)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn ssrc(&mut self, ssrc: Ssrc) -> Result<(), NoRoom> {
        self.bytes(&ssrc.0.to_be_bytes())
    }

    fn blocks(&mut self, blocks: &[ReportBlock]) -> Result<u8, NoRoom> {
        for block in blocks {
            self.bytes(&block.to_bytes())?;
        }
        count(blocks.len())
    }

    /// Fills up to a multiple of four bytes, the last one with `last`.
    fn pad(&mut self, last: u8) -> Result<u8, NoRoom> {
        let zeros = self.len.next_multiple_of(4) - self.len;
        let mut padding = [0; 3];
        if zeros > 0 {
            padding[zeros - 1] = last;
        }
        self.bytes(&padding[..zeros])?;
        Ok(zeros as u8)
    }

    /// Fills up to a multiple of four bytes with RTCP padding (RFC 3550 §6.4.1) and returns the padding bit.
    fn pad_counted(&mut self) -> Result<u8, NoRoom> {
        let zeros = self.len.next_multiple_of(4) - self.len;
        self.pad(zeros as u8)?;
        Ok(if zeros > 0 { PADDING_BIT } else { 0 })
    }
}
