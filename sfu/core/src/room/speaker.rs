//! Who speaks: decided from the levels that publishers send along with their sound (RFC 6464), which costs no
//! decoding. It does not judge whether sound is speech: a browser suppresses noise before it measures.
//!
//! A voice is heard in the share of time in which it is loud, by its timestamps: jitter does not move it, and
//! what was not sent (DTX) counts as silence. That share is smoothed over a few intervals and has to be large to
//! begin with and small to end with, so that neither a cough nor a breath changes anything.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use sfu_protocol::people::MAX_SPEAKERS;
use slotmap::SecondaryMap;

use super::room::{ParticipantKey, Room, TrackKey};
use crate::rtp::ext::AudioLevel;
use crate::track::packet_cache::PacketFacts;
use crate::units::{MediaKind, Source};

/// Someone who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaking {
    /// Who.
    pub participant: ParticipantKey,
    /// How loud, in eighths of full scale: 1 to 8.
    pub level: u8,
}

/// Everyone who speaks; those who began first come first.
pub type SpeakerList = ArrayVec<Speaking, MAX_SPEAKERS>;

/// Between two decisions. LiveKit decides each 400 ms.
const INTERVAL: Duration = Duration::from_millis(300);

/// In -dBov: as loud as this is a voice that begins (LiveKit's default), and one that goes on.
const LOUD: u8 = 35;
const STILL_LOUD: u8 = 45;

/// The smoothed share of loud time at which someone begins to speak, and below which he has stopped. A cough of
/// 200 ms reaches a third; after steady speech it takes four intervals to fall to the other.
const BEGIN: f32 = 0.4;
const END: f32 = 0.1;

/// A share that is no longer worth waking up for.
const NOTHING: f32 = 0.01;

/// Opus counts in 48 kHz, whatever it carries (RFC 7587 §4.1).
const TICKS_PER_MS: u32 = 48;

/// A usual packet, and the longest (RFC 6716 §2.1.4). A step beyond is a pause or a loss.
const FRAME: u32 = 20 * TICKS_PER_MS;
const MAX_FRAME: u32 = 60 * TICKS_PER_MS;

/// A packet so much older than the last was overtaken; older still, the sender counts anew.
const REORDERED: u32 = 1000 * TICKS_PER_MS;

/// The voices of a room.
#[derive(Default)]
pub(super) struct Speakers {
    /// One for each published microphone.
    voices: SecondaryMap<TrackKey, Voice>,
    /// When this interval began; `None` while all is silent.
    since: Option<Instant>,
    speaking: SpeakerList,
    /// Whether someone vanished from `speaking` since it was last decided.
    vanished: bool,
    /// Whether `speaking` changed since it was last taken.
    news: bool,
}

/// One microphone.
struct Voice {
    from: ParticipantKey,
    muted: bool,
    /// The timestamp of the latest packet.
    time: Option<u32>,
    /// Loud time in this interval, ticks, and its level in -dBov, weighted by it.
    loud: u64,
    weighted_level: u64,
    /// Smoothed: the share of loud time and, in -dBov, its level.
    share: f32,
    level: f32,
    speaking: bool,
}

impl Speakers {
    /// A microphone was published.
    pub(super) fn add(&mut self, track: TrackKey, from: ParticipantKey) {
        self.voices.insert(track, Voice::new(from));
    }

    /// A track has ended.
    pub(super) fn remove(&mut self, track: TrackKey) {
        let Some(voice) = self.voices.remove(track) else { return };
        if self.loudness(voice.from).is_none() {
            self.vanish(voice.from);
        }
    }

    /// A muted track never speaks, whatever it still sends.
    pub(super) fn set_muted(&mut self, track: TrackKey, muted: bool) {
        let changed = self.voices.get_mut(track).filter(|voice| voice.muted != muted);
        let Some(voice) = changed else { return };
        let from = voice.from;
        *voice = Voice { muted, time: voice.time, ..Voice::new(from) };
        if self.loudness(from).is_none() {
            self.vanish(from);
        }
    }

    /// A packet of a microphone arrived.
    #[inline]
    pub(super) fn observe(&mut self, now: Instant, track: TrackKey, level: AudioLevel, time: u32) {
        let Some(voice) = self.voices.get_mut(track) else { return };
        if voice.observe(level.level, time) {
            self.since.get_or_insert(now);
        }
    }

