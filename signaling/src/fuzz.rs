//! Every parser of network input, by name: what cargo-fuzz feeds, and what `tests/fuzz_corpus.rs` replays.

use std::io::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use flate2::Compression;
use flate2::write::GzEncoder;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{
    DataPacket, JoinRequest, SignalResponse, WrappedJoinRequest, data_packet, wrapped_join_request,
};
use prost::Message;
use serde_json::Value;
use sfu_protocol::control::MAX_DATA_BYTES;

use crate::auth::{self, Claims, VideoGrant};
use crate::clock::{self, WallClock};
use crate::data::{self, Channel};
use crate::ids::SocketId;
use crate::keys::Keys;
use crate::lessons;
use crate::limits::{Limits, MAX_TOKEN_NAME_BYTES};
use crate::outbox::Output;
use crate::profile::Profile;
use crate::protocol::{self, Protocol};
use crate::rooms::{Admission, Rooms};
use crate::wire::{self, Encoding, Frame};

/// Takes arbitrary bytes and panics where an invariant of its parser does not hold.
pub type Target = fn(&[u8]);

/// The targets. Each has seeds in `fuzz/corpus/<name>` and a shell in `fuzz/fuzz_targets/<name>.rs`.
pub const TARGETS: &[(&str, Target)] = &[
    ("data_packet", data_packet),
    ("join_request", join_request),
    ("query", query),
    ("signal_request", signal_request),
    ("token", token),
];

/// Runs the target of that name.
///
/// # Panics
/// Where there is none, or its invariant does not hold.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(data);
}

/// The query parameter as it comes, and the message inside: damage outside never gets through base64 and gzip.
/// Plain and compressed must say the same, and a room must cope with whatever it says.
fn join_request(data: &[u8]) {
    if let Ok(Ok(request)) = std::str::from_utf8(data).map(wire::decode_join_request) {
        enter(request);
    }
    if data.is_empty() {
        // Uncompressed, that is a parameter without a character: no join request at all.
        return;
    }
    let plain = wire::decode_join_request(&wrapped(wrapped_join_request::Compression::None, data.to_vec()));
    let gzip = wire::decode_join_request(&wrapped(wrapped_join_request::Compression::Gzip, compressed(data)));
    assert_eq!(plain, gzip);
    if let Ok(request) = plain {
        enter(request);
    }
}

/// The query of a client that speaks the older protocol: a room copes with what can be read, and nothing in it is
/// longer than it may be.
fn query(data: &[u8]) {
    let uri = std::str::from_utf8(data).ok().and_then(|text| format!("/rtc?{text}").parse().ok());
    let Some(request) = uri.and_then(|uri| protocol::join_request(&uri)) else { return };
    assert!(request.participant_sid.len() <= MAX_TOKEN_NAME_BYTES);
    let mut lesson = Lesson::new();
    lesson.join(1, JoinRequest::default());
    lesson.admit(2, claims(2), request, Protocol::V0);
}

/// A frame of either kind: what can be read says the same when it is written and read again, and a room copes
/// with it.
fn signal_request(data: &[u8]) {
    let text = std::str::from_utf8(data).ok().map(|text| Frame::Text(text.to_owned()));
    for frame in [Some(Frame::Binary(data.to_vec())), text].into_iter().flatten() {
        let Ok((request, _)) = wire::decode_request(&frame) else { continue };
        let again = wire::decode_request(&Frame::Binary(request.encode_to_vec()));
        assert_eq!(again, Ok((request.clone(), Encoding::Binary)));
        let mut lesson = Lesson::new();
        lesson.join(1, JoinRequest::default());
        lesson.join(2, JoinRequest::default());
        lesson.admit(3, claims(3), JoinRequest::default(), Protocol::V0);
        lesson.request(1, request.message.clone());
        lesson.request(3, request.message);
    }
}

