//! `lectern-loadtest`: real clients with synthetic media against a running server, and bad lines for them.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report on the terminal is what this program is for"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use loadtest::api::Server;
use loadtest::lesson::{self, LessonOptions};
use loadtest::links::capacity::Capacity;
use loadtest::links::path::{Conditions, Loss, QueueLimit};
use loadtest::links::report::Comparison;
use loadtest::links::run::Control;
use loadtest::links::scenario::Paths;
use loadtest::links::{self, LinksOptions};
use loadtest::relay::{Relay, RelayOptions};
use loadtest::seed;
use serde::Serialize;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Loads a Lectern server with synthetic schools, and measures what it does.
///
/// It sends real traffic. Aim it at servers of your own.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Gives one lesson of so many seconds, and says whether the server carries it; exit code 1 if it does not.
    Lesson(Lesson),
    /// Is a bad line in front of a server's media port, until it is stopped; then prints what became of the
    /// datagrams, as JSON. The server has to announce the relay's address: `lectern --node-ip IP:PORT`.
    Relay(Line),
    /// Runs the server's core in virtual time over emulated thin links, and prints what a class hears and sees.
    /// Sends nothing anywhere.
    Links(Links),
}

#[derive(clap::Args)]
struct Links {
    /// A file of scenarios. Default: those of the source tree.
    #[arg(long, value_name = "FILE")]
    scenarios: Option<PathBuf>,
    /// Where the recorded links are that it names. Default: beside it.
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// One of them, or all.
    #[arg(long, default_value = "all", value_name = "ID")]
    scenario: String,
    /// How many of each scenario's seeds.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Also write all rows to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a picture of each run into this folder, as SVG.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// What the server does about the links.
    #[arg(long, value_enum, default_value_t = Control::Full)]
    control: Control,
    /// Runs everything under each control, and prints their means together.
    #[arg(long, conflicts_with_all = ["control", "plot", "strict"])]
    compare: bool,
    /// Exit code 1 where a row misses a bar.
    #[arg(long)]
    strict: bool,
}

#[derive(clap::Args)]
struct Lesson {
    /// The server, without TLS.
    #[arg(long, env = "LECTERN_URL", default_value = "http://localhost:7880")]
    url: String,
    /// Classes: each receives everything and sends sound.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=500))]
    classes: u32,
    /// Pupils with a device of their own: each receives everything and sends nothing.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pupils: u32,
    /// How long media flows, seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Bitrate of the teacher's picture, kbit/s.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(20..=20_000))]
    video_kbps: u32,
    /// Also write the report to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Line {
    /// Where clients send to; port 0 takes any free one. It is printed.
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// The server's media port.
    #[arg(long, value_name = "IP:PORT")]
    to: SocketAddr,
    /// Datagrams lost at random, percent.
    #[arg(long, default_value = "0", value_name = "PERCENT[:DOWN]")]
    loss: UpDown<f64>,
    /// How long a datagram travels that waits for no other, milliseconds.
    #[arg(long, default_value = "0", value_name = "MS[:DOWN]")]
    delay: UpDown<u64>,
    /// What the line carries, kbit/s with the headers of IP and UDP; 0: as fast as they come.
    #[arg(long, default_value = "0", value_name = "KBPS[:DOWN]")]
    rate: UpDown<u64>,
    /// Queue in front of the rate, milliseconds; what would wait longer is dropped.
    #[arg(long, default_value = "300", value_name = "MS[:DOWN]")]
    queue: UpDown<u64>,
    /// The link of one of `links`' scenarios instead, from now on.
    #[arg(long, value_name = "ID", conflicts_with_all = ["loss", "delay", "rate", "queue"])]
    scenario: Option<String>,
    /// A file of scenarios. Default: those of the source tree.
    #[arg(long, value_name = "FILE", requires = "scenario")]
    scenarios: Option<PathBuf>,
    /// Where the recorded links are that it names. Default: beside it.
    #[arg(long, value_name = "DIR", requires = "scenario")]
    traces: Option<PathBuf>,
    /// For the same losses again. Default: another one each time.
    #[arg(long)]
    seed: Option<u64>,
}

/// A value for both directions, or `UP:DOWN`: from clients to the server, and back.
#[derive(Clone, Copy)]
struct UpDown<T> {
    up: T,
    down: T,
}

