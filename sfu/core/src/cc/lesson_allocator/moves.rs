//! What to do about it now. Down is quick, up is careful, and what was tried in vain is not tried again at once:
//!
//! - A link that falls short loses frame rates with the first feedback that shows it, and sizes once that has
//!   lasted. A standing queue or a new cap is believed at once.
//! - A step up has to have fitted for a while, with room to spare and no queue.
//! - A step that had to be taken back soon waits longer each time.
//! - During an outage nothing is decided: what was right before is tried first when the link returns.

use std::time::{Duration, Instant};

use super::ladder::Ladder;
use super::tiers::{self, Levels, Picture, Refused, Role};
use super::wished::Layer;
use crate::units::Bitrate;

/// A link as its monitor sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkView {
    /// What it carries.
    pub estimate: Bitrate,
    /// What it has shown to carry at most, where it has.
    pub ceiling: Option<Bitrate>,
    /// What its school lets it carry; `None`: all.
    pub cap: Option<Bitrate>,
    /// What waits in its queue at least.
    pub queue: Duration,
    /// As much queue as is usual on it.
    pub calm: Duration,
    /// How long pictures wait in front of it beyond what they may.
    pub overdue: Duration,
    /// Lost of what was sent, 0..=1.
    pub loss: f32,
    /// Whether a standing queue is being drained.
    pub draining: bool,
    /// Whether nothing is heard of it.
    pub outage: bool,
}

impl LinkView {
    /// What may be spent on media: reports and repairs are paid for first.
    pub fn budget(&self) -> Bitrate {
        let carried = self.cap.map_or(self.estimate, |cap| cap.min(self.estimate)).as_bps();
        let repairs = if self.loss > 0.01 { (1.5 * self.loss).min(0.1) } else { 0.0 };
        let repairs = (f64::from(repairs) * carried as f64) as u64;
        Bitrate::bps(carried.saturating_sub(RTCP.as_bps() + repairs))
    }
}

/// Reports and feedback.
const RTCP: Bitrate = Bitrate::kbps(1);

/// What one picture gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<K> {
    /// Which.
    pub key: K,
    /// The layer; `None`: the link has nothing left for it, or nothing of it is wanted.
    pub layer: Option<Layer>,
    /// Whether that is another one than before.
    pub moved: bool,
}

/// The allocator of one link. Give it all that the link could carry as often as any of it changes, and at least
/// each second.
#[derive(Debug)]
pub struct LessonAllocator<K> {
    states: Vec<State<K>>,
    decisions: Vec<Decision<K>>,
    /// Since when the link falls short of what is sent.
    short: Option<Instant>,
    /// Since when there is room for more.
    roomy: Option<Instant>,
    /// The cap and whether the queue was being drained, when last looked at.
    seen: (Option<Bitrate>, bool),
    /// What all would take with the next step, when last looked at.
    next_need: Option<Bitrate>,
    /// What the link has room for. Used again at each decision.
    best: Levels,
}

/// What is remembered of a picture.
#[derive(Clone, Copy, Debug)]
struct State<K> {
    key: K,
    layer: Option<Layer>,
    level: usize,
    /// Whether there was nothing to decide about it yet.
    new: bool,
    /// The last step up, and what it led to.
    raised: Option<(Instant, usize)>,
    lowered: Option<Instant>,
    backoff: Backoff,
}

/// How long a step that was taken back is not tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Backoff {
    until: Option<Instant>,
    wait: Duration,
    /// Since when the link has carried half as much again as the step needs.
    ample: Option<Instant>,
}

