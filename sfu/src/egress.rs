//! The way out of a worker: runs leave at once, or wait while the kernel has no room for them.
//!
//! What waits is sealed and numbered already, so that nothing more can be decided about it but order and loss, and
//! these follow the pacer's rules: the most urgent leaves first, and when more waits than [`MAX_WAITING`], the
//! oldest of the least urgent is dropped and counted. So no sound is lost while a picture waits. The worker goes
//! on meanwhile: it reads, and its timers run.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sfu_core::worker::{Priority, Transmit};

use crate::udp::{Full, Progress, Run};

/// Most bytes that wait: a third of a second of 200 Mbit/s. What would wait longer is worth less than what follows.
const MAX_WAITING: usize = 8 << 20;

/// How soon to try again what the kernel had no memory for, which no readiness tells: longer than a device takes for
/// a few packets, shorter than a frame of sound.
const RETRY: Duration = Duration::from_millis(5);

/// See the module's description.
#[derive(Default)]
pub(crate) struct Egress {
    /// In the order of [`Priority::ALL`].
    waiting: [VecDeque<Waiting>; Priority::ALL.len()],
    bytes: usize,
    /// Why nothing leaves; `None` while nothing waits.
    halt: Option<Halt>,
    stats: EgressStats,
}

sfu_core::counters! {
    /// What waited, and what it came to.
    EgressStats {
        /// Runs that had to wait.
        runs_waited,
        /// Datagrams of sound and feedback dropped out of the queue.
        dropped_sound,
        /// Datagrams of pictures dropped out of the queue.
        dropped_pictures,
    }
}

/// What has to happen before it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The socket becomes writable.
    UntilWritable,
    /// So much time passes.
    Until(Instant),
}

/// A run, or what is left of one.
struct Waiting {
    run: Run,
    bytes: Box<[u8]>,
}

/// Where runs leave to: the sockets.
pub(crate) trait Outlet {
    /// Sends what is left of `run`, whose datagrams lie in `bytes`.
    fn send(&mut self, now: Instant, run: &mut Run, bytes: &[u8]) -> Progress;
}

impl Egress {
    /// Sends the run in `bytes`, behind what waits already.
    #[inline]
    pub(crate) fn send(&mut self, now: Instant, outlet: &mut impl Outlet, transmit: Transmit, bytes: &[u8]) {
        let mut run = Run::new(transmit);
        if self.halt.is_none() {
            match outlet.send(now, &mut run, bytes) {
                Progress::Done => return,
                Progress::Full(why) => self.halt = Some(Halt::new(now, why)),
            }
        }
        self.keep(transmit.priority, run, bytes);
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn resume(&mut self, now: Instant, outlet: &mut impl Outlet) {
        self.halt = None;
        for class in &mut self.waiting {
            while let Some(Waiting { run, bytes }) = class.front_mut() {
                let left = run.left();
                let progress = outlet.send(now, run, bytes);
                self.bytes -= left - run.left();
                if let Progress::Full(why) = progress {
                    self.halt = Some(Halt::new(now, why));
                    return;
                }
                class.pop_front();
            }
        }
    }

    /// Why nothing leaves; `None` while nothing waits.
    pub(crate) fn halt(&self) -> Option<Halt> {
        self.halt
    }

    /// The counters so far.
    pub(crate) fn stats(&self) -> EgressStats {
        self.stats
    }

    #[cold]
    fn keep(&mut self, priority: Priority, run: Run, bytes: &[u8]) {
        let (run, bytes) = run.rest(bytes);
        self.stats.runs_waited += 1;
        self.bytes += run.left();
        self.waiting[priority as usize].push_back(Waiting { run, bytes: bytes.into() });
        while self.bytes > MAX_WAITING {
            self.drop_one();
        }
    }

    /// Drops the oldest of the least urgent.
    fn drop_one(&mut self) {
        let classes = self.waiting.iter_mut().zip(Priority::ALL).rev();
        for (class, priority) in classes {
            let Some(Waiting { run, .. }) = class.pop_front() else { continue };
            self.bytes -= run.left();
            let dropped = match priority {
                Priority::Audio => &mut self.stats.dropped_sound,
                _ => &mut self.stats.dropped_pictures,
            };
            *dropped += run.datagrams_left();
            return;
        }
    }
}

impl Halt {
    fn new(now: Instant, why: Full) -> Self {
        match why {
            Full::SendBuffer => Self::UntilWritable,
            Full::Memory => Self::Until(now + RETRY),
        }
    }

