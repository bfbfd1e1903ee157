//! Remembers when a publisher's packets arrived, and reports it back.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::statuses::{self, Status};
use super::{TICK_MICROS, TICKS_PER_REFERENCE};
use crate::rtp::rtcp::{Ssrc, TransportFeedback, Writer};
use crate::seq::SeqUnwrapper;

/// How often a publisher hears from us: libwebrtc's default. Between 50 and 400 ms its estimate is as good.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(100);

/// Packets that it remembers, a power of two: 400 ms of the fastest publisher that we serve, 20 Mbit/s.
const WINDOW: u64 = 1024;

/// So many packets in a row from before the window mean that the publisher has begun to count anew.
const STALE_LIMIT: u32 = 64;

/// Bytes of statuses in one feedback packet: with 20 bytes in front, 3 of padding and SRTCP's trailer it stays
/// below 1200.
const MAX_STATUS_BYTES: usize = 1144;
const MAX_STATUSES: usize = statuses::capacity(MAX_STATUS_BYTES);

/// RTCP header, sources, base, count, reference time and feedback count; and the padding behind the statuses.
const OVERHEAD: usize = 20 + 3;

/// Arrivals of one transport's packets, until they are reported.
#[derive(Debug)]
pub struct ArrivalRecorder {
    interval: Duration,
    epoch: Instant,
    unwrapper: SeqUnwrapper,
    /// When the packet `seq` arrived, at `seq % WINDOW`, for those of the window.
    arrivals: Box<[Option<Ticks>; WINDOW as usize]>,
    /// The first packet of the next report.
    start: u64,
    /// One behind the last packet that arrived: the window ends here.
    end: u64,
    due: Option<Instant>,
    last_report: Option<Instant>,
    feedback_count: u8,
    stale: u32,
}

impl ArrivalRecorder {
    /// A recorder whose clock begins at `now`.
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            epoch: now,
            unwrapper: SeqUnwrapper::default(),
            arrivals: Box::new([None; WINDOW as usize]),
            start: 0,
            end: 0,
            due: None,
            last_report: None,
            feedback_count: 0,
            stale: 0,
        }
    }

    /// Changes how often it reports, from the next report on.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// A packet with the transport-wide number `seq` arrived. A duplicate, or one from before the window,
    /// changes nothing; a jump beyond the window begins a new one.
    #[inline]
    pub fn record(&mut self, now: Instant, seq: u16) {
        let Some(seq) = self.place(seq) else { return };
        let slot = &mut self.arrivals[slot(seq)];
        if slot.is_some() {
            return;
        }
        *slot = Some(Ticks::new(self.epoch, now));
        self.start = self.start.min(seq);
        if self.due.is_none() {
            // What comes after a pause is reported at once: nobody waits for company that may not come.
            self.due = Some(self.last_report.map_or(now, |last| now.max(last + self.interval)));
        }
    }

    /// The extended number of a packet in the window, which moves on to hold it.
    #[inline]
    fn place(&mut self, wire: u16) -> Option<u64> {
        let seq = self.unwrapper.unwrap(wire);
        if seq + WINDOW < self.end {
            self.stale += 1;
            return if self.stale > STALE_LIMIT { Some(self.restart(wire)) } else { None };
        }
        self.stale = 0;
        if seq >= self.end + WINDOW {
            return Some(self.restart(wire));
        }
        for skipped in self.end..=seq {
            self.arrivals[slot(skipped)] = None;
        }
        self.end = self.end.max(seq + 1);
        self.start = self.start.max(self.end.saturating_sub(WINDOW));
        Some(seq)
    }

    /// Forgets everything and begins a window at `wire`. What waited to be reported is given up.
    #[cold]
    fn restart(&mut self, wire: u16) -> u64 {
        self.unwrapper = SeqUnwrapper::default();
        let seq = self.unwrapper.unwrap(wire);
        self.arrivals.fill(None);
        (self.start, self.end, self.stale) = (seq, seq + 1, 0);
        seq
    }

    /// Writes a feedback packet, at most 1200 bytes with its protection, into `out` and returns its length.
    /// `None` where none is due, or `out` is too short for one. Call it until then.
    pub fn poll_feedback(
        &mut self,
        now: Instant,
        sender: Ssrc,
        media: Ssrc,
        out: &mut [u8],
    ) -> Option<usize> {
        self.due.filter(|&due| due <= now)?;
        let room = out.len().checked_sub(OVERHEAD)?.min(MAX_STATUS_BYTES);
        let report = self.report(statuses::capacity(room))?;
        let mut bytes = [0; MAX_STATUS_BYTES];
        let len = statuses::write(&report.statuses, &mut bytes)?;
        let feedback = TransportFeedback {
            sender,
            media,
            base_seq: report.base as u16,
            status_count: report.statuses.len() as u16,
            reference_time: report.reference_time as u32 & 0xff_ffff,
            feedback_count: self.feedback_count,
            statuses: &bytes[..len],
        };
        let mut writer = Writer::new(out);
        writer.transport_feedback(&feedback).ok()?;
        self.feedback_count = self.feedback_count.wrapping_add(1);
        self.start = report.base + report.statuses.len() as u64;
        if self.start == self.end {
            (self.due, self.last_report) = (None, Some(now));
        }
        Some(writer.len())
    }

    /// When the next report is due, `None` while there is nothing to report.
    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The statuses of the first `limit` packets that wait to be reported, or fewer where the time between two
    /// of them does not fit a delta.
    fn report(&self, limit: usize) -> Option<Report> {
        let arrival = |seq| self.arrivals[slot(seq)];
        let first = (self.start..self.end).find(|&seq| arrival(seq).is_some())?;
        // A report in which nothing arrived has no meaning: where much was lost, its first part stays unsaid.
        let base = self.start.max(first.saturating_sub(limit as u64 / 2));
        let reference_time = arrival(first)?.0.get() / TICKS_PER_REFERENCE;
        let mut last = reference_time * TICKS_PER_REFERENCE;
        let mut statuses = ArrayVec::new();
        for seq in (base..self.end).take(limit.min(MAX_STATUSES)) {
            let status = match arrival(seq) {
                None => None,
                Some(Ticks(ticks)) => {
                    let Ok(delta) = i16::try_from(ticks.get() as i64 - last as i64) else { break };
                    last = ticks.get();
                    Some(delta)
                }
            };
            statuses.push(status);
        }
        (!statuses.is_empty()).then_some(Report { base, reference_time, statuses })
    }
}

