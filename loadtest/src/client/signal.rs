//! LiveKit's signal protocol, version 1, as its client sees it: the join request in the URL, then protobuf
//! messages in binary WebSocket frames (RFC 6455).

use std::io::{Read, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::{self as proto, signal_request, signal_response, wrapped_join_request};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

/// Something the server says.
pub use signal_response::Message as FromServer;

/// Something the client says.
pub use signal_request::Message as ToServer;

/// The connection to the signaling service.
#[derive(Debug)]
pub struct Signal {
    socket: WebSocketStream<TcpStream>,
}

/// Why signaling failed.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The server would not have us.
    #[error("the server refused to join: {status} {reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said, one line.
        reason: String,
    },
    /// The connection broke, or what came was no WebSocket.
    #[error("signaling: {0}")]
    Socket(#[from] Box<tungstenite::Error>),
    /// The server closed the connection.
    #[error("the server closed the signaling connection")]
    Closed,
    /// What came is not a message of the protocol.
    #[error("signaling: not a message of the protocol")]
    Message,
    /// The server does not read.
    #[error("signaling: nothing could be sent in {} s", SEND_TIMEOUT.as_secs())]
    Stalled,
}

impl Signal {
    /// Opens the connection on `stream` and sends `join` with it.
    pub async fn open(
        stream: TcpStream,
        authority: &str,
        token: &str,
        join: &proto::JoinRequest,
    ) -> Result<Self, SignalError> {
        let url = format!("ws://{authority}/rtc/v1?join_request={}", encode_join(join).replace('=', "%3D"));
        let mut request = url.into_client_request().map_err(Box::new)?;
        let bearer = format!("Bearer {token}").parse().map_err(|_| SignalError::Message)?;
        request.headers_mut().insert("Authorization", bearer);
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(tungstenite::Error::Http(response)) => Err(SignalError::Refused {
                status: response.status().as_u16(),
                reason: one_line(response.body().as_deref().unwrap_or_default()),
            }),
            Err(error) => Err(Box::new(error).into()),
        }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: ToServer) -> Result<(), SignalError> {
        let bytes = proto::SignalRequest { message: Some(message) }.encode_to_vec();
        match timeout(SEND_TIMEOUT, self.socket.send(Message::binary(bytes))).await {
            Ok(sent) => Ok(sent.map_err(Box::new)?),
            Err(_) => Err(SignalError::Stalled),
        }
    }

    /// The next message. Dropping the future loses none.
    pub async fn receive(&mut self) -> Result<FromServer, SignalError> {
        loop {
            let frame = self.socket.next().await.ok_or(SignalError::Closed)?;
            match frame {
                Ok(Message::Binary(bytes)) => {
                    let response = proto::SignalResponse::decode(bytes).map_err(|_| SignalError::Message)?;
                    // Kinds that are newer than this program decode to nothing.
                    if let Some(message) = response.message {
                        return Ok(message);
                    }
                }
                Ok(Message::Close(_)) => return Err(SignalError::Closed),
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => {
                    return Err(SignalError::Closed);
                }
                Err(error) => return Err(Box::new(error).into()),
            }
        }
    }

    /// Closes the connection, without waiting for the server's consent.
    pub async fn close(mut self) {
        let _ = timeout(SEND_TIMEOUT, self.socket.close(None)).await;
    }
}

/// The value of the query parameter `join_request`: base64 of a wrapper around the gzipped request.
pub fn encode_join(join: &proto::JoinRequest) -> String {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&join.encode_to_vec()).expect("a vector takes all that is written");
    let wrapped = proto::WrappedJoinRequest {
        compression: wrapped_join_request::Compression::Gzip.into(),
        join_request: gzip.finish().expect("a vector takes all that is written"),
    };
    URL_SAFE.encode(wrapped.encode_to_vec())
}

/// What [`encode_join`] made, as a server reads it. None: not a join request, or one beyond a mebibyte.
pub fn decode_join(encoded: &str) -> Option<proto::JoinRequest> {
    let wrapped = proto::WrappedJoinRequest::decode(&URL_SAFE.decode(encoded).ok()?[..]).ok()?;
    let join = match wrapped.compression() {
        wrapped_join_request::Compression::None => wrapped.join_request,
        wrapped_join_request::Compression::Gzip => {
            let mut join = Vec::new();
            let mut gzip = GzDecoder::new(&wrapped.join_request[..]).take(MAX_MESSAGE as u64 + 1);
            gzip.read_to_end(&mut join).ok().filter(|len| *len <= MAX_MESSAGE)?;
            join
        }
    };
    proto::JoinRequest::decode(&join[..]).ok()
}

/// The first line of what a server wrote, not too long, fit for a terminal.
fn one_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A lesson's largest message is an answer with a hundred media sections.
const MAX_MESSAGE: usize = 1024 * 1024;

const SEND_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_request_survives_its_encoding() {
        let join = proto::JoinRequest {
            publisher_offer: Some(proto::SessionDescription {
                r#type: "offer".into(),
                sdp: "a=candidate\r\n".repeat(1000),
                id: 1,
                ..Default::default()
            }),
            ..Default::default()
        };
        let encoded = encode_join(&join);
        assert!(encoded.len() < 2000, "compressed: {}", encoded.len());
        assert!(encoded.chars().all(|c| c.is_ascii_alphanumeric() || "-_=".contains(c)));
        assert_eq!(decode_join(&encoded), Some(join));
    }

    #[test]
    fn what_is_no_join_request_is_none() {
        let uncompressed = proto::WrappedJoinRequest { compression: 0, join_request: vec![] };
        assert_eq!(decode_join(&URL_SAFE.encode(uncompressed.encode_to_vec())), Some(Default::default()));
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(&vec![0; MAX_MESSAGE + 1]).unwrap();
        let bomb = proto::WrappedJoinRequest { compression: 1, join_request: bomb.finish().unwrap() };
        for encoded in ["", "@", "AAAA", &URL_SAFE.encode(bomb.encode_to_vec())] {
            assert!(decode_join(encoded).is_none_or(|join| join == Default::default()), "{encoded:.20}");
        }
        assert_eq!(decode_join(&URL_SAFE.encode(bomb.encode_to_vec())), None);
    }

    #[test]
    fn a_refusal_is_shown_on_one_line() {
        assert_eq!(one_line(b"not\x1b[31m now\nand more"), "not[31m now");
        assert_eq!(one_line(b""), "");
    }
}
