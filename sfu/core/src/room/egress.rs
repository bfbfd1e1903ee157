//! What goes out: the next name in a link's queue becomes a packet, numbered and stamped at this moment.

use std::time::Instant;

use super::link::{Own, Queued, Turn, WIRE_OVERHEAD};
use super::room::{ParticipantKey, Published, Room, TrackKey};
use super::subscription::{DownKey, Subscription};
use super::table::Table;
use crate::cc::pacer::{Entry, Priority};
use crate::forward::down_track::{DownTrack, Moment};
use crate::forward::repacketiser::Makeup;
use crate::forward::rtx::Departure;
use crate::track::StreamKey;
use crate::track::up_track::UpTrack;

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
    /// Whether it is media, and another packet of media waits for the same participant, though perhaps not to
    /// leave at once.
    pub more: bool,
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
            return self.depart(now, to, max_len, out);
        }
        self.poll_rtcp(now, out).or_else(|| self.poll_rtp(now, out))
    }

    fn poll_rtcp(&mut self, now: Instant, out: &mut [u8]) -> Option<Outgoing> {
        let room = out.len().min(MAX_RTCP);
        while let Some(&to) = self.reporting.front() {
            let len = self.write_rtcp(now, to, &mut out[..room]);
            if len > 0 {
                self.stats.rtcp_out += 1;
                return Some(Outgoing {
                    to,
                    kind: PacketKind::Rtcp,
                    priority: Priority::Audio,
                    len,
                    more: false,
                });
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
            if let Some(outgoing) = self.depart(now, to, usize::MAX, out) {
                return Some(outgoing);
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
    ) -> Option<Outgoing> {
        // A queued packet is at most as long as it was when it was queued: its m-line is named or no longer is.
        let max_size = max_len.saturating_add(WIRE_OVERHEAD);
        loop {
            let link = &mut self.participants.get_mut(to)?.link;
            let Entry { priority, item, .. } = link.pacer.pop_within(now, max_size)?;
            let more = !link.pacer.is_empty();
            if !more {
                link.turn = Turn::Idle;
                self.ready.pop_front();
            }
            let mut moment = link.moment(self.clock.at(now));
            let written = match item {
                Queued::Media { down, stream, named } => {
                    let name = (down, stream, named.seq());
                    match named.makeup() {
                        Makeup::SINGLE => write_media(&self.tracks, &mut self.downs, &mut moment, name, out),
                        makeup => {
                            let name = (name, makeup);
                            let written =
                                write_composed(&self.tracks, &mut self.downs, &mut moment, name, out);
                            self.stats.merged_out += u64::from(written.is_ok() && makeup.packets() > 1);
                            self.stats.redundant_out += u64::from(written.is_ok() && makeup.repeated() > 0);
                            written
                        }
                    }
                }
                Queued::Own { down, packet } => {
                    write_own(&self.tracks, &mut self.downs, &mut moment, (down, packet), out)
                }
            };
            let len = match written {
                Ok(len) => len,
                Err(why) => {
                    self.not_written(now, &item, why);
                    continue;
                }
            };
            debug_assert!(len <= max_len, "it was let out because it fits");
            if let Some(due) = link.departed(now, len, priority) {
                self.links_due = Some(self.links_due.map_or(due, |earlier| earlier.min(due)));
            }
            self.stats.resent_out +=
                u64::from(matches!(item, Queued::Own { packet, .. } if packet.padding_len() == 0));
            self.stats.packets_out += 1;
            self.stats.bytes_out += len as u64;
            return Some(Outgoing { to, kind: PacketKind::Rtp, priority, len, more });
        }
    }

    #[cold]
    fn not_written(&mut self, now: Instant, item: &Queued, why: NotWritten) {
        match why {
            NotWritten::Unsubscribed => self.stats.dropped_unsubscribed += 1,
            NotWritten::Stale => self.stats.dropped_stale += 1,
            NotWritten::Unsendable => self.stats.dropped_unsendable += 1,
        }
        if let &Queued::Media { down, stream, named } = item {
            self.give_up(now, down, stream, named.seq());
        }
    }
}

/// Why a queued packet does not leave.
#[derive(Clone, Copy, Debug)]
enum NotWritten {
    /// Its subscription has ended.
    Unsubscribed,
    /// Its payload is gone, or what it was sent as before.
    Stale,
    /// It has no number or payload type.
    Unsendable,
}

#[inline]
fn write_media(
    tracks: &Table<TrackKey, Published>,
    downs: &mut Table<DownKey, Subscription>,
    moment: &mut Moment<'_>,
    (key, stream, seq): (DownKey, StreamKey, u64),
    out: &mut [u8],
) -> Result<usize, NotWritten> {
    let Subscription { down, track, .. } = downs.get_mut(key).ok_or(NotWritten::Unsubscribed)?;
    let packet = tracks[*track].up.packet(stream, seq).ok_or(NotWritten::Stale)?;
    down.depart(moment, stream, packet, out).ok_or(NotWritten::Unsendable)
}

#[cold]
fn write_composed(
    tracks: &Table<TrackKey, Published>,
    downs: &mut Table<DownKey, Subscription>,
    moment: &mut Moment<'_>,
    ((key, stream, first), makeup): ((DownKey, StreamKey, u64), Makeup),
    out: &mut [u8],
) -> Result<usize, NotWritten> {
    let Subscription { down, track, .. } = downs.get_mut(key).ok_or(NotWritten::Unsubscribed)?;
    let composed = down.compose(&tracks[*track].up, stream, first, makeup).ok_or(NotWritten::Stale)?;
    down.depart_as(moment, stream, makeup, composed.packet(), out).ok_or(NotWritten::Unsendable)
}

fn write_own(
    tracks: &Table<TrackKey, Published>,
    downs: &mut Table<DownKey, Subscription>,
    moment: &mut Moment<'_>,
    (key, own): (DownKey, Own),
    out: &mut [u8],
) -> Result<usize, NotWritten> {
    let Subscription { down, track, .. } = downs.get_mut(key).ok_or(NotWritten::Unsubscribed)?;
    let padding = own.padding_len();
    if padding > 0 {
        return down.pad(moment, padding, out).ok_or(NotWritten::Unsendable);
    }
    let departure = down.departure(own.seq()).ok_or(NotWritten::Stale)?;
    let up = &tracks[*track].up;
    if departure.makeup != Makeup::SINGLE {
        return write_composed_again(up, down, moment, &departure, out);
    }
    let packet = up.packet(departure.stream, departure.source_seq).ok_or(NotWritten::Stale)?;
    down.depart_again(moment, &departure, packet, out).ok_or(NotWritten::Stale)
}

/// Sound that was packed is resent as it was.
#[cold]
fn write_composed_again(
    up: &UpTrack,
    down: &mut DownTrack,
    moment: &mut Moment<'_>,
    departure: &Departure,
    out: &mut [u8],
) -> Result<usize, NotWritten> {
    let Departure { stream, source_seq, makeup, .. } = *departure;
    let composed = down.compose(up, stream, source_seq, makeup).ok_or(NotWritten::Stale)?;
    down.depart_again(moment, departure, composed.packet(), out).ok_or(NotWritten::Stale)
}
