//! Who transfers what by TCP, and when: one transfer without end, or files with pauses between them, each on a
//! connection of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::spec::Times;
use super::tcp::{ACK, Ack, PAYLOAD, Receiver, SEGMENT, Sender};
use super::{Body, Flow, Outgoing, Way};
use crate::seed::Random;

/// See the module.
pub struct Transfers {
    start: Instant,
    times: Times,
    /// `None`: one transfer without end.
    files: Option<Files>,
    /// How many connections there were before this one.
    connection: u64,
    sender: Sender,
    receiver: Receiver,
    acks: VecDeque<Ack>,
    /// When the next transfer begins; `None` while there is one, or when there will be none.
    next: Option<Instant>,
}

struct Files {
    size: (u64, u64),
    off: Duration,
    random: Random,
}

impl Files {
    /// A file's segments.
    fn segments(&mut self) -> u64 {
        let (least, most) = self.size;
        (least + self.random.below(most - least + 1)).div_ceil(PAYLOAD)
    }

    /// A pause: exponentially distributed.
    fn pause(&mut self) -> Duration {
        // 1 - u is never zero.
        self.off.mul_f64(-(1.0 - self.random.uniform()).ln())
    }
}

impl Transfers {
    /// One transfer, as long as it may send.
    pub fn endless(start: Instant, times: Times) -> Self {
        Self::new(start, times, None, times.from)
    }

    /// Files of so many bytes, the least and the most, with pauses of `off` in the mean; a pause comes first.
    pub fn files(start: Instant, times: Times, size: (u64, u64), off: Duration, seed: u64) -> Self {
        let mut files = Files { size, off, random: Random::new(seed) };
        let first = times.from + files.pause();
        Self::new(start, times, Some(files), first)
    }

    fn new(start: Instant, times: Times, files: Option<Files>, first: Duration) -> Self {
        Self {
            start,
            times,
            files,
            connection: 0,
            sender: Sender::new(Some(0)),
            receiver: Receiver::default(),
            acks: VecDeque::new(),
            next: times.next(first).map(|at| start + at),
        }
    }

    fn begin(&mut self) {
        self.connection += 1;
        self.sender = Sender::new(self.files.as_mut().map(Files::segments));
        self.receiver = Receiver::default();
        self.acks.clear();
        self.next = None;
    }

    /// What there is between two transfers.
    fn rest(&mut self, now: Instant) {
        let since = now - self.start;
        if self.next.is_some() || !self.sender.is_done() {
            return;
        }
        let after = since + self.files.as_mut().map_or(Duration::ZERO, Files::pause);
        self.next = self.times.next(after).map(|at| self.start + at);
    }
}

impl Flow for Transfers {
    fn poll_timeout(&self) -> Option<Instant> {
        [self.next, self.sender.poll_timeout()].into_iter().flatten().min()
    }

    fn poll(&mut self, now: Instant) -> Option<Outgoing> {
        let connection = self.connection;
        if let Some(ack) = self.acks.pop_front() {
            return Some(Outgoing { way: Way::Back, bytes: ACK, body: Body::Ack { connection, ack } });
        }
        if self.next.is_some_and(|due| due <= now) {
            self.begin();
        }
        if self.files.is_none() && !self.times.sends_at(now - self.start) {
            self.sender.finish();
        }
        let connection = self.connection;
        let number = self.sender.poll(now)?;
        Some(Outgoing { way: Way::There, bytes: SEGMENT, body: Body::Segment { connection, number } })
    }

    fn arrive(&mut self, now: Instant, body: Body) {
        match body {
            Body::Segment { connection, number } if connection == self.connection => {
                self.acks.push_back(self.receiver.arrive(number));
            }
            Body::Ack { connection, ack } if connection == self.connection => {
                self.sender.on_ack(now, ack);
                self.rest(now);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu_core::sim::clock::origin;

    const RTT: Duration = Duration::from_millis(100);

    /// Runs over a path that takes its time and loses nothing; when each segment of each connection was sent.
    fn run(mut flow: Transfers, start: Instant, seconds: u64) -> Vec<(u64, Duration)> {
        let (mut flying, mut sent) = (VecDeque::new(), Vec::new());
        let mut now = start;
        while now < start + Duration::from_secs(seconds) {
            while flying.front().is_some_and(|&(at, _)| at <= now) {
                flow.arrive(now, flying.pop_front().expect("it is there").1);
            }
            while let Some(Outgoing { body, .. }) = flow.poll(now) {
                if let Body::Segment { connection, .. } = body {
                    sent.push((connection, now - start));
                }
                flying.push_back((now + RTT / 2, body));
            }
            let next = [flying.front().map(|it| it.0), flow.poll_timeout()].into_iter().flatten().min();
            let Some(next) = next else { break };
            now = next.max(now);
        }
        sent
    }

    #[test]
    fn an_endless_transfer_begins_and_ends_when_it_should() {
        let s = Duration::from_secs;
        let times = Times { from: s(2), until: Some(s(4)), pause: None };
        let start = origin();
        let sent = run(Transfers::endless(start, times), start, 10);
        let (first, last) = (sent[0].1, sent[sent.len() - 1].1);
        assert!(
            first >= s(2) && first < s(2) + RTT && last < s(4) && last > s(4) - RTT * 2,
            "{first:?} {last:?}"
        );
    }

    #[test]
    fn files_have_their_sizes_and_pauses_their_mean() {
        let start = origin();
        let off = Duration::from_secs(5);
        let flow = Transfers::files(start, Times::default(), (30_000, 50_000), off, 1);
        let sent = run(flow, start, 3000);
        let files = sent[sent.len() - 1].0;
        assert!((450..700).contains(&files), "{files} in 3000 s");
        for file in 1..files {
            let segments = sent.iter().filter(|(connection, _)| *connection == file).count();
            assert!((21..=35).contains(&segments), "{segments}");
        }
    }
}
