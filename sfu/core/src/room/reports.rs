//! RTCP to the participants: reports each second, and what publishers are asked for. What is due at the same
//! time leaves in the same datagram (RFC 3550 §6.1; without a report in front where none is due, RFC 5506).

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::participant::Participant;
use super::room::{ParticipantKey, Published, Room, TrackKey};
use super::streams;
use super::subscription::Subscription;
use super::table::Table;
use crate::cc::twcc::ArrivalRecorder;
use crate::rtp::params::{MAX_ENCODINGS, Ssrc};
use crate::rtp::rtcp::{NoRoom, Pli, ReportBlock, Writer};
use crate::track::nack::MAX_MISSING;

/// Our SSRC where we only receive, and our name. Browsers tell reports apart by the SSRCs they are about;
/// libwebrtc itself uses 1 in this place.
const RECEIVER_SSRC: Ssrc = Ssrc(1);
const RECEIVER_CNAME: &str = "lectern";

/// Between two looks at all participants: what becomes due in between shares a datagram.
const TICK: Duration = Duration::from_millis(5);

/// Between two requests for the same packet while the round trip is unknown, and its bounds.
const RETRY: Duration = Duration::from_millis(100);
const MIN_RETRY: Duration = Duration::from_millis(40);
const MAX_RETRY: Duration = Duration::from_millis(400);

/// Blocks in a receiver report (RFC 3550 §6.4.2): the count has five bits.
const MAX_BLOCKS: usize = 31;

/// A track reports on media and retransmissions of each encoding.
const BLOCKS_PER_TRACK: usize = 2 * MAX_ENCODINGS;

/// A sender report without blocks and the longest name.
const SENDER_REPORT_LEN: usize = 28 + 8 + 2 + 32 + 2;

const PLI_LEN: usize = 12;
const NACK_HEADER_LEN: usize = 12;
const NACK_ENTRY_LEN: usize = 4;

/// The least room for transport-wide feedback: below, it waits for the next datagram.
const MIN_TRANSPORT_FEEDBACK: usize = 200;

impl Room {
    /// Lines up everybody who has something due, and finds out when that will be the case again.
    pub(super) fn queue_feedback(&mut self, now: Instant) {
        let mut next = None;
        for (key, participant) in self.participants.iter_mut() {
            let reports = &mut participant.reports;
            let reporting = reports.next <= now;
            if reporting {
                (reports.track, reports.subscription) = (0, 0);
                for &track in &participant.tracks {
                    // Frame rates change unnoticed, and an unanswered request for a key frame ends.
                    self.tracks[track].up.look_again();
                    streams::judge(now, &self.tracks[track], &mut self.downs, &mut self.events);
                }
                reports.next += self.config.report_interval;
                if reports.next <= now {
                    // After a long sleep one report is enough.
                    reports.next = now + self.config.report_interval;
                }
            }
            let due = feedback_due(now, participant, &self.tracks);
            if (reporting || due.is_some_and(|due| due <= now)) && !participant.reports.queued {
                participant.reports.queued = true;
                self.reporting.push_back(key);
            }
            // What is due now says when it is again once it was written.
            let later = due.filter(|&due| due > now);
            next = later.into_iter().chain([participant.reports.next]).chain(next).min();
        }
        self.feedback_due = next.map(|next| next.max(now + TICK));
    }

    /// Writes what is due to a participant, as much as one datagram holds. Returns 0 when nothing is left.
    pub(super) fn write_rtcp(&mut self, now: Instant, to: ParticipantKey, out: &mut [u8]) -> usize {
        if !self.participants.contains_key(to) {
            return 0;
        }
        let mut writer = Writer::new(out);
        // Each writes what finds room, and leaves the rest for the next datagram.
        let full = self
            .write_receiver_report(now, to, &mut writer)
            .and_then(|()| self.write_sender_reports(now, to, &mut writer))
            .and_then(|()| self.write_requests(now, to, &mut writer))
            .is_err();
        let len = writer.len();
        let len = if full { len } else { len + self.write_transport_feedback(now, to, &mut out[len..]) };
        if len == 0 {
            let due = feedback_due(now, &self.participants[to], &self.tracks);
            due.into_iter().for_each(|due| self.feedback_by(due.max(now + TICK)));
        }
        len
    }

