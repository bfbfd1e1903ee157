//! A client whose WebSocket broke goes on with its session on another one.

use livekit_protocol::{ReconnectResponse, SyncState};

use super::*;

/// The socket of whoever comes back.
const BACK: SocketId = SocketId(90);

impl Lesson {
    /// Enters, and tells the participant's sid.
    fn enter_as(&mut self, number: u64) -> (SocketId, String) {
        let socket = self.enter(number);
        let sid = self.take(socket, |message| match message {
            Response::Join(join) => Some(join.participant.unwrap().sid),
            _ => None,
        });
        (socket, sid[0].clone())
    }

    fn resume(&mut self, socket: SocketId, identity: &str, sid: &str) -> Result<Entered, JoinRefused> {
        self.resume_in("algebra", socket, identity, sid)
    }

    fn resume_in(
        &mut self,
        room: &str,
        socket: SocketId,
        identity: &str,
        sid: &str,
    ) -> Result<Entered, JoinRefused> {
        let video = Some(VideoGrant { room: room.into(), ..grant() });
        let claims = Claims { sub: identity.into(), video, ..Claims::default() };
        let request = JoinRequest { reconnect: true, participant_sid: sid.into(), ..JoinRequest::default() };
        let result = self.rooms.join(self.now, Admission { socket, claims, request, protocol: Protocol::V1 });
        self.drain();
        result
    }

    fn lose(&mut self, socket: SocketId) {
        self.rooms.handle_lost(self.now, socket);
        self.drain();
    }

    /// Lets time pass in which these clients ping.
    fn pass_with(&mut self, seconds: u32, pinging: &[SocketId]) {
        for _ in 0..seconds {
            self.pass(SECOND);
            for socket in pinging {
                self.ask(*socket, Request::Ping(1));
            }
        }
    }

    /// What a client that came back was told, which begins with the response that it waits for.
    fn told_back(&mut self, socket: SocketId) -> (ReconnectResponse, Vec<Response>) {
        let mut told = self.told.remove(&socket).unwrap();
        let rest = told.split_off(1);
        match told.pop() {
            Some(Response::Reconnect(response)) => (response, rest),
            other => panic!("{other:?}"),
        }
    }
}

/// Identities and states of the first update.
fn people(told: &[Response]) -> Vec<(String, participant_info::State)> {
    let of = |info: &ParticipantInfo| (info.identity.clone(), info.state());
    let updates = told.iter().filter_map(|message| match message {
        Response::Update(update) => Some(update.participants.iter().map(of).collect()),
        _ => None,
    });
    updates.into_iter().next().unwrap()
}

const HERE: participant_info::State = participant_info::State::Joined;
const GONE: participant_info::State = participant_info::State::Disconnected;

fn refused() -> Result<Entered, JoinRefused> {
    Err(JoinRefused::NoSession)
}

#[test]
fn a_client_that_is_back_in_time_keeps_its_session_and_learns_what_it_missed() {
    let mut lesson = Lesson::new();
    let ((ana, _), (ben, sid), (carl, _)) = (lesson.enter_as(1), lesson.enter_as(2), lesson.enter_as(3));
    let (track, _) = lesson.publish(ben, camera());
    lesson.lose(ben);
    lesson.pass_with(30, &[ana, carl]);
    lesson.ask(carl, Request::Leave(Default::default()));
    let (dora, _) = lesson.enter_as(4);
    lesson.pass_with(29, &[ana, dora]);
    lesson.told.clear();
    lesson.commands.clear();

    assert_eq!(lesson.resume(BACK, "p2", &sid), Ok(Entered::Resumed));
    let (response, told) = lesson.told_back(BACK);
    assert!(response.server_info.is_some());
    let named = [("p3", GONE), ("p1", HERE), ("p2", HERE), ("p4", HERE)];
    assert_eq!(people(&told), named.map(|(name, state)| (name.to_owned(), state)));
    assert!(told.iter().any(|message| matches!(message, Response::RoomUpdate(_))));
    assert_eq!(lesson.commands, [], "nothing begins or ends at the SFU");
    assert!(lesson.told.is_empty(), "the others notice nothing");

    // From here on it is a client like any other; its transport restarts ICE with its next offer.
    lesson.ask(BACK, Request::Offer(offer()));
    let transport = lesson.transports[&ben];
    let [ToSfu::Offer { transport: offering, .. }] = lesson.commands[..] else {
        panic!("{:?}", lesson.commands)
    };
    assert_eq!((offering, lesson.offered()), (transport, vec![track]));
    lesson.pass_with(100, &[ana, dora, BACK]);
    assert_eq!(lesson.rooms.census().participants, 3);
}

