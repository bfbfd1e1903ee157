//! Who means no good gets a reason, and the lessons of others go on.

use super::*;

#[test]
fn a_flood_of_joins_fills_its_own_room_and_disturbs_no_other() {
    let mut lesson = Lesson::with(Limits { rooms: 10, participants: 50, ..Limits::default() });
    let (ana, ben) = (lesson.enter(1), lesson.enter(2));
    lesson.told.clear();
    let flooded = VideoGrant { room: "flood".into(), ..grant() };
    let mut refused = 0;
    for number in 100..2100 {
        if let Err(why) = lesson.join(number, flooded.clone(), offering()) {
            assert_eq!(why, JoinRefused::RoomFull);
            assert_eq!(lesson.leave(SocketId(number)), (Action::Disconnect, DisconnectReason::JoinFailure));
            refused += 1;
        }
    }
    assert_eq!(refused, 2000 - 50);
    for number in 3000..4000 {
        let own = VideoGrant { room: format!("flood {number}"), ..grant() };
        lesson.join(number, own, offering()).ok();
    }
    let census = lesson.rooms.census();
    assert_eq!((census.rooms, census.participants), (10, 2 + 50 + 8));

    assert!(![ana, ben].iter().any(|socket| lesson.told.contains_key(socket)), "they hear nothing of it");
    lesson.commands.clear();
    let (track, _) = lesson.publish(ana, camera());
    let to = lesson.transports[&ben];
    assert_eq!(lesson.subscribed(), [(to, track)]);
}

#[test]
fn one_identity_that_joins_again_and_again_has_one_session() {
    let mut lesson = Lesson::new();
    let ana = lesson.enter(1);
    let mut before = None;
    for number in 100..1100 {
        let claims = Claims { sub: "eve".into(), video: Some(grant()), ..Claims::default() };
        let (socket, request) = (SocketId(number), offering());
        lesson.rooms.join(lesson.now, Admission { socket, claims, request, protocol: Protocol::V1 }).unwrap();
        lesson.drain();
        if let Some(before) = before.replace(socket) {
            let told = (Action::Disconnect, DisconnectReason::DuplicateIdentity);
            assert_eq!((lesson.leave(before), lesson.closed.pop()), (told, Some(before)));
        }
    }
    let count = |what: fn(&ToSfu) -> bool| lesson.commands.iter().filter(|command| what(command)).count();
    let opened = count(|command| matches!(command, ToSfu::OpenTransport { .. }));
    let closed = count(|command| matches!(command, ToSfu::CloseTransport { .. }));
    assert_eq!((lesson.rooms.census().participants, opened - closed), (2, 2));
    lesson.ask(ana, Request::Ping(1));
    assert!(lesson.told[&ana].iter().any(|message| matches!(message, Response::Pong(_))));
}

#[test]
fn a_token_opens_its_own_room_alone() {
    let mut lesson = Lesson::new();
    let (ana, ben) = (lesson.enter(1), lesson.enter(2));
    let (_, sid) = lesson.publish(ana, camera());
    lesson.told.clear();
    lesson.commands.clear();
    let elsewhere = VideoGrant { room: "biology".into(), ..grant() };
    let eve = lesson.join(3, elsewhere, offering()).unwrap();
    let others = lesson.take(eve, |message| match message {
        Response::Join(join) => Some(join.other_participants.len()),
        _ => None,
    });
    assert_eq!(others, [0]);
    let wishes = UpdateSubscription { track_sids: vec![sid], subscribe: true, ..Default::default() };
    lesson.ask(eve, Request::Subscription(wishes));
    let refused = lesson.take(eve, |message| match message {
        Response::SubscriptionResponse(response) => Some(response.err()),
        _ => None,
    });
    assert_eq!(refused, [livekit_protocol::SubscriptionError::SeTrackNotfound]);
    assert_eq!(lesson.subscribed(), []);

    // Nor do messages cross over, even to those whom they name.
    let packet = DataPacket {
        destination_identities: vec!["p1".into()],
        value: Some(data_packet::Value::User(UserPacket::default())),
        ..DataPacket::default()
    };
    let (transport, channel) = (lesson.transports[&eve], "_reliable".to_owned());
    lesson.sfu(FromSfu::Data { transport, channel, bytes: packet.encode_to_vec() }).unwrap();
    assert_eq!(lesson.commands, []);
    assert!(![ana, ben].iter().any(|socket| lesson.told.contains_key(socket)));
}
