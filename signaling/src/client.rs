//! One client's WebSocket: frames in and out, until either side ends it.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::{JoinRequest, SignalResponse};
use tokio::sync::{mpsc, watch};
use tracing::debug;

use crate::auth::Claims;
use crate::ids::SocketId;
use crate::metrics::Metrics;
use crate::protocol::Protocol;
use crate::service::{ClientEnd, Service};
use crate::wire::{self, Encoding, Frame};

/// A frame that is not taken within this time will not be: the client or its line is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a client whose token has been verified, until its WebSocket ends.
pub(crate) async fn serve(
    socket: WebSocket,
    service: Service,
    claims: Claims,
    request: JoinRequest,
    protocol: Protocol,
    metrics: &Metrics,
) {
    let Ok(ClientEnd { socket: id, messages }) = service.join(claims, request, protocol).await else {
        return;
    };
    let (sink, stream) = socket.split();
    // The first message goes out before the client has shown its encoding: it is the default then.
    let (encoding, encoding_seen) = watch::channel(Encoding::default());
    tokio::select! {
        () = read(stream, &service, id, &encoding, metrics) => {}
        () = write(sink, messages, encoding_seen) => {}
    }
    // An error: the service has stopped, and has told its clients.
    service.lost(id).await.ok();
}

async fn read(
    mut stream: SplitStream<WebSocket>,
    service: &Service,
    id: SocketId,
    encoding: &watch::Sender<Encoding>,
    metrics: &Metrics,
) {
    while let Some(message) = stream.next().await {
        let frame = match message {
            Ok(Message::Binary(bytes)) => Frame::Binary(bytes.into()),
            Ok(Message::Text(text)) => Frame::Text(text.as_str().to_owned()),
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Close(_)) => return,
            Err(error) => {
                debug!(?id, %error, "WebSocket failed");
                return;
            }
        };
        let request = match wire::decode_request(&frame) {
            Ok((request, used)) => {
                encoding.send_if_modified(|encoding| std::mem::replace(encoding, used) != used);
                metrics.messages.with_label_values(&["in"]).inc();
                request
            }
            Err(error) => {
                debug!(?id, %error, "message cannot be read");
                metrics.messages.with_label_values(&["unreadable"]).inc();
                continue;
            }
        };
        if service.request(id, request).await.is_err() {
            return;
        }
    }
}

async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut messages: mpsc::Receiver<SignalResponse>,
    encoding: watch::Receiver<Encoding>,
) {
    while let Some(response) = messages.recv().await {
        let Some(frame) = wire::encode_response(&response, *encoding.borrow()) else {
            debug!("a message cannot be written as JSON: left out");
            continue;
        };
        let message = match frame {
            Frame::Binary(bytes) => Message::Binary(bytes.into()),
            Frame::Text(text) => Message::Text(text.into()),
        };
        match tokio::time::timeout(WRITE_TIMEOUT, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
    let close = Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }));
    tokio::time::timeout(WRITE_TIMEOUT, sink.send(close)).await.ok();
}
