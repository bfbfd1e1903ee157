//! A server on a free port with a scripted SFU behind it, and clients that speak the wire.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    AddTrackRequest, ConnectionSettings, JoinRequest, JoinResponse, SessionDescription, SignalRequest,
    SignalResponse, TrackInfo, TrackSource, TrackType, WrappedJoinRequest, wrapped_join_request,
};
use prost::Message as _;
use sfu_protocol::control::{FromSfu, ToSfu};
use sfu_protocol::ids::TransportId;
use signaling::auth::{self, Claims, VideoGrant};
use signaling::clock::{self, WallClock};
use signaling::connections::{Bounds, Connections};
use signaling::keys::Keys;
use signaling::limits::Limits;
use signaling::listen;
use signaling::metrics::Metrics;
use signaling::page::Page;
use signaling::rooms::Rooms;
use signaling::server::{AppState, router};
use signaling::service::Service;
use signaling::sfu_link::SfuLink;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// Nothing here takes long; whatever does has failed.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) keys: Arc<Keys>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) service: Service,
    pub(crate) sfu: FakeSfu,
}

/// What the scripted SFU saw, and a way to make it say something.
pub(crate) struct FakeSfu {
    pub(crate) seen: watch::Receiver<Vec<ToSfu>>,
    pub(crate) say: mpsc::Sender<FromSfu>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default(), true).await
    }

    pub(crate) async fn start_with(limits: Limits, open_lessons: bool) -> Self {
        Self::start_bounded(limits, open_lessons, Bounds::default()).await
    }

    pub(crate) async fn start_bounded(limits: Limits, open_lessons: bool, bounds: Bounds) -> Self {
        let keys = Arc::new(Keys::parse("test: secret\nother: hidden").unwrap());
        let metrics = Arc::new(Metrics::new());
        let (link, sfu) = fake_sfu();
        let rooms = Rooms::new(limits, WallClock::system(), 1);
        let (service, _) = Service::start(rooms, link, metrics.clone());
        let state = AppState {
            service: service.clone(),
            keys: keys.clone(),
            metrics: metrics.clone(),
            page: Arc::new(Page::built()),
            open_lessons,
            public_url: None,
            lesson_ttl: Duration::from_secs(3600),
            request_timeout: bounds.request,
            further_metrics: None,
            ready: Arc::new(true.into()),
        };
        let listener = listen::bind("127.0.0.1:0".parse().unwrap(), "any").unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Connections::new(bounds, metrics.clone());
        tokio::spawn(listen::serve_http(listener, router(state), connections, Handle::new()));
        Self { addr, keys, metrics, service, sfu }
    }

    pub(crate) fn token(&self, identity: &str, room: &str) -> String {
        self.token_with(identity, VideoGrant { room_join: true, room: room.into(), ..VideoGrant::default() })
    }

    pub(crate) fn token_with(&self, identity: &str, grant: VideoGrant) -> String {
        auth::sign(&self.keys, |issuer| Claims {
            iss: issuer.into(),
            sub: identity.into(),
            name: identity.to_uppercase(),
            exp: clock::unix_seconds() + 60,
            video: Some(grant),
            ..Claims::default()
        })
    }

    /// Joins with an offer in the join request, as Chromium does, and reads the join response and the answer.
    pub(crate) async fn join(&self, identity: &str, room: &str) -> Client {
        let request = JoinRequest { publisher_offer: Some(offer(1)), ..join_request() };
        let mut client = self.connect(&self.token(identity, room), &request).await.unwrap();
        let Response::Join(join) = client.next().await else {
            panic!("the first message is the join response")
        };
        client.join = join;
        client.until(|message| matches!(message, Response::Answer(_)).then_some(())).await;
        client
    }

    pub(crate) async fn connect(
        &self,
        token: &str,
        request: &JoinRequest,
    ) -> Result<Client, tungstenite::Error> {
        let url = format!(
            "ws://{}/rtc/v1?access_token={token}&join_request={}",
            self.addr,
            encode_join_request(request)
        );
        let (socket, _) = connect_async_with_config(url, None, true).await?;
        Ok(Client { socket, join: JoinResponse::default() })
    }

    /// Opens the path of the older protocol with this query.
    pub(crate) async fn connect_v0(&self, query: &str) -> Result<Client, tungstenite::Error> {
        let url = format!("ws://{}/rtc?{query}", self.addr);
        let (socket, _) = connect_async_with_config(url, None, true).await?;
        Ok(Client { socket, join: JoinResponse::default() })
    }

    /// A plain HTTP/1.1 request; returns status line and headers, and the body.
    pub(crate) async fn http(&self, method: &str, path: &str, headers: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: school.example:7880\r\nconnection: close\r\n\
             content-length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    /// Waits until so many transports have been opened, and returns them in order.
    pub(crate) async fn transports(&self, count: usize) -> Vec<TransportId> {
        let opened = |commands: &[ToSfu]| {
            let transports = commands.iter().filter_map(|command| match command {
                ToSfu::OpenTransport { transport, .. } => Some(*transport),
                _ => None,
            });
            transports.collect::<Vec<_>>()
        };
        let mut seen = self.sfu.seen.clone();
        let found = seen.wait_for(|commands| opened(commands).len() == count);
        opened(&tokio::time::timeout(PATIENCE, found).await.expect("they are opened").unwrap())
    }

    /// Waits until the SFU has seen a command.
    pub(crate) async fn sfu_saw<T>(&self, what: impl Fn(&ToSfu) -> Option<T>) -> T {
        let mut seen = self.sfu.seen.clone();
        let found = seen.wait_for(|commands| commands.iter().any(|command| what(command).is_some()));
        let commands =
            tokio::time::timeout(PATIENCE, found).await.expect("the SFU sees the command").unwrap();
        commands.iter().find_map(&what).unwrap()
    }
}

