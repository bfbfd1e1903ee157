//! What an estimator of delay *changes* does not see: how long the link's queue stands, what the link has proven to
//! carry lately, and whether it carries anything at all.
//!
//! - **Capacity**: an estimate sinks while little is sent, and does not know how much a burst has just shown. What
//!   the link has shown (`capacity.rs`) are its floor and its ceiling.
//! - **Guard**: a drop-tail queue that stays full looks calm. When it does for 300 ms, everything is sent slower
//!   until it has drained.
//! - **Outage**: nothing is acknowledged any more. What was learnt of the queue is forgotten; what the link carried
//!   is not.

use std::time::Duration;

use super::capacity::Capacity;
use super::send_history::PacketResult;
use super::sliding::Sliding;
use crate::units::Bitrate;

/// Where a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It carries what is sent.
    Open,
    /// Its queue stands and is being drained.
    Draining,
    /// Nothing arrives.
    Outage,
}

/// The guard enters at this queue, held for so long, and leaves below `GUARD_LEAVE`.
const GUARD_ENTER: Duration = Duration::from_millis(100);
const GUARD_HOLD: Duration = Duration::from_millis(300);
const GUARD_LEAVE: Duration = Duration::from_millis(40);

/// Shares of what arrived when the guard entered: while it drains, and behind it.
const DRAIN_SHARE: f64 = 0.7;
const AFTER_SHARE: f64 = 0.9;

/// How much of a queue drains in a second at `DRAIN_SHARE`, and the bounds of draining.
const DRAIN_SPEED: f64 = 1.0 - DRAIN_SHARE;
const MIN_DRAIN: Duration = Duration::from_millis(500);
const MAX_DRAIN: Duration = Duration::from_secs(4);

/// Growth of the cap behind a drain, per second, until it is so far above the target that it caps nothing.
const CAP_GROWTH: f64 = 1.08;
const CAP_DROPPED: f64 = 1.5;

/// What arrived counts as proven with a queue and a loss below these.
const PROVEN_QUEUE: Duration = Duration::from_millis(50);
const PROVEN_LOSS: f64 = 0.08;

/// Bounds of the queue that is taken for none.
const MIN_CALM: Duration = Duration::from_millis(30);
const MAX_CALM: Duration = Duration::from_millis(80);

/// An outage is noticed so long after a round trip in which an answer was due.
const SILENCE: Duration = Duration::from_millis(700);
const MAX_RTT: Duration = Duration::from_millis(1500);
const MAX_INTERVAL: Duration = Duration::from_millis(500);

/// See the module. All times are since the history of sent packets began.
#[derive(Debug)]
pub struct LinkMonitor {
    /// The least time from sending to arrival, of 60 s; the clocks' difference is in it. Microseconds.
    base: Sliding<i64, 12>,
    /// The least of 400 ms of the receiver's time.
    recent: Sliding<i64, 8>,
    /// The least queue and the greatest present one of each half second of 30 s.
    calms: Sliding<i64, 60>,
    peaks: Sliding<i64, 60>,
    /// Bytes that arrived in a second of the receiver's time.
    arrived: Sliding<u64, 20>,
    /// Lost and all packets of 2 s.
    losses: Sliding<(u32, u32), 8>,
    /// What bursts have shown.
    capacity: Capacity,
    rtt: Option<Duration>,
    interval: Duration,
    last_feedback: Option<Duration>,
    standing_since: Option<Duration>,
    guard: Guard,
    outage: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Guard {
    Clear,
    Draining { cap: f64, entry: f64, until: Duration },
    Behind { cap: f64, since: Duration },
}

impl Default for LinkMonitor {
    fn default() -> Self {
        Self {
            base: Sliding::new(5000),
            recent: Sliding::new(50),
            calms: Sliding::new(500),
            peaks: Sliding::new(500),
            arrived: Sliding::new(50),
            losses: Sliding::new(250),
            capacity: Capacity::default(),
            rtt: None,
            interval: Duration::from_millis(100),
            last_feedback: None,
            standing_since: None,
            guard: Guard::Clear,
            outage: false,
        }
    }
}

impl LinkMonitor {
    /// What a feedback newly says.
    pub fn on_feedback(&mut self, now: Duration, results: &[PacketResult]) {
        if let Some(last) = self.last_feedback {
            let gap = (now - last.min(now)).min(MAX_INTERVAL);
            self.interval = (self.interval * 7 + gap) / 8;
        }
        self.last_feedback = Some(now);
        let mut newest = None;
        for result in results {
            let sent_micros = result.sent.at.as_micros() as i64;
            let lost = u32::from(result.arrival.is_none());
            self.losses.add(sent_micros, (lost, 1), |a, b| (a.0 + b.0, a.1 + b.1));
            let Some(arrival) = result.arrival else { continue };
            let way = arrival - sent_micros;
            self.base.add(arrival, way, i64::min);
            self.recent.add(arrival, way, i64::min);
            let base = self.base.values().min().unwrap_or(way);
            self.capacity.on_arrival(result, arrival, way - base);
            self.arrived.add(arrival, u64::from(result.sent.size), |a, b| a + b);
            newest = newest.max(Some((result.sent.at, arrival)));
        }
        let Some((sent_at, arrival)) = newest else { return };
        if std::mem::take(&mut self.outage) {
            self.forget_queue(results);
            self.capacity.forget_queue();
        }
        let rtt = now.saturating_sub(sent_at);
        self.rtt = Some(self.rtt.map_or(rtt, |before| (before * 7 + rtt) / 8));
        self.learn(arrival);
        self.capacity.settle(self.queue() > self.calm(), self.queue_forms());
        self.guard(now);
    }