struct Report {
    base: u64,
    reference_time: u64,
    statuses: ArrayVec<Status, MAX_STATUSES>,
}

/// A time since the recorder's epoch, in 250 us. It begins at one unit of the reference time: never zero.
#[derive(Clone, Copy, Debug)]
struct Ticks(NonZeroU64);

impl Ticks {
    #[inline]
    fn new(epoch: Instant, now: Instant) -> Self {
        let since = now.saturating_duration_since(epoch);
        let ticks = (since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())) / TICK_MICROS;
        Self(NonZeroU64::MIN.saturating_add(TICKS_PER_REFERENCE - 1 + ticks))
    }
}

#[inline]
fn slot(seq: u64) -> usize {
    (seq % WINDOW) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cc::twcc::{FeedbackView, PacketStatus};
    use crate::rtp::rtcp::{Rtcp, packets};
    use crate::testing::{Random, origin};

    const SENDER: Ssrc = Ssrc(1);
    const MEDIA: Ssrc = Ssrc(2);
    const MILLI: Duration = Duration::from_millis(1);

    fn poll(recorder: &mut ArrivalRecorder, now: Instant) -> Option<Vec<PacketStatus>> {
        let mut out = [0; 1232];
        let len = recorder.poll_feedback(now, SENDER, MEDIA, &mut out)?;
        assert!(len <= 1200);
        let Some(Ok(Rtcp::TransportFeedback(feedback))) = packets(&out[..len]).next() else {
            panic!("not a feedback: {:02x?}", &out[..len])
        };
        assert_eq!((feedback.sender, feedback.media), (SENDER, MEDIA));
        Some(FeedbackView::parse(&feedback).expect("what we write, we read").statuses().collect())
    }

    /// Number and milliseconds since the recorder was made, which its clock shows as 64.
    fn millis(statuses: &[PacketStatus]) -> Vec<(u16, Option<i64>)> {
        let millis = |status: &PacketStatus| status.arrival.map(|time| time.as_micros() / 1000 - 64);
        statuses.iter().map(|status| (status.seq, millis(status))).collect()
    }

    #[test]
    fn reports_arrivals_and_losses_at_the_interval() {
        let start = origin();
        let mut recorder = ArrivalRecorder::new(DEFAULT_INTERVAL, start);
        assert_eq!((recorder.poll_timeout(), poll(&mut recorder, start)), (None, None));
        recorder.record(start + MILLI, 65535);
        assert_eq!(recorder.poll_timeout(), Some(start + MILLI), "the first packet is reported at once");
        let report = poll(&mut recorder, start + MILLI).unwrap();
        assert_eq!(millis(&report), [(65535, Some(1))]);
        assert_eq!((recorder.poll_timeout(), poll(&mut recorder, start + MILLI)), (None, None));

        recorder.record(start + 10 * MILLI, 0);
        recorder.record(start + 300 * MILLI, 3);
        assert_eq!(recorder.poll_timeout(), Some(start + 101 * MILLI));
        assert_eq!(poll(&mut recorder, start + 100 * MILLI), None);
        let report = poll(&mut recorder, start + 400 * MILLI).unwrap();
        assert_eq!(millis(&report), [(0, Some(10)), (1, None), (2, None), (3, Some(300))]);
        assert_eq!(poll(&mut recorder, start + 800 * MILLI), None, "nothing arrived since");
    }

    #[test]
    fn a_late_packet_is_reported_with_what_follows_it() {
        let start = origin();
        let mut recorder = ArrivalRecorder::new(DEFAULT_INTERVAL, start);
        recorder.record(start, 10);
        recorder.record(start + 4 * MILLI, 12);
        assert_eq!(poll(&mut recorder, start + 4 * MILLI).unwrap().len(), 3);
        recorder.record(start + 8 * MILLI, 11);
        recorder.record(start + 9 * MILLI, 12);
        let report = poll(&mut recorder, start + 200 * MILLI).unwrap();
        assert_eq!(millis(&report), [(11, Some(8)), (12, Some(4))], "a duplicate keeps the first arrival");
    }

    #[test]
    fn arrivals_too_far_apart_for_a_delta_take_two_reports() {
        let start = origin();
        let mut recorder = ArrivalRecorder::new(DEFAULT_INTERVAL, start);
        recorder.record(start, 1);
        recorder.record(start + Duration::from_secs(9), 3);
        let now = start + Duration::from_secs(9);
        assert_eq!(millis(&poll(&mut recorder, now).unwrap()), [(1, Some(0)), (2, None)]);
        assert_eq!(millis(&poll(&mut recorder, now).unwrap()), [(3, Some(9000))]);
        assert_eq!(poll(&mut recorder, now), None);
    }

    #[test]
    fn a_jump_beyond_the_window_begins_a_new_one() {
        let start = origin();
        let mut recorder = ArrivalRecorder::new(DEFAULT_INTERVAL, start);
        recorder.record(start, 1);
        recorder.record(start, 30_000);
        assert_eq!(millis(&poll(&mut recorder, start).unwrap()), [(30_000, Some(0))]);

        for _ in 0..=STALE_LIMIT {
            recorder.record(start + 100 * MILLI, 5);
        }
        let report = poll(&mut recorder, start + 100 * MILLI).unwrap();
        assert_eq!(millis(&report), [(5, Some(100))], "a publisher that counts anew is believed in the end");
    }

    #[test]
    fn much_loss_takes_several_reports_of_which_none_is_empty() {
        let start = origin();
        let mut recorder = ArrivalRecorder::new(DEFAULT_INTERVAL, start);
        recorder.record(start, 0);
        assert!(poll(&mut recorder, start).is_some());
        recorder.record(start, 1000);
        let now = start + 100 * MILLI;
        let reports: Vec<_> = std::iter::from_fn(|| poll(&mut recorder, now)).collect();
        assert!(!reports.is_empty());
        assert!(reports.iter().all(|report| report.iter().any(|status| status.arrival.is_some())));
        assert_eq!(reports.last().and_then(|report| report.last()).map(|status| status.seq), Some(1000));
    }

    #[test]
    fn a_short_buffer_gets_a_part_and_a_tiny_one_nothing() {
        let start = origin();
        let mut recorder = ArrivalRecorder::new(DEFAULT_INTERVAL, start);
        for seq in 0..100 {
            recorder.record(start, seq);
        }
        assert_eq!(recorder.poll_feedback(start, SENDER, MEDIA, &mut [0; 24]), None);
        let mut reports = 0;
        while let Some(len) = recorder.poll_feedback(start, SENDER, MEDIA, &mut [0; 64]) {
            assert!(len <= 64);
            reports += 1;
        }
        assert!(reports > 1 && recorder.poll_timeout().is_none());
    }

    #[test]
    fn every_arrival_is_reported_truly_whatever_the_network_does() {
        for seed in 1..=40 {
            let mut random = Random::new(seed);
            let start = origin();
            let mut recorder = ArrivalRecorder::new(DEFAULT_INTERVAL, start);
            let mut arrivals = vec![None; 4000];
            let mut reported = arrivals.clone();
            let (mut now, base) = (start, random.below(65536) as u16);
            for sent in 0..arrivals.len() as u64 {
                let scale = random.below(18);
                now += Duration::from_micros(random.below(1 << scale));
                // Lost, reordered by up to 100 packets, doubled.
                for _ in 0..random.below(3) {
                    let packet = sent.saturating_sub(random.below(2) * random.below(100)) as usize;
                    recorder.record(now, base.wrapping_add(packet as u16));
                    arrivals[packet].get_or_insert(now);
                }
                while let Some(report) = poll(&mut recorder, now) {
                    for PacketStatus { seq, arrival } in report {
                        let packet = usize::from(seq.wrapping_sub(base));
                        let arrival = arrival.map(|time| time.as_micros() as u128 - 64_000);
                        let truth = arrivals[packet].map(|at| (at - start).as_micros() / 250 * 250);
                        assert_eq!(arrival, truth, "seed {seed}, packet {packet}");
                        reported[packet] = arrivals[packet];
                    }
                }
            }
            let end = now + DEFAULT_INTERVAL;
            for status in std::iter::from_fn(|| poll(&mut recorder, end)).flatten() {
                let packet = usize::from(status.seq.wrapping_sub(base));
                reported[packet] = arrivals[packet];
            }
            assert_eq!(reported, arrivals, "seed {seed}");
        }
    }
}
