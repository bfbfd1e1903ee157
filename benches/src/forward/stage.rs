//! A lesson as something whose cost per packet out is measured.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::lesson::Lesson;
use crate::counting::{allocations, counted};
use crate::limit::clock::thread_cpu;
use crate::limit::rounds::{Pass, Stage};

/// How much of the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Packets are read and dropped.
    Read,
    /// They are forwarded, as far as the lesson goes.
    Forwarded,
}

/// A lesson whose packets come in batches of one length. Lessons are shared by stages.
pub struct Forward {
    lesson: Rc<RefCell<Lesson>>,
    run: usize,
    until: Until,
    tally: Rc<Tally>,
}

/// What the passes of a stage came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Packets of media that left.
    pub packets: Cell<u64>,
    /// Allocations, where the program counts them.
    pub allocations: Cell<u64>,
}

impl Forward {
    /// Batches of `run` packets.
    pub fn new(lesson: &Rc<RefCell<Lesson>>, run: usize, until: Until) -> Self {
        Self { lesson: Rc::clone(lesson), run, until, tally: Rc::default() }
    }

    /// Where the passes are added up.
    pub fn tally(&self) -> Rc<Tally> {
        Rc::clone(&self.tally)
    }
}

impl Stage for Forward {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.lesson.borrow_mut().fill(self.run)
    }

    /// The packets are those that leave; where nobody is subscribed, those of the highest encoding that came.
    fn pass(&mut self) -> anyhow::Result<Pass> {
        let lesson = &mut *self.lesson.borrow_mut();
        let (left, allocated) = (lesson.left(), allocations());
        let start = thread_cpu();
        match self.until {
            Until::Read => lesson.discard()?,
            Until::Forwarded => counted(|| lesson.forward())?,
        }
        let spent = thread_cpu() - start;
        self.tally.allocations.set(self.tally.allocations.get() + allocations() - allocated);
        let left = lesson.left() - left;
        self.tally.packets.set(self.tally.packets.get() + left);
        let (frames, shape) = lesson.filled();
        let packets = if left > 0 { left } else { (frames * shape.forwarded()) as u64 };
        Ok(Pass { spent, packets })
    }
}
