//! Losses on the way in and on the way out, and how they are mended.

mod room_support;

use room_support::*;
use sfu_core::room::RoomConfig;
use sfu_core::rtp::packet::Header;
use sfu_core::rtp::params::{CodecParams, Ssrc};
use sfu_core::track::nack::REORDER_DELAY;
use sfu_core::units::{Bitrate, Source, TrackId};

#[test]
fn a_packet_lost_on_the_way_in_is_asked_for_and_its_repair_fills_the_hole_everywhere() {
    let mut lesson = Lesson::new();
    let (teacher, first, second) = (lesson.join(1), lesson.join(2), lesson.join(3));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(first, track, 50);
    lesson.subscribe(second, track, 60);
    let frames = frames(4, &[0]);
    let lost = |i: usize| i == 4 || i == 5;
    let mut lost_at = None;
    for (i, packet) in frames.iter().enumerate() {
        if !lost(i) {
            lesson.send(teacher, &packet.bytes());
        }
        if i == 6 {
            lost_at = Some(lesson.now - lesson.start);
        }
        lesson.advance(3 * MS);
    }
    lesson.advance(30 * MS);
    assert_eq!(lesson.nacks(teacher), [(lost_at.unwrap() + REORDER_DELAY, 2000, vec![304, 305])]);
    assert_eq!(numbers(&lesson.take(first)), [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]);

    lesson.send(teacher, &frames[4].rtx(2001, 9));
    lesson.send(teacher, &frames[5].rtx(2001, 10));
    lesson.send(teacher, &frames[5].rtx(2001, 11));
    let repaired = lesson.take(first);
    assert_eq!(repaired.len(), 2);
    assert_eq!((repaired[0].pt, repaired[0].ssrc), (OUT_VP8, Ssrc(50)));
    assert_eq!(repaired[1].payload, frames[5].payload());
    assert!(repaired[1].marker);
    assert_eq!(numbers(&lesson.take(second)), [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 4, 5]);

    let stats = lesson.room.stats();
    assert_eq!((stats.nacked_to_publishers, stats.repaired_in, stats.duplicates_in), (2, 2, 1));
    lesson.advance(1000 * MS);
    assert_eq!(lesson.nacks(teacher).len(), 1, "nothing is missing any more");
}

#[test]
fn the_repairs_of_an_encoding_are_found_by_its_name() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = TrackId(2);
    let params = video_in("1", &rids(&["q", "h"]));
    lesson.room.publish(lesson.now, teacher, track, Source::Camera, params).unwrap();
    lesson.subscribe(pupil, track, 50);
    let frames = frames(3, &[0]);
    for packet in frames.iter().filter(|packet| packet.seq != 304) {
        let named = packet_named(&packet.header(), 10, &packet.payload());
        lesson.send(teacher, &named);
    }
    let lost = &frames[4];
    let header = Header { pt: VP8_RTX, seq: 1, ssrc: Ssrc(9999), ..lost.header() };
    let payload = [lost.seq.to_be_bytes().as_slice(), &lost.payload()].concat();
    lesson.send(teacher, &packet_named(&header, 11, &payload));
    assert_eq!(numbers(&lesson.take(pupil)), [0, 1, 2, 3, 5, 6, 7, 8, 4]);
    lesson.advance(300 * MS);
    assert!(lesson.nacks(teacher).is_empty());
}

/// A packet of the m-line 1 whose encoding, or repaired encoding, is called h.
fn packet_named(header: &Header, rid: u8, payload: &[u8]) -> Vec<u8> {
    packet(header, &[(4, b"1"), (rid, b"h")], payload)
}

