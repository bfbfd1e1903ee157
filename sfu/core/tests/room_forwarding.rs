//! What receivers get of what publishers send: everything, from a decodable start, in numbers without holes that
//! are not the network's.

mod room_support;

use room_support::*;
use sfu_core::cc::link_estimator::LinkConfig;
use sfu_core::room::{Fit, RoomConfig, RoomError, RoomEvent, RtpError};
use sfu_core::rtp::packet::Header;
use sfu_core::rtp::params::Ssrc;
use sfu_core::track::up_track::ReceiveError;
use sfu_core::units::{Bitrate, Source, TrackId};

#[test]
fn sound_reaches_everybody_with_their_own_numbers_and_ids() {
    let mut lesson = Lesson::new();
    let teacher = lesson.join(1);
    let track = lesson.publish_audio(teacher);
    let pupils: Vec<_> = (2..5).map(|i| lesson.join(i)).collect();
    for (&pupil, ssrc) in pupils.iter().zip(50..) {
        lesson.subscribe(pupil, track, ssrc);
    }
    for i in 0..10 {
        lesson.send(teacher, &audio(i));
        lesson.advance(20 * MS);
    }
    assert_eq!(lesson.room.poll_event(), Some(RoomEvent::TrackStarted { participant: teacher, track }));
    assert_eq!(lesson.room.poll_event(), None);
    for (&pupil, ssrc) in pupils.iter().zip(50..) {
        let got = lesson.take(pupil);
        assert_eq!(numbers(&got), (0..10).collect::<Vec<_>>());
        for (i, got) in got.iter().enumerate() {
            assert_eq!((got.ssrc, got.pt, got.time), (Ssrc(ssrc), OUT_OPUS, i as u32 * 960));
            assert_eq!((got.marker, got.level, got.mid.as_deref()), (i == 0, Some(30), Some("a")));
            assert_eq!(got.payload, [0x78, i as u8, 0, 1, 2, 3]);
        }
    }
    assert!(lesson.take(teacher).is_empty());
}

#[test]
fn video_starts_at_a_key_frame_and_a_late_subscriber_asks_for_one() {
    let mut lesson = Lesson::new();
    let (teacher, first, second) = (lesson.join(1), lesson.join(2), lesson.join(3));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(first, track, 50);
    let frames = frames(10, &[0, 6]);
    for (i, packet) in frames.iter().enumerate() {
        if i == 9 {
            lesson.feedback.clear();
            lesson.subscribe(second, track, 60);
        }
        lesson.send(teacher, &packet.bytes());
        lesson.advance(10 * MS);
    }
    let got = lesson.take(first);
    assert_eq!(numbers(&got), (0..30).collect::<Vec<_>>());
    assert!(got.iter().all(|got| got.pt == OUT_VP8 && got.ssrc == Ssrc(50)));
    assert_eq!(got[5].payload, frames[5].payload());
    let late = lesson.take(second);
    assert_eq!(numbers(&late), (0..12).collect::<Vec<_>>());
    assert_eq!((late[0].time, late[0].picture_id()), (6 * 3000, 6));
    assert_eq!(lesson.plis(teacher).first().map(|pli| pli.1), Some(2000));
    assert_eq!(lesson.room.stats().not_meant_awaiting_key_frame, 9);
}

#[test]
fn key_frame_requests_are_joined_and_repeated_until_one_arrives() {
    let mut lesson = Lesson::new();
    let teacher = lesson.join(1);
    let track = lesson.publish_video(teacher);
    let pupils: Vec<_> = (2..12).map(|i| lesson.join(i)).collect();
    let frames = frames(60, &[0, 40]);
    lesson.send(teacher, &frames[0].bytes());
    for (&pupil, ssrc) in pupils.iter().zip(50..) {
        lesson.subscribe(pupil, track, ssrc);
        lesson.drain();
        lesson.pli(pupil, ssrc);
    }
    for packet in &frames[1..] {
        lesson.send(teacher, &packet.bytes());
        lesson.advance(11 * MS);
    }
    let at: Vec<_> = lesson.plis(teacher).iter().map(|(at, _)| at.as_millis()).collect();
    // The key frame comes after 120 packets, 1.3 s.
    assert_eq!(at.len(), 3, "{at:?}");
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 500), "{at:?}");
    assert_eq!(lesson.room.stats().key_frames_asked_by_receivers, 10);
    for pupil in pupils {
        assert_eq!(lesson.take(pupil).len(), 60);
    }
}

