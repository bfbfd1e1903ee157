//! What is measured: the stages that were asked for, in turn, and their rows.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;

use super::combined::{Combined, Parts};
use super::link::Link;
use super::paced::Paced;
use super::receive::{How, Receive};
use super::rounds::{Spread, Stage, interleave};
use super::seal::{Key, Open, Profile, Seal};
use super::send::Send;
use super::table::{Json, Limit, Paced as PacedJson, Row};

/// Prints what this machine can do at best: each step of forwarding a packet, and all of them together.
#[derive(Clone, Debug, Parser)]
#[command(name = "limit")]
pub struct Options {
    /// Destinations of each packet, each with a key of its own
    #[arg(long, visible_alias = "keys", value_name = "N", default_value = "30",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_DESTINATIONS))]
    pub destinations: usize,
    /// Lengths of runs: datagrams to one destination in one message
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,2,4,8,16,32",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_RUN))]
    pub runs: Vec<usize>,
    /// Rounds, of which the table gives the cheapest, the middle and the dearest
    #[arg(long, value_name = "N", default_value = "21",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1001))]
    pub rounds: usize,
    /// Protection of the combined loop
    #[arg(long, value_enum, default_value = "gcm")]
    pub profile: Profile,
    /// Send also into an `ifb` device in a network namespace of its own (needs root)
    #[arg(long)]
    pub ifb: bool,
    /// Measure the combined loop alone, with so many packets coming in each second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub pps: Option<u32>,
    /// Length of each round with --pps
    #[arg(long, value_name = "N", default_value = "1", requires = "pps",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Write the medians of the combined loop to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// All have an address in one /16 network.
const MAX_DESTINATIONS: u64 = 65_000;
/// As many packets of 1200 bytes as fit the largest IP packet.
const MAX_RUN: u64 = 54;
/// CPU time of a round.
const ROUND: Duration = Duration::from_millis(4);

/// What came out.
#[derive(Debug)]
pub struct Report {
    /// All stages.
    pub rows: Vec<Row>,
    /// The combined loop.
    pub json: Json,
    /// Why `ifb` was left out.
    pub skipped: Option<String>,
}

/// Measures everything that `options` ask for.
///
/// # Errors
/// When a socket fails.
pub fn measure(options: &Options) -> anyhow::Result<Report> {
    let mut links = vec![Rc::new(Link::loopback(options.destinations)?)];
    let mut skipped = Some("not asked for (--ifb)".to_owned());
    if options.ifb {
        match Link::ifb(options.destinations) {
            Ok(link) => {
                links.push(Rc::new(link));
                skipped = None;
            }
            Err(error) => skipped = Some(format!("{error:#}")),
        }
    }
    let (what, mut stages): (Vec<_>, Vec<_>) = plan(options, &links)?.into_iter().unzip();
    let spreads = interleave(&mut stages, options.rounds, ROUND)?;
    let measured: Vec<_> = what.into_iter().zip(spreads).collect();
    Ok(Report { rows: rows(options, &measured), json: json(options, &links, &measured), skipped })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Seal(Profile),
    Open(Profile),
    Receive(How),
    Send {
        link: &'static str,
        run: usize,
    },
    /// The combined loop without the last steps, which no link changes.
    Without(Parts, usize),
    Combined {
        link: &'static str,
        run: usize,
    },
    Paced {
        link: &'static str,
        run: usize,
        pps: u32,
    },
}

type Planned = (What, Box<dyn Stage>);

fn plan(options: &Options, links: &[Rc<Link>]) -> anyhow::Result<Vec<Planned>> {
    let keys = Key::set(options.profile, options.destinations);
    match options.pps {
        Some(pps) => plan_paced(options, links, &keys, pps),
        None => plan_full(options, links, &keys),
    }
}

fn plan_paced(
    options: &Options,
    links: &[Rc<Link>],
    keys: &Rc<[Key]>,
    pps: u32,
) -> anyhow::Result<Vec<Planned>> {
    let length = Duration::from_secs(options.seconds);
    let mut planned: Vec<Planned> = Vec::new();
    for link in links {
        for &run in &options.runs {
            let stage = Paced::new(Rc::clone(link), Rc::clone(keys), run, pps, length)?;
            planned.push((What::Paced { link: link.name(), run, pps }, Box::new(stage)));
        }
    }
    Ok(planned)
}

fn plan_full(options: &Options, links: &[Rc<Link>], keys: &Rc<[Key]>) -> anyhow::Result<Vec<Planned>> {
    let mut planned: Vec<Planned> = Vec::new();
    for profile in [Profile::Gcm, Profile::Sha1] {
        let keys = Key::set(profile, options.destinations);
        planned.push((What::Seal(profile), Box::new(Seal::new(Rc::clone(&keys)))));
        planned.push((What::Open(profile), Box::new(Open::new(keys))));
    }
    for how in How::ALL {
        planned.push((What::Receive(how), Box::new(Receive::new(how, &keys[0])?)));
    }
    for link in links {
        for &run in &options.runs {
            let stage = Send::new(Rc::clone(link), run);
            planned.push((What::Send { link: link.name(), run }, Box::new(stage)));
        }
    }
    for &run in &options.runs {
        let combined = |link, parts| Combined::new(Rc::clone(link), Rc::clone(keys), run, parts);
        for parts in [Parts::Copy, Parts::Seal] {
            planned.push((What::Without(parts, run), Box::new(combined(&links[0], parts)?)));
        }
        for link in links {
            let stage = combined(link, Parts::All)?;
            planned.push((What::Combined { link: link.name(), run }, Box::new(stage)));
        }
    }
    Ok(planned)
}

fn rows(options: &Options, measured: &[(What, Spread)]) -> Vec<Row> {
    let row = |&(what, spread): &(What, Spread)| {
        let (stage, link, run) = match what {
            What::Seal(profile) => (format!("seal {}", profile.name()), "", None),
            What::Open(profile) => (format!("open {}", profile.name()), "", None),
            What::Receive(how) => (format!("receive {}", how.name()), "loopback", None),
            What::Send { link, run } => ("send".to_owned(), link, Some(run)),
            What::Without(..) => return None,
            What::Combined { link, run } => (format!("1 -> {}", options.destinations), link, Some(run)),
            What::Paced { link, run, pps } => {
                (format!("1 -> {}, {pps} packets/s in", options.destinations), link, Some(run))
            }
        };
        let note = match what {
            What::Combined { run, .. } => {
                let Steps { copy, seal, send } = Steps::of(measured, run, spread);
                let rate = 1e6 / spread.median;
                format!("copy {copy:.0}, seal {seal:.0}, send {send:.0}; {rate:.0} k packets/s out")
            }
            _ => String::new(),
        };
        Some(Row { stage, link, run, spread, note })
    };
    measured.iter().filter_map(row).collect()
}

/// What each step of the combined loop adds, by medians, ns per packet out.
struct Steps {
    /// With the share of receiving and opening.
    copy: f64,
    seal: f64,
    send: f64,
}

impl Steps {
    fn of(measured: &[(What, Spread)], run: usize, all: Spread) -> Self {
        let median = |parts| {
            let found = measured.iter().find(|(what, _)| *what == What::Without(parts, run));
            found.map_or(0.0, |(_, spread)| spread.median)
        };
        let (copy, sealed) = (median(Parts::Copy), median(Parts::Seal));
        Self { copy, seal: sealed - copy, send: all.median - sealed }
    }
}

fn json(options: &Options, links: &[Rc<Link>], measured: &[(What, Spread)]) -> Json {
    // The last is the one without a receiver, where there is one.
    let best = links.last().map_or("", |link| link.name());
    let mut json = Json { link: best, destinations: options.destinations, ..Json::default() };
    for &(what, spread) in measured {
        match what {
            What::Combined { link, run } if link == best => {
                let Steps { seal, send, .. } = Steps::of(measured, run, spread);
                json.limit.push(Limit { run, ns_out: spread.median, seal_ns: seal, send_ns: send });
            }
            What::Paced { link, run, pps } if link == best => {
                json.paced.push(PacedJson { run, pps, ns_out: spread.median });
            }
            _ => {}
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["limit"], args].concat())
    }

