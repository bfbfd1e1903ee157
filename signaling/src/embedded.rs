//! An SFU in the same process, joined by channels: what the binary `lectern` runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use prometheus::{Encoder, TextEncoder};
use sfu::metrics::Metrics;
use tracing::warn;

/// The knobs of the SFU.
pub use sfu::config;

use crate::app::RunningSfu;
use crate::sfu_link::SfuLink;

/// Starts an SFU. Must be called inside a tokio runtime.
pub fn start(config: &config::Config) -> Result<RunningSfu, sfu::StartError> {
    let (sfu, control) = sfu::start(config)?;
    let metrics = sfu.metrics();
    Ok(RunningSfu {
        links: SfuLink { commands: control.commands, events: control.events }.into(),
        patience: None,
        metrics: Some(Arc::new(move || -> Pin<Box<dyn Future<Output = String> + Send>> {
            Box::pin(render(metrics.clone()))
        })),
        drain: Box::pin(sfu.drain()),
    })
}

async fn render(metrics: Metrics) -> String {
    let mut text = Vec::new();
    match metrics.gather().await {
        Ok(families) => TextEncoder::new()
            .encode(&families, &mut text)
            .expect("writing to memory does not fail, and every family has a name and a metric"),
        Err(error) => warn!(%error, "no metrics of the SFU"),
    }
    String::from_utf8(text).expect("Prometheus' text form is UTF-8")
}