    /// When [`decide`](Self::decide) is due; `None` while all is silent.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.since.map(|since| since + INTERVAL)
    }

    /// Decides who speaks, once an interval is over.
    pub(super) fn decide(&mut self, now: Instant) {
        let Some(since) = self.since.filter(|&since| since + INTERVAL <= now) else { return };
        let interval = now.saturating_duration_since(since).as_secs_f32() * 1000.0 * TICKS_PER_MS as f32;
        let mut awake = false;
        for (_, voice) in &mut self.voices {
            awake |= voice.end_interval(interval);
        }
        let speaking = self.speaking_now();
        self.news |= self.vanished || speaking != self.speaking;
        self.vanished = false;
        self.speaking = speaking;
        self.since = awake.then_some(now);
    }

    /// Who speaks, where that changed since the last call.
    pub(super) fn take_news(&mut self) -> Option<&SpeakerList> {
        std::mem::take(&mut self.news).then_some(&self.speaking)
    }

    /// Those who spoke before keep their places while they speak; the loudest others take what is free.
    fn speaking_now(&self) -> SpeakerList {
        let before = self.speaking.iter().filter_map(|known| {
            let level = self.loudness(known.participant)?;
            Some(Speaking { level, ..*known })
        });
        let mut list: SpeakerList = before.collect();
        while !list.is_full() {
            let voices = self.voices.values().filter(|voice| voice.speaking);
            let others = voices.filter(|voice| list.iter().all(|known| known.participant != voice.from));
            let Some(next) = others.min_by(|a, b| a.level.total_cmp(&b.level)) else { break };
            list.push(Speaking { participant: next.from, level: next.eighths() });
        }
        list
    }

    /// How loud a participant speaks, on whichever microphone; `None` where it does not.
    fn loudness(&self, participant: ParticipantKey) -> Option<u8> {
        let own = self.voices.values().filter(|voice| voice.from == participant && voice.speaking);
        own.map(Voice::eighths).max()
    }

    /// The next decision reports it, even if nobody else changes.
    fn vanish(&mut self, participant: ParticipantKey) {
        let before = self.speaking.len();
        self.speaking.retain(|known| known.participant != participant);
        self.vanished |= self.speaking.len() < before;
    }
}

impl Voice {
    fn new(from: ParticipantKey) -> Self {
        Self {
            from,
            muted: false,
            time: None,
            loud: 0,
            weighted_level: 0,
            share: 0.0,
            level: 0.0,
            speaking: false,
        }
    }

    /// Counts a packet; returns whether it is loud.
    fn observe(&mut self, level: u8, time: u32) -> bool {
        let length = match self.time.map(|last| time.wrapping_sub(last)) {
            Some(step @ 1..=MAX_FRAME) => step,
            // The same again, or overtaken: its time was counted with the packet that came before it.
            Some(step) if step.wrapping_neg() <= REORDERED => return false,
            Some(_) | None => FRAME,
        };
        self.time = Some(time);
        let loud = !self.muted && level <= if self.speaking { STILL_LOUD } else { LOUD };
        if loud {
            self.loud += u64::from(length);
            self.weighted_level += u64::from(length) * u64::from(level);
        }
        loud
    }

    /// Takes an interval of so many ticks into account; returns whether the next one has to be, too.
    fn end_interval(&mut self, ticks: f32) -> bool {
        let share = (self.loud as f32 / ticks).min(1.0);
        self.share = f32::midpoint(self.share, share);
        if self.share < NOTHING {
            self.share = 0.0;
        }
        if self.loud > 0 {
            let level = self.weighted_level as f32 / self.loud as f32;
            self.level = if self.speaking { f32::midpoint(self.level, level) } else { level };
        }
        (self.loud, self.weighted_level) = (0, 0);
        self.speaking = self.share >= if self.speaking { END } else { BEGIN };
        self.share > 0.0
    }

    /// Coarse, and never nothing: clients show it, and small changes are no news.
    fn eighths(&self) -> u8 {
        let amplitude = 10f32.powf(-self.level / 20.0);
        // Between 1 and 8: the level is at most 0 dBov.
        (amplitude * 8.0).ceil().clamp(1.0, 8.0) as u8
    }
}

impl Room {
    /// Watches a track that was published, if it carries a voice. The sound of a shared screen is nobody's.
    pub(super) fn listen_to(&mut self, key: TrackKey) {
        let published = &self.tracks[key];
        if published.up.kind() == MediaKind::Audio && published.up.source() == Source::Microphone {
            self.speakers.add(key, published.from);
        }
    }