    /// How the participant's own streams arrive here.
    fn write_receiver_report(
        &mut self,
        now: Instant,
        to: ParticipantKey,
        writer: &mut Writer<'_>,
    ) -> Result<(), NoRoom> {
        let Participant { tracks, reports, .. } = &mut self.participants[to];
        let mut blocks = ArrayVec::<ReportBlock, MAX_BLOCKS>::new();
        while let Some(&track) = tracks.get(reports.track)
            && blocks.remaining_capacity() >= BLOCKS_PER_TRACK
        {
            let encodings = self.tracks[track].up.encodings_mut().iter_mut();
            blocks.extend(encodings.flat_map(|encoding| encoding.reports(now)));
            reports.track += 1;
        }
        if blocks.is_empty() {
            return Ok(());
        }
        writer.receiver_report(RECEIVER_SSRC, &blocks)?;
        writer.sdes_cname(RECEIVER_SSRC, RECEIVER_CNAME)
    }

    /// The clocks and counters of what the participant receives.
    fn write_sender_reports(
        &mut self,
        now: Instant,
        to: ParticipantKey,
        writer: &mut Writer<'_>,
    ) -> Result<(), NoRoom> {
        loop {
            let Participant { subscriptions, reports, .. } = &mut self.participants[to];
            let Some(&down) = subscriptions.get(reports.subscription) else { return Ok(()) };
            if writer.room() < SENDER_REPORT_LEN {
                return Err(NoRoom);
            }
            reports.subscription += 1;
            let Subscription { down, track, .. } = &mut self.downs[down];
            let published = &self.tracks[*track];
            let Some(info) = down.sender_report(now, &published.up) else { continue };
            let ssrc = down.params().ssrc;
            writer.sender_report(ssrc, &info, &[])?;
            writer.sdes_cname(ssrc, &self.participants[published.from].cname)?;
        }
    }

    /// What the participant is to send again or anew.
    fn write_requests(
        &mut self,
        now: Instant,
        to: ParticipantKey,
        writer: &mut Writer<'_>,
    ) -> Result<(), NoRoom> {
        let Participant { tracks, link, .. } = &self.participants[to];
        let retry = link.rtt.map_or(RETRY, |rtt| rtt.clamp(MIN_RETRY, MAX_RETRY));
        for &track in tracks {
            for encoding in self.tracks[track].up.encodings_mut() {
                let Some(media) = encoding.params().ssrc else { continue };
                if encoding.poll_timeout(now).is_none_or(|due| due > now) {
                    continue;
                }
                if writer.room() < PLI_LEN + NACK_HEADER_LEN + NACK_ENTRY_LEN {
                    return Err(NoRoom);
                }
                if encoding.key_frame().poll(now) {
                    writer.pli(Pli { sender: RECEIVER_SSRC, media })?;
                    self.stats.key_frames_asked_of_publishers += 1;
                }
                let entries = (writer.room() - NACK_HEADER_LEN) / NACK_ENTRY_LEN;
                let mut missing = ArrayVec::<u16, MAX_MISSING>::new();
                encoding.collect_missing(now, retry, |seq| {
                    let fits = missing.len() < entries && !missing.is_full();
                    if fits {
                        missing.push(seq as u16);
                    }
                    fits
                });
                if !missing.is_empty() {
                    writer.nack(RECEIVER_SSRC, media, &missing)?;
                    self.stats.nacked_to_publishers += missing.len() as u64;
                }
            }
        }
        Ok(())
    }

    /// When the participant's packets arrived.
    fn write_transport_feedback(&mut self, now: Instant, to: ParticipantKey, out: &mut [u8]) -> usize {
        let Participant { tracks, arrivals, .. } = &mut self.participants[to];
        let Some(arrivals) = arrivals.as_mut().filter(|_| out.len() >= MIN_TRANSPORT_FEEDBACK) else {
            return 0;
        };
        let encodings = tracks.iter().flat_map(|&track| self.tracks[track].up.encodings());
        let media = encodings.filter_map(|encoding| encoding.params().ssrc).next().unwrap_or(RECEIVER_SSRC);
        arrivals.poll_feedback(now, RECEIVER_SSRC, media, out).unwrap_or(0)
    }
}

/// When a publisher is to be told or asked something besides the reports.
fn feedback_due(
    now: Instant,
    participant: &Participant,
    tracks: &Table<TrackKey, Published>,
) -> Option<Instant> {
    let arrivals = participant.arrivals.as_ref().and_then(ArrivalRecorder::poll_timeout);
    let encodings = participant.tracks.iter().flat_map(|&track| tracks[track].up.encodings());
    let asked = encodings.filter_map(|encoding| encoding.poll_timeout(now)).min();
    arrivals.into_iter().chain(asked).min()
}
