//! What is missing of a stream and when to ask its sender again (generic NACK, RFC 4585 §6.2.1).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Numbers waited for at the same time. A larger gap is an outage, which a key frame mends sooner.
pub const MAX_MISSING: usize = 256;

/// A packet that was only overtaken comes within this time; nothing is asked before.
pub const REORDER_DELAY: Duration = Duration::from_millis(10);

/// How often one packet is asked for (libwebrtc: 10).
pub const MAX_TRIES: u8 = 10;

/// A packet older than this comes too late to be shown.
pub const MAX_AGE: Duration = Duration::from_millis(1500);

/// What a packet's number meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// The next one, or one not waited for.
    InOrder,
    /// Numbers before it are missing, and waited for where they are wanted.
    Gap,
    /// It was waited for, and not asked for yet: it had only been overtaken.
    Filled,
    /// It was asked for.
    Repaired,
    /// More is missing than can be asked for: all is forgotten, decoding has to start anew.
    Broken,
}

/// The missing numbers of one stream.
#[derive(Debug)]
pub struct NackGenerator {
    /// Ascending by number. Allocated once.
    missing: VecDeque<Missing>,
    highest: Option<u64>,
    /// Nothing is due earlier.
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    seq: u64,
    since: Instant,
    due: Instant,
    tries: u8,
}

impl Default for NackGenerator {
    fn default() -> Self {
        Self { missing: VecDeque::with_capacity(MAX_MISSING), highest: None, due: None }
    }
}

