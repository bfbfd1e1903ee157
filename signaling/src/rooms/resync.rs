//! Several SFU nodes, each with rooms of its own, and the repair after a session with one of them was lost.
//!
//! As long as a session goes on nothing is lost and there is nothing to repair. When one begins anew, the node's
//! snapshot is compared with what is here, and both ways are mended: what only the node has is closed there,
//! what it lacks or has otherwise cannot be trusted, and its client is told to join anew. So both sides agree
//! afterwards, whatever was lost between them, and media goes on wherever they agreed before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use livekit_protocol::DisconnectReason;
use sfu_protocol::control::{FromSfu, ToSfu};
use sfu_protocol::ids::{RoomId, TransportId};
use sfu_protocol::snapshot::{Snapshot, TransportSnapshot};

use super::Rooms;
use crate::clock::WallClock;
use crate::data::DataError;
use crate::limits::Limits;
use crate::nodes::{Load, NodeEvent, NodeId, Nodes};
use crate::outbox::Farewell;

/// Why something that a node said was not acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// It is about a room on another node.
    Foreign,
    /// It is a data message that was not passed on.
    Data(DataError),
}

impl Rooms {
    /// No rooms and no nodes yet: SFUs run in processes of their own. `patience` is how long one may be out of
    /// reach before its participants are told to join anew, on another one.
    pub fn with_nodes(limits: Limits, clock: WallClock, seed: u64, patience: Duration) -> Self {
        Self { nodes: Nodes::remote(patience), ..Self::new(limits, clock, seed) }
    }

    /// Something happens to a node. What it says counts for its own rooms only.
    pub fn handle_node(&mut self, now: Instant, node: NodeId, event: NodeEvent) -> Result<(), Ignored> {
        match event {
            NodeEvent::Up { name, capacity, snapshot } => {
                self.nodes.up(node, name, capacity);
                self.reconcile(now, node, snapshot);
            }
            NodeEvent::Interrupted => {
                let until = self.nodes.interrupted(now, node);
                until.into_iter().for_each(|until| self.wake_by(until));
            }
            NodeEvent::Resumed => self.nodes.resumed(node),
            NodeEvent::Said(FromSfu::Draining) if node != NodeId::LOCAL => self.nodes.draining(node),
            NodeEvent::Said(event) => {
                let room = self.room_meant(&event).and_then(|id| self.rooms.get(&id));
                if room.is_some_and(|room| room.node != node) {
                    return Err(Ignored::Foreign);
                }
                return self.handle_sfu(now, event).map_err(Ignored::Data);
            }
        }
        Ok(())
    }

    /// The room that an event is about. None: about the whole node, or about what is no longer here.
    fn room_meant(&self, event: &FromSfu) -> Option<RoomId> {
        let transport = match event {
            FromSfu::Speakers { room, .. } | FromSfu::LinkQuality { room, .. } => return Some(*room),
            FromSfu::Draining | FromSfu::Snapshot { .. } => return None,
            FromSfu::Answer { transport, .. }
            | FromSfu::OfferRejected { transport, .. }
            | FromSfu::NegotiationNeeded { transport, .. }
            | FromSfu::TransportConnected { transport, .. }
            | FromSfu::TransportClosed { transport, .. }
            | FromSfu::TrackStarted { transport, .. }
            | FromSfu::Data { transport, .. }
            | FromSfu::Offer { transport, .. }
            | FromSfu::AnswerRejected { transport, .. }
            | FromSfu::StreamState { transport, .. } => *transport,
        };
        self.transports.get(&self.owner(transport)).copied()
    }

    /// Lets every client go without a word, and leaves media alone: signaling stops, the SFUs go on. Clients come
    /// back by themselves.
    pub fn suspend(&mut self) {
        self.draining = true;
        for (socket, _) in self.sockets.drain() {
            self.out.close(Some(socket));
        }
    }

    /// How full each node is: its name, whether it is in reach, and its load.
    pub fn node_loads(&self) -> impl Iterator<Item = (&str, bool, Load)> {
        let loads = self.loads();
        self.nodes.names().map(move |(id, name, up)| (name, up, loads.get(&id).copied().unwrap_or_default()))
    }