    /// Whether it is over.
    pub(crate) fn is_over(self, now: Instant, writable: bool) -> bool {
        match self {
            Self::UntilWritable => writable,
            Self::Until(at) => at <= now,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use sfu_core::worker::Tuple;

    use super::*;

    const DATAGRAM: usize = 1000;

    /// Takes so many datagrams; then it is full.
    struct Scripted {
        room: usize,
        why: Full,
        /// The first byte of each datagram that left.
        left: Vec<u8>,
    }

    impl Scripted {
        fn with_room(room: usize) -> Self {
            Self { room, why: Full::SendBuffer, left: Vec::new() }
        }
    }

    impl Outlet for Scripted {
        fn send(&mut self, _: Instant, run: &mut Run, bytes: &[u8]) -> Progress {
            while run.left() > 0 {
                if self.room == 0 {
                    return Progress::Full(self.why);
                }
                self.room -= 1;
                self.left.push(bytes[run.sent()]);
                run.advance(DATAGRAM);
            }
            Progress::Done
        }
    }

    /// `count` datagrams that begin with `name`, `name` + 1 ..
    fn run(priority: Priority, name: u8, count: u8) -> (Transmit, Vec<u8>) {
        let addr: SocketAddr = ([192, 0, 2, 1], 9).into();
        let bytes: Vec<u8> = (0..count).flat_map(|i| vec![name + i; DATAGRAM]).collect();
        let tuple = Tuple { local: addr, remote: addr };
        (Transmit { tuple, len: bytes.len(), segment: Some(DATAGRAM), priority }, bytes)
    }

    fn send(egress: &mut Egress, outlet: &mut Scripted, (transmit, bytes): (Transmit, Vec<u8>)) {
        egress.send(Instant::now(), outlet, transmit, &bytes);
    }

    #[test]
    fn what_waited_leaves_once_and_sound_first() {
        let (mut egress, mut outlet) = (Egress::default(), Scripted::with_room(2));
        for (priority, name) in
            [(Priority::Video, 10), (Priority::Video, 20), (Priority::Audio, 30), (Priority::Resent, 40)]
        {
            send(&mut egress, &mut outlet, run(priority, name, 4));
        }
        assert_eq!((&outlet.left[..], egress.halt()), (&[10, 11][..], Some(Halt::UntilWritable)));
        // Room comes back a few datagrams at a time.
        while egress.halt().is_some() {
            outlet.room = 3;
            egress.resume(Instant::now(), &mut outlet);
        }
        let order = [10, 11, 30, 31, 32, 33, 40, 41, 42, 43, 12, 13, 20, 21, 22, 23];
        assert_eq!((outlet.left, egress.bytes), (order.to_vec(), 0));
        assert_eq!((egress.stats().runs_waited, egress.stats().dropped_pictures), (4, 0));
    }

    #[test]
    fn a_full_queue_drops_the_oldest_pictures_and_no_sound() {
        let (mut egress, mut outlet) = (Egress::default(), Scripted::with_room(0));
        let fits = MAX_WAITING / DATAGRAM;
        send(&mut egress, &mut outlet, run(Priority::Video, 1, 1));
        for _ in 0..fits {
            send(&mut egress, &mut outlet, run(Priority::Audio, 2, 1));
            assert!(egress.bytes <= MAX_WAITING);
        }
        let stats = egress.stats();
        assert_eq!((stats.dropped_pictures, stats.dropped_sound), (1, 0));
        send(&mut egress, &mut outlet, run(Priority::Video, 3, 4));
        assert_eq!((egress.stats().dropped_pictures, egress.stats().dropped_sound), (5, 0));
        // Where nothing else waits, new sound is worth more than old.
        for _ in 0..10 {
            send(&mut egress, &mut outlet, run(Priority::Audio, 4, 1));
        }
        assert_eq!(egress.stats().dropped_sound, 10);
        assert!(egress.bytes <= MAX_WAITING);
    }

    #[test]
    fn what_the_kernel_has_no_memory_for_is_tried_again_later() {
        let (mut egress, mut outlet) = (Egress::default(), Scripted::with_room(0));
        outlet.why = Full::Memory;
        send(&mut egress, &mut outlet, run(Priority::Video, 1, 2));
        let Some(Halt::Until(at)) = egress.halt() else { panic!("{:?}", egress.halt()) };
        let halt = Halt::Until(at);
        assert!(!halt.is_over(at - RETRY, true), "a writable socket says nothing about it");
        assert!(halt.is_over(at, false));
        outlet.room = 2;
        egress.resume(at, &mut outlet);
        assert_eq!((outlet.left, egress.halt()), (vec![1, 2], None));
    }
}
