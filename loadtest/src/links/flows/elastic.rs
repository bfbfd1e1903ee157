//! A flow of media whose encoder follows its target exactly, as RFC 8867's media sources do: the server's own link
//! control decides how fast packets leave, one after the other without frames. The receiver reports like a browser.

use std::time::{Duration, Instant};

use sfu_core::cc::link_control::LinkControl;
use sfu_core::cc::link_estimator::LinkConfig;
use sfu_core::cc::twcc::{ArrivalRecorder, FeedbackView};
use sfu_core::rtp::params::Ssrc;
use sfu_core::rtp::rtcp::{Rtcp, packets};
use sfu_core::units::Bitrate;

use super::spec::Times;
use super::{Body, Flow, Outgoing, Way};
use crate::links::media::UNDER_UDP;

/// RFC 8867, 5: the rates that a source can have, kbit/s.
const RATES: (u64, u64) = (150, 1500);

/// Packets leave at least so many times a second, as frames do; and none is larger, bytes on the wire.
const FRAMES: u64 = 30;
const MAX_PACKET: u64 = 1200;

/// An SRTCP packet's index and tag (RFC 7714).
const PROTECTION: u64 = 4 + 16;

/// See the module.
pub struct Elastic {
    start: Instant,
    times: Times,
    /// `None`: nothing of the link is known, and the source is as fast as it can.
    control: Option<LinkControl>,
    next_packet: Option<Instant>,
    seq: u16,
    arrivals: ArrivalRecorder,
}

impl Elastic {
    /// A source that begins at `start + times.from`; its receiver reports at this interval.
    pub fn new(start: Instant, times: Times, link: Option<LinkConfig>, feedback: Duration) -> Self {
        let control = link.map(|link| {
            let max = Bitrate::kbps(RATES.1);
            LinkControl::new(LinkConfig { max, start: link.start.min(max), ..link }, start)
        });
        let next_packet = times.next(times.from).map(|at| start + at);
        Self { start, times, control, next_packet, seq: 0, arrivals: ArrivalRecorder::new(feedback, start) }
    }

    /// What the encoder is told, bit/s.
    fn rate(&self) -> u64 {
        let (least, most) = (Bitrate::kbps(RATES.0), Bitrate::kbps(RATES.1));
        // Paced, and slower while a queue is drained, as packets of a lesson are.
        let paced = |control: &LinkControl| {
            control.pace().map_or(control.estimate(), |pace| pace.rate.min(control.estimate()))
        };
        self.control.as_ref().map_or(most, |control| paced(control).clamp(least, most)).as_bps()
    }

    fn report(&mut self, now: Instant) -> Option<Outgoing> {
        let mut buf = [0; MAX_PACKET as usize];
        let len = self.arrivals.poll_feedback(now, Ssrc(1), Ssrc(2), &mut buf)?;
        let bytes = len as u64 + PROTECTION + UNDER_UDP;
        Some(Outgoing { way: Way::Back, bytes, body: Body::Report(buf[..len].to_vec()) })
    }
}

impl Flow for Elastic {
    fn poll_timeout(&self) -> Option<Instant> {
        let control = self.control.as_ref().and_then(LinkControl::poll_timeout);
        [self.next_packet, self.arrivals.poll_timeout(), control].into_iter().flatten().min()
    }

    fn poll(&mut self, now: Instant) -> Option<Outgoing> {
        if let Some(report) = self.report(now) {
            return Some(report);
        }
        if let Some(control) = &mut self.control {
            control.handle_timeout(now);
        }
        let due = self.next_packet.filter(|&due| due <= now)?;
        let rate = self.rate();
        let bytes = (rate / 8 / FRAMES).min(MAX_PACKET);
        let next = due - self.start + Duration::from_nanos(bytes * 8 * 1_000_000_000 / rate);
        self.next_packet = self.times.next(next).map(|at| self.start + at);
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        if let Some(control) = &mut self.control {
            control.on_sent(now, seq, bytes as usize, false, false);
        }
        Some(Outgoing { way: Way::There, bytes, body: Body::Media(seq) })
    }

    fn arrive(&mut self, now: Instant, body: Body) {
        match body {
            Body::Media(seq) => self.arrivals.record(now, seq),
            Body::Report(report) => {
                let Some(control) = &mut self.control else { return };
                for packet in packets(&report).flatten() {
                    if let Rtcp::TransportFeedback(feedback) = packet
                        && let Ok(view) = FeedbackView::parse(&feedback)
                    {
                        control.on_feedback(now, &view);
                    }
                }
            }
            _ => {}
        }
    }
}