    /// A packet of a track was taken in.
    #[inline]
    pub(super) fn hear(&mut self, now: Instant, key: TrackKey, facts: &PacketFacts) {
        if let Some(level) = facts.audio_level {
            self.speakers.observe(now, key, level, facts.time);
        }
    }

    /// Who speaks, where that changed since the last call; at most each 300 ms. What nobody asked for is
    /// replaced by what is so by then.
    pub fn poll_speakers(&mut self) -> Option<&SpeakerList> {
        self.speakers.take_news()
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;
    use crate::testing::origin;

    const MS: Duration = Duration::from_millis(1);

    /// One microphone's doings, from a time on.
    #[derive(Clone, Copy)]
    enum Step {
        /// A packet each 20 ms at this level.
        Sound(u8),
        /// Speech: 160 ms at this level, 80 ms of quiet, and so on.
        Speech(u8),
        /// DTX: a packet each 400 ms, silent.
        Pause,
        Muted,
    }
    use Step::{Muted, Pause, Sound, Speech};

    /// Microphones of a participant each, and what was reported: who, when in ms.
    struct Class {
        speakers: Speakers,
        tracks: Vec<(TrackKey, ParticipantKey)>,
        reports: Vec<(u32, Vec<usize>)>,
    }

    impl Class {
        fn new(microphones: usize) -> Self {
            let mut class = Self { speakers: Speakers::default(), tracks: Vec::new(), reports: Vec::new() };
            let mut tracks = SlotMap::<TrackKey, ()>::with_key();
            let mut people = SlotMap::<ParticipantKey, ()>::with_key();
            for _ in 0..microphones {
                let (track, participant) = (tracks.insert(()), people.insert(()));
                class.speakers.add(track, participant);
                class.tracks.push((track, participant));
            }
            class
        }

        /// Runs scripts of (from ms, step), one for each microphone, up to `end` ms.
        fn run(mut self, scripts: &[&[(u32, Step)]], end: u32) -> Vec<(u32, Vec<usize>)> {
            let start = origin();
            let at = |ms: u32| start + ms * MS;
            for ms in (0..end).step_by(20) {
                for (microphone, script) in scripts.iter().enumerate() {
                    let track = self.tracks[microphone].0;
                    let Some(&(from, step)) = script.iter().rfind(|(from, _)| *from <= ms) else { continue };
                    if ms == from {
                        self.speakers.set_muted(track, matches!(step, Muted));
                    }
                    let level = match step {
                        Sound(level) => level,
                        Speech(level) if ms % 240 < 160 => level,
                        Speech(_) => 60,
                        Pause if ms % 400 == 0 => 127,
                        Pause => continue,
                        Muted => 10,
                    };
                    let time = (ms * TICKS_PER_MS).wrapping_sub(30_000);
                    self.speakers.observe(at(ms), track, AudioLevel { voice: true, level }, time);
                }
                self.decide(at(ms), ms);
            }
            self.reports
        }

        fn decide(&mut self, now: Instant, ms: u32) {
            if self.speakers.poll_timeout().is_some_and(|due| due <= now) {
                self.speakers.decide(now);
            }
            let tracks = &self.tracks;
            if let Some(list) = self.speakers.take_news() {
                let place = |one: &Speaking| tracks.iter().position(|(_, own)| *own == one.participant);
                self.reports.push((ms, list.iter().filter_map(place).collect()));
            }
        }
    }

    /// The reports without their times.
    fn who(reports: &[(u32, Vec<usize>)]) -> Vec<Vec<usize>> {
        let mut who: Vec<_> = reports.iter().map(|(_, who)| who.clone()).collect();
        // Levels may have changed in between.
        who.dedup();
        who
    }

    /// What it is about; what is heard from which millisecond on; who speaks, report by report.
    type Case = (&'static str, &'static [(u32, Step)], &'static [&'static [usize]]);

