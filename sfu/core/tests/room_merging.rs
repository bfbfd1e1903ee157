//! Sound to thin links: packets leave several as one, and what is missing, late or asked for again stays right.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod room_support;

use std::time::Duration;

use room_support::*;
use sfu_core::room::{Merge, Packing, ParticipantKey, RoomConfig};
use sfu_core::rtp::opus_frames::split;
use sfu_core::rtp::packet::Header;
use sfu_core::rtp::params::{ReceiveParams, Ssrc};
use sfu_core::units::{Source, TrackId};

/// A teacher who speaks, and a pupil who gets several packets as one, with its SSRC 50.
fn lesson(merge: Merge) -> (Lesson, ParticipantKey, ParticipantKey) {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_audio(teacher);
    lesson.room.set_merge(lesson.now, pupil, merge);
    lesson.subscribe(pupil, track, 50);
    (lesson, teacher, pupil)
}

/// The frames of what was received, each as the packet that it came in, with its timestamp.
fn frames(got: &[Got]) -> Vec<(u32, Vec<u8>)> {
    let frames = got.iter().flat_map(|got| {
        let (toc, frames) = split(&got.payload).unwrap();
        let frames: Vec<_> = frames.iter().map(|frame| [&[toc][..], frame].concat()).collect();
        (got.time..).step_by(960).zip(frames)
    });
    frames.collect()
}

fn sent(numbers: impl IntoIterator<Item = u16>) -> Vec<(u32, Vec<u8>)> {
    numbers.into_iter().map(|i| (u32::from(i) * 960, vec![0x78, i as u8, (i >> 8) as u8, 1, 2, 3])).collect()
}

/// Lets the teacher say these, one each 20 ms.
fn say(lesson: &mut Lesson, teacher: ParticipantKey, numbers: impl IntoIterator<Item = u16>) {
    for i in numbers {
        lesson.send(teacher, &audio(i));
        lesson.advance(20 * MS);
    }
}

#[test]
fn three_packets_arrive_as_one_with_the_same_frames() {
    let (mut lesson, teacher, pupil) = lesson(Merge::Three);
    say(&mut lesson, teacher, 0..12);
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), [0, 1, 2, 3]);
    assert_eq!(got.iter().map(|got| got.time).collect::<Vec<_>>(), [0, 2880, 5760, 8640]);
    assert_eq!(got.iter().map(|got| got.marker).collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!(got.iter().map(|got| got.transport_cc).collect::<Vec<_>>(), [0, 1, 2, 3].map(Some));
    assert_eq!(frames(&got), sent(0..12));
    assert_eq!(got[1].at - lesson.start, 100 * MS, "with the last of its three");
    assert_eq!(lesson.room.stats().merged_out, 4);
}

#[test]
fn who_is_not_on_a_thin_link_gets_each_packet_by_itself() {
    let (mut lesson, teacher, pupil) = lesson(Merge::Two);
    let other = lesson.join(3);
    lesson.subscribe(other, TrackId(1), 60);
    say(&mut lesson, teacher, 0..6);
    assert_eq!(lesson.take(pupil).len(), 3);
    let got = lesson.take(other);
    assert_eq!((numbers(&got), frames(&got)), ((0..6).collect(), sent(0..6)));
}

#[test]
fn it_begins_and_ends_without_a_gap() {
    let (mut lesson, teacher, pupil) = lesson(Merge::None);
    let merges = [Merge::None, Merge::Three, Merge::Two, Merge::None, Merge::Three];
    for (round, merge) in (0..).zip(merges) {
        lesson.room.set_merge(lesson.now, pupil, merge);
        lesson.drain();
        say(&mut lesson, teacher, round * 7..(round + 1) * 7);
    }
    lesson.advance(100 * MS);
    let got = lesson.take(pupil);
    assert_eq!(frames(&got), sent(0..35));
    assert_eq!(numbers(&got), (0..7 + 3 + 4 + 7 + 3).collect::<Vec<_>>());
}

#[test]
fn what_does_not_come_is_not_waited_for_longer_than_45_ms() {
    let (mut lesson, teacher, pupil) = lesson(Merge::Three);
    say(&mut lesson, teacher, 0..2);
    lesson.advance(500 * MS);
    say(&mut lesson, teacher, [2]);
    lesson.advance(500 * MS);
    let got = lesson.take(pupil);
    assert_eq!(got.iter().map(|got| got.at - lesson.start).collect::<Vec<_>>(), [45 * MS, 585 * MS]);
    assert_eq!((numbers(&got), frames(&got)), (vec![0, 1], sent(0..3)));
}

