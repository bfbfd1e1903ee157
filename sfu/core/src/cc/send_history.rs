//! What left under which transport-wide number, until the receiver has said what became of it.

use std::time::{Duration, Instant};

use super::twcc::{FeedbackView, RemoteTime};

/// Packets that are remembered, a power of two: 5 s of a receiver of 200 packets a second. Feedback on older ones
/// comes after an outage, and says nothing of the link as it is.
const WINDOW: u64 = 1024;

/// A packet that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentPacket {
    /// Its extended transport-wide number.
    pub seq: u64,
    /// When it left, since the history began.
    pub at: Duration,
    /// Bytes that it takes on the wire.
    pub size: u16,
    /// Whether it is sound.
    pub audio: bool,
    /// The probe that it is a part of, where it is.
    pub probe: Option<Cluster>,
}

/// A probe as its packets carry it: they are judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Counts them, from 1 on.
    pub id: u16,
    /// What it was to be at least, for anything to follow from it.
    pub packets: u16,
    /// The same in bytes on the wire.
    pub bytes: u32,
}

/// What is newly known of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketResult {
    /// The packet.
    pub sent: SentPacket,
    /// When it arrived, microseconds on the receiver's clock, whose zero is arbitrary; `None` where it did not
    /// (yet).
    pub arrival: Option<i64>,
}

/// See the module.
#[derive(Debug)]
pub struct SendHistory {
    epoch: Instant,
    slots: Box<[Slot; WINDOW as usize]>,
    /// The first packet, and one behind the last. The window ends at `end`.
    begin: u64,
    end: u64,
    /// One behind the highest packet that feedback spoke of.
    reported: u64,
    clock: Option<RemoteClock>,
    /// The last probes, at `id % len`.
    clusters: [Option<Cluster>; 4],
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    at_micros: u64,
    size: u16,
    audio: bool,
    state: State,
    /// The probe that it is a part of; 0: of none.
    cluster: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No packet has this number.
    Empty,
    Flying,
    /// Reported lost; it may still arrive.
    Lost,
    Arrived,
}

/// The receiver's clock, unwrapped.
#[derive(Clone, Copy, Debug)]
struct RemoteClock {
    last: RemoteTime,
    micros: i64,
}

/// The receiver's clock begins anew, or jumps, when it moves so much more than ours: nothing from before can be
/// compared with what comes.
const MAX_JUMP: Duration = Duration::from_secs(10);

/// The receiver's clock has jumped: forget its past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockJumped;

impl SendHistory {
    /// An empty history.
    pub fn new(now: Instant) -> Self {
        let empty = Slot { at_micros: 0, size: 0, audio: false, state: State::Empty, cluster: 0 };
        Self {
            epoch: now,
            slots: Box::new([empty; WINDOW as usize]),
            begin: 0,
            end: 0,
            reported: 0,
            clock: None,
            clusters: [None; 4],
        }
    }

    /// The packet with the transport-wide number `seq` left. Numbers ascend by one, or skip some.
    #[inline]
    pub fn on_sent(
        &mut self,
        now: Instant,
        seq: u16,
        size: usize,
        audio: bool,
        probe: Option<Cluster>,
    ) -> SentPacket {
        let at_micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        if self.begin == self.end {
            // One cycle up, so that there are numbers before it.
            self.begin = u64::from(seq) + (1 << 16);
            (self.end, self.reported) = (self.begin, self.begin);
        }
        let seq = self.end + u64::from(seq.wrapping_sub(self.end as u16));
        for skipped in self.end.max((seq + 1).saturating_sub(WINDOW))..seq {
            self.slots[place(skipped)] = Slot { at_micros, size: 0, audio, state: State::Empty, cluster: 0 };
        }
        if let Some(cluster) = probe {
            self.clusters[usize::from(cluster.id) % 4] = Some(cluster);
        }
        let cluster = probe.map_or(0, |cluster| cluster.id);
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        self.slots[place(seq)] = Slot { at_micros, size, audio, state: State::Flying, cluster };
        self.end = seq + 1;
        self.begin = self.begin.max(self.end.saturating_sub(WINDOW));
        self.sent(seq)
    }

