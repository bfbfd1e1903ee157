//! Our descriptions read by an independent implementation: the `rtc` crate's own peer connection.

use std::time::Instant;

use rtc::interceptor::Registry;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_VP8, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpHeaderExtensionCapability,
    RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use sfu_protocol::control::{Msid, Publish, Source};

use super::{Answered, Negotiation, NegotiationConfig, Offering, SdpError};
use crate::rtp::params::Extension;
use crate::testing::origin;
use crate::transport::params::{Fingerprint, IceCredentials};
use crate::units::{MediaKind, TrackId};

#[test]
fn an_independent_peer_accepts_our_answers_and_flips_its_directions() {
    let now = origin();
    let mut peer = peer(now);
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        for _ in 0..3 {
            let direction = RTCRtpTransceiverDirection::Recvonly;
            let init = RTCRtpTransceiverInit { direction, streams: Vec::new(), send_encodings: Vec::new() };
            peer.add_transceiver_from_kind(kind, Some(init)).expect("a spare line");
        }
    }
    peer.create_data_channel("_reliable", None).expect("a data channel");
    let mut negotiation = Negotiation::new(config());
    let first = negotiate(&mut peer, &mut negotiation, now, &[]);
    assert!(first.remote.sctp.is_some());
    assert!(
        directions(&mut peer).values().all(|&direction| direction == RTCRtpTransceiverDirection::Inactive)
    );

    let msid = |track: &str| Msid { stream: "PA_teacher|camera".to_owned(), track: track.to_owned() };
    negotiation.subscribe(TrackId(1), MediaKind::Audio, msid("TR_voice"));
    negotiation.subscribe(TrackId(2), MediaKind::Video, msid("TR_face"));
    peer.add_track(camera()).expect("a camera");
    let camera = Publish {
        track: TrackId(3),
        kind: MediaKind::Video,
        source: Source::Camera,
        cid: "camera".to_owned(),
        mid: None,
        dtx: false,
        encrypted: false,
    };
    let second = negotiate(&mut peer, &mut negotiation, now, &[camera]);
    let directions = directions(&mut peer);
    for (_, params) in &second.send {
        let received = directions[params.mid.as_str()];
        assert!(matches!(received, RTCRtpTransceiverDirection::Recvonly), "{received:?}");
    }
    let [(TrackId(3), camera)] = second.receive.as_slice() else { panic!("the camera is published") };
    assert_eq!(directions[camera.mid.as_str()], RTCRtpTransceiverDirection::Sendonly);
    assert_eq!(camera.encodings.len(), 3);

    negotiation.unsubscribe(TrackId(2));
    let third = negotiate(&mut peer, &mut negotiation, now, &[]);
    assert_eq!(third.ended, [TrackId(3)]);
}

#[test]
fn an_independent_peer_answers_our_offers() {
    let now = origin();
    let mut peer = peer(now);
    let mut offering = Offering::new(config(), Vec::new());
    let msid = || Msid { stream: "PA_teacher|camera".to_owned(), track: "TR_x".to_owned() };
    let round = |offering: &mut Offering, peer: &mut RTCPeerConnection| {
        let offer =
            RTCSessionDescription::offer(offering.make_offer().expect("news").sdp).expect("it parses");
        assert_eq!(offering.make_offer(), None, "one at a time");
        peer.set_remote_description(now, offer).expect("it is accepted");
        let answer = peer.create_answer(None).expect("an answer");
        peer.set_local_description(now, answer.clone()).expect("its own answer");
        offering.accept_answer(0, &answer.sdp).expect("a good answer")
    };

    let first = round(&mut offering, &mut peer);
    assert!(first.remote.sctp.is_some() && first.send.is_empty());
    assert_eq!(offering.make_offer(), None, "nothing new");
    assert_eq!(offering.accept_answer(0, "").err(), Some(SdpError::NoOffer));

    offering.subscribe(TrackId(1), MediaKind::Audio, msid());
    offering.subscribe(TrackId(2), MediaKind::Video, msid());
    let second = round(&mut offering, &mut peer);
    assert_eq!(second.mid_to_track, [("1".to_owned(), TrackId(1)), ("2".to_owned(), TrackId(2))]);
    let [(_, audio), (_, video)] = second.send.as_slice() else { panic!("two tracks") };
    assert_eq!((audio.codecs[0].pt, video.codecs[0].pt), (111, 96));
    assert_eq!(directions(&mut peer)["2"], RTCRtpTransceiverDirection::Recvonly);

    offering.unsubscribe(TrackId(2));
    offering.subscribe(TrackId(3), MediaKind::Video, msid());
    let third = round(&mut offering, &mut peer);
    assert_eq!(third.mid_to_track, [("1".to_owned(), TrackId(1)), ("3".to_owned(), TrackId(3))]);
    offering.subscribe(TrackId(4), MediaKind::Video, msid());
    let fourth = round(&mut offering, &mut peer);
    let [(TrackId(4), reused)] = fourth.send.as_slice() else { panic!("one more") };
    assert_eq!(reused.mid.as_str(), "2", "the freed line");
    assert_ne!(reused.ssrc, video.ssrc);
}

