//! What comes over the network as a fuzz target; and what replays a crate's corpus in its tests.

mod replay;

pub use self::replay::{assert_shells, replay};
use crate::control::{FromSfu, ToSfu};
use crate::frame::Decoder;
use crate::hello::{Hello, Welcome};
use crate::lane::{Bounds, Lane};

/// Reads whatever bytes it is given.
pub type Target = fn(&[u8]);

/// Every target and its name.
pub const TARGETS: &[(&str, Target)] = &[("frames", frames)];

/// Runs the target of that name.
///
/// # Panics
/// If there is none.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(data);
}

/// A stream in parts, read as hello, welcome, and messages of both directions.
fn frames(data: &[u8]) {
    let bounds = Bounds { messages: 8, bytes: 1024 };
    let (mut decoder, mut commands, mut events) = (Decoder::default(), Lane::new(bounds), Lane::new(bounds));
    for part in data.chunks(7) {
        decoder.push(part);
        loop {
            let payload = match decoder.payload() {
                Ok(Some(payload)) => payload.to_vec(),
                Ok(None) => break,
                Err(_) => return,
            };
            let _ = Hello::decode(&payload);
            let _ = crate::frame::decode::<Welcome>(&payload);
            let _ = commands.decode::<ToSfu>(&payload);
            let _ = events.decode::<FromSfu>(&payload);
        }
    }
}
