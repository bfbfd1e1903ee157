//! Sender and receiver reports (RFC 3550 §6.4).

use std::time::Duration;

use super::{ParseError, word};
use crate::rtp::params::Ssrc;

const SENDER_LEN: usize = 24;
const BLOCK_LEN: usize = 24;

/// A wall-clock time as NTP writes it: seconds since an epoch, in 32.32 fixed point. RFC 3550 §4 lets a sender
/// without a wall clock count from any moment, as long as all of its streams share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// From the time since the epoch.
    pub fn from_duration(since: Duration) -> Self {
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        Self(since.as_secs() << 32 | fraction)
    }

    /// The middle 32 bits, in units of 1/65536 s: what report blocks carry.
    #[inline]
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// A span in units of 1/65536 s, as report blocks carry it; the longest they can where it is longer.
fn to_middle(span: Duration) -> u32 {
    let units = (span.as_nanos() << 16) / 1_000_000_000;
    u32::try_from(units).unwrap_or(u32::MAX)
}

fn from_middle(units: u32) -> Duration {
    Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16)
}

/// What a sender says about its own stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// When it said so.
    pub ntp: NtpTime,
    /// The same moment on the clock of the stream's timestamps.
    pub rtp_time: u32,
    /// Packets sent since it began, modulo 2^32.
    pub packets: u32,
    /// Payload bytes sent since it began, without headers and padding, modulo 2^32.
    pub octets: u32,
}

/// A sender report.
#[derive(Clone, Copy, Debug)]
pub struct SenderReport<'a> {
    /// The stream.
    pub ssrc: Ssrc,
    /// What its sender says about it.
    pub info: SenderInfo,
    blocks: &'a [u8],
}

impl<'a> SenderReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, ParseError> {
        let (sender, rest) = body.split_at_checked(SENDER_LEN).ok_or(ParseError::SenderReport)?;
        Ok(Self {
            ssrc: Ssrc(word(sender, 0)),
            info: SenderInfo {
                ntp: NtpTime(u64::from(word(sender, 4)) << 32 | u64::from(word(sender, 8))),
                rtp_time: word(sender, 12),
                packets: word(sender, 16),
                octets: word(sender, 20),
            },
            blocks: blocks(count, rest)?,
        })
    }

    /// What the sender received from others, at most 31 blocks.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        self.blocks.chunks_exact(BLOCK_LEN).map(ReportBlock::parse)
    }
}

/// A receiver report.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverReport<'a> {
    /// Who reports.
    pub ssrc: Ssrc,
    blocks: &'a [u8],
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, ParseError> {
        let (ssrc, rest) = body.split_at_checked(4).ok_or(ParseError::ReceiverReport)?;
        Ok(Self { ssrc: Ssrc(word(ssrc, 0)), blocks: blocks(count, rest)? })
    }

    /// What was received, at most 31 blocks.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        self.blocks.chunks_exact(BLOCK_LEN).map(ReportBlock::parse)
    }
}

/// The report blocks; extensions of a profile behind them are left out.
fn blocks(count: u8, rest: &[u8]) -> Result<&[u8], ParseError> {
    rest.get(..usize::from(count) * BLOCK_LEN).ok_or(ParseError::ReportBlocks)
}

/// What a receiver says about one stream.
///
/// ```text
/// |                           SSRC                                |
/// | fraction lost |       cumulative number of packets lost       |
/// |           extended highest sequence number received           |
/// |                      interarrival jitter                      |
/// |                         last SR (LSR)                         |
/// |                   delay since last SR (DLSR)                  |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: Ssrc,
    /// Packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the stream began, a signed 24-bit number: duplicates make it sink.
    pub cumulative_lost: i32,
    /// The highest sequence number received, its wraps counted in the upper 16 bits.
    pub highest_seq: u32,
    /// Interarrival jitter in ticks of the stream's clock (RFC 3550 §6.4.1).
    pub jitter: u32,
    /// [`NtpTime::middle`] of the last sender report that arrived, 0 where none did.
    pub last_sr: u32,
    /// How long before this report it arrived, in 1/65536 s.
    pub delay_since_sr: u32,
}

impl ReportBlock {
    fn parse(block: &[u8]) -> Self {
        let lost = word(block, 4);
        Self {
            ssrc: Ssrc(word(block, 0)),
            fraction_lost: (lost >> 24) as u8,
            // Shifted up and down again, so that the 24-bit sign spreads.
            cumulative_lost: (lost << 8) as i32 >> 8,
            highest_seq: word(block, 8),
            jitter: word(block, 12),
            last_sr: word(block, 16),
            delay_since_sr: word(block, 20),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; BLOCK_LEN] {
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        let words = [
            self.ssrc.0,
            u32::from(self.fraction_lost) << 24 | lost,
            self.highest_seq,
            self.jitter,
            self.last_sr,
            self.delay_since_sr,
        ];
        let mut bytes = [0; BLOCK_LEN];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Fills in what the receiver last heard of the sender: `ntp` of its report, `ago` before now.
    pub fn with_last_sr(self, ntp: NtpTime, ago: Duration) -> Self {
        Self { last_sr: ntp.middle(), delay_since_sr: to_middle(ago), ..self }
    }

    /// The round trip that this block proves to the sender whose clock stands at `now` (RFC 3550 §6.4.1).
    /// `None` where the receiver has heard no report, or its delay is longer than the time gone by.
    pub fn round_trip(&self, now: NtpTime) -> Option<Duration> {
        let gone = now.middle().wrapping_sub(self.last_sr).wrapping_sub(self.delay_since_sr);
        // More than half a cycle (9 h) is a negative number.
        (self.last_sr != 0 && gone < 1 << 31).then(|| from_middle(gone))
    }
}
