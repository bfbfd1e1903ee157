//! A worker, its clients and the paths between them, moved on together in virtual time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, Publication};
use super::path::{Conditions, Path};
use crate::command::{Command, Event};
use crate::room::RoomConfig;
use crate::rtp::params::Codec;
use crate::transport::params::IceCredentials;
use crate::transport::{Identity, TransportConfig};
use crate::units::{RoomId, TrackId, TransportId};
use crate::worker::{TRANSMIT_BUFFER, Transmit, Tuple, Worker, WorkerConfig, WorkerIndex};

/// The address of the server.
pub(super) const SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 7882);

/// Longest step of virtual time, so that a run ends where it is told to.
const TICK: Duration = Duration::from_millis(100);

/// The whole of it.
pub struct Network {
    /// Virtual time.
    pub now: Instant,
    /// The server.
    pub worker: Worker,
    /// Another worker of the same port, where there is one: all that clients send reaches it first.
    pub neighbour: Option<Worker>,
    /// The clients, in the order in which they were added.
    pub clients: Vec<Client>,
    /// What the worker reported.
    pub events: Vec<Event>,
    links: Vec<Link>,
    out: Vec<u8>,
    seed: u64,
}

struct Link {
    up: Path,
    down: Path,
}

impl Network {
    /// A server without rooms. Accidents on the paths follow from `seed`.
    pub fn new(now: Instant, seed: u64) -> Self {
        Self {
            now,
            worker: Worker::new(config(WorkerIndex(0), 1)),
            neighbour: None,
            clients: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            out: vec![0; TRANSMIT_BUFFER],
            seed,
        }
    }

    /// The same with two workers on the port, where every datagram reaches the wrong one.
    pub fn with_neighbour(now: Instant, seed: u64) -> Self {
        let worker = |index| Worker::new(config(WorkerIndex(index), 2));
        Self { worker: worker(1), neighbour: Some(worker(0)), ..Self::new(now, seed) }
    }

    /// Adds a client to a room, which is made where there is none. Returns its place in [`Self::clients`].
    pub fn join(&mut self, room: RoomId, conditions: Conditions) -> usize {
        let place = self.clients.len();
        let id = TransportId(place as u64 + 1);
        let owner = String::from_iter(WorkerIndex(u16::from(self.neighbour.is_some())).ufrag_prefix());
        let (ufrag, pwd) = (format!("{owner}{place:06x}"), format!("server-password-{place:08x}"));
        let local = IceCredentials { ufrag, pwd };
        let client = Client::new(self.now, id, local.clone());
        self.command(Command::OpenRoom { room });
        self.command(Command::OpenTransport { room, transport: id, local, remote: client.params() });
        self.clients.push(client);
        let seed = self.seed ^ (place as u64) << 32;
        self.links.push(Link { up: Path::new(conditions, seed), down: Path::new(conditions, seed + 1) });
        place
    }

    /// Changes what the paths of a client do, both ways.
    pub fn set_conditions(&mut self, client: usize, conditions: Conditions) {
        self.links[client].up.conditions = conditions;
        self.links[client].down.conditions = conditions;
    }

    /// Lets a client publish a codec's stream from now on.
    pub fn publish(&mut self, client: usize, codec: Codec) -> TrackId {
        let publication = self.clients[client].publish(self.now, codec);
        self.announce(client, publication)
    }

    /// Lets a client publish a picture in three sizes from now on.
    pub fn publish_simulcast(&mut self, client: usize) -> TrackId {
        let publication = self.clients[client].publish_simulcast(self.now);
        self.announce(client, publication)
    }

    fn announce(&mut self, client: usize, publication: Publication) -> TrackId {
        let track = publication.track;
        self.command(Command::Publish {
            transport: self.clients[client].id(),
            track,
            source: publication.source,
            params: publication.params,
        });
        track
    }

