//! When to ask an encoding's sender for a key frame: once for all who wait, at most every half second, until one
//! arrives (PLI, RFC 4585 §6.3.1).

use std::time::{Duration, Instant};

/// Shortest time between two requests of one encoding (libwebrtc's encoders take no more either). A key frame
/// costs as much as a second of thin video, and everybody pays for it.
pub const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// After this many unanswered requests the asking stops until somebody wants a key frame again.
pub const MAX_TRIES: u8 = 10;

/// The key frame requests of one encoding.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyFrameRequest {
    tries_left: u8,
    sent: Option<Instant>,
}

impl KeyFrameRequest {
    /// Somebody cannot decode without a key frame. Joins a request that is under way.
    pub fn want(&mut self) {
        if self.tries_left == 0 {
            self.tries_left = MAX_TRIES;
        }
    }

    /// Whether somebody waits for one.
    pub fn is_wanted(&self) -> bool {
        self.tries_left > 0
    }

    /// Nobody waits any longer.
    pub fn cancel(&mut self) {
        self.tries_left = 0;
    }

    /// A key frame arrived.
    pub fn on_key_frame(&mut self) {
        self.tries_left = 0;
    }

    /// When to send the next request, `None` where nobody waits.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        (self.tries_left > 0).then(|| self.sent.map_or(now, |sent| sent + MIN_INTERVAL))
    }

    /// Whether to send one now; if so, it counts as sent.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.poll_timeout(now).is_some_and(|at| at <= now);
        if due {
            self.tries_left -= 1;
            self.sent = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    #[test]
    fn one_request_serves_all_who_wait() {
        let (mut request, start) = (KeyFrameRequest::default(), origin());
        assert!(!request.poll(start));
        request.want();
        request.want();
        assert!(request.poll(start));
        request.want();
        assert!(!request.poll(start + MIN_INTERVAL / 2));
        assert!(request.poll(start + MIN_INTERVAL), "asked again: none came");
        request.on_key_frame();
        assert_eq!(request.poll_timeout(start), None);
    }

    #[test]
    fn a_request_soon_after_the_last_waits_its_turn() {
        let (mut request, start) = (KeyFrameRequest::default(), origin());
        request.want();
        assert!(request.poll(start));
        request.on_key_frame();
        request.want();
        assert!(!request.poll(start + MIN_INTERVAL / 5));
        assert_eq!(request.poll_timeout(start), Some(start + MIN_INTERVAL));
    }

    #[test]
    fn asking_a_silent_sender_ends() {
        let (mut request, start) = (KeyFrameRequest::default(), origin());
        request.want();
        let sent = (0..100).filter(|&i| request.poll(start + i * MIN_INTERVAL)).count();
        assert_eq!(sent, usize::from(MAX_TRIES));
        request.want();
        assert!(request.poll(start + 100 * MIN_INTERVAL));
    }
}
