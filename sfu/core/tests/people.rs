//! What a worker finds out about people, in virtual time: who speaks, and how good each link is.

use std::time::Duration;

use sfu_core::command::{Command, Event, LinkQuality};
use sfu_core::rtp::params::{Codec, Ssrc};
use sfu_core::rtp::rtcp::{ReportBlock, Writer};
use sfu_core::sim::clock;
use sfu_core::sim::network::Network;
use sfu_core::sim::path::Conditions;
use sfu_core::units::{RoomId, TrackId, TransportId};
use sfu_protocol::people::LinkClass;

const ROOM: RoomId = RoomId(1);
const TEACHER: usize = 0;
const SECOND: Duration = Duration::from_secs(1);

/// A teacher who speaks without a pause, and a class that hears it.
fn lesson(conditions: Conditions) -> (Network, TrackId) {
    let mut network = Network::new(clock::origin(), 7);
    network.join(ROOM, conditions);
    network.join(ROOM, Conditions::default());
    let voice = network.publish(TEACHER, Codec::Opus);
    network.subscribe(1, voice, Codec::Opus);
    let connected = network.run_until(5 * SECOND, |network| {
        network.clients.iter().all(sfu_core::sim::client::Client::is_connected)
    });
    assert!(connected, "every handshake is done within five seconds");
    (network, voice)
}

/// Each report on who speaks, since the last call.
fn speakers(network: &mut Network) -> Vec<Vec<TransportId>> {
    let events = std::mem::take(&mut network.events);
    let reports = events.into_iter().filter_map(|event| match event {
        Event::Speakers { room: ROOM, speakers } => Some(speakers),
        _ => None,
    });
    reports.map(|speakers| speakers.iter().map(|speaker| speaker.transport).collect()).collect()
}

/// What was reported of a client's link.
fn links(network: &Network, client: usize) -> Vec<LinkQuality> {
    let id = network.clients[client].id();
    let reports = network.events.iter().filter_map(|event| match event {
        Event::LinkQuality { room: ROOM, links } => Some(links),
        _ => None,
    });
    reports.flatten().filter(|link| link.transport == id).copied().collect()
}

#[test]
fn who_speaks_is_reported_once_and_again_when_muted_unmuted_and_gone() {
    let (mut network, track) = lesson(Conditions::default());
    let transport = network.clients[TEACHER].id();
    network.run(3 * SECOND);
    assert_eq!(speakers(&mut network), [vec![transport]]);

    for (muted, expected) in [(true, vec![]), (false, vec![transport])] {
        network.command(Command::SetMuted { transport, track, muted });
        network.run(3 * SECOND);
        assert_eq!(speakers(&mut network), [expected], "muted: {muted}");
    }
    network.command(Command::Unpublish { transport, track });
    network.run(SECOND);
    assert_eq!(speakers(&mut network), [vec![]]);
}

#[test]
fn a_link_is_judged_by_what_arrives_of_its_publishers_media() {
    let (mut network, _) = lesson(Conditions::default());
    network.run(12 * SECOND);
    let good = links(&network, TEACHER);
    assert!(!good.is_empty() && good.iter().all(|link| LinkClass::of(link.score) == LinkClass::Excellent));

    network.events.clear();
    network.set_conditions(TEACHER, Conditions { loss_per_mille: 200, ..Conditions::default() });
    network.run(12 * SECOND);
    // Not a fifth: what is sent again without RTX counts as arrived.
    let thin = *links(&network, TEACHER).last().expect("everyone's is told each ten seconds");
    assert!(thin.score < good[0].score && thin.loss > 0, "{thin:?}");

    network.set_conditions(TEACHER, Conditions { loss_per_mille: 1000, ..Conditions::default() });
    network.run(16 * SECOND);
    assert_eq!(links(&network, TEACHER).last().map(|link| link.score), Some(0));

    network.set_conditions(TEACHER, Conditions::default());
    network.run(30 * SECOND);
    let again = *links(&network, TEACHER).last().expect("it was reported before");
    assert_eq!(LinkClass::of(again.score), LinkClass::Excellent, "{again:?}");
}

#[test]
fn a_link_is_judged_by_what_its_receiver_reports() {
    let (mut network, voice) = lesson(Conditions::default());
    for (lost, class) in [(0, LinkClass::Excellent), (40, LinkClass::Good), (100, LinkClass::Poor)] {
        network.events.clear();
        // Reports as a browser writes them, each second; `lost` of five hundred packets are.
        for second in 0..11 {
            network.run(SECOND);
            let ssrc = network.clients[1].received(voice)[0].ssrc;
            let highest_seq = network.clients[1].received(voice).len() as u32;
            let block = ReportBlock {
                ssrc,
                fraction_lost: 0,
                cumulative_lost: lost * second / 10,
                highest_seq,
                jitter: 0,
                last_sr: 0,
                delay_since_sr: 0,
            };
            let mut bytes = [0; 100];
            let mut writer = Writer::new(&mut bytes);
            writer.receiver_report(Ssrc(9), &[block]).unwrap();
            let len = writer.len();
            let (sealed, from) = (network.clients[1].seal_rtcp(&bytes[..len]), network.clients[1].address());
            network.inject(from, &sealed);
        }
        let link = *links(&network, 1).last().expect("everyone's is told each ten seconds");
        assert_eq!(LinkClass::of(link.score), class, "{lost}: {link:?}");
    }
}
