//! A client with a socket of its own: real ICE checks, a real handshake, SRTP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::ensure;
use quinn_udp::UdpSocketState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sfu_core::transport::params::{IceCredentials, RemoteParams};
use sfu_core::transport::peer::{Opened, Peer};
use socket2::SockRef;

use super::sdp::Answer;
use crate::limit::link::send_run;

/// See the module's description.
pub struct Client {
    socket: UdpSocket,
    state: UdpSocketState,
    server: SocketAddr,
    peer: Peer,
}

impl Client {
    /// A client that has made no offer yet. `name` must differ between clients.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn new(name: u32) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = UdpSocketState::new((&socket).into())?;
        let unknown = IceCredentials { ufrag: String::new(), pwd: String::new() };
        let server = socket.local_addr()?;
        Ok(Self { socket, state, server, peer: Peer::new(Instant::now(), name, unknown) })
    }

    /// What its offer says.
    pub fn params(&self) -> RemoteParams {
        self.peer.params()
    }

    /// Takes the answer to its offer.
    pub fn take(&mut self, answer: Answer) {
        self.server = answer.addr;
        self.peer.set_server(answer.ice);
    }

    /// Where the server is.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Whether SRTP flows.
    pub fn is_connected(&self) -> bool {
        self.peer.is_connected()
    }

    /// Ceases to read: what comes is dropped at its socket, at once and at no cost to anybody but the sender.
    ///
    /// # Errors
    /// When the socket refuses.
    pub fn fall_asleep(&self) -> io::Result<()> {
        SockRef::from(&self.socket).set_recv_buffer_size(1)
    }

    /// Sends what is due: checks, the handshake's next part.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn tend(&mut self, now: Instant) -> io::Result<()> {
        if self.peer.poll_timeout().is_some_and(|due| due <= now) {
            self.peer.handle_timeout(now);
        }
        while let Some(datagram) = self.peer.poll_transmit() {
            self.socket.send_to(&datagram, self.server)?;
        }
        Ok(())
    }

    /// Takes in all that is there; calls `arrived` with each RTP packet.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn read(&mut self, mut arrived: impl FnMut(Instant, &[u8])) -> io::Result<()> {
        let mut message = [0; 65_536];
        let mut slices = [io::IoSliceMut::new(&mut message)];
        let mut meta = [quinn_udp::RecvMeta::default()];
        loop {
            match self.state.recv((&self.socket).into(), &mut slices, &mut meta) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            for datagram in slices[0][..meta[0].len].chunks_mut(meta[0].stride.max(1)) {
                if let Opened::Rtp(len) = self.peer.handle_datagram(now, datagram) {
                    arrived(now, &datagram[..len]);
                }
            }
        }
        self.tend(Instant::now())
    }

    /// Seals the RTP packet in `buf[..len]`; its length on the wire.
    ///
    /// # Errors
    /// Before the handshake is done.
    pub fn seal(&mut self, buf: &mut [u8], len: usize) -> anyhow::Result<usize> {
        Ok(self.peer.protect_rtp(buf, len)?)
    }

    /// Sends a run of sealed packets at once.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send(&self, run: &[u8], segment: usize) -> anyhow::Result<()> {
        send_run(&self.state, &self.socket, self.server, run, segment)
    }
}

/// Serves all clients until every one is connected.
///
/// # Errors
/// When that takes longer than `patience`.
pub fn connect(clients: &mut [Client], patience: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + patience;
    while !clients.iter().all(Client::is_connected) {
        let now = Instant::now();
        let missing = clients.iter().filter(|client| !client.is_connected()).count();
        ensure!(now < end, "{missing} of {} clients do not get connected", clients.len());
        for client in clients.iter_mut() {
            client.tend(now)?;
        }
        wait(clients, Duration::from_millis(5))?;
        for client in clients.iter_mut() {
            client.read(|_, _| {})?;
        }
    }
    Ok(())
}

/// Waits until a client has something to read.
///
/// # Errors
/// When the system refuses.
pub fn wait(clients: &[Client], time: Duration) -> anyhow::Result<()> {
    let mut fds: Vec<_> = clients.iter().map(|client| PollFd::new(&client.socket, PollFlags::IN)).collect();
    poll(&mut fds, Some(&Timespec::try_from(time)?))?;
    Ok(())
}
