//! A shared screen alone on a link of which nothing is known: what is not believed to fit never shows that it does,
//! so padding has to ask, before any picture has left.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod room_support;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use room_support::{Got, Lesson, MS, OUT_VP8_RTX, Vp8Packet, video_in, video_out};
use sfu_core::cc::link_estimator::LinkConfig;
use sfu_core::cc::twcc::ArrivalRecorder;
use sfu_core::room::{ParticipantKey, RoomConfig};
use sfu_core::rtp::packet::RtpView;
use sfu_core::rtp::params::{EncodingParams, Ssrc};
use sfu_core::units::{Source, TrackId};

const TRACK: TrackId = TrackId(2);
const SSRC: u32 = 700;

/// One encoding of the screen.
#[derive(Clone, Copy)]
struct Encoding {
    fps: u16,
    /// Of 300 bytes each.
    packets_per_frame: u16,
}

const THIN: Encoding = Encoding { fps: 2, packets_per_frame: 10 };
const FULL: Encoding = Encoding { fps: 5, packets_per_frame: 33 };
const THICK: Encoding = Encoding { fps: 5, packets_per_frame: 80 };

/// A teacher who shares a screen, and a class behind a line.
struct Shared {
    lesson: Lesson,
    teacher: ParticipantKey,
    class: ParticipantKey,
    encodings: Vec<Encoding>,
    line: Line,
    got: Vec<Got>,
}

/// Carries so many bytes a second, each packet 40 ms later, and tells the sender what came when. What would wait
/// longer than 300 ms is lost.
struct Line {
    bytes_per_second: u64,
    free: Instant,
    flying: VecDeque<(Instant, u16)>,
    arrivals: ArrivalRecorder,
}

impl Shared {
    /// The screen has been shared for a while when the class joins: what it takes is known.
    fn new(encodings: &[Encoding], kbps: u64) -> Self {
        let config = RoomConfig { link: Some(LinkConfig::default()), ..RoomConfig::default() };
        let mut lesson = Lesson::with(config);
        let (teacher, class) = (lesson.join(1), lesson.join(2));
        let params = |index| EncodingParams { rid: None, ssrc: Some(ssrc(index)), rtx_ssrc: None };
        let params: Vec<_> = (0..encodings.len()).map(params).collect();
        lesson.room.publish(lesson.now, teacher, TRACK, Source::Screen, video_in("1", &params)).unwrap();
        let line = Line {
            bytes_per_second: kbps * 125,
            free: lesson.now,
            flying: VecDeque::new(),
            arrivals: ArrivalRecorder::new(MS * 100, lesson.now),
        };
        let encodings = encodings.to_vec();
        let mut shared = Self { lesson, teacher, class, encodings, line, got: Vec::new() };
        shared.run(5);
        shared.lesson.room.subscribe(shared.lesson.now, class, TRACK, video_out("v", SSRC)).unwrap();
        shared
    }

    fn run(&mut self, seconds: u32) {
        let end = self.lesson.now + Duration::from_secs(1) * seconds;
        while self.lesson.now < end {
            self.publish();
            self.lesson.advance(MS * 10);
            self.carry();
        }
    }

    /// Frames that are due, each second's first a key frame.
    fn publish(&mut self) {
        let at = (self.lesson.now - self.lesson.start).as_millis();
        for (index, &Encoding { fps, packets_per_frame }) in self.encodings.clone().iter().enumerate() {
            let period = 1000 / u128::from(fps);
            if !at.is_multiple_of(period) {
                continue;
            }
            let frame = (at / period) as u16;
            for packet in 0..packets_per_frame {
                let packet = Vp8Packet {
                    ssrc: ssrc(index).0,
                    seq: frame.wrapping_mul(packets_per_frame).wrapping_add(packet),
                    frame,
                    key: frame.is_multiple_of(fps),
                    first: packet == 0,
                    last: packet + 1 == packets_per_frame,
                    mark: index as u8,
                    layer: None,
                };
                self.lesson.send(self.teacher, &packet.sized(1080));
            }
        }
    }

    fn carry(&mut self) {
        let now = self.lesson.now;
        let left = self.lesson.take(self.class);
        for got in &left {
            let wire = got.raw.len() as u64 + 44;
            let Line { bytes_per_second, free, flying, .. } = &mut self.line;
            if *free <= now + MS * 300 {
                *free = (*free).max(now) + Duration::from_micros(wire * 1_000_000 / *bytes_per_second);
                flying.push_back((*free + MS * 40, got.transport_cc.unwrap()));
            }
        }
        self.got.extend(left);
        while let Some((at, seq)) = self.line.flying.pop_front_if(|(at, _)| *at <= now) {
            self.line.arrivals.record(at, seq);
        }
        let mut out = [0; 1200];
        while let Some(len) = self.line.arrivals.poll_feedback(now, Ssrc(7), Ssrc(SSRC), &mut out) {
            self.lesson.room.handle_rtcp(now, self.class, &out[..len]);
        }
    }

    /// How long after joining the class got the first packet of an encoding.
    fn began(&self, encoding: u8) -> Option<Duration> {
        let media = self.got.iter().find(|got| !got.payload.is_empty() && got.mark() == encoding)?;
        Some(media.at - self.lesson.start - Duration::from_secs(5))
    }
}

fn ssrc(encoding: usize) -> Ssrc {
    Ssrc(2000 + encoding as u32)
}

#[test]
fn a_screen_that_is_thicker_than_the_first_guess_starts() {
    let mut shared = Shared::new(&[THICK], 3000);
    shared.run(10);
    let began = shared.began(0).expect("the link carries it");
    assert!(began <= Duration::from_secs(5), "{began:?}");
}

#[test]
fn a_screen_in_two_layers_starts_at_once_and_goes_on_to_the_full_one() {
    let mut shared = Shared::new(&[THIN, FULL], 1000);
    shared.run(10);
    let (thin, full) = (shared.began(0).expect("it fits"), shared.began(1).expect("the link carries it"));
    assert!(thin <= Duration::from_secs(1), "{thin:?}");
    assert!(full <= Duration::from_secs(6), "{full:?}");
}

#[test]
fn what_a_link_does_not_carry_does_not_start() {
    let mut shared = Shared::new(&[THICK], 200);
    shared.run(20);
    assert_eq!(shared.began(0), None);
    let padding: usize = shared.got.iter().map(|got| got.raw.len() + 44).sum();
    assert!(padding * 8 / 20 <= 10_000, "{padding} bytes to ask a link of 200 kbit/s");
}

#[test]
fn padding_before_any_picture_is_among_the_retransmissions() {
    let mut shared = Shared::new(&[THICK], 200);
    shared.run(3);
    let probe = shared.got;
    assert!(probe.len() >= 6, "{}", probe.len());
    for (packet, next) in probe.iter().zip(&probe[1..]) {
        assert_eq!((packet.ssrc, packet.pt, packet.time), (Ssrc(SSRC + 5000), OUT_VP8_RTX, 0));
        assert_eq!(packet.mid.as_deref(), Some("v"));
        assert_eq!(RtpView::parse(&packet.raw).unwrap().payload(), []);
        assert_eq!(next.seq, packet.seq.wrapping_add(1));
    }
}