#[test]
fn a_receiver_cannot_make_everybody_pay_for_key_frames() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 50);
    for packet in frames(100, &(0..100).collect::<Vec<_>>()) {
        lesson.send(teacher, &packet.bytes());
        lesson.pli(pupil, 50);
        lesson.advance(33 * MS);
    }
    assert!(lesson.plis(teacher).len() <= 5, "{:?}", lesson.plis(teacher));
}

#[test]
fn a_receiver_that_repeats_its_request_may_still_ask_when_the_key_frame_was_lost_on_its_way() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 50);
    // The key frames come 900 ms after they are wanted; the pupil gets only the third.
    for packet in frames(100, &[0, 30, 60, 90]) {
        lesson.send(teacher, &packet.bytes());
        if packet.frame > 0 && packet.frame % 6 == 0 && packet.frame < 90 && packet.last {
            lesson.pli(pupil, 50);
        }
        lesson.advance(10 * MS);
    }
    let asked = |from: u64, to: u64| {
        let times = lesson.plis(teacher).into_iter().map(|(at, _)| at.as_millis());
        times.filter(|at| (u128::from(from * 30)..u128::from(to * 30)).contains(at)).count()
    };
    assert!(asked(0, 30) > 0 && asked(31, 60) > 0 && asked(61, 90) > 0, "{:?}", lesson.plis(teacher));
}

#[test]
fn mute_leaves_no_hole_and_video_resumes_at_a_key_frame() {
    let with_room = LinkConfig { start: Bitrate::kbps(5000), ..LinkConfig::default() };
    for link in [None, Some(with_room)] {
        let mut lesson = Lesson::with(RoomConfig { link, ..RoomConfig::default() });
        let (teacher, pupil) = (lesson.join(1), lesson.join(2));
        let (sound, video) = (lesson.publish_audio(teacher), lesson.publish_video(teacher));
        lesson.subscribe(pupil, sound, 50);
        lesson.subscribe(pupil, video, 60);
        let frames = frames(30, &[0, 20]);
        for i in 0..30u16 {
            if i == 5 || i == 15 {
                lesson.room.set_muted(lesson.now, teacher, sound, i == 5).unwrap();
                lesson.room.set_muted(lesson.now, teacher, video, i == 5).unwrap();
            }
            lesson.send(teacher, &audio(i));
            for packet in &frames[usize::from(i) * 3..][..3] {
                lesson.send(teacher, &packet.bytes());
            }
            lesson.advance(33 * MS);
        }
        let (sound, video): (Vec<_>, Vec<_>) =
            lesson.take(pupil).into_iter().partition(|got| got.ssrc == Ssrc(50));
        assert_eq!(numbers(&sound), (0..20).collect::<Vec<_>>());
        assert_eq!((sound[4].time, sound[5].time), (4 * 960, 15 * 960), "its clock ran on");
        assert_eq!(numbers(&video), (0..45).collect::<Vec<_>>());
        assert_eq!((video[14].time, video[15].time), (4 * 3000, 20 * 3000));
        assert_eq!((video[14].picture_id(), video[15].picture_id()), (4, 5));
        assert_eq!((video[14].tl0_pic_idx(), video[15].tl0_pic_idx()), (4, 5));
        assert_eq!(lesson.room.stats().holes_left, 0);
    }
}

#[test]
fn overtaken_packets_keep_their_numbers_and_duplicates_go_nowhere() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_audio(teacher);
    lesson.subscribe(pupil, track, 50);
    for i in [0, 1, 3, 2, 2, 5, 4, 3] {
        lesson.send(teacher, &audio(i));
    }
    assert_eq!(numbers(&lesson.take(pupil)), [0, 1, 3, 2, 5, 4]);
    assert_eq!(lesson.room.stats().duplicates_in, 2);
    lesson.advance(500 * MS);
    assert!(lesson.nacks(teacher).is_empty());
}

