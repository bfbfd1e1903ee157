//! A whole lesson in virtual time: real ICE, DTLS and SRTP between a worker and scripted clients.

use std::time::Duration;

use sfu_core::command::{CloseReason, Command, Event};
use sfu_core::rtp::params::Codec;
use sfu_core::rtp::vp8::Vp8Descriptor;
use sfu_core::sim::clock;
use sfu_core::sim::network::Network;
use sfu_core::sim::path::Conditions;
use sfu_core::stats::Refusal;
use sfu_core::units::{RoomId, TrackId, TransportId};
use sfu_core::worker::TRANSMIT_BUFFER;

const ROOM: RoomId = RoomId(1);
const TEACHER: usize = 0;

/// A teacher who speaks and shows, and classes that hear and see.
struct Lesson {
    network: Network,
    voice: TrackId,
    camera: TrackId,
}

impl Lesson {
    fn new(classes: usize, conditions: Conditions) -> Self {
        let mut network = Network::new(clock::origin(), 42);
        for _ in 0..=classes {
            network.join(ROOM, conditions);
        }
        let voice = network.publish(TEACHER, Codec::Opus);
        let camera = network.publish(TEACHER, Codec::Vp8);
        for class in 1..=classes {
            network.subscribe(class, voice, Codec::Opus);
            network.subscribe(class, camera, Codec::Vp8);
        }
        let connected = network.run_until(Duration::from_secs(5), |network| {
            network.clients.iter().all(sfu_core::sim::client::Client::is_connected)
        });
        assert!(connected, "every handshake is done within five seconds");
        Self { network, voice, camera }
    }
}

#[test]
fn classes_hear_and_see_a_teacher() {
    let mut lesson = Lesson::new(5, Conditions::default());
    lesson.network.run(Duration::from_secs(10));
    for class in &lesson.network.clients[1..] {
        let (voice, camera) = (class.received(lesson.voice), class.received(lesson.camera));
        assert!(voice.len() > 450, "10 s of 20 ms packets, but {}", voice.len());
        assert!(camera.len() > 900, "10 s of 25 frames of 4 packets, but {}", camera.len());
        for track in [lesson.voice, lesson.camera] {
            assert!(class.missing(track).is_empty(), "nothing was lost, so no number may be missing");
            let received = class.received(track);
            assert!(received.windows(2).all(|pair| pair[0].seq < pair[1].seq), "no number comes twice");
        }
        let first = Vp8Descriptor::parse(&camera[0].payload).unwrap();
        assert!(first.key_frame_start, "a picture can only start with a key frame");
    }
    for event in [true, false] {
        let started = lesson.network.events.iter().any(|reported| match reported {
            Event::TrackStarted { track, .. } => *track == if event { lesson.voice } else { lesson.camera },
            _ => false,
        });
        assert!(started, "both tracks are reported as started");
    }
}

#[test]
fn everyone_gets_aes_gcm_and_transport_wide_numbers_without_gaps() {
    let mut lesson = Lesson::new(2, Conditions::default());
    let profiles: Vec<_> = lesson
        .network
        .events
        .iter()
        .filter_map(|event| match event {
            Event::TransportConnected { srtp_profile, .. } => Some(*srtp_profile),
            _ => None,
        })
        .collect();
    assert_eq!(profiles, ["AEAD_AES_128_GCM"; 3]);
    lesson.network.run(Duration::from_secs(3));
    for class in &lesson.network.clients[1..] {
        let mut numbers: Vec<u16> = [lesson.voice, lesson.camera]
            .into_iter()
            .flat_map(|track| class.received(track))
            .map(|packet| packet.transport_seq.expect("it was agreed to"))
            .collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "one number for each packet");
    }
}

#[test]
fn loss_on_the_teachers_line_is_repaired_before_it_reaches_the_classes() {
    let mut lesson = Lesson::new(2, Conditions::default());
    lesson.network.set_conditions(TEACHER, Conditions { loss_per_mille: 50, ..Conditions::default() });
    lesson.network.run(Duration::from_secs(20));
    lesson.network.set_conditions(TEACHER, Conditions::default());
    lesson.network.run(Duration::from_secs(2));
    for class in &lesson.network.clients[1..] {
        let camera = class.received(lesson.camera);
        assert!(camera.len() > 1900, "{}", camera.len());
        assert!(class.missing(lesson.camera).is_empty());
    }
}