    /// Forwards a track to a client.
    pub fn subscribe(&mut self, client: usize, track: TrackId, codec: Codec) {
        let params = self.clients[client].expect_track(track, codec);
        self.command(Command::Subscribe { transport: self.clients[client].id(), track, params });
    }

    /// Gives the worker a command.
    pub fn command(&mut self, command: Command) {
        self.worker.handle_command(self.now, command);
        self.drain();
    }

    /// Hands the worker a datagram as if a client had sent it.
    pub fn inject(&mut self, from: SocketAddr, datagram: &[u8]) {
        let tuple = Tuple { local: SERVER, remote: from };
        take_in(self.now, &mut self.worker, self.neighbour.as_mut(), tuple, &mut datagram.to_vec());
        while self.worker.handle_deferred(self.now) {}
        self.drain();
    }

    /// Moves everything on by `duration`.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now = self.next_moment().min(self.now + TICK).clamp(self.now, end);
            self.step();
        }
    }

    /// Moves everything on until `done`, at most for `limit`. Returns whether it was done.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) && self.now < end {
            self.run(Duration::from_millis(10));
        }
        done(self)
    }

    fn next_moment(&self) -> Instant {
        let links = self.links.iter().flat_map(|link| [link.up.poll_timeout(), link.down.poll_timeout()]);
        let clients = self.clients.iter().map(Client::poll_timeout);
        links.chain(clients).chain([self.worker.poll_timeout()]).flatten().min().unwrap_or(self.now + TICK)
    }

    fn step(&mut self) {
        for (client, link) in self.clients.iter_mut().zip(&mut self.links) {
            while let Some(mut datagram) = link.up.receive(self.now) {
                let tuple = Tuple { local: SERVER, remote: client.address() };
                take_in(self.now, &mut self.worker, self.neighbour.as_mut(), tuple, &mut datagram);
            }
            while let Some(mut datagram) = link.down.receive(self.now) {
                client.handle_datagram(self.now, &mut datagram);
            }
            client.handle_timeout(self.now);
            while let Some(datagram) = client.poll_transmit() {
                link.up.send(self.now, &datagram);
            }
        }
        while self.worker.handle_deferred(self.now) {}
        if self.worker.poll_timeout().is_some_and(|due| due <= self.now) {
            self.worker.handle_timeout(self.now);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(Transmit { tuple, len, segment, .. }) =
            self.worker.poll_transmit(self.now, &mut self.out)
        {
            let receiver = self.clients.iter().position(|client| client.address() == tuple.remote);
            let Some(receiver) = receiver else { continue };
            for datagram in self.out[..len].chunks(segment.unwrap_or(len)) {
                self.links[receiver].down.send(self.now, datagram);
            }
        }
        while let Some(event) = self.worker.poll_event() {
            self.events.push(event);
        }
    }
}

fn config(index: WorkerIndex, workers: u16) -> WorkerConfig {
    let identity = Identity::generate().expect("aws-lc makes P-256 certificates");
    WorkerConfig {
        transport: Arc::new(TransportConfig::new(Arc::new(identity))),
        room: RoomConfig::default(),
        max_transports: 1000,
        index,
        workers,
    }
}

/// What a client sent arrives: at the worker, or at its neighbour, which passes it on.
pub(super) fn take_in(
    now: Instant,
    worker: &mut Worker,
    neighbour: Option<&mut Worker>,
    tuple: Tuple,
    datagram: &mut [u8],
) {
    let Some(neighbour) = neighbour else {
        let foreign = worker.handle_datagram(now, tuple, datagram);
        debug_assert_eq!(foreign, None, "there is no other");
        return;
    };
    if neighbour.handle_datagram(now, tuple, datagram).is_some() {
        worker.handle_handed_over(now, WorkerIndex(0), tuple, datagram);
    }
    while let Some((_, notice)) = worker.poll_notice() {
        neighbour.handle_notice(notice);
    }
}
