//! The control side without a worker: what it orders, and in which order.

use std::fmt::Write;

use sfu_core::command::{LinkQuality, Speaker};
use sfu_protocol::snapshot::{Collector, TransportSnapshot};

use super::*;

const ROOM: RoomId = RoomId(1);
const TEACHER: TransportId = TransportId(10);
const PUPIL: TransportId = TransportId(11);
const VOICE: TrackId = TrackId(20);

fn rooms() -> Rooms {
    let mut rooms = empty(1);
    rooms.handle_command(ToSfu::OpenRoom { room: ROOM });
    open(&mut rooms, TEACHER);
    open(&mut rooms, PUPIL);
    drain(&mut rooms);
    rooms
}

fn empty(workers: usize) -> Rooms {
    Rooms::new(RoomsConfig {
        candidates: vec!["203.0.113.7:7882".parse().unwrap()],
        fingerprint: Fingerprint([7; 32]),
        workers,
        max_participants_per_room: 2,
    })
}

fn open(rooms: &mut Rooms, transport: TransportId) {
    rooms.handle_command(ToSfu::OpenTransport { room: ROOM, transport, link: String::new() });
}

/// Settles and takes everything out, commands in short.
fn drain(rooms: &mut Rooms) -> (Vec<String>, Vec<FromSfu>) {
    rooms.settle();
    let commands = std::iter::from_fn(|| rooms.poll_command()).map(|(_, command)| short(&command)).collect();
    (commands, std::iter::from_fn(|| rooms.poll_event()).collect())
}

fn short(command: &Command) -> String {
    match command {
        Command::OpenTransport { transport, .. } => format!("open {transport}"),
        Command::CloseTransport { transport, reason } => format!("close {transport} {reason:?}"),
        Command::Publish { transport, track, .. } => format!("publish {transport} {track}"),
        Command::Unpublish { track, .. } => format!("unpublish {track}"),
        Command::SetMuted { track, muted, .. } => format!("muted {track} {muted}"),
        Command::SetWish { transport, track, wish } => format!("wish {transport} {track} {:?}", wish.fps),
        Command::Subscribe { transport, track, .. } => format!("subscribe {transport} {track}"),
        Command::Unsubscribe { transport, track } => format!("unsubscribe {transport} {track}"),
        other => format!("{other:?}"),
    }
}

/// An offer with one audio m-line of each direction given.
fn offer(transport: TransportId, directions: &[&str], publish: &[TrackId]) -> ToSfu {
    let mut sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE".to_owned();
    for mid in 0..directions.len() {
        write!(sdp, " {mid}").unwrap();
    }
    for (mid, direction) in directions.iter().enumerate() {
        write!(
            sdp,
            "\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
             a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:{mid}\r\n\
             a={direction}\r\na=msid:- cid{mid}\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2",
            Fingerprint([9; 32])
        )
        .unwrap();
    }
    sdp.push_str("\r\n");
    let publish = publish.iter().enumerate().map(|(mid, track)| publication(*track, mid)).collect();
    ToSfu::Offer { transport, offer_id: 1, sdp, publish }
}

fn publication(track: TrackId, mid: usize) -> Publish {
    let (kind, source) = (MediaKind::Audio, Source::Microphone);
    Publish {
        track,
        kind,
        source,
        cid: format!("cid{mid}"),
        mid: Some(mid.to_string()),
        dtx: true,
        encrypted: false,
    }
}

fn subscribe(transport: TransportId, track: TrackId) -> ToSfu {
    let msid = Msid { stream: "PA_1".to_owned(), track: format!("TR_{track}") };
    ToSfu::Subscribe { transport, track, msid }
}

fn needs(transport: TransportId, audios: u32) -> FromSfu {
    FromSfu::NegotiationNeeded { transport, audios, videos: 0 }
}

/// What the worker is told once both have joined and the pupil hears the teacher.
const LESSON: [&str; 4] = [
    "open transport-a",
    "publish transport-a track-14",
    "open transport-b",
    "subscribe transport-b track-14",
];

