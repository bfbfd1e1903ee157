//! A client as LiveKit's are: signal protocol version 1, one peer connection, synthetic media.
//!
//! ```text
//!  owner ── Client ──commands──► session task ──► signal (WebSocket)
//!             ▲                        │
//!             └──── shared state ◄─────┴──► peer (webrtc) ◄── one task for each track and channel
//! ```
//!
//! Nothing here waits for ever: what the server owes has a timeout, and queues are bounded.

mod data;
mod key_frame_requests;
mod media;
mod peer;
mod session;
pub mod signal;
mod state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;

pub use data::{DataMessage, Delivery};
pub use media::{Publication, SentStats};
pub use state::{Connection, Participant, ReceivedTrack, RemoteTrack, Timings};

use crate::api::{ApiError, Server};
use data::Data;
use peer::Peer;
use session::{Command, FIRST_OFFER, Session};
use signal::{FromServer, Signal, SignalError};
use state::Shared;

/// A participant of a room. Dropping it leaves the room, [`Client::leave`] waits until it did.
pub struct Client {
    identity: String,
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    data: Data,
    commands: mpsc::Sender<Command>,
    messages: Mutex<mpsc::Receiver<DataMessage>>,
}

/// A track that is sent.
#[derive(Debug)]
pub struct PublishedTrack {
    /// The server's id for it.
    pub sid: String,
    stats: Arc<SentStats>,
    muting: watch::Sender<bool>,
}

