//! Reception statistics of one SSRC: loss, jitter and the sender's clock, for receiver reports (RFC 3550 §6.4).

use std::time::{Duration, Instant};

use super::reception::Reception;
use crate::rtp::params::Ssrc;
use crate::rtp::rtcp::{NtpTime, ReportBlock};

/// A sender's two clocks at one instant, from its sender report: what lip sync rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderClock {
    /// Wall-clock time as the sender has it.
    pub ntp: NtpTime,
    /// The RTP timestamp of that time.
    pub time: u32,
    /// When the report arrived here.
    pub arrival: Instant,
}

impl SenderClock {
    /// Both clocks at `now`, run on from the report.
    pub fn at(&self, now: Instant, clock_rate: u32) -> Self {
        let elapsed = now.saturating_duration_since(self.arrival);
        Self {
            ntp: NtpTime(self.ntp.0.wrapping_add(NtpTime::from_duration(elapsed).0)),
            time: self.time.wrapping_add(ticks(elapsed, clock_rate) as u32),
            arrival: now,
        }
    }

    /// The timestamp that `other`, a stream of the same sender, carries for what this stream stamps `time`.
    pub fn translate(&self, time: u32, other: &Self, clock_rate: u32) -> u32 {
        let since_report = i64::from(time.wrapping_sub(self.time) as i32);
        let apart = i128::from(self.ntp.0.wrapping_sub(other.ntp.0).cast_signed());
        let apart = (apart * i128::from(clock_rate)) >> 32;
        other.time.wrapping_add(apart as u32).wrapping_add(since_report as u32)
    }
}

/// Counters of one received SSRC.
#[derive(Debug, Default)]
pub struct ReceiveStats {
    first: Option<First>,
    highest: u64,
    received: u64,
    /// Of these: sent again under their own numbers. What they stand for was lost.
    resent: u64,
    /// At the last report.
    reported: Counts,
    /// Since it was last taken, as far as reported.
    recent: Reception,
    /// Previous packet's transit time in ticks; only differences count (RFC 3550 A.8).
    transit: i64,
    /// Jitter in 1/16 ticks.
    jitter: u64,
    clock: Option<SenderClock>,
}

#[derive(Clone, Copy, Debug)]
struct First {
    seq: u64,
    arrival: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    expected: u64,
    received: u64,
    resent: u64,
}

impl ReceiveStats {
    /// A packet arrived; duplicates count (RFC 3550 A.3). `time` is its timestamp, extended. Jitter is that of
    /// packets in order: one that was overtaken may have been sent again, a round trip later.
    pub fn on_packet(&mut self, now: Instant, seq: u64, time: u64, clock_rate: u32) {
        let first = *self.first.get_or_insert(First { seq, arrival: now });
        let transit = ticks(now.saturating_duration_since(first.arrival), clock_rate).wrapping_sub(time);
        let transit = transit.cast_signed();
        let in_order = self.received == 0 || seq > self.highest;
        if in_order && self.received > 0 {
            let difference = transit.wrapping_sub(self.transit).unsigned_abs();
            // A clock that jumps (a source switched, an outage) is no jitter: libwebrtc's bound, 5 s.
            if difference < 5 * u64::from(clock_rate) {
                self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
            }
        }
        if in_order {
            self.transit = transit;
        }
        self.received += 1;
        self.highest = self.highest.max(seq);
    }

    /// The packet that arrived last was sent again: it had been asked for, or was here already.
    pub fn on_resent(&mut self) {
        self.resent += 1;
    }

    /// A sender report of this SSRC arrived.
    pub fn on_sender_report(&mut self, now: Instant, ntp: NtpTime, time: u32) {
        self.clock = Some(SenderClock { ntp, time, arrival: now });
    }

    /// The sender's clocks, `None` before its first report.
    pub fn clock(&self) -> Option<&SenderClock> {
        self.clock.as_ref()
    }

    /// What was lost in the reports since the last call, before repair, and the jitter now.
    pub fn take_reception(&mut self, clock_rate: u32) -> Reception {
        let jitter = Duration::from_secs(self.jitter >> 4) / clock_rate.max(1);
        Reception { jitter, ..std::mem::take(&mut self.recent) }
    }

    /// What to report of `ssrc` now, `None` where nothing arrived yet. Begins the next interval.
    pub fn report(&mut self, now: Instant, ssrc: Ssrc) -> Option<ReportBlock> {
        let first = self.first?;
        let expected = self.highest.saturating_sub(first.seq) + 1;
        let total = Counts { expected, received: self.received, resent: self.resent };
        let expected = total.expected - self.reported.expected;
        let received = total.received - self.reported.received;
        let resent = total.resent - self.reported.resent;
        let lost = expected.saturating_sub(received);
        self.reported = total;
        self.recent.expected += expected;
        self.recent.lost += expected.saturating_sub(received.saturating_sub(resent));
        let cumulative = total.expected.cast_signed() - total.received.cast_signed();
        let block = ReportBlock {
            ssrc,
            fraction_lost: (lost * 256).checked_div(expected).unwrap_or(0).min(255) as u8,
            cumulative_lost: cumulative.clamp(-0x80_0000, 0x7f_ffff) as i32,
            // The unwrapper begins one cycle up, RFC 3550 at none.
            highest_seq: self.highest.wrapping_sub(1 << 16) as u32,
            jitter: (self.jitter >> 4) as u32,
            last_sr: 0,
            delay_since_sr: 0,
        };
        Some(match self.clock {
            None => block,
            Some(clock) => block.with_last_sr(clock.ntp, now.saturating_duration_since(clock.arrival)),
        })
    }
}

