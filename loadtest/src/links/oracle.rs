//! The best constant set of layers: what a link's mean rate could carry if somebody had known it before.

use std::time::Duration;

use super::ledger::Layer;
use super::media::{Kind, OVERHEAD, wire_bytes};
use super::sources::{Encoder, Lesson};

/// Mean rates on the wire of all layers of a lesson, bit/s.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// The voice as it is published, then packets of three times its time, then the thin encoding.
    pub voice: Vec<Voice>,
    /// Slides, by encoding.
    pub slides: Vec<f64>,
    /// Camera, by encoding and highest temporal layer.
    pub camera: Vec<[f64; 3]>,
}

/// A form of the voice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Voice {
    /// Its rate on the wire, bit/s.
    pub bps: f64,
    /// What of that is payload.
    pub payload: f64,
}

/// A set of layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// Its rate on the wire, bit/s.
    pub bps: f64,
    /// The same, of the voice only its payload.
    pub worth: f64,
    /// The form of the voice, as in [`Rates::voice`].
    pub voice: usize,
    /// The encoding of the slides.
    pub slides: Option<usize>,
    /// The layer of the camera.
    pub camera: Option<Layer>,
}

/// Mean rates of a lesson that lasts so long.
pub fn rates(lesson: &Lesson, duration: Duration, seed: u64) -> Rates {
    let mean = |kind, encoder, tid| mean(kind, encoder, tid, duration);
    let audio = &lesson.audio;
    let form = |payload: f64, ptime_ms: f64| Voice {
        bps: payload + (OVERHEAD * 8) as f64 * 1000.0 / ptime_ms,
        payload,
    };
    let (bps, ptime) = (audio.bps as f64, audio.ptime_ms as f64);
    let mut voice = vec![form(bps, ptime), form(bps, 3.0 * ptime.min(20.0))];
    voice.extend(audio.thin.map(|thin| form(thin.bps as f64, thin.ptime_ms as f64)));
    let slides =
        (0..lesson.slides.fps.len()).map(|it| mean(Kind::Slides, Encoder::slides(&lesson.slides, it), 2));
    let camera = (0..lesson.camera.kbps.len())
        .map(|it| [0, 1, 2].map(|tid| mean(Kind::Camera, Encoder::camera(&lesson.camera, it, seed), tid)));
    Rates { voice, slides: slides.collect(), camera: camera.collect() }
}

fn mean(kind: Kind, mut encoder: Encoder, tid: u8, duration: Duration) -> f64 {
    let mut bytes = 0;
    while encoder.due() < duration {
        let frame = encoder.next_frame();
        if frame.tid <= tid {
            bytes += wire_bytes(kind, &frame);
        }
    }
    bytes as f64 * 8.0 / duration.as_secs_f64()
}

impl Rates {
    /// The set with the highest rate that `bps` carries. The voice is always in it, faces are in it only beside
    /// slides, and a thinner voice only where a better one with slides does not fit.
    pub fn best(&self, bps: f64) -> Best {
        let mut best = None;
        for voice in 0..self.voice.len() {
            let sets = self.sets(voice).filter(|set| set.bps <= bps);
            let Some(highest) = sets.max_by(|a, b| a.bps.total_cmp(&b.bps)) else { continue };
            if highest.slides.is_some() {
                return highest;
            }
            best = best.or(Some(highest));
        }
        let thinnest = self.voice.len() - 1;
        best.unwrap_or(self.alone(thinnest))
    }

    /// What layers of slides and camera take, bit/s.
    pub fn of_layers(&self, [slides, camera]: [Option<Layer>; 2]) -> f64 {
        let slides = slides.and_then(|layer| self.slides.get(usize::from(layer.encoding)));
        let camera = camera
            .and_then(|layer| self.camera.get(usize::from(layer.encoding))?.get(usize::from(layer.tid)));
        slides.unwrap_or(&0.0) + camera.unwrap_or(&0.0)
    }

    fn alone(&self, voice: usize) -> Best {
        let Voice { bps, payload } = self.voice[voice];
        Best { bps, worth: payload, voice, slides: None, camera: None }
    }

    fn sets(&self, voice: usize) -> impl Iterator<Item = Best> + '_ {
        let alone = self.alone(voice);
        let with_slides = self.slides.iter().enumerate().map(move |(encoding, bps)| Best {
            bps: alone.bps + bps,
            worth: alone.worth + bps,
            slides: Some(encoding),
            ..alone
        });
        let with_camera = with_slides.clone().flat_map(move |set| {
            self.camera.iter().zip(0..).flat_map(move |(layers, encoding)| {
                layers.iter().zip(0..).map(move |(bps, tid)| Best {
                    bps: set.bps + bps,
                    worth: set.worth + bps,
                    camera: Some(Layer { encoding, tid }),
                    ..set
                })
            })
        });
        std::iter::once(alone).chain(with_slides).chain(with_camera)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_set_fits_has_a_voice_and_puts_slides_before_faces() {
        let rates = rates(&Lesson::default(), Duration::from_secs(180), 1);
        let layer = |encoding, tid| Some(Layer { encoding, tid });
        for (kbps, voice, slides, camera) in [
            (15.0, 2, None, None),
            (40.0, 1, None, None),
            (64.0, 1, Some(0), None),
            (100.0, 0, Some(0), None),
            (150.0, 0, Some(0), layer(0, 1)),
            (5000.0, 0, Some(1), layer(2, 2)),
        ] {
            let best = rates.best(kbps * 1000.0);
            assert_eq!(
                (best.voice, best.slides, best.camera),
                (voice, slides, camera),
                "{kbps}: {best:?} {rates:?}"
            );
            assert!(best.bps <= kbps * 1000.0 || best.voice == 2);
        }
    }
}
