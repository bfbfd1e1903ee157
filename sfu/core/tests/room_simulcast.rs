//! Simulcast: a receiver gets the encoding that fits what it shows, and changes between encodings unnoticed.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod room_support;

use std::time::Duration;

use room_support::*;
use sfu_core::room::{ParticipantKey, RoomEvent};
use sfu_core::rtp::params::{EncodingParams, Rid, Ssrc};
use sfu_core::rtp::rtcp::{NtpTime, Rtcp};
use sfu_core::units::{Size, Source, TrackId, Wish};

const VIDEO: TrackId = TrackId(2);
const HEIGHTS: [u16; 3] = [180, 360, 720];

/// A teacher with a camera in three encodings, each with its own numbers and clock, and a pupil.
struct Camera {
    lesson: Lesson,
    teacher: ParticipantKey,
    pupil: ParticipantKey,
    /// Of each encoding: the next number, and whether it is on.
    encoders: [(u16, bool); 3],
    frame: u16,
    answered: usize,
    reports: bool,
    temporal: bool,
}

impl Camera {
    fn new() -> Self {
        let mut lesson = Lesson::new();
        let (teacher, pupil) = (lesson.join(1), lesson.join(2));
        let encodings: Vec<_> = (0..3)
            .map(|i| EncodingParams {
                rid: Rid::new(["q", "h", "f"][i as usize]),
                ssrc: Some(Ssrc(2000 + 1000 * i)),
                rtx_ssrc: Some(Ssrc(2001 + 1000 * i)),
            })
            .collect();
        lesson.room.publish(lesson.now, teacher, VIDEO, Source::Camera, video_in("1", &encodings)).unwrap();
        lesson.subscribe(pupil, VIDEO, 50);
        let encoders = [(300, true), (20_000, true), (65_500, true)];
        Self { lesson, teacher, pupil, encoders, frame: 0, answered: 0, reports: true, temporal: false }
    }

    fn wish(&mut self, height: u16) {
        let size = Some(Size { width: height / 9 * 16, height });
        self.set(Wish { size, ..Wish::default() });
    }

    fn set(&mut self, wish: Wish) {
        self.lesson.room.set_wish(self.lesson.now, self.pupil, VIDEO, wish).unwrap();
    }

    /// Films for as many frames at 30 a second; a key frame comes a frame after it was asked for.
    fn film(&mut self, frames: u16) {
        for _ in 0..frames {
            let asked = if self.temporal && !self.frame.is_multiple_of(4) {
                // A key frame waits for a frame of the base layer.
                Vec::new()
            } else {
                let asked = self.forgotten();
                self.answered += asked.len();
                asked
            };
            for encoding in 0..3u16 {
                let ssrc = 2000 + 1000 * u32::from(encoding);
                let (next, on) = &mut self.encoders[usize::from(encoding)];
                if !*on {
                    continue;
                }
                let key = self.frame == 0 || asked.contains(&ssrc);
                for part in 0..3 {
                    let packet = Vp8Packet {
                        ssrc,
                        seq: *next,
                        frame: self.frame + 500 * encoding,
                        key,
                        first: part == 0,
                        last: part == 2,
                        mark: encoding as u8,
                        layer: self.temporal.then(|| layer(self.frame)),
                    };
                    *next = next.wrapping_add(1);
                    self.lesson.send(self.teacher, &packet.sized(HEIGHTS[usize::from(encoding)]));
                }
                if self.reports && self.frame.is_multiple_of(30) {
                    let ntp = NtpTime((1000 << 32) + (u64::from(self.frame) << 32) / 30);
                    let time = (u32::from(self.frame) + 500 * u32::from(encoding)) * 3000;
                    self.lesson.sender_report(self.teacher, ssrc, ntp, time);
                }
            }
            self.frame += 1;
            self.lesson.advance(Duration::from_micros(33_333));
        }
    }