    #[test]
    fn arguments_are_checked() {
        for (args, ok) in [
            (&[][..], true),
            (&["--keys", "1000", "--runs", "1,4", "--ifb"], true),
            (&["--pps", "150", "--seconds", "2"], true),
            (&["--destinations", "0"], false),
            (&["--destinations", "65001"], false),
            (&["--runs", "1,0"], false),
            (&["--runs", "55"], false),
            (&["--rounds", "0"], false),
            (&["--pps", "0"], false),
            (&["--seconds", "2"], false),
            (&["--profile", "null"], false),
        ] {
            assert_eq!(options(args).is_ok(), ok, "{args:?}");
        }
        let defaults = options(&[]).unwrap();
        assert_eq!((defaults.destinations, defaults.rounds), (30, 21));
        assert_eq!(defaults.runs, [1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn steps_are_the_differences_that_they_make() {
        let at = |median| Spread { min: median, median, max: median };
        let all = (What::Combined { link: "loopback", run: 4 }, at(1034.0));
        let measured =
            [(What::Without(Parts::Copy, 4), at(40.0)), (What::Without(Parts::Seal, 4), at(211.0)), all];
        let Steps { copy, seal, send } = Steps::of(&measured, 4, all.1);
        assert_eq!((copy, seal, send), (40.0, 171.0, 823.0));
    }

    #[test]
    fn every_stage_of_a_small_run_has_its_row() {
        let report = measure(&options(&["--rounds", "1", "--runs", "1,8", "--keys", "3"]).unwrap()).unwrap();
        assert_eq!(report.rows.len(), 4 + 3 + 2 + 2);
        assert!(report.rows.iter().all(|row| row.spread.min > 0.0), "{:?}", report.rows);
        assert_eq!(report.json.limit.iter().map(|limit| limit.run).collect::<Vec<_>>(), [1, 8]);
        assert!(report.skipped.is_some(), "what is left out is said");
    }
}
