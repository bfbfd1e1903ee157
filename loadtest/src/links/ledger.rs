//! What left the server for a receiver, and what became of it on the path.

use std::time::Duration;

use super::media::Kind;
use super::path::Fate;
use super::receiver::{Content, Media};

/// The most that encodings of a picture there are.
pub const ENCODINGS: usize = 3;

/// A layer of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its encoding.
    pub encoding: u8,
    /// Its highest temporal layer.
    pub tid: u8,
}

/// What left in a second, bytes on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct SecondSent {
    /// The voice.
    pub voice: u64,
    /// Slides, by encoding.
    pub slides: [u64; ENCODINGS],
    /// Camera, by encoding.
    pub camera: [u64; ENCODINGS],
    /// Retransmissions, and packets that only measure.
    pub again: u64,
    /// Reports and the transport's own.
    pub other: u64,
}

impl SecondSent {
    /// Its parts, as a plot stacks them.
    pub const PARTS: [&str; 9] =
        ["voice", "slides 0", "slides 1", "slides 2", "camera 0", "camera 1", "camera 2", "again", "reports"];

    /// What there is of each.
    pub fn parts(&self) -> [u64; 9] {
        let ([a, b, c], [d, e, f]) = (self.slides, self.camera);
        [self.voice, a, b, c, d, e, f, self.again, self.other]
    }
}

/// The account of one receiver. All times are since the lesson began.
#[derive(Debug)]
pub struct Ledger {
    /// By second.
    pub sent: Vec<SecondSent>,
    /// How long each packet that was carried waited in the queue, and when it was sent.
    pub waits: Vec<(Duration, Duration)>,
    /// Packets sent; dropped by the queue.
    pub packets: u64,
    /// See `packets`.
    pub dropped: u64,
    /// Frames of sound that the path lost at random.
    pub voice_lost: u64,
    watches: [Watch; 2],
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            sent: Vec::new(),
            waits: Vec::new(),
            packets: 0,
            dropped: 0,
            voice_lost: 0,
            watches: [Watch::new(Kind::Slides), Watch::new(Kind::Camera)],
        }
    }
}

impl Ledger {
    /// Something left, and this became of it.
    pub fn count(&mut self, now: Duration, content: &Content, wire: u64, fate: Fate) {
        let second = now.as_secs() as usize;
        if self.sent.len() <= second {
            self.sent.resize(second + 1, SecondSent::default());
        }
        let sent = &mut self.sent[second];
        match content {
            Content::Media(media) if media.again || media.part.is_none() => sent.again += wire,
            Content::Media(media) => {
                let mark = media.part.map(|part| (usize::from(part.mark.encoding).min(ENCODINGS - 1), part));
                match (media.kind, mark) {
                    (Kind::Slides, Some((encoding, _))) => sent.slides[encoding] += wire,
                    (Kind::Camera, Some((encoding, _))) => sent.camera[encoding] += wire,
                    _ => sent.voice += wire,
                }
                if let (Kind::Slides | Kind::Camera, Some((_, part))) = (media.kind, mark) {
                    let layer = Layer { encoding: part.mark.encoding, tid: part.tid };
                    self.watches[media.kind as usize - 1].see(now, layer, part.mark.number);
                }
            }
            Content::Rtcp(_) | Content::Other => sent.other += wire,
        }
        self.packets += 1;
        match fate {
            Fate::Carried { wait } => self.waits.push((now, wait)),
            Fate::Dropped | Fate::Stuck => self.dropped += 1,
            Fate::Lost => {
                if let Content::Media(Media { again: false, speech: Some(speech), .. }) = content {
                    self.voice_lost += u64::from(speech.frames);
                }
            }
        }
    }

    /// Changes of layer of slides and camera until `end`, pauses and returns included.
    pub fn switches(&mut self, end: Duration) -> u64 {
        self.watches
            .iter_mut()
            .map(|watch| {
                watch.look(end);
                watch.changes.len().saturating_sub(1) as u64
            })
            .sum()
    }

    /// The layers of slides and camera at a moment.
    pub fn layers_at(&self, at: Duration) -> [Option<Layer>; 2] {
        [0, 1].map(|index| {
            let changes = &self.watches[index].changes;
            changes[..changes.partition_point(|&(since, _)| since <= at)].last().and_then(|&(_, layer)| layer)
        })
    }

    /// The moments at which a layer changed, ascending.
    pub fn changes(&self) -> Vec<Duration> {
        let mut at: Vec<_> =
            self.watches.iter().flat_map(|watch| &watch.changes).map(|&(at, _)| at).collect();
        at.sort_unstable();
        at
    }
}

