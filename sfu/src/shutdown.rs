//! Leaving without cutting a lesson short: refuse joins, tell signaling, wait, close, stop.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::control::ControlStats;

/// What the SFU accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything.
    Serving,
    /// No new rooms and transports.
    Draining,
    /// Nothing: what is left is being closed.
    Closing,
}

/// The signals that ask a process to end. From [`Self::listen`] on they no longer kill it.
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Begins to listen. Call it before anything that must be drained.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for SIGTERM or SIGINT; a second call waits for another one.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM"),
            _ = self.interrupt.recv() => info!("SIGINT"),
        }
    }
}

/// Takes the control task through the phases until no transport is left.
pub(crate) async fn drain(
    phase: &watch::Sender<Phase>,
    stats: &mut watch::Receiver<ControlStats>,
    deadline: Duration,
) {
    info!(transports = stats.borrow().transports, ?deadline, "draining");
    phase.send_replace(Phase::Draining);
    if empty(stats, deadline).await {
        return;
    }
    info!(transports = stats.borrow().transports, "the deadline to drain is over: closing what is left");
    phase.send_replace(Phase::Closing);
    if !empty(stats, CLOSE_TIME).await {
        warn!(transports = stats.borrow().transports, "some transports did not close in time");
    }
}

/// Whether all transports are gone within `time`.
async fn empty(stats: &mut watch::Receiver<ControlStats>, time: Duration) -> bool {
    let gone = stats.wait_for(|stats| stats.transports == 0);
    // An error: the control task has ended, nothing is left to wait for.
    timeout(time, gone).await.is_ok()
}

/// Enough to write a close_notify to every client.
const CLOSE_TIME: Duration = Duration::from_secs(1);