/// An SFU that answers each offer with all tracks in it carried, and asks for a line when a track is
/// subscribed to.
fn fake_sfu() -> (SfuLink, FakeSfu) {
    let (commands, mut queue) = mpsc::channel::<ToSfu>(64);
    let (say, events) = mpsc::channel(64);
    let (note, seen) = watch::channel(Vec::new());
    let speak = say.clone();
    tokio::spawn(async move {
        while let Some(command) = queue.recv().await {
            note.send_modify(|seen| seen.push(command.clone()));
            for event in script(command) {
                speak.send(event).await.ok();
            }
        }
    });
    (SfuLink { commands, events }, FakeSfu { seen, say })
}

fn script(command: ToSfu) -> Vec<FromSfu> {
    match command {
        ToSfu::Offer { transport, offer_id, publish, sdp } if sdp.starts_with("v=0") => vec![
            FromSfu::Answer {
                transport,
                offer_id,
                sdp: "v=0 the answer".into(),
                mid_to_track: publish.iter().enumerate().map(|(mid, p)| (mid.to_string(), p.track)).collect(),
            },
            FromSfu::TransportConnected { transport, srtp_profile: "AEAD_AES_128_GCM".into() },
        ],
        ToSfu::Offer { transport, offer_id, .. } => {
            vec![FromSfu::OfferRejected { transport, offer_id, reason: "not SDP".into() }]
        }
        ToSfu::Subscribe { transport, track: _, msid: _ } => {
            vec![FromSfu::NegotiationNeeded { transport, audios: 0, videos: 1 }]
        }
        ToSfu::OpenOffering { transport, .. } => {
            vec![FromSfu::Offer {
                transport,
                offer_id: 1,
                sdp: "v=0 the SFU's offer".into(),
                mid_to_track: Vec::new(),
            }]
        }
        ToSfu::Answer { transport, .. } => {
            vec![FromSfu::TransportConnected { transport, srtp_profile: "AEAD_AES_128_GCM".into() }]
        }
        _ => Vec::new(),
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) join: JoinResponse,
}

impl Client {
    pub(crate) fn sid(&self) -> &str {
        &self.join.participant.as_ref().unwrap().sid
    }

    pub(crate) async fn send(&mut self, message: Request) {
        let request = SignalRequest { message: Some(message) };
        self.socket.send(Message::binary(request.encode_to_vec())).await.unwrap();
    }

    /// The next signal message.
    pub(crate) async fn next(&mut self) -> Response {
        loop {
            match self.frame().await.expect("the WebSocket is open") {
                Message::Binary(bytes) => {
                    return SignalResponse::decode(bytes).unwrap().message.unwrap();
                }
                Message::Text(text) => {
                    let response: SignalResponse = serde_json::from_str(text.as_str()).unwrap();
                    return response.message.unwrap();
                }
                _ => {}
            }
        }
    }

    /// Reads on until the server closes the WebSocket.
    pub(crate) async fn closed(&mut self) {
        while self.frame().await.is_some() {}
    }

    /// The next frame; None at the end.
    pub(crate) async fn frame(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a frame comes in time");
        match next {
            Some(Ok(Message::Close(_)) | Err(_)) | None => None,
            Some(Ok(frame)) => Some(frame),
        }
    }

    /// Skips messages until one is what is looked for.
    pub(crate) async fn until<T>(&mut self, what: impl Fn(&Response) -> Option<T>) -> T {
        loop {
            if let Some(found) = what(&self.next().await) {
                return found;
            }
        }
    }

    /// Publishes a camera; returns what the server says of it once the answer carries it.
    pub(crate) async fn publish_camera(&mut self, cid: &str) -> TrackInfo {
        self.send(Request::AddTrack(camera(cid))).await;
        let info = self
            .until(|message| match message {
                Response::TrackPublished(published) if published.cid == cid => published.track.clone(),
                _ => None,
            })
            .await;
        self.send(Request::Offer(offer(2))).await;
        self.until(|message| matches!(message, Response::Answer(answer) if answer.id == 2).then_some(()))
            .await;
        info
    }
}

pub(crate) fn camera(cid: &str) -> AddTrackRequest {
    AddTrackRequest {
        cid: cid.into(),
        r#type: TrackType::Video.into(),
        source: TrackSource::Camera.into(),
        ..AddTrackRequest::default()
    }
}

pub(crate) fn offer(id: u32) -> SessionDescription {
    SessionDescription { r#type: "offer".into(), sdp: "v=0 an offer".into(), id, ..Default::default() }
}

pub(crate) fn join_request() -> JoinRequest {
    let settings = ConnectionSettings { auto_subscribe: true, ..ConnectionSettings::default() };
    JoinRequest { connection_settings: Some(settings), ..JoinRequest::default() }
}

pub(crate) fn encode_join_request(request: &JoinRequest) -> String {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&request.encode_to_vec()).unwrap();
    let wrapped = WrappedJoinRequest {
        compression: wrapped_join_request::Compression::Gzip.into(),
        join_request: gzip.finish().unwrap(),
    };
    URL_SAFE.encode(wrapped.encode_to_vec())
}
