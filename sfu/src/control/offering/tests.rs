//! A client that offers on one transport and answers on another, without a worker.

use sfu_core::command::Command;
use sfu_core::transport::params::{DtlsRole, Fingerprint};
use sfu_protocol::control::{Delivery, Publish, Source, ToSfu};
use sfu_protocol::ids::RoomId;

use super::super::rooms::RoomsConfig;
use super::*;

const ROOM: RoomId = RoomId(1);
const TEACHER: TransportId = TransportId(10);
const PUPIL: TransportId = TransportId(11);
const VOICE: TrackId = TrackId(20);

fn rooms() -> Rooms {
    let mut rooms = Rooms::new(RoomsConfig {
        workers: 1,
        candidates: vec!["203.0.113.7:7882".parse().unwrap()],
        fingerprint: Fingerprint([7; 32]),
        max_participants_per_room: 2,
    });
    rooms.handle_command(ToSfu::OpenRoom { room: ROOM });
    rooms.poll_command().expect("the worker opens the room");
    rooms.handle_command(ToSfu::OpenTransport { room: ROOM, transport: TEACHER, link: String::new() });
    rooms.handle_command(ToSfu::OpenOffering {
        room: ROOM,
        transport: PUPIL,
        link: String::new(),
        channels: vec![DataChannel { label: "_reliable".to_owned(), delivery: Delivery::Reliable }],
    });
    rooms
}

/// What is ordered of the worker, and told to signaling.
fn drain(rooms: &mut Rooms) -> (Vec<Command>, Vec<FromSfu>) {
    rooms.settle();
    let commands = std::iter::from_fn(|| rooms.poll_command()).map(|(_, command)| command).collect();
    (commands, std::iter::from_fn(|| rooms.poll_event()).collect())
}

/// The one offer that is out now.
fn offer(rooms: &mut Rooms) -> (u32, String, Vec<(String, TrackId)>) {
    let (commands, events) = drain(rooms);
    assert!(commands.is_empty(), "{commands:?}");
    let Ok([FromSfu::Offer { transport: PUPIL, offer_id, sdp, mid_to_track }]) =
        <[FromSfu; 1]>::try_from(events)
    else {
        panic!("one offer is due")
    };
    (offer_id, sdp, mid_to_track)
}

/// An answer that takes everything.
fn answer(offer_id: u32, offer: &str) -> ToSfu {
    let sdp = offer.replace("setup:actpass", "setup:active").replace("a=sendonly", "a=recvonly");
    ToSfu::Answer { transport: PUPIL, offer_id, sdp }
}

fn speak(rooms: &mut Rooms) {
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:0\r\n\
         a=sendonly\r\na=msid:- voice\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n",
        Fingerprint([9; 32])
    );
    let (kind, source) = (MediaKind::Audio, Source::Microphone);
    let voice = Publish {
        track: VOICE,
        kind,
        source,
        cid: "voice".to_owned(),
        mid: None,
        dtx: true,
        encrypted: false,
    };
    rooms.handle_command(ToSfu::Offer { transport: TEACHER, offer_id: 1, sdp, publish: vec![voice] });
}

fn hear(rooms: &mut Rooms) {
    let msid = Msid { stream: "PA_1|TR_1".to_owned(), track: "TR_1".to_owned() };
    rooms.handle_command(ToSfu::Subscribe { transport: PUPIL, track: VOICE, msid });
}

#[test]
fn the_first_offer_comes_unasked_and_its_answer_opens_the_transport() {
    let mut rooms = rooms();
    let (id, sdp, mids) = offer(&mut rooms);
    assert!(mids.is_empty());
    rooms.handle_command(answer(id, &sdp));
    let (commands, events) = drain(&mut rooms);
    let [Command::OpenTransport { transport: PUPIL, remote, .. }] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(remote.role, DtlsRole::Client);
    assert_eq!(remote.sctp.as_ref().expect("data channels").channels[0].label, "_reliable");
    assert!(events.is_empty(), "{events:?}");
}

