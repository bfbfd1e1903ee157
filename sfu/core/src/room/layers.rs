//! Who gets which layer: wishes and what publishers send become targets of the down tracks, and what nobody needs
//! is not asked for.

use std::time::Instant;

use arrayvec::ArrayVec;

use super::room::{Published, Room, TrackKey};
use super::streams;
use super::subscription::Subscription;
use crate::cc::lesson_allocator::{EncodingInput, wished_layer};
use crate::forward::selector::Target;
use crate::rtp::params::MAX_ENCODINGS;
use crate::track::up_track::UpTrack;
use crate::units::{MediaKind, Source};

impl Room {
    /// Decides anew which layer of a track each of its receivers gets, and asks the publisher for what they wait
    /// for. Due whenever wishes, receivers or the layers themselves have changed.
    pub(super) fn settle_layers(&mut self, now: Instant, key: TrackKey) {
        self.aim(now, key);
        self.ask_for_needed(now, key);
        streams::judge(now, &self.tracks[key], &mut self.downs, &mut self.events);
    }

    /// Decides anew which layer of a track each of its receivers is to get. Where a link is controlled, that
    /// depends on all that it carries.
    pub(super) fn aim(&mut self, now: Instant, key: TrackKey) {
        let Published { up, subscribers, .. } = &self.tracks[key];
        let encodings = inputs(now, up);
        let mut controlled = Vec::new();
        for &down in subscribers {
            let Subscription { down, wish, to, .. } = &mut self.downs[down];
            let selector = down.selector_mut();
            if up.kind() == MediaKind::Video && self.participants[*to].link.lesson.is_some() {
                if up.muted() {
                    // The allocator does not see it until it comes back.
                    selector.set_paused(true);
                }
                controlled.push(*to);
                continue;
            }
            selector.set_paused(up.muted() || wish.paused);
            // While nothing is sent, what was last right is as good as anything.
            if let Some(layer) = wished_layer(wish, &encodings) {
                selector.aim(Target { encoding: layer.encoding, max_tid: layer.max_tid });
            }
        }
        for to in controlled {
            self.allocate(now, to);
        }
    }

    /// Asks a track's publisher for what its receivers wait for, and no longer for what nobody needs.
    pub(super) fn ask_for_needed(&mut self, now: Instant, key: TrackKey) {
        let Published { up, subscribers, .. } = &mut self.tracks[key];
        let selectors = || subscribers.iter().map(|&down| self.downs[down].down.selector());
        up.set_wanted(selectors().fold(0, |needed, selector| needed | selector.needed()));
        let awaited = selectors().fold(0, |awaited, selector| awaited | selector.awaited());
        self.want_key_frames(now, key, awaited);
    }

    /// Asks a track's publisher for key frames of these encodings, as bits by index, as soon as its turn comes.
    pub(super) fn want_key_frames(&mut self, now: Instant, key: TrackKey, encodings: u8) {
        let up = &mut self.tracks[key].up;
        up.want_key_frames(encodings);
        let due = up.encodings().iter().filter_map(|encoding| encoding.poll_timeout(now)).min();
        due.into_iter().for_each(|due| self.feedback_by(due));
    }
}

pub(super) fn inputs(now: Instant, up: &UpTrack) -> ArrayVec<EncodingInput, MAX_ENCODINGS> {
    let bursts = up.source() == Source::Screen;
    let input = up.encodings().iter().map(|encoding| EncodingInput {
        active: encoding.active(now),
        size: encoding.size(),
        fps: encoding.fps(),
        rates: encoding.rates(bursts),
    });
    input.collect()
}