    #[test]
    fn speech_is_told_from_everything_else() {
        let cases: [Case; 10] = [
            ("one talker", &[(0, Speech(25)), (4000, Pause)], &[&[0], &[]]),
            ("a quiet talker", &[(0, Speech(34)), (4000, Pause)], &[&[0], &[]]),
            ("a talker who sends no silence", &[(0, Speech(25))], &[&[0]]),
            ("a noise floor", &[(0, Sound(48))], &[]),
            ("a loud noise floor", &[(0, Sound(40))], &[]),
            ("a noise floor after speech", &[(0, Speech(25)), (4000, Sound(48))], &[&[0], &[]]),
            ("silence", &[(0, Sound(127))], &[]),
            ("a cough", &[(0, Sound(60)), (1000, Sound(5)), (1200, Sound(60))], &[]),
            (
                "talk-spurts with gaps of DTX",
                &[(0, Speech(25)), (2000, Pause), (2500, Speech(25)), (4500, Pause), (5000, Speech(25))],
                &[&[0]],
            ),
            ("mute", &[(0, Speech(25)), (2000, Muted)], &[&[0], &[]]),
        ];
        for (name, script, expected) in cases {
            assert_eq!(who(&Class::new(1).run(&[script], 8000)), expected, "{name}");
        }
    }

    #[test]
    fn a_talker_is_noticed_within_600_ms_and_forgotten_within_1500() {
        let reports = Class::new(1).run(&[&[(1000, Speech(25)), (4000, Pause)]], 8000);
        let (begun, ended) = (reports[0].0, reports[reports.len() - 1].0);
        assert!((1200..=1600).contains(&begun), "{begun}");
        assert!((4300..=5500).contains(&ended), "{ended}");
    }

    #[test]
    fn two_who_alternate_are_marked_in_turn_and_together_for_a_moment() {
        let one = [(0, Speech(25)), (3000, Pause), (6000, Speech(25)), (9000, Pause)];
        let two = [(0, Pause), (3000, Speech(20)), (6000, Pause)];
        let reports = Class::new(2).run(&[&one, &two], 12_000);
        let expected: [&[usize]; 6] = [&[0], &[0, 1], &[1], &[1, 0], &[0], &[]];
        assert_eq!(who(&reports), expected);
    }

    #[test]
    fn reports_keep_their_distance() {
        // Levels that leap between full and a tenth.
        let script: Vec<_> = (0..100).map(|i| (i * 100, Sound(if i % 6 < 3 { 0 } else { 20 }))).collect();
        let reports = Class::new(1).run(&[&script], 10_000);
        assert!(reports.len() > 5, "{}", reports.len());
        assert!(reports.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 300));
    }

    #[test]
    fn a_muted_or_ended_track_is_reported_once_with_the_next_decision() {
        let script: &[(u32, Step)] = &[(0, Sound(20)), (3000, Muted)];
        let reports = Class::new(1).run(&[script], 6000);
        let last = &reports[reports.len() - 1];
        assert!(last.1.is_empty() && last.0 <= 3300, "{reports:?}");

        let mut class = Class::new(2);
        let now = origin();
        for i in 0..50 {
            let level = AudioLevel { voice: true, level: 20 };
            class.speakers.observe(now + i * 20 * MS, class.tracks[0].0, level, i * FRAME);
            class.decide(now + i * 20 * MS, 20 * i);
        }
        class.speakers.remove(class.tracks[0].0);
        class.decide(now + 2000 * MS, 2000);
        assert_eq!(who(&class.reports), [vec![0], vec![]]);
        assert_eq!(class.speakers.poll_timeout(), None, "nobody has to wake up for silence");
    }

    #[test]
    fn places_are_bounded_and_kept_by_those_who_speak() {
        let crowd = MAX_SPEAKERS + 4;
        let early: &[(u32, Step)] = &[(0, Sound(30))];
        let late: &[(u32, Step)] = &[(2000, Sound(10))];
        let scripts: Vec<_> = (0..crowd).map(|i| if i < MAX_SPEAKERS { early } else { late }).collect();
        let reports = Class::new(crowd).run(&scripts, 5000);
        assert_eq!(reports[reports.len() - 1].1.len(), MAX_SPEAKERS);
        assert!(reports[reports.len() - 1].1.iter().all(|&place| place < MAX_SPEAKERS));
    }

    #[test]
    fn jitter_and_a_sender_that_counts_anew_change_nothing() {
        let mut class = Class::new(1);
        let now = origin();
        let level = AudioLevel { voice: true, level: 25 };
        for i in 0..400u32 {
            // Ten at a time, and from the middle on other timestamps, far behind the first.
            let arrival = (i / 10 + 1) * 200;
            let time = if i < 200 { 0x8000_0000 + i * FRAME } else { i * FRAME };
            class.speakers.observe(now + arrival * MS, class.tracks[0].0, level, time);
            class.decide(now + arrival * MS, arrival);
        }
        assert_eq!(who(&class.reports), [vec![0]]);
    }
}