/// A packet of a participant: it goes on under that one's name alone, not too long, and stamping it a second
/// time changes nothing.
fn data_packet(bytes: &[u8]) {
    let claims = Claims { sub: "ana".into(), video: Some(VideoGrant::default()), ..Claims::default() };
    let ana = Profile::new(claims, &mut JoinRequest::default()).expect("a short name");
    for channel in [Channel::Reliable, Channel::Lossy] {
        let Ok(stamped) = data::stamp(channel, bytes, &ana, "PA_ana") else { continue };
        assert!(stamped.bytes.len() <= MAX_DATA_BYTES);
        let packet = DataPacket::decode(stamped.bytes.as_slice()).expect("we wrote it");
        assert_eq!(
            (packet.participant_identity.as_str(), packet.participant_sid.as_str()),
            ("ana", "PA_ana")
        );
        assert_eq!(packet.destination_identities, stamped.destinations);
        #[expect(deprecated, reason = "older clients read the sender there")]
        if let Some(data_packet::Value::User(user)) = &packet.value {
            assert_eq!(
                (user.participant_identity.as_str(), user.participant_sid.as_str()),
                ("ana", "PA_ana")
            );
        }
        let again = data::stamp(channel, &stamped.bytes, &ana, "PA_ana").expect("it was good before");
        // Not the bytes: those of a map may come in any order.
        assert_eq!(DataPacket::decode(again.bytes.as_slice()), Ok(packet));
    }
}

/// A token as it comes, which is hardly ever signed by us, and as claims that are.
fn token(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        take_token(text);
    }
    if let Ok(Value::Object(mut claims)) = serde_json::from_slice(data) {
        take_token(&auth::sign(&KEYS, |issuer| {
            claims.insert("iss".into(), issuer.into());
            Value::Object(claims)
        }));
    }
}

/// An access token admits a participant to a room; an invitation gives an access token.
fn take_token(token: &str) {
    if let Ok(claims) = auth::verify_join(&KEYS, token) {
        assert!(!claims.sub.is_empty() && claims.video.as_ref().is_some_and(|video| !video.room.is_empty()));
        Lesson::new().admit(1, claims, JoinRequest::default(), Protocol::V1);
    }
    auth::verify_room_create(&KEYS, token).ok();
    if let Ok(admitted) = lessons::admit(&KEYS, token, "Ana", None, clock::unix_seconds()) {
        let claims = auth::verify_join(&KEYS, &admitted.token);
        // Whoever signs invitations may leave the room out; that one opens nothing.
        assert!(claims.is_ok() || admitted.invitation.room.is_empty());
    }
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::parse("fuzz: secret").expect("a key"));

fn wrapped(compression: wrapped_join_request::Compression, join_request: Vec<u8>) -> String {
    let compression = compression.into();
    URL_SAFE.encode(WrappedJoinRequest { compression, join_request }.encode_to_vec())
}

fn compressed(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// Joins with the request, while somebody else is in the room.
fn enter(request: JoinRequest) {
    let mut lesson = Lesson::new();
    lesson.join(1, JoinRequest::default());
    lesson.join(2, request);
}

fn claims(number: u64) -> Claims {
    let grant = VideoGrant {
        room_join: true,
        room: "algebra".into(),
        can_update_own_metadata: Some(true),
        ..VideoGrant::default()
    };
    Claims { sub: format!("p{number}"), video: Some(grant), ..Claims::default() }
}

/// One room with everything allowed.
struct Lesson {
    rooms: Rooms,
    now: Instant,
}

impl Lesson {
    fn new() -> Self {
        let now = Instant::now();
        let clock = WallClock::new(now, Duration::from_secs(1_800_000_000));
        Self { rooms: Rooms::new(Limits::default(), clock, 1), now }
    }

    fn join(&mut self, socket: u64, request: JoinRequest) {
        self.admit(socket, claims(socket), request, Protocol::V1);
    }

    fn admit(&mut self, socket: u64, claims: Claims, request: JoinRequest, protocol: Protocol) {
        self.rooms.join(self.now, Admission { socket: SocketId(socket), claims, request, protocol }).ok();
        self.drain();
    }

    fn request(&mut self, socket: u64, request: Option<Request>) {
        self.rooms.handle_request(self.now, SocketId(socket), request);
        self.drain();
        self.rooms.handle_timeout(self.now);
        self.drain();
    }

    /// What goes out can be written, in both ways.
    fn drain(&mut self) {
        while let Some(output) = self.rooms.poll_output() {
            if let Output::ToClient { message, .. } = output {
                let response = SignalResponse { message: Some(*message) };
                let Some(Frame::Binary(bytes)) = wire::encode_response(&response, Encoding::Binary) else {
                    panic!("binary was asked for")
                };
                assert_eq!(SignalResponse::decode(bytes.as_slice()), Ok(response.clone()));
                wire::encode_response(&response, Encoding::Json);
            }
        }
    }
}
