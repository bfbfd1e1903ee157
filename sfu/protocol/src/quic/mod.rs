//! The control link over QUIC (RFC 9000), mutual TLS 1.3, between an SFU and signaling in two processes.
//!
//! The SFU calls: then adding a node needs a line in its own configuration only, and no port of it has to be
//! open to signaling. Either side notices a dead connection after [`IDLE`].

mod carrier;
mod identity;

use std::time::Duration;

pub use self::carrier::{CallError, Caller, Ended, Ends, HANDSHAKE, Streams, answer, call, explain};
pub use self::identity::{Identity, IdentityError, SERVER_NAME, is_named};

/// The application protocol (RFC 7301).
pub const ALPN: &[u8] = b"lectern-control/1";

/// A connection on which nothing has come for this long is dead.
pub const IDLE: Duration = Duration::from_secs(5);

/// Both sides say at least this often that they are there.
const KEEP_ALIVE: Duration = Duration::from_millis(1500);

/// Why a connection was closed, as its application error code. The reason in words goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseCode {
    /// The process stops.
    Stopped = 0,
    /// What came is not this protocol.
    Protocol = 1,
    /// The node is not let in.
    Refused = 2,
    /// Another connection of the same node takes over.
    Replaced = 3,
}

impl CloseCode {
    /// Closes a connection with this code and words.
    pub fn close(self, connection: &quinn::Connection, words: &str) {
        connection.close((self as u8).into(), words.as_bytes());
    }

    /// Closes all connections of an endpoint.
    pub fn close_all(self, endpoint: &quinn::Endpoint, words: &str) {
        endpoint.close((self as u8).into(), words.as_bytes());
    }
}
