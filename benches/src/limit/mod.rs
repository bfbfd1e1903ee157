//! What this machine can do at best: each step of forwarding a packet alone, and all together with nothing around
//! them.
//!
//! The calls of crypto and sockets are those of the product (aws-lc-rs, quinn-udp), but no line of `sfu-core` takes
//! part: this is the ceiling that the forwarding path is held against. There is no routing, rewriting, pacing,
//! caching or counting here; what the product costs beyond it is the product's own.

pub mod clock;
pub mod combined;
pub mod inbox;
pub mod link;
pub mod paced;
pub mod plan;
pub mod receive;
pub mod rounds;
pub mod seal;
pub mod send;
pub mod table;

/// The packet of the measurements, sealed with AES-GCM it has 1200 bytes:
///
/// ```text
/// | RTP header with extensions, 28 B | payload, 1156 B | tag, 16 B (GCM) or 10 B (SHA1_80) |
/// ```
pub const HEADER: usize = 28;
/// Bytes of header and payload.
pub const PACKET: usize = HEADER + 1156;
/// Most bytes that sealing adds.
pub const MAX_TAG: usize = 16;
