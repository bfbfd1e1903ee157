//! Where packets are sent: loopback, or a device that drops them, in a network namespace of its own.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};
use quinn_udp::{Transmit, UdpSocketState};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use socket2::SockRef;

/// A socket and as many destinations as the run has, each with an address of its own.
pub struct Link {
    name: &'static str,
    socket: UdpSocket,
    state: UdpSocketState,
    destinations: Vec<SocketAddr>,
    /// Where the socket is, where that is not our own.
    space: Option<File>,
    /// They take what loopback delivers, and are never read.
    _sinks: Vec<UdpSocket>,
}

impl Link {
    /// Destinations in 127/8. The kernel delivers each packet, to a socket that is full: what delivery costs counts.
    ///
    /// # Errors
    /// When the sockets cannot be opened.
    pub fn loopback(destinations: usize) -> anyhow::Result<Self> {
        let sink = sink(Ipv4Addr::UNSPECIFIED)?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let to = addresses(Ipv4Addr::new(127, 1, 0, 0), destinations, sink.local_addr()?.port());
        Self::new("loopback", socket, to, None, vec![sink])
    }

    /// The same with a socket for each destination, as a server's clients have: these are far apart in memory.
    ///
    /// # Errors
    /// When the sockets cannot be opened.
    pub fn clients(destinations: usize) -> anyhow::Result<Self> {
        let sinks = (0..destinations).map(|_| sink(Ipv4Addr::LOCALHOST)).collect::<io::Result<Vec<_>>>()?;
        let to = sinks.iter().map(UdpSocket::local_addr).collect::<io::Result<_>>()?;
        Self::new("loopback", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, to, None, sinks)
    }

    /// Destinations behind an `ifb` device, which drops what it is given; it may not be handed whole runs, so that the
    /// kernel cuts them as for a network card without segmentation.
    ///
    /// # Errors
    /// Without the privilege, `ip` or the device.
    pub fn ifb(destinations: usize) -> anyhow::Result<Self> {
        let space = NetworkNamespace::create()?;
        space.ip(&["link", "add", "out", "type", "ifb"])?;
        // No segment may be left to the device: the kernel's own segmentation comes first.
        space.ip(&["link", "set", "out", "gso_max_segs", "1"])?;
        space.ip(&["addr", "add", "198.18.0.1/15", "dev", "out"])?;
        space.ip(&["link", "set", "out", "up"])?;
        // The socket and the file keep the namespace alive, which loses its name here.
        let space = space.open()?;
        let socket = enter(&space, || UdpSocket::bind((Ipv4Addr::new(198, 18, 0, 1), 0)))?;
        Self::new(
            "ifb",
            socket,
            addresses(Ipv4Addr::new(198, 19, 0, 0), destinations, 9),
            Some(space),
            Vec::new(),
        )
    }

    fn new(
        name: &'static str,
        socket: UdpSocket,
        destinations: Vec<SocketAddr>,
        space: Option<File>,
        sinks: Vec<UdpSocket>,
    ) -> anyhow::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // As the product: quinn-udp forbids fragments, which media does not.
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        Ok(Self { name, socket, state, destinations, space, _sinks: sinks })
    }

    /// Opens another socket where this one is.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn beside<T: Send>(&self, open: impl FnOnce() -> io::Result<T> + Send) -> anyhow::Result<T> {
        match &self.space {
            Some(space) => enter(space, open),
            None => Ok(open()?),
        }
    }

    /// Our address on it.
    ///
    /// # Errors
    /// When the socket has none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// As the tables call it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where the packets go.
    pub fn destinations(&self) -> &[SocketAddr] {
        &self.destinations
    }

    /// Sends a run of datagrams of `segment` bytes by one system call.
    ///
    /// # Errors
    /// When the kernel refuses it, as without GSO.
    pub fn send(&self, to: SocketAddr, run: &[u8], segment: usize) -> anyhow::Result<()> {
        send_run(&self.state, &self.socket, to, run, segment).context(self.name)
    }
}

/// A socket that is full with its first datagram.
fn sink(ip: Ipv4Addr) -> io::Result<UdpSocket> {
    let sink = UdpSocket::bind((ip, 0))?;
    SockRef::from(&sink).set_recv_buffer_size(1)?;
    Ok(sink)
}

/// As [`Link::send`], from any socket.
pub(crate) fn send_run(
    state: &UdpSocketState,
    socket: &UdpSocket,
    destination: SocketAddr,
    contents: &[u8],
    segment: usize,
) -> anyhow::Result<()> {
    let transmit = Transmit { destination, ecn: None, contents, segment_size: Some(segment), src_ip: None };
    loop {
        match state.try_send(socket.into(), &transmit) {
            Ok(()) => return Ok(()),
            // Both devices take a packet at once; another thread may hold the queue for a moment.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => {
                let packets = contents.len().div_ceil(segment);
                return Err(error).with_context(|| format!("a run of {packets} was refused"));
            }
        }
    }
}

/// `count` addresses from `base` on.
fn addresses(base: Ipv4Addr, count: usize, port: u16) -> Vec<SocketAddr> {
    let base = u32::from(base);
    (1..).take(count).map(|n: u32| SocketAddr::new(Ipv4Addr::from(base + n).into(), port)).collect()
}

/// A named network namespace; its name goes with this value.
struct NetworkNamespace {
    name: String,
}

impl NetworkNamespace {
    fn create() -> anyhow::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("lectern-limit-{}-{number}", std::process::id());
        ip(&["netns", "add", &name])?;
        Ok(Self { name })
    }

    /// `ip` in the namespace.
    fn ip(&self, args: &[&str]) -> anyhow::Result<()> {
        ip(&[&["-n", &self.name], args].concat())
    }

    fn open(&self) -> io::Result<File> {
        File::open(format!("/run/netns/{}", self.name))
    }
}

/// Runs `open` in a network namespace, on a thread that ends with it.
fn enter<T: Send>(space: &File, open: impl FnOnce() -> io::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || {
            move_into_thread_name_spaces(space.as_fd(), ThreadNameSpaceType::NETWORK)?;
            open()
        });
        Ok(entered.join().expect("opening a socket does not panic")?)
    })
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        // Nothing to do about a name that stays: the next reboot takes it.
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(args).output().context("`ip` does not run")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {}`: {}", args.join(" "), error.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_destination_has_an_address_of_its_own() {
        let to = addresses(Ipv4Addr::new(127, 1, 0, 0), 300, 9);
        assert_eq!(
            (to.len(), to[0], to[299]),
            (300, "127.1.0.1:9".parse().unwrap(), "127.1.1.44:9".parse().unwrap())
        );
    }

    #[test]
    fn loopback_takes_runs_to_every_destination() {
        for link in [Link::loopback(3).unwrap(), Link::clients(3).unwrap()] {
            for &to in link.destinations() {
                link.send(to, &[0; 4 * 1200], 1200).unwrap();
            }
        }
    }

    #[test]
    fn a_namespace_that_cannot_be_made_is_an_error_and_no_panic() {
        // With the privilege it works, without it the reason is told.
        match Link::ifb(2) {
            Ok(link) => link.send(link.destinations()[1], &[0; 4 * 1200], 1200).unwrap(),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
