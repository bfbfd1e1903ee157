//! The SFU nodes: which can be reached, and where a new room goes. A state machine without I/O.
//!
//! Rooms do not move. A new one goes to the reachable node that is filled least; when a node has been out of
//! reach for longer than the patience, and another one could take over, its participants are told to join anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sfu_protocol::control::FromSfu;
use sfu_protocol::ids::RoomId;
use sfu_protocol::snapshot::Snapshot;

/// A node, for as long as this process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The SFU in this process, where there is one.
    pub const LOCAL: Self = Self(0);
}

/// Most nodes.
pub const MAX_NODES: usize = 64;

/// Rooms that this process never made are closed after this time: their participants talked to one before it,
/// and have joined anew by then.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(120);

/// While no other node could take over, it is looked again after this time.
const RECONSIDER: Duration = Duration::from_secs(1);

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// A session with it begins: all that was said before and is not in the snapshot is void.
    Up {
        /// Its name.
        name: String,
        /// How many participants it is meant for.
        capacity: u32,
        /// What it has.
        snapshot: Snapshot,
    },
    /// It is out of reach. Commands to it wait.
    Interrupted,
    /// It is in reach again, and nothing was lost.
    Resumed,
    /// It says something.
    Said(FromSfu),
}

/// All nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: BTreeMap<NodeId, Node>,
    patience: Duration,
}

#[derive(Debug)]
struct Node {
    name: String,
    capacity: u32,
    reach: Reach,
    draining: bool,
    orphans: Option<Orphans>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Up,
    /// Out of reach; its rooms are given up at that time.
    Lost {
        until: Instant,
    },
    /// Its rooms have been given up.
    GivenUp,
}

/// Rooms of a signaling process before this one.
#[derive(Debug)]
struct Orphans {
    rooms: Vec<RoomId>,
    close_at: Instant,
}

/// How full a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Rooms on it.
    pub rooms: usize,
    /// Participants in these.
    pub participants: usize,
}

impl Nodes {
    /// The one in this process.
    pub(crate) fn local() -> Self {
        let mut nodes = Self::remote(Duration::ZERO);
        nodes.up(NodeId::LOCAL, "local".to_owned(), 1);
        nodes
    }

    /// None yet. `patience`: how long a node may be out of reach before others take over.
    pub(crate) fn remote(patience: Duration) -> Self {
        Self { nodes: BTreeMap::new(), patience }
    }

    pub(crate) fn up(&mut self, id: NodeId, name: String, capacity: u32) {
        let reach = Reach::Up;
        self.nodes.insert(id, Node { name, capacity, reach, draining: false, orphans: None });
    }

    pub(crate) fn interrupted(&mut self, now: Instant, id: NodeId) -> Option<Instant> {
        let node = self.nodes.get_mut(&id)?;
        let until = now + self.patience;
        node.reach = Reach::Lost { until };
        Some(until)
    }

