//! A socket on loopback that is filled with one client's packets before the clock runs.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
use socket2::SockRef;

use super::link::send_run;
use super::seal::Key;
use super::{MAX_TAG, PACKET};

/// The receiving socket and the client that fills it with sealed packets, whose index their header names.
pub struct Inbox {
    socket: UdpSocket,
    addr: SocketAddr,
    client: UdpSocket,
    client_state: UdpSocketState,
    /// The client's packets, end to end.
    sealed: Vec<u8>,
    /// Bytes of each.
    segment: usize,
}

impl Inbox {
    /// Most packets that wait at once; what an unprivileged receive buffer holds.
    pub const CAPACITY: usize = 128;

    /// With a client that seals with `key`.
    ///
    /// # Errors
    /// When the sockets cannot be opened.
    pub fn new(key: &Key) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client_state = UdpSocketState::new((&client).into())?;
        let (sealed, segment) = sealed(key, Self::CAPACITY);
        Ok(Self { socket, addr, client, client_state, sealed, segment })
    }

    /// The receiving socket, non-blocking.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Lets the first `count` packets arrive, `run` of them by each send.
    ///
    /// # Errors
    /// When the client's socket fails.
    pub fn fill(&self, count: usize, run: usize) -> anyhow::Result<()> {
        for run in self.sealed[..count * self.segment].chunks(run * self.segment) {
            self.send(run)?;
        }
        Ok(())
    }

    /// Lets the first `run` packets arrive at once.
    ///
    /// # Errors
    /// When the client's socket fails.
    pub fn send_first(&self, run: usize) -> anyhow::Result<()> {
        self.send(&self.sealed[..run * self.segment])
    }

    fn send(&self, run: &[u8]) -> anyhow::Result<()> {
        send_run(&self.client_state, &self.client, self.addr, run, self.segment)
    }

    /// Reads one datagram by recvmsg; `None` when there is none, or on a blocking socket, none in time.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn receive(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let mut control = RecvAncillaryBuffer::default();
        match recvmsg(&self.socket, &mut [IoSliceMut::new(buf)], &mut control, RecvFlags::empty()) {
            Ok(message) => Ok(Some(message.bytes)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Asked for where the privilege allows it, bytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Packets with the indices from 0 on, end to end, and the length of each.
fn sealed(key: &Key, count: usize) -> (Vec<u8>, usize) {
    let (mut all, mut segment) = (Vec::new(), 0);
    for index in 0..count as u16 {
        let mut packet = [0; PACKET + MAX_TAG];
        packet[0] = 0x80;
        packet[SEQ..SEQ + 2].copy_from_slice(&index.to_be_bytes());
        segment = key.seal(&mut packet, index.into());
        all.extend(&packet[..segment]);
    }
    (all, segment)
}

/// The index of a packet from the client.
pub fn index_of(packet: &[u8]) -> u64 {
    u16::from_be_bytes([packet[SEQ], packet[SEQ + 1]]).into()
}

/// Where an RTP header has its sequence number (RFC 3550 §5.1).
pub const SEQ: usize = 2;

/// Receives by batches: recvmmsg, and GRO where the kernel has joined datagrams.
pub struct Batches {
    state: UdpSocketState,
    memory: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
}

impl Batches {
    /// For the socket of `inbox`, on which it allows GRO.
    ///
    /// # Errors
    /// When the socket refuses an option that it needs.
    pub fn new(inbox: &Inbox) -> io::Result<Self> {
        let state = UdpSocketState::new((&inbox.socket).into())?;
        Ok(Self { state, memory: vec![0; BATCH_SIZE * MESSAGE], meta: [RecvMeta::default(); BATCH_SIZE] })
    }

    /// Reads one batch and tells how many datagrams and messages that were; none when nothing is there.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn receive(&mut self, inbox: &Inbox) -> io::Result<(usize, usize)> {
        let mut chunks = self.memory.chunks_exact_mut(MESSAGE);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        match self.state.recv((&inbox.socket).into(), &mut slices, &mut self.meta) {
            Ok(messages) => {
                let datagrams = |meta: &RecvMeta| meta.len.div_ceil(meta.stride.max(1));
                Ok((self.meta[..messages].iter().map(datagrams).sum(), messages))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok((0, 0)),
            Err(error) => Err(error),
        }
    }
}

/// Longest message, bytes: the kernel joins datagrams up to the largest IP packet.
const MESSAGE: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::super::seal::Profile;
    use super::*;

    #[test]
    fn packets_arrive_in_order_and_open() {
        let keys = Key::set(Profile::Gcm, 1);
        let inbox = Inbox::new(&keys[0]).unwrap();
        let mut buf = [0; 2048];
        for run in [1, 4] {
            inbox.fill(8, run).unwrap();
            for index in 0..8 {
                let len =
                    inbox.receive(&mut buf).unwrap().expect("loopback delivers before the send returns");
                assert_eq!(index_of(&buf), index);
                keys[0].open(&mut buf[..len], index).unwrap();
            }
            assert_eq!(inbox.receive(&mut buf).unwrap(), None);
        }
    }

    #[test]
    fn batches_take_all_datagrams_joined_or_not() {
        let keys = Key::set(Profile::Sha1, 1);
        let inbox = Inbox::new(&keys[0]).unwrap();
        let mut batches = Batches::new(&inbox).unwrap();
        for run in [1, 8] {
            inbox.fill(16, run).unwrap();
            let (datagrams, messages) = batches.receive(&inbox).unwrap();
            assert_eq!(datagrams, 16);
            assert!(messages == 16 || run > 1, "what was sent singly stays so: {messages}");
            assert_eq!(batches.receive(&inbox).unwrap(), (0, 0));
        }
    }
}
