//! The links to the SFUs: commands one way, events the other, all bounded.
//!
//! Where one SFU runs in the same process the two ends are joined directly; a test joins them to a script. SFUs
//! in processes of their own come and go: [`crate::control`] reports them.

use std::collections::{BTreeMap, VecDeque};

use futures_util::future::select_all;
use sfu_protocol::control::{FromSfu, ToSfu};
use sfu_protocol::snapshot::Snapshot;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::nodes::{NodeEvent, NodeId};

/// Signaling's end of the control link to the SFU in this process.
#[derive(Debug)]
pub struct SfuLink {
    /// Commands to the SFU.
    pub commands: mpsc::Sender<ToSfu>,
    /// Its events. The end of them is the end of the SFU.
    pub events: mpsc::Receiver<FromSfu>,
}

/// What is heard of a node in another process.
#[derive(Debug)]
pub enum LinkEvent {
    /// A session begins.
    Up {
        /// The node's name.
        name: String,
        /// How many participants it is meant for.
        capacity: u32,
        /// What it has.
        snapshot: Snapshot,
        /// Commands to it, for this session. Those given to an earlier sender are void.
        commands: mpsc::Sender<ToSfu>,
    },
    /// It is out of reach.
    Interrupted,
    /// It is in reach again, and the session goes on.
    Resumed,
    /// It says something.
    Said(FromSfu),
}

/// Where the SFUs are.
#[derive(Debug)]
pub enum Links {
    /// One, in this process.
    InProcess(SfuLink),
    /// Any number, in processes of their own.
    Nodes(mpsc::Receiver<(NodeId, LinkEvent)>),
}

impl From<SfuLink> for Links {
    fn from(link: SfuLink) -> Self {
        Self::InProcess(link)
    }
}

/// Beyond this many waiting commands data messages are dropped: chat may pause, control must not.
const DATA_BACKLOG: usize = 2048;

/// Beyond this many waiting commands the session with an SFU elsewhere is given up: so many are no burst, it does
/// not read. Its next session takes stock.
const MAX_BACKLOG: usize = 65_536;

/// A data message found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped;

/// What [`Lines::next`] waited for.
#[derive(Debug)]
pub(crate) enum Next {
    /// Something happened to a node.
    Event(NodeId, NodeEvent),
    /// A command that had to wait was taken.
    Sent,
    /// The SFU in this process, or whatever reports the others, has ended.
    Ended,
}

/// All links at work. Commands that an SFU does not take yet wait here.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: BTreeMap<NodeId, Line>,
    events: Events,
}

#[derive(Debug)]
struct Line {
    commands: mpsc::Sender<ToSfu>,
    backlog: VecDeque<ToSfu>,
}

#[derive(Debug)]
enum Events {
    InProcess(mpsc::Receiver<FromSfu>),
    Nodes(mpsc::Receiver<(NodeId, LinkEvent)>),
}

impl Lines {
    pub(crate) fn new(links: Links) -> Self {
        match links {
            Links::InProcess(SfuLink { commands, events }) => {
                let line = Line { commands, backlog: VecDeque::new() };
                Self { lines: BTreeMap::from([(NodeId::LOCAL, line)]), events: Events::InProcess(events) }
            }
            Links::Nodes(events) => Self { lines: BTreeMap::new(), events: Events::Nodes(events) },
        }
    }

    /// Whether the SFUs, and with them media, outlive this process.
    pub(crate) fn are_elsewhere(&self) -> bool {
        matches!(self.events, Events::Nodes(_))
    }

    /// Commands that wait for the SFU in this process.
    pub(crate) fn backlog_here(&self) -> usize {
        self.lines.get(&NodeId::LOCAL).map_or(0, |line| line.backlog.len())
    }

    /// Whether no command waits for any SFU.
    pub(crate) fn are_empty(&self) -> bool {
        self.lines.values().all(|line| line.backlog.is_empty())
    }