#[test]
fn a_client_that_is_back_too_late_joins_anew() {
    let mut lesson = Lesson::new();
    let ((ana, _), (ben, sid)) = (lesson.enter_as(1), lesson.enter_as(2));
    lesson.lose(ben);
    lesson.pass_with(60, &[ana]);
    assert_eq!(lesson.resume(BACK, "p2", &sid), refused());
    assert_eq!(lesson.leave(BACK), (Action::Reconnect, DisconnectReason::StateMismatch));
    assert_eq!(lesson.closed, [BACK]);
}

#[test]
fn nobody_takes_over_what_is_not_theirs() {
    let mut lesson = Lesson::new();
    let ((ana, _), (ben, sid)) = (lesson.enter_as(1), lesson.enter_as(2));
    let elsewhere = VideoGrant { room: "biology".into(), ..grant() };
    lesson.join(3, elsewhere, offering()).unwrap();
    for (room, identity, sid) in [
        ("algebra", "p2", "PA_another"),
        ("algebra", "p2", ""),
        ("algebra", "p1", sid.as_str()),
        ("biology", "p2", sid.as_str()),
        ("nowhere", "p2", sid.as_str()),
    ] {
        assert_eq!(lesson.resume_in(room, BACK, identity, sid), refused(), "{room} {identity} {sid}");
        assert_eq!(lesson.leave(BACK), (Action::Reconnect, DisconnectReason::StateMismatch));
    }
    assert!(lesson.closed.iter().all(|closed| *closed == BACK));
    lesson.told.clear();
    for socket in [ana, ben] {
        lesson.ask(socket, Request::Ping(1));
        assert_eq!(lesson.told[&socket].len(), 1, "still there");
    }
}

#[test]
fn the_last_websocket_counts_while_the_one_before_seems_open() {
    let mut lesson = Lesson::new();
    let (ben, sid) = lesson.enter_as(2);
    let again = SocketId(91);
    for (socket, former) in [(BACK, ben), (again, BACK)] {
        assert_eq!(lesson.resume(socket, "p2", &sid), Ok(Entered::Resumed));
        assert_eq!(lesson.closed.last(), Some(&former));
        assert!(
            !lesson
                .told
                .get(&former)
                .is_some_and(|told| { told.iter().any(|message| matches!(message, Response::Leave(_))) })
        );
    }
    // What still comes from the former ones is nobody's.
    lesson.commands.clear();
    for former in [ben, BACK] {
        lesson.ask(former, Request::Leave(Default::default()));
        lesson.lose(former);
        lesson.rooms.handle_stuck(lesson.now, former);
    }
    lesson.pass_with(100, &[again]);
    assert_eq!((lesson.rooms.census().participants, lesson.commands.len()), (1, 0));
}

#[test]
fn a_session_whose_transport_ended_meanwhile_is_over() {
    let mut lesson = Lesson::new();
    let ((_, _), (ben, sid)) = (lesson.enter_as(1), lesson.enter_as(2));
    lesson.lose(ben);
    let transport = lesson.transports[&ben];
    lesson.sfu(FromSfu::TransportClosed { transport, reason: CloseReason::ConsentExpired }).unwrap();
    assert_eq!(lesson.resume(BACK, "p2", &sid), refused());
}

#[test]
fn a_room_that_empties_or_a_server_that_stops_has_no_sessions_left() {
    let mut lesson = Lesson::new();
    let (ben, sid) = lesson.enter_as(2);
    lesson.lose(ben);
    lesson.pass(60 * SECOND);
    assert_eq!((lesson.rooms.census().rooms, lesson.rooms.census().participants), (1, 0));
    assert_eq!(lesson.resume(BACK, "p2", &sid), refused());
    lesson.pass(20 * SECOND);
    assert_eq!(lesson.rooms.census().rooms, 0);
    assert_eq!(lesson.resume(BACK, "p2", &sid), refused());

    let (ben, sid) = lesson.enter_as(2);
    lesson.lose(ben);
    lesson.sfu(FromSfu::Draining).unwrap();
    assert_eq!(lesson.resume(BACK, "p2", &sid), Ok(Entered::Resumed), "lessons go on until the end");
    lesson.rooms.shut_down(lesson.now);
    lesson.drain();
    assert_eq!(lesson.resume(SocketId(91), "p2", &sid), refused());
}

