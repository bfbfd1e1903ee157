//! A worker's media sockets: the one that was asked for and, where that listens on all addresses, one for each of
//! the machine's own.
//!
//! A client expects the answer from the address that it wrote to. A socket of all addresses has to name it with
//! each message, which makes the kernel look at it each time; one of a single address need not. The kernel gives a
//! datagram to the socket that is bound more narrowly, so that the socket of all addresses gets what is left:
//! addresses that come later, and those beyond [`MAX_OWN`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags};
use sfu_core::worker::Tuple;
use tracing::debug;

use crate::egress::Outlet;
use crate::udp::{Buffers, Progress, ReceiveBuffers, Run, UdpSocket, UdpStats};

/// Most addresses with a socket of their own: a worker looks at all its sockets when it wakes up.
pub(crate) const MAX_OWN: usize = 4;

/// Most descriptors that [`Sockets::watch`] adds.
pub(crate) const MAX_WATCHED: usize = 1 + MAX_OWN;

/// See the module's description.
pub(crate) struct Sockets {
    /// The one that was asked for, then those of single addresses.
    all: ArrayVec<UdpSocket, MAX_WATCHED>,
    /// Which was read last.
    read: usize,
    /// Which had no room for more, when there was none.
    full: usize,
}

impl Sockets {
    /// Binds the sockets of `count` workers to `addr` and, at its port, to the first of the addresses in `own`. One
    /// of these that cannot be had is served by the socket of all addresses.
    pub(crate) fn bind(
        addr: SocketAddr,
        own: &[IpAddr],
        count: usize,
        buffers: Buffers,
    ) -> io::Result<Vec<Self>> {
        let asked_for = UdpSocket::bind_group(addr, count, buffers)?;
        let port = asked_for[0].local_addr().port();
        let alone = |socket| Self { all: ArrayVec::from_iter([socket]), read: 0, full: 0 };
        let mut workers: Vec<_> = asked_for.into_iter().map(alone).collect();
        for &ip in own.iter().take(MAX_OWN) {
            match UdpSocket::join_group(SocketAddr::new(ip, port), count, buffers) {
                Ok(group) => workers.iter_mut().zip(group).for_each(|(worker, own)| worker.all.push(own)),
                Err(error) => debug!(%ip, %error, "no socket of its own"),
            }
        }
        Ok(workers)
    }