#[test]
fn a_track_reaches_the_worker_before_its_receivers_whatever_came_first() {
    let wish = || subscribe(PUPIL, VOICE);
    let teacher = || offer(TEACHER, &["sendonly"], &[VOICE]);
    let pupil = || offer(PUPIL, &["recvonly"], &[]);
    for (name, order) in [
        ("announced, wished, joined", [teacher(), wish(), pupil()]),
        ("wished, announced, joined", [wish(), teacher(), pupil()]),
        ("announced, joined, wished", [teacher(), pupil(), wish()]),
        ("wished, joined, announced", [wish(), pupil(), teacher()]),
        ("joined, wished, announced", [pupil(), wish(), teacher()]),
    ] {
        let mut rooms = rooms();
        let mut commands = Vec::new();
        for command in order {
            rooms.handle_command(command);
            let (ordered, events) = drain(&mut rooms);
            commands.extend(ordered);
            if events.contains(&needs(PUPIL, 0)) {
                rooms.handle_command(pupil());
            }
        }
        commands.extend(drain(&mut rooms).0);
        let place = |what: &str| commands.iter().position(|command| command == what).expect(what);
        let places = LESSON.map(place);
        assert_eq!(commands.len(), LESSON.len(), "{name}: {commands:?}");
        assert!(
            places[0] < places[1] && places[1] < places[3] && places[2] < places[3],
            "{name}: {commands:?}"
        );
        assert_eq!(rooms.stats().commands_ignored, 0, "{name}");
    }
}

/// Both have joined, the pupil hears the teacher.
fn lesson() -> Rooms {
    let mut rooms = rooms();
    rooms.handle_command(offer(TEACHER, &["sendonly"], &[VOICE]));
    rooms.handle_command(subscribe(PUPIL, VOICE));
    rooms.handle_command(offer(PUPIL, &["recvonly"], &[]));
    assert_eq!(drain(&mut rooms).0, LESSON);
    rooms
}

#[test]
fn several_subscriptions_of_one_batch_ask_for_one_negotiation() {
    let mut rooms = lesson();
    let more = [VOICE, TrackId(21), TrackId(22), TrackId(23)];
    rooms.handle_command(offer(TEACHER, &["sendonly"; 4], &more));
    for track in &more[1..] {
        rooms.handle_command(subscribe(PUPIL, *track));
    }
    let (_, events) = drain(&mut rooms);
    let asked: Vec<_> =
        events.iter().filter(|event| matches!(event, FromSfu::NegotiationNeeded { .. })).collect();
    assert_eq!(asked, [&needs(PUPIL, 3)]);
}

#[test]
fn a_track_that_pauses_and_comes_back_gets_new_numbers() {
    let ssrc =
        |rooms: &Rooms| rooms.tracks[&VOICE].receivers[&PUPIL].params.as_ref().map(|params| params.ssrc);
    let mut rooms = lesson();
    let before = ssrc(&rooms).unwrap();

    rooms.handle_command(offer(TEACHER, &["inactive"], &[]));
    let (commands, events) = drain(&mut rooms);
    assert_eq!(commands, ["unpublish track-14"]);
    assert!(events.contains(&needs(PUPIL, 0)), "{events:?}");
    rooms.handle_command(offer(PUPIL, &["recvonly"], &[]));
    assert_eq!((drain(&mut rooms).0, ssrc(&rooms)), (vec![], None));

    rooms.handle_command(offer(TEACHER, &["sendonly"], &[]));
    let (commands, events) = drain(&mut rooms);
    assert_eq!(commands, ["publish transport-a track-14"]);
    assert!(events.contains(&needs(PUPIL, 0)), "{events:?}");
    rooms.handle_command(offer(PUPIL, &["recvonly"], &[]));
    assert_eq!(drain(&mut rooms).0, ["subscribe transport-b track-14"]);
    assert_ne!(ssrc(&rooms).unwrap(), before);
}

