//! Decides which packet leaves next, and when: strict priorities in front of a leaky bucket.
//!
//! The queue holds whatever names a packet to the caller, never its bytes or its numbers: those are given at
//! departure, so that a packet which is dropped here was never numbered. Sizes are what it will take on the
//! wire. A sent packet puts its bits into the bucket, which drains at the link's rate; a packet may leave while
//! what is left takes no longer than the burst to drain. Audio never waits, but fills the bucket like the rest.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::units::{Bitrate, Millis};

/// Who leaves first. A lower class waits until those above are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Sound: leaves at once, whatever the bucket says.
    Audio,
    /// Packets that a receiver missed.
    Resent,
    /// Slides: they may wait while faces cannot, but not for long. See [`Pacer`].
    Slides,
    /// Other pictures.
    Video,
    /// Packets that only measure the link.
    Probe,
}

impl Priority {
    /// Every class, first to leave first.
    pub const ALL: [Self; 5] = [Self::Audio, Self::Resent, Self::Slides, Self::Video, Self::Probe];
}

/// What a pacer may do.
#[derive(Clone, Copy, Debug)]
pub struct PacerConfig {
    /// How fast the bucket drains. Where nothing is known about the link, so fast that it hardly matters.
    pub rate: Bitrate,
    /// How much of the rate's time may leave at once.
    pub burst: Duration,
    /// Most packets that wait in one class.
    pub class_limit: u16,
}

impl Default for PacerConfig {
    /// 5 ms of 50 Mbit/s are 31 kB: whole frames leave at once. 512 packets are 4 s of a 1.2 Mbit/s camera.
    fn default() -> Self {
        Self { rate: Bitrate::kbps(50_000), burst: Duration::from_millis(5), class_limit: 512 }
    }
}

/// A packet that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// Its class.
    pub priority: Priority,
    /// Bytes that it takes on the wire.
    pub size: usize,
    /// What names it to the caller.
    pub item: T,
}

/// A packet in the queue of its class.
#[derive(Clone, Copy, Debug)]
struct Waiting<T> {
    item: T,
    size: u16,
    /// When it came.
    at: Ticks,
}

/// A time in steps of 8 ms, modulo 2^16: a packet waits in half a cache line.
#[derive(Clone, Copy, Debug)]
struct Ticks(u16);

impl Ticks {
    const MILLIS: i32 = 8;

    #[inline]
    fn of(at: Millis) -> Self {
        Self((at.0 / Self::MILLIS as u32) as u16)
    }

    /// Milliseconds since an earlier moment, negative since a later one; both are within minutes.
    #[inline]
    fn since(self, earlier: Self) -> i32 {
        i32::from(self.0.wrapping_sub(earlier.0) as i16) * Self::MILLIS
    }
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a displaced packet will never leave: its stream has to know"]
pub enum Pushed<T> {
    /// It waits.
    Queued,
    /// It waits, and the oldest of its full class was dropped: late media is worth less than new media.
    Displaced(T),
}

/// A packet of slides lets packets of faces go first that came less than this behind it, milliseconds.
const SLIDES_YIELD: i32 = 3500;

/// A frame of a face that waits longer shows, milliseconds.
const PICTURE_PATIENCE: i32 = 100;

/// The queue in front of one link. See the module.
///
/// In this order in memory: what each packet touches fits a cache line, and a class half of another.
#[derive(Debug)]
#[repr(C)]
pub struct Pacer<T> {
    rate: Bitrate,
    bucket: Bucket,
    /// In nanoseconds.
    burst: u32,
    class_limit: u16,
    /// Which classes are not empty, as bits.
    occupied: u8,
    /// In the order of [`Priority::ALL`]. They grow to their limit and stay: no allocation in the long run.
    classes: [VecDeque<Waiting<T>>; Priority::ALL.len()],
    displaced: [u64; Priority::ALL.len()],
}

impl<T> Pacer<T> {
    /// Bytes at its beginning that each packet touches.
    pub const HOT_BYTES: usize = std::mem::offset_of!(Self, classes);
    /// Bytes that a packet takes while it waits.
    pub const BYTES_WAITING: usize = size_of::<Waiting<T>>();

