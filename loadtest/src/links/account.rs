//! Makes a row of what left, what arrived, and what was heard and seen.

use std::time::Duration;

use super::expect::Expectations;
use super::ledger::{Ledger, SecondSent};
use super::oracle::{self, Best, Rates};
use super::playout::{SecondOfSound, TOO_LATE};
use super::receiver::Receiver;
use super::row::Row;
use super::scenario::{Paths, Scenario};
use super::sources::Lesson;
use super::statistics::{jain, mean, percentile, queue, share, waits_by_second};

/// What a run was about.
pub struct Account<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Its link.
    pub paths: &'a Paths,
    /// What was sent.
    pub lesson: &'a Lesson,
    /// Its seed.
    pub seed: u64,
}

/// A run's figures, and what a plot shows.
pub struct Outcome {
    /// The figures.
    pub row: Row,
    /// What is stacked.
    pub parts: Vec<String>,
    /// By second.
    pub seconds: Vec<PlottedSecond>,
}

/// A second of a plot, of all receivers together.
#[derive(Clone, Debug, Default)]
pub struct PlottedSecond {
    /// What the link carried at most, bit/s.
    pub capacity: u64,
    /// What the server reckoned with for the first receiver, bit/s, where it did.
    pub estimate: Option<u64>,
    /// Bytes that were sent of each part.
    pub sent: Vec<u64>,
    /// The 95th percentile of the time in the queue, milliseconds.
    pub queue_ms: f64,
    /// Useful bytes that arrived.
    pub goodput: u64,
    /// Whether the lesson was usable for all.
    pub usable: bool,
}

/// Slides that are older than this are of no use.
const STALE: Duration = Duration::from_secs(5);

/// More of a second's sound concealed than this is heard.
const CONCEALED: f64 = 0.05;

/// A lesson may take so long to begin before its slides are judged "always".
const BEGINNING: Duration = Duration::from_secs(10);

