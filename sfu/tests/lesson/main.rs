//! Lessons in one process: the SFU on a real socket, driven through its control link, and the async `webrtc`
//! crate as an independent peer on both sides.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../common/mod.rs"]
mod common;
mod lossy_path;
mod offered;
mod peer;
mod signaling;

use std::time::Duration;

use common::{Running, eventually, metric, start, start_with, with_one_and_two_workers};
use lossy_path::LossyPath;
use peer::Peer;
use sfu::config::Config;
use sfu_protocol::control::{FromSfu, MediaKind, Msid, Publish, Source, ToSfu};
use sfu_protocol::ids::{RoomId, TrackId, TransportId};
use signaling::Signaling;

const TEACHER: TransportId = TransportId(1);
const CLASS: TransportId = TransportId(2);
const VOICE: TrackId = TrackId(1);
const CAMERA: TrackId = TrackId(2);

/// A teacher who publishes voice and camera, and a class that receives both.
struct Lesson {
    sfu: Running,
    signaling: Signaling,
    teacher: Peer,
    class: Peer,
}

impl Lesson {
    /// Both have joined; nothing is sent yet.
    async fn begin(mut sfu: Running) -> Self {
        let mut signaling = Signaling::new(&mut sfu.control);
        let (teacher, class) = join(&mut signaling, 1).await;
        Self { sfu, signaling, teacher, class }
    }

    /// Waits until both handshakes are done; gives the SRTP profiles.
    async fn connected(&mut self) -> [String; 2] {
        let mut profiles = Vec::new();
        for peer in [TEACHER, CLASS] {
            let connected = self.signaling.event("a handshake", |event| match event {
                FromSfu::TransportConnected { transport, srtp_profile } if *transport == peer => {
                    Some(srtp_profile.clone())
                }
                _ => None,
            });
            profiles.push(connected.await);
        }
        // Our side of a handshake is done first: what comes before the peers' own is lost to them.
        eventually("the peers' sides", async || self.teacher.listens() && self.class.listens()).await;
        profiles.try_into().unwrap()
    }
}

/// A teacher and a class join lesson `number`: the ids are those above for the first one.
async fn join(signaling: &mut Signaling, number: u64) -> (Peer, Peer) {
    let [first, second] = [2 * number - 1, 2 * number];
    let (room, voice, camera) = (RoomId(number), TrackId(first), TrackId(second));
    signaling.send(ToSfu::OpenRoom { room }).await;
    for transport in [first, second].map(TransportId) {
        signaling.send(ToSfu::OpenTransport { room, transport, link: "school".to_owned() }).await;
    }
    let teacher = Peer::teacher(TransportId(first)).await;
    let class = Peer::class(TransportId(second)).await;
    for (track, name) in [(voice, "voice"), (camera, "camera")] {
        let msid = Msid { stream: "PA_teacher".to_owned(), track: name.to_owned() };
        signaling.send(ToSfu::Subscribe { transport: class.id(), track, msid }).await;
    }
    let published = [
        publish(voice, MediaKind::Audio, Source::Microphone, peer::VOICE_CID),
        publish(camera, MediaKind::Video, Source::Camera, peer::CAMERA_CID),
    ];
    teacher.negotiate(signaling, published.to_vec()).await;
    class.negotiate(signaling, Vec::new()).await;
    (teacher, class)
}

fn publish(track: TrackId, kind: MediaKind, source: Source, cid: &str) -> Publish {
    Publish {
        track,
        kind,
        source,
        cid: cid.to_owned(),
        mid: None,
        dtx: kind == MediaKind::Audio,
        encrypted: false,
    }
}

with_one_and_two_workers!(
    a_class_hears_and_sees_its_teacher,
    messages_go_both_ways_over_data_channels,
    pictures_lost_on_either_side_are_sent_again,
    a_lesson_goes_on_after_an_ice_restart,
    a_draining_sfu_says_goodbye_to_its_clients,
    a_lesson_survives_a_flood_of_nonsense,
);

async fn a_class_hears_and_sees_its_teacher(workers: usize) {
    let mut lesson = Lesson::begin(start(workers).await).await;
    assert_eq!(lesson.connected().await, ["AEAD_AES_128_GCM"; 2], "although the peers list it last");

    lesson.teacher.start_sending();
    for track in [VOICE, CAMERA] {
        let started =
            |event: &FromSfu| (*event == FromSfu::TrackStarted { transport: TEACHER, track }).then_some(());
        lesson.signaling.event("a track's start", started).await;
    }
    eventually("sound and pictures", async || {
        lesson.class.voice().len() > 50 && lesson.class.camera().len() > 100
    })
    .await;
    assert!(lesson.class.first_picture_was_a_key_frame());
    assert!(metric(&lesson.sfu, "lectern_sfu_sent_datagrams_total", None).await > 150);
}

async fn messages_go_both_ways_over_data_channels(workers: usize) {
    let mut lesson = Lesson::begin(start(workers).await).await;
    lesson.connected().await;
    eventually("both channels", async || lesson.teacher.listens() && lesson.class.listens()).await;
    for (from, to, text) in [
        (&lesson.teacher, &lesson.class, b"Good morning!".as_slice()),
        (&lesson.class, &lesson.teacher, b"Good morning, Miss Tran!".as_slice()),
    ] {
        from.say(text).await;
        let (channel, bytes) = lesson
            .signaling
            .event("a message", |event| match event {
                FromSfu::Data { transport, channel, bytes } if *transport == from.id() => {
                    Some((channel.clone(), bytes.clone()))
                }
                _ => None,
            })
            .await;
        assert_eq!((channel.as_str(), bytes.as_slice()), (peer::CHANNEL, text));
        lesson.signaling.send(ToSfu::SendData { recipients: vec![to.id()], channel, bytes }).await;
        eventually("the message", async || to.heard().iter().any(|message| message == text)).await;
    }
}

