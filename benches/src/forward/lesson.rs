//! One publisher and its subscribers in a real worker behind a real media socket, without the clients' own work.
//!
//! ```text
//!  publisher -> [socket] -> Worker::handle_datagram -> rooms -> Worker::poll_transmit -> [socket] -> ifb or loopback
//!   sealed ahead            open, parse, track, fan-out         pace, copy, seal         or nowhere
//! ```
//!
//! Time is virtual: packets arrive as a camera sends them and timers run in between, so that each packet bears its share
//! of reports and feedback, however fast the machine is. A turn is that of a worker's thread: what is due, a batch of
//! datagrams, all that leaves.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use quinn_udp::UdpSocketState;
use sfu::bench::{Edge, Outbox};
use sfu_core::cc::pacer::PacerConfig;
use sfu_core::command::Command;
use sfu_core::room::RoomConfig;
use sfu_core::rtp::params::Ssrc;
use sfu_core::rtp::rtcp::{ReportBlock, Writer};
use sfu_core::sim::clock;
use sfu_core::transport::bench::{Client, Protection};
use sfu_core::transport::{Identity, TransportConfig};
use sfu_core::units::{Bitrate, RoomId, Source, TrackId, TransportId};
use sfu_core::worker::{Tuple, Worker, WorkerConfig, WorkerIndex};

use super::params::{credentials, receive, remote, send};
use super::source::{Batch, FRAMES_TO_BEGIN, Publisher, Shape};
use crate::limit::link::{Link, send_run};

/// What a lesson is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// How many receive the picture.
    pub subscribers: usize,
    /// What the publisher sends.
    pub shape: Shape,
    /// What the pacers let through to each.
    pub rate: Bitrate,
    /// Which crypto is done.
    pub protection: Protection,
}

/// What a link carries that has room: the pacers' default.
pub const ROOMY: Bitrate = Bitrate::kbps(50_000);
/// A thin line.
pub const THIN: Bitrate = Bitrate::kbps(300);

/// A lesson that flows.
pub struct Lesson {
    setup: Setup,
    publisher: Publisher,
    feed: Feed,
    ingress: Edge,
    core: Core,
    /// Frames for each fill of the socket.
    frames: usize,
}

/// The publisher's socket and what it sends next.
struct Feed {
    socket: UdpSocket,
    state: UdpSocketState,
    to: SocketAddr,
    memory: Vec<u8>,
    batches: Vec<Batch>,
}

/// The worker and what it needs for a turn.
struct Core {
    worker: Worker,
    epoch: Instant,
    now: Instant,
    arriving: VecDeque<Arriving>,
    /// The subscribers' addresses.
    tuples: Vec<Tuple>,
    /// Where packets leave; nowhere where that is not measured.
    egress: Option<Edge>,
    outbox: Outbox,
    dropped: u64,
}

/// Packets on their way to the worker.
struct Arriving {
    at: Instant,
    packets: usize,
}

const ROOM: RoomId = RoomId(1);
const PICTURE: TrackId = TrackId(1);
const PUBLISHER: TransportId = TransportId(1);
/// The first of the subscribers' transports.
const SUBSCRIBERS: u64 = 2;
/// The first of the subscribers' SSRCs; each has two.
const SSRCS: u32 = 0x10_0000;

impl Lesson {
    /// Connects everybody and lets the picture flow until it does so evenly. Packets leave over `link`, if any.
    ///
    /// # Errors
    /// When a socket fails, or not every packet is forwarded.
    pub fn new(setup: Setup, link: Option<&Rc<Link>>) -> anyhow::Result<Self> {
        let ingress = Edge::open((Ipv4Addr::LOCALHOST, 0).into(), &[], BUFFER)?;
        // As the product listens: on all addresses and on each, answering from the one that was written to.
        let open = |own| move || Edge::open((Ipv4Addr::UNSPECIFIED, 0).into(), &[own], BUFFER);
        let egress = link.map(|link| link.beside(open(link.local_addr()?.ip()))).transpose()?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = UdpSocketState::new((&socket).into())?;
        let tuple = Tuple { local: ingress.local_addr(), remote: socket.local_addr()? };
        let feed = Feed { socket, state, to: ingress.local_addr(), memory: Vec::new(), batches: Vec::new() };

        let mut core = Core::new(setup, egress)?;
        core.publish(tuple, setup.protection)?;
        core.subscribe(setup, link.map(AsRef::as_ref))?;
        let publisher = Publisher::new(Client::new(PUBLISHER.0, setup.protection), setup.shape);
        let forwarded = setup.shape.forwarded() * setup.subscribers.max(1);
        let frames = (OUT_PER_FILL / forwarded).clamp(1, MAX_FRAMES);
        let mut lesson = Self { setup, publisher, feed, ingress, core, frames };
        lesson.begin()?;
        Ok(lesson)
    }

