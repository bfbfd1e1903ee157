//! A room: its participants, who receives whose tracks, and who is told what.

mod resume;

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    self as proto, Codec, JoinRequest, JoinResponse, ParticipantInfo, ParticipantUpdate, RoomUpdate,
    ServerInfo, SubscriptionError, SubscriptionResponse, UpdateSubscription, participant_info, server_info,
};
use sfu_protocol::control::{ToSfu, Wish};
use sfu_protocol::ids::{RoomId, TrackId, TransportId};

use crate::data::{self, Channel, DataError};
use crate::departures::{Departure, Departures};
use crate::dynacast::Dynacast;
use crate::ids::SocketId;
use crate::limits::{MAX_WISHES, PING_INTERVAL, PING_TIMEOUT};
use crate::nodes::NodeId;
use crate::outbox::Farewell;
use crate::people::Speakers;
use crate::session::{Context, Reaction, Session, Wanted};
use crate::track::{AUDIO_MIME, VIDEO_MIME};

pub(crate) use self::resume::Resumed;

/// The signal protocol's version that this server speaks (livekit/protocol `protocol_version.go`).
const PROTOCOL: i32 = 16;

/// A room and the sessions of its participants, in the order they joined.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: RoomId,
    /// Where its media is.
    pub(crate) node: NodeId,
    sid: String,
    pub(crate) name: String,
    created_millis: i64,
    sessions: BTreeMap<TransportId, Session>,
    /// Who publishes a track that others may receive, by the track's sid.
    publishers: HashMap<String, (TransportId, TrackId)>,
    pub(crate) speakers: Speakers,
    pub(crate) dynacast: Dynacast,
    departures: Departures,
    /// When the room closes. None while anybody is in it.
    pub(crate) closes: Option<Instant>,
}

