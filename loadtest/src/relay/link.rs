//! One direction of a relay's line: an emulated path in real time, and a count of what became of its datagrams.

use std::time::Instant;

use serde::Serialize;

use crate::links::media::UNDER_UDP;
use crate::links::path::{Conditions, Fate, Path};

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
pub struct Link<T> {
    path: Path<(T, Vec<u8>)>,
    stats: LinkStats,
}

impl<T> Link<T> {
    /// A line whose time begins at `start` and whose accidents follow from `seed`.
    pub fn new(conditions: Conditions, start: Instant, seed: u64) -> Self {
        Self { path: Path::new(conditions, start, seed), stats: LinkStats::default() }
    }

    /// A datagram enters the line.
    pub fn handle_datagram(&mut self, now: Instant, to: T, payload: &[u8]) {
        self.stats.entered += 1;
        match self.path.send(now, payload.len() as u64 + UNDER_UDP, (to, payload.to_vec())) {
            Fate::Carried { wait } => {
                self.stats.longest_wait_us = self.stats.longest_wait_us.max(wait.as_micros() as u64);
            }
            Fate::Stuck => {}
            Fate::Lost => self.stats.lost += 1,
            Fate::Dropped => self.stats.dropped += 1,
        }
    }

    /// When the next datagram arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.path.poll_timeout()
    }

    /// A datagram that has arrived.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<(T, Vec<u8>)> {
        let (to, payload) = self.path.receive(now)?;
        self.stats.passed += 1;
        self.stats.passed_bytes += payload.len() as u64;
        Some((to, payload))
    }

    /// What became of the datagrams so far.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::capacity::Capacity;
    use crate::links::path::{Loss, QueueLimit};
    use std::time::Duration;

    /// A datagram that is 1000 bits on the line.
    const KILOBIT: [u8; 97] = [7; 97];

    /// When each datagram arrives, in milliseconds from when all of them entered; and what is counted.
    fn arrivals(conditions: Conditions, count: usize) -> (Vec<(usize, u128)>, LinkStats) {
        let start = Instant::now();
        let mut link = Link::new(conditions, start, 1);
        (0..count).for_each(|n| link.handle_datagram(start, n, &KILOBIT));
        let arrivals = std::iter::from_fn(|| {
            let now = link.poll_timeout()?;
            let (n, _) = link.poll_transmit(now).expect("it is time");
            Some((n, (now - start).as_millis()))
        });
        (arrivals.collect(), link.stats())
    }

    #[test]
    fn a_sound_line_passes_everything_at_once_and_counts_payload() {
        let (passed, stats) = arrivals(Conditions::default(), 3);
        assert_eq!(passed, [(0, 0), (1, 0), (2, 0)]);
        let expected = LinkStats { entered: 3, passed: 3, passed_bytes: 3 * 97, ..LinkStats::default() };
        assert_eq!(stats, expected);
    }

    #[test]
    fn a_rate_spaces_datagrams_and_its_full_queue_drops_the_last() {
        let ms = Duration::from_millis;
        let thin = Conditions {
            capacity: Capacity::constant(100_000),
            queue: QueueLimit::of_time(100_000, ms(40)),
            delay: ms(10),
            ..Conditions::default()
        };
        // 10 ms each with the headers of IP and UDP: four are all that the queue takes.
        let (passed, stats) = arrivals(thin, 6);
        assert_eq!(passed, [(0, 20), (1, 30), (2, 40), (3, 50)]);
        assert_eq!((stats.dropped, stats.longest_wait_us), (2, 30_000));
    }

    #[test]
    fn what_is_lost_is_counted() {
        let lossy = Conditions { loss: Loss::Uniform(0.3), ..Conditions::default() };
        let (passed, stats) = arrivals(lossy, 1000);
        assert_eq!(stats.lost as usize, 1000 - passed.len());
        assert!((200..400).contains(&stats.lost), "{stats:?}");
    }
}
