//! How a receiver puts frames together and shows them: a model of libwebrtc's frame buffer, its requests for key
//! frames, and of what `getStats` calls a freeze.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::media::Mark;

/// libwebrtc: how long a decoder waits for a frame before it asks for a key frame; and for a key frame.
const MAX_WAIT: Duration = Duration::from_secs(3);
const MAX_WAIT_FOR_KEY: Duration = Duration::from_millis(200);

/// Frames that may be incomplete at a time; the oldest are given up.
const MAX_PARTIAL: usize = 300;

/// A freeze is a gap of at least three mean gaps, and 150 ms more than the mean, of the last 30 (W3C webrtc-stats).
const GAPS: usize = 30;
const LONGER: Duration = Duration::from_millis(150);

/// What waiting for late frames may add, and how fast that shrinks with each frame that is not late: slowly, as
/// libwebrtc reckons with retransmissions for a minute after it has needed some.
const MAX_DELAY: Duration = Duration::from_secs(1);
const SHRINK: f64 = 0.003;

/// A packet of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Unwrapped sequence number.
    pub seq: u64,
    /// Whether the frame begins or ends with it.
    pub first: bool,
    /// See `first`.
    pub last: bool,
    /// Whether the frame is a key frame, where the packet begins it.
    pub key: bool,
    /// The frame's temporal layer.
    pub tid: u8,
    /// Whether the frame refers to the base layer alone.
    pub sync: bool,
    /// The base-layer frame that it builds upon or is.
    pub base: u8,
    /// Unwrapped RTP timestamp.
    pub timestamp: u64,
    /// Which frame of the source it is.
    pub mark: Mark,
    /// Bytes that it takes on the wire.
    pub wire: u64,
}

/// A frame that was shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// When.
    pub at: Duration,
    /// What.
    pub mark: Mark,
    /// Its first packet.
    pub first_seq: u64,
    /// Bytes on the wire of all its packets.
    pub wire: u64,
}

#[derive(Clone, Copy, Debug)]
struct Partial {
    first: Option<u64>,
    last: Option<u64>,
    parts: u64,
    wire: u64,
    key: bool,
    about: Part,
}

impl Partial {
    fn complete(&self) -> bool {
        matches!((self.first, self.last), (Some(first), Some(last)) if last + 1 - first == self.parts)
    }
}

/// A picture that is received. All times are since the lesson began.
#[derive(Debug)]
pub struct Pictures {
    /// By timestamp.
    partial: BTreeMap<u64, Partial>,
    /// The last frame decoded, and the last of its base and middle layer.
    decoded: Option<u64>,
    base: Option<u8>,
    middle: Option<u8>,
    key_needed: bool,
    waiting_since: Duration,
    asked: Option<Duration>,
    heard: Option<Duration>,
    least: Option<Duration>,
    delay: Duration,
    shown: Option<Shown>,
    gaps: VecDeque<Duration>,
    /// Whether the server said that nothing flows.
    paused: bool,
    freezes: u64,
    frozen: Duration,
    frames: u64,
}

impl Pictures {
    /// A picture that is waited for from `now` on.
    pub fn new(now: Duration) -> Self {
        Self {
            partial: BTreeMap::new(),
            decoded: None,
            base: None,
            middle: None,
            key_needed: true,
            waiting_since: now,
            asked: None,
            heard: None,
            least: None,
            delay: Duration::ZERO,
            shown: None,
            gaps: VecDeque::with_capacity(GAPS + 1),
            paused: false,
            freezes: 0,
            frozen: Duration::ZERO,
            frames: 0,
        }
    }

    /// A packet arrived for the first time. Returns the frames that are shown because of it.
    pub fn arrive(&mut self, now: Duration, part: &Part) -> Vec<Shown> {
        self.heard = Some(now);
        if self.decoded.is_some_and(|decoded| part.timestamp <= decoded) {
            return Vec::new();
        }
        let partial = self.partial.entry(part.timestamp).or_insert(Partial {
            first: None,
            last: None,
            parts: 0,
            wire: 0,
            key: false,
            about: *part,
        });
        partial.parts += 1;
        partial.wire += part.wire;
        partial.first = partial.first.or(part.first.then_some(part.seq));
        partial.last = partial.last.or(part.last.then_some(part.seq));
        partial.key |= part.key;
        if self.partial.len() > MAX_PARTIAL {
            self.partial.pop_first();
        }
        let mut shown = Vec::new();
        while let Some(timestamp) = self.decodable() {
            let frame = self.partial[&timestamp];
            self.partial = self.partial.split_off(&(timestamp + 1));
            shown.push(self.decode(now, timestamp, &frame));
        }
        shown
    }

