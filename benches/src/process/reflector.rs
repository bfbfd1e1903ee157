//! The least that any server does with a packet: it comes in and goes out again.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::lessons::Clock;

/// A thread that sends each datagram back.
pub struct Reflector {
    addr: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Reflector {
    /// Begins.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn start() -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = socket.local_addr()?;
        let thread = thread::spawn(move || {
            let mut buf = [0; 2048];
            // An empty datagram ends it.
            while let Ok((len @ 1.., from)) = socket.recv_from(&mut buf) {
                socket.send_to(&buf[..len], from).ok();
            }
        });
        Ok(Self { addr, thread: Some(thread) })
    }

    /// Sends a datagram each `interval` for `length`; how long each took to come back.
    ///
    /// # Errors
    /// When a socket fails.
    pub fn play(&self, interval: Duration, length: Duration, size: usize) -> anyhow::Result<Vec<Duration>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LOST))?;
        let clock = Clock::new();
        let reader = socket.try_clone()?;
        let reading = thread::spawn(move || {
            let (mut buf, mut ages) = ([0; 2048], Vec::new());
            while let Ok(len) = reader.recv(&mut buf) {
                ages.extend(clock.age(Instant::now(), &buf[..len]));
            }
            ages
        });
        let (start, mut datagram) = (Instant::now(), vec![0x80; size]);
        for n in 0.. {
            let due = start + interval * n;
            if due >= start + length {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            clock.stamp(&mut datagram);
            socket.send_to(&datagram, self.addr)?;
        }
        Ok(reading.join().expect("reading does not panic"))
    }
}

/// Nothing comes after this.
const LOST: Duration = Duration::from_millis(300);

impl Drop for Reflector {
    fn drop(&mut self) {
        let ended =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(&[], self.addr));
        if let (Ok(_), Some(thread)) = (ended, self.thread.take()) {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_comes_back_once() {
        let reflector = Reflector::start().unwrap();
        let ages = reflector.play(Duration::from_millis(1), Duration::from_millis(20), 1200).unwrap();
        assert_eq!(ages.len(), 20);
    }
}
