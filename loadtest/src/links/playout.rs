//! How a receiver plays sound: a model of libwebrtc's NetEQ. Packets wait for their turn; what is not there in time
//! is concealed. The delay follows the arrivals: it is stretched at once when the buffer runs dry, and shrinks or
//! grows towards its target a tenth as fast as sound is played.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Later than this beyond the least delay, a packet counts as lost.
pub const TOO_LATE: Duration = Duration::from_millis(400);

/// NetEQ's defaults: the longest delay of each half second counts, in steps of 20 ms, and what counted before is
/// forgotten by this factor then, at the beginning faster.
const WINDOW: Duration = Duration::from_millis(500);
const STEP_MS: f64 = 20.0;
const FORGET: f64 = 0.983;
const START_WEIGHT: f64 = 2.0;
const QUANTILE: f64 = 0.95;
const STEPS: usize = 100;

/// A delay is that beyond the least of so long.
const HISTORY: Duration = Duration::from_secs(2);

/// Sound at the beginning waits this long.
const START_MS: f64 = 80.0;

/// What a frame's playing time may be changed by; and shortened, where far too much waits.
const STRETCH: f64 = 0.1;
const FAST: f64 = 0.5;
const FAR_TOO_MUCH: f64 = 4.0;

/// More packets than this do not wait: all are thrown away, and sound goes on with what comes next.
const MOST_WAITING: usize = 200;

/// Frames that are remembered, so that what arrives twice counts once.
const REMEMBERED: usize = 1000;

/// How long concealment goes on before the model looks again.
const EXPAND: f64 = 10.0;

/// A second of sound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SecondOfSound {
    /// Played or concealed, milliseconds.
    pub played_ms: f64,
    /// Concealed, milliseconds.
    pub concealed_ms: f64,
    /// The longest delay beyond the least, milliseconds.
    pub delay_ms: f64,
}

/// What plays a voice. All times are since the lesson began.
#[derive(Debug)]
pub struct Playout {
    frame: Duration,
    /// The least time from capture to arrival.
    least: Option<Duration>,
    delays: Delays,
    /// Beyond the least, milliseconds.
    delay_ms: f64,
    /// The frame that is played next.
    next: u32,
    waiting: BTreeSet<u32>,
    /// The last that have arrived.
    arrived: BTreeSet<u32>,
    in_time: u64,
    gap_ms: f64,
    longest_gap_ms: f64,
    seconds: Vec<SecondOfSound>,
}

impl Playout {
    /// Of frames of this length.
    pub fn new(frame: Duration) -> Self {
        Self {
            frame,
            least: None,
            delays: Delays::default(),
            delay_ms: START_MS,
            next: 0,
            waiting: BTreeSet::new(),
            arrived: BTreeSet::new(),
            in_time: 0,
            gap_ms: 0.0,
            longest_gap_ms: 0.0,
            seconds: Vec::new(),
        }
    }

    /// A frame arrived. Returns whether for the first time, and in time.
    pub fn arrive(&mut self, now: Duration, number: u32) -> bool {
        let Some(late) = self.take(now, number) else { return false };
        self.delays.add(now, now.saturating_sub(self.captured(number)));
        late <= TOO_LATE
    }

    /// A frame came again, with a later one: as `arrive`, but nothing is to be waited for longer because of it.
    pub fn mend(&mut self, now: Duration, number: u32) -> bool {
        self.take(now, number).is_some_and(|late| late <= TOO_LATE)
    }

    /// How late a frame is that arrived for the first time.
    fn take(&mut self, now: Duration, number: u32) -> Option<Duration> {
        self.advance(now);
        if !self.arrived.insert(number) {
            return None;
        }
        while self.arrived.len() > REMEMBERED {
            self.arrived.pop_first();
        }
        let delay = now.saturating_sub(self.captured(number));
        let first = self.least.is_none();
        let least = self.least.map_or(delay, |least| least.min(delay));
        if first {
            self.next = number;
        } else if let Some(before) = self.least {
            // A shorter way makes all others longer.
            self.delay_ms += ms(before - least);
        }
        self.least = Some(least);
        let late = delay - least;
        if self.waiting.len() >= MOST_WAITING {
            self.waiting.clear();
            (self.next, self.delay_ms) = (number, ms(late));
        }
        if number >= self.next {
            self.waiting.insert(number);
        }
        self.in_time += u64::from(late <= TOO_LATE);
        Some(late)
    }