#[test]
fn what_stays_away_is_asked_for_ten_times_and_then_given_up() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_audio(teacher);
    lesson.subscribe(pupil, track, 50);
    lesson.send(teacher, &audio(0));
    lesson.send(teacher, &audio(2));
    lesson.advance(3000 * MS);
    let asked: Vec<_> =
        lesson.nacks(teacher).into_iter().map(|(at, _, seqs)| (at.as_millis(), seqs)).collect();
    assert_eq!(asked.len(), 10, "{asked:?}");
    for (i, (at, seqs)) in (0..).zip(&asked) {
        let expected = 10 + i * 100;
        assert!((expected..expected + 60).contains(at), "try {i} at {at} ms");
        assert_eq!(seqs, &[101]);
    }
}

#[test]
fn a_repaired_key_frame_starts_a_receiver_with_what_came_before_the_repair() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 50);
    let frames = frames(4, &[1]);
    // The first packet of the key frame is lost.
    for packet in frames.iter().filter(|packet| packet.seq != 303) {
        lesson.send(teacher, &packet.bytes());
    }
    assert!(lesson.take(pupil).is_empty());
    lesson.send(teacher, &frames[3].rtx(2001, 1));
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), (0..9).collect::<Vec<_>>());
    assert_eq!(got[0].picture_id(), 1);
}

#[test]
fn a_key_frame_older_than_what_was_forwarded_starts_nothing() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 50);
    let frames = frames(7, &[0, 2, 5]);
    for packet in &frames[1..12] {
        lesson.send(teacher, &packet.bytes());
    }
    for muted in [true, false] {
        lesson.room.set_muted(lesson.now, teacher, track, muted).unwrap();
    }
    lesson.send(teacher, &frames[0].rtx(2001, 1));
    for packet in &frames[12..] {
        lesson.send(teacher, &packet.bytes());
    }
    let got: Vec<_> = lesson.take(pupil).into_iter().map(|got| got.source_seq()).collect();
    let once = [&frames[6..12], &frames[15..]].concat();
    assert_eq!(got, once.iter().map(|packet| packet.seq).collect::<Vec<_>>());
}

#[test]
fn a_receivers_nack_is_answered_with_rtx() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 50);
    for packet in frames(4, &[0]) {
        lesson.send(teacher, &packet.bytes());
    }
    let got = lesson.take(pupil);
    lesson.advance(5 * MS);
    lesson.nack(pupil, 50, &[got[4].seq, got[7].seq, got[11].seq.wrapping_add(1)]);
    let resent = lesson.take(pupil);
    assert_eq!(resent.len(), 2);
    for (resent, original) in resent.iter().zip([&got[4], &got[7]]) {
        assert_eq!((resent.ssrc, resent.pt, resent.time), (Ssrc(5050), OUT_VP8_RTX, original.time));
        assert_eq!(resent.marker, original.marker);
        let (osn, payload) = resent.payload.split_first_chunk().unwrap();
        assert_eq!(u16::from_be_bytes(*osn), original.seq);
        assert_eq!(payload, original.payload);
    }
    assert_eq!(numbers(&resent), [0, 1]);
    assert_eq!(resent[0].transport_cc, Some(12), "a packet of its own");

    lesson.nack(pupil, 5050, &[got[5].seq]);
    assert!(lesson.take(pupil).is_empty(), "numbers of the retransmissions' own");
    assert_eq!(lesson.room.stats().rtcp_foreign, 1);
    lesson.nack(pupil, 50, &[got[4].seq]);
    assert!(lesson.take(pupil).is_empty(), "asked again too soon");
    lesson.advance(60 * MS);
    lesson.nack(pupil, 50, &[got[4].seq]);
    assert_eq!(lesson.take(pupil).len(), 1);
    lesson.advance(1500 * MS);
    lesson.nack(pupil, 50, &[got[4].seq]);
    assert!(lesson.take(pupil).is_empty(), "too late to be shown");

    let stats = lesson.room.stats();
    assert_eq!((stats.nacked_by_receivers, stats.resent_out), (6, 3));
    assert_eq!((stats.not_resent_too_soon, stats.not_resent_gone), (1, 2));
}

