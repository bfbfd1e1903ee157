//! That a participant receives a track.

use slotmap::new_key_type;

use super::room::{ParticipantKey, TrackKey};
use crate::forward::down_track::DownTrack;
use crate::units::{TrackId, Wish};

new_key_type! {
    /// Names a subscription; never a later one in the same place.
    pub(super) struct DownKey;
}

/// A down track and where it belongs. In this order in memory, what packets need first.
#[repr(C)]
pub(super) struct Subscription {
    pub(super) to: ParticipantKey,
    pub(super) track: TrackKey,
    pub(super) down: DownTrack,
    /// The track's id, which is told to the receiver even when the track has gone.
    pub(super) id: TrackId,
    /// How the receiver wants it.
    pub(super) wish: Wish,
    /// Whether its link has nothing left for it.
    pub(super) starved: bool,
    /// Whether the receiver was told that nothing flows.
    pub(super) told_paused: bool,
    /// Whether it is among those whose packets of sound are to leave at a certain time.
    pub(super) awaits_flush: bool,
}

#[cfg(test)]
mod tests {
    use super::super::table::SLOT_HEAD;
    use super::*;

    /// A packet to each of a thousand receivers passes through all their subscriptions, in the order of their places
    /// in the table: the fewer lines it needs, the more of them come by themselves.
    #[test]
    fn what_packets_need_of_a_subscription_takes_eight_cache_lines() {
        let size = SLOT_HEAD + std::mem::offset_of!(Subscription, id);
        assert!(size <= 8 * 64, "{size}, of which the track takes {}", size_of::<DownTrack>());
    }
}
