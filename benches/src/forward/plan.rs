//! What is measured: for each number of subscribers the limit, the forwarding path and its parts, in turn.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::alone::{Copy, Pace};
use super::lesson::{Lesson, ROOMY, Setup, THIN};
use super::source::Shape;
use super::stage::{Forward, Tally, Until};
use crate::limit::combined::{Combined, Parts};
use crate::limit::link::Link;
use crate::limit::rounds::{Spread, Stage, interleave};
use crate::limit::seal::{Key, Open, Profile};
use sfu_core::transport::bench::Protection;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Numbers of subscribers.
    pub subscribers: Vec<usize>,
    /// Lengths of runs: packets of a frame that arrive at once.
    pub runs: Vec<usize>,
    /// Rounds, of which the middle one counts.
    pub rounds: usize,
    /// Send into an `ifb` device, else over loopback.
    pub ifb: bool,
}

/// What one number of subscribers and one length of runs came to, ns per packet out.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How many receive.
    pub subscribers: usize,
    /// Packets of a frame that arrive at once.
    pub run: usize,
    /// What passes to each, where that is little, kbit/s.
    pub kbps: Option<u64>,
    /// The limit, its sealing and its sending, where it was measured.
    pub limit: Option<Limit>,
    /// The forwarding path.
    pub all: Spread,
    /// Without sealing and sending.
    pub own: Spread,
    /// Without sending, by medians.
    pub sealed: f64,
    /// The stages, in the order of the path.
    pub stages: Vec<(&'static str, f64)>,
    /// Allocations for each packet out.
    pub allocations: f64,
}

/// The combined loop of [`crate::limit`].
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Everything.
    pub all: Spread,
    /// What sealing adds.
    pub seal: f64,
    /// What sending adds.
    pub send: f64,
}

impl Measured {
    /// How near the limit is: 1 is as cheap.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.limit?.all.median / self.all.median)
    }
}

/// CPU time of a round.
const ROUND: Duration = Duration::from_millis(4);

/// Measures everything wanted, one number of subscribers after the other.
///
/// # Errors
/// When a socket fails, or packets are not forwarded.
pub fn measure(wanted: &Wanted) -> anyhow::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for &subscribers in &wanted.subscribers {
        let link = if wanted.ifb { Link::ifb(subscribers)? } else { Link::loopback(subscribers)? };
        let roomy = |protection| Setup { subscribers, shape: Shape::FULL, rate: ROOMY, protection };
        measured.extend(measure_one(wanted, &wanted.runs, roomy, &Rc::new(link))?);
    }
    Ok(measured)
}

/// The same on thin lines, where a packet leaves at a time.
///
/// # Errors
/// As [`measure`].
pub fn measure_thin(wanted: &Wanted, subscribers: usize) -> anyhow::Result<Vec<Measured>> {
    let link = if wanted.ifb { Link::ifb(subscribers)? } else { Link::loopback(subscribers)? };
    let thin = |protection| Setup { subscribers, shape: Shape::THIN, rate: THIN, protection };
    let mut measured = measure_one(wanted, &[2], thin, &Rc::new(link))?;
    for one in &mut measured {
        // Runs of two come in; how they leave is up to the pacers.
        (one.kbps, one.limit) = (Some(THIN.as_bps() / 1000), None);
    }
    Ok(measured)
}

