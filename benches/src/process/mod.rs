//! What the whole process `lectern-sfu` spends on a packet, as it runs: with its control link, its metrics and its
//! real sockets, DTLS-SRTP clients around it and a lesson's pace.
//!
//! ```text
//!  lectern-sfu (measured)  <- QUIC ->  server.rs, signaling's end of the control link
//!        ^  |                          usage.rs, what the kernel and its metrics page say of it
//!        |  v
//!  lessons.rs: one client sends, the others are there and do not read, so that only the server's work is seen
//! ```
//!
//! [`cost`] is what it spends on a datagram, each round followed by one of the limit program at the same pace;
//! [`saturated`] is the same while it always has something to read; [`latency`] is how long a packet stays in it,
//! beside a plain reflector, and while a school joins.

pub mod client;
pub mod cost;
pub mod latency;
pub mod lessons;
pub mod reflector;
pub mod saturated;
pub mod scene;
pub mod sdp;
pub mod server;
pub mod usage;
