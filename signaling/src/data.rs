//! Data messages between participants: LiveKit's `DataPacket` on the channels `_reliable` and `_lossy`.
//!
//! The SFU passes them here as opaque bytes. The sender is stamped in, so that nobody can speak in another's
//! name, and who receives the packet is decided here; sequence numbers and payloads pass unchanged.

use livekit_protocol::{DataPacket, data_packet};
use prost::Message;
use sfu_protocol::control::MAX_DATA_BYTES;

use crate::profile::Profile;

/// A data channel that all LiveKit clients open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Reliable,
    Lossy,
}

impl Channel {
    pub(crate) fn from_label(label: &str) -> Option<Self> {
        match label {
            "_reliable" => Some(Self::Reliable),
            "_lossy" => Some(Self::Lossy),
            _ => None,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Reliable => "_reliable",
            Self::Lossy => "_lossy",
        }
    }

    fn kind(self) -> data_packet::Kind {
        match self {
            Self::Reliable => data_packet::Kind::Reliable,
            Self::Lossy => data_packet::Kind::Lossy,
        }
    }
}

/// Why a data message was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataError {
    /// It came from a transport that is gone.
    UnknownSender,
    /// It came on another channel than the two.
    UnknownChannel,
    /// The sender's token does not allow data.
    NotAllowed,
    /// It is no `DataPacket`, or an empty one.
    Malformed,
    /// It is of a kind that only the server may send, or that stays with the server.
    NotRelayed,
    /// With its sender in it, it is too long for a data channel.
    TooLong,
    /// A client that came back sent it again, but it had arrived.
    Repeated,
}

impl DataError {
    /// A short name for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::UnknownSender => "unknown_sender",
            Self::UnknownChannel => "unknown_channel",
            Self::NotAllowed => "not_allowed",
            Self::Malformed => "malformed",
            Self::NotRelayed => "not_relayed",
            Self::TooLong => "too_long",
            Self::Repeated => "repeated",
        }
    }
}

/// A packet that is ready to go.
#[derive(Debug, PartialEq)]
pub(crate) struct Stamped {
    pub(crate) bytes: Vec<u8>,
    /// Identities of who shall have it. Empty: everyone else in the room.
    pub(crate) destinations: Vec<String>,
    /// The sender's number of a reliable packet, from 1. 0: it does not number them.
    pub(crate) sequence: u32,
}

/// Reads a packet, checks that its sender may send it, and stamps the sender in.
pub(crate) fn stamp(
    channel: Channel,
    bytes: &[u8],
    sender: &Profile,
    sender_sid: &str,
) -> Result<Stamped, DataError> {
    if !sender.grant.may_publish_data() {
        return Err(DataError::NotAllowed);
    }
    let mut packet = DataPacket::decode(bytes).map_err(|_| DataError::Malformed)?;
    let (identity, sid) = match sender.grant.hidden {
        true => (String::new(), String::new()),
        false => (sender.identity.clone(), sender_sid.to_owned()),
    };
    stamp_value(&mut packet, sender, &identity, &sid)?;
    packet.set_channel(channel);
    packet.participant_identity = identity;
    packet.participant_sid = sid;

    let bytes = packet.encode_to_vec();
    if bytes.len() > MAX_DATA_BYTES {
        return Err(DataError::TooLong);
    }
    Ok(Stamped { bytes, destinations: packet.destination_identities, sequence: packet.sequence })
}

/// Clients before protocol 1.5 read sender and destinations inside the user packet.
#[expect(deprecated, reason = "both places are kept alike, as LiveKit's server does")]
fn stamp_value(
    packet: &mut DataPacket,
    sender: &Profile,
    identity: &str,
    sid: &str,
) -> Result<(), DataError> {
    use data_packet::Value;
    match packet.value.as_mut().ok_or(DataError::Malformed)? {
        Value::User(user) => {
            user.participant_identity = identity.to_owned();
            user.participant_sid = sid.to_owned();
            if packet.destination_identities.is_empty() {
                packet.destination_identities.clone_from(&user.destination_identities);
            } else {
                user.destination_identities.clone_from(&packet.destination_identities);
            }
        }
        // Who speaks is for the server to say; metrics are for the server to keep.
        Value::Speaker(_) | Value::Metrics(_) => return Err(DataError::NotRelayed),
        Value::Transcription(_) if !sender.grant.agent => return Err(DataError::NotRelayed),
        Value::Transcription(_)
        | Value::SipDtmf(_)
        | Value::ChatMessage(_)
        | Value::RpcRequest(_)
        | Value::RpcAck(_)
        | Value::RpcResponse(_)
        | Value::StreamHeader(_)
        | Value::StreamChunk(_)
        | Value::StreamTrailer(_)
        | Value::EncryptedPacket(_) => {}
    }
    Ok(())
}

