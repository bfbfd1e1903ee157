//! The binary `lectern-sfu`: an SFU in a process of its own.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use sfu::config::{Cli, LogFormat, ProcessConfig, ServiceConfig};
use sfu::shutdown::Termination;
use sfu::{control, metrics};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not a log line: it must be seen whatever the filter. If standard error is closed, nobody looks.
            writeln!(io::stderr(), "lectern-sfu: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let config = ServiceConfig::load(cli)?;
    start_logging(&config.process)?;
    // The packet path has a thread of its own; what is left needs little.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: ServiceConfig) -> anyhow::Result<()> {
    let mut termination = Termination::listen()?;
    let listener = metrics::bind(config.process.metrics_bind).await?;
    let (sfu, control) = sfu::start(&config.sfu)?;
    let calling = control::quic::start(&config.control, control)?;
    info!(address = %listener.local_addr()?, "metrics");
    let pages = axum::serve(listener, sfu.metrics().with_link(calling.stats.clone()).router());
    tokio::spawn(async move {
        if let Err(error) = pages.await {
            error!(%error, "the metrics pages have ended");
        }
    });
    termination.asked().await;
    let drained = async {
        sfu.drain().await;
        // The last events, and a close in order.
        calling.task.await.ok();
    };
    tokio::select! {
        () = drained => {}
        () = termination.asked() => info!("asked twice: not waiting any longer"),
    }
    Ok(())
}

fn start_logging(config: &ProcessConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&config.log_filter)
        .with_context(|| format!("log_filter '{}' cannot be used", config.log_filter))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
