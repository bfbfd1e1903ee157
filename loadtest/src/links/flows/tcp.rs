//! One TCP connection's data, without sockets: what is sent, answered, lost and sent again. Segments have numbers
//! instead of bytes, and an acknowledgement names the segment that it answers, which is what selective
//! acknowledgements tell (RFC 2018). What is lost is known by what was sent three transmissions later and arrived
//! (the packet threshold of RFC 8985 and RFC 9002), or by the timer of RFC 6298.
//!
//! Not here: handshakes, delayed acknowledgements, tail loss probes, flow control.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::cubic::Cubic;

/// Bytes of a segment's payload, and of a segment and an acknowledgement on the wire: IPv4, TCP, timestamps.
pub const PAYLOAD: u64 = 1448;
/// See [`PAYLOAD`].
pub const SEGMENT: u64 = 1500;
/// See [`PAYLOAD`].
pub const ACK: u64 = 52;

/// So many transmissions later.
const REORDERED: u64 = 3;

/// RFC 6298; the least is Linux's.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// What a receiver answers a segment with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// All before this one arrived.
    pub next: u64,
    /// The segment that it answers.
    pub answers: u64,
}

/// The end that sends.
#[derive(Clone, Debug)]
pub struct Sender {
    cubic: Cubic,
    /// The first segment that is not acknowledged, and what is known of those from there on.
    first: u64,
    segments: VecDeque<Segment>,
    in_flight: usize,
    /// How many segments there are; `None`: no end.
    end: Option<u64>,
    /// Transmissions so far, and the latest of those that were answered.
    transmissions: u64,
    answered: u64,
    phase: Phase,
    /// Smoothed round trip and its variation.
    rtt: Option<(Duration, Duration)>,
    timer: Option<Instant>,
    timeouts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    InFlight { transmission: u64, at: Instant, again: bool },
    Arrived,
    Lost,
}

/// What is done about losses, until the segment is acknowledged that was the next when they were noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The window was made smaller, and does not grow.
    Recovery(u64),
    /// It begins anew.
    Restart(u64),
}

impl Sender {
    /// A connection that has to send so many segments; `None`: without end.
    pub fn new(end: Option<u64>) -> Self {
        Self {
            cubic: Cubic::default(),
            first: 0,
            segments: VecDeque::new(),
            in_flight: 0,
            end,
            transmissions: 0,
            answered: 0,
            phase: Phase::Open,
            rtt: None,
            timer: None,
            timeouts: 0,
        }
    }

    /// Whether everything has arrived.
    pub fn is_done(&self) -> bool {
        self.end == Some(self.first)
    }

    /// Sends nothing new from now on.
    pub fn finish(&mut self) {
        self.end = Some(self.next());
    }

    /// When [`Self::poll`] has something to do, acknowledgements apart.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timer
    }

    /// The number of the next segment to send.
    pub fn poll(&mut self, now: Instant) -> Option<u64> {
        if self.timer.is_some_and(|due| due <= now) {
            self.time_out();
        }
        if self.in_flight >= self.cubic.window() {
            return None;
        }
        let lost = self.segments.iter().position(|segment| *segment == Segment::Lost);
        let more = self.end.is_none_or(|end| self.next() < end);
        let index = lost.or_else(|| more.then_some(self.segments.len()))?;
        self.transmissions += 1;
        let segment = Segment::InFlight { transmission: self.transmissions, at: now, again: lost.is_some() };
        match lost {
            Some(index) => self.segments[index] = segment,
            None => self.segments.push_back(segment),
        }
        self.in_flight += 1;
        self.timer.get_or_insert(now + timeout(self.rtt, self.timeouts));
        Some(self.first + index as u64)
    }

    /// An acknowledgement arrived.
    pub fn on_ack(&mut self, now: Instant, ack: Ack) {
        let mut acked = 0;
        if let Some(index) = ack.answers.checked_sub(self.first)
            && let Some(segment) = self.segments.get_mut(index as usize)
        {
            let before = std::mem::replace(segment, Segment::Arrived);
            acked += u32::from(before != Segment::Arrived);
            if let Segment::InFlight { transmission, at, again } = before {
                self.in_flight -= 1;
                self.answered = self.answered.max(transmission);
                if !again {
                    self.measure(now - at);
                }
            }
        }
        while self.first < ack.next
            && let Some(segment) = self.segments.pop_front()
        {
            self.first += 1;
            acked += u32::from(segment != Segment::Arrived);
            self.in_flight -= usize::from(matches!(segment, Segment::InFlight { .. }));
        }
        if acked > 0 {
            self.timeouts = 0;
            self.timer = (!self.segments.is_empty()).then(|| now + timeout(self.rtt, 0));
        }
        if let Phase::Recovery(until) | Phase::Restart(until) = self.phase
            && self.first >= until
        {
            self.phase = Phase::Open;
        }
        let lost = self.find_lost();
        if lost && self.phase == Phase::Open {
            self.cubic.on_loss();
            self.phase = Phase::Recovery(self.next());
        }
        if !matches!(self.phase, Phase::Recovery(_)) {
            let rtt = self.rtt.map_or(Duration::ZERO, |(smoothed, _)| smoothed);
            (0..acked).for_each(|_| self.cubic.on_acked(now, rtt));
        }
    }

    fn next(&self) -> u64 {
        self.first + self.segments.len() as u64
    }

    fn find_lost(&mut self) -> bool {
        let mut found = false;
        for segment in &mut self.segments {
            if let Segment::InFlight { transmission, .. } = *segment
                && transmission + REORDERED <= self.answered
            {
                *segment = Segment::Lost;
                self.in_flight -= 1;
                found = true;
            }
        }
        found
    }

    fn time_out(&mut self) {
        for segment in &mut self.segments {
            if matches!(segment, Segment::InFlight { .. }) {
                *segment = Segment::Lost;
            }
        }
        self.in_flight = 0;
        self.timer = None;
        if self.timeouts == 0 {
            self.cubic.on_timeout();
        }
        self.timeouts += 1;
        self.phase = Phase::Restart(self.next());
    }

    fn measure(&mut self, sample: Duration) {
        self.rtt = Some(match self.rtt {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => {
                ((smoothed * 7 + sample) / 8, (variation * 3 + smoothed.abs_diff(sample)) / 4)
            }
        });
    }
}