    /// What the pupil got: seamless, and of these encodings.
    fn check(&mut self, encodings: &[u8]) -> Vec<Got> {
        let got = self.lesson.take(self.pupil);
        let mut marks: Vec<_> = got.iter().map(|got| got.mark()).collect();
        marks.dedup();
        assert_eq!(marks, encodings);
        for pair in got.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            assert_eq!(b.seq.wrapping_sub(a.seq), 1, "a hole that nobody can fill");
            assert!(b.time.wrapping_sub(a.time) < 90_000 / 2, "time goes on: {} {}", a.time, b.time);
            assert!(b.picture_id().wrapping_sub(a.picture_id()) <= 1);
            assert!(b.tl0_pic_idx().wrapping_sub(a.tl0_pic_idx()) <= 1);
            assert!(b.at - a.at <= 500 * MS, "a gap of {:?}", b.at - a.at);
            assert!(a.marker || a.mark() == b.mark(), "a frame is cut");
        }
        assert!(self.lesson.nacks(self.teacher).is_empty());
        got
    }

    /// How far what the receiver was told of the sender's clock, by the last report, is from the truth.
    fn lip_sync_error(&self, got: &Got) -> f64 {
        let mut told = None;
        self.lesson.rtcp(self.pupil, |_, packet| {
            if let Rtcp::SenderReport(report) = packet {
                told = Some(report.info);
            }
        });
        let told = told.unwrap();
        let shown = got.time.wrapping_sub(told.rtp_time).cast_signed();
        let ntp = told.ntp.0 as f64 / 2f64.powi(32) + f64::from(shown) / 90_000.0;
        (ntp - 1000.0 - (got.at - self.lesson.start).as_secs_f64()).abs()
    }

    /// What was asked of the teacher and not done yet.
    fn forgotten(&self) -> Vec<u32> {
        let asked = self.lesson.plis(self.teacher).split_off(self.answered);
        asked.into_iter().map(|pli| pli.1).collect()
    }
}

#[test]
fn a_tile_that_shrinks_and_grows_gets_the_encoding_that_fits_it() {
    let mut camera = Camera::new();
    camera.film(30);
    camera.wish(180);
    camera.film(30);
    camera.wish(300);
    camera.film(30);
    camera.wish(720);
    camera.film(30);
    let got = camera.check(&[0, 1, 2, 0, 1, 2]);
    let plis: Vec<_> = camera.lesson.plis(camera.teacher).iter().map(|pli| pli.1).collect();
    assert_eq!(plis, [2000, 3000, 4000], "one each, of the target only");
    assert_eq!(camera.lesson.room.stats().encoding_switches, 5);
    // Reports tell that all encodings show a frame at the same time: no more than rounding is lost by a switch.
    let shown = got.last().unwrap().time.wrapping_sub(got[0].time);
    assert!(shown.abs_diff(119 * 3000) <= 5, "{shown}");
    assert!(camera.lip_sync_error(got.last().unwrap()) < 0.001);
}

#[test]
fn an_encoding_that_stops_is_replaced_and_taken_again_when_it_comes_back() {
    let mut camera = Camera::new();
    camera.film(60);
    camera.encoders[2].1 = false;
    camera.film(60);
    camera.check(&[0, 1, 2, 1]);
    camera.encoders[2].1 = true;
    camera.film(30);
    camera.check(&[1, 2]);
}

#[test]
fn nothing_is_sent_or_asked_for_while_a_receiver_wishes_nothing() {
    let mut camera = Camera::new();
    camera.film(30);
    camera.lesson.take(camera.pupil);
    camera.set(Wish { paused: true, ..Wish::default() });
    camera.film(10);
    camera.encoders.iter_mut().for_each(|encoder| encoder.0 = encoder.0.wrapping_add(5));
    camera.film(20);
    assert_eq!((camera.lesson.take(camera.pupil).len(), camera.forgotten()), (0, vec![]));
    assert!(camera.lesson.nacks(camera.teacher).is_empty(), "the holes are nobody's");
    camera.set(Wish::default());
    camera.film(10);
    assert_eq!(camera.check(&[2]).len(), 27, "from the key frame on, a frame after the request");
}

/// What receivers were told since the last call.
fn states(camera: &mut Camera) -> Vec<bool> {
    let events = std::iter::from_fn(|| camera.lesson.room.poll_event());
    let states = events.filter_map(|event| match event {
        RoomEvent::StreamState { paused, .. } => Some(paused),
        RoomEvent::TrackStarted { .. } => None,
    });
    states.collect()
}

