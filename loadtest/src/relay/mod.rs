//! A bad line to put in front of a server's media port: a UDP relay that loses, delays and queues datagrams, so
//! that tests and measurements need no fault knob in the product, and no privilege for the kernel's `netem`.
//!
//! The server announces the relay's address to its clients (`node_ip`) and sees each of them at an address of the
//! relay's own. One relay is one access line: all who come through it share its rate and its queue. Several lines
//! are several relays.
//!
//! | module | what it holds |
//! |---|---|
//! | [`link`] | one direction of the line: an emulated path of [`crate::links`] |
//! | `clients` | who comes through the relay, each with a socket towards the server |

mod clients;
pub mod link;

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{interval, sleep_until};

use self::clients::{Clients, IDLE_TIME};
use self::link::{Link, LinkStats};
use crate::links::path::Conditions;

/// Where a relay stands, and what its line is like.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Where clients send to; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The server's media port.
    pub to: SocketAddr,
    /// From clients to the server.
    pub up: Conditions,
    /// From the server to clients.
    pub down: Conditions,
    /// What the line loses follows from it.
    pub seed: u64,
}

/// What became of the datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RelayStats {
    /// From clients to the server.
    pub up: LinkStats,
    /// From the server to clients.
    pub down: LinkStats,
    /// Clients that there were in all.
    pub clients: u64,
    /// Datagrams of clients for whom there was no place.
    pub refused: u64,
    /// Datagrams for clients who had become idle and were forgotten.
    pub forgotten: u64,
    /// Datagrams that passed the line and that a socket did not take.
    pub unsent: u64,
}

/// A line with both of its ends.
pub struct Relay {
    listen: UdpSocket,
    clients: Clients,
    from_server: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    /// By the client who sent a datagram.
    up: Link<SocketAddr>,
    /// By the client to whom it goes.
    down: Link<SocketAddr>,
    refused: u64,
    forgotten: u64,
    unsent: u64,
}

impl Relay {
    /// Opens the client's end. The time of a line that changes begins now.
    pub async fn bind(options: &RelayOptions) -> io::Result<Self> {
        let start = Instant::now();
        let (to_relay, from_server) = mpsc::channel(INBOX);
        Ok(Self {
            listen: UdpSocket::bind(options.listen).await?,
            clients: Clients::new(options.to, to_relay),
            from_server,
            up: Link::new(options.up.clone(), start, options.seed),
            // Any other seed, so that the directions differ.
            down: Link::new(options.down.clone(), start, !options.seed),
            refused: 0,
            forgotten: 0,
            unsent: 0,
        })
    }

    /// Where clients send to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listen.local_addr()
    }

    /// Relays until `stop`; then says what became of the datagrams. An error is one of the listening socket.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> io::Result<RelayStats> {
        let mut stop = std::pin::pin!(stop);
        let mut sweep = interval(IDLE_TIME / 2);
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            self.pass_on().await;
            let next = [self.up.poll_timeout(), self.down.poll_timeout()].into_iter().flatten().min();
            let arrival = async {
                match next {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut stop => return Ok(self.stats()),
                () = arrival => {}
                _ = sweep.tick() => self.clients.forget_idle(Instant::now()),
                received = self.listen.recv_from(&mut buffer) => {
                    let (length, from) = received?;
                    self.handle_upward(from, &buffer[..length]).await;
                }
                Some((client, payload)) = self.from_server.recv() => {
                    self.down.handle_datagram(Instant::now(), client, &payload);
                }
            }
        }
    }

    async fn handle_upward(&mut self, from: SocketAddr, payload: &[u8]) {
        let now = Instant::now();
        match self.clients.heard(from, now).await {
            Ok(()) => self.up.handle_datagram(now, from, payload),
            Err(_) => self.refused += 1,
        }
    }

    /// Sends what has arrived at the other end of the line.
    async fn pass_on(&mut self) {
        let now = Instant::now();
        while let Some((client, payload)) = self.up.poll_transmit(now) {
            let Some(socket) = self.clients.socket(client) else {
                self.forgotten += 1;
                continue;
            };
            self.unsent += u64::from(socket.send(&payload).await.is_err());
        }
        while let Some((client, payload)) = self.down.poll_transmit(now) {
            self.unsent += u64::from(self.listen.send_to(&payload, client).await.is_err());
        }
    }

    fn stats(&self) -> RelayStats {
        RelayStats {
            up: self.up.stats(),
            down: self.down.stats(),
            clients: self.clients.count(),
            refused: self.refused,
            forgotten: self.forgotten,
            unsent: self.unsent,
        }
    }
}

/// Datagrams from the server that wait for their turn. When it is full, they wait in the sockets' own buffers.
const INBOX: usize = 1024;

/// The longest that UDP carries.
const MAX_DATAGRAM: usize = 65_535;
