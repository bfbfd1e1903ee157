//! Replays the fuzz corpus of this crate's parsers.

use std::path::Path;

use sfu_protocol::fuzz::{TARGETS, assert_shells, replay};

#[test]
fn every_parser_holds_on_its_corpus_and_on_damaged_copies_of_it() {
    replay(TARGETS, &Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz"));
}

#[test]
fn every_target_has_a_shell_for_cargo_fuzz() {
    assert_shells(TARGETS, &Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz"));
}
