//! A room: who is in it, what is published and who receives it. The machine in the middle of the packet path,
//! between transports (which it never sees) and the tracks.
//!
//! ```text
//! handle_rtp   -> up track (statistics, NACK, cache) -> fan-out -> down tracks judge -> links queue references
//! poll_packet  <- number, stamp, copy the payload    <- down track                   <- link: what leaves next
//! ```
//!
//! Contract: mutate (`handle_*`, membership), drain [`Room::poll_packet`] and [`Room::poll_event`] until `None`,
//! then sleep until [`Room::poll_timeout`].

mod budget;
mod congestion;
mod egress;
mod fan_out;
#[cfg(feature = "sim")]
mod fuzz;
mod ingress;
mod layers;
mod link;
mod packing;
mod participant;
mod probing;
mod quality;
mod reports;
#[expect(clippy::module_inception, reason = "the primary type's file is named like it")]
mod room;
mod sound_packing;
mod speaker;
mod streams;
mod subscription;
mod table;

pub use crate::cc::link_monitor::LinkState;
pub use crate::cc::pacer::Priority;
pub use crate::forward::repacketiser::{Merge, Packing};
pub use congestion::LinkFigures;
pub use egress::{Fit, Outgoing, PacketKind};
#[cfg(feature = "sim")]
pub use fuzz::fuzz;
pub use ingress::RtpError;
pub use quality::LinkReport;
pub use room::{ParticipantKey, Room, RoomConfig, RoomError, RoomEvent};
pub use speaker::{SpeakerList, Speaking};
