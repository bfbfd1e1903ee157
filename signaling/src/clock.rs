//! Wall-clock time for what people and protocols see; timers use `Instant`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// Tells the wall-clock time of an instant, so that state machines need only the one `now`.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    at: Instant,
    unix: Duration,
}

impl WallClock {
    /// One that read both clocks just now.
    pub fn system() -> Self {
        Self::new(Instant::now(), since_1970())
    }

    /// One for which `at` was `unix` after 1970.
    pub fn new(at: Instant, unix: Duration) -> Self {
        Self { at, unix }
    }

    /// Milliseconds since 1970 at an instant.
    pub fn unix_millis(&self, now: Instant) -> i64 {
        let unix = self.unix + now.saturating_duration_since(self.at);
        i64::try_from(unix.as_millis()).unwrap_or(i64::MAX)
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