#[test]
fn a_packet_lost_on_the_way_in_leaves_its_number_free_and_fills_it_when_it_comes() {
    let (mut lesson, teacher, pupil) = lesson(Merge::Three);
    say(&mut lesson, teacher, [0, 1, 3, 4, 5, 6]);
    lesson.send(teacher, &audio(2));
    say(&mut lesson, teacher, [7, 8]);
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), [0, 2, 1, 3]);
    let mut frames = frames(&got);
    frames.sort();
    assert_eq!(frames, sent(0..9));
}

#[test]
fn numbers_and_timestamps_wrap() {
    let (mut lesson, teacher, pupil) = lesson(Merge::Three);
    for i in 0..9u16 {
        let header = Header {
            marker: false,
            pt: OPUS,
            seq: 65_532u16.wrapping_add(i),
            timestamp: (u32::MAX - 2000).wrapping_add(960 * u32::from(i)),
            ssrc: Ssrc(1000),
        };
        lesson.send(teacher, &packet(&header, &[], &[0x78, i as u8, 7]));
        lesson.advance(20 * MS);
    }
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), [0, 1, 2]);
    assert_eq!(got[1].time, (u32::MAX - 2000).wrapping_add(2880));
    assert_eq!(got[2].payload, [0x7b, 3, 6, 7, 7, 7, 8, 7]);
}

#[test]
fn the_loudest_of_them_says_how_loud_they_are() {
    let (mut lesson, teacher, pupil) = lesson(Merge::Three);
    for (i, level) in (0..).zip([60, 25, 40]) {
        let header =
            Header { marker: false, pt: OPUS, seq: i, timestamp: u32::from(i) * 960, ssrc: Ssrc(1000) };
        lesson.send(teacher, &packet(&header, &[(1, &[level])], &[0x78, 1, 2]));
    }
    assert_eq!(lesson.take(pupil)[0].level, Some(25));
}

#[test]
fn a_merged_packet_is_sent_again_byte_for_byte() {
    let (mut lesson, teacher, pupil) = lesson(Merge::Three);
    say(&mut lesson, teacher, 0..30);
    let got = lesson.take(pupil);
    lesson.room.set_merge(lesson.now, pupil, Merge::None);
    for i in 30..33 {
        lesson.send(teacher, &audio(i));
    }
    let single = lesson.take(pupil);
    let asked = [&got[1], &got[5], &got[9], &single[1]];
    lesson.nack(pupil, 50, &asked.map(|got| got.seq));
    let resent = lesson.take(pupil);
    assert_eq!(resent.iter().map(|got| &got.raw).collect::<Vec<_>>(), asked.map(|got| &got.raw));
    assert_eq!(lesson.room.stats().resent_out, 4);
}

#[test]
fn sound_that_is_encrypted_end_to_end_leaves_as_it_came() {
    let (mut lesson, teacher, pupil) = lesson(Merge::Three);
    say(&mut lesson, teacher, 0..2);
    let params = ReceiveParams { encrypted: true, ..audio_in("0", 1000) };
    lesson.room.publish(lesson.now, teacher, TrackId(1), Source::Microphone, params).unwrap();
    say(&mut lesson, teacher, 2..8);
    let got = lesson.take(pupil);
    assert_eq!(frames(&got), sent(0..8));
    assert_eq!(numbers(&got), (0..7).collect::<Vec<_>>(), "what waited left as it was");
}

#[test]
fn a_room_may_begin_with_it() {
    let packing = Packing { merge: Merge::Two, ..Packing::default() };
    let mut lesson = Lesson::with(RoomConfig { packing, ..RoomConfig::default() });
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_audio(teacher);
    lesson.subscribe(pupil, track, 50);
    say(&mut lesson, teacher, 0..8);
    assert_eq!(lesson.take(pupil).len(), 4);
}

#[test]
fn who_leaves_while_packets_wait_leaves_nothing_behind() {
    let (mut lesson, teacher, pupil) = lesson(Merge::Three);
    say(&mut lesson, teacher, 0..4);
    lesson.room.unsubscribe(pupil, TrackId(1)).unwrap();
    lesson.advance(10 * MS);
    lesson.subscribe(pupil, TrackId(1), 51);
    say(&mut lesson, teacher, 4..7);
    let got = lesson.take(pupil);
    assert_eq!(frames(&got), sent([0, 1, 2, 4, 5, 6]));
    lesson.room.remove_participant(pupil);
    lesson.advance(Duration::from_secs(1));
}
