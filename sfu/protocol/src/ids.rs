//! Identifiers shared by both sides. Signaling chooses them; they are never reused while a room lives.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id! {
    /// A room: the lesson that participants share.
    RoomId, "room-"
}
id! {
    /// A transport: one BUNDLEd ICE+DTLS+SRTP association with a participant (RFC 8835, RFC 9143).
    TransportId, "transport-"
}
id! {
    /// A track: one source (camera, microphone, screen) as its publisher sends it. A receiver's copy of it is
    /// named by the pair of its transport and this id.
    TrackId, "track-"
}
