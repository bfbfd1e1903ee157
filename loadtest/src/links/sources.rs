//! What is sent: the frames of a lesson's sources, with the sizes that real encoders gave them.
//!
//! Sound: a packet each 20 ms. Slides: a page turn each `page_turn_s`, then strokes of a pen for `pen_s` at the
//! encoding's rate, then one small frame a second as browsers send of a picture that stands still. Camera: sizes of
//! a real encoder scaled to the encoding's mean and its temporal layers' shares; a key frame is made up for by
//! smaller frames behind it.

use std::time::Duration;

use anyhow::ensure;
use serde::Deserialize;

use crate::seed::Random;

/// `[sources.lesson]` of a file of scenarios.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lesson {
    /// The teacher's voice.
    pub audio: Audio,
    /// The teacher's slides.
    pub slides: Slides,
    /// The teacher's camera.
    pub camera: Camera,
}

/// A voice.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audio {
    /// Bit/s of its payload.
    pub bps: u64,
    /// Of a packet.
    pub ptime_ms: u64,
    /// Whether silence is sent as silence. Sound without a pause is assumed otherwise.
    pub dtx: bool,
    /// Whether RED is offered; it is sent where the server takes it.
    pub red: bool,
    /// A second encoding for the thinnest links.
    pub thin: Option<Thin>,
}

/// A thin voice.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thin {
    /// Bit/s of its payload.
    pub bps: u64,
    /// Of a packet.
    pub ptime_ms: u64,
}

/// Slides.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slides {
    /// While a pen moves, of each encoding.
    pub encodings_kbps: Vec<f64>,
    /// While a pen moves, of each encoding.
    pub fps: Vec<u64>,
    /// From one page to the next.
    pub page_turn_s: u64,
    /// A new page, of each encoding.
    pub page_frame_bytes: Vec<usize>,
    /// How long a pen moves on each page.
    pub pen_s: u64,
}

/// A camera.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Mean of each encoding.
    pub kbps: Vec<f64>,
    /// Of each encoding.
    pub height: Vec<u16>,
    /// Of all encodings.
    pub fps: u64,
    /// What the temporal layers up to each take of an encoding's rate.
    pub temporal: Vec<f64>,
    /// Mean frames that a key frame is as large as.
    pub keyframe_frames: f64,
}

impl Default for Lesson {
    fn default() -> Self {
        Self {
            audio: Audio {
                bps: 24_000,
                ptime_ms: 20,
                dtx: false,
                red: true,
                thin: Some(Thin { bps: 8000, ptime_ms: 60 }),
            },
            slides: Slides {
                encodings_kbps: vec![50.0, 400.0],
                fps: vec![2, 5],
                page_turn_s: 20,
                page_frame_bytes: vec![6000, 27_000],
                pen_s: 8,
            },
            camera: Camera {
                kbps: vec![90.0, 300.0, 1000.0],
                height: vec![180, 360, 720],
                fps: 30,
                temporal: vec![0.4, 0.6, 1.0],
                keyframe_frames: 6.0,
            },
        }
    }
}

impl Lesson {
    /// Refuses what cannot be sent.
    pub fn check(&self) -> anyhow::Result<()> {
        let Self { audio, slides, camera } = self;
        ensure!((2000..=510_000).contains(&audio.bps), "audio: bps = {}", audio.bps);
        ensure!([10, 20, 40, 60].contains(&audio.ptime_ms), "audio: ptime_ms = {}", audio.ptime_ms);
        let encodings = slides.encodings_kbps.len();
        ensure!((1..=3).contains(&encodings), "slides: one to three encodings");
        ensure!(
            slides.fps.len() == encodings && slides.page_frame_bytes.len() == encodings,
            "slides: a list is short"
        );
        ensure!(slides.fps.iter().all(|fps| (1..=30).contains(fps)), "slides: fps");
        ensure!(
            slides.page_frame_bytes.iter().all(|bytes| (100..=1_000_000).contains(bytes)),
            "slides: a page"
        );
        ensure!(
            slides.encodings_kbps.iter().all(|kbps| (1.0..=10_000.0).contains(kbps)),
            "slides: encodings_kbps"
        );
        ensure!(slides.page_turn_s > slides.pen_s, "slides: pages turn while the pen moves");
        let encodings = camera.kbps.len();
        ensure!(
            (1..=3).contains(&encodings) && camera.height.len() == encodings,
            "camera: one to three encodings"
        );
        ensure!(camera.kbps.iter().all(|kbps| (1.0..=10_000.0).contains(kbps)), "camera: kbps");
        ensure!((4..=60).contains(&camera.fps), "camera: fps = {}", camera.fps);
        ensure!((1.0..=100.0).contains(&camera.keyframe_frames), "camera: keyframe_frames");
        ensure!(camera.temporal.len() == 3, "camera: three temporal layers");
        let ascending = camera.temporal.windows(2).all(|pair| pair[0] <= pair[1]);
        ensure!(ascending && camera.temporal[0] > 0.0 && camera.temporal[2] == 1.0, "camera: temporal");
        Ok(())
    }
}

