//! What the kernel says that a process spent, and what its metrics page says that it did.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::{Add, AddAssign};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::limit::clock::first_number;

/// Of all threads of a process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a CPU.
    pub cpu: Duration,
    /// Times that a thread went to sleep.
    pub sleeps: u64,
}

impl Usage {
    /// Of process `pid`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for thread in fs::read_dir(format!("/proc/{pid}/task")).context("the server has ended")? {
            let thread = thread?.path();
            let cpu = first_number(&fs::read_to_string(thread.join("schedstat"))?);
            sum.cpu += Duration::from_nanos(cpu.context("schedstat begins with a number")?);
            sum.sleeps += sleeps(&fs::read_to_string(thread.join("status"))?).unwrap_or(0);
        }
        Ok(sum)
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(earlier.cpu), sleeps: self.sleeps.saturating_sub(earlier.sleeps) }
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, sleeps: self.sleeps + other.sleeps }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

fn sleeps(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

sfu_core::counters! {
    /// What the server did, from its metrics page.
    Work {
        /// Datagrams sent.
        datagrams,
        /// System calls that sent them.
        sends,
        /// Turns of the workers' loops.
        turns,
        /// System calls that received.
        receives,
        /// Handshakes done.
        handshakes,
        /// Packets and datagrams that were dropped somewhere.
        dropped,
    }
}

impl Work {
    /// As the page says.
    ///
    /// # Errors
    /// When there is no page.
    pub fn of(page: SocketAddr) -> anyhow::Result<Self> {
        let text = get(page)?;
        let sum = |name| sum(&text, name);
        Ok(Self {
            datagrams: sum("lectern_sfu_sent_datagrams_total"),
            sends: sum("lectern_sfu_send_calls_total"),
            turns: sum("lectern_sfu_worker_turns_total"),
            receives: sum("lectern_sfu_receive_calls_total"),
            handshakes: sum("lectern_sfu_handshakes_total"),
            dropped: sum("lectern_sfu_media_dropped_packets_total")
                + sum("lectern_sfu_send_dropped_total")
                + sum("lectern_sfu_send_queue_dropped_total")
                + sum("lectern_sfu_refused_datagrams_total"),
        })
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            datagrams: self.datagrams - earlier.datagrams,
            sends: self.sends - earlier.sends,
            turns: self.turns - earlier.turns,
            receives: self.receives - earlier.receives,
            handshakes: self.handshakes - earlier.handshakes,
            dropped: self.dropped - earlier.dropped,
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The sum over all labels of a metric in Prometheus' text format.
fn sum(page: &str, name: &str) -> u64 {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with('{') || rest.starts_with(' ')).then(|| rest.rsplit_once(' '))?
    });
    values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum::<f64>() as u64
}

/// The metrics page.
fn get(page: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(page)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "no metrics: {answer}");
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_time_and_sleeps() {
        let before = Usage::of(std::process::id()).unwrap();
        assert!(before.cpu > Duration::ZERO);
        assert_eq!(
            sleeps("Name:\tx\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t9\n"),
            Some(17)
        );
        assert_eq!(Usage::of(std::process::id()).unwrap().since(before).cpu.as_secs(), 0);
    }

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_mistaken_for_a_longer_name() {
        let page =
            "# HELP a_total x\na_total{why=\"b\"} 2\na_total{why=\"c d\"} 3\na_total_other 7\nb_total 1\n";
        assert_eq!((sum(page, "a_total"), sum(page, "b_total"), sum(page, "c_total")), (5, 1, 0));
    }
}
