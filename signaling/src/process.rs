//! What both binaries do at their start: read their configuration file and begin to log.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use serde::de::DeserializeOwned;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Reads a configuration file (TOML); its default where none is named. An error names the file.
pub fn read_file<T: DeserializeOwned + Default>(path: Option<&Path>) -> anyhow::Result<T> {
    let Some(path) = path else { return Ok(T::default()) };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// Logs to standard error from now on, as the knobs say.
///
/// # Panics
/// The second time in a process.
pub fn start_logging(config: &Config) -> anyhow::Result<()> {
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
