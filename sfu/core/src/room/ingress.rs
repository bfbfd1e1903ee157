//! What comes in: media is taken in and fanned out to those who receive it, feedback goes to the tracks that it
//! is about.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::link::{Own, Queued};
use super::participant::Route;
use super::room::{ParticipantKey, Room, RoomEvent};
use super::subscription::{DownKey, Subscription};
use crate::cc::pacer::Priority;
use crate::forward::down_track::DownTrack;
use crate::forward::repacketiser::Makeup;
use crate::forward::rtx::{Departure, NotResent};
use crate::rtp::ext::Values;
use crate::rtp::packet::{ParseError, RtpView};
use crate::rtp::params::Ssrc;
use crate::rtp::rtcp::{self, Nack, ReportBlock, Rtcp, SenderReport};
use crate::track::up_track::{ReceiveError, StreamRole, UpTrack};

/// Why a packet of media goes no further. Each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum RtpError {
    /// No such participant.
    #[error("no such participant")]
    UnknownParticipant,
    /// It is not RTP.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// Its SSRC was not negotiated, and it does not say where it belongs.
    #[error("unknown SSRC")]
    UnknownSsrc,
    /// Its track has no use for it.
    #[error(transparent)]
    Refused(#[from] ReceiveError),
}

impl Room {
    /// A packet of media arrived, decrypted.
    pub fn handle_rtp(&mut self, now: Instant, from: ParticipantKey, packet: &[u8]) -> Result<(), RtpError> {
        self.stats.packets_in += 1;
        self.stats.bytes_in += packet.len() as u64;
        let outcome = self.take_in(now, from, packet);
        match outcome {
            Ok(()) => {}
            Err(RtpError::Refused(ReceiveError::RtxPadding)) => {
                // Nothing is wrong with a probe: it has done its work by arriving.
                self.stats.padding_in += 1;
                return Ok(());
            }
            Err(RtpError::Refused(ReceiveError::Duplicate)) => self.stats.duplicates_in += 1,
            Err(_) => self.stats.refused_in += 1,
        }
        outcome
    }

    /// Reports and feedback arrived, decrypted. What is malformed in it, or about streams that are not there,
    /// is counted and left out.
    pub fn handle_rtcp(&mut self, now: Instant, from: ParticipantKey, packet: &[u8]) {
        if let Some(from) = self.participants.get_mut(from) {
            from.health.hear(now);
        }
        for item in rtcp::packets(packet) {
            let Ok(item) = item else {
                self.stats.rtcp_malformed += 1;
                continue;
            };
            match item {
                Rtcp::SenderReport(report) => self.on_sender_report(now, from, &report),
                Rtcp::ReceiverReport(report) => self.on_report_blocks(now, from, report.blocks()),
                Rtcp::Nack(nack) => self.on_nack(now, from, &nack),
                Rtcp::Pli(pli) => self.on_key_frame_request(now, from, pli.media),
                // A repeated command is caught by what keeps PLI from being answered too often.
                Rtcp::Fir(fir) => {
                    fir.entries().for_each(|entry| self.on_key_frame_request(now, from, entry.media));
                }
                Rtcp::TransportFeedback(feedback) => self.on_transport_feedback(now, from, &feedback),
                // Signaling says who leaves; what REMB says, transport-wide feedback says better.
                Rtcp::Sdes(_) | Rtcp::Bye(_) | Rtcp::Remb(_) => {}
                Rtcp::Unknown { .. } => self.stats.rtcp_unknown += 1,
            }
        }
    }

    fn take_in(&mut self, now: Instant, from: ParticipantKey, packet: &[u8]) -> Result<(), RtpError> {
        let packet = RtpView::parse(packet)?;
        let participant = self.participants.get_mut(from).ok_or(RtpError::UnknownParticipant)?;
        participant.health.hear(now);
        let values = Values::read(packet.extensions(), &participant.extensions);
        if let (Some(arrivals), Some(seq)) = (&mut participant.arrivals, values.transport_cc) {
            arrivals.record(now, seq);
        }
        let due = participant.arrivals.as_ref().and_then(|arrivals| arrivals.poll_timeout());
        let route = participant.routes.get(&packet.ssrc()).copied();
        due.into_iter().for_each(|due| self.feedback_by(due));
        let route = match route {
            Some(route) => route,
            None => self.learn(now, from, &packet, &values)?,
        };

        let published = &mut self.tracks[route.track];
        let arrival = published.up.receive(now, route.encoding, route.role, &packet, &values)?;
        if published.up.take_started() {
            let track = published.up.id();
            self.events.push_back(RoomEvent::TrackStarted { participant: from, track });
        }
        self.stats.repaired_in += u64::from(route.role == StreamRole::Rtx);
        self.hear(now, route.track, &arrival.facts);
        self.fan_out(now, route.track, &arrival);
        let encoding = &self.tracks[route.track].up.encodings()[usize::from(route.encoding)];
        encoding.poll_timeout(now).into_iter().for_each(|due| self.feedback_by(due));
        Ok(())
    }

