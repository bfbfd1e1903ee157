//! The client's part of the signal protocol, against a server that keeps to it and one that does not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod mock;

use std::time::Duration;

use livekit_protocol as proto;
use loadtest::client::signal::{FromServer, SignalError, ToServer};
use loadtest::client::{Client, ClientError, Publication};
use mock::{Answerer, Mock, Visitor};
use tokio::time::timeout;

const MICROPHONE: Publication = Publication::Microphone { kbps: 32 };

fn sections(sdp: &str, start: &str, direction: &str) -> usize {
    let sections = sdp.split("\r\nm=").skip(1);
    sections.filter(|section| section.starts_with(start) && section.contains(direction)).count()
}

/// A client that is in, and the server's side of it.
async fn joined() -> (Client, Visitor) {
    let (mock, server) = Mock::start().await;
    let serving = async {
        let mut visitor = mock.accept().await;
        visitor.welcome().await;
        visitor
    };
    let (client, visitor) = tokio::join!(Client::join(&server, "token"), serving);
    (client.unwrap(), visitor)
}

/// The same after the first answer.
async fn connected() -> (Client, Visitor, Answerer) {
    let (client, mut visitor) = joined().await;
    let answerer = Answerer::new().await;
    let answer = answerer.answer(visitor.request.publisher_offer.clone().unwrap()).await;
    visitor.say(answer).await;
    client.connected().await.unwrap();
    (client, visitor, answerer)
}

async fn ended(client: &Client) -> String {
    timeout(Duration::from_secs(5), async {
        while client.message().await.is_some() {}
        client.ended().unwrap_or_default()
    })
    .await
    .expect("the end is noticed")
}

