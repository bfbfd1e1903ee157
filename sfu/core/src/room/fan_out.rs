//! From one packet that came in to many that will leave: references in the queues of those who receive it.

use std::time::Instant;

use super::link::{Named, Queued, Turn, WIRE_OVERHEAD};
use super::room::{ParticipantKey, Room, TrackKey};
use super::streams;
use super::subscription::{DownKey, Subscription};
use crate::cc::pacer::{Priority, Pushed};
use crate::forward::down_track::Admission;
use crate::forward::repacketiser::Makeup;
use crate::forward::rewriter::Skip;
use crate::forward::selector::NotMeant;
use crate::track::StreamKey;
use crate::track::encoding::Arrival;
use crate::track::packet_cache::PacketFacts;
use crate::track::up_track::UpTrack;
use crate::units::{MediaKind, Source};

impl Room {
    /// Offers a packet to everybody who receives its track.
    pub(super) fn fan_out(&mut self, now: Instant, track: TrackKey, arrival: &Arrival) {
        let mut settled = !self.tracks[track].up.take_layers_changed();
        if !settled {
            self.aim(now, track);
        }
        let mut awaited = 0;
        let priority = priority(&self.tracks[track].up);
        for index in 0..self.tracks[track].subscribers.len() {
            let published = &self.tracks[track];
            let key = published.subscribers[index];
            let Subscription { down, to, .. } = &mut self.downs[key];
            match down.admit(&published.up, arrival) {
                Admission::Queue if down.packs() => self.pack(now, key, arrival),
                Admission::Queue => {
                    let (to, size) = (*to, down.packet_len(&arrival.facts, arrival.payload_len));
                    self.queue(now, to, priority, size, name(key, arrival));
                }
                Admission::Begin { stream, seq, last } => {
                    if last {
                        self.queue_media(now, key, arrival);
                    }
                    self.begin(now, key, stream, seq);
                    // The encoding left behind may be nobody's any more.
                    settled = false;
                }
                Admission::Held => {}
                Admission::NotMeant(NotMeant::AwaitingKeyFrame) => {
                    self.stats.not_meant_awaiting_key_frame += 1;
                    awaited |= down.selector().awaited();
                }
                Admission::NotMeant(NotMeant::Paused) => self.stats.not_meant_paused += 1,
                Admission::NotMeant(NotMeant::OtherEncoding) => self.stats.not_meant_other_encoding += 1,
                Admission::NotMeant(NotMeant::TemporalLayer) => self.stats.not_meant_temporal_layer += 1,
                Admission::Useless => self.stats.useless += 1,
            }
        }
        // Only now: the packet itself may be the key frame that was waited for.
        if !settled {
            self.ask_for_needed(now, track);
            streams::judge(now, &self.tracks[track], &mut self.downs, &mut self.events);
        } else if awaited != 0 {
            self.want_key_frames(now, track, awaited);
        }
    }

    /// Goes on with another stream: queues its packets from this one on, as far as they have arrived.
    #[cold]
    fn begin(&mut self, now: Instant, key: DownKey, stream: StreamKey, first: u64) {
        let Subscription { down, track, .. } = &mut self.downs[key];
        let track = *track;
        let up = &self.tracks[track].up;
        let Some((facts, payload)) = up.packet(stream, first) else {
            // Its cache has wrapped since, or begun anew.
            down.selector_mut().restart();
            return;
        };
        let highest = up.encodings()[usize::from(stream.encoding())].highest_seq().unwrap_or(first);
        let arrival = |facts: &PacketFacts, payload: &[u8]| Arrival {
            stream,
            facts: *facts,
            payload_len: payload.len(),
            newest: facts.seq == highest,
        };
        let before = down.selector().stream();
        down.begin(up, stream, facts);
        self.stats.encoding_switches +=
            u64::from(before.is_some_and(|before| before.encoding() != stream.encoding()));
        let first = arrival(facts, payload);
        self.queue_media(now, key, &first);
        for seq in first.facts.seq + 1..=highest {
            let Some((facts, payload)) = self.tracks[track].up.packet(stream, seq) else { continue };
            let follower = arrival(facts, payload);
            if self.downs[key].down.admit_follower(&follower) {
                self.queue_media(now, key, &follower);
            }
        }
    }

    fn queue_media(&mut self, now: Instant, key: DownKey, arrival: &Arrival) {
        let Subscription { down, to, track, .. } = &self.downs[key];
        if down.packs() {
            return self.pack(now, key, arrival);
        }
        let (to, size) = (*to, down.packet_len(&arrival.facts, arrival.payload_len));
        self.queue(now, to, priority(&self.tracks[*track].up), size, name(key, arrival));
    }

    /// Puts a name into a participant's queue.
    pub(super) fn queue(
        &mut self,
        now: Instant,
        to: ParticipantKey,
        priority: Priority,
        size: usize,
        item: Queued,
    ) {
        let link = &mut self.participants[to].link;
        let pushed = link.pacer.push(self.clock.at(now).millis, priority, size + WIRE_OVERHEAD, item);
        match link.turn {
            Turn::Ready => {}
            Turn::Idle => {
                link.turn = Turn::Ready;
                self.ready.push_back(to);
            }
            // Sound overtakes what has to wait.
            Turn::Waiting if link.pacer.peek(now).is_some() => {
                link.turn = Turn::Ready;
                self.ready.push_back(to);
                self.waiting.retain(|&waiting| waiting != to);
            }
            Turn::Waiting => {}
        }
        if let Pushed::Displaced(displaced) = pushed {
            self.stats.dropped_queue_full += 1;
            if let Queued::Media { down, stream, named } = displaced {
                self.give_up(now, down, stream, named.seq());
            }
        }
    }

    /// A queued packet will not leave. Where its number can be given to the next, a receiver of video would take
    /// the rest of its frame for the whole: nothing more leaves before the next key frame.
    pub(super) fn give_up(&mut self, now: Instant, key: DownKey, stream: StreamKey, seq: u64) {
        let Some(Subscription { down, track, .. }) = self.downs.get_mut(key) else { return };
        if down.skip(stream, seq) == Skip::Hole {
            self.stats.holes_left += 1;
            return;
        }
        if down.params().kind == MediaKind::Audio {
            return;
        }
        let track = *track;
        self.forget_waiting(key);
        self.settle_layers(now, track);
    }

    /// What waits of a picture will not leave; nothing more of it does before its next key frame.
    pub(super) fn forget_waiting(&mut self, key: DownKey) {
        let Some(Subscription { down, to, .. }) = self.downs.get_mut(key) else { return };
        down.abandon();
        self.participants[*to].link.pacer.retain(|item| match *item {
            Queued::Media { down: other, stream, named } if other == key => {
                let kept = down.may_leave(stream, named.seq());
                self.stats.dropped_undecodable += u64::from(!kept);
                kept
            }
            Queued::Media { .. } | Queued::Own { .. } => true,
        });
    }
}

/// How urgent a track's packets are.
#[inline]
fn priority(up: &UpTrack) -> Priority {
    match (up.kind(), up.source()) {
        (MediaKind::Audio, _) => Priority::Audio,
        (MediaKind::Video, Source::Screen) => Priority::Slides,
        (MediaKind::Video, _) => Priority::Video,
    }
}

fn name(down: DownKey, arrival: &Arrival) -> Queued {
    let named = Named::new(arrival.facts.seq, Makeup::SINGLE);
    Queued::Media { down, stream: arrival.stream, named }
}
