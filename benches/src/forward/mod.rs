//! What the real forwarding path costs: `sfu-core`'s worker behind `sfu`'s media socket, with real SRTP sessions, held
//! against the machine's [limit](crate::limit) in the same rounds.
//!
//! Stages are told apart by leaving work out, never by a clock on the path:
//!
//! | stage | how |
//! |---|---|
//! | receive | the same packets read and dropped |
//! | open | the limit's opening alone |
//! | parse, track | a worker without subscribers, less receive and open |
//! | pace | a pacer for each subscriber alone |
//! | copy | a payload to the next place of a run alone |
//! | fan-out, select, rewrite | what is left of `own` |
//! | **own** | all of it with neither sealing nor sending |
//! | seal | what sealing adds to `own` |
//! | send | what sending adds to that |
//!
//! How two workers on two cores get on is [`scaling`]'s.

pub mod alone;
pub mod instructions;
pub mod lesson;
pub mod params;
pub mod plan;
pub mod report;
pub mod scaling;
pub mod source;
pub mod stage;
