//! The combined limit: receive, open, and for each destination copy, seal with its key and send.
//!
//! ```text
//!  recvmsg, open  x run  ->  for each destination: (copy, header, seal) x run, one send
//! ```

use std::rc::Rc;

use super::clock::thread_cpu;
use super::inbox::{Inbox, SEQ, index_of};
use super::link::Link;
use super::rounds::{Pass, Stage};
use super::seal::Key;
use super::{HEADER, MAX_TAG, PACKET};

/// How much of the work is done: what a step costs is the difference that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Receive, open, copy.
    Copy,
    /// And seal.
    Seal,
    /// And send.
    All,
}

/// One client's packets to all destinations, in memory of its own.
pub struct Fanout {
    keys: Rc<[Key]>,
    /// The run as it came in, opened; [`SLOT`] bytes for each packet.
    opened: Vec<u8>,
    /// The run to one destination.
    out: Vec<u8>,
    run: usize,
    /// Index of the next packet out.
    index: u64,
}

impl Fanout {
    /// For runs of `run` packets; the client uses the first of `keys`, each destination its own.
    pub fn new(keys: Rc<[Key]>, run: usize) -> Self {
        Self { keys, opened: vec![0; run * SLOT], out: vec![0; run * (PACKET + MAX_TAG)], run, index: 0 }
    }

    /// Receives and opens a run; false when the inbox has no whole run any more.
    ///
    /// # Errors
    /// When the socket fails, or a packet is not the client's.
    pub fn gather(&mut self, inbox: &Inbox) -> anyhow::Result<bool> {
        for slot in self.opened.chunks_exact_mut(SLOT) {
            let Some(len) = inbox.receive(slot)? else { return Ok(false) };
            let packet = &mut slot[..len];
            self.keys[0].open(packet, index_of(packet))?;
        }
        Ok(true)
    }

    /// Forwards the run to every destination of `link`; returns the packets that went out.
    ///
    /// # Errors
    /// When the kernel refuses a run.
    pub fn forward(&mut self, link: &Link, parts: Parts) -> anyhow::Result<u64> {
        for (key, &to) in self.keys.iter().zip(link.destinations()) {
            let (mut end, mut segment) = (0, 0);
            for (slot, index) in self.opened.chunks_exact(SLOT).zip(self.index..) {
                let out = &mut self.out[end..];
                out[..PACKET].copy_from_slice(&slot[..PACKET]);
                out[SEQ..SEQ + 2].copy_from_slice(&(index as u16).to_be_bytes());
                segment = if parts == Parts::Copy { PACKET } else { key.seal(out, index) };
                end += segment;
            }
            if parts == Parts::All {
                link.send(to, &self.out[..end], segment)?;
            } else {
                // What was written is not dead: no compiler may leave it out.
                std::hint::black_box(&self.out[HEADER..end]);
            }
        }
        self.index += self.run as u64;
        Ok((link.destinations().len() * self.run) as u64)
    }
}

/// Bytes for one packet in: more than any of the client's.
const SLOT: usize = 2048;

/// The loop at full load: the inbox is filled while the clock stands.
pub struct Combined {
    inbox: Inbox,
    link: Rc<Link>,
    fanout: Fanout,
    parts: Parts,
    /// Packets in, for each pass.
    fill: usize,
}

impl Combined {
    /// From one client to the destinations of `link`, each with one of `keys`.
    ///
    /// # Errors
    /// When the sockets cannot be opened.
    pub fn new(link: Rc<Link>, keys: Rc<[Key]>, run: usize, parts: Parts) -> anyhow::Result<Self> {
        let inbox = Inbox::new(&keys[0])?;
        let runs = (OUT_PER_PASS / (run * keys.len())).clamp(1, Inbox::CAPACITY / run);
        Ok(Self { inbox, link, fanout: Fanout::new(keys, run), parts, fill: runs * run })
    }
}

/// About as many packets leave between two looks at the clock: some milliseconds.
const OUT_PER_PASS: usize = 2048;

impl Stage for Combined {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.inbox.fill(self.fill, 1)
    }

    fn pass(&mut self) -> anyhow::Result<Pass> {
        let mut packets = 0;
        let start = thread_cpu();
        while self.fanout.gather(&self.inbox)? {
            packets += self.fanout.forward(&self.link, self.parts)?;
        }
        Ok(Pass { spent: thread_cpu() - start, packets })
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::Profile;
    use super::*;

    #[test]
    fn a_pass_forwards_each_packet_to_every_destination() {
        let link = Rc::new(Link::loopback(30).unwrap());
        for profile in [Profile::Gcm, Profile::Sha1] {
            let keys = Key::set(profile, 30);
            for (run, parts) in [(1, Parts::All), (2, Parts::All), (8, Parts::Seal), (32, Parts::Copy)] {
                let mut stage = Combined::new(Rc::clone(&link), Rc::clone(&keys), run, parts).unwrap();
                let fill = stage.fill as u64;
                assert!(fill.is_multiple_of(run as u64) && fill > 0);
                stage.prepare().unwrap();
                assert_eq!(stage.pass().unwrap().packets, fill * 30, "{profile:?} {run} {parts:?}");
            }
        }
    }

    #[test]
    fn what_goes_out_opens_with_the_key_of_its_destination() {
        let (link, keys) = (Link::loopback(2).unwrap(), Key::set(Profile::Gcm, 2));
        let inbox = Inbox::new(&keys[0]).unwrap();
        let mut fanout = Fanout::new(Rc::clone(&keys), 2);
        inbox.fill(2, 1).unwrap();
        assert!(fanout.gather(&inbox).unwrap());
        assert_eq!(fanout.forward(&link, Parts::All).unwrap(), 4);
        for (index, packet) in (0..).zip(fanout.out.chunks_mut(PACKET + MAX_TAG)) {
            keys[1].open(packet, index).unwrap();
        }
        assert!(!fanout.gather(&inbox).unwrap(), "the inbox is empty");
    }
}
