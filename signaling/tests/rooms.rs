//! The rules of rooms, without sockets and in virtual time.

#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests as tests")]

#[path = "rooms/hostile.rs"]
mod hostile;
#[path = "rooms/resume.rs"]
mod resume;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use livekit_protocol::leave_request::Action;
use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, ConnectionQuality, ConnectionSettings, DataPacket, DisconnectReason,
    JoinRequest, ParticipantInfo, SessionDescription, StreamState, TrackSource, TrackType,
    UpdateParticipantMetadata, UpdateSubscription, UpdateTrackSettings, UserPacket, VideoLayer, VideoQuality,
    data_packet, participant_info,
};
use prost::Message as _;
use sfu_protocol::control::{CloseReason, FromSfu, Size, ToSfu, Wish};
use sfu_protocol::ids::{RoomId, TrackId, TransportId};
use sfu_protocol::people::{LinkQuality, Speaker};
use signaling::auth::{Claims, VideoGrant};
use signaling::clock::WallClock;
use signaling::data::DataError;
use signaling::ids::SocketId;
use signaling::limits::{Limits, PING_TIMEOUT};
use signaling::outbox::Output;
use signaling::protocol::Protocol;
use signaling::rooms::{Admission, Entered, JoinRefused, Rooms};

const SECOND: Duration = Duration::from_secs(1);

/// The rooms, a clock, and what has been put out since the last look.
struct Lesson {
    rooms: Rooms,
    now: Instant,
    told: HashMap<SocketId, Vec<Response>>,
    closed: Vec<SocketId>,
    commands: Vec<ToSfu>,
    transports: HashMap<SocketId, TransportId>,
}

impl Lesson {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let now = Instant::now();
        let clock = WallClock::new(now, Duration::from_secs(1_800_000_000));
        Self {
            rooms: Rooms::new(limits, clock, 1),
            now,
            told: HashMap::new(),
            closed: Vec::new(),
            commands: Vec::new(),
            transports: HashMap::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::ToClient { socket, message } => self.told.entry(socket).or_default().push(*message),
                Output::Close { socket } => self.closed.push(socket),
                Output::ToSfu(_, command) => self.commands.push(command),
            }
        }
    }

    /// Joins; the socket's number is the participant's.
    fn join(
        &mut self,
        number: u64,
        grant: VideoGrant,
        request: JoinRequest,
    ) -> Result<SocketId, JoinRefused> {
        let socket = SocketId(number);
        let claims = Claims { sub: format!("p{number}"), video: Some(grant), ..Claims::default() };
        let result = self.rooms.join(self.now, Admission { socket, claims, request, protocol: Protocol::V1 });
        self.drain();
        let opened = self.commands.iter().rev().find_map(|command| match command {
            ToSfu::OpenTransport { transport, .. } => Some(*transport),
            _ => None,
        });
        if let (Ok(Entered::Joined), Some(transport)) = (result, opened) {
            self.transports.insert(socket, transport);
        }
        result.map(|_| socket)
    }

    /// Joins with everything allowed, offers, and is answered.
    fn enter(&mut self, number: u64) -> SocketId {
        let socket = self.join(number, grant(), offering()).unwrap();
        self.answer(socket, &[]);
        socket
    }

    /// The room that was opened first.
    fn room(&self) -> RoomId {
        let opened = self.commands.iter().find_map(|command| match command {
            ToSfu::OpenRoom { room } => Some(*room),
            _ => None,
        });
        opened.expect("somebody has joined")
    }

    fn ask(&mut self, socket: SocketId, request: Request) {
        self.rooms.handle_request(self.now, socket, Some(request));
        self.drain();
    }

    fn sfu(&mut self, event: FromSfu) -> Result<(), DataError> {
        let result = self.rooms.handle_sfu(self.now, event);
        self.drain();
        result
    }

    fn answer(&mut self, socket: SocketId, tracks: &[TrackId]) {
        let mids = tracks.iter().enumerate().map(|(mid, track)| (mid.to_string(), *track)).collect();
        let transport = self.transports[&socket];
        self.sfu(FromSfu::Answer { transport, offer_id: 1, sdp: "v=0".into(), mid_to_track: mids }).unwrap();
    }

    /// Announces a track, offers it, and has it answered; returns its id and sid.
    fn publish(&mut self, socket: SocketId, request: AddTrackRequest) -> (TrackId, String) {
        self.ask(socket, Request::AddTrack(request));
        let sid = self
            .take(socket, |message| match message {
                Response::TrackPublished(published) => Some(published.track.unwrap().sid),
                _ => None,
            })
            .pop()
            .unwrap();
        self.ask(socket, Request::Offer(offer()));
        let track = self.offered().pop().unwrap();
        self.answer(socket, &[track]);
        (track, sid)
    }

    /// The tracks of the latest offer.
    fn offered(&self) -> Vec<TrackId> {
        let offers = self.commands.iter().rev().find_map(|command| match command {
            ToSfu::Offer { publish, .. } => Some(publish.iter().map(|publish| publish.track).collect()),
            _ => None,
        });
        offers.unwrap_or_default()
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(wake) = self.rooms.poll_timeout().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.rooms.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Takes what a client was told, of one kind.
    fn take<T>(&mut self, socket: SocketId, what: impl Fn(Response) -> Option<T>) -> Vec<T> {
        self.told.remove(&socket).unwrap_or_default().into_iter().filter_map(what).collect()
    }

    fn updates(&mut self, socket: SocketId) -> Vec<ParticipantInfo> {
        let updates = self.take(socket, |message| match message {
            Response::Update(update) => Some(update.participants),
            _ => None,
        });
        updates.into_iter().flatten().collect()
    }

    fn leave(&mut self, socket: SocketId) -> (Action, DisconnectReason) {
        let leaves = self.take(socket, |message| match message {
            Response::Leave(leave) => Some((leave.action(), leave.reason())),
            _ => None,
        });
        leaves[0]
    }

    fn commands<T>(&mut self, what: impl Fn(ToSfu) -> Option<T>) -> Vec<T> {
        std::mem::take(&mut self.commands).into_iter().filter_map(what).collect()
    }

    fn subscribed(&mut self) -> Vec<(TransportId, TrackId)> {
        self.commands(|command| match command {
            ToSfu::Subscribe { transport, track, .. } => Some((transport, track)),
            _ => None,
        })
    }
}

