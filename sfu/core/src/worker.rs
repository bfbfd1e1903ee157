//! One worker: whole rooms with their transports, on one thread. A packet's path is this file.
//!
//! A worker owns no socket and reads no clock. Feed it datagrams, commands and time; after each, drain
//! [`Worker::poll_transmit`] and [`Worker::poll_event`] until `None`; once nothing is left to feed it, do the
//! same with [`Worker::handle_deferred`], then wait until [`Worker::poll_timeout`]. It routes: transports open and seal ([`crate::transport`]), rooms decide
//! ([`crate::room`]); neither knows the other.
//!
//! Several workers may share a port. Each gets datagrams of the others' clients, which
//! [`Worker::handle_datagram`] gives back to be passed on to [`Worker::handle_handed_over`] of the owner. Pass
//! on what [`Worker::poll_notice`] says before [`Worker::poll_transmit`].

#[cfg(feature = "bench")]
mod bench;
mod commands;
mod deferred;
mod elsewhere;
mod foreign;
mod people;
mod refusals;
mod routes;
mod slots;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::command::{CloseReason, Event};
use crate::room::{Fit, LinkFigures, PacketKind, ParticipantKey, Room, RoomConfig, RoomEvent};
use crate::stats::{Refusal, Refusals, RoomStats, Snapshot, WorkerStats};
use crate::timers::Deadlines;
use crate::transport::demux::{self, Class};
use crate::transport::{Transport, TransportConfig, TransportEvent};
use crate::units::{MAX_DATAGRAM_IN, MAX_DATAGRAM_OUT, RoomId, TransportId};
use deferred::Deferred;
use routes::{Names, Routes};
use slots::{Busy, Slots};

pub use self::foreign::{Foreign, MAX_WORKERS, News, Notice, WorkerIndex};
pub use crate::room::Priority;
pub use crate::transport::Tuple;

/// What every transport and room of a worker shares.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Certificate, addresses and limits of transports.
    pub transport: Arc<TransportConfig>,
    /// Limits of rooms.
    pub room: RoomConfig,
    /// Most transports at a time; one more is closed at once with [`CloseReason::NoCapacity`].
    pub max_transports: usize,
    /// This worker among those that share its port. Our ICE usernames in [`crate::command::Command`]s begin with
    /// its [`WorkerIndex::ufrag_prefix`].
    pub index: WorkerIndex,
    /// How many share it, 1..=[`MAX_WORKERS`].
    pub workers: u16,
}

/// What [`Worker::poll_transmit`] wrote: one datagram, or a run of them to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub tuple: Tuple,
    /// Bytes written in total.
    pub len: usize,
    /// Size of each datagram of a run, the last of which may be shorter. `None`: a single datagram.
    pub segment: Option<usize>,
    /// How urgent the most urgent of them is. Handshakes and feedback are as urgent as sound.
    pub priority: Priority,
}

/// Most datagrams in one run. Linux sends at most 64 segments a call; from 16 on the gain is small.
pub const MAX_RUN: usize = 32;

/// Room that [`Worker::poll_transmit`] wants in its buffer, bytes: one full run.
pub const TRANSMIT_BUFFER: usize = MAX_RUN * MAX_DATAGRAM_OUT;

/// Events that may wait before further data messages are dropped: when signaling is slow, chat is what can be
/// spared. What rooms tell of people waits in them, and is replaced. All other events are bounded by the
/// transports and tracks that they are about.
const MAX_EVENTS: usize = 1024;

/// See the module's description.
pub struct Worker {
    config: WorkerConfig,
    routes: Routes,
    transports: Slots<Member>,
    rooms: Slots<RoomSlot>,
    room_ids: FxHashMap<RoomId, u32>,
    transport_deadlines: Deadlines,
    room_deadlines: Deadlines,
    busy_transports: Busy,
    busy_rooms: Busy,
    deferred: Deferred,
    events: VecDeque<Event>,
    stats: WorkerStats,
    refused: Refusals,
    /// Counters of rooms that have closed.
    closed_rooms: RoomStats,
}

/// A transport and its place in a room. In this order in memory: packets that leave touch the transport's beginning.
#[repr(C)]
struct Member {
    transport: Transport,
    names: Names,
    /// `None` once it is closing: only its last datagrams are still to leave.
    place: Option<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    room: u32,
    participant: ParticipantKey,
}