impl Slides {
    /// The moments at which something new is on the slides, ascending.
    pub fn changes(&self, until: Duration) -> Vec<Duration> {
        let step = Duration::from_nanos(1_000_000_000 / self.fps[0]);
        let ticks = (0..).map(|tick| step * tick).take_while(|&at| at < until);
        ticks.filter(|&at| self.at(at) != Activity::Still).collect()
    }

    fn at(&self, at: Duration) -> Activity {
        let within = at.as_nanos() % Duration::from_secs(self.page_turn_s).as_nanos();
        match within {
            0 => Activity::Turn,
            _ if within < Duration::from_secs(self.pen_s).as_nanos() => Activity::Pen,
            _ => Activity::Still,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    Turn,
    Pen,
    Still,
}

/// A frame of an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Since the lesson began.
    pub at: Duration,
    /// Its number among those of its encoding.
    pub number: u32,
    /// Whether it needs no other.
    pub key: bool,
    /// Its temporal layer.
    pub tid: u8,
    /// Whether it refers to the base layer alone.
    pub sync: bool,
    /// The base-layer frames so far.
    pub base: u8,
    /// Encoded.
    pub bytes: usize,
}

/// An encoder of one encoding.
pub struct Encoder {
    kind: Kind,
    due: Duration,
    number: u32,
    base: u8,
    key_wanted: bool,
    first: bool,
}

enum Kind {
    Voice { bytes: usize, ptime: Duration },
    Slides { slides: Slides, encoding: usize },
    Camera { sizes: &'static [u16], at: usize, mean: f64, scale: [f64; 3], fps: u64, key: f64, debt: f64 },
}

/// Temporal layers as libvpx codes three of them, and whether a frame refers to the base layer alone.
const PATTERN: [(u8, bool); 4] = [(0, false), (2, true), (1, true), (2, false)];

/// Bytes of a frame of slides on which nothing has changed.
const STILL_BYTES: usize = 150;

/// Most that a frame is made smaller to make up for a key frame, as a share of it.
const REPAYMENT: f64 = 0.3;

impl Encoder {
    /// Of a voice.
    pub fn voice(bps: u64, ptime_ms: u64) -> Self {
        let bytes = (bps * ptime_ms / 8000).max(MIN_BYTES as u64) as usize;
        Self::new(Kind::Voice { bytes, ptime: Duration::from_millis(ptime_ms) })
    }

    /// Of slides.
    pub fn slides(slides: &Slides, encoding: usize) -> Self {
        Self::new(Kind::Slides { slides: slides.clone(), encoding })
    }

