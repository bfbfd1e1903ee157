//! Synthetic schools: clients that join a lesson as LiveKit's do, send sound and picture, and measure what comes
//! back. The binary `lectern-loadtest` answers an operator's question, "does my server carry a lesson?".
//!
//! | module | what it holds |
//! |---|---|
//! | [`lesson`] | a whole lesson: who joins, who sends what, who answers whom |
//! | [`report`] | what came of it: tables, JSON, problems |
//! | [`client`] | one participant: signaling, peer connection, media, messages |
//! | [`api`] | Lectern's own HTTP requests: make a lesson, exchange a link for a token |
//! | [`opus_source`], [`vp8_source`] | synthetic sound and picture |
//! | [`receive_stats`] | what a receiver can tell of a track |
//! | [`relay`] | a bad line to put in front of a server |
//! | [`links`] | the server's core over emulated thin links, in virtual time |
//!
//! The peer connection is the crate `webrtc`: an implementation of its own, so that a mistake of the server's
//! packet code is not made a second time here. Except for [`links`], this crate knows neither the server's core nor
//! its control protocol.

pub mod api;
pub mod client;
pub mod lesson;
pub mod links;
mod ms;
pub mod opus_source;
pub mod receive_stats;
pub mod relay;
pub mod report;
pub mod seed;
pub mod vp8_source;
