//! Membership: who is here, what is published, who receives it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use slotmap::{Key, new_key_type};
use thiserror::Error;

use super::link::{Turn, TurnClock};
use super::packing::Flushes;
use super::participant::{Participant, Route};
use super::quality::Rounds;
use super::speaker::Speakers;
use super::subscription::{DownKey, Subscription};
use super::table::Table;
use crate::cc::link_estimator::LinkConfig;
use crate::cc::pacer::PacerConfig;
use crate::cc::twcc::{ArrivalRecorder, DEFAULT_INTERVAL};
use crate::forward::down_track::DownTrack;
use crate::forward::repacketiser::Packing;
use crate::rtp::params::{Extension, ReceiveParams, SendParams, Ssrc};
use crate::stats::RoomStats;
use crate::track::up_track::{StreamRole, UpTrack};
use crate::units::{Source, TrackId, TransportId, Wish};

new_key_type! {
    /// A participant of a room; never a later one in the same place.
    pub struct ParticipantKey;
}

new_key_type! {
    /// A published track; never a later one in the same place.
    pub(super) struct TrackKey;
}

impl ParticipantKey {
    /// Its place: small, dense and reused, for tables beside the room's own.
    pub fn index(self) -> usize {
        // The lower half of a slot map's key is the slot.
        self.data().as_ffi() as u32 as usize
    }
}

/// Bounds and periods of a room.
#[derive(Clone, Copy, Debug)]
pub struct RoomConfig {
    /// Most participants.
    pub max_participants: usize,
    /// Most tracks that one participant publishes.
    pub max_tracks: usize,
    /// Most tracks that one participant receives.
    pub max_subscriptions: usize,
    /// Between two sender and receiver reports. Browsers report each second, too.
    pub report_interval: Duration,
    /// The queue in front of each participant.
    pub pacer: PacerConfig,
    /// What the link to each participant is believed to carry; `None`: links are not controlled.
    pub link: Option<LinkConfig>,
    /// How sound is packed on each link, until [`Room::set_merge`] or [`Room::set_redundant`] says otherwise.
    pub packing: Packing,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self {
            max_participants: 1024,
            max_tracks: 32,
            max_subscriptions: 256,
            report_interval: Duration::from_secs(1),
            pacer: PacerConfig::default(),
            link: None,
            packing: Packing::default(),
        }
    }
}

/// Why the room refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum RoomError {
    /// The room is full.
    #[error("the room is full")]
    TooManyParticipants,
    /// The participant publishes as much as it may.
    #[error("too many published tracks")]
    TooManyTracks,
    /// The participant receives as much as it may.
    #[error("too many subscriptions")]
    TooManySubscriptions,
    /// No such participant.
    #[error("no such participant")]
    UnknownParticipant,
    /// No such track.
    #[error("no such track")]
    UnknownTrack,
    /// No such subscription.
    #[error("no such subscription")]
    UnknownSubscription,
    /// The track is another participant's.
    #[error("the track is another participant's")]
    NotOwner,
    /// A participant does not receive its own track.
    #[error("a participant does not receive its own track")]
    OwnTrack,
    /// The SSRC is in use on this transport.
    #[error("SSRC in use")]
    SsrcInUse,
    /// The receiver takes none of the codecs that the track may come in, or another kind of media.
    #[error("no common codec")]
    NoCommonCodec,
}

/// What happened in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomEvent {
    /// A track's first packet arrived.
    TrackStarted {
        /// The publisher.
        participant: ParticipantKey,
        /// The track.
        track: TrackId,
    },
    /// A picture ceased to flow to a receiver, or flows again.
    StreamState {
        /// The receiver.
        participant: ParticipantKey,
        /// The track.
        track: TrackId,
        /// Whether nothing flows: the receiver wants nothing, or the publisher sends nothing.
        paused: bool,
    },
}

impl RoomEvent {
    fn participant(&self) -> ParticipantKey {
        match self {
            Self::TrackStarted { participant, .. } | Self::StreamState { participant, .. } => *participant,
        }
    }
}

/// A room. See the module for its contract.
pub struct Room {
    pub(super) config: RoomConfig,
    pub(super) participants: Table<ParticipantKey, Participant>,
    pub(super) tracks: Table<TrackKey, Published>,
    pub(super) downs: Table<DownKey, Subscription>,
    by_id: FxHashMap<TrackId, TrackKey>,

