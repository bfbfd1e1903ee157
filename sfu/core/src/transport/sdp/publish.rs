//! Which m-line carries which announced track.
//!
//! The client names the line itself, or its `a=msid` has the announced id. In Firefox it never has: the track
//! part there is Firefox's own invention, so what is left over is matched by kind, in order of announcement,
//! as LiveKit's server does.

use sfu_protocol::control::Publish;

use crate::rtp::params::Mid;
use crate::units::{MediaKind, TrackId};

/// A line on which the client would send.
pub(super) struct Sender<'a> {
    pub(super) mid: Mid,
    pub(super) kind: MediaKind,
    /// The track part of its `a=msid`.
    pub(super) msid_track: Option<&'a str>,
    /// What it carried so far.
    pub(super) carried: Carried,
}

/// The past of a line, as far as it is about what the client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// Nothing.
    Nothing,
    /// A track, which it goes on carrying while that is wanted.
    Track(TrackId),
    /// A track that is over; its last packets must not pass for another one's.
    Ended,
}

/// The track of each line; a track has one line at most.
pub(super) fn bind(senders: &[Sender<'_>], publish: &[Publish]) -> Vec<Option<TrackId>> {
    let mut bound = vec![None; senders.len()];
    for rule in [by_mid, by_cid, by_history, by_order] {
        for wanted in publish {
            if bound.contains(&Some(wanted.track)) {
                continue;
            }
            let mut free = senders.iter().zip(&mut bound).filter(|(_, track)| track.is_none());
            if let Some((_, track)) = free.find(|(s, _)| s.kind == wanted.kind && rule(s, wanted)) {
                *track = Some(wanted.track);
            }
        }
    }
    bound
}

fn by_mid(sender: &Sender<'_>, wanted: &Publish) -> bool {
    wanted.mid.as_deref() == Some(sender.mid.as_str())
}

fn by_cid(sender: &Sender<'_>, wanted: &Publish) -> bool {
    wanted.mid.is_none() && sender.msid_track == Some(wanted.cid.as_str())
}

fn by_history(sender: &Sender<'_>, wanted: &Publish) -> bool {
    wanted.mid.is_none() && sender.carried == Carried::Track(wanted.track)
}

fn by_order(sender: &Sender<'_>, wanted: &Publish) -> bool {
    wanted.mid.is_none() && sender.carried == Carried::Nothing
}

#[cfg(test)]
mod tests {
    use sfu_protocol::control::Source;

    use super::*;

    fn sender<'a>(mid: &str, kind: MediaKind, msid_track: &'a str, carried: Carried) -> Sender<'a> {
        let mid = Mid::new(mid).expect("a short mid");
        Sender { mid, kind, msid_track: Some(msid_track), carried }
    }

    fn publish(track: u64, kind: MediaKind, cid: &str, mid: Option<&str>) -> Publish {
        let (cid, mid) = (cid.to_owned(), mid.map(str::to_owned));
        Publish {
            track: TrackId(track),
            kind,
            source: Source::Camera,
            cid,
            mid,
            dtx: false,
            encrypted: false,
        }
    }

    fn bound(senders: &[Sender<'_>], wanted: &[Publish]) -> Vec<Option<u64>> {
        bind(senders, wanted).into_iter().map(|track| track.map(|track| track.0)).collect()
    }

    use Carried::{Ended, Nothing, Track};
    use MediaKind::{Audio, Video};

    #[test]
    fn a_named_mid_decides_before_a_matching_cid() {
        let senders = [sender("7", Video, "a", Nothing), sender("8", Video, "b", Nothing)];
        let wanted = [publish(1, Video, "a", None), publish(2, Video, "b", Some("7"))];
        assert_eq!(bound(&senders, &wanted), [Some(2), Some(1)]);
    }

    #[test]
    fn a_cid_finds_its_line_whatever_the_order() {
        let senders = [sender("7", Video, "a", Nothing), sender("8", Video, "b", Nothing)];
        let wanted = [publish(1, Video, "b", None), publish(2, Video, "a", None)];
        assert_eq!(bound(&senders, &wanted), [Some(2), Some(1)]);
    }

    #[test]
    fn lines_without_a_known_cid_are_taken_by_kind_in_order_of_announcement() {
        let senders = [
            sender("7", Audio, "{x}", Nothing),
            sender("8", Video, "{y}", Nothing),
            sender("9", Video, "{z}", Nothing),
        ];
        let wanted =
            [publish(1, Video, "a", None), publish(2, Audio, "b", None), publish(3, Video, "c", None)];
        assert_eq!(bound(&senders, &wanted), [Some(2), Some(1), Some(3)]);
    }

    #[test]
    fn a_line_goes_on_carrying_its_track_and_never_lends_itself_to_another() {
        let senders = [sender("7", Video, "{x}", Track(TrackId(2))), sender("8", Video, "{y}", Nothing)];
        let wanted = [publish(1, Video, "a", None), publish(2, Video, "b", None)];
        assert_eq!(bound(&senders, &wanted), [Some(2), Some(1)]);
        assert_eq!(bound(&senders[..1], &wanted[..1]), [None]);
        assert_eq!(bound(&[sender("7", Video, "{x}", Ended)], &wanted), [None]);
    }

    #[test]
    fn a_track_whose_named_line_is_not_there_waits() {
        let senders = [sender("7", Video, "a", Nothing), sender("8", Audio, "b", Nothing)];
        let wanted = [publish(1, Video, "a", Some("9")), publish(2, Video, "b", Some("8"))];
        assert_eq!(bound(&senders, &wanted), [None, None]);
    }
}
