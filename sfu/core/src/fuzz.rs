//! Every parser of network input, by name: what cargo-fuzz feeds, and what `tests/fuzz_corpus.rs` replays.

use crate::{cc, room, rtp, sim, transport};

/// Takes arbitrary bytes and panics where an invariant of its parser does not hold.
pub type Target = fn(&[u8]);

/// The targets. Each has seeds in `fuzz/corpus/<name>` and a shell in `fuzz/fuzz_targets/<name>.rs`.
pub const TARGETS: &[(&str, Target)] = &[
    ("client_hello", transport::fuzz::client_hello),
    ("dcep", transport::fuzz::dcep),
    ("demux", transport::fuzz::demux),
    ("opus", rtp::opus::fuzz),
    ("opus_frames", rtp::opus_frames::fuzz),
    ("rtcp", rtp::rtcp::fuzz),
    ("red", rtp::red::fuzz),
    ("room", room::fuzz),
    ("rtp", rtp::packet::fuzz),
    ("sctp", transport::fuzz::sctp),
    ("sctp_guard", transport::fuzz::sctp_guard),
    ("sdp", transport::sdp::fuzz),
    ("srtp", transport::fuzz::srtp),
    ("stun", transport::fuzz::stun),
    ("twcc", cc::twcc::fuzz),
    ("vp8", rtp::vp8::fuzz),
    ("worker", sim::script::fuzz),
];

/// Runs the target of that name.
///
/// # Panics
/// Where there is none, or its invariant does not hold.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(data);
}