    /// Packets that leave for each fill.
    pub fn expected(&self) -> u64 {
        (self.frames * self.setup.shape.forwarded() * self.setup.subscribers) as u64
    }

    /// How many receive the picture.
    pub fn subscribers(&self) -> usize {
        self.setup.subscribers
    }

    /// Frames for each fill, and what each is made of.
    pub fn filled(&self) -> (usize, Shape) {
        (self.frames, self.setup.shape)
    }

    /// Packets of media that left so far.
    pub fn left(&self) -> u64 {
        self.core.worker.stats().rooms.packets_out
    }

    /// Lets the next frames arrive in the socket, those of the highest encoding in batches of `run`.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn fill(&mut self, run: usize) -> anyhow::Result<()> {
        let Self { publisher, feed, core, frames, .. } = self;
        feed.memory.clear();
        feed.batches.clear();
        (0..*frames).for_each(|_| publisher.frame(run, &mut feed.memory, &mut feed.batches));
        for batch in &feed.batches {
            let bytes = &feed.memory[batch.bytes.clone()];
            send_run(&feed.state, &feed.socket, feed.to, bytes, batch.segment)?;
            core.arriving.push_back(Arriving { at: core.epoch + batch.at, packets: batch.packets });
        }
        Ok(())
    }

    /// Forwards all that waits in the socket: what is measured.
    ///
    /// # Errors
    /// When it is less than was sent.
    #[inline(never)]
    pub fn forward(&mut self) -> anyhow::Result<()> {
        let Self { ingress, core, .. } = self;
        while !core.arriving.is_empty() {
            let before = core.arriving.len();
            ingress.receive(|tuple, datagram| core.take_in(tuple, datagram));
            ensure!(core.arriving.len() < before, "the socket lost packets: is its receive buffer tiny?");
        }
        Ok(())
    }

    /// Reads all that waits in the socket and leaves it at that.
    ///
    /// # Errors
    /// When it is less than was sent.
    pub fn discard(&mut self) -> anyhow::Result<()> {
        let mut missing: usize = self.core.arriving.drain(..).map(|batch| batch.packets).sum();
        while missing > 0 {
            let before = missing;
            self.ingress.receive(|_, _| missing -= 1);
            ensure!(missing < before, "the socket lost packets: is its receive buffer tiny?");
        }
        Ok(())
    }

    /// The first seconds: key frames, reports of the subscribers, and everything grown to its size.
    fn begin(&mut self) -> anyhow::Result<()> {
        let (mut frames, mut reported) = (0, false);
        while frames < WARM_UP {
            // The longest runs, for which queues grow.
            self.fill(self.setup.shape.forwarded())?;
            self.forward()?;
            frames += self.frames;
            if frames >= FRAMES_TO_BEGIN as usize && !reported {
                self.report();
                reported = true;
            }
        }
        let before = self.left();
        self.fill(1)?;
        self.forward()?;
        let left = self.left() - before;
        ensure!(left.abs_diff(self.expected()) <= self.expected() / 10, "{left} of {} left", self.expected());
        ensure!(self.core.dropped == 0, "{} packets were refused", self.core.dropped);
        Ok(())
    }

    /// Each subscriber reports once: it knows whose SSRC it is.
    fn report(&mut self) {
        for n in 0..self.setup.subscribers {
            let id = SUBSCRIBERS + n as u64;
            let mut client = Client::new(id, self.setup.protection);
            let mut buf = [0; 128];
            let mut writer = Writer::new(&mut buf);
            let block = ReportBlock {
                ssrc: Ssrc(SSRCS + 2 * n as u32),
                fraction_lost: 0,
                cumulative_lost: 0,
                highest_seq: 0,
                jitter: 0,
                last_sr: 0,
                delay_since_sr: 0,
            };
            writer.receiver_report(Ssrc(1), &[block]).expect("there is room");
            let len = writer.len();
            let len = client.protect_rtcp(&mut buf, len);
            let tuple = self.core.tuples[n];
            self.core.worker.handle_datagram(self.core.now, tuple, &mut buf[..len]);
        }
        self.core.send();
    }
}

