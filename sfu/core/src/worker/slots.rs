//! Dense tables with keys that stay put, and queues of keys that have work.

use std::collections::VecDeque;
use std::mem;
use std::ops::{Index, IndexMut};

/// Values under dense keys `0..n`; a freed key is used again. Each begins a cache line.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

/// Which it is does not lie somewhere in the value, but in front of it.
#[derive(Debug)]
#[repr(u32, align(64))]
enum Slot<T> {
    Free,
    Taken(T),
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(key) = self.free.pop() {
            self.slots[key as usize] = Slot::Taken(value);
            return key;
        }
        self.slots.push(Slot::Taken(value));
        self.slots.len() as u32 - 1
    }

    pub(super) fn remove(&mut self, key: u32) -> Option<T> {
        let Slot::Taken(value) = mem::replace(self.slots.get_mut(key as usize)?, Slot::Free) else {
            return None;
        };
        self.free.push(key);
        Some(value)
    }

    #[inline]
    pub(super) fn get(&self, key: u32) -> Option<&T> {
        match self.slots.get(key as usize)? {
            Slot::Taken(value) => Some(value),
            Slot::Free => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        match self.slots.get_mut(key as usize)? {
            Slot::Taken(value) => Some(value),
            Slot::Free => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.slots.len() as u32).filter_map(|key| self.get(key))
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, key: u32) -> &T {
        self.get(key).expect("a key is used only while its slot is taken")
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, key: u32) -> &mut T {
        self.get_mut(key).expect("a key is used only while its slot is taken")
    }
}

/// Keys that have something to send, each at most once, first come first served.
#[derive(Debug, Default)]
pub(super) struct Busy {
    queue: VecDeque<u32>,
    queued: Vec<bool>,
}

impl Busy {
    pub(super) fn mark(&mut self, key: u32) {
        let slot = key as usize;
        if slot >= self.queued.len() {
            self.queued.resize(slot + 1, false);
        }
        if !self.queued[slot] {
            self.queued[slot] = true;
            self.queue.push_back(key);
        }
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.queue.front().copied()
    }

    /// Takes out the first key: it has nothing more to send.
    pub(super) fn done(&mut self) {
        if let Some(key) = self.queue.pop_front() {
            self.queued[key as usize] = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_key_is_used_again() {
        let mut slots = Slots::default();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!(slots.remove(a), None);
        assert_eq!(slots.insert('c'), a);
        assert_eq!((slots.len(), slots[a], slots[b]), (2, 'c', 'b'));
    }

    #[test]
    fn a_key_is_queued_once_until_it_is_done() {
        let mut busy = Busy::default();
        for key in [3, 1, 3] {
            busy.mark(key);
        }
        assert_eq!(busy.first(), Some(3));
        busy.done();
        assert_eq!(busy.first(), Some(1));
        busy.mark(3);
        busy.done();
        assert_eq!(busy.first(), Some(3));
    }
}
