//! Waking a worker's thread that sleeps in `poll`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// A worker's eventfd. Clones wake the same thread.
#[derive(Clone, Debug)]
pub(crate) struct Wake(Arc<OwnedFd>);

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Ends the thread's sleep, or its next one. Call it after putting something where the thread looks.
    pub(crate) fn signal(&self) {
        // The only error is a full counter, and then the thread is awake anyway.
        rustix::io::write(&*self.0, &1u64.to_ne_bytes()).ok();
    }

    /// Takes the signal back. Look at the queues afterwards: what comes in between is seen, or signals again.
    pub(crate) fn clear(&self) {
        rustix::io::read(&*self.0, &mut [0; 8]).ok();
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
