//! What departed, so that it can be sent again: with RTX as a packet of its own (RFC 4588), without it as the
//! same bytes once more. A (SSRC, sequence number) must be sealed over one byte string only, so everything that
//! was stamped at departure is kept.

use std::collections::VecDeque;
use std::time::Duration;

use super::repacketiser::Makeup;
use super::rewriter::Offsets;
use crate::rtp::ext::AbsSendTime;
use crate::track::StreamKey;
use crate::units::Millis;

/// Departures remembered of a video track: two seconds of a 2.5 Mbit/s camera.
pub const VIDEO_DEPARTURES: usize = 512;

/// Departures remembered of an audio track: over two seconds of 20 ms packets.
pub const AUDIO_DEPARTURES: usize = 128;

/// Runs remembered besides the newest: each frame that is left out ends one. Half the frames of a 30 fps camera make
/// 23 in [`MAX_RESEND_AGE`].
const RUNS: usize = 24;

/// How often one packet is sent again.
const MAX_RESENDS: u16 = 8;

/// Shortest time between two resends of one packet: a receiver that asks twice has not seen the first yet.
const MIN_RESEND_INTERVAL: Duration = Duration::from_millis(50);

/// A packet older than this is not sent again: it would come too late to be shown.
const MAX_RESEND_AGE: Duration = Duration::from_millis(1500);

/// A packet as it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Its extended output number.
    pub seq: u64,
    /// Where its payload is.
    pub stream: StreamKey,
    /// Its number there.
    pub source_seq: u64,
    /// What it holds of the source's packets.
    pub makeup: Makeup,
    /// For timestamp and picture id.
    pub offsets: Offsets,
    /// What the header extensions said that is not the payload's.
    pub stamps: Stamps,
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

/// The recent departures of one down track. There are very many of these logs, so a departure takes 8 bytes:
/// what many in a row have in common is kept once, times are milliseconds.
#[derive(Debug)]
pub struct DepartureLog {
    /// Of the numbers `highest + 1 - len..=highest`, at `seq % len`.
    ring: Box<[Record]>,
    /// As long as the ring where packets are sent again as the same bytes, else empty.
    stamps: Box<[Stamps]>,
    highest: u64,
    /// The newest run, which nearly every departure is of, and its number.
    newest: Option<Run>,
    newest_run: u16,
    /// Those before it, oldest first.
    runs: VecDeque<Run>,
}

/// Departures in a row that follow from their numbers in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    stream: StreamKey,
    /// Source number less as many times the output number as it holds packets, modulo 2^64.
    ahead: u64,
    /// [`Offsets`], and in the byte that these leave the [`Makeup`].
    time: u32,
    picture: u16,
    tl0: u8,
    makeup: Makeup,
}

impl Run {
    /// The run of a departure.
    #[inline]
    fn of(departure: &Departure) -> Self {
        let Departure { seq, stream, source_seq, makeup, offsets, .. } = *departure;
        let ahead = source_seq.wrapping_sub(seq.wrapping_mul(makeup.packets().into()));
        let Offsets { time, picture, tl0 } = offsets;
        Self { stream, ahead, time, picture, tl0, makeup }
    }
}

#[derive(Clone, Copy, Debug)]
struct Record {
    at: Millis,
    /// The number of its run, modulo 2^16: between two records of one ring lie far fewer.
    run: u16,
    resends: Resends,
}

/// How often a packet was sent again, and how many milliseconds after its departure it was last: in four bits and
/// twelve, which is enough for [`MAX_RESENDS`] and [`MAX_RESEND_AGE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resends(u16);

impl Resends {
    const NONE: Self = Self(0);
    /// There is no packet.
    const VACANT: Self = Self(u16::MAX);

    fn count(self) -> u16 {
        self.0 & 0xF
    }

    fn last(self) -> Option<u32> {
        (self.count() > 0).then_some(u32::from(self.0 >> 4))
    }

    /// One more, `age` milliseconds after the departure.
    fn and_at(self, age: u32) -> Self {
        debug_assert!(age < 1 << 12 && self.count() < MAX_RESENDS);
        Self((age as u16) << 4 | (self.count() + 1))
    }
}

