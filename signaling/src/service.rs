//! Runs [`Rooms`]: one task that owns it and moves messages between clients, the SFU and the state machine.
//!
//! Nothing here waits for a single client or for the SFU. Each client has a bounded queue, and who lets it fill
//! is dropped. Commands that the SFU does not take yet wait in a bounded backlog; while that of an SFU in this
//! process is long, clients are not read, but events are, so that the two sides never wait for each other. For an
//! SFU elsewhere nobody waits: one that takes nothing must not stop the lessons on the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use livekit_protocol::{JoinRequest, SignalRequest, SignalResponse};
use sfu_protocol::control::FromSfu;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::auth::Claims;
use crate::ids::SocketId;
use crate::limits::CLIENT_QUEUE;
use crate::metrics::Metrics;
use crate::nodes::{NodeEvent, NodeId};
use crate::outbox::Output;
use crate::protocol::Protocol;
use crate::rooms::{Admission, Ignored, Rooms};
use crate::sfu_link::{Lines, Links, Next};

/// Inputs of all clients that wait.
const INPUT_QUEUE: usize = 1024;

/// Commands that may wait for the SFU in this process before clients have to wait too.
const BACKLOG: usize = 1024;

/// When the service stops, SFUs elsewhere have this long to take what waits for them: they go on without it.
const LAST_COMMANDS: Duration = Duration::from_secs(1);

/// A handle on the running service.
#[derive(Clone, Debug)]
pub struct Service {
    inputs: mpsc::Sender<Input>,
    next_socket: Arc<AtomicU64>,
}

/// The service has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service has stopped")]
pub struct Stopped;

/// A joining client's end: what it is told. The queue ends when the client shall be closed.
#[derive(Debug)]
pub struct ClientEnd {
    /// Names the client in requests.
    pub socket: SocketId,
    /// Messages to it.
    pub messages: mpsc::Receiver<SignalResponse>,
}

enum Input {
    Join { admission: Box<Admission>, messages: mpsc::Sender<SignalResponse> },
    Request { socket: SocketId, request: Box<SignalRequest> },
    Lost { socket: SocketId },
    ShutDown { done: oneshot::Sender<()> },
}

impl Service {
    /// Starts the task. It ends with [`Self::shut_down`], or when the SFU has gone.
    pub fn start(rooms: Rooms, links: impl Into<Links>, metrics: Arc<Metrics>) -> (Self, JoinHandle<()>) {
        let (inputs, queue) = mpsc::channel(INPUT_QUEUE);
        let task = Task { rooms, lines: Lines::new(links.into()), clients: HashMap::new(), metrics };
        task.metrics.observe(&task.rooms);
        let running = tokio::spawn(task.run(queue));
        (Self { inputs, next_socket: Arc::new(AtomicU64::new(1)) }, running)
    }

    /// Lets a client with a verified token in, or tells it why not: either way as messages to it.
    pub async fn join(
        &self,
        claims: Claims,
        request: JoinRequest,
        protocol: Protocol,
    ) -> Result<ClientEnd, Stopped> {
        let socket = SocketId(self.next_socket.fetch_add(1, Ordering::Relaxed));
        let (sender, messages) = mpsc::channel(CLIENT_QUEUE);
        let admission = Box::new(Admission { socket, claims, request, protocol });
        self.send(Input::Join { admission, messages: sender }).await?;
        Ok(ClientEnd { socket, messages })
    }

    /// Passes a client's request on.
    pub async fn request(&self, socket: SocketId, request: SignalRequest) -> Result<(), Stopped> {
        self.send(Input::Request { socket, request: Box::new(request) }).await
    }

    /// Says that a client's WebSocket has closed.
    pub async fn lost(&self, socket: SocketId) -> Result<(), Stopped> {
        self.send(Input::Lost { socket }).await
    }

    /// Says good-bye to all clients and lets the SFU's transports go; returns when the commands have left. Where
    /// the SFUs are in other processes, clients are let go without a word: their media goes on meanwhile.
    pub async fn shut_down(&self) -> Result<(), Stopped> {
        let (done, finished) = oneshot::channel();
        self.send(Input::ShutDown { done }).await?;
        finished.await.map_err(|_| Stopped)
    }

    async fn send(&self, input: Input) -> Result<(), Stopped> {
        self.inputs.send(input).await.map_err(|_| Stopped)
    }
}

struct Task {
    rooms: Rooms,
    lines: Lines,
    clients: HashMap<SocketId, mpsc::Sender<SignalResponse>>,
    metrics: Arc<Metrics>,
}

