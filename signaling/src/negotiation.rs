//! Offers that wait for their answer, and m-lines that the client was asked to add.
//!
//! The client alone makes offers. When the SFU needs further receiving m-lines, the client is told so by
//! `media_sections_requirement`, at most once for each need: while an offer is on its way the SFU's answer may
//! settle the matter, and a client that has been asked will offer again by itself.

use crate::limits::MAX_OFFERS_WAITING;

/// Numbers of further m-lines to receive on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) audios: u32,
    pub(crate) videos: u32,
}

impl Lines {
    fn max(self, other: Self) -> Self {
        Self { audios: self.audios.max(other.audios), videos: self.videos.max(other.videos) }
    }

    fn min(self, other: Self) -> Self {
        Self { audios: self.audios.min(other.audios), videos: self.videos.min(other.videos) }
    }

    fn beyond(self, other: Self) -> Self {
        Self {
            audios: self.audios.saturating_sub(other.audios),
            videos: self.videos.saturating_sub(other.videos),
        }
    }
}

/// The state of one client's negotiation.
#[derive(Debug, Default)]
pub(crate) struct Negotiation {
    waiting: u32,
    answered: bool,
    /// Needed while an offer was on its way.
    held: Option<Lines>,
    /// Asked for since the client's last offer.
    asked: Option<Lines>,
}

impl Negotiation {
    /// An offer came. False: too many wait already, it must not be passed on.
    #[must_use]
    pub(crate) fn offer(&mut self) -> bool {
        if self.waiting >= MAX_OFFERS_WAITING {
            return false;
        }
        self.waiting += 1;
        self.asked = None;
        true
    }

    /// The SFU answered; `missing` are the lines that wanted tracks still lack. Returns what to ask for now.
    pub(crate) fn answered(&mut self, missing: Lines) -> Option<Lines> {
        self.waiting = self.waiting.saturating_sub(1);
        self.answered = true;
        if self.waiting > 0 {
            return None;
        }
        let held = self.held.take()?.min(missing);
        if held == Lines::default() { None } else { self.ask(held) }
    }

    /// The SFU rejected an offer. Returns whether there has ever been an answer.
    pub(crate) fn rejected(&mut self) -> bool {
        self.waiting = self.waiting.saturating_sub(1);
        self.answered
    }

    /// The SFU needs an offer, with these further lines. Returns what to ask for now.
    pub(crate) fn needed(&mut self, lines: Lines) -> Option<Lines> {
        if self.waiting > 0 || !self.answered {
            self.held = Some(self.held.unwrap_or_default().max(lines));
            return None;
        }
        self.ask(lines)
    }

    fn ask(&mut self, lines: Lines) -> Option<Lines> {
        let further = match self.asked {
            None => lines,
            Some(asked) => match lines.beyond(asked) {
                Lines { audios: 0, videos: 0 } => return None,
                further => further,
            },
        };
        self.asked = Some(self.asked.unwrap_or_default().max(lines));
        Some(further)
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
    fn asks_once_for_each_need() {
        let mut negotiation = settled();
        assert_eq!(negotiation.needed(lines(0, 0)), Some(lines(0, 0)));
        assert_eq!(negotiation.needed(lines(0, 0)), None, "it will offer anyway");
        assert_eq!(negotiation.needed(lines(1, 0)), Some(lines(1, 0)));
        assert_eq!(negotiation.needed(lines(1, 2)), Some(lines(0, 2)), "only what is new");
        assert!(negotiation.offer());
        assert_eq!(negotiation.answered(lines(0, 0)), None);
        assert_eq!(negotiation.needed(lines(1, 0)), Some(lines(1, 0)), "a new need");
    }

    #[test]
    fn asks_for_nothing_that_the_answer_on_its_way_settles() {
        let mut negotiation = Negotiation::default();
        assert_eq!(negotiation.needed(lines(2, 2)), None, "before the first offer");
        assert!(negotiation.offer());
        assert_eq!(negotiation.needed(lines(2, 3)), None, "before its answer");
        assert_eq!(negotiation.answered(lines(0, 1)), Some(lines(0, 1)), "what the answer left open");
        assert_eq!(negotiation.needed(lines(0, 1)), None, "asked for already");
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