#[test]
fn a_departure_told_to_a_dying_websocket_is_told_again() {
    let mut lesson = Lesson::new();
    let ((ana, _), (ben, sid)) = (lesson.enter_as(1), lesson.enter_as(2));
    let (carl, _) = lesson.enter_as(3);
    lesson.ask(ana, Request::Leave(Default::default()));
    lesson.ask(carl, Request::Leave(Default::default()));
    lesson.enter_as(3);
    lesson.pass(10 * SECOND);
    assert_eq!(lesson.resume(BACK, "p2", &sid), Ok(Entered::Resumed), "its former one was still open");
    assert_eq!(lesson.closed.last(), Some(&ben));
    let (_, told) = lesson.told_back(BACK);
    let named = [("p1", GONE), ("p2", HERE), ("p3", HERE)];
    assert_eq!(people(&told), named.map(|(name, state)| (name.to_owned(), state)), "p3 is here again");
}

#[test]
fn a_departure_told_to_websockets_that_die_at_once_is_told_until_one_lives() {
    let mut lesson = Lesson::new();
    let ((ana, _), (_, sid), (carl, _)) = (lesson.enter_as(1), lesson.enter_as(2), lesson.enter_as(3));
    lesson.ask(ana, Request::Leave(Default::default()));
    let told = |lesson: &mut Lesson, number: u64| {
        let socket = SocketId(number);
        lesson.resume(socket, "p2", &sid).unwrap();
        people(&lesson.told_back(socket).1).contains(&("p1".to_owned(), GONE))
    };
    for number in 90..95 {
        lesson.pass_with(10, &[carl]);
        assert!(told(&mut lesson, number), "{number}");
        lesson.ask(SocketId(number), Request::Ping(1));
        lesson.lose(SocketId(number));
    }
    assert!(told(&mut lesson, 95));
    lesson.pass_with(PING_TIMEOUT.as_secs() as u32, &[carl, SocketId(95)]);
    assert!(!told(&mut lesson, 96), "it has lived");
}

#[test]
fn lines_that_a_lost_client_was_asked_for_are_asked_for_again() {
    let mut lesson = Lesson::new();
    let ((ana, _), (ben, sid)) = (lesson.enter_as(1), lesson.enter_as(2));
    lesson.lose(ben);
    let (track, _) = lesson.publish(ana, camera());
    let transport = lesson.transports[&ben];
    lesson.sfu(FromSfu::NegotiationNeeded { transport, audios: 0, videos: 1 }).unwrap();
    let required = |lesson: &mut Lesson, socket| {
        lesson.take(socket, |message| match message {
            Response::MediaSectionsRequirement(lines) => Some((lines.num_audios, lines.num_videos)),
            _ => None,
        })
    };
    lesson.resume(BACK, "p2", &sid).unwrap();
    assert_eq!(required(&mut lesson, BACK), [(0, 1)]);
    lesson.ask(BACK, Request::Offer(offer()));
    lesson.answer(ben, &[track]);
    lesson.resume(SocketId(91), "p2", &sid).unwrap();
    assert_eq!(required(&mut lesson, SocketId(91)), [], "it has what it wants");
}

#[test]
fn who_has_left_and_come_back_unseen_has_left() {
    let mut lesson = Lesson::new();
    let ((ana, _), (ben, sid)) = (lesson.enter_as(1), lesson.enter_as(2));
    lesson.lose(ben);
    lesson.ask(ana, Request::Leave(Default::default()));
    lesson.join(1, VideoGrant { hidden: true, ..grant() }, offering()).unwrap();
    lesson.resume(BACK, "p2", &sid).unwrap();
    let (_, told) = lesson.told_back(BACK);
    assert_eq!(people(&told), [("p1", GONE), ("p2", HERE)].map(|(name, state)| (name.to_owned(), state)));
}

#[test]
fn a_client_that_is_back_learns_which_pictures_flow() {
    let mut lesson = Lesson::new();
    let ((ana, _), (ben, sid)) = (lesson.enter_as(1), lesson.enter_as(2));
    let (track, track_sid) = lesson.publish(ana, camera());
    let transport = lesson.transports[&ben];
    for (number, paused, state) in [(90, true, StreamState::Paused), (91, false, StreamState::Active)] {
        lesson.lose(SocketId(number - 1));
        lesson.lose(ben);
        lesson.sfu(FromSfu::StreamState { transport, track, paused }).unwrap();
        lesson.resume(SocketId(number), "p2", &sid).unwrap();
        let told = lesson.take(SocketId(number), |message| match message {
            Response::StreamStateUpdate(update) => Some(update.stream_states),
            _ => None,
        });
        let told: Vec<_> = told.iter().flatten().map(|info| (info.track_sid.clone(), info.state())).collect();
        assert_eq!(told, [(track_sid.clone(), state)]);
    }
}

