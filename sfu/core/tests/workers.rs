//! Two workers on one port: whatever reaches the wrong one finds its owner, and an owner speaks to its
//! neighbour before it answers a client.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu_core::command::{CloseReason, Command};
use sfu_core::room::RoomConfig;
use sfu_core::rtp::params::Codec;
use sfu_core::sim::client::Client;
use sfu_core::sim::clock;
use sfu_core::stats::Refusal;
use sfu_core::transport::params::IceCredentials;
use sfu_core::transport::{Identity, TransportConfig};
use sfu_core::units::{RoomId, TransportId};
use sfu_core::worker::{Foreign, News, Notice, TRANSMIT_BUFFER, Tuple, Worker, WorkerConfig, WorkerIndex};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 7882);
const ROOM: RoomId = RoomId(1);
const RECEIVING: WorkerIndex = WorkerIndex(0);
const OWNER: WorkerIndex = WorkerIndex(1);

/// A room on one worker, all of whose datagrams reach the other one.
struct Port {
    now: Instant,
    receiving: Worker,
    owner: Worker,
    clients: Vec<Client>,
    out: Vec<u8>,
}

impl Port {
    fn new(clients: u64) -> Self {
        let now = clock::origin();
        let identity = Identity::generate().unwrap();
        let transport = Arc::new(TransportConfig::new(Arc::new(identity)));
        let worker = |index| {
            let (transport, room) = (Arc::clone(&transport), RoomConfig::default());
            Worker::new(WorkerConfig { transport, room, max_transports: 10, index, workers: 2 })
        };
        let (receiving, mut owner) = (worker(RECEIVING), worker(OWNER));
        owner.handle_command(now, Command::OpenRoom { room: ROOM });
        let clients = (1..=clients).map(TransportId).map(|id| join(now, &mut owner, id)).collect();
        Self { now, receiving, owner, clients, out: vec![0; TRANSMIT_BUFFER] }
    }

    fn tuple(&self, client: usize) -> Tuple {
        Tuple { local: SERVER, remote: self.clients[client].address() }
    }

    /// What reaches the wrong worker is passed on as it says.
    fn receive(&mut self, client: usize, mut datagram: Vec<u8>) {
        let tuple = self.tuple(client);
        match self.receiving.handle_datagram(self.now, tuple, &mut datagram) {
            Some(Foreign::Bound(to) | Foreign::Claimed(to)) => {
                assert_eq!(to, OWNER);
                self.owner.handle_handed_over(self.now, RECEIVING, tuple, &mut datagram);
                while self.owner.handle_deferred(self.now) {}
            }
            None => {}
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += Duration::from_millis(5);
            for client in 0..self.clients.len() {
                self.clients[client].handle_timeout(self.now);
                while let Some(datagram) = self.clients[client].poll_transmit() {
                    self.receive(client, datagram);
                }
            }
            self.owner.handle_timeout(self.now);
            self.exchange();
        }
    }

    /// A turn's end: notices, then datagrams.
    fn exchange(&mut self) {
        self.tell();
        while let Some(transmit) = self.owner.poll_transmit(self.now, &mut self.out) {
            let to = self.clients.iter_mut().find(|client| client.address() == transmit.tuple.remote);
            let to = to.expect("only clients are written to");
            for datagram in self.out[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                to.handle_datagram(self.now, datagram);
            }
        }
        self.tell();
        while self.owner.poll_event().is_some() {}
    }

    fn tell(&mut self) {
        while let Some((to, notice)) = self.owner.poll_notice() {
            assert_eq!((to, notice.owner), (RECEIVING, OWNER));
            self.receiving.handle_notice(notice);
        }
    }
}

fn join(now: Instant, owner: &mut Worker, id: TransportId) -> Client {
    let prefix = String::from_iter(OWNER.ufrag_prefix());
    let (ufrag, pwd) = (format!("{prefix}{:06}", id.0), "a-password-of-the-server-01".to_owned());
    let local = IceCredentials { ufrag, pwd };
    let client = Client::new(now, id, local.clone());
    let remote = client.params();
    owner.handle_command(now, Command::OpenTransport { room: ROOM, transport: id, local, remote });
    client
}

#[test]
fn media_flows_although_every_datagram_reaches_the_wrong_worker() {
    let mut port = Port::new(2);
    let publication = port.clients[0].publish(port.now, Codec::Opus);
    let (transport, track) = (port.clients[0].id(), publication.track);
    let (source, params) = (publication.source, publication.params);
    port.owner.handle_command(port.now, Command::Publish { transport, track, source, params });
    let (transport, params) = (port.clients[1].id(), port.clients[1].expect_track(track, Codec::Opus));
    port.owner.handle_command(port.now, Command::Subscribe { transport, track, params });
    port.run(Duration::from_secs(5));

    assert!(port.clients[1].received(track).len() > 150);
    assert!(port.clients[1].missing(track).is_empty());
    let (receiving, owner) = (port.receiving.stats(), port.owner.stats());
    assert_eq!((receiving.refused.total(), owner.refused.total()), (0, 0), "none came before its notice");
    assert_eq!(receiving.worker.foreign_in, receiving.worker.datagrams_in);
    assert_eq!(owner.worker.handed_over_in, receiving.worker.foreign_in);
    assert_eq!((owner.worker.datagrams_in, receiving.worker.datagrams_out), (0, 0));
}