impl Account<'_> {
    /// Settles it.
    pub fn settle(
        &self,
        mut receivers: Vec<Receiver>,
        mut ledgers: Vec<Ledger>,
        estimates: &[Option<u64>],
    ) -> Outcome {
        let end = self.scenario.duration;
        let changes = self.lesson.slides.changes(end);
        let rates = oracle::rates(self.lesson, end, self.seed);
        let capacity = self.paths.down.capacity.mean_bps(end) as f64;
        let carried = capacity * (1.0 - self.paths.down.loss.mean());
        let best: Best = rates.best(carried / receivers.len() as f64);
        for receiver in &mut receivers {
            receiver.playout.advance(end);
            receiver.camera().finish(end);
        }
        let seen: Vec<Vec<bool>> = receivers.iter().map(|it| current_slides(it, &changes, end)).collect();
        let usable: Vec<Vec<bool>> = receivers.iter().zip(&seen).map(|(it, seen)| usable(it, seen)).collect();
        let goodputs: Vec<f64> = receivers.iter().map(|it| goodput_bps(it, end)).collect();
        let goodput: f64 = goodputs.iter().sum();
        let worth: f64 = receivers.iter().map(|it| worth_bps(it, end)).sum();
        let count = receivers.len() as f64;
        let minutes: f64 = receivers.iter().map(|it| (end - it.joined).as_secs_f64() / 60.0).sum();
        let switches: u64 = ledgers.iter_mut().map(|ledger| ledger.switches(end)).sum();
        let (q50, q95, bad_s) = queue(ledgers.iter().flat_map(|ledger| &ledger.waits));
        let wire = |of: fn(&SecondSent) -> u64| {
            ledgers.iter().flat_map(|ledger| &ledger.sent).map(of).sum::<u64>() as f64
                / 125.0
                / end.as_secs_f64()
                / count
        };
        let packets: u64 = ledgers.iter().map(|ledger| ledger.packets).sum();
        let mut row = Row {
            id: self.scenario.id.clone(),
            group: self.scenario.group.clone(),
            seed: self.seed,
            util: goodput / capacity.max(1.0),
            util_oracle: worth / (best.worth * count),
            q95,
            q50,
            sw_min: switches as f64 / minutes,
            aloss: mean(receivers.iter().zip(&ledgers).map(|(it, ledger)| self.sound_lost(it, ledger))),
            usable: mean(usable.iter().map(|seconds| share(seconds))),
            freezes_min: receivers.iter_mut().map(|it| it.camera().freezes()).sum::<u64>() as f64 / minutes,
            bad_s,
            concealed: mean(receivers.iter().map(concealed)),
            audio_gap_ms: receivers.iter().map(|it| it.playout.longest_gap_ms()).fold(0.0, f64::max),
            audio_kbps: wire(|second| second.voice),
            video_kbps: wire(|second| second.slides.iter().chain(&second.camera).sum()),
            goodput_kbps: goodput / 1000.0,
            oracle_kbps: best.bps * count / 1000.0,
            dropped: ledgers.iter().map(|ledger| ledger.dropped).sum::<u64>() as f64 / packets.max(1) as f64,
            page95_s: self.page95(&receivers),
            recover_s: self.recover(&rates, &ledgers[0]),
            jain: jain(&goodputs),
            receiver0_slides: share(seen[0].get(BEGINNING.as_secs() as usize..).unwrap_or(&[])),
            ..Row::default()
        };
        (row.audio_back_s, row.slides_back_s) = self.back(&receivers[0]);
        self.judge(&mut row);
        let mut seconds = self.plotted(&receivers, &ledgers, &usable);
        seconds.iter_mut().zip(estimates).for_each(|(second, &estimate)| second.estimate = estimate);
        Outcome { row, parts: SecondSent::PARTS.map(str::to_owned).to_vec(), seconds }
    }

    fn judge(&self, row: &mut Row) {
        let down = &self.paths.down.capacity;
        let kbps = match down {
            super::capacity::Capacity::Steps { steps, period: None } if steps.len() == 1 => {
                Some(steps[0].1 as f64 / 1000.0)
            }
            _ => None,
        };
        row.misses = Vec::new();
        let group = Expectations::of_group(&row.group, kbps, down.last_outage().is_some());
        let misses = self.scenario.expect.misses(row, &group);
        // RFC 8867's and 8869's cases are reported without bars.
        row.pass = (row.group != "rfc").then_some(misses.is_empty());
        row.misses = misses;
    }

    /// Sound that was sent, but did not arrive in time, beyond what the path lost at random.
    fn sound_lost(&self, receiver: &Receiver, ledger: &Ledger) -> f64 {
        let ptime = Duration::from_millis(self.lesson.audio.ptime_ms);
        let heard = self.scenario.duration.saturating_sub(receiver.joined + self.paths.down.delay + TOO_LATE);
        let expected = (heard.as_nanos() / ptime.as_nanos()) as f64;
        let lost = (expected - receiver.playout.in_time() as f64).max(0.0);
        ((lost - ledger.voice_lost as f64) / expected.max(1.0)).max(0.0)
    }

    /// Seconds from a page turn until it is shown.
    fn page95(&self, receivers: &[Receiver]) -> Option<f64> {
        let turn = Duration::from_secs(self.lesson.slides.page_turn_s);
        let mut waits = Vec::new();
        for receiver in receivers {
            let turns =
                (1u32..).map(|page| turn * page).take_while(|&at| at + STALE < self.scenario.duration);
            for at in turns.filter(|&at| at >= receiver.joined) {
                let shown = receiver.slides.iter().find(|shown| shown.mark.at >= at);
                waits.push(shown.map_or(self.scenario.duration - at, |shown| shown.at - at).as_secs_f64());
            }
        }
        percentile(&mut waits, 0.95)
    }

    /// Seconds from the end of an outage to fresh sound, and to a slide that was captured after it.
    fn back(&self, receiver: &Receiver) -> (Option<f64>, Option<f64>) {
        let Some((_, end)) = self.paths.down.capacity.last_outage() else { return (None, None) };
        let sound = receiver.sound.iter().find(|(at, mark)| *at >= end && mark.at + TOO_LATE >= end);
        let slides = receiver.slides.iter().find(|shown| shown.at >= end && shown.mark.at >= end);
        let since = |at: Duration| (at - end).as_secs_f64();
        (sound.map(|&(at, _)| since(at)), slides.map(|shown| since(shown.at)))
    }

    /// Seconds from the return of capacity until the layers sent are worth 0.9 of those from before. By the layers'
    /// mean rates: what slides really take changes with each page.
    fn recover(&self, rates: &Rates, ledger: &Ledger) -> Option<f64> {
        let (fall, rise) = self.paths.down.capacity.last_dip()?;
        let enough = 0.9 * rates.of_layers(ledger.layers_at(fall));
        let moments = std::iter::once(rise).chain(ledger.changes().into_iter().filter(|&at| at > rise));
        let back = moments.into_iter().find(|&at| rates.of_layers(ledger.layers_at(at)) >= enough)?;
        Some((back - rise).as_secs_f64())
    }

    fn plotted(
        &self,
        receivers: &[Receiver],
        ledgers: &[Ledger],
        usable: &[Vec<bool>],
    ) -> Vec<PlottedSecond> {
        let mut seconds = vec![PlottedSecond::default(); self.scenario.duration.as_secs() as usize];
        let capacity = self.paths.down.capacity.by_second(self.scenario.duration);
        for (at, second) in seconds.iter_mut().enumerate() {
            second.capacity = capacity[at];
            second.goodput = receivers.iter().filter_map(|it| it.goodput.get(at)).sum();
            second.usable = usable.iter().all(|seconds| seconds.get(at).copied().unwrap_or(true));
            let sent = ledgers.iter().filter_map(|ledger| ledger.sent.get(at)).map(SecondSent::parts);
            second.sent = sent.fold(vec![0; SecondSent::PARTS.len()], |sum, parts| {
                sum.iter().zip(parts).map(|(sum, part)| sum + part).collect()
            });
        }
        for (at, mut waits) in waits_by_second(ledgers.iter().flat_map(|ledger| &ledger.waits)) {
            if let Some(second) = seconds.get_mut(at) {
                second.queue_ms = percentile(&mut waits, 0.95).unwrap_or(0.0);
            }
        }
        seconds
    }
}