#[test]
fn a_wish_comes_with_every_subscription_of_its_track() {
    let wish = |fps| ToSfu::SetWish {
        transport: PUPIL,
        track: VOICE,
        wish: Wish { fps: Some(fps), ..Wish::default() },
    };
    let mut rooms = rooms();
    rooms.handle_command(subscribe(PUPIL, VOICE));
    rooms.handle_command(wish(7));
    rooms.handle_command(offer(TEACHER, &["sendonly"], &[VOICE]));
    rooms.handle_command(offer(PUPIL, &["recvonly"], &[]));
    let (commands, _) = drain(&mut rooms);
    assert_eq!(commands[commands.len() - 2..], [LESSON[3], "wish transport-b track-14 Some(7)"]);
    rooms.handle_command(wish(15));
    assert_eq!(drain(&mut rooms).0, ["wish transport-b track-14 Some(15)"]);

    rooms.handle_command(offer(TEACHER, &["inactive"], &[]));
    rooms.handle_command(offer(PUPIL, &["recvonly"], &[]));
    rooms.handle_command(offer(TEACHER, &["sendonly"], &[]));
    drain(&mut rooms);
    rooms.handle_command(offer(PUPIL, &["recvonly"], &[]));
    assert_eq!(drain(&mut rooms).0, [LESSON[3], "wish transport-b track-14 Some(15)"]);

    rooms.handle_command(ToSfu::Unsubscribe { transport: PUPIL, track: VOICE });
    rooms.handle_command(wish(1));
    assert_eq!(rooms.stats().commands_ignored, 1, "it is about nothing");
}

#[test]
fn a_track_muted_before_it_comes_starts_muted() {
    let mut rooms = rooms();
    rooms.handle_command(subscribe(PUPIL, VOICE));
    rooms.handle_command(ToSfu::SetMuted { track: VOICE, muted: true });
    rooms.handle_command(offer(TEACHER, &["sendonly"], &[VOICE]));
    assert_eq!(drain(&mut rooms).0[1..], ["publish transport-a track-14", "muted track-14 true"]);
}

#[test]
fn unpublishing_frees_the_lines_of_its_receivers() {
    let mut rooms = lesson();
    rooms.handle_command(ToSfu::Unpublish { track: VOICE });
    let (commands, events) = drain(&mut rooms);
    assert_eq!((commands, events), (vec!["unpublish track-14".to_owned()], vec![needs(PUPIL, 0)]));
    assert_eq!(rooms.stats().tracks, 0);
}

#[test]
fn a_transport_that_the_worker_reports_closed_leaves_nothing_behind() {
    let mut rooms = lesson();
    let closed = |transport| FromSfu::TransportClosed { transport, reason: CloseReason::ConsentExpired };
    rooms.handle_event(Event::TransportClosed { transport: TEACHER, reason: CloseReason::ConsentExpired });
    let (commands, events) = drain(&mut rooms);
    assert_eq!((commands, events), (vec![], vec![closed(TEACHER), needs(PUPIL, 0)]));
    rooms.handle_event(Event::TransportClosed { transport: PUPIL, reason: CloseReason::ConsentExpired });
    let stats = rooms.stats();
    assert_eq!((stats.rooms, stats.transports, stats.tracks), (1, 0, 0));
    open(&mut rooms, PUPIL);
    assert_eq!(rooms.stats().transports, 1, "there is room again");
}

#[test]
fn closing_counts_until_the_worker_has_reported_it() {
    let mut rooms = lesson();
    rooms.enter(Phase::Closing);
    let (commands, _) = drain(&mut rooms);
    assert_eq!(commands, ["close transport-a Shutdown", "close transport-b Shutdown"]);
    assert_eq!(rooms.stats().transports, 2);
    for transport in [TEACHER, PUPIL] {
        rooms.handle_event(Event::TransportClosed { transport, reason: CloseReason::Shutdown });
    }
    assert_eq!(rooms.stats().transports, 0);
}