#[test]
fn padding_uses_up_no_numbers() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 50);
    let frames = frames(4, &[0]);
    for (i, packet) in frames.iter().enumerate() {
        let mut bytes = packet.bytes();
        if i % 4 == 3 {
            bytes = room_support::packet(&packet.header(), &[], &[0, 0, 0, 4]);
            bytes[0] |= 0x20;
        }
        lesson.send(teacher, &bytes);
    }
    assert_eq!(numbers(&lesson.take(pupil)), (0..9).collect::<Vec<_>>());
}

#[test]
fn numbers_wrap_where_16_bits_end() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 50);
    for (i, mut packet) in frames(40, &[0]).into_iter().enumerate() {
        packet.seq = 65_500u16.wrapping_add(i as u16);
        packet.frame = packet.frame.wrapping_add(0x7ff0);
        lesson.send(teacher, &packet.bytes());
        lesson.advance(11 * MS);
    }
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), (0..120).collect::<Vec<_>>());
    assert_eq!((got[0].picture_id(), got[119].picture_id()), (0x7ff0, (0x7ff0 + 39) & 0x7fff));
}

#[test]
fn simulcast_is_found_by_name_and_a_better_encoding_taken_at_its_key_frame() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = TrackId(2);
    let params = video_in("1", &rids(&["q", "h"]));
    lesson.room.publish(lesson.now, teacher, track, Source::Camera, params).unwrap();
    lesson.subscribe(pupil, track, 50);
    let frames = frames(12, &[0, 8]);
    let encoding = |packet: &Vp8Packet, rid: &str, ssrc: u32| {
        let packet =
            Vp8Packet { ssrc, mark: rid.as_bytes()[0], frame: packet.frame + ssrc as u16, ..*packet };
        let header = Header { timestamp: packet.time() - (ssrc * 3000) + ssrc, ..packet.header() };
        room_support::packet(&header, &[(4, b"1"), (10, rid.as_bytes())], &packet.payload())
    };
    for packet in &frames {
        // The better encoding starts later: it is there only after the first key frame.
        if packet.frame > 2 {
            lesson.send(teacher, &encoding(packet, "h", 8000));
        }
        lesson.send(teacher, &encoding(packet, "q", 7000));
        lesson.advance(11 * MS);
    }
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), (0..36).collect::<Vec<_>>(), "no hole at the switch");
    let marks: Vec<_> = got.iter().map(|got| got.mark()).collect();
    assert_eq!(marks, [vec![b'q'; 24], vec![b'h'; 12]].concat());
    let pictures: Vec<_> = got.iter().map(|got| got.picture_id()).collect();
    assert!(pictures.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1), "{pictures:?}");
    assert!(got.windows(2).all(|pair| pair[1].time >= pair[0].time), "time never goes back");
    let step = got[24].time - got[23].time;
    assert!((2900..3100).contains(&step), "one frame later, without a report: {step}");
}

#[test]
fn a_publisher_that_counts_anew_goes_on_without_a_hole() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 50);
    for mut packet in frames(6, &[0, 3]) {
        if packet.frame >= 3 {
            packet.seq = packet.seq.wrapping_add(20_000);
            packet.frame += 300;
        }
        lesson.send(teacher, &packet.bytes());
        lesson.advance(11 * MS);
    }
    // The first number after the jump might be a stray: it is given up, and with it the key frame's start.
    assert_eq!(numbers(&lesson.take(pupil)), (0..9).collect::<Vec<_>>());
    assert!(!lesson.plis(teacher).is_empty());
    let mut key_frame = frames(1, &[0]);
    for packet in &mut key_frame {
        packet.seq = packet.seq.wrapping_add(20_018);
        packet.frame = 400;
        lesson.send(teacher, &packet.bytes());
    }
    let got = lesson.take(pupil);
    assert_eq!((got.len(), got[0].picture_id()), (3, 3));
}

