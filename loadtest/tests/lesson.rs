//! Whole lessons: the real server in this process, real sockets on loopback, and clients with a WebRTC
//! implementation of their own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod server;

use std::time::Duration;

use loadtest::api::Server;
use loadtest::client::{Client, Delivery, Publication};
use loadtest::lesson::{self, LessonOptions};
use loadtest::receive_stats::{MediaKind, ReceiveStats};
use loadtest::vp8_source::Camera;
use tokio::time::{interval, timeout};

const MICROPHONE: Publication = Publication::Microphone { kbps: 32 };

/// Waits until a fact is there, which it must be within 15 s.
async fn eventually(fact: &str, mut holds: impl FnMut() -> bool) {
    let mut ticks = interval(Duration::from_millis(10));
    let wait = async {
        while !holds() {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_secs(15), wait).await.unwrap_or_else(|_| panic!("not within 15 s: {fact}"));
}

/// Somebody who came through a link, connected, nothing published.
async fn enter(server: &Server, link: &str, name: &str) -> Client {
    let admission = server.join(link, name, None).await.unwrap();
    let client = Client::join(server, &admission.token).await.unwrap();
    client.connected().await.unwrap();
    client
}

/// A teacher and two classes.
async fn room(server: &Server) -> (Client, [Client; 2]) {
    let links = server.make_lesson("Algebra").await.unwrap();
    let teacher = enter(server, &links.teacher, "Ana").await;
    let first = enter(server, &links.class, "Hill school").await;
    (teacher, [first, enter(server, &links.class, "Lake school").await])
}

fn received(listener: &Client, speaker: &Client, kind: MediaKind) -> Option<ReceiveStats> {
    let from = |publisher: Option<&str>| publisher == Some(speaker.identity());
    let mut tracks = listener.received().into_iter().filter(|track| from(track.publisher.as_deref()));
    tracks.find(|track| track.stats.kind == kind).map(|track| track.stats)
}

fn packets(listener: &Client, speaker: &Client, kind: MediaKind) -> u64 {
    received(listener, speaker, kind).map_or(0, |stats| stats.packets)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teacher_is_seen_and_heard_by_two_classes_without_a_missing_packet() {
    let server = server::start();
    let options = LessonOptions {
        server: server.address(),
        classes: 2,
        pupils: 0,
        duration: Duration::from_secs(3),
        video_kbps: 500,
    };
    let report = lesson::run(&options).await.unwrap();
    assert_eq!(report.problems(), Vec::<String>::new(), "{report}");
    let [teacher, classes @ ..] = &report.participants[..] else { panic!("{report}") };
    for participant in &report.participants {
        assert_eq!(participant.srtp_profile.as_deref(), Some("AEAD_AES_128_GCM"));
    }
    for class in classes {
        for kind in [MediaKind::Sound, MediaKind::Picture] {
            let stats = class.received_from(teacher, kind).unwrap();
            assert_eq!((stats.missing(), stats.repeated, stats.picture_id_jumps), (0, 0, 0), "{report}");
            assert!(stats.packets > 100, "{report}");
        }
        assert_eq!(class.round_trips.len(), 3, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_classes_than_spare_lines_all_hear_each_other() {
    let server = server::start();
    let options = LessonOptions {
        server: server.address(),
        classes: 5,
        pupils: 1,
        duration: Duration::from_secs(2),
        video_kbps: 100,
    };
    let report = lesson::run(&options).await.unwrap();
    assert_eq!(report.problems(), Vec::<String>::new(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_waits_for_no_key_frame() {
    let lectern = server::start();
    let server = lectern.address();
    let links = server.make_lesson("Algebra").await.unwrap();
    let teacher = enter(&server, &links.teacher, "Ana").await;
    // No key frame comes by itself in the time of this test.
    let camera = Camera { key_frame_every: 10_000, ..Camera::new(200) };
    let track = teacher.publish(Publication::Camera(camera)).await.unwrap();
    eventually("the first key frame is long gone", || track.stats().packets() > 30).await;

    let class = enter(&server, &links.class, "Hill school").await;
    eventually("a key frame", || {
        received(&class, &teacher, MediaKind::Picture).is_some_and(|stats| stats.key_frames > 0)
    })
    .await;
    assert!(track.stats().key_frame_requests() >= 1);
    let delay = received(&class, &teacher, MediaKind::Picture).and_then(|stats| stats.first_packet).unwrap();
    assert!(delay < Duration::from_secs(5), "{delay:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_everybody_or_only_those_they_are_for() {
    let server = server::start();
    let (teacher, classes) = room(&server.address()).await;
    let next = async |client: &Client| {
        let message = timeout(Duration::from_secs(15), client.message()).await.unwrap().unwrap();
        (message.from, String::from_utf8(message.payload).unwrap(), message.delivery)
    };

    teacher.send(Delivery::Reliable, &[], "chat", b"hello all").await.unwrap();
    for class in &classes {
        let expected = (teacher.identity().to_owned(), "hello all".to_owned(), Delivery::Reliable);
        assert_eq!(next(class).await, expected);
    }

    let to = [teacher.identity().to_owned()];
    classes[0].send(Delivery::Reliable, &to, "chat", b"for the teacher").await.unwrap();
    classes[0].send(Delivery::Lossy, &[], "chat", b"for all").await.unwrap();
    let from = classes[0].identity().to_owned();
    let mut heard = vec![next(&teacher).await, next(&teacher).await];
    heard.sort_by_key(|(_, text, _)| text.clone());
    assert_eq!(
        heard,
        [
            (from.clone(), "for all".to_owned(), Delivery::Lossy),
            (from.clone(), "for the teacher".to_owned(), Delivery::Reliable),
        ]
    );
    assert_eq!(next(&classes[1]).await, (from, "for all".to_owned(), Delivery::Lossy), "and nothing before");
}

#[tokio::test(flavor = "multi_thread")]
async fn muting_and_leaving_are_known_to_the_others() {
    let server = server::start();
    let (teacher, [first, second]) = room(&server.address()).await;
    let track = teacher.publish(MICROPHONE).await.unwrap();
    eventually("sound", || packets(&first, &teacher, MediaKind::Sound) > 10).await;

    let muted = |listener: &Client| {
        let participants = listener.participants();
        let tracks = participants.iter().flat_map(|someone| &someone.tracks);
        tracks.filter(|known| known.sid == track.sid).map(|known| known.muted).collect::<Vec<_>>()
    };
    assert_eq!(muted(&first), [false]);
    teacher.set_muted(&track, true).await.unwrap();
    eventually("both know that it is muted", || [&first, &second].iter().all(|c| muted(c) == [true])).await;
    teacher.set_muted(&track, false).await.unwrap();
    let before = packets(&first, &teacher, MediaKind::Sound);
    eventually("sound again", || packets(&first, &teacher, MediaKind::Sound) > before + 10).await;
    let stats = received(&first, &teacher, MediaKind::Sound).unwrap();
    assert_eq!((stats.missing(), stats.discontinuities), (0, 0), "a pause is no loss");

    second.leave().await;
    eventually("who left is gone", || first.participants().len() == 1).await;
    assert_eq!(first.participants()[0].identity, teacher.identity());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_token_nobody_gets_in() {
    let server = server::start();
    for token in ["", "a.b.c"] {
        let error = Client::join(&server.address(), token).await.err().unwrap();
        assert!(error.to_string().starts_with("the server refused to join: 401 "), "{error}");
    }
    assert!(server.address().join("http://x/#invitation=a.b.c", "Ana", None).await.is_err());
}
