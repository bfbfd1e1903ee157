//! What workers pass to each other: datagrams that the kernel gave to the wrong one, and whose an address is.
//!
//! Each worker has an inbox that all others may put something into: lock-free rings, many producers and one
//! consumer. One inbox a worker rather than one a pair, since every worker may be anyone's wrong one and memory
//! would grow with the square. Datagrams travel in parcels made at the start, which go back to the inbox's ring
//! of empty ones: nothing is allocated and nothing waits; where no parcel is empty, the datagram is dropped and
//! counted. A worker is woken at most once for all that one turn of another has for it.

use std::io;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use sfu_core::units::MAX_DATAGRAM_IN;
use sfu_core::worker::{Foreign, MAX_WORKERS, Notice, Tuple, WorkerIndex};

use crate::wake::Wake;

/// A worker's end: its own inbox, and the way into the others'.
pub(crate) struct Handover {
    index: WorkerIndex,
    inboxes: Arc<[Inbox]>,
    /// Workers that got something in this turn, by bit.
    to_wake: u64,
    stats: HandoverStats,
}

sfu_core::counters! {
    /// What a worker counts of its dealings with the others.
    HandoverStats {
        /// Datagrams passed on to their owner.
        passed_on,
        /// Datagrams dropped: the owner has too many to take in already.
        dropped_full,
        /// STUN requests dropped, so that requests which may be anybody's leave room for media.
        dropped_claims,
        /// Notices dropped: the other worker takes none in.
        dropped_notices,
        /// Times that another worker was woken.
        wakes,
    }
}

struct Inbox {
    datagrams: ArrayQueue<Box<Parcel>>,
    empty: ArrayQueue<Box<Parcel>>,
    notices: ArrayQueue<Notice>,
    wake: Wake,
}

/// A datagram on its way to its owner.
struct Parcel {
    via: WorkerIndex,
    tuple: Tuple,
    len: usize,
    bytes: [u8; MAX_DATAGRAM_IN],
}

/// Most datagrams that wait in an inbox: a quarter of a second of 40 Mbit/s.
const PARCELS: usize = 1024;

/// Parcels that unauthenticated requests leave empty.
const PARCELS_FOR_CLIENTS: usize = PARCELS / 2;

/// Most notices that wait in an inbox: a client causes one every few seconds.
const NOTICES: usize = 4096;

const _: () = assert!(MAX_WORKERS <= u64::BITS as usize, "a bit for each worker");

/// The ends of `workers` workers, in the order of their index.
pub(crate) fn handovers(workers: usize) -> io::Result<Vec<Handover>> {
    let parcels = if workers > 1 { PARCELS } else { 0 };
    let inboxes: Arc<[Inbox]> =
        (0..workers).map(|_| Inbox::new(parcels)).collect::<io::Result<Vec<_>>>()?.into();
    let end = |index| Handover {
        index: WorkerIndex(index as u16),
        inboxes: Arc::clone(&inboxes),
        to_wake: 0,
        stats: HandoverStats::default(),
    };
    Ok((0..workers).map(end).collect())
}

impl Handover {
    /// Whose end this is.
    pub(crate) fn index(&self) -> WorkerIndex {
        self.index
    }

    /// What wakes this worker.
    pub(crate) fn wake(&self) -> &Wake {
        &self.inboxes[usize::from(self.index.0)].wake
    }

    /// The counters so far.
    pub(crate) fn stats(&self) -> HandoverStats {
        self.stats
    }

    /// Passes a datagram on to its owner.
    pub(crate) fn pass_on(&mut self, foreign: Foreign, tuple: Tuple, datagram: &[u8]) {
        let (Foreign::Bound(owner) | Foreign::Claimed(owner)) = foreign;
        let inbox = &self.inboxes[usize::from(owner.0)];
        if matches!(foreign, Foreign::Claimed(_)) && inbox.empty.len() <= PARCELS_FOR_CLIENTS {
            self.stats.dropped_claims += 1;
            return;
        }
        let Some(mut parcel) = inbox.empty.pop() else {
            self.stats.dropped_full += 1;
            return;
        };
        parcel.via = self.index;
        parcel.tuple = tuple;
        parcel.len = datagram.len();
        parcel.bytes[..datagram.len()].copy_from_slice(datagram);
        if inbox.datagrams.push(parcel).is_err() {
            unreachable!("as many places as parcels");
        }
        self.stats.passed_on += 1;
        self.to_wake |= 1 << owner.0;
    }

    /// Tells a worker whose an address is.
    pub(crate) fn tell(&mut self, to: WorkerIndex, notice: Notice) {
        match self.inboxes[usize::from(to.0)].notices.push(notice) {
            Ok(()) => self.to_wake |= 1 << to.0,
            Err(_) => self.stats.dropped_notices += 1,
        }
    }

