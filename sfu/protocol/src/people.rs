//! What the SFU knows of people: who speaks, and how good the way to each is.

use serde::{Deserialize, Serialize};

use crate::ids::TransportId;

/// Most who are named as speaking at a time in one room.
pub const MAX_SPEAKERS: usize = 8;

/// Someone who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaker {
    /// Who.
    pub transport: TransportId,
    /// How loud, in eighths of full scale: 1 to 8.
    pub level: u8,
}

/// How well packets pass between a participant and the SFU, both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkQuality {
    /// Whose.
    pub transport: TransportId,
    /// From 0, nothing is heard of it, to 100. See [`LinkClass`].
    pub score: u8,
    /// The round trip, ms. `None`: not measured, as nothing is sent to it.
    pub rtt_ms: Option<u16>,
    /// Lost on the worse of both ways, before repair, in 1/256.
    pub loss: u8,
}

/// What a score means to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkClass {
    /// Score 0: nothing is heard of the client.
    Lost,
    /// Below 40: a lesson suffers.
    Poor,
    /// Below 80: noticed now and then.
    Good,
    /// From 80.
    Excellent,
}

impl LinkClass {
    /// The class of a score. LiveKit divides at 80 and 40, too.
    pub fn of(score: u8) -> Self {
        match score {
            0 => Self::Lost,
            1..40 => Self::Poor,
            40..80 => Self::Good,
            80.. => Self::Excellent,
        }
    }
}