    /// Appends what a feedback newly says of packets, in the order of their numbers, to `results`; at most as many
    /// as the window holds. With an error, earlier arrivals are on another clock than these.
    pub fn on_feedback(
        &mut self,
        now: Instant,
        feedback: &FeedbackView<'_>,
        results: &mut Vec<PacketResult>,
    ) -> Result<(), ClockJumped> {
        let mut outcome = Ok(());
        for status in feedback.statuses() {
            let Some(seq) = self.extend(status.seq) else { continue };
            let state = &mut self.slots[place(seq)].state;
            let news = match (*state, status.arrival) {
                (State::Flying, None) => State::Lost,
                (State::Flying | State::Lost, Some(_)) => State::Arrived,
                _ => continue,
            };
            *state = news;
            self.reported = self.reported.max(seq + 1);
            let arrival = status.arrival.map(|time| {
                let (micros, jumped) = self.unwrap_time(now, time);
                if jumped {
                    results.clear();
                    outcome = Err(ClockJumped);
                }
                micros
            });
            results.push(PacketResult { sent: self.sent(seq), arrival });
        }
        outcome
    }

    /// How long the third of the packets behind the last one reported has been away: with fewer, nothing is
    /// missed.
    pub fn waiting(&self, now: Instant) -> Option<Duration> {
        const NOTICED: u64 = 2;
        let third = self.reported.max(self.begin) + NOTICED;
        (third < self.end)
            .then(|| now.saturating_duration_since(self.epoch).saturating_sub(self.sent(third).at))
    }

