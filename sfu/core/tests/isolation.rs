//! Handshakes wait for media: whoever joins, in whatever numbers, does not delay the lessons that are under way.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu_core::command::Command;
use sfu_core::room::RoomConfig;
use sfu_core::rtp::params::Codec;
use sfu_core::sim::client::Client;
use sfu_core::sim::clock;
use sfu_core::stats::Refusal;
use sfu_core::transport::demux::{Class, classify};
use sfu_core::transport::params::IceCredentials;
use sfu_core::transport::{Identity, TransportConfig};
use sfu_core::units::{RoomId, TransportId};
use sfu_core::worker::{TRANSMIT_BUFFER, Tuple, Worker, WorkerConfig, WorkerIndex};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 7882);
const ROOM: RoomId = RoomId(1);

/// A worker and its clients; datagrams arrive at once, and deferred ones are taken in when a test says so.
struct Line {
    now: Instant,
    worker: Worker,
    clients: Vec<Client>,
    out: Vec<u8>,
}

impl Line {
    fn new() -> Self {
        let now = clock::origin();
        let transport = Arc::new(TransportConfig::new(Arc::new(Identity::generate().unwrap())));
        let (room, index) = (RoomConfig::default(), WorkerIndex(0));
        let config = WorkerConfig { transport, room, max_transports: 1000, index, workers: 1 };
        let mut worker = Worker::new(config);
        worker.handle_command(now, Command::OpenRoom { room: ROOM });
        Self { now, worker, clients: Vec::new(), out: vec![0; TRANSMIT_BUFFER] }
    }

    fn join(&mut self) -> usize {
        let id = TransportId(self.clients.len() as u64 + 1);
        let prefix = String::from_iter(WorkerIndex(0).ufrag_prefix());
        let (ufrag, pwd) = (format!("{prefix}{:06}", id.0), "a-password-of-the-server-01".to_owned());
        let local = IceCredentials { ufrag, pwd };
        let client = Client::new(self.now, id, local.clone());
        let remote = client.params();
        self.worker
            .handle_command(self.now, Command::OpenTransport { room: ROOM, transport: id, local, remote });
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// A lesson of a teacher and a class, with sound that flows.
    fn with_lesson() -> Self {
        let mut line = Self::new();
        let (teacher, class) = (line.join(), line.join());
        let publication = line.clients[teacher].publish(line.now, Codec::Opus);
        let (transport, track) = (line.clients[teacher].id(), publication.track);
        let (source, params) = (publication.source, publication.params);
        line.worker.handle_command(line.now, Command::Publish { transport, track, source, params });
        let (transport, params) =
            (line.clients[class].id(), line.clients[class].expect_track(track, Codec::Opus));
        line.worker.handle_command(line.now, Command::Subscribe { transport, track, params });
        line.run(Duration::from_secs(2));
        assert!(line.clients.iter().all(Client::is_connected));
        line
    }

    /// All that a client has to send arrives.
    fn arrive(&mut self, client: usize) {
        let tuple = Tuple { local: SERVER, remote: self.clients[client].address() };
        self.clients[client].handle_timeout(self.now);
        while let Some(mut datagram) = self.clients[client].poll_transmit() {
            assert_eq!(self.worker.handle_datagram(self.now, tuple, &mut datagram), None);
        }
    }

    /// All that is ready leaves and arrives; whom it was for and what it was.
    fn leave(&mut self) -> Vec<(usize, Class)> {
        let mut left = Vec::new();
        while let Some(transmit) = self.worker.poll_transmit(self.now, &mut self.out) {
            let to =
                self.clients.iter().position(|client| client.address() == transmit.tuple.remote).unwrap();
            for datagram in self.out[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                left.push((to, classify(datagram)));
                self.clients[to].handle_datagram(self.now, datagram);
            }
        }
        while self.worker.poll_event().is_some() {}
        left
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += Duration::from_millis(5);
            (0..self.clients.len()).for_each(|client| self.arrive(client));
            while self.worker.handle_deferred(self.now) {}
            self.worker.handle_timeout(self.now);
            self.leave();
        }
    }

    /// Time passes until the teacher has a packet of sound, which arrives.
    fn sound_arrives(&mut self) {
        let before = self.worker.stats().rooms.packets_in;
        while self.worker.stats().rooms.packets_in == before {
            self.now += Duration::from_millis(1);
            self.arrive(0);
        }
    }
}

#[test]
fn sound_that_comes_after_a_flood_of_handshakes_leaves_before_them() {
    const SCHOOL: usize = 50;
    let mut line = Line::with_lesson();
    let pupils: Vec<usize> = (0..SCHOOL).map(|_| line.join()).collect();
    // Checks are answered at once; upon the answer each begins its handshake.
    pupils.iter().for_each(|&pupil| line.arrive(pupil));
    line.leave();
    pupils.iter().for_each(|&pupil| line.arrive(pupil));
    assert!(line.worker.has_deferred());

    let mut pieces = 0;
    while line.worker.has_deferred() {
        line.sound_arrives();
        let left = line.leave();
        assert!(left.contains(&(1, Class::Rtp)), "after {pieces} pieces: {left:?}");
        assert!(left.iter().all(|(_, class)| *class != Class::Dtls), "{left:?}");
        line.worker.handle_deferred(line.now);
        let left = line.leave();
        assert!(left.iter().all(|(to, class)| *to >= 2 && *class == Class::Dtls), "{left:?}");
        pieces += 1;
    }
    assert!(pieces >= SCHOOL, "one datagram at a time: {pieces}");
    line.run(Duration::from_secs(5));
    assert!(line.clients.iter().all(Client::is_connected), "and everyone gets in");
    assert_eq!(line.worker.stats().refused.total(), 0);
}

#[test]
fn handshakes_of_strangers_take_no_room() {
    let mut line = Line::with_lesson();
    let stranger = Tuple { local: SERVER, remote: ([203, 0, 113, 9], 9).into() };
    let mut hello = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    for _ in 0..5000 {
        line.worker.handle_datagram(line.now, stranger, &mut hello);
    }
    assert!(!line.worker.has_deferred());
    assert_eq!(line.worker.stats().refused.of(Refusal::UnknownTuple), 5000);
}
