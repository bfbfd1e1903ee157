//! What a worker knows of the other workers that share its port.
//!
//! The kernel spreads clients over the workers' sockets without asking whose they are. A STUN request says whose
//! it is by its ufrag, so any worker can pass it on without knowing anything. Once the owner has authenticated
//! it, it tells the worker where the client's datagrams arrive ([`Notice`]), and only then answers: DTLS and
//! SRTP, which name nobody, follow the answer and find a worker that knows.

use crate::transport::Tuple;
use crate::transport::demux;

/// Most workers that share a port.
pub const MAX_WORKERS: usize = 64;

/// A worker's place among those that share its port, below [`MAX_WORKERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerIndex(pub u16);

impl WorkerIndex {
    /// The first two characters of the ufrags of this worker's transports: its index in base 36.
    pub fn ufrag_prefix(self) -> [char; 2] {
        let digit = |value: u16| char::from_digit(u32::from(value % 36), 36).expect("below 36");
        [digit(self.0 / 36), digit(self.0)]
    }

    /// The worker that a ufrag names.
    pub fn of_ufrag(ufrag: &str) -> Option<Self> {
        let mut digits = ufrag.chars().map(|c| c.to_digit(36));
        let (high, low) = (digits.next()??, digits.next()??);
        Some(Self((high * 36 + low) as u16))
    }

    /// The worker that a STUN request names.
    pub(super) fn of_request(datagram: &[u8]) -> Option<Self> {
        Self::of_ufrag(demux::stun_ufrag(datagram)?)
    }
}

/// Whose a datagram is that was not for the worker which got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// That worker has authenticated its source.
    Bound(WorkerIndex),
    /// It names that worker itself, and may be anybody's: a STUN request.
    Claimed(WorkerIndex),
}

/// What an owner tells the worker at which a client's datagrams arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The client's address and ours.
    pub tuple: Tuple,
    /// The worker that tells it.
    pub owner: WorkerIndex,
    /// What is new.
    pub news: News,
}

/// What is new about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It belongs to a transport of the owner. Told again with each authenticated check, so that one that got
    /// lost does not matter for long.
    Bound,
    /// It belongs to none of them any more.
    Unbound,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ufrag_names_its_worker() {
        for (index, prefix) in [(0, "00"), (35, "0z"), (36, "10"), (63, "1r"), (1295, "zz")] {
            let worker = WorkerIndex(index);
            assert_eq!(String::from_iter(worker.ufrag_prefix()), prefix);
            assert_eq!(WorkerIndex::of_ufrag(&format!("{prefix}rest")), Some(worker));
        }
        for nobodys in ["", "0", "+0", "0/", "é0"] {
            assert_eq!(WorkerIndex::of_ufrag(nobodys), None, "{nobodys}");
        }
    }
}
