//! Feature `bench`: the media sockets as a worker's thread uses them, for a measurement that is its own thread.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use sfu_core::worker::{Transmit, Tuple};

use crate::egress::Outlet;
pub use crate::outbox::Outbox;
use crate::sockets::Sockets;
use crate::udp::{Buffers, Progress, ReceiveBuffers, Run};

/// The media sockets and what was read from them.
pub struct Edge {
    sockets: Sockets,
    received: ReceiveBuffers,
}

impl Edge {
    /// Binds them to `addr`, and to each of `own` where that means all addresses.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(addr: SocketAddr, own: &[IpAddr], buffer: usize) -> io::Result<Self> {
        let mut workers = Sockets::bind(addr, own, 1, Buffers { receive: buffer, send: buffer })?;
        let sockets = workers.pop().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self { sockets, received: ReceiveBuffers::new() })
    }

    /// The address that the first is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.sockets.local_addr()
    }

    /// Hands over what one read of the first gives.
    pub fn receive(&mut self, handle: impl FnMut(Tuple, &mut [u8])) {
        self.sockets.receive(0, &mut self.received);
        self.sockets.drain(&mut self.received, usize::MAX, handle);
    }

    /// Sends a run, which lies in `buffer`. `false`: the send buffer is full, and what is left of it is dropped.
    pub fn send(&mut self, now: Instant, transmit: Transmit, buffer: &[u8]) -> bool {
        self.sockets.send(now, &mut Run::new(transmit), buffer) == Progress::Done
    }

    /// Datagrams sent, and those that the kernel refused.
    pub fn sent(&self) -> (u64, u64) {
        let stats = self.sockets.stats();
        (stats.datagrams_out, stats.send_dropped)
    }
}