fn timeout(rtt: Option<(Duration, Duration)>, timeouts: u32) -> Duration {
    let first = rtt.map_or(FIRST_TIMEOUT, |(smoothed, variation)| smoothed + variation * 4);
    (first.max(MIN_TIMEOUT) * (1 << timeouts.min(10))).min(MAX_TIMEOUT)
}

/// The end that receives.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    next: u64,
    /// What arrived beyond a gap: less than a window.
    beyond: BTreeSet<u64>,
}

impl Receiver {
    /// A segment arrived.
    pub fn arrive(&mut self, number: u64) -> Ack {
        if number >= self.next {
            self.beyond.insert(number);
        }
        while self.beyond.first() == Some(&self.next) {
            self.beyond.pop_first();
            self.next += 1;
        }
        Ack { next: self.next, answers: number }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::capacity::Capacity;
    use super::super::super::path::{Conditions, Fate, Loss, Path, QueueLimit};
    use super::*;
    use sfu_core::sim::clock::origin;

    /// A transfer over 2 Mbit/s and 100 ms: segments that arrived in each of so many seconds, how many were sent,
    /// and the longest wait.
    fn transfer(end: Option<u64>, seconds: u64, queue_ms: u64, loss: f64) -> (Vec<u32>, u64, Duration) {
        let start = origin();
        let delay = Duration::from_millis(50);
        let down = Conditions {
            capacity: Capacity::constant(2_000_000),
            queue: QueueLimit::of_time(2_000_000, Duration::from_millis(queue_ms)),
            loss: Loss::Uniform(loss),
            delay,
            ..Conditions::default()
        };
        let mut down = Path::new(down, start, 1);
        let mut up = Path::new(Conditions { delay, ..Conditions::default() }, start, 2);
        let (mut sender, mut receiver) = (Sender::new(end), Receiver::default());
        let (mut arrived, mut longest, mut now) = (vec![0; seconds as usize], Duration::ZERO, start);
        while !sender.is_done() {
            while let Some(ack) = up.receive(now) {
                sender.on_ack(now, ack);
            }
            while let Some(number) = down.receive(now) {
                let before = receiver.next + receiver.beyond.len() as u64;
                let ack = receiver.arrive(number);
                let fresh = receiver.next + receiver.beyond.len() as u64 > before;
                arrived[(now - start).as_secs() as usize] += u32::from(fresh);
                up.send(now, ACK, ack);
            }
            while let Some(number) = sender.poll(now) {
                if let Fate::Carried { wait } = down.send(now, SEGMENT, number) {
                    longest = longest.max(wait);
                }
            }
            let next = [down.poll_timeout(), up.poll_timeout(), sender.poll_timeout()];
            let Some(next) = next.into_iter().flatten().min() else { break };
            now = next.max(now);
            if now >= start + Duration::from_secs(seconds) {
                break;
            }
        }
        (arrived, sender.transmissions, longest)
    }

    #[test]
    fn a_transfer_fills_the_link_and_its_queue() {
        for queue_ms in [300, 1000] {
            let (arrived, sent, longest) = transfer(None, 60, queue_ms, 0.0);
            // 2 Mbit/s are 166 segments a second.
            assert!(arrived[5..].iter().all(|&count| count >= 150), "{arrived:?}");
            let total = arrived.iter().sum::<u32>();
            assert!(sent < u64::from(total) * 110 / 100, "{sent} for {total}");
            let limit = u128::from(queue_ms);
            assert!((limit - 20..=limit).contains(&longest.as_millis()), "{longest:?}");
        }
    }

    #[test]
    fn everything_arrives_whatever_is_lost() {
        for loss in [0.0, 0.01, 0.1, 0.3] {
            let (arrived, _, _) = transfer(Some(500), 600, 300, loss);
            assert_eq!(arrived.iter().sum::<u32>(), 500, "{loss}");
        }
    }

    #[test]
    fn loss_makes_it_slow() {
        let total = |loss| transfer(None, 60, 300, loss).0.iter().sum::<u32>();
        assert!(total(0.05) < total(0.0) / 2, "{} {}", total(0.05), total(0.0));
    }

    #[test]
    fn a_small_file_takes_a_few_round_trips() {
        // Ten segments, then twenty: two round trips, and their own time.
        let (arrived, sent, _) = transfer(Some(30), 5, 300, 0.0);
        assert_eq!((arrived[0], sent), (30, 30));
    }

    #[test]
    fn a_lost_tail_is_sent_again_after_the_timer() {
        let start = origin();
        let mut sender = Sender::new(Some(3));
        assert_eq!([0, 1, 2].map(|_| sender.poll(start)), [Some(0), Some(1), Some(2)]);
        let later = start + Duration::from_millis(100);
        sender.on_ack(later, Ack { next: 2, answers: 1 });
        assert_eq!(sender.poll(later), None);
        let due = sender.poll_timeout().unwrap();
        assert_eq!(due, later + Duration::from_millis(300), "a round trip and four of its variations");
        assert_eq!(sender.poll(due), Some(2));
        sender.on_ack(due + Duration::from_millis(100), Ack { next: 3, answers: 2 });
        assert!(sender.is_done() && sender.poll_timeout().is_none());
    }
}