    /// Whose links may have a packet to send now.
    pub(super) ready: VecDeque<ParticipantKey>,
    /// Whose links' packets have to wait.
    pub(super) waiting: Vec<ParticipantKey>,
    /// Whose RTCP is to be written.
    pub(super) reporting: VecDeque<ParticipantKey>,
    /// No feedback or report is due earlier; `None` while nobody is here.
    pub(super) feedback_due: Option<Instant>,
    /// No link's control is due earlier; `None` while none is controlled.
    pub(super) links_due: Option<Instant>,
    /// Whose packets of sound wait for others.
    pub(super) flushes: Flushes,
    pub(super) events: VecDeque<RoomEvent>,
    pub(super) speakers: Speakers,
    pub(super) rounds: Rounds,
    pub(super) clock: TurnClock,
    pub(super) stats: RoomStats,
}

/// A published track and who receives it.
pub(super) struct Published {
    pub(super) up: UpTrack,
    pub(super) from: ParticipantKey,
    /// Who gets its packets: at most one for each other participant.
    pub(super) subscribers: Vec<DownKey>,
    /// Who will, once packets can be sent to them.
    waiting: Vec<DownKey>,
}

impl Published {
    fn new(up: UpTrack, from: ParticipantKey) -> Self {
        Self { up, from, subscribers: Vec::new(), waiting: Vec::new() }
    }

    /// All subscriptions to it.
    fn subscriptions(&self) -> impl Iterator<Item = DownKey> + '_ {
        self.subscribers.iter().chain(&self.waiting).copied()
    }
}

impl Room {
    /// An empty room.
    pub fn new(config: RoomConfig) -> Self {
        Self {
            config,
            participants: Table::default(),
            tracks: Table::default(),
            downs: Table::default(),
            by_id: FxHashMap::default(),
            ready: VecDeque::new(),
            waiting: Vec::new(),
            reporting: VecDeque::new(),
            feedback_due: None,
            links_due: None,
            flushes: Flushes::default(),
            events: VecDeque::new(),
            speakers: Speakers::default(),
            rounds: Rounds::default(),
            clock: TurnClock::default(),
            stats: RoomStats::default(),
        }
    }

    /// Lets a participant in.
    pub fn add_participant(
        &mut self,
        now: Instant,
        transport: TransportId,
    ) -> Result<ParticipantKey, RoomError> {
        if self.participants.len() >= self.config.max_participants {
            return Err(RoomError::TooManyParticipants);
        }
        // Sixteen phases, so that a class which joins together does not report together.
        let phase = self.participants.len() as u32 % 16 + 1;
        let first_report = now + self.config.report_interval * phase / 16;
        let mut participant = Participant::new(now, transport, self.config.pacer, first_report);
        participant.link.packing = self.config.packing;
        let key = self.participants.insert(participant);
        self.feedback_by(first_report);
        self.rounds.begin(now);
        Ok(key)
    }

    /// Sees a participant off, with all that it publishes and receives.
    pub fn remove_participant(&mut self, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let tracks = std::mem::take(&mut participant.tracks);
        let subscriptions = std::mem::take(&mut participant.subscriptions);
        for track in tracks {
            self.end_track(track);
        }
        for down in subscriptions {
            self.end_subscription(down);
        }
        if let Some(participant) = self.participants.remove(key) {
            self.stats.dropped_unsubscribed += participant.link.pacer.len() as u64;
        }
        self.ready.retain(|&ready| ready != key);
        self.waiting.retain(|&waiting| waiting != key);
        self.reporting.retain(|&reporting| reporting != key);
        // Whoever takes its place must not be told of its tracks.
        self.events.retain(|event| event.participant() != key);
    }

    /// Expects a track's packets from a participant, or changes how those of a known one come.
    pub fn publish(
        &mut self,
        now: Instant,
        from: ParticipantKey,
        id: TrackId,
        source: Source,
        params: ReceiveParams,
    ) -> Result<(), RoomError> {
        let participant = self.participants.get(from).ok_or(RoomError::UnknownParticipant)?;
        let known = self.by_id.get(&id).copied();
        if known.is_some_and(|known| self.tracks[known].from != from) {
            return Err(RoomError::NotOwner);
        }
        if known.is_none() && participant.tracks.len() >= self.config.max_tracks {
            return Err(RoomError::TooManyTracks);
        }
        let mut declared =
            params.encodings.iter().flat_map(|encoding| encoding.ssrc.into_iter().chain(encoding.rtx_ssrc));
        let taken = |ssrc| participant.routes.get(&ssrc).is_some_and(|route| Some(route.track) != known);
        if declared.any(taken) {
            return Err(RoomError::SsrcInUse);
        }
        let extensions = params.extensions;
        let key = match known {
            Some(key) => {
                let Published { up, subscribers, .. } = &mut self.tracks[key];
                if !up.update(now, params) {
                    // What they were given, by its place among the encodings, is no longer sent.
                    subscribers.iter().for_each(|&down| self.downs[down].down.selector_mut().restart());
                }
                key
            }
            None => {
                let up = UpTrack::new(now, id, source, params);
                let key = self.tracks.insert(Published::new(up, from));
                self.by_id.insert(id, key);
                self.participants[from].tracks.push(key);
                self.listen_to(key);
                key
            }
        };
        self.settle_layers(now, key);
        let participant = &mut self.participants[from];
        participant.routes.retain(|_, route| route.track != key);
        participant.routes.extend(routes(key, &self.tracks[key].up));
        for (id, extension) in extensions.iter() {
            participant.extensions.insert(id, extension);
        }
        if extensions.id(Extension::TransportCc).is_some() {
            participant.arrivals.get_or_insert_with(|| ArrivalRecorder::new(DEFAULT_INTERVAL, now));
        }
        Ok(())
    }

