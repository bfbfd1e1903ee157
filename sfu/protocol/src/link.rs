//! A link that outlives its connections: a state machine without I/O, the same on both sides.
//!
//! Control and data messages travel on lanes (and streams) of their own, so that a fat chat message never
//! delays control. Between the lanes there is no order; it is not needed: a recipient has no data channel
//! before control has set its transport up, and what comes from a transport that control has closed meets
//! nobody. Within a lane order holds.
//!
//! While a *session* goes on, each message arrives once, however often the connection is lost. A session ends
//! when a process has started anew or when more has waited than is kept; then the next connection begins a
//! fresh one, whose first command asks for a snapshot.

use std::collections::VecDeque;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::hello::{Received, Resume, Welcome};
use crate::lane::{Bounds, Lane, LaneError};

/// How a message is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// In order, and kept until it has arrived.
    Control,
    /// Like control, but worth nothing later: not kept while there is no connection.
    Passing,
    /// On the lane for data; dropped when too much waits there.
    Data,
}

/// What a link carries.
pub trait Message: Serialize + DeserializeOwned {
    /// How it is carried.
    fn class(&self) -> Class;
}

/// Kept of control: what a whole school that joins says, many times over.
const CONTROL: Bounds = Bounds { messages: 16_384, bytes: 32 << 20 };

/// Kept of data: chat pauses with the link, and a bounded part of it comes later.
const DATA: Bounds = Bounds { messages: 1024, bytes: 4 << 20 };

/// While there is a connection nothing more is taken on when this much waits.
const WINDOW: Bounds = Bounds { messages: 2048, bytes: 8 << 20 };

/// Messages received that wait for their reader; then no more are read.
#[cfg(feature = "quic")]
pub(crate) const MAX_INBOX: usize = 64;

/// What a link has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Whether there is a connection.
    pub connected: bool,
    /// Messages taken to be sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Messages sent again over a new connection.
    pub replayed: u64,
    /// Data messages and passing ones that were dropped, and all that came while no session could take them.
    pub dropped: u64,
    /// Connections that went on with a session.
    pub resumed: u64,
    /// Sessions begun.
    pub fresh: u64,
}

/// One side of a link that sends `Out` and receives `In`.
#[derive(Debug)]
pub struct Link<Out, In> {
    session: Option<u64>,
    connected: bool,
    pub(crate) control: Lane,
    pub(crate) data: Lane,
    pub(crate) inbox: VecDeque<In>,
    stats: LinkStats,
    sends: std::marker::PhantomData<fn(Out)>,
}

impl<Out: Message, In: Message> Link<Out, In> {
    /// No session yet.
    pub fn new() -> Self {
        Self {
            session: None,
            connected: false,
            control: Lane::new(CONTROL),
            data: Lane::new(DATA),
            inbox: VecDeque::new(),
            stats: LinkStats::default(),
            sends: std::marker::PhantomData,
        }
    }

    /// Takes a message to be sent: now, or with the next connection of this session.
    pub fn send(&mut self, message: &Out) {
        let class = message.class();
        if self.session.is_none() || (class == Class::Passing && !self.connected) {
            self.stats.dropped += 1;
            return;
        }
        let lane = if class == Class::Data { &mut self.data } else { &mut self.control };
        match lane.push(message) {
            Ok(()) => self.stats.sent += 1,
            // Without this message the two sides would no longer agree: the next connection takes stock.
            Err(LaneError::Full) if class == Class::Control => self.forfeit(),
            Err(_) => self.stats.dropped += 1,
        }
    }

    /// Whether there is room for a further message while connected.
    pub fn has_room(&self) -> bool {
        self.control.waiting() < WINDOW.messages && self.control.waiting_bytes() < WINDOW.bytes
    }

    /// Whether there is a session, which ends when more waits than is kept.
    pub fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Whether the other side has all.
    pub fn is_settled(&self) -> bool {
        self.control.waiting() + self.data.waiting() == 0
    }

    /// The next message that came.
    pub fn poll_received(&mut self) -> Option<In> {
        self.inbox.pop_front()
    }

    /// Notes a message that came.
    #[cfg(any(feature = "quic", test))]
    pub(crate) fn take_in(&mut self, message: In) {
        self.stats.received += 1;
        self.inbox.push_back(message);
    }