#[test]
fn transport_wide_numbers_follow_the_order_of_departure() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let (sound, video) = (lesson.publish_audio(teacher), lesson.publish_video(teacher));
    lesson.subscribe(pupil, sound, 50);
    lesson.subscribe(pupil, video, 60);
    let frames = frames(10, &[0]);
    for i in 0..10u16 {
        // Sound is handed in last and leaves first.
        for packet in &frames[usize::from(i) * 3..][..3] {
            lesson.room.handle_rtp(lesson.now, teacher, &packet.bytes()).unwrap();
        }
        lesson.room.handle_rtp(lesson.now, teacher, &audio(i)).unwrap();
        lesson.drain();
        lesson.advance(33 * MS);
    }
    let got = lesson.take(pupil);
    let numbers: Vec<_> = got.iter().map(|got| got.transport_cc.unwrap()).collect();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
    assert!(got.iter().step_by(4).all(|got| got.ssrc == Ssrc(50)));
    assert!(got.windows(2).all(|pair| pair[0].at <= pair[1].at));
    let sent = got[39].send_time.unwrap().as_duration() - got[0].send_time.unwrap().as_duration();
    assert!(sent.abs_diff(9 * 33 * MS) < MS, "{sent:?}");
}

#[test]
fn who_leaves_takes_everything_along_and_queued_packets_are_dropped() {
    let mut lesson = Lesson::new();
    let (teacher, first, second) = (lesson.join(1), lesson.join(2), lesson.join(3));
    let track = lesson.publish_audio(teacher);
    lesson.subscribe(first, track, 50);
    lesson.subscribe(second, track, 60);
    lesson.room.handle_rtp(lesson.now, teacher, &audio(0)).unwrap();
    lesson.room.unsubscribe(first, track).unwrap();
    lesson.room.remove_participant(second);
    lesson.drain();
    assert!(lesson.media.is_empty());
    assert_eq!(lesson.room.stats().dropped_unsubscribed, 2);

    // Another one in the same place is not mistaken for the one before.
    let third = lesson.join(4);
    assert_eq!(third.index(), second.index());
    assert_ne!(third, second);
    lesson.subscribe(third, track, 60);
    lesson.send(teacher, &audio(1));
    assert_eq!(lesson.take(third).len(), 1);

    lesson.room.remove_participant(teacher);
    assert_eq!(lesson.room.unsubscribe(third, track), Err(RoomError::UnknownTrack));
    assert_eq!(lesson.room.handle_rtp(lesson.now, teacher, &audio(2)), Err(RtpError::UnknownParticipant));
}

#[test]
fn a_packet_overwritten_while_it_waited_is_dropped_and_leaves_no_hole() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_audio(teacher);
    lesson.subscribe(pupil, track, 50);
    // Nothing leaves while 300 packets arrive; the cache holds 256.
    for i in 0..300 {
        lesson.room.handle_rtp(lesson.now, teacher, &audio(i)).unwrap();
    }
    lesson.drain();
    let got = lesson.take(pupil);
    assert_eq!((got.len(), got[0].time), (256, 44 * 960));
    assert_eq!(numbers(&got), (0..256).collect::<Vec<_>>());
    let stats = lesson.room.stats();
    assert_eq!((stats.dropped_stale, stats.holes_left), (44, 0));
}

#[test]
fn a_batch_is_filled_with_what_fits_and_the_rest_stays_queued() {
    let mut lesson = Lesson::new();
    let (teacher, first, second) = (lesson.join(1), lesson.join(2), lesson.join(3));
    let (sound, video) = (lesson.publish_audio(teacher), lesson.publish_video(teacher));
    for pupil in [first, second] {
        lesson.subscribe(pupil, sound, 50);
        lesson.subscribe(pupil, video, 60);
    }
    let (room, now, mut out) = (&mut lesson.room, lesson.now, [0; 1500]);
    for packet in frames(1, &[0]) {
        room.handle_rtp(now, teacher, &packet.bytes()).unwrap();
    }
    room.handle_rtp(now, teacher, &audio(0)).unwrap();
    let mut poll = |fit| room.poll_packet(now, fit, &mut out).map(|outgoing| (outgoing.to, outgoing.len));
    let (to, short) = poll(None).unwrap();
    assert_eq!(to, first);
    // Sound has left, the video behind it is longer.
    assert_eq!(poll(Some(Fit { to, max_len: short })), None);
    let (to, long) = poll(None).unwrap();
    assert_eq!(poll(Some(Fit { to, max_len: long - 1 })), None);
    assert_eq!(poll(Some(Fit { to, max_len: long })), Some((first, long)));
    assert_eq!(poll(Some(Fit { to, max_len: long })), Some((first, long)));
    assert_eq!(poll(Some(Fit { to, max_len: long })), None);
    assert_eq!(poll(None), Some((second, short)));
}

