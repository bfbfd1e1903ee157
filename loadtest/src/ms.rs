//! Durations as a number of milliseconds, for tables and JSON.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// A duration in milliseconds, to the microsecond.
pub(crate) fn of(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// For `#[serde(with)]`.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    of(*duration).serialize(serializer)
}

/// The same for a duration that may be missing.
pub(crate) mod option {
    use super::{Duration, Serialize, Serializer, of};

    /// For `#[serde(with)]`.
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(of).serialize(serializer)
    }
}

/// The same for a list of durations.
pub(crate) mod list {
    use super::{Duration, Serializer, of};

    /// For `#[serde(with)]`.
    pub(crate) fn serialize<S: Serializer>(durations: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(durations.iter().copied().map(of))
    }
}