/// A shortage is acted on after so long: sooner where a queue or losses confirm it.
const SHORT: Duration = Duration::from_millis(1500);
const SHORT_CONFIRMED: Duration = Duration::from_millis(300);
/// What confirms a shortage, and forbids a step up.
const QUEUED: Duration = Duration::from_millis(40);
const LOSSY: f32 = 0.1;
/// Pictures that wait so long tell that all of them are too many, whatever their mean rates say. What was given up
/// for it is given so long to show.
const OVERDUE: Duration = Duration::from_millis(500);
const OVERDUE_AGAIN: Duration = Duration::from_millis(1500);
/// A step up has fitted for so long.
const ROOMY: Duration = Duration::from_millis(400);
/// No step up so soon after a step down, of the same picture; nor two of its size.
const AFTER_DOWN: Duration = Duration::from_secs(3);
const AFTER_UP: Duration = Duration::from_secs(1);
/// A step taken back within this was taken in vain.
const IN_VAIN: Duration = Duration::from_secs(6);
const BACKOFF_MIN: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A step that has held for so long was right after all; so is one that has ample room for so long.
const PROVEN: Duration = Duration::from_secs(60);
const AMPLE: Duration = Duration::from_secs(3);

impl<K: Copy + Eq> LessonAllocator<K> {
    /// Nothing decided yet.
    pub fn new() -> Self {
        Self {
            states: Vec::new(),
            decisions: Vec::new(),
            short: None,
            roomy: None,
            seen: (None, false),
            next_need: None,
            best: Levels::new(),
        }
    }

    /// Decides what each picture gets, in the order in which they are given. `audio` is what all sound that the
    /// link carries takes.
    pub fn decide(
        &mut self,
        now: Instant,
        link: &LinkView,
        audio: Bitrate,
        pictures: &[Picture<K>],
    ) -> &[Decision<K>] {
        self.adopt(pictures);
        let mut lesson =
            Lesson { now, link, audio: audio.as_bps(), budget: link.budget().as_bps(), pictures };
        if link.overdue > OVERDUE {
            lesson.budget = lesson.budget.min(self.total(&lesson) * 19 / 20);
        }
        let for_pictures = Bitrate::bps(lesson.budget.saturating_sub(lesson.audio));
        let refused = tiers::fill(for_pictures, pictures, &mut self.best);
        self.next_need = refused.map(|refused| self.need(&lesson, refused));
        if link.outage {
            (self.short, self.roomy) = (None, None);
        } else {
            self.lower(&lesson);
            self.raise(&lesson);
        }
        self.decisions.clear();
        for (state, picture) in self.states.iter_mut().zip(pictures) {
            let before = state.layer;
            state.layer = state.level.checked_sub(1).map(|index| picture.ladder[index].layer);
            state.new &= link.outage || picture.ladder.is_empty();
            let (layer, moved) = (state.layer.filter(|_| !link.outage), state.layer != before);
            self.decisions.push(Decision { key: state.key, layer, moved });
        }
        &self.decisions
    }

    /// What everything would take with the first step that did not fit: the rate to ask the link about. `None`
    /// where all that is wanted fits.
    pub fn next_need(&self) -> Option<Bitrate> {
        self.next_need
    }

    /// Brings the states into the order of the pictures; those that have gone are forgotten.
    fn adopt(&mut self, pictures: &[Picture<K>]) {
        for (index, picture) in pictures.iter().enumerate() {
            let known = (index..self.states.len()).find(|&at| self.states[at].key == picture.key);
            match known {
                Some(at) => self.states.swap(index, at),
                None => self.states.insert(index, State::new(picture.key)),
            }
            let state = &mut self.states[index];
            state.level = level_of(state.layer, &picture.ladder);
        }
        self.states.truncate(pictures.len());
    }

    fn need(&self, lesson: &Lesson<'_, K>, refused: Refused) -> Bitrate {
        let reached = lesson.audio + lesson.cost_of(|index| self.best[index]);
        Bitrate::bps(reached + refused.adds.as_bps())
    }

    fn total(&self, lesson: &Lesson<'_, K>) -> u64 {
        lesson.audio + lesson.cost_of(|index| self.states[index].level)
    }

