//! DTLS that waits until media has left. A packet costs a microsecond or two, a datagram of a handshake up to a
//! quarter of a millisecond: a school that joins at once must not stall the lessons that are under way.
//!
//! What waits is bounded in all and for each address, so that one client cannot keep out the others. Where there is
//! no room the datagram is dropped, as a full socket buffer would: both DTLS and SCTP repeat.

use std::collections::VecDeque;
use std::time::Instant;

use super::Worker;
use crate::stats::Refusal;
use crate::transport::Tuple;

/// Most datagrams that wait: more than 200 clients have under way when they join together.
const MAX_WAITING: usize = 1024;

/// Most of one address; a message of 64 kB comes in 60 datagrams, a flight in ten.
const MAX_OF_ONE: usize = 128;

/// The datagrams, first come first served.
#[derive(Debug, Default)]
pub(super) struct Deferred(VecDeque<(Tuple, Box<[u8]>)>);

impl Deferred {
    fn push(&mut self, tuple: Tuple, datagram: &[u8]) -> Result<(), Refusal> {
        let Self(queue) = self;
        let of_one = || queue.iter().filter(|(other, _)| *other == tuple).count();
        if queue.len() >= MAX_WAITING || (queue.len() >= MAX_OF_ONE && of_one() >= MAX_OF_ONE) {
            return Err(Refusal::DtlsTooMany);
        }
        queue.push_back((tuple, datagram.into()));
        Ok(())
    }
}

impl Worker {
    /// Takes in the next datagram of those that had to wait for media. Call it when media has left, again while there
    /// is time, and drain the worker: what arrives meanwhile comes first. Returns whether there are more.
    pub fn handle_deferred(&mut self, now: Instant) -> bool {
        if let Some((tuple, datagram)) = self.deferred.0.pop_front()
            && let Err(why) = self.read_dtls(now, tuple, &datagram)
        {
            self.refused.count(why);
        }
        self.has_deferred()
    }

    /// Whether anything waits for [`Self::handle_deferred`].
    pub fn has_deferred(&self) -> bool {
        !self.deferred.0.is_empty()
    }

    pub(super) fn defer_dtls(&mut self, tuple: Tuple, datagram: &[u8]) -> Result<(), Refusal> {
        self.routes.by_tuple(&tuple).ok_or(Refusal::UnknownTuple)?;
        self.deferred.push(tuple, datagram)
    }

    fn read_dtls(&mut self, now: Instant, tuple: Tuple, datagram: &[u8]) -> Result<(), Refusal> {
        let key = self.routes.by_tuple(&tuple).ok_or(Refusal::UnknownTuple)?;
        let outcome = self.transports[key].transport.handle_dtls(now, tuple, datagram);
        self.settle_transport(now, key);
        Ok(outcome?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_keep_out_the_others_and_all_cannot_grow_without_end() {
        let tuple =
            |n: u16| Tuple { local: ([192, 0, 2, 1], 7882).into(), remote: ([198, 51, 100, 7], n).into() };
        let mut deferred = Deferred::default();
        let mut taken = |n| (0..500).take_while(|_| deferred.push(tuple(n), &[22; 100]).is_ok()).count();
        assert_eq!(taken(1), MAX_OF_ONE);
        assert_eq!((taken(2), taken(1)), (MAX_OF_ONE, 0));
        assert_eq!((3..100).map(taken).sum::<usize>(), MAX_WAITING - 2 * MAX_OF_ONE);
        assert_eq!(deferred.push(tuple(200), &[22]), Err(Refusal::DtlsTooMany));
    }
}