    pub(crate) fn resumed(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.reach = Reach::Up;
        }
    }

    pub(crate) fn draining(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.draining = true;
        }
    }

    pub(crate) fn is_draining(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.draining)
    }

    /// Notes rooms on a node that nobody here knows. Returns when they are to be closed.
    pub(crate) fn adopt_orphans(&mut self, now: Instant, id: NodeId, rooms: Vec<RoomId>) -> Option<Instant> {
        let node = self.nodes.get_mut(&id)?;
        let close_at = now + ORPHAN_GRACE;
        node.orphans = (!rooms.is_empty()).then_some(Orphans { rooms, close_at });
        node.orphans.as_ref().map(|orphans| orphans.close_at)
    }

    /// The node for a new room: in reach, not draining, filled least by its own measure. A room counts as one
    /// participant, so that rooms which open at once spread.
    pub(crate) fn place(&self, loads: &BTreeMap<NodeId, Load>) -> Option<NodeId> {
        let filled = |id: &NodeId| loads.get(id).map_or(0, |load| load.rooms + load.participants) as u64;
        let open = self.nodes.iter().filter(|(_, node)| node.reach == Reach::Up && !node.draining);
        let per_mille = open.map(|(id, node)| (filled(id) * 1000 / u64::from(node.capacity.max(1)), *id));
        per_mille.min().map(|(_, id)| id)
    }

    /// Orphans whose time has come.
    pub(crate) fn due_orphans(&mut self, now: Instant) -> Vec<(NodeId, Vec<RoomId>)> {
        let due = |(id, node): (&NodeId, &mut Node)| {
            let orphans = node.orphans.take_if(|orphans| orphans.close_at <= now)?;
            Some((*id, orphans.rooms))
        };
        self.nodes.iter_mut().filter_map(due).collect()
    }

    /// Nodes whose rooms are given up now: out of reach for too long, while another one is there.
    pub(crate) fn due_lost(&mut self, now: Instant) -> Vec<NodeId> {
        let can_move = self.place(&BTreeMap::new()).is_some();
        let mut given_up = Vec::new();
        for (id, node) in &mut self.nodes {
            match node.reach {
                Reach::Lost { until } if until <= now && can_move => {
                    node.reach = Reach::GivenUp;
                    given_up.push(*id);
                }
                Reach::Lost { until } if until <= now => {
                    node.reach = Reach::Lost { until: now + RECONSIDER };
                }
                _ => {}
            }
        }
        given_up
    }

    /// When the next of these is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let orphans = self.nodes.values().filter_map(|node| node.orphans.as_ref()).map(|o| o.close_at);
        let lost = self.nodes.values().filter_map(|node| match node.reach {
            Reach::Lost { until } => Some(until),
            _ => None,
        });
        orphans.chain(lost).min()
    }

    /// Each node's name, and whether it is in reach.
    pub(crate) fn names(&self) -> impl Iterator<Item = (NodeId, &str, bool)> {
        self.nodes.iter().map(|(id, node)| (*id, node.name.as_str(), node.reach == Reach::Up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn two() -> Nodes {
        let mut nodes = Nodes::remote(PATIENCE);
        nodes.up(A, "a".into(), 100);
        nodes.up(B, "b".into(), 300);
        nodes
    }

    fn loads(a: usize, b: usize) -> BTreeMap<NodeId, Load> {
        BTreeMap::from([(A, Load { rooms: 0, participants: a }), (B, Load { rooms: 0, participants: b })])
    }

    #[test]
    fn a_new_room_goes_where_there_is_most_room() {
        let mut nodes = two();
        for (a, b, place) in [(0, 0, A), (1, 0, B), (10, 29, B), (10, 31, A)] {
            assert_eq!(nodes.place(&loads(a, b)), Some(place), "{a} of 100, {b} of 300");
        }
        nodes.draining(A);
        assert_eq!(nodes.place(&loads(0, 299)), Some(B), "not where it drains");
        nodes.interrupted(Instant::now(), B);
        assert_eq!(nodes.place(&loads(0, 0)), None, "nor where nobody answers");
        nodes.up(A, "a".into(), 100);
        assert_eq!(nodes.place(&loads(0, 0)), Some(A), "started anew");
    }

    #[test]
    fn a_lost_node_is_given_up_once_patience_ends_and_another_is_there() {
        let (mut nodes, start) = (two(), Instant::now());
        assert_eq!(nodes.interrupted(start, A), Some(start + PATIENCE));
        assert_eq!(nodes.due_lost(start + PATIENCE / 2), []);
        nodes.resumed(A);
        assert_eq!(nodes.due_lost(start + PATIENCE), [], "it came back");

        nodes.interrupted(start, A);
        nodes.interrupted(start, B);
        assert_eq!(nodes.due_lost(start + PATIENCE), [], "there is nowhere to go: media goes on where it is");
        assert_eq!(nodes.poll_timeout(), Some(start + PATIENCE + RECONSIDER));
        nodes.resumed(B);
        assert_eq!(nodes.due_lost(start + PATIENCE + RECONSIDER), [A]);
        assert_eq!((nodes.due_lost(start + 2 * PATIENCE).len(), nodes.poll_timeout()), (0, None), "once");
    }
}
