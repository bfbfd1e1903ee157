//! Random lessons: loss, reordering, duplicates, repairs, joins, leaves, mutes and wishes, from a seed. Whatever
//! happens,
//!
//! 1. a number of an SSRC stands for one byte string (it is sealed over no other);
//! 2. in the order of numbers, timestamps and picture ids never go back;
//! 3. a hole in the numbers is a packet that never arrived, never one that was not meant for the receiver;
//! 4. video begins at a key frame;
//! 5. a retransmission says what the original said;
//! 6. what follows a closed hole in video is a key frame, or another frame behind a whole one where frames of
//!    higher temporal layers were left out: nobody takes half a frame for a whole one;
//! 7. a frame of a temporal layer comes behind what it refers to;
//! 8. a change between encodings that go on is no gap.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod room_support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use room_support::*;
use rustc_hash::FxHashMap;
use sfu_core::room::{ParticipantKey, RoomConfig};
use sfu_core::rtp::params::{EncodingParams, Rid, Ssrc};
use sfu_core::rtp::rtcp::{NtpTime, Rtcp};
use sfu_core::rtp::vp8::{TemporalLayer, Vp8Descriptor};
use sfu_core::units::{Bitrate, Size, Source, TrackId, Wish};

const SOUND: TrackId = TrackId(1);
const VIDEO: TrackId = TrackId(2);
const HEIGHTS: [u16; 3] = [180, 360, 720];
const SEEDS: u64 = 24;

