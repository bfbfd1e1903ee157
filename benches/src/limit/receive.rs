//! Receiving alone, from a socket that was filled before.

use super::clock::thread_cpu;
use super::inbox::{Batches, Inbox};
use super::rounds::{Pass, Stage};
use super::seal::Key;

/// How datagrams are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// One datagram a call (recvmsg).
    Plain,
    /// Up to 32 datagrams a call (recvmmsg).
    Batched,
    /// As batched, where the kernel has joined datagrams in runs of [`GRO_RUN`].
    Gro,
}

impl How {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Batched, Self::Gro];

    /// As the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain (recvmsg)",
            Self::Batched => "batched (recvmmsg, 32)",
            Self::Gro => "batched, GRO runs of 8",
        }
    }
}

/// Datagrams that arrive joined.
pub const GRO_RUN: usize = 8;

/// Fills a socket and empties it.
pub struct Receive {
    inbox: Inbox,
    /// `None` reads plainly.
    batches: Option<Batches>,
    /// Datagrams of each send.
    run: usize,
}

impl Receive {
    /// The client's packets are sealed with `key`.
    ///
    /// # Errors
    /// When the sockets cannot be opened.
    pub fn new(how: How, key: &Key) -> anyhow::Result<Self> {
        let inbox = Inbox::new(key)?;
        let batches = if how == How::Plain { None } else { Some(Batches::new(&inbox)?) };
        Ok(Self { inbox, batches, run: if how == How::Gro { GRO_RUN } else { 1 } })
    }

    /// Datagrams that the next read gives.
    fn read(&mut self) -> std::io::Result<usize> {
        match &mut self.batches {
            Some(batches) => Ok(batches.receive(&self.inbox)?.0),
            None => Ok(usize::from(self.inbox.receive(&mut [0; 2048])?.is_some())),
        }
    }
}

impl Stage for Receive {
    fn pass(&mut self) -> anyhow::Result<Pass> {
        self.inbox.fill(Inbox::CAPACITY, self.run)?;
        let mut received = 0;
        let start = thread_cpu();
        while received < Inbox::CAPACITY {
            match self.read()? {
                // A small receive buffer has dropped the rest.
                0 => break,
                count => received += count,
            }
        }
        Ok(Pass { spent: thread_cpu() - start, packets: received as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::Profile;
    use super::*;

    #[test]
    fn a_pass_reads_what_was_filled_in() {
        let keys = Key::set(Profile::Gcm, 1);
        for how in How::ALL {
            let mut stage = Receive::new(how, &keys[0]).unwrap();
            for _ in 0..2 {
                let packets = stage.pass().unwrap().packets;
                assert!((GRO_RUN as u64..=Inbox::CAPACITY as u64).contains(&packets), "{how:?}: {packets}");
            }
        }
    }
}
