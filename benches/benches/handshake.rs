//! What it costs the server when somebody joins: ICE checks and the DTLS handshake, without the client's part.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sfu_core::command::{CloseReason, Command};
use sfu_core::room::RoomConfig;
use sfu_core::sim::client::Client;
use sfu_core::sim::clock;
use sfu_core::transport::params::IceCredentials;
use sfu_core::transport::{Identity, TransportConfig};
use sfu_core::units::{RoomId, TransportId};
use sfu_core::worker::{TRANSMIT_BUFFER, Tuple, Worker, WorkerConfig, WorkerIndex};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 7882);
const ROOM: RoomId = RoomId(1);

/// A worker to which clients come one after the other, and the time that it took for them.
struct Server {
    now: Instant,
    worker: Worker,
    out: Vec<u8>,
    spent: Duration,
    came: u64,
}

impl Server {
    fn new() -> Self {
        let now = clock::origin();
        let identity = Arc::new(Identity::generate().expect("the system has randomness"));
        let mut worker = Worker::new(WorkerConfig {
            transport: Arc::new(TransportConfig::new(identity)),
            room: RoomConfig::default(),
            max_transports: 10,
            index: WorkerIndex::default(),
            workers: 1,
        });
        worker.handle_command(now, Command::OpenRoom { room: ROOM });
        Self { now, worker, out: vec![0; TRANSMIT_BUFFER], spent: Duration::ZERO, came: 0 }
    }

    /// Only this counts.
    fn work<T>(&mut self, work: impl FnOnce(&mut Worker, Instant, &mut [u8]) -> T) -> T {
        let start = Instant::now();
        let done = work(&mut self.worker, self.now, &mut self.out);
        self.spent += start.elapsed();
        done
    }

    /// A client comes, is connected, and goes.
    fn serve_one(&mut self) {
        self.came += 1;
        let id = TransportId(self.came);
        let prefix = String::from_iter(WorkerIndex::default().ufrag_prefix());
        let local = IceCredentials {
            ufrag: format!("{prefix}{:06}", id.0),
            pwd: "a-password-of-the-server-01".into(),
        };
        let mut client = Client::new(self.now, id, local.clone());
        let open = Command::OpenTransport { room: ROOM, transport: id, local, remote: client.params() };
        self.work(|worker, now, _| worker.handle_command(now, open));
        let tuple = Tuple { local: SERVER, remote: client.address() };
        while !client.is_connected() {
            self.now += Duration::from_millis(5);
            client.handle_timeout(self.now);
            while let Some(mut datagram) = client.poll_transmit() {
                self.work(|worker, now, _| worker.handle_datagram(now, tuple, &mut datagram));
            }
            self.work(|worker, now, _| {
                while worker.handle_deferred(now) {}
                worker.handle_timeout(now);
            });
            while let Some(left) = self.work(|worker, now, out| worker.poll_transmit(now, out)) {
                client.handle_datagram(self.now, &mut self.out[..left.len]);
            }
            while self.worker.poll_event().is_some() {}
        }
        self.worker.handle_command(
            self.now,
            Command::CloseTransport { transport: id, reason: CloseReason::Requested },
        );
        while self.worker.poll_transmit(self.now, &mut self.out).is_some() {}
        while self.worker.poll_event().is_some() {}
    }
}

fn join(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    group.sample_size(20);
    group.bench_function("join", |bencher| {
        let mut server = Server::new();
        bencher.iter_custom(|clients| {
            server.spent = Duration::ZERO;
            (0..clients).for_each(|_| server.serve_one());
            server.spent
        });
    });
}

criterion_group!(benches, join);
criterion_main!(benches);
