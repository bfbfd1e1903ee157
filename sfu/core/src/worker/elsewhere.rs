//! The addresses that other workers have authenticated and whose datagrams arrive here. An owner takes back what it
//! told, but that may get lost, and clients may show ever new addresses: those not told again for long make room.

use rustc_hash::FxHashMap;

use super::foreign::WorkerIndex;
use crate::transport::Tuple;

/// Addresses in a generation. With both, and what the tables need besides, 5 MB.
pub(super) const GENERATION: usize = 1 << 15;

/// Two generations: an address that is told, again or for the first time, is in the younger one. Once that is
/// full, the older one is forgotten and it becomes the older one.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    young: FxHashMap<Tuple, WorkerIndex>,
    old: FxHashMap<Tuple, WorkerIndex>,
}

impl Elsewhere {
    /// Whose an address is.
    pub(super) fn owner(&self, tuple: &Tuple) -> Option<WorkerIndex> {
        self.young.get(tuple).or_else(|| self.old.get(tuple)).copied()
    }

    /// An address is that worker's. Returns how many others had to be forgotten for it.
    pub(super) fn insert(&mut self, tuple: Tuple, owner: WorkerIndex) -> usize {
        self.old.remove(&tuple);
        let mut forgotten = 0;
        if self.young.len() >= GENERATION && !self.young.contains_key(&tuple) {
            forgotten = self.old.len();
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(tuple, owner);
        forgotten
    }

    /// An address is nobody else's any more.
    pub(super) fn remove(&mut self, tuple: &Tuple) {
        self.young.remove(tuple);
        self.old.remove(tuple);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
