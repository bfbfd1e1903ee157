//! One task for each client: reads the signaling connection, keeps the offers in order, and does what the owner
//! asks for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use livekit_protocol as proto;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, trace};
use webrtc::peer_connection::RTCIceCandidateInit;

use super::media::{Publication, Sending, SentStats};
use super::peer::{Outgoing, Peer};
use super::signal::{FromServer, Signal, ToServer};
use super::state::Shared;
use super::{ClientError, PublishedTrack};
use crate::receive_stats::MediaKind;
use crate::seed;

/// What the owner asks for.
pub(super) enum Command {
    Publish { publication: Publication, reply: oneshot::Sender<Result<PublishedTrack, ClientError>> },
    Mute { sid: String, muted: bool },
    OutlastSignaling { taken: oneshot::Sender<()> },
    Leave { left: oneshot::Sender<()> },
}

pub(super) struct Session {
    signal: Signal,
    peer: Arc<Peer>,
    shared: Arc<Shared>,
    own_sid: String,
    commands: mpsc::Receiver<Command>,
    candidates: mpsc::Receiver<RTCIceCandidateInit>,
    negotiation: Negotiation,
    /// Tracks that the server was told of, by cid.
    announced: HashMap<String, Announced>,
    /// Tracks that wait for the answer to an offer.
    outgoing: Vec<Negotiating>,
    /// By sid: a moderator may mute them.
    muting: HashMap<String, watch::Sender<bool>>,
    senders: JoinSet<()>,
    /// Whether media goes on without signaling.
    outlasts: bool,
}

/// One offer at a time (RFC 3264 §4).
#[derive(Debug, PartialEq, Eq)]
struct Negotiation {
    last_offer: u32,
    pending: bool,
    /// Something changed after the pending offer was made.
    again: bool,
}

struct Announced {
    ssrc: u32,
    publication: Publication,
    reply: oneshot::Sender<Result<PublishedTrack, ClientError>>,
}

struct Negotiating {
    sid: String,
    outgoing: Outgoing,
    /// None: no offer has it yet.
    offer: Option<u32>,
    reply: oneshot::Sender<Result<PublishedTrack, ClientError>>,
}

/// What ends a session.
enum End {
    Left(oneshot::Sender<()>),
    OwnerGone,
    Error(ClientError),
}

impl<E: Into<ClientError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl Session {
    /// A session whose first offer, number 1, went with the join request.
    pub(super) fn new(
        signal: Signal,
        peer: Arc<Peer>,
        shared: Arc<Shared>,
        own_sid: String,
        commands: mpsc::Receiver<Command>,
        candidates: mpsc::Receiver<RTCIceCandidateInit>,
    ) -> Self {
        Self {
            signal,
            peer,
            shared,
            own_sid,
            commands,
            candidates,
            negotiation: Negotiation { last_offer: FIRST_OFFER, pending: true, again: false },
            announced: HashMap::new(),
            outgoing: Vec::new(),
            muting: HashMap::new(),
            senders: JoinSet::new(),
            outlasts: false,
        }
    }

    /// Until the owner leaves or goes away, or the server ends it. `ping` and `patience`: the server's wishes.
    pub(super) async fn run(mut self, ping: Duration, patience: Duration) {
        let end = match self.serve(ping, patience).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let end = match end {
            End::Error(ClientError::Signal(_) | ClientError::Timeout(_)) if self.outlasts => {
                self.outlast().await
            }
            end => end,
        };
        if !matches!(end, End::Error(_)) {
            let leave = proto::LeaveRequest {
                reason: proto::DisconnectReason::ClientInitiated.into(),
                action: proto::leave_request::Action::Disconnect.into(),
                ..Default::default()
            };
            let _ = self.signal.send(ToServer::Leave(leave)).await;
        }
        self.senders.shutdown().await;
        self.signal.close().await;
        let _ = self.peer.close().await;
        match end {
            End::Left(left) => {
                self.shared.ended("left");
                // Who no longer waits for it does not mind.
                let _ = left.send(());
            }
            End::OwnerGone => self.shared.ended("left"),
            End::Error(error) => self.shared.ended(&error.to_string()),
        }
    }

