//! Asks for packets that are missing, as libwebrtc's `NackRequester` does: at once when a gap shows, again after
//! each round trip, ten times at most.

use std::collections::BTreeMap;
use std::time::Duration;

/// libwebrtc: `kMaxNackRetries`, `kMaxNackPackets`, `kMaxPacketAge` (of which the second ends a list).
const MAX_RETRIES: u32 = 10;
const MAX_MISSING: usize = 1000;

/// Between two looks at what is missing.
const INTERVAL: Duration = Duration::from_millis(20);

/// What is missing of a stream.
#[derive(Debug, Default)]
pub struct Nacks {
    highest: Option<u64>,
    missing: BTreeMap<u64, Request>,
    next_look: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    count: u32,
    at: Duration,
}

/// More is missing than is worth asking for: only a key frame helps.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMuch;

impl Nacks {
    /// A packet arrived, for the first time or not.
    pub fn arrive(&mut self, now: Duration, seq: u64) -> Result<(), TooMuch> {
        self.missing.remove(&seq);
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return Ok(());
        };
        if seq <= highest {
            return Ok(());
        }
        self.highest = Some(seq);
        if seq - highest > MAX_MISSING as u64 || self.missing.len() + (seq - highest) as usize > MAX_MISSING {
            self.missing.clear();
            return Err(TooMuch);
        }
        self.missing.extend((highest + 1..seq).map(|seq| (seq, Request { count: 0, at: now })));
        if highest + 1 < seq {
            self.next_look = now;
        }
        Ok(())
    }

    /// Packets before this one are of no use any more.
    pub fn forget_before(&mut self, seq: u64) {
        self.missing = self.missing.split_off(&seq);
    }

    /// What to ask for now.
    pub fn poll(&mut self, now: Duration, rtt: Duration) -> Vec<u16> {
        if self.missing.is_empty() || now < self.next_look {
            return Vec::new();
        }
        self.next_look = now + INTERVAL;
        self.missing.retain(|_, request| request.count < MAX_RETRIES);
        let due =
            self.missing.iter_mut().filter(|(_, request)| request.count == 0 || now >= request.at + rtt);
        due.map(|(&seq, request)| {
            *request = Request { count: request.count + 1, at: now };
            seq as u16
        })
        .collect()
    }

    /// When [`Self::poll`] may have something.
    pub fn poll_timeout(&self) -> Option<Duration> {
        (!self.missing.is_empty()).then_some(self.next_look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn asks_at_once_and_again_after_a_round_trip() {
        let mut nacks = Nacks::default();
        for seq in [100, 101, 104] {
            nacks.arrive(ms(0), seq).unwrap();
        }
        assert_eq!(nacks.poll(ms(0), ms(100)), [102, 103]);
        nacks.arrive(ms(30), 103).unwrap();
        assert!(nacks.poll(ms(90), ms(100)).is_empty());
        for time in 1..10 {
            assert_eq!(nacks.poll(ms(time * 120), ms(100)), [102], "{time}");
        }
        assert!(nacks.poll(ms(5000), ms(100)).is_empty(), "ten times are enough");
        assert_eq!(nacks.poll_timeout(), None);
    }

    #[test]
    fn a_long_gap_is_given_up() {
        let mut nacks = Nacks::default();
        nacks.arrive(ms(0), 1).unwrap();
        assert_eq!(nacks.arrive(ms(0), 5000), Err(TooMuch));
        nacks.arrive(ms(0), 5002).unwrap();
        nacks.arrive(ms(0), 5004).unwrap();
        nacks.forget_before(5003);
        assert_eq!(nacks.poll(ms(0), ms(100)), [5003u16]);
    }
}
