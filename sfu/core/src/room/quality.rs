//! How good the way to each participant is, from what reports say anyway: once in a while a score that people
//! can be shown. Nothing is decided by it.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use sfu_protocol::people::LinkClass;

use super::room::{ParticipantKey, Room};
use crate::track::reception::Reception;
use crate::units::LINK_BATCH;

/// What is known of the way between a participant and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkReport {
    /// Whose.
    pub participant: ParticipantKey,
    /// 0 to 100; see [`LinkClass`].
    pub score: u8,
    /// The last round trip measured.
    pub rtt: Option<Duration>,
    /// Lost on the worse of both ways in 1/256, before repair; but of sound that we send, receivers do not report
    /// what was sent again in time.
    pub loss: u8,
}

/// Between two looks, and every how manieth tells of everyone.
const INTERVAL: Duration = Duration::from_secs(5);
const FULL_ROUND: u32 = 2;

/// From whom nothing was heard for so long, though something had to be, is lost. Browsers that only receive
/// sound report at least each 7.5 s (RFC 3550 §6.2: 5 s, half more at random).
const SILENCE: Duration = Duration::from_secs(10);

/// One packet lost of fewer than these says nothing: DTX leaves a dozen in an interval.
const MIN_EXPECTED: u64 = 20;

/// What a loss of 1 % costs: 4 % are noticed now and then, above 12 % a lesson suffers. Harsher than speech
/// alone would need (ITU-T G.107 with Opus' concealment: about 2.5), as pictures stop for their repairs.
const PER_PERCENT_LOST: f32 = 5.0;

/// When a room looks at its links.
#[derive(Default)]
pub(super) struct Rounds {
    /// `None` while nobody is here.
    next: Option<Instant>,
    count: u32,
    /// Whether somebody's news may wait to be taken.
    news: bool,
}

/// A participant's link, as last judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Health {
    /// When a packet or report of its last arrived.
    heard: Instant,
    judged: Option<Judgement>,
    /// Whether the judgement waits to be taken.
    news: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Judgement {
    score: u8,
    loss: u8,
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, judged: None, news: false }
    }

    /// A packet or a report of the participant arrived.
    #[inline]
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Judges what came from (`up`) and went to (`down`) the participant. The score falls at once and rises by
    /// half of the way at a time, so that a class does not flicker.
    fn judge(&mut self, now: Instant, rtt: Option<Duration>, up: Reception, down: Reception, everyone: bool) {
        let flowing = up.flowing || down.flowing;
        if !flowing && self.judged.is_none() {
            return;
        }
        let silent = now.saturating_duration_since(self.heard) >= SILENCE;
        let score = if flowing && silent { 0 } else { score(rtt, up).min(score(rtt, down)) };
        let loss = lost_part(up).max(lost_part(down));
        let before = self.judged.map(|judged| judged.score);
        let score = before.map_or(score, |before| score.min(before.midpoint(score.max(before)) + 1)).min(100);
        self.judged = Some(Judgement { score, loss: (loss * 256.0).min(255.0) as u8 });
        self.news |= everyone || before.map(LinkClass::of) != Some(LinkClass::of(score));
    }
}

/// 100 less what delay and loss cost. Delay as in the E-model's short form (Cole and Rosenbluth, "Voice over IP
/// performance monitoring", 2001), with a playout buffer of twice the jitter in it.
fn score(rtt: Option<Duration>, reception: Reception) -> u8 {
    let delay = (rtt.unwrap_or_default() / 2 + reception.jitter * 2).as_secs_f32() * 1000.0;
    let late = if delay < 177.0 { delay * 0.024 } else { delay * 0.024 + (delay - 177.0) * 0.11 };
    let lost = lost_part(reception) * 100.0 * PER_PERCENT_LOST;
    // At least 1: something is heard.
    (100.0 - late - lost).clamp(1.0, 100.0) as u8
}

fn lost_part(reception: Reception) -> f32 {
    if reception.expected < MIN_EXPECTED { 0.0 } else { reception.lost as f32 / reception.expected as f32 }
}

