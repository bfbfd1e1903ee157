//! One client's session: a sans-IO state machine from its join to its end.
//!
//! Inputs are the client's requests and the SFU's events for its transport; outputs go to the [`Outbox`]. What
//! concerns the others in the room is returned as a [`Reaction`] for the room to carry out. The session
//! outlives its WebSocket for a while, so that a short outage stops no media.

mod agreement;

use std::collections::HashMap;
use std::time::Instant;

use livekit_protocol::request_response::{self, Reason};
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    AddTrackRequest, MediaSectionsRequirement, MuteTrackRequest, ParticipantInfo, Pong, RequestResponse,
    SessionDescription, TrackPublishedResponse, TrackUnpublishedResponse, UpdateParticipantMetadata,
    UpdateSubscription, UpdateTrackSettings, participant_info,
};
use sfu_protocol::control::{MAX_SDP_BYTES, MediaKind, ToSfu, Wish};
use sfu_protocol::ids::{TrackId, TransportId};

use crate::ids::{Ids, SocketId};
use crate::limits::{Limits, MAX_TRACK_LIST, PING_TIMEOUT};
use crate::negotiation::{Lines, Negotiation};
use crate::outbox::Outbox;
use crate::profile::Profile;
use crate::receiver::Receiver;
use crate::track::{Refused, Track, TrackState};

/// What a step may read and write besides the session itself.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) unix_millis: i64,
    pub(crate) limits: &'a Limits,
    pub(crate) ids: &'a mut Ids,
    pub(crate) out: &'a mut Outbox,
    /// See [`Rooms`](crate::rooms::Rooms).
    pub(crate) wake: &'a mut Option<Instant>,
}

impl Context<'_> {
    /// Something is due then.
    pub(crate) fn wake_by(&mut self, deadline: Instant) {
        *self.wake = Some(self.wake.map_or(deadline, |wake| wake.min(deadline)));
    }
}

/// A participant and its client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: TransportId,
    pub(crate) sid: String,
    pub(crate) profile: Profile,
    /// Its WebSocket. None: lost, and not yet given up.
    pub(crate) socket: Option<SocketId>,
    /// When the WebSocket, or without one the session, is given up.
    pub(crate) deadline: Instant,
    /// What was said to its client long before this time has arrived; see [`Self::hear`].
    pub(crate) heard: Instant,
    /// When its WebSocket became its own.
    moved: Instant,
    /// The number of the last reliable message from its client. 0: none yet.
    pub(crate) last_message: u32,
    /// Whether it receives every track without asking.
    pub(crate) auto_subscribe: bool,
    /// The connection that it receives on, if that is another.
    pub(crate) receiver: Option<Receiver>,
    /// How it wants a picture of which it has said nothing.
    pub(crate) first_wish: Wish,
    state: participant_info::State,
    joined_millis: i64,
    version: u32,
    tracks: Vec<Track>,
    wanted: HashMap<TrackId, Wanted>,
    negotiation: Negotiation,
}

/// A track of another participant that this one receives.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) sid: String,
    pub(crate) kind: MediaKind,
    /// Whether an m-line carries it.
    pub(crate) carried: bool,
    /// How it wants it.
    pub(crate) wish: Wish,
    /// Whether it does not flow at present.
    pub(crate) paused: bool,
}

impl Wanted {
    pub(crate) fn is_picture(&self) -> bool {
        self.kind == MediaKind::Video
    }
}

/// What the room has to do after a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Reaction {
    /// Nothing.
    None,
    /// Tell the others how the participant is now.
    TellOthers,
    /// Tell everyone, this client too.
    TellAll,
    /// Tell the publishers of these tracks that they are received.
    Receives(Vec<TrackId>),
    /// Subscribe to tracks, or unsubscribe.
    Wishes(UpdateSubscription),
    /// Receive tracks in another way.
    Settings(UpdateTrackSettings),
    /// The client left.
    Left,
}

