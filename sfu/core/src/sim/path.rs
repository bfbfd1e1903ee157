//! One direction of a path: delay, loss, repetition, reordering.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::clock::Random;

/// What a path does to datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// How long every datagram takes.
    pub delay: Duration,
    /// Up to this much longer, at random: datagrams overtake each other.
    pub jitter: Duration,
    /// How many of a thousand are lost.
    pub loss_per_mille: u64,
    /// How many of a thousand arrive twice.
    pub repeat_per_mille: u64,
}

impl Default for Conditions {
    /// 10 ms, and nothing goes wrong.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            loss_per_mille: 0,
            repeat_per_mille: 0,
        }
    }
}

/// A path and what is on it.
#[derive(Debug)]
pub struct Path {
    /// May be changed while it runs.
    pub conditions: Conditions,
    random: Random,
    /// By arrival, then in the order of sending.
    flying: BTreeMap<(Instant, u64), Vec<u8>>,
    sent: u64,
}

impl Path {
    /// A path whose accidents follow from `seed`.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self { conditions, random: Random::new(seed), flying: BTreeMap::new(), sent: 0 }
    }

    /// Puts a datagram on the path.
    pub fn send(&mut self, now: Instant, datagram: &[u8]) {
        let Conditions { delay, jitter, loss_per_mille, repeat_per_mille } = self.conditions;
        if self.random.chance(loss_per_mille) {
            return;
        }
        let copies = 1 + u64::from(self.random.chance(repeat_per_mille));
        for _ in 0..copies {
            let extra = Duration::from_micros(self.random.below(jitter.as_micros() as u64));
            self.sent += 1;
            self.flying.insert((now + delay + extra, self.sent), datagram.to_vec());
        }
    }

    /// When the next datagram arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.flying.first_key_value()?.0.0)
    }

    /// A datagram that has arrived.
    pub fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let entry = self.flying.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}