    /// Finds out where an unknown SSRC belongs, by its m-line and encoding (RFC 8843 §9.2, RFC 8852) or by a
    /// payload type that only one track has. The table cannot grow: what had that place before has lost it.
    #[cold]
    fn learn(
        &mut self,
        now: Instant,
        from: ParticipantKey,
        packet: &RtpView<'_>,
        values: &Values<'_>,
    ) -> Result<Route, RtpError> {
        let participant = self.participants.get_mut(from).ok_or(RtpError::UnknownParticipant)?;
        let mut candidates = participant.tracks.iter().filter_map(|&track| {
            let up = &self.tracks[track].up;
            let named = values.mid.is_none_or(|mid| up.params().mid.as_str() == mid);
            let (encoding, role) = up.place(packet, values).filter(|_| named)?;
            Some(Route { track, encoding, role })
        });
        let route = candidates.next().ok_or(RtpError::UnknownSsrc)?;
        if values.mid.is_none() && candidates.next().is_some() {
            return Err(RtpError::UnknownSsrc);
        }
        let before = self.tracks[route.track].up.learn(now, route.encoding, route.role, packet.ssrc())?;
        before.into_iter().for_each(|before| {
            participant.routes.remove(&before);
        });
        participant.routes.insert(packet.ssrc(), route);
        Ok(route)
    }

    fn on_sender_report(&mut self, now: Instant, from: ParticipantKey, report: &SenderReport<'_>) {
        let route = self.participants.get(from).and_then(|from| from.routes.get(&report.ssrc).copied());
        match route {
            Some(Route { track, encoding, role: StreamRole::Media }) => {
                let encoding = &mut self.tracks[track].up.encodings_mut()[usize::from(encoding)];
                encoding.on_sender_report(now, report.info.ntp, report.info.rtp_time);
                let published = &self.tracks[track];
                for &down in &published.subscribers {
                    self.downs[down].down.on_clock(&published.up);
                }
            }
            Some(_) => {}
            None => self.stats.rtcp_foreign += 1,
        }
        self.on_report_blocks(now, from, report.blocks());
    }

    fn on_report_blocks(
        &mut self,
        now: Instant,
        from: ParticipantKey,
        blocks: impl Iterator<Item = ReportBlock>,
    ) {
        for block in blocks {
            let Some((_, down)) = self.sent(from, block.ssrc) else {
                self.stats.rtcp_foreign += 1;
                continue;
            };
            let down = &mut self.downs[down].down;
            // Reports on retransmissions prove nothing that those on the media do not.
            if down.params().ssrc == block.ssrc
                && let Some(rtt) = down.on_report_block(now, &block)
            {
                self.participants[from].link.rtt = Some(rtt);
            }
        }
    }

    /// A receiver misses packets: those that can still be of use are queued once more.
    fn on_nack(&mut self, now: Instant, from: ParticipantKey, nack: &Nack<'_>) {
        // Numbers of retransmissions are another sequence: nothing is resent for those.
        let media = |&(_, key): &(_, DownKey)| self.downs[key].down.params().ssrc == nack.media;
        let Some((rtt, key)) = self.sent(from, nack.media).filter(media) else {
            self.stats.rtcp_foreign += 1;
            return;
        };
        let clock = self.clock.at(now);
        for seq in nack.seqs() {
            self.stats.nacked_by_receivers += 1;
            let Subscription { down, track, .. } = &mut self.downs[key];
            let departure = match down.on_nack(clock.millis, seq, rtt) {
                Ok(departure) => departure,
                Err(NotResent::TooSoon) => {
                    self.stats.not_resent_too_soon += 1;
                    continue;
                }
                Err(NotResent::Unknown | NotResent::TooLate) => {
                    self.stats.not_resent_gone += 1;
                    continue;
                }
            };
            let up = &self.tracks[*track].up;
            let size = if departure.makeup == Makeup::SINGLE {
                let packet = up.packet(departure.stream, departure.source_seq);
                packet.map(|(facts, payload)| down.resent_len(&departure, facts, payload.len()))
            } else {
                composed_len(up, down, &departure)
            };
            let Some(size) = size else {
                self.stats.not_resent_gone += 1;
                continue;
            };
            let item = Queued::Own { down: key, packet: Own::again(departure.seq) };
            self.queue(now, from, Priority::Resent, size, item);
        }
    }

    fn on_key_frame_request(&mut self, now: Instant, from: ParticipantKey, media: Ssrc) {
        let Some((_, key)) = self.sent(from, media) else {
            self.stats.rtcp_foreign += 1;
            return;
        };
        self.stats.key_frames_asked_by_receivers += 1;
        let Subscription { down, track, .. } = &mut self.downs[key];
        let (track, encodings) = (*track, down.key_frame_encodings());
        // A receiver repeats itself until it has one (libwebrtc: each 200 ms). That costs nobody another one.
        if self.tracks[track].up.wants_key_frames(encodings) {
            return;
        }
        // What it waits for may still wait here, as a page of slides does on a thin link: another key frame would
        // only come behind it.
        if self.participants[from].link.holds(key) {
            return;
        }
        if down.on_key_frame_request(now) {
            self.want_key_frames(now, track, encodings);
        }
    }

    /// What a participant receives with this SSRC, and the round trip to it.
    fn sent(&self, to: ParticipantKey, ssrc: Ssrc) -> Option<(Option<Duration>, DownKey)> {
        let participant = self.participants.get(to)?;
        Some((participant.link.rtt, *participant.sent.get(&ssrc)?))
    }
}

/// How long a packet of sound that was packed is when it leaves again; `None` where it cannot.
#[cold]
fn composed_len(up: &UpTrack, down: &DownTrack, departure: &Departure) -> Option<usize> {
    let Departure { stream, source_seq, makeup, .. } = *departure;
    let composed = down.compose(up, stream, source_seq, makeup)?;
    let (facts, payload) = composed.packet();
    Some(down.resent_len(departure, facts, payload.len()))
}