#[test]
fn negotiating_again_disturbs_nothing_and_other_encodings_reuse_no_numbers() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = TrackId(2);
    let again = |lesson: &mut Lesson, names: &[&str]| {
        let params = video_in("1", &rids(names));
        lesson.room.publish(lesson.now, teacher, track, Source::Camera, params).unwrap();
    };
    let named = |packet: &Vp8Packet, rid: &str| {
        room_support::packet(&packet.header(), &[(4, b"1"), (10, rid.as_bytes())], &packet.payload())
    };
    again(&mut lesson, &["q"]);
    lesson.subscribe(pupil, track, 50);
    for packet in frames(3, &[0]) {
        lesson.send(teacher, &named(&packet, "q"));
        again(&mut lesson, &["q"]);
    }
    again(&mut lesson, &["q", "h"]);
    for packet in frames(8, &[0]).iter().skip(6) {
        lesson.send(teacher, &named(packet, "q"));
    }
    for packet in frames(3, &[0]) {
        lesson.send(teacher, &named(&Vp8Packet { ssrc: 3000, ..packet }, "h"));
    }
    let got = lesson.take(pupil);
    assert_eq!(numbers(&got), (0..18).collect::<Vec<_>>());
    assert_eq!((got[8].picture_id(), got[9].picture_id()), (2, 3));
}

#[test]
fn limits_hold() {
    let mut config = RoomConfig::default();
    (config.max_participants, config.max_tracks, config.max_subscriptions) = (2, 1, 1);
    let mut lesson = Lesson::with(config);
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let room = &mut lesson.room;
    let now = lesson.now;
    assert_eq!(
        room.add_participant(now, sfu_core::units::TransportId(3)),
        Err(RoomError::TooManyParticipants)
    );
    let publish = |room: &mut sfu_core::room::Room, from, id, ssrc| {
        room.publish(now, from, TrackId(id), Source::Microphone, audio_in("0", ssrc))
    };
    assert_eq!(publish(room, teacher, 1, 1000), Ok(()));
    assert_eq!(publish(room, teacher, 1, 1000), Ok(()), "again: an update");
    assert_eq!(publish(room, teacher, 2, 2000), Err(RoomError::TooManyTracks));
    assert_eq!(publish(room, pupil, 1, 1000), Err(RoomError::NotOwner));
    assert_eq!(room.subscribe(now, pupil, TrackId(9), audio_out("0", 5)), Err(RoomError::UnknownTrack));
    assert_eq!(room.subscribe(now, teacher, TrackId(1), audio_out("0", 5)), Err(RoomError::OwnTrack));
    assert_eq!(room.subscribe(now, pupil, TrackId(1), video_out("0", 5)), Err(RoomError::NoCommonCodec));
    assert_eq!(room.subscribe(now, pupil, TrackId(1), audio_out("0", 5)), Ok(()));
    assert_eq!(room.subscribe(now, pupil, TrackId(1), audio_out("0", 5)), Ok(()), "again: nothing new");
}

#[test]
fn packets_that_belong_nowhere_are_refused() {
    let mut lesson = Lesson::new();
    let teacher = lesson.join(1);
    lesson.publish_audio(teacher);
    let header = Header { marker: false, pt: VP8, seq: 1, timestamp: 0, ssrc: Ssrc(77) };
    let unknown = packet(&header, &[], &[1, 2, 3]);
    assert_eq!(lesson.room.handle_rtp(lesson.now, teacher, &unknown), Err(RtpError::UnknownSsrc));
    let known = packet(&Header { ssrc: Ssrc(1000), ..header }, &[], &[1, 2, 3]);
    assert_eq!(
        lesson.room.handle_rtp(lesson.now, teacher, &known),
        Err(RtpError::Refused(ReceiveError::PayloadType))
    );
    assert!(matches!(lesson.room.handle_rtp(lesson.now, teacher, &[0; 20]), Err(RtpError::Malformed(_))));
    assert_eq!(lesson.room.stats().refused_in, 3);
}
