//! A transport on which we make the offers and the client answers.

#[path = "sdp/scenario.rs"]
#[allow(dead_code, unreachable_pub)]
mod scenario;

use sfu_core::transport::params::DtlsRole;
use sfu_core::transport::sdp::{Accepted, Offering, SdpError};
use sfu_core::units::{MediaKind, TrackId};
use sfu_protocol::control::{DataChannel, Delivery, Msid};

use MediaKind::{Audio, Video};

#[test]
fn the_first_offer_has_data_channels_even_without_tracks() {
    let mut offering = Offering::new(scenario::config(), channels());
    let offer = offering.make_offer().expect("the first is always due").sdp;
    assert!(offer.contains("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    assert!(offer.contains("a=setup:actpass\r\n") && offer.contains("a=group:BUNDLE 0\r\n"));
    assert_eq!(offering.make_offer(), None, "an answer is due");
    assert!(offering.accept_answer(0, &taking(&offer)).expect("a good answer").remote.sctp.is_some());
    assert_eq!(offering.make_offer(), None, "nothing is new");
}

#[test]
fn a_track_is_sent_once_the_client_has_taken_it() {
    let mut offering = Offering::new(scenario::config(), channels());
    subscribe(&mut offering, 1, Audio);
    subscribe(&mut offering, 2, Video);
    let accepted = round(&mut offering);
    assert_eq!(sent(&accepted), [(1, "1"), (2, "2")]);
    assert_eq!(accepted.mid_to_track, [("1".to_owned(), TrackId(1)), ("2".to_owned(), TrackId(2))]);
    subscribe(&mut offering, 3, Video);
    assert_eq!(sent(&round(&mut offering)), [(3, "3")], "the others go on as they are");
}

#[test]
fn a_freed_line_is_inactive_once_even_if_freed_while_an_offer_is_out() {
    let mut offering = Offering::new(scenario::config(), channels());
    subscribe(&mut offering, 1, Audio);
    let offer = offering.make_offer().expect("due").sdp;
    offering.unsubscribe(TrackId(1));
    subscribe(&mut offering, 2, Audio);
    let accepted = offering.accept_answer(0, &taking(&offer)).expect("a good answer");
    assert!(accepted.send.is_empty() && accepted.mid_to_track.is_empty());

    let offer = offering.make_offer().expect("much has changed").sdp;
    assert!(offer.contains("a=mid:1\r\n") && offer.contains("a=inactive\r\n"));
    assert_eq!(sent(&offering.accept_answer(0, &taking(&offer)).expect("a good answer")), [(2, "2")]);
    subscribe(&mut offering, 3, Audio);
    assert_eq!(sent(&round(&mut offering)), [(3, "1")]);
}

#[test]
fn a_line_that_the_client_refuses_stays_refused() {
    let mut offering = Offering::new(scenario::config(), channels());
    subscribe(&mut offering, 1, Audio);
    let offer = offering.make_offer().expect("due").sdp;
    let refusal = taking(&offer).replace("m=audio 9", "m=audio 0").replace("BUNDLE 0 1", "BUNDLE 0");
    let accepted = offering.accept_answer(0, &refusal).expect("a good answer");
    assert_eq!((accepted.stopped.as_slice(), accepted.send.len()), (&[TrackId(1)][..], 0));
    subscribe(&mut offering, 2, Audio);
    let offer = offering.make_offer().expect("due").sdp;
    assert!(offer.contains("m=audio 0 ") && offer.contains("a=group:BUNDLE 0 2\r\n"));
    assert_eq!(sent(&offering.accept_answer(0, &taking(&offer)).expect("a good answer")), [(2, "2")]);
}

#[test]
fn an_ice_restart_is_offered_with_new_credentials() {
    let mut offering = Offering::new(scenario::config(), channels());
    let before = round(&mut offering);
    offering.restart_ice();
    let after = round(&mut offering);
    assert_eq!(before.local.ufrag[..2], after.local.ufrag[..2]);
    assert!(before.local.ufrag != after.local.ufrag && before.local.pwd != after.local.pwd);
}

#[test]
fn a_bad_answer_changes_nothing() {
    let mut offering = Offering::new(scenario::config(), channels());
    assert_eq!(offering.accept_answer(0, "").err(), Some(SdpError::NoOffer));
    subscribe(&mut offering, 1, Audio);
    let good = taking(&offering.make_offer().expect("due").sdp);
    let cases = [
        (good.replace("setup:active", "setup:holdconn"), SdpError::Setup),
        (good.split("m=audio").next().unwrap_or_default().to_owned(), SdpError::LineCount),
        (good.replace("sha-256", "sha-1"), SdpError::Fingerprint),
    ];
    for (answer, error) in cases {
        let before = format!("{offering:?}");
        assert_eq!(offering.accept_answer(0, &answer).err(), Some(error));
        assert_eq!(format!("{offering:?}"), before);
    }
    assert!(offering.accept_answer(0, &good).is_ok());
}

#[test]
fn an_answer_to_an_earlier_offer_is_not_taken_for_the_next_ones() {
    let mut offering = Offering::new(scenario::config(), channels());
    let first = offering.make_offer().expect("due");
    // The client was away, and its answer lost.
    offering.restart_ice();
    let second = offering.make_offer().expect("due although no answer came");
    assert_eq!((first.id, second.id), (1, 2));
    assert_eq!(offering.accept_answer(first.id, &taking(&first.sdp)).err(), Some(SdpError::NoOffer));
    assert!(offering.accept_answer(second.id, &taking(&second.sdp)).is_ok());
}

#[test]
fn who_begins_the_handshake_is_the_clients_choice_once() {
    let mut offering = Offering::new(scenario::config(), channels());
    let passive = |offer: &str| taking(offer).replace("setup:active", "setup:passive");
    let offer = offering.make_offer().expect("due").sdp;
    let accepted = offering.accept_answer(0, &passive(&offer)).expect("pion's answer");
    assert_eq!(accepted.remote.role, DtlsRole::Server);
    assert_eq!(accepted.remote.sctp.expect("data channels").channels, channels());
    subscribe(&mut offering, 1, Audio);
    let offer = offering.make_offer().expect("due").sdp;
    assert_eq!(offering.accept_answer(0, &taking(&offer)).err(), Some(SdpError::Setup));
    assert_eq!(sent(&offering.accept_answer(0, &passive(&offer)).expect("as before")), [(1, "1")]);
}

#[test]
fn browsers_take_all_that_we_offer() {
    let recorded = |name: &str| scenario::read("offered", name).expect("it is in the repository");
    for browser in ["chromium156", "firefox153"] {
        let mut offering = Offering::new(scenario::config(), channels());
        subscribe(&mut offering, 1, Audio);
        subscribe(&mut offering, 2, Video);
        let offer = offering.make_offer().expect("due").sdp;
        assert_eq!(offer, recorded("offer.sdp"), "what the browsers were shown; see the README");
        let answer = recorded(&format!("{browser}-answer.sdp"));
        let accepted = offering.accept_answer(0, &answer).expect("a good answer");
        assert_eq!(accepted.remote.role, DtlsRole::Client, "{browser}");
        assert!(accepted.remote.sctp.is_some(), "{browser}");
        let [(TrackId(1), voice), (TrackId(2), camera)] = accepted.send.as_slice() else {
            panic!("{browser} takes both tracks")
        };
        assert_eq!((voice.codecs[0].pt, camera.codecs[0].pt, camera.codecs[0].rtx_pt), (111, 96, Some(97)));
        assert!(camera.codecs[0].nack && camera.codecs[0].pli && camera.rtx_ssrc.is_some(), "{browser}");
    }
}

/// An answer that takes all that is offered: our own words from the other side.
fn taking(offer: &str) -> String {
    offer.replace("setup:actpass", "setup:active").replace("a=sendonly", "a=recvonly")
}

fn round(offering: &mut Offering) -> Accepted {
    let offer = offering.make_offer().expect("there is something to offer").sdp;
    offering.accept_answer(0, &taking(&offer)).expect("a good answer")
}

fn channels() -> Vec<DataChannel> {
    vec![DataChannel { label: "_reliable".to_owned(), delivery: Delivery::Reliable }]
}

fn subscribe(offering: &mut Offering, track: u64, kind: MediaKind) {
    let msid = Msid { stream: "PA_teacher|camera".to_owned(), track: format!("TR_{track}") };
    offering.subscribe(TrackId(track), kind, msid);
}

fn sent(accepted: &Accepted) -> Vec<(u64, &str)> {
    accepted.send.iter().map(|(track, params)| (track.0, params.mid.as_str())).collect()
}
