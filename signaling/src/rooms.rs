//! All rooms of this server: one sans-IO state machine that finds the room of each input.
//!
//! Contract: call a method that takes `now`, then [`Rooms::poll_output`] until it returns `None`, then sleep
//! until [`Rooms::poll_timeout`] or the next input.

mod resync;

use std::collections::HashMap;
use std::time::Instant;

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{DisconnectReason, JoinRequest};
use sfu_protocol::control::{CloseReason, FromSfu, ToSfu};
use sfu_protocol::ids::{RoomId, TransportId};

use crate::auth::Claims;
use crate::clock::WallClock;
use crate::data::DataError;
use crate::ids::{Ids, SocketId};
use crate::limits::{Limits, MAX_TOKEN_NAME_BYTES, PING_TIMEOUT};
use crate::negotiation::Lines;
use crate::nodes::Nodes;
use crate::outbox::{Farewell, Outbox, Output};
use crate::people::LinkReport;
use crate::profile::Profile;
use crate::protocol::Protocol;
use crate::receiver::Receiver;
use crate::room::{Resumed, Room};
use crate::session::{Context, Session};
use crate::wishes::first_wish;

pub use self::resync::Ignored;

/// Every room, participant and WebSocket.
#[derive(Debug)]
pub struct Rooms {
    limits: Limits,
    clock: WallClock,
    ids: Ids,
    rooms: HashMap<RoomId, Room>,
    by_name: HashMap<String, RoomId>,
    transports: HashMap<TransportId, RoomId>,
    /// The participants of further transports, for clients that receive on another than they send on.
    receivers: HashMap<TransportId, TransportId>,
    sockets: HashMap<SocketId, TransportId>,
    /// Not after the earliest deadline of a session or room. Deadlines move later without changing it, so at
    /// this time it is only looked which are due.
    wake: Option<Instant>,
    draining: bool,
    nodes: Nodes,
    out: Outbox,
}

/// A client that wants to join: its token has been verified.
#[derive(Debug)]
pub struct Admission {
    /// The client's WebSocket.
    pub socket: SocketId,
    /// The token's claims.
    pub claims: Claims,
    /// What the client asks for.
    pub request: JoinRequest,
    /// What it speaks.
    pub protocol: Protocol,
}

/// How a client got in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// With a new session.
    Joined,
    /// It goes on with the session that it had.
    Resumed,
}

impl Entered {
    /// A short name for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Resumed => "resumed",
        }
    }
}

/// Why a client could not join. It has been told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinRefused {
    /// It wants to resume a session that is not there, not its own, or has missed too much: it shall join anew.
    NoSession,
    /// The room is full.
    RoomFull,
    /// There are too many rooms.
    TooManyRooms,
    /// A name, the metadata or the attributes in the token are too long.
    TooLong,
    /// The server, or the node that has the room, is stopping.
    Draining,
    /// There is no SFU in reach that takes a room.
    NoNode,
}

impl JoinRefused {
    /// A short name for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoSession => "no_session",
            Self::RoomFull => "room_full",
            Self::TooManyRooms => "too_many_rooms",
            Self::TooLong => "too_long",
            Self::Draining => "draining",
            Self::NoNode => "no_node",
        }
    }

    fn farewell(self) -> Farewell {
        match self {
            Self::NoSession => Farewell::JoinAgain(DisconnectReason::StateMismatch),
            Self::RoomFull | Self::TooManyRooms | Self::TooLong => {
                Farewell::Final(DisconnectReason::JoinFailure)
            }
            Self::Draining | Self::NoNode => Farewell::JoinAgain(DisconnectReason::ServerShutdown),
        }
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Rooms.
    pub rooms: usize,
    /// Participants, those whose WebSocket is lost included.
    pub participants: usize,
    /// Published tracks.
    pub tracks: usize,
}

impl Rooms {
    /// No rooms yet. `seed` makes the sids: random, and another one at each start.
    pub fn new(limits: Limits, clock: WallClock, seed: u64) -> Self {
        Self {
            limits,
            clock,
            ids: Ids::new(seed),
            rooms: HashMap::new(),
            by_name: HashMap::new(),
            transports: HashMap::new(),
            receivers: HashMap::new(),
            sockets: HashMap::new(),
            wake: None,
            draining: false,
            nodes: Nodes::local(),
            out: Outbox::default(),
        }
    }