#[test]
fn what_changes_while_an_offer_is_out_goes_into_the_next() {
    let mut rooms = rooms();
    let (id, first, _) = offer(&mut rooms);
    hear(&mut rooms);
    speak(&mut rooms);
    let (commands, events) = drain(&mut rooms);
    assert_eq!(commands.len(), 2, "the teacher's transport and track: {commands:?}");
    assert!(matches!(events.as_slice(), [FromSfu::Answer { transport: TEACHER, .. }]), "{events:?}");

    rooms.handle_command(answer(id, &first));
    let (commands, events) = drain(&mut rooms);
    assert!(matches!(commands.as_slice(), [Command::OpenTransport { transport: PUPIL, .. }]));
    let [FromSfu::Offer { offer_id: 2, sdp: second, mid_to_track, .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(mid_to_track, &[("1".to_owned(), VOICE)]);
    rooms.handle_command(answer(2, second));
    let (commands, events) = drain(&mut rooms);
    assert!(
        matches!(commands.as_slice(), [Command::Subscribe { transport: PUPIL, track: VOICE, .. }]),
        "{commands:?}"
    );
    assert!(events.is_empty(), "{events:?}");
}

#[test]
fn a_track_that_ends_frees_its_line_by_an_offer_of_ours() {
    let mut rooms = rooms();
    let (id, sdp, _) = offer(&mut rooms);
    rooms.handle_command(answer(id, &sdp));
    speak(&mut rooms);
    drain(&mut rooms);
    hear(&mut rooms);
    let (id, sdp, _) = offer(&mut rooms);
    rooms.handle_command(answer(id, &sdp));
    drain(&mut rooms);

    rooms.handle_command(ToSfu::Unpublish { track: VOICE });
    let (commands, events) = drain(&mut rooms);
    assert!(matches!(commands.as_slice(), [Command::Unpublish { track: VOICE, .. }]), "{commands:?}");
    let [FromSfu::Offer { sdp, mid_to_track, .. }] = events.as_slice() else { panic!("{events:?}") };
    assert!(sdp.contains("a=inactive\r\n") && mid_to_track.is_empty());
}

#[test]
fn an_answer_that_cannot_be_used_is_named_and_one_that_is_not_due_ignored() {
    let mut rooms = rooms();
    let (id, sdp, _) = offer(&mut rooms);
    let ToSfu::Answer { sdp: good, .. } = answer(id, &sdp) else { unreachable!() };
    let nonsense = ToSfu::Answer { transport: PUPIL, offer_id: id, sdp: "nonsense".to_owned() };
    rooms.handle_command(nonsense);
    let (commands, events) = drain(&mut rooms);
    assert!(commands.is_empty());
    assert!(matches!(events.as_slice(), [FromSfu::AnswerRejected { offer_id: 1, .. }]), "{events:?}");
    let ignored = rooms.stats().commands_ignored;
    for (transport, offer_id) in [(PUPIL, id + 1), (TEACHER, id), (TransportId(99), id)] {
        rooms.handle_command(ToSfu::Answer { transport, offer_id, sdp: good.clone() });
    }
    let misdirected = ToSfu::Offer { transport: PUPIL, offer_id: 1, sdp: good.clone(), publish: Vec::new() };
    rooms.handle_command(misdirected);
    assert_eq!(rooms.stats().commands_ignored, ignored + 4);
    rooms.handle_command(answer(id, &sdp));
    assert_eq!(drain(&mut rooms).0.len(), 1, "the good one still counts");
}

#[test]
fn a_client_that_was_away_is_offered_new_credentials_although_it_owes_an_answer() {
    let mut rooms = rooms();
    let (first, before, _) = offer(&mut rooms);
    rooms.handle_command(ToSfu::RestartIce { transport: PUPIL });
    let (second, after, _) = offer(&mut rooms);
    let ufrag = |sdp: &str| sdp.lines().find(|line| line.starts_with("a=ice-ufrag:")).map(str::to_owned);
    assert!(second > first && ufrag(&before) != ufrag(&after));
    rooms.handle_command(answer(second, &after));
    assert_eq!(drain(&mut rooms).0.len(), 1);
}