struct RoomSlot {
    id: RoomId,
    room: Room,
    /// The transport of each participant, by the index of its key.
    members: Vec<Option<u32>>,
}

impl Worker {
    /// A worker without rooms.
    pub fn new(config: WorkerConfig) -> Self {
        Self {
            routes: Routes::new(config.index, config.workers),
            config,
            transports: Slots::default(),
            rooms: Slots::default(),
            room_ids: FxHashMap::default(),
            transport_deadlines: Deadlines::default(),
            room_deadlines: Deadlines::default(),
            busy_transports: Busy::default(),
            busy_rooms: Busy::default(),
            deferred: Deferred::default(),
            events: VecDeque::new(),
            stats: WorkerStats::default(),
            refused: Refusals::default(),
            closed_rooms: RoomStats::default(),
        }
    }

    /// Takes in one datagram, which is decrypted where it lies; or says which other worker's it is, and leaves
    /// it as it was.
    pub fn handle_datagram(&mut self, now: Instant, tuple: Tuple, datagram: &mut [u8]) -> Option<Foreign> {
        self.stats.datagrams_in += 1;
        self.stats.bytes_in += datagram.len() as u64;
        let why = self.take_in(now, tuple, None, datagram).err()?;
        let foreign = match why {
            Refusal::UnknownTuple => self.routes.bound_elsewhere(&tuple),
            Refusal::UnknownUfrag => self.routes.claimed_elsewhere(datagram),
            _ => None,
        };
        match foreign {
            Some(_) => self.stats.foreign_in += 1,
            None => self.refused.count(why),
        }
        foreign
    }

    /// Takes in a datagram that worker `via` found to be ours.
    pub fn handle_handed_over(&mut self, now: Instant, via: WorkerIndex, tuple: Tuple, datagram: &mut [u8]) {
        self.stats.handed_over_in += 1;
        if let Err(why) = self.take_in(now, tuple, Some(via), datagram) {
            self.refused.count(why);
            if why == Refusal::UnknownTuple {
                self.routes.correct(via, tuple);
            }
        }
    }

    /// Takes in what another worker's [`Self::poll_notice`] said. Do this with all that is there after a
    /// datagram was received and before it is handled: it may have been sent because of one of them.
    pub fn handle_notice(&mut self, notice: Notice) {
        self.stats.foreign_evicted += self.routes.learn(notice) as u64;
    }