    pub(super) fn loads(&self) -> BTreeMap<NodeId, Load> {
        let mut loads = BTreeMap::<_, Load>::new();
        for room in self.rooms.values() {
            let load = loads.entry(room.node).or_default();
            load.rooms += 1;
            load.participants += room.len();
        }
        loads
    }

    /// Gives up what is due: rooms of lost nodes, and rooms of a signaling process before this one.
    pub(super) fn handle_node_timeout(&mut self, now: Instant) {
        for (node, rooms) in self.nodes.due_orphans(now) {
            self.out.direct(node);
            rooms.into_iter().for_each(|room| self.out.command(ToSfu::CloseRoom { room }));
        }
        for node in self.nodes.due_lost(now) {
            for room in self.rooms_on(node) {
                self.give_up_room(now, room, DisconnectReason::Migration);
            }
        }
    }

    fn rooms_on(&self, node: NodeId) -> Vec<RoomId> {
        let mut rooms: Vec<_> = self.rooms.values().filter(|room| room.node == node).map(|r| r.id).collect();
        rooms.sort_unstable();
        rooms
    }

    /// Tells everyone in a room to join anew, and closes it: the next join opens it on a node that is there.
    fn give_up_room(&mut self, now: Instant, id: RoomId, reason: DisconnectReason) {
        let Some(room) = self.rooms.get(&id) else { return };
        let node = room.node;
        self.send_away(now, id, reason);
        self.out.direct(node);
        self.close_room(id);
    }

    /// Tells everyone in a room to join anew. All are told first: of how the others leave then nobody hears.
    pub(super) fn send_away(&mut self, now: Instant, id: RoomId, reason: DisconnectReason) {
        let Some((room, context)) = self.room(now, id) else { return };
        let mut all = Vec::with_capacity(room.len());
        for session in room.sessions_mut() {
            let socket = session.socket.take();
            context.out.dismiss(socket, Farewell::JoinAgain(reason));
            all.push((session.id, socket));
        }
        for (transport, socket) in all {
            socket.and_then(|socket| self.sockets.remove(&socket));
            self.remove(now, transport, reason, None);
        }
    }

    fn reconcile(&mut self, now: Instant, node: NodeId, snapshot: Snapshot) {
        let mut there: BTreeMap<RoomId, Vec<TransportSnapshot>> = snapshot.rooms.into_iter().collect();
        for room in self.rooms_on(node) {
            match there.remove(&room) {
                Some(transports) => self.reconcile_room(now, room, transports),
                None => self.give_up_room(now, room, DisconnectReason::StateMismatch),
            }
        }
        let close_at = self.nodes.adopt_orphans(now, node, there.into_keys().collect());
        close_at.into_iter().for_each(|close_at| self.wake_by(close_at));
    }

    fn reconcile_room(&mut self, now: Instant, id: RoomId, transports: Vec<TransportSnapshot>) {
        let mut there: BTreeMap<TransportId, _> = transports.into_iter().map(|t| (t.transport, t)).collect();
        let Some(room) = self.rooms.get(&id) else { return };
        let (mut agreed, mut parted) = (Vec::new(), Vec::new());
        // First all are compared: when one goes, its tracks are forgotten here by those who receive them.
        for session in room.sessions() {
            match there.remove(&session.id) {
                Some(found) if session.agrees(&found) => agreed.push(found),
                _ => parted.push(session.id),
            }
        }
        let reason = DisconnectReason::StateMismatch;
        for transport in parted {
            self.remove(now, transport, reason, Some(Farewell::JoinAgain(reason)));
        }
        let Some((room, mut context)) = self.room(now, id) else { return };
        for transport in there.into_keys() {
            context.out.command(ToSfu::CloseTransport { transport });
        }
        for found in agreed {
            if found.connected {
                room.connected(&mut context, found.transport, found.transport);
            }
            let tracks = room.session(found.transport).into_iter().flat_map(|s| s.negotiated_tracks());
            // What a snapshot does not tell and saying it twice does not harm.
            for track in tracks {
                context.out.command(ToSfu::SetMuted { track: track.id, muted: track.info.muted });
            }
            room.repeat_wishes(&mut context, found.transport);
        }
    }
}