    /// Ends a track and its subscriptions.
    pub fn unpublish(&mut self, from: ParticipantKey, id: TrackId) -> Result<(), RoomError> {
        let key = self.owned(from, id)?;
        self.end_track(key);
        Ok(())
    }

    /// Pauses or resumes a track for everyone. Its packets are taken in all the same.
    pub fn set_muted(
        &mut self,
        now: Instant,
        from: ParticipantKey,
        id: TrackId,
        muted: bool,
    ) -> Result<(), RoomError> {
        let key = self.owned(from, id)?;
        let published = &mut self.tracks[key];
        published.up.set_muted(now, muted);
        self.speakers.set_muted(key, muted);
        self.settle_layers(now, key);
        Ok(())
    }

    /// Forwards a track to a participant. A subscription that exists goes on; with other SSRCs it begins anew.
    pub fn subscribe(
        &mut self,
        now: Instant,
        to: ParticipantKey,
        id: TrackId,
        params: SendParams,
    ) -> Result<(), RoomError> {
        let key = *self.by_id.get(&id).ok_or(RoomError::UnknownTrack)?;
        let participant = self.participants.get(to).ok_or(RoomError::UnknownParticipant)?;
        let published = &self.tracks[key];
        if published.from == to {
            return Err(RoomError::OwnTrack);
        }
        let offered = &published.up.params().codecs;
        let common = offered.iter().any(|own| params.codecs.iter().any(|other| other.codec == own.codec));
        if !common || published.up.kind() != params.kind {
            return Err(RoomError::NoCommonCodec);
        }
        let before = self.subscription(to, key);
        if let Some(before) = before
            && *self.downs[before].down.params() == params
        {
            return Ok(());
        }
        if before.is_none() && participant.subscriptions.len() >= self.config.max_subscriptions {
            return Err(RoomError::TooManySubscriptions);
        }
        if ssrcs(&params).any(|ssrc| participant.sent.contains_key(&ssrc)) {
            return Err(RoomError::SsrcInUse);
        }
        let (mut wish, mut told_paused) = (Wish::default(), false);
        if let Some(before) = before {
            wish = self.downs[before].wish;
            // What it was told holds for the new one.
            told_paused = std::mem::take(&mut self.downs[before].told_paused);
            self.end_subscription(before);
        }
        let muted = self.tracks[key].up.muted();
        let ssrcs = ssrcs(&params);
        let mut down = DownTrack::new(params, muted || wish.paused);
        down.set_packing(self.participants[to].link.packing);
        let (starved, awaits_flush) = (false, false);
        let subscription =
            Subscription { down, to, track: key, id, wish, starved, told_paused, awaits_flush };
        let down = self.downs.insert(subscription);
        let participant = &mut self.participants[to];
        participant.subscriptions.push(down);
        participant.sent.extend(ssrcs.map(|ssrc| (ssrc, down)));
        self.tracks[key].waiting.push(down);
        if participant.reachable {
            self.feed(now, down);
        }
        Ok(())
    }

    /// From now on packets can be sent to a participant: what it subscribed to before starts to flow.
    pub fn set_reachable(&mut self, now: Instant, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        participant.health.hear(now);
        if !std::mem::replace(&mut participant.reachable, true) {
            for down in participant.subscriptions.clone() {
                self.feed(now, down);
            }
        }
    }

    /// A track that this participant publishes.
    fn owned(&self, from: ParticipantKey, id: TrackId) -> Result<TrackKey, RoomError> {
        let key = *self.by_id.get(&id).ok_or(RoomError::UnknownTrack)?;
        if self.tracks[key].from == from { Ok(key) } else { Err(RoomError::NotOwner) }
    }

