//! Tells signaling what there is, for the case that it cannot know.

use sfu_protocol::control::FromSfu;
use sfu_protocol::ids::TransportId;
use sfu_protocol::snapshot::{SnapshotPart, TransportSnapshot};

use super::{Peer, Rooms};
use crate::shutdown::Phase;

impl Rooms {
    /// Queues all parts behind the events that wait already, so that what comes later is news to it.
    pub(super) fn take_snapshot(&mut self, of: u64) -> Option<()> {
        let mut parts = vec![SnapshotPart::Begin];
        for (id, room) in &self.rooms {
            parts.push(SnapshotPart::Room(*id));
            let peers = room.members.iter().filter_map(|id| Some((*id, self.peers.get(id)?)));
            parts.extend(peers.map(|(id, peer)| SnapshotPart::Transport(self.transport_snapshot(id, peer))));
        }
        parts.push(SnapshotPart::End);
        self.events.extend(parts.into_iter().map(|part| FromSfu::Snapshot { of, part }));
        if self.phase != Phase::Serving {
            self.events.push_back(FromSfu::Draining);
        }
        Some(())
    }

    fn transport_snapshot(&self, transport: TransportId, peer: &Peer) -> TransportSnapshot {
        let mut published: Vec<_> = peer.published.iter().map(|publish| publish.track).collect();
        published.sort_unstable();
        let settled = peer.wishes.iter().filter_map(|track| self.tracks.get(track)).all(|track| {
            let carried = track.receivers.get(&transport).is_some_and(|receiver| receiver.params.is_some());
            carried || track.announced.is_none()
        });
        let wanted = peer.wishes.iter().copied().collect();
        TransportSnapshot { transport, connected: peer.connected, settled, published, wanted }
    }
}