    /// Plays until `now`.
    pub fn advance(&mut self, now: Duration) {
        let Some(least) = self.least else { return };
        loop {
            let due = self.captured(self.next) + least + Duration::from_secs_f64(self.delay_ms / 1000.0);
            if due > now {
                return;
            }
            let frame_ms = ms(self.frame);
            if self.waiting.remove(&self.next) {
                self.play(due, frame_ms, 0.0);
                let target = self.delays.target_ms();
                let shorter = if self.delay_ms > target * FAR_TOO_MUCH { FAST } else { STRETCH };
                let stretch = (target - self.delay_ms).clamp(-frame_ms * shorter, frame_ms * STRETCH);
                self.delay_ms += stretch;
                self.next += 1;
            } else if self.waiting.is_empty() {
                self.play(due, EXPAND, EXPAND);
                self.delay_ms += EXPAND;
            } else {
                // It is lost: others are there. Time that was filled while it was waited for need not be again.
                let filled = (self.delay_ms - self.delays.target_ms()).clamp(0.0, frame_ms);
                self.play(due, frame_ms - filled, frame_ms - filled);
                self.delay_ms -= filled;
                self.next += 1;
            }
        }
    }

    /// Frames that arrived in time.
    pub fn in_time(&self) -> u64 {
        self.in_time
    }

    /// The longest time without sound, milliseconds.
    pub fn longest_gap_ms(&self) -> f64 {
        self.longest_gap_ms
    }

    /// What was played in each second since the lesson began.
    pub fn seconds(&self) -> &[SecondOfSound] {
        &self.seconds
    }

    fn play(&mut self, at: Duration, played: f64, concealed: f64) {
        let second = at.as_secs() as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, SecondOfSound::default());
        }
        let entry = &mut self.seconds[second];
        entry.played_ms += played;
        entry.concealed_ms += concealed;
        entry.delay_ms = entry.delay_ms.max(self.delay_ms);
        self.gap_ms = if concealed > 0.0 { self.gap_ms + concealed } else { 0.0 };
        self.longest_gap_ms = self.longest_gap_ms.max(self.gap_ms);
    }

    fn captured(&self, number: u32) -> Duration {
        self.frame * number
    }
}

/// What packets were late by.
#[derive(Debug)]
struct Delays {
    /// From capture to arrival, of the last [`HISTORY`], by arrival.
    recent: VecDeque<(Duration, Duration)>,
    /// When the present window began, and the longest of it.
    window: Option<(Duration, f64)>,
    weights: [f64; STEPS],
    counted: u32,
}

impl Default for Delays {
    fn default() -> Self {
        Self { recent: VecDeque::new(), window: None, weights: [0.0; STEPS], counted: 0 }
    }
}

impl Delays {
    fn add(&mut self, now: Duration, delay: Duration) {
        while self.recent.pop_front_if(|(at, _)| *at + HISTORY < now).is_some() {}
        self.recent.push_back((now, delay));
        let least = self.recent.iter().map(|&(_, delay)| delay).min().unwrap_or(delay);
        let late = ms(delay - least);
        let (began, longest) = self.window.get_or_insert((now, 0.0));
        if now - *began > WINDOW {
            let step = (*longest / STEP_MS) as usize;
            (*began, *longest) = (now, late);
            self.count(step);
        } else {
            *longest = longest.max(late);
        }
    }

    fn count(&mut self, step: usize) {
        self.counted += 1;
        let forget = (1.0 - START_WEIGHT / f64::from(self.counted + 1)).clamp(0.0, FORGET);
        self.weights.iter_mut().for_each(|weight| *weight *= forget);
        if let Some(weight) = self.weights.get_mut(step) {
            *weight += 1.0 - forget;
        }
    }

