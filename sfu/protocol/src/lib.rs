//! What the signaling service and the SFU say to each other.
//!
//! Signaling knows people, rooms, grants, tracks and wishes; the SFU knows transports, tracks, subscriptions
//! and packets. [`control`] is the language between them: plain serde data that travels as length-prefixed
//! postcard frames, or as values over a channel where both run in one process. Nothing here knows WebRTC:
//! session descriptions, track labels and data messages are opaque text and bytes.

pub mod control;
pub mod ids;
pub mod people;
