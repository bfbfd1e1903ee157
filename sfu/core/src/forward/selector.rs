//! Which packets of a source a receiver gets: nothing while paused, a start where decoding can start, then one
//! encoding, and a better one from its next key frame on.

use crate::track::StreamKey;
use crate::track::encoding::Arrival;
use crate::units::MediaKind;

/// What is forwarded at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Nothing, until resumed.
    Paused,
    /// Nothing, until a packet arrives at which decoding can start: a key frame, or any packet of audio.
    Waiting,
    /// One stream.
    Forwarding {
        /// That one.
        stream: StreamKey,
    },
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forward it.
    Forward,
    /// Forward it as the first of its stream, with those behind it that arrived before it.
    Begin,
    /// It is not meant for this receiver.
    Drop(NotMeant),
}

/// Why a packet is not meant for a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMeant {
    /// The track is muted.
    Paused,
    /// Decoding cannot start with it.
    AwaitingKeyFrame,
    /// Another encoding is forwarded.
    OtherEncoding,
}

impl Selector {
    /// Judges a packet. `late` says that it fills a hole among numbers that the receiver has seen or will see:
    /// then it was meant for it, whatever has been decided since. Video starts with no number before `earliest`.
    pub fn judge(&mut self, kind: MediaKind, arrival: &Arrival, earliest: u64, late: bool) -> Verdict {
        if late {
            return Verdict::Forward;
        }
        let starts = arrival.facts.starts_decoding
            && (arrival.newest || kind == MediaKind::Video && arrival.facts.seq >= earliest);
        match *self {
            Self::Paused => Verdict::Drop(NotMeant::Paused),
            Self::Forwarding { stream } if stream == arrival.stream => Verdict::Forward,
            Self::Forwarding { stream } if arrival.stream.encoding < stream.encoding => {
                Verdict::Drop(NotMeant::OtherEncoding)
            }
            _ if starts => {
                *self = Self::Forwarding { stream: arrival.stream };
                Verdict::Begin
            }
            Self::Forwarding { stream } if arrival.stream.encoding > stream.encoding => {
                Verdict::Drop(NotMeant::OtherEncoding)
            }
            // Its own encoding in another run: what was forwarded has ended.
            Self::Forwarding { .. } | Self::Waiting => {
                *self = Self::Waiting;
                Verdict::Drop(NotMeant::AwaitingKeyFrame)
            }
        }
    }

    /// Forwards nothing from now on.
    pub fn pause(&mut self) {
        *self = Self::Paused;
    }

    /// Starts again where decoding can.
    pub fn resume(&mut self) {
        if *self == Self::Paused {
            *self = Self::Waiting;
        }
    }

    /// What was forwarded is no longer sent: starts again where decoding can, in whatever encoding.
    pub fn restart(&mut self) {
        if let Self::Forwarding { .. } = self {
            *self = Self::Waiting;
        }
    }

    /// The stream that is forwarded.
    pub fn stream(&self) -> Option<StreamKey> {
        match *self {
            Self::Forwarding { stream } => Some(stream),
            Self::Paused | Self::Waiting => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::packet_cache::PacketFacts;
    use crate::track::testing::facts;

    const LOW: StreamKey = StreamKey { encoding: 0, epoch: 0 };
    const HIGH: StreamKey = StreamKey { encoding: 1, epoch: 0 };

    fn arrival(stream: StreamKey, seq: u64, starts_decoding: bool) -> Arrival {
        let facts = PacketFacts { starts_decoding, ..facts(seq, 0) };
        Arrival { stream, facts, payload_len: 100, newest: true }
    }

    fn judge(selector: &mut Selector, stream: StreamKey, key_frame: bool) -> Verdict {
        selector.judge(MediaKind::Video, &arrival(stream, 1000, key_frame), 0, false)
    }

    #[test]
    fn switches_up_only_at_key_frames_and_never_down_by_itself() {
        use NotMeant::*;
        use Verdict::*;
        let mut selector = Selector::Waiting;
        for (stream, key_frame, verdict) in [
            (LOW, false, Drop(AwaitingKeyFrame)),
            (HIGH, false, Drop(AwaitingKeyFrame)),
            (LOW, true, Begin),
            (LOW, false, Forward),
            (HIGH, false, Drop(OtherEncoding)),
            (HIGH, true, Begin),
            (LOW, true, Drop(OtherEncoding)),
            (HIGH, false, Forward),
            (HIGH, true, Forward),
        ] {
            assert_eq!(judge(&mut selector, stream, key_frame), verdict, "{stream:?} {key_frame}");
        }
    }

    #[test]
    fn an_encoding_that_counts_anew_waits_for_its_key_frame() {
        let anew = StreamKey { epoch: 1, ..HIGH };
        let mut selector = Selector::Forwarding { stream: HIGH };
        assert_eq!(judge(&mut selector, anew, false), Verdict::Drop(NotMeant::AwaitingKeyFrame));
        assert_eq!(selector, Selector::Waiting);
        assert_eq!(judge(&mut selector, anew, true), Verdict::Begin);
    }

    #[test]
    fn a_paused_track_forwards_only_what_fills_a_hole() {
        let mut selector = Selector::Forwarding { stream: LOW };
        selector.pause();
        assert_eq!(judge(&mut selector, LOW, true), Verdict::Drop(NotMeant::Paused));
        let late = arrival(LOW, 990, false);
        assert_eq!(selector.judge(MediaKind::Video, &late, 0, true), Verdict::Forward);
        selector.resume();
        assert_eq!(judge(&mut selector, LOW, false), Verdict::Drop(NotMeant::AwaitingKeyFrame));
        assert_eq!(judge(&mut selector, LOW, true), Verdict::Begin);
    }

    #[test]
    fn a_repaired_key_frame_starts_video_but_old_sound_starts_nothing() {
        let old = Arrival { newest: false, ..arrival(LOW, 990, true) };
        assert_eq!(Selector::Waiting.judge(MediaKind::Video, &old, 990, false), Verdict::Begin);
        assert_ne!(Selector::Waiting.judge(MediaKind::Audio, &old, 990, false), Verdict::Begin);
        assert_ne!(Selector::Waiting.judge(MediaKind::Video, &old, 991, false), Verdict::Begin);
    }
}
