//! Sources as scenarios have them, and a link without trouble: for tests of this module and of those that look at links.

use std::time::Duration;

use super::ladder::ladder;
use super::moves::LinkView;
use super::tiers::{Picture, Role};
use super::wished::EncodingInput;
use crate::units::{Bitrate, Size, Wish};

/// An encoding of so many lines, by frames a second and kbit/s of each temporal layer alone.
pub(super) fn encoding(lines: u16, fps: &[u16], kbps: &[u64]) -> EncodingInput {
    let mut input = EncodingInput {
        active: true,
        size: Some(Size { width: lines / 9 * 16, height: lines }),
        ..EncodingInput::default()
    };
    input.fps[..fps.len()].copy_from_slice(fps);
    for (rate, &kbps) in input.rates.iter_mut().zip(kbps) {
        *rate = Bitrate::kbps(kbps);
    }
    input
}

/// A classroom's camera: 90, 300 and 1000 kbit/s, of which 40 % are the base layer and 60 % are 15 fps.
pub(super) fn camera() -> [EncodingInput; 3] {
    let of = |lines, kbps: u64| encoding(lines, &[8, 7, 15], &[kbps * 4 / 10, kbps * 2 / 10, kbps * 4 / 10]);
    [of(180, 90), of(360, 300), of(720, 1000)]
}

/// Slides at full size: 2 fps for 50 kbit/s, and 5 fps for 400.
pub(super) fn slides() -> [EncodingInput; 2] {
    [encoding(1080, &[2], &[50]), encoding(1080, &[5], &[400])]
}

/// A link that carries so much, with nothing else to say of it.
pub(crate) fn calm(kbps: u64) -> LinkView {
    LinkView {
        estimate: Bitrate::kbps(kbps),
        ceiling: None,
        cap: None,
        queue: Duration::ZERO,
        calm: Duration::from_millis(30),
        overdue: Duration::ZERO,
        loss: 0.0,
        draining: false,
        outage: false,
    }
}

pub(super) fn camera_of(key: u8, role: Role) -> Picture<u8> {
    Picture { key, role, priority: 0, ladder: ladder(false, &Wish::default(), &camera()) }
}

pub(super) fn slides_of(key: u8) -> Picture<u8> {
    Picture { key, role: Role::Slides, priority: 0, ladder: ladder(true, &Wish::default(), &slides()) }
}
