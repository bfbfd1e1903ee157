//! The thread of a worker: the only place that reads the clock for it and moves its packets.
//!
//! A turn: sleep until a datagram, an order, another worker or the worker's deadline; read one socket once; then, a
//! bounded number of datagrams at a time, read the clock, fire what is due, feed those datagrams and those that other
//! workers passed on, pass on what is others', and send what the worker has ready. At the end comes what may take
//! long, handshakes and orders, for as long as a [`SLICE`]. So a flood of datagrams cannot starve the timers, nor
//! orders and handshakes the packets, nor packets them. While a socket has no room for more, what is to leave waits
//! in [`Egress`], and everything else goes on.

use std::io;
use std::ops::Add;
use std::process;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sfu_core::command::{Command, Event};
use sfu_core::stats;
use sfu_core::worker::{MAX_RUN, Worker, WorkerConfig};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::egress::{Egress, EgressStats, Halt};
use crate::handover::{Handover, HandoverStats};
use crate::outbox::Outbox;
use crate::sockets::{MAX_WATCHED, Sockets};
use crate::udp::{ReceiveBuffers, UdpStats};
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
    /// What had to wait for room in it.
    pub egress: EgressStats,
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
            egress: self.egress + other.egress,
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

/// Starts a worker's thread, which makes its worker: that never changes threads. Its events go to `events`; while
/// that channel is full they wait in the worker.
pub(crate) fn spawn(
    config: WorkerConfig,
    sockets: Sockets,
    handover: Handover,
    events: mpsc::Sender<Event>,
) -> io::Result<(WorkerLink, JoinHandle<()>)> {
    let (sender, orders) = mpsc::channel(MAX_ORDERS);
    let wake = handover.wake().clone();
    let name = format!("worker-{}", handover.index().0);
    let thread = thread::Builder::new().name(name).spawn(move || {
        let _guard = AbortOnPanic;
        let state = WorkerThread {
            worker: Worker::new(config),
            sockets,
            orders,
            events,
            handover,
            received: ReceiveBuffers::new(),
            outbox: Outbox::default(),
            egress: Egress::default(),
            backlog: Backlog::default(),
            ticked: Instant::now(),
            stats: Snapshot::default(),
        };
        state.run();
    })?;
    Ok((WorkerLink { orders: sender, wake }, thread))
}

struct WorkerThread {
    worker: Worker,
    sockets: Sockets,
    orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<Event>,
    handover: Handover,
    received: ReceiveBuffers,
    outbox: Outbox,
    egress: Egress,
    backlog: Backlog,
    /// When timers last fired.
    ticked: Instant,
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
    /// Which socket has some.
    datagrams: Option<usize>,
    orders: bool,
    writable: bool,
}

