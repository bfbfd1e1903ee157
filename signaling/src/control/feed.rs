//! One session of a node, from its snapshot on, as the service hears it.

use sfu_protocol::control::{FromSfu, ToSfu};
use sfu_protocol::snapshot::Collector;
use tokio::sync::{mpsc, watch};

use crate::nodes::NodeId;
use crate::sfu_link::LinkEvent;

/// What begins a session for the service.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) node: NodeId,
    pub(super) name: String,
    pub(super) capacity: u32,
    pub(super) collector: Collector,
    pub(super) commands: mpsc::Sender<ToSfu>,
    pub(super) events: mpsc::Sender<(NodeId, LinkEvent)>,
    pub(super) connected: watch::Receiver<bool>,
}

impl Feed {
    /// Passes on what the node says, and whether it is in reach. Ends with the session, or with the service.
    pub(super) async fn run(self, mut said: mpsc::Receiver<FromSfu>) {
        let Self { node, name, capacity, mut collector, commands, events, mut connected } = self;
        // What was said before the snapshot belongs to an earlier session.
        let snapshot = loop {
            match said.recv().await {
                Some(FromSfu::Snapshot { of, part }) => {
                    if let Some(snapshot) = collector.push(of, part) {
                        break snapshot;
                    }
                }
                Some(_) => {}
                None => return,
            }
        };
        let mut event = LinkEvent::Up { name, capacity, snapshot, commands };
        let mut told = true;
        while events.send((node, event)).await.is_ok() {
            event = loop {
                let reached = *connected.borrow_and_update();
                if reached != std::mem::replace(&mut told, reached) {
                    break if reached { LinkEvent::Resumed } else { LinkEvent::Interrupted };
                }
                tokio::select! {
                    biased;
                    // First, as what is said now comes over the connection that is there now.
                    Ok(()) = connected.changed() => {}
                    next = said.recv() => match next {
                        Some(next) => break LinkEvent::Said(next),
                        None => return,
                    },
                }
            };
        }
    }
}
