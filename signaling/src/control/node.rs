//! A node's task: it keeps the link over all connections of the node, one at a time.

use quinn::Connection;
use sfu_protocol::control::{FromSfu, ToSfu};
use sfu_protocol::hello::{Hello, Welcome};
use sfu_protocol::link::{Link, LinkStats};
use sfu_protocol::quic::{Caller, CloseCode, Ended, Ends};
use sfu_protocol::snapshot::Collector;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::feed::Feed;
use super::metrics::ControlMetrics;
use crate::keys::random_number;
use crate::nodes::NodeId;
use crate::sfu_link::LinkEvent;

/// Messages that wait between a link and the service, each way.
const QUEUE: usize = 256;

/// A connection whose hello has been heard and whose certificate is the node's.
pub(super) struct Arrival {
    pub(super) connection: Connection,
    pub(super) caller: Caller,
}

impl Arrival {
    pub(super) fn hello(&self) -> &Hello {
        &self.caller.hello
    }
}

pub(super) struct Node {
    id: NodeId,
    name: String,
    link: Link<ToSfu, FromSfu>,
    ends: Ends<ToSfu, FromSfu>,
    /// Before the first session, and when the service has given one up, nobody gives commands.
    nobody: Option<mpsc::Sender<ToSfu>>,
    events: mpsc::Sender<(NodeId, LinkEvent)>,
    connected: watch::Sender<bool>,
    feed: JoinHandle<()>,
    metrics: ControlMetrics,
}

impl Node {
    pub(super) fn new(
        id: NodeId,
        name: String,
        events: mpsc::Sender<(NodeId, LinkEvent)>,
        metrics: ControlMetrics,
    ) -> Self {
        let (nobody, outgoing) = mpsc::channel(1);
        let (incoming, _) = mpsc::channel(1);
        let stats = watch::Sender::new(LinkStats::default());
        tokio::spawn(count(name.clone(), stats.subscribe(), metrics.clone()));
        Self {
            id,
            name,
            link: Link::new(),
            ends: Ends { outgoing, incoming, stats },
            nobody: Some(nobody),
            events,
            connected: watch::Sender::new(false),
            feed: tokio::spawn(async {}),
            metrics,
        }
    }

    /// Serves one connection after the other. Ends with the service.
    pub(super) async fn run(mut self, mut arrivals: mpsc::Receiver<Arrival>) {
        let mut next = None;
        loop {
            let arrival = match next.take() {
                Some(arrival) => Some(arrival),
                None => tokio::select! {
                    arrival = arrivals.recv() => match arrival {
                        Some(arrival) => Some(arrival),
                        None => return,
                    },
                    () = self.ends.hold(&mut self.link) => None,
                },
            };
            let ended = match arrival {
                Some(arrival) => self.serve(arrival, &mut arrivals, &mut next).await,
                None => Ended::OwnerGone,
            };
            match ended {
                Ended::OwnerGone if self.events.is_closed() => return,
                Ended::OwnerGone => self.void(),
                Ended::Lost(words) if next.is_none() => {
                    warn!(node = self.name, "control link lost: {words}; its media goes on, waiting for it");
                }
                Ended::Lost(_) => {}
            }
        }
    }

    async fn serve(
        &mut self,
        Arrival { connection, caller }: Arrival,
        arrivals: &mut mpsc::Receiver<Arrival>,
        next: &mut Option<Arrival>,
    ) -> Ended {
        let (incarnation, capacity) = (caller.hello.incarnation, caller.hello.capacity);
        let session = random_number();
        let welcome = self.link.answer(caller.hello.resume, session);
        if matches!(welcome, Welcome::Fresh { .. }) {
            self.begin(session, capacity).await;
        }
        let streams = match caller.welcome(&connection, welcome).await {
            Ok(streams) => streams,
            Err(error) => {
                self.link.disconnected();
                self.connected.send_replace(false);
                return Ended::Lost(error.to_string());
            }
        };
        let outcome = if matches!(welcome, Welcome::Resumed(_)) { "resumed" } else { "fresh" };
        self.metrics.connections.with_label_values(&[outcome]).inc();
        info!(node = self.name, from = %connection.remote_address(), outcome, "control link");
        self.connected.send_replace(true);
        let ended = {
            let carrying = self.ends.carry(&mut self.link, &connection, streams);
            tokio::pin!(carrying);
            loop {
                tokio::select! {
                    ended = &mut carrying => break ended,
                    Some(newer) = arrivals.recv() => {
                        if newer.hello().incarnation == incarnation {
                            CloseCode::Replaced.close(&connection, "the node has connected anew");
                            *next = Some(newer);
                        } else {
                            refuse_twin(&newer, &self.name, &self.metrics);
                        }
                    }
                }
            }
        };
        self.connected.send_replace(false);
        ended
    }

    /// The service has given the session up, but not the node: its next connection begins another one.
    fn void(&mut self) {
        warn!(node = self.name, "it takes no commands: the session is given up, the next one takes stock");
        self.link.forfeit();
        let (nobody, outgoing) = mpsc::channel(1);
        (self.nobody, self.ends.outgoing) = (Some(nobody), outgoing);
    }

    /// Begins a session: what the service still says to the one before is void, and what that one still said
    /// reaches the service before.
    async fn begin(&mut self, session: u64, capacity: u32) {
        let (commands, outgoing) = mpsc::channel(QUEUE);
        let (incoming, said) = mpsc::channel(QUEUE);
        self.nobody = None;
        (self.ends.outgoing, self.ends.incoming) = (outgoing, incoming);
        (&mut self.feed).await.ok();
        self.connected.send_replace(true);
        let feed = Feed {
            node: self.id,
            name: self.name.clone(),
            capacity,
            collector: Collector::new(session),
            commands,
            events: self.events.clone(),
            connected: self.connected.subscribe(),
        };
        self.feed = tokio::spawn(feed.run(said));
        self.link.send(&ToSfu::TakeSnapshot { of: session });
    }
}

/// Another process with the node's file does not replace the one that is there: the two would do so for ever, and
/// end all lessons each time. Where that one has died, it is noticed after the idle timeout.
fn refuse_twin(newer: &Arrival, name: &str, metrics: &ControlMetrics) {
    let from = newer.connection.remote_address();
    warn!(node = name, %from, "refused: a node of this name is connected already");
    metrics.connections.with_label_values(&["refused"]).inc();
    let words = format!("another node called {name} is connected: make this one a certificate of its own");
    CloseCode::Refused.close(&newer.connection, &words);
}

/// Copies what the link counts into the metrics.
async fn count(node: String, mut stats: watch::Receiver<LinkStats>, metrics: ControlMetrics) {
    let mut before = LinkStats::default();
    loop {
        let now = *stats.borrow_and_update();
        metrics.count(&node, &before, &now);
        before = now;
        if stats.changed().await.is_err() {
            return;
        }
    }
}
