//! The thread of a worker: the only place that reads the clock for it and moves its packets.
//!
//! A turn: sleep until a datagram, an order, another worker or the worker's deadline; read the clock once; fire
//! what is due; feed one batch of datagrams, those that other workers passed on, and a few orders; pass on what is
//! others'; send what the worker has ready. Each part of a turn is bounded, so that a flood of datagrams cannot
//! starve the timers, nor orders the packets. While the socket's
//! send buffer is full nothing is taken from the worker: packets wait in its pacers, where sound overtakes
//! pictures.

use std::io;
use std::ops::Add;
use std::process;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sfu_core::command::{Command, Event};
use sfu_core::stats;
use sfu_core::worker::{TRANSMIT_BUFFER, Worker};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::handover::{Handover, HandoverStats};
use crate::udp::{Progress, ReceiveBuffers, Run, UdpSocket, UdpStats};
use crate::wake::Wake;

/// What the other threads ask of the worker's thread.
#[expect(clippy::large_enum_variant, reason = "nearly all orders are commands")]
pub(crate) enum Order {
    /// A command for the worker.
    Command(Command),
    /// A copy of the counters.
    Snapshot(oneshot::Sender<Snapshot>),
    /// Send what is ready and end.
    Stop,
}

/// The counters of a worker, its socket and its thread at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The worker's.
    pub core: stats::Snapshot,
    /// Its socket's.
    pub udp: UdpStats,
    /// Its dealings with other workers.
    pub handover: HandoverStats,
    /// Turns of its loop.
    pub turns: u64,
    /// Turns that waited because nobody took the worker's events.
    pub events_blocked: u64,
}

impl Add for Snapshot {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            core: self.core + other.core,
            udp: self.udp + other.udp,
            handover: self.handover + other.handover,
            turns: self.turns + other.turns,
            events_blocked: self.events_blocked + other.events_blocked,
        }
    }
}

/// The way to a worker's thread. Clones lead to the same thread.
#[derive(Clone)]
pub(crate) struct WorkerLink {
    orders: mpsc::Sender<Order>,
    wake: Wake,
}

/// The worker's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker has stopped")]
pub(crate) struct WorkerStopped;

impl WorkerLink {
    /// Gives an order; waits while the worker has [`MAX_ORDERS`] to do.
    pub(crate) async fn send(&self, order: Order) -> Result<(), WorkerStopped> {
        self.orders.send(order).await.map_err(|_| WorkerStopped)?;
        self.wake.signal();
        Ok(())
    }

    /// The counters as they are now.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, WorkerStopped> {
        let (answer, snapshot) = oneshot::channel();
        self.send(Order::Snapshot(answer)).await?;
        snapshot.await.map_err(|_| WorkerStopped)
    }
}

/// Most orders that wait for the worker.
const MAX_ORDERS: usize = 1024;

/// Starts a worker's thread. Its events go to `events`; while that channel is full they wait in the worker.
pub(crate) fn spawn(
    worker: Worker,
    socket: UdpSocket,
    handover: Handover,
    events: mpsc::Sender<Event>,
) -> io::Result<(WorkerLink, JoinHandle<()>)> {
    let (sender, orders) = mpsc::channel(MAX_ORDERS);
    let wake = handover.wake().clone();
    let name = format!("worker-{}", handover.index().0);
    let state = WorkerThread {
        worker,
        socket,
        orders,
        events,
        handover,
        received: ReceiveBuffers::new(),
        out: vec![0; TRANSMIT_BUFFER],
        blocked: None,
        backlog: Backlog::default(),
        stats: Snapshot::default(),
    };
    let thread = thread::Builder::new().name(name).spawn(move || {
        let _guard = AbortOnPanic;
        state.run();
    })?;
    Ok((WorkerLink { orders: sender, wake }, thread))
}

struct WorkerThread {
    worker: Worker,
    socket: UdpSocket,
    orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<Event>,
    handover: Handover,
    received: ReceiveBuffers,
    out: Vec<u8>,
    /// The run in `out` that waits for room in the send buffer.
    blocked: Option<Run>,
    backlog: Backlog,
    stats: Snapshot,
}

/// What a turn left for the next.
#[derive(Clone, Copy, Default)]
struct Backlog {
    orders: bool,
    events: bool,
    handed_over: bool,
}

/// Why a turn begins.
struct Ready {
    datagrams: bool,
    orders: bool,
}

/// Whether the thread goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Turn,
    End,
}

impl WorkerThread {
    fn run(mut self) {
        loop {
            let ready = self.sleep();
            let now = Instant::now();
            self.stats.turns += 1;
            if self.worker.poll_timeout().is_some_and(|due| due <= now) {
                self.worker.handle_timeout(now);
            }
            if ready.datagrams {
                self.socket.receive(&mut self.received);
            }
            self.learn();
            self.take_in(now);
            self.take_over(now);
            let next = if ready.orders { self.take_orders(now) } else { Next::Turn };
            self.tell_others();
            self.send_ready(now);
            // A transport is forgotten once its last datagram has left.
            self.tell_others();
            self.report();
            if next == Next::End {
                return;
            }
        }
    }

