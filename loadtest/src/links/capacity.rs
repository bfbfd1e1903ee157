//! What a link carries over time, and when a packet that is put on it has left it. All arithmetic is in whole
//! nanoseconds and bits: no rate drifts, and one input gives one output.

use std::time::Duration;

/// Bytes that one of mahimahi's opportunities carries.
const OPPORTUNITY: u64 = 1500;

const NANOS: u128 = 1_000_000_000;

/// A link's capacity.
#[derive(Clone, Debug, PartialEq)]
pub enum Capacity {
    /// Rates that hold until the next one.
    Steps {
        /// Since when (the first: zero), and how many bit/s. Never empty.
        steps: Vec<(Duration, u64)>,
        /// After this long it begins anew; `None`: the last rate holds for ever.
        period: Option<Duration>,
    },
    /// Moments at which one packet of 1500 bytes may leave, as mahimahi records them. What is not used is lost.
    Opportunities {
        /// Milliseconds, ascending. Never empty.
        at_ms: Vec<u64>,
        /// After this long it begins anew; not zero.
        period_ms: u64,
    },
}

impl Capacity {
    /// The same rate for ever.
    pub fn constant(bps: u64) -> Self {
        Self::Steps { steps: vec![(Duration::ZERO, bps)], period: None }
    }

    /// As fast as packets come: each takes a nanosecond.
    pub fn unlimited() -> Self {
        Self::constant(u64::MAX)
    }

    /// Mean rate from the beginning until `end`, bit/s.
    pub fn mean_bps(&self, end: Duration) -> u64 {
        (self.bits_until(end) * NANOS / end.as_nanos().max(1)) as u64
    }

    fn bits_until(&self, end: Duration) -> u128 {
        match self {
            Self::Steps { .. } => {
                let mut bits = 0;
                let mut at = Duration::ZERO;
                while at < end {
                    let (bps, until) = self.rate_at(at);
                    let until = until.unwrap_or(end).min(end);
                    bits += u128::from(bps) * (until - at).as_nanos();
                    at = until;
                }
                bits / NANOS
            }
            Self::Opportunities { .. } => {
                let before = (0..).take_while(|&index| self.opportunity(index) < end).count();
                before as u128 * u128::from(OPPORTUNITY) * 8
            }
        }
    }

    /// What is carried in each second until `end`, bit/s: for plots.
    pub fn by_second(&self, end: Duration) -> Vec<u64> {
        let bits: Vec<u128> =
            (0..=end.as_secs()).map(|at| self.bits_until(Duration::from_secs(at))).collect();
        bits.windows(2).map(|pair| (pair[1] - pair[0]) as u64).collect()
    }

    /// When the last time without any capacity begins and ends, where there is one that ends.
    pub fn last_outage(&self) -> Option<(Duration, Duration)> {
        let Self::Steps { steps, period: None } = self else { return None };
        let pair = steps.windows(2).rfind(|pair| pair[0].1 == 0 && pair[1].1 > 0)?;
        Some((pair[0].0, pair[1].0))
    }

    /// When capacity last falls, and when it next rises again, where it does both in this order.
    pub fn last_dip(&self) -> Option<(Duration, Duration)> {
        let Self::Steps { steps, period: None } = self else { return None };
        let rise = steps.windows(2).rposition(|pair| pair[1].1 > pair[0].1)? + 1;
        let fall = steps[..rise].windows(2).rposition(|pair| pair[1].1 < pair[0].1)? + 1;
        Some((steps[fall].0, steps[rise].0))
    }

    /// The rate at a moment, and until when it holds.
    fn rate_at(&self, at: Duration) -> (u64, Option<Duration>) {
        let Self::Steps { steps, period } = self else { return (0, None) };
        let (cycle, within) = match period {
            Some(period) => {
                let cycles = at.as_nanos() / period.as_nanos();
                let start = nanos(cycles * period.as_nanos());
                (start, at - start)
            }
            None => (Duration::ZERO, at),
        };
        let next = steps.partition_point(|&(since, _)| since <= within);
        let until = steps.get(next).map(|&(since, _)| since).or(*period).map(|until| cycle + until);
        (steps[next.saturating_sub(1)].1, until)
    }

    fn opportunity(&self, index: u64) -> Duration {
        let Self::Opportunities { at_ms, period_ms } = self else { return Duration::ZERO };
        let (cycle, place) = (index / at_ms.len() as u64, (index % at_ms.len() as u64) as usize);
        Duration::from_millis(cycle * period_ms + at_ms[place])
    }
}

/// What takes packets from the queue, one after the other, at the link's capacity.
#[derive(Clone, Debug)]
pub struct Server {
    capacity: Capacity,
    /// When the last packet has left.
    free_at: Duration,
    /// The next opportunity, and what is left of the last one.
    next: u64,
    left: u64,
}