#[test]
fn an_rtx_packet_after_a_pause_says_what_the_original_said() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 50);
    let frames = frames(12, &[0, 8]);
    for packet in &frames {
        if packet.seq == 306 || packet.seq == 318 {
            lesson.room.set_muted(lesson.now, teacher, track, packet.seq == 306).unwrap();
        }
        lesson.send(teacher, &packet.bytes());
    }
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), (0..18).collect::<Vec<_>>());
    lesson.nack(pupil, 50, &[got[1].seq, got[7].seq]);
    let resent = lesson.take(pupil);
    assert_eq!(resent[0].payload[2..], got[1].payload);
    assert_eq!(resent[1].payload[2..], got[7].payload);
    assert_eq!(got[7].picture_id(), 2);
}

#[test]
fn sound_without_rtx_is_sent_again_byte_for_byte() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_audio(teacher);
    lesson.subscribe(pupil, track, 50);
    for i in 0..5 {
        lesson.send(teacher, &audio(i));
        lesson.advance(20 * MS);
    }
    let got = lesson.take(pupil);
    // The m-line is no longer named once the receiver has reported: in old packets it still is.
    lesson.receiver_report(pupil, report_on(50));
    lesson.nack(pupil, 50, &[got[2].seq, got[3].seq]);
    let resent = lesson.take(pupil);
    assert_eq!(resent.len(), 2);
    assert_eq!((&resent[0].raw, &resent[1].raw), (&got[2].raw, &got[3].raw));
    lesson.send(teacher, &audio(5));
    let next = lesson.take(pupil);
    assert_eq!((next[0].transport_cc, next[0].mid.as_deref()), (Some(5), None));
}

#[test]
fn who_agreed_to_no_nack_gets_nothing_again() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_audio(teacher);
    let mut params = audio_out("a", 50);
    params.codecs[0] = CodecParams { nack: false, ..params.codecs[0] };
    lesson.room.subscribe(lesson.now, pupil, track, params).unwrap();
    lesson.send(teacher, &audio(0));
    let got = lesson.take(pupil);
    lesson.nack(pupil, 50, &[got[0].seq]);
    assert!(lesson.take(pupil).is_empty());
    assert_eq!(lesson.room.stats().not_resent_gone, 1);
}

#[test]
fn an_outage_in_the_way_in_ends_with_a_key_frame_not_with_a_thousand_nacks() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 50);
    let frames = frames(400, &[0]);
    for packet in frames.iter().take(3).chain(frames.iter().skip(900).take(6)) {
        lesson.send(teacher, &packet.bytes());
    }
    lesson.advance(200 * MS);
    assert!(lesson.nacks(teacher).is_empty());
    assert_eq!(lesson.plis(teacher).len(), 1);
}

fn report_on(ssrc: u32) -> sfu_core::rtp::rtcp::ReportBlock {
    sfu_core::rtp::rtcp::ReportBlock {
        ssrc: Ssrc(ssrc),
        fraction_lost: 0,
        cumulative_lost: 0,
        highest_seq: 0,
        jitter: 0,
        last_sr: 0,
        delay_since_sr: 0,
    }
}

#[test]
fn a_key_frame_that_still_waits_for_a_thin_link_is_not_asked_for_again() {
    let mut config = RoomConfig::default();
    config.pacer.rate = Bitrate::kbps(100);
    let mut lesson = Lesson::with(config);
    let (teacher, class) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(class, track, 50);
    for packet in frames(10, &[0]) {
        lesson.send(teacher, &packet.bytes());
    }
    lesson.advance(600 * MS);
    let asked = lesson.plis(teacher).len();
    lesson.pli(class, 50);
    lesson.advance(200 * MS);
    assert_eq!(lesson.plis(teacher).len(), asked, "it is on its way");
    lesson.advance(1000 * MS);
    assert_eq!(lesson.take(class).len(), 30, "all of it has left");
    lesson.pli(class, 50);
    lesson.advance(100 * MS);
    assert_eq!(lesson.plis(teacher).len(), asked + 1);
}
