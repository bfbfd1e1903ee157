//! Datagrams from people who mean no good: each is counted, and the lesson goes on.

use std::net::SocketAddr;
use std::time::Duration;

use sfu_core::rtp::params::Codec;
use sfu_core::sim::client::Client;
use sfu_core::sim::clock::{self, Random};
use sfu_core::sim::network::Network;
use sfu_core::sim::path::Conditions;
use sfu_core::stats::Refusal;
use sfu_core::transport::params::IceCredentials;
use sfu_core::units::{RoomId, TrackId, TransportId};

const ROOM: RoomId = RoomId(1);

/// A teacher who speaks to one class; both are connected.
fn lesson() -> (Network, TrackId) {
    let mut network = Network::new(clock::origin(), 7);
    network.join(ROOM, Conditions::default());
    network.join(ROOM, Conditions::default());
    let voice = network.publish(0, Codec::Opus);
    network.subscribe(1, voice, Codec::Opus);
    assert!(
        network.run_until(Duration::from_secs(5), |network| {
            network.clients.iter().all(Client::is_connected)
        })
    );
    (network, voice)
}

/// Sound goes on for a second, without a gap.
fn sound_goes_on(network: &mut Network, voice: TrackId) {
    let before = network.clients[1].received(voice).len();
    network.run(Duration::from_secs(1));
    let after = network.clients[1].received(voice).len();
    assert!(after >= before + 45, "sound stopped: {} packets", after - before);
    assert!(network.clients[1].missing(voice).is_empty());
}

fn teacher(network: &Network) -> SocketAddr {
    network.clients[0].address()
}

fn stranger() -> SocketAddr {
    ([203, 0, 113, 9], 5000).into()
}

#[test]
fn noise_from_strangers_and_from_a_clients_address_is_refused() {
    let (mut network, voice) = lesson();
    let mut random = Random::new(1);
    let before = network.worker.stats();
    for round in 0..20_000 {
        let len = random.below(1600) as usize;
        let mut noise: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
        // Every class of datagram gets its share.
        if let Some(first) = noise.first_mut() {
            *first = [0, 1, 20, 22, 64, 128, 144, 191, 255][round % 9];
        }
        let from = if round % 2 == 0 { stranger() } else { teacher(&network) };
        network.inject(from, &noise);
    }
    let after = network.worker.stats();
    assert_eq!(after.refused.total() - before.refused.total(), 20_000, "each is counted");
    assert!(after.refused.of(Refusal::Oversized) > 0);
    assert!(after.refused.of(Refusal::Unrecognised) > 0);
    assert!(after.refused.of(Refusal::UnknownTuple) > 0);
    assert!(after.refused.of(Refusal::SrtpUnauthentic) > 0);
    sound_goes_on(&mut network, voice);
}

#[test]
fn a_replayed_packet_is_counted_and_not_forwarded_again() {
    let (mut network, voice) = lesson();
    network.run(Duration::from_secs(1));
    let now = network.now;
    let packet = loop {
        if let Some(packet) = network.clients[0].next_packet(network.now) {
            break packet;
        }
        network.now += Duration::from_millis(1);
    };
    assert!(network.now >= now);
    let from = teacher(&network);
    network.inject(from, &packet);
    for _ in 0..50 {
        network.inject(from, &packet);
    }
    assert_eq!(network.worker.stats().refused.of(Refusal::SrtpReplayed), 50);
    sound_goes_on(&mut network, voice);
}

#[test]
fn truncated_and_tampered_packets_are_refused() {
    let (mut network, voice) = lesson();
    network.run(Duration::from_secs(1));
    network.now += Duration::from_millis(20);
    let packet = network.clients[0].next_packet(network.now).expect("20 ms have passed");
    let from = teacher(&network);
    let before = network.worker.stats();
    for len in 0..packet.len() {
        network.inject(from, &packet[..len]);
    }
    for at in 0..packet.len() {
        let mut tampered = packet.clone();
        tampered[at] ^= 0x01;
        network.inject(from, &tampered);
    }
    let after = network.worker.stats();
    assert_eq!(after.refused.total() - before.refused.total(), 2 * packet.len() as u64);
    // The original was never taken in, so it is not a replay.
    network.inject(from, &packet);
    assert_eq!(network.worker.stats().refused.total(), after.refused.total());
    sound_goes_on(&mut network, voice);
}

#[test]
fn srtp_and_dtls_from_an_unknown_address_are_refused_even_if_genuine() {
    let (mut network, voice) = lesson();
    network.run(Duration::from_secs(1));
    network.now += Duration::from_millis(20);
    let packet = network.clients[0].next_packet(network.now).expect("20 ms have passed");
    let before = network.worker.stats().refused.of(Refusal::UnknownTuple);
    network.inject(stranger(), &packet);
    assert_eq!(network.worker.stats().refused.of(Refusal::UnknownTuple), before + 1);
    let from = teacher(&network);
    network.inject(from, &packet);
    sound_goes_on(&mut network, voice);
}

