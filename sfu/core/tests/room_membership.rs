//! Tracks and subscriptions that change at awkward moments: while a receiver is still connecting, or while it
//! watches.

mod room_support;

use room_support::*;
use sfu_core::room::{ParticipantKey, RoomError};
use sfu_core::units::TransportId;

/// Lets somebody in whose handshake is not done.
fn connecting(lesson: &mut Lesson, transport: u64) -> ParticipantKey {
    lesson.room.add_participant(lesson.now, TransportId(transport)).unwrap()
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