/// An offer, our answer, and the peer's consent.
fn negotiate(
    peer: &mut RTCPeerConnection,
    negotiation: &mut Negotiation,
    now: Instant,
    publish: &[Publish],
) -> Answered {
    let offer = peer.create_offer(None).expect("an offer");
    peer.set_local_description(now, offer.clone()).expect("its own offer");
    let answered = negotiation.offer(&offer.sdp, publish).expect("a good offer");
    let answer = RTCSessionDescription::answer(answered.sdp.clone()).expect("it parses");
    peer.set_remote_description(now, answer).expect("it is accepted");
    answered
}

fn directions(peer: &mut RTCPeerConnection) -> rustc_hash::FxHashMap<String, RTCRtpTransceiverDirection> {
    let ids: Vec<_> = peer.get_transceivers().collect();
    ids.into_iter()
        .filter_map(|id| {
            let transceiver = peer.rtp_transceiver(id)?;
            Some((transceiver.mid().clone()?, transceiver.current_direction()))
        })
        .collect()
}

fn camera() -> MediaStreamTrack {
    let codec =
        RTCRtpCodec { mime_type: MIME_TYPE_VP8.to_owned(), clock_rate: 90_000, ..RTCRtpCodec::default() };
    let encodings = ["q", "h", "f"].into_iter().zip(7..).map(|(rid, ssrc)| RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            rid: rid.to_owned(),
            ssrc: Some(ssrc),
            ..RTCRtpCodingParameters::default()
        },
        codec: codec.clone(),
        ..RTCRtpEncodingParameters::default()
    });
    let name = "camera".to_owned();
    MediaStreamTrack::new(name.clone(), name.clone(), name, RtpCodecKind::Video, encodings.collect())
}

fn peer(now: Instant) -> RTCPeerConnection {
    let mut media = MediaEngine::default();
    media.register_default_codecs().expect("the defaults");
    for extension in [Extension::Mid, Extension::Rid, Extension::RepairedRid] {
        let capability = RTCRtpHeaderExtensionCapability { uri: extension.uri().to_owned() };
        media.register_header_extension(capability, RtpCodecKind::Video, None).expect("a known extension");
    }
    RTCPeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        // By default it would wait for the handshake of an ICE-lite offerer, as we do.
        .with_setting_engine(
            SettingEngineBuilder::new().with_answering_dtls_role(RTCDtlsRole::Client).build(),
        )
        .with_media_engine(media)
        .with_interceptor_registry(Registry::new())
        .build(now)
        .expect("a peer connection")
}

fn config() -> NegotiationConfig {
    NegotiationConfig {
        local: IceCredentials { ufrag: "00peer".to_owned(), pwd: "p".repeat(24) },
        fingerprint: Fingerprint([7; 32]),
        candidates: vec!["127.0.0.1:7882".parse().expect("an address")],
        seed: 7,
    }
}