    /// The calling side's wish for a new connection. `None`: there is no session to go on with.
    pub fn resume(&self) -> Option<Resume> {
        self.session.map(|session| Resume { session, received: self.received() })
    }

    /// The answering side's decision: the session goes on if it is the same here, else one of the given number
    /// begins.
    pub fn answer(&mut self, wish: Option<Resume>, session: u64) -> Welcome {
        let same = wish.filter(|wish| Some(wish.session) == self.session && self.can_resume(wish.received));
        match same {
            Some(wish) => {
                let received = self.received();
                self.go_on(wish.received);
                Welcome::Resumed(received)
            }
            None => {
                self.begin(session);
                Welcome::Fresh { session }
            }
        }
    }

    /// The calling side hears the decision. An error: the counts do not fit; the next connection begins anew.
    pub fn welcomed(&mut self, welcome: Welcome) -> Result<(), LaneError> {
        match welcome {
            Welcome::Fresh { session } => self.begin(session),
            Welcome::Resumed(received) if self.session.is_some() && self.can_resume(received) => {
                self.go_on(received);
            }
            Welcome::Resumed(received) => {
                self.forfeit();
                return Err(LaneError::Count(received.control));
            }
        }
        Ok(())
    }

    /// The connection is lost.
    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// The session cannot go on.
    pub fn forfeit(&mut self) {
        self.stats.dropped += (self.control.waiting() + self.data.waiting()) as u64;
        self.session = None;
        self.control.reset();
        self.data.reset();
    }

    /// What has been counted.
    pub fn stats(&self) -> LinkStats {
        LinkStats { connected: self.connected, ..self.stats }
    }

    fn received(&self) -> Received {
        Received { control: self.control.received(), data: self.data.received() }
    }

    fn can_resume(&self, there: Received) -> bool {
        self.control.can_resume(there.control) && self.data.can_resume(there.data)
    }

    fn go_on(&mut self, there: Received) {
        self.connected = true;
        let resumed = self.control.resume(there.control).and_then(|()| self.data.resume(there.data));
        debug_assert!(resumed.is_ok(), "it was asked before whether it can");
        self.stats.resumed += 1;
        self.stats.replayed += (self.control.waiting() + self.data.waiting()) as u64;
    }

    fn begin(&mut self, session: u64) {
        self.forfeit();
        self.inbox.clear();
        self.session = Some(session);
        self.connected = true;
        self.stats.fresh += 1;
    }
}