    /// The delay with which all but one window in twenty are in time.
    fn target_ms(&self) -> f64 {
        if self.counted == 0 {
            return START_MS;
        }
        let total: f64 = self.weights.iter().sum();
        let mut sum = 0.0;
        let step = self.weights.iter().position(|weight| {
            sum += weight;
            sum >= QUANTILE * total
        });
        (step.unwrap_or(0) + 1) as f64 * STEP_MS
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    /// Frames with a delay each, `None`: lost.
    fn play(delays_ms: impl IntoIterator<Item = Option<u64>>) -> Playout {
        let mut playout = Playout::new(FRAME);
        let mut arrivals: Vec<(Duration, u32)> = (0..)
            .zip(delays_ms)
            .filter_map(|(number, delay)| Some((FRAME * number + Duration::from_millis(delay?), number)))
            .collect();
        arrivals.sort_unstable();
        for (at, number) in arrivals {
            playout.arrive(at, number);
        }
        playout
    }

    fn concealed(playout: &Playout) -> f64 {
        playout.seconds().iter().map(|second| second.concealed_ms).sum()
    }

    #[test]
    fn a_steady_path_needs_no_concealment() {
        let playout = play((0..500).map(|_| Some(300)));
        assert_eq!((concealed(&playout), playout.in_time()), (0.0, 500));
        assert!(playout.seconds()[5].delay_ms <= 40.0);
    }

    #[test]
    fn a_lost_frame_is_concealed_for_its_length() {
        let playout = play((0..550).map(|number| (number % 100 != 99).then_some(50)));
        assert_eq!((concealed(&playout), playout.in_time()), (100.0, 545));
        assert_eq!(playout.longest_gap_ms(), 20.0);
    }

    #[test]
    fn what_is_lost_and_said_again_with_the_next_frame_is_hardly_waited_for() {
        let mut playout = Playout::new(FRAME);
        for number in (0..500).filter(|number| number % 100 != 50) {
            let now = FRAME * number + Duration::from_millis(50);
            let new = number > 0 && playout.mend(now, number - 1);
            assert_eq!(new, number % 100 == 51, "what was there is not new");
            playout.arrive(now, number);
        }
        assert_eq!(playout.in_time(), 500);
        assert!(concealed(&playout) <= 5.0 * EXPAND, "{}", concealed(&playout));
    }

    #[test]
    fn a_stall_is_concealed_once_and_its_delay_shrinks_again() {
        // Half a second in which nothing comes, and then all of it at once.
        let stalled =
            |number: u64| 50 + if (100..125).contains(&number) { 500 - (number - 100) * 20 } else { 0 };
        let playout = play((0..1000).map(|number| Some(stalled(number))));
        let concealed = concealed(&playout);
        assert!((430.0..=500.0).contains(&concealed), "{concealed}");
        assert!(playout.longest_gap_ms() >= 430.0);
        let delays: Vec<f64> = playout.seconds().iter().map(|second| second.delay_ms).collect();
        assert!(delays[2] > 400.0 && delays[9] < 60.0, "{delays:?}");
        assert_eq!(playout.in_time(), 995, "five waited longer than 400 ms");
    }

    #[test]
    fn what_is_lost_in_a_stall_is_not_concealed_twice() {
        let playout = play((0..500).map(|number| (!(100..200).contains(&number)).then_some(50)));
        let concealed = concealed(&playout);
        assert!((1950.0..=2020.0).contains(&concealed), "{concealed}");
    }

    #[test]
    fn what_happens_now_and_then_is_waited_for_from_the_second_time_on() {
        // Each five seconds a large frame stands in the way for 100 ms.
        let late = |number: u64| 50 + if number % 250 == 249 { 100 } else { 0 };
        let playout = play((0..1500).map(|number| Some(late(number))));
        let by_second: Vec<f64> = playout.seconds().iter().map(|second| second.concealed_ms).collect();
        assert!(by_second[5] > 0.0, "{by_second:?}");
        assert_eq!(by_second[10..].iter().sum::<f64>(), 0.0, "{by_second:?}");
    }

    #[test]
    fn jitter_is_waited_for_in_the_end() {
        let playout = play((0..3000).map(|number| Some(50 + number * 7919 % 100)));
        let late: f64 = playout.seconds()[30..].iter().map(|second| second.concealed_ms).sum();
        assert!(late < 600.0, "{late} ms of 30 s");
    }
}
