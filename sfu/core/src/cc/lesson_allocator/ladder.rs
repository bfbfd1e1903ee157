//! What there is to choose from: the layers of one picture as steps, in the order in which they harm least.
//!
//! A camera gives up its highest frame rate first, then size, then frame rate again, and at last the picture
//! (30 -> 15 fps, 720 -> 360 -> 180 lines, 15 -> 7.5 fps, nothing). Slides give up frames and never legibility.

use arrayvec::ArrayVec;

use super::wished::{EncodingInput, Layer, MAX_TID, wished_layer};
use crate::units::{Bitrate, Size, Wish};

/// One choice: a layer, what it shows and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The layer.
    pub layer: Layer,
    /// What it takes on the wire together with the layers below it.
    pub cost: Bitrate,
    /// How large it is, where that is known.
    pub size: Option<Size>,
    /// Frames a second, 0 where they are not known.
    pub fps: u16,
}

/// The steps of one picture, lowest first: each shows more than the one before and costs more.
pub type Ladder = ArrayVec<Step, MAX_STEPS>;

const MAX_STEPS: usize = MAX_ENCODINGS * (MAX_TID as usize + 1);

/// More encodings of a source are not offered; what is above is left out.
const MAX_ENCODINGS: usize = 3;

/// Slides of at least as many lines can be read.
const LEGIBLE_LINES: u16 = 540;

/// Up to here a frame rate is "15": a camera gets it at every size before any size gets more.
const MIDDLE_FPS: u16 = 20;

/// The steps that a picture may be sent at, of encodings in ascending order, up to what is wished.
pub fn ladder(slides: bool, wish: &Wish, encodings: &[EncodingInput]) -> Ladder {
    let Some(top) = wished_layer(wish, encodings) else { return Ladder::new() };
    let usable = || {
        let up_to_top = (0..).zip(encodings).take(MAX_ENCODINGS.min(usize::from(top.encoding) + 1));
        up_to_top.filter(|(_, encoding)| encoding.active)
    };
    let steps = if slides {
        let legible =
            usable().find(|(_, encoding)| encoding.size.is_some_and(|size| lines(size) >= LEGIBLE_LINES));
        let lowest = legible.or_else(|| usable().next()).map_or(0, |(index, _)| index);
        usable()
            .filter(|&(index, _)| index >= lowest)
            .flat_map(|(index, input)| temporal(index, input, top))
            .collect()
    } else {
        camera(
            &usable()
                .map(|(index, input)| temporal(index, input, top))
                .collect::<ArrayVec<_, MAX_ENCODINGS>>(),
        )
    };
    without_bad_bargains(&steps)
}

/// The steps of a camera from those of its encodings, by size and then by frame rate.
fn camera(encodings: &[Ladder]) -> Ladder {
    let mut steps = Ladder::new();
    for (index, rates) in encodings.iter().enumerate() {
        let middle = rates.iter().rposition(|step| step.fps <= MIDDLE_FPS).unwrap_or(0);
        let lowest = if index == 0 { 0 } else { middle };
        steps.extend(rates[lowest..].iter().copied());
    }
    steps
}

/// The temporal layers of one encoding, as far as they are wished.
fn temporal(encoding: u8, input: &EncodingInput, top: Layer) -> Ladder {
    let known_fps = input.fps.iter().any(|&fps| fps > 0);
    let known_cost = input.rates.iter().any(|&rate| rate > Bitrate::ZERO);
    let whole = if known_cost { Bitrate::ZERO } else { expected(encoding, input.size) };
    let mut steps = Ladder::new();
    let (mut fps, mut cost) = (0, 0);
    for tid in 0..=MAX_TID {
        let (frames, rate) = (input.fps[usize::from(tid)], input.rates[usize::from(tid)]);
        fps += frames;
        cost += rate.as_bps();
        let max_tid = if known_fps { tid } else { MAX_TID };
        let step = Step {
            layer: Layer { encoding, max_tid: max_tid.min(top.max_tid) },
            cost: Bitrate::bps(cost).max(whole),
            size: input.size,
            fps,
        };
        match steps.last_mut() {
            // Without frames of its own it is no step, but what comes of it may come.
            Some(last) if frames == 0 || !known_fps => *last = step,
            _ if tid <= top.max_tid => steps.push(step),
            _ => {}
        }
        if tid >= top.max_tid {
            break;
        }
    }
    steps
}