    /// Lets a client in; the room opens with its first one. A participant of the same identity gives way. A
    /// client that says `reconnect` goes on with the session `participant_sid` instead.
    pub fn join(&mut self, now: Instant, admission: Admission) -> Result<Entered, JoinRefused> {
        let Admission { socket, claims, request, protocol } = &admission;
        let socket = *socket;
        let result = match request.reconnect {
            true => self
                .resume(now, socket, claims, &request.participant_sid, *protocol)
                .map(|()| Entered::Resumed),
            false => self.try_join(now, admission).map(|()| Entered::Joined),
        };
        if let Err(refused) = result {
            self.out.dismiss(Some(socket), refused.farewell());
        }
        result
    }

    fn try_join(&mut self, now: Instant, admission: Admission) -> Result<(), JoinRefused> {
        let Admission { socket, claims, mut request, protocol } = admission;
        if self.draining {
            return Err(JoinRefused::Draining);
        }
        let name = claims.video.as_ref().map(|video| video.room.clone()).unwrap_or_default();
        if name.len() > MAX_TOKEN_NAME_BYTES {
            return Err(JoinRefused::TooLong);
        }
        let profile = Profile::new(claims, &mut request).ok_or(JoinRefused::TooLong)?;
        let room_id = self.room_named(now, name)?;
        if self.nodes.is_draining(self.rooms[&room_id].node) {
            return Err(JoinRefused::Draining);
        }

        let former = self.rooms[&room_id].with_identity(&profile.identity);
        if former.is_none() && self.rooms[&room_id].len() >= self.limits.participants {
            return Err(JoinRefused::RoomFull);
        }
        if let Some(former) = former {
            let reason = DisconnectReason::DuplicateIdentity;
            self.remove(now, former, reason, Some(Farewell::Final(reason)));
        }
        let auto_subscribe =
            request.connection_settings.as_ref().is_none_or(|settings| settings.auto_subscribe);
        let Some((room, context)) = self.room(now, room_id) else { return Err(JoinRefused::TooManyRooms) };
        let mut context = context;
        let mut session = Session::new(context.ids.transport(), profile, socket, auto_subscribe, &context);
        session.first_wish = first_wish(request.connection_settings.as_ref());
        session.receiver = (protocol == Protocol::V0).then(|| Receiver::new(&mut context));
        let (transport, receives_on, deadline) = (session.id, session.receives_on(), session.deadline);
        room.join(&mut context, session, request);
        if receives_on != transport {
            self.receivers.insert(receives_on, transport);
        }
        self.transports.insert(transport, room_id);
        self.sockets.insert(socket, transport);
        self.wake_by(deadline);
        Ok(())
    }

    /// Gives a session that has lost its WebSocket, or seems not to have yet, another one. A server that is to stop
    /// takes in nobody new, but its lessons go on.
    fn resume(
        &mut self,
        now: Instant,
        socket: SocketId,
        claims: &Claims,
        sid: &str,
        protocol: Protocol,
    ) -> Result<(), JoinRefused> {
        let name = claims.video.as_ref().map_or("", |video| video.room.as_str());
        let resumed = self.by_name.get(name).copied().and_then(|id| {
            let (room, mut context) = self.room(now, id)?;
            room.resume(&mut context, socket, &claims.sub, sid, protocol)
        });
        let Resumed { id, former } = resumed.ok_or(JoinRefused::NoSession)?;
        if let Some(former) = former {
            self.sockets.remove(&former);
        }
        self.sockets.insert(socket, id);
        self.wake_by(now + PING_TIMEOUT);
        Ok(())
    }

    fn room_named(&mut self, now: Instant, name: String) -> Result<RoomId, JoinRefused> {
        if let Some(id) = self.by_name.get(&name) {
            return Ok(*id);
        }
        if self.rooms.len() >= self.limits.rooms {
            return Err(JoinRefused::TooManyRooms);
        }
        let node = self.nodes.place(&self.loads()).ok_or(JoinRefused::NoNode)?;
        self.out.direct(node);
        let room = Room::open(name.clone(), node, &mut self.context(now));
        let (id, closes) = (room.id, room.closes);
        self.by_name.insert(name, id);
        self.rooms.insert(id, room);
        if let Some(closes) = closes {
            self.wake_by(closes);
        }
        Ok(id)
    }

    /// A request of a client. `None` stands for one that could not be understood.
    pub fn handle_request(&mut self, now: Instant, socket: SocketId, request: Option<Request>) {
        let Some(transport) = self.sockets.get(&socket).copied() else { return };
        let Some((room, mut context)) = self.room_of(now, transport) else { return };
        if room.handle_request(&mut context, transport, request) {
            self.remove(now, transport, DisconnectReason::ClientInitiated, None);
        }
    }

