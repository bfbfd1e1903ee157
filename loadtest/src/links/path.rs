//! One direction of an emulated path:
//!
//! ```text
//! ingress -> random loss -> drop-tail queue -> server (capacity) -> propagation -> jitter -> hold -> egress
//! ```
//!
//! Its queue is a FIFO in front of a server whose future is known: when a packet arrives is known the moment it is
//! sent, and nothing has to be moved on tick by tick.

use std::collections::{BTreeMap, VecDeque};
use std::f64::consts::TAU;
use std::time::{Duration, Instant};

use super::capacity::{Capacity, Server};
use crate::seed::Random;

/// What a path does to packets.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// What it carries.
    pub capacity: Capacity,
    /// Most that waits. An empty queue takes any packet.
    pub queue: QueueLimit,
    /// How long a packet travels behind the queue.
    pub delay: Duration,
    /// Standard deviation of a half-normal extra delay, cut at three of them. Packets keep their order.
    pub jitter: Duration,
    /// Packets lost at random before the queue.
    pub loss: Loss,
    /// Packets held back, so that others overtake them.
    pub hold: Option<Hold>,
}

impl Default for Conditions {
    /// A path that nothing is wrong with.
    fn default() -> Self {
        Self {
            capacity: Capacity::unlimited(),
            queue: QueueLimit::Bytes(u64::MAX),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Loss::Uniform(0.0),
            hold: None,
        }
    }
}

/// Most that waits in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueLimit {
    /// Bytes on the wire.
    Bytes(u64),
    /// Packets.
    Packets(usize),
}

impl QueueLimit {
    /// What a link of this rate carries in this time.
    pub fn of_time(bps: u64, time: Duration) -> Self {
        let bytes = u128::from(bps) * time.as_millis() / 8000;
        Self::Bytes(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

/// Random loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Each packet with the same probability.
    Uniform(f64),
    /// Gilbert and Elliott's two states.
    Bursts {
        /// From good to bad.
        to_bad: f64,
        /// From bad to good.
        to_good: f64,
        /// Loss while bad.
        bad: f64,
        /// Loss while good.
        good: f64,
    },
}

impl Loss {
    /// The share that is lost in the long run.
    pub fn mean(self) -> f64 {
        match self {
            Self::Uniform(share) => share,
            Self::Bursts { to_bad, to_good, bad, good } => {
                let share_bad = if to_bad > 0.0 { to_bad / (to_bad + to_good) } else { 0.0 };
                share_bad * bad + (1.0 - share_bad) * good
            }
        }
    }
}

/// Some packets take longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hold {
    /// The share of them.
    pub share: f64,
    /// How much longer.
    pub time: Duration,
}

/// What becomes of a packet that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It will arrive.
    Carried {
        /// How long it waits before its transmission begins.
        wait: Duration,
    },
    /// It waits for a link that will never carry it.
    Stuck,
    /// Lost at random.
    Lost,
    /// The queue was full.
    Dropped,
}

/// A path and what is on it.
pub struct Path<T> {
    conditions: Conditions,
    start: Instant,
    server: Server,
    random: Random,
    bad: bool,
    /// When each packet that waits or is being sent has left, and its size.
    queue: VecDeque<(Duration, u64)>,
    queued_bytes: u64,
    /// When the last packet had left the queue and its jitter was over.
    last_left: Duration,
    /// By arrival, then in the order of sending.
    flying: BTreeMap<(Duration, u64), T>,
    sent: u64,
}

