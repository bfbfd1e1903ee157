//! That a participant receives a track.

use slotmap::new_key_type;

use super::room::{ParticipantKey, TrackKey};
use crate::forward::down_track::DownTrack;
use crate::units::{TrackId, Wish};

new_key_type! {
    /// Names a subscription; never a later one in the same place.
    pub(super) struct DownKey;
}

/// A down track and where it belongs.
pub(super) struct Subscription {
    pub(super) down: DownTrack,
    pub(super) to: ParticipantKey,
    pub(super) track: TrackKey,
    /// The track's id, which is told to the receiver even when the track has gone.
    pub(super) id: TrackId,
    /// How the receiver wants it.
    pub(super) wish: Wish,
    /// Whether its link has nothing left for it.
    pub(super) starved: bool,
    /// Whether the receiver was told that nothing flows.
    pub(super) told_paused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet to each of a thousand receivers passes through all their subscriptions, in the order of their places
    /// in the table: the fewer lines lie in between, the more of them come by themselves.
    #[test]
    fn a_subscription_takes_eight_cache_lines() {
        assert!(size_of::<Subscription>() <= 8 * 64, "{}", size_of::<Subscription>());
        assert!(size_of::<DownTrack>() <= 7 * 64 + 32, "{}", size_of::<DownTrack>());
    }
}
