//! Offers that wait for their answer, and m-lines that the client was asked to add.
//!
//! The client alone makes offers. When the SFU needs further receiving m-lines, the client is told so by
//! `media_sections_requirement`. The SFU asks for each line once, so each of its needs is passed on; only those
//! that arise while an offer is on its way wait for the answer, which may settle them.

use crate::limits::MAX_OFFERS_WAITING;

/// Numbers of further m-lines to receive on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) audios: u32,
    pub(crate) videos: u32,
}

impl Lines {
    fn plus(self, other: Self) -> Self {
        Self {
            audios: self.audios.saturating_add(other.audios),
            videos: self.videos.saturating_add(other.videos),
        }
    }

    fn min(self, other: Self) -> Self {
        Self { audios: self.audios.min(other.audios), videos: self.videos.min(other.videos) }
    }
}

/// The state of one client's negotiation.
#[derive(Debug, Default)]
pub(crate) struct Negotiation {
    waiting: u32,
    answered: bool,
    /// Needed while an offer was on its way.
    held: Option<Lines>,
}

impl Negotiation {
    /// An offer came. False: too many wait already, it must not be passed on.
    #[must_use]
    pub(crate) fn offer(&mut self) -> bool {
        if self.waiting >= MAX_OFFERS_WAITING {
            return false;
        }
        self.waiting += 1;
        true
    }

    /// The SFU answered; `missing` are the lines that wanted tracks still lack. Returns what to ask for now.
    pub(crate) fn answered(&mut self, missing: Lines) -> Option<Lines> {
        self.waiting = self.waiting.saturating_sub(1);
        let is_first = !std::mem::replace(&mut self.answered, true);
        if self.waiting > 0 {
            return None;
        }
        let held = self.held.take()?;
        // Only the first offer brings lines that nobody asked for.
        let held = if is_first { held.min(missing) } else { held };
        (held != Lines::default() || missing != Lines::default()).then_some(held)
    }

    /// The client is back on another WebSocket: what it was asked for may be lost. Returns what to ask for now so
    /// that it gets the lines that wanted tracks lack.
    pub(crate) fn resumed(&mut self, missing: Lines) -> Option<Lines> {
        self.held = None;
        self.needed(missing).filter(|lines| *lines != Lines::default())
    }

    /// Whether an offer waits for its answer, or the client will be asked for one.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting > 0 || self.held.is_some()
    }

    /// The SFU rejected an offer. Returns whether there has ever been an answer.
    pub(crate) fn rejected(&mut self) -> bool {
        self.waiting = self.waiting.saturating_sub(1);
        self.answered
    }

    /// The SFU needs an offer, with these lines beyond those that it asked for before. Returns what to ask for now.
    pub(crate) fn needed(&mut self, lines: Lines) -> Option<Lines> {
        if self.waiting > 0 || !self.answered {
            self.held = Some(self.held.unwrap_or_default().plus(lines));
            return None;
        }
        Some(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(audios: u32, videos: u32) -> Lines {
        Lines { audios, videos }
    }

    fn settled() -> Negotiation {
        let mut negotiation = Negotiation::default();
        assert!(negotiation.offer());
        assert_eq!(negotiation.answered(lines(0, 0)), None);
        negotiation
    }

    #[test]
    fn passes_each_need_on() {
        let mut negotiation = settled();
        assert_eq!(negotiation.needed(lines(0, 0)), Some(lines(0, 0)));
        assert_eq!(negotiation.needed(lines(1, 0)), Some(lines(1, 0)));
        assert_eq!(negotiation.needed(lines(1, 2)), Some(lines(1, 2)), "further ones, not those of before");
    }

    #[test]
    fn what_is_needed_during_an_offer_is_asked_for_after_the_answer() {
        let mut negotiation = settled();
        assert!(negotiation.offer());
        assert_eq!(negotiation.needed(lines(1, 0)), None);
        assert_eq!(negotiation.needed(lines(1, 0)), None);
        assert_eq!(negotiation.answered(lines(2, 0)), Some(lines(2, 0)), "one and one");
        assert!(negotiation.offer());
        assert_eq!(negotiation.needed(lines(1, 0)), None);
        assert_eq!(negotiation.answered(lines(0, 0)), Some(lines(1, 0)), "the SFU counts on the line");
    }

    #[test]
    fn asks_for_nothing_that_the_answer_on_its_way_settles() {
        let mut negotiation = Negotiation::default();
        assert_eq!(negotiation.needed(lines(2, 2)), None, "before the first offer");
        assert!(negotiation.offer());
        assert_eq!(negotiation.needed(lines(0, 1)), None, "before its answer");
        assert_eq!(negotiation.answered(lines(0, 1)), Some(lines(0, 1)), "what its spare lines left open");
        assert!(negotiation.offer());
        assert_eq!(negotiation.needed(lines(0, 0)), None);
        assert_eq!(negotiation.answered(lines(0, 0)), None, "the answer filled a spare line");
    }

    #[test]
    fn what_a_lost_client_may_have_missed_is_asked_for_once_it_is_back() {
        let mut negotiation = settled();
        assert_eq!(negotiation.resumed(lines(0, 0)), None);
        assert_eq!(negotiation.needed(lines(1, 0)), Some(lines(1, 0)), "asked for in vain");
        assert_eq!(negotiation.resumed(lines(1, 0)), Some(lines(1, 0)));
        assert!(negotiation.offer());
        assert_eq!(negotiation.needed(lines(0, 1)), None);
        assert_eq!(negotiation.resumed(lines(1, 1)), None, "an answer is on its way");
        assert_eq!(negotiation.answered(lines(1, 1)), Some(lines(1, 1)), "all that is missing, once");
    }

    #[test]
    fn bounds_the_offers_that_wait() {
        let mut negotiation = settled();
        for _ in 0..MAX_OFFERS_WAITING {
            assert!(negotiation.offer());
        }
        assert!(!negotiation.offer());
        assert!(negotiation.rejected());
        assert!(negotiation.offer());
    }
}
