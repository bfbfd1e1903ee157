//! What the signaling service and the SFU say to each other.
//!
//! Signaling knows people, rooms, grants, tracks and wishes; the SFU knows transports, tracks, subscriptions
//! and packets. [`control`] is the language between them: plain serde data that travels as length-prefixed
//! postcard frames ([`frame`]), or as values over a channel where both run in one process. Nothing here knows
//! WebRTC: session descriptions, track labels and data messages are opaque text and bytes.
//!
//! Between processes a [`link`] numbers the messages and keeps them until the other side has them, so that a
//! connection may be lost and made anew without anything lost or repeated. Where a side has started anew, a
//! [`snapshot`] tells what the SFU has. [`quic`] is the carrier below.

pub mod control;
pub mod frame;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod hello;
pub mod ids;
pub mod lane;
pub mod link;
pub mod people;
#[cfg(feature = "quic")]
pub mod quic;
pub mod snapshot;
