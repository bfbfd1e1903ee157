//! RTP and RTCP on the wire: views over received bytes, writers into the caller's buffer, and the parameters
//! that negotiation yields. Wire counters (`u16`, `u32`) live here alone; the rest of the crate counts in `u64`.
//!
//! Nothing here allocates or keeps state. Each parser has an error of its own, small and `Copy`, whose variants
//! name the field that broke it: bad input from the network is counted, never logged per packet.

pub mod ext;
pub mod opus;
pub mod opus_frames;
pub mod packet;
pub mod params;
pub mod red;
pub mod rtcp;
pub mod vp8;
