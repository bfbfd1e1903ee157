//! Virtual time and randomness for tests, simulations and fuzzing. No product build has this module: it is the only
//! place in this crate where a clock is read.

use std::time::Instant;

/// An arbitrary moment to count virtual time from. `Instant` has no zero; nothing depends on which one it is.
#[expect(clippy::disallowed_methods, reason = "the one origin of virtual time; only differences count")]
pub fn origin() -> Instant {
    Instant::now()
}

/// SplitMix64 (Steele, Lea and Flood, 2014): a small generator that any seed suits.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64().checked_rem(n).unwrap_or(0)
    }

    /// `true` in `per_mille` of a thousand cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}