/// What an answer changed for the others.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    /// Tracks that an m-line carries now for the first time.
    pub(crate) started: Vec<TrackId>,
    /// Tracks that none carries any more, by id and sid.
    pub(crate) ended: Vec<(TrackId, String)>,
}

impl Session {
    pub(crate) fn new(
        (id, sid): (TransportId, String),
        profile: Profile,
        socket: SocketId,
        auto_subscribe: bool,
        context: &Context<'_>,
    ) -> Self {
        Self {
            id,
            sid,
            profile,
            socket: Some(socket),
            deadline: context.now + PING_TIMEOUT,
            heard: context.now,
            moved: context.now,
            last_message: 0,
            auto_subscribe,
            receiver: None,
            first_wish: Wish::default(),
            state: participant_info::State::Joined,
            joined_millis: context.unix_millis,
            version: 1,
            tracks: Vec::new(),
            wanted: HashMap::new(),
            negotiation: Negotiation::default(),
        }
    }

    /// A request of the client. None is one that this server does not know.
    pub(crate) fn handle_request(&mut self, context: &mut Context<'_>, request: Option<Request>) -> Reaction {
        self.hear(context.now);
        match request {
            Some(Request::Offer(offer)) => self.offer(context, offer),
            Some(Request::AddTrack(request)) => self.add_track(context, request),
            Some(Request::Mute(request)) => return self.mute(context, &request),
            Some(Request::Subscription(wishes)) => return Reaction::Wishes(wishes),
            Some(Request::TrackSetting(settings)) => return Reaction::Settings(settings),
            // What a client that has come back wants may differ from what its lost requests said.
            Some(Request::SyncState(state)) => {
                return state.subscription.map_or(Reaction::None, Reaction::Wishes);
            }
            Some(Request::Leave(_)) => return Reaction::Left,
            Some(Request::Ping(_)) => context.out.tell(self.socket, Response::Pong(context.unix_millis)),
            Some(Request::PingReq(ping)) => context.out.tell(
                self.socket,
                Response::PongResp(Pong {
                    last_ping_timestamp: ping.timestamp,
                    timestamp: context.unix_millis,
                }),
            ),
            Some(Request::UpdateMetadata(update)) => return self.update_profile(context, update),
            Some(Request::UpdateAudioTrack(update)) if update.features.len() <= MAX_TRACK_LIST => {
                return self.update_track(&update.track_sid, |track| {
                    track.info.audio_features.clone_from(&update.features);
                });
            }
            Some(Request::UpdateVideoTrack(update)) => {
                return self.update_track(&update.track_sid, |track| {
                    (track.info.width, track.info.height) = (update.width, update.height);
                });
            }
            Some(Request::Answer(answer)) => return Reaction::Receives(self.answer(context, answer)),
            // ICE-lite finds the client by its checks; its candidates are not needed.
            // Permissions and states are accepted, but change nothing yet.
            #[expect(deprecated, reason = "older clients send UpdateLayers")]
            Some(
                Request::Trickle(_)
                | Request::UpdateLayers(_)
                | Request::UpdateAudioTrack(_)
                | Request::SubscriptionPermission(_)
                | Request::UpdateDataSubscription(_),
            ) => {}
            other => self.unsupported(context, other),
        }
        Reaction::None
    }

    /// Its client says something. A client that is back may do so before it has read what it missed: only one that
    /// has kept the WebSocket for as long as it bears silence there has read the beginning of it.
    fn hear(&mut self, now: Instant) {
        self.deadline = now + PING_TIMEOUT;
        if now >= self.moved + PING_TIMEOUT {
            self.heard = now;
        }
    }

    /// Its client is back on another WebSocket. Returns the one before, if that still seemed open.
    pub(crate) fn move_to(&mut self, now: Instant, socket: SocketId) -> Option<SocketId> {
        (self.moved, self.deadline) = (now, now + PING_TIMEOUT);
        self.socket.replace(socket)
    }

