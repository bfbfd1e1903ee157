//! One direction pair of numbered messages, kept until the other side says that it has them.
//!
//! A state machine without I/O: each message arrives exactly once and in order, whatever is lost between two
//! connections, as long as both sides live and neither bound is passed.

use std::collections::VecDeque;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::frame::{self, FrameError};

/// What travels on a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item<M> {
    /// A message.
    Message {
        /// 1 for the first of a session.
        number: u64,
        /// What it says.
        message: M,
    },
    /// All up to this number have been received.
    Received {
        /// The last one's number.
        number: u64,
    },
}

/// How much a lane keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Messages.
    pub messages: usize,
    /// Bytes of their frames.
    pub bytes: usize,
}

/// Why a lane cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// More waits than the bounds allow.
    #[error("too much waits for the other side")]
    Full,
    /// The message is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Messages between are missing.
    #[error("message {0} came where another was due")]
    Gap(u64),
    /// The other side says that it has what was never sent, or what is no longer kept.
    #[error("the other side's count {0} does not fit ours")]
    Count(u64),
}

/// Both directions of one lane.
#[derive(Debug)]
pub struct Lane {
    bounds: Bounds,
    /// Frames of the messages from `acknowledged + 1` on.
    kept: VecDeque<Vec<u8>>,
    kept_bytes: usize,
    acknowledged: u64,
    /// How many of the kept have been sent on the present connection.
    sent: usize,
    received: u64,
    /// The count of received ones that the other side has been told.
    told: u64,
}

impl Lane {
    /// Nothing sent, nothing received.
    pub fn new(bounds: Bounds) -> Self {
        let kept = VecDeque::new();
        Self { bounds, kept, kept_bytes: 0, acknowledged: 0, sent: 0, received: 0, told: 0 }
    }

    /// Takes a message to be sent.
    pub fn push<M: Serialize>(&mut self, message: &M) -> Result<(), LaneError> {
        let number = self.acknowledged + self.kept.len() as u64 + 1;
        let mut bytes = Vec::new();
        frame::encode(&Item::Message { number, message }, &mut bytes)?;
        if self.kept.len() >= self.bounds.messages || self.kept_bytes + bytes.len() > self.bounds.bytes {
            return Err(LaneError::Full);
        }
        self.kept_bytes += bytes.len();
        self.kept.push_back(bytes);
        Ok(())
    }

    /// Appends the next frames to be sent, at most about `limit` bytes of them.
    pub fn transmit(&mut self, limit: usize, into: &mut Vec<u8>) {
        if self.told < self.received {
            self.told = self.received;
            let item = Item::<()>::Received { number: self.received };
            frame::encode(&item, into).expect("a number is no long frame");
        }
        while let Some(frame) = self.kept.get(self.sent).filter(|_| into.len() < limit) {
            into.extend_from_slice(frame);
            self.sent += 1;
        }
    }

    /// Reads what came. A message that came before is left out.
    pub fn handle<M>(&mut self, item: Item<M>) -> Result<Option<M>, LaneError> {
        match item {
            Item::Received { number } => self.acknowledge(number).map(|()| None),
            Item::Message { number, .. } if number <= self.received => Ok(None),
            Item::Message { number, message } if number == self.received + 1 => {
                self.received = number;
                Ok(Some(message))
            }
            Item::Message { number, .. } => Err(LaneError::Gap(number)),
        }
    }

    /// Reads the payload of a frame.
    pub fn decode<M: DeserializeOwned>(&mut self, payload: &[u8]) -> Result<Option<M>, LaneError> {
        self.handle(frame::decode(payload)?)
    }

    /// The number of the last message received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many messages the other side may not have yet.
    pub fn waiting(&self) -> usize {
        self.kept.len()
    }

    /// Bytes of these.
    pub fn waiting_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Goes on over a new connection: sends again what the other side has not received.
    pub fn resume(&mut self, received_there: u64) -> Result<(), LaneError> {
        self.acknowledge(received_there)?;
        self.sent = 0;
        self.told = self.received;
        Ok(())
    }

    /// Whether [`Self::resume`] would work.
    pub fn can_resume(&self, received_there: u64) -> bool {
        (self.acknowledged..=self.acknowledged + self.kept.len() as u64).contains(&received_there)
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        *self = Self::new(self.bounds);
    }

    fn acknowledge(&mut self, number: u64) -> Result<(), LaneError> {
        if !self.can_resume(number) {
            return Err(LaneError::Count(number));
        }
        let count = (number - self.acknowledged) as usize;
        for frame in self.kept.drain(..count) {
            self.kept_bytes -= frame.len();
        }
        self.acknowledged = number;
        self.sent = self.sent.saturating_sub(count);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Decoder;

    const BOUNDS: Bounds = Bounds { messages: 3, bytes: 100 };

    fn pass(from: &mut Lane, to: &mut Lane) -> Vec<u8> {
        let (mut bytes, mut decoder, mut messages) = (Vec::new(), Decoder::default(), Vec::new());
        from.transmit(1000, &mut bytes);
        decoder.push(&bytes);
        while let Some(item) = decoder.value::<Item<u8>>().unwrap() {
            messages.extend(to.handle(item).unwrap());
        }
        messages
    }

    #[test]
    fn messages_are_kept_until_they_are_received() {
        let (mut a, mut b) = (Lane::new(BOUNDS), Lane::new(BOUNDS));
        a.push(&1u8).unwrap();
        a.push(&2u8).unwrap();
        assert_eq!(pass(&mut a, &mut b), [1, 2]);
        assert_eq!(pass(&mut a, &mut b), [], "once a connection");
        assert_eq!(a.waiting(), 2);
        pass(&mut b, &mut a);
        assert_eq!((a.waiting(), a.waiting_bytes()), (0, 0));
        a.push(&3u8).unwrap();
        a.resume(b.received()).unwrap();
        assert_eq!(pass(&mut a, &mut b), [3]);
        a.resume(2).unwrap();
        assert_eq!(pass(&mut a, &mut b), [], "sent again, read once");
    }

    #[test]
    fn counts_that_do_not_fit_and_gaps_are_refused() {
        let mut lane = Lane::new(BOUNDS);
        lane.push(&1u8).unwrap();
        assert_eq!(lane.handle(Item::<u8>::Received { number: 2 }), Err(LaneError::Count(2)));
        assert_eq!(lane.handle(Item::Message { number: 2, message: 7u8 }), Err(LaneError::Gap(2)));
        assert!(lane.can_resume(1) && lane.can_resume(0) && !lane.can_resume(2));
    }

    #[test]
    fn keeps_no_more_than_its_bounds() {
        let mut lane = Lane::new(BOUNDS);
        for _ in 0..3 {
            lane.push(&1u8).unwrap();
        }
        assert_eq!(lane.push(&1u8), Err(LaneError::Full));
        let mut lane = Lane::new(BOUNDS);
        assert_eq!(lane.push(&vec![0u8; 100]), Err(LaneError::Full), "too many bytes");
    }
}