impl Rounds {
    /// Somebody is here.
    pub(super) fn begin(&mut self, now: Instant) {
        self.next.get_or_insert(now + INTERVAL);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}

impl Room {
    /// Judges every link that can be sent to, once that is due.
    pub(super) fn judge_links(&mut self, now: Instant) {
        let Some(due) = self.rounds.next.filter(|&due| due <= now) else { return };
        let Self { participants, tracks, downs, rounds, .. } = self;
        rounds.count = rounds.count.wrapping_add(1);
        let everyone = rounds.count.is_multiple_of(FULL_ROUND);
        for participant in participants.values_mut().filter(|participant| participant.reachable) {
            let up = participant.tracks.iter().map(|&track| tracks[track].up.take_reception());
            let up = up.fold(Reception::default(), Reception::merge);
            let down = participant.subscriptions.iter().map(|&down| downs[down].down.take_reception());
            let down = down.fold(Reception::default(), Reception::merge);
            participant.health.judge(now, participant.link.rtt, up, down, everyone);
            rounds.news |= participant.health.news;
        }
        // After a long sleep one look is enough.
        let next = if due + INTERVAL > now { due + INTERVAL } else { now + INTERVAL };
        rounds.next = (!participants.is_empty()).then_some(next);
    }

    /// Takes up to [`LINK_BATCH`] reports on links: of everyone each 10 s, and in between of those that have
    /// changed class. What was not taken by then is replaced.
    pub fn poll_links(&mut self, reports: &mut ArrayVec<LinkReport, LINK_BATCH>) {
        reports.clear();
        if !self.rounds.news {
            return;
        }
        for (participant, own) in self.participants.iter_mut().filter(|(_, own)| own.health.news) {
            let Some(Judgement { score, loss }) = own.health.judged else { continue };
            if reports.try_push(LinkReport { participant, score, rtt: own.link.rtt, loss }).is_err() {
                return;
            }
            own.health.news = false;
        }
        self.rounds.news = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn reception(expected: u64, lost: u64, jitter: Duration) -> Reception {
        Reception { expected, lost, jitter, flowing: true }
    }

    #[test]
    fn delay_jitter_and_loss_make_the_class() {
        use LinkClass::{Excellent, Good, Poor};
        // round trip, lost of a thousand, jitter
        for (rtt, lost, jitter, class) in [
            (None, 0, 0, Excellent),
            (Some(20), 0, 5, Excellent),
            (Some(300), 0, 0, Excellent),
            (Some(600), 0, 0, Good),
            (Some(600), 0, 60, Good),
            (Some(50), 30, 5, Excellent),
            (Some(50), 50, 5, Good),
            (Some(600), 30, 20, Good),
            (Some(50), 130, 5, Poor),
            (Some(50), 500, 5, Poor),
            (Some(3000), 0, 0, Poor),
        ] {
            let score = score(rtt.map(ms), reception(1000, lost, ms(jitter)));
            assert_eq!(LinkClass::of(score), class, "{rtt:?} {lost} {jitter}: {score}");
        }
        assert_eq!(score(None, reception(12, 3, ms(0))), 100, "too few to tell");
    }

    #[test]
    fn a_score_falls_at_once_and_rises_slowly() {
        let (now, none) = (origin(), Reception::default());
        let mut health = Health::new(now);
        let mut judge = |lost| {
            health.judge(now, None, reception(1000, lost, ms(0)), none, false);
            health.judged.unwrap().score
        };
        assert_eq!([0, 200, 0, 0, 0].map(&mut judge), [100, 1, 51, 76, 89]);
        assert_eq!((0..5).map(|_| judge(0)).last(), Some(100));
    }

    #[test]
    fn only_who_had_something_to_say_is_lost() {
        let (start, none) = (origin(), Reception::default());
        for (flowing, silence, score) in
            [(true, 9_000, Some(100)), (true, 10_000, Some(0)), (false, 60_000, None)]
        {
            let mut health = Health::new(start);
            health.judge(start + ms(silence), None, Reception { flowing, ..none }, none, false);
            assert_eq!(health.judged.map(|judged| judged.score), score, "{flowing} {silence}");
            assert_eq!(health.news, flowing, "the first judgement is news");
        }
    }
}