impl DepartureLog {
    /// Remembers `capacity` departures, a power of two. `verbatim` says that some are sent again as the same bytes, so
    /// that what was stamped on them is to be kept.
    pub fn new(capacity: usize, verbatim: bool) -> Self {
        debug_assert!(capacity.is_power_of_two());
        let vacant = Record { at: Millis::default(), run: 0, resends: Resends::VACANT };
        let stamps = if verbatim { capacity } else { 0 };
        Self {
            ring: vec![vacant; capacity].into_boxed_slice(),
            stamps: vec![Stamps::default(); stamps].into_boxed_slice(),
            highest: 0,
            newest: None,
            newest_run: 0,
            runs: VecDeque::with_capacity(RUNS),
        }
    }

    /// A packet left.
    #[inline]
    pub fn record(&mut self, now: Millis, departure: &Departure) {
        let Departure { seq, stamps, .. } = *departure;
        let len = self.ring.len() as u64;
        if seq + len <= self.highest {
            return;
        }
        // What is skipped may come yet, and is not what had its place before.
        for skipped in (self.highest + 1).max(seq.saturating_sub(len - 1))..seq {
            let slot = self.slot(skipped);
            self.ring[slot].resends = Resends::VACANT;
        }
        self.highest = self.highest.max(seq);
        let run = self.run(Run::of(departure));
        let slot = self.slot(seq);
        self.ring[slot] = Record { at: now, run, resends: Resends::NONE };
        if let Some(kept) = self.stamps.get_mut(slot) {
            *kept = stamps;
        }
    }

    /// A packet that left.
    #[inline]
    pub fn departure(&self, seq: u64) -> Option<Departure> {
        let behind = self.highest.checked_sub(seq)?;
        let slot = self.slot(seq);
        let record = &self.ring[slot];
        if behind >= self.ring.len() as u64 || record.resends == Resends::VACANT {
            return None;
        }
        let back = usize::from(self.newest_run.wrapping_sub(record.run));
        let run = match back.checked_sub(1) {
            None => self.newest.as_ref(),
            Some(back) => self.runs.get(self.runs.len().checked_sub(back + 1)?),
        };
        let Run { stream, ahead, time, picture, tl0, makeup } = *run?;
        let offsets = Offsets { time, picture, tl0 };
        let stamps = self.stamps.get(slot).copied().unwrap_or_default();
        let source_seq = seq.wrapping_mul(makeup.packets().into()).wrapping_add(ahead);
        Some(Departure { seq, stream, source_seq, makeup, offsets, stamps })
    }

    /// A receiver misses a packet: what it is, if it is to be sent again; it then counts as sent. `rtt` is the
    /// round trip to the receiver, where known.
    pub fn resend(&mut self, now: Millis, wire: u16, rtt: Option<Duration>) -> Result<Departure, NotResent> {
        let behind = u64::from((self.highest as u16).wrapping_sub(wire));
        let seq = self.highest.checked_sub(behind).ok_or(NotResent::Unknown)?;
        let departure = self.departure(seq).ok_or(NotResent::Unknown)?;
        let slot = self.slot(seq);
        let record = &mut self.ring[slot];
        let age = now.since(record.at);
        if u128::from(age) > MAX_RESEND_AGE.as_millis() {
            return Err(NotResent::TooLate);
        }
        // Up to the next whole millisecond: a round trip is over only then.
        let interval = rtt.unwrap_or_default().max(MIN_RESEND_INTERVAL).as_micros().div_ceil(1000);
        let again = record.resends.last().is_some_and(|last| u128::from(age - last) < interval);
        if again || record.resends.count() >= MAX_RESENDS {
            return Err(NotResent::TooSoon);
        }
        record.resends = record.resends.and_at(age);
        Ok(departure)
    }

    /// The number of a run: nearly always the newest one. A late packet may be of one before.
    #[inline]
    fn run(&mut self, run: Run) -> u16 {
        if self.newest == Some(run) {
            return self.newest_run;
        }
        if let Some(known) = self.runs.iter().rposition(|known| *known == run) {
            return self.newest_run.wrapping_sub((self.runs.len() - known) as u16);
        }
        if self.runs.len() == RUNS {
            self.runs.pop_front();
        }
        self.runs.extend(self.newest.replace(run));
        self.newest_run = self.newest_run.wrapping_add(1);
        self.newest_run
    }

