//! What each encoding of a source costs, and whether it is being sent at all.

use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// An encoding without a packet for this long has been switched off by its sender. Slides at one frame a second
/// are still on.
pub const SILENCE: Duration = Duration::from_millis(2500);

const BUCKET: Duration = Duration::from_millis(100);
const BUCKETS: usize = 10;

/// The mean rate of one encoding over the last second.
#[derive(Clone, Copy, Debug)]
pub struct LayerRate {
    bytes: [u32; BUCKETS],
    /// Sum of `bytes`.
    total: u64,
    /// The bucket being filled, and when it began.
    current: usize,
    began: Instant,
    last: Option<Instant>,
}

impl LayerRate {
    /// Nothing measured yet.
    pub fn new(now: Instant) -> Self {
        Self { bytes: [0; BUCKETS], total: 0, current: 0, began: now, last: None }
    }

    /// A packet of that size on the wire arrived.
    pub fn on_packet(&mut self, now: Instant, wire_len: usize) {
        self.advance(now);
        self.bytes[self.current] += wire_len as u32;
        self.total += wire_len as u64;
        self.last = Some(now);
    }

    /// The mean over the last second.
    pub fn bitrate(&mut self, now: Instant) -> Bitrate {
        self.advance(now);
        Bitrate::bps(self.total * 8 * 1000 / (BUCKET.as_millis() as u64 * BUCKETS as u64))
    }

    /// Whether the sender sends this encoding at present.
    pub fn active(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < SILENCE)
    }

    fn advance(&mut self, now: Instant) {
        let mut behind = now.saturating_duration_since(self.began);
        if behind >= BUCKET * BUCKETS as u32 {
            *self = Self { last: self.last, ..Self::new(now) };
            return;
        }
        while behind >= BUCKET {
            behind -= BUCKET;
            self.began += BUCKET;
            self.current = (self.current + 1) % BUCKETS;
            self.total -= u64::from(std::mem::take(&mut self.bytes[self.current]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::testing::start;

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let start = start();
        let mut rate = LayerRate::new(start);
        for i in 0..200 {
            rate.on_packet(start + i * Duration::from_millis(10), 125);
        }
        let end = start + Duration::from_secs(2);
        let kbps = rate.bitrate(end).as_bps() / 1000;
        assert!((90..=110).contains(&kbps), "{kbps}");
        assert_eq!(rate.bitrate(end + Duration::from_secs(2)), Bitrate::ZERO);
    }

    #[test]
    fn an_encoding_is_off_before_its_first_packet_and_after_silence() {
        let start = start();
        let mut rate = LayerRate::new(start);
        assert!(!rate.active(start));
        rate.on_packet(start, 100);
        assert!(rate.active(start + SILENCE / 2));
        assert!(!rate.active(start + SILENCE));
    }
}
