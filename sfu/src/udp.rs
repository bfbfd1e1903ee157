//! The media socket: batched receive (recvmmsg and UDP GRO) and run-wise send (UDP GSO).
//!
//! Built on `quinn-udp`, whose habits suit QUIC and need correction for media: it sets DF (undone in
//! [`UdpSocket::state_of`]), and one EINVAL or EIO turns GSO off for the life of its state (a new one is made
//! [`GSO_RETRY`] later).

use std::io::{self, IoSliceMut};
use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use sfu_core::units::MAX_DATAGRAM_IN;
use sfu_core::worker::{Transmit, Tuple};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

/// A bound, non-blocking UDP socket.
pub(crate) struct UdpSocket {
    socket: Socket,
    state: UdpSocketState,
    local: SocketAddr,
    /// When an error last turned GSO off.
    gso_off_since: Option<Instant>,
    stats: UdpStats,
}

sfu_core::counters! {
    /// What the socket counts.
    UdpStats {
        /// Successful receive calls; each takes up to a batch of datagrams.
        receive_calls,
        /// Receive calls that failed for another reason than that nothing was there.
        receive_errors,
        /// Datagrams longer than [`MAX_DATAGRAM_IN`], dropped unread.
        oversized,
        /// Successful send calls; each takes a run of datagrams to one client.
        send_calls,
        /// Datagrams sent.
        datagrams_out,
        /// Bytes of UDP payload sent.
        bytes_out,
        /// Times that the socket's send buffer was full, or the kernel had no memory for a datagram.
        send_blocked,
        /// Datagrams dropped because the kernel refused them.
        send_dropped,
        /// Runs that the kernel refused as one and that were sent datagram by datagram.
        runs_split,
        /// Times that GSO was turned off by an error.
        gso_disabled,
        /// Times that GSO was tried again.
        gso_rearmed,
    }
}

/// The kernel's buffers of a socket, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffers {
    pub(crate) receive: usize,
    pub(crate) send: usize,
}

/// Whether a run has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All of it has left or was refused for good.
    Done,
    /// There is no room for the rest now.
    Full(Full),
}

/// What has no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The send buffer (EAGAIN): the socket tells when it is writable.
    SendBuffer,
    /// The kernel's memory or the device's queue (ENOBUFS), of which nothing tells.
    Memory,
}

/// A run of datagrams to one client, at the start of the caller's buffer, and how far it has left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    transmit: Transmit,
    /// How many of its bytes are done with.
    sent: usize,
}

impl Run {
    pub(crate) fn new(transmit: Transmit) -> Self {
        Self { transmit, sent: 0 }
    }

    /// Between whom.
    #[inline]
    pub(crate) fn tuple(&self) -> Tuple {
        self.transmit.tuple
    }

    /// Bytes that are done with.
    #[cfg(test)]
    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    /// Bytes that are not.
    pub(crate) fn left(&self) -> usize {
        self.transmit.len - self.sent
    }

    /// Datagrams in them.
    pub(crate) fn datagrams_left(&self) -> u64 {
        self.left().div_ceil(self.segment()) as u64
    }

    /// So many more bytes, whole datagrams, are done with.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.sent = self.transmit.len.min(self.sent + bytes);
    }

    /// What is left as a run of its own.
    pub(crate) fn rest(self, bytes: &[u8]) -> (Self, &[u8]) {
        let rest = &bytes[self.sent..self.transmit.len];
        let transmit = Transmit { len: rest.len(), segment: Some(self.segment()), ..self.transmit };
        (Self::new(transmit), rest)
    }

    /// Bytes of each datagram but the last.
    fn segment(&self) -> usize {
        self.transmit.segment.unwrap_or(self.transmit.len).clamp(1, self.transmit.len.max(1))
    }
}