/// Longest time without a packet at a change between encodings.
const MAX_GAP: Duration = Duration::from_millis(500);

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Where a packet came from, and its number there.
type Origin = (Stream, u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Stream {
    Sound,
    /// An encoding of the video.
    Video(u8),
}

impl Stream {
    /// Its SSRC; a repair's is one more.
    fn ssrc(self) -> u32 {
        match self {
            Self::Sound => 1000,
            Self::Video(encoding) => 2000 + 1000 * u32::from(encoding),
        }
    }
}

/// The kind of lesson.
#[derive(Clone, Copy, Debug)]
struct Setting {
    encodings: u8,
    /// Whether the encodings have temporal layers, and receivers change their wishes.
    wishes: bool,
    seconds: u64,
    config: RoomConfig,
}

/// What sends an encoding.
struct Encoder {
    next: u16,
    key_wanted: bool,
    on: bool,
    /// Frames since the last key frame, and those of the base layer.
    phase: u16,
    tl0: u8,
}

struct Chaos {
    lesson: Lesson,
    random: Random,
    teacher: ParticipantKey,
    pupils: Vec<Pupil>,
    next_ssrc: u32,
    next_transport: u64,
    /// What the network will deliver, and the originals that the teacher can send again.
    network: BTreeMap<(Instant, u64), (Origin, Vec<u8>)>,
    sent: FxHashMap<Origin, Vec<u8>>,
    /// When a packet first arrived.
    arrived: FxHashMap<Origin, Instant>,
    /// When a subscription ended.
    ended: BTreeMap<(u64, u32), Instant>,
    rtx_seq: u16,
    handled_feedback: usize,
    setting: Setting,
    encoders: Vec<Encoder>,
    muted: [bool; 2],
    /// When something stopped or started: for a receiver, or for all.
    interruptions: Vec<(Instant, Option<u64>)>,
    /// All that ever left, by receiver and SSRC, with its number extended.
    seen: BTreeMap<(u64, u32), BTreeMap<u16, Got>>,
}

struct Pupil {
    key: ParticipantKey,
    transport: u64,
    /// SSRCs of sound and video, while subscribed.
    ssrcs: [Option<u32>; 2],
}

impl Chaos {
    fn new(seed: u64, setting: Setting) -> Self {
        let mut lesson = Lesson::with(setting.config);
        let teacher = lesson.join(1);
        lesson.publish_audio(teacher);
        let encodings: Vec<_> = (0..setting.encodings)
            .map(|encoding| {
                let ssrc = Stream::Video(encoding).ssrc();
                let rid = (setting.encodings > 1).then(|| Rid::new(["q", "h", "f"][usize::from(encoding)]));
                EncodingParams { rid: rid.flatten(), ssrc: Some(Ssrc(ssrc)), rtx_ssrc: Some(Ssrc(ssrc + 1)) }
            })
            .collect();
        let params = video_in("1", &encodings);
        lesson.room.publish(lesson.now, teacher, VIDEO, Source::Camera, params).unwrap();
        Self {
            lesson,
            random: Random(seed),
            teacher,
            pupils: Vec::new(),
            next_ssrc: 10_000,
            next_transport: 2,
            network: BTreeMap::new(),
            sent: FxHashMap::default(),
            arrived: FxHashMap::default(),
            ended: BTreeMap::new(),
            rtx_seq: 0,
            handled_feedback: 0,
            setting,
            encoders: (0..u16::from(setting.encodings))
                .map(|i| Encoder { next: 300 + 700 * i, key_wanted: true, on: true, phase: 0, tl0: 0 })
                .collect(),
            muted: [false; 2],
            interruptions: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn run(&mut self) {
        let (mut frame, mut sounds) = (0, 0);
        for ms in 0..self.setting.seconds * 1000 {
            if ms % 20 == 0 {
                self.transmit((Stream::Sound, 100 + sounds), &audio(sounds));
                sounds += 1;
            }
            if ms % 33 == 0 {
                (0..self.setting.encodings).for_each(|encoding| self.encode(encoding, frame));
                if frame % 30 == 0 {
                    self.report_clocks(frame);
                }
                frame += 1;
            }
            if ms % 50 == 0 {
                self.disturb();
            }
            self.deliver();
            self.lesson.advance(MS);
            self.answer();
            self.collect();
        }
        for _ in 0..500 {
            self.deliver();
            self.lesson.advance(MS);
            self.answer();
            self.collect();
        }
    }

    /// Sends a frame of an encoding. Each has its own picture ids and clock.
    fn encode(&mut self, encoding: u8, frame: u16) {
        let stream = Stream::Video(encoding);
        let encoder = &mut self.encoders[usize::from(encoding)];
        if !encoder.on {
            return;
        }
        let (mut next, key) = (encoder.next, std::mem::take(&mut encoder.key_wanted));
        let packets = 1 + self.random.below(6);
        encoder.next += packets as u16;
        encoder.phase = if key { 0 } else { encoder.phase + 1 };
        let (layer, _) = layer(encoder.phase);
        encoder.tl0 = encoder.tl0.wrapping_add(u8::from(layer.tid == 0));
        let layer = self.setting.wishes.then_some((layer, encoder.tl0));
        for i in 0..packets {
            let packet = Vp8Packet {
                ssrc: stream.ssrc(),
                seq: next,
                frame: frame + 5000 * u16::from(encoding),
                key,
                first: i == 0,
                last: i + 1 == packets,
                mark: encoding,
                layer,
            };
            self.sent.insert((stream, next), packet.rtx(stream.ssrc() + 1, 0));
            self.transmit((stream, next), &packet.sized(HEIGHTS[usize::from(encoding)]));
            next += 1;
        }
    }

    /// Reports the clocks of some encodings.
    fn report_clocks(&mut self, frame: u16) {
        for encoding in 0..self.setting.encodings {
            if self.encoders[usize::from(encoding)].on && self.random.percent(70) {
                let ntp = NtpTime((1000 << 32) + (u64::from(frame) << 32) / 30);
                let time = (u32::from(frame) + 5000 * u32::from(encoding)) * 3000;
                self.lesson.sender_report(self.teacher, Stream::Video(encoding).ssrc(), ntp, time);
            }
        }
    }

    /// Hands a packet to a bad network.
    fn transmit(&mut self, origin: Origin, bytes: &[u8]) {
        if origin.0 == Stream::Sound {
            self.sent.insert(origin, bytes.to_vec());
        }
        if self.random.percent(6) {
            return;
        }
        let copies = 1 + u64::from(self.random.percent(3));
        for _ in 0..copies {
            let delay = if self.random.percent(6) { self.random.below(60) } else { self.random.below(3) };
            self.post(delay, origin, bytes.to_vec());
        }
    }

    fn post(&mut self, delay: u64, origin: Origin, bytes: Vec<u8>) {
        let at = self.lesson.now + Duration::from_millis(delay);
        let tie = self.random.below(u64::MAX);
        self.network.insert((at, tie), (origin, bytes));
    }

    fn deliver(&mut self) {
        while let Some(first) = self.network.first_entry().filter(|first| first.key().0 <= self.lesson.now) {
            let (origin, bytes) = first.remove();
            if self.lesson.room.handle_rtp(self.lesson.now, self.teacher, &bytes).is_ok() {
                self.arrived.entry(origin).or_insert(self.lesson.now);
            }
            if self.random.percent(50) {
                self.lesson.drain();
            }
        }
        self.lesson.drain();
    }

    /// The teacher's browser: most of what is asked for is sent again.
    fn answer(&mut self) {
        let new = self.lesson.feedback.split_off(self.handled_feedback);
        let teacher = self.teacher;
        for (_, _, bytes) in new.iter().filter(|(to, ..)| *to == teacher) {
            for packet in sfu_core::rtp::rtcp::packets(bytes) {
                match packet.unwrap() {
                    Rtcp::Pli(pli) => self.encoders[pli.media.0 as usize / 1000 - 2].key_wanted = true,
                    Rtcp::Nack(nack) => {
                        let stream = match nack.media {
                            Ssrc(1000) => Stream::Sound,
                            Ssrc(ssrc) => Stream::Video((ssrc / 1000 - 2) as u8),
                        };
                        nack.seqs().for_each(|seq| self.resend((stream, seq)));
                    }
                    _ => {}
                }
            }
        }
        self.handled_feedback = self.lesson.feedback.len();
    }

    fn resend(&mut self, origin: Origin) {
        let Some(mut bytes) = self.sent.get(&origin).cloned() else { return };
        if origin.0 != Stream::Sound {
            bytes[2..4].copy_from_slice(&self.rtx_seq.to_be_bytes());
            self.rtx_seq = self.rtx_seq.wrapping_add(1);
        }
        // Some packets are never repaired: the hole stays.
        if !origin.1.is_multiple_of(7) && self.random.percent(70) {
            let delay = 10 + self.random.below(60);
            self.post(delay, origin, bytes);
        }
    }

    /// People come, go, look away, mute, and miss packets.
    fn disturb(&mut self) {
        match self.random.below(20) {
            0 | 1 if self.pupils.len() < 6 => {
                let transport = self.next_transport;
                self.next_transport += 1;
                let key = self.lesson.join(transport);
                self.pupils.push(Pupil { key, transport, ssrcs: [None; 2] });
            }
            2 if self.pupils.len() > 2 => {
                let index = self.random.below(self.pupils.len() as u64) as usize;
                let pupil = self.pupils.swap_remove(index);
                for ssrc in pupil.ssrcs.into_iter().flatten() {
                    self.ended.insert((pupil.transport, ssrc), self.lesson.now);
                }
                self.lesson.room.remove_participant(pupil.key);
            }
            3..=6 => self.toggle_subscription(),
            7 => {
                let which = self.random.below(2) as usize;
                self.muted[which] = !self.muted[which];
                self.mute(which);
            }
            8 | 9 => {
                // Mutes are short here, or little would be forwarded.
                self.muted = [false; 2];
                self.mute(0);
                self.mute(1);
            }
            10 if self.encoders.len() > 1 => {
                // The best encoding goes, or comes back.
                let encoder = self.encoders.last_mut().unwrap();
                (encoder.key_wanted, encoder.on) = (true, !encoder.on);
                self.interruptions.push((self.lesson.now, None));
            }
            11..=14 if self.setting.wishes => self.wish(),
            _ => self.miss(),
        }
    }

    fn mute(&mut self, which: usize) {
        self.interruptions.push((self.lesson.now, None));
        let (track, muted) = ([SOUND, VIDEO][which], self.muted[which]);
        self.lesson.room.set_muted(self.lesson.now, self.teacher, track, muted).unwrap();
    }

    /// A pupil looks at the video in another size, or not at all.
    fn wish(&mut self) {
        let watching: Vec<_> = self.pupils.iter().filter(|pupil| pupil.ssrcs[1].is_some()).collect();
        if watching.is_empty() {
            return;
        }
        let pupil = watching[self.random.below(watching.len() as u64) as usize];
        let (key, transport) = (pupil.key, pupil.transport);
        let height = [90, 180, 360, 720][self.random.below(4) as usize];
        let paused = self.random.percent(10);
        let wish = Wish {
            size: Some(Size { width: height / 9 * 16, height }).filter(|_| self.random.percent(90)),
            fps: Some([5, 7, 15, 30][self.random.below(4) as usize]).filter(|_| self.random.percent(60)),
            paused,
            ..Wish::default()
        };
        // Whether it was paused before does not matter: that was an interruption then.
        self.interruptions.extend(paused.then_some((self.lesson.now, Some(transport))));
        self.lesson.room.set_wish(self.lesson.now, key, VIDEO, wish).unwrap();
    }

    fn toggle_subscription(&mut self) {
        if self.pupils.is_empty() {
            return;
        }
        let index = self.random.below(self.pupils.len() as u64) as usize;
        let which = self.random.below(2) as usize;
        let track = [SOUND, VIDEO][which];
        let Pupil { key, transport, ref mut ssrcs } = self.pupils[index];
        if let Some(ssrc) = ssrcs[which].filter(|_| self.random.percent(30)) {
            ssrcs[which] = None;
            self.ended.insert((transport, ssrc), self.lesson.now);
            self.lesson.room.unsubscribe(key, track).unwrap();
        } else if ssrcs[which].is_none() {
            self.next_ssrc += 1;
            ssrcs[which] = Some(self.next_ssrc);
            self.lesson.subscribe(key, track, self.next_ssrc);
        }
    }

    /// A pupil asks for packets that it got lately, and for some that it never got.
    fn miss(&mut self) {
        let mut asks = Vec::new();
        for pupil in &self.pupils {
            for &ssrc in pupil.ssrcs.iter().flatten() {
                let Some(got) = self.seen.get(&(pupil.transport, ssrc)) else { continue };
                let last = *got.last_key_value().unwrap().0;
                asks.push((pupil.key, ssrc, last));
            }
        }
        for (key, ssrc, last) in asks {
            let back = self.random.below(40) as u16;
            self.lesson.nack(key, ssrc, &[last.wrapping_sub(back), last.wrapping_add(1)]);
        }
    }

    /// Checks what left: property 1.
    fn collect(&mut self) {
        for (to, got) in std::mem::take(&mut self.lesson.media) {
            let Some(pupil) = self.pupils.iter().find(|pupil| pupil.key == to) else { continue };
            let numbers = self.seen.entry((pupil.transport, got.ssrc.0)).or_default();
            if let Some(before) = numbers.get(&got.seq) {
                assert_eq!(before.raw, got.raw, "{} of {:?} says two things", got.seq, got.ssrc);
            } else {
                numbers.insert(got.seq, got);
            }
        }
    }

    /// Properties 2 to 8. Returns how much there was to check.
    fn check(&self) -> Checked {
        let mut checked = Checked::default();
        let mut unexplained = 0;
        for (&(to, ssrc), numbers) in &self.seen {
            let end = self.ended.get(&(to, ssrc)).copied().unwrap_or(self.lesson.now);
            let pt = numbers.first_key_value().unwrap().1.pt;
            if pt == OUT_VP8_RTX {
                let originals = &self.seen[&(to, ssrc - 5000)];
                for got in numbers.values() {
                    let (osn, payload) = got.payload.split_first_chunk().unwrap();
                    let original = &originals[&u16::from_be_bytes(*osn)];
                    assert_eq!((payload, got.time), (original.payload.as_slice(), original.time));
                }
                checked.repairs += numbers.len();
                continue;
            }
            let packets: Vec<_> = numbers.values().collect();
            check_frames(&packets);
            for pair in packets.windows(2) {
                unexplained += self.check_pair(pair[0], pair[1], end);
                self.check_gap(to, pair[0], pair[1]);
                checked.switches += usize::from(origin(pair[0]).0 != origin(pair[1]).0);
            }
            if pt == OUT_VP8 {
                let first = Vp8Descriptor::parse(&packets[0].payload).unwrap();
                assert!(first.key_frame_start, "{ssrc} begins in the middle");
                checked.video += packets.len();
            } else {
                checked.sound += packets.len();
            }
        }
        // Those that were still queued when their subscription ended are no holes: nobody asks for them.
        let stats = self.lesson.room.stats();
        let left = stats.holes_left + stats.dropped_unsubscribed;
        assert!(unexplained <= left, "{unexplained} holes unexplained, {left} known");
        (checked.holes_left, checked.left_out) = (stats.holes_left, stats.not_meant_temporal_layer);
        checked
    }

    /// Returns how many numbers are missing between two packets although as many did arrive.
    fn check_pair(&self, a: &Got, b: &Got, end: Instant) -> u64 {
        assert!(a.time <= b.time, "time goes back from {} to {}", a.seq, b.seq);
        let rest = a.time == b.time && above_base(b);
        if a.pt == OUT_VP8 && !rest {
            assert!(a.picture_id() <= b.picture_id());
        }
        let hole = u64::from(b.seq - a.seq - 1);
        let (from, to) = (origin(a), origin(b));
        if a.pt == OUT_VP8 && hole == 0 && (from.0 != to.0 || from.1 + 1 != to.1) {
            let next = Vp8Descriptor::parse(&b.payload).unwrap();
            // What comes too late of a frame that was left out is no frame to anybody, nor referred to.
            let ends = a.marker || above_base(a);
            let left_out =
                from.0 == to.0 && ends && (next.temporal.is_some() && next.frame_start() || above_base(b));
            let whole = next.key_frame_start || left_out;
            assert!(whole, "a receiver takes half a frame for a whole one: {from:?} {to:?}");
        }
        if a.pt == OUT_VP8 && hole == 0 && refers_to_second_layer(b) && !self.was_overtaken(to) {
            assert!(a.temporal().unwrap().tid > 0, "what {to:?} refers to was left out");
        }
        if from.0 != to.0 {
            return hole;
        }
        assert!(from.1 < to.1, "order is kept");
        let lost = |seq| self.arrived.get(&(from.0, seq)).is_none_or(|&at| at >= end);
        let lost = (from.1 + 1..to.1).filter(|&seq| lost(seq)).count() as u64;
        hole.saturating_sub(lost)
    }

    /// Whether a packet came only after one of those behind it.
    fn was_overtaken(&self, (stream, seq): Origin) -> bool {
        let own = self.arrived.get(&(stream, seq));
        (seq + 1..seq + 40).any(|later| self.arrived.get(&(stream, later)).is_some_and(|at| Some(at) < own))
    }

    fn check_gap(&self, to: u64, a: &Got, b: &Got) {
        let mut interruptions = self.interruptions.iter();
        let gap = b.at.saturating_duration_since(a.at);
        if gap > MAX_GAP && origin(a).0 != origin(b).0 {
            let between = |at: Instant| (a.at - MAX_GAP..=b.at).contains(&at);
            let explained = interruptions.any(|&(at, of)| of.is_none_or(|of| of == to) && between(at));
            assert!(explained, "{gap:?} without a packet from {:?} to {:?}", origin(a), origin(b));
        }
    }
}

#[derive(Default)]
struct Checked {
    sound: usize,
    video: usize,
    repairs: usize,
    switches: usize,
    left_out: u64,
    holes_left: u64,
}

impl Checked {
    fn add(&mut self, other: &Self) {
        self.sound += other.sound;
        self.video += other.video;
        self.repairs += other.repairs;
        self.switches += other.switches;
        self.left_out += other.left_out;
        self.holes_left += other.holes_left;
    }
}

/// What a receiver takes for a frame is one.
fn check_frames(packets: &[&Got]) {
    for frame in packets.chunk_by(|a, b| b.seq == a.seq + 1 && a.time == b.time && !a.marker) {
        let (first, last) = (frame[0], frame[frame.len() - 1]);
        let starts = first.pt == OUT_VP8 && Vp8Descriptor::parse(&first.payload).unwrap().frame_start();
        if starts && last.marker {
            let packets = usize::from(origin(last).1 - origin(first).1) + 1;
            assert_eq!(
                packets,
                frame.len(),
                "half of the frame at {:?} is taken for the whole",
                origin(first)
            );
        }
    }
}

/// Whether it is of a frame above the base layer.
fn above_base(got: &Got) -> bool {
    got.pt == OUT_VP8 && got.temporal().is_some_and(|layer| layer.tid > 0)
}

/// Whether a frame begins that refers to one of the layer between it and the base layer.
fn refers_to_second_layer(got: &Got) -> bool {
    let vp8 = Vp8Descriptor::parse(&got.payload).unwrap();
    vp8.frame_start() && vp8.temporal == Some(TemporalLayer { tid: 2, layer_sync: false })
}

fn origin(got: &Got) -> Origin {
    let payload = &got.payload;
    if got.pt == OUT_OPUS {
        (Stream::Sound, 100 + u16::from_le_bytes([payload[1], payload[2]]))
    } else {
        (Stream::Video(got.mark()), got.source_seq())
    }
}

/// Checks lessons from many seeds; returns how much there was to check.
fn lessons(seeds: std::ops::Range<u64>, setting: Setting) -> Checked {
    let mut all = Checked::default();
    for seed in seeds {
        let mut chaos = Chaos::new((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15), setting);
        chaos.run();
        all.add(&chaos.check());
    }
    assert!(all.sound > 10_000 && all.video > 10_000 && all.repairs > 500, "too little was tested");
    all
}

#[test]
fn numbers_keep_their_promises_whatever_happens() {
    let all = lessons(0..SEEDS, single());
    assert_eq!(all.holes_left, 0);
}

#[test]
fn numbers_keep_their_promises_across_encodings() {
    let all = lessons(0..SEEDS, Setting { encodings: 2, ..single() });
    assert_eq!(all.holes_left, 0);
    assert!(all.switches > 20, "{}", all.switches);
}

#[test]
fn numbers_keep_their_promises_on_links_too_thin_for_the_lesson() {
    let mut config = RoomConfig::default();
    config.pacer.rate = Bitrate::kbps(250);
    config.pacer.class_limit = 20;
    lessons(0..SEEDS, Setting { config, ..single() });
}

#[test]
fn a_thousand_lessons_of_changing_wishes_keep_their_promises() {
    const LESSONS: u64 = 1000;
    const THREADS: u64 = 4;
    let setting = Setting { encodings: 3, wishes: true, seconds: 3, ..single() };
    let mut all = Checked::default();
    std::thread::scope(|scope| {
        let share = |thread| thread * LESSONS / THREADS..(thread + 1) * LESSONS / THREADS;
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || lessons(share(thread), setting))).collect();
        threads.into_iter().for_each(|thread| all.add(&thread.join().unwrap()));
    });
    assert_eq!(all.holes_left, 0);
    assert!(all.switches > 1000 && all.left_out > 1000, "{} {}", all.switches, all.left_out);
}

fn single() -> Setting {
    Setting { encodings: 1, wishes: false, seconds: 15, config: RoomConfig::default() }
}
