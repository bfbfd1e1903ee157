//! What each encoding of a source costs, and whether it is being sent at all.

use std::time::{Duration, Instant};

use crate::units::Bitrate;

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
}

impl LayerRate {
    /// Nothing measured yet.
    pub fn new(now: Instant) -> Self {
        Self { bytes: [0; BUCKETS], total: 0, current: 0, began: now }
    }

    /// A packet of that size on the wire arrived.
    pub fn on_packet(&mut self, now: Instant, wire_len: usize) {
        self.advance(now);
        self.bytes[self.current] += wire_len as u32;
        self.total += wire_len as u64;
    }

    /// The mean over the last second.
    pub fn bitrate(&mut self, now: Instant) -> Bitrate {
        self.advance(now);
        Bitrate::bps(self.total * 8 * 1000 / (BUCKET.as_millis() as u64 * BUCKETS as u64))
    }

    fn advance(&mut self, now: Instant) {
        let mut behind = now.saturating_duration_since(self.began);
        if behind >= BUCKET * BUCKETS as u32 {
            *self = Self::new(now);
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

/// An encoding without a packet for this long has been switched off by its sender. Slides at one frame a second
/// are still on.
pub const SILENCE: Duration = Duration::from_millis(2500);

/// While the source's other encodings go on, this much silence is enough to tell, or this many of its own
/// frames' time where that is longer: encoders drop a frame now and then, and may code each encoding at
/// another rate.
const MIN_SILENCE: Duration = Duration::from_millis(300);
const SILENT_FRAMES: u32 = 6;

/// As many frames of others mean that these go on. A single one may only be the first after an outage of all.
const FRAMES_OF_OTHERS: u8 = 8;

/// Whether one encoding is being sent, its frames, and what its temporal layers take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    last: Option<Instant>,
    /// Frames of the source's other encodings since.
    behind: u8,
    /// Frames of each temporal layer in the last full second, and in the one being counted since `began`.
    fps: [u16; TEMPORAL_LAYERS],
    counting: [u16; TEMPORAL_LAYERS],
    /// What they take, by the mean of the last few seconds.
    rates: [f64; TEMPORAL_LAYERS],
    history: History,
    bytes: [u32; TEMPORAL_LAYERS],
    began: Option<Instant>,
}

/// Temporal layers that VP8 can name (RFC 7741 §4.2).
pub const TEMPORAL_LAYERS: usize = 4;

/// The last seconds of an encoding that comes in bursts.
#[derive(Clone, Copy, Debug, Default)]
struct History {
    /// Bit/s by second, the newest last.
    seconds: [u32; HISTORY],
    /// What has to be served for all of it to leave within [`BURST_DELAY`].
    served: u32,
}

/// Longer than most pages are shown.
const HISTORY: usize = 30;

/// Seconds that slides may take: a receiver that sees a page later than 5 s after its turn is lost.
const BURST_DELAY: f64 = 4.5;

impl History {
    fn add(&mut self, bps: u32) {
        self.seconds.rotate_left(1);
        self.seconds[HISTORY - 1] = bps;
        // The least rate that serves each span of seconds before its last bit has waited too long.
        let spans = (0..HISTORY).flat_map(|from| {
            let sums = self.seconds[from..].iter().scan(0, |sum: &mut u64, &bps| {
                *sum += u64::from(bps);
                Some(*sum)
            });
            sums.zip(1u8..).map(|(bits, seconds)| (bits as f64 / (f64::from(seconds) + BURST_DELAY)) as u64)
        });
        self.served = u32::try_from(spans.max().unwrap_or(0)).unwrap_or(u32::MAX);
    }
}

/// How fast the mean forgets: over so many seconds.
const MEAN: f64 = 12.0;

impl Activity {
    /// A packet of that temporal layer arrived, so large on the wire.
    #[inline]
    pub fn on_packet(&mut self, now: Instant, tid: u8, wire_len: usize) {
        self.last = Some(now);
        self.behind = 0;
        if let Some(bytes) = self.bytes.get_mut(usize::from(tid)) {
            *bytes = bytes.saturating_add(wire_len as u32);
        }
    }

    /// A frame of that temporal layer began.
    #[inline]
    pub fn on_frame(&mut self, now: Instant, tid: u8) {
        let began = *self.began.get_or_insert(now);
        let counted = now.saturating_duration_since(began);
        if counted >= Duration::from_secs(1) {
            self.fps = if counted < SILENCE { self.counting } else { Default::default() };
            let millis = counted.as_millis().max(1) as u64;
            let all: u64 = self.bytes.iter().copied().map(u64::from).sum();
            // Seconds in which nothing came are seconds, too.
            (1..millis / 1000).take(HISTORY).for_each(|_| self.history.add(0));
            self.history.add(u32::try_from(all * 8000 / millis.clamp(1, 2000)).unwrap_or(u32::MAX));
            for (rate, bytes) in self.rates.iter_mut().zip(self.bytes) {
                let last = f64::from(bytes) * 8000.0 / millis as f64;
                *rate = if *rate == 0.0 { last } else { *rate + (last - *rate) / MEAN };
            }
            (self.counting, self.bytes) = Default::default();
            self.began = Some(now);
        }
        if let Some(count) = self.counting.get_mut(usize::from(tid)) {
            *count = count.saturating_add(1);
        }
    }

    /// A frame of another encoding of the source began.
    #[inline]
    pub fn on_frame_of_another(&mut self) {
        self.behind = self.behind.saturating_add(1);
    }

    /// Frames a second of each temporal layer alone; all zero until a second was counted.
    pub fn fps(&self) -> [u16; TEMPORAL_LAYERS] {
        self.fps
    }

    /// What each temporal layer alone takes; all zero until a second was counted. `bursts` says that it comes in
    /// bursts, as slides do: then what serves these in time, which is far less than they take while they last.
    pub fn rates(&self, bursts: bool) -> [Bitrate; TEMPORAL_LAYERS] {
        let all: f64 = self.rates.iter().sum();
        let scale = if bursts && all > 0.0 { f64::from(self.history.served) / all } else { 1.0 };
        self.rates.map(|rate| Bitrate::bps((rate * scale) as u64))
    }

    /// Whether the sender sends this encoding at present.
    #[inline]
    pub fn active(&self, now: Instant) -> bool {
        let Some(last) = self.last else { return false };
        let silent = now.saturating_duration_since(last);
        if self.behind < FRAMES_OF_OTHERS || silent < MIN_SILENCE {
            return silent < SILENCE;
        }
        let fps: u32 = self.fps.iter().copied().map(u32::from).sum();
        let frames = Duration::from_secs(1).checked_div(fps).map(|frame| frame * SILENT_FRAMES);
        silent < frames.unwrap_or(SILENCE).clamp(MIN_SILENCE, SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let start = origin();
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
        let start = origin();
        let mut activity = Activity::default();
        assert!(!activity.active(start));
        activity.on_packet(start, 0, 100);
        assert!(activity.active(start + SILENCE / 2));
        assert!(!activity.active(start + SILENCE));
    }

    #[test]
    fn silence_is_noticed_sooner_while_the_other_encodings_go_on() {
        let ms = Duration::from_millis(1);
        // frames a second, frames of others since, silent for, active
        for (fps, others, silent, active) in [
            (30, 20, 299, true),
            (30, 20, 301, false),
            (30, 7, 301, true),
            (5, 40, 1190, true),
            (5, 40, 1210, false),
            (1, 100, 2400, true),
        ] {
            let (mut activity, start) = (Activity::default(), origin());
            for i in 0..=fps {
                activity.on_packet(start + i * Duration::from_secs(1) / fps, 0, 125);
                activity.on_frame(start + i * Duration::from_secs(1) / fps, 0);
            }
            assert_eq!(activity.fps(), [fps as u16, 0, 0, 0]);
            // The packet that ends the second is counted before its frame.
            assert_eq!(activity.rates(false)[0], Bitrate::kbps(u64::from(fps) + 1));
            (0..others).for_each(|_| activity.on_frame_of_another());
            let now = start + Duration::from_secs(1) + silent * ms;
            assert_eq!(activity.active(now), active, "{fps} {others} {silent}");
        }
    }
}
