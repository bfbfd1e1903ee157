//! What signaling has asked for: rooms, transports, tracks and who wants them. A state machine without I/O.
//!
//! Session descriptions are read and written here ([`Offerer`]), so that the worker gets structs only, and
//! in an order in which it knows everything that a command names: a transport before its tracks, a track before
//! its receivers, whichever came first from signaling. Ids that are not known (any more) are counted; nothing
//! that signaling or a client sends is fatal.

mod snapshot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use sfu_core::command::{CloseReason, Command, Event};
use sfu_core::rtp::params::{ReceiveParams, SendParams};
use sfu_core::transport::params::{Fingerprint, IceCredentials, RemoteParams};
use sfu_core::transport::sdp::{Answered, NegotiationConfig};
use sfu_core::worker::WorkerIndex;
use sfu_protocol::control::{
    DataChannel, FromSfu, MAX_DATA_BYTES, MediaKind, Msid, Publish, Source, ToSfu, Wish,
};
use sfu_protocol::ids::{RoomId, TrackId, TransportId};
use tracing::{debug, info};

use super::credentials::{ice_credentials, random_seed};
use super::offering::Offerer;
use crate::shutdown::Phase;

/// Most rooms.
const MAX_ROOMS: usize = 1000;

/// Most transports in all rooms.
pub(crate) const MAX_TRANSPORTS: usize = 5000;

/// Most tracks that one transport publishes.
pub(crate) const MAX_PUBLISHED: usize = 32;

/// Most tracks that one transport receives.
pub(crate) const MAX_RECEIVED: usize = 1000;

/// Most links that one event tells of.
const MAX_LINKS: usize = 256;

/// What all transports have in common.
pub(crate) struct RoomsConfig {
    /// Where clients send to.
    pub candidates: Vec<SocketAddr>,
    /// Of our certificate.
    pub fingerprint: Fingerprint,
    /// How many workers there are.
    pub workers: usize,
    /// Most transports in one room.
    pub max_participants_per_room: usize,
}

/// What the control side counts, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ControlStats {
    /// Rooms now.
    pub rooms: u64,
    /// Transports now, those that are being closed included.
    pub transports: u64,
    /// Tracks announced now.
    pub tracks: u64,
    /// Offers answered.
    pub offers_answered: u64,
    /// Offers that could not be used.
    pub offers_rejected: u64,
    /// Commands that named something unknown or were out of bounds.
    pub commands_ignored: u64,
    /// Transports refused for want of room.
    pub transports_refused: u64,
}

/// The state machine: mutate, [`Self::settle`], then drain both polls.
pub(crate) struct Rooms {
    config: RoomsConfig,
    phase: Phase,
    rooms: BTreeMap<RoomId, Room>,
    pub(super) peers: BTreeMap<TransportId, Peer>,
    tracks: BTreeMap<TrackId, Track>,
    /// Transports whose end the worker has yet to report.
    closing: BTreeSet<TransportId>,
    /// Transports whose subscriptions may need a new negotiation.
    pub(super) unsettled: BTreeSet<TransportId>,
    commands: VecDeque<(WorkerIndex, Command)>,
    pub(super) events: VecDeque<FromSfu>,
    pub(super) stats: ControlStats,
}

/// A room, whole on one worker for as long as it is open.
struct Room {
    worker: WorkerIndex,
    members: BTreeSet<TransportId>,
}

/// A transport.
pub(super) struct Peer {
    room: RoomId,
    /// Its room's.
    pub(super) worker: WorkerIndex,
    pub(super) negotiation: Offerer,
    /// What the worker knows of the client's side; `None` before it knows the transport.
    remote: Option<RemoteParams>,
    /// Whether its DTLS handshake is done.
    connected: bool,
    /// What it has announced and not unpublished.
    published: Vec<Publish>,
    /// What it wants to receive.
    wishes: BTreeSet<TrackId>,
}

/// A track that was announced, or that somebody wants and that will be.
#[derive(Default)]
struct Track {
    announced: Option<Announced>,
    /// Whether the worker expects its packets.
    expected: bool,
    muted: bool,
    receivers: BTreeMap<TransportId, Receiver>,
}

