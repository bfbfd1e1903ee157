//! The binary `lectern-signaling`: signaling in a process of its own, for SFU nodes that connect to it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use serde::Deserialize;
use signaling::app::App;
use signaling::clock;
use signaling::config::{Config, Knobs};
use signaling::control::authority::Authority;
use signaling::control::{self, ControlConfig, ControlKnobs};
use signaling::keys::write_secret;
use signaling::process::{read_file, start_logging};

/// Lectern's signaling: the page, lessons, and who is in them. Media runs in `lectern-sfu`, on one node or several.
#[derive(Debug, Parser)]
#[command(name = "lectern-signaling", version)]
struct Cli {
    /// Configuration file (TOML): tables `[signaling]` and `[control]` with the keys below, `-` written as `_`.
    #[arg(long, env = "LECTERN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    signaling: Knobs,
    #[command(flatten, next_help_heading = "Nodes")]
    control: ControlKnobs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the file by which an SFU node is let in: copy it to the node, and keep it secret. It needs the
    /// state folder only; signaling may run or not.
    NodeCertificate {
        /// The node's name: small letters, digits and hyphens. Each node has one of its own.
        name: String,
        /// Where to write it. Default: NAME.pem here.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    signaling: Knobs,
    control: ControlKnobs,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not a log line: it must be seen whatever the filter. If standard error is closed, nobody looks.
            writeln!(io::stderr(), "lectern-signaling: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let file: File = read_file(cli.config.as_deref())?;
    let config = Config::new(cli.signaling, file.signaling)?;
    let nodes = ControlConfig::new(&cli.control, &file.control)?;
    if let Some(Command::NodeCertificate { name, out }) = cli.command {
        return make_certificate(&config, &name, out);
    }
    start_logging(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listening = control::listen(&nodes, &config.state_dir)?;
        let app = App::start(&config, listening.sfu)?;
        announce(&app, listening.address.port())?;
        Ok(app.run().await?)
    })
}

fn make_certificate(config: &Config, name: &str, out: Option<PathBuf>) -> anyhow::Result<()> {
    let now = clock::unix_seconds();
    let bundle = Authority::keep(&config.state_dir, now)?.node(name, now)?;
    let path = out.unwrap_or_else(|| format!("{name}.pem").into());
    write_secret(&path, bundle.as_bytes()).with_context(|| path.display().to_string())?;
    writeln!(io::stdout(), "{}: copy it to the node and start `lectern-sfu` with it", path.display())?;
    Ok(())
}

fn announce(app: &App, control_port: u16) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Lectern's signaling is running; SFU nodes connect to UDP port {control_port}.")?;
    for url in app.urls() {
        writeln!(out, "  {url}")?;
    }
    out.flush()
}