impl<Out: Message, In: Message> Default for Link<Out, In> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::frame::Decoder;
    use crate::lane::Item;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    enum Said {
        Control(u32),
        Data(u32),
        Passing,
        Fat([u8; 32]),
    }

    impl Message for Said {
        fn class(&self) -> Class {
            match self {
                Self::Control(_) | Self::Fat(_) => Class::Control,
                Self::Data(_) => Class::Data,
                Self::Passing => Class::Passing,
            }
        }
    }

    type Side = Link<Said, Said>;

    /// A connection of two sides, cut by dropping it: what is in flight is lost.
    #[derive(Default)]
    struct Connection {
        /// To the answering side and to the calling one: control, data.
        bytes: [[Vec<u8>; 2]; 2],
        decoders: [[Decoder; 2]; 2],
    }

    impl Connection {
        fn write(&mut self, towards: usize, side: &mut Side, limit: usize) {
            side.control.transmit(limit, &mut self.bytes[towards][0]);
            side.data.transmit(limit, &mut self.bytes[towards][1]);
        }

        /// Delivers a part of what is in flight.
        fn read(&mut self, towards: usize, side: &mut Side, count: usize) {
            for lane in 0..2 {
                let bytes = &mut self.bytes[towards][lane];
                let part: Vec<u8> = bytes.drain(..count.min(bytes.len())).collect();
                let decoder = &mut self.decoders[towards][lane];
                decoder.push(&part);
                while let Some(item) = decoder.value::<Item<Said>>().unwrap() {
                    let lane = if lane == 0 { &mut side.control } else { &mut side.data };
                    if let Some(message) = lane.handle(item).unwrap() {
                        side.take_in(message);
                    }
                }
            }
        }
    }

    fn connect(caller: &mut Side, answerer: &mut Side, session: u64, welcome_arrives: bool) -> Welcome {
        let welcome = answerer.answer(caller.resume(), session);
        if welcome_arrives {
            caller.welcomed(welcome).unwrap();
        }
        welcome
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % limit
        }
    }

    fn split(side: &mut Side) -> (Vec<u32>, Vec<u32>) {
        let (mut control, mut data) = (Vec::new(), Vec::new());
        while let Some(message) = side.poll_received() {
            match message {
                Said::Control(number) => control.push(number),
                Said::Data(number) => data.push(number),
                Said::Passing | Said::Fat(_) => {}
            }
        }
        (control, data)
    }

    #[test]
    fn whatever_is_cut_each_message_arrives_once_and_in_order() {
        for seed in 0..300 {
            let mut random = Random(seed);
            let (mut caller, mut answerer) = (Side::new(), Side::new());
            connect(&mut caller, &mut answerer, 1, true);
            let (mut wire, mut said) = (Connection::default(), 0);
            for _ in 0..100 {
                match random.below(6) {
                    0 | 1 => {
                        said += 1;
                        caller.send(&Said::Control(said));
                        answerer.send(&Said::Control(said));
                        caller.send(&Said::Data(said));
                        answerer.send(&Said::Data(said));
                    }
                    2 => wire.write(0, &mut caller, 40),
                    3 => wire.write(1, &mut answerer, 40),
                    4 => {
                        wire.read(0, &mut answerer, random.below(30));
                        wire.read(1, &mut caller, random.below(30));
                    }
                    _ => {
                        wire = Connection::default();
                        caller.disconnected();
                        answerer.disconnected();
                        let arrives = random.below(3) > 0;
                        let welcome = connect(&mut caller, &mut answerer, 2, arrives);
                        assert!(matches!(welcome, Welcome::Resumed(_)), "seed {seed}");
                        if !arrives {
                            answerer.disconnected();
                            connect(&mut caller, &mut answerer, 3, true);
                        }
                    }
                }
            }
            while !(caller.is_settled() && answerer.is_settled()) {
                wire.write(0, &mut caller, 1000);
                wire.write(1, &mut answerer, 1000);
                wire.read(0, &mut answerer, 10_000);
                wire.read(1, &mut caller, 10_000);
            }
            let all: Vec<u32> = (1..=said).collect();
            assert_eq!(split(&mut caller), (all.clone(), all.clone()), "seed {seed}");
            assert_eq!(split(&mut answerer), (all.clone(), all), "seed {seed}");
        }
    }

    #[test]
    fn a_side_that_started_anew_begins_a_session() {
        let (mut caller, mut answerer) = (Side::new(), Side::new());
        assert_eq!(connect(&mut caller, &mut answerer, 1, true), Welcome::Fresh { session: 1 });
        caller.send(&Said::Control(1));
        let mut again = Side::new();
        assert_eq!(connect(&mut caller, &mut again, 2, true), Welcome::Fresh { session: 2 });
        assert!(caller.is_settled(), "what was kept of the old session is void");
        let mut again = Side::new();
        assert_eq!(connect(&mut again, &mut answerer, 3, true), Welcome::Fresh { session: 3 });
    }

    #[test]
    fn a_fresh_session_of_which_the_caller_never_heard_is_begun_once_more() {
        let (mut caller, mut answerer) = (Side::new(), Side::new());
        connect(&mut caller, &mut answerer, 1, true);
        let mut restarted = Side::new();
        assert_eq!(connect(&mut caller, &mut restarted, 2, false), Welcome::Fresh { session: 2 });
        assert_eq!(connect(&mut caller, &mut restarted, 3, true), Welcome::Fresh { session: 3 });
    }

    #[test]
    fn a_long_outage_costs_the_session_but_bounded_memory_and_passing_things_nothing() {
        let (mut caller, mut answerer) = (Side::new(), Side::new());
        connect(&mut caller, &mut answerer, 1, true);
        caller.disconnected();
        caller.send(&Said::Passing);
        assert!(caller.is_settled() && caller.resume().is_some());
        for number in 0..2 * DATA.messages as u32 {
            caller.send(&Said::Data(number));
        }
        assert_eq!((caller.data.waiting(), caller.resume().is_some()), (DATA.messages, true), "chat is cut");
        for _ in 0..=CONTROL.messages {
            caller.send(&Said::Fat([0; 32]));
        }
        assert_eq!((caller.resume(), caller.is_settled()), (None, true));
        assert_eq!(connect(&mut caller, &mut answerer, 2, true), Welcome::Fresh { session: 2 });
    }
}
