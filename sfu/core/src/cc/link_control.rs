//! The control of one link: what left, what the receiver says of it, and what to reckon with from now on.
//!
//! ```text
//! departures -> SendHistory <- feedback
//!                    | results
//!                    +-> LinkEstimator (delay, loss) -> target -+
//!                    +-> LinkMonitor (queue, floor, guard) -----+-> estimate
//! ```

use std::time::{Duration, Instant};

use super::link_estimator::{GoogCc, LinkConfig, LinkEstimator, Method};
use super::link_monitor::{LinkMonitor, LinkState};
use super::send_history::{Cluster, PacketResult, SendHistory};
use super::sliding::Sliding;
use super::step_prober::Probe;
use super::twcc::FeedbackView;
use crate::units::Bitrate;

/// How often the estimator is told the time without feedback. libwebrtc does each 25 ms; its answers change with
/// feedback, which comes each 50 to 250 ms, and at that moment it is told, too.
const TICK: Duration = Duration::from_millis(100);

/// How fast packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How fast the pacer's bucket drains.
    pub rate: Bitrate,
    /// How much of the rate's time may leave at once.
    pub burst: Duration,
}

/// How much faster than the estimate packets leave while the link has not shown what it carries: a burst that
/// waits on the way shows it.
const PACING: f64 = 1.2;

/// A queue above this is emptied by sending less: in so long, but with no less than the rest of `MAX_DRAIN`.
const NO_QUEUE: Duration = Duration::from_millis(20);
const DRAINED_WITHIN: Duration = Duration::from_millis(300);
const MAX_DRAIN: f64 = 0.4;

/// What may leave at once, of the rate's time.
const BURST: Duration = Duration::from_millis(10);

/// See the module.
pub struct LinkControl<E = GoogCc> {
    config: LinkConfig,
    history: SendHistory,
    estimator: E,
    monitor: LinkMonitor,
    /// Bytes that left in the last second.
    sent: Sliding<u64, 10>,
    results: Vec<PacketResult>,
    /// The last probe.
    cluster: Option<Cluster>,
    estimate: Bitrate,
    /// `None` while nothing was sent for a second: then there is nothing to learn.
    next_tick: Option<Instant>,
}

impl LinkControl {
    /// Control of a link of which nothing is known.
    pub fn new(config: LinkConfig, now: Instant) -> Self {
        Self::with(config, GoogCc::new(&config), now)
    }
}

impl<E: LinkEstimator> LinkControl<E> {
    /// The same with an estimator of the caller's.
    pub fn with(config: LinkConfig, estimator: E, now: Instant) -> Self {
        Self {
            config,
            history: SendHistory::new(now),
            estimator,
            monitor: LinkMonitor::default(),
            sent: Sliding::new(100),
            results: Vec::new(),
            cluster: None,
            estimate: config.start,
            next_tick: None,
        }
    }

    /// A packet left with the transport-wide number `seq`; it takes `size` bytes on the wire.
    #[inline]
    pub fn on_sent(&mut self, now: Instant, seq: u16, size: usize, audio: bool, probe: bool) {
        let probe = self.cluster.filter(|_| probe);
        let packet = self.history.on_sent(now, seq, size, audio, probe);
        self.sent.add(packet.at.as_micros() as i64, u64::from(packet.size), |a, b| a + b);
        self.estimator.on_sent(&packet);
        self.next_tick.get_or_insert(now + TICK);
    }

    /// Packets that leave as a probe from now on are this one's.
    pub fn begin_probe(&mut self, probe: &Probe) {
        let id = self.cluster.map_or(0, |before| before.id).wrapping_add(1).max(1);
        self.cluster = Some(Cluster { id, packets: probe.packets, bytes: probe.bytes });
    }

    /// The receiver says what arrived.
    pub fn on_feedback(&mut self, now: Instant, feedback: &FeedbackView<'_>) {
        self.results.clear();
        let known = self.history.on_feedback(now, feedback, &mut self.results);
        if known.is_err() {
            self.monitor.reset();
        }
        if self.results.is_empty() {
            return;
        }
        let since = self.history.since_epoch(now);
        self.monitor.on_feedback(since, &self.results);
        self.estimator.on_feedback(since, &self.results);
        self.tick(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_tick.is_some_and(|due| now >= due) {
            self.tick(now);
        }
    }

    /// When [`Self::handle_timeout`] is due; `None` while nothing is sent.
    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_tick
    }

    /// What to reckon with.
    pub fn estimate(&self) -> Bitrate {
        self.estimate
    }

    /// Where the link stands.
    pub fn state(&self) -> LinkState {
        match self.config.method {
            Method::Monitored => self.monitor.state(),
            Method::EstimatorAlone => LinkState::Open,
        }
    }

