//! Parts of the path that stand alone: the pacer, and copying a payload.

use std::time::{Duration, Instant};

use sfu_core::cc::pacer::{Pacer, PacerConfig, Priority};
use sfu_core::sim::clock;
use sfu_core::units::Millis;

use crate::limit::clock::thread_cpu;
use crate::limit::rounds::{Pass, Stage};
use crate::limit::{HEADER, MAX_TAG, PACKET};

/// Into each subscriber's pacer and out again.
pub struct Pace {
    pacers: Vec<Pacer<Name>>,
    run: usize,
    now: Instant,
}

/// As long as what names a packet to a room.
type Name = [u64; 5];

impl Pace {
    /// Runs of `run` packets to each of `subscribers`.
    pub fn new(subscribers: usize, run: usize) -> Self {
        let now = clock::origin();
        let pacers = (0..subscribers).map(|_| Pacer::new(PacerConfig::default(), now)).collect();
        Self { pacers, run, now }
    }
}

impl Stage for Pace {
    fn pass(&mut self) -> anyhow::Result<Pass> {
        let rounds = PACKETS.div_ceil(self.pacers.len() * self.run);
        let (mut left, start) = (0, thread_cpu());
        for _ in 0..rounds {
            self.now += Duration::from_millis(10);
            for seq in 0..self.run as u64 {
                for pacer in &mut self.pacers {
                    let _ = pacer.push(Millis(0), Priority::Video, PACKET + MAX_TAG + 28, [seq; 5]);
                }
            }
            for pacer in &mut self.pacers {
                while pacer.peek(self.now).is_some() {
                    left += u64::from(std::hint::black_box(pacer.pop(self.now)).is_some());
                }
            }
        }
        Ok(Pass { spent: thread_cpu() - start, packets: left })
    }
}

/// A payload to the next place of a run.
pub struct Copy {
    payload: Vec<u8>,
    out: Vec<u8>,
    copies: usize,
}

impl Copy {
    /// Runs of `run` packets, each payload to `subscribers` of them.
    pub fn new(subscribers: usize, run: usize) -> Self {
        let copies = run * PACKETS.div_ceil(run * subscribers) * subscribers;
        Self { payload: vec![1; run * (PACKET - HEADER)], out: vec![0; run * (PACKET + MAX_TAG)], copies }
    }
}

impl Stage for Copy {
    fn pass(&mut self) -> anyhow::Result<Pass> {
        let (payloads, outs) =
            (self.payload.chunks_exact(PACKET - HEADER), self.out.chunks_exact_mut(PACKET + MAX_TAG));
        let run = payloads.len();
        let mut pairs: Vec<_> = payloads.zip(outs).collect();
        let start = thread_cpu();
        for _ in 0..self.copies / run {
            for (payload, out) in &mut pairs {
                out[HEADER..PACKET].copy_from_slice(payload);
                std::hint::black_box(&mut *out);
            }
        }
        Ok(Pass { spent: thread_cpu() - start, packets: (self.copies / run * run) as u64 })
    }
}

/// Between two looks at the clock.
const PACKETS: usize = 2048;