#[test]
fn a_lesson_survives_jitter_repeated_and_reordered_datagrams() {
    let rough = Conditions {
        jitter: Duration::from_millis(30),
        repeat_per_mille: 50,
        loss_per_mille: 10,
        ..Conditions::default()
    };
    let mut lesson = Lesson::new(3, rough);
    lesson.network.run(Duration::from_secs(20));
    for class in &lesson.network.clients[1..] {
        let mut seqs: Vec<_> = class.received(lesson.camera).iter().map(|packet| packet.seq).collect();
        assert!(seqs.len() > 1800, "{}", seqs.len());
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), class.received(lesson.camera).len(), "SRTP's window drops repeats");
    }
}

#[test]
fn a_client_that_falls_silent_is_closed_after_two_minutes_and_not_before() {
    let mut lesson = Lesson::new(1, Conditions::default());
    lesson.network.set_conditions(1, Conditions { loss_per_mille: 1000, ..Conditions::default() });
    let closed = |network: &Network| {
        network.events.iter().any(|event| {
            *event
                == Event::TransportClosed { transport: TransportId(2), reason: CloseReason::ConsentExpired }
        })
    };
    lesson.network.run(Duration::from_secs(110));
    assert!(!closed(&lesson.network));
    assert!(lesson.network.run_until(Duration::from_secs(20), closed));
    assert_eq!(lesson.network.worker.stats().open_transports, 1);
}

#[test]
fn a_closed_room_leaves_nothing_behind_and_can_be_made_again() {
    let mut lesson = Lesson::new(3, Conditions::default());
    lesson.network.run(Duration::from_secs(1));
    lesson.network.command(Command::CloseRoom { room: ROOM });
    let stats = lesson.network.worker.stats();
    assert_eq!((stats.open_rooms, stats.open_transports), (0, 0));
    let closed = lesson
        .network
        .events
        .iter()
        .filter(|event| matches!(event, Event::TransportClosed { reason: CloseReason::Requested, .. }));
    assert_eq!(closed.count(), 4);
    let again = lesson.network.join(ROOM, Conditions::default());
    assert!(
        lesson.network.run_until(Duration::from_secs(5), |network| network.clients[again].is_connected())
    );
}

#[test]
fn rooms_do_not_hear_each_other() {
    let mut lesson = Lesson::new(1, Conditions::default());
    let stranger = lesson.network.join(RoomId(2), Conditions::default());
    lesson.network.subscribe(stranger, lesson.voice, Codec::Opus);
    assert_eq!(lesson.network.worker.stats().worker.commands_ignored, 1);
    lesson.network.run(Duration::from_secs(3));
    assert!(lesson.network.clients[stranger].is_connected());
    assert_eq!(lesson.network.clients[stranger].received(lesson.voice), []);
}

#[test]
fn a_publisher_learns_in_time_of_packets_that_go_no_further() {
    let mut network = Network::new(clock::origin(), 3);
    network.join(ROOM, Conditions::default());
    network.publish(0, Codec::Opus);
    assert!(network.run_until(Duration::from_secs(5), |network| network.clients[0].is_connected()));
    network.run(Duration::from_secs(1));
    // Silence, until nothing is due soon.
    let (soon, mut out) = (Duration::from_millis(500), vec![0; TRANSMIT_BUFFER]);
    while let Some(due) = network.worker.poll_timeout().filter(|&due| due <= network.now + soon) {
        network.now = due;
        network.worker.handle_timeout(due);
        while network.worker.poll_transmit(due, &mut out).is_some() {}
    }
    // A camera that no command has announced.
    network.clients[0].publish(network.now, Codec::Vp8);
    let packets = std::iter::from_fn(|| network.clients[0].next_packet(network.now));
    let camera = packets.filter(|packet| packet[1] & 0x7f == 96).last().expect("a frame is due");
    let from = network.clients[0].address();
    network.inject(from, &camera);
    assert_eq!(network.worker.stats().refused.of(Refusal::RtpUnknownSource), 1);
    let due = network.worker.poll_timeout().expect("an arrival is to be reported");
    assert!(due <= network.now + Duration::from_millis(100), "{:?}", due - network.now);
}
