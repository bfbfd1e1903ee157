//! Sound to thin and to lossy links: packets that wait to leave as one, or are said twice. Which links are such is
//! for `sound_packing.rs` to say, where links are controlled.

use std::collections::VecDeque;
use std::time::Instant;

use super::link::{Named, Queued};
use super::room::{ParticipantKey, Room};
use super::subscription::{DownKey, Subscription};
use crate::cc::pacer::Priority;
use crate::forward::repacketiser::{Makeup, Merge, Packing, Parcel};
use crate::track::encoding::Arrival;

/// Down tracks on which packets wait, those first whose packets are to leave first; each once at most. One whose
/// packets have left by then is passed over.
#[derive(Default)]
pub(super) struct Flushes(VecDeque<(Instant, DownKey)>);

impl Flushes {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        Some(self.0.front()?.0)
    }

    /// Nearly always the last one: all wait equally long.
    fn insert(&mut self, due: Instant, key: DownKey) {
        let at = self.0.iter().rposition(|&(earlier, _)| earlier <= due).map_or(0, |before| before + 1);
        self.0.insert(at, (due, key));
    }

    fn pop_due(&mut self, now: Instant) -> Option<DownKey> {
        self.0.pop_front_if(|&mut (due, _)| due <= now).map(|(_, key)| key)
    }
}

impl Room {
    /// How many packets of sound leave as one on the way to a participant, from now on and in each of its
    /// subscriptions; on a controlled link, until that decides. Sound that is encrypted end to end always leaves as it
    /// came.
    pub fn set_merge(&mut self, now: Instant, to: ParticipantKey, merge: Merge) {
        let packing = self.participants.get(to).map(|participant| participant.link.packing);
        packing.into_iter().for_each(|packing| self.set_packing(now, to, Packing { merge, ..packing }));
    }

    /// Whether sound on the way to a participant is said twice, where it agreed to redundant audio (RFC 2198).
    pub fn set_redundant(&mut self, now: Instant, to: ParticipantKey, redundant: bool) {
        let packing = self.participants.get(to).map(|participant| participant.link.packing);
        packing.into_iter().for_each(|packing| self.set_packing(now, to, Packing { redundant, ..packing }));
    }

    /// Both at once.
    pub(super) fn set_packing(&mut self, now: Instant, to: ParticipantKey, packing: Packing) {
        let Some(participant) = self.participants.get_mut(to) else { return };
        if std::mem::replace(&mut participant.link.packing, packing) == packing {
            return;
        }
        for index in 0..participant.subscriptions.len() {
            let key = self.participants[to].subscriptions[index];
            if let Some(parcel) = self.downs[key].down.set_packing(packing) {
                self.queue_parcel(now, key, &parcel);
            }
        }
    }

    /// An admitted packet of sound on the way to a participant that gets it packed in another way.
    pub(super) fn pack(&mut self, now: Instant, key: DownKey, arrival: &Arrival) {
        let Subscription { down, track, awaits_flush, .. } = &mut self.downs[key];
        let up = &self.tracks[*track].up;
        if up.params().encrypted {
            let Arrival { stream, facts, payload_len, .. } = *arrival;
            let flushed = down.flush();
            let alone = Parcel { stream, first: facts.seq, makeup: Makeup::SINGLE, payload_len };
            flushed.into_iter().chain([alone]).for_each(|parcel| self.queue_parcel(now, key, &parcel));
            return;
        }
        // It has just been taken in.
        let Some((_, payload)) = up.packet(arrival.stream, arrival.facts.seq) else { return };
        let released = down.pack(now, arrival, payload);
        if let Some(due) = down.poll_timeout().filter(|_| !*awaits_flush) {
            *awaits_flush = true;
            self.flushes.insert(due, key);
        }
        released.iter().for_each(|parcel| self.queue_parcel(now, key, parcel));
    }

    /// Lets go what has waited long enough.
    pub(super) fn flush(&mut self, now: Instant) {
        while let Some(key) = self.flushes.pop_due(now) {
            let Some(Subscription { down, awaits_flush, .. }) = self.downs.get_mut(key) else { continue };
            *awaits_flush = false;
            match down.poll_timeout() {
                None => {}
                Some(due) if due > now => {
                    *awaits_flush = true;
                    self.flushes.insert(due, key);
                }
                Some(_) => {
                    let parcel = down.flush();
                    parcel.into_iter().for_each(|parcel| self.queue_parcel(now, key, &parcel));
                }
            }
        }
    }

    fn queue_parcel(&mut self, now: Instant, key: DownKey, parcel: &Parcel) {
        let Subscription { down, to, track, .. } = &self.downs[key];
        let Parcel { stream, first: seq, makeup, payload_len } = *parcel;
        let Some((facts, _)) = self.tracks[*track].up.packet(stream, seq) else {
            self.stats.dropped_stale += 1;
            self.give_up(now, key, stream, seq);
            return;
        };
        let (to, size) = (*to, down.packet_len(facts, payload_len));
        let item = Queued::Media { down: key, stream, named: Named::new(seq, makeup) };
        self.queue(now, to, Priority::Audio, size, item);
    }
}
