//! CPU of the whole process per datagram that it sends, at a pace, beside the limit program's.

use std::rc::Rc;
use std::time::Duration;

use clap::Args;

use super::lessons::{Lesson, Sizes, play};
use super::scene::{Rounds, Scene};
use super::usage::{Usage, Work};
use crate::limit::link::Link;
use crate::limit::paced::Paced;
use crate::limit::rounds::{Spread, Stage};
use crate::limit::seal::{Key, Profile};

/// What is measured.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Who is there.
    #[command(flatten)]
    pub scene: Scene,
    /// Packets a second that come into each room
    #[arg(long, value_name = "N", default_value = "150", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub pps: u32,
    /// Packets of each frame, which come at once
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,4",
          value_parser = clap::value_parser!(u32).range(1..=32))]
    pub runs: Vec<u32>,
    /// How long the packets of a frame are
    #[arg(long, value_enum, default_value = "equal")]
    pub sizes: Sizes,
    /// How long it is watched.
    #[command(flatten)]
    pub rounds: Rounds,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Packets of each frame.
    pub run: u32,
    /// CPU of the whole process, ns per datagram sent.
    pub process: Spread,
    /// The limit program's at the same pace, ns per packet sent.
    pub limit: Spread,
    /// What the process spent in all rounds.
    pub usage: Usage,
    /// What it did in them.
    pub work: Work,
    /// How long they took.
    pub time: Duration,
}

/// Measures everything that `options` ask for.
///
/// # Errors
/// When the server or a socket fails.
pub fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let (mut server, mut lessons) = options.scene.begin()?;
    lessons.iter().try_for_each(Lesson::fall_asleep)?;
    lessons.iter_mut().for_each(|lesson| lesson.set_sizes(options.sizes));
    let receivers = options.scene.receivers as usize;
    let link = Rc::new(Link::loopback(receivers)?);
    let keys = Key::set(Profile::Gcm, receivers);
    let length = options.rounds.length();
    let mut rows = Vec::new();
    for &run in &options.runs {
        let pps = options.pps * options.scene.rooms;
        let mut limit = Paced::new(Rc::clone(&link), Rc::clone(&keys), run as usize, pps, length)?;
        let mut row = Tally::default();
        for round in 0..=options.rounds.rounds {
            server.listen();
            lessons.iter_mut().try_for_each(Lesson::tend)?;
            let (usage, work) = (server.usage()?, server.work()?);
            play(&mut lessons, run as usize, options.pps, length)?;
            let (usage, work) = (server.usage()?.since(usage), server.work()?.since(work));
            let pass = limit.pass()?;
            // The first warms up.
            if round > 0 {
                row.add(usage, work, pass.spent.as_nanos() as f64 / pass.packets as f64);
            }
        }
        rows.push(row.finish(run, length * options.rounds.rounds));
    }
    Ok(rows)
}

/// The rounds of a row so far.
#[derive(Default)]
struct Tally {
    process: Vec<f64>,
    limit: Vec<f64>,
    usage: Usage,
    work: Work,
}

impl Tally {
    fn add(&mut self, usage: Usage, work: Work, limit: f64) {
        self.process.push(usage.cpu.as_nanos() as f64 / work.datagrams.max(1) as f64);
        self.limit.push(limit);
        self.usage += usage;
        self.work += work;
    }

    fn finish(self, run: u32, time: Duration) -> Row {
        let Self { process, limit, usage, work } = self;
        Row { run, process: Spread::of(&process), limit: Spread::of(&limit), usage, work, time }
    }
}

/// The table in Markdown.
pub fn render(options: &Options, rows: &[Row]) -> String {
    let mut text = format!(
        "{}, {} packets/s into each; lengths: {}\n\n\
         | frame | process, ns/packet | limit, ns/packet | ratio | mean run | sleeps/s | turns/s | receive calls/s | dropped |\n\
         |------:|-------------------:|-----------------:|------:|---------:|---------:|--------:|----------------:|--------:|\n",
        options.scene, options.pps, options.sizes
    );
    for Row { run, process, limit, usage, work, time } in rows {
        let spread =
            |spread: &Spread| format!("{:.0} / {:.0} / {:.0}", spread.min, spread.median, spread.max);
        let rate = |count: u64| format!("{:.0}", count as f64 / time.as_secs_f64());
        let cells = [
            run.to_string(),
            spread(process),
            spread(limit),
            format!("{:.2}", process.median / limit.median),
            format!("{:.2}", work.datagrams as f64 / work.sends.max(1) as f64),
            rate(usage.sleeps),
            rate(work.turns),
            rate(work.receives),
            work.dropped.to_string(),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}