impl UdpSocket {
    /// Binds `count` sockets to one address and port, among which the kernel spreads the clients by a hash of
    /// their addresses. The hash is stable while the group is: open all before serving, close none.
    ///
    /// The first is bound without SO_REUSEPORT, so that a second server on the port fails here instead of taking
    /// over a part of the first one's packets, and lets the others in only then. Port 0: it picks one for all.
    pub(crate) fn bind_group(addr: SocketAddr, count: usize, buffers: Buffers) -> io::Result<Vec<Self>> {
        let first = Self::open(addr)?;
        first.bind(&addr.into())?;
        first.set_reuse_port(true)?;
        let first = Self::ready(first, buffers)?;
        let others = Self::join_group(first.local, count - 1, buffers)?;
        Ok(iter::once(first).chain(others).collect())
    }

    /// Binds `count` sockets to an address at the port of a group.
    pub(crate) fn join_group(addr: SocketAddr, count: usize, buffers: Buffers) -> io::Result<Vec<Self>> {
        let join = |_| {
            let socket = Self::open(addr)?;
            socket.set_reuse_port(true)?;
            socket.bind(&addr.into())?;
            Self::ready(socket, buffers)
        };
        (0..count).map(join).collect()
    }

    /// Of a socket that is bound.
    fn ready(socket: Socket, buffers: Buffers) -> io::Result<Self> {
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        enlarge_buffers(&socket, buffers)?;
        let state = Self::state_of(&socket, local)?;
        Ok(Self { socket, state, local, gso_off_since: None, stats: UdpStats::default() })
    }

    /// A socket that is not bound yet. An IPv6 wildcard address will serve IPv4 too.
    fn open(addr: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        Ok(socket)
    }

