//! Bounds on everything that a client can grow.

use std::time::Duration;

/// Largest WebSocket message that is read, bytes: an offer of the SFU's limit fits exactly with its envelope.
pub const MAX_SIGNAL_BYTES: usize = sfu_protocol::control::MAX_SDP_BYTES + 8 * 1024;

/// Messages that wait for a client's WebSocket. Who reads slower than this is dropped: others go on, and it
/// may join again.
pub const CLIENT_QUEUE: usize = 256;

/// Longest room name and identity in a token, bytes (LiveKit's defaults), and longest name, bytes.
pub const MAX_TOKEN_NAME_BYTES: usize = 256;

/// Longest metadata, and longest sum of all attribute names and values, bytes each. They are sent to everyone
/// in the room with every update, over thin links too: LiveKit's 512 KiB and 64 KiB are out of place here.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;

/// Most attributes of a participant.
pub const MAX_ATTRIBUTES: usize = 64;

/// Longest text in a track announcement (cid, name, stream), bytes.
pub const MAX_TRACK_TEXT_BYTES: usize = 256;

/// Most simulcast layers, codecs or features that a track announcement may list.
pub const MAX_TRACK_LIST: usize = 8;

/// Most tracks that one request may subscribe to or unsubscribe from.
pub const MAX_WISHES: usize = 4096;

/// Offers of a client that may wait for their answer. Clients send one at a time.
pub const MAX_OFFERS_WAITING: u32 = 4;

/// The client sends a ping this often (LiveKit's default).
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// A client not heard of for this long has lost its WebSocket (LiveKit's default).
pub const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Limits that the configuration sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most rooms.
    pub rooms: usize,
    /// Most participants in a room.
    pub participants: usize,
    /// Most tracks that a participant may publish at a time.
    pub tracks: usize,
    /// A participant whose WebSocket is lost stays this long: its media goes on, and its client may resume.
    pub absence: Duration,
    /// A room without participants stays this long.
    pub empty_room: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rooms: 500,
            participants: 200,
            tracks: 32,
            // A school's line is away for half a minute; then clients try again every seven seconds or so.
            absence: Duration::from_secs(60),
            empty_room: Duration::from_secs(20),
        }
    }
}
