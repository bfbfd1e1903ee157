//! Lectern's SFU around `sfu-core`: sockets, threads, clocks, configuration and metrics.
//!
//! [`start`] gives a running SFU and signaling's end of its control link. The binary `lectern-sfu` is one
//! process of it; the binary `lectern` runs it beside signaling.
//!
//! A packet's path: `udp` -> `sockets` -> `worker_thread` (-> `handover` -> the owner's) -> `sfu_core::worker` ->
//! `worker_thread` -> `egress` -> `sockets` -> `udp`; a command's: `control` -> `worker_thread`. Read
//! `worker_thread.rs` first.

mod addresses;
#[cfg(feature = "bench")]
pub mod bench;
pub mod config;
pub mod control;
mod egress;
mod handover;
pub mod metrics;
mod outbox;
pub mod shutdown;
mod sockets;
mod udp;
mod wake;
mod worker_thread;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sfu_core::cc::link_estimator::LinkConfig;
use sfu_core::room::{Merge, Packing, RoomConfig};
use sfu_core::transport::{Identity, IdentityError, TransportConfig};
use sfu_core::worker::{WorkerConfig, WorkerIndex};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::config::{Config, ConfigError};
use crate::control::{ControlLink, ControlStats, Rooms, RoomsConfig};
use crate::metrics::Metrics;
use crate::shutdown::Phase;
use crate::sockets::Sockets;
use crate::udp::Buffers;
use crate::workers::Workers;

/// A running SFU. It runs until [`Self::drain`]; dropping this does not stop it.
pub struct Sfu {
    udp_addr: SocketAddr,
    announced: Vec<SocketAddr>,
    drain_deadline: Duration,
    workers: Workers,
    threads: Vec<JoinHandle<()>>,
    phase: watch::Sender<Phase>,
    stats: watch::Receiver<ControlStats>,
}

/// Why an SFU cannot start, in one line that says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// A knob is out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process has the port.
    #[error("UDP port {0} is in use: stop the other server or set --udp-bind")]
    PortBusy(u16),
    /// The address is not this machine's, or its use is not allowed.
    #[error("cannot listen on UDP {0}: {1}; set --udp-bind")]
    Bind(SocketAddr, io::Error),
    /// No interface has an address that clients could use.
    #[error("this machine has no network address to announce: set --node-ip or --announce-loopback")]
    NoAddress,
    /// No certificate could be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system gave no interfaces or no thread.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Starts an SFU: its sockets are open and its workers run when this returns.
///
/// # Panics
/// Outside a tokio runtime.
pub fn start(config: &Config) -> Result<(Sfu, ControlLink), StartError> {
    config.validate()?;
    let sockets = open_sockets(config)?;
    let udp_addr = sockets[0].local_addr();
    let announced = addresses::announced(config, udp_addr)?;
    if announced.is_empty() {
        return Err(StartError::NoAddress);
    }
    info!(udp = %udp_addr, ?announced, workers = config.workers, "media");

    let identity = Arc::new(Identity::generate()?);
    let fingerprint = identity.fingerprint();
    let transport = Arc::new(TransportConfig { identity, consent_timeout: config.consent_timeout() });
    let (reports, from_workers) = mpsc::channel(WORKER_REPORTS);
    let config_of = |index| worker_config(config, index, &transport);
    let (workers, threads) = workers::spawn(sockets, &reports, config_of)?;

    let rooms = Rooms::new(RoomsConfig {
        candidates: announced.clone(),
        fingerprint,
        workers: config.workers,
        max_participants_per_room: config.max_participants_per_room,
    });
    let (control_link, link_end) = control::link();
    let (phase, phase_seen) = watch::channel(Phase::Serving);
    let stats = control::spawn(rooms, link_end, workers.clone(), from_workers, phase_seen);
    let drain_deadline = config.drain_deadline();
    Ok((Sfu { udp_addr, announced, drain_deadline, workers, threads, phase, stats }, control_link))
}

fn worker_config(config: &Config, index: WorkerIndex, transport: &Arc<TransportConfig>) -> WorkerConfig {
    WorkerConfig {
        transport: Arc::clone(transport),
        room: RoomConfig {
            max_participants: config.max_participants_per_room,
            max_tracks: control::MAX_PUBLISHED,
            max_subscriptions: control::MAX_RECEIVED,
            link: config.link_control.then(LinkConfig::default),
            packing: Packing {
                merge: match config.merge_audio {
                    2 => Merge::Two,
                    3 => Merge::Three,
                    _ => Merge::None,
                },
                redundant: config.redundant_audio,
            },
            ..RoomConfig::default()
        },
        max_transports: control::MAX_TRANSPORTS,
        index,
        workers: config.workers as u16,
    }
}

/// Most reports that wait for the control task; further ones wait in the workers.
const WORKER_REPORTS: usize = 1024;

/// The sockets of each worker, all on one port.
fn open_sockets(config: &Config) -> Result<Vec<Sockets>, StartError> {
    let (addr, own) = (config.udp_bind, addresses::own(config));
    let (receive, send) = (config.receive_buffer_bytes as usize, config.send_buffer_bytes as usize);
    Sockets::bind(addr, &own, config.workers, Buffers { receive, send }).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => StartError::PortBusy(addr.port()),
        _ => StartError::Bind(addr, error),
    })
}

impl Sfu {
    /// The address that the media socket is bound to.
    pub fn udp_addr(&self) -> SocketAddr {
        self.udp_addr
    }

    /// Where clients are told to send to.
    pub fn announced(&self) -> &[SocketAddr] {
        &self.announced
    }

    /// Its metrics and health.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            workers: self.workers.clone(),
            control: self.stats.clone(),
            phase: self.phase.subscribe(),
            link: None,
        }
    }

    /// Refuses new participants, tells signaling, waits until all have left or the deadline to drain is over,
    /// closes what is left, and stops.
    pub async fn drain(mut self) {
        shutdown::drain(&self.phase, &mut self.stats, self.drain_deadline).await;
        self.workers.stop().await;
        let threads = self.threads;
        let all_ended = move || threads.into_iter().all(|thread| thread.join().is_ok());
        let joined = tokio::task::spawn_blocking(all_ended).await;
        debug_assert!(joined.is_ok_and(|ended| ended), "a worker that panics ends the process");
        info!("stopped");
    }
}
