//! Clients on real WebSockets against a scripted SFU.

use crate::support::{Client, Server, join_request, offer};
use futures_util::SinkExt;
use livekit_protocol::leave_request::Action;
use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    DataPacket, DisconnectReason, JoinRequest, LeaveRequest, MuteTrackRequest, Ping,
    UpdateParticipantMetadata, UserPacket, data_packet, participant_info,
};
use prost::Message as _;
use sfu_protocol::control::{FromSfu, ToSfu};
use signaling::auth::{self, Claims, VideoGrant};
use signaling::limits::Limits;
use tokio_tungstenite::tungstenite::{self, Message};

#[tokio::test]
async fn a_client_joins_with_its_offer_and_gets_the_answer() {
    let server = Server::start().await;
    let mut ana = server.join("ana", "algebra").await;
    let join = &ana.join;
    let me = join.participant.as_ref().unwrap();
    assert_eq!((me.identity.as_str(), me.name.as_str()), ("ana", "ANA"));
    assert!(me.sid.starts_with("PA_") && join.room.as_ref().unwrap().sid.starts_with("RM_"));
    assert_eq!((join.ping_interval, join.ping_timeout, join.subscriber_primary), (5, 15, false));
    assert!(join.fast_publish && join.ice_servers.is_empty());
    let codecs: Vec<_> = join.enabled_publish_codecs.iter().map(|codec| codec.mime.as_str()).collect();
    assert_eq!(codecs, ["audio/opus", "video/VP8"]);
    let active = participant_info::State::Active;
    ana.until(|message| match message {
        Response::Update(update) => (update.participants[0].state() == active).then_some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn the_join_request_of_a_real_browser_is_understood() {
    let server = Server::start().await;
    let url = format!(
        "ws://{}/rtc/v1?access_token={}&join_request={}",
        server.addr,
        server.token("ana", "algebra"),
        include_str!("../data/chromium.join_request.txt").trim(),
    );
    let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut client = Client { socket, join: Default::default() };
    assert!(matches!(client.next().await, Response::Join(_)));
    let sdp = server
        .sfu_saw(|command| match command {
            ToSfu::Offer { sdp, .. } => Some(sdp.clone()),
            _ => None,
        })
        .await;
    assert_eq!(sdp.matches("m=video").count(), 3);
    assert_eq!(sdp.matches("m=audio").count(), 3);
    client.until(|message| matches!(message, Response::Answer(_)).then_some(())).await;
}

#[tokio::test]
async fn a_published_track_reaches_the_others() {
    let server = Server::start().await;
    let mut ana = server.join("ana", "algebra").await;
    let mut ben = server.join("ben", "algebra").await;
    assert_eq!(ben.join.other_participants[0].identity, "ana");

    let track = ana.publish_camera("cam").await;
    let seen = ben
        .until(|message| match message {
            Response::Update(update) => update.participants[0].tracks.first().cloned(),
            _ => None,
        })
        .await;
    assert_eq!(seen.sid, track.sid);
    let requirement = ben
        .until(|message| match message {
            Response::MediaSectionsRequirement(requirement) => Some(*requirement),
            _ => None,
        })
        .await;
    assert_eq!((requirement.num_audios, requirement.num_videos), (0, 1));
    let msid = server
        .sfu_saw(|command| match command {
            ToSfu::Subscribe { msid, .. } => Some(msid.clone()),
            _ => None,
        })
        .await;
    assert_eq!((msid.stream, msid.track), (format!("{}|camera", ana.sid()), track.sid.clone()));

    ana.send(Request::Mute(MuteTrackRequest { sid: track.sid.clone(), muted: true })).await;
    ben.until(|message| match message {
        Response::Update(update) => update.participants[0].tracks.first().filter(|t| t.muted).map(|_| ()),
        _ => None,
    })
    .await;
    server.sfu_saw(|command| matches!(command, ToSfu::SetMuted { muted: true, .. }).then_some(())).await;

    ana.send(Request::Leave(LeaveRequest::default())).await;
    let gone = ben
        .until(|message| match message {
            Response::Update(update) => Some(update.participants[0].clone())
                .filter(|p| p.state() == participant_info::State::Disconnected),
            _ => None,
        })
        .await;
    assert_eq!(gone.disconnect_reason(), DisconnectReason::ClientInitiated);
    ana.closed().await;
}

#[tokio::test]
async fn data_goes_to_the_others_with_its_sender_stamped_in() {
    let server = Server::start().await;
    let ana = server.join("ana", "algebra").await;
    let _ben = server.join("ben", "algebra").await;
    let transports = server.transports(2).await;
    let packet = DataPacket {
        value: Some(data_packet::Value::User(UserPacket {
            payload: b"hello".to_vec(),
            ..Default::default()
        })),
        participant_identity: "somebody else".into(),
        ..DataPacket::default()
    };
    let event = FromSfu::Data {
        transport: transports[0],
        channel: "_reliable".into(),
        bytes: packet.encode_to_vec(),
    };
    server.sfu.say.send(event).await.unwrap();
    let (recipients, bytes) = server
        .sfu_saw(|command| match command {
            ToSfu::SendData { recipients, bytes, .. } => Some((recipients.clone(), bytes.clone())),
            _ => None,
        })
        .await;
    assert_eq!(recipients, [transports[1]]);
    let sent = DataPacket::decode(bytes.as_slice()).unwrap();
    assert_eq!((sent.participant_identity.as_str(), sent.participant_sid.as_str()), ("ana", ana.sid()));
}

#[tokio::test]
async fn a_bad_token_is_refused_before_the_upgrade_in_plain_words() {
    let server = Server::start().await;
    let join = VideoGrant { room_join: true, room: "algebra".into(), ..VideoGrant::default() };
    let expired = auth::sign(&server.keys, |issuer| Claims {
        iss: issuer.into(),
        sub: "ana".into(),
        exp: 1000,
        video: Some(join.clone()),
        ..Claims::default()
    });
    let stranger = auth::sign(&signaling::keys::Keys::parse("test: wrong").unwrap(), |issuer| Claims {
        iss: issuer.into(),
        sub: "ana".into(),
        exp: 4_000_000_000,
        video: Some(join),
        ..Claims::default()
    });
    let nothing = server.token_with("ana", VideoGrant::default());
    let mut ben = server.join("ben", "algebra").await;
    for (token, words, counted) in [
        (expired, "expired", "expired"),
        (stranger, "signature", "wrong_signature"),
        (nothing, "not allow", "not_granted"),
    ] {
        let refused = server.connect(&token, &join_request()).await.err().unwrap();
        let tungstenite::Error::Http(response) = refused else { panic!("{refused}") };
        assert_eq!(response.status(), 401);
        let body = String::from_utf8(response.into_body().unwrap()).unwrap();
        assert!(body.contains(words), "{body}");
        assert_eq!(server.metrics.refused.with_label_values(&[counted]).get(), 1);
    }
    assert_eq!(server.transports(1).await.len(), 1, "the SFU hears nothing of them");
    ben.publish_camera("cam").await;
}

#[tokio::test]
async fn pings_are_answered_and_unknown_requests_are_named_as_such() {
    let server = Server::start().await;
    let mut ana = server.join("ana", "algebra").await;
    ana.send(Request::PingReq(Ping { timestamp: 7, rtt: 0 })).await;
    ana.until(|message| match message {
        Response::PongResp(pong) => (pong.last_ping_timestamp == 7).then_some(()),
        _ => None,
    })
    .await;
    // Field 99: a request of the future.
    ana.socket.send(Message::binary(vec![0x9a, 0x06, 0x00])).await.unwrap();
    ana.until(|message| match message {
        Response::RequestResponse(response) => (response.reason() == Reason::UnsupportedType).then_some(()),
        _ => None,
    })
    .await;
    // What is no message at all does no harm.
    ana.socket.send(Message::binary(vec![0xff; 20])).await.unwrap();
    ana.send(Request::Ping(1)).await;
    ana.until(|message| matches!(message, Response::Pong(_)).then_some(())).await;
}

#[tokio::test]
async fn json_is_answered_in_json() {
    let server = Server::start().await;
    let mut ana = server.join("ana", "algebra").await;
    ana.socket.send(Message::text(r#"{"pingReq":{"timestamp":"7"}}"#)).await.unwrap();
    loop {
        if let Message::Text(text) = ana.frame().await.unwrap() {
            assert!(text.as_str().contains(r#""lastPingTimestamp":"7""#), "{text}");
            return;
        }
    }
}

#[tokio::test]
async fn a_resume_is_told_to_join_anew() {
    let server = Server::start().await;
    let request = JoinRequest { reconnect: true, participant_sid: "PA_x".into(), ..join_request() };
    let mut ana = server.connect(&server.token("ana", "algebra"), &request).await.unwrap();
    let Response::Leave(leave) = ana.next().await else { panic!("a leave") };
    assert_eq!((leave.action(), leave.reason()), (Action::Reconnect, DisconnectReason::StateMismatch));
    assert!(ana.frame().await.is_none(), "then the WebSocket closes");
}

#[tokio::test]
async fn the_second_of_an_identity_replaces_the_first() {
    let server = Server::start().await;
    let mut first = server.join("ana", "algebra").await;
    let second = server.join("ana", "algebra").await;
    let leave = first
        .until(|message| match message {
            Response::Leave(leave) => Some(leave.clone()),
            _ => None,
        })
        .await;
    assert_eq!((leave.action(), leave.reason()), (Action::Disconnect, DisconnectReason::DuplicateIdentity));
    assert!(first.frame().await.is_none());
    assert!(second.join.other_participants.is_empty());
}

#[tokio::test]
async fn an_offer_that_the_sfu_rejects_ends_the_session() {
    let server = Server::start().await;
    let mut bad = offer(1);
    bad.sdp = "nonsense".into();
    let request = JoinRequest { publisher_offer: Some(bad), ..join_request() };
    let mut ana = server.connect(&server.token("ana", "algebra"), &request).await.unwrap();
    let leave = ana
        .until(|message| match message {
            Response::Leave(leave) => Some(leave.clone()),
            _ => None,
        })
        .await;
    assert_eq!((leave.action(), leave.reason()), (Action::Disconnect, DisconnectReason::JoinFailure));
}

#[tokio::test]
async fn a_full_room_says_so() {
    let server = Server::start_with(Limits { participants: 1, ..Limits::default() }, true).await;
    let _ana = server.join("ana", "algebra").await;
    let mut ben = server.connect(&server.token("ben", "algebra"), &join_request()).await.unwrap();
    let Response::Leave(leave) = ben.next().await else { panic!("a leave") };
    assert_eq!(leave.reason(), DisconnectReason::JoinFailure);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_the_others_go_on() {
    let server = Server::start().await;
    let grant = VideoGrant {
        room_join: true,
        room: "algebra".into(),
        can_update_own_metadata: Some(true),
        ..VideoGrant::default()
    };
    let mut ana = server.connect(&server.token_with("ana", grant), &join_request()).await.unwrap();
    let _stuck = server.join("stuck", "algebra").await;
    // Large updates fill the socket's buffers and then the queue of the one that reads nothing.
    let mut metadata = 0_u32;
    while server.metrics.slow_clients.get() == 0 {
        metadata += 1;
        assert!(metadata < 5_000, "never dropped");
        let update = UpdateParticipantMetadata {
            metadata: format!("{metadata:x<16000}"),
            ..UpdateParticipantMetadata::default()
        };
        ana.send(Request::UpdateMetadata(update)).await;
        let id = metadata.to_string();
        ana.until(|message| match message {
            Response::Update(update) => update.participants[0].metadata.starts_with(&id).then_some(()),
            _ => None,
        })
        .await;
    }
    ana.until(|message| match message {
        Response::Update(update) => (update.participants[0].identity == "stuck").then_some(()),
        _ => None,
    })
    .await;
    ana.send(Request::Ping(1)).await;
    ana.until(|message| matches!(message, Response::Pong(_)).then_some(())).await;
}

#[tokio::test]
async fn a_stopping_server_asks_its_clients_to_come_back() {
    let server = Server::start().await;
    let mut ana = server.join("ana", "algebra").await;
    server.service.shut_down().await.unwrap();
    let leave = ana
        .until(|message| match message {
            Response::Leave(leave) => Some(leave.clone()),
            _ => None,
        })
        .await;
    assert_eq!((leave.action(), leave.reason()), (Action::Reconnect, DisconnectReason::ServerShutdown));
    assert!(ana.frame().await.is_none());
    server.sfu_saw(|command| matches!(command, ToSfu::CloseTransport { .. }).then_some(())).await;
}

#[tokio::test]
async fn a_client_whose_line_broke_goes_on_with_its_session() {
    let server = Server::start().await;
    let (mut ana, ben) = (server.join("ana", "algebra").await, server.join("ben", "algebra").await);
    let sid = ben.sid().to_owned();
    let token = server.token("ben", "algebra");
    drop(ben);
    let back = JoinRequest { reconnect: true, participant_sid: sid.clone(), ..join_request() };
    // The second time its former WebSocket is still open.
    let mut former = server.connect(&token, &back).await.unwrap();
    assert!(matches!(former.next().await, Response::Reconnect(_)), "before anything else");
    let mut ben = server.connect(&token, &back).await.unwrap();
    assert!(matches!(ben.next().await, Response::Reconnect(_)));
    former.closed().await;
    ben.send(Request::Offer(offer(7))).await;
    ben.until(|message| matches!(message, Response::Answer(answer) if answer.id == 7).then_some(())).await;
    assert_eq!(server.transports(2).await.len(), 2, "no further transport");
    let of = |outcome| server.metrics.joins.with_label_values(&[outcome]).get();
    assert_eq!((of("joined"), of("resumed")), (2, 2));

    // The others did not notice: the first that they hear of it is that it leaves.
    ben.send(Request::Leave(LeaveRequest::default())).await;
    let left = ana.until(|message| match message {
        Response::Update(update)
            if update.participants[0].state() == participant_info::State::Disconnected =>
        {
            Some(update.participants[0].sid.clone())
        }
        _ => None,
    });
    assert_eq!(left.await, sid);
    let mut late = server.connect(&token, &back).await.unwrap();
    let Response::Leave(leave) = late.next().await else { panic!("it is told to join anew") };
    assert_eq!((leave.action(), leave.reason()), (Action::Reconnect, DisconnectReason::StateMismatch));
    late.closed().await;
}
