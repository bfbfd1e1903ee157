//! Flows besides lessons, over the same links: sources that follow their target exactly, TCP, constant rates. They
//! are what RFC 8867 and RFC 8869 test congestion control with, and what a lesson shares a school's line with.
//!
//! | module | what it holds |
//! |---|---|
//! | [`spec`] | flows as scenarios write them |
//! | [`elastic`] | media under the server's own link control |
//! | [`tcp`], [`cubic`], [`transfers`] | TCP: reliability, the window, who transfers what when |
//! | [`mod@run`] | scenarios without a lesson |

pub mod cubic;
pub mod elastic;
pub mod run;
pub mod spec;
pub mod tcp;
pub mod transfers;

use std::time::{Duration, Instant};

use sfu_core::cc::link_estimator::LinkConfig;

use self::elastic::Elastic;
use self::spec::{Kind, Spec, Times};
use self::tcp::Ack;
use self::transfers::Transfers;
use super::path::{Fate, Path};

/// What a flow puts on a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    flow: usize,
    way: Way,
    bytes: u64,
    body: Body,
}

/// From the flow's source to its sink, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What is carried.
    There,
    /// What is said about it.
    Back,
}

/// What a packet says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Media, with its transport-wide number.
    Media(u16),
    /// RTCP about it.
    Report(Vec<u8>),
    /// A segment of a TCP connection.
    Segment {
        /// The connection.
        connection: u64,
        /// The segment.
        number: u64,
    },
    /// Its acknowledgement.
    Ack {
        /// The connection.
        connection: u64,
        /// What it says.
        ack: Ack,
    },
    /// Nothing.
    Filler,
}

/// What a flow wants to be sent.
pub struct Outgoing {
    /// Where to.
    pub way: Way,
    /// Bytes on the wire.
    pub bytes: u64,
    /// What it says.
    pub body: Body,
}

/// Both ends of a flow.
pub trait Flow {
    /// When [`Self::poll`] may have something.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Lets time pass; a packet that is due.
    fn poll(&mut self, now: Instant) -> Option<Outgoing>;
    /// A packet of it arrived.
    fn arrive(&mut self, now: Instant, body: Body);
}

/// Flows that share a link in both directions.
pub struct Flows {
    start: Instant,
    flows: Vec<Running>,
}

/// A flow and its account.
pub struct Running {
    /// Its place among the scenario's flows.
    pub spec: usize,
    up: bool,
    owd: Duration,
    flow: Box<dyn Flow>,
    /// What came of it.
    pub tally: Tally,
}

/// What came of a flow's packets from its source to its sink. All times are since the beginning.
#[derive(Debug, Default)]
pub struct Tally {
    /// Bytes on the wire that were sent and that arrived in each second.
    pub seconds: Vec<(u64, u64)>,
    /// When each packet that was carried was sent, and how long it waited in the queue.
    pub waits: Vec<(Duration, Duration)>,
    /// Packets sent, and those that did not get through.
    pub packets: u64,
    /// See `packets`.
    pub lost: u64,
}

/// What flows need to know of their scenario.
pub struct Setting {
    /// When it begins.
    pub start: Instant,
    /// How far it is each way, where a flow does not say.
    pub owd: Duration,
    /// Between reports of what arrived.
    pub feedback: Duration,
    /// What media does about its link; `None`: nothing.
    pub link: Option<LinkConfig>,
    /// What is random follows from it.
    pub seed: u64,
}

impl Flows {
    /// All but lessons.
    pub fn new(specs: &[Spec], setting: &Setting) -> Self {
        let mut flows = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            for _ in 0..spec.count {
                flows.extend(flow(spec, setting, flows.len() as u64).map(|flow| Running {
                    spec: index,
                    up: spec.up,
                    owd: spec.owd.unwrap_or(setting.owd),
                    flow,
                    tally: Tally::default(),
                }));
            }
        }
        Self { start: setting.start, flows }
    }

    /// When [`Self::step`] may have something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.flows.iter().filter_map(|running| running.flow.poll_timeout()).min()
    }

    /// Puts everything that is due on the paths.
    pub fn step<D: From<Packet>, U: From<Packet>>(
        &mut self,
        now: Instant,
        down: &mut Path<D>,
        up: &mut Path<U>,
    ) {
        let since = now.saturating_duration_since(self.start);
        for (index, running) in self.flows.iter_mut().enumerate() {
            while let Some(Outgoing { way, bytes, body }) = running.flow.poll(now) {
                let packet = Packet { flow: index, way, bytes, body };
                let fate = if running.up == (way == Way::There) {
                    up.send_far(now, bytes, running.owd, packet.into())
                } else {
                    down.send_far(now, bytes, running.owd, packet.into())
                };
                if way == Way::There {
                    running.tally.sent(since, bytes, fate);
                }
            }
        }
    }

    /// A packet arrived.
    pub fn arrive(&mut self, now: Instant, packet: Packet) {
        let Packet { flow, way, bytes, body } = packet;
        let running = &mut self.flows[flow];
        if way == Way::There {
            running.tally.second(now.saturating_duration_since(self.start)).1 += bytes;
        }
        running.flow.arrive(now, body);
    }

    /// All of them.
    pub fn running(&self) -> &[Running] {
        &self.flows
    }
}

/// A flow; `None` of a lesson. What is random about it follows from the seed and its place.
fn flow(spec: &Spec, setting: &Setting, place: u64) -> Option<Box<dyn Flow>> {
    let &Setting { start, feedback, link, seed, .. } = setting;
    let times = spec.times;
    Some(match spec.kind {
        Kind::Lesson => return None,
        Kind::Elastic => Box::new(Elastic::new(start, times, link, feedback)),
        Kind::Tcp => Box::new(Transfers::endless(start, times)),
        Kind::TcpShort { size, off } => {
            Box::new(Transfers::files(start, times, size, off, seed.wrapping_mul(1000) + place))
        }
        Kind::Cbr(bps) => {
            Box::new(Constant { start, times, bps, next: times.next(times.from).map(|at| start + at) })
        }
    })
}

/// A constant rate in packets of one size.
struct Constant {
    start: Instant,
    times: Times,
    bps: u64,
    next: Option<Instant>,
}

/// Bytes on the wire.
const CONSTANT_PACKET: u64 = 1000;

impl Flow for Constant {
    fn poll_timeout(&self) -> Option<Instant> {
        self.next.filter(|_| self.bps > 0)
    }

    fn poll(&mut self, now: Instant) -> Option<Outgoing> {
        let due = self.poll_timeout().filter(|&due| due <= now)?;
        let after = due - self.start + Duration::from_nanos(CONSTANT_PACKET * 8 * 1_000_000_000 / self.bps);
        self.next = self.times.next(after).map(|at| self.start + at);
        Some(Outgoing { way: Way::There, bytes: CONSTANT_PACKET, body: Body::Filler })
    }

    fn arrive(&mut self, _: Instant, _: Body) {}
}

impl Tally {
    fn sent(&mut self, now: Duration, bytes: u64, fate: Fate) {
        self.second(now).0 += bytes;
        self.packets += 1;
        match fate {
            Fate::Carried { wait } => self.waits.push((now, wait)),
            Fate::Lost | Fate::Dropped | Fate::Stuck => self.lost += 1,
        }
    }

    fn second(&mut self, at: Duration) -> &mut (u64, u64) {
        let second = at.as_secs() as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, (0, 0));
        }
        &mut self.seconds[second]
    }
}
