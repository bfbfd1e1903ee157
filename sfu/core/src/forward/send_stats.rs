//! What was sent on one down track and what its receiver said about it: sender reports, loss and round trip
//! (RFC 3550 §6.4).

use std::time::{Duration, Instant};

use crate::rtp::rtcp::{NtpTime, ReportBlock, SenderInfo};
use crate::track::receive_stats::SenderClock;
use crate::track::reception::Reception;

/// Counters of one sent SSRC.
#[derive(Debug, Default)]
pub struct SendStats {
    packets: u64,
    /// Payload bytes.
    octets: u64,
    /// Apart, as no packet needs it.
    reports: Box<Reports>,
}

/// What was and is to be reported.
#[derive(Debug, Default)]
struct Reports {
    /// As of the last report: one is due only when more was sent.
    reported: u64,
    /// The last two reports, as a receiver may echo the one before the last.
    sent: [Option<(NtpTime, Instant)>; 2],
    fraction_lost: u8,
    /// The highest number and the losses that the receiver has reported, and what that adds up to since it was
    /// last taken.
    known: Option<(u32, i32)>,
    recent: Reception,
    /// Packets when it was last taken.
    taken: u64,
    /// As the receiver has it, in ticks.
    jitter: u32,
}

impl SendStats {
    /// A packet left.
    #[inline]
    pub fn on_packet(&mut self, payload_len: usize) {
        self.packets += 1;
        self.octets += payload_len as u64;
    }

    /// The report due at `now`: `clock` stands at the sender's clocks, its timestamp as the receiver sees it.
    /// `None` where nothing was sent since the last one.
    pub fn report(&mut self, clock: &SenderClock, now: Instant) -> Option<SenderInfo> {
        let reports = &mut *self.reports;
        if self.packets == reports.reported {
            return None;
        }
        reports.reported = self.packets;
        reports.sent = [Some((clock.ntp, now)), reports.sent[0]];
        Some(SenderInfo {
            ntp: clock.ntp,
            rtp_time: clock.time,
            packets: self.packets as u32,
            octets: self.octets as u32,
        })
    }

    /// The receiver reported. Returns the round trip that this proves.
    pub fn on_report_block(&mut self, now: Instant, block: &ReportBlock) -> Option<Duration> {
        let reports = &mut *self.reports;
        reports.fraction_lost = block.fraction_lost;
        reports.jitter = block.jitter;
        reports.count(block);
        let mut echoed = reports.sent.iter().flatten();
        let (_, sent) = echoed.find(|(ntp, _)| ntp.middle() == block.last_sr)?;
        let held = Duration::from_nanos((u64::from(block.delay_since_sr) * 1_000_000_000) >> 16);
        now.saturating_duration_since(*sent).checked_sub(held)
    }

    /// What the receiver has reported since the last call, and its jitter.
    pub fn take_reception(&mut self, clock_rate: u32) -> Reception {
        let reports = &mut *self.reports;
        let jitter = Duration::from_secs(reports.jitter.into()) / clock_rate.max(1);
        let flowing = std::mem::replace(&mut reports.taken, self.packets) != self.packets;
        Reception { jitter, flowing, ..std::mem::take(&mut reports.recent) }
    }

    /// Lost on the way to the receiver in its last interval, in 1/256.
    pub fn fraction_lost(&self) -> u8 {
        self.reports.fraction_lost
    }
}

impl Reports {
    fn count(&mut self, block: &ReportBlock) {
        let last = self.known.replace((block.highest_seq, block.cumulative_lost));
        let Some((highest, lost)) = last else { return };
        let expected = block.highest_seq.wrapping_sub(highest);
        // What claims more than a cycle, or to go back, is not believed.
        if expected < 1 << 16 {
            let lost = block.cumulative_lost.saturating_sub(lost).clamp(0, expected as i32);
            self.recent.expected += u64::from(expected);
            self.recent.lost += u64::from(lost.unsigned_abs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::params::Ssrc;
    use crate::testing::origin;

    #[test]
    fn a_report_is_due_only_when_something_was_sent() {
        let now = origin();
        let clock = SenderClock { ntp: NtpTime(5 << 32), time: 77, arrival: now };
        let mut stats = SendStats::default();
        assert_eq!(stats.report(&clock, now), None);
        stats.on_packet(100);
        stats.on_packet(20);
        let info = stats.report(&clock, now).unwrap();
        assert_eq!((info.ntp, info.rtp_time, info.packets, info.octets), (clock.ntp, 77, 2, 120));
        assert_eq!(stats.report(&clock, now), None);
    }

    #[test]
    fn the_round_trip_follows_from_the_echo_of_either_of_the_last_two_reports() {
        let start = origin();
        let mut stats = SendStats::default();
        for second in 0..3u64 {
            stats.on_packet(1);
            let ntp = NtpTime((second + 1) << 32);
            let at = start + Duration::from_secs(second);
            stats.report(&SenderClock { ntp, time: 0, arrival: at }, at);
        }
        let now = start + Duration::from_millis(2600);
        // echoed second, held for, round trip in ms
        for (echoed, held, rtt) in [(2u32, 32_768, Some(100)), (1, 65_536, Some(600)), (0, 0, None)] {
            let block = ReportBlock {
                ssrc: Ssrc(1),
                fraction_lost: 3,
                cumulative_lost: 0,
                highest_seq: 0,
                jitter: 0,
                last_sr: (echoed + 1) << 16,
                delay_since_sr: held,
            };
            let measured = stats.on_report_block(now, &block);
            assert_eq!(measured.map(|rtt| rtt.as_millis()), rtt, "{echoed}");
        }
    }

    #[test]
    fn losses_are_taken_from_the_difference_of_two_reports() {
        let mut stats = SendStats::default();
        let mut report = |highest_seq, cumulative_lost| {
            let block = ReportBlock {
                ssrc: Ssrc(1),
                fraction_lost: 0,
                cumulative_lost,
                highest_seq,
                jitter: 480,
                last_sr: 0,
                delay_since_sr: 0,
            };
            stats.on_report_block(origin(), &block);
            let recent = stats.take_reception(48_000);
            assert_eq!(recent.jitter, Duration::from_millis(10));
            (recent.expected, recent.lost)
        };
        for (highest, lost, recent) in [
            (1000, 7, (0, 0)),
            (1100, 12, (100, 5)),
            (1100, 12, (0, 0)),
            // Repaired late, lost beyond reason, back, and far ahead.
            (1200, 10, (100, 0)),
            (1210, 500, (10, 10)),
            (1000, 500, (0, 0)),
            (0x8000_0000, 500, (0, 0)),
        ] {
            assert_eq!(report(highest, lost), recent, "{highest} {lost}");
        }
    }
}
