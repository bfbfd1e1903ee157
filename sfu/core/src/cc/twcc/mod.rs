//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1): which
//! packets of a transport arrived, and when. [`ArrivalRecorder`] makes it for a publisher, [`FeedbackView`]
//! reads what a subscriber made. What follows from it about the link is decided elsewhere.
//!
//! Behind the fields of [`TransportFeedback`](crate::rtp::rtcp::TransportFeedback) come chunks of 16 bits that
//! give each packet a symbol, and then a delta for each packet that arrived: the time since the one before, in
//! 250 us, the first one since the reference time. Symbols: 0 not received, 1 a delta of one unsigned byte, 2 a
//! delta of two signed bytes.
//!
//! ```text
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0| S |       run length        |  that many packets with the symbol S
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |1|0|       symbol list         |  14 symbols of one bit (0, 1)
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |1|1|       symbol list         |  7 symbols of two bits
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

mod feedback;
mod recorder;
mod statuses;

#[cfg(feature = "sim")]
pub use feedback::fuzz;
pub use feedback::{FeedbackError, FeedbackView, PacketStatus, RemoteTime, Statuses};
pub use recorder::{ArrivalRecorder, DEFAULT_INTERVAL};

/// What deltas count in, microseconds.
const TICK_MICROS: u64 = 250;

/// Ticks in a unit of the reference time: 64 ms.
const TICKS_PER_REFERENCE: u64 = 256;

/// The longest run that a chunk can say.
const MAX_RUN: usize = 0x1fff;

/// Symbols in a chunk of one-bit and of two-bit symbols.
const ONE_BIT_SYMBOLS: usize = 14;
const TWO_BIT_SYMBOLS: usize = 7;