    /// Lets time pass: call it when [`Self::poll_timeout`] is due; earlier is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(key) = self.transport_deadlines.pop_due(now) {
            self.transports[key].transport.handle_timeout(now);
            self.settle_transport(now, key);
        }
        while let Some(key) = self.room_deadlines.pop_due(now) {
            self.rooms[key].room.handle_timeout(now);
            self.busy_rooms.mark(key);
        }
    }

    /// Writes what leaves next into `out`, which holds at least [`TRANSMIT_BUFFER`] bytes. A run is the
    /// packets that are due to one client, for as long as they are equally long.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        debug_assert!(self.routes.all_told(), "a client is answered before the worker that hears it knows");
        let transmit = self.transmit_handshakes(out).or_else(|| self.transmit_media(now, out))?;
        self.stats.runs_out += 1;
        self.stats.bytes_out += transmit.len as u64;
        self.stats.datagrams_out +=
            transmit.segment.map_or(1, |segment| transmit.len.div_ceil(segment)) as u64;
        Some(transmit)
    }

    /// What the next worker must be told, before anything leaves that is written afterwards.
    pub fn poll_notice(&mut self) -> Option<(WorkerIndex, Notice)> {
        self.routes.poll_notice()
    }

    /// What happened since the last call, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due. Valid once [`Self::poll_transmit`] returned `None`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.transport_deadlines.next(), self.room_deadlines.next()].into_iter().flatten().min()
    }

    /// What is known of the link to a client, where anything is sent to it that counts transport-wide.
    pub fn link(&self, transport: TransportId) -> Option<LinkFigures> {
        let place = self.transports[self.routes.by_id(transport)?].place?;
        self.rooms[place.room].room.link(place.participant)
    }

    /// All counters so far.
    pub fn stats(&self) -> Snapshot {
        Snapshot {
            worker: self.stats,
            rooms: self.rooms.iter().fold(self.closed_rooms, |sum, slot| sum + slot.room.stats()),
            refused: self.refused,
            open_rooms: self.rooms.len() as u64,
            open_transports: self.transports.len() as u64,
        }
    }

    // In: RFC 7983 tells what a datagram is; only STUN may come from an address we do not know.

    #[inline]
    fn take_in(
        &mut self,
        now: Instant,
        tuple: Tuple,
        via: Option<WorkerIndex>,
        datagram: &mut [u8],
    ) -> Result<(), Refusal> {
        if datagram.len() > MAX_DATAGRAM_IN {
            return Err(Refusal::Oversized);
        }
        match demux::classify(datagram) {
            Class::Rtp => self.handle_rtp(now, tuple, datagram),
            Class::Rtcp => self.handle_rtcp(now, tuple, datagram),
            Class::Stun => self.handle_stun(now, tuple, via, datagram),
            Class::Dtls => self.defer_dtls(tuple, datagram),
            Class::Unknown(_) => Err(Refusal::Unrecognised),
        }
    }

    fn handle_rtp(&mut self, now: Instant, tuple: Tuple, packet: &mut [u8]) -> Result<(), Refusal> {
        let (member, place) = self.member_at(&tuple)?;
        let len = member.transport.unprotect_rtp(packet)?;
        let outcome = self.rooms[place.room].room.handle_rtp(now, place.participant, &packet[..len]);
        // A packet that goes no further has arrived all the same, and its publisher is to be told.
        self.busy_rooms.mark(place.room);
        Ok(outcome?)
    }

    fn handle_rtcp(&mut self, now: Instant, tuple: Tuple, packet: &mut [u8]) -> Result<(), Refusal> {
        let (member, place) = self.member_at(&tuple)?;
        let len = member.transport.unprotect_rtcp(packet)?;
        self.rooms[place.room].room.handle_rtcp(now, place.participant, &packet[..len]);
        self.busy_rooms.mark(place.room);
        Ok(())
    }

    fn handle_stun(
        &mut self,
        now: Instant,
        tuple: Tuple,
        via: Option<WorkerIndex>,
        datagram: &[u8],
    ) -> Result<(), Refusal> {
        let ufrag = demux::stun_ufrag(datagram).ok_or(Refusal::StunMalformed)?;
        let key = self.routes.by_ufrag(ufrag).ok_or(Refusal::UnknownUfrag)?;
        let outcome = self.transports[key].transport.handle_stun(now, tuple, datagram);
        self.settle_transport(now, key);
        if outcome.is_ok() {
            self.routes.checked_via(key, tuple, via);
        }
        Ok(outcome?)
    }

    #[inline]
    fn member_at(&mut self, tuple: &Tuple) -> Result<(&mut Member, Place), Refusal> {
        let key = self.routes.by_tuple(tuple).ok_or(Refusal::UnknownTuple)?;
        let member = &mut self.transports[key];
        let place = member.place.ok_or(Refusal::UnknownTuple)?;
        Ok((member, place))
    }

    // Out: handshakes first, they are few and everything waits for them.

    fn transmit_handshakes(&mut self, out: &mut [u8]) -> Option<Transmit> {
        while let Some(key) = self.busy_transports.first() {
            if let Some(member) = self.transports.get_mut(key) {
                if let Some((tuple, len)) = member.transport.poll_transmit(out) {
                    return Some(Transmit { tuple, len, segment: None, priority: Priority::Audio });
                }
                if member.place.is_none() {
                    self.drop_transport(key);
                }
            }
            self.busy_transports.done();
        }
        None
    }

    fn transmit_media(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        while let Some(key) = self.busy_rooms.first() {
            if let Some(slot) = self.rooms.get_mut(key) {
                if let Some(transmit) = fill_run(now, slot, &mut self.transports, &mut self.stats, out) {
                    return Some(transmit);
                }
                self.settle_room(key);
            }
            self.busy_rooms.done();
        }
        None
    }

    /// After anything that may have changed a transport: takes its news, queues its datagrams, notes its
    /// deadline.
    fn settle_transport(&mut self, now: Instant, key: u32) {
        while let Some(event) = self.transports[key].transport.poll_event() {
            let member = &mut self.transports[key];
            match event {
                TransportEvent::Bound(tuple) => self.routes.bind(key, &mut member.names, tuple),
                TransportEvent::Unbound(tuple) => self.routes.unbind(key, &mut member.names, tuple),
                TransportEvent::Connected { srtp_profile } => {
                    self.stats.handshakes += 1;
                    if let Some(place) = member.place {
                        self.rooms[place.room].room.set_reachable(now, place.participant);
                        self.busy_rooms.mark(place.room);
                    }
                    let transport = member.names.id;
                    self.events.push_back(Event::TransportConnected { transport, srtp_profile });
                }
                TransportEvent::Data { channel, bytes } => {
                    self.stats.data_in += 1;
                    if self.events.len() < MAX_EVENTS {
                        let transport = member.names.id;
                        self.events.push_back(Event::Data { transport, channel, bytes });
                    } else {
                        self.stats.data_dropped += 1;
                    }
                }
                TransportEvent::Closed(reason) => self.leave(key, reason),
            }
        }
        self.transport_deadlines.set(key, self.transports[key].transport.poll_timeout());
        self.busy_transports.mark(key);
    }

    /// Takes a transport out of its room and reports it closed; its last datagrams still leave.
    fn leave(&mut self, key: u32, reason: CloseReason) {
        let member = &mut self.transports[key];
        let Some(place) = member.place.take() else { return };
        let transport = member.names.id;
        self.routes.remove_id(&member.names);
        let slot = &mut self.rooms[place.room];
        slot.room.remove_participant(place.participant);
        slot.members[place.participant.index()] = None;
        self.busy_rooms.mark(place.room);
        self.busy_transports.mark(key);
        self.events.push_back(Event::TransportClosed { transport, reason });
    }

    fn drop_transport(&mut self, key: u32) {
        if let Some(member) = self.transports.remove(key) {
            self.routes.remove(key, &member.names);
            self.transport_deadlines.set(key, None);
        }
    }

    /// Once a room has nothing more to send: takes its news, notes its deadline.
    fn settle_room(&mut self, key: u32) {
        let slot = &mut self.rooms[key];
        while let Some(event) = slot.room.poll_event() {
            let transport = |participant: ParticipantKey| {
                slot.members[participant.index()].map(|member| self.transports[member].names.id)
            };
            let event = match event {
                RoomEvent::TrackStarted { participant, track } => {
                    transport(participant).map(|transport| Event::TrackStarted { transport, track })
                }
                RoomEvent::StreamState { participant, track, paused } => {
                    transport(participant).map(|transport| Event::StreamState { transport, track, paused })
                }
            };
            self.events.extend(event);
        }
        self.report_people(key);
        self.room_deadlines.set(key, self.rooms[key].room.poll_timeout());
    }
}