/// A duration in ticks of a clock.
pub fn ticks(duration: Duration, clock_rate: u32) -> u64 {
    duration.as_secs() * u64::from(clock_rate)
        + u64::from(duration.subsec_nanos()) * u64::from(clock_rate) / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    const SSRC: Ssrc = Ssrc(1);
    const CYCLE: u64 = 1 << 16;
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn loss_is_counted_per_interval_and_in_total() {
        let (mut stats, now) = (ReceiveStats::default(), origin());
        assert_eq!(stats.report(now, SSRC), None);
        for seq in (0..100).filter(|seq| seq % 4 != 1) {
            stats.on_packet(now, CYCLE + seq, seq * 960, 48_000);
        }
        let report = stats.report(now, SSRC).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost, report.highest_seq), (64, 25, 99));
        for seq in 100..200 {
            stats.on_packet(now, CYCLE + seq, seq * 960, 48_000);
        }
        let report = stats.report(now, SSRC).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost, report.highest_seq), (0, 25, 199));
    }

    #[test]
    fn a_packet_sent_again_hides_no_loss_and_adds_no_jitter() {
        let (mut stats, start) = (ReceiveStats::default(), origin());
        let at = |seq: u64| start + seq as u32 * 20 * MS;
        for seq in 0..100 {
            if seq % 10 != 5 {
                stats.on_packet(at(seq), CYCLE + seq, seq * 960, 48_000);
            }
            // A round trip later, some of them in the next interval.
            if seq % 10 == 2 && seq > 10 {
                stats.on_packet(at(seq), CYCLE + seq - 7, (seq - 7) * 960, 48_000);
                stats.on_resent();
            }
            if seq == 50 {
                stats.report(at(seq), SSRC);
            }
        }
        let report = stats.report(at(100), SSRC).unwrap();
        assert_eq!((report.cumulative_lost, report.jitter), (1, 0));
        let reception = stats.take_reception(48_000);
        assert_eq!((reception.expected, reception.lost), (100, 10));
    }

    #[test]
    fn duplicates_never_make_a_negative_fraction() {
        let (mut stats, now) = (ReceiveStats::default(), origin());
        for _ in 0..3 {
            stats.on_packet(now, CYCLE + 7, 0, 48_000);
        }
        let report = stats.report(now, SSRC).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, -2));
    }

    #[test]
    fn steady_packets_have_no_jitter_and_swinging_ones_their_swing() {
        let (mut steady, mut swinging, start) = (ReceiveStats::default(), ReceiveStats::default(), origin());
        for i in 0..500u32 {
            let (seq, time) = (CYCLE + u64::from(i), u64::from(i) * 960);
            steady.on_packet(start + i * 20 * MS, seq, time, 48_000);
            swinging.on_packet(start + (i * 20 + i % 2 * 10) * MS, seq, time, 48_000);
        }
        assert_eq!(steady.report(start, SSRC).unwrap().jitter, 0);
        let jitter = swinging.report(start, SSRC).unwrap().jitter;
        assert!((470..=490).contains(&jitter), "10 ms are 480 ticks, got {jitter}");
    }

    #[test]
    fn a_sender_report_is_echoed_with_the_time_since() {
        let (mut stats, now) = (ReceiveStats::default(), origin());
        stats.on_packet(now, CYCLE, 0, 90_000);
        stats.on_sender_report(now, NtpTime(0x1122_3344_5566_7788), 1000);
        let report = stats.report(now + 500 * MS, SSRC).unwrap();
        assert_eq!((report.last_sr, report.delay_since_sr), (0x3344_5566, 32_768));
    }

    #[test]
    fn a_senders_clocks_run_on_and_translate_between_its_streams() {
        let now = origin();
        let a = SenderClock { ntp: NtpTime(10 << 32), time: 5000, arrival: now };
        let later = a.at(now + 250 * MS, 90_000);
        assert_eq!((later.ntp.0, later.time), ((10 << 32) + (1 << 30), 5000 + 22_500));
        let b = SenderClock { ntp: NtpTime(12 << 32), time: u32::MAX, arrival: now };
        // One tick after b's report is two seconds and a tick after a's.
        assert_eq!(b.translate(0, &a, 90_000), 5000 + 180_000 + 1);
        assert_eq!(a.translate(5000, &b, 90_000), u32::MAX - 180_000);
    }
}