fn measure_one(
    wanted: &Wanted,
    runs: &[usize],
    setup: impl Fn(Protection) -> Setup,
    link: &Rc<Link>,
) -> anyhow::Result<Vec<Measured>> {
    let lesson = |setup, link| anyhow::Ok(Rc::new(RefCell::new(Lesson::new(setup, link)?)));
    let all = lesson(setup(Protection::Both), Some(link))?;
    let sealed = lesson(setup(Protection::Both), None)?;
    let own = lesson(setup(Protection::OpenOnly), None)?;
    let alone = lesson(Setup { subscribers: 0, ..setup(Protection::Both) }, None)?;
    let Setup { subscribers, shape, .. } = setup(Protection::Both);
    let keys = Key::set(Profile::Gcm, subscribers);

    let mut stages: Vec<Box<dyn Stage>> = vec![Box::new(Open::new(Rc::clone(&keys)))];
    let mut tallies = Vec::new();
    for &run in runs {
        for parts in [Parts::Copy, Parts::Seal, Parts::All] {
            stages.push(Box::new(Combined::new(Rc::clone(link), Rc::clone(&keys), run, parts)?));
        }
        for lesson in [&all, &sealed, &own] {
            let stage = Forward::new(lesson, run, Until::Forwarded);
            tallies.push(stage.tally());
            stages.push(Box::new(stage));
        }
        stages.push(Box::new(Forward::new(&alone, run, Until::Read)));
        stages.push(Box::new(Forward::new(&alone, run, Until::Forwarded)));
        stages.push(Box::new(Pace::new(subscribers, run)));
        stages.push(Box::new(Copy::new(subscribers, run)));
    }
    let spreads = interleave(&mut stages, wanted.rounds, ROUND)?;
    let open = spreads[0].median * shape.packets.iter().sum::<usize>() as f64 / shape.forwarded() as f64;
    let of_run = |(n, &run): (usize, &usize)| {
        let spreads = &spreads[1 + n * STAGES..][..STAGES];
        let tallies = &tallies[n * LESSONS..][..LESSONS];
        summary(subscribers, run, open, spreads, tallies)
    };
    Ok(runs.iter().enumerate().map(of_run).collect())
}

/// Stages, and lessons among them, of each length of runs.
const STAGES: usize = 10;
const LESSONS: usize = 3;

/// `open` is for all packets that come in for one of the highest encoding.
fn summary(subscribers: usize, run: usize, open: f64, spreads: &[Spread], tallies: &[Rc<Tally>]) -> Measured {
    let [limit_copy, limit_sealed, limit, all, sealed, own, read, arrive, pace, copy] =
        std::array::from_fn(|n| spreads[n]);
    // What was measured for a packet in is divided among the packets out.
    let share = |ns: f64| ns / subscribers as f64;
    let before = [share(read.median), share(open), share(arrive.median - read.median - open)];
    let beside: f64 = before.iter().sum::<f64>() + pace.median + copy.median;
    let [packets, allocations]: [u64; 2] = [
        tallies.iter().map(|tally| tally.packets.get()).sum(),
        tallies.iter().map(|tally| tally.allocations.get()).sum(),
    ];
    Measured {
        subscribers,
        run,
        kbps: None,
        limit: Some(Limit {
            all: limit,
            seal: limit_sealed.median - limit_copy.median,
            send: limit.median - limit_sealed.median,
        }),
        all,
        own,
        sealed: sealed.median,
        stages: vec![
            ("receive", before[0]),
            ("open", before[1]),
            ("parse, track", before[2]),
            ("fan-out, select, rewrite", own.median - beside),
            ("pace", pace.median),
            ("copy", copy.median),
            ("seal", sealed.median - own.median),
            ("send", all.median - sealed.median),
        ],
        allocations: allocations as f64 / packets.max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_add_up_to_the_whole() {
        let wanted = Wanted { subscribers: vec![2], runs: vec![1, 8], rounds: 1, ifb: false };
        let measured = measure(&wanted).unwrap();
        assert_eq!(
            measured.iter().map(|one| (one.subscribers, one.run)).collect::<Vec<_>>(),
            [(2, 1), (2, 8)]
        );
        for one in measured {
            let sum: f64 = one.stages.iter().map(|(_, ns)| ns).sum();
            assert!((sum - one.all.median).abs() < 1.0, "{one:?}");
            assert!(one.ratio().is_some_and(|ratio| ratio > 0.0));
        }
    }
}