/// Writes and seals the next run of a room.
fn fill_run(
    now: Instant,
    slot: &mut RoomSlot,
    transports: &mut Slots<Member>,
    stats: &mut WorkerStats,
    out: &mut [u8],
) -> Option<Transmit> {
    loop {
        let first = slot.room.poll_packet(now, None, out)?;
        let transport = slot.members[first.to.index()].map(|key| &mut transports[key].transport);
        let Some((transport, tuple)) =
            transport.and_then(|transport| transport.tuple().map(|tuple| (transport, tuple)))
        else {
            stats.unsendable += 1;
            continue;
        };
        let sealed = match first.kind {
            PacketKind::Rtp => transport.protect_rtp(out, first.len),
            PacketKind::Rtcp => transport.protect_rtcp(out, first.len),
        };
        let Ok(segment) = sealed else {
            stats.unsendable += 1;
            continue;
        };
        let mut len = segment;
        let mut last = first;
        while last.more && last.len == first.len && len < MAX_RUN * segment && len + segment <= out.len() {
            let fit = Fit { to: first.to, max_len: first.len };
            let Some(next) = slot.room.poll_packet(now, Some(fit), &mut out[len..]) else { break };
            let Ok(sealed) = transport.protect_rtp(&mut out[len..], next.len) else {
                stats.unsendable += 1;
                break;
            };
            len += sealed;
            last = next;
        }
        // The pacer gives the most urgent first.
        let priority = first.priority;
        return Some(Transmit { tuple, len, segment: (len > segment).then_some(segment), priority });
    }
}
