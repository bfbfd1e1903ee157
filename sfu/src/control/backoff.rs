//! How long to wait before calling again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);

/// Short enough that a lesson hardly notices a restarted signaling service.
const LONGEST: Duration = Duration::from_secs(4);

/// Doubles from one failure to the next up to a bound, each varied by a quarter, so that nodes which lost the
/// same signaling service do not all come back in one moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: FIRST, random: seed }
    }

    /// The wait after one more failure.
    pub(crate) fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        // Knuth's MMIX generator; 0 to 255 in 256ths of half the wait.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let part = (self.random >> 56) as u32;
        wait * 3 / 4 + wait / 2 * part / 256
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_differ() {
        let (mut one, mut other) = (Backoff::new(1), Backoff::new(2));
        let waits: Vec<_> = (0..10).map(|_| (one.wait(), other.wait())).collect();
        assert!(waits[0].0 < Duration::from_millis(320) && waits[0].0 >= Duration::from_millis(187));
        assert!(waits.iter().all(|(one, other)| one.max(other) <= &(LONGEST * 5 / 4)));
        assert!(waits[9].0 >= LONGEST * 3 / 4 && waits.iter().any(|(one, other)| one != other));
        one.reset();
        assert!(one.wait() < Duration::from_millis(320));
    }
}
