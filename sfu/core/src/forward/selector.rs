//! Which packets of a source a receiver gets: nothing while paused, a start where decoding can start, then one
//! encoding, and another from a key frame on once that is the target. Until then the one before goes on, to the
//! end of its frame:
//!
//! ```text
//! before   ..[frame 1][fra|me 2]  .  .  .            the rest of frame 2 still leaves,
//! target              ..  [key|fr|ame][frame]..      the key frame is held for it and leaves behind it
//! ```

use std::time::{Duration, Instant};

use super::temporal::Temporal;
use crate::track::StreamKey;
use crate::track::encoding::Arrival;
use crate::track::packet_cache::PacketFacts;
use crate::units::MediaKind;

/// A key frame is held for the end of the frame before for no longer than this, about a frame at 20 fps.
const MAX_HOLD: Duration = Duration::from_millis(50);

/// The layer that a receiver is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The encoding.
    pub encoding: u8,
    /// The highest temporal layer.
    pub max_tid: u8,
}

/// What a receiver gets, and what it is to get.
#[derive(Clone, Debug)]
pub struct Selector {
    state: State,
    /// Of the stream that is forwarded.
    temporal: Temporal,
    /// `None` until anything is known of the source: then it starts with whatever comes.
    target: Option<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is forwarded until resumed.
    Paused,
    /// Nothing, until a packet arrives at which decoding can start: a key frame, or any packet of audio.
    Waiting,
    /// One stream.
    Forwarding(Forwarding),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Forwarding {
    stream: StreamKey,
    /// Timestamp of the frame whose end has not been forwarded yet.
    open: Option<u32>,
    next: Option<Next>,
}

/// A key frame of the target that waits for the end of the frame before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next {
    stream: StreamKey,
    /// Its first packet, and when that arrived.
    seq: u64,
    since: Instant,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forward it.
    Forward,
    /// Go on with another stream, from one of its packets on that have arrived.
    Begin {
        /// The stream.
        stream: StreamKey,
        /// The number of its first packet: a switching point.
        seq: u64,
        /// Whether the packet is the last of the stream before, to be forwarded first. Else it is one of the
        /// new stream, or of neither.
        last: bool,
    },
    /// Wait: it is forwarded with the key frame that it belongs to, if that is.
    Hold,
    /// Drop it, and close the hole: its frame is of a temporal layer that the receiver does not get.
    LeaveOut,
    /// It is not meant for this receiver.
    Drop(NotMeant),
}

/// Why a packet is not meant for a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMeant {
    /// The track is muted, or the receiver wants nothing of it at present.
    Paused,
    /// Decoding cannot start with it.
    AwaitingKeyFrame,
    /// Another encoding is forwarded.
    OtherEncoding,
    /// It is of a temporal layer that is not forwarded.
    TemporalLayer,
}

impl Selector {
    /// Forwards nothing yet.
    pub fn new(paused: bool) -> Self {
        Self {
            state: if paused { State::Paused } else { State::Waiting },
            temporal: Temporal::new(u8::MAX),
            target: None,
        }
    }

