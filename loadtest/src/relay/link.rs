//! What an access line does to datagrams in one direction: it loses some, takes its time for each, and drops what
//! no longer fits into its queue. No sockets, no clock: the same seed and input give the same fates.
//!
//! A line is first in, first out: there is no jitter of its own and no reordering. The queueing delay of a thin
//! line is where jitter comes from in the field.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::seed::Random;

/// What a line is like in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkOptions {
    /// The share of datagrams that it loses at random, 0 to 1.
    pub loss: f64,
    /// How long a datagram travels that waits for no other.
    pub delay: Duration,
    /// Bits a second, headers of IP and UDP included; `None`: as fast as they come.
    pub rate: Option<u64>,
    /// The queue in front of a rate: a datagram that would wait longer is dropped (drop-tail).
    pub queue: Duration,
}

impl Default for LinkOptions {
    /// A line that nothing is wrong with.
    fn default() -> Self {
        Self { loss: 0.0, delay: Duration::ZERO, rate: None, queue: DEFAULT_QUEUE }
    }
}

/// RFC 8867 §5 evaluates congestion control behind queues of this length.
const DEFAULT_QUEUE: Duration = Duration::from_millis(300);

/// What became of the datagrams that entered. Those that are neither lost, dropped nor passed are on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkStats {
    /// Datagrams that entered.
    pub entered: u64,
    /// Lost at random.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Arrived at the other end.
    pub passed: u64,
    /// Payload bytes of those that arrived.
    pub passed_bytes: u64,
    /// The longest that a datagram waited for others, microseconds.
    pub longest_wait_us: u64,
}

/// One direction of a line, and what is on it. `T` says where a datagram is to go.
#[derive(Debug)]
pub struct Link<T> {
    options: LinkOptions,
    random: Random,
    /// When all that was accepted has been put on the line.
    free_at: Option<Instant>,
    travelling: VecDeque<Travelling<T>>,
    stats: LinkStats,
}

#[derive(Debug)]
struct Travelling<T> {
    arrives: Instant,
    to: T,
    payload: Vec<u8>,
}

impl<T> Link<T> {
    /// A line whose accidents follow from `seed`.
    pub fn new(options: LinkOptions, seed: u64) -> Self {
        let random = Random::new(seed);
        Self { options, random, free_at: None, travelling: VecDeque::new(), stats: LinkStats::default() }
    }

    /// A datagram enters the line.
    pub fn handle_datagram(&mut self, now: Instant, to: T, payload: &[u8]) {
        self.stats.entered += 1;
        let starts = self.free_at.map_or(now, |free_at| free_at.max(now));
        let wait = starts - now;
        if wait > self.options.queue || self.travelling.len() == MAX_TRAVELLING {
            self.stats.dropped += 1;
            return;
        }
        self.stats.longest_wait_us = self.stats.longest_wait_us.max(wait.as_micros() as u64);
        let sent = starts + self.transmission_time(payload.len());
        self.free_at = Some(sent);
        // What is lost was sent, and took its time.
        if self.random.chance(self.options.loss) {
            self.stats.lost += 1;
            return;
        }
        let arrives = sent + self.options.delay;
        self.travelling.push_back(Travelling { arrives, to, payload: payload.to_vec() });
    }

    /// When the next datagram arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.travelling.front().map(|datagram| datagram.arrives)
    }

    /// A datagram that has arrived.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<(T, Vec<u8>)> {
        let datagram = self.travelling.pop_front_if(|datagram| datagram.arrives <= now)?;
        self.stats.passed += 1;
        self.stats.passed_bytes += datagram.payload.len() as u64;
        Some((datagram.to, datagram.payload))
    }

    /// What became of the datagrams so far.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }

    fn transmission_time(&self, payload_bytes: usize) -> Duration {
        let Some(rate) = self.options.rate else { return Duration::ZERO };
        let bits = (payload_bytes + HEADER_BYTES) as f64 * 8.0;
        Duration::from_secs_f64(bits / rate.max(1) as f64)
    }
}

