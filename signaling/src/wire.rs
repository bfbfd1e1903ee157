//! The bytes of LiveKit's signal protocol: the join request in the URL, and frames of the WebSocket.

use std::io::Read;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flate2::read::GzDecoder;
use livekit_protocol::{
    JoinRequest, SignalRequest, SignalResponse, WrappedJoinRequest, wrapped_join_request,
};
use prost::Message;

use crate::limits::MAX_SIGNAL_BYTES;

/// How a client writes its messages; it is answered in the same way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Binary frames: protobuf.
    #[default]
    Binary,
    /// Text frames: protobuf's JSON form.
    Json,
}

/// A frame's payload.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A binary frame.
    Binary(Vec<u8>),
    /// A text frame.
    Text(String),
}

/// Why bytes from a client could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// There is no join request.
    #[error("join_request is required")]
    Missing,
    /// It is not base64url.
    #[error("join_request is not base64url")]
    Base64,
    /// It, or what is wrapped in it, is not the protobuf message that it should be.
    #[error("the message cannot be decoded")]
    Protobuf,
    /// It is not gzip, though it says so.
    #[error("join_request cannot be decompressed")]
    Gzip,
    /// It is compressed in an unknown way.
    #[error("join_request is compressed in an unknown way")]
    Compression,
    /// It is too long.
    #[error("join request too large")]
    TooLong,
}

/// Clients differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the query parameter `join_request`: base64url of a `WrappedJoinRequest`, whose content may be gzip.
pub fn decode_join_request(parameter: &str) -> Result<JoinRequest, WireError> {
    if parameter.is_empty() {
        return Err(WireError::Missing);
    }
    let bytes = BASE64.decode(parameter).map_err(|_| WireError::Base64)?;
    let wrapped = WrappedJoinRequest::decode(bytes.as_slice()).map_err(|_| WireError::Protobuf)?;
    let compression = wrapped_join_request::Compression::try_from(wrapped.compression)
        .map_err(|_| WireError::Compression)?;
    let bytes = match compression {
        wrapped_join_request::Compression::None => wrapped.join_request,
        wrapped_join_request::Compression::Gzip => decompress(&wrapped.join_request)?,
    };
    if bytes.len() > MAX_SIGNAL_BYTES {
        return Err(WireError::TooLong);
    }
    JoinRequest::decode(bytes.as_slice()).map_err(|_| WireError::Protobuf)
}

/// A few bytes of gzip can become a thousand times as many: stop at the limit.
fn decompress(bytes: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    let limit = MAX_SIGNAL_BYTES as u64 + 1;
    GzDecoder::new(bytes).take(limit).read_to_end(&mut out).map_err(|_| WireError::Gzip)?;
    Ok(out)
}

/// Reads a client's frame.
pub fn decode_request(frame: &Frame) -> Result<(SignalRequest, Encoding), WireError> {
    match frame {
        Frame::Binary(bytes) => SignalRequest::decode(bytes.as_slice())
            .map(|request| (request, Encoding::Binary))
            .map_err(|_| WireError::Protobuf),
        Frame::Text(text) => serde_json::from_str(text)
            .map(|request| (request, Encoding::Json))
            .map_err(|_| WireError::Protobuf),
    }
}

/// Writes a frame for a client. None: it holds a number of another client that has no name in protobuf's JSON
/// form, such as an enum value of the future; binary clients pass over it themselves.
pub fn encode_response(response: &SignalResponse, encoding: Encoding) -> Option<Frame> {
    match encoding {
        Encoding::Binary => Some(Frame::Binary(response.encode_to_vec())),
        Encoding::Json => serde_json::to_string(response).ok().map(Frame::Text),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use livekit_protocol::{Pong, TrackInfo, TrackPublishedResponse, signal_request, signal_response};

    use super::*;

    fn wrapped(compression: i32, join_request: Vec<u8>) -> String {
        BASE64.encode(WrappedJoinRequest { compression, join_request }.encode_to_vec())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn reads_join_requests_plain_and_compressed_padded_and_not() {
        let request = JoinRequest { participant_sid: "PA_x".into(), ..JoinRequest::default() };
        let bytes = request.encode_to_vec();
        for text in [wrapped(0, bytes.clone()), wrapped(1, gzip(&bytes))] {
            assert_eq!(decode_join_request(&text), Ok(request.clone()));
            assert_eq!(decode_join_request(text.trim_end_matches('=')), Ok(request.clone()));
        }
    }

    #[test]
    fn reads_what_real_browsers_send() {
        for captured in [
            include_str!("../tests/data/chromium.join_request.txt"),
            include_str!("../tests/data/firefox.join_request.txt"),
        ] {
            let request = decode_join_request(captured.trim()).unwrap();
            assert!(request.connection_settings.unwrap().auto_subscribe);
            assert_eq!(request.client_info.unwrap().version, "2.23.0");
        }
    }

    #[test]
    fn refuses_defects_with_their_own_reason() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 80_000, "small on the wire");
        let cases = [
            (String::new(), WireError::Missing),
            ("ä".into(), WireError::Base64),
            (BASE64.encode([0xff; 8]), WireError::Protobuf),
            (wrapped(7, Vec::new()), WireError::Compression),
            (wrapped(1, b"no gzip".to_vec()), WireError::Gzip),
            (wrapped(0, vec![0xff; 9]), WireError::Protobuf),
            (wrapped(0, vec![0; MAX_SIGNAL_BYTES + 1]), WireError::TooLong),
            (wrapped(1, bomb), WireError::TooLong),
        ];
        for (text, expected) in cases {
            assert_eq!(decode_join_request(&text).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_join_request_cut_or_changed_anywhere_is_read_or_refused() {
        let text = include_str!("../tests/data/chromium.join_request.txt").trim();
        for at in (0..text.len()).step_by(7) {
            decode_join_request(&text[..at]).ok();
            let mut changed = text.to_owned();
            changed.replace_range(at..=at, if &text[at..=at] == "A" { "B" } else { "A" });
            decode_join_request(&changed).ok();
        }
    }

    #[test]
    fn answers_json_in_json() {
        let frame = Frame::Text(r#"{"pingReq":{"timestamp":"5","rtt":"1"}}"#.into());
        let (request, encoding) = decode_request(&frame).unwrap();
        assert!(
            matches!(request.message, Some(signal_request::Message::PingReq(ping)) if ping.timestamp == 5)
        );
        let pong = signal_response::Message::PongResp(Pong { last_ping_timestamp: 5, timestamp: 6 });
        let response = SignalResponse { message: Some(pong) };
        let json = r#"{"pongResp":{"lastPingTimestamp":"5","timestamp":"6"}}"#;
        assert_eq!(encode_response(&response, encoding), Some(Frame::Text(json.into())));
    }

    #[test]
    fn what_json_cannot_say_is_no_panic() {
        let track = TrackInfo { source: 32, ..TrackInfo::default() };
        let published = TrackPublishedResponse { cid: "x".into(), track: Some(track) };
        let message = signal_response::Message::TrackPublished(published);
        let response = SignalResponse { message: Some(message) };
        assert_eq!(encode_response(&response, Encoding::Json), None);
        assert!(encode_response(&response, Encoding::Binary).is_some());
    }

    #[test]
    fn a_message_of_the_future_is_no_error() {
        // Field 99, length-delimited, empty.
        let (request, _) = decode_request(&Frame::Binary(vec![0x9a, 0x06, 0x00])).unwrap();
        assert_eq!(request.message, None);
    }
}
