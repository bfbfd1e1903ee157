//! Lectern's signaling service: who is in a lesson, who may do what, and who receives what.
//!
//! Clients speak LiveKit's signal protocol, with one peer connection (v1) or two (v0, [`protocol`]): protobuf
//! messages over a WebSocket, [`server`]. The rules are one state machine without sockets and clocks, [`rooms`], whose
//! parts are the room, the session and the negotiation; the [`service`] runs it. It tells the SFU what to do
//! over [`sfu_link`] and never touches media; SFUs in processes of their own connect to [`control`].

mod addresses;
mod api;
pub mod app;
pub mod auth;
pub mod certificate;
mod client;
pub mod clock;
pub mod config;
pub mod connections;
pub mod control;
pub mod data;
mod departures;
mod dynacast;
#[cfg(feature = "embedded-sfu")]
pub mod embedded;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod ids;
pub mod keys;
pub mod lessons;
pub mod limits;
pub mod listen;
pub mod metrics;
mod negotiation;
pub mod nodes;
pub mod outbox;
pub mod page;
mod people;
pub mod process;
mod profile;
pub mod protocol;
mod receiver;
mod room;
pub mod rooms;
pub mod server;
pub mod service;
mod session;
pub mod sfu_link;
mod track;
pub mod wire;
mod wishes;