#[test]
fn reliable_messages_that_a_client_sends_again_come_once() {
    let mut lesson = Lesson::new();
    let ((_, _), (ben, sid)) = (lesson.enter_as(1), lesson.enter_as(2));
    let transport = lesson.transports[&ben];
    let say = |lesson: &mut Lesson, channel: &str, sequence: u32| {
        let value = Some(data_packet::Value::User(UserPacket::default()));
        let packet = DataPacket { sequence, value, ..DataPacket::default() };
        lesson.sfu(FromSfu::Data { transport, channel: channel.into(), bytes: packet.encode_to_vec() })
    };
    for (channel, sequence, expected) in [
        ("_reliable", 1, Ok(())),
        ("_reliable", 2, Ok(())),
        ("_lossy", 0, Ok(())),
        ("_reliable", 0, Ok(())),
        ("_reliable", 2, Err(DataError::Repeated)),
    ] {
        assert_eq!(say(&mut lesson, channel, sequence), expected, "{channel} {sequence}");
    }
    lesson.lose(ben);
    lesson.resume(BACK, "p2", &sid).unwrap();
    assert_eq!(lesson.told_back(BACK).0.last_message_seq, 2);
    assert_eq!(say(&mut lesson, "_reliable", 2), Err(DataError::Repeated));
    assert_eq!(say(&mut lesson, "_reliable", 3), Ok(()));
}

#[test]
fn what_a_client_wants_when_it_is_back_counts() {
    let mut lesson = Lesson::new();
    let ((ana, _), (ben, sid)) = (lesson.enter_as(1), lesson.enter_as(2));
    let (track, track_sid) = lesson.publish(ana, camera());
    lesson.resume(BACK, "p2", &sid).unwrap();
    lesson.commands.clear();
    let unwanted = |track_sid: &str| {
        let wishes =
            UpdateSubscription { track_sids: vec![track_sid.into()], subscribe: false, ..Default::default() };
        Request::SyncState(SyncState { subscription: Some(wishes), ..SyncState::default() })
    };
    let transport = lesson.transports[&ben];
    for expected in [vec![ToSfu::Unsubscribe { transport, track }], vec![]] {
        lesson.ask(BACK, unwanted(&track_sid));
        assert_eq!(std::mem::take(&mut lesson.commands), expected);
    }
}

#[test]
fn a_client_of_the_older_protocol_is_offered_anew_what_it_receives() {
    let mut lesson = Lesson::new();
    let claims = Claims { sub: "p2".into(), video: Some(grant()), ..Claims::default() };
    let enter = |lesson: &mut Lesson, number, request, protocol| {
        let admission = Admission { socket: SocketId(number), claims: claims.clone(), request, protocol };
        let entered = lesson.rooms.join(lesson.now, admission);
        lesson.drain();
        entered
    };
    enter(&mut lesson, 2, JoinRequest::default(), Protocol::V0).unwrap();
    let joined = lesson.take(SocketId(2), |message| match message {
        Response::Join(join) => Some(join.participant.unwrap().sid),
        _ => None,
    });
    let receiving = lesson.commands(|command| match command {
        ToSfu::OpenOffering { transport, .. } => Some(transport),
        _ => None,
    });
    let back = JoinRequest { reconnect: true, participant_sid: joined[0].clone(), ..JoinRequest::default() };
    assert_eq!(enter(&mut lesson, 3, back.clone(), Protocol::V1), refused(), "it has no second connection");
    assert_eq!(enter(&mut lesson, 4, back, Protocol::V0), Ok(Entered::Resumed));
    assert_eq!(lesson.commands, [ToSfu::RestartIce { transport: receiving[0] }]);
}

#[test]
fn a_client_that_is_back_learns_who_speaks_and_who_has_stopped() {
    let mut lesson = Lesson::new();
    let ((ana, ana_sid), (ben, sid), (carl, carl_sid)) =
        (lesson.enter_as(1), lesson.enter_as(2), lesson.enter_as(3));
    for socket in [ana, carl] {
        lesson.publish(socket, camera());
    }
    let room = lesson.room();
    let loud = |transport| Speaker { transport, level: 8 };
    let [a, c] = [ana, carl].map(|socket| lesson.transports[&socket]);
    lesson.sfu(FromSfu::Speakers { room, speakers: vec![loud(a)] }).unwrap();
    lesson.lose(ben);
    lesson.sfu(FromSfu::Speakers { room, speakers: vec![loud(c)] }).unwrap();
    lesson.resume(BACK, "p2", &sid).unwrap();
    assert_eq!(speakers(&mut lesson, BACK), [(ana_sid, 0.0, false), (carl_sid, 1.0, true)]);
}