impl NackGenerator {
    /// A packet arrived, as itself or repaired. What is missing before it is waited for only if it is `wanted`:
    /// nobody else would notice.
    pub fn on_packet(&mut self, now: Instant, seq: u64, wanted: bool) -> Continuity {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return Continuity::InOrder;
        };
        if seq <= highest {
            return self.fill(seq);
        }
        self.highest = Some(seq);
        let gap = (seq - highest - 1) as usize;
        if gap == 0 {
            return Continuity::InOrder;
        }
        if !wanted {
            return Continuity::Gap;
        }
        if gap + self.missing.len() > MAX_MISSING {
            self.missing.clear();
            self.due = None;
            return Continuity::Broken;
        }
        let due = now + REORDER_DELAY;
        self.missing.extend((highest + 1..seq).map(|seq| Missing { seq, since: now, due, tries: 0 }));
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        Continuity::Gap
    }

    /// Forgets everything: another stream begins.
    pub fn clear(&mut self) {
        self.missing.clear();
        (self.highest, self.due) = (None, None);
    }

    /// When [`collect`](Self::collect) has something to ask, `None` where nothing is missing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Hands the numbers that are due, ascending, to `ask` until it returns `false`; these are due again
    /// `retry` later, while they are worth it. Those refused stay due.
    pub fn collect(&mut self, now: Instant, retry: Duration, mut ask: impl FnMut(u64) -> bool) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.missing.retain(|missing| {
            missing.tries < MAX_TRIES && now.saturating_duration_since(missing.since) < MAX_AGE
        });
        for missing in self.missing.iter_mut().filter(|missing| missing.due <= now) {
            if !ask(missing.seq) {
                break;
            }
            missing.tries += 1;
            missing.due = now + retry;
        }
        self.due = self.missing.iter().map(|missing| missing.due).min();
    }

    fn fill(&mut self, seq: u64) -> Continuity {
        match self.missing.binary_search_by_key(&seq, |missing| missing.seq) {
            Ok(at) => {
                let asked = self.missing.remove(at).is_some_and(|missing| missing.tries > 0);
                if self.missing.is_empty() {
                    self.due = None;
                }
                if asked { Continuity::Repaired } else { Continuity::Filled }
            }
            Err(_) => Continuity::InOrder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    const RETRY: Duration = Duration::from_millis(100);

    fn due(nack: &mut NackGenerator, now: Instant) -> Vec<u64> {
        let mut asked = Vec::new();
        nack.collect(now, RETRY, |seq| {
            asked.push(seq);
            true
        });
        asked
    }

    #[test]
    fn a_gap_is_asked_for_after_the_reordering_delay_and_again_each_retry() {
        let (mut nack, start) = (NackGenerator::default(), origin());
        assert_eq!(nack.on_packet(start, 10, true), Continuity::InOrder);
        assert_eq!(nack.on_packet(start, 13, true), Continuity::Gap);
        assert_eq!(nack.poll_timeout(), Some(start + REORDER_DELAY));
        assert_eq!(due(&mut nack, start), Vec::<u64>::new());
        assert_eq!(due(&mut nack, start + REORDER_DELAY), [11, 12]);
        assert_eq!(due(&mut nack, start + REORDER_DELAY * 2), Vec::<u64>::new());
        assert_eq!(nack.poll_timeout(), Some(start + REORDER_DELAY + RETRY));
        assert_eq!(due(&mut nack, start + REORDER_DELAY + RETRY), [11, 12]);
        assert_eq!(nack.on_packet(start + RETRY * 2, 11, true), Continuity::Repaired);
    }

    #[test]
    fn an_overtaken_packet_is_never_asked_for() {
        let (mut nack, start) = (NackGenerator::default(), origin());
        nack.on_packet(start, 10, true);
        nack.on_packet(start, 12, true);
        assert_eq!(nack.on_packet(start, 11, true), Continuity::Filled);
        assert_eq!(nack.poll_timeout(), None);
        assert_eq!(due(&mut nack, start + RETRY), Vec::<u64>::new());
    }

    #[test]
    fn asking_ends_after_ten_tries_or_when_it_is_too_late() {
        let (mut nack, start) = (NackGenerator::default(), origin());
        nack.on_packet(start, 1, true);
        nack.on_packet(start, 3, true);
        let tries: usize = (0..100u32).map(|i| due(&mut nack, start + i * RETRY / 2).len()).sum();
        assert_eq!(tries, usize::from(MAX_TRIES));
        assert_eq!(nack.poll_timeout(), None);

        nack.on_packet(start, 5, true);
        assert_eq!(due(&mut nack, start + MAX_AGE), Vec::<u64>::new());
        assert_eq!(nack.poll_timeout(), None);
    }

    #[test]
    fn a_gap_too_large_to_repair_is_forgotten() {
        let (mut nack, start) = (NackGenerator::default(), origin());
        nack.on_packet(start, 1, true);
        nack.on_packet(start, 3, true);
        assert_eq!(nack.on_packet(start, 4 + MAX_MISSING as u64, true), Continuity::Broken);
        assert_eq!(nack.poll_timeout(), None);
        assert_eq!(nack.on_packet(start, 6 + MAX_MISSING as u64, true), Continuity::Gap);
    }

    #[test]
    fn numbers_that_did_not_fit_a_packet_stay_due() {
        let (mut nack, start) = (NackGenerator::default(), origin());
        nack.on_packet(start, 1, true);
        nack.on_packet(start, 6, true);
        let now = start + REORDER_DELAY;
        let mut room = 2;
        nack.collect(now, RETRY, |_| {
            let fits = room > 0;
            room -= usize::from(fits);
            fits
        });
        assert_eq!(due(&mut nack, now), [4, 5]);
    }

    #[test]
    fn what_nobody_wants_is_not_asked_for() {
        let (mut nack, start) = (NackGenerator::default(), origin());
        nack.on_packet(start, 10, false);
        assert_eq!(nack.on_packet(start, 12, true), Continuity::Gap);
        nack.on_packet(start, 2000, false);
        let mut asked = Vec::new();
        nack.collect(start + REORDER_DELAY, RETRY, |seq| {
            asked.push(seq);
            true
        });
        assert_eq!(asked, [11], "it was wanted then");
    }
}