#[derive(Clone, Copy)]
struct Announced {
    publisher: TransportId,
    room: RoomId,
    worker: WorkerIndex,
    kind: MediaKind,
    source: Source,
}

/// Someone who wants a track.
struct Receiver {
    msid: Msid,
    /// How it goes out, once negotiated.
    params: Option<SendParams>,
    wish: Wish,
}

impl Receiver {
    /// Has the worker forward the track, once negotiated: as it is wished from the first packet on.
    fn forward(
        &self,
        worker: WorkerIndex,
        transport: TransportId,
        track: TrackId,
        commands: &mut VecDeque<(WorkerIndex, Command)>,
    ) {
        let Some(params) = self.params.clone() else { return };
        commands.push_back((worker, Command::Subscribe { transport, track, params }));
        if self.wish != Wish::default() {
            commands.push_back((worker, Command::SetWish { transport, track, wish: self.wish }));
        }
    }
}

impl Rooms {
    pub(crate) fn new(config: RoomsConfig) -> Self {
        Self {
            config,
            phase: Phase::Serving,
            rooms: BTreeMap::new(),
            peers: BTreeMap::new(),
            tracks: BTreeMap::new(),
            closing: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            stats: ControlStats::default(),
        }
    }

    /// A command of signaling.
    pub(crate) fn handle_command(&mut self, command: ToSfu) {
        let known = match command {
            ToSfu::OpenRoom { room } => self.open_room(room),
            ToSfu::CloseRoom { room } => self.close_room(room),
            // One link a participant until links have budgets of their own.
            ToSfu::OpenTransport { room, transport, link: _ } => self.open_transport(room, transport, None),
            ToSfu::CloseTransport { transport } => self.close_transport(transport, CloseReason::Requested),
            ToSfu::Offer { transport, offer_id, sdp, publish } => {
                self.offer(transport, offer_id, &sdp, publish)
            }
            ToSfu::Unpublish { track } => self.unpublish(track),
            ToSfu::SetMuted { track, muted } => self.set_muted(track, muted),
            ToSfu::Subscribe { transport, track, msid } => self.subscribe(transport, track, msid),
            ToSfu::Unsubscribe { transport, track } => self.unsubscribe(transport, track),
            ToSfu::SetWish { transport, track, wish } => self.set_wish(transport, track, wish),
            ToSfu::SendData { recipients, channel, bytes } => self.send_data(recipients, &channel, bytes),
            ToSfu::OpenOffering { room, transport, link: _, channels } => {
                self.open_transport(room, transport, Some(channels))
            }
            ToSfu::Answer { transport, offer_id, sdp } => self.answered_by_client(transport, offer_id, &sdp),
            ToSfu::RestartIce { transport } => self.restart_ice(transport),
            ToSfu::TakeSnapshot { of } => self.take_snapshot(of),
        };
        if known.is_none() {
            self.stats.commands_ignored += 1;
        }
    }

    /// A report of the worker.
    pub(crate) fn handle_event(&mut self, event: Event) {
        let event = match event {
            Event::TransportConnected { transport, srtp_profile } => {
                if let Some(peer) = self.peers.get_mut(&transport) {
                    peer.connected = true;
                }
                FromSfu::TransportConnected { transport, srtp_profile: srtp_profile.to_owned() }
            }
            Event::TransportClosed { transport, reason } => {
                info!(%transport, ?reason, "transport closed");
                self.closing.remove(&transport);
                self.forget(transport);
                FromSfu::TransportClosed { transport, reason }
            }
            Event::TrackStarted { transport, track } => FromSfu::TrackStarted { transport, track },
            Event::Speakers { room, speakers } => FromSfu::Speakers { room, speakers: speakers.to_vec() },
            Event::LinkQuality { room, links } => {
                // A room's links come in several reports: each client is told of them in one message. What nobody
                // reads waits as events, of which only so many are taken in.
                if let Some(FromSfu::LinkQuality { room: same, links: before }) = self.events.back_mut()
                    && *same == room
                    && before.len() + links.len() <= MAX_LINKS
                {
                    before.extend(links);
                    return;
                }
                FromSfu::LinkQuality { room, links: links.to_vec() }
            }
            Event::StreamState { transport, track, paused } => {
                FromSfu::StreamState { transport, track, paused }
            }
            Event::Data { transport, channel, bytes } => {
                FromSfu::Data { transport, channel, bytes: bytes.into() }
            }
        };
        self.events.push_back(event);
    }

