//! What a client knows, shared between its tasks and its owner.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use serde::Serialize;
use tokio::sync::watch;

use crate::receive_stats::{MediaKind, ReceiveStats};

/// Somebody else in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// LiveKit's id of this stay in the room.
    pub sid: String,
    /// Who it is.
    pub identity: String,
    /// The name that people see.
    pub name: String,
    /// Published tracks.
    pub tracks: Vec<RemoteTrack>,
}

/// A track that somebody publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteTrack {
    /// LiveKit's id.
    pub sid: String,
    /// Sound or picture.
    pub kind: MediaKind,
    /// Published, but nothing is sent now.
    pub muted: bool,
}

/// A track that arrives.
#[derive(Clone, Debug, Serialize)]
pub struct ReceivedTrack {
    /// LiveKit's id.
    pub sid: String,
    /// Identity of who publishes it. None: the server did not say.
    pub publisher: Option<String>,
    /// What arrived so far.
    #[serde(flatten)]
    pub stats: ReceiveStats,
}

/// How long it took to get in, from the start of the TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The server's join message was there.
    pub joined: Option<Duration>,
    /// ICE and DTLS were done.
    pub connected: Option<Duration>,
}

/// The media connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// ICE or DTLS are under way.
    Connecting,
    /// Media flows.
    Connected,
    /// Gone for good.
    Lost,
}

#[derive(Debug)]
pub(super) struct Shared {
    started: Instant,
    connection: watch::Sender<Connection>,
    room: Mutex<Room>,
    received: Mutex<BTreeMap<String, Arc<Receiving>>>,
}

#[derive(Debug, Default)]
struct Room {
    timings: Timings,
    /// Why the client is no longer in it.
    end: Option<String>,
    /// By sid.
    participants: BTreeMap<String, Participant>,
}

/// One arriving track: written by the task that reads it.
#[derive(Debug)]
pub(super) struct Receiving {
    publisher_sid: Option<String>,
    stats: Mutex<ReceiveStats>,
}

impl Receiving {
    pub(super) fn stats(&self) -> MutexGuard<'_, ReceiveStats> {
        locked(&self.stats)
    }
}

impl Shared {
    pub(super) fn new(started: Instant) -> Arc<Self> {
        Arc::new(Self {
            started,
            connection: watch::Sender::new(Connection::Connecting),
            room: Mutex::default(),
            received: Mutex::default(),
        })
    }

    /// Time since the client began to join.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn timings(&self) -> Timings {
        locked(&self.room).timings
    }

    pub(super) fn joined(&self) {
        let elapsed = self.elapsed();
        locked(&self.room).timings.joined.get_or_insert(elapsed);
    }

    /// Why the session is over. None: it is not.
    pub(super) fn end(&self) -> Option<String> {
        locked(&self.room).end.clone()
    }

    pub(super) fn ended(&self, reason: &str) {
        locked(&self.room).end.get_or_insert_with(|| reason.to_owned());
        self.set_connection(Connection::Lost);
    }

    pub(super) fn connection(&self) -> watch::Receiver<Connection> {
        self.connection.subscribe()
    }

    pub(super) fn set_connection(&self, connection: Connection) {
        if connection == Connection::Connected {
            let elapsed = self.elapsed();
            locked(&self.room).timings.connected.get_or_insert(elapsed);
        }
        self.connection.send_replace(connection);
    }

    pub(super) fn participants(&self) -> Vec<Participant> {
        locked(&self.room).participants.values().cloned().collect()
    }

    /// Takes over what the server says of others.
    pub(super) fn update(&self, own_sid: &str, participants: Vec<proto::ParticipantInfo>) {
        let mut room = locked(&self.room);
        for info in participants.into_iter().filter(|info| info.sid != own_sid) {
            if info.state() == proto::participant_info::State::Disconnected {
                room.participants.remove(&info.sid);
            } else if room.participants.len() < MAX_PARTICIPANTS || room.participants.contains_key(&info.sid)
            {
                room.participants.insert(info.sid.clone(), Participant::from(info));
            }
        }
    }

    pub(super) fn received(&self) -> Vec<ReceivedTrack> {
        let tracks = locked(&self.received);
        let room = locked(&self.room);
        tracks
            .iter()
            .map(|(sid, track)| {
                let publisher = track.publisher_sid.as_ref().and_then(|sid| room.participants.get(sid));
                let publisher = publisher.or_else(|| {
                    room.participants.values().find(|someone| someone.tracks.iter().any(|t| t.sid == *sid))
                });
                ReceivedTrack {
                    sid: sid.clone(),
                    publisher: publisher.map(|publisher| publisher.identity.clone()),
                    stats: track.stats().clone(),
                }
            })
            .collect()
    }

    /// Opens the counters of a track. None: there are too many tracks.
    pub(super) fn receive(&self, stream: &str, track: &str, kind: MediaKind) -> Option<Arc<Receiving>> {
        let (publisher, sid) = parse_msid(stream, track);
        let mut tracks = locked(&self.received);
        if tracks.len() >= MAX_TRACKS && !tracks.contains_key(sid) {
            return None;
        }
        let entry = tracks.entry(sid.to_owned()).or_insert_with(|| {
            Arc::new(Receiving {
                publisher_sid: publisher.map(str::to_owned),
                stats: Mutex::new(ReceiveStats::new(kind)),
            })
        });
        Some(Arc::clone(entry))
    }
}