    /// Judges a packet. `late` says that it fills a hole among numbers that the receiver has seen or will see:
    /// then it was meant for it, whatever has been decided since. Video starts with no number before `earliest`.
    pub fn judge(&mut self, kind: MediaKind, arrival: &Arrival, earliest: u64, late: bool) -> Verdict {
        let Arrival { stream, facts, newest, .. } = arrival;
        if late {
            return match &self.state {
                State::Forwarding(own) if own.stream == *stream && self.temporal.has_left_out(facts) => {
                    Verdict::LeaveOut
                }
                _ => Verdict::Forward,
            };
        }
        if let State::Forwarding(forwarding) = &mut self.state
            && forwarding.stream == *stream
        {
            return forwarding.go_on(&mut self.temporal, arrival);
        }
        let starts = facts.starts_decoding && (*newest || kind == MediaKind::Video && facts.seq >= earliest);
        let target = self.target.map_or(stream.encoding(), |target| target.encoding);
        let begin = Verdict::Begin { stream: *stream, seq: facts.seq, last: false };
        match &mut self.state {
            State::Paused => Verdict::Drop(NotMeant::Paused),
            State::Forwarding(forwarding) if forwarding.stream.encoding() != stream.encoding() => {
                match forwarding.next {
                    Some(next) if next.stream == *stream => next.hold(facts.arrival),
                    _ if !starts || stream.encoding() != target => Verdict::Drop(NotMeant::OtherEncoding),
                    _ if forwarding.open.is_none() => begin,
                    _ => {
                        forwarding.next =
                            Some(Next { stream: *stream, seq: facts.seq, since: facts.arrival });
                        Verdict::Hold
                    }
                }
            }
            // One above the target would only be left again; one below is a quick start.
            State::Waiting | State::Forwarding(_) if starts && stream.encoding() <= target => begin,
            // Nothing is forwarded, or it has ended: its encoding counts anew.
            State::Waiting | State::Forwarding(_) => {
                self.state = State::Waiting;
                Verdict::Drop(NotMeant::AwaitingKeyFrame)
            }
        }
    }

    /// From this packet on its stream is forwarded.
    pub fn begin(&mut self, stream: StreamKey, facts: &PacketFacts) {
        self.temporal.begin(self.target.map_or(u8::MAX, |target| target.max_tid));
        self.temporal.admits(facts);
        let open = (!facts.marker).then_some(facts.time);
        self.state = State::Forwarding(Forwarding { stream, open, next: None });
    }

    /// Whether a packet behind the one that its stream began with is forwarded, although it came before it.
    pub fn follow(&mut self, arrival: &Arrival) -> Verdict {
        match &mut self.state {
            State::Forwarding(forwarding) if forwarding.stream == arrival.stream => {
                forwarding.go_on(&mut self.temporal, &Arrival { newest: true, ..*arrival })
            }
            // It was given up with what it began with.
            _ => Verdict::Drop(NotMeant::AwaitingKeyFrame),
        }
    }

    /// This layer is to be forwarded: another encoding from its next key frame on.
    pub fn aim(&mut self, target: Target) {
        self.target = Some(target);
        self.temporal.aim(target.max_tid);
        if let State::Forwarding(forwarding) = &mut self.state {
            forwarding.next = forwarding.next.filter(|next| next.stream.encoding() == target.encoding);
        }
    }

    /// Forwards nothing, or starts again where decoding can.
    pub fn set_paused(&mut self, paused: bool) {
        match (paused, self.state) {
            (true, _) => self.state = State::Paused,
            (false, State::Paused) => self.state = State::Waiting,
            (false, _) => {}
        }
    }

    /// What was forwarded cannot go on: starts again where decoding can.
    pub fn restart(&mut self) {
        if let State::Forwarding(_) = self.state {
            self.state = State::Waiting;
        }
    }

    /// The stream that is forwarded.
    pub fn stream(&self) -> Option<StreamKey> {
        match &self.state {
            State::Forwarding(forwarding) => Some(forwarding.stream),
            State::Paused | State::Waiting => None,
        }
    }

    /// The encodings that it needs, as bits by index: what is forwarded and what is to be.
    pub fn needed(&self) -> u8 {
        let encodings = match &self.state {
            State::Forwarding(Forwarding { stream, next, .. }) => {
                1 << stream.encoding() | next.map_or(0, |next| 1 << next.stream.encoding())
            }
            State::Paused | State::Waiting => 0,
        };
        encodings | self.awaited()
    }

    /// The encodings of which it waits for a key frame, as bits by index.
    pub fn awaited(&self) -> u8 {
        match (self.state, self.target) {
            (State::Paused, _) => 0,
            (State::Forwarding(Forwarding { stream, next, .. }), Some(target)) => {
                u8::from(stream.encoding() != target.encoding && next.is_none()) << target.encoding
            }
            (State::Forwarding(_), None) => 0,
            (State::Waiting, Some(target)) => 1 << target.encoding,
            (State::Waiting, None) => u8::MAX,
        }
    }
}