    /// Of a camera. All encodings of one camera begin at the same place of the recorded sizes.
    pub fn camera(camera: &Camera, encoding: usize, seed: u64) -> Self {
        let sizes = recorded(encoding);
        let mean = camera.kbps[encoding] * 125.0 / camera.fps as f64;
        let start = Random::new(seed).below(sizes.len() as u64) as usize;
        // A recorded encoder has a rhythm of its own: each layer is scaled by the frames that it gets.
        let mean_of = |tid: u8| {
            let own = (0..sizes.len()).filter(|place| PATTERN[place % 4].0 == tid);
            let own: Vec<f64> = own.map(|place| f64::from(sizes[(start + place) % sizes.len()])).collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        // Of four frames one is of the base layer, one of the middle and two of the highest.
        let [low, middle, _] = camera.temporal[..] else { unreachable!("checked: three layers") };
        let share = [low * 4.0, (middle - low) * 4.0, (1.0 - middle) * 2.0];
        Self::new(Kind::Camera {
            sizes,
            at: start,
            mean,
            scale: [0, 1, 2].map(|tid| share[usize::from(tid)] * mean / mean_of(tid)),
            fps: camera.fps,
            key: camera.keyframe_frames,
            debt: 0.0,
        })
    }

    fn new(kind: Kind) -> Self {
        Self { kind, due: Duration::ZERO, number: 0, base: 0, key_wanted: false, first: true }
    }

    /// When the next frame is there.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// Makes the next frame a key frame. Slides that stand still are sent again for it.
    pub fn want_key_frame(&mut self, now: Duration) {
        if let Kind::Slides { .. } = self.kind {
            let soon = now + SLIDES_AGAIN;
            self.due = self.due.min(soon.max(now));
        }
        self.key_wanted = !matches!(self.kind, Kind::Voice { .. });
    }

    /// The next frame.
    pub fn next_frame(&mut self) -> Frame {
        let at = self.due;
        let key =
            (std::mem::take(&mut self.key_wanted) || self.first) && !matches!(self.kind, Kind::Voice { .. });
        self.first = false;
        let number = self.number;
        self.number += 1;
        let (tid, sync) = match self.kind {
            Kind::Camera { .. } if !key => PATTERN[number as usize % 4],
            _ => (0, false),
        };
        if tid == 0 {
            self.base = self.base.wrapping_add(1);
        }
        let bytes = self.size(at, key, tid).max(MIN_BYTES);
        self.due = self.after(at);
        Frame { at, number, key, tid, sync, base: self.base, bytes }
    }

    fn size(&mut self, at: Duration, key: bool, tid: u8) -> usize {
        match &mut self.kind {
            Kind::Voice { bytes, .. } => *bytes,
            Kind::Slides { slides, encoding } => {
                let page = slides.page_frame_bytes[*encoding];
                match slides.at(at) {
                    _ if key => page,
                    Activity::Turn => page,
                    Activity::Pen => {
                        (slides.encodings_kbps[*encoding] * 125.0 / slides.fps[*encoding] as f64) as usize
                    }
                    Activity::Still => STILL_BYTES,
                }
            }
            Kind::Camera { sizes, at, mean, scale, key: key_frames, debt, .. } => {
                let natural = f64::from(sizes[*at]) * scale[usize::from(tid)];
                *at = (*at + 1) % sizes.len();
                if key {
                    let size = *mean * *key_frames;
                    *debt += size - natural;
                    return size as usize;
                }
                let repaid = debt.min(natural * REPAYMENT).max(0.0);
                *debt -= repaid;
                (natural - repaid) as usize
            }
        }
    }

    fn after(&self, at: Duration) -> Duration {
        match &self.kind {
            Kind::Voice { ptime, .. } => at + *ptime,
            Kind::Camera { fps, .. } => tick(at, *fps),
            Kind::Slides { slides, encoding } => {
                let fps = slides.fps[*encoding];
                let mut next = tick(at, fps);
                // While nothing changes, once a second.
                while slides.at(next) == Activity::Still && !next.as_nanos().is_multiple_of(1_000_000_000) {
                    next = tick(next, fps);
                }
                next
            }
        }
    }
}

/// A browser repeats slides that stand still when it is asked for a key frame.
const SLIDES_AGAIN: Duration = Duration::from_millis(30);

/// When the next frame after `at` is due, without drift: frame `n` is at `n / fps`.
fn tick(at: Duration, fps: u64) -> Duration {
    // Rounded down, so that frames lie on whole nanoseconds and a second has exactly `fps`.
    let frame = (at.as_nanos() as u64 * fps + fps - 1) / 1_000_000_000 + 1;
    Duration::from_nanos(frame * 1_000_000_000 / fps)
}

/// Room for what tells frames apart; see `media.rs`.
pub const MIN_BYTES: usize = 28;

/// Sizes of 7200 frames of a talking head at 30 frames a second, of the next best encoding that was recorded.
fn recorded(encoding: usize) -> &'static [u16] {
    use std::sync::LazyLock;
    static SIZES: LazyLock<[Vec<u16>; 3]> = LazyLock::new(|| {
        let text = [
            include_str!("../../scenarios/encoders/chat_180p_100.sizes"),
            include_str!("../../scenarios/encoders/chat_360p_400.sizes"),
            include_str!("../../scenarios/encoders/chat_720p_1000.sizes"),
        ];
        // The first is a key frame, of which we make our own.
        text.map(|text| {
            let mut sizes: Vec<u16> = text.lines().skip(1).filter_map(|line| line.parse().ok()).collect();
            // Whole patterns of temporal layers, so that the end fits the beginning.
            sizes.truncate(sizes.len() / PATTERN.len() * PATTERN.len());
            sizes
        })
    });
    &SIZES[encoding.min(2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(mut encoder: Encoder, seconds: u64) -> Vec<Frame> {
        let frames = std::iter::repeat_with(|| encoder.next_frame());
        frames.take_while(|frame| frame.at < Duration::from_secs(seconds)).collect()
    }

    fn kbps(frames: &[Frame], seconds: u64, of: impl Fn(&Frame) -> bool) -> f64 {
        frames.iter().filter(|frame| of(frame)).map(|frame| frame.bytes).sum::<usize>() as f64
            / seconds as f64
            / 125.0
    }

    #[test]
    fn a_camera_has_its_mean_and_its_layers_their_shares() {
        let camera = Lesson::default().camera;
        for (encoding, &mean) in camera.kbps.iter().enumerate() {
            let frames = frames(Encoder::camera(&camera, encoding, 3), 240);
            assert_eq!(frames.len(), 7200);
            assert!(frames[0].key && frames[1..].iter().all(|frame| !frame.key));
            for (tid, share) in [(0, 0.4), (1, 0.6), (2, 1.0)] {
                let rate = kbps(&frames, 240, |frame| frame.tid <= tid);
                assert!((rate / (mean * share) - 1.0).abs() < 0.05, "{encoding} {tid}: {rate}");
            }
        }
    }

    #[test]
    fn key_frames_do_not_raise_the_mean() {
        let camera = Lesson::default().camera;
        let mut encoder = Encoder::camera(&camera, 1, 1);
        let mut all = Vec::new();
        while encoder.due() < Duration::from_secs(240) {
            if all.len() % 90 == 89 {
                encoder.want_key_frame(encoder.due());
            }
            all.push(encoder.next_frame());
        }
        assert_eq!(all.iter().filter(|frame| frame.key).count(), 81);
        assert!((kbps(&all, 240, |_| true) / 300.0 - 1.0).abs() < 0.05);
    }

    #[test]
    fn slides_turn_are_drawn_on_and_stand_still() {
        let slides = Lesson::default().slides;
        let low = frames(Encoder::slides(&slides, 0), 40);
        // A page, 15 strokes, 12 still frames; twice.
        let sizes: Vec<usize> = low.iter().map(|frame| frame.bytes).collect();
        let page = [vec![6000], vec![3125; 15], vec![STILL_BYTES; 12]].concat();
        assert_eq!(sizes, [page.clone(), page].concat());
        let high = frames(Encoder::slides(&slides, 1), 20);
        assert_eq!(high.iter().filter(|frame| frame.bytes == 10_000).count(), 39);
        assert_eq!(slides.changes(Duration::from_secs(20)).len(), 16);
    }

    #[test]
    fn slides_that_stand_still_answer_a_key_frame_request_soon() {
        let mut encoder = Encoder::slides(&Lesson::default().slides, 0);
        while encoder.due() < Duration::from_secs(12) {
            encoder.next_frame();
        }
        encoder.want_key_frame(Duration::from_millis(11_100));
        let frame = encoder.next_frame();
        assert_eq!((frame.at, frame.key, frame.bytes), (Duration::from_millis(11_130), true, 6000));
        assert_eq!(encoder.due(), Duration::from_secs(12));
    }

    #[test]
    fn a_voice_is_a_packet_each_ptime() {
        let frames = frames(Encoder::voice(24_000, 20), 10);
        assert_eq!((frames.len(), frames[0].bytes, kbps(&frames, 10, |_| true) as u32), (500, 60, 24));
    }
}