/// Whether the slides were current at the end of each second since the lesson began: nothing on them that has
/// changed more than five seconds ago is still to be seen. Seconds before a receiver joined count as current.
fn current_slides(receiver: &Receiver, changes: &[Duration], end: Duration) -> Vec<bool> {
    let (mut next, mut content) = (0, None);
    (1..=end.as_secs())
        .map(|second| {
            let now = Duration::from_secs(second);
            while let Some(shown) = receiver.slides.get(next).filter(|shown| shown.at <= now) {
                content = content.max(Some(shown.mark.at));
                next += 1;
            }
            let unseen = changes
                [changes.partition_point(|&at| content.is_some_and(|content| at <= content))..]
                .first();
            unseen.is_none_or(|&at| now <= at.max(receiver.joined) + STALE)
        })
        .collect()
}

/// Whether each second since it joined was usable: sound hardly concealed and not late, slides current.
fn usable(receiver: &Receiver, slides: &[bool]) -> Vec<bool> {
    let sound = receiver.playout.seconds();
    let joined = receiver.joined.as_secs() as usize;
    let heard = sound.iter().position(|second| second.played_ms > 0.0).unwrap_or(usize::MAX);
    let good = |second: &SecondOfSound| {
        second.concealed_ms <= CONCEALED * 1000.0 && second.delay_ms <= TOO_LATE.as_secs_f64() * 1000.0
    };
    let seconds = slides.iter().enumerate().skip(joined);
    seconds
        .map(|(at, &slides)| {
            // A second before the first sound can arrive is nobody's fault.
            let silent_start = at < heard && at <= joined + 1;
            slides && (silent_start || sound.get(at).is_some_and(good))
        })
        .collect()
}

fn goodput_bps(receiver: &Receiver, end: Duration) -> f64 {
    receiver.goodput.iter().sum::<u64>() as f64 * 8.0 / (end - receiver.joined).as_secs_f64()
}

/// Goodput, of the voice only what it says: to save what is around it is no loss.
fn worth_bps(receiver: &Receiver, end: Duration) -> f64 {
    let (wire, payload) = receiver.voice;
    goodput_bps(receiver, end) - (wire as f64 - payload as f64) * 8.0 / (end - receiver.joined).as_secs_f64()
}

fn concealed(receiver: &Receiver) -> f64 {
    let seconds = receiver.playout.seconds();
    let played: f64 = seconds.iter().map(|second| second.played_ms).sum();
    seconds.iter().map(|second| second.concealed_ms).sum::<f64>() / played.max(1.0)
}