async fn pictures_lost_on_either_side_are_sent_again(workers: usize) {
    let path = LossyPath::new(10).await;
    let node_ip = vec![path.addr().to_string().parse().unwrap()];
    let sfu = start_with(Config { node_ip, workers, ..Config::default() }).await;
    path.lead_to(sfu.udp);
    let mut lesson = Lesson::begin(sfu).await;
    lesson.connected().await;

    lesson.teacher.start_sending();
    eventually("pictures", async || lesson.class.camera().len() > 300).await;
    // What the class has by now may have holes at its end; all up to here must come.
    let last = *lesson.class.camera().last().unwrap();
    let first = *lesson.class.camera().first().unwrap();
    eventually("every packet", async || {
        lesson.class.camera().range(first..=last).count() as u64 == last - first + 1
    })
    .await;
    assert!(path.lost() > 30, "one packet in ten was lost each way: {}", path.lost());
}

async fn a_lesson_goes_on_after_an_ice_restart(workers: usize) {
    let mut lesson = Lesson::begin(start(workers).await).await;
    lesson.connected().await;
    lesson.teacher.start_sending();
    for _ in 0..2 {
        lesson.class.restart_ice(&mut lesson.signaling).await;
        let heard = lesson.class.voice().last().copied().unwrap_or(0);
        eventually("sound", async || lesson.class.voice().range(heard..).count() > 50).await;
    }
    assert_eq!(metric(&lesson.sfu, "lectern_sfu_handshakes_total", None).await, 2, "no new DTLS handshake");
}

async fn a_draining_sfu_says_goodbye_to_its_clients(workers: usize) {
    let sfu = start_with(Config { drain_deadline_s: 0, workers, ..Config::default() }).await;
    let mut lesson = Lesson::begin(sfu).await;
    lesson.connected().await;
    lesson.sfu.sfu.drain().await;
    for peer in [&lesson.teacher, &lesson.class] {
        eventually("close_notify", async || peer.is_closed()).await;
    }
}

async fn a_lesson_survives_a_flood_of_nonsense(workers: usize) {
    let mut lesson = Lesson::begin(start(workers).await).await;
    lesson.connected().await;
    lesson.teacher.start_sending();
    eventually("sound", async || lesson.class.voice().len() > 10).await;

    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = lesson.sfu.udp;
    let flood = tokio::spawn(async move {
        for i in 0_u32.. {
            let datagram = [(i % 256) as u8; 64];
            // A full socket buffer is the sender's affair.
            stranger.send_to(&datagram, to).ok();
            if i % 256 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let nonsense = async || metric(&lesson.sfu, "lectern_sfu_refused_datagrams_total", None).await;
    // Timers send reports.
    let reports = async || metric(&lesson.sfu, "lectern_sfu_rtcp_sent_total", None).await;
    let (heard, reported) = (*lesson.class.voice().last().unwrap(), reports().await);
    eventually("sound, reports and nonsense at once", async || {
        let heard = lesson.class.voice().range(heard..).count();
        heard > 50 && reports().await > reported + 4 && nonsense().await > 20_000
    })
    .await;
    flood.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_misses_nothing_that_reached_the_wrong_worker() {
    let mut sfu = start(2).await;
    let mut signaling = Signaling::new(&mut sfu.control);
    let mut lessons = Vec::new();
    let passed_on = async || metric(&sfu, "lectern_sfu_worker_passed_on_datagrams_total", None).await;
    // Each teacher reaches the wrong worker with a chance of a half; only media comes in such numbers.
    for number in 1..=16 {
        let (teacher, class) = join(&mut signaling, number).await;
        teacher.start_sending();
        eventually("pictures", async || class.camera().len() > 200).await;
        lessons.push((teacher, class));
        if passed_on().await > 300 {
            break;
        }
    }
    assert!(passed_on().await > 300, "the kernel spreads clients");
    for (_, class) in &lessons {
        let camera = class.camera();
        let first = *camera.first().unwrap();
        assert_eq!(camera.range(first..first + 150).count(), 150, "without a gap");
    }
    let taken_over = metric(&sfu, "lectern_sfu_worker_taken_over_datagrams_total", None).await;
    assert!(taken_over > 300);
    assert_eq!(metric(&sfu, "lectern_sfu_handover_dropped_total", None).await, 0);
    for worker in ["0", "1"].iter().take(lessons.len()) {
        assert!(metric(&sfu, "lectern_sfu_worker_transports", Some(worker)).await > 0, "each has a room");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signaling_hears_of_the_links_of_every_worker() {
    let mut sfu = start(2).await;
    let mut signaling = Signaling::new(&mut sfu.control);
    let mut lessons = Vec::new();
    for number in 1..=2 {
        let (teacher, class) = join(&mut signaling, number).await;
        teacher.start_sending();
        lessons.push((teacher, class));
    }
    for number in 1..=2 {
        let room = RoomId(number);
        let told = |event: &FromSfu| match event {
            FromSfu::LinkQuality { room: of, links } if *of == room => Some(links.clone()),
            _ => None,
        };
        let links = signaling.event("how good the links are", told).await;
        assert!(
            links.iter().all(|link| [2 * number - 1, 2 * number].contains(&link.transport.0)),
            "{links:?}"
        );
    }
    for worker in ["0", "1"] {
        assert_eq!(metric(&sfu, "lectern_sfu_worker_transports", Some(worker)).await, 2);
    }
}
