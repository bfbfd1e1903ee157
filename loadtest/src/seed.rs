//! Random numbers for synthetic media and bad lines: fast, repeatable from a seed, and good for nothing secret.

use std::hash::{BuildHasher, RandomState};

use sfu_core::testing;

/// A seed that differs from call to call.
pub fn fresh() -> u64 {
    // Each `RandomState` is keyed anew: the standard library's only door to the system's randomness.
    RandomState::new().hash_one(0_u8)
}

/// The simulation's generator, with shares instead of bounds.
#[derive(Clone, Debug)]
pub struct Random(testing::Random);

impl Random {
    /// A generator that always gives the same numbers for one `seed`.
    pub fn new(seed: u64) -> Self {
        Self(testing::Random::new(seed))
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0.0..1.0`.
    pub fn uniform(&mut self) -> f64 {
        // As many bits as an f64 holds.
        (self.bits() >> 11) as f64 * (-53_f64).exp2()
    }

    /// Whether something happens whose probability is `probability`, 0 to 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.uniform() < probability
    }

    /// A number in `0..n`; 0 where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
    }
}
