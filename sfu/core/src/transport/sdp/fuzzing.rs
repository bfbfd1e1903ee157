//! Arbitrary text as a description.

use sfu_protocol::control::{Msid, Publish, Source};

use super::text::parse;
use super::{Negotiation, NegotiationConfig, Offering};
use crate::transport::params::{Fingerprint, IceCredentials};
use crate::units::{MediaKind, TrackId};

/// `data` as an offer, and as an answer to ours.
pub fn fuzz(data: &[u8]) {
    if let Ok(sdp) = std::str::from_utf8(data) {
        offer(sdp);
        answer(sdp);
    }
}

/// Offers the text twice to a negotiation with subscriptions and announced tracks. An error must change nothing;
/// an answer must be a description with a section for each offered one, and the second must say what the first
/// said.
fn offer(offer: &str) {
    let mut negotiation = negotiation();
    let before = format!("{negotiation:?}");
    let publish = [MediaKind::Audio, MediaKind::Video].map(|kind| Publish {
        track: TrackId(kind as u64),
        kind,
        source: Source::Camera,
        cid: "camera".to_owned(),
        mid: None,
        dtx: true,
        encrypted: false,
    });
    let Ok(first) = negotiation.offer(offer, &publish) else {
        assert_eq!(format!("{negotiation:?}"), before);
        return;
    };
    let offered = parse(offer).expect("it was parsed before");
    let written = parse(&first.sdp).expect("what we write can be read");
    assert_eq!(offered.media_descriptions.len(), written.media_descriptions.len());
    for (offered, written) in offered.media_descriptions.iter().zip(&written.media_descriptions) {
        assert_eq!(offered.media_name.media, written.media_name.media);
        assert!(written.media_name.formats.iter().all(|format| offered.media_name.formats.contains(format)));
    }

    let second = negotiation.offer(offer, &publish).expect("the same offer is as good again");
    assert!(!second.ice_restarted);
    assert!(second.receive.is_empty() && second.ended.is_empty());
    assert!(second.send.is_empty() && second.stopped.is_empty());
    assert_eq!(first.sdp.lines().skip(2).collect::<Vec<_>>(), second.sdp.lines().skip(2).collect::<Vec<_>>());
    negotiation.needed();
}

/// Takes the text for the client's answer; an error must change nothing.
fn answer(answer: &str) {
    let mut offering = Offering::new(config(), Vec::new());
    for (track, kind) in SUBSCRIBED {
        offering.subscribe(track, kind, msid());
    }
    offering.make_offer().expect("the first is always due");
    let before = format!("{offering:?}");
    if offering.accept_answer(0, answer).is_err() {
        assert_eq!(format!("{offering:?}"), before);
    }
}

fn negotiation() -> Negotiation {
    let mut negotiation = Negotiation::new(config());
    for (track, kind) in SUBSCRIBED {
        negotiation.subscribe(track, kind, msid());
    }
    negotiation
}

fn config() -> NegotiationConfig {
    NegotiationConfig {
        local: IceCredentials { ufrag: "00fuzz".to_owned(), pwd: "p".repeat(24) },
        fingerprint: Fingerprint([7; 32]),
        candidates: vec!["192.0.2.1:7882".parse().expect("an address")],
        seed: 7,
    }
}

fn msid() -> Msid {
    Msid { stream: "PA_teacher".to_owned(), track: "TR_x".to_owned() }
}

const SUBSCRIBED: [(TrackId, MediaKind); 3] =
    [(TrackId(10), MediaKind::Audio), (TrackId(11), MediaKind::Video), (TrackId(12), MediaKind::Video)];