    /// Waits until there is something to do.
    fn sleep(&self) -> Ready {
        let timeout = self.time_to_sleep(Instant::now());
        let timeout =
            timeout.map(|time| Timespec::try_from(time).expect("deadlines are less than 2^63 s away"));
        let writable = if self.blocked.is_some() { PollFlags::OUT } else { PollFlags::empty() };
        let wake = self.handover.wake();
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN | writable), PollFd::new(wake, PollFlags::IN)];
        // An error (a signal) begins a turn that finds little to do.
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Ready { datagrams: false, orders: self.backlog.orders };
        }
        let woken = !fds[1].revents().is_empty();
        if woken {
            wake.clear();
        }
        Ready {
            datagrams: fds[0].revents().intersects(PollFlags::IN | PollFlags::ERR),
            orders: self.backlog.orders || woken,
        }
    }

    /// `None`: until a datagram or an order comes.
    fn time_to_sleep(&self, now: Instant) -> Option<Duration> {
        if self.backlog.orders || self.backlog.handed_over {
            return Some(Duration::ZERO);
        }
        let mut timeout = self.worker.poll_timeout().map(|due| due.saturating_duration_since(now));
        if self.blocked.is_some() {
            // Packets may be due, but cannot leave.
            timeout = timeout.map(|time| time.max(RETRY));
        }
        if self.backlog.events {
            timeout = Some(timeout.map_or(RETRY, |time| time.min(RETRY)));
        }
        timeout
    }

    /// Takes in what other workers told. Between reading the socket and looking at what was read: an owner tells
    /// before it answers, so what a client sends upon the answer finds its address known.
    fn learn(&mut self) {
        while let Some(notice) = self.handover.next_notice() {
            self.worker.handle_notice(notice);
        }
    }

    /// Feeds what the socket gave, and passes on what is others'.
    fn take_in(&mut self, now: Instant) {
        let (worker, handover) = (&mut self.worker, &mut self.handover);
        self.socket.drain(&mut self.received, |tuple, datagram| {
            if let Some(foreign) = worker.handle_datagram(now, tuple, datagram) {
                handover.pass_on(foreign, tuple, datagram);
            }
        });
    }

    /// Feeds what other workers passed on.
    fn take_over(&mut self, now: Instant) {
        let worker = &mut self.worker;
        self.backlog.handed_over = self.handover.take_over(HANDED_OVER_PER_TURN, |via, tuple, datagram| {
            worker.handle_handed_over(now, via, tuple, datagram);
        });
    }

    /// Lets other workers know whose the addresses are that arrive at them, and wakes those that got something.
    fn tell_others(&mut self) {
        while let Some((to, notice)) = self.worker.poll_notice() {
            self.handover.tell(to, notice);
        }
        self.handover.wake_others();
    }

    fn take_orders(&mut self, now: Instant) -> Next {
        for _ in 0..ORDERS_PER_TURN {
            match self.orders.try_recv() {
                Ok(Order::Command(command)) => self.worker.handle_command(now, command),
                Ok(Order::Snapshot(answer)) => {
                    // Whoever asked may have gone.
                    answer.send(self.snapshot()).ok();
                }
                Ok(Order::Stop) => return Next::End,
                Err(_) => {
                    self.backlog.orders = false;
                    return Next::Turn;
                }
            }
        }
        self.backlog.orders = true;
        Next::Turn
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            core: self.worker.stats(),
            udp: self.socket.stats(),
            handover: self.handover.stats(),
            ..self.stats
        }
    }

    /// Sends run after run until the worker has no more or the send buffer is full.
    fn send_ready(&mut self, now: Instant) {
        loop {
            let next =
                self.blocked.take().or_else(|| self.worker.poll_transmit(now, &mut self.out).map(Run::new));
            let Some(mut run) = next else { return };
            if self.socket.send(now, &mut run, &self.out) == Progress::Blocked {
                self.blocked = Some(run);
                return;
            }
        }
    }

    /// Hands out events while there is room for them.
    fn report(&mut self) {
        self.backlog.events = false;
        loop {
            match self.events.try_reserve() {
                Ok(permit) => match self.worker.poll_event() {
                    Some(event) => permit.send(event),
                    None => return,
                },
                Err(mpsc::error::TrySendError::Full(())) => {
                    self.backlog.events = true;
                    self.stats.events_blocked += 1;
                    return;
                }
                // Nobody listens any more: the process is about to end.
                Err(mpsc::error::TrySendError::Closed(())) => {
                    if self.worker.poll_event().is_none() {
                        return;
                    }
                }
            }
        }
    }
}

/// How soon a turn tries again what found no room: longer than it takes a send buffer or a channel to move on,
/// shorter than a frame of sound.
const RETRY: Duration = Duration::from_millis(5);

/// A command costs up to ~100 us (a new transport), a turn should stay below ~5 ms.
const ORDERS_PER_TURN: usize = 32;

/// As many datagrams as one read of the socket gives where there is no GRO to join them, several times over.
const HANDED_OVER_PER_TURN: usize = 256;

/// Ends the process where the thread that holds it panics.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            end_process();
        }
    }
}

/// Ends the process after a panic: an SFU without its worker or its control task would look alive and serve
/// nobody, while a supervisor restarts a process that is gone.
pub(crate) fn end_process() -> ! {
    error!("a part that everything depends on has failed (see above): ending the process");
    process::abort()
}
