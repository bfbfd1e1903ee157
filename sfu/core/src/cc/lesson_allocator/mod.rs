//! Which layer of each picture a link carries, so that a lesson stays a lesson: sound first, then readable slides,
//! then the teacher's face, then the others.
//!
//! Four steps, each a file, none of which reads a clock or keeps a queue:
//!
//! ```text
//! wished.rs   what a receiver has use for       size and rate of a tile -> the highest layer worth sending
//! ladder.rs   what there is to choose from      encodings and their temporal layers -> steps, cheapest harm first
//! tiers.rs    what would be best at a budget    steps of all pictures + bits/s -> a level for each
//! moves.rs    what to do about it now           the best, the present and the link's state -> down, stay or up
//! ```
//!
//! Sound is counted before anything is given to pictures and is never taken away here.

mod ladder;
mod moves;
#[cfg(test)]
pub(crate) mod testing;
mod tiers;
mod wished;

pub use self::ladder::{Ladder, Step, ladder};
pub use self::moves::{Decision, LessonAllocator, LinkView};
pub use self::tiers::{Picture, Role};
pub use self::wished::{EncodingInput, Layer, MAX_TID, wished_layer};
