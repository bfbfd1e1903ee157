//! What a receiver has use for: the highest layer that is worth sending to it.

use crate::units::{Bitrate, Size, Wish};

/// Highest index of a temporal layer (RFC 7741 §4.2: two bits).
pub const MAX_TID: u8 = 3;

/// An encoding of a source as it can be chosen, and what its temporal layers add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodingInput {
    /// Whether its sender sends it at present.
    pub active: bool,
    /// Its size; `None` before its first key frame.
    pub size: Option<Size>,
    /// Frames a second of each temporal layer alone; all zero where that is not known.
    pub fps: [u16; MAX_TID as usize + 1],
    /// What each temporal layer alone takes on the wire; all zero where that is not known.
    pub rates: [Bitrate; MAX_TID as usize + 1],
}

/// What a receiver is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Index of the encoding, 0 is the lowest.
    pub encoding: u8,
    /// The highest temporal layer, 0..=3.
    pub max_tid: u8,
}

/// The layer that a wish is best served with, of encodings in ascending order: the lowest that is no smaller
/// than what is shown, else the largest; of several of one size, as slides come in, the best. `None` where none is
/// sent, and where nothing is wanted.
pub fn wished_layer(wish: &Wish, encodings: &[EncodingInput]) -> Option<Layer> {
    if wish.paused {
        return None;
    }
    let mut active = (0..u8::MAX).zip(encodings).filter(|(_, encoding)| encoding.active);
    // One whose size is not known yet is taken to be large enough: it is larger than those below it.
    let covers = |encoding: &EncodingInput| {
        wish.size.is_some_and(|shown| encoding.size.is_none_or(|size| covers(size, shown)))
    };
    let highest = active.clone().next_back()?;
    let fitting = active.clone().find(|(_, encoding)| covers(encoding)).unwrap_or(highest);
    let same = |encoding: &EncodingInput| encoding.size.is_some() && encoding.size == fitting.1.size;
    let (encoding, input) = active.rfind(|(_, encoding)| same(encoding)).unwrap_or(fitting);
    let max_tid = wish.fps.map_or(MAX_TID, |fps| lowest_tid(&input.fps, fps));
    Some(Layer { encoding, max_tid })
}

/// Whether a picture of that size fills what is shown, by its shorter side: the longer one may be cut, or stand
/// beside bars.
fn covers(size: Size, shown: Size) -> bool {
    if size.width < size.height { size.width >= shown.width } else { size.height >= shown.height }
}

/// The lowest temporal layer that makes, with those below it, as many frames a second.
fn lowest_tid(layers: &[u16], wished: u16) -> u8 {
    // Cameras never keep exactly to their rate: a tenth less is no less.
    let enough = u32::from(wished) * 9;
    let mut total = 0;
    let lower = (0..).zip(layers).find_map(|(tid, &fps)| {
        total += u32::from(fps) * 10;
        (total >= enough).then_some(tid)
    });
    lower.unwrap_or(MAX_TID)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encodings(heights: &[(bool, u16)]) -> Vec<EncodingInput> {
        let fps = [8, 7, 15, 0];
        let known = |height: u16| (height > 0).then_some(landscape(height));
        let input = |&(active, height): &(bool, u16)| EncodingInput {
            active,
            size: known(height),
            fps,
            ..EncodingInput::default()
        };
        heights.iter().map(input).collect()
    }

    fn landscape(height: u16) -> Size {
        Size { width: height / 9 * 16, height }
    }

    fn shown(height: u16) -> Wish {
        Wish { size: Some(landscape(height)), ..Wish::default() }
    }

    #[test]
    fn a_tile_gets_the_lowest_encoding_that_fills_it() {
        let all = [(true, 180), (true, 360), (true, 720)];
        // encodings (active, height or 0), height of the tile or 0 for any, chosen encoding
        for (name, heights, tile, chosen) in [
            ("anything: the best", all, 0, Some(2)),
            ("exactly", all, 360, Some(1)),
            ("in between: one larger", all, 200, Some(1)),
            ("tiny", all, 10, Some(0)),
            ("larger than all", all, 1080, Some(2)),
            ("the best is off", [(true, 180), (true, 360), (false, 720)], 720, Some(1)),
            ("only the best is on", [(false, 180), (false, 360), (true, 720)], 100, Some(2)),
            ("the fitting one is off", [(true, 180), (false, 360), (true, 720)], 300, Some(2)),
            ("nothing known: by order", [(true, 0), (true, 0), (true, 0)], 720, Some(0)),
            ("the lowest known: the next", [(true, 180), (true, 0), (true, 0)], 720, Some(1)),
            ("of two of one size the better", [(true, 180), (true, 360), (true, 360)], 200, Some(2)),
            ("slides in two layers", [(true, 720), (true, 720), (false, 720)], 10, Some(1)),
            ("all off", [(false, 180), (false, 360), (false, 720)], 360, None),
        ] {
            let wish = if tile > 0 { shown(tile) } else { Wish::default() };
            let layer = wished_layer(&wish, &encodings(&heights));
            assert_eq!(layer.map(|layer| layer.encoding), chosen, "{name}");
            assert_eq!(wished_layer(&Wish { paused: true, ..wish }, &encodings(&heights)), None);
        }
    }

    #[test]
    fn a_phone_held_upright_is_judged_by_its_width() {
        let upright = |width| Some(Size { width, height: width / 9 * 16 });
        let all = [180, 360, 720].map(|width| EncodingInput {
            active: true,
            size: upright(width),
            ..EncodingInput::default()
        });
        for (size, chosen) in [(upright(180), 0), (upright(360), 1), (Some(landscape(360)), 2)] {
            let layer = wished_layer(&Wish { size, ..Wish::default() }, &all);
            assert_eq!(layer.map(|layer| layer.encoding), Some(chosen), "{size:?}");
        }
    }

    #[test]
    fn a_wished_frame_rate_leaves_out_the_layers_above_it() {
        let tid = |fps, encodings: &[EncodingInput]| {
            wished_layer(&Wish { fps, ..Wish::default() }, encodings).map(|layer| layer.max_tid)
        };
        let known = encodings(&[(true, 180)]);
        for (fps, expected) in
            [(None, 3), (Some(30), 2), (Some(16), 1), (Some(15), 1), (Some(8), 0), (Some(0), 0)]
        {
            assert_eq!(tid(fps, &known), Some(expected), "{fps:?}");
        }
        assert_eq!(tid(Some(60), &known), Some(3));
        assert_eq!(tid(Some(5), &[EncodingInput { active: true, ..EncodingInput::default() }]), Some(3));
    }
}