    /// A client's WebSocket closed without a word: the participant stays for the configured absence.
    pub fn handle_lost(&mut self, now: Instant, socket: SocketId) {
        let Some(transport) = self.sockets.remove(&socket) else { return };
        let deadline = now + self.limits.absence;
        let Some((room, _)) = self.room_of(now, transport) else { return };
        if let Some(session) = room.session_mut(transport).filter(|session| session.socket == Some(socket)) {
            session.socket = None;
            session.deadline = deadline;
            self.wake_by(deadline);
        }
    }

    /// A client does not read its WebSocket: it is given up at once.
    pub fn handle_stuck(&mut self, now: Instant, socket: SocketId) {
        if let Some(transport) = self.sockets.get(&socket).copied() {
            self.remove(now, transport, DisconnectReason::SignalClose, None);
        }
    }

    /// An event of the SFU. An error is a data message that was not passed on.
    pub fn handle_sfu(&mut self, now: Instant, event: FromSfu) -> Result<(), DataError> {
        match event {
            FromSfu::Answer { transport, offer_id, sdp, mid_to_track } => {
                if let Some((room, mut context)) = self.room_of(now, transport) {
                    room.answered(&mut context, transport, offer_id, sdp, mid_to_track);
                }
            }
            FromSfu::OfferRejected { transport, .. } | FromSfu::AnswerRejected { transport, .. } => {
                let id = self.owner(transport);
                self.description_rejected(now, id);
            }
            FromSfu::Offer { transport, offer_id, sdp, mid_to_track } => {
                let id = self.owner(transport);
                if let Some((room, mut context)) = self.room_of(now, id)
                    && let Some(session) = room.session_mut(id)
                {
                    session.offered(&mut context, offer_id, sdp, mid_to_track);
                }
            }
            FromSfu::NegotiationNeeded { transport, audios, videos } => {
                if let Some((room, mut context)) = self.room_of(now, transport)
                    && let Some(session) = room.session_mut(transport)
                {
                    session.negotiation_needed(&mut context, Lines { audios, videos });
                }
            }
            FromSfu::TransportConnected { transport, .. } => {
                let id = self.owner(transport);
                if let Some((room, mut context)) = self.room_of(now, id) {
                    room.connected(&mut context, id, transport);
                }
            }
            FromSfu::TransportClosed { transport, reason } => {
                let id = self.owner(transport);
                self.transport_closed(now, id, reason);
            }
            FromSfu::TrackStarted { .. } => {}
            FromSfu::Data { transport, channel, bytes } => {
                let id = self.owner(transport);
                let (room, mut context) = self.room_of(now, id).ok_or(DataError::UnknownSender)?;
                return room.relay(&mut context, id, &channel, &bytes);
            }
            FromSfu::Speakers { room, speakers } => {
                if let Some((room, mut context)) = self.room(now, room) {
                    room.speak(&mut context, &speakers);
                }
            }
            FromSfu::LinkQuality { room, links } => {
                let links = links.into_iter().map(|link| LinkReport { of: self.owner(link.transport), link });
                let links: Vec<_> = links.collect();
                if let Some((room, mut context)) = self.room(now, room) {
                    room.links(&mut context, &links);
                }
            }
            FromSfu::StreamState { transport, track, paused } => {
                let id = self.owner(transport);
                if let Some((room, mut context)) = self.room_of(now, id) {
                    room.stream_state(&mut context, id, track, paused);
                }
            }
            FromSfu::Draining => self.draining = true,
            // Read where a session with the node begins.
            FromSfu::Snapshot { .. } => {}
        }
        Ok(())
    }

    /// A client whose transport never worked cannot be helped; another one joins anew, with a fresh transport.
    fn description_rejected(&mut self, now: Instant, transport: TransportId) {
        let Some((room, _)) = self.room_of(now, transport) else { return };
        let Some(session) = room.session_mut(transport) else { return };
        let farewell = match session.offer_rejected() {
            true => Farewell::JoinAgain(DisconnectReason::MediaFailure),
            false => Farewell::Final(DisconnectReason::JoinFailure),
        };
        self.remove(now, transport, farewell.reason(), Some(farewell));
    }

    fn transport_closed(&mut self, now: Instant, transport: TransportId, reason: CloseReason) {
        let farewell = match reason {
            // Ours: the participant is gone already, or going.
            CloseReason::Requested => return,
            CloseReason::ClosedByPeer | CloseReason::ConsentExpired => {
                Farewell::JoinAgain(DisconnectReason::MediaFailure)
            }
            CloseReason::Shutdown => Farewell::JoinAgain(DisconnectReason::ServerShutdown),
            CloseReason::HandshakeFailed => Farewell::Final(DisconnectReason::MediaFailure),
            CloseReason::NoCapacity => Farewell::Final(DisconnectReason::JoinFailure),
        };
        self.remove(now, transport, farewell.reason(), Some(farewell));
    }

