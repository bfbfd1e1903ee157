//! Feature `bench`: the media socket as a worker's thread uses it, for a measurement that is its own thread.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use sfu_core::worker::{Transmit, Tuple};

use crate::udp::{Progress, ReceiveBuffers, Run, UdpSocket};

/// A media socket and what it has read.
pub struct Edge {
    socket: UdpSocket,
    received: ReceiveBuffers,
}

impl Edge {
    /// Binds it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(addr: SocketAddr, receive_buffer: usize, send_buffer: usize) -> io::Result<Self> {
        let mut group = UdpSocket::bind_group(addr, 1, receive_buffer, send_buffer)?;
        let socket = group.pop().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self { socket, received: ReceiveBuffers::new() })
    }

    /// The address that it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// Hands over what one read of the socket gives.
    pub fn receive(&mut self, handle: impl FnMut(Tuple, &mut [u8])) {
        self.socket.receive(&mut self.received);
        self.socket.drain(&mut self.received, usize::MAX, handle);
    }

    /// Sends a run, which lies in `buffer`. `false`: the send buffer is full, and what is left of it is dropped.
    pub fn send(&mut self, now: Instant, transmit: Transmit, buffer: &[u8]) -> bool {
        self.socket.send(now, &mut Run::new(transmit), buffer) == Progress::Done
    }

    /// Datagrams sent, and those that the kernel refused.
    pub fn sent(&self) -> (u64, u64) {
        let stats = self.socket.stats();
        (stats.datagrams_out, stats.send_dropped)
    }
}