    async fn serve(&mut self, ping: Duration, patience: Duration) -> Result<std::convert::Infallible, End> {
        let mut pings = interval(ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = self.signal.receive() => {
                    heard = Instant::now();
                    self.handle_message(message?).await?;
                }
                command = self.commands.recv() => match command {
                    Some(Command::Leave { left }) => return Err(End::Left(left)),
                    Some(command) => self.handle_command(command).await?,
                    None => return Err(End::OwnerGone),
                },
                Some(candidate) = self.candidates.recv() => self.trickle(&candidate).await?,
                _ = pings.tick() => {
                    if heard.elapsed() > patience {
                        return Err(ClientError::Timeout("a sign of life from the server").into());
                    }
                    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let timestamp = i64::try_from(timestamp.as_millis()).unwrap_or(i64::MAX);
                    self.signal.send(ToServer::PingReq(proto::Ping { timestamp, rtt: 0 })).await?;
                }
            }
        }
    }

    /// Without signaling: until the owner leaves or goes away.
    async fn outlast(&mut self) -> End {
        loop {
            match self.commands.recv().await {
                Some(Command::Leave { left }) => return End::Left(left),
                Some(_) => {}
                None => return End::OwnerGone,
            }
        }
    }

    async fn handle_command(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Publish { publication, reply } => {
                let seed = seed::fresh();
                let (cid, ssrc) = (format!("track-{seed:016x}"), (seed as u32).max(1));
                self.signal.send(ToServer::AddTrack(announcement(&cid, ssrc, publication))).await?;
                self.announced.insert(cid, Announced { ssrc, publication, reply });
            }
            Command::Mute { sid, muted } => {
                self.signal.send(ToServer::Mute(proto::MuteTrackRequest { sid, muted })).await?;
            }
            Command::OutlastSignaling { taken } => {
                self.outlasts = true;
                // Who asked may have gone meanwhile.
                taken.send(()).ok();
            }
            Command::Leave { .. } => unreachable!("leaving is handled where commands arrive"),
        }
        Ok(())
    }

    async fn handle_message(&mut self, message: FromServer) -> Result<(), End> {
        match message {
            FromServer::Answer(answer) => self.handle_answer(answer).await?,
            FromServer::Update(update) => self.shared.update(&self.own_sid, update.participants),
            FromServer::TrackPublished(published) => self.handle_published(published).await?,
            FromServer::MediaSectionsRequirement(required) => {
                self.peer.add_receivers(MediaKind::Sound, required.num_audios.min(MAX_NEW_LINES)).await?;
                self.peer.add_receivers(MediaKind::Picture, required.num_videos.min(MAX_NEW_LINES)).await?;
                self.negotiate().await?;
            }
            FromServer::Trickle(trickle) => self.handle_candidate(&trickle.candidate_init).await,
            FromServer::Mute(mute) => {
                if let Some(muting) = self.muting.get(&mute.sid) {
                    muting.send_replace(mute.muted);
                }
            }
            FromServer::Leave(leave) => return Err(ClientError::Left(leave.reason().as_str_name()).into()),
            FromServer::RequestResponse(response) => {
                if let Some(proto::request_response::Request::AddTrack(request)) = response.request
                    && let Some(announced) = self.announced.remove(&request.cid)
                {
                    let _ = announced.reply.send(Err(ClientError::TrackRefused));
                }
            }
            other => trace!(?other, "not needed here"),
        }
        Ok(())
    }

    /// One candidate of several: one that is of no use here does not matter.
    async fn handle_candidate(&self, json: &str) {
        let candidate = serde_json::from_str::<RTCIceCandidateInit>(json).unwrap_or_default();
        if !candidate.candidate.is_empty()
            && let Err(error) = self.peer.add_candidate(candidate).await
        {
            debug!(%error, "a candidate of the server");
        }
    }

    /// The server knows the track: offer it.
    async fn handle_published(&mut self, published: proto::TrackPublishedResponse) -> Result<(), End> {
        let Some(announced) = self.announced.remove(&published.cid) else { return Ok(()) };
        let Some(track) = published.track else {
            let _ = announced.reply.send(Err(ClientError::TrackRefused));
            return Ok(());
        };
        let outgoing = self.peer.add_sender(&published.cid, announced.ssrc, announced.publication).await?;
        self.outgoing.push(Negotiating { sid: track.sid, outgoing, offer: None, reply: announced.reply });
        self.negotiate().await
    }

    /// Offers the present state, now or after the pending offer's answer.
    async fn negotiate(&mut self) -> Result<(), End> {
        if self.negotiation.pending {
            self.negotiation.again = true;
            return Ok(());
        }
        let id = self.negotiation.last_offer + 1;
        self.negotiation = Negotiation { last_offer: id, pending: true, again: false };
        for waiting in &mut self.outgoing {
            waiting.offer.get_or_insert(id);
        }
        let sdp = self.peer.offer().await?;
        self.signal.send(ToServer::Offer(offer(id, sdp))).await?;
        Ok(())
    }

    async fn handle_answer(&mut self, answer: proto::SessionDescription) -> Result<(), End> {
        let id = self.negotiation.last_offer;
        // Servers that do not number their answers answer in order.
        if !self.negotiation.pending || (answer.id != 0 && answer.id != id) {
            debug!(answer = answer.id, offer = id, "an answer to another offer");
            return Ok(());
        }
        self.peer.answer(answer.sdp).await?;
        self.negotiation.pending = false;
        let answered = self.outgoing.extract_if(.., |waiting| waiting.offer == Some(id)).collect::<Vec<_>>();
        for negotiated in answered {
            self.start(negotiated).await?;
        }
        if self.negotiation.again { self.negotiate().await } else { Ok(()) }
    }

    async fn start(&mut self, negotiated: Negotiating) -> Result<(), End> {
        let Negotiating { sid, outgoing, reply, .. } = negotiated;
        let Some(extensions) = outgoing.accepted().await? else {
            let _ = reply.send(Err(ClientError::TrackRefused));
            return Ok(());
        };
        let muting = watch::Sender::new(false);
        let stats = Arc::new(SentStats::default());
        self.senders.spawn(
            Sending {
                track: outgoing.track,
                source: outgoing.source,
                extensions,
                muted: muting.subscribe(),
                connection: self.shared.connection(),
                stats: Arc::clone(&stats),
            }
            .run(),
        );
        self.muting.insert(sid.clone(), muting.clone());
        let _ = reply.send(Ok(PublishedTrack { sid, stats, muting }));
        Ok(())
    }

    async fn trickle(&mut self, candidate: &RTCIceCandidateInit) -> Result<(), End> {
        let candidate_init = serde_json::to_string(candidate).expect("strings and numbers always serialise");
        let target = proto::SignalTarget::Publisher.into();
        let trickle = proto::TrickleRequest { candidate_init, target, r#final: false };
        Ok(self.signal.send(ToServer::Trickle(trickle)).await?)
    }
}

