//! Who comes through the relay: each client has a socket towards the server, so that the server tells them apart.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::MAX_DATAGRAM;

/// What the server sends, and to which client.
type ToRelay = mpsc::Sender<(SocketAddr, Vec<u8>)>;

/// The clients, by their address.
#[derive(Debug)]
pub(super) struct Clients {
    server: SocketAddr,
    to_relay: ToRelay,
    present: HashMap<SocketAddr, Client>,
    count: u64,
}

#[derive(Debug)]
struct Client {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
    last_heard: Instant,
}

impl Clients {
    /// Nobody yet.
    pub(super) fn new(server: SocketAddr, to_relay: ToRelay) -> Self {
        Self { server, to_relay, present: HashMap::new(), count: 0 }
    }

    /// A client sent something: it gets a socket if it has none. An error means that there is none to be had.
    pub(super) async fn heard(&mut self, client: SocketAddr, now: Instant) -> io::Result<()> {
        let places_left = self.present.len() < MAX_CLIENTS;
        match self.present.entry(client) {
            Entry::Occupied(entry) => entry.into_mut().last_heard = now,
            Entry::Vacant(_) if !places_left => return Err(io::ErrorKind::QuotaExceeded.into()),
            Entry::Vacant(entry) => {
                let socket = Arc::new(connect(self.server).await?);
                let reading = read(Arc::clone(&socket), client, self.to_relay.clone());
                let reader = tokio::spawn(reading).abort_handle();
                entry.insert(Client { socket, reader, last_heard: now });
                self.count += 1;
            }
        }
        Ok(())
    }

    /// The client's socket towards the server.
    pub(super) fn socket(&self, client: SocketAddr) -> Option<&UdpSocket> {
        self.present.get(&client).map(|client| &*client.socket)
    }

    /// Lets go of those who have been silent for long.
    pub(super) fn forget_idle(&mut self, now: Instant) {
        self.present.retain(|_, client| now.saturating_duration_since(client.last_heard) < IDLE_TIME);
    }

    /// How many there were in all.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any_port = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any_port).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// Hands over what the server sends to a client, until the relay ends or forgets the client.
async fn read(socket: Arc<UdpSocket>, client: SocketAddr, to_relay: ToRelay) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let length = match socket.recv(&mut buffer).await {
            Ok(length) => length,
            // An ICMP message: nobody listens at the server's port just now.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(_) => return,
        };
        if to_relay.send((client, buffer[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

/// More than come through one line, within what a process may open.
const MAX_CLIENTS: usize = 500;

/// Browsers check an ICE candidate pair every few seconds as long as they have any interest in it.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[tokio::test]
    async fn places_are_bounded_and_the_idle_make_room() {
        let (to_relay, _from_server) = mpsc::channel(1);
        let mut clients = Clients::new(addr(9), to_relay);
        let start = Instant::now();
        for port in 1..=MAX_CLIENTS as u16 {
            clients.heard(addr(port), start).await.unwrap();
        }
        assert!(clients.heard(addr(5000), start).await.is_err());

        let later = start + IDLE_TIME;
        clients.heard(addr(1), later).await.unwrap();
        clients.forget_idle(later);
        assert!(clients.socket(addr(1)).is_some() && clients.socket(addr(2)).is_none());
        clients.heard(addr(5000), later).await.unwrap();
        assert_eq!(clients.count(), MAX_CLIENTS as u64 + 1);
    }
}