#[tokio::test]
async fn the_first_offer_has_spare_lines_and_data_and_goes_with_the_join() {
    let (client, mut visitor) = joined().await;
    assert_eq!(client.identity(), "me");
    let offer = visitor.request.publisher_offer.take().unwrap();
    assert_eq!((offer.r#type.as_str(), offer.id), ("offer", 1));
    assert_eq!(sections(&offer.sdp, "audio", "a=recvonly"), 3);
    assert_eq!(sections(&offer.sdp, "video", "a=recvonly"), 3);
    assert_eq!(sections(&offer.sdp, "application", "webrtc-datachannel"), 1);
    assert!(visitor.request.connection_settings.unwrap().auto_subscribe);
    assert!(client.timings().joined.is_some() && client.timings().connected.is_none());
}

#[tokio::test]
async fn lines_that_the_server_requires_are_offered_one_offer_at_a_time() {
    let (client, mut visitor, answerer) = connected().await;
    let need = |num_audios, num_videos| {
        FromServer::MediaSectionsRequirement(proto::MediaSectionsRequirement { num_audios, num_videos })
    };
    visitor.say(need(2, 1)).await;
    let second = visitor.offer().await;
    assert_eq!(second.id, 2);
    assert_eq!(sections(&second.sdp, "audio", "a=recvonly"), 5);
    assert_eq!(sections(&second.sdp, "video", "a=recvonly"), 4);

    // Needed before the answer: offered after it.
    visitor.say(need(1, 0)).await;
    visitor.say(need(0, 0)).await;
    visitor.say(answerer.answer(second).await).await;
    let third = visitor.offer().await;
    assert_eq!((third.id, sections(&third.sdp, "audio", "a=recvonly")), (3, 6));
    visitor.say(answerer.answer(third).await).await;
    assert_eq!(client.ended(), None);
}

#[tokio::test]
async fn a_track_is_announced_then_offered_then_sent() {
    let (client, mut visitor, answerer) = connected().await;
    let serving = async {
        let announced = |message| match message {
            ToServer::AddTrack(request) => Some(request),
            _ => None,
        };
        let request = visitor.hear(announced).await.unwrap();
        assert_eq!(request.source(), proto::TrackSource::Microphone);
        let track = proto::TrackInfo { sid: "TR_1".into(), ..Default::default() };
        let published = proto::TrackPublishedResponse { cid: request.cid.clone(), track: Some(track) };
        visitor.say(FromServer::TrackPublished(published)).await;
        let offer = visitor.offer().await;
        assert_eq!(sections(&offer.sdp, "audio", "a=sendonly"), 1);
        assert!(offer.sdp.contains(&format!(" {}\r\n", request.cid)), "the msid names the cid");
        let answer = answerer.answer(offer).await;
        visitor.say(answer).await;
    };
    let (track, ()) = tokio::join!(client.publish(MICROPHONE), serving);
    let track = track.unwrap();
    assert_eq!(track.sid, "TR_1");
    timeout(Duration::from_secs(5), async {
        while track.stats().packets() < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("packets flow");

    client.set_muted(&track, true).await.unwrap();
    let muted = |message| match message {
        ToServer::Mute(mute) => Some((mute.sid, mute.muted)),
        _ => None,
    };
    assert_eq!(visitor.hear(muted).await, Some(("TR_1".to_owned(), true)));
}

#[tokio::test]
async fn a_track_that_the_server_refuses_is_an_error_and_the_lesson_goes_on() {
    let (client, mut visitor, _answerer) = connected().await;
    let serving = async {
        let announced = |message| match message {
            ToServer::AddTrack(request) => Some(request),
            _ => None,
        };
        let request = visitor.hear(announced).await.unwrap();
        visitor
            .say(FromServer::RequestResponse(proto::RequestResponse {
                reason: proto::request_response::Reason::NotAllowed.into(),
                request: Some(proto::request_response::Request::AddTrack(request)),
                ..Default::default()
            }))
            .await;
    };
    let (track, ()) = tokio::join!(client.publish(MICROPHONE), serving);
    assert!(matches!(track, Err(ClientError::TrackRefused)), "{track:?}");
    assert_eq!(client.ended(), None);
}

#[tokio::test]
async fn who_leaves_says_so() {
    let (client, mut visitor) = joined().await;
    let leave = |message| matches!(message, ToServer::Leave(_)).then_some(());
    let ((), said) = tokio::join!(client.leave(), visitor.hear(leave));
    assert_eq!(said, Some(()));
    assert_eq!(client.ended().as_deref(), Some("left"));
    assert!(matches!(client.publish(MICROPHONE).await, Err(ClientError::Gone(_))));
}

#[tokio::test]
async fn dropping_the_client_leaves_the_room() {
    let (client, mut visitor) = joined().await;
    drop(client);
    let leave = |message| matches!(message, ToServer::Leave(_)).then_some(());
    assert_eq!(visitor.hear(leave).await, Some(()));
    assert_eq!(visitor.hear(leave).await, None, "and hangs up");
}

#[tokio::test]
async fn the_servers_end_is_told_in_one_line() {
    let (client, mut visitor) = joined().await;
    let leave =
        proto::LeaveRequest { reason: proto::DisconnectReason::ServerShutdown.into(), ..Default::default() };
    visitor.say(FromServer::Leave(leave)).await;
    assert_eq!(ended(&client).await, "the server ended it: SERVER_SHUTDOWN");

    let (client, visitor) = joined().await;
    drop(visitor);
    assert!(!ended(&client).await.contains('\n'));

    let (client, mut visitor) = joined().await;
    visitor.say_bytes(b"\xff\xff\xff".to_vec()).await;
    assert_eq!(ended(&client).await, "signaling: not a message of the protocol");
}

#[tokio::test]
async fn an_answer_that_fits_no_offer_ends_the_client_without_a_panic() {
    for sdp in
        ["", "v=0\r\n", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"]
    {
        let (client, mut visitor) = joined().await;
        let answer = proto::SessionDescription {
            r#type: "answer".into(),
            sdp: sdp.into(),
            id: 1,
            ..Default::default()
        };
        visitor.say(FromServer::Answer(answer)).await;
        assert!(ended(&client).await.starts_with("peer connection: "), "{sdp}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_learns_why() {
    let (mock, server) = Mock::start().await;
    let refusing =
        mock.answer_http("HTTP/1.1 401 Unauthorized\r\nContent-Length: 19\r\n\r\nthe token has ended");
    let (client, request) = tokio::join!(Client::join(&server, "token"), refusing);
    assert!(request.starts_with("GET /rtc/v1?join_request="), "{request}");
    assert!(request.to_ascii_lowercase().contains("authorization: bearer token\r\n"), "{request}");
    match client.err() {
        Some(ClientError::Signal(SignalError::Refused { status, reason })) => {
            assert_eq!((status, reason.as_str()), (401, "the token has ended"));
        }
        other => panic!("{other:?}"),
    }

    let leaving = async {
        let mut visitor = mock.accept().await;
        let reason = proto::DisconnectReason::DuplicateIdentity.into();
        visitor.say(FromServer::Leave(proto::LeaveRequest { reason, ..Default::default() })).await;
    };
    let (client, ()) = tokio::join!(Client::join(&server, "token"), leaving);
    assert_eq!(client.err().unwrap().to_string(), "the server ended it: DUPLICATE_IDENTITY");

    let other = async { mock.accept().await.say(FromServer::Pong(0)).await };
    let (client, ()) = tokio::join!(Client::join(&server, "token"), other);
    assert!(matches!(client.err(), Some(ClientError::NotJoined)));
}

#[tokio::test]
async fn lessons_are_asked_for_over_http() {
    let (mock, server) = Mock::start().await;
    let body = r#"{"teacher":"http://x/lesson#invitation=t.t","class":"http://x/lesson#invitation=c.c"}"#;
    let created = format!("HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (lesson, request) = tokio::join!(server.make_lesson("Algebra"), mock.answer_http(&created));
    let lesson = lesson.unwrap();
    assert!(
        request.starts_with("POST /api/lessons HTTP/1.1\r\n") && request.ends_with(r#"{"name":"Algebra"}"#)
    );

    let admitted = "HTTP/1.1 200 OK\r\n\r\n{\"token\":\"a.b.c\",\"role\":\"class\"}";
    let (admission, request) =
        tokio::join!(server.join(&lesson.class, "class 1", Some("hill")), mock.answer_http(admitted));
    assert_eq!(admission.unwrap().token, "a.b.c");
    assert!(request.ends_with(r#"{"invitation":"c.c","name":"class 1","school":"hill"}"#), "{request}");

    let refused = "HTTP/1.1 403 Forbidden\r\n\r\n";
    let (lesson, _) = tokio::join!(server.make_lesson("Algebra"), mock.answer_http(refused));
    assert_eq!(lesson.unwrap_err().to_string(), "POST /api/lessons: the server answered 403");
}
