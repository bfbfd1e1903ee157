//! Whether pictures flow to their receivers, as these are told: not while they want none, nor while the publisher
//! sends none or their link has nothing left for them. Of a muted track they know already, and sound may be silent.

use std::collections::VecDeque;
use std::time::Instant;

use super::room::{Published, RoomEvent};
use super::subscription::{DownKey, Subscription};
use super::table::Table;
use crate::units::MediaKind;

/// Reports to whom a track began to flow, or ceased to, since the last call.
pub(super) fn judge(
    now: Instant,
    published: &Published,
    downs: &mut Table<DownKey, Subscription>,
    events: &mut VecDeque<RoomEvent>,
) {
    let Published { up, subscribers, .. } = published;
    if up.kind() != MediaKind::Video || up.muted() {
        return;
    }
    let stopped = up.has_stopped(now);
    for &key in subscribers {
        let Subscription { to, wish, starved, told_paused, .. } = &mut downs[key];
        let paused = wish.paused || stopped || *starved;
        if std::mem::replace(told_paused, paused) != paused {
            events.push_back(RoomEvent::StreamState { participant: *to, track: up.id(), paused });
        }
    }
}
