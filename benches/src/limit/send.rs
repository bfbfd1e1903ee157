//! Sending alone: runs of packets of one size, one destination a message.

use std::rc::Rc;

use super::clock::thread_cpu;
use super::link::Link;
use super::rounds::{Pass, Stage};
use super::{MAX_TAG, PACKET};

/// Sends a run to each destination in turn.
pub struct Send {
    link: Rc<Link>,
    buf: Vec<u8>,
}

impl Send {
    /// Runs of `run` packets over `link`.
    pub fn new(link: Rc<Link>, run: usize) -> Self {
        Self { link, buf: vec![0; run * SEGMENT] }
    }
}

impl Stage for Send {
    fn pass(&mut self) -> anyhow::Result<Pass> {
        let destinations = self.link.destinations();
        let start = thread_cpu();
        for &to in destinations {
            self.link.send(to, &self.buf, SEGMENT)?;
        }
        let spent = thread_cpu() - start;
        Ok(Pass { spent, packets: (destinations.len() * self.buf.len() / SEGMENT) as u64 })
    }
}

/// Bytes of a sealed packet.
const SEGMENT: usize = PACKET + MAX_TAG;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_sends_a_run_to_each_destination() {
        let link = Rc::new(Link::loopback(5).unwrap());
        for run in [1, 2, 32] {
            let pass = Send::new(Rc::clone(&link), run).pass().unwrap();
            assert_eq!(pass.packets, 5 * run as u64);
        }
    }
}