#[test]
fn a_transport_that_never_offered_is_closed_without_the_worker() {
    let mut rooms = rooms();
    rooms.handle_command(ToSfu::CloseRoom { room: ROOM });
    let (commands, events) = drain(&mut rooms);
    assert_eq!(commands, ["CloseRoom { room: room-1 }"]);
    let closed = |transport| FromSfu::TransportClosed { transport, reason: CloseReason::Requested };
    assert_eq!(events, [closed(TEACHER), closed(PUPIL)]);
}

#[test]
fn joins_are_refused_when_full_and_while_draining() {
    let late = TransportId(12);
    for (phase, reason) in
        [(Phase::Serving, CloseReason::NoCapacity), (Phase::Draining, CloseReason::Shutdown)]
    {
        let mut rooms = rooms();
        if phase == Phase::Draining {
            rooms.handle_command(ToSfu::CloseTransport { transport: PUPIL });
        }
        rooms.enter(phase);
        drain(&mut rooms);
        open(&mut rooms, late);
        assert_eq!(drain(&mut rooms).1, [FromSfu::TransportClosed { transport: late, reason }]);
    }
}

#[test]
fn a_wish_for_a_track_of_another_room_is_not_granted() {
    let mut rooms = rooms();
    let (room, stranger) = (RoomId(2), TransportId(12));
    rooms.handle_command(ToSfu::OpenRoom { room });
    rooms.handle_command(ToSfu::OpenTransport { room, transport: stranger, link: String::new() });
    rooms.handle_command(subscribe(stranger, VOICE));
    rooms.handle_command(offer(TEACHER, &["sendonly"], &[VOICE]));
    rooms.handle_command(offer(stranger, &["recvonly"], &[]));
    let (commands, _) = drain(&mut rooms);
    assert!(commands.iter().all(|command| !command.starts_with("subscribe")), "{commands:?}");
}

#[test]
fn a_useless_offer_is_rejected_and_the_transport_stays() {
    let mut rooms = lesson();
    let sdp = "v=1".to_owned();
    rooms.handle_command(ToSfu::Offer { transport: PUPIL, offer_id: 9, sdp, publish: vec![] });
    let (commands, events) = drain(&mut rooms);
    assert!(commands.is_empty());
    assert!(
        matches!(&events[..], [FromSfu::OfferRejected { transport: PUPIL, offer_id: 9, .. }]),
        "{events:?}"
    );
}