    fn lower(&mut self, lesson: &Lesson<'_, K>) {
        let Lesson { now, link, budget, pictures, .. } = *lesson;
        let (cap, draining) = std::mem::replace(&mut self.seen, (link.cap, link.draining));
        let capped = link.cap.is_some_and(|new| cap.is_none_or(|old| new < old));
        let at_once = link.draining && !draining || capped;
        // Measured rates move all the time: a twentieth is nothing.
        let just_lowered = self.states.iter().filter_map(|state| state.lowered).max();
        let overdue = link.overdue > OVERDUE
            && just_lowered.is_none_or(|at| now.saturating_duration_since(at) >= OVERDUE_AGAIN);
        let falls_short = budget * 100 < self.total(lesson) * 95 || overdue;
        if !falls_short && (!at_once || budget >= self.total(lesson)) {
            self.short = None;
            return;
        }
        let confirmed = link.queue > QUEUED || link.loss > LOSSY || overdue;
        let since = *self.short.get_or_insert(now);
        let limit = if confirmed { SHORT_CONFIRMED } else { SHORT };
        let lasted = at_once || now.saturating_duration_since(since) >= limit;
        for (index, picture) in pictures.iter().enumerate() {
            let (state, best) = (&mut self.states[index], self.best[index]);
            if best >= state.level {
                continue;
            }
            if lasted {
                state.lower(now, best);
            } else if confirmed {
                let thinned = thinned(&picture.ladder, state.level, best);
                if thinned < state.level {
                    state.lower(now, thinned);
                }
            }
        }
        if lasted {
            self.short = None;
        }
    }

    fn raise(&mut self, lesson: &Lesson<'_, K>) {
        let Lesson { now, link, pictures, .. } = *lesson;
        // Who has just come, or comes back, has waited long enough.
        let mut arrived = false;
        for (state, &best) in self.states.iter_mut().zip(&self.best).filter(|(state, _)| state.new) {
            (state.level, arrived) = (best, true);
        }
        if arrived {
            self.make_room(lesson);
        }
        let total = self.total(lesson);
        for (state, picture) in self.states.iter_mut().zip(pictures) {
            state.backoff.settle(now, state.raised, lesson.has_ample_room(total, picture, state.level));
        }
        let more = (0..pictures.len()).any(|index| self.best[index] > self.states[index].level);
        if !more || link.draining || link.queue >= link.calm.max(QUEUED) {
            self.roomy = None;
            return;
        }
        let since = *self.roomy.get_or_insert(now);
        if now.saturating_duration_since(since) < ROOMY {
            return;
        }
        self.make_room(lesson);
        let mut total = self.total(lesson);
        for (index, goal) in tiers::in_order(pictures) {
            let (picture, best) = (&pictures[index], self.best[index]);
            while self.states[index].level < best.min(goal) {
                let level = self.states[index].level;
                let adds = tiers::adds(&picture.ladder, level);
                let begins = picture.role == Role::Slides && level == 0;
                if !self.states[index].may_rise(now, &picture.ladder) || !begins && !lesson.fits(total + adds)
                {
                    break;
                }
                total += adds;
                self.states[index].raise(now);
            }
            let level = self.states[index].level;
            let unreadable = picture.role == Role::Slides && level == 0 && best > 0;
            if unreadable {
                break;
            }
        }
    }

    /// Takes from those who have more than is best for all what those before them lack.
    fn make_room(&mut self, lesson: &Lesson<'_, K>) {
        let lacks = |index: &usize| self.best[*index] > self.states[*index].level;
        let wanted: u64 = (0..lesson.pictures.len())
            .filter(lacks)
            .map(|index| lesson.cost(index, self.best[index]) - lesson.cost(index, self.states[index].level))
            .sum();
        if lesson.fits(self.total(lesson) + wanted) {
            return;
        }
        for (state, &best) in self.states.iter_mut().zip(&self.best) {
            if state.level > best {
                state.lower(lesson.now, best);
            }
        }
    }
}