    /// The address that was asked for.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.all[0].local_addr()
    }

    /// The counters of all so far.
    pub(crate) fn stats(&self) -> UdpStats {
        self.all.iter().fold(UdpStats::default(), |sum, socket| sum + socket.stats())
    }

    /// Adds all to what is polled; with `writable`, the one that had no room is waited for, too.
    pub(crate) fn watch<'a, const N: usize>(&'a self, writable: bool, fds: &mut ArrayVec<PollFd<'a>, N>) {
        fds.extend(self.all.iter().enumerate().map(|(n, socket)| {
            let room = if writable && n == self.full { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::new(socket, PollFlags::IN | room)
        }));
    }

    /// Which to read, of those that have something: each in its turn, however much comes to another.
    pub(crate) fn readable(&self, polled: &[PollFd<'_>]) -> Option<usize> {
        let has = |&n: &usize| polled[n].revents().intersects(PollFlags::IN | PollFlags::ERR);
        (self.read + 1..polled.len()).chain(0..=self.read).find(has)
    }

    /// Whether the one that had no room has some.
    pub(crate) fn is_writable(&self, polled: &[PollFd<'_>]) -> bool {
        polled[self.full].revents().contains(PollFlags::OUT)
    }

    /// [`UdpSocket::receive`] of the one with that number.
    pub(crate) fn receive(&mut self, socket: usize, buffers: &mut ReceiveBuffers) {
        self.read = socket;
        self.all[socket].receive(buffers);
    }

    /// [`UdpSocket::drain`] of what was received.
    pub(crate) fn drain(
        &mut self,
        buffers: &mut ReceiveBuffers,
        most: usize,
        handle: impl FnMut(Tuple, &mut [u8]),
    ) -> bool {
        self.all[self.read].drain(buffers, most, handle)
    }
}

impl Outlet for Sockets {
    #[inline]
    fn send(&mut self, now: Instant, run: &mut Run, bytes: &[u8]) -> Progress {
        let from = run.tuple().local.ip();
        let own = self.all.iter().skip(1).position(|socket| socket.local_addr().ip() == from);
        let socket = own.map_or(0, |own| own + 1);
        let progress = self.all[socket].send(now, run, bytes);
        if progress != Progress::Done {
            self.full = socket;
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket as StdSocket};
    use std::time::Duration;

    use rustix::event::{Timespec, poll};
    use sfu_core::worker::{Priority, Transmit};

    use super::*;

    const BUFFERS: Buffers = Buffers { receive: 1 << 16, send: 1 << 16 };

    fn bind(ip: impl Into<IpAddr>, own: &[IpAddr]) -> Sockets {
        Sockets::bind(SocketAddr::new(ip.into(), 0), own, 1, BUFFERS).unwrap().remove(0)
    }

    /// Waits for a datagram. Returns which socket got it, to which address it was sent, and by whom.
    fn next(sockets: &mut Sockets) -> (usize, Tuple) {
        let readable = {
            let mut fds = ArrayVec::<_, MAX_WATCHED>::new();
            sockets.watch(false, &mut fds);
            poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })).unwrap();
            sockets.readable(&fds).expect("it comes within 5 s")
        };
        let (mut buffers, mut got) = (ReceiveBuffers::new(), None);
        sockets.receive(readable, &mut buffers);
        sockets.drain(&mut buffers, 1, |tuple, _| got = Some(tuple));
        (readable, got.expect("it is there"))
    }

    #[test]
    fn each_address_has_its_socket_and_all_others_have_the_first() {
        let own: [IpAddr; 2] = [[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        for all in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            let mut sockets = bind(all, &own);
            let port = sockets.local_addr().port();
            for (ip, expected) in [(own[0], 1), (own[1], 2), ([127, 0, 0, 4].into(), 0)] {
                let client = StdSocket::bind("127.0.0.1:0").unwrap();
                client.connect((ip, port)).unwrap();
                client.send(b"ask").unwrap();
                let (socket, tuple) = next(&mut sockets);
                let asked = Tuple { local: (ip, port).into(), remote: client.local_addr().unwrap() };
                assert_eq!((socket, tuple), (expected, asked));

                let transmit = Transmit { tuple, len: 6, segment: None, priority: Priority::Audio };
                let sent = sockets.send(Instant::now(), &mut Run::new(transmit), b"answer");
                assert_eq!(sent, Progress::Done);
                client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let len = client.recv(&mut [0; 16]);
                assert_eq!(len.unwrap(), 6, "a connected socket takes it from {ip} only");
                assert_eq!(sockets.all[expected].stats().send_calls, 1, "{all} {ip}");
            }
        }
    }

    #[test]
    fn an_address_that_is_not_ours_is_left_to_the_first() {
        let foreign: [IpAddr; 2] = [[192, 0, 2, 1].into(), [127, 0, 0, 2].into()];
        assert_eq!(bind(Ipv4Addr::UNSPECIFIED, &foreign).all.len(), 2);
    }

    #[test]
    fn no_socket_waits_for_another_that_has_more() {
        let own: [IpAddr; 1] = [[127, 0, 0, 2].into()];
        let mut sockets = bind(Ipv4Addr::UNSPECIFIED, &own);
        let port = sockets.local_addr().port();
        let client = StdSocket::bind("127.0.0.1:0").unwrap();
        for ip in [own[0], [127, 0, 0, 1].into()] {
            (0..4).for_each(|_| _ = client.send_to(b"x", (ip, port)).unwrap());
        }
        let mut fds = ArrayVec::<_, MAX_WATCHED>::new();
        sockets.watch(false, &mut fds);
        poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })).unwrap();
        let first = sockets.readable(&fds);
        drop(fds);
        sockets.read = first.unwrap();
        let mut fds = ArrayVec::<_, MAX_WATCHED>::new();
        sockets.watch(false, &mut fds);
        poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })).unwrap();
        assert_ne!(sockets.readable(&fds), first);
    }

    #[test]
    fn a_second_server_is_refused_whatever_it_asks_for() {
        let own: [IpAddr; 1] = [[127, 0, 0, 2].into()];
        let first = bind(Ipv4Addr::UNSPECIFIED, &own);
        for ip in [Ipv4Addr::UNSPECIFIED, [127, 0, 0, 2].into(), [127, 0, 0, 3].into()] {
            let second = SocketAddr::new(ip.into(), first.local_addr().port());
            let refused = Sockets::bind(second, &own, 1, BUFFERS).err().map(|error| error.kind());
            assert_eq!(refused, Some(io::ErrorKind::AddrInUse), "{ip}");
        }
    }
}
