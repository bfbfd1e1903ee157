//! How packets fared on one way in a while, summed over the streams that took it.

use std::time::Duration;

/// What arrived and what did not, before repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reception {
    /// Packets that were sent, by their numbers.
    pub expected: u64,
    /// Those that did not arrive.
    pub lost: u64,
    /// Of sound. Pictures leave in bursts, so that theirs says little about the way.
    pub jitter: Duration,
    /// Whether packets were to be expected at all.
    pub flowing: bool,
}

impl Reception {
    /// Both together: the counts added, the worse jitter.
    pub fn merge(self, other: Self) -> Self {
        Self {
            expected: self.expected + other.expected,
            lost: self.lost + other.lost,
            jitter: self.jitter.max(other.jitter),
            flowing: self.flowing || other.flowing,
        }
    }
}
