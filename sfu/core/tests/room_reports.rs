//! What publishers and receivers are told once a second: loss, clocks, arrivals.

mod room_support;

use room_support::*;
use sfu_core::cc::twcc::FeedbackView;
use sfu_core::rtp::params::Ssrc;
use sfu_core::rtp::rtcp::{NtpTime, ReportBlock, Rtcp};

#[test]
fn a_publisher_learns_what_was_lost_on_its_way() {
    let mut lesson = Lesson::new();
    let teacher = lesson.join(1);
    lesson.publish_audio(teacher);
    for i in 0..100u16 {
        if i % 5 != 2 {
            lesson.send(teacher, &audio(i));
        }
        lesson.advance(20 * MS);
    }
    let mut blocks = Vec::new();
    lesson.rtcp(teacher, |at, packet| {
        if let Rtcp::ReceiverReport(report) = packet {
            blocks.extend(report.blocks().map(|block| ((at - lesson.start).as_millis(), block)));
        }
    });
    assert_eq!(blocks.len(), 2, "one a second");
    let (at, last) = blocks[1];
    assert!((1000..2000).contains(&at));
    assert_eq!(last.ssrc, Ssrc(1000));
    assert!((48..=54).contains(&last.fraction_lost), "a fifth is 51: {last:?}");
    let expected = last.highest_seq - 100 + 1;
    assert!(last.cumulative_lost.abs_diff((expected / 5) as i32) <= 1, "{last:?}");
    assert_eq!((last.jitter, last.last_sr), (0, 0));
}

#[test]
fn thirty_two_tracks_are_reported_in_datagrams_that_fit() {
    let mut lesson = Lesson::new();
    let teacher = lesson.join(1);
    for i in 0..32u32 {
        let params = audio_in(&i.to_string(), 1000 + i);
        let track = sfu_core::units::TrackId(u64::from(i));
        lesson.room.publish(lesson.now, teacher, track, sfu_core::units::Source::Microphone, params).unwrap();
        let mut packet = audio(1);
        packet[8..12].copy_from_slice(&(1000 + i).to_be_bytes());
        lesson.send(teacher, &packet);
    }
    lesson.advance(900 * MS);
    let mut reported = Vec::new();
    lesson.rtcp(teacher, |_, packet| {
        if let Rtcp::ReceiverReport(report) = packet {
            reported.extend(report.blocks().map(|block| block.ssrc.0));
        }
    });
    assert_eq!(reported, (1000..1032).collect::<Vec<_>>());
    assert!(lesson.feedback.iter().all(|(_, _, bytes)| bytes.len() <= 1200));
}

#[test]
fn a_sender_report_carries_the_publishers_clocks_to_the_receiver() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(7), lesson.join(2));
    let (sound, video) = (lesson.publish_audio(teacher), lesson.publish_video(teacher));
    lesson.subscribe(pupil, sound, 50);
    lesson.subscribe(pupil, video, 60);
    let frames = frames(200, &[0, 40]);
    for i in 0..200u16 {
        if i == 70 {
            // Both clocks say: this is second 1000.
            lesson.sender_report(teacher, 1000, NtpTime(1000 << 32), 70 * 960);
            lesson.sender_report(teacher, 2000, NtpTime(1000 << 32), 70 * 1800);
        }
        lesson.send(teacher, &audio(i));
        lesson.send(teacher, &frames[usize::from(i)].bytes());
        lesson.advance(20 * MS);
    }
    let (mut reports, mut names) = (Vec::new(), Vec::new());
    lesson.rtcp(pupil, |at, packet| match packet {
        Rtcp::SenderReport(report) => reports.push((at - lesson.start, report.ssrc, report.info)),
        Rtcp::Sdes(sdes) => {
            names.extend(sdes.cnames().map(|(ssrc, name)| (ssrc, String::from_utf8(name.to_vec()).unwrap())));
        }
        _ => {}
    });
    assert!(reports.iter().all(|(at, ..)| *at > 70 * 20 * MS), "none before the publisher's first");
    assert_eq!(reports.len(), 4, "two tracks for two seconds: {reports:?}");
    for (at, ssrc, info) in reports {
        let since = (at - 70 * 20 * MS).as_secs_f64();
        let ntp = info.ntp.0 as f64 / (1u64 << 32) as f64 - 1000.0;
        assert!((ntp - since).abs() < 1e-3, "{ntp} {since}");
        let (rate, origin) =
            if ssrc == Ssrc(50) { (48_000.0, 70.0 * 960.0) } else { (90_000.0, 70.0 * 1800.0) };
        let time = f64::from(info.rtp_time);
        assert!((time - (origin + since * rate)).abs() < 2.0, "{ssrc:?}: {time}");
        assert!(info.packets > 0 && info.octets > info.packets);
    }
    assert!(names.contains(&(Ssrc(60), "transport-7".to_owned())), "{names:?}");
}