    /// An empty queue.
    pub fn new(config: PacerConfig, now: Instant) -> Self {
        Self {
            rate: config.rate,
            bucket: Bucket { level: 0, at: now },
            burst: nanos(config.burst),
            class_limit: config.class_limit,
            occupied: 0,
            classes: Default::default(),
            displaced: [0; Priority::ALL.len()],
        }
    }

    /// Changes how fast the bucket drains from `now` on. At [`Bitrate::ZERO`] nothing leaves but audio.
    pub fn set_rate(&mut self, now: Instant, rate: Bitrate) {
        let level = self.bucket.level_at(now, self.rate);
        self.bucket.set(now, level, 0, rate);
        self.rate = rate;
    }

    /// Changes how much of the rate's time may leave at once.
    pub fn set_burst(&mut self, burst: Duration) {
        self.burst = nanos(burst);
    }

    /// Queues a packet behind those of its class.
    #[inline]
    pub fn push(&mut self, at: Millis, priority: Priority, size: usize, item: T) -> Pushed<T> {
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        let class = &mut self.classes[priority as usize];
        let oldest = if class.len() >= usize::from(self.class_limit) { class.pop_front() } else { None };
        class.push_back(Waiting { item, size, at: Ticks::of(at) });
        self.occupied |= 1 << priority as u8;
        let Some(oldest) = oldest else { return Pushed::Queued };
        self.displaced[priority as usize] += 1;
        Pushed::Displaced(oldest.item)
    }

    /// The packet that would leave at `now`; `None` where nothing waits or what waits has to.
    #[inline]
    pub fn peek(&self, now: Instant) -> Option<&T> {
        let (class, waiting) = self.first()?;
        self.level_to_leave(now, class).map(|_| &waiting.item)
    }

    /// Takes the packet that [`peek`](Self::peek) shows, and charges the bucket for it.
    #[inline]
    pub fn pop(&mut self, now: Instant) -> Option<Entry<T>> {
        self.pop_within(now, usize::MAX)
    }

    /// The same, unless its size is above `max_size`: then it stays.
    #[inline]
    pub fn pop_within(&mut self, now: Instant, max_size: usize) -> Option<Entry<T>> {
        let (index, first) = self.first()?;
        let size = first.size as usize;
        if size > max_size {
            return None;
        }
        let level = self.level_to_leave(now, index)?;
        let class = &mut self.classes[index];
        let Waiting { item, .. } = class.pop_front()?;
        if class.is_empty() {
            self.occupied &= !(1 << index);
        }
        let packet = nanobits_of(size);
        self.bucket.set(now, level.saturating_add(packet), packet, self.rate);
        Some(Entry { priority: Priority::ALL[index], size, item })
    }

    /// The first of those that wait, and the index of its class.
    #[inline]
    fn first(&self) -> Option<(usize, &Waiting<T>)> {
        const SLIDES: usize = Priority::Slides as usize;
        const FACES: usize = Priority::Video as usize;
        let index = self.occupied.trailing_zeros() as usize;
        let first = self.classes.get(index)?.front()?;
        // A page of slides is large and may take seconds; in that time a face would freeze for it.
        if index == SLIDES
            && let Some(picture) = self.classes[FACES].front()
            && picture.at.since(first.at) < SLIDES_YIELD
        {
            return Some((FACES, picture));
        }
        Some((index, first))
    }

    /// How long pictures wait beyond what they may.
    pub fn overdue(&self, now: Millis) -> Duration {
        let now = Ticks::of(now);
        let overdue = |class: Priority, patience: i32| {
            let waited = |first: &Waiting<T>| (now.since(first.at) - patience).max(0);
            self.classes[class as usize].front().map_or(0, waited)
        };
        let slides = overdue(Priority::Slides, PICTURE_PATIENCE + SLIDES_YIELD);
        Duration::from_millis(slides.max(overdue(Priority::Video, PICTURE_PATIENCE)) as u64)
    }