impl Core {
    fn new(setup: Setup, egress: Option<Edge>) -> anyhow::Result<Self> {
        let identity = Arc::new(Identity::generate()?);
        let pacer = PacerConfig { rate: setup.rate, ..PacerConfig::default() };
        let worker = Worker::new(WorkerConfig {
            // Nobody's consent ends: there are no checks.
            transport: Arc::new(TransportConfig { identity, consent_timeout: FOREVER }),
            room: RoomConfig { max_participants: setup.subscribers + 1, pacer, ..RoomConfig::default() },
            max_transports: setup.subscribers + 1,
            index: WorkerIndex::default(),
            workers: 1,
        });
        let epoch = clock::origin();
        Ok(Self {
            worker,
            epoch,
            now: epoch,
            arriving: VecDeque::new(),
            tuples: Vec::new(),
            egress,
            outbox: Outbox::default(),
            dropped: 0,
        })
    }

    fn publish(&mut self, tuple: Tuple, protection: Protection) -> anyhow::Result<()> {
        self.worker.handle_command(self.now, Command::OpenRoom { room: ROOM });
        self.connect(PUBLISHER, tuple, protection)?;
        let params = receive(Publisher::encodings());
        let source = Source::Camera;
        let command = Command::Publish { transport: PUBLISHER, track: PICTURE, source, params };
        self.worker.handle_command(self.now, command);
        Ok(())
    }

    fn subscribe(&mut self, setup: Setup, link: Option<&Link>) -> anyhow::Result<()> {
        let local = link.map_or(Ok(NOWHERE), Link::local_addr)?;
        for n in 0..setup.subscribers as u32 {
            // Without a link they only have to differ.
            let nowhere = || SocketAddr::new(Ipv4Addr::from(u32::from(FIRST_CLIENT) + n).into(), 9);
            let remote = link.map_or_else(nowhere, |link| link.destinations()[n as usize]);
            let (id, tuple) = (TransportId(SUBSCRIBERS + u64::from(n)), Tuple { local, remote });
            self.connect(id, tuple, setup.protection)?;
            let params = send(SSRCS + 2 * n);
            let command = Command::Subscribe { transport: id, track: PICTURE, params };
            self.worker.handle_command(self.now, command);
            self.tuples.push(tuple);
        }
        self.send();
        Ok(())
    }

    fn connect(&mut self, id: TransportId, tuple: Tuple, protection: Protection) -> anyhow::Result<()> {
        let (local, remote) = (credentials(id.0), remote(id.0));
        let command = Command::OpenTransport { room: ROOM, transport: id, local, remote };
        self.worker.handle_command(self.now, command);
        self.worker.connect(self.now, id, tuple, protection).context("the worker has no room")
    }

    /// A datagram came; the last of its batch ends the turn.
    #[inline]
    fn take_in(&mut self, tuple: Tuple, datagram: &mut [u8]) {
        let Some(batch) = self.arriving.front_mut() else { return };
        batch.packets -= 1;
        let (at, is_last) = (batch.at, batch.packets == 0);
        self.pass_until(at);
        self.worker.handle_datagram(at, tuple, datagram);
        if is_last {
            self.arriving.pop_front();
            self.send();
        }
    }

    /// Lets what is due before `at` happen when it is.
    #[inline]
    fn pass_until(&mut self, at: Instant) {
        while let Some(due) = self.worker.poll_timeout().filter(|&due| due <= at && self.now < at) {
            self.now = due.max(self.now);
            self.worker.handle_timeout(self.now);
            self.send();
        }
        self.now = self.now.max(at);
    }

