//! A source as one receiver gets it: which packets are forwarded, what they are numbered, what is sent again and
//! what is reported. The arithmetic needs no socket, queue or clock.

pub mod down_track;
pub mod header;
pub mod repacketiser;
pub mod rewriter;
pub mod rtx;
mod segments;
pub mod selector;
pub mod send_stats;
pub mod temporal;