    /// Wakes those that got something since the last call.
    pub(crate) fn wake_others(&mut self) {
        while self.to_wake != 0 {
            let index = self.to_wake.trailing_zeros();
            self.to_wake &= self.to_wake - 1;
            self.inboxes[index as usize].wake.signal();
            self.stats.wakes += 1;
        }
    }

    /// The next thing that another worker told this one.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        self.inboxes[usize::from(self.index.0)].notices.pop()
    }

    /// Hands out what others passed on to this worker, at most `most` datagrams. Returns whether there is more.
    pub(crate) fn take_over(
        &mut self,
        most: usize,
        mut handle: impl FnMut(WorkerIndex, Tuple, &mut [u8]),
    ) -> bool {
        let inbox = &self.inboxes[usize::from(self.index.0)];
        for _ in 0..most {
            let Some(mut parcel) = inbox.datagrams.pop() else { return false };
            let len = parcel.len;
            handle(parcel.via, parcel.tuple, &mut parcel.bytes[..len]);
            if inbox.empty.push(parcel).is_err() {
                unreachable!("as many places as parcels");
            }
        }
        !inbox.datagrams.is_empty()
    }
}

impl Inbox {
    fn new(parcels: usize) -> io::Result<Self> {
        let empty = ArrayQueue::new(PARCELS);
        for _ in 0..parcels {
            empty.push(Box::new(Parcel::empty())).ok();
        }
        Ok(Self {
            datagrams: ArrayQueue::new(PARCELS),
            empty,
            notices: ArrayQueue::new(NOTICES),
            wake: Wake::new()?,
        })
    }
}

impl Parcel {
    fn empty() -> Self {
        let nowhere = ([0; 4], 0).into();
        let tuple = Tuple { local: nowhere, remote: nowhere };
        Self { via: WorkerIndex::default(), tuple, len: 0, bytes: [0; MAX_DATAGRAM_IN] }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const OWNER: WorkerIndex = WorkerIndex(1);

    fn tuple(port: u16) -> Tuple {
        Tuple { local: ([192, 0, 2, 1], 7882).into(), remote: ([198, 51, 100, 7], port).into() }
    }

    fn two() -> [Handover; 2] {
        let ends = handovers(2).unwrap();
        ends.try_into().ok().unwrap()
    }

    #[test]
    fn a_datagram_comes_out_as_it_went_in_and_its_parcel_is_used_again() {
        let [mut from, mut owner] = two();
        let mut places = BTreeSet::new();
        for round in 0..PARCELS as u16 * 2 {
            let sent = vec![round as u8; 1 + usize::from(round) % MAX_DATAGRAM_IN];
            from.pass_on(Foreign::Bound(OWNER), tuple(round), &sent);
            let mut seen = 0;
            owner.take_over(8, |via, at, datagram| {
                assert_eq!((via, at, &*datagram), (WorkerIndex(0), tuple(round), &sent[..]));
                places.insert(datagram.as_ptr());
                seen += 1;
            });
            assert_eq!(seen, 1);
        }
        assert_eq!(places.len(), PARCELS, "each parcel twice");
    }

    #[test]
    fn a_full_inbox_drops_and_counts_and_keeps_room_for_clients() {
        let [mut from, mut owner] = two();
        for port in 0..PARCELS as u16 {
            from.pass_on(Foreign::Claimed(OWNER), tuple(port), b"request");
        }
        assert_eq!(from.stats().dropped_claims, PARCELS_FOR_CLIENTS as u64);
        for port in 0..PARCELS as u16 {
            from.pass_on(Foreign::Bound(OWNER), tuple(port), b"media");
        }
        let stats = from.stats();
        assert_eq!((stats.passed_on, stats.dropped_full), (PARCELS as u64, PARCELS_FOR_CLIENTS as u64));

        assert!(owner.take_over(10, |_, _, _| {}), "there is more");
        assert!(!owner.take_over(PARCELS, |_, _, _| {}));
        from.pass_on(Foreign::Claimed(OWNER), tuple(1), b"request");
        assert_eq!(from.stats().passed_on, PARCELS as u64 + 1);
    }

    #[test]
    fn a_worker_is_woken_once_a_turn() {
        let [mut from, _owner] = two();
        from.wake_others();
        assert_eq!(from.stats().wakes, 0);
        for port in 0..100 {
            from.pass_on(Foreign::Bound(OWNER), tuple(port), b"media");
        }
        from.wake_others();
        from.wake_others();
        assert_eq!(from.stats().wakes, 1);
    }
}