/// Finds out from the packets of a picture which layer is sent.
#[derive(Debug)]
struct Watch {
    kind: Kind,
    /// The first is the beginning.
    changes: Vec<(Duration, Option<Layer>)>,
    /// Frames in whose every group each temporal layer has one.
    group: Option<(u32, Layer)>,
    /// Another layer than the last one, and how many groups in a row were so.
    other: Option<(Layer, u32)>,
    last: Option<Duration>,
}

/// The pattern of temporal layers repeats after four frames; a layer that two of them agree on is sent.
const GROUP: u32 = 4;
const AGREED: u32 = 2;

impl Watch {
    fn new(kind: Kind) -> Self {
        Self { kind, changes: Vec::new(), group: None, other: None, last: None }
    }

    /// Nothing for so long is a pause. Slides that stand still are sent once a second.
    fn silence(&self) -> Duration {
        Duration::from_millis(if self.kind == Kind::Slides { 2500 } else { 1000 })
    }

    fn see(&mut self, now: Duration, layer: Layer, number: u32) {
        self.look(now);
        self.last = Some(now);
        if self.kind == Kind::Slides {
            self.settle(now, layer);
            return;
        }
        let place = number / GROUP;
        match &mut self.group {
            Some((same, seen)) if *same == place && seen.encoding == layer.encoding => {
                seen.tid = seen.tid.max(layer.tid);
            }
            group => {
                let before = group.replace((place, layer));
                let Some((_, seen)) = before else { return };
                let count = match self.other {
                    Some((other, count)) if other == seen => count + 1,
                    _ => 1,
                };
                self.other = Some((seen, count));
                if count >= AGREED {
                    self.settle(now, seen);
                }
            }
        }
    }

    /// Notices a pause.
    fn look(&mut self, now: Duration) {
        let Some(last) = self.last else { return };
        if now >= last + self.silence() && self.changes.last().is_some_and(|(_, layer)| layer.is_some()) {
            self.changes.push((last, None));
            (self.group, self.other) = (None, None);
        }
    }

    fn settle(&mut self, now: Duration, layer: Layer) {
        if self.changes.last().is_none_or(|&(_, before)| before != Some(layer)) {
            self.changes.push((now, Some(layer)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(kind: Kind, frames: impl IntoIterator<Item = (u32, u8, u8)>) -> Vec<Option<Layer>> {
        let mut watch = Watch::new(kind);
        let mut at = Duration::ZERO;
        for (number, encoding, tid) in frames {
            at = Duration::from_millis(u64::from(number) * 33);
            watch.see(at, Layer { encoding, tid }, number);
        }
        watch.look(at);
        watch.changes.iter().map(|&(_, layer)| layer).collect()
    }

    fn layer(encoding: u8, tid: u8) -> Option<Layer> {
        Some(Layer { encoding, tid })
    }

    const PATTERN: [u8; 4] = [0, 2, 1, 2];

    fn frames(
        numbers: std::ops::Range<u32>,
        encoding: u8,
        max_tid: u8,
    ) -> impl Iterator<Item = (u32, u8, u8)> {
        let all = numbers.map(move |number| (number, encoding, PATTERN[number as usize % 4]));
        all.filter(move |&(_, _, tid)| tid <= max_tid)
    }

    #[test]
    fn sees_spatial_and_temporal_changes_once() {
        let sent = frames(0..100, 0, 2).chain(frames(100..200, 0, 0)).chain(frames(200..300, 1, 1));
        assert_eq!(watch(Kind::Camera, sent), [layer(0, 2), layer(0, 0), layer(1, 1)]);
    }

    #[test]
    fn a_group_with_a_frame_less_is_no_change() {
        let sent = frames(0..400, 0, 2).filter(|&(number, _, tid)| tid == 0 || !(200..204).contains(&number));
        assert_eq!(watch(Kind::Camera, sent), [layer(0, 2)]);
    }

    #[test]
    fn a_pause_and_its_end_are_changes() {
        let sent = frames(0..100, 1, 2).chain(frames(200..300, 1, 2));
        assert_eq!(watch(Kind::Camera, sent), [layer(1, 2), None, layer(1, 2)]);
        let slides = [(0, 0, 0), (30, 0, 0), (60, 1, 0), (240, 1, 0)];
        assert_eq!(watch(Kind::Slides, slides), [layer(0, 0), layer(1, 0), None, layer(1, 0)]);
    }
}