    /// Lets time pass. `waiting` is how long an answer has been waited for.
    pub fn on_tick(&mut self, now: Duration, waiting: Option<Duration>) {
        let patience = SILENCE + self.rtt.unwrap_or(MAX_RTT).min(MAX_RTT) + self.interval;
        if waiting.is_some_and(|waiting| waiting > patience) {
            self.outage = true;
        }
        self.guard_in_time(now);
    }

    /// Forgets everything: what comes is on another clock, or another path.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Where the link stands.
    pub fn state(&self) -> LinkState {
        match self.guard {
            _ if self.outage => LinkState::Outage,
            Guard::Draining { .. } => LinkState::Draining,
            _ => LinkState::Open,
        }
    }

    /// What may be sent at most while a queue is drained.
    pub fn drain_cap(&self) -> Option<Bitrate> {
        match self.guard {
            Guard::Draining { cap, .. } => Some(Bitrate::bps(cap as u64)),
            Guard::Clear | Guard::Behind { .. } => None,
        }
    }

    /// What to reckon with, where the estimator says `target`.
    pub fn estimate(&mut self, now: Duration, target: Bitrate) -> Bitrate {
        let target = target.as_bps() as f64;
        let capped = match self.guard {
            Guard::Draining { entry, .. } => entry,
            Guard::Behind { cap, since } => {
                let cap = cap * CAP_GROWTH.powf((now - since.min(now)).as_secs_f64());
                if cap > CAP_DROPPED * target {
                    self.guard = Guard::Clear;
                }
                target.min(cap)
            }
            Guard::Clear => target,
        };
        // What a link has shown is more than what changes of delay hint at, unless it loses what it is sent.
        let shown = |rate: Option<Bitrate>| rate.map(|rate| rate.as_bps() as f64);
        let floor = shown(self.capacity.floor()).filter(|_| self.loss() < PROVEN_LOSS);
        let ceiling = shown(self.capacity.ceiling()).unwrap_or(f64::INFINITY);
        Bitrate::bps(capped.max(floor.unwrap_or(0.0)).min(ceiling) as u64)
    }

    /// The shortest time that a packet of the last 400 ms spent in queues. A burst's first packet finds it short,
    /// so that it shows what stands.
    pub fn queue(&self) -> Duration {
        let base = self.base.values().min();
        let recent = self.recent.values().min();
        base.zip(recent).map_or(Duration::ZERO, |(base, recent)| micros(recent - base))
    }

    /// The same of the last 150 ms: what a burst has made of the queue so far.
    pub fn present_queue(&self) -> Duration {
        let base = self.base.values().min();
        let latest = self.recent.latest(3).min();
        base.zip(latest).map_or(Duration::ZERO, |(base, latest)| micros(latest - base))
    }

    /// A queue that is none on this link, whose delay may vary by itself: 30 to 80 ms.
    pub fn calm(&self) -> Duration {
        (rank(&self.calms, 0.25) * 2).clamp(MIN_CALM, MAX_CALM)
    }

    /// Whether packets wait for each other, longer than by the way that the delay varies on this link.
    fn queue_forms(&self) -> bool {
        self.present_queue() > self.calm().max(rank(&self.peaks, 0.6).mul_f64(1.5))
    }

    /// What arrived in the last second of the receiver's time.
    pub fn acked(&self) -> Bitrate {
        Bitrate::bps(self.arrived.values().sum::<u64>() * 8)
    }

    /// What the link has shown to carry at least, where it has lately.
    pub fn proven(&self) -> Option<Bitrate> {
        self.capacity.floor()
    }

