//! The window of a TCP sender: CUBIC (RFC 9438), with slow start as in RFC 5681 and an initial window as in RFC 6928.
//! Not here: HyStart++, spurious-loss undo, ECN. Windows are in segments.

use std::time::{Duration, Instant};

/// RFC 6928.
const INITIAL: f64 = 10.0;

/// RFC 9438, 4.1 and 4.6: what is left of the window at a loss, and how fast it grows again.
const BETA: f64 = 0.7;
const C: f64 = 0.4;

/// RFC 9438, 4.3: growth that is as fair as that of RFC 5681's sender.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// Most that is sent without an answer, as a receiver with 1.4 MB of buffer allows.
const MAX_WINDOW: f64 = 1000.0;

/// See the module.
#[derive(Clone, Debug)]
pub struct Cubic {
    window: f64,
    threshold: f64,
    /// The window before the last loss.
    max: f64,
    epoch: Option<Epoch>,
}

/// The growth since the last loss.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    since: Instant,
    /// After how many seconds the window is as large as before.
    k: f64,
    /// What RFC 5681's sender would have.
    reno: f64,
}

impl Default for Cubic {
    fn default() -> Self {
        Self { window: INITIAL, threshold: f64::INFINITY, max: 0.0, epoch: None }
    }
}

impl Cubic {
    /// How many segments may be unanswered.
    pub fn window(&self) -> usize {
        self.window as usize
    }

    /// A segment was acknowledged for the first time, outside of a recovery.
    pub fn on_acked(&mut self, now: Instant, rtt: Duration) {
        if self.window < self.threshold {
            self.window = (self.window + 1.0).min(MAX_WINDOW);
            return;
        }
        let window = self.window;
        let epoch = self.epoch.get_or_insert_with(|| {
            self.max = self.max.max(window);
            Epoch { since: now, k: ((self.max - window) / C).cbrt(), reno: window }
        });
        epoch.reno += if epoch.reno < self.max { ALPHA } else { 1.0 } / window;
        let elapsed = now.saturating_duration_since(epoch.since).as_secs_f64();
        let cubic = |t: f64| C * (t - epoch.k).powi(3) + self.max;
        self.window = if cubic(elapsed) < epoch.reno {
            window.max(epoch.reno)
        } else {
            let target = cubic(elapsed + rtt.as_secs_f64()).clamp(window, 1.5 * window);
            window + (target - window) / window
        };
        self.window = self.window.min(MAX_WINDOW);
    }

    /// Something of a window was lost.
    pub fn on_loss(&mut self) {
        // Fast convergence: a window that no longer grows to where it was makes room for others.
        self.max = if self.window < self.max { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.threshold = (self.window * BETA).max(2.0);
        self.window = self.threshold;
        self.epoch = None;
    }

    /// Nothing was answered in time.
    pub fn on_timeout(&mut self) {
        self.on_loss();
        self.window = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu_core::sim::clock::origin;

    const RTT: Duration = Duration::from_millis(100);

    /// Acknowledges a window each round trip; the window after each.
    fn rounds(cubic: &mut Cubic, start: Instant, rounds: u32) -> Vec<usize> {
        let each = |round| {
            let window = cubic.window();
            (0..window).for_each(|_| cubic.on_acked(start + RTT * round, RTT));
            cubic.window()
        };
        (1..=rounds).map(each).collect()
    }

    #[test]
    fn slow_start_doubles_each_round_trip() {
        assert_eq!(rounds(&mut Cubic::default(), origin(), 4), [20, 40, 80, 160]);
    }

    #[test]
    fn after_a_loss_the_window_returns_in_k_seconds_and_then_grows_faster() {
        let start = origin();
        let mut cubic = Cubic::default();
        rounds(&mut cubic, start, 4);
        cubic.on_loss();
        assert_eq!(cubic.window(), 112);
        // K = cbrt(160 * 0.3 / 0.4) = 4.93 s
        let windows = rounds(&mut cubic, start + RTT * 4, 100);
        let at = |seconds: usize| windows[seconds * 10 - 1];
        assert!((158..=162).contains(&at(5)), "{windows:?}");
        assert!(at(2) - 112 > at(5) - at(4), "it grows fast at first, slowly at the old window: {windows:?}");
        assert!(at(9) - at(8) > at(7) - at(6), "and then faster and faster: {windows:?}");
    }

    #[test]
    fn on_short_paths_it_grows_as_reno_does() {
        let mut cubic = Cubic::default();
        cubic.on_loss();
        assert_eq!(cubic.window(), 7);
        let windows = rounds(&mut cubic, origin(), 50);
        assert!(windows[49] >= 7 + 25, "half a segment a round trip, then one: {windows:?}");
    }

    #[test]
    fn a_timeout_begins_anew_and_slow_start_ends_at_the_threshold() {
        let mut cubic = Cubic::default();
        rounds(&mut cubic, origin(), 3);
        cubic.on_timeout();
        assert_eq!(cubic.window(), 1);
        let windows = rounds(&mut cubic, origin(), 7);
        assert_eq!(windows[..5], [2, 4, 8, 16, 32]);
        assert!((56..=60).contains(&windows[5]) && windows[6] <= 65, "{windows:?}");
    }
}
