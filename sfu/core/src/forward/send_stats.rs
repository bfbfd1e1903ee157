//! What was sent on one down track and what its receiver said about it: sender reports, loss and round trip
//! (RFC 3550 §6.4).

use std::time::{Duration, Instant};

use crate::rtp::rtcp::{NtpTime, ReportBlock, SenderInfo};
use crate::track::receive_stats::SenderClock;

/// Counters of one sent SSRC.
#[derive(Debug, Default)]
pub struct SendStats {
    packets: u64,
    /// Payload bytes.
    octets: u64,
    /// As of the last report: one is due only when more was sent.
    reported: u64,
    /// The last two reports, as a receiver may echo the one before the last.
    reports: [Option<(NtpTime, Instant)>; 2],
    acknowledged: bool,
    fraction_lost: u8,
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
        if self.packets == self.reported {
            return None;
        }
        self.reported = self.packets;
        self.reports = [Some((clock.ntp, now)), self.reports[0]];
        Some(SenderInfo {
            ntp: clock.ntp,
            rtp_time: clock.time,
            packets: self.packets as u32,
            octets: self.octets as u32,
        })
    }

    /// The receiver reported. Returns the round trip that this proves.
    pub fn on_report_block(&mut self, now: Instant, block: &ReportBlock) -> Option<Duration> {
        self.acknowledged = true;
        self.fraction_lost = block.fraction_lost;
        let mut reports = self.reports.iter().flatten();
        let (_, sent) = reports.find(|(ntp, _)| ntp.middle() == block.last_sr)?;
        let held = Duration::from_nanos((u64::from(block.delay_since_sr) * 1_000_000_000) >> 16);
        now.saturating_duration_since(*sent).checked_sub(held)
    }

    /// Whether the receiver has reported on this SSRC: it knows whose it is.
    #[inline]
    pub fn acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// Lost on the way to the receiver in its last interval, in 1/256.
    pub fn fraction_lost(&self) -> u8 {
        self.fraction_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::params::Ssrc;
    use crate::track::testing::start;

    #[test]
    fn a_report_is_due_only_when_something_was_sent() {
        let now = start();
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
        let start = start();
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
        assert!(stats.acknowledged());
    }
}