    /// How fast packets leave; `None` before the receiver has said anything.
    pub fn pace(&self) -> Option<Pace> {
        self.monitor.rtt()?;
        if self.config.method == Method::EstimatorAlone {
            let rate = self.estimate.as_bps() as f64 * PACING;
            return Some(Pace { rate: Bitrate::bps(rate as u64), burst: BURST });
        }
        let share = if self.monitor.ceiling().is_some() { 1.0 } else { PACING };
        let queue = self.monitor.present_queue().saturating_sub(NO_QUEUE);
        let share = share - (queue.as_secs_f64() / DRAINED_WITHIN.as_secs_f64()).min(MAX_DRAIN);
        let cap = self.monitor.drain_cap().map_or(f64::INFINITY, |cap| cap.as_bps() as f64);
        let rate = (self.estimate.as_bps() as f64 * share).min(cap);
        Some(Pace { rate: Bitrate::bps(rate.max(1.0) as u64), burst: BURST })
    }

    /// What left in the last second.
    pub fn sending(&self) -> Bitrate {
        Bitrate::bps(self.sent.values().sum::<u64>() * 8)
    }

    /// What is known of its queue, rates and losses.
    pub fn monitor(&self) -> &LinkMonitor {
        &self.monitor
    }

    fn tick(&mut self, now: Instant) {
        let since = self.history.since_epoch(now);
        self.sent.advance(since.as_micros() as i64);
        self.next_tick = self.sent.values().next().map(|_| now + TICK);
        self.estimator.on_tick(since);
        self.monitor.on_tick(since, self.history.waiting(now));
        let estimate = match self.config.method {
            Method::Monitored => self.monitor.estimate(since, self.estimator.target()),
            Method::EstimatorAlone => self.estimator.target(),
        };
        self.estimate = estimate.clamp(self.config.min, self.config.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cc::send_history::SentPacket;
    use crate::cc::twcc::ArrivalRecorder;
    use crate::rtp::rtcp::{Rtcp, Ssrc, TransportFeedback, packets};
    use crate::testing::{Random, origin};

    const MS: Duration = Duration::from_millis(1);

    /// An estimator that always says the same.
    struct Fixed(Bitrate);

    impl LinkEstimator for Fixed {
        fn on_sent(&mut self, _: &SentPacket) {}
        fn on_feedback(&mut self, _: Duration, _: &[PacketResult]) {}
        fn on_tick(&mut self, _: Duration) {}
        fn target(&self) -> Bitrate {
            self.0
        }
    }

    /// Sends at `bps` over a link of 200 kbit/s with a queue of 300 ms; what the control makes of each 100 ms.
    fn run<E: LinkEstimator>(
        control: &mut LinkControl<E>,
        start: Instant,
        seconds: u32,
        bps: impl Fn(&LinkControl<E>) -> u64,
    ) -> Vec<(Bitrate, LinkState)> {
        let mut recorder = ArrivalRecorder::new(MS * 100, start);
        let (mut free_at, mut credit, mut seq) = (start, 0, 0u16);
        let mut flying = std::collections::VecDeque::new();
        let mut seen = Vec::new();
        for tick in 0..seconds * 100 {
            let now = start + MS * 10 * tick;
            credit += bps(control) / 100;
            while credit >= 4000 {
                credit -= 4000;
                control.on_sent(now, seq, 500, false, false);
                if free_at <= now + MS * 300 {
                    free_at = free_at.max(now) + MS * 20;
                    flying.push_back((free_at + MS * 50, seq));
                }
                seq = seq.wrapping_add(1);
            }
            while flying.front().is_some_and(|&(at, _)| at <= now) {
                let Some((at, seq)) = flying.pop_front() else { break };
                recorder.record(at, seq);
            }
            let mut out = [0; 1200];
            while let Some(len) = recorder.poll_feedback(now, Ssrc(1), Ssrc(2), &mut out) {
                let Some(Ok(Rtcp::TransportFeedback(feedback))) = packets(&out[..len]).next() else {
                    panic!()
                };
                control.on_feedback(now, &FeedbackView::parse(&feedback).unwrap());
            }
            control.handle_timeout(now);
            if tick % 10 == 0 {
                seen.push((control.estimate(), control.state()));
            }
        }
        seen
    }

    #[test]
    fn an_estimator_that_overshoots_is_held_by_the_guard() {
        let start = origin();
        let mut control = LinkControl::with(LinkConfig::default(), Fixed(Bitrate::kbps(300)), start);
        let seen = run(&mut control, start, 60, |control| control.estimate().as_bps());
        let draining = seen.iter().filter(|(_, state)| *state == LinkState::Draining).count();
        assert!(draining > 20, "{draining} of {}", seen.len());
        let mean = seen.iter().map(|(estimate, _)| estimate.as_bps()).sum::<u64>() / seen.len() as u64;
        assert!((150_000..230_000).contains(&mean), "{mean}");
    }

    #[test]
    fn without_a_monitor_the_estimator_has_its_way() {
        let start = origin();
        let config = LinkConfig { method: Method::EstimatorAlone, ..LinkConfig::default() };
        let mut control = LinkControl::with(config, Fixed(Bitrate::kbps(300)), start);
        let seen = run(&mut control, start, 20, |control| control.estimate().as_bps());
        assert!(seen[10..].iter().all(|it| *it == (Bitrate::kbps(300), LinkState::Open)), "{seen:?}");
    }

    #[test]
    fn follows_the_link() {
        let start = origin();
        let mut control = LinkControl::new(LinkConfig::default(), start);
        let seen = run(&mut control, start, 60, |control| control.estimate().as_bps());
        let late: Vec<u64> = seen[300..].iter().map(|(estimate, _)| estimate.as_bps()).collect();
        let mean = late.iter().sum::<u64>() / late.len() as u64;
        assert!((160_000..220_000).contains(&mean), "{mean}");
        assert!(control.monitor().queue() < MS * 120, "{:?}", control.monitor().queue());
    }

    #[test]
    fn packets_leave_as_fast_as_the_link_is_known_to_carry_and_slower_while_it_drains() {
        let start = origin();
        let mut control = LinkControl::with(LinkConfig::default(), Fixed(Bitrate::kbps(150)), start);
        assert_eq!(control.pace(), None, "nothing is known");
        run(&mut control, start, 10, |_| 100_000);
        let rate = |control: &LinkControl<_>| control.pace().map_or(0, |pace| pace.rate.as_bps() / 1000);
        assert_eq!(rate(&control), 180, "a fifth more than the estimate, as nothing has shown the end of it");
        run(&mut control, start + MS * 10_000, 3, |_| 300_000);
        assert!((60..160).contains(&rate(&control)), "its queue stands: {}", rate(&control));
        run(&mut control, start + MS * 13_000, 5, |_| 100_000);
        assert!((180..=205).contains(&rate(&control)), "it has shown 200: {}", rate(&control));
    }

    #[test]
    fn silence_is_an_outage_and_an_answer_ends_it() {
        let start = origin();
        let mut control = LinkControl::new(LinkConfig::default(), start);
        run(&mut control, start, 5, |_| 100_000);
        let at = start + MS * 5000;
        for packet in 0..20 {
            control.on_sent(at, 10_000 + packet, 100, true, false);
        }
        control.handle_timeout(at + MS * 500);
        assert_eq!(control.state(), LinkState::Open);
        control.handle_timeout(at + MS * 3000);
        assert_eq!(control.state(), LinkState::Outage);
    }

    #[test]
    fn sleeps_while_nothing_is_sent() {
        let start = origin();
        let mut control = LinkControl::new(LinkConfig::default(), start);
        assert_eq!(control.poll_timeout(), None);
        control.on_sent(start + MS, 1, 100, true, false);
        let mut ticks = 0;
        while let Some(due) = control.poll_timeout() {
            control.handle_timeout(due);
            ticks += 1;
        }
        assert!((9..=11).contains(&ticks), "{ticks}");
    }

    #[test]
    fn one_input_has_one_outcome() {
        let start = origin();
        let seen = [0, 1].map(|_| {
            let mut control = LinkControl::new(LinkConfig::default(), start);
            run(&mut control, start, 30, |control| control.estimate().as_bps())
        });
        assert_eq!(seen[0], seen[1]);
    }

    #[test]
    fn whatever_a_receiver_sends_does_no_harm() {
        for seed in 1..=100 {
            let mut random = Random::new(seed);
            let start = origin();
            let mut control = LinkControl::new(LinkConfig::default(), start);
            let mut now = start;
            for seq in 0..600u16 {
                let scale = random.below(22);
                now += Duration::from_micros(random.below(1 << scale));
                control.on_sent(now, seq, random.below(1400) as usize, false, false);
                let mut statuses = [0; 200];
                statuses.iter_mut().for_each(|byte| *byte = random.below(256) as u8);
                // A run of packets that all arrived, or noise.
                if random.below(2) == 0 {
                    statuses[..2].copy_from_slice(&(0x2000 | random.below(100) as u16).to_be_bytes());
                }
                let feedback = TransportFeedback {
                    sender: Ssrc(1),
                    media: Ssrc(2),
                    base_seq: seq.wrapping_sub(random.below(100) as u16),
                    status_count: random.below(100) as u16,
                    reference_time: random.below(1 << 24) as u32,
                    feedback_count: seq as u8,
                    statuses: &statuses,
                };
                if let Ok(view) = FeedbackView::parse(&feedback) {
                    control.on_feedback(now, &view);
                }
                control.handle_timeout(now);
                assert!(control.estimate() >= Bitrate::kbps(10) && control.estimate() <= Bitrate::kbps(5000));
            }
        }
    }
}