impl Task {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut stopping: Option<oneshot::Sender<()>> = None;
        let mut give_up = None;
        while stopping.is_none() || !self.lines.are_empty() {
            let wake = self.rooms.poll_timeout();
            let room_for_more = self.lines.backlog_here() < BACKLOG;
            tokio::select! {
                next = self.lines.next() => match next {
                    Next::Event(node, event) => self.handle_event(node, event),
                    Next::Sent => {}
                    Next::Ended => break,
                },
                input = inputs.recv(), if stopping.is_none() && room_for_more => match input {
                    Some(Input::ShutDown { done }) => {
                        match self.lines.are_elsewhere() {
                            true => {
                                self.rooms.suspend();
                                give_up = Some(Instant::now() + LAST_COMMANDS);
                            }
                            false => self.rooms.shut_down(Instant::now()),
                        }
                        stopping = Some(done);
                    }
                    Some(input) => self.handle_input(input),
                    None => break,
                },
                () = sleep_until(wake) => self.rooms.handle_timeout(Instant::now()),
                () = sleep_until(give_up) => break,
            }
            self.drain();
        }
        if let Some(done) = stopping {
            done.send(()).ok();
        } else {
            warn!("the SFU has gone: all clients are told to join again");
            self.rooms.shut_down(Instant::now());
            self.drain();
        }
    }

    fn handle_input(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::Join { admission, messages } => {
                let socket = admission.socket;
                self.clients.insert(socket, messages);
                match self.rooms.join(now, *admission) {
                    Ok(entered) => self.metrics.joins.with_label_values(&[entered.label()]).inc(),
                    Err(refused) => {
                        info!(?socket, reason = refused.label(), "join refused");
                        self.metrics.joins.with_label_values(&[refused.label()]).inc();
                    }
                }
            }
            Input::Request { socket, request } => self.rooms.handle_request(now, socket, request.message),
            Input::Lost { socket } => {
                self.clients.remove(&socket);
                self.rooms.handle_lost(now, socket);
            }
            Input::ShutDown { .. } => {}
        }
    }

    fn handle_event(&mut self, node: NodeId, event: NodeEvent) {
        match &event {
            NodeEvent::Said(FromSfu::OfferRejected { transport, reason, .. }) => {
                warn!(%transport, reason, "offer rejected");
            }
            NodeEvent::Said(FromSfu::AnswerRejected { transport, reason, .. }) => {
                warn!(%transport, reason, "answer rejected");
            }
            NodeEvent::Said(FromSfu::TransportConnected { transport, srtp_profile }) => {
                info!(%transport, srtp_profile, "transport connected");
            }
            NodeEvent::Said(FromSfu::TransportClosed { transport, reason }) => {
                info!(%transport, ?reason, "transport closed");
            }
            NodeEvent::Up { name, snapshot, .. } => info!(name, rooms = snapshot.rooms.len(), "node"),
            _ => {}
        }
        let is_data = matches!(event, NodeEvent::Said(FromSfu::Data { .. }));
        match self.rooms.handle_node(Instant::now(), node, event) {
            Ok(()) if is_data => self.metrics.data.with_label_values(&["relayed"]).inc(),
            Ok(()) => {}
            Err(Ignored::Data(error)) => self.metrics.data.with_label_values(&[error.label()]).inc(),
            Err(Ignored::Foreign) => self.metrics.foreign_events.inc(),
        }
    }

    /// Carries out what the state machine wants, until it wants nothing more.
    fn drain(&mut self) {
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::ToClient { socket, message } => {
                    self.tell(socket, SignalResponse { message: Some(*message) });
                }
                Output::Close { socket } => {
                    self.clients.remove(&socket);
                }
                Output::ToSfu(node, command) => {
                    if self.lines.send(node, command).is_err() {
                        self.metrics.data.with_label_values(&["backlog"]).inc();
                    }
                }
            }
        }
        self.metrics.observe(&self.rooms);
    }

    fn tell(&mut self, socket: SocketId, response: SignalResponse) {
        let Some(client) = self.clients.get(&socket) else { return };
        match client.try_send(response) {
            Ok(()) => self.metrics.messages.with_label_values(&["out"]).inc(),
            Err(TrySendError::Full(_)) => {
                info!(?socket, "client does not read its messages: dropped");
                self.metrics.slow_clients.inc();
                self.clients.remove(&socket);
                self.rooms.handle_stuck(Instant::now(), socket);
            }
            Err(TrySendError::Closed(_)) => {
                debug!(?socket, "client is gone");
                self.clients.remove(&socket);
            }
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