    /// Begins to drain, or closes what is left.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        match phase {
            Phase::Serving => {}
            Phase::Draining => self.events.push_back(FromSfu::Draining),
            Phase::Closing => {
                let left: Vec<_> = self.peers.keys().copied().collect();
                for transport in left {
                    self.close_transport(transport, CloseReason::Shutdown);
                }
            }
        }
    }

    /// Offers, or asks clients to offer again, where subscriptions changed: once for all changes since the last call.
    pub(crate) fn settle(&mut self) {
        while let Some(transport) = self.unsettled.pop_first() {
            let Some(peer) = self.peers.get_mut(&transport) else { continue };
            self.events.extend(peer.negotiation.news(transport));
        }
    }

    /// The next command, and the worker that it is for.
    pub(crate) fn poll_command(&mut self) -> Option<(WorkerIndex, Command)> {
        self.commands.pop_front()
    }

    /// The next event for signaling.
    pub(crate) fn poll_event(&mut self) -> Option<FromSfu> {
        self.events.pop_front()
    }

    /// How many events wait.
    pub(crate) fn pending_events(&self) -> usize {
        self.events.len()
    }

    /// Signaling is gone: nobody waits for these.
    pub(crate) fn discard_events(&mut self) {
        self.events.clear();
    }

    /// The counters as they are now.
    pub(crate) fn stats(&self) -> ControlStats {
        ControlStats {
            rooms: self.rooms.len() as u64,
            transports: (self.peers.len() + self.closing.len()) as u64,
            tracks: self.tracks.len() as u64,
            ..self.stats
        }
    }

    fn open_room(&mut self, room: RoomId) -> Option<()> {
        if self.rooms.contains_key(&room) {
            return Some(());
        }
        // The transports of a room that was not made are refused one by one.
        let accepted = self.phase == Phase::Serving && self.rooms.len() < MAX_ROOMS;
        accepted.then(|| {
            let worker = self.least_loaded();
            self.rooms.insert(room, Room { worker, members: BTreeSet::new() });
            self.order(worker, Command::OpenRoom { room });
        })
    }

    /// The worker with the fewest transports, of several the first.
    fn least_loaded(&self) -> WorkerIndex {
        let mut transports = vec![0; self.config.workers.max(1)];
        for room in self.rooms.values() {
            transports[usize::from(room.worker.0)] += room.members.len();
        }
        let least = (0..transports.len()).min_by_key(|&index| transports[index]).unwrap_or(0);
        WorkerIndex(least as u16)
    }

    fn order(&mut self, worker: WorkerIndex, command: Command) {
        self.commands.push_back((worker, command));
    }

    fn close_room(&mut self, room: RoomId) -> Option<()> {
        for transport in self.rooms.get(&room)?.members.clone() {
            self.close_transport(transport, CloseReason::Requested);
        }
        let Room { worker, .. } = self.rooms.remove(&room)?;
        self.order(worker, Command::CloseRoom { room });
        Some(())
    }

    fn open_transport(
        &mut self,
        room: RoomId,
        transport: TransportId,
        channels: Option<Vec<DataChannel>>,
    ) -> Option<()> {
        if self.peers.contains_key(&transport) || self.closing.contains(&transport) {
            return None;
        }
        let full = self.peers.len() >= MAX_TRANSPORTS
            || self
                .rooms
                .get(&room)
                .is_none_or(|room| room.members.len() >= self.config.max_participants_per_room);
        if full || self.phase != Phase::Serving {
            self.stats.transports_refused += 1;
            let reason = if full { CloseReason::NoCapacity } else { CloseReason::Shutdown };
            self.events.push_back(FromSfu::TransportClosed { transport, reason });
            return Some(());
        }
        let Room { worker, members } = self.rooms.get_mut(&room)?;
        let worker = *worker;
        members.insert(transport);
        let config = NegotiationConfig {
            local: ice_credentials(worker),
            fingerprint: self.config.fingerprint,
            candidates: self.config.candidates.clone(),
            seed: random_seed(),
        };
        let negotiation = Offerer::new(config, channels);
        self.unsettled.insert(transport);
        let (published, wishes) = (Vec::new(), BTreeSet::new());
        let peer = Peer { room, worker, negotiation, remote: None, connected: false, published, wishes };
        self.peers.insert(transport, peer);
        Some(())
    }

    fn close_transport(&mut self, transport: TransportId, reason: CloseReason) -> Option<()> {
        let peer = self.forget(transport)?;
        if peer.remote.is_some() {
            self.closing.insert(transport);
            self.order(peer.worker, Command::CloseTransport { transport, reason });
        } else {
            self.events.push_back(FromSfu::TransportClosed { transport, reason });
        }
        Some(())
    }

    /// Removes a transport, what it publishes and what it wants.
    fn forget(&mut self, transport: TransportId) -> Option<Peer> {
        let peer = self.peers.remove(&transport)?;
        if let Some(room) = self.rooms.get_mut(&peer.room) {
            room.members.remove(&transport);
        }
        for track in &peer.wishes {
            self.remove_receiver(*track, transport);
        }
        for publish in &peer.published {
            self.remove_track(publish.track);
        }
        Some(peer)
    }

    fn offer(
        &mut self,
        transport: TransportId,
        offer_id: u32,
        sdp: &str,
        publish: Vec<Publish>,
    ) -> Option<()> {
        if !self.peers.contains_key(&transport) {
            return None;
        }
        for publish in publish {
            self.announce(transport, publish);
        }
        let peer = self.peers.get_mut(&transport)?;
        let Offerer::Client(negotiation) = &mut peer.negotiation else { return None };
        match negotiation.offer(sdp, &peer.published) {
            Ok(answered) => self.answer(transport, offer_id, answered),
            Err(error) => {
                debug!(%transport, %error, "offer rejected");
                self.stats.offers_rejected += 1;
                let reason = error.to_string();
                self.events.push_back(FromSfu::OfferRejected { transport, offer_id, reason });
                Some(())
            }
        }
    }

    /// Notes a track that a client is about to send, and gives it to those who want it already.
    fn announce(&mut self, publisher: TransportId, publish: Publish) -> Option<()> {
        let peer = self.peers.get_mut(&publisher)?;
        let id = publish.track;
        if let Some(known) = peer.published.iter_mut().find(|known| known.track == id) {
            *known = publish;
            return Some(());
        }
        let track = self.tracks.entry(id).or_default();
        if track.announced.is_some() || peer.published.len() >= MAX_PUBLISHED {
            debug!(%publisher, track = %id, "an announced track is another's, or one too many");
            self.stats.commands_ignored += 1;
            return None;
        }
        let Publish { kind, source, .. } = publish;
        let announced = Announced { publisher, room: peer.room, worker: peer.worker, kind, source };
        track.announced = Some(announced);
        peer.published.push(publish);

        let early: Vec<_> = track.receivers.keys().copied().collect();
        for receiver in early {
            self.grant(id, announced, receiver);
        }
        Some(())
    }

    /// Carries out what a negotiation agreed on.
    fn answer(&mut self, transport: TransportId, offer_id: u32, answered: Answered) -> Option<()> {
        let Answered { sdp, remote, local, receive, ended, send, stopped, mid_to_track, .. } = answered;
        self.adopt(transport, local, remote);
        // A track that only comes in another way stays the same track for its receivers.
        let moved = |track: &TrackId| receive.iter().any(|(received, _)| received == track);
        for track in ended.into_iter().filter(|track| !moved(track)) {
            self.suspend(track);
        }
        for track in stopped {
            self.stop_sending(track, transport);
        }
        for (id, params) in receive {
            self.expect(transport, id, params);
        }
        self.start_sending(transport, send);
        self.stats.offers_answered += 1;
        self.events.push_back(FromSfu::Answer { transport, offer_id, sdp, mid_to_track });
        self.unsettled.insert(transport);
        Some(())
    }

    /// Takes over how the client is reached, where that is news.
    pub(super) fn adopt(&mut self, transport: TransportId, local: IceCredentials, remote: RemoteParams) {
        let Some(peer) = self.peers.get_mut(&transport) else { return };
        // New, restarts ICE, or has data channels now.
        if peer.remote.as_ref() != Some(&remote) {
            peer.remote = Some(remote.clone());
            let (room, worker) = (peer.room, peer.worker);
            self.order(worker, Command::OpenTransport { room, transport, local, remote });
        }
    }

    /// Tracks that a client takes from now on.
    pub(super) fn start_sending(&mut self, transport: TransportId, send: Vec<(TrackId, SendParams)>) {
        let Some(&Peer { worker, .. }) = self.peers.get(&transport) else { return };
        for (id, params) in send {
            let Some(track) = self.tracks.get_mut(&id) else { continue };
            let Some(receiver) = track.receivers.get_mut(&transport) else { continue };
            receiver.params = Some(params);
            if track.expected {
                receiver.forward(worker, transport, id, &mut self.commands);
            }
        }
    }

    /// A published track comes, or comes in another way.
    fn expect(&mut self, transport: TransportId, id: TrackId, params: ReceiveParams) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let Some(announced) = track.announced else { return };
        let Announced { worker, source, .. } = announced;
        self.commands.push_back((worker, Command::Publish { transport, track: id, source, params }));
        if std::mem::replace(&mut track.expected, true) {
            return;
        }
        if track.muted {
            self.commands.push_back((worker, Command::SetMuted { transport, track: id, muted: true }));
        }
        for (transport, receiver) in &track.receivers {
            receiver.forward(worker, *transport, id, &mut self.commands);
        }
        for receiver in track.receivers.keys().copied().collect::<Vec<_>>() {
            self.grant(id, announced, receiver);
        }
    }

    /// A published track stopped, and may come back. Its receivers' m-lines are freed: the worker forgets how
    /// far it has counted on them, and a second count from the start under one SSRC would break its cipher.
    fn suspend(&mut self, id: TrackId) {
        let Some(track) = self.tracks.get_mut(&id).filter(|track| track.expected) else { return };
        let Some(Announced { publisher, worker, .. }) = track.announced else { return };
        track.expected = false;
        self.commands.push_back((worker, Command::Unpublish { transport: publisher, track: id }));
        for (receiver, state) in &mut track.receivers {
            state.params = None;
            if let Some(peer) = self.peers.get_mut(receiver) {
                peer.negotiation.unsubscribe(id);
                self.unsettled.insert(*receiver);
            }
        }
    }

    pub(super) fn stop_sending(&mut self, id: TrackId, transport: TransportId) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let params = track.receivers.get_mut(&transport).and_then(|receiver| receiver.params.take());
        if let Some(Announced { worker, .. }) = track.announced.filter(|_| params.is_some() && track.expected)
        {
            self.order(worker, Command::Unsubscribe { transport, track: id });
        }
    }

    fn unpublish(&mut self, id: TrackId) -> Option<()> {
        let announced = self.tracks.get(&id)?.announced?;
        if let Some(peer) = self.peers.get_mut(&announced.publisher) {
            peer.published.retain(|publish| publish.track != id);
        }
        self.suspend(id);
        self.remove_track(id);
        Some(())
    }

    /// Removes a track that nobody sends any more, and frees its m-lines.
    fn remove_track(&mut self, id: TrackId) {
        let Some(track) = self.tracks.remove(&id) else { return };
        for receiver in track.receivers.into_keys() {
            if let Some(peer) = self.peers.get_mut(&receiver) {
                peer.wishes.remove(&id);
                peer.negotiation.unsubscribe(id);
                self.unsettled.insert(receiver);
            }
        }
    }

    fn set_muted(&mut self, id: TrackId, muted: bool) -> Option<()> {
        let track = self.tracks.get_mut(&id)?;
        let changed = std::mem::replace(&mut track.muted, muted) != muted;
        let told = track.announced.filter(|_| changed && track.expected);
        if let Some(Announced { publisher, worker, .. }) = told {
            self.order(worker, Command::SetMuted { transport: publisher, track: id, muted });
        }
        Some(())
    }

    fn subscribe(&mut self, transport: TransportId, id: TrackId, msid: Msid) -> Option<()> {
        let peer = self.peers.get_mut(&transport)?;
        if peer.wishes.len() >= MAX_RECEIVED || !peer.wishes.insert(id) {
            return None;
        }
        let track = self.tracks.entry(id).or_default();
        track.receivers.insert(transport, Receiver { msid, params: None, wish: Wish::default() });
        if let Some(announced) = track.announced {
            self.grant(id, announced, transport);
        }
        Some(())
    }

    /// Passes a wish on, now or with the subscription that it is about.
    fn set_wish(&mut self, transport: TransportId, id: TrackId, wish: Wish) -> Option<()> {
        let track = self.tracks.get_mut(&id)?;
        let receiver = track.receivers.get_mut(&transport)?;
        receiver.wish = wish;
        if receiver.params.is_some()
            && track.expected
            && let Some(Announced { worker, .. }) = track.announced
        {
            self.order(worker, Command::SetWish { transport, track: id, wish });
        }
        Some(())
    }

    /// Finds an m-line for a track that is wanted and announced.
    fn grant(&mut self, id: TrackId, announced: Announced, receiver: TransportId) -> Option<()> {
        let peer = self.peers.get_mut(&receiver)?;
        let track = self.tracks.get_mut(&id)?;
        if peer.room != announced.room || receiver == announced.publisher {
            debug!(%receiver, track = %id, "a wish for a track of another room, or for the wisher's own");
            self.stats.commands_ignored += 1;
            peer.wishes.remove(&id);
            track.receivers.remove(&receiver);
            return None;
        }
        let msid = track.receivers.get(&receiver)?.msid.clone();
        peer.negotiation.subscribe(id, announced.kind, msid);
        self.unsettled.insert(receiver);
        Some(())
    }

    fn unsubscribe(&mut self, transport: TransportId, id: TrackId) -> Option<()> {
        let peer = self.peers.get_mut(&transport)?;
        peer.wishes.remove(&id).then_some(())?;
        peer.negotiation.unsubscribe(id);
        self.unsettled.insert(transport);
        self.stop_sending(id, transport);
        self.remove_receiver(id, transport);
        Some(())
    }

    /// Forgets who wanted a track, and the track where it was never more than wanted.
    fn remove_receiver(&mut self, id: TrackId, transport: TransportId) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        track.receivers.remove(&transport);
        if track.announced.is_none() && track.receivers.is_empty() {
            self.tracks.remove(&id);
        }
    }

    fn send_data(&mut self, recipients: Vec<TransportId>, channel: &str, bytes: Vec<u8>) -> Option<()> {
        let mut by_worker: BTreeMap<WorkerIndex, Vec<TransportId>> = BTreeMap::new();
        for recipient in recipients {
            if let Some(peer) = self.peers.get(&recipient) {
                by_worker.entry(peer.worker).or_default().push(recipient);
            }
        }
        if bytes.len() > MAX_DATA_BYTES || by_worker.is_empty() {
            return None;
        }
        let bytes = Bytes::from(bytes);
        let at_once = (DATA_AT_ONCE / bytes.len().max(1)).clamp(1, RECIPIENTS_AT_ONCE);
        for (worker, recipients) in by_worker {
            for recipients in recipients.chunks(at_once) {
                let (recipients, channel) = (recipients.to_vec(), channel.to_owned());
                self.order(worker, Command::SendData { recipients, channel, bytes: bytes.clone() });
            }
        }
        Some(())
    }
}

/// A message to many is given to the worker in parts, between which media leaves: to encrypt so many bytes for so
/// many takes it less than half a millisecond.
const DATA_AT_ONCE: usize = 64 * 1024;
const RECIPIENTS_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests;