/// What [`WorkerThread::take_order`] took.
enum Taken {
    Order,
    Nothing,
    Stop,
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
            self.stats.turns += 1;
            if let Some(socket) = ready.datagrams {
                self.sockets.receive(socket, &mut self.received);
            }
            self.learn();
            self.resume(ready.writable);
            while self.serve_media() {}
            let next = self.serve_the_rest(ready.orders);
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
        let halted = self.egress.halt() == Some(Halt::UntilWritable);
        let wake = self.handover.wake();
        let mut fds = ArrayVec::<_, { 1 + MAX_WATCHED }>::from_iter([PollFd::new(wake, PollFlags::IN)]);
        self.sockets.watch(halted, &mut fds);
        // An error (a signal) begins a turn that finds little to do.
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Ready { datagrams: None, orders: self.backlog.orders, writable: false };
        }
        let (woken, sockets) = (!fds[0].revents().is_empty(), &fds[1..]);
        if woken {
            wake.clear();
        }
        Ready {
            datagrams: self.sockets.readable(sockets),
            orders: self.backlog.orders || woken,
            writable: self.sockets.is_writable(sockets),
        }
    }

    /// `None`: until a datagram or an order comes.
    fn time_to_sleep(&self, now: Instant) -> Option<Duration> {
        let Backlog { orders, handed_over, events } = self.backlog;
        if orders || handed_over || self.worker.has_deferred() {
            return Some(Duration::ZERO);
        }
        let halted_until = match self.egress.halt() {
            Some(Halt::Until(at)) => Some(at),
            Some(Halt::UntilWritable) | None => None,
        };
        let timers = self.worker.poll_timeout().map(|due| due.max(self.ticked + TICK));
        let due = [timers, halted_until, events.then(|| now + RETRY)];
        due.into_iter().flatten().min().map(|due| due.saturating_duration_since(now))
    }

    /// Lets time pass, feeds some of the datagrams that were read, and sends what is ready. Returns whether there
    /// are more of them.
    fn serve_media(&mut self) -> bool {
        let now = Instant::now();
        if self.worker.poll_timeout().is_some_and(|due| due <= now) {
            self.worker.handle_timeout(now);
            self.ticked = now;
        }
        let more = self.take_in(now);
        self.take_over(now);
        self.send_ready(now);
        more
    }

    /// Does what may take long, for one slice of time: handshakes and orders in turns, one of each at least.
    fn serve_the_rest(&mut self, mut orders: bool) -> Next {
        if !orders && !self.worker.has_deferred() {
            return Next::Turn;
        }
        let end = Instant::now() + SLICE;
        loop {
            let now = Instant::now();
            let handshakes = self.worker.handle_deferred(now);
            if orders {
                match self.take_order(now) {
                    Taken::Order => {}
                    Taken::Nothing => orders = false,
                    Taken::Stop => {
                        self.send_ready(now);
                        return Next::End;
                    }
                }
            }
            if !(handshakes || orders) || now >= end {
                break;
            }
        }
        self.backlog.orders = orders;
        self.send_ready(Instant::now());
        Next::Turn
    }

    /// Takes in what other workers told. Between reading the socket and looking at what was read: an owner tells
    /// before it answers, so what a client sends upon the answer finds its address known.
    fn learn(&mut self) {
        while let Some(notice) = self.handover.next_notice() {
            self.worker.handle_notice(notice);
        }
    }

    /// Feeds some of what the socket gave, and passes on what is others'. Returns whether there is more.
    fn take_in(&mut self, now: Instant) -> bool {
        let (worker, handover) = (&mut self.worker, &mut self.handover);
        self.sockets.drain(&mut self.received, AT_ONCE, |tuple, datagram| {
            if let Some(foreign) = worker.handle_datagram(now, tuple, datagram) {
                handover.pass_on(foreign, tuple, datagram);
            }
        })
    }

    /// Feeds some of what other workers passed on.
    fn take_over(&mut self, now: Instant) {
        let worker = &mut self.worker;
        self.backlog.handed_over = self.handover.take_over(AT_ONCE, |via, tuple, datagram| {
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

    fn take_order(&mut self, now: Instant) -> Taken {
        match self.orders.try_recv() {
            Ok(Order::Command(command)) => self.worker.handle_command(now, command),
            Ok(Order::Snapshot(answer)) => {
                // Whoever asked may have gone.
                answer.send(self.snapshot()).ok();
            }
            Ok(Order::Stop) => return Taken::Stop,
            Err(_) => return Taken::Nothing,
        }
        Taken::Order
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            core: self.worker.stats(),
            udp: self.sockets.stats(),
            egress: self.egress.stats(),
            handover: self.handover.stats(),
            ..self.stats
        }
    }

    /// Sends what leaves, some runs at a time, until the worker has no more.
    fn send_ready(&mut self, now: Instant) {
        self.tell_others();
        while self.outbox.fill(now, &mut self.worker) {
            for (transmit, bytes) in self.outbox.runs() {
                self.egress.send(now, &mut self.sockets, transmit, bytes);
            }
        }
        // A transport is forgotten once its last datagram has left.
        self.tell_others();
    }

    /// Sends what had to wait, if there may be room again.
    fn resume(&mut self, writable: bool) {
        let Some(halt) = self.egress.halt() else { return };
        let now = Instant::now();
        if halt.is_over(now, writable) {
            self.egress.resume(now, &mut self.sockets);
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

/// The thread wakes up for timers at most this often: a thousand rooms have tens of thousands of deadlines a second,
/// and what is due in the same millisecond is done at once.
const TICK: Duration = Duration::from_millis(1);

/// How soon to try again to get rid of events: longer than a channel takes to move on, shorter than a frame of sound.
const RETRY: Duration = Duration::from_millis(5);

/// Datagrams fed before what follows from them leaves: as many as make the longest run to each receiver.
const AT_ONCE: usize = MAX_RUN;

/// How long packets may wait for what is not media, besides the last piece of it: a datagram of a handshake or a
/// command take up to a quarter of a millisecond. The promise is 1 ms.
const SLICE: Duration = Duration::from_micros(250);

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
