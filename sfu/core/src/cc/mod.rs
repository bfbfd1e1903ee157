//! Congestion control: what arrived when, what a link carries, what may leave when, and which layers are worth it.

pub mod lesson_allocator;
pub mod link_control;
pub mod link_estimator;
pub mod link_monitor;
pub mod pacer;
pub mod send_history;
mod sliding;
pub mod twcc;

#[cfg(test)]
mod testing {
    use std::time::Instant;

    /// Where the tests' clocks begin.
    #[expect(clippy::disallowed_methods, reason = "an `Instant` can be made in no other way")]
    pub(super) fn any_time() -> Instant {
        Instant::now()
    }

    /// Marsaglia's xorshift64: the same numbers in every run.
    pub(super) struct Xorshift(pub(super) u64);

    impl Xorshift {
        /// A number below `bound`.
        pub(super) fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }
}