#[test]
fn an_offer_of_hundreds_of_lines_is_answered_or_rejected_and_costs_the_others_nothing() {
    let mut rooms = lesson();
    drain(&mut rooms);
    let intruder = TransportId(77);
    rooms.handle_command(ToSfu::OpenRoom { room: RoomId(2) });
    rooms.handle_command(ToSfu::OpenTransport { room: RoomId(2), transport: intruder, link: String::new() });
    drain(&mut rooms);
    let tracks: Vec<_> = (1000..1400).map(TrackId).collect();
    rooms.handle_command(offer(intruder, &["sendonly"; 400], &tracks));
    let (commands, events) = drain(&mut rooms);
    let published = commands.iter().filter(|command| command.starts_with("publish")).count();
    assert_eq!(published, MAX_PUBLISHED, "the rest is one too many");
    assert!(
        commands.iter().all(|command| !command.contains("transport-a") && !command.contains("transport-b"))
    );
    assert!(
        matches!(&events[..], [FromSfu::Answer { transport, .. }] if *transport == intruder),
        "{events:?}"
    );

    for _ in 0..10 {
        rooms.handle_command(offer(intruder, &["sendonly"; 600], &[]));
        let (commands, events) = drain(&mut rooms);
        let [FromSfu::OfferRejected { reason, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!((reason.as_str(), commands.len()), ("the description has more than 512 m-lines", 0));
    }
    assert_eq!(rooms.stats().offers_rejected, 10);
    rooms.handle_command(offer(PUPIL, &["recvonly", "recvonly"], &[]));
    assert!(matches!(&drain(&mut rooms).1[..], [FromSfu::Answer { transport: PUPIL, .. }]));
}

#[test]
fn unknown_ids_are_counted_and_harmless() {
    let (room, transport, track) = (RoomId(99), TransportId(99), TrackId(99));
    let mut rooms = lesson();
    for (count, command) in [
        ToSfu::CloseRoom { room },
        ToSfu::CloseTransport { transport },
        offer(transport, &["recvonly"], &[]),
        ToSfu::Unpublish { track },
        ToSfu::SetMuted { track, muted: true },
        subscribe(transport, VOICE),
        subscribe(PUPIL, VOICE),
        ToSfu::Unsubscribe { transport, track },
        ToSfu::Unsubscribe { transport: PUPIL, track },
        ToSfu::SendData { recipients: vec![transport], channel: "_reliable".to_owned(), bytes: vec![] },
        ToSfu::SendData {
            recipients: vec![PUPIL],
            channel: "_reliable".to_owned(),
            bytes: vec![0; MAX_DATA_BYTES + 1],
        },
    ]
    .into_iter()
    .enumerate()
    {
        rooms.handle_command(command);
        assert_eq!(rooms.stats().commands_ignored, count as u64 + 1);
        assert_eq!(drain(&mut rooms), (vec![], vec![]), "number {count}");
    }
}

#[test]
fn what_is_known_of_people_reaches_signaling_in_few_messages() {
    let mut rooms = rooms();
    let speakers = vec![Speaker { transport: TEACHER, level: 2 }];
    rooms.handle_event(Event::Speakers { room: ROOM, speakers: speakers.iter().copied().collect() });
    let link = |transport| LinkQuality { transport, score: 100, rtt_ms: None, loss: 0 };
    let of = |room, transport| Event::LinkQuality { room, links: [link(transport)].into_iter().collect() };
    for (room, transport) in [(ROOM, TEACHER), (ROOM, PUPIL), (RoomId(2), PUPIL)] {
        rooms.handle_event(of(room, transport));
    }
    assert_eq!(
        drain(&mut rooms).1,
        [
            FromSfu::Speakers { room: ROOM, speakers },
            FromSfu::LinkQuality { room: ROOM, links: vec![link(TEACHER), link(PUPIL)] },
            FromSfu::LinkQuality { room: RoomId(2), links: vec![link(PUPIL)] },
        ]
    );
    // While nobody reads.
    (0..2 * MAX_LINKS).for_each(|_| rooms.handle_event(of(ROOM, PUPIL)));
    let lengths = drain(&mut rooms).1.into_iter().map(|event| match event {
        FromSfu::LinkQuality { links, .. } => links.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [MAX_LINKS, MAX_LINKS]);
}

#[test]
fn a_room_opens_on_the_worker_with_the_fewest_transports_and_stays_there() {
    let mut rooms = empty(2);
    for (room, transports, worker) in [(1, 1, 0), (2, 2, 1), (3, 1, 0), (4, 0, 0), (5, 1, 0), (6, 0, 1)] {
        let id = RoomId(room);
        rooms.handle_command(ToSfu::OpenRoom { room: id });
        let opened = rooms.poll_command().map(|(worker, _)| worker);
        assert_eq!(opened, Some(WorkerIndex(worker)), "room {room}");
        for n in 0..transports {
            let transport = TransportId(room * 10 + n);
            rooms.handle_command(ToSfu::OpenTransport { room: id, transport, link: String::new() });
        }
    }
    rooms.handle_command(offer(TransportId(20), &["sendonly"], &[VOICE]));
    rooms.handle_command(offer(TransportId(30), &["sendonly"], &[TrackId(21)]));
    let ordered: Vec<_> = std::iter::from_fn(|| rooms.poll_command()).collect();
    assert!(ordered.len() == 4);
    for (worker, command) in ordered {
        if let Command::OpenTransport { room, local, .. } = &command {
            assert_eq!(WorkerIndex::of_ufrag(&local.ufrag), Some(worker));
            assert_eq!(worker, WorkerIndex(u16::from(*room == RoomId(2))));
        }
    }
    let recipients = vec![TransportId(20), TransportId(30), TransportId(21)];
    rooms.handle_command(ToSfu::SendData { recipients, channel: "_reliable".to_owned(), bytes: vec![1] });
    let sent: Vec<_> = std::iter::from_fn(|| rooms.poll_command()).map(|(worker, _)| worker).collect();
    assert_eq!(sent, [WorkerIndex(0), WorkerIndex(1)], "each gets its own recipients");
}

#[test]
fn a_message_to_many_reaches_each_once_and_the_worker_in_parts() {
    let mut rooms = empty(1);
    let everyone: Vec<_> = (0..40).map(TransportId).collect();
    for &transport in &everyone {
        let room = RoomId(transport.0 / 2);
        rooms.handle_command(ToSfu::OpenRoom { room });
        rooms.handle_command(ToSfu::OpenTransport { room, transport, link: String::new() });
    }
    while rooms.poll_command().is_some() {}
    for (len, parts) in [(1, &[16, 16, 8][..]), (20_000, &[3; 13]), (MAX_DATA_BYTES, &[1; 40])] {
        let (recipients, channel) = (everyone.clone(), "_reliable".to_owned());
        rooms.handle_command(ToSfu::SendData { recipients, channel, bytes: vec![0; len] });
        let sent: Vec<_> = std::iter::from_fn(|| rooms.poll_command())
            .map(|(_, command)| match command {
                Command::SendData { recipients, .. } => recipients,
                other => panic!("{other:?}"),
            })
            .collect();
        let lens: Vec<_> = sent.iter().map(Vec::len).take(parts.len()).collect();
        assert_eq!((lens, sent.concat()), (parts.to_vec(), everyone.clone()), "{len} bytes");
    }
}

#[test]
fn a_snapshot_tells_what_there_is_and_what_is_under_way() {
    let connected = |transport| Event::TransportConnected { transport, srtp_profile: "any" };
    let take = |rooms: &mut Rooms| {
        drain(rooms);
        rooms.handle_command(ToSfu::TakeSnapshot { of: 5 });
        let mut collector = Collector::new(5);
        let parts = drain(rooms).1.into_iter().filter_map(|event| match event {
            FromSfu::Snapshot { of, part } => Some((of, part)),
            _ => None,
        });
        parts.filter_map(|(of, part)| collector.push(of, part)).next().unwrap()
    };
    let transport = |transport, connected, settled, published, wanted| TransportSnapshot {
        transport,
        connected,
        settled,
        published,
        wanted,
    };
    let mut rooms = lesson();
    rooms.handle_event(connected(TEACHER));
    let teacher = transport(TEACHER, true, true, vec![VOICE], vec![]);
    let pupil = |settled| transport(PUPIL, false, settled, vec![], vec![VOICE]);
    assert_eq!(take(&mut rooms).rooms, [(ROOM, vec![teacher.clone(), pupil(true)])]);

    rooms.handle_command(ToSfu::Unsubscribe { transport: PUPIL, track: VOICE });
    rooms.handle_command(subscribe(PUPIL, VOICE));
    assert_eq!(take(&mut rooms).rooms, [(ROOM, vec![teacher, pupil(false)])], "the client has to offer");

    rooms.enter(Phase::Draining);
    drain(&mut rooms);
    rooms.handle_command(ToSfu::TakeSnapshot { of: 6 });
    assert_eq!(drain(&mut rooms).1.last(), Some(&FromSfu::Draining), "who did not hear it hears it now");
}