    /// Asks a client again for what it may have missed: m-lines for tracks that none carries yet.
    pub(crate) fn repeat_needs(&mut self, context: &mut Context<'_>) {
        let missing = self.missing_lines();
        if let Some(lines) = self.negotiation.resumed(missing) {
            self.require(context, lines);
        }
    }

    /// Whether a reliable message has not come before; from now on it has. Clients that come back send some again.
    pub(crate) fn is_new_message(&mut self, sequence: u32) -> bool {
        if sequence == 0 {
            return true;
        }
        let is_new = sequence > self.last_message;
        self.last_message = self.last_message.max(sequence);
        is_new
    }

    /// An offer goes to the SFU with all that the client has announced.
    pub(crate) fn offer(&mut self, context: &mut Context<'_>, offer: SessionDescription) {
        if offer.sdp.len() > MAX_SDP_BYTES || !self.negotiation.offer() {
            let refused = Refused(Reason::LimitExceeded, "the offer is too long, or too many offers wait");
            self.respond(context, 0, refused, None);
            return;
        }
        context.out.command(ToSfu::Offer {
            transport: self.id,
            offer_id: offer.id,
            sdp: offer.sdp,
            publish: self.tracks.iter().map(Track::publish).collect(),
        });
    }

    /// Announces a track. The same `cid` again gets the same track, so that a repeated request does no harm.
    pub(crate) fn add_track(&mut self, context: &mut Context<'_>, request: AddTrackRequest) {
        if let Some(known) = self.tracks.iter().find(|track| track.cid() == request.cid) {
            let message = published(&request.cid, known);
            context.out.tell(self.socket, message);
            return;
        }
        let announced = self
            .make_room_for_track(context)
            .and_then(|()| Track::announce(&request, &self.profile.grant, context.ids));
        match announced {
            Ok(track) => {
                context.out.tell(self.socket, published(&request.cid, &track));
                self.tracks.push(track);
            }
            Err(refused) => {
                self.respond(context, 0, refused, Some(request_response::Request::AddTrack(request)));
            }
        }
    }

    /// At the limit, the oldest track that was announced but never offered makes room: a client that gave up
    /// publishing says nothing about it.
    fn make_room_for_track(&mut self, context: &mut Context<'_>) -> Result<(), Refused> {
        if self.tracks.len() < context.limits.tracks {
            return Ok(());
        }
        let Some(index) = self.tracks.iter().position(|track| !track.is_negotiated()) else {
            return Err(Refused(Reason::LimitExceeded, "this participant publishes too many tracks"));
        };
        let track = self.tracks.remove(index);
        context.out.command(ToSfu::Unpublish { track: track.id });
        Ok(())
    }

    fn mute(&mut self, context: &mut Context<'_>, request: &MuteTrackRequest) -> Reaction {
        let Some(track) = self.tracks.iter_mut().find(|track| track.info.sid == request.sid) else {
            return Reaction::None;
        };
        if track.info.muted == request.muted {
            return Reaction::None;
        }
        track.info.muted = request.muted;
        if !track.is_negotiated() {
            return Reaction::None;
        }
        context.out.command(ToSfu::SetMuted { track: track.id, muted: request.muted });
        Reaction::TellOthers
    }

    fn update_track(&mut self, sid: &str, change: impl FnOnce(&mut Track)) -> Reaction {
        let Some(track) = self.tracks.iter_mut().find(|track| track.info.sid == sid) else {
            return Reaction::None;
        };
        change(track);
        if track.is_negotiated() { Reaction::TellOthers } else { Reaction::None }
    }

    fn update_profile(&mut self, context: &mut Context<'_>, update: UpdateParticipantMetadata) -> Reaction {
        let result = self.profile.update(&update);
        let refused = result.err().unwrap_or(Refused(Reason::Ok, ""));
        let request_id = update.request_id;
        self.respond(context, request_id, refused, Some(request_response::Request::UpdateMetadata(update)));
        if result.is_ok() { Reaction::TellAll } else { Reaction::None }
    }