/// An offer with its number.
pub(super) fn offer(id: u32, sdp: String) -> proto::SessionDescription {
    proto::SessionDescription { r#type: "offer".to_owned(), sdp, id, ..Default::default() }
}

/// What the server is told of a track before it is offered.
fn announcement(cid: &str, ssrc: u32, publication: Publication) -> proto::AddTrackRequest {
    let track =
        proto::AddTrackRequest { cid: cid.to_owned(), stream: "loadtest".to_owned(), ..Default::default() };
    match publication {
        Publication::Microphone { .. } => proto::AddTrackRequest {
            name: "microphone".to_owned(),
            r#type: proto::TrackType::Audio.into(),
            source: proto::TrackSource::Microphone.into(),
            audio_features: vec![proto::AudioTrackFeature::TfNoDtx.into()],
            disable_red: true,
            ..track
        },
        Publication::Camera(camera) => {
            let layer = proto::VideoLayer {
                quality: proto::VideoQuality::High.into(),
                width: camera.width.into(),
                height: camera.height.into(),
                bitrate: camera.kbps.saturating_mul(1000),
                ssrc,
                ..Default::default()
            };
            proto::AddTrackRequest {
                name: "camera".to_owned(),
                r#type: proto::TrackType::Video.into(),
                source: proto::TrackSource::Camera.into(),
                width: camera.width.into(),
                height: camera.height.into(),
                layers: vec![layer],
                ..track
            }
        }
    }
}

/// The number of the offer in the join request.
pub(super) const FIRST_OFFER: u32 = 1;

/// More lines than a server has reason to ask for at once.
const MAX_NEW_LINES: u32 = 128;
