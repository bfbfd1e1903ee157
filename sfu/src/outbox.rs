//! Several runs in a row: the worker writes them one after the other, then they leave one after the other. What it
//! executes and looks at stays in the processor's caches meanwhile, and so does what the kernel does to send: turn by
//! turn, each of them would find its own pushed out by the other.

use std::time::Instant;

use arrayvec::ArrayVec;
use sfu_core::worker::{TRANSMIT_BUFFER, Transmit, Worker};

/// Most runs at a time.
const RUNS: usize = 32;

/// Once so many bytes are written they leave: 14 packets of video, which take some 10 us. They are to stay in a first
/// cache of 32 KiB until the kernel has copied them.
const ENOUGH: usize = 16 << 10;

/// Bytes of those, and of the run that ends them.
const MEMORY: usize = ENOUGH + TRANSMIT_BUFFER;

/// Runs that leave together, in memory that is used again for the next ones.
pub struct Outbox {
    memory: Vec<u8>,
    runs: ArrayVec<Transmit, RUNS>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { memory: vec![0; MEMORY], runs: ArrayVec::new() }
    }
}

impl Outbox {
    /// Lets the worker write what leaves next, in place of what was here. `false`: there is nothing.
    pub fn fill(&mut self, now: Instant, worker: &mut Worker) -> bool {
        self.runs.clear();
        let mut rest = &mut self.memory[..];
        while !self.runs.is_full() && rest.len() >= TRANSMIT_BUFFER {
            let Some(transmit) = worker.poll_transmit(now, rest) else { break };
            rest = &mut rest[transmit.len..];
            self.runs.push(transmit);
        }
        !self.runs.is_empty()
    }

    /// What was written, in order.
    pub fn runs(&self) -> impl Iterator<Item = (Transmit, &[u8])> {
        let mut rest = &self.memory[..];
        self.runs.iter().map(move |&transmit| {
            let (bytes, behind) = rest.split_at(transmit.len);
            rest = behind;
            (transmit, bytes)
        })
    }
}