impl<T> Path<T> {
    /// A path whose time begins at `start` and whose accidents follow from `seed`.
    pub fn new(conditions: Conditions, start: Instant, seed: u64) -> Self {
        Self {
            server: Server::new(conditions.capacity.clone()),
            conditions,
            start,
            random: Random::new(seed),
            bad: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            last_left: Duration::ZERO,
            flying: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Sends a packet that takes `bytes` on the wire.
    pub fn send(&mut self, now: Instant, bytes: u64, packet: T) -> Fate {
        self.send_far(now, bytes, self.conditions.delay, packet)
    }

    /// The same to somewhere that is so far behind the queue.
    pub fn send_far(&mut self, now: Instant, bytes: u64, delay: Duration, packet: T) -> Fate {
        let now = now.saturating_duration_since(self.start);
        if self.loses() {
            return Fate::Lost;
        }
        while self.queue.front().is_some_and(|&(left, _)| left <= now) {
            self.queued_bytes -= self.queue.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        let full = match self.conditions.queue {
            QueueLimit::Bytes(limit) => self.queued_bytes + bytes > limit,
            QueueLimit::Packets(limit) => self.queue.len() >= limit,
        };
        if full && !self.queue.is_empty() || self.flying.len() == MAX_FLYING {
            return Fate::Dropped;
        }
        let served = self.server.serve(now, bytes);
        self.queue.push_back((served.map_or(Duration::MAX, |(_, end)| end), bytes));
        self.queued_bytes += bytes;
        let Some((begin, end)) = served else { return Fate::Stuck };
        self.last_left = (end + self.jitter()).max(self.last_left);
        let mut arrival = self.last_left + delay;
        if let Some(hold) = self.conditions.hold
            && self.random.chance(hold.share)
        {
            arrival += hold.time;
        }
        self.sent += 1;
        self.flying.insert((arrival, self.sent), packet);
        Fate::Carried { wait: begin - now }
    }

    /// When the next packet arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.start + self.flying.first_key_value()?.0.0)
    }

    /// A packet that has arrived.
    pub fn receive(&mut self, now: Instant) -> Option<T> {
        let now = now.saturating_duration_since(self.start);
        let entry = self.flying.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    fn loses(&mut self) -> bool {
        match self.conditions.loss {
            Loss::Uniform(share) => self.random.chance(share),
            Loss::Bursts { to_bad, to_good, bad, good } => {
                let turns = self.random.chance(if self.bad { to_good } else { to_bad });
                self.bad ^= turns;
                self.random.chance(if self.bad { bad } else { good })
            }
        }
    }

    fn jitter(&mut self) -> Duration {
        if self.conditions.jitter.is_zero() {
            return Duration::ZERO;
        }
        // Box and Muller; 1 - u is never zero.
        let (u, v) = (self.random.uniform(), self.random.uniform());
        let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos();
        self.conditions.jitter.mul_f64(normal.abs().min(3.0))
    }
}

/// Packets on the way at a time: seconds of more than any lesson sends.
const MAX_FLYING: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;
    use sfu_core::sim::clock::origin;

    fn clean(kbps: u64) -> Conditions {
        Conditions {
            capacity: Capacity::constant(kbps * 1000),
            queue: QueueLimit::Bytes(100_000),
            delay: Duration::from_millis(50),
            jitter: Duration::ZERO,
            loss: Loss::Uniform(0.0),
            hold: None,
        }
    }

    /// Sends a packet of 125 bytes each millisecond and returns their fates and arrivals, in microseconds.
    fn run(conditions: Conditions, seed: u64, packets: u64) -> (Vec<Fate>, Vec<(u64, u128)>) {
        let start = origin();
        let mut path = Path::new(conditions, start, seed);
        let fates = (0..packets)
            .map(|packet| path.send(start + Duration::from_millis(packet), 125, packet))
            .collect();
        let mut arrivals = Vec::new();
        while let Some(at) = path.poll_timeout() {
            arrivals.extend(path.receive(at).map(|packet| (packet, (at - start).as_micros())));
        }
        (fates, arrivals)
    }

    fn count(fates: &[Fate], matches: impl Fn(&Fate) -> bool) -> usize {
        fates.iter().filter(|fate| matches(fate)).count()
    }

    #[test]
    fn a_free_path_only_takes_its_time() {
        let (fates, arrivals) = run(clean(1000), 1, 100);
        assert_eq!(count(&fates, |fate| *fate == Fate::Carried { wait: Duration::ZERO }), 100);
        assert!(arrivals.iter().all(|&(packet, at)| at == u128::from(packet) * 1000 + 51_000));
    }

    #[test]
    fn every_packet_arrives_is_lost_or_is_dropped() {
        for seed in 1..=20 {
            let rough = Conditions {
                queue: QueueLimit::Bytes(3000),
                loss: Loss::Bursts { to_bad: 0.01, to_good: 0.25, bad: 0.8, good: 0.0 },
                jitter: Duration::from_millis(10),
                hold: Some(Hold { share: 0.02, time: Duration::from_millis(40) }),
                ..clean(800)
            };
            let (fates, arrivals) = run(rough, seed, 5000);
            let carried = count(&fates, |fate| matches!(fate, Fate::Carried { .. }));
            assert_eq!(carried, arrivals.len());
            assert!(count(&fates, |fate| *fate == Fate::Dropped) > 700 && carried > 3700);
        }
    }

    #[test]
    fn an_overloaded_link_carries_exactly_its_rate_and_its_queue_is_its_limit() {
        let (fates, arrivals) = run(Conditions { queue: QueueLimit::Bytes(5000), ..clean(500) }, 1, 10_000);
        // 125 bytes take 2 ms.
        assert!(arrivals.windows(2).all(|pair| pair[1].1 - pair[0].1 == 2000 && pair[0].0 < pair[1].0));
        assert!(arrivals.len() >= 5000 && arrivals.len() <= 5040, "{}", arrivals.len());
        let longest = fates.iter().filter_map(|fate| match fate {
            Fate::Carried { wait } => Some(*wait),
            _ => None,
        });
        let longest = longest.max().unwrap();
        assert!(longest <= Duration::from_millis(78) && longest > Duration::from_millis(74), "{longest:?}");
        let (fates, _) = run(Conditions { queue: QueueLimit::Packets(1), ..clean(500) }, 1, 10);
        assert_eq!(count(&fates, |fate| *fate == Fate::Dropped), 5);
    }

    #[test]
    fn an_empty_queue_takes_a_packet_that_is_larger_than_it() {
        let (fates, _) = run(Conditions { queue: QueueLimit::Bytes(10), ..clean(500) }, 1, 10);
        assert_eq!(count(&fates, |fate| *fate == Fate::Dropped), 5);
    }

    #[test]
    fn losses_are_as_frequent_as_they_should_be() {
        for loss in [Loss::Uniform(0.05), Loss::Bursts { to_bad: 0.01, to_good: 0.25, bad: 0.8, good: 0.0 }] {
            let (fates, _) = run(Conditions { loss, ..clean(10_000) }, 7, 100_000);
            let share = count(&fates, |fate| *fate == Fate::Lost) as f64 / 100_000.0;
            assert!((share / loss.mean() - 1.0).abs() < 0.1, "{share} {}", loss.mean());
        }
    }

    #[test]
    fn jitter_keeps_the_order_and_holding_does_not() {
        let (_, arrivals) = run(Conditions { jitter: Duration::from_millis(30), ..clean(10_000) }, 3, 5000);
        assert!(arrivals.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let hold = Some(Hold { share: 0.02, time: Duration::from_millis(40) });
        let (_, arrivals) = run(Conditions { hold, ..clean(10_000) }, 3, 5000);
        let overtaken = arrivals.windows(2).filter(|pair| pair[0].0 > pair[1].0).count();
        assert!((70..140).contains(&overtaken), "{overtaken}");
    }

    #[test]
    fn one_seed_gives_one_fate() {
        let rough =
            || Conditions { loss: Loss::Uniform(0.1), jitter: Duration::from_millis(5), ..clean(900) };
        assert_eq!(run(rough(), 5, 3000), run(rough(), 5, 3000));
        assert_ne!(run(rough(), 5, 3000), run(rough(), 6, 3000));
    }

    #[test]
    fn a_path_that_nothing_is_wrong_with_passes_everything_at_once() {
        let (fates, arrivals) = run(Conditions::default(), 1, 100);
        assert_eq!(count(&fates, |fate| *fate == Fate::Carried { wait: Duration::ZERO }), 100);
        assert!(arrivals.iter().all(|&(packet, at)| at == u128::from(packet) * 1000), "{arrivals:?}");
    }

    #[test]
    fn two_who_share_a_queue_are_as_far_away_as_they_are() {
        let start = origin();
        let mut path = Path::new(clean(1000), start, 1);
        for (delay, packet) in [(150, "far"), (10, "near")] {
            path.send_far(start, 125, Duration::from_millis(delay), packet);
        }
        let mut arrive = || {
            let at = path.poll_timeout().unwrap();
            (path.receive(at).unwrap(), (at - start).as_millis())
        };
        assert_eq!([arrive(), arrive()], [("near", 12), ("far", 151)]);
    }

    #[test]
    fn what_is_on_the_way_is_bounded() {
        let (fates, arrivals) = {
            let far = Conditions { delay: Duration::from_secs(60), ..Conditions::default() };
            run(far, 1, MAX_FLYING as u64 + 5)
        };
        assert_eq!((count(&fates, |fate| *fate == Fate::Dropped), arrivals.len()), (5, MAX_FLYING));
    }

    #[test]
    fn what_a_dead_link_holds_fills_its_queue() {
        let dead = Conditions { capacity: Capacity::constant(0), queue: QueueLimit::Packets(3), ..clean(1) };
        let (fates, arrivals) = run(dead, 1, 10);
        assert_eq!((count(&fates, |fate| *fate == Fate::Stuck), arrivals.len()), (3, 0));
    }
}
