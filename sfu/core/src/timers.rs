//! Deadlines of many state machines: which one is due next.
//!
//! A binary heap over dense keys, with each key's place in it remembered, so that a deadline can be moved in
//! place: its size is bounded by the number of keys however often deadlines change.

use std::time::Instant;

/// At most one deadline for each key `0..n`.
#[derive(Debug, Default)]
pub struct Deadlines {
    /// `(deadline, key)`, a binary min-heap.
    heap: Vec<(Instant, u32)>,
    /// Each key's index in `heap`, [`ABSENT`] where it has no deadline.
    place: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl Deadlines {
    /// Sets, moves or (`None`) removes the deadline of `key`.
    pub fn set(&mut self, key: u32, deadline: Option<Instant>) {
        let slot = key as usize;
        if slot >= self.place.len() {
            self.place.resize(slot + 1, ABSENT);
        }
        match (self.place[slot], deadline) {
            (ABSENT, None) => {}
            (ABSENT, Some(deadline)) => {
                self.place[slot] = self.heap.len() as u32;
                self.heap.push((deadline, key));
                self.sift_up(self.heap.len() - 1);
            }
            (at, None) => self.remove(at as usize),
            (at, Some(deadline)) => {
                let at = at as usize;
                let earlier = deadline < self.heap[at].0;
                self.heap[at].0 = deadline;
                if earlier { self.sift_up(at) } else { self.sift_down(at) }
            }
        }
    }

    /// The earliest deadline, `None` where there is none.
    pub fn next(&self) -> Option<Instant> {
        Some(self.heap.first()?.0)
    }

    /// Takes out a key whose deadline is not after `now`, the earliest first.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let &(_, key) = self.heap.first().filter(|(deadline, _)| *deadline <= now)?;
        self.remove(0);
        Some(key)
    }

    fn remove(&mut self, at: usize) {
        let (_, key) = self.heap.swap_remove(at);
        self.place[key as usize] = ABSENT;
        if let Some(&(_, moved)) = self.heap.get(at) {
            self.place[moved as usize] = at as u32;
            self.sift_up(at);
            self.sift_down(at);
        }
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent].0 <= self.heap[at].0 {
                break;
            }
            self.swap(at, parent);
            at = parent;
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let Some(child) = [left, right]
                .into_iter()
                .filter(|&child| child < self.heap.len())
                .min_by_key(|&child| self.heap[child].0)
            else {
                break;
            };
            if self.heap[at].0 <= self.heap[child].0 {
                break;
            }
            self.swap(at, child);
            at = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for at in [a, b] {
            self.place[self.heap[at].1 as usize] = at as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{Random, origin};

    #[test]
    fn keys_come_out_in_the_order_of_their_last_deadline() {
        let origin = origin();
        let mut random = Random::new(7);
        let mut deadlines = Deadlines::default();
        let mut model = [None; 40];
        for _ in 0..2000 {
            let key = random.next_u64() % 40;
            let deadline = (!random.next_u64().is_multiple_of(4))
                .then(|| origin + Duration::from_millis(random.next_u64() % 500));
            deadlines.set(key as u32, deadline);
            model[key as usize] = deadline;
            assert_eq!(deadlines.next(), model.iter().flatten().min().copied());
        }
        let mut last = origin;
        let mut left = model.iter().flatten().count();
        while let Some(key) = deadlines.pop_due(origin + Duration::from_millis(400)) {
            let deadline = model[key as usize].take().expect("a key comes out once");
            assert!(deadline >= last);
            last = deadline;
            left -= 1;
        }
        assert!(model.iter().flatten().all(|&deadline| deadline > origin + Duration::from_millis(400)));
        assert_eq!(model.iter().flatten().count(), left);
    }
}