/// Why a client failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection to the server.
    #[error(transparent)]
    Connect(#[from] ApiError),
    /// Signaling failed.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The peer connection failed: what the server sent does not fit, most often.
    #[error("peer connection: {0}")]
    Peer(#[from] webrtc::error::Error),
    /// The server owes something.
    #[error("waited in vain for {0}")]
    Timeout(&'static str),
    /// The server asked us to leave.
    #[error("the server ended it: {0}")]
    Left(&'static str),
    /// The server's first message is no join response.
    #[error("the server did not begin with a join response")]
    NotJoined,
    /// The server does not take the track.
    #[error("the server refused a track")]
    TrackRefused,
    /// The client is no longer in the room.
    #[error("no longer in the room: {0}")]
    Gone(String),
}

impl Client {
    /// Joins the room that `token` is for. Returns when the server let us in; media connects after that, see
    /// [`Client::connected`].
    pub async fn join(server: &Server, token: &str) -> Result<Self, ClientError> {
        let shared = Shared::new(Instant::now());
        let (stream, local) = server.connect().await?;
        let (candidates, gathered) = mpsc::channel(CANDIDATES);
        let (message_sender, messages) = mpsc::channel(MESSAGES);
        let (peer, data) = Peer::new(local, &shared, candidates, &message_sender).await?;
        let peer = Arc::new(peer);

        let request = join_request(peer.offer().await?);
        let opening = async {
            let mut signal = Signal::open(stream, &server.authority(), token, &request).await?;
            let first = signal.receive().await?;
            Ok::<_, ClientError>((signal, first))
        };
        let opened =
            timeout(PATIENCE, opening).await.unwrap_or(Err(ClientError::Timeout("the join response")));
        let (signal, joined) = match opened {
            Ok((signal, FromServer::Join(joined))) => (signal, joined),
            other => {
                let _ = peer.close().await;
                return Err(match other {
                    Err(error) => error,
                    Ok((_, FromServer::Leave(leave))) => ClientError::Left(leave.reason().as_str_name()),
                    Ok(_) => ClientError::NotJoined,
                });
            }
        };
        shared.joined();

        let own = joined.participant.unwrap_or_default();
        shared.update(&own.sid, joined.other_participants);
        let (commands, orders) = mpsc::channel(COMMANDS);
        let (peer_of_session, shared_of_session) = (Arc::clone(&peer), Arc::clone(&shared));
        let session = Session::new(signal, peer_of_session, shared_of_session, own.sid, orders, gathered);
        let seconds = |wish: i32, default: Duration| match u64::try_from(wish) {
            Ok(wish) if wish > 0 => Duration::from_secs(wish),
            _ => default,
        };
        let ping = seconds(joined.ping_interval, PING_INTERVAL);
        tokio::spawn(session.run(ping, seconds(joined.ping_timeout, PATIENCE).max(2 * ping)));
        Ok(Self { identity: own.identity, shared, peer, data, commands, messages: Mutex::new(messages) })
    }

    /// Who we are, as the server sees it.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Waits until ICE and DTLS are done and messages can come and go, twice ten seconds at most.
    pub async fn connected(&self) -> Result<(), ClientError> {
        let mut connection = self.shared.connection();
        let settled = connection.wait_for(|connection| *connection != Connection::Connecting);
        match timeout(PATIENCE, settled).await {
            Ok(Ok(connection)) if *connection == Connection::Connected => {}
            Ok(_) => return Err(self.gone()),
            Err(_) => return Err(ClientError::Timeout("ICE and DTLS")),
        }
        match timeout(PATIENCE, self.data.open_at_server()).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(ClientError::Timeout("open data channels")),
        }
    }

    /// Publishes a track. Returns when the server takes it; packets flow once media is connected.
    pub async fn publish(&self, publication: Publication) -> Result<PublishedTrack, ClientError> {
        let (reply, published) = oneshot::channel();
        self.command(Command::Publish { publication, reply }).await?;
        match timeout(PATIENCE, published).await {
            Ok(Ok(published)) => published,
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(ClientError::Timeout("consent to publish a track")),
        }
    }

    /// From now on media goes on when signaling is lost without a word, as with a browser that tries to reach it
    /// again. Until then its loss ends the client.
    pub async fn outlast_signaling(&self) -> Result<(), ClientError> {
        let (taken, known) = oneshot::channel();
        self.command(Command::OutlastSignaling { taken }).await?;
        known.await.map_err(|_| self.gone())
    }

    /// Mutes a track of ours, or lets it be heard again.
    pub async fn set_muted(&self, track: &PublishedTrack, muted: bool) -> Result<(), ClientError> {
        track.muting.send_replace(muted);
        self.command(Command::Mute { sid: track.sid.clone(), muted }).await
    }

    /// Sends a message: to the identities in `to`, or to everybody if there are none. Waits until data channels
    /// are open, ten seconds at most.
    pub async fn send(
        &self,
        delivery: Delivery,
        to: &[String],
        topic: &str,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        match timeout(PATIENCE, self.data.send(delivery, to, topic, payload)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(ClientError::Timeout("an open data channel")),
        }
    }

    /// The next message from others. None: no longer in the room. Dropping the future loses none.
    pub async fn message(&self) -> Option<DataMessage> {
        self.messages.lock().await.recv().await
    }

    /// Messages that were lost because nobody called [`Client::message`] in time.
    pub fn messages_dropped(&self) -> u64 {
        self.data.dropped()
    }

    /// The others in the room.
    pub fn participants(&self) -> Vec<Participant> {
        self.shared.participants()
    }

    /// What arrives, by track.
    pub fn received(&self) -> Vec<ReceivedTrack> {
        self.shared.received()
    }

    /// How long it took to get in.
    pub fn timings(&self) -> Timings {
        self.shared.timings()
    }

    /// The SRTP profile in use. None: not connected.
    pub async fn srtp_profile(&self) -> Option<String> {
        self.peer.srtp_profile().await
    }

    /// Why the client is no longer in the room. None: it is.
    pub fn ended(&self) -> Option<String> {
        self.shared.end()
    }

    /// Leaves the room and waits until all is closed.
    pub async fn leave(&self) {
        let (left, done) = oneshot::channel();
        if self.command(Command::Leave { left }).await.is_ok() {
            let _ = timeout(PATIENCE, done).await;
        }
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        self.commands.send(command).await.map_err(|_| self.gone())
    }

    fn gone(&self) -> ClientError {
        ClientError::Gone(self.shared.end().unwrap_or_else(|| "the media connection failed".to_owned()))
    }
}

impl PublishedTrack {
    /// What was sent so far.
    pub fn stats(&self) -> &SentStats {
        &self.stats
    }

    /// Stops sending without a word to the server, as a broken camera does.
    pub fn pause(&self) {
        self.muting.send_replace(true);
    }
}

fn join_request(sdp: String) -> proto::JoinRequest {
    proto::JoinRequest {
        client_info: Some(proto::ClientInfo {
            sdk: proto::client_info::Sdk::Rust.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            os: std::env::consts::OS.to_owned(),
            ..Default::default()
        }),
        connection_settings: Some(proto::ConnectionSettings { auto_subscribe: true, ..Default::default() }),
        publisher_offer: Some(session::offer(FIRST_OFFER, sdp)),
        ..Default::default()
    }
}

/// The version of LiveKit's protocol that livekit-client 2.23 names.
const PROTOCOL: i32 = 17;

/// What the server may take for an answer: livekit-client gives a track's publication as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// If the server names none.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Bounds of the queues between a client's tasks.
const CANDIDATES: usize = 64;
const MESSAGES: usize = 1024;
const COMMANDS: usize = 16;