#[test]
fn an_owner_tells_whose_an_address_is_before_it_answers() {
    let mut port = Port::new(1);
    let tuple = port.tuple(0);
    let mut dtls = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    assert_eq!(port.receiving.handle_datagram(port.now, tuple, &mut dtls), None);
    assert_eq!(port.receiving.stats().refused.of(Refusal::UnknownTuple), 1);

    port.clients[0].handle_timeout(port.now);
    let mut check = port.clients[0].poll_transmit().unwrap();
    let foreign = port.receiving.handle_datagram(port.now, tuple, &mut check);
    assert_eq!(foreign, Some(Foreign::Claimed(OWNER)));
    port.owner.handle_handed_over(port.now, RECEIVING, tuple, &mut check);
    let (to, notice) = port.owner.poll_notice().expect("before the answer");
    assert_eq!((to, notice.tuple, notice.news), (RECEIVING, tuple, News::Bound));
    assert!(port.owner.poll_transmit(port.now, &mut port.out).is_some(), "the answer");
    port.receiving.handle_notice(notice);
    let foreign = port.receiving.handle_datagram(port.now, tuple, &mut dtls);
    assert_eq!(foreign, Some(Foreign::Bound(OWNER)));
}

#[test]
fn a_check_with_a_wrong_password_announces_nothing() {
    let mut port = Port::new(1);
    let ufrag = format!("{}nobody", String::from_iter(OWNER.ufrag_prefix()));
    for (name, why) in [(ufrag.as_str(), Refusal::UnknownUfrag), ("1rnobody", Refusal::UnknownUfrag)] {
        let server =
            IceCredentials { ufrag: name.to_owned(), pwd: "not-the-password-of-this-one".to_owned() };
        port.clients[0] = Client::new(port.now, TransportId(9), server);
        port.clients[0].handle_timeout(port.now);
        let check = port.clients[0].poll_transmit().unwrap();
        let before = port.receiving.stats().refused.of(why) + port.owner.stats().refused.of(why);
        port.receive(0, check);
        assert_eq!(port.receiving.stats().refused.of(why) + port.owner.stats().refused.of(why), before + 1);
        assert!(port.owner.poll_notice().is_none() && port.receiving.poll_notice().is_none());
    }
}

#[test]
fn an_address_is_forgotten_with_its_transport() {
    let mut port = Port::new(1);
    port.run(Duration::from_secs(2));
    assert!(port.clients[0].is_connected());
    let (transport, reason) = (port.clients[0].id(), CloseReason::Requested);
    port.owner.handle_command(port.now, Command::CloseTransport { transport, reason });
    port.exchange();
    let tuple = port.tuple(0);
    let mut media = [0x80; 100];
    assert_eq!(port.receiving.handle_datagram(port.now, tuple, &mut media), None);

    // Had the notice got lost, the owner would tell again.
    port.owner.handle_handed_over(port.now, RECEIVING, tuple, &mut media);
    let (to, notice) = port.owner.poll_notice().unwrap();
    assert_eq!((to, notice.news), (RECEIVING, News::Unbound));
}

#[test]
fn an_address_that_another_transport_took_is_given_back_with_its_clients_next_check() {
    for thief in [OWNER, RECEIVING] {
        let mut port = Port::new(1);
        let publication = port.clients[0].publish(port.now, Codec::Opus);
        let (transport, track) = (port.clients[0].id(), publication.track);
        let (source, params) = (publication.source, publication.params);
        port.owner.handle_command(port.now, Command::Publish { transport, track, source, params });
        port.run(Duration::from_secs(2));
        let tuple = port.tuple(0);
        if thief == OWNER {
            let mut other = join(port.now, &mut port.owner, TransportId(9));
            other.handle_timeout(port.now);
            port.receive(0, other.poll_transmit().unwrap());
        } else {
            let news = News::Bound;
            port.owner.handle_notice(Notice { tuple, owner: thief, news });
        }
        port.exchange();
        let refused = |port: &Port| port.owner.stats().refused.total();
        let before = refused(&port);
        port.run(Duration::from_millis(100));
        assert!(refused(&port) > before, "{thief:?} has it");
        port.run(Duration::from_secs(10));
        let before = (refused(&port), port.owner.stats().rooms.packets_in);
        port.run(Duration::from_secs(1));
        assert_eq!(refused(&port), before.0, "{thief:?}");
        assert!(port.owner.stats().rooms.packets_in >= before.1 + 45, "{thief:?}");
    }
}
