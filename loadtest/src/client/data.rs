//! Data messages: LiveKit's `DataPacket` on two SCTP data channels that the client opens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::BytesMut;
use livekit_protocol::{self as proto, data_packet};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::peer_connection::PeerConnection;

/// How hard the network tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In order, none is lost.
    Reliable,
    /// Sent once.
    Lossy,
}

/// A message from somebody in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMessage {
    /// Identity of the sender, as the server says.
    pub from: String,
    /// What it is about.
    pub topic: Option<String>,
    /// The message.
    pub payload: Vec<u8>,
    /// The channel that it came on.
    pub delivery: Delivery,
}

/// Both channels.
pub(super) struct Data {
    reliable: Channel,
    lossy: Channel,
    sequence: AtomicU32,
    dropped: Arc<AtomicU64>,
}

struct Channel {
    channel: Arc<dyn DataChannel>,
    open: watch::Receiver<bool>,
}

impl Data {
    /// Opens the channels; what comes on them goes to `messages`.
    pub(super) async fn open(
        connection: &dyn PeerConnection,
        messages: &mpsc::Sender<DataMessage>,
    ) -> webrtc::error::Result<Self> {
        let dropped = Arc::new(AtomicU64::new(0));
        let open = async |delivery: Delivery| -> webrtc::error::Result<Channel> {
            let (label, init) = match delivery {
                Delivery::Reliable => ("_reliable", RTCDataChannelInit::default()),
                Delivery::Lossy => (
                    "_lossy",
                    RTCDataChannelInit { ordered: false, max_retransmits: Some(0), ..Default::default() },
                ),
            };
            let channel = connection.create_data_channel(label, Some(init)).await?;
            let (opened, open) = watch::channel(false);
            tokio::spawn(read(
                Arc::clone(&channel),
                delivery,
                opened,
                messages.clone(),
                Arc::clone(&dropped),
            ));
            Ok(Channel { channel, open })
        };
        Ok(Self {
            reliable: open(Delivery::Reliable).await?,
            lossy: open(Delivery::Lossy).await?,
            sequence: AtomicU32::new(0),
            dropped: Arc::clone(&dropped),
        })
    }

    /// Waits until both channels are open at the server too (RFC 8832: it has acknowledged them).
    pub(super) async fn open_at_server(&self) -> webrtc::error::Result<()> {
        self.reliable.opened().await?;
        self.lossy.opened().await
    }

    /// Sends once the channel is open. Empty `to`: everybody in the room.
    pub(super) async fn send(
        &self,
        delivery: Delivery,
        to: &[String],
        topic: &str,
        payload: &[u8],
    ) -> webrtc::error::Result<()> {
        let (channel, sequence) = match delivery {
            Delivery::Reliable => (&self.reliable, self.sequence.fetch_add(1, Ordering::Relaxed) + 1),
            Delivery::Lossy => (&self.lossy, 0),
        };
        channel.opened().await?;
        channel.channel.send(encode(sequence, to, topic, payload)).await
    }

    /// Messages that came faster than they were taken.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Channel {
    async fn opened(&self) -> webrtc::error::Result<()> {
        let mut open = self.open.clone();
        let opened = open.wait_for(|open| *open).await;
        opened.map(drop).map_err(|_| webrtc::error::Error::ErrDataChannelClosed)
    }
}

/// Until the channel or the connection is closed.
async fn read(
    channel: Arc<dyn DataChannel>,
    delivery: Delivery,
    opened: watch::Sender<bool>,
    messages: mpsc::Sender<DataMessage>,
    dropped: Arc<AtomicU64>,
) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => {
                opened.send_replace(true);
            }
            DataChannelEvent::OnMessage(message) => {
                let Some(message) = decode(&message.data, delivery) else { continue };
                if messages.try_send(message).is_err() {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }
}

fn encode(sequence: u32, to: &[String], topic: &str, payload: &[u8]) -> BytesMut {
    let user =
        proto::UserPacket { payload: payload.to_vec(), topic: Some(topic.to_owned()), ..Default::default() };
    let packet = proto::DataPacket {
        destination_identities: to.to_vec(),
        sequence,
        value: Some(data_packet::Value::User(user)),
        ..Default::default()
    };
    BytesMut::from(&packet.encode_to_vec()[..])
}

/// None: another kind of packet than a user's message.
fn decode(bytes: &[u8], delivery: Delivery) -> Option<DataMessage> {
    let packet = proto::DataPacket::decode(bytes).ok()?;
    match packet.value {
        Some(data_packet::Value::User(user)) => Some(DataMessage {
            from: packet.participant_identity,
            topic: user.topic,
            payload: user.payload,
            delivery,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let bytes = encode(3, &["ana".to_owned()], "chat", b"hello");
        let packet = proto::DataPacket::decode(&bytes[..]).unwrap();
        assert_eq!((packet.sequence, packet.destination_identities), (3, vec!["ana".to_owned()]));
        let message = decode(&bytes, Delivery::Reliable).unwrap();
        assert_eq!((message.topic.as_deref(), &message.payload[..]), (Some("chat"), &b"hello"[..]));
        assert_eq!(decode(b"\xff", Delivery::Lossy), None);
        assert_eq!(decode(b"", Delivery::Lossy), None, "a packet of no kind");
    }
}