/// Leaves out what costs as much as something that shows more.
fn without_bad_bargains(steps: &Ladder) -> Ladder {
    let mut kept = Ladder::new();
    for step in steps.iter().rev() {
        if kept.last().is_none_or(|better: &Step| step.cost < better.cost) {
            kept.push(*step);
        }
    }
    kept.reverse();
    kept
}

/// What an encoding is taken to cost before any of it was measured.
fn expected(index: u8, size: Option<Size>) -> Bitrate {
    match size.map_or([180, 360, 720][usize::from(index).min(2)], lines) {
        0..=180 => Bitrate::kbps(90),
        181..=360 => Bitrate::kbps(300),
        _ => Bitrate::kbps(1000),
    }
}

/// The lines of a picture, by its shorter side: a phone may be held upright.
pub(super) fn lines(size: Size) -> u16 {
    size.width.min(size.height)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{camera, encoding, slides};
    use super::*;

    fn steps(ladder: &Ladder) -> Vec<(u16, u16, u64)> {
        let shown = |step: &Step| (step.size.map_or(0, lines), step.fps, step.cost.as_bps() / 1000);
        ladder.iter().map(shown).collect()
    }

    #[test]
    fn a_camera_gives_up_frames_then_size_then_frames() {
        let all = ladder(false, &Wish::default(), &camera());
        let expected = [
            (180, 8, 36),
            (180, 15, 54),
            (180, 30, 90),
            (360, 15, 180),
            (360, 30, 300),
            (720, 15, 600),
            (720, 30, 1000),
        ];
        assert_eq!(steps(&all), expected);
        assert_eq!(all.last().map(|step| step.layer), Some(Layer { encoding: 2, max_tid: 3 }));
    }

    #[test]
    fn a_wish_ends_the_ladder() {
        let small = Wish { size: Some(Size { width: 320, height: 180 }), ..Wish::default() };
        assert_eq!(steps(&ladder(false, &small, &camera())), [(180, 8, 36), (180, 15, 54), (180, 30, 90)]);
        let slow = Wish { fps: Some(8), ..Wish::default() };
        assert_eq!(steps(&ladder(false, &slow, &camera())), [(180, 8, 36), (360, 8, 120), (720, 8, 400)]);
        let nothing = Wish { paused: true, ..Wish::default() };
        assert!(ladder(false, &nothing, &camera()).is_empty());
    }

    #[test]
    fn slides_are_never_sent_too_small_to_read() {
        assert_eq!(steps(&ladder(true, &Wish::default(), &slides())), [(1080, 2, 50), (1080, 5, 400)]);
        let with_a_small_one = [encoding(270, &[2], &[20]), encoding(1080, &[1, 4], &[80, 300])];
        assert_eq!(
            steps(&ladder(true, &Wish::default(), &with_a_small_one)),
            [(1080, 1, 80), (1080, 5, 380)]
        );
        let small_alone = [encoding(270, &[2], &[20]), encoding(360, &[5], &[60])];
        assert_eq!(steps(&ladder(true, &Wish::default(), &small_alone)), [(270, 2, 20), (360, 5, 60)]);
    }

    #[test]
    fn what_costs_more_and_shows_less_is_no_step() {
        let odd = [encoding(180, &[8, 7], &[200, 100]), encoding(360, &[15], &[150])];
        assert_eq!(steps(&ladder(false, &Wish::default(), &odd)), [(360, 15, 150)]);
    }

    #[test]
    fn an_encoding_that_was_not_measured_is_one_step_of_the_usual_cost() {
        let unknown = |_| EncodingInput { active: true, ..EncodingInput::default() };
        let all: Vec<_> = (0..3).map(unknown).collect();
        assert_eq!(steps(&ladder(false, &Wish::default(), &all)), [(0, 0, 90), (0, 0, 300), (0, 0, 1000)]);
        let off = [EncodingInput { active: false, ..all[0] }, all[1]];
        assert_eq!(steps(&ladder(false, &Wish::default(), &off)), [(0, 0, 300)]);
    }
}