impl Forwarding {
    /// Judges a packet of the stream that is forwarded.
    #[inline]
    fn go_on(&mut self, temporal: &mut Temporal, arrival: &Arrival) -> Verdict {
        let Arrival { facts, newest, .. } = arrival;
        if !newest {
            return Verdict::Forward;
        }
        let over = self.open.is_some_and(|open| open != facts.time);
        if let Some(next) = self.next.filter(|_| over) {
            // The end of the frame before was lost: it may yet be repaired, but nobody needs it any more.
            return next.begin(false);
        }
        if !temporal.admits(facts) {
            return Verdict::LeaveOut;
        }
        self.open = (!facts.marker).then_some(facts.time);
        match self.next {
            Some(next) if facts.marker => next.begin(true),
            _ => Verdict::Forward,
        }
    }
}

impl Next {
    /// Judges a packet of the stream whose key frame is held.
    fn hold(&self, now: Instant) -> Verdict {
        if now.saturating_duration_since(self.since) < MAX_HOLD { Verdict::Hold } else { self.begin(false) }
    }

    fn begin(&self, last: bool) -> Verdict {
        Verdict::Begin { stream: self.stream, seq: self.seq, last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::testing::facts;

    const LOW: StreamKey = StreamKey::new(0, 0);
    const HIGH: StreamKey = StreamKey::new(1, 0);
    const HOLD: Verdict = Verdict::Hold;
    const AWAITING: Verdict = Verdict::Drop(NotMeant::AwaitingKeyFrame);
    const OTHER: Verdict = Verdict::Drop(NotMeant::OtherEncoding);

    /// A packet that is the whole of a frame.
    fn arrival(stream: StreamKey, seq: u64, starts_decoding: bool) -> Arrival {
        let facts = PacketFacts { starts_decoding, marker: true, ..facts(seq, seq as u32) };
        Arrival { stream, facts, payload_len: 100, newest: true }
    }

    /// One of several of the frame with the timestamp `time`.
    fn part(stream: StreamKey, seq: u64, time: u32, key: bool, last: bool) -> Arrival {
        let arrival = arrival(stream, seq, key);
        Arrival { facts: PacketFacts { time, marker: last, ..arrival.facts }, ..arrival }
    }

    fn begin(stream: StreamKey, seq: u64) -> Verdict {
        Verdict::Begin { stream, seq, last: false }
    }

    fn aimed(encoding: u8) -> Selector {
        let mut selector = Selector::new(false);
        selector.aim(Target { encoding, max_tid: 3 });
        selector
    }

    fn judge(selector: &mut Selector, arrival: Arrival) -> Verdict {
        let verdict = selector.judge(MediaKind::Video, &arrival, 0, false);
        if let Verdict::Begin { stream, .. } = verdict {
            selector.begin(stream, &arrival.facts);
        }
        verdict
    }

    #[test]
    fn switches_to_its_target_only_at_a_key_frame_and_up_and_down_alike() {
        let mut selector = aimed(1);
        for (target, stream, key_frame, verdict) in [
            (1, LOW, false, AWAITING),
            (1, LOW, true, begin(LOW, 1000)),
            (1, HIGH, false, OTHER),
            (1, LOW, false, Verdict::Forward),
            (1, HIGH, true, begin(HIGH, 1000)),
            (1, LOW, true, OTHER),
            (0, HIGH, true, Verdict::Forward),
            (0, LOW, false, OTHER),
            (0, LOW, true, begin(LOW, 1000)),
            (0, HIGH, true, OTHER),
        ] {
            selector.aim(Target { encoding: target, max_tid: 3 });
            let judged = judge(&mut selector, arrival(stream, 1000, key_frame));
            assert_eq!(judged, verdict, "{stream:?} {key_frame}");
        }
    }

    #[test]
    fn a_switch_waits_for_the_end_of_the_frame_before() {
        let mut selector = aimed(0);
        judge(&mut selector, part(LOW, 10, 0, true, false));
        selector.aim(Target { encoding: 1, max_tid: 3 });
        assert_eq!(selector.awaited(), 0b10);
        assert_eq!(judge(&mut selector, part(HIGH, 70, 500, true, false)), HOLD);
        assert_eq!((selector.awaited(), selector.needed()), (0, 0b11), "the key frame is there");
        assert_eq!(judge(&mut selector, part(LOW, 11, 0, false, false)), Verdict::Forward);
        assert_eq!(judge(&mut selector, part(HIGH, 71, 500, false, true)), HOLD);
        let last = Verdict::Begin { stream: HIGH, seq: 70, last: true };
        assert_eq!(judge(&mut selector, part(LOW, 12, 0, false, true)), last);
    }

    #[test]
    fn a_switch_does_not_wait_for_a_frame_whose_end_is_lost() {
        let mut held = aimed(0);
        judge(&mut held, part(LOW, 10, 0, true, false));
        held.aim(Target { encoding: 1, max_tid: 3 });
        let first = part(HIGH, 70, 500, true, false);
        assert_eq!(judge(&mut held, first), HOLD);

        let mut selector = held.clone();
        assert_eq!(judge(&mut selector, part(LOW, 13, 3000, false, false)), begin(HIGH, 70));
        let mut selector = held.clone();
        let mut late = part(HIGH, 75, 9000, false, false);
        late.facts.arrival = first.facts.arrival + MAX_HOLD;
        assert_eq!(judge(&mut selector, late), begin(HIGH, 70));
        let mut selector = held.clone();
        selector.aim(Target { encoding: 0, max_tid: 3 });
        assert_eq!(judge(&mut selector, late), OTHER, "it is no longer the target");
    }

    #[test]
    fn an_encoding_that_counts_anew_waits_for_its_key_frame() {
        let anew = HIGH.next_run();
        let mut selector = aimed(1);
        judge(&mut selector, arrival(HIGH, 1000, true));
        assert_eq!(judge(&mut selector, arrival(anew, 1000, false)), AWAITING);
        assert_eq!((selector.stream(), selector.awaited()), (None, 0b10));
        assert_eq!(judge(&mut selector, arrival(anew, 1000, true)), begin(anew, 1000));
    }

    #[test]
    fn a_paused_track_forwards_only_what_fills_a_hole() {
        let mut selector = aimed(0);
        judge(&mut selector, arrival(LOW, 1000, true));
        selector.set_paused(true);
        assert_eq!(judge(&mut selector, arrival(LOW, 1000, true)), Verdict::Drop(NotMeant::Paused));
        assert_eq!(selector.needed(), 0);
        let late = arrival(LOW, 990, false);
        assert_eq!(selector.judge(MediaKind::Video, &late, 0, true), Verdict::Forward);
        selector.set_paused(false);
        assert_eq!(judge(&mut selector, arrival(LOW, 1000, false)), AWAITING);
        assert_eq!(judge(&mut selector, arrival(LOW, 1000, true)), begin(LOW, 1000));
    }

    #[test]
    fn nothing_better_than_the_target_starts_but_something_lesser_does() {
        assert_eq!(judge(&mut aimed(0), arrival(HIGH, 1000, true)), AWAITING);
        assert_eq!(judge(&mut aimed(1), arrival(LOW, 1000, true)), begin(LOW, 1000));
        assert_eq!(judge(&mut Selector::new(false), arrival(HIGH, 1000, true)), begin(HIGH, 1000));
    }

    #[test]
    fn a_repaired_key_frame_starts_video_but_old_sound_starts_nothing() {
        let old = Arrival { newest: false, ..arrival(LOW, 990, true) };
        let judge = |kind, earliest| aimed(0).judge(kind, &old, earliest, false);
        assert_eq!(judge(MediaKind::Video, 990), begin(LOW, 990));
        assert_eq!(judge(MediaKind::Audio, 990), AWAITING);
        assert_eq!(judge(MediaKind::Video, 991), AWAITING);
    }
}