/// The channel a packet came on is the truth about its kind.
trait SetChannel {
    fn set_channel(&mut self, channel: Channel);
}

impl SetChannel for DataPacket {
    #[expect(deprecated, reason = "older clients tell reliable from lossy by this field")]
    fn set_channel(&mut self, channel: Channel) {
        self.kind = channel.kind().into();
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::{ActiveSpeakerUpdate, ChatMessage, JoinRequest, UserPacket};

    use super::*;
    use crate::auth::{Claims, VideoGrant};

    fn sender(grant: VideoGrant) -> Profile {
        let claims = Claims { sub: "ana".into(), video: Some(grant), ..Claims::default() };
        Profile::new(claims, &mut JoinRequest::default()).unwrap()
    }

    fn packet(value: data_packet::Value) -> DataPacket {
        DataPacket {
            participant_identity: "the head teacher".into(),
            participant_sid: "PA_other".into(),
            sequence: 7,
            value: Some(value),
            ..DataPacket::default()
        }
    }

    fn chat() -> DataPacket {
        packet(data_packet::Value::ChatMessage(ChatMessage { message: "hello".into(), ..Default::default() }))
    }

    #[test]
    fn the_sender_cannot_choose_who_it_is() {
        let ana = sender(VideoGrant::default());
        let stamped = stamp(Channel::Reliable, &chat().encode_to_vec(), &ana, "PA_ana").unwrap();
        let sent = DataPacket::decode(stamped.bytes.as_slice()).unwrap();
        assert_eq!((sent.participant_identity.as_str(), sent.participant_sid.as_str()), ("ana", "PA_ana"));
        assert_eq!((sent.sequence, &sent.value), (7, &chat().value), "the rest passes unchanged");
        assert!(stamped.destinations.is_empty());
    }

    #[test]
    #[expect(deprecated, reason = "older clients name the destinations there")]
    fn destinations_are_found_in_either_place() {
        let user = UserPacket { destination_identities: vec!["ben".into()], ..UserPacket::default() };
        let bytes = packet(data_packet::Value::User(user)).encode_to_vec();
        let stamped = stamp(Channel::Lossy, &bytes, &sender(VideoGrant::default()), "PA_ana").unwrap();
        assert_eq!(stamped.destinations, ["ben"]);
        let sent = DataPacket::decode(stamped.bytes.as_slice()).unwrap();
        assert_eq!(
            (sent.kind(), sent.destination_identities),
            (data_packet::Kind::Lossy, vec!["ben".into()])
        );
    }

    #[test]
    #[expect(deprecated, reason = "a client could still send it")]
    fn refuses_what_is_not_allowed_not_readable_or_too_long() {
        let mute = VideoGrant { can_publish_data: Some(false), ..VideoGrant::default() };
        let speaker = packet(data_packet::Value::Speaker(ActiveSpeakerUpdate::default()));
        let long = packet(data_packet::Value::User(UserPacket {
            payload: vec![0; MAX_DATA_BYTES - 10],
            ..UserPacket::default()
        }));
        let cases = [
            (mute, chat().encode_to_vec(), DataError::NotAllowed),
            (VideoGrant::default(), vec![0xff; 9], DataError::Malformed),
            (VideoGrant::default(), Vec::new(), DataError::Malformed),
            (VideoGrant::default(), speaker.encode_to_vec(), DataError::NotRelayed),
            (VideoGrant::default(), long.encode_to_vec(), DataError::TooLong),
        ];
        for (grant, bytes, expected) in cases {
            let result = stamp(Channel::Reliable, &bytes, &sender(grant), "PA_ana");
            assert_eq!(result, Err(expected));
        }
    }

    #[test]
    fn a_packet_cut_anywhere_is_read_or_refused() {
        let bytes = chat().encode_to_vec();
        for cut in 0..bytes.len() {
            stamp(Channel::Reliable, &bytes[..cut], &sender(VideoGrant::default()), "PA_ana").ok();
        }
    }
}
