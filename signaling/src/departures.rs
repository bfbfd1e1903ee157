//! Who has left a room lately: a client that comes back on another WebSocket must learn of those whose leaving it
//! may have missed. Everything else it is told anew as it is now.

use std::collections::VecDeque;
use std::time::Instant;

use livekit_protocol::{DisconnectReason, ParticipantInfo, participant_info};

use crate::limits::PING_TIMEOUT;

/// Most that are remembered. A client that may have missed more joins anew.
const MAX_DEPARTURES: usize = 256;

/// A participant that has left.
#[derive(Debug)]
pub(crate) struct Departure {
    pub(crate) at: Instant,
    pub(crate) sid: String,
    pub(crate) identity: String,
    pub(crate) reason: DisconnectReason,
    pub(crate) version: u32,
}

/// The latest departures of a room, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    log: VecDeque<Departure>,
    /// When the newest of those left that are no longer in the log.
    forgotten: Option<Instant>,
}

impl Departures {
    pub(crate) fn note(&mut self, departure: Departure) {
        if self.log.len() == MAX_DEPARTURES {
            self.forgotten = self.log.pop_front().map(|oldest| oldest.at);
        }
        self.log.push_back(departure);
    }

    /// Those that a client may have missed which was last heard at this time. None: more than are remembered.
    pub(crate) fn missed_by(&self, heard: Instant) -> Option<impl Iterator<Item = &Departure>> {
        // A client that is not answered for so long gives its WebSocket up: what was sent before has arrived.
        let may_be_missed = move |at: Instant| at + PING_TIMEOUT >= heard;
        if self.forgotten.is_some_and(may_be_missed) {
            return None;
        }
        Some(self.log.iter().filter(move |departure| may_be_missed(departure.at)))
    }
}

impl Departure {
    /// What clients are told.
    pub(crate) fn info(&self) -> ParticipantInfo {
        ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.identity.clone(),
            state: participant_info::State::Disconnected.into(),
            disconnect_reason: self.reason.into(),
            version: self.version,
            ..ParticipantInfo::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn departure(at: Instant, number: usize) -> Departure {
        let (sid, identity) = (format!("PA_{number}"), format!("p{number}"));
        Departure { at, sid, identity, reason: DisconnectReason::ClientInitiated, version: 1 }
    }

    fn missed(departures: &Departures, heard: Instant) -> Option<Vec<String>> {
        Some(departures.missed_by(heard)?.map(|departure| departure.sid.clone()).collect())
    }

    #[test]
    fn what_was_sent_long_before_a_client_was_heard_has_arrived() {
        let start = Instant::now();
        let mut departures = Departures::default();
        departures.note(departure(start, 1));
        departures.note(departure(start + PING_TIMEOUT, 2));
        assert_eq!(missed(&departures, start + PING_TIMEOUT), Some(vec!["PA_1".into(), "PA_2".into()]));
        let later = start + PING_TIMEOUT + Duration::from_millis(1);
        assert_eq!(missed(&departures, later), Some(vec!["PA_2".into()]));
    }

    #[test]
    fn a_client_that_missed_more_than_is_remembered_is_known() {
        let start = Instant::now();
        let mut departures = Departures::default();
        let at = |number: usize| start + Duration::from_secs(number as u64);
        for number in 0..=MAX_DEPARTURES {
            departures.note(departure(at(number), number));
        }
        assert_eq!(missed(&departures, start + PING_TIMEOUT), None);
        let heard = start + PING_TIMEOUT + Duration::from_millis(1);
        assert_eq!(missed(&departures, heard).map(|missed| missed.len()), Some(MAX_DEPARTURES));
    }
}