    /// Sends all that may leave now.
    #[inline]
    fn send(&mut self) {
        let Self { worker, now, egress, outbox, dropped, .. } = self;
        while outbox.fill(*now, worker) {
            for (transmit, bytes) in outbox.runs() {
                match egress {
                    Some(edge) => *dropped += u64::from(!edge.send(*now, transmit, bytes)),
                    // What was written is not dead: no compiler may leave it out.
                    None => _ = std::hint::black_box(bytes),
                }
            }
        }
        while worker.poll_event().is_some() {}
    }
}

const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);

/// Asked for where the privilege allows it, bytes.
const BUFFER: usize = 4 << 20;
/// About as many packets leave between two looks at the clock.
const OUT_PER_FILL: usize = 2048;
/// As many frames of three encodings as the smallest receive buffer holds.
const MAX_FRAMES: usize = 8;
/// Two seconds of thirty frames: each record of departures has been filled once.
const WARM_UP: usize = 70;

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: Setup =
        Setup { subscribers: 3, shape: Shape::FULL, rate: ROOMY, protection: Protection::Both };

    #[test]
    fn each_packet_of_the_highest_encoding_reaches_every_subscriber() {
        let link = Rc::new(Link::loopback(3).unwrap());
        for protection in [Protection::Both, Protection::OpenOnly, Protection::None] {
            let mut lesson = Lesson::new(Setup { protection, ..CLASS }, Some(&link)).unwrap();
            for run in [1, 8] {
                let before = lesson.core.worker.stats();
                lesson.fill(run).unwrap();
                lesson.forward().unwrap();
                let after = lesson.core.worker.stats();
                assert_eq!(after.rooms.packets_out - before.rooms.packets_out, lesson.expected());
                let runs = after.worker.runs_out - before.worker.runs_out;
                let media = lesson.expected() / run as u64;
                assert!((media..media + media / 8 + 4).contains(&runs), "{runs} runs of {run}");
            }
        }
    }

    #[test]
    fn what_leaves_is_sealed_unless_that_is_left_out() {
        for (protection, sealed) in [(Protection::Both, true), (Protection::OpenOnly, false)] {
            let mut lesson = Lesson::new(Setup { protection, subscribers: 1, ..CLASS }, None).unwrap();
            lesson.fill(8).unwrap();
            let Lesson { ingress, core, .. } = &mut lesson;
            ingress.receive(|tuple, datagram| _ = core.worker.handle_datagram(core.now, tuple, datagram));
            assert!(core.outbox.fill(core.now, &mut core.worker));
            let (transmit, bytes) = core.outbox.runs().last().unwrap();
            let mut packet = bytes[..transmit.segment.unwrap_or(transmit.len)].to_vec();
            let mut client = Client::new(SUBSCRIBERS, Protection::Both);
            assert_eq!(client.unprotect_rtp(&mut packet).is_some(), sealed, "{protection:?}");
        }
    }

    #[test]
    fn on_a_thin_line_packets_leave_singly_and_none_is_lost() {
        let setup = Setup { shape: Shape::THIN, rate: THIN, ..CLASS };
        let mut lesson = Lesson::new(setup, None).unwrap();
        let before = lesson.core.worker.stats();
        (0..4).for_each(|_| {
            lesson.fill(2).unwrap();
            lesson.forward().unwrap();
        });
        let after = lesson.core.worker.stats();
        let left = after.rooms.packets_out - before.rooms.packets_out;
        assert!(left.abs_diff(4 * lesson.expected()) <= 6, "{left}");
        assert!(after.worker.runs_out - before.worker.runs_out >= left);
        assert_eq!(after.rooms.dropped_queue_full, 0);
    }

    #[test]
    fn nobody_subscribed_is_a_lesson_too() {
        let mut lesson = Lesson::new(Setup { subscribers: 0, ..CLASS }, None).unwrap();
        lesson.fill(4).unwrap();
        lesson.discard().unwrap();
        lesson.fill(4).unwrap();
        lesson.forward().unwrap();
        assert_eq!(lesson.left(), 0);
    }
}