    /// Says good-bye to every client: the server stops. Clients try to join again by themselves.
    pub fn shut_down(&mut self, now: Instant) {
        self.draining = true;
        for room in self.rooms.keys().copied().collect::<Vec<_>>() {
            self.send_away(now, room, DisconnectReason::ServerShutdown);
        }
    }

    /// When [`Self::handle_timeout`] should be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// Gives up what is due: silent WebSockets, absent participants, empty rooms.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.wake.is_none_or(|wake| now < wake) {
            return;
        }
        self.handle_node_timeout(now);
        let due: Vec<_> = self
            .rooms
            .values()
            .flat_map(Room::sessions)
            .filter(|session| session.deadline <= now)
            .map(|session| (session.id, session.socket))
            .collect();
        for (transport, socket) in due {
            match socket {
                Some(socket) => {
                    self.out.close(Some(socket));
                    self.handle_lost(now, socket);
                }
                None => self.remove(now, transport, DisconnectReason::ConnectionTimeout, None),
            }
        }
        let empty = self.rooms.values().filter(|room| room.closes.is_some_and(|closes| closes <= now));
        for id in empty.map(|room| room.id).collect::<Vec<_>>() {
            self.close_room(id);
        }
        let lower =
            self.rooms.values().filter(|room| room.dynacast.poll_timeout().is_some_and(|at| at <= now));
        for id in lower.map(|room| room.id).collect::<Vec<_>>() {
            if let Some((room, mut context)) = self.room(now, id) {
                room.lower_demands(&mut context);
            }
        }
        let sessions = self.rooms.values().flat_map(Room::sessions).map(|session| session.deadline);
        let rooms = self.rooms.values().flat_map(|room| [room.closes, room.dynacast.poll_timeout()]);
        self.wake = sessions.chain(rooms.flatten()).chain(self.nodes.poll_timeout()).min();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop()
    }

    /// How many rooms, participants and tracks there are.
    pub fn census(&self) -> Census {
        Census {
            rooms: self.rooms.len(),
            participants: self.transports.len(),
            tracks: self.rooms.values().map(Room::tracks).sum(),
        }
    }

    fn close_room(&mut self, id: RoomId) {
        if let Some(room) = self.rooms.remove(&id) {
            self.by_name.remove(&room.name);
            self.out.direct(room.node);
            self.out.command(ToSfu::CloseRoom { room: id });
        }
    }

    fn remove(
        &mut self,
        now: Instant,
        transport: TransportId,
        reason: DisconnectReason,
        farewell: Option<Farewell>,
    ) {
        let Some((room, mut context)) = self.room_of(now, transport) else { return };
        let removed = room.remove(&mut context, transport, reason, farewell);
        let closes = room.closes;
        self.transports.remove(&transport);
        if let Some(session) = removed {
            self.receivers.remove(&session.receives_on());
            if let Some(socket) = session.socket {
                self.sockets.remove(&socket);
            }
        }
        if let Some(closes) = closes {
            self.wake_by(closes);
        }
    }

    /// The participant of a transport, by the one that it sends on.
    fn owner(&self, transport: TransportId) -> TransportId {
        self.receivers.get(&transport).copied().unwrap_or(transport)
    }

    fn wake_by(&mut self, deadline: Instant) {
        self.wake = Some(self.wake.map_or(deadline, |wake| wake.min(deadline)));
    }

    fn room_of(&mut self, now: Instant, transport: TransportId) -> Option<(&mut Room, Context<'_>)> {
        let room = *self.transports.get(&transport)?;
        self.room(now, room)
    }

    fn room(&mut self, now: Instant, id: RoomId) -> Option<(&mut Room, Context<'_>)> {
        let room = self.rooms.get_mut(&id)?;
        self.out.direct(room.node);
        let context = Context {
            now,
            unix_millis: self.clock.unix_millis(now),
            limits: &self.limits,
            ids: &mut self.ids,
            out: &mut self.out,
            wake: &mut self.wake,
        };
        Some((room, context))
    }

    fn context(&mut self, now: Instant) -> Context<'_> {
        Context {
            now,
            unix_millis: self.clock.unix_millis(now),
            limits: &self.limits,
            ids: &mut self.ids,
            out: &mut self.out,
            wake: &mut self.wake,
        }
    }
}
