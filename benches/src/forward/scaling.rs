//! Two workers on two cores, each with a room of its own, beside the limit's loop on both.
//!
//! ```text
//!  core 0:  [socket, filled] -> limit's loop, or worker and media socket -> a link of its own
//!  core 1:  the same
//! ```
//!
//! A stage is measured on each core alone, then on both at once, all in turn. What comes in lies in the sockets before
//! the clock starts, so that the publishers cost nothing. Scaling is how many times the packets of one core two carry:
//! by CPU time, as everywhere here, which tells what the two take from each other (caches, memory, the kernel's locks)
//! whatever else the machine does.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Barrier;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope};

use anyhow::{Context, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use sfu_core::transport::bench::Protection;

use super::lesson::{Lesson, ROOMY, Setup};
use super::source::Shape;
use super::stage::{Forward, Until};
use crate::limit::combined::{Combined, Parts};
use crate::limit::link::Link;
use crate::limit::rounds::{Pass, Spread, Stage};
use crate::limit::seal::{Key, Profile};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Subscribers of each core's room.
    pub subscribers: usize,
    /// Packets of a frame that arrive at once.
    pub runs: Vec<usize>,
    /// Rounds, of which the middle one counts.
    pub rounds: usize,
    /// Send into `ifb` devices, else over loopback.
    pub ifb: bool,
}

/// How many times the packets of one core two cores carry.
#[derive(Clone, Copy, Debug)]
pub struct Scaling {
    /// Packets of a frame that arrive at once.
    pub run: usize,
    /// The limit's loop.
    pub limit: Spread,
    /// Workers behind media sockets.
    pub ours: Spread,
}

impl Scaling {
    /// Ours beside the limit's: 1 is as good.
    pub fn ratio(&self) -> f64 {
        self.ours.median / self.limit.median
    }
}

const CORES: usize = 2;
/// Stages of each length of runs: the limit's and ours.
const STAGES: usize = 2;
/// Passes of each measurement, a few milliseconds each.
const PASSES: usize = 4;

/// Measures everything wanted.
///
/// # Errors
/// On a machine with one core, or when a socket fails.
pub fn measure(wanted: &Wanted) -> anyhow::Result<Vec<Scaling>> {
    let cpus = cpus()?;
    let barrier = Barrier::new(CORES);
    thread::scope(|scope| {
        let cores = cpus.map(|cpu| Core::start(scope, cpu, wanted, &barrier));
        for core in &cores {
            core.answer().context("a core cannot begin")?;
        }
        let mut rounds = vec![Vec::with_capacity(wanted.rounds); wanted.runs.len() * STAGES];
        for round in 0..=wanted.rounds {
            for (stage, rounds) in rounds.iter_mut().enumerate() {
                let alone = alone(&cores, stage)?;
                let scaling = CORES as f64 * alone / together(&cores, stage)?;
                // The first warms up.
                if round > 0 {
                    rounds.push(scaling);
                }
            }
        }
        let of_run = |(&run, rounds): (&usize, &[Vec<f64>])| Scaling {
            run,
            limit: Spread::of(&rounds[0]),
            ours: Spread::of(&rounds[1]),
        };
        Ok(wanted.runs.iter().zip(rounds.chunks(STAGES)).map(of_run).collect())
    })
}

/// The first CPUs that we may use.
fn cpus() -> anyhow::Result<[usize; CORES]> {
    let allowed = sched_getaffinity(None)?;
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).take(CORES).collect();
    cpus.try_into().ok().with_context(|| format!("scaling needs {CORES} cores"))
}

/// ns per packet of a stage while the other core idles.
fn alone(cores: &[Core], stage: usize) -> anyhow::Result<f64> {
    let mut sum = Pass::default();
    for core in cores {
        for _ in 0..PASSES {
            core.ask(Job { stage, together: false })?;
            sum += core.answer()?;
        }
    }
    Ok(sum.cost())
}

/// ns per packet of a stage on all cores at once.
fn together(cores: &[Core], stage: usize) -> anyhow::Result<f64> {
    let mut sum = Pass::default();
    for _ in 0..PASSES {
        cores.iter().try_for_each(|core| core.ask(Job { stage, together: true }))?;
        // Both answer before an error of one ends it all: no core waits at the barrier for one that has gone.
        let answers: Vec<_> = cores.iter().map(Core::answer).collect();
        for pass in answers {
            sum += pass?;
        }
    }
    Ok(sum.cost())
}

