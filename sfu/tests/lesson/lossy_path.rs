//! A path between clients and the SFU that loses media packets, evenly and in both directions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::net::UdpSocket;

/// Clients send to [`Self::addr`]; the SFU sees one address of its own for each of them.
pub(crate) struct LossyPath {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    outside: UdpSocket,
    sfu: OnceLock<SocketAddr>,
    /// One media packet in so many is lost.
    one_in: u64,
    media: AtomicU64,
    lost: AtomicU64,
}

impl LossyPath {
    pub(crate) async fn new(one_in: u64) -> Self {
        let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = outside.local_addr().unwrap();
        let (sfu, media, lost) = (OnceLock::new(), AtomicU64::new(0), AtomicU64::new(0));
        Self { addr, shared: Arc::new(Shared { outside, sfu, one_in, media, lost }) }
    }

    /// What clients are told to send to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Begins to carry datagrams.
    pub(crate) fn lead_to(&self, sfu: SocketAddr) {
        self.shared.sfu.set(sfu).unwrap();
        tokio::spawn(inward(Arc::clone(&self.shared)));
    }

    /// Packets lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Whether the path loses this datagram. Handshakes, feedback and data channels get through.
    fn loses(&self, datagram: &[u8]) -> bool {
        // RFC 7983 and RFC 5761 §4: RTP begins with 128..=191, and RTCP's packet types look like 64..=95.
        let media = matches!(datagram, [128..=191, second, ..] if !(64..96).contains(&(second & 0x7F)));
        let lost = media && self.media.fetch_add(1, Ordering::Relaxed) % self.one_in == self.one_in - 1;
        self.lost.fetch_add(lost.into(), Ordering::Relaxed);
        lost
    }
}

async fn inward(shared: Arc<Shared>) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = [0; 2048];
    while let Ok((len, client)) = shared.outside.recv_from(&mut buffer).await {
        let inside = match clients.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                inside.connect(shared.sfu.get().unwrap()).await.unwrap();
                tokio::spawn(outward(Arc::clone(&shared), Arc::clone(&inside), client));
                new.insert(inside)
            }
        };
        if !shared.loses(&buffer[..len]) {
            inside.send(&buffer[..len]).await.ok();
        }
    }
}

async fn outward(shared: Arc<Shared>, inside: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = [0; 2048];
    while let Ok(len) = inside.recv(&mut buffer).await {
        if !shared.loses(&buffer[..len]) {
            shared.outside.send_to(&buffer[..len], client).await.ok();
        }
    }
}