fn grant() -> VideoGrant {
    VideoGrant {
        room_join: true,
        room: "algebra".into(),
        can_update_own_metadata: Some(true),
        ..VideoGrant::default()
    }
}

fn offer() -> SessionDescription {
    SessionDescription { r#type: "offer".into(), sdp: "v=0".into(), id: 1, ..Default::default() }
}

fn offering() -> JoinRequest {
    JoinRequest { publisher_offer: Some(offer()), ..JoinRequest::default() }
}

fn camera() -> AddTrackRequest {
    AddTrackRequest {
        cid: "cam".into(),
        r#type: TrackType::Video.into(),
        source: TrackSource::Camera.into(),
        ..AddTrackRequest::default()
    }
}

#[test]
fn a_late_comer_wants_what_is_there_before_its_first_offer() {
    let mut lesson = Lesson::new();
    let ana = lesson.enter(1);
    let (track, sid) = lesson.publish(ana, camera());
    lesson.commands.clear();

    let firefox = ClientInfo { browser: "Firefox".into(), ..ClientInfo::default() };
    let ben = lesson.join(2, grant(), JoinRequest { client_info: Some(firefox), ..offering() }).unwrap();
    let [
        ToSfu::OpenTransport { .. },
        ToSfu::Subscribe { transport, track: wanted, msid },
        ToSfu::Offer { .. },
    ] = lesson.commands.as_slice()
    else {
        panic!("{:?}", lesson.commands)
    };
    assert_eq!((*transport, *wanted), (lesson.transports[&ben], track));
    assert!(msid.stream.ends_with(&format!("|{sid}")), "Firefox needs a stream for each track");
    let told = lesson.told.remove(&ben).unwrap();
    let Response::Join(join) = &told[0] else { panic!("the join response comes first") };
    assert_eq!(join.other_participants[0].tracks[0].sid, sid);

    lesson.answer(ben, &[track]);
    let mids = lesson.take(ben, |message| match message {
        Response::Answer(answer) => Some(answer.mid_to_track_id),
        _ => None,
    });
    assert_eq!(mids[0]["0"], sid);
}

#[test]
fn wishes_count_where_the_client_does_not_take_everything() {
    let mut lesson = Lesson::new();
    let ana = lesson.enter(1);
    let settings = ConnectionSettings { auto_subscribe: false, ..ConnectionSettings::default() };
    let ben =
        lesson.join(2, grant(), JoinRequest { connection_settings: Some(settings), ..offering() }).unwrap();
    let (track, sid) = lesson.publish(ana, camera());
    let to_ben = lesson.transports[&ben];
    assert_eq!(lesson.subscribed(), []);

    let wish = |subscribe, sid: &str| {
        Request::Subscription(UpdateSubscription {
            track_sids: vec![sid.to_owned()],
            subscribe,
            ..UpdateSubscription::default()
        })
    };
    lesson.ask(ben, wish(true, &sid));
    lesson.ask(ben, wish(true, &sid));
    assert_eq!(lesson.subscribed(), [(to_ben, track)], "once");
    lesson.ask(ben, wish(false, &sid));
    lesson.ask(ben, wish(false, &sid));
    assert_eq!(lesson.commands, [ToSfu::Unsubscribe { transport: to_ben, track }], "once");

    lesson.told.clear();
    lesson.ask(ben, wish(true, "TR_none"));
    assert!(matches!(lesson.told[&ben][..], [Response::SubscriptionResponse(_)]));
}

#[test]
fn a_track_that_the_answer_no_longer_carries_has_ended() {
    let mut lesson = Lesson::new();
    let (ana, ben) = (lesson.enter(1), lesson.enter(2));
    let (track, sid) = lesson.publish(ana, camera());
    assert_eq!(lesson.updates(ben).pop().unwrap().tracks[0].sid, sid);
    lesson.commands.clear();

    lesson.ask(ana, Request::Offer(offer()));
    lesson.answer(ana, &[]);
    let ended = lesson.take(ana, |message| match message {
        Response::TrackUnpublished(ended) => Some(ended.track_sid),
        _ => None,
    });
    assert_eq!(ended, [sid]);
    assert_eq!(lesson.updates(ben).pop().unwrap().tracks, []);
    let unpublished = lesson.commands(|command| match command {
        ToSfu::Unpublish { track } => Some(track),
        _ => None,
    });
    assert_eq!(unpublished, [track]);

    let (again, _) = lesson.publish(ana, camera());
    assert_ne!(again, track, "the same camera again is a new track");
}

#[test]
fn the_token_decides_what_is_sent_and_received() {
    let mut lesson = Lesson::new();
    let ana = lesson.enter(1);
    let mute = VideoGrant { can_publish: Some(false), can_subscribe: Some(false), ..grant() };
    let ben = lesson.join(2, mute, offering()).unwrap();
    lesson.ask(ben, Request::AddTrack(camera()));
    let refused = lesson.take(ben, |message| match message {
        Response::RequestResponse(response) => Some(response.reason()),
        _ => None,
    });
    assert_eq!(refused, [Reason::NotAllowed]);
    lesson.publish(ana, camera());
    assert_eq!(lesson.subscribed(), []);
    let packet =
        FromSfu::Data { transport: lesson.transports[&ben], channel: "_lossy".into(), bytes: vec![] };
    assert_eq!(lesson.sfu(packet), Err(DataError::NotAllowed));
}

#[test]
fn nobody_sees_who_is_hidden() {
    let mut lesson = Lesson::new();
    let ana = lesson.enter(1);
    let inspector = lesson.join(2, VideoGrant { hidden: true, ..grant() }, offering()).unwrap();
    lesson.answer(inspector, &[]);
    lesson.publish(inspector, camera());
    lesson.ask(inspector, Request::Leave(Default::default()));
    assert_eq!(lesson.updates(ana), []);
    assert_eq!(lesson.subscribed(), []);
}

#[test]
fn a_muted_announcement_is_muted_at_the_sfu_once_it_is_carried() {
    let mut lesson = Lesson::new();
    let ana = lesson.enter(1);
    let (track, _) = lesson.publish(ana, AddTrackRequest { muted: true, ..camera() });
    assert_eq!(lesson.commands.last(), Some(&ToSfu::SetMuted { track, muted: true }));
}

#[test]
fn a_repeated_announcement_gets_the_same_track_and_a_forgotten_one_makes_room() {
    let mut lesson = Lesson::with(Limits { tracks: 2, ..Limits::default() });
    let ana = lesson.enter(1);
    let announce = |lesson: &mut Lesson, cid: &str| {
        lesson.ask(ana, Request::AddTrack(AddTrackRequest { cid: cid.into(), ..camera() }));
        let sids = lesson.take(ana, |message| match message {
            Response::TrackPublished(published) => Some(Ok(published.track.unwrap().sid)),
            Response::RequestResponse(response) => Some(Err(response.reason())),
            _ => None,
        });
        sids.into_iter().next().unwrap()
    };
    let first = announce(&mut lesson, "a").unwrap();
    assert_eq!(announce(&mut lesson, "a"), Ok(first.clone()));
    announce(&mut lesson, "b").unwrap();
    announce(&mut lesson, "c").unwrap();
    assert_ne!(announce(&mut lesson, "a"), Ok(first), "the oldest had to go");
    lesson.ask(ana, Request::Offer(offer()));
    let carried = lesson.offered();
    lesson.answer(ana, &carried);
    assert_eq!(announce(&mut lesson, "d"), Err(Reason::LimitExceeded), "carried ones stay");
}

#[test]
fn a_lost_participant_stays_a_while_and_an_empty_room_too() {
    let mut lesson = Lesson::with(Limits { absence: 20 * SECOND, ..Limits::default() });
    let (ana, ben) = (lesson.enter(1), lesson.enter(2));
    lesson.told.clear();
    lesson.rooms.handle_lost(lesson.now, ben);
    for _ in 0..19 {
        lesson.pass(SECOND);
        lesson.ask(ana, Request::Ping(1));
    }
    assert_eq!(lesson.updates(ana), [], "still there");
    lesson.pass(SECOND);
    let gone = lesson.updates(ana).pop().unwrap();
    assert_eq!((gone.identity.as_str(), gone.state()), ("p2", participant_info::State::Disconnected));

    lesson.ask(ana, Request::Leave(Default::default()));
    assert_eq!(lesson.closed, [ana]);
    lesson.commands.clear();
    lesson.pass(20 * SECOND);
    assert!(matches!(lesson.commands[..], [ToSfu::CloseRoom { .. }]));
    assert_eq!((lesson.rooms.census().rooms, lesson.rooms.poll_timeout()), (0, None));
}

#[test]
fn a_silent_websocket_is_closed_and_its_participant_then_given_up() {
    let mut lesson = Lesson::new();
    let ana = lesson.enter(1);
    lesson.pass(PING_TIMEOUT - SECOND);
    lesson.ask(ana, Request::Ping(1));
    lesson.pass(PING_TIMEOUT - SECOND);
    assert_eq!(lesson.closed, []);
    lesson.pass(SECOND);
    assert_eq!((&lesson.closed[..], lesson.rooms.census().participants), (&[ana][..], 1));
    lesson.pass(60 * SECOND);
    assert_eq!(lesson.rooms.census().participants, 0);
}

#[test]
fn a_participant_that_comes_back_before_that_replaces_itself() {
    let mut lesson = Lesson::new();
    let ben = lesson.enter(2);
    lesson.rooms.handle_lost(lesson.now, ben);
    let claims = Claims { sub: "p2".into(), video: Some(grant()), ..Claims::default() };
    let admission = Admission { socket: SocketId(9), claims, request: offering(), protocol: Protocol::V1 };
    lesson.rooms.join(lesson.now, admission).unwrap();
    for _ in 0..3 {
        lesson.pass(10 * SECOND);
        lesson.ask(SocketId(9), Request::Ping(1));
    }
    assert_eq!(lesson.rooms.census().participants, 1);
}

#[test]
fn a_closed_transport_ends_the_session_as_its_reason_says() {
    let cases = [
        (CloseReason::ConsentExpired, Some((Action::Reconnect, DisconnectReason::MediaFailure))),
        (CloseReason::ClosedByPeer, Some((Action::Reconnect, DisconnectReason::MediaFailure))),
        (CloseReason::Shutdown, Some((Action::Reconnect, DisconnectReason::ServerShutdown))),
        (CloseReason::HandshakeFailed, Some((Action::Disconnect, DisconnectReason::MediaFailure))),
        (CloseReason::NoCapacity, Some((Action::Disconnect, DisconnectReason::JoinFailure))),
        (CloseReason::Requested, None),
    ];
    for (reason, farewell) in cases {
        let mut lesson = Lesson::new();
        let ana = lesson.enter(1);
        lesson.sfu(FromSfu::TransportClosed { transport: lesson.transports[&ana], reason }).unwrap();
        match farewell {
            Some(farewell) => assert_eq!(lesson.leave(ana), farewell, "{reason:?}"),
            None => assert_eq!(lesson.rooms.census().participants, 1, "{reason:?}"),
        }
    }
}

#[test]
fn an_offer_rejected_later_asks_the_client_to_join_anew() {
    let mut lesson = Lesson::new();
    let ana = lesson.enter(1);
    lesson.ask(ana, Request::Offer(offer()));
    let transport = lesson.transports[&ana];
    lesson.sfu(FromSfu::OfferRejected { transport, offer_id: 1, reason: "no".into() }).unwrap();
    assert_eq!(lesson.leave(ana), (Action::Reconnect, DisconnectReason::MediaFailure));
}

#[test]
fn data_reaches_whom_it_is_for() {
    let mut lesson = Lesson::new();
    let sockets: Vec<_> = (1..=3).map(|number| lesson.enter(number)).collect();
    let transports: Vec<_> = sockets.iter().map(|socket| lesson.transports[socket]).collect();
    for (destinations, expected) in [(&[][..], vec![1, 2]), (&["p3"][..], vec![2]), (&["nobody"][..], vec![])]
    {
        let packet = DataPacket {
            destination_identities: destinations.iter().map(|name| (*name).to_owned()).collect(),
            value: Some(data_packet::Value::User(UserPacket::default())),
            ..DataPacket::default()
        };
        let (channel, bytes) = ("_lossy".to_owned(), packet.encode_to_vec());
        lesson.commands.clear();
        lesson.sfu(FromSfu::Data { transport: transports[0], channel, bytes }).unwrap();
        let sent = lesson.commands(|command| match command {
            ToSfu::SendData { recipients, channel, .. } if channel == "_lossy" => Some(recipients),
            _ => None,
        });
        let expected: Vec<_> = expected.into_iter().map(|index: usize| transports[index]).collect();
        assert_eq!(sent.concat(), expected, "{destinations:?}");
    }
    let stray =
        |transport, channel: &str| FromSfu::Data { transport, channel: channel.into(), bytes: vec![] };
    assert_eq!(lesson.sfu(stray(TransportId(99), "_lossy")), Err(DataError::UnknownSender));
    assert_eq!(lesson.sfu(stray(transports[0], "_data_track")), Err(DataError::UnknownChannel));
}

#[test]
fn a_change_of_ones_name_reaches_everyone_with_a_newer_version() {
    let mut lesson = Lesson::new();
    let (ana, ben) = (lesson.enter(1), lesson.enter(2));
    let before = lesson.updates(ana).pop().map_or(1, |info| info.version);
    lesson.told.clear();
    let update = UpdateParticipantMetadata {
        name: "Ben B".into(),
        attributes: HashMap::from([("lectern.role".into(), "teacher".into())]),
        request_id: 7,
        ..UpdateParticipantMetadata::default()
    };
    lesson.ask(ben, Request::UpdateMetadata(update));
    let granted = |message: &Response| match message {
        Response::RequestResponse(response) => response.reason() == Reason::Ok && response.request_id == 7,
        _ => false,
    };
    assert!(lesson.told[&ben].iter().any(granted));
    for socket in [ana, ben] {
        let info = lesson.updates(socket).pop().unwrap();
        assert_eq!((info.name.as_str(), info.attributes.len()), ("Ben B", 0), "the role is the token's");
        assert!(info.version > before);
    }
}

#[test]
fn refused_joins_say_what_to_do() {
    let mut lesson = Lesson::with(Limits { rooms: 1, participants: 2, ..Limits::default() });
    lesson.enter(1);
    lesson.enter(2);
    let elsewhere = VideoGrant { room: "biology".into(), ..grant() };
    let long = VideoGrant { room: "x".repeat(257), ..grant() };
    let again = Action::Reconnect;
    let cases = [
        (grant(), JoinRefused::RoomFull, Action::Disconnect, DisconnectReason::JoinFailure),
        (elsewhere.clone(), JoinRefused::TooManyRooms, Action::Disconnect, DisconnectReason::JoinFailure),
        (long, JoinRefused::TooLong, Action::Disconnect, DisconnectReason::JoinFailure),
    ];
    for (grant, refused, action, reason) in cases {
        assert_eq!(lesson.join(3, grant, offering()), Err(refused));
        assert_eq!(lesson.leave(SocketId(3)), (action, reason), "{refused:?}");
    }
    let resume = JoinRequest { reconnect: true, ..offering() };
    assert_eq!(lesson.join(3, grant(), resume), Err(JoinRefused::NoSession));
    assert_eq!(lesson.leave(SocketId(3)), (again, DisconnectReason::StateMismatch));
    lesson.sfu(FromSfu::Draining).unwrap();
    assert_eq!(lesson.join(3, elsewhere, offering()), Err(JoinRefused::Draining));
    assert_eq!(lesson.leave(SocketId(3)), (again, DisconnectReason::ServerShutdown));
    assert_eq!(lesson.rooms.census().participants, 2);
}

#[test]
fn a_school_shares_its_link_and_others_have_their_own() {
    let mut lesson = Lesson::new();
    let mut link = |number: u64, attributes: &[(&str, &str)]| {
        let attributes = attributes.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let claims =
            Claims { sub: number.to_string(), attributes, video: Some(grant()), ..Claims::default() };
        let admission =
            Admission { socket: SocketId(number), claims, request: offering(), protocol: Protocol::V1 };
        lesson.rooms.join(lesson.now, admission).unwrap();
        lesson.drain();
        let links = lesson.commands(|command| match command {
            ToSfu::OpenTransport { link, .. } => Some(link),
            _ => None,
        });
        links[0].clone()
    };
    assert_eq!(link(1, &[("lectern.school", "Hill")]), "Hill");
    assert_eq!(link(2, &[("lectern.school", "Hill"), ("lectern.link", "Hill 2")]), "Hill 2");
    assert_ne!(link(3, &[]), link(4, &[]));
}

/// Who a client was told speaks or does not: sid, level, active.
fn speakers(lesson: &mut Lesson, socket: SocketId) -> Vec<(String, f32, bool)> {
    let changes = lesson.take(socket, |message| match message {
        Response::SpeakersChanged(changed) => Some(changed.speakers),
        _ => None,
    });
    changes.into_iter().flatten().map(|speaker| (speaker.sid, speaker.level, speaker.active)).collect()
}

#[test]
fn clients_are_told_what_changed_about_who_speaks() {
    let mut lesson = Lesson::new();
    let (ana, ben) = (lesson.enter(1), lesson.enter(2));
    let deaf = lesson.join(3, VideoGrant { can_subscribe: Some(false), ..grant() }, offering()).unwrap();
    let hidden = lesson.join(4, VideoGrant { hidden: true, ..grant() }, offering()).unwrap();
    let room = lesson.room();
    lesson.commands.clear();
    let [a, b, h] = [ana, ben, hidden].map(|socket| lesson.transports[&socket]);
    let sids = [ana, ben].map(|socket| {
        let joined = lesson.take(socket, |message| match message {
            Response::Join(join) => Some(join.participant.unwrap().sid),
            _ => None,
        });
        joined[0].clone()
    });
    let [ana_sid, ben_sid] = sids;
    lesson.told.clear();

    let is = |sid: &String, level: f32| (sid.clone(), level, level > 0.0);
    for (speaking, told) in [
        (vec![(a, 2)], vec![is(&ana_sid, 0.25)]),
        (vec![(a, 2), (b, 8)], vec![is(&ben_sid, 1.0)]),
        (vec![(a, 3), (b, 8), (h, 8)], vec![is(&ana_sid, 0.375)]),
        (vec![(b, 8)], vec![is(&ana_sid, 0.0)]),
        (vec![(b, 8)], vec![]),
    ] {
        let named = speaking.iter().map(|&(transport, level)| Speaker { transport, level });
        lesson.sfu(FromSfu::Speakers { room, speakers: named.collect() }).unwrap();
        for socket in [ana, ben, hidden] {
            assert_eq!(speakers(&mut lesson, socket), told, "{speaking:?}");
        }
        assert_eq!(speakers(&mut lesson, deaf), []);
    }
    let late = lesson.enter(5);
    assert_eq!(speakers(&mut lesson, late), [is(&ben_sid, 1.0)]);
    lesson.sfu(FromSfu::Speakers { room: RoomId(u64::MAX), speakers: Vec::new() }).unwrap();
}

#[test]
fn clients_are_told_how_good_the_links_are() {
    let mut lesson = Lesson::new();
    let (ana, ben) = (lesson.enter(1), lesson.enter(2));
    let hidden = lesson.join(3, VideoGrant { hidden: true, ..grant() }, offering()).unwrap();
    let room = lesson.room();
    lesson.commands.clear();
    lesson.told.clear();
    let scores =
        [(lesson.transports[&ana], 100), (lesson.transports[&ben], 20), (lesson.transports[&hidden], 50)];
    let gone = (TransportId(u64::MAX), 0);
    let links = scores.into_iter().chain([gone]).map(|(transport, score)| LinkQuality {
        transport,
        score,
        rtt_ms: Some(80),
        loss: 0,
    });
    lesson.sfu(FromSfu::LinkQuality { room, links: links.collect() }).unwrap();
    let (excellent, poor, good) =
        (ConnectionQuality::Excellent, ConnectionQuality::Poor, ConnectionQuality::Good);
    for (socket, expected) in [
        (ana, vec![(excellent, 5.0), (poor, 1.8)]),
        (ben, vec![(excellent, 5.0), (poor, 1.8)]),
        (hidden, vec![(excellent, 5.0), (poor, 1.8), (good, 3.0)]),
    ] {
        let told = lesson.take(socket, |message| match message {
            Response::ConnectionQuality(update) => Some(update.updates),
            _ => None,
        });
        let told: Vec<_> = told[0].iter().map(|link| (link.quality(), link.score)).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn a_publisher_is_told_once_that_its_track_is_received() {
    let mut lesson = Lesson::new();
    let (ana, ben) = (lesson.enter(1), lesson.enter(2));
    let (track, sid) = lesson.publish(ana, camera());
    let told = |lesson: &mut Lesson| {
        lesson.take(ana, |message| match message {
            Response::TrackSubscribed(subscribed) => Some(subscribed.track_sid),
            _ => None,
        })
    };
    assert_eq!(told(&mut lesson), Vec::<String>::new(), "its own answer is no receiver's");
    lesson.answer(ben, &[track]);
    assert_eq!(told(&mut lesson), [sid]);
    let late = lesson.enter(3);
    for receiver in [ben, late] {
        lesson.answer(receiver, &[track]);
    }
    assert_eq!(told(&mut lesson), Vec::<String>::new());
}

/// A camera in three layers, as `livekit-client` announces it.
fn simulcast() -> AddTrackRequest {
    let layer = |(quality, height): (VideoQuality, u32)| VideoLayer {
        quality: quality.into(),
        width: height / 9 * 16,
        height,
        ..VideoLayer::default()
    };
    let layers = [(VideoQuality::Low, 180), (VideoQuality::Medium, 360), (VideoQuality::High, 720)];
    AddTrackRequest { layers: layers.map(layer).to_vec(), ..camera() }
}

/// Shown that high; 0: not at all.
fn shown(sid: &str, height: u32) -> Request {
    Request::TrackSetting(UpdateTrackSettings {
        track_sids: vec![sid.to_owned()],
        disabled: height == 0,
        width: height / 9 * 16,
        height,
        ..UpdateTrackSettings::default()
    })
}

fn wishes(lesson: &mut Lesson) -> Vec<(TransportId, Wish)> {
    lesson.commands(|command| match command {
        ToSfu::SetWish { transport, wish, .. } => Some((transport, wish)),
        _ => None,
    })
}

/// Up to which quality a publisher was told to send, each time.
fn demands(lesson: &mut Lesson, publisher: SocketId) -> Vec<usize> {
    lesson.take(publisher, |message| match message {
        Response::SubscribedQualityUpdate(update) => {
            let [codec] = &update.subscribed_codecs[..] else { panic!("one codec") };
            assert_eq!(codec.codec, "vp8");
            let enabled: Vec<_> = codec.qualities.iter().map(|quality| quality.enabled).collect();
            assert!(enabled.is_sorted_by(|a, b| a >= b), "{enabled:?}");
            Some(enabled.iter().filter(|enabled| **enabled).count())
        }
        _ => None,
    })
}

#[test]
fn the_size_of_a_tile_becomes_a_wish() {
    let mut lesson = Lesson::new();
    let (ana, ben) = (lesson.enter(1), lesson.enter(2));
    let (_, sid) = lesson.publish(ana, simulcast());
    assert_eq!(wishes(&mut lesson), [], "who says nothing gets the best");
    let size = Some(Size { width: 320, height: 180 });
    let small = Wish { size, ..Wish::default() };
    for (request, expected) in [
        (shown(&sid, 180), Some(small)),
        (shown(&sid, 180), None),
        (shown("TR_other", 180), None),
        // Without a size the quality counts, of which the lowest is the default.
        (shown(&sid, 0), Some(Wish { paused: true, ..small })),
    ] {
        lesson.ask(ben, request.clone());
        let of_ben: Vec<_> = expected.map(|wish| (lesson.transports[&ben], wish)).into_iter().collect();
        assert_eq!(wishes(&mut lesson), of_ben, "{request:?}");
    }
    lesson.ask(ana, shown(&sid, 180));
    assert_eq!(wishes(&mut lesson), [], "nobody receives a track of its own");
}

#[test]
fn a_client_that_will_say_how_large_it_shows_tracks_gets_the_smallest_until_then() {
    let mut lesson = Lesson::new();
    let ana = lesson.enter(1);
    lesson.publish(ana, simulcast());
    let settings =
        ConnectionSettings { auto_subscribe: true, adaptive_stream: true, ..ConnectionSettings::default() };
    lesson.join(2, grant(), JoinRequest { connection_settings: Some(settings), ..offering() }).unwrap();
    let smallest = Wish { size: Some(Size { width: 0, height: 0 }), ..Wish::default() };
    assert_eq!(wishes(&mut lesson), [(lesson.transports[&SocketId(2)], smallest)]);
}

#[test]
fn layers_that_nobody_receives_stop_after_a_while_and_start_at_once() {
    let mut lesson = Lesson::new();
    let ana = lesson.enter(1);
    let (_, sid) = lesson.publish(ana, simulcast());
    lesson.pass(4 * SECOND);
    assert!(demands(&mut lesson, ana).is_empty());
    lesson.pass(2 * SECOND);
    assert_eq!(demands(&mut lesson, ana), [0], "nobody is there");

    let (ben, eva) = (lesson.enter(2), lesson.enter(3));
    assert_eq!(demands(&mut lesson, ana), [3], "who says nothing gets the best");
    for socket in [ben, eva] {
        lesson.ask(socket, shown(&sid, 180));
    }
    lesson.pass(3 * SECOND);
    lesson.ask(ben, shown(&sid, 700));
    lesson.pass(3 * SECOND);
    assert!(demands(&mut lesson, ana).is_empty(), "it was wanted again in time");
    lesson.ask(ben, shown(&sid, 200));
    lesson.ask(ana, Request::Ping(0));
    lesson.pass(6 * SECOND);
    assert_eq!(demands(&mut lesson, ana), [2]);
    lesson.ask(eva, shown(&sid, 2000));
    assert_eq!(demands(&mut lesson, ana), [3]);
    lesson.ask(eva, Request::Leave(livekit_protocol::LeaveRequest::default()));
    for socket in [ana, ben] {
        lesson.ask(socket, Request::Ping(0));
    }
    lesson.pass(6 * SECOND);
    assert_eq!(demands(&mut lesson, ana), [2]);
    lesson.ask(ben, shown(&sid, 0));
    lesson.pass(6 * SECOND);
    assert_eq!(demands(&mut lesson, ana), [0]);
}

#[test]
fn a_client_is_told_when_a_picture_pauses() {
    let mut lesson = Lesson::new();
    let (ana, ben) = (lesson.enter(1), lesson.enter(2));
    let (track, sid) = lesson.publish(ana, simulcast());
    let transport = lesson.transports[&ben];
    for (of, paused) in [(track, true), (track, false), (TrackId(u64::MAX), true)] {
        lesson.sfu(FromSfu::StreamState { transport, track: of, paused }).unwrap();
    }
    let told = lesson.take(ben, |message| match message {
        Response::StreamStateUpdate(update) => Some(update.stream_states),
        _ => None,
    });
    let told: Vec<_> = told.iter().flatten().map(|info| (info.track_sid.clone(), info.state())).collect();
    assert_eq!(told, [(sid.clone(), StreamState::Paused), (sid, StreamState::Active)]);
}
