//! The relay on real sockets of loopback: who sends through it is told apart and answered, over IPv4 and IPv6.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::SocketAddr;
use std::time::Duration;

use loadtest::links::path::{Conditions, Loss};
use loadtest::relay::{Relay, RelayOptions, RelayStats};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A relay in front of an echo.
struct Line {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<std::io::Result<RelayStats>>,
}

impl Line {
    async fn start(local: &str, up: Conditions, down: Conditions) -> Self {
        let any_port: SocketAddr = local.parse().unwrap();
        let echo = UdpSocket::bind(any_port).await.unwrap();
        let to = echo.local_addr().unwrap();
        let relay = Relay::bind(&RelayOptions { listen: any_port, to, up, down, seed: 7 }).await.unwrap();
        let address = relay.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(answer(echo));
        let running = tokio::spawn(relay.run(async { stopped.await.unwrap_or_default() }));
        Self { address, stop, running }
    }

    async fn client(&self) -> UdpSocket {
        let any_port = if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any_port).await.unwrap();
        socket.connect(self.address).await.unwrap();
        socket
    }

    async fn stop(self) -> RelayStats {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap()
    }
}

/// Sends each datagram back, and the port that it came from before it.
async fn answer(socket: UdpSocket) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { return };
        let mut answer = from.port().to_be_bytes().to_vec();
        answer.extend_from_slice(&buffer[..length]);
        let _ = socket.send_to(&answer, from).await;
    }
}

/// The port that the server saw, and what it sent back.
async fn exchange(client: &UdpSocket, payload: &[u8]) -> (u16, Vec<u8>) {
    client.send(payload).await.unwrap();
    let mut buffer = [0; 1500];
    let length = timeout(PATIENCE, client.recv(&mut buffer)).await.expect("an answer").unwrap();
    (u16::from_be_bytes([buffer[0], buffer[1]]), buffer[2..length].to_vec())
}

const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn each_client_is_answered_and_has_an_address_of_its_own() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let line = Line::start(local, Conditions::default(), Conditions::default()).await;
        let (a, b) = (line.client().await, line.client().await);
        let (port_of_a, to_a) = exchange(&a, b"from a").await;
        let (port_of_b, to_b) = exchange(&b, b"from b").await;
        assert_eq!((&*to_a, &*to_b), (&b"from a"[..], &b"from b"[..]));
        assert_ne!(port_of_a, port_of_b);
        assert_eq!(exchange(&a, b"again").await, (port_of_a, b"again".to_vec()));

        let stats = line.stop().await;
        assert_eq!((stats.clients, stats.up.passed, stats.down.passed), (2, 3, 3), "{stats:?}");
        assert_eq!((stats.up.passed_bytes, stats.down.passed_bytes), (17, 23), "{stats:?}");
    }
}

#[tokio::test]
async fn the_directions_are_lines_of_their_own() {
    let lossy = Conditions { loss: Loss::Uniform(0.5), ..Conditions::default() };
    let line = Line::start("127.0.0.1:0", Conditions::default(), lossy).await;
    let client = line.client().await;
    for n in 0..40 {
        client.send(&[n]).await.unwrap();
    }
    for _ in 0..10 {
        timeout(PATIENCE, client.recv(&mut [0; 10])).await.expect("an answer").unwrap();
    }
    let stats = line.stop().await;
    assert!(stats.down.lost > 0, "{stats:?}");
    assert_eq!(stats.up.lost, 0, "{stats:?}");
}