    /// quinn-udp's view of the socket, with fragmentation allowed again: media packets are small enough for
    /// any path (`MAX_DATAGRAM_OUT`), and one that is not must arrive in pieces rather than not at all.
    fn state_of(socket: &Socket, local: SocketAddr) -> io::Result<UdpSocketState> {
        let state = UdpSocketState::new(socket.into())?;
        sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?;
        if local.is_ipv6() {
            sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT)?;
        }
        Ok(state)
    }

    /// The address that it is bound to.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Its counters so far.
    pub(crate) fn stats(&self) -> UdpStats {
        self.stats
    }

    /// Reads what one system call gives, at most [`BATCH_SIZE`] messages; [`Self::drain`] hands them over. All that
    /// was read before has to be handed over.
    pub(crate) fn receive(&mut self, buffers: &mut ReceiveBuffers) {
        debug_assert!(buffers.message().is_none(), "datagrams are lost");
        let mut chunks = buffers.memory.chunks_exact_mut(MESSAGE_LEN);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        match self.state.recv((&self.socket).into(), &mut slices, &mut buffers.meta) {
            Ok(count) => {
                self.stats.receive_calls += 1;
                (buffers.count, buffers.next, buffers.offset) = (count, 0, 0);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.stats.receive_errors += 1,
        }
    }

    /// Hands over the next datagrams that were read, at most `most`. Returns whether there are more.
    pub(crate) fn drain(
        &mut self,
        buffers: &mut ReceiveBuffers,
        most: usize,
        mut handle: impl FnMut(Tuple, &mut [u8]),
    ) -> bool {
        let mut left = most;
        while let Some((message, meta)) = buffers.message() {
            let tuple = self.tuple(&meta);
            // GRO: datagrams of equal length from one client lie end to end, the last may be shorter.
            let datagrams = message.chunks_mut(meta.stride.max(1)).take(left);
            let (mut count, mut bytes) = (0, 0);
            for datagram in datagrams {
                (count, bytes) = (count + 1, bytes + datagram.len());
                if datagram.len() > MAX_DATAGRAM_IN {
                    self.stats.oversized += 1;
                } else {
                    handle(tuple, datagram);
                }
            }
            buffers.advance(bytes);
            left -= count;
            if left == 0 {
                return buffers.message().is_some();
            }
        }
        false
    }

    /// Where a message came from and which of our addresses it came to.
    fn tuple(&self, meta: &RecvMeta) -> Tuple {
        let local = meta.dst_ip.unwrap_or(self.local.ip()).to_canonical();
        let remote = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
        Tuple { local: SocketAddr::new(local, self.local.port()), remote }
    }

    /// Sends what is left of `run`, whose datagrams lie in `buffer`.
    pub(crate) fn send(&mut self, now: Instant, run: &mut Run, buffer: &[u8]) -> Progress {
        self.rearm_gso(now);
        let segment = run.segment();
        while run.left() > 0 {
            let most = (MAX_MESSAGE_OUT / segment).min(self.state.max_gso_segments()).max(1) * segment;
            let len = run.left().min(most);
            match self.send_message(run.transmit.tuple, &buffer[run.sent..run.sent + len], segment) {
                Ok(()) => run.advance(len),
                Err(e) if len > segment && refuses_a_run(&e) => {
                    self.stats.runs_split += 1;
                    self.note_gso(now);
                    if let Progress::Full(why) = self.send_singly(run, len, buffer) {
                        return Progress::Full(why);
                    }
                }
                Err(e) => match self.refused(run, len, &e) {
                    Progress::Done => {}
                    Progress::Full(why) => return Progress::Full(why),
                },
            }
        }
        Progress::Done
    }

    /// Sends the next `len` bytes of a run without GSO.
    fn send_singly(&mut self, run: &mut Run, len: usize, buffer: &[u8]) -> Progress {
        let segment = run.segment();
        let end = run.sent + len;
        while run.sent < end {
            let next = end.min(run.sent + segment);
            match self.send_message(run.transmit.tuple, &buffer[run.sent..next], segment) {
                Ok(()) => run.advance(segment),
                Err(e) => match self.refused(run, next - run.sent, &e) {
                    Progress::Done => {}
                    Progress::Full(why) => return Progress::Full(why),
                },
            }
        }
        Progress::Done
    }

    /// The kernel did not take the next `len` bytes of a run: for now, or never.
    fn refused(&mut self, run: &mut Run, len: usize, error: &io::Error) -> Progress {
        if let Some(full) = full(error) {
            self.stats.send_blocked += 1;
            return Progress::Full(full);
        }
        self.stats.send_dropped += len.div_ceil(run.segment()) as u64;
        run.advance(len);
        Progress::Done
    }

    /// One system call.
    fn send_message(&mut self, tuple: Tuple, contents: &[u8], segment: usize) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: SocketAddr::new(self.family_of_socket(tuple.remote.ip()), tuple.remote.port()),
            ecn: None,
            contents,
            segment_size: Some(segment),
            // The client expects the answer from the address that it wrote to.
            src_ip: self.local.ip().is_unspecified().then(|| self.family_of_socket(tuple.local.ip())),
        };
        self.state.try_send((&self.socket).into(), &transmit)?;
        self.stats.send_calls += 1;
        self.stats.datagrams_out += contents.len().div_ceil(segment) as u64;
        self.stats.bytes_out += contents.len() as u64;
        Ok(())
    }

    /// An IPv6 socket reaches IPv4 clients by their mapped addresses (RFC 4291 §2.5.5.2).
    fn family_of_socket(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) if self.local.is_ipv6() => v4.to_ipv6_mapped().into(),
            _ => ip,
        }
    }

    /// Notes that quinn-udp has just turned GSO off.
    fn note_gso(&mut self, now: Instant) {
        if self.state.max_gso_segments() == 1 && self.gso_off_since.is_none() {
            self.gso_off_since = Some(now);
            self.stats.gso_disabled += 1;
        }
    }

    /// Tries GSO again: the error may have been one bad route or an address that has gone.
    fn rearm_gso(&mut self, now: Instant) {
        let due = |since| now.saturating_duration_since(since) >= GSO_RETRY;
        if self.gso_off_since.is_some_and(due) {
            self.gso_off_since = None;
            if let Ok(state) = Self::state_of(&self.socket, self.local) {
                self.state = state;
                self.stats.gso_rearmed += 1;
            }
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How long a socket does without GSO after an error.
const GSO_RETRY: Duration = Duration::from_secs(60);

/// Largest UDP payload over IPv4, bytes: a run is one IP packet until the kernel cuts it.
const MAX_MESSAGE_OUT: usize = 65_507;

/// Errors that mean "not as one run": too long for the path, or no GSO on this route (EIO, EINVAL).
fn refuses_a_run(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::MSGSIZE, Errno::INVAL, Errno::IO].contains(&errno))
}

