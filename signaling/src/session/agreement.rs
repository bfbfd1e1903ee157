//! Whether the SFU has a participant as this service has it.

use std::collections::BTreeSet;

use livekit_protocol::participant_info;
use sfu_protocol::ids::TrackId;
use sfu_protocol::snapshot::TransportSnapshot;

use super::Session;

impl Session {
    /// False where they differ, or where something under way may have been lost: an offer, an answer, or that
    /// the client shall offer. Where the SFU makes the offers, that is not known: such a client joins anew.
    pub(crate) fn agrees(&self, found: &TransportSnapshot) -> bool {
        let here: BTreeSet<TrackId> = self.tracks.iter().map(|track| track.id).collect();
        let published: BTreeSet<TrackId> = found.published.iter().copied().collect();
        let wanted: BTreeSet<TrackId> = found.wanted.iter().copied().collect();
        let is_active = self.state == participant_info::State::Active;
        found.settled
            && self.receiver.is_none()
            && !self.negotiation.is_waiting()
            && (found.connected || !is_active)
            && published.is_subset(&here)
            && self.negotiated_tracks().all(|track| published.contains(&track.id))
            && wanted.len() == self.wanted.len()
            && self.wanted.keys().all(|track| wanted.contains(track))
    }
}