    /// What the bucket may hold before a packet leaves: the burst.
    #[inline]
    fn brim(&self) -> u64 {
        self.rate.as_bps().saturating_mul(self.burst.into())
    }

    /// What the bucket holds, if a packet of that class may leave.
    #[inline]
    fn level_to_leave(&self, now: Instant, class: usize) -> Option<u64> {
        let level = self.bucket.level_at(now, self.rate);
        (class == AUDIO || self.rate > Bitrate::ZERO && level <= self.brim()).then_some(level)
    }

    /// Drops the packets that `keep` says no to: those of a track that ended, or a layer that was left.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for (index, class) in self.classes.iter_mut().enumerate() {
            class.retain(|waiting| keep(&waiting.item));
            self.occupied &= !(u8::from(class.is_empty()) << index);
        }
    }

    /// Whether one of those that wait is such.
    pub fn any(&self, mut such: impl FnMut(&T) -> bool) -> bool {
        self.classes.iter().flatten().any(|waiting| such(&waiting.item))
    }

    /// When the next packet may leave, possibly in the past; `None` where nothing waits, or nothing would leave
    /// at the present rate.
    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (class, _) = self.first()?;
        if class == AUDIO {
            // It may leave since it came, which was not before the last one left.
            return Some(self.bucket.at);
        }
        let rate = Some(self.rate.as_bps()).filter(|&bps| bps > 0)?;
        let wait = self.bucket.level.saturating_sub(self.brim()).div_ceil(rate);
        Some(self.bucket.at + Duration::from_nanos(wait))
    }

    /// Packets that wait.
    pub fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }

    /// Packets of a class that wait.
    pub fn len_of(&self, priority: Priority) -> usize {
        self.classes[priority as usize].len()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// How many packets of a class were ever displaced.
    pub fn displaced(&self, priority: Priority) -> u64 {
        self.displaced[priority as usize]
    }
}

/// The index of the class of sound.
const AUDIO: usize = Priority::Audio as usize;

/// What the link has still to carry, in billionths of a bit: a rate in bit/s times nanoseconds, exactly.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: u64,
    at: Instant,
}

impl Bucket {
    /// However much audio leaves beyond the rate, the rest waits no longer than this for it.
    const MAX_LEVEL: Duration = Duration::from_secs(1);

    #[inline]
    fn level_at(&self, now: Instant, rate: Bitrate) -> u64 {
        // Nothing drains while a run leaves.
        if now <= self.at {
            return self.level;
        }
        self.level.saturating_sub(nanobits(rate, now.saturating_duration_since(self.at)))
    }

    /// Holds so much now, its last packet among it; what else is above the brim flows off.
    #[inline]
    fn set(&mut self, now: Instant, level: u64, packet: u64, rate: Bitrate) {
        self.level = level.min(nanobits(rate, Self::MAX_LEVEL).max(packet));
        self.at = self.at.max(now);
    }
}

const NANOS: u64 = 1_000_000_000;

/// A burst; 4.3 s are as long as any.
fn nanos(burst: Duration) -> u32 {
    u32::try_from(burst.as_nanos()).unwrap_or(u32::MAX)
}

/// What a rate carries in a span.
#[inline]
fn nanobits(rate: Bitrate, span: Duration) -> u64 {
    let nanos = span.as_secs().saturating_mul(NANOS).saturating_add(span.subsec_nanos().into());
    rate.as_bps().saturating_mul(nanos)
}

