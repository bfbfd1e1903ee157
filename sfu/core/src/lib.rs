//! The SFU's media logic as a deterministic state machine.
//!
//! Nothing in this crate reads a clock, a socket, the environment or a random source: time and datagrams come
//! in as arguments, packets and events come out of polls. (Inside [`transport`], the handshake state machines
//! of the `rtc` crates draw their own randomness; above it, one input gives one output.)
//!
//! Start reading at [`worker`]: it holds a packet's whole path.

pub mod cc;
pub mod command;
pub mod forward;
#[cfg(feature = "sim")]
pub mod fuzz;
pub mod room;
pub mod rtp;
pub mod seq;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stats;
#[cfg(any(test, feature = "sim"))]
pub mod testing;
pub mod timers;
pub mod track;
pub mod transport;
pub mod units;
pub mod worker;
