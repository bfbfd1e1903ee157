//! Tracks and subscriptions that change at awkward moments: while a receiver is still connecting, or while it
//! watches.

mod room_support;

use room_support::*;
use sfu_core::room::{ParticipantKey, RoomError};
use sfu_core::units::{Source, TrackId, TransportId};

/// Lets somebody in whose handshake is not done.
fn connecting(lesson: &mut Lesson, transport: u64) -> ParticipantKey {
    lesson.room.add_participant(lesson.now, TransportId(transport)).expect("there is room")
}

#[test]
fn a_track_that_ends_while_its_receiver_connects_takes_the_subscription_along() {
    for leaves in [false, true] {
        let mut lesson = Lesson::new();
        let teacher = lesson.join(1);
        let pupil = connecting(&mut lesson, 2);
        let track = lesson.publish_audio(teacher);
        lesson.subscribe(pupil, track, 50);
        if leaves {
            lesson.room.remove_participant(teacher);
        } else {
            lesson.room.unpublish(teacher, track).unwrap();
        }
        assert_eq!(lesson.room.unsubscribe(pupil, track), Err(RoomError::UnknownTrack));
        lesson.advance(2000 * MS);
        lesson.room.set_reachable(lesson.now, pupil);
        lesson.advance(2000 * MS);
    }
}

#[test]
fn who_leaves_takes_along_what_was_to_be_reported_of_it() {
    let mut lesson = Lesson::new();
    let teacher = lesson.join(1);
    lesson.publish_audio(teacher);
    lesson.send(teacher, &audio(0));
    lesson.room.remove_participant(teacher);
    assert_eq!(lesson.join(2).index(), teacher.index());
    assert_eq!(lesson.room.poll_event(), None);
}

#[test]
fn a_receiver_that_was_connecting_hears_what_is_unmuted_by_then() {
    for muted in [false, true] {
        let mut lesson = Lesson::new();
        let teacher = lesson.join(1);
        let pupil = connecting(&mut lesson, 2);
        let track = lesson.publish_audio(teacher);
        lesson.room.set_muted(lesson.now, teacher, track, !muted).unwrap();
        lesson.subscribe(pupil, track, 50);
        lesson.room.set_muted(lesson.now, teacher, track, muted).unwrap();
        lesson.room.set_reachable(lesson.now, pupil);
        for i in 0..5 {
            lesson.send(teacher, &audio(i));
        }
        assert_eq!(lesson.take(pupil).len(), if muted { 0 } else { 5 });
    }
}

#[test]
fn receivers_follow_a_publisher_that_negotiates_fewer_encodings() {
    for left in [1, 2] {
        let mut lesson = Lesson::new();
        let (teacher, pupil) = (lesson.join(1), lesson.join(2));
        let track = TrackId(2);
        let rids = ["q", "h", "f"];
        let negotiate = |lesson: &mut Lesson, count: usize| {
            let params = video_in("1", &room_support::rids(&rids[..count]));
            lesson.room.publish(lesson.now, teacher, track, Source::Camera, params).unwrap();
        };
        let send = |lesson: &mut Lesson, count: u16| {
            for packet in frames(30, &[0, 10, 20]) {
                for encoding in 0..count {
                    let packet = Vp8Packet { ssrc: 3000 + u32::from(encoding), ..packet };
                    let rid = rids[usize::from(encoding)].as_bytes();
                    let named: [(u8, &[u8]); 2] = [(4, b"1"), (10, rid)];
                    lesson.send(teacher, &room_support::packet(&packet.header(), &named, &packet.payload()));
                }
                lesson.advance(33 * MS);
            }
        };
        negotiate(&mut lesson, 3);
        lesson.subscribe(pupil, track, 50);
        send(&mut lesson, 3);
        lesson.take(pupil);
        negotiate(&mut lesson, left);
        send(&mut lesson, left as u16);
        assert!(lesson.take(pupil).len() >= 90 - 1, "{left} encodings are left");
        assert_eq!(lesson.room.stats().holes_left, 0);
    }
}