/// What a packet of so many bytes is.
#[inline]
fn nanobits_of(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(8 * NANOS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, origin};

    const MILLI: Duration = Duration::from_millis(1);

    /// 1 Mbit/s: 125 bytes a millisecond.
    fn thin(now: Instant) -> Pacer<u32> {
        Pacer::new(
            PacerConfig { rate: Bitrate::kbps(1000), burst: Duration::from_millis(5), class_limit: 4 },
            now,
        )
    }

    fn drain(pacer: &mut Pacer<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| pacer.pop(now)).map(|entry| entry.item).collect()
    }

    #[test]
    fn higher_classes_leave_first_and_each_in_its_order() {
        let now = origin();
        let mut pacer = Pacer::new(PacerConfig::default(), now);
        let pushes = [
            (Priority::Probe, 0),
            (Priority::Video, 1),
            (Priority::Resent, 2),
            (Priority::Audio, 3),
            (Priority::Video, 4),
            (Priority::Audio, 5),
        ];
        for (priority, item) in pushes {
            assert_eq!(pacer.push(Millis(0), priority, 100, item), Pushed::Queued);
        }
        assert_eq!(pacer.len(), 6);
        assert_eq!(drain(&mut pacer, now), [3, 5, 2, 1, 4, 0]);
        assert_eq!((pacer.len(), pacer.poll_timeout()), (0, None));
    }

    #[test]
    fn a_whole_frame_leaves_at_once_where_the_link_has_room() {
        let now = origin();
        let mut pacer = Pacer::new(PacerConfig::default(), now);
        for item in 0..16 {
            let _ = pacer.push(Millis(0), Priority::Video, 1200, item);
        }
        assert_eq!(drain(&mut pacer, now).len(), 16);
    }

    #[test]
    fn on_a_thin_link_video_leaves_at_the_rate_after_a_burst() {
        let now = origin();
        let mut pacer = thin(now);
        for item in 0..4 {
            let _ = pacer.push(Millis(0), Priority::Video, 625, item);
        }
        // 5 ms and one packet, then one each 5 ms.
        assert_eq!(drain(&mut pacer, now), [0, 1]);
        assert_eq!(pacer.poll_timeout(), Some(now + 5 * MILLI));
        assert!(drain(&mut pacer, now + 4 * MILLI).is_empty());
        assert_eq!(drain(&mut pacer, now + 5 * MILLI), [2]);
        assert_eq!(drain(&mut pacer, now + 10 * MILLI), [3]);
    }

    #[test]
    fn audio_never_waits_and_video_pays_for_it() {
        let now = origin();
        let mut pacer = thin(now);
        let _ = pacer.push(Millis(0), Priority::Video, 10_000, 0);
        let _ = pacer.push(Millis(0), Priority::Video, 1, 1);
        assert_eq!(drain(&mut pacer, now), [0]);
        let _ = pacer.push(Millis(0), Priority::Audio, 125, 2);
        assert!(pacer.poll_timeout().is_some_and(|at| at <= now + MILLI));
        assert_eq!(drain(&mut pacer, now + MILLI), [2]);
        // 10125 bytes take 81 ms, of which 5 may be left.
        assert_eq!(pacer.poll_timeout(), Some(now + 76 * MILLI));
        assert!(drain(&mut pacer, now + 75 * MILLI).is_empty());
        assert_eq!(drain(&mut pacer, now + 76 * MILLI), [1]);
    }

    #[test]
    fn video_waits_a_second_at_most_for_audio_beyond_the_rate() {
        let now = origin();
        let mut pacer = thin(now);
        for _ in 0..1000 {
            let _ = pacer.push(Millis(0), Priority::Audio, 1000, 0);
            assert!(pacer.pop(now).is_some());
        }
        let _ = pacer.push(Millis(0), Priority::Video, 1000, 1);
        assert_eq!(pacer.poll_timeout(), Some(now + 995 * MILLI));
        // The same holds for bits from a time when the rate was higher.
        pacer.set_rate(now, Bitrate::kbps(10));
        assert_eq!(pacer.poll_timeout(), Some(now + 995 * MILLI));
    }

    #[test]
    fn without_a_rate_only_audio_leaves() {
        let now = origin();
        let mut pacer = thin(now);
        pacer.set_rate(now, Bitrate::ZERO);
        let _ = pacer.push(Millis(0), Priority::Video, 100, 1);
        assert_eq!((pacer.peek(now), pacer.poll_timeout()), (None, None));
        let _ = pacer.push(Millis(0), Priority::Audio, 100, 2);
        assert_eq!(drain(&mut pacer, now + Duration::from_secs(9)), [2]);
        pacer.set_rate(now + Duration::from_secs(9), Bitrate::kbps(1000));
        assert_eq!(drain(&mut pacer, now + Duration::from_secs(10)), [1]);
    }

    #[test]
    fn a_full_class_gives_back_its_oldest() {
        let now = origin();
        let mut pacer = thin(now);
        for item in 0..4 {
            assert_eq!(pacer.push(Millis(0), Priority::Video, 100, item), Pushed::Queued);
        }
        assert_eq!(pacer.push(Millis(0), Priority::Video, 50, 4), Pushed::Displaced(0));
        assert_eq!(
            pacer.push(Millis(0), Priority::Audio, 10, 5),
            Pushed::Queued,
            "each class has its own limit"
        );
        assert_eq!(pacer.len(), 5);
        assert_eq!((pacer.displaced(Priority::Video), pacer.displaced(Priority::Audio)), (1, 0));
    }

    #[test]
    fn drops_what_a_track_leaves_behind() {
        let now = origin();
        let mut pacer = thin(now);
        for (priority, item) in [(Priority::Audio, 1), (Priority::Video, 2), (Priority::Video, 3)] {
            let _ = pacer.push(Millis(0), priority, 100, item);
        }
        pacer.retain(|&item| item == 3);
        assert_eq!(pacer.len(), 1);
        assert_eq!(drain(&mut pacer, now), [3]);
    }

    #[test]
    fn slides_leave_before_faces_only_once_they_have_waited_for_long() {
        // Counting wraps in between.
        let (now, at) = (origin(), Millis(u32::MAX - 103));
        let later = |ms: i32| Millis(at.0.wrapping_add(ms as u32));
        let mut pacer = thin(now);
        let _ = pacer.push(at, Priority::Slides, 100, 1);
        let _ = pacer.push(later(SLIDES_YIELD - 8), Priority::Video, 100, 2);
        let _ = pacer.push(later(SLIDES_YIELD + 8), Priority::Video, 100, 3);
        assert_eq!(drain(&mut pacer, now), [2, 1, 3]);
    }

    #[test]
    fn says_how_long_pictures_wait_beyond_what_they_may() {
        let mut pacer = thin(origin());
        let _ = pacer.push(Millis(8), Priority::Slides, 100, 1);
        let overdue = |pacer: &Pacer<u32>, ms: i32| pacer.overdue(Millis(8 + ms as u32)).as_millis();
        assert_eq!(
            (overdue(&pacer, SLIDES_YIELD), overdue(&pacer, SLIDES_YIELD + 250)),
            (0, 144),
            "in steps of 8 ms"
        );
        let _ = pacer.push(Millis(8), Priority::Video, 100, 2);
        assert_eq!(overdue(&pacer, 350), 244);
    }

    #[test]
    fn under_any_load_the_rate_holds_and_timeouts_tell_the_truth() {
        for seed in 1..=20 {
            let mut random = Random::new(seed);
            let start = origin();
            let mut pacer = Pacer::new(
                PacerConfig { rate: Bitrate::kbps(800), class_limit: 64, ..PacerConfig::default() },
                start,
            );
            let (mut now, mut sent) = (start, 0);
            for _ in 0..2000 {
                now += Duration::from_micros(random.below(4000));
                for item in 0..random.below(3) {
                    let _ = pacer.push(Millis(0), Priority::Video, 100 + random.below(1100) as usize, item);
                }
                while pacer.poll_timeout().is_some_and(|due| due <= now) {
                    sent += pacer.pop(now).expect("what is due leaves").size;
                    // 100 bytes a millisecond, 5 ms, and one packet.
                    assert!(sent as u128 <= (now - start).as_micros() / 10 + 1 + 500 + 1200);
                }
                assert!(pacer.peek(now).is_none(), "what may leave is due");
            }
            assert!(sent as u128 >= (now - start).as_micros() / 10 * 9 / 10, "the rate is used");
        }
    }
}
