//! The one scenario behind the golden answers: a participant that may publish a microphone and a camera, and
//! receives a teacher's voice and slides.

use std::path::{Path, PathBuf};

use sfu_core::transport::params::{Fingerprint, IceCredentials};
use sfu_core::transport::sdp::{Negotiation, NegotiationConfig};
use sfu_core::units::{MediaKind, Source, TrackId};
use sfu_protocol::control::{Msid, Publish};

/// Where the offers and answers are.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdp").join(name)
}

/// The names of the offers, sorted.
pub fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder("offers")).expect("the folder is in the repository");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("readable").file_name();
    let mut names: Vec<_> =
        entries.map(|entry| name(entry).into_string().expect("file names are ASCII")).collect();
    names.sort();
    names
}

/// The text of a file.
pub fn read(folder_name: &str, name: &str) -> Option<String> {
    std::fs::read_to_string(folder(folder_name).join(name)).ok()
}

/// A negotiation whose every answer is repeatable.
pub fn negotiation() -> Negotiation {
    Negotiation::new(config())
}

/// Our side of it.
pub fn config() -> NegotiationConfig {
    NegotiationConfig {
        local: IceCredentials { ufrag: "00golden".to_owned(), pwd: "a".repeat(24) },
        fingerprint: Fingerprint(std::array::from_fn(|i| i as u8)),
        candidates: vec![
            "192.0.2.1:7882".parse().expect("IPv4"),
            "[2001:db8::1]:7882".parse().expect("IPv6"),
        ],
        seed: 1,
    }
}

/// An announced track.
pub fn publish(track: u64, kind: MediaKind, cid: &str) -> Publish {
    let dtx = kind == MediaKind::Audio;
    let source = if dtx { Source::Microphone } else { Source::Camera };
    Publish { track: TrackId(track), kind, source, cid: cid.to_owned(), mid: None, dtx, encrypted: false }
}

/// What we answer in the scenario.
pub fn answer(offer: &str) -> String {
    let mut negotiation = negotiation();
    let msid = |track: &str| Msid { stream: "PA_teacher|slides".to_owned(), track: track.to_owned() };
    negotiation.subscribe(TrackId(10), MediaKind::Audio, msid("TR_voice"));
    negotiation.subscribe(TrackId(11), MediaKind::Video, msid("TR_slides"));
    let wanted = [publish(1, MediaKind::Audio, "microphone"), publish(2, MediaKind::Video, "camera")];
    match negotiation.offer(offer, &wanted) {
        Ok(answered) => answered.sdp,
        Err(error) => format!("refused: {error}\r\n"),
    }
}
