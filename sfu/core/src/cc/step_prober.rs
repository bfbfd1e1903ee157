//! Asks a link the one question that matters: does the next step fit? Traffic of a lesson moves in steps, and an
//! estimate that has only seen what is sent cannot answer; a burst at a little more than all would then take can.

use std::time::{Duration, Instant};

use super::lesson_allocator::LinkView;
use crate::units::Bitrate;

/// A burst that measures a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How fast it leaves.
    pub rate: Bitrate,
    /// At least so many bytes on the wire.
    pub bytes: u32,
    /// In at least so many packets.
    pub packets: u16,
}

/// Decides when to send one. See the module.
#[derive(Debug)]
pub struct StepProber {
    interval: Duration,
    next: Option<Instant>,
    /// The last one's rate and time.
    asked: Option<(Bitrate, Instant)>,
}

/// Between two probes: longer after each that led to nothing.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// A probe whose rate the link has carried may be followed by the next so soon.
const AFTER_YES: Duration = Duration::from_millis(300);

/// After an outage the queue has to empty first.
const AFTER_OUTAGE: Duration = Duration::from_millis(500);

/// An estimator makes something of a burst of so long and so many packets.
const LENGTH: Duration = Duration::from_millis(60);
const MIN_PACKETS: u16 = 6;

/// Above this much loss a probe only adds to the harm.
const LOSSY: f32 = 0.15;

/// However little is known, a probe of three times this does no harm.
const FLOOR: Bitrate = Bitrate::kbps(40);

impl Default for StepProber {
    fn default() -> Self {
        Self { interval: MIN_INTERVAL, next: None, asked: None }
    }
}

impl StepProber {
    /// Feedback came. `need` is what everything would take with the next step, `acked` what arrives at present.
    pub fn poll(
        &mut self,
        now: Instant,
        need: Option<Bitrate>,
        acked: Bitrate,
        link: &LinkView,
    ) -> Option<Probe> {
        if link.outage {
            *self = Self { next: Some(now + AFTER_OUTAGE), ..Self::default() };
            return None;
        }
        let need = need?.as_bps();
        let capped = link.cap.is_some_and(|cap| cap.as_bps() < need);
        let quiet = link.queue < link.calm && link.loss < LOSSY && !link.draining;
        if capped || !quiet || !self.is_due(now, link.estimate) {
            return None;
        }
        let known = link.estimate.max(acked).max(FLOOR).as_bps();
        // As long as no end of it was seen, a link is measured faster than step by step; once one was, much more
        // than that only makes a queue.
        let (least, most) = match link.ceiling {
            None => (known * 2, known * 3),
            Some(ceiling) => (0, ceiling.as_bps() * 5 / 4),
        };
        let rate = (need * 5 / 4).max(least).min(most);
        self.asked = Some((Bitrate::bps(rate), now));
        self.next = Some(now + self.interval);
        self.interval = (self.interval * 3 / 2).min(MAX_INTERVAL);
        let bytes = rate * LENGTH.as_millis() as u64 / 8000;
        Some(Probe { rate: Bitrate::bps(rate), bytes: bytes as u32, packets: MIN_PACKETS })
    }

    /// A step was taken, up or down: what is asked next is another question.
    pub fn on_step(&mut self) {
        self.interval = MIN_INTERVAL;
    }

    fn is_due(&self, now: Instant, estimate: Bitrate) -> bool {
        let answered = |(rate, at): (Bitrate, Instant)| {
            estimate.as_bps() * 10 >= rate.as_bps() * 9 && now >= at + AFTER_YES
        };
        self.next.is_none_or(|next| now >= next) || self.asked.is_some_and(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cc::lesson_allocator::testing::calm;
    use crate::testing::origin;

    #[test]
    fn a_probe_asks_for_a_quarter_more_than_the_step_needs() {
        // known, ceiling, need, asked
        for (known, ceiling, need, rate) in [
            (400, None, 720, 900),
            (400, None, 480, 800),
            (100, None, 480, 300),
            (10, None, 480, 120),
            (400, Some(400), 392, 490),
            (400, Some(400), 480, 500),
        ] {
            let link = LinkView { ceiling: ceiling.map(Bitrate::kbps), ..calm(known) };
            let probe = StepProber::default().poll(origin(), Some(Bitrate::kbps(need)), Bitrate::ZERO, &link);
            let asked = probe.map(|probe| probe.rate.as_bps() / 1000);
            assert_eq!(asked, Some(rate), "{known} {ceiling:?} {need}");
            assert_eq!(probe.map(|probe| u64::from(probe.bytes) * 8), asked.map(|kbps| kbps * 60 / 8 * 8));
        }
    }

    #[test]
    fn a_probe_that_came_through_is_followed_by_the_next() {
        let (start, need) = (origin(), Some(Bitrate::kbps(2000)));
        let mut prober = StepProber::default();
        assert!(prober.poll(start, need, Bitrate::ZERO, &calm(150)).is_some());
        let soon = start + Duration::from_millis(300);
        assert_eq!(prober.poll(soon, need, Bitrate::ZERO, &calm(200)), None, "it did not");
        assert!(prober.poll(soon, need, Bitrate::ZERO, &calm(440)).is_some());
    }

    #[test]
    fn probes_become_rarer_until_a_step_is_taken() {
        let start = origin();
        let mut prober = StepProber::default();
        let mut seconds = Vec::new();
        for tick in 0..400 {
            let now = start + Duration::from_millis(100) * tick;
            if prober.poll(now, Some(Bitrate::kbps(200)), Bitrate::ZERO, &calm(150)).is_some() {
                seconds.push(tick / 10);
            }
            if tick == 300 {
                prober.on_step();
            }
        }
        assert_eq!(seconds, [0, 1, 2, 4, 8, 13, 20, 30, 31, 33, 35, 39]);
    }

    #[test]
    fn a_link_that_is_full_lossy_capped_or_silent_is_not_probed() {
        let link = calm(150);
        for (what, link) in [
            ("a queue", LinkView { queue: Duration::from_millis(31), ..link }),
            ("loss", LinkView { loss: 0.2, ..link }),
            ("draining", LinkView { draining: true, ..link }),
            ("a cap", LinkView { cap: Some(Bitrate::kbps(199)), ..link }),
            ("an outage", LinkView { outage: true, ..link }),
        ] {
            let need = Some(Bitrate::kbps(200));
            assert_eq!(StepProber::default().poll(origin(), need, Bitrate::ZERO, &link), None, "{what}");
        }
        assert_eq!(StepProber::default().poll(origin(), None, Bitrate::ZERO, &link), None, "nothing to gain");
    }
}