    /// Names the request where the response can, so that the client knows which of its calls has failed.
    fn unsupported(&self, context: &mut Context<'_>, request: Option<Request>) {
        let (request_id, about) = match request {
            Some(Request::PublishDataTrackRequest(request)) => {
                (0, Some(request_response::Request::PublishDataTrack(request)))
            }
            Some(Request::UnpublishDataTrackRequest(request)) => {
                (0, Some(request_response::Request::UnpublishDataTrack(request)))
            }
            Some(Request::StoreDataBlobRequest(request)) => (request.request_id, None),
            Some(Request::GetDataBlobRequest(request)) => (request.request_id, None),
            _ => (0, None),
        };
        let refused = Refused(Reason::UnsupportedType, "this server does not support the request");
        self.respond(context, request_id, refused, about);
    }

    pub(crate) fn respond(
        &self,
        context: &mut Context<'_>,
        request_id: u32,
        Refused(reason, words): Refused,
        request: Option<request_response::Request>,
    ) {
        let response =
            RequestResponse { request_id, reason: reason.into(), message: words.to_owned(), request };
        context.out.tell(self.socket, Response::RequestResponse(response));
    }

    /// The SFU's answer. A published track that no m-line carries any more has ended: that is how clients
    /// unpublish.
    pub(crate) fn answered(
        &mut self,
        context: &mut Context<'_>,
        offer_id: u32,
        sdp: String,
        mid_to_track: Vec<(String, TrackId)>,
    ) -> Changes {
        let mids: HashMap<TrackId, &String> = mid_to_track.iter().map(|(mid, track)| (*track, mid)).collect();
        for (track, wanted) in &mut self.wanted {
            wanted.carried = mids.contains_key(track);
        }
        let missing = self.missing_lines();
        let changes = self.settle_tracks(context, &mids);
        let mid_to_track_id = mid_to_track
            .into_iter()
            .filter_map(|(mid, track)| Some((mid, self.sid_of(track)?.to_owned())))
            .collect();
        context.out.tell(
            self.socket,
            Response::Answer(SessionDescription {
                r#type: "answer".into(),
                sdp,
                id: offer_id,
                mid_to_track_id,
            }),
        );
        for (_, track_sid) in &changes.ended {
            let ended = TrackUnpublishedResponse { track_sid: track_sid.clone() };
            context.out.tell(self.socket, Response::TrackUnpublished(ended));
        }
        if let Some(lines) = self.negotiation.answered(missing) {
            self.require(context, lines);
        }
        changes
    }

    /// The m-lines that wanted tracks lack.
    fn missing_lines(&self) -> Lines {
        let mut missing = Lines::default();
        for wanted in self.wanted.values().filter(|wanted| !wanted.carried) {
            match wanted.kind {
                MediaKind::Audio => missing.audios += 1,
                MediaKind::Video => missing.videos += 1,
            }
        }
        missing
    }

    fn settle_tracks(&mut self, context: &mut Context<'_>, mids: &HashMap<TrackId, &String>) -> Changes {
        let mut changes = Changes::default();
        self.tracks.retain_mut(|track| match (mids.get(&track.id), track.is_negotiated()) {
            (Some(mid), known) => {
                track.state = TrackState::Negotiated { mid: (*mid).clone() };
                track.info.mid = (*mid).clone();
                if !known {
                    changes.started.push(track.id);
                }
                true
            }
            (None, false) => true,
            (None, true) => {
                changes.ended.push((track.id, track.info.sid.clone()));
                false
            }
        });
        for track in self.tracks.iter().filter(|track| changes.started.contains(&track.id)) {
            if track.info.muted {
                context.out.command(ToSfu::SetMuted { track: track.id, muted: true });
            }
        }
        for (track, _) in &changes.ended {
            context.out.command(ToSfu::Unpublish { track: *track });
        }
        changes
    }

