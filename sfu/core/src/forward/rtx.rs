//! What departed, so that it can be sent again: with RTX as a packet of its own (RFC 4588), without it as the
//! same bytes once more. A (SSRC, sequence number) must be sealed over one byte string only, so everything that
//! was stamped at departure is kept.

use std::time::{Duration, Instant};

use super::rewriter::Offsets;
use crate::rtp::ext::AbsSendTime;
use crate::track::StreamKey;

/// Departures remembered of a video track: two seconds of a 2.5 Mbit/s camera.
pub const VIDEO_DEPARTURES: usize = 512;

/// Departures remembered of an audio track: over two seconds of 20 ms packets.
pub const AUDIO_DEPARTURES: usize = 128;

/// How often one packet is sent again.
const MAX_RESENDS: u8 = 8;

/// Shortest time between two resends of one packet: a receiver that asks twice has not seen the first yet.
const MIN_RESEND_INTERVAL: Duration = Duration::from_millis(50);

/// A packet older than this is not sent again: it would come too late to be shown.
const MAX_RESEND_AGE: Duration = Duration::from_millis(1500);

/// A packet as it left.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// Its extended output number.
    pub seq: u64,
    /// Where its payload is.
    pub stream: StreamKey,
    /// Its number there.
    pub source_seq: u64,
    /// For timestamp and picture id.
    pub offsets: Offsets,
    /// When it left.
    pub at: Instant,
    /// What the header extensions said that is not the payload's.
    pub stamps: Stamps,
    /// How often it was sent again, and when last.
    pub resends: u8,
    /// See `resends`.
    pub resent: Option<Instant>,
}

/// What is stamped on a packet at departure. `None` where the extension is not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// Whether the m-line is named.
    pub mid: bool,
    /// The transport-wide sequence number.
    pub transport_cc: Option<u16>,
    /// The time of departure.
    pub send_time: Option<AbsSendTime>,
}

/// Why a packet that a receiver misses is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotResent {
    /// No packet with that number left lately.
    Unknown,
    /// It was sent again just now, or too often.
    TooSoon,
    /// It would come too late.
    TooLate,
}

/// The recent departures of one down track.
#[derive(Debug)]
pub struct DepartureLog {
    /// At `seq % len`.
    ring: Box<[Option<Departure>]>,
    highest: u64,
}

impl DepartureLog {
    /// Remembers `capacity` departures, a power of two.
    pub fn new(capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self { ring: vec![None; capacity].into_boxed_slice(), highest: 0 }
    }

    /// A packet left.
    #[inline]
    pub fn record(&mut self, departure: Departure) {
        self.highest = self.highest.max(departure.seq);
        let slot = self.slot(departure.seq);
        // A late packet must not displace a newer one.
        if self.ring[slot].is_none_or(|before| before.seq < departure.seq) {
            self.ring[slot] = Some(departure);
        }
    }

    /// A packet that left.
    #[inline]
    pub fn departure(&self, seq: u64) -> Option<&Departure> {
        self.ring[self.slot(seq)].as_ref().filter(|departure| departure.seq == seq)
    }

    /// A receiver misses a packet: what it is, if it is to be sent again; it then counts as sent. `rtt` is the
    /// round trip to the receiver, where known.
    pub fn resend(&mut self, now: Instant, wire: u16, rtt: Option<Duration>) -> Result<Departure, NotResent> {
        let behind = u64::from((self.highest as u16).wrapping_sub(wire));
        let seq = self.highest.checked_sub(behind).ok_or(NotResent::Unknown)?;
        let slot = self.slot(seq);
        let departure =
            self.ring[slot].as_mut().filter(|departure| departure.seq == seq).ok_or(NotResent::Unknown)?;
        if now.saturating_duration_since(departure.at) > MAX_RESEND_AGE {
            return Err(NotResent::TooLate);
        }
        let interval = rtt.unwrap_or_default().max(MIN_RESEND_INTERVAL);
        let again = departure.resent.is_some_and(|at| now.saturating_duration_since(at) < interval);
        if again || departure.resends >= MAX_RESENDS {
            return Err(NotResent::TooSoon);
        }
        departure.resends += 1;
        departure.resent = Some(now);
        Ok(*departure)
    }

    fn slot(&self, seq: u64) -> usize {
        seq as usize & (self.ring.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::testing::start;

    const MS: Duration = Duration::from_millis(1);

    fn departure(seq: u64, at: Instant) -> Departure {
        Departure {
            seq,
            stream: StreamKey { encoding: 0, epoch: 0 },
            source_seq: seq + 1000,
            offsets: Offsets::default(),
            at,
            stamps: Stamps::default(),
            resends: 0,
            resent: None,
        }
    }

    fn outcome(log: &mut DepartureLog, now: Instant, wire: u16) -> Result<u64, NotResent> {
        log.resend(now, wire, Some(80 * MS)).map(|departure| departure.source_seq)
    }

    #[test]
    fn a_missed_packet_is_sent_again_once_a_round_trip() {
        let start = start();
        let mut log = DepartureLog::new(8);
        for seq in 65_534..65_540 {
            log.record(departure(seq, start));
        }
        assert_eq!(outcome(&mut log, start + 10 * MS, 65_535), Ok(66_535));
        assert_eq!(outcome(&mut log, start + 10 * MS, 2), Ok(66_538));
        assert_eq!(outcome(&mut log, start + 60 * MS, 2), Err(NotResent::TooSoon));
        assert_eq!(outcome(&mut log, start + 90 * MS, 2), Ok(66_538));
        assert_eq!(outcome(&mut log, start + 1501 * MS, 3), Err(NotResent::TooLate));
    }

    #[test]
    fn what_never_left_or_left_long_ago_is_unknown() {
        let start = start();
        let mut log = DepartureLog::new(8);
        assert_eq!(outcome(&mut log, start, 7), Err(NotResent::Unknown));
        for seq in 100..120 {
            log.record(departure(seq, start));
        }
        for wire in [99, 111, 120, 40_000] {
            assert_eq!(outcome(&mut log, start, wire), Err(NotResent::Unknown), "{wire}");
        }
        assert_eq!(outcome(&mut log, start, 112), Ok(1112));
    }

    #[test]
    fn a_greedy_receiver_gets_a_packet_eight_times() {
        let start = start();
        let mut log = DepartureLog::new(8);
        log.record(departure(5, start));
        let sent = (0..100u32).filter(|&i| outcome(&mut log, start + i * 10 * MS, 5).is_ok()).count();
        assert_eq!(sent, usize::from(MAX_RESENDS));
    }
}