#[test]
fn the_round_trip_is_measured_by_the_echo_of_our_report() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 60);
    lesson.sender_report(teacher, 2000, NtpTime(5 << 32), 0);
    let frames = frames(60, &[0]);
    for packet in &frames[..120] {
        lesson.send(teacher, &packet.bytes());
        lesson.advance(10 * MS);
    }
    let mut echo = None;
    lesson.rtcp(pupil, |at, packet| {
        if let Rtcp::SenderReport(report) = packet {
            echo = Some((at, report.info.ntp.middle()));
        }
    });
    let (sent, last_sr) = echo.unwrap();
    // The report comes back 300 ms later, of which the receiver held it for 100 ms.
    let now = (sent + 300 * MS).max(lesson.now);
    let held = now - sent - 200 * MS;
    lesson.advance(now - lesson.now);
    let block = ReportBlock {
        ssrc: Ssrc(60),
        fraction_lost: 0,
        cumulative_lost: 0,
        highest_seq: 0,
        jitter: 0,
        last_sr,
        delay_since_sr: (held.as_secs_f64() * 65_536.0) as u32,
    };
    lesson.receiver_report(pupil, block);
    // It shows in how soon a packet is sent again: not within the 200 ms.
    let seq = lesson.take(pupil).last().unwrap().seq;
    let mut answered = Vec::new();
    for i in 0..30u64 {
        lesson.nack(pupil, 60, &[seq]);
        if !lesson.take(pupil).is_empty() {
            answered.push(i * 10);
        }
        lesson.advance(10 * MS);
    }
    // The delay is rounded down, so the round trip is a little more.
    assert_eq!(answered, [0, 210]);
}

#[test]
fn a_publisher_learns_when_its_packets_arrived() {
    let mut lesson = Lesson::new();
    let teacher = lesson.join(1);
    lesson.publish_audio(teacher);
    for i in 0..50u16 {
        if i != 20 {
            lesson.send(teacher, &audio(i));
        }
        lesson.advance(20 * MS);
    }
    lesson.advance(200 * MS);
    let (mut arrived, mut times) = (Vec::new(), Vec::new());
    lesson.rtcp(teacher, |at, packet| {
        if let Rtcp::TransportFeedback(feedback) = packet {
            times.push(at);
            let view = FeedbackView::parse(&feedback).unwrap();
            arrived.extend(view.statuses().map(|status| (status.seq, status.arrival.is_some())));
        }
    });
    assert_eq!(arrived, (0..50).map(|i| (i, i != 20)).collect::<Vec<_>>());
    assert!((9..=13).contains(&times.len()), "every 100 ms: {}", times.len());
}

#[test]
fn feedback_about_strangers_is_counted_and_harmless() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 60);
    lesson.nack(pupil, 999, &[1, 2, 3]);
    lesson.pli(pupil, 999);
    // Another receiver's SSRC, or the publisher's own, is a stranger's too.
    lesson.pli(teacher, 60);
    lesson.sender_report(pupil, 2000, NtpTime(1), 1);
    lesson.room.handle_rtcp(lesson.now, pupil, &[0x81, 205, 0, 9, 1]);
    lesson.drain();
    let stats = lesson.room.stats();
    assert_eq!((stats.rtcp_foreign, stats.rtcp_malformed), (4, 1));
    assert_eq!((stats.nacked_by_receivers, stats.key_frames_asked_by_receivers), (0, 0));
}

#[test]
fn an_idle_room_sleeps() {
    let mut lesson = Lesson::new();
    assert_eq!(lesson.room.poll_timeout(), None);
    let (teacher, pupil) = (lesson.join(1), lesson.join(2));
    let track = lesson.publish_video(teacher);
    lesson.subscribe(pupil, track, 60);
    // The subscription's key frame request goes unanswered, and is given up.
    lesson.advance(10_000 * MS);
    let mut wakes = 0;
    let end = lesson.now + 10_000 * MS;
    while let Some(at) = lesson.room.poll_timeout().filter(|&at| at <= end) {
        lesson.now = at;
        lesson.drain();
        wakes += 1;
    }
    assert!(wakes <= 22, "two participants look once a second, links are judged every five: {wakes}");
}