    /// The SFU could not use an offer. Returns whether the transport had worked before.
    pub(crate) fn offer_rejected(&mut self) -> bool {
        self.negotiation.rejected()
    }

    /// The SFU needs an offer with these further lines.
    pub(crate) fn negotiation_needed(&mut self, context: &mut Context<'_>, lines: Lines) {
        if let Some(lines) = self.negotiation.needed(lines) {
            self.require(context, lines);
        }
    }

    fn require(&self, context: &mut Context<'_>, lines: Lines) {
        let requirement = MediaSectionsRequirement { num_audios: lines.audios, num_videos: lines.videos };
        context.out.tell(self.socket, Response::MediaSectionsRequirement(requirement));
    }

    /// Media can flow on one of its transports. Returns whether that makes it active.
    pub(crate) fn connected(&mut self, transport: TransportId) -> bool {
        let news = transport == self.receives_on() && self.state != participant_info::State::Active;
        if news {
            self.state = participant_info::State::Active;
        }
        news
    }

    /// Notes that a track is wanted. False: it was already.
    pub(crate) fn want(&mut self, track: TrackId, wanted: Wanted) -> bool {
        self.wanted.insert(track, wanted).is_none()
    }

    /// Whether it wants a track.
    pub(crate) fn wants(&self, track: TrackId) -> bool {
        self.wanted.contains_key(&track)
    }

    /// A track that it wants.
    pub(crate) fn wanted(&self, track: TrackId) -> Option<&Wanted> {
        self.wanted.get(&track)
    }

    /// As [`Self::wanted`].
    pub(crate) fn wanted_mut(&mut self, track: TrackId) -> Option<&mut Wanted> {
        self.wanted.get_mut(&track)
    }

    /// All tracks that it wants.
    pub(crate) fn all_wanted(&self) -> impl Iterator<Item = TrackId> {
        self.wanted.keys().copied()
    }

    /// Notes that a track is no longer wanted. False: it was not.
    pub(crate) fn forget(&mut self, track: TrackId) -> bool {
        self.wanted.remove(&track).is_some()
    }

    /// Whether it is told who speaks: it may hear them.
    pub(crate) fn may_hear(&self) -> bool {
        self.profile.grant.may_subscribe()
    }

    /// What it publishes.
    pub(crate) fn tracks_mut(&mut self) -> impl Iterator<Item = &mut Track> {
        self.tracks.iter_mut()
    }

    /// The tracks that others may receive.
    pub(crate) fn negotiated_tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| track.is_negotiated())
    }

    /// A published track.
    pub(crate) fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks.iter().find(|track| track.id == id)
    }

    pub(crate) fn sid_of(&self, id: TrackId) -> Option<&str> {
        let own = self.track(id).map(|track| track.info.sid.as_str());
        own.or_else(|| self.wanted.get(&id).map(|wanted| wanted.sid.as_str()))
    }

    /// What changed since the last [`Self::info`]: clients drop an update that is older than what they know.
    pub(crate) fn touch(&mut self) {
        self.version += 1;
    }

    /// What everyone is told of the participant.
    pub(crate) fn info(&self) -> ParticipantInfo {
        ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.profile.identity.clone(),
            state: self.state.into(),
            tracks: self.negotiated_tracks().map(|track| track.info.clone()).collect(),
            metadata: self.profile.metadata.clone(),
            joined_at: self.joined_millis / 1000,
            joined_at_ms: self.joined_millis,
            name: self.profile.name.clone(),
            version: self.version,
            permission: Some(self.profile.permission()),
            is_publisher: self.negotiated_tracks().next().is_some(),
            kind: self.profile.kind.into(),
            attributes: self.profile.attributes.clone(),
            client_protocol: self.profile.client_protocol(),
            capabilities: self.profile.capabilities(),
            ..ParticipantInfo::default()
        }
    }
}

fn published(cid: &str, track: &Track) -> Response {
    Response::TrackPublished(TrackPublishedResponse { cid: cid.to_owned(), track: Some(track.info.clone()) })
}