    fn slot(&self, seq: u64) -> usize {
        seq as usize & (self.ring.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    const MS: Duration = Duration::from_millis(1);

    /// The count wraps early in each test.
    fn at(millis: u32) -> Millis {
        Millis(millis.wrapping_sub(20))
    }

    fn departure(seq: u64) -> Departure {
        Departure {
            seq,
            stream: StreamKey::new(0, 0),
            source_seq: seq + 1000,
            makeup: Makeup::SINGLE,
            offsets: Offsets::default(),
            stamps: Stamps::default(),
        }
    }

    fn outcome(log: &mut DepartureLog, now: Millis, wire: u16) -> Result<u64, NotResent> {
        log.resend(now, wire, Some(80 * MS)).map(|departure| departure.source_seq)
    }

    #[test]
    fn a_missed_packet_is_sent_again_once_a_round_trip() {
        let mut log = DepartureLog::new(8, false);
        for seq in 65_534..65_540 {
            log.record(at(0), &departure(seq));
        }
        assert_eq!(outcome(&mut log, at(10), 65_535), Ok(66_535));
        assert_eq!(outcome(&mut log, at(10), 2), Ok(66_538));
        assert_eq!(outcome(&mut log, at(60), 2), Err(NotResent::TooSoon));
        assert_eq!(outcome(&mut log, at(90), 2), Ok(66_538));
        assert_eq!(outcome(&mut log, at(1501), 3), Err(NotResent::TooLate));
    }

    #[test]
    fn what_never_left_or_left_long_ago_is_unknown() {
        let mut log = DepartureLog::new(8, false);
        assert_eq!(outcome(&mut log, at(0), 7), Err(NotResent::Unknown));
        for seq in 100..120 {
            log.record(at(0), &departure(seq));
        }
        for wire in [99, 111, 120, 40_000] {
            assert_eq!(outcome(&mut log, at(0), wire), Err(NotResent::Unknown), "{wire}");
        }
        assert_eq!(outcome(&mut log, at(0), 112), Ok(1112));
    }

    #[test]
    fn a_greedy_receiver_gets_a_packet_eight_times() {
        let mut log = DepartureLog::new(8, false);
        log.record(at(0), &departure(5));
        let sent = (0..100u32).filter(|&i| outcome(&mut log, at(10 * i), 5).is_ok()).count();
        assert_eq!(sent, usize::from(MAX_RESENDS));
    }

    #[test]
    fn a_number_that_was_skipped_is_not_what_had_its_place_before() {
        let mut log = DepartureLog::new(8, false);
        for seq in [100, 101, 102, 103, 109, 110] {
            log.record(at(0), &departure(seq));
        }
        for seq in 90..120 {
            let known = [103, 109, 110].contains(&seq).then(|| departure(seq));
            assert_eq!(log.departure(seq), known, "{seq}");
        }
        log.record(at(0), &departure(104));
        log.record(at(0), &departure(102));
        assert_eq!(log.departure(104), Some(departure(104)));
        assert_eq!(log.departure(102), None, "it is too old, and would displace a newer one");
        log.record(at(0), &departure(1000));
        assert_eq!((log.departure(110), log.departure(1000)), (None, Some(departure(1000))));
    }

    #[test]
    fn whatever_departs_is_remembered_as_it_was_or_not_at_all() {
        for seed in 1..=20 {
            let mut random = Random::new(seed);
            let mut log = DepartureLog::new(64, true);
            let mut departed: Vec<Option<Departure>> = vec![None; 70_000];
            let (mut ahead, mut packets, mut picture) = (5000, 1, 0);
            for next in 100..departed.len() as u64 {
                if random.below(4) == 0 {
                    (ahead, picture) = (ahead + random.below(3), picture + random.below(2) as u16);
                    packets = 1 + random.below(12) / 9;
                }
                let seq = next - random.below(2) * random.below(80).min(next);
                let departure = Departure {
                    stream: StreamKey::new(random.below(8) as u8 / 7, 0),
                    source_seq: seq * packets + ahead,
                    makeup: Makeup::new(packets as u8, packets as u8 / 2),
                    offsets: Offsets { picture, ..Offsets::default() },
                    stamps: Stamps { transport_cc: Some(random.below(65536) as u16), ..Stamps::default() },
                    ..departure(seq)
                };
                if departed[seq as usize].is_some() {
                    continue;
                }
                log.record(at(0), &departure);
                departed[seq as usize] = Some(departure);
                let asked = next - random.below(100);
                if let Some(known) = log.departure(asked) {
                    assert_eq!(Some(known), departed[asked as usize], "seed {seed}, {asked}");
                }
            }
        }
    }

    #[test]
    fn a_departure_takes_eight_bytes() {
        assert_eq!(size_of::<Record>(), 8);
    }
}
