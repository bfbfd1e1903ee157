//! Runs [`Rooms`]: one task that owns it and moves messages between clients, the SFU and the state machine.
//!
//! Nothing here waits for a single client or for the SFU. Each client has a bounded queue, and who lets it fill
//! is dropped. Commands that the SFU does not take yet wait in a bounded backlog; while it is long, clients are
//! not read, but events are, so that the two sides never wait for each other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use livekit_protocol::{JoinRequest, SignalRequest, SignalResponse};
use sfu_protocol::control::{FromSfu, ToSfu};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::auth::Claims;
use crate::ids::SocketId;
use crate::limits::CLIENT_QUEUE;
use crate::metrics::Metrics;
use crate::outbox::Output;
use crate::protocol::Protocol;
use crate::rooms::{Admission, Rooms};
use crate::sfu_link::SfuLink;

/// Inputs of all clients that wait.
const INPUT_QUEUE: usize = 1024;

/// Commands that may wait for the SFU before clients have to wait too.
const BACKLOG: usize = 1024;

/// Beyond this many waiting commands data messages are dropped: chat may pause, control must not.
const DATA_BACKLOG: usize = 2 * BACKLOG;

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
    pub fn start(rooms: Rooms, link: SfuLink, metrics: Arc<Metrics>) -> (Self, JoinHandle<()>) {
        let (inputs, queue) = mpsc::channel(INPUT_QUEUE);
        let task = Task {
            rooms,
            commands: link.commands,
            clients: HashMap::new(),
            backlog: VecDeque::new(),
            metrics,
        };
        let running = tokio::spawn(task.run(queue, link.events));
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

    /// Says good-bye to all clients and lets the SFU's transports go; returns when the commands have left.
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
    commands: mpsc::Sender<ToSfu>,
    clients: HashMap<SocketId, mpsc::Sender<SignalResponse>>,
    backlog: VecDeque<ToSfu>,
    metrics: Arc<Metrics>,
}

impl Task {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>, mut events: mpsc::Receiver<FromSfu>) {
        let commands = self.commands.clone();
        let mut stopping: Option<oneshot::Sender<()>> = None;
        while stopping.is_none() || !self.backlog.is_empty() {
            let wake = self.rooms.poll_timeout();
            tokio::select! {
                permit = commands.reserve(), if !self.backlog.is_empty() => {
                    let Ok(permit) = permit else { break };
                    if let Some(command) = self.backlog.pop_front() {
                        permit.send(command);
                    }
                }
                event = events.recv() => match event {
                    Some(event) => self.handle_event(event),
                    None => break,
                },
                input = inputs.recv(), if stopping.is_none() && self.backlog.len() < BACKLOG => match input {
                    Some(Input::ShutDown { done }) => {
                        self.rooms.shut_down(Instant::now());
                        stopping = Some(done);
                    }
                    Some(input) => self.handle_input(input),
                    None => break,
                },
                () = sleep_until(wake) => self.rooms.handle_timeout(Instant::now()),
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

    fn handle_event(&mut self, event: FromSfu) {
        match &event {
            FromSfu::OfferRejected { transport, reason, .. } => warn!(%transport, reason, "offer rejected"),
            FromSfu::AnswerRejected { transport, reason, .. } => warn!(%transport, reason, "answer rejected"),
            FromSfu::TransportConnected { transport, srtp_profile } => {
                info!(%transport, srtp_profile, "transport connected");
            }
            FromSfu::TransportClosed { transport, reason } => info!(%transport, ?reason, "transport closed"),
            _ => {}
        }
        let is_data = matches!(event, FromSfu::Data { .. });
        match self.rooms.handle_sfu(Instant::now(), event) {
            Ok(()) if is_data => self.metrics.data.with_label_values(&["relayed"]).inc(),
            Ok(()) => {}
            Err(error) => self.metrics.data.with_label_values(&[error.label()]).inc(),
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
                Output::ToSfu(ToSfu::SendData { .. }) if self.backlog.len() >= DATA_BACKLOG => {
                    self.metrics.data.with_label_values(&["backlog"]).inc();
                }
                Output::ToSfu(command) => self.command(command),
            }
        }
        self.metrics.observe(self.rooms.census());
    }

    fn command(&mut self, command: ToSfu) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(command);
            return;
        }
        match self.commands.try_send(command) {
            Ok(()) => {}
            Err(TrySendError::Full(command) | TrySendError::Closed(command)) => {
                self.backlog.push_back(command);
            }
        }
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