#[test]
fn a_receiver_is_told_when_its_picture_stops_and_goes_on() {
    let mut camera = Camera::new();
    camera.film(30);
    assert_eq!(states(&mut camera), [], "it flows at first");
    camera.set(Wish { paused: true, ..Wish::default() });
    camera.set(Wish::default());
    assert_eq!(states(&mut camera), [true, false]);
    camera.encoders.iter_mut().for_each(|encoder| encoder.1 = false);
    camera.film(120);
    assert_eq!(states(&mut camera), [true], "the publisher sends nothing");
    camera.encoders.iter_mut().for_each(|encoder| encoder.1 = true);
    camera.film(60);
    assert_eq!(states(&mut camera), [false]);
    camera.lesson.room.set_muted(camera.lesson.now, camera.teacher, VIDEO, true).unwrap();
    camera.film(120);
    assert_eq!(states(&mut camera), [], "of that its receivers know");
    camera.encoders.iter_mut().for_each(|encoder| encoder.1 = false);
    camera.film(120);
    camera.lesson.room.set_muted(camera.lesson.now, camera.teacher, VIDEO, false).unwrap();
    camera.film(60);
    assert_eq!(states(&mut camera), [], "it may begin again");
    camera.film(60);
    assert_eq!(states(&mut camera), [true], "it did not");
}

#[test]
fn a_receiver_told_that_nothing_flows_is_told_otherwise_before_it_subscribes_again() {
    let mut camera = Camera::new();
    let paused = Wish { paused: true, ..Wish::default() };
    camera.film(5);
    camera.set(paused);
    assert_eq!(states(&mut camera), [true]);
    camera.lesson.subscribe(camera.pupil, VIDEO, 60);
    assert_eq!(states(&mut camera), [], "the same with other SSRCs");
    camera.lesson.room.unsubscribe(camera.pupil, VIDEO).unwrap();
    camera.lesson.subscribe(camera.pupil, VIDEO, 60);
    assert_eq!(states(&mut camera), [false]);
    camera.set(paused);
    camera.lesson.room.unpublish(camera.teacher, VIDEO).unwrap();
    assert_eq!(states(&mut camera), [true, false], "the track has gone");
}

#[test]
fn a_switch_without_reports_is_corrected_once_they_come() {
    let mut camera = Camera::new();
    camera.reports = false;
    camera.film(40);
    camera.wish(180);
    camera.film(10);
    camera.reports = true;
    camera.film(60);
    let got = camera.check(&[0, 1, 2, 0]);
    let shown = got.last().unwrap().time.wrapping_sub(got[0].time);
    assert!(shown.abs_diff(109 * 3000) <= 3, "{shown}");
    assert!(camera.lip_sync_error(got.last().unwrap()) < 0.001);
}

#[test]
fn the_sound_is_in_step_with_the_picture_within_one_report_of_a_blind_switch() {
    let mut camera = Camera::new();
    camera.reports = false;
    camera.film(35);
    camera.wish(180);
    // The first reports come with frame 60, and leave within the second behind.
    camera.film(10);
    camera.reports = true;
    camera.film(50);
    let got = camera.check(&[0, 1, 2, 0]);
    assert!(camera.lip_sync_error(got.last().unwrap()) < 0.001);
}

#[test]
fn fewer_frames_are_left_out_without_a_hole_and_come_back_where_decoding_can_step_up() {
    let mut camera = Camera::new();
    camera.temporal = true;
    camera.film(60);
    camera.check(&[0, 1, 2]);
    let tids = |got: &[Got]| -> Vec<_> {
        let frames = got.iter().filter(|got| got.marker);
        frames.map(|got| got.temporal().unwrap().tid).collect()
    };
    for (fps, period) in [(15, vec![0, 1]), (7, vec![0])] {
        camera.set(Wish { fps: Some(fps), ..Wish::default() });
        camera.film(40);
        let got = camera.check(&[2]);
        assert_eq!(tids(&got), period.repeat(10), "{fps}");
    }
    camera.set(Wish::default());
    camera.film(40);
    // One layer at a time: the first frame of the third refers to the base layer, the next does not.
    assert_eq!(tids(&camera.check(&[2])), [vec![0, 1], [0, 2, 1, 2].repeat(9)].concat());
    let stats = camera.lesson.room.stats();
    assert_eq!(stats.not_meant_temporal_layer, 3 * (20 + 30 + 2));
    assert_eq!((stats.encoding_switches, camera.forgotten()), (2, vec![]), "no key frame is needed for it");
}