    /// What the link has shown to be able to carry at most, where it has lately.
    pub fn ceiling(&self) -> Option<Bitrate> {
        self.capacity.ceiling()
    }

    /// The share of packets lost of the last two seconds.
    pub fn loss(&self) -> f64 {
        let (lost, all) = self.losses.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        f64::from(lost) / f64::from(all.max(1))
    }

    /// From a packet's departure to the feedback on it.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// What was learnt of the queue before an outage says nothing of it afterwards.
    fn forget_queue(&mut self, results: &[PacketResult]) {
        self.recent.clear();
        (self.standing_since, self.guard) = (None, Guard::Clear);
        self.losses.clear();
        for result in results {
            if let Some(arrival) = result.arrival {
                self.recent.add(arrival, arrival - result.sent.at.as_micros() as i64, i64::min);
            }
        }
    }

    fn learn(&mut self, arrival: i64) {
        let queue = self.queue();
        self.calms.add(arrival, queue.as_micros() as i64, i64::min);
        self.peaks.add(arrival, self.present_queue().as_micros() as i64, i64::max);
        if queue < PROVEN_QUEUE && self.loss() < PROVEN_LOSS {
            self.capacity.prove(self.acked());
        }
    }

    fn guard(&mut self, now: Duration) {
        let queue = self.queue();
        self.standing_since = (queue > GUARD_ENTER).then_some(self.standing_since.unwrap_or(now));
        let stands = self.standing_since.is_some_and(|since| now - since.min(now) >= GUARD_HOLD);
        match self.guard {
            Guard::Draining { entry, .. } if queue < GUARD_LEAVE => self.leave(now, entry),
            Guard::Draining { .. } => self.guard_in_time(now),
            Guard::Clear | Guard::Behind { .. } if stands => {
                let entry = self.acked().as_bps() as f64;
                let drain = queue.div_f64(DRAIN_SPEED) + self.rtt.unwrap_or_default();
                let until = now + drain.clamp(MIN_DRAIN, MAX_DRAIN);
                self.guard = Guard::Draining { cap: DRAIN_SHARE * entry, entry, until };
            }
            Guard::Clear | Guard::Behind { .. } => {}
        }
    }

    fn guard_in_time(&mut self, now: Duration) {
        if let Guard::Draining { entry, until, .. } = self.guard
            && now >= until
        {
            self.leave(now, entry);
        }
    }

    fn leave(&mut self, now: Duration, entry: f64) {
        self.guard = Guard::Behind { cap: AFTER_SHARE * entry, since: now };
        if self.capacity.ceiling().is_some() {
            // It is known better than that.
            self.guard = Guard::Clear;
        }
        // A queue that still stands has to stand for a while once more.
        self.standing_since = None;
    }
}

/// The value that this share of a window's is less than.
fn rank(window: &Sliding<i64, 60>, share: f64) -> Duration {
    let mut values = [0; 60];
    let count = values.iter_mut().zip(window.values()).map(|(place, value)| *place = value).count();
    let values = &mut values[..count];
    values.sort_unstable();
    micros(values.get((count as f64 * share) as usize).copied().unwrap_or(0))
}

/// A span in microseconds that cannot be negative but for clocks that drift.
fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cc::send_history::SentPacket;

    const MS: Duration = Duration::from_millis(1);

    /// A link in steps of 100 ms: in each, ten packets of so many bytes arrive with the same queue.
    struct Link {
        monitor: LinkMonitor,
        now: Duration,
        seq: u64,
    }

    impl Link {
        fn new() -> Self {
            Self { monitor: LinkMonitor::default(), now: MS * 1000, seq: 0 }
        }

        /// `lost` of each ten are lost. The receiver's clock is an hour behind.
        fn run(&mut self, steps: u32, queue_ms: u64, size: u16, lost: u64) {
            for _ in 0..steps {
                self.now += MS * 100;
                let results: Vec<PacketResult> = (0..10)
                    .map(|packet| {
                        let sent_at = self.now - MS * 300 + MS * 10 * packet as u32;
                        let sent = SentPacket {
                            seq: self.seq + packet,
                            at: sent_at,
                            size,
                            audio: false,
                            probe: None,
                        };
                        let arrival =
                            sent_at.as_micros() as i64 + (50 + queue_ms as i64) * 1000 - 3_600_000_000;
                        PacketResult { sent, arrival: (packet >= lost).then_some(arrival) }
                    })
                    .collect();
                self.seq += 10;
                self.monitor.on_feedback(self.now, &results);
                self.monitor.on_tick(self.now, None);
            }
        }

