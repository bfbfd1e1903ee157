//! `lectern-loadtest`: real clients with synthetic media against a running server.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report on the terminal is what this program is for"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use loadtest::api::Server;
use loadtest::lesson::{self, LessonOptions};
use tracing_subscriber::EnvFilter;

/// Loads a Lectern server with synthetic schools, and measures what it does.
///
/// It sends real traffic for the time that was asked for, and then stops by itself. Aim it at servers of your own.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Gives one lesson and says whether the server carries it; exit code 1 if it does not.
    Lesson(Lesson),
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

#[tokio::main]
async fn main() -> ExitCode {
    // The peer connections tell of each packet that comes after its track ended: of interest to debugging alone.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = match Arguments::parse().command {
        Command::Lesson(arguments) => give_lesson(&arguments).await,
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
    if let Some(path) = &arguments.json {
        let json = serde_json::to_vec_pretty(&report).context("the report")?;
        std::fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    let problems = report.problems();
    if problems.is_empty() {
        println!("\nthe server carries this lesson");
    } else {
        println!();
        problems.iter().take(MAX_SHOWN).for_each(|problem| println!("problem: {problem}"));
    }
    Ok(problems)
}

/// The first ones tell what is wrong; the JSON report has all that they come from.
const MAX_SHOWN: usize = 20;
