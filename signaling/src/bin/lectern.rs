//! The binary `lectern`: signaling and an SFU in one process.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde::Deserialize;
use signaling::app::App;
use signaling::config::{Config, Knobs};
use signaling::embedded;
use signaling::process::{read_file, start_logging};

/// Lectern: joint lessons between schools on thin links.
#[derive(Debug, Parser)]
#[command(name = "lectern", version)]
struct Cli {
    /// Configuration file (TOML): tables `[signaling]` and `[sfu]` with the keys below, `-` written as `_`.
    #[arg(long, env = "LECTERN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    signaling: Knobs,
    #[command(flatten, next_help_heading = "Media")]
    sfu: embedded::config::Overrides,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    signaling: Knobs,
    sfu: Option<embedded::config::Config>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not a log line: it must be seen whatever the filter. If standard error is closed, nobody looks.
            writeln!(io::stderr(), "lectern: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let file: File = read_file(cli.config.as_deref())?;
    let config = Config::new(cli.signaling, file.signaling)?;
    // To try things out, a browser on this very machine must reach the media too.
    let mut media = file.sfu.unwrap_or_else(|| embedded::config::Config {
        announce_loopback: config.is_development(),
        ..embedded::config::Config::default()
    });
    media.apply(cli.sfu);
    media.validate()?;
    start_logging(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(&config, &media))
}

async fn serve(config: &Config, media: &embedded::config::Config) -> anyhow::Result<()> {
    let app = App::start(config, embedded::start(media)?)?;
    announce(&app, config)?;
    Ok(app.run().await?)
}

/// What a person at the terminal needs: where to go, and how to make a lesson from a script.
fn announce(app: &App, config: &Config) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Lectern is running. Open one of these and make a lesson:")?;
    for url in app.urls() {
        writeln!(out, "  {url}")?;
    }
    if config.https_bind.is_some() {
        writeln!(out, "https has a self-signed certificate: a browser asks once whether to go on.")?;
    }
    if let (true, Some(url)) = (config.open_lessons, app.urls().first()) {
        writeln!(out, "A lesson without the page: curl -X POST {url}/api/lessons")?;
    }
    out.flush()
}