/// What an error says to be full, if that is what it says.
fn full(error: &io::Error) -> Option<Full> {
    match Errno::from_io_error(error)? {
        Errno::AGAIN => Some(Full::SendBuffer),
        Errno::NOBUFS | Errno::NOMEM => Some(Full::Memory),
        _ => None,
    }
}

/// Memory for a batch of received messages, used again for each.
pub(crate) struct ReceiveBuffers {
    memory: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
    /// How many messages were read.
    count: usize,
    /// The next to hand over, and how many of its bytes were.
    next: usize,
    offset: usize,
}

impl ReceiveBuffers {
    pub(crate) fn new() -> Self {
        let meta = [RecvMeta::default(); BATCH_SIZE];
        Self { memory: vec![0; BATCH_SIZE * MESSAGE_LEN], meta, count: 0, next: 0, offset: 0 }
    }

    /// What is left of the next message.
    fn message(&mut self) -> Option<(&mut [u8], RecvMeta)> {
        let meta = self.meta[..self.count].get(self.next)?;
        let start = self.next * MESSAGE_LEN;
        Some((&mut self.memory[start + self.offset..start + meta.len], *meta))
    }

    /// So many of its bytes were handed over.
    fn advance(&mut self, bytes: usize) {
        self.offset += bytes;
        if self.offset >= self.meta[self.next].len {
            (self.next, self.offset) = (self.next + 1, 0);
        }
    }
}

/// Longest message, bytes: the kernel joins datagrams (GRO) up to the largest IP packet.
const MESSAGE_LEN: usize = 1 << 16;