impl Room {
    /// Opens a room, here and at the SFU.
    pub(crate) fn open(name: String, node: NodeId, context: &mut Context<'_>) -> Self {
        let (id, sid) = context.ids.room();
        context.out.command(ToSfu::OpenRoom { room: id });
        Self {
            id,
            node,
            sid,
            name,
            created_millis: context.unix_millis,
            sessions: BTreeMap::new(),
            publishers: HashMap::new(),
            speakers: Speakers::default(),
            dynacast: Dynacast::default(),
            departures: Departures::default(),
            closes: Some(context.now + context.limits.empty_room),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn tracks(&self) -> usize {
        self.publishers.len()
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    pub(crate) fn session(&self, id: TransportId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub(crate) fn sessions_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.sessions.values_mut()
    }

    /// Who publishes a track that others may receive, and its id.
    pub(crate) fn published(&self, sid: &str) -> Option<(TransportId, TrackId)> {
        self.publishers.get(sid).copied()
    }

    /// Who publishes a track that others may receive.
    pub(crate) fn publisher(&self, id: TrackId) -> Option<&Session> {
        let (publisher, _) = self.publishers.values().find(|(_, track)| *track == id)?;
        self.sessions.get(publisher)
    }

    pub(crate) fn with_identity(&self, identity: &str) -> Option<TransportId> {
        self.sessions.values().find(|session| session.profile.identity == identity).map(|session| session.id)
    }

    /// Takes a participant in. Its wishes go to the SFU before its offer, so that the first answer already
    /// carries what is there to be received.
    pub(crate) fn join(&mut self, context: &mut Context<'_>, session: Session, request: JoinRequest) {
        let (id, socket) = (session.id, session.socket);
        let link = session.profile.link().unwrap_or(&session.sid).to_owned();
        context.out.command(ToSfu::OpenTransport { room: self.id, transport: id, link: link.clone() });
        if let Some(receiver) = &session.receiver {
            receiver.open(context, self.id, link);
        }
        self.closes = None;
        self.sessions.insert(id, session);
        context.out.tell(socket, self.join_response(id));
        self.introduce_speakers(context, id);

        let all: Vec<_> = self.publishers.values().copied().collect();
        if self.sessions[&id].auto_subscribe {
            for (publisher, track) in all {
                self.subscribe(context, id, publisher, track);
            }
        }
        self.tell_others(context, id);
        self.tell_room(context);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for add in request.add_track_requests {
            session.add_track(context, add);
        }
        if let Some(offer) = request.publisher_offer.filter(|offer| !offer.sdp.is_empty()) {
            session.offer(context, offer);
        }
    }

    /// A client's request. Returns true if the client left with it.
    #[must_use]
    pub(crate) fn handle_request(
        &mut self,
        context: &mut Context<'_>,
        id: TransportId,
        request: Option<Request>,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        match session.handle_request(context, request) {
            Reaction::None => {}
            Reaction::TellOthers => self.tell_others(context, id),
            Reaction::TellAll => self.tell_all(context, id),
            Reaction::Receives(tracks) => self.received(context, &tracks),
            Reaction::Wishes(wishes) => self.handle_wishes(context, id, &wishes),
            Reaction::Settings(settings) => self.track_settings(context, id, &settings),
            Reaction::Left => return true,
        }
        false
    }

    /// The SFU's answer: tracks that are carried now become known and are subscribed to; ended ones go.
    pub(crate) fn answered(
        &mut self,
        context: &mut Context<'_>,
        id: TransportId,
        offer_id: u32,
        sdp: String,
        mid_to_track: Vec<(String, TrackId)>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let carried = mid_to_track.iter().map(|(_, track)| *track);
        let received: Vec<_> = carried.filter(|track| session.wants(*track)).collect();
        let changes = session.answered(context, offer_id, sdp, mid_to_track);
        self.received(context, &received);
        if changes.started.is_empty() && changes.ended.is_empty() {
            return;
        }
        for (track, sid) in &changes.ended {
            self.publishers.remove(sid);
            self.dynacast.forget(*track);
            self.sessions.values_mut().for_each(|session| {
                session.forget(*track);
            });
        }
        // Clients refuse a track of a participant that they have not been told of: first tell, then send.
        self.tell_others(context, id);
        if !self.sessions[&id].profile.grant.hidden {
            for track in changes.started {
                self.publish(context, id, track);
            }
        }
    }

    fn publish(&mut self, context: &mut Context<'_>, publisher: TransportId, track: TrackId) {
        let Some(sid) = self.sessions[&publisher].track(track).map(|track| track.info.sid.clone()) else {
            return;
        };
        self.publishers.insert(sid, (publisher, track));
        let receivers: Vec<_> = self
            .sessions
            .values()
            .filter(|session| session.id != publisher && session.auto_subscribe)
            .map(|session| session.id)
            .collect();
        for receiver in receivers {
            self.subscribe(context, receiver, publisher, track);
        }
        self.demand_changed(context, track);
    }

    fn subscribe(
        &mut self,
        context: &mut Context<'_>,
        receiver: TransportId,
        publisher: TransportId,
        track: TrackId,
    ) {
        let Some(from) = self.sessions.get(&publisher) else { return };
        let (Some(track), Some(to)) = (from.track(track), self.sessions.get(&receiver)) else { return };
        if receiver == publisher || !to.profile.grant.may_subscribe() {
            return;
        }
        let command = ToSfu::Subscribe {
            transport: to.receives_on(),
            track: track.id,
            msid: track.msid(&from.sid, to.needs_stream_per_track()),
        };
        let (id, sid) = (track.id, track.info.sid.clone());
        let wanted = Wanted { sid, kind: track.kind, carried: false, wish: Wish::default(), paused: false };
        if self.sessions.get_mut(&receiver).is_some_and(|to| to.want(id, wanted)) {
            context.out.command(command);
            self.begin_to_wish(context, receiver, id);
        }
    }

    fn handle_wishes(&mut self, context: &mut Context<'_>, id: TransportId, wishes: &UpdateSubscription) {
        let grouped = wishes.participant_tracks.iter().flat_map(|tracks| &tracks.track_sids);
        for sid in wishes.track_sids.iter().chain(grouped).take(MAX_WISHES) {
            match (self.publishers.get(sid).copied(), wishes.subscribe) {
                (Some((publisher, track)), true) => self.subscribe(context, id, publisher, track),
                (Some((_, track)), false) => {
                    if let Some(session) = self.sessions.get_mut(&id)
                        && session.forget(track)
                    {
                        let transport = session.receives_on();
                        context.out.command(ToSfu::Unsubscribe { transport, track });
                        self.demand_changed(context, track);
                    }
                }
                (None, true) => {
                    let response = SubscriptionResponse {
                        track_sid: sid.clone(),
                        err: SubscriptionError::SeTrackNotfound.into(),
                    };
                    context.out.tell(self.socket(id), Response::SubscriptionResponse(response));
                }
                (None, false) => {}
            }
        }
    }

    /// Takes a participant out. With a farewell, its client is told first.
    pub(crate) fn remove(
        &mut self,
        context: &mut Context<'_>,
        id: TransportId,
        reason: proto::DisconnectReason,
        farewell: Option<Farewell>,
    ) -> Option<Session> {
        let mut session = self.sessions.remove(&id)?;
        match farewell {
            Some(farewell) => context.out.dismiss(session.socket, farewell),
            None => context.out.close(session.socket),
        }
        context.out.command(ToSfu::CloseTransport { transport: id });
        if let Some(receiver) = &session.receiver {
            context.out.command(ToSfu::CloseTransport { transport: receiver.transport });
        }
        self.publishers.retain(|_, (publisher, _)| *publisher != id);
        for track in session.negotiated_tracks() {
            self.dynacast.forget(track.id);
            self.sessions.values_mut().for_each(|other| {
                other.forget(track.id);
            });
        }
        session.all_wanted().for_each(|track| self.demand_changed(context, track));
        session.touch();
        if !session.profile.grant.hidden {
            let info = ParticipantInfo {
                state: participant_info::State::Disconnected.into(),
                disconnect_reason: reason.into(),
                ..session.info()
            };
            self.broadcast(context, &info, None);
            let ParticipantInfo { sid, identity, version, .. } = info;
            self.departures.note(Departure { at: context.now, sid, identity, reason, version });
        }
        self.tell_room(context);
        if self.sessions.is_empty() {
            self.closes = Some(context.now + context.limits.empty_room);
        }
        Some(session)
    }

    /// Passes a data message on to whom it is for.
    pub(crate) fn relay(
        &mut self,
        context: &mut Context<'_>,
        id: TransportId,
        label: &str,
        bytes: &[u8],
    ) -> Result<(), DataError> {
        let channel = Channel::from_label(label).ok_or(DataError::UnknownChannel)?;
        let sender = self.sessions.get_mut(&id).ok_or(DataError::UnknownSender)?;
        let stamped = data::stamp(channel, bytes, &sender.profile, &sender.sid)?;
        if channel == Channel::Reliable && !sender.is_new_message(stamped.sequence) {
            return Err(DataError::Repeated);
        }
        let is_meant = |session: &&Session| {
            session.id != id
                && (stamped.destinations.is_empty()
                    || stamped.destinations.contains(&session.profile.identity))
        };
        let recipients: Vec<_> = self.sessions.values().filter(is_meant).map(Session::receives_on).collect();
        if !recipients.is_empty() {
            let channel = channel.label().to_owned();
            context.out.command(ToSfu::SendData { recipients, channel, bytes: stamped.bytes });
        }
        Ok(())
    }

    pub(crate) fn session_mut(&mut self, id: TransportId) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    /// Media of this participant can flow on one of its transports.
    pub(crate) fn connected(&mut self, context: &mut Context<'_>, id: TransportId, transport: TransportId) {
        if self.sessions.get_mut(&id).is_some_and(|session| session.connected(transport)) {
            self.tell_all(context, id);
        }
    }

    fn tell_all(&mut self, context: &mut Context<'_>, id: TransportId) {
        self.tell_others(context, id);
        if let Some(session) = self.sessions.get(&id) {
            let update = ParticipantUpdate { participants: vec![session.info()] };
            context.out.tell(session.socket, Response::Update(update));
        }
    }

    fn tell_others(&mut self, context: &mut Context<'_>, id: TransportId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.touch();
        if session.profile.grant.hidden {
            return;
        }
        let info = session.info();
        self.broadcast(context, &info, Some(id));
    }

    fn broadcast(&self, context: &mut Context<'_>, info: &ParticipantInfo, except: Option<TransportId>) {
        for session in self.sessions.values().filter(|session| Some(session.id) != except) {
            let update = ParticipantUpdate { participants: vec![info.clone()] };
            context.out.tell(session.socket, Response::Update(update));
        }
    }

    /// Tells everyone how many take part now.
    fn tell_room(&self, context: &mut Context<'_>) {
        let room = self.info();
        for session in self.sessions.values() {
            context.out.tell(session.socket, Response::RoomUpdate(RoomUpdate { room: Some(room.clone()) }));
        }
    }

    fn socket(&self, id: TransportId) -> Option<SocketId> {
        self.sessions.get(&id)?.socket
    }

    fn info(&self) -> proto::Room {
        let visible = || self.sessions.values().filter(|session| !session.profile.grant.hidden);
        proto::Room {
            sid: self.sid.clone(),
            name: self.name.clone(),
            creation_time: self.created_millis / 1000,
            creation_time_ms: self.created_millis,
            enabled_codecs: enabled_codecs(),
            num_participants: count(visible().count()),
            num_publishers: count(visible().filter(|s| s.negotiated_tracks().next().is_some()).count()),
            ..proto::Room::default()
        }
    }

    fn join_response(&self, id: TransportId) -> Response {
        let session = &self.sessions[&id];
        let others = self.sessions.values().filter(|other| other.id != id && !other.profile.grant.hidden);
        Response::Join(JoinResponse {
            room: Some(self.info()),
            participant: Some(session.info()),
            other_participants: others.map(Session::info).collect(),
            server_version: VERSION.to_owned(),
            subscriber_primary: session.receiver.is_some(),
            ping_timeout: PING_TIMEOUT.as_secs() as i32,
            ping_interval: PING_INTERVAL.as_secs() as i32,
            server_info: Some(server_info()),
            enabled_publish_codecs: enabled_codecs(),
            fast_publish: session.profile.grant.may_publish(),
            ..JoinResponse::default()
        })
    }
}

/// What clients are told of this server's version. `livekit-client` compares it with versions of LiveKit to
/// work around their faults, so it must not look like an early one of these.
const VERSION: &str = concat!("1.99.0-lectern-", env!("CARGO_PKG_VERSION"));

fn server_info() -> ServerInfo {
    ServerInfo {
        edition: server_info::Edition::Standard.into(),
        version: VERSION.to_owned(),
        protocol: PROTOCOL,
        node_id: "lectern".to_owned(),
        ..ServerInfo::default()
    }
}

fn enabled_codecs() -> Vec<Codec> {
    [AUDIO_MIME, VIDEO_MIME].map(|mime| Codec { mime: mime.to_owned(), ..Codec::default() }).to_vec()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