impl<K: Copy + Eq> Default for LessonAllocator<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a decision is about.
struct Lesson<'a, K> {
    now: Instant,
    link: &'a LinkView,
    audio: u64,
    budget: u64,
    pictures: &'a [Picture<K>],
}

impl<K> Lesson<'_, K> {
    fn cost(&self, picture: usize, level: usize) -> u64 {
        tiers::cost(&self.pictures[picture].ladder, level).as_bps()
    }

    fn cost_of(&self, level: impl Fn(usize) -> usize) -> u64 {
        (0..self.pictures.len()).map(|index| self.cost(index, level(index))).sum()
    }

    fn fits(&self, total: u64) -> bool {
        total <= self.budget
    }

    /// Whether the link carries half as much again as all would take with a picture's next step.
    fn has_ample_room(&self, total: u64, picture: &Picture<K>, level: usize) -> bool {
        let adds = if level < picture.ladder.len() { tiers::adds(&picture.ladder, level) } else { 0 };
        self.budget * 2 >= (total + adds) * 3
    }
}

impl<K> State<K> {
    fn new(key: K) -> Self {
        Self {
            key,
            layer: None,
            level: 0,
            new: true,
            raised: None,
            lowered: None,
            backoff: Backoff::default(),
        }
    }

    fn lower(&mut self, now: Instant, level: usize) {
        let in_vain = |(at, to): (Instant, usize)| level < to && now.saturating_duration_since(at) < IN_VAIN;
        if self.raised.take_if(|raised| in_vain(*raised)).is_some() {
            self.backoff.extend(now);
        }
        (self.level, self.lowered) = (level, Some(now));
    }

    fn raise(&mut self, now: Instant) {
        self.level += 1;
        self.raised = Some((now, self.level));
    }

    fn may_rise(&self, now: Instant, ladder: &Ladder) -> bool {
        let within =
            |at: Option<Instant>, span| at.is_some_and(|at| now.saturating_duration_since(at) < span);
        let size_changes = changes_size(ladder, self.level);
        let just_rose = size_changes && within(self.raised.map(|(at, _)| at), AFTER_UP);
        !within(self.lowered, AFTER_DOWN) && !just_rose && self.backoff.is_over(now)
    }
}