        fn estimate(&mut self, target_kbps: u64) -> u64 {
            self.monitor.estimate(self.now, Bitrate::kbps(target_kbps)).as_bps() / 1000
        }
    }

    #[test]
    fn measures_queue_rate_loss_and_round_trip() {
        let mut link = Link::new();
        link.run(20, 0, 1000, 0);
        link.run(20, 30, 500, 2);
        let monitor = &link.monitor;
        assert_eq!(monitor.queue(), MS * 30);
        let acked = monitor.acked().as_bps();
        assert!((300_000..=340_000).contains(&acked), "80 packets of 500 bytes: {acked}");
        assert!((monitor.loss() - 0.2).abs() < 0.03, "{}", monitor.loss());
        assert_eq!(monitor.rtt(), Some(MS * 210));
    }

    #[test]
    fn an_estimate_does_not_sink_below_what_was_just_carried() {
        let mut link = Link::new();
        link.run(30, 0, 500, 0);
        assert_eq!(link.monitor.proven(), Some(Bitrate::kbps(400)));
        assert_eq!((link.estimate(600), link.estimate(250)), (600, 400));
        link.run(10, 120, 250, 0);
        assert_eq!(link.estimate(600), 200, "a queue stands: that is all there is");
    }

    #[test]
    fn what_arrives_under_loss_proves_nothing() {
        let mut link = Link::new();
        link.run(120, 0, 500, 1);
        assert_eq!(link.estimate(250), 250);
    }

    #[test]
    fn a_queue_that_stands_is_drained() {
        let mut link = Link::new();
        link.run(30, 0, 250, 0);
        link.run(3, 250, 250, 0);
        assert_eq!(link.monitor.state(), LinkState::Open, "not yet for 300 ms");
        link.run(6, 250, 250, 0);
        assert_eq!(link.monitor.state(), LinkState::Draining);
        // The queue came at once, so that little arrived in that second.
        assert_eq!(link.monitor.drain_cap(), Some(Bitrate::kbps(105)), "0.7 of 150");
        link.run(5, 20, 175, 0);
        assert_eq!((link.monitor.state(), link.monitor.drain_cap()), (LinkState::Open, None));
        assert_eq!(link.estimate(300), 200, "what arrived while it stood");
    }

    #[test]
    fn draining_ends_in_time_where_the_queue_is_not_ours() {
        let mut link = Link::new();
        link.run(30, 0, 250, 0);
        let mut draining = 0;
        for _ in 0..100 {
            link.run(1, 150, 250, 0);
            draining += u32::from(link.monitor.state() == LinkState::Draining);
        }
        assert!((40..80).contains(&draining), "{draining} of 100: 710 ms of each second or so");
    }

    #[test]
    fn calm_is_what_the_link_is_used_to() {
        for (queue, calm) in [(0, 30), (25, 50), (200, 80)] {
            let mut link = Link::new();
            link.run(1, 0, 100, 0);
            link.run(300, queue, 100, 0);
            assert_eq!(link.monitor.calm(), MS * calm, "{queue}");
        }
    }

    #[test]
    fn an_outage_is_noticed_and_its_end_forgets_the_queue_but_not_the_rate() {
        let mut link = Link::new();
        link.run(30, 0, 500, 0);
        link.run(2, 400, 500, 0);
        let waits = |link: &mut Link, ms: u32| {
            link.monitor.on_tick(link.now, Some(MS * ms));
            link.monitor.state()
        };
        // 700 ms, 210 to 250 ms round trip, 100 ms between feedback.
        assert_eq!(waits(&mut link, 1000), LinkState::Open);
        assert_eq!(waits(&mut link, 1100), LinkState::Outage);
        link.now += MS * 8000;
        link.run(1, 10, 500, 0);
        assert_eq!((link.monitor.state(), link.monitor.queue()), (LinkState::Open, MS * 10));
        assert!(link.monitor.proven().is_some());
    }

    #[test]
    fn feedback_from_long_ago_and_far_ahead_does_no_harm() {
        let mut monitor = LinkMonitor::default();
        for arrival in [0, i64::from(i32::MAX), -10_000_000, 5, i64::from(i32::MIN)] {
            let sent = SentPacket { seq: 1, at: MS * 5, size: 100, audio: true, probe: None };
            monitor.on_feedback(MS, &[PacketResult { sent, arrival: Some(arrival) }]);
            monitor.on_tick(Duration::ZERO, Some(Duration::MAX / 2));
            let _ = (monitor.estimate(MS, Bitrate::kbps(1)), monitor.calm(), monitor.loss());
        }
    }
}
