//! Redundant audio (RFC 2198): taken apart on the way in, made anew for those whose links need it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod room_support;

use room_support::*;
use sfu_core::room::{Merge, ParticipantKey};
use sfu_core::rtp::opus_frames::split;
use sfu_core::rtp::packet::Header;
use sfu_core::rtp::params::{CodecParams, ReceiveParams, SendParams, Ssrc};
use sfu_core::rtp::red::RedView;
use sfu_core::units::{Source, TrackId};

const RED: u8 = 63;
const OUT_RED: u8 = 64;

/// A teacher who speaks, and a pupil who takes redundant audio with the SSRC 50.
fn lesson() -> (Lesson, ParticipantKey, ParticipantKey) {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let mut params = audio_in("0", 1000);
    params.codecs[0].red_pt = Some(RED);
    lesson.room.publish(lesson.now, teacher, TrackId(1), Source::Microphone, params).unwrap();
    let params = SendParams { codecs: [redundant(OUT_OPUS)].into_iter().collect(), ..audio_out("a", 50) };
    lesson.room.subscribe(lesson.now, pupil, TrackId(1), params).unwrap();
    (lesson, teacher, pupil)
}

fn redundant(pt: u8) -> CodecParams {
    CodecParams { red_pt: Some(OUT_RED), ..opus(pt) }
}

fn say(lesson: &mut Lesson, teacher: ParticipantKey, numbers: impl IntoIterator<Item = u16>) {
    for i in numbers {
        lesson.send(teacher, &audio(i));
        lesson.advance(20 * MS);
    }
}

/// The payload of the `i`th packet.
fn spoken(i: u16) -> Vec<u8> {
    vec![0x78, i as u8, (i >> 8) as u8, 1, 2, 3]
}

/// The new block, and those that are repeated with how far back they lie.
fn blocks(got: &Got) -> (Vec<u8>, Vec<(u16, Vec<u8>)>) {
    if got.pt == OUT_OPUS {
        return (got.payload.clone(), Vec::new());
    }
    assert_eq!(got.pt, OUT_RED);
    let view = RedView::parse(&got.payload).unwrap();
    let repeated = view.repeated().map(|block| {
        assert_eq!(block.pt, OUT_OPUS);
        (block.offset, block.payload.to_vec())
    });
    assert_eq!(view.new_block().pt, OUT_OPUS);
    (view.new_block().payload.to_vec(), repeated.collect())
}

#[test]
fn each_packet_repeats_the_one_before() {
    let (mut lesson, teacher, pupil) = lesson();
    say(&mut lesson, teacher, 0..2);
    lesson.room.set_redundant(lesson.now, pupil, true);
    say(&mut lesson, teacher, 2..5);
    lesson.room.set_redundant(lesson.now, pupil, false);
    say(&mut lesson, teacher, 5..7);
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), (0..7).collect::<Vec<_>>());
    for (i, got) in (0..).zip(&got) {
        let repeated = if i == 3 || i == 4 { vec![(960, spoken(i - 1))] } else { vec![] };
        assert_eq!((got.time, blocks(got)), (u32::from(i) * 960, (spoken(i), repeated)), "{i}");
    }
    assert_eq!(lesson.room.stats().redundant_out, 2);
}

#[test]
fn merged_packets_repeat_merged_packets() {
    let (mut lesson, teacher, pupil) = lesson();
    lesson.room.set_merge(lesson.now, pupil, Merge::Two);
    lesson.room.set_redundant(lesson.now, pupil, true);
    say(&mut lesson, teacher, 0..6);
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), [0, 1, 2]);
    let (new, repeated) = blocks(&got[2]);
    let [(offset, old)] = &repeated[..] else { panic!("one is repeated") };
    assert_eq!((got[2].time, *offset), (3840, 1920));
    for (payload, first) in [(&new, 4), (old, 2)] {
        let (_, frames) = split(payload).unwrap();
        assert_eq!(frames[..], [&spoken(first)[1..], &spoken(first + 1)[1..]]);
    }
}

#[test]
fn what_is_lost_on_the_way_in_is_not_repeated_and_a_late_packet_comes_alone() {
    let (mut lesson, teacher, pupil) = lesson();
    lesson.room.set_redundant(lesson.now, pupil, true);
    say(&mut lesson, teacher, [0, 2, 1, 3]);
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), [0, 2, 1, 3]);
    let repeated: Vec<_> = got.iter().map(|got| blocks(got).1.len()).collect();
    assert_eq!(repeated, [0, 0, 0, 1]);
}

#[test]
fn it_is_sent_again_byte_for_byte() {
    let (mut lesson, teacher, pupil) = lesson();
    lesson.room.set_redundant(lesson.now, pupil, true);
    say(&mut lesson, teacher, [0, 1, 2, 4, 5, 3, 6]);
    let got = lesson.take(pupil);
    lesson.nack(pupil, 50, &[got[1].seq, got[3].seq, got[4].seq]);
    let resent = lesson.take(pupil);
    let raw = |got: &Got| got.raw.clone();
    assert_eq!(resent.iter().map(raw).collect::<Vec<_>>(), [1, 3, 4].map(|i: usize| raw(&got[i])));
}

#[test]
fn who_did_not_agree_to_it_gets_plain_sound() {
    let (mut lesson, teacher, _) = lesson();
    let other = lesson.join(3);
    lesson.subscribe(other, TrackId(1), 60);
    lesson.room.set_redundant(lesson.now, other, true);
    say(&mut lesson, teacher, 0..4);
    let got = lesson.take(other);
    assert!(got.iter().all(|got| got.pt == OUT_OPUS));
    assert_eq!(got.len(), 4);
}

#[test]
fn what_a_publisher_says_twice_is_passed_on_once() {
    let (mut lesson, teacher, pupil) = lesson();
    for i in 0..4u16 {
        let old = spoken(i.wrapping_sub(1));
        let headers = [0x80 | OPUS, 0x0f, 0, old.len() as u8, OPUS];
        let header =
            Header { marker: false, pt: RED, seq: 100 + i, timestamp: u32::from(i) * 960, ssrc: Ssrc(1000) };
        lesson.send(teacher, &packet(&header, &[], &[&headers[..], &old, &spoken(i)].concat()));
    }
    let got = lesson.take(pupil);
    assert_eq!(got.iter().map(blocks).collect::<Vec<_>>(), [0, 1, 2, 3].map(|i| (spoken(i), vec![])));
}

#[test]
fn broken_redundancy_is_refused() {
    let (mut lesson, teacher, pupil) = lesson();
    let header = Header { marker: false, pt: RED, seq: 100, timestamp: 0, ssrc: Ssrc(1000) };
    let other_codec = [0x80 | OPUS, 0x0f, 0, 1, 96, 7, 0x78, 1, 2];
    for payload in [&[0xef, 0x0f, 0, 9, OPUS, 1][..], &[0xef], &other_codec] {
        lesson.send(teacher, &packet(&header, &[], payload));
    }
    assert!(lesson.take(pupil).is_empty());
    assert_eq!(lesson.room.stats().refused_in, 3);
}

#[test]
fn sound_that_is_encrypted_end_to_end_is_not_repeated() {
    let (mut lesson, teacher, pupil) = lesson();
    lesson.room.set_redundant(lesson.now, pupil, true);
    let params = ReceiveParams { encrypted: true, ..audio_in("0", 1000) };
    lesson.room.publish(lesson.now, teacher, TrackId(1), Source::Microphone, params).unwrap();
    say(&mut lesson, teacher, 0..4);
    assert!(lesson.take(pupil).iter().all(|got| got.pt == OUT_OPUS));
}