    /// Sends a command, or has it wait. One to a node that is not there is void: its next session takes stock.
    pub(crate) fn send(&mut self, node: NodeId, command: ToSfu) -> Result<(), Dropped> {
        let Some(line) = self.lines.get_mut(&node) else { return Ok(()) };
        if matches!(command, ToSfu::SendData { .. }) && line.backlog.len() >= DATA_BACKLOG {
            return Err(Dropped);
        }
        if line.backlog.len() >= MAX_BACKLOG && node != NodeId::LOCAL {
            self.lines.remove(&node);
            return Ok(());
        }
        if !line.backlog.is_empty() {
            line.backlog.push_back(command);
            return Ok(());
        }
        match line.commands.try_send(command) {
            Ok(()) => {}
            Err(TrySendError::Full(command)) => line.backlog.push_back(command),
            Err(TrySendError::Closed(_)) => drop(self.lines.remove(&node)),
        }
        Ok(())
    }

    /// Waits for an event, or for an SFU to take what waits for it. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Next {
        let waiting = self.lines.iter().filter(|(_, line)| !line.backlog.is_empty());
        let permits = waiting.map(|(node, line)| {
            let (node, commands) = (*node, line.commands.clone());
            Box::pin(async move { (node, commands.reserve_owned().await) })
        });
        let permits: Vec<_> = permits.collect();
        let (node, permit) = tokio::select! {
            next = self.events.next(&mut self.lines) => return next,
            ((node, permit), ..) = async { select_all(permits).await }, if !permits.is_empty() => (node, permit),
        };
        let command = self.lines.get_mut(&node).and_then(|line| line.backlog.pop_front());
        match (permit, command) {
            (Ok(permit), Some(command)) => drop(permit.send(command)),
            _ => drop(self.lines.remove(&node)),
        }
        Next::Sent
    }
}

impl Events {
    async fn next(&mut self, lines: &mut BTreeMap<NodeId, Line>) -> Next {
        match self {
            Self::InProcess(events) => match events.recv().await {
                Some(event) => Next::Event(NodeId::LOCAL, NodeEvent::Said(event)),
                None => Next::Ended,
            },
            Self::Nodes(events) => match events.recv().await {
                Some((node, event)) => Next::Event(node, opened(node, event, lines)),
                None => Next::Ended,
            },
        }
    }
}

/// The event for the state machine; a new session's sender stays here.
fn opened(node: NodeId, event: LinkEvent, lines: &mut BTreeMap<NodeId, Line>) -> NodeEvent {
    match event {
        LinkEvent::Up { name, capacity, snapshot, commands } => {
            lines.insert(node, Line { commands, backlog: VecDeque::new() });
            NodeEvent::Up { name, capacity, snapshot }
        }
        LinkEvent::Interrupted => NodeEvent::Interrupted,
        LinkEvent::Resumed => NodeEvent::Resumed,
        LinkEvent::Said(event) => NodeEvent::Said(event),
    }
}

#[cfg(test)]
mod tests {
    use sfu_protocol::ids::RoomId;

    use super::*;

    const COMMAND: ToSfu = ToSfu::CloseRoom { room: RoomId(1) };

    #[tokio::test]
    async fn a_node_that_takes_nothing_loses_its_session_and_holds_up_nobody() {
        let (events, heard) = mpsc::channel(2);
        let mut lines = Lines::new(Links::Nodes(heard));
        let mut taken = Vec::new();
        for node in [1, 2].map(NodeId) {
            let (commands, taker) = mpsc::channel(1);
            taken.push(taker);
            let (name, snapshot) = (String::new(), Snapshot::default());
            let up = LinkEvent::Up { name, capacity: 1, snapshot, commands };
            events.send((node, up)).await.unwrap();
            assert!(matches!(lines.next().await, Next::Event(..)));
        }
        for _ in 0..1 + MAX_BACKLOG {
            lines.send(NodeId(1), COMMAND).unwrap();
        }
        assert_eq!((lines.backlog_here(), lines.are_empty(), taken[0].is_closed()), (0, false, false));
        lines.send(NodeId(2), COMMAND).unwrap();
        assert_eq!(taken[1].try_recv(), Ok(COMMAND), "the other one does not wait");
        lines.send(NodeId(1), COMMAND).unwrap();
        assert!(taken[0].is_closed() && lines.are_empty(), "that was too much");
    }
}