#[test]
fn a_check_with_a_wrong_password_binds_nothing() {
    let (mut network, voice) = lesson();
    // A check for a transport that exists, signed with another server's password.
    let server =
        IceCredentials { ufrag: "00000000".to_owned(), pwd: "not-the-password-of-this-one".to_owned() };
    let mut client = Client::new(network.now, TransportId(77), server);
    client.handle_timeout(network.now);
    let check = client.poll_transmit().expect("a client begins with a check");
    let before = network.worker.stats();
    for _ in 0..10 {
        network.inject(stranger(), &check);
    }
    let after = network.worker.stats();
    assert_eq!(after.refused.of(Refusal::StunUnauthentic) - before.refused.of(Refusal::StunUnauthentic), 10);
    assert_eq!(after.worker.datagrams_out, before.worker.datagrams_out, "a forger gets no answer");
    network.inject(stranger(), &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    assert_eq!(
        network.worker.stats().refused.of(Refusal::UnknownTuple) - before.refused.of(Refusal::UnknownTuple),
        1,
        "its address is still unknown"
    );
    sound_goes_on(&mut network, voice);
}

#[test]
fn a_check_for_nobody_is_counted() {
    let (mut network, voice) = lesson();
    let server =
        IceCredentials { ufrag: "00nobody".to_owned(), pwd: "a-password-that-nobody-knows".to_owned() };
    let mut client = Client::new(network.now, TransportId(78), server);
    client.handle_timeout(network.now);
    let check = client.poll_transmit().expect("a client begins with a check");
    network.inject(stranger(), &check);
    assert_eq!(network.worker.stats().refused.of(Refusal::UnknownUfrag), 1);
    sound_goes_on(&mut network, voice);
}

/// The lesson, and a client in another room of the same worker who means no good.
fn lesson_beside_an_intruder() -> (Network, TrackId, usize) {
    let (mut network, voice) = lesson();
    let intruder = network.join(RoomId(2), Conditions::default());
    assert!(network.run_until(Duration::from_secs(5), |network| network.clients[intruder].is_connected()));
    (network, voice, intruder)
}

#[test]
fn a_client_that_sends_on_ever_new_ssrcs_gets_no_further_and_disturbs_nobody() {
    const SSRCS: u32 = 3000;
    let (mut network, voice, intruder) = lesson_beside_an_intruder();
    let from = network.clients[intruder].address();
    let before = network.worker.stats();
    for ssrc in 0..SSRCS {
        let mut packet = [0x55; 40];
        packet[..8].copy_from_slice(&[0x80, 96, 0, 1, 0, 0, 0, 1]);
        packet[8..12].copy_from_slice(&(0x00C0_0000 + ssrc).to_be_bytes());
        let packet = network.clients[intruder].seal_rtp(&packet);
        network.inject(from, &packet);
    }
    let after = network.worker.stats();
    let counted = |why| after.refused.of(why) - before.refused.of(why);
    let (unknown, too_many) = (counted(Refusal::RtpUnknownSource), counted(Refusal::SrtpTooManySsrcs));
    assert_eq!(unknown + too_many, u64::from(SSRCS), "each is counted");
    assert!(unknown <= 1024 && too_many > 0, "what is kept of them is bounded: {unknown}, {too_many}");
    sound_goes_on(&mut network, voice);
}

#[test]
fn a_flood_of_checks_forged_and_genuine_disturbs_no_lesson() {
    const EACH: u16 = 2000;
    let (mut network, voice, intruder) = lesson_beside_an_intruder();
    let id = TransportId(intruder as u64 + 1);
    let server = |ufrag: &str, pwd: &str| IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() };
    let genuine = server("00000002", "server-password-00000002");
    let check = |server| {
        let mut client = Client::new(network.now, id, server);
        client.handle_timeout(network.now);
        client.poll_transmit().expect("a client begins with a check")
    };
    let floods = [
        check(server("00000002", "a-password-that-is-not-right")),
        check(server("00nobody", "a-password-that-nobody-knows")),
        check(genuine),
    ];
    let before = network.worker.stats();
    for flood in &floods {
        for port in 1..=EACH {
            network.inject(([203, 0, 113, 9], port).into(), flood);
        }
    }
    let after = network.worker.stats();
    let counted = |why| after.refused.of(why) - before.refused.of(why);
    let each = u64::from(EACH);
    assert_eq!((counted(Refusal::StunUnauthentic), counted(Refusal::UnknownUfrag)), (each, each));
    assert_eq!(
        after.worker.datagrams_out - before.worker.datagrams_out,
        each,
        "only genuine ones are answered"
    );
    // Its addresses push out each other: those of before are nobody's again.
    network.inject(([203, 0, 113, 9], 1).into(), &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    let unknown = |network: &Network| network.worker.stats().refused.of(Refusal::UnknownTuple);
    assert_eq!(unknown(&network) - before.refused.of(Refusal::UnknownTuple), 1);
    sound_goes_on(&mut network, voice);
}