impl<T: FromStr + Copy> FromStr for UpDown<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        let (up, down) = text.split_once(':').unwrap_or((text, text));
        Ok(Self { up: up.parse()?, down: down.parse()? })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    // The peer connections tell of each packet that comes after its track ended: of interest to debugging alone.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = match Arguments::parse().command {
        Command::Lesson(arguments) => give_lesson(&arguments).await,
        Command::Relay(arguments) => relay(&arguments).await.map(|()| vec![]),
        Command::Links(arguments) => run_links(arguments),
    };
    match outcome {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            let more = if problems.len() > 1 {
                format!(" (and {} more)", problems.len() - 1)
            } else {
                String::new()
            };
            eprintln!("error: {}{more}", problems[0]);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What did not work.
async fn give_lesson(arguments: &Lesson) -> anyhow::Result<Vec<String>> {
    let options = LessonOptions {
        server: Server::parse(&arguments.url)?,
        classes: arguments.classes,
        pupils: arguments.pupils,
        duration: Duration::from_secs(arguments.seconds),
        video_kbps: arguments.video_kbps,
    };
    let report = lesson::run(&options).await?;
    print!("{report}");
    write_json(arguments.json.as_deref(), &report)?;
    let problems = report.problems();
    if problems.is_empty() {
        println!("\nthe server carries this lesson");
    } else {
        println!();
        problems.iter().take(MAX_SHOWN).for_each(|problem| println!("problem: {problem}"));
    }
    Ok(problems)
}

/// How many rows miss a bar, in words.
fn run_links(arguments: Links) -> anyhow::Result<Vec<String>> {
    let mut options = LinksOptions {
        scenarios: arguments.scenarios,
        traces: arguments.traces,
        scenario: arguments.scenario,
        seeds: arguments.seeds as usize,
        control: arguments.control,
        plots: arguments.plot,
    };
    if arguments.compare {
        let mut comparison = Comparison::default();
        for control in Control::ALL {
            println!("control: {}\n{}", control.name(), links::report::HEAD);
            options.control = control;
            comparison.0.insert(control, links::run(&options, |row| println!("{row}"))?);
        }
        print!("{comparison}");
        write_json(arguments.json.as_deref(), &comparison)?;
        return Ok(vec![]);
    }
    println!("{}", links::report::HEAD);
    let report = links::run(&options, |row| println!("{row}"))?;
    print!("{report}");
    write_json(arguments.json.as_deref(), &report)?;
    let missed = report.missed();
    Ok(if arguments.strict && missed > 0 {
        vec![format!("{missed} of {} rows miss a bar", report.rows.len())]
    } else {
        vec![]
    })
}

fn write_json(path: Option<&Path>, report: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let json = serde_json::to_vec_pretty(report).context("the report")?;
    std::fs::write(path, json).with_context(|| path.display().to_string())
}

/// Relays until Ctrl-C or SIGTERM.
async fn relay(line: &Line) -> anyhow::Result<()> {
    let Paths { up, down } = paths(line)?;
    let seed = line.seed.unwrap_or_else(seed::fresh);
    let options = RelayOptions { listen: line.listen, to: line.to, up, down, seed };
    let relay = Relay::bind(&options).await.with_context(|| line.listen.to_string())?;
    println!("relaying {} to {}, seed {}", relay.local_addr()?, options.to, options.seed);
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async {
        tokio::select! {
            _ = ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    let stats = relay.run(stop).await?;
    println!("{}", serde_json::to_string(&stats)?);
    Ok(())
}

fn paths(line: &Line) -> anyhow::Result<Paths> {
    let Some(id) = &line.scenario else {
        return Ok(Paths {
            up: direction(line.loss.up, line.delay.up, line.rate.up, line.queue.up)?,
            down: direction(line.loss.down, line.delay.down, line.rate.down, line.queue.down)?,
        });
    };
    let scenarios = links::read(line.scenarios.as_deref(), line.traces.as_deref())?;
    let scenario = scenarios.all.into_iter().find(|scenario| scenario.id == *id);
    scenario.with_context(|| format!("there is no scenario {id}"))?.paths.map_err(anyhow::Error::msg)
}

fn direction(loss_percent: f64, delay_ms: u64, rate_kbps: u64, queue_ms: u64) -> anyhow::Result<Conditions> {
    ensure!((0.0..=100.0).contains(&loss_percent), "a loss of {loss_percent} %: choose 0 to 100");
    ensure!(delay_ms <= MAX_MS && queue_ms <= MAX_MS, "a delay or queue of more than {MAX_MS} ms");
    ensure!(rate_kbps <= MAX_KBPS, "a rate of more than {MAX_KBPS} kbit/s");
    let path = Conditions {
        delay: Duration::from_millis(delay_ms),
        loss: Loss::Uniform(loss_percent / 100.0),
        ..Conditions::default()
    };
    Ok(match rate_kbps * 1000 {
        0 => path,
        bps => Conditions {
            capacity: Capacity::constant(bps),
            queue: QueueLimit::of_time(bps, Duration::from_millis(queue_ms)),
            ..path
        },
    })
}

/// A minute: no line is worse.
const MAX_MS: u64 = 60_000;

/// 10 Gbit/s: more than one thread relays.
const MAX_KBPS: u64 = 10_000_000;

/// The first ones tell what is wrong; the JSON report has all that they come from.
const MAX_SHOWN: usize = 20;
