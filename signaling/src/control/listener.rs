//! Lets nodes in: those that show a certificate of our authority for the name that they say.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{Connection, Endpoint, Incoming};
use sfu_protocol::quic::{Caller, CloseCode, HANDSHAKE, answer, explain, is_named};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{info, warn};

use super::authority::{Authority, AuthorityError};
use super::config::ControlConfig;
use super::metrics::ControlMetrics;
use super::node::{Arrival, Node};
use crate::app::RunningSfu;
use crate::clock;
use crate::nodes::{MAX_NODES, NodeId};
use crate::sfu_link::{LinkEvent, Links};

/// Connections that may be about to say hello at a time.
const MAX_HANDSHAKES: usize = 64;

/// Events of all nodes that wait for the service.
const EVENT_QUEUE: usize = 1024;

/// Why nodes cannot connect, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Another process has the port, or the address is not this machine's.
    #[error("cannot listen on UDP {0}: {1}; set --control-bind")]
    Bind(SocketAddr, io::Error),
}

/// The control port, open.
pub struct Listening {
    /// Where nodes connect to.
    pub address: SocketAddr,
    /// What the service needs.
    pub sfu: RunningSfu,
}

/// Opens the control port and lets nodes in from now on. Must be called inside a tokio runtime.
pub fn listen(config: &ControlConfig, state_dir: &Path) -> Result<Listening, ControlError> {
    let now = clock::unix_seconds();
    let identity = Authority::keep(state_dir, now)?.signaling(now)?;
    let server = identity.answerer().map_err(AuthorityError::from)?;
    let bind_error = |error| ControlError::Bind(config.bind, error);
    let endpoint = Endpoint::server(server, config.bind).map_err(bind_error)?;
    let address = endpoint.local_addr().map_err(bind_error)?;
    info!(%address, "SFU nodes connect here");

    let metrics = ControlMetrics::new();
    let (events, heard) = mpsc::channel(EVENT_QUEUE);
    let (arrivals, arrived) = mpsc::channel(MAX_HANDSHAKES);
    tokio::spawn(accept(endpoint.clone(), arrivals, metrics.clone()));
    tokio::spawn(register(arrived, events, metrics.clone()));
    Ok(Listening {
        address,
        sfu: RunningSfu {
            links: Links::Nodes(heard),
            patience: Some(config.patience),
            metrics: Some(Arc::new(move || {
                let text = metrics.render();
                Box::pin(async move { text })
            })),
            drain: Box::pin(async move {
                CloseCode::Stopped.close_all(&endpoint, "signaling stops");
                timeout(Duration::from_secs(1), endpoint.wait_idle()).await.ok();
            }),
        },
    })
}

/// Hands each arrival to its node's task.
async fn register(
    mut arrived: mpsc::Receiver<Arrival>,
    events: mpsc::Sender<(NodeId, LinkEvent)>,
    metrics: ControlMetrics,
) {
    let mut nodes: HashMap<String, mpsc::Sender<Arrival>> = HashMap::new();
    while let Some(arrival) = arrived.recv().await {
        let name = &arrival.hello().node;
        if nodes.len() >= MAX_NODES && !nodes.contains_key(name) {
            warn!(node = name, "refused: there are {MAX_NODES} nodes already");
            CloseCode::Refused.close(&arrival.connection, "there are too many nodes");
            continue;
        }
        let id = NodeId(nodes.len() as u32 + 1);
        let node = nodes.entry(name.clone()).or_insert_with(|| {
            let (sender, arrivals) = mpsc::channel(4);
            let node = Node::new(id, name.clone(), events.clone(), metrics.clone());
            tokio::spawn(node.run(arrivals));
            sender
        });
        // Full: it is busy with earlier ones, and the node calls again.
        if let Err(error) = node.try_send(arrival) {
            let arrival = error.into_inner();
            CloseCode::Refused.close(&arrival.connection, "signaling is busy or stops: call again");
        }
    }
}

async fn accept(endpoint: Endpoint, arrivals: mpsc::Sender<Arrival>, metrics: ControlMetrics) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let (complaints, mut complained) = mpsc::channel(MAX_HANDSHAKES);
    let mut told = Told::default();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some((from, words)) = complained.recv() => {
                metrics.connections.with_label_values(&["refused"]).inc();
                told.warn(Instant::now(), from, words);
                continue;
            }
        };
        let Some(incoming) = incoming else { return };
        // A forged address costs us one small packet.
        if !incoming.remote_address_validated() {
            incoming.retry().ok();
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let (arrivals, complaints) = (arrivals.clone(), complaints.clone());
        tokio::spawn(async move {
            let from = incoming.remote_address().ip();
            match greet(incoming).await {
                Ok(arrival) => drop(arrivals.send(arrival).await),
                Err(words) => drop(complaints.try_send((from, words))),
            }
            drop(permit);
        });
    }
}

/// Hears who it is. An error is why it is not let in; it has been told.
async fn greet(incoming: Incoming) -> Result<Arrival, String> {
    let connecting = incoming.accept().map_err(|error| explain(&error))?;
    let connection = timeout(HANDSHAKE, connecting).await.map_err(|_| "the handshake does not end")?;
    let connection = connection.map_err(|error| explain(&error))?;
    match admit(&connection).await {
        Ok(caller) => Ok(Arrival { connection, caller }),
        Err(words) => {
            CloseCode::Refused.close(&connection, &words);
            Err(words)
        }
    }
}

async fn admit(connection: &Connection) -> Result<Caller, String> {
    let caller = answer(connection).await.map_err(|error| error.to_string())?;
    let node = &caller.hello.node;
    match is_named(connection, node) {
        true => Ok(caller),
        false => {
            Err(format!("the certificate is not {node}'s: use the whole file that was made for this node"))
        }
    }
}

/// What was logged lately, so that one who calls each second is mentioned once in a while.
#[derive(Default)]
struct Told {
    lately: HashMap<(IpAddr, String), Instant>,
}

impl Told {
    fn warn(&mut self, now: Instant, from: IpAddr, words: String) {
        self.lately.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        if self.lately.len() >= MAX_HANDSHAKES || self.lately.contains_key(&(from, words.clone())) {
            return;
        }
        warn!(%from, "refused a connection on the control port: {words}");
        self.lately.insert((from, words), now);
    }
}

/// The same trouble is logged again after this time.
const AGAIN: Duration = Duration::from_secs(600);