    /// The server said whether anything flows.
    pub fn set_paused(&mut self, now: Duration, paused: bool) {
        if paused && !self.paused {
            self.close_gap(now);
        }
        if !paused && self.paused {
            self.waiting_since = now;
        }
        self.paused = paused;
        self.shown = None;
    }

    /// A loss that cannot be repaired.
    pub fn need_key_frame(&mut self) {
        self.key_needed = true;
    }

    /// Whether to ask for a key frame now.
    pub fn poll_key_frame_request(&mut self, now: Duration) -> bool {
        if self.paused {
            return false;
        }
        let wait = if self.key_needed { MAX_WAIT_FOR_KEY } else { MAX_WAIT };
        let since = self.asked.map_or(self.waiting_since, |asked| asked.max(self.waiting_since));
        let streaming = self.decoded.is_none() || self.heard.is_some_and(|heard| now < heard + 2 * MAX_WAIT);
        let first = self.asked.is_none() && self.key_needed && self.heard.is_some();
        let due = streaming && (first || now >= since + wait);
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// Ends the account: a picture that stands still is frozen.
    pub fn finish(&mut self, now: Duration) {
        self.close_gap(now);
    }

    /// How often it froze.
    pub fn freezes(&self) -> u64 {
        self.freezes
    }

    /// For how long.
    pub fn frozen(&self) -> Duration {
        self.frozen
    }

    /// Frames shown.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The next frame that is complete and whose references were decoded.
    fn decodable(&self) -> Option<u64> {
        let after_key = |frame: &Partial| match frame.about.tid {
            _ if frame.key => true,
            _ if self.key_needed => false,
            0 => self.base.is_some_and(|base| frame.about.base == base.wrapping_add(1)),
            1 => self.base == Some(frame.about.base),
            _ => {
                let base = Some(frame.about.base);
                self.base == base && (frame.about.sync || self.middle == base)
            }
        };
        self.partial
            .iter()
            .find(|(_, frame)| frame.complete() && after_key(frame))
            .map(|(&timestamp, _)| timestamp)
    }

    fn decode(&mut self, now: Duration, timestamp: u64, frame: &Partial) -> Shown {
        let Partial { about, wire, key, first, .. } = *frame;
        self.decoded = Some(timestamp);
        match about.tid {
            0 => (self.base, self.middle) = (Some(about.base), None),
            1 => self.middle = Some(about.base),
            _ => {}
        }
        self.key_needed &= !key;
        self.waiting_since = now;
        self.frames += 1;
        let at = self.show_at(now, about.mark.at);
        let shown = Shown { at, mark: about.mark, first_seq: first.unwrap_or(about.seq), wire };
        self.close_gap(at);
        if let Some(before) = self.shown {
            self.gaps.push_back(at - before.at.min(at));
            if self.gaps.len() > GAPS {
                self.gaps.pop_front();
            }
        }
        self.shown = Some(shown);
        shown
    }

    /// Frames are shown in the rhythm of their capture: late ones shift those behind them for a while.
    fn show_at(&mut self, now: Duration, captured: Duration) -> Duration {
        let delay = now.saturating_sub(captured);
        let least = self.least.map_or(delay, |least| least.min(delay));
        self.least = Some(least);
        let late = (delay - least).min(MAX_DELAY);
        self.delay = late.max(self.delay.mul_f64(1.0 - SHRINK));
        let at = now.max(captured + least + self.delay);
        self.shown.map_or(at, |shown| at.max(shown.at))
    }

    /// The picture has not changed since the last frame until now.
    fn close_gap(&mut self, now: Duration) {
        let Some(shown) = self.shown else { return };
        let gap = now.saturating_sub(shown.at);
        let Some(mean) = self.gaps.iter().sum::<Duration>().checked_div(self.gaps.len() as u32) else {
            return;
        };
        if gap >= (mean * 3).max(mean + LONGER) {
            self.freezes += 1;
            self.frozen += gap;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(40);

    /// The `number`th frame of a picture without temporal layers: one packet that takes 50 ms.
    fn frame(number: u32, key: bool) -> (Duration, Part) {
        let at = FRAME * number;
        let part = Part {
            seq: u64::from(number),
            first: true,
            last: true,
            key,
            tid: 0,
            sync: false,
            base: number as u8,
            timestamp: u64::from(number) * 3600,
            mark: Mark { at, number, encoding: 0 },
            wire: 100,
        };
        (at + Duration::from_millis(50), part)
    }

    fn play(numbers: impl IntoIterator<Item = u32>, keys: &[u32]) -> Pictures {
        let mut pictures = Pictures::new(Duration::ZERO);
        for number in numbers {
            let (at, part) = frame(number, keys.contains(&number));
            pictures.arrive(at, &part);
        }
        pictures
    }

    #[test]
    fn begins_with_a_key_frame_and_shows_all_behind_it() {
        let pictures = play(0..100, &[10]);
        assert_eq!((pictures.frames(), pictures.freezes()), (90, 0));
    }

    #[test]
    fn a_frame_that_never_comes_freezes_the_picture_until_the_next_key_frame() {
        let mut pictures = play((0..100).filter(|&number| number != 50), &[0, 75]);
        assert_eq!((pictures.frames(), pictures.freezes()), (75, 1));
        assert_eq!(pictures.frozen(), FRAME * 26);
        pictures.finish(Duration::from_secs(10));
        assert_eq!(pictures.freezes(), 2, "at last it stands still");
    }

    #[test]
    fn a_lost_frame_of_the_highest_layer_is_not_missed() {
        let mut pictures = Pictures::new(Duration::ZERO);
        for number in (0..100).filter(|&number| number != 49 && number != 51) {
            let (at, part) = frame(number, number == 0);
            let (tid, sync) = [(0, false), (2, true), (1, true), (2, false)][number as usize % 4];
            let shown = pictures.arrive(at, &Part { tid, sync, base: (number / 4) as u8, ..part });
            assert_eq!(shown.len(), 1, "{number}");
        }
        assert_eq!((pictures.frames(), pictures.freezes()), (98, 0));
    }

    #[test]
    fn a_frame_of_several_packets_is_shown_when_all_are_there() {
        let mut pictures = play([0], &[0]);
        let (at, part) = frame(1, false);
        let part = |seq, first, last| Part { seq, first, last, ..part };
        assert!(pictures.arrive(at, &part(1, true, false)).is_empty());
        assert!(pictures.arrive(at, &part(3, false, true)).is_empty());
        let shown = pictures.arrive(at, &part(2, false, false));
        assert_eq!((shown.len(), shown[0].wire), (1, 300));
    }

    #[test]
    fn asks_for_a_key_frame_at_once_then_each_200_ms_and_after_three_seconds_without_a_frame() {
        let ms = Duration::from_millis;
        let mut pictures = Pictures::new(Duration::ZERO);
        assert!(!pictures.poll_key_frame_request(ms(10)));
        let (at, part) = frame(3, false);
        pictures.arrive(at, &part);
        assert!(pictures.poll_key_frame_request(at) && !pictures.poll_key_frame_request(at + ms(199)));
        assert!(pictures.poll_key_frame_request(at + ms(200)));
        let mut pictures = play(0..10, &[0]);
        assert!(!pictures.poll_key_frame_request(ms(3000)));
        assert!(pictures.poll_key_frame_request(ms(3500)) && !pictures.poll_key_frame_request(ms(3600)));
    }

    #[test]
    fn what_the_server_pauses_is_not_frozen() {
        let mut pictures = play(0..50, &[0]);
        pictures.set_paused(Duration::from_millis(2050), true);
        pictures.finish(Duration::from_secs(60));
        assert_eq!(pictures.freezes(), 0);
    }
}