impl From<proto::ParticipantInfo> for Participant {
    fn from(info: proto::ParticipantInfo) -> Self {
        let tracks = info.tracks.iter().filter_map(|track| {
            let kind = match track.r#type() {
                proto::TrackType::Audio => MediaKind::Sound,
                proto::TrackType::Video => MediaKind::Picture,
                proto::TrackType::Data => return None,
            };
            Some(RemoteTrack { sid: track.sid.clone(), kind, muted: track.muted })
        });
        Self { tracks: tracks.collect(), sid: info.sid, identity: info.identity, name: info.name }
    }
}

/// The publisher's sid, if it is known, and the track's sid in the two parts of an `msid` (RFC 8830): LiveKit
/// writes `PA_publisher|stream TR_track` or `PA_publisher|TR_track anything`.
fn parse_msid<'a>(stream: &'a str, track: &'a str) -> (Option<&'a str>, &'a str) {
    match stream.split_once('|') {
        Some((publisher, stream)) if stream.starts_with("TR_") => (Some(publisher), stream),
        Some((publisher, _)) => (Some(publisher), track),
        None => (None, track),
    }
}

/// Data behind a lock stays whole when a task panics while it holds it: counters only.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// More than a room of this system holds.
const MAX_PARTICIPANTS: usize = 4096;

/// More than a session description of a mebibyte can name.
const MAX_TRACKS: usize = 4096;

#[cfg(test)]
mod tests {
    use proto::participant_info::State;

    use super::*;

    fn info(sid: &str, state: State, tracks: &[&str]) -> proto::ParticipantInfo {
        let track = |sid: &&str| proto::TrackInfo { sid: (*sid).to_owned(), r#type: 1, ..Default::default() };
        proto::ParticipantInfo {
            sid: sid.to_owned(),
            identity: format!("identity of {sid}"),
            state: state.into(),
            tracks: tracks.iter().map(track).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_room_has_those_who_came_and_did_not_leave() {
        let shared = Shared::new(Instant::now());
        shared.update("PA_me", vec![info("PA_me", State::Active, &[]), info("PA_1", State::Active, &[])]);
        shared.update("PA_me", vec![info("PA_2", State::Joined, &["TR_a"])]);
        let sids = || shared.participants().into_iter().map(|p| p.sid).collect::<Vec<_>>();
        assert_eq!(sids(), ["PA_1", "PA_2"]);
        assert_eq!(shared.participants()[1].tracks[0].kind, MediaKind::Picture);
        shared.update("PA_me", vec![info("PA_1", State::Disconnected, &[])]);
        assert_eq!(sids(), ["PA_2"]);
    }

    #[test]
    fn a_received_track_knows_its_publisher() {
        let shared = Shared::new(Instant::now());
        shared.update("PA_me", vec![info("PA_1", State::Active, &["TR_a", "TR_b", "TR_c"])]);
        for (stream, track) in
            [("PA_1|camera", "TR_a"), ("PA_1|TR_b", "{1-2}"), ("stream", "TR_c"), ("x", "y")]
        {
            shared.receive(stream, track, MediaKind::Picture).unwrap();
        }
        let received: Vec<_> =
            shared.received().into_iter().map(|track| (track.sid, track.publisher)).collect();
        let known = Some("identity of PA_1".to_owned());
        let expected = [("TR_a", known.clone()), ("TR_b", known.clone()), ("TR_c", known), ("y", None)];
        assert_eq!(received, expected.map(|(sid, publisher)| (sid.to_owned(), publisher)));
    }
}
