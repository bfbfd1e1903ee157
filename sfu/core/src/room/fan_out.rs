//! From one packet that came in to many that will leave: references in the queues of those who receive it.

use std::time::Instant;

use super::link::{Queued, Turn};
use super::room::{ParticipantKey, Room, TrackKey};
use super::subscription::{DownKey, Subscription};
use crate::cc::pacer::{Priority, Pushed};
use crate::forward::down_track::Admission;
use crate::forward::rewriter::Skip;
use crate::forward::selector::NotMeant;
use crate::track::StreamKey;
use crate::track::encoding::Arrival;
use crate::track::packet_cache::PacketFacts;
use crate::units::MediaKind;

impl Room {
    /// Offers a packet to everybody who receives its track.
    pub(super) fn fan_out(&mut self, now: Instant, track: TrackKey, arrival: &Arrival) {
        let mut key_frame_wanted = false;
        for index in 0..self.tracks[track].subscribers.len() {
            let published = &self.tracks[track];
            let key = published.subscribers[index];
            match self.downs[key].down.admit(&published.up, arrival) {
                Admission::Queue => self.queue_media(now, key, arrival),
                Admission::QueueWithFollowers => {
                    self.queue_media(now, key, arrival);
                    self.queue_followers(now, key, arrival);
                }
                Admission::NotMeant(NotMeant::AwaitingKeyFrame) => {
                    self.stats.not_meant_awaiting_key_frame += 1;
                    key_frame_wanted = true;
                }
                Admission::NotMeant(NotMeant::Paused) => self.stats.not_meant_paused += 1,
                Admission::NotMeant(NotMeant::OtherEncoding) => self.stats.not_meant_other_encoding += 1,
                Admission::Useless => self.stats.useless += 1,
            }
        }
        if key_frame_wanted {
            self.want_key_frame(now, track, None);
        }
    }

    /// Queues what arrived before the packet that a stream begins with, and comes behind it.
    #[cold]
    fn queue_followers(&mut self, now: Instant, key: DownKey, first: &Arrival) {
        let Arrival { stream, facts: PacketFacts { seq: first, .. }, .. } = *first;
        let track = self.downs[key].track;
        let highest =
            self.tracks[track].up.encodings()[usize::from(stream.encoding)].highest_seq().unwrap_or(first);
        for seq in first + 1..=highest {
            let Some((facts, payload)) = self.tracks[track].up.packet(stream, seq) else { continue };
            let follower =
                Arrival { stream, facts: *facts, payload_len: payload.len(), newest: seq == highest };
            let down = &mut self.downs[key].down;
            if down.selector().stream() != Some(stream) {
                // The queue was full, and the stream given up with what it began with.
                return;
            }
            if follower.payload_len == 0 {
                down.skip(stream, seq);
            } else if down.admit_follower(stream, &follower.facts) {
                self.queue_media(now, key, &follower);
            }
        }
    }

    fn queue_media(&mut self, now: Instant, key: DownKey, arrival: &Arrival) {
        let Subscription { down, to, .. } = &self.downs[key];
        let (to, size) = (*to, down.packet_len(&arrival.facts, arrival.payload_len));
        let priority = match arrival.facts.codec.kind() {
            MediaKind::Audio => Priority::Audio,
            MediaKind::Video => Priority::Video,
        };
        let item = Queued::Media { down: key, stream: arrival.stream, seq: arrival.facts.seq };
        self.queue(now, to, priority, size, item);
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
        let pushed = link.pacer.push(now, priority, size + WIRE_OVERHEAD, item);
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
            if let Queued::Media { down, stream, seq } = displaced {
                self.give_up(now, down, stream, seq);
            }
        }
    }

    /// A queued packet will not leave. Where its number can be given to the next, a receiver of video would take
    /// the rest of its frame for the whole: nothing more leaves before the next key frame.
    pub(super) fn give_up(&mut self, now: Instant, key: DownKey, stream: StreamKey, seq: u64) {
        let Some(Subscription { down, to, track }) = self.downs.get_mut(key) else { return };
        if down.skip(stream, seq) == Skip::Hole {
            self.stats.holes_left += 1;
            return;
        }
        if down.params().kind == MediaKind::Audio {
            return;
        }
        down.abandon();
        self.participants[*to].link.pacer.retain(|entry| match entry.item {
            Queued::Media { down: other, stream, seq } if other == key => {
                let kept = down.may_leave(stream, seq);
                self.stats.dropped_undecodable += u64::from(!kept);
                kept
            }
            Queued::Media { .. } | Queued::Again { .. } => true,
        });
        let track = *track;
        self.want_key_frame(now, track, None);
    }
}

/// IPv4, UDP and the longest SRTP tag: what a packet costs besides itself.
const WIRE_OVERHEAD: usize = 20 + 8 + 16;
