//! What an operator sees: metrics in Prometheus' text format, liveness and readiness.
//!
//! Counters are plain integers of the workers' threads, copied out when somebody asks; nothing here is touched
//! by a packet. Names follow Prometheus' rules: base units, `_total` on counters.

mod families;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};
use sfu_protocol::link::LinkStats;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use self::families::Counters;
use crate::control::ControlStats;
use crate::shutdown::Phase;
use crate::worker_thread::{Snapshot, WorkerStopped};
use crate::workers::Workers;

/// The SFU's metrics and health. Clones show the same SFU.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) workers: Workers,
    pub(crate) control: watch::Receiver<ControlStats>,
    pub(crate) phase: watch::Receiver<Phase>,
    /// The link to signaling in another process.
    pub(crate) link: Option<watch::Receiver<LinkStats>>,
}

/// A worker gave no sign of life in `ANSWER_TIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a worker does not answer")]
pub struct WorkerSilent;

impl From<WorkerStopped> for WorkerSilent {
    fn from(_: WorkerStopped) -> Self {
        Self
    }
}

/// A worker's turn takes milliseconds; one that takes this long is stuck.
const ANSWER_TIME: Duration = Duration::from_secs(2);

impl Metrics {
    /// All metrics as they are now, for a page that may hold others too.
    pub async fn gather(&self) -> Result<Vec<MetricFamily>, WorkerSilent> {
        let workers = self.snapshots().await?;
        let link = self.link.as_ref().map(|link| *link.borrow());
        Ok(families::all(&Counters::new(workers, *self.control.borrow(), link)))
    }

    /// The same with the metrics of a link to signaling in another process.
    pub fn with_link(self, link: watch::Receiver<LinkStats>) -> Self {
        Self { link: Some(link), ..self }
    }

    /// `/metrics`, `/healthz` (all workers answer) and `/readyz` (they do, and new rooms are welcome).
    pub fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(page))
            .route("/healthz", get(health))
            .route("/readyz", get(readiness))
            .with_state(self)
    }

    async fn snapshots(&self) -> Result<Vec<Snapshot>, WorkerSilent> {
        Ok(timeout(ANSWER_TIME, self.workers.snapshots()).await.map_err(|_| WorkerSilent)??)
    }
}

/// Opens the port of the metrics pages.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, MetricsError> {
    TcpListener::bind(addr).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => MetricsError::PortBusy(addr.port()),
        _ => MetricsError::Bind(addr, error),
    })
}

/// Why the metrics pages cannot be served, in one line that says what to do.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// Another process has the port.
    #[error("TCP port {0} is in use: stop the other server or set --metrics-bind")]
    PortBusy(u16),
    /// The address is not this machine's, or its use is not allowed.
    #[error("cannot listen on TCP {0}: {1}; set --metrics-bind")]
    Bind(SocketAddr, io::Error),
}

async fn page(State(metrics): State<Metrics>) -> Response {
    let families = match metrics.gather().await {
        Ok(families) => families,
        Err(silent) => return (StatusCode::SERVICE_UNAVAILABLE, silent.to_string()).into_response(),
    };
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    encoder.encode(&families, &mut text).expect("every family has a name and a metric");
    ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response()
}

async fn health(State(metrics): State<Metrics>) -> (StatusCode, String) {
    match metrics.snapshots().await {
        Ok(_) => (StatusCode::OK, "ok".to_owned()),
        Err(silent) => (StatusCode::SERVICE_UNAVAILABLE, silent.to_string()),
    }
}

async fn readiness(State(metrics): State<Metrics>) -> (StatusCode, String) {
    if *metrics.phase.borrow() != Phase::Serving {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining".to_owned());
    }
    health(State(metrics)).await
}