/// Datagrams on the line at a time: seconds of more than any lesson sends.
const MAX_TRAVELLING: usize = 1 << 15;

/// IPv4 without options, and UDP.
const HEADER_BYTES: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    /// A datagram that is 1000 bits on the line.
    const KILOBIT: [u8; 97] = [7; 97];

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// When each datagram arrives, from the time when all of them entered.
    fn arrivals(link: &mut Link<usize>, count: usize, start: Instant) -> Vec<(usize, Duration)> {
        for n in 0..count {
            link.handle_datagram(start, n, &KILOBIT);
        }
        std::iter::from_fn(|| {
            let now = link.poll_timeout()?;
            let (n, _) = link.poll_transmit(now).expect("it is time");
            Some((n, now - start))
        })
        .collect()
    }

    #[test]
    fn a_sound_line_passes_everything_at_once() {
        let mut link = Link::new(LinkOptions::default(), 1);
        let passed = arrivals(&mut link, 3, Instant::now());
        assert_eq!(passed, [(0, ms(0)), (1, ms(0)), (2, ms(0))]);
        let stats = LinkStats { entered: 3, passed: 3, passed_bytes: 3 * 97, ..LinkStats::default() };
        assert_eq!(link.stats(), stats);
    }

    #[test]
    fn a_datagram_arrives_after_the_delay_and_no_sooner() {
        let mut link = Link::new(LinkOptions { delay: ms(50), ..LinkOptions::default() }, 1);
        let start = Instant::now();
        link.handle_datagram(start, (), b"x");
        assert_eq!(link.poll_transmit(start + ms(49)), None);
        assert_eq!(link.poll_transmit(start + ms(50)), Some(((), b"x".to_vec())));
        assert_eq!(link.poll_timeout(), None);
    }

    #[test]
    fn a_rate_spaces_datagrams_and_its_full_queue_drops_the_last() {
        let options = LinkOptions { delay: ms(10), rate: Some(100_000), queue: ms(30), ..Default::default() };
        let mut link = Link::new(options, 1);
        // 10 ms each: the fourth waits 30 ms, the fifth would wait longer.
        let passed = arrivals(&mut link, 6, Instant::now());
        assert_eq!(passed, [(0, ms(20)), (1, ms(30)), (2, ms(40)), (3, ms(50))]);
        assert_eq!((link.stats().dropped, link.stats().longest_wait_us), (2, 30_000));
    }

    #[test]
    fn an_idle_line_has_saved_no_credit() {
        let mut link = Link::new(LinkOptions { rate: Some(100_000), ..LinkOptions::default() }, 1);
        let start = Instant::now();
        arrivals(&mut link, 1, start);
        let later = arrivals(&mut link, 2, start + ms(1000));
        assert_eq!(later, [(0, ms(10)), (1, ms(20))]);
    }

    #[test]
    fn loss_comes_close_to_what_was_asked_for_and_repeats_with_the_seed() {
        let lost = |loss, seed| {
            let mut link = Link::new(LinkOptions { loss, ..LinkOptions::default() }, seed);
            let passed = arrivals(&mut link, 10_000, Instant::now());
            assert_eq!(link.stats().lost as usize, 10_000 - passed.len());
            passed.into_iter().map(|(n, _)| n).collect::<Vec<_>>()
        };
        assert_eq!((lost(0.0, 1).len(), lost(1.0, 1).len()), (10_000, 0));
        for seed in 1..=5 {
            assert!((9_400..=9_600).contains(&lost(0.05, seed).len()));
        }
        assert_eq!(lost(0.05, 9), lost(0.05, 9));
        assert_ne!(lost(0.05, 9), lost(0.05, 10));
    }

    #[test]
    fn what_is_on_the_line_is_bounded() {
        let mut link = Link::new(LinkOptions { delay: ms(1000), ..LinkOptions::default() }, 1);
        let now = Instant::now();
        (0..MAX_TRAVELLING + 5).for_each(|_| link.handle_datagram(now, (), b""));
        assert_eq!((link.travelling.len(), link.stats().dropped), (MAX_TRAVELLING, 5));
    }
}