    /// Says how a participant wants a track that it subscribed to.
    pub fn set_wish(
        &mut self,
        now: Instant,
        to: ParticipantKey,
        id: TrackId,
        wish: Wish,
    ) -> Result<(), RoomError> {
        let key = *self.by_id.get(&id).ok_or(RoomError::UnknownTrack)?;
        let down = self.subscription(to, key).ok_or(RoomError::UnknownSubscription)?;
        self.downs[down].wish = wish;
        self.settle_layers(now, key);
        Ok(())
    }

    /// Lets a subscription have the track's packets, a key frame first.
    fn feed(&mut self, now: Instant, down: DownKey) {
        let track = self.downs[down].track;
        let published = &mut self.tracks[track];
        published.waiting.retain(|&waiting| waiting != down);
        published.subscribers.push(down);
        self.control_link(now, down);
        self.settle_layers(now, track);
    }

    /// Stops forwarding a track to a participant.
    pub fn unsubscribe(&mut self, to: ParticipantKey, id: TrackId) -> Result<(), RoomError> {
        let key = *self.by_id.get(&id).ok_or(RoomError::UnknownTrack)?;
        let down = self.subscription(to, key).ok_or(RoomError::UnknownSubscription)?;
        self.end_subscription(down);
        Ok(())
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<RoomEvent> {
        self.events.pop_front()
    }

    /// How many participants are here.
    pub fn participants(&self) -> usize {
        self.participants.len()
    }

    /// The counters so far.
    pub fn stats(&self) -> RoomStats {
        self.stats
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), possibly in the past; `None` while nothing will
    /// happen by itself.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let paced = self.waiting.iter().filter_map(|&key| self.participants[key].link.pacer.poll_timeout());
        let others = [self.speakers.poll_timeout(), self.rounds.poll_timeout(), self.flushes.poll_timeout()];
        paced.chain(self.feedback_due).chain(self.links_due).chain(others.into_iter().flatten()).min()
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tick_links(now);
        self.flush(now);
        let Self { waiting, participants, ready, .. } = self;
        waiting.retain(|&key| {
            let link = &mut participants[key].link;
            let waits = link.pacer.poll_timeout().is_none_or(|at| at > now);
            if !waits {
                link.turn = Turn::Ready;
                ready.push_back(key);
            }
            waits
        });
        if self.feedback_due.is_some_and(|due| due <= now) {
            self.queue_feedback(now);
        }
        self.speakers.decide(now);
        self.judge_links(now);
    }

    /// Some feedback is due then.
    pub(super) fn feedback_by(&mut self, due: Instant) {
        self.feedback_due = Some(self.feedback_due.map_or(due, |earlier| earlier.min(due)));
    }

    fn subscription(&self, to: ParticipantKey, track: TrackKey) -> Option<DownKey> {
        let subscriptions = &self.participants.get(to)?.subscriptions;
        subscriptions.iter().copied().find(|&down| self.downs[down].track == track)
    }

    fn end_track(&mut self, key: TrackKey) {
        let Some(published) = self.tracks.remove(key) else { return };
        for down in published.subscriptions() {
            self.end_subscription(down);
        }
        self.by_id.remove(&published.up.id());
        self.speakers.remove(key);
        if let Some(participant) = self.participants.get_mut(published.from) {
            participant.tracks.retain(|&track| track != key);
            participant.routes.retain(|_, route| route.track != key);
        }
    }

    fn end_subscription(&mut self, key: DownKey) {
        let Some(subscription) = self.downs.remove(key) else { return };
        if subscription.told_paused {
            // Else it would hold for a later subscription, too.
            let Subscription { to, id, .. } = subscription;
            self.events.push_back(RoomEvent::StreamState { participant: to, track: id, paused: false });
        }
        if let Some(published) = self.tracks.get_mut(subscription.track) {
            published.subscribers.retain(|&down| down != key);
            published.waiting.retain(|&down| down != key);
            published.up.look_again();
        }
        if let Some(participant) = self.participants.get_mut(subscription.to) {
            participant.subscriptions.retain(|&down| down != key);
            participant.sent.retain(|_, down| *down != key);
        }
    }
}

fn ssrcs(params: &SendParams) -> impl Iterator<Item = Ssrc> + use<> {
    std::iter::once(params.ssrc).chain(params.rtx_ssrc)
}

/// Where the SSRCs of a track lead, as far as they are known.
fn routes(track: TrackKey, up: &UpTrack) -> impl Iterator<Item = (Ssrc, Route)> + '_ {
    (0..).zip(up.encodings()).flat_map(move |(encoding, own)| {
        let route = move |role| Route { track, encoding, role };
        let media = own.params().ssrc.map(|ssrc| (ssrc, route(StreamRole::Media)));
        media.into_iter().chain(own.params().rtx_ssrc.map(|ssrc| (ssrc, route(StreamRole::Rtx))))
    })
}