impl Server {
    /// A server that has nothing to do.
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity, free_at: Duration::ZERO, next: 0, left: 0 }
    }

    /// Puts a packet behind those before it. Returns when its transmission begins and ends; `None` where the
    /// link will never carry it.
    pub fn serve(&mut self, now: Duration, bytes: u64) -> Option<(Duration, Duration)> {
        let begin = now.max(self.free_at);
        let served = match self.capacity {
            Capacity::Steps { .. } => self.serve_at_rate(begin, bytes).map(|end| (begin, end)),
            Capacity::Opportunities { .. } => Some(self.serve_at_opportunities(begin, bytes)),
        };
        self.free_at = served.map_or(Duration::MAX, |(_, end)| end);
        served
    }

    fn serve_at_rate(&self, begin: Duration, bytes: u64) -> Option<Duration> {
        if begin == Duration::MAX {
            return None;
        }
        let mut left = u128::from(bytes) * 8 * NANOS;
        let mut at = begin;
        // So that a trace of nothing but silence ends this search.
        let mut idle_steps = 0;
        loop {
            let (bps, until) = self.capacity.rate_at(at);
            let Some(until) = until else {
                return (bps > 0).then(|| at + nanos(left.div_ceil(u128::from(bps))));
            };
            let carried = u128::from(bps) * (until - at).as_nanos();
            if carried >= left {
                return Some(at + nanos(left.div_ceil(u128::from(bps))));
            }
            left -= carried;
            at = until;
            idle_steps = if bps == 0 { idle_steps + 1 } else { 0 };
            if idle_steps > MAX_IDLE_STEPS {
                return None;
            }
        }
    }

    fn serve_at_opportunities(&mut self, begin: Duration, bytes: u64) -> (Duration, Duration) {
        let mut left = bytes;
        let mut first = None;
        // The rest of an opportunity is for packets that waited when it came.
        let last = self.next.checked_sub(1).map(|last| self.capacity.opportunity(last));
        if self.left > 0 && last == Some(begin) {
            first = last;
            let used = left.min(self.left);
            (left, self.left) = (left - used, self.left - used);
        }
        let mut end = begin;
        while left > 0 {
            let at = self.capacity.opportunity(self.next);
            self.next += 1;
            if at < begin {
                continue;
            }
            first = first.or(Some(at));
            let used = left.min(OPPORTUNITY);
            left -= used;
            self.left = OPPORTUNITY - used;
            end = at;
        }
        (first.unwrap_or(begin), end.max(begin))
    }
}

/// Steps without capacity in a row after which none is expected: more than any trace has samples.
const MAX_IDLE_STEPS: u32 = 100_000;

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn steps(steps: &[(u64, u64)], period: Option<u64>) -> Capacity {
        let steps = steps.iter().map(|&(at, bps)| (ms(at), bps)).collect();
        Capacity::Steps { steps, period: period.map(ms) }
    }

    #[test]
    fn a_constant_link_carries_exactly_its_rate() {
        let mut server = Server::new(Capacity::constant(1_000_000));
        let mut end = Duration::ZERO;
        for packet in 0..1000 {
            let (begin, finish) = server.serve(Duration::ZERO, 125).unwrap();
            assert_eq!((begin, finish), (ms(packet), ms(packet + 1)));
            end = finish;
        }
        assert_eq!(end, Duration::from_secs(1));
        assert_eq!(server.serve(ms(5000), 125), Some((ms(5000), ms(5001))), "what was not used is lost");
    }

    #[test]
    fn a_packet_on_the_way_goes_on_at_the_new_rate() {
        // Half of it in the first 10 ms, nothing for a while, the rest at a tenth of the rate.
        let mut server = Server::new(steps(&[(0, 80_000), (10, 0), (500, 8_000)], None));
        assert_eq!(server.serve(Duration::ZERO, 200), Some((ms(0), ms(600))));
    }

    #[test]
    fn a_link_that_ends_never_carries_the_rest() {
        let mut server = Server::new(steps(&[(0, 8_000), (1000, 0)], None));
        assert_eq!(server.serve(Duration::ZERO, 500), Some((ms(0), ms(500))));
        assert_eq!(server.serve(Duration::ZERO, 501), None);
        assert_eq!(server.serve(Duration::ZERO, 1), None, "it is stuck behind the other");
        assert_eq!(Server::new(steps(&[(0, 0)], Some(100))).serve(ms(3), 1), None);
    }

    #[test]
    fn a_recorded_link_begins_anew_after_its_period() {
        let capacity = steps(&[(0, 8_000), (1000, 16_000)], Some(2000));
        assert_eq!(capacity.mean_bps(ms(2000)), 12_000);
        assert_eq!(capacity.mean_bps(ms(5000)), 11_200);
        assert_eq!(capacity.by_second(ms(4000)), [8_000, 16_000, 8_000, 16_000]);
        let mut server = Server::new(capacity);
        assert_eq!(server.serve(ms(2000), 1000), Some((ms(2000), ms(3000))));
        assert_eq!(server.serve(ms(2000), 2000), Some((ms(3000), ms(4000))));
    }

    #[test]
    fn an_opportunity_takes_1500_bytes_of_what_waits_and_the_rest_is_lost() {
        let capacity = Capacity::Opportunities { at_ms: vec![10, 10, 30], period_ms: 40 };
        assert_eq!(capacity.mean_bps(ms(40)), 900_000);
        let mut server = Server::new(capacity);
        // Three small ones share the first opportunity with a part of a large one.
        assert_eq!(server.serve(ms(0), 500), Some((ms(10), ms(10))));
        assert_eq!(server.serve(ms(0), 500), Some((ms(10), ms(10))));
        assert_eq!(server.serve(ms(0), 2500), Some((ms(10), ms(30))), "500, 1500, 500 bytes");
        // What comes after an opportunity has to wait for the next, in the next cycle.
        assert_eq!(server.serve(ms(31), 100), Some((ms(50), ms(50))));
        assert_eq!(server.serve(ms(200), 1500), Some((ms(210), ms(210))));
    }

    #[test]
    fn finds_outages_and_dips() {
        let outage = steps(&[(0, 400), (60_000, 0), (68_000, 400)], None);
        assert_eq!(outage.last_outage(), Some((ms(60_000), ms(68_000))));
        assert_eq!(outage.last_dip(), outage.last_outage());
        let dip = steps(&[(0, 500), (60_000, 150), (100_000, 500)], None);
        assert_eq!((dip.last_outage(), dip.last_dip()), (None, Some((ms(60_000), ms(100_000)))));
        assert_eq!(Capacity::constant(1).last_dip(), None);
    }
}
