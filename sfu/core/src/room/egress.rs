//! What goes out: the next name in a link's queue becomes a packet, numbered and stamped at this moment.

use std::time::Instant;

use super::link::{Queued, Turn, WIRE_OVERHEAD};
use super::room::{ParticipantKey, Room};
use super::subscription::{DownKey, Subscription};
use crate::cc::pacer::{Entry, Priority};
use crate::track::StreamKey;

/// What a plaintext is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// RTP, to be protected as SRTP.
    Rtp,
    /// RTCP, to be protected as SRTCP.
    Rtcp,
}

/// A plaintext that [`Room::poll_packet`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Whom it is for.
    pub to: ParticipantKey,
    /// What it is.
    pub kind: PacketKind,
    /// How urgent it is; reports and feedback are as urgent as sound.
    pub priority: Priority,
    /// Bytes written.
    pub len: usize,
}

/// What would fit a batch that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Whom the batch is for.
    pub to: ParticipantKey,
    /// Longest plaintext that fits.
    pub max_len: usize,
}

/// Longest compound of reports and feedback, bytes: with SRTCP's index and tag it stays below 1232.
const MAX_RTCP: usize = 1200;

impl Room {
    /// Writes the next packet that leaves, as plaintext. A link that had its turn keeps it while it has
    /// packets, so that those to one receiver come in a row. With `fit`, only a packet of media that fits it;
    /// one that does not stays queued.
    pub fn poll_packet(&mut self, now: Instant, fit: Option<Fit>, out: &mut [u8]) -> Option<Outgoing> {
        if let Some(Fit { to, max_len }) = fit {
            // Its turn has ended where nothing waits any more.
            self.ready.front().filter(|&&first| first == to)?;
            let (priority, len) = self.depart(now, to, max_len, out)?;
            return Some(Outgoing { to, kind: PacketKind::Rtp, priority, len });
        }
        self.poll_rtcp(now, out).or_else(|| self.poll_rtp(now, out))
    }

    fn poll_rtcp(&mut self, now: Instant, out: &mut [u8]) -> Option<Outgoing> {
        let room = out.len().min(MAX_RTCP);
        while let Some(&to) = self.reporting.front() {
            let len = self.write_rtcp(now, to, &mut out[..room]);
            if len > 0 {
                self.stats.rtcp_out += 1;
                return Some(Outgoing { to, kind: PacketKind::Rtcp, priority: Priority::Audio, len });
            }
            self.reporting.pop_front();
            if let Some(participant) = self.participants.get_mut(to) {
                participant.reports.queued = false;
            }
        }
        None
    }

    fn poll_rtp(&mut self, now: Instant, out: &mut [u8]) -> Option<Outgoing> {
        while let Some(&to) = self.ready.front() {
            if let Some((priority, len)) = self.depart(now, to, usize::MAX, out) {
                return Some(Outgoing { to, kind: PacketKind::Rtp, priority, len });
            }
            // Its turn has ended, unless what waits has to.
            if self.ready.front() != Some(&to) {
                continue;
            }
            self.ready.pop_front();
            let Some(participant) = self.participants.get_mut(to) else { continue };
            participant.link.turn = if participant.link.pacer.is_empty() {
                Turn::Idle
            } else {
                self.waiting.push(to);
                Turn::Waiting
            };
        }
        None
    }

    /// Writes the next packet of the participant whose turn it is, which ends with its last one. What can no longer
    /// leave is dropped on the way to it.
    fn depart(
        &mut self,
        now: Instant,
        to: ParticipantKey,
        max_len: usize,
        out: &mut [u8],
    ) -> Option<(Priority, usize)> {
        // A queued packet is at most as long as it was when it was queued: its m-line is named or no longer is.
        let max_size = max_len.saturating_add(WIRE_OVERHEAD);
        loop {
            let link = &mut self.participants.get_mut(to)?.link;
            let Entry { priority, item, .. } = link.pacer.pop_within(now, max_size)?;
            if link.pacer.is_empty() {
                link.turn = Turn::Idle;
                self.ready.pop_front();
            }
            let written = match item {
                Queued::Media { down, stream, seq } => self.write_media(now, down, stream, seq, out),
                Queued::Again { down, seq } => self.write_again(now, down, seq, out),
            };
            if let Some(len) = written {
                debug_assert!(len <= max_len, "it was let out because it fits");
                self.departed(now, to, len, priority == Priority::Audio);
                self.stats.packets_out += 1;
                self.stats.bytes_out += len as u64;
                return Some((priority, len));
            }
        }
    }

    fn write_media(
        &mut self,
        now: Instant,
        key: DownKey,
        stream: StreamKey,
        seq: u64,
        out: &mut [u8],
    ) -> Option<usize> {
        let Some(Subscription { down, to, track, .. }) = self.downs.get_mut(key) else {
            self.stats.dropped_unsubscribed += 1;
            return None;
        };
        let Some(packet) = self.tracks[*track].up.packet(stream, seq) else {
            self.stats.dropped_stale += 1;
            self.give_up(now, key, stream, seq);
            return None;
        };
        let clock = self.clock.at(now);
        let mut moment = self.participants[*to].link.moment(clock);
        let written = down.depart(&mut moment, stream, packet, out);
        if written.is_none() {
            self.stats.dropped_unsendable += 1;
            self.give_up(now, key, stream, seq);
        }
        written
    }

    fn write_again(&mut self, now: Instant, key: DownKey, seq: u64, out: &mut [u8]) -> Option<usize> {
        let Some(Subscription { down, to, track, .. }) = self.downs.get_mut(key) else {
            self.stats.dropped_unsubscribed += 1;
            return None;
        };
        let written = down.departure(seq).and_then(|departure| {
            let packet = self.tracks[*track].up.packet(departure.stream, departure.source_seq)?;
            let clock = self.clock.at(now);
            let mut moment = self.participants[*to].link.moment(clock);
            down.depart_again(&mut moment, &departure, packet, out)
        });
        match written {
            Some(_) => self.stats.resent_out += 1,
            None => self.stats.dropped_stale += 1,
        }
        written
    }
}