    /// Time on our clock as results have it.
    pub fn since_epoch(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    /// The extended number of a packet that is in the window.
    fn extend(&self, wire: u16) -> Option<u64> {
        let newest = self.end.checked_sub(1)?;
        let behind = u64::from((newest as u16).wrapping_sub(wire));
        newest.checked_sub(behind).filter(|seq| (self.begin..self.end).contains(seq))
    }

    fn sent(&self, seq: u64) -> SentPacket {
        let Slot { at_micros, size, audio, cluster, .. } = self.slots[place(seq)];
        let probe = self.clusters[usize::from(cluster) % 4].filter(|known| known.id == cluster);
        SentPacket { seq, at: Duration::from_micros(at_micros), size, audio, probe }
    }

    /// The receiver's clock without its restarts, near to ours at first; and whether it has jumped.
    fn unwrap_time(&mut self, now: Instant, time: RemoteTime) -> (i64, bool) {
        let ours = self.since_epoch(now).as_micros() as i64;
        let expected = |clock: &RemoteClock| clock.micros + time.micros_since(clock.last);
        let micros = self.clock.as_ref().map(expected);
        let micros = micros.filter(|micros| micros.abs_diff(ours) <= MAX_JUMP.as_micros() as u64);
        let jumped = micros.is_none() && self.clock.is_some();
        let micros = micros.unwrap_or(ours);
        self.clock = Some(RemoteClock { last: time, micros });
        (micros, jumped)
    }
}

#[inline]
fn place(seq: u64) -> usize {
    (seq % WINDOW) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cc::twcc::ArrivalRecorder;
    use crate::rtp::rtcp::{Rtcp, Ssrc, packets};
    use crate::testing::origin;

    const MS: Duration = Duration::from_millis(1);

    /// Sends packets, lets some arrive after 50 ms, and returns what the history makes of the feedback.
    struct Wire {
        start: Instant,
        history: SendHistory,
        recorder: ArrivalRecorder,
    }

    impl Wire {
        fn new() -> Self {
            let start = origin();
            let recorder = ArrivalRecorder::new(Duration::ZERO, start);
            Self { start, history: SendHistory::new(start), recorder }
        }

        fn send(&mut self, at_ms: u32, seq: u16) {
            self.history.on_sent(self.start + MS * at_ms, seq, 100, false, None);
        }

        fn arrive(&mut self, at_ms: u32, seq: u16) {
            self.recorder.record(self.start + MS * at_ms, seq);
        }

        /// Extended number and arrival in milliseconds after the first one.
        fn feedback(&mut self, at_ms: u32) -> Vec<(u64, Option<i64>)> {
            let now = self.start + MS * at_ms;
            let (mut out, mut results) = ([0; 1200], Vec::new());
            while let Some(len) = self.recorder.poll_feedback(now, Ssrc(1), Ssrc(2), &mut out) {
                let Some(Ok(Rtcp::TransportFeedback(feedback))) = packets(&out[..len]).next() else {
                    panic!()
                };
                let view = FeedbackView::parse(&feedback).unwrap();
                self.history.on_feedback(now, &view, &mut results).unwrap();
            }
            results.iter().map(|it| (it.sent.seq, it.arrival.map(|at| at / 1000))).collect()
        }
    }

    #[test]
    fn tells_of_each_packet_once_and_of_late_ones_again() {
        let mut wire = Wire::new();
        for (seq, at_ms) in [65534, 65535, 0, 1].into_iter().zip([0, 10, 20, 30]) {
            wire.send(at_ms, seq);
        }
        for (at_ms, seq) in [(50, 65534), (71, 0)] {
            wire.arrive(at_ms, seq);
        }
        let base = 65534 + (1 << 16);
        assert_eq!(wire.feedback(80), [(base, Some(80)), (base + 1, None), (base + 2, Some(101))]);
        wire.arrive(90, 65535);
        wire.arrive(91, 1);
        wire.arrive(92, 1);
        assert_eq!(wire.feedback(95), [(base + 1, Some(120)), (base + 3, Some(121))]);
        assert!(wire.feedback(500).is_empty());
    }

    #[test]
    fn numbers_that_never_left_are_no_news() {
        let mut wire = Wire::new();
        wire.arrive(1, 7);
        assert!(wire.feedback(2).is_empty(), "nothing has left yet");
        wire.send(3, 100);
        wire.send(4, 103);
        for seq in [99, 100, 101, 103, 104] {
            wire.arrive(5, seq);
        }
        assert_eq!(wire.feedback(6).iter().map(|news| news.0 - (1 << 16)).collect::<Vec<_>>(), [100, 103]);
    }

    #[test]
    fn remembers_a_window_of_packets() {
        let mut wire = Wire::new();
        (0..2000).for_each(|seq| wire.send(u32::from(seq), seq));
        wire.arrive(2000, 900);
        wire.arrive(2000, 1000);
        let told = wire.feedback(2001);
        assert_eq!(told.first().map(|news| news.0 - (1 << 16)), Some(976), "the window's first, as lost");
        assert_eq!(told.last().map(|news| news.0 - (1 << 16)), Some(1000));
    }

    #[test]
    fn knows_how_long_an_answer_is_waited_for() {
        let mut wire = Wire::new();
        for seq in 0..5 {
            assert_eq!(wire.history.waiting(wire.start + MS * 1000).is_some(), seq > 2, "{seq}");
            wire.send(u32::from(seq) * 10, seq);
        }
        assert_eq!(wire.history.waiting(wire.start + MS * 1000), Some(MS * 980));
        wire.arrive(60, 0);
        wire.feedback(70);
        assert_eq!(wire.history.waiting(wire.start + MS * 1000), Some(MS * 970));
        wire.arrive(80, 4);
        wire.feedback(90);
        assert_eq!(wire.history.waiting(wire.start + MS * 1000), None);
    }

    #[test]
    fn numbers_that_were_skipped_are_not_waited_for_from_before() {
        let mut wire = Wire::new();
        for (at_ms, seq) in [(0, 0), (10, 1), (5000, 600), (5001, 5000)] {
            wire.send(at_ms, seq);
        }
        wire.arrive(60, 0);
        wire.feedback(70);
        let waiting = wire.history.waiting(wire.start + MS * 5100);
        assert!(waiting.is_some_and(|waiting| waiting <= MS * 100), "{waiting:?}");
    }

    #[test]
    fn a_clock_that_jumps_begins_anew() {
        let mut wire = Wire::new();
        (0..4).for_each(|seq| wire.send(0, seq));
        wire.arrive(10, 0);
        wire.feedback(10);
        // The receiver's clock is made anew 20 s later.
        let now = wire.start + MS * 20_000;
        wire.recorder = ArrivalRecorder::new(Duration::ZERO, now);
        wire.recorder.record(now, 2);
        let mut out = [0; 1200];
        let len = wire.recorder.poll_feedback(now, Ssrc(1), Ssrc(2), &mut out).unwrap();
        let Some(Ok(Rtcp::TransportFeedback(feedback))) = packets(&out[..len]).next() else { panic!() };
        let (view, mut results) = (FeedbackView::parse(&feedback).unwrap(), Vec::new());
        assert_eq!(wire.history.on_feedback(now, &view, &mut results), Err(ClockJumped));
        assert_eq!(results.last().and_then(|it| it.arrival), Some(20_000_000), "near to our clock again");
    }
}