impl Backoff {
    fn extend(&mut self, now: Instant) {
        self.wait = (self.wait * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        self.until = Some(now + self.wait);
    }

    /// Whether the step may be tried: also where there is far more room than it needs.
    fn is_over(&self, now: Instant) -> bool {
        self.ample.is_some() || self.until.is_none_or(|until| now >= until)
    }

    /// Forgets it where the step has proved right, or the link has long had ample room for it.
    fn settle(&mut self, now: Instant, raised: Option<(Instant, usize)>, ample: bool) {
        let since = if ample { Some(*self.ample.get_or_insert(now)) } else { None };
        self.ample = since;
        let ample = since.is_some_and(|since| now.saturating_duration_since(since) >= AMPLE);
        let proven = raised.is_some_and(|(at, _)| now.saturating_duration_since(at) >= PROVEN);
        if ample || proven {
            (self.until, self.wait) = (None, Duration::ZERO);
        }
    }
}

/// Whether the step from `level` to the next is one to another encoding.
fn changes_size(ladder: &Ladder, level: usize) -> bool {
    let encoding = |index: usize| ladder[index].layer.encoding;
    level > 0 && level < ladder.len() && encoding(level - 1) != encoding(level)
}

/// How far a picture goes down by frames alone, of the way from one level to a lower one.
fn thinned(ladder: &Ladder, from: usize, to: usize) -> usize {
    let mut level = from;
    while level > to && level > 1 && !changes_size(ladder, level - 1) {
        level -= 1;
    }
    level
}

/// The level of a layer in a ladder that may have changed since: never nothing for something.
fn level_of(layer: Option<Layer>, ladder: &Ladder) -> usize {
    let Some(layer) = layer else { return 0 };
    let within = |step: &super::ladder::Step| {
        step.layer.encoding < layer.encoding
            || step.layer.encoding == layer.encoding && step.layer.max_tid <= layer.max_tid
    };
    ladder.iter().rposition(within).map_or(ladder.len().min(1), |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{calm, camera_of, slides_of};
    use super::*;
    use crate::testing::{Random, origin};

    const AUDIO: Bitrate = Bitrate::kbps(40);
    const TICK: Duration = Duration::from_millis(100);

    /// A lesson on one link in virtual time.
    struct Class {
        now: Instant,
        allocator: LessonAllocator<u8>,
        link: LinkView,
        pictures: Vec<Picture<u8>>,
    }

    impl Class {
        /// Slides (0), the teacher (1) and another class (2).
        fn new(kbps: u64) -> Self {
            let pictures =
                vec![slides_of(0), camera_of(1, Role::TeacherCamera), camera_of(2, Role::OtherCamera)];
            Self { now: origin(), allocator: LessonAllocator::new(), link: calm(kbps), pictures }
        }

        /// Lets time pass, with feedback each 100 ms. Returns the levels in the end.
        fn after(&mut self, span: Duration) -> Vec<usize> {
            let end = self.now + span;
            loop {
                self.allocator.decide(self.now, &self.link, AUDIO, &self.pictures);
                if self.now + TICK > end {
                    return self.levels();
                }
                self.now += TICK;
            }
        }

        fn at(&mut self, kbps: u64) -> &mut Self {
            self.link.estimate = Bitrate::kbps(kbps);
            self
        }

        fn levels(&self) -> Vec<usize> {
            self.allocator.states.iter().map(|state| state.level).collect()
        }

        fn sent(&self) -> u64 {
            let cost = |(picture, level): (&Picture<u8>, usize)| tiers::cost(&picture.ladder, level).as_bps();
            AUDIO.as_bps() + self.pictures.iter().zip(self.levels()).map(cost).sum::<u64>()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_joins_gets_at_once_what_the_link_is_known_to_carry() {
        for (kbps, levels) in [(60, [0, 0, 0]), (100, [1, 0, 0]), (140, [1, 1, 0]), (3000, [2, 7, 7])] {
            assert_eq!(Class::new(kbps).after(Duration::ZERO), levels, "{kbps} kbit/s");
        }
    }

    #[test]
    fn a_step_up_waits_until_it_has_fitted_for_a_while_without_a_queue() {
        let mut class = Class::new(100);
        class.after(SECOND);
        assert_eq!(class.at(140).after(Duration::from_millis(300)), [1, 0, 0], "not long enough");
        assert_eq!(class.after(Duration::from_millis(200)), [1, 1, 0]);
        class.link.queue = Duration::from_millis(50);
        assert_eq!(class.at(700).after(SECOND), [1, 1, 0], "there is a queue");
    }

    #[test]
    fn a_confirmed_shortage_costs_frames_at_once_and_size_soon() {
        let mut class = Class::new(1800);
        assert_eq!(class.after(SECOND), [2, 7, 5]);
        class.link.queue = Duration::from_millis(60);
        assert_eq!(class.at(500).after(Duration::ZERO), [2, 6, 4], "30 -> 15 fps");
        assert_eq!(class.after(Duration::from_millis(200)), [2, 6, 4]);
        assert_eq!(class.after(Duration::from_millis(200)), [1, 5, 3]);
    }

    #[test]
    fn a_shortage_that_nothing_confirms_is_waited_for() {
        let mut class = Class::new(800);
        let before = class.after(SECOND);
        assert_eq!(class.at(300).after(Duration::from_millis(1400)), before);
        assert_eq!(class.after(Duration::from_millis(200)), [1, 4, 0]);
    }

    #[test]
    fn pictures_that_wait_for_long_are_a_shortage_whatever_the_estimate_says() {
        let mut class = Class::new(620);
        assert_eq!(class.after(SECOND), [1, 5, 4]);
        class.link.overdue = OVERDUE + Duration::from_millis(1);
        assert_eq!(class.after(Duration::from_millis(300)), [1, 5, 3]);
        let mut alone = Class::new(80);
        alone.after(SECOND);
        alone.link.overdue = OVERDUE * 3;
        assert_eq!(alone.after(SECOND), [1, 0, 0], "slides that come late are better than none");
    }

    #[test]
    fn a_standing_queue_and_a_new_cap_are_believed_at_once() {
        let mut drained = Class::new(800);
        drained.after(SECOND);
        drained.link.draining = true;
        assert_eq!(drained.at(140).after(Duration::ZERO), [1, 1, 0]);
        let mut capped = Class::new(800);
        capped.after(SECOND);
        capped.link.cap = Some(Bitrate::kbps(140));
        assert_eq!(capped.after(Duration::ZERO), [1, 1, 0]);
    }

    #[test]
    fn a_step_taken_in_vain_waits_longer_each_time() {
        let mut class = Class::new(100);
        class.after(SECOND);
        let mut waits = Vec::new();
        for _ in 0..4 {
            let from = class.now;
            class.at(142);
            while class.after(TICK)[1] == 0 {}
            waits.push((class.now - from).as_secs());
            class.link.queue = Duration::from_millis(60);
            class.at(100).after(SECOND);
            assert_eq!(class.levels(), [1, 0, 0]);
            class.link.queue = Duration::ZERO;
        }
        assert_eq!(waits, [0, 4, 9, 19], "a second of each wait has gone by in the queue");
    }

    #[test]
    fn an_outage_pauses_all_and_forgets_nothing() {
        let mut class = Class::new(700);
        let before = class.after(SECOND);
        class.link.outage = true;
        class.at(0).after(SECOND * 30);
        let decisions = class.allocator.decide(class.now, &class.link, AUDIO, &class.pictures);
        assert!(decisions.iter().all(|decision| decision.layer.is_none()));
        class.link.outage = false;
        assert_eq!(class.at(700).after(Duration::ZERO), before);
    }

    #[test]
    fn slides_take_what_others_have_when_they_begin() {
        let mut class = Class::new(300);
        let slides = class.pictures.remove(0);
        assert_eq!(class.after(SECOND), [4, 2]);
        class.pictures.push(slides);
        assert_eq!(class.after(Duration::ZERO), [4, 0, 1], "[teacher, other, slides]");
    }

    #[test]
    fn the_same_is_decided_again_and_no_more_than_the_budget() {
        let run = |seed| {
            let mut random = Random::new(seed);
            let mut class = Class::new(400);
            let mut log = Vec::new();
            for _ in 0..2000 {
                class.link.estimate = Bitrate::kbps(random.below(2500));
                class.link.queue = Duration::from_millis(random.below(120));
                class.link.draining = random.below(10) == 0;
                class.link.outage = random.below(20) == 0;
                for _ in 0..random.below(40) {
                    class.after(TICK);
                    let levels = class.levels();
                    let face = levels[1] > 0 || levels[2] > 0;
                    assert!(!face || levels[0] > 0, "a face, and no slides: {levels:?}");
                }
                log.push((class.levels(), class.sent()));
            }
            log
        };
        assert_eq!(run(3), run(3));
    }

    #[test]
    fn what_lasts_is_paid_for() {
        for kbps in (50..4000).step_by(50) {
            let mut class = Class::new(4000);
            class.after(SECOND);
            class.at(kbps).after(SECOND * 5);
            let spent = class.sent().saturating_sub(AUDIO.as_bps());
            let budget = class.link.budget().as_bps().saturating_sub(AUDIO.as_bps());
            assert!(spent * 95 <= budget * 100, "{kbps} kbit/s: {spent} of {budget}");
        }
    }
}