/// Asks for the buffers, with the privilege to pass the system's limit where we have it.
fn enlarge_buffers(socket: &Socket, Buffers { receive, send }: Buffers) -> io::Result<()> {
    if sockopt::set_socket_recv_buffer_size_force(socket, receive).is_err() {
        socket.set_recv_buffer_size(receive)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, send).is_err() {
        socket.set_send_buffer_size(send)?;
    }
    // The kernel doubles what it is asked for, to cover its own bookkeeping.
    for (name, limit, asked, got) in [
        ("receive", "net.core.rmem_max", receive, socket.recv_buffer_size()? / 2),
        ("send", "net.core.wmem_max", send, socket.send_buffer_size()? / 2),
    ] {
        if got < asked {
            warn!("the UDP {name} buffer is {got} bytes instead of {asked}: raise {limit}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket as StdSocket};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use sfu_core::worker::Priority;

    use super::*;

    const BUFFERS: Buffers = Buffers { receive: 1 << 16, send: 1 << 16 };

    fn bind(ip: impl Into<IpAddr>) -> UdpSocket {
        group(ip, 1).remove(0)
    }

    fn group(ip: impl Into<IpAddr>, count: usize) -> Vec<UdpSocket> {
        UdpSocket::bind_group(SocketAddr::new(ip.into(), 0), count, BUFFERS).unwrap()
    }

    /// Reads until `count` datagrams have come.
    fn receive(socket: &mut UdpSocket, count: usize) -> Vec<(Tuple, Vec<u8>)> {
        let mut buffers = ReceiveBuffers::new();
        let mut received = Vec::new();
        while received.len() < count {
            let timeout = Timespec { tv_sec: 5, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&*socket, PollFlags::IN)], Some(&timeout)).unwrap();
            assert_eq!(ready, 1, "only {} of {count} datagrams came", received.len());
            socket.receive(&mut buffers);
            socket
                .drain(&mut buffers, usize::MAX, |tuple, datagram| received.push((tuple, datagram.to_vec())));
        }
        received
    }

    /// `count` datagrams of `segment` bytes and one of 3, each filled with its number.
    fn run(tuple: Tuple, segment: usize, count: u8) -> (Run, Vec<u8>) {
        let mut buffer: Vec<u8> = (0..count).flat_map(|i| vec![i; segment]).collect();
        buffer.extend([count; 3]);
        let (len, segment, priority) = (buffer.len(), Some(segment), Priority::Video);
        (Run::new(Transmit { tuple, len, segment, priority }), buffer)
    }

    #[test]
    fn a_run_sent_with_gso_arrives_datagram_by_datagram() {
        let (mut from, mut to) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
        let tuple = Tuple { local: from.local_addr(), remote: to.local_addr() };
        let (mut run, buffer) = run(tuple, 1200, 8);
        assert_eq!(from.send(Instant::now(), &mut run, &buffer), Progress::Done);

        let received = receive(&mut to, 9);
        let back = Tuple { local: tuple.remote, remote: tuple.local };
        for (i, (tuple, datagram)) in received.iter().enumerate() {
            assert_eq!((*tuple, datagram.len()), (back, if i == 8 { 3 } else { 1200 }));
            assert!(datagram.iter().all(|&byte| usize::from(byte) == i), "datagram {i}");
        }
        assert_eq!(
            (from.stats().send_calls, from.stats().datagrams_out),
            (1, 9),
            "one call: {:?}",
            from.stats()
        );
        assert!(to.stats().receive_calls < 9, "GRO or recvmmsg: {:?}", to.stats());
    }

    #[test]
    fn what_was_read_at_once_is_handed_over_in_parts_and_in_order() {
        let (mut from, mut to) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
        let tuple = Tuple { local: from.local_addr(), remote: to.local_addr() };
        for _ in 0..2 {
            let (mut run, buffer) = run(tuple, 1200, 5);
            assert_eq!(from.send(Instant::now(), &mut run, &buffer), Progress::Done);
        }
        // Loopback delivers before the call returns.
        let mut buffers = ReceiveBuffers::new();
        to.receive(&mut buffers);
        let mut parts = Vec::new();
        loop {
            let mut part = Vec::new();
            let more = to.drain(&mut buffers, 4, |_, datagram| part.push(datagram[0]));
            parts.push(part);
            if !more {
                break;
            }
        }
        assert_eq!(parts, [&[0, 1, 2, 3][..], &[4, 5, 0, 1], &[2, 3, 4, 5]]);
        assert!(!to.drain(&mut buffers, 4, |_, _| panic!("each only once")));
    }

    #[test]
    fn errors_tell_what_is_full() {
        for (errno, expected) in [
            (Errno::AGAIN, Some(Full::SendBuffer)),
            (Errno::NOBUFS, Some(Full::Memory)),
            (Errno::NOMEM, Some(Full::Memory)),
            (Errno::MSGSIZE, None),
            (Errno::NETUNREACH, None),
        ] {
            assert_eq!(full(&errno.into()), expected, "{errno:?}");
        }
    }

    #[test]
    fn more_datagrams_than_the_kernel_takes_at_once_are_sent_in_parts() {
        let (mut from, mut to) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
        let tuple = Tuple { local: from.local_addr(), remote: to.local_addr() };
        let (mut run, buffer) = run(tuple, 100, 150);
        assert_eq!(from.send(Instant::now(), &mut run, &buffer), Progress::Done);
        assert_eq!(receive(&mut to, 151).len(), 151);
        assert!(from.stats().send_calls > 1 && from.stats().runs_split == 0, "{:?}", from.stats());
    }

    #[test]
    fn a_run_that_the_kernel_refuses_is_sent_singly_and_gso_is_tried_again_later() {
        let (mut from, mut to) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
        let tuple = Tuple { local: from.local_addr(), remote: to.local_addr() };
        let now = Instant::now();
        // A multicast source address is EINVAL, which quinn-udp takes for a route without GSO.
        from.local.set_ip(Ipv4Addr::UNSPECIFIED.into());
        let impossible = Tuple { local: "224.0.0.1:9".parse().unwrap(), remote: tuple.remote };
        let (mut refused, buffer) = run(impossible, 100, 2);
        assert_eq!(from.send(now, &mut refused, &buffer), Progress::Done);
        let stats = from.stats();
        assert_eq!((stats.runs_split, stats.gso_disabled, stats.send_dropped), (1, 1, 3));

        for (seconds, rearmed, calls) in [(59, 0, 3), (60, 1, 1)] {
            let before = from.stats().send_calls;
            let (mut run, buffer) = run(tuple, 100, 2);
            assert_eq!(from.send(now + Duration::from_secs(seconds), &mut run, &buffer), Progress::Done);
            assert_eq!((from.stats().gso_rearmed, from.stats().send_calls - before), (rearmed, calls));
            receive(&mut to, 3);
        }
    }

    #[test]
    fn a_wildcard_socket_answers_from_the_address_that_was_written_to() {
        for ip in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            let mut server = bind(ip);
            let client = StdSocket::bind("127.0.0.1:0").unwrap();
            client.connect(("127.0.0.2", server.local_addr().port())).unwrap();
            client.send(b"ask").unwrap();

            let (tuple, datagram) = receive(&mut server, 1).remove(0);
            assert_eq!(datagram, b"ask");
            assert_eq!(tuple.local, SocketAddr::new([127, 0, 0, 2].into(), server.local_addr().port()));
            assert_eq!(tuple.remote, client.local_addr().unwrap());

            let mut run = Run::new(Transmit { tuple, len: 6, segment: None, priority: Priority::Audio });
            assert_eq!(server.send(Instant::now(), &mut run, b"answer"), Progress::Done);
            let mut buffer = [0; 16];
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            assert_eq!(
                client.recv(&mut buffer).unwrap(),
                6,
                "a connected socket takes it from 127.0.0.2 only"
            );
        }
    }

    #[test]
    fn an_oversized_datagram_is_counted_and_not_handed_over() {
        let mut socket = bind(Ipv4Addr::LOCALHOST);
        let client = StdSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&[0; MAX_DATAGRAM_IN + 1], socket.local_addr()).unwrap();
        client.send_to(&[1; MAX_DATAGRAM_IN], socket.local_addr()).unwrap();
        assert_eq!(receive(&mut socket, 1)[0].1.len(), MAX_DATAGRAM_IN);
        assert_eq!(socket.stats().oversized, 1);
    }

    #[test]
    fn a_group_shares_its_port_with_nobody_else() {
        for count in [1, 2, 8] {
            let group = group(Ipv4Addr::LOCALHOST, count);
            let addr = group[0].local_addr();
            assert!(group.iter().all(|socket| socket.local_addr() == addr && addr.port() != 0));
            let second = UdpSocket::bind_group(addr, count, BUFFERS);
            assert_eq!(second.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
        }
    }

    #[test]
    fn a_client_always_reaches_the_same_socket_of_a_group() {
        let mut group = group(Ipv4Addr::LOCALHOST, 2);
        let mut reached = [0; 2];
        for _ in 0..64 {
            let client = StdSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..3 {
                client.send_to(b"hello", group[0].local_addr()).unwrap();
            }
            // Loopback delivers before the call returns.
            let mut buffers = ReceiveBuffers::new();
            let mut counts = [0; 2];
            for (count, socket) in counts.iter_mut().zip(&mut group) {
                socket.receive(&mut buffers);
                socket.drain(&mut buffers, usize::MAX, |_, _| *count += 1);
            }
            assert!(counts == [3, 0] || counts == [0, 3], "{counts:?}");
            reached[usize::from(counts[1] > 0)] += 1;
        }
        assert!(reached.iter().all(|&clients| clients > 0), "the hash spreads clients: {reached:?}");
    }
}
