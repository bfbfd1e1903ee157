//! The segments of a [`Rewriter`](super::rewriter::Rewriter), a short list. Nearly every packet is of the newest: that
//! lies beside what else is looked at for each packet, those before it on the heap.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use super::rewriter::Offsets;
use crate::track::StreamKey;

/// Segments kept. Each skipped run of packets makes one: what is older than all these holes is no longer news.
pub(super) const MAX_SEGMENTS: usize = 32;

/// Source numbers in a row whose output numbers are as well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) stream: StreamKey,
    /// Source numbers `start..end`; `u64::MAX` while it is open.
    pub(super) start: u64,
    pub(super) end: u64,
    /// The output number of `start`.
    pub(super) output: u64,
    pub(super) offsets: Offsets,
}

impl Segment {
    pub(super) fn is_open(&self) -> bool {
        self.end == u64::MAX
    }

    #[inline]
    pub(super) fn holds(&self, stream: StreamKey, seq: u64) -> bool {
        self.stream == stream && (self.start..self.end).contains(&seq)
    }
}

/// See the module. Oldest first.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Segments {
    newest: Option<Segment>,
    before: VecDeque<Segment>,
}

impl Segments {
    #[inline]
    pub(super) fn newest(&self) -> Option<&Segment> {
        self.newest.as_ref()
    }

    #[inline]
    pub(super) fn newest_mut(&mut self) -> Option<&mut Segment> {
        self.newest.as_mut()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.before.len() + usize::from(self.newest.is_some())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.before.iter().chain(&self.newest)
    }

    /// The one that holds a packet.
    #[inline]
    pub(super) fn find(&self, stream: StreamKey, seq: u64) -> Option<&Segment> {
        match &self.newest {
            Some(newest) if newest.holds(stream, seq) => Some(newest),
            _ => self.before.iter().rfind(|segment| segment.holds(stream, seq)),
        }
    }

    /// The index of the one that holds a packet.
    #[inline]
    pub(super) fn of(&self, stream: StreamKey, seq: u64) -> Option<usize> {
        if self.newest.as_ref()?.holds(stream, seq) {
            return Some(self.before.len());
        }
        self.before.iter().rposition(|segment| segment.holds(stream, seq))
    }

    pub(super) fn push(&mut self, segment: Segment) {
        self.insert(self.len(), segment);
    }

    /// Inserts a segment; the oldest one makes room.
    pub(super) fn insert(&mut self, index: usize, segment: Segment) {
        let Some(newest) = self.newest else {
            self.newest = Some(segment);
            return;
        };
        // For all of them at the first: no allocation in the long run, and none while there is but one.
        if self.before.capacity() == 0 {
            self.before.reserve_exact(MAX_SEGMENTS);
        }
        let full = self.len() == MAX_SEGMENTS;
        if full {
            self.before.pop_front();
        }
        let index = index - usize::from(full);
        if index > self.before.len() {
            self.before.push_back(newest);
            self.newest = Some(segment);
        } else {
            self.before.insert(index, segment);
        }
    }

    /// Takes out the newest where it is such a one.
    pub(super) fn pop_if(&mut self, mut such: impl FnMut(&Segment) -> bool) -> Option<Segment> {
        let popped = self.newest.take_if(|newest| such(newest))?;
        self.newest = self.before.pop_back();
        Some(popped)
    }
}

impl Index<usize> for Segments {
    type Output = Segment;

    #[inline]
    fn index(&self, index: usize) -> &Segment {
        match &self.newest {
            Some(newest) if index == self.before.len() => newest,
            _ => &self.before[index],
        }
    }
}

impl IndexMut<usize> for Segments {
    fn index_mut(&mut self, index: usize) -> &mut Segment {
        match &mut self.newest {
            Some(newest) if index == self.before.len() => newest,
            _ => &mut self.before[index],
        }
    }
}
