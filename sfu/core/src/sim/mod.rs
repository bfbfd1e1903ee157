//! A lesson in virtual time: a [`Worker`](crate::worker::Worker), scripted clients with real DTLS and SRTP, and
//! paths between them that delay, lose and repeat datagrams from a seed. Hours of network run in seconds, and a
//! failing run can be run again.

pub mod client;
pub mod fan_out;
pub mod network;
pub mod path;
pub mod script;
pub mod source;

pub use crate::testing as clock;