/// A thread on a CPU of its own, with all stages.
struct Core {
    jobs: Sender<Job>,
    passes: Receiver<anyhow::Result<Pass>>,
}

/// One pass of a stage.
struct Job {
    stage: usize,
    together: bool,
}

impl Core {
    /// Its first answer says whether it could begin.
    fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        cpu: usize,
        wanted: &'scope Wanted,
        barrier: &'scope Barrier,
    ) -> Self {
        let (jobs, asked) = channel::<Job>();
        let (answer, passes) = channel();
        scope.spawn(move || {
            let mut stages = match stages(cpu, wanted) {
                Ok(stages) => stages,
                Err(error) => return answer.send(Err(error)).ok(),
            };
            answer.send(Ok(Pass::default())).ok()?;
            for Job { stage, together } in asked {
                let stage = &mut stages[stage];
                let prepared = stage.prepare();
                if together {
                    barrier.wait();
                }
                answer.send(prepared.and_then(|()| stage.pass())).ok()?;
            }
            Some(())
        });
        Self { jobs, passes }
    }

    fn ask(&self, job: Job) -> anyhow::Result<()> {
        self.jobs.send(job).ok().context("a core has ended")
    }

    fn answer(&self) -> anyhow::Result<Pass> {
        self.passes.recv().context("a core has ended")?
    }
}

/// The limit's and our stage of each length of runs, on this CPU from here on.
fn stages(cpu: usize, wanted: &Wanted) -> anyhow::Result<Vec<Box<dyn Stage>>> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)?;
    let Wanted { subscribers, ref runs, ifb, .. } = *wanted;
    let link = Rc::new(if ifb { Link::ifb(subscribers)? } else { Link::loopback(subscribers)? });
    let setup = Setup { subscribers, shape: Shape::FULL, rate: ROOMY, protection: Protection::Both };
    let lesson = Rc::new(RefCell::new(Lesson::new(setup, Some(&link))?));
    let keys = Key::set(Profile::Gcm, subscribers);
    let mut stages: Vec<Box<dyn Stage>> = Vec::new();
    for &run in runs {
        ensure!(run <= setup.shape.forwarded(), "a frame has {} packets", setup.shape.forwarded());
        stages.push(Box::new(Combined::new(Rc::clone(&link), Rc::clone(&keys), run, Parts::All)?));
        stages.push(Box::new(Forward::new(&lesson, run, Until::Forwarded)));
    }
    Ok(stages)
}

/// The table in Markdown.
pub fn table(wanted: &Wanted, scalings: &[Scaling]) -> String {
    let mut text = format!(
        "\nTwo cores beside one, each with a room 1 -> {}: how many times the packets (min, median, max)\n\n\
         | run | limit | ours | ratio |\n| --: | ----: | ---: | ----: |\n",
        wanted.subscribers
    );
    for scaling in scalings {
        let [limit, ours] = [&scaling.limit, &scaling.ours].map(spread);
        let line = format!("| {} | {limit} | {ours} | {:.2} |", scaling.run, scaling.ratio());
        writeln!(text, "{line}").expect("a string takes everything");
    }
    text
}

/// Cheapest, middle and dearest round.
pub fn spread(Spread { min, median, max }: &Spread) -> String {
    format!("{min:.2} / {median:.2} / {max:.2}")
}

/// [`Scaling`] by medians.
#[derive(Serialize)]
pub struct Json {
    run: usize,
    limit: f64,
    ours: f64,
    ratio: f64,
}

impl From<&Scaling> for Json {
    fn from(scaling: &Scaling) -> Self {
        let Scaling { run, limit, ours } = scaling;
        Self { run: *run, limit: limit.median, ours: ours.median, ratio: scaling.ratio() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cores_carry_something_of_every_run() {
        let wanted = Wanted { subscribers: 2, runs: vec![1, 8], rounds: 1, ifb: false };
        // A machine with one core says so.
        let Ok(scalings) = measure(&wanted) else { return assert!(cpus().is_err()) };
        assert_eq!(scalings.iter().map(|scaling| scaling.run).collect::<Vec<_>>(), [1, 8]);
        assert!(scalings.iter().all(|scaling| scaling.limit.min > 0.0 && scaling.ours.min > 0.0));
        assert_eq!(table(&wanted, &scalings).lines().count(), 5 + 2);
    }

    #[test]
    fn what_a_core_lacks_ends_the_measurement_and_no_thread_waits_for_another() {
        let wanted = Wanted { subscribers: 2, runs: vec![9], rounds: 1, ifb: false };
        assert!(measure(&wanted).is_err());
    }
}
