//! A server made of the same crate `webrtc` that the client uses: it says what a test wants it to say, and answers
//! offers. It shows that a client does its part of the protocol, not that a server works.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use loadtest::api::Server;
use loadtest::client::signal::{FromServer, ToServer, decode_join};
use prost::Message as _;
use rtc::ice::mdns::MulticastDnsMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCSessionDescription,
    SettingEngineBuilder,
};

/// A listening server.
pub(crate) struct Mock {
    listener: TcpListener,
}

/// A client's connection to it.
pub(crate) struct Visitor {
    socket: WebSocketStream<TcpStream>,
    /// What it asked for in its first request.
    pub(crate) request: proto::JoinRequest,
}

impl Mock {
    pub(crate) async fn start() -> (Self, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        (Self { listener }, server)
    }

    /// Reads a request and answers with these words of HTTP, then hangs up.
    pub(crate) async fn answer_http(&self, words: &str) -> String {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut request = vec![0; 32 * 1024];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    }

    /// Lets the next client in.
    pub(crate) async fn accept(&self) -> Visitor {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut uri = String::new();
        #[expect(clippy::result_large_err, reason = "tungstenite's signature")]
        let note = |request: &Request, response: Response| {
            uri = request.uri().to_string();
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, note).await.unwrap();
        let parameter = uri.split_once("join_request=").unwrap().1.replace("%3D", "=");
        Visitor { socket, request: decode_join(&parameter).unwrap() }
    }
}

impl Visitor {
    /// The first message of a server that lets the client in.
    pub(crate) async fn welcome(&mut self) {
        let participant =
            proto::ParticipantInfo { sid: "PA_me".into(), identity: "me".into(), ..Default::default() };
        self.say(FromServer::Join(proto::JoinResponse {
            participant: Some(participant),
            ping_interval: 5,
            ping_timeout: 15,
            ..Default::default()
        }))
        .await;
    }

    pub(crate) async fn say(&mut self, message: FromServer) {
        let bytes = proto::SignalResponse { message: Some(message) }.encode_to_vec();
        self.say_bytes(bytes).await;
    }

    pub(crate) async fn say_bytes(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    /// The client's next message of a kind that `wanted` takes; others are passed over. None: it hung up.
    pub(crate) async fn hear<T>(&mut self, mut wanted: impl FnMut(ToServer) -> Option<T>) -> Option<T> {
        while let Some(Ok(frame)) = self.socket.next().await {
            if let Message::Binary(bytes) = frame {
                let message = proto::SignalRequest::decode(bytes).unwrap().message.unwrap();
                if let Some(found) = wanted(message) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// The client's next offer.
    pub(crate) async fn offer(&mut self) -> proto::SessionDescription {
        let offer = |message| match message {
            ToServer::Offer(offer) => Some(offer),
            _ => None,
        };
        self.hear(offer).await.expect("the client offers")
    }
}

/// A peer connection that answers.
pub(crate) struct Answerer {
    connection: Arc<dyn PeerConnection>,
}

impl Answerer {
    pub(crate) async fn new() -> Self {
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let settings =
            SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_handler(Arc::new(Deaf))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();
        Self { connection: Arc::new(connection) }
    }

    /// The answer to an offer, with the same number and with candidates.
    pub(crate) async fn answer(&self, offer: proto::SessionDescription) -> FromServer {
        self.connection
            .set_remote_description(RTCSessionDescription::offer(offer.sdp).unwrap())
            .await
            .unwrap();
        let answer = self.connection.create_answer(None).await.unwrap();
        self.connection.set_local_description(answer).await.unwrap();
        let sdp = loop {
            // Gathering on loopback takes a moment; there is no sooner sign of its end than the text itself.
            let sdp = self.connection.local_description().await.unwrap().sdp;
            if sdp.contains("a=candidate") {
                break sdp;
            }
            tokio::task::yield_now().await;
        };
        FromServer::Answer(proto::SessionDescription {
            r#type: "answer".into(),
            sdp,
            id: offer.id,
            ..Default::default()
        })
    }
}

struct Deaf;

#[async_trait]
impl PeerConnectionEventHandler for Deaf {}
