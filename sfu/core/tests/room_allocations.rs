//! A room allocates nothing per packet with losses, repairs, reports and changing wishes going on: one speaker,
//! thirty listeners.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod counting;
mod room_support;

use counting::allocations;
use room_support::*;
use sfu_core::room::{Merge, PacketKind, ParticipantKey, Room};
use sfu_core::rtp::packet::RtpView;
use sfu_core::rtp::params::{EncodingParams, Rid, Ssrc};
use sfu_core::rtp::rtcp::{NtpTime, ReportBlock, SenderInfo, Writer};
use sfu_core::units::{Size, Source, TrackId, Wish};

const LISTENERS: u32 = 30;

#[test]
fn a_forwarded_packet_costs_no_allocation() {
    let mut lesson = Lesson::new();
    let teacher = lesson.join(1);
    let (sound, video) = (lesson.publish_audio(teacher), lesson.publish_video(teacher));
    let listeners: Vec<_> = (0..LISTENERS).map(|i| lesson.join(u64::from(2 + i))).collect();
    for (&listener, i) in listeners.iter().zip(0..) {
        lesson.subscribe(listener, sound, 100 + i);
        lesson.subscribe(listener, video, 200 + i);
    }
    let sounds: Vec<_> = (0..1500).map(audio).collect();
    let frames = frames(1500, &[0]);
    let pictures: Vec<_> = frames.iter().map(Vp8Packet::bytes).collect();
    let repairs: Vec<_> = (0..).zip(&frames).map(|(seq, packet)| packet.rtx(2001, seq)).collect();

    let mut sent = 0;
    let mut speak = |lesson: &mut Lesson, i: usize| {
        let (room, now) = (&mut lesson.room, &mut lesson.now);
        room.handle_rtp(*now, teacher, &sounds[i]).unwrap();
        for picture in 3 * i..3 * i + 3 {
            // Each fiftieth packet comes only as a repair, a packet later.
            let lost = |picture: usize| picture % 50 == 1;
            if !lost(picture) {
                room.handle_rtp(*now, teacher, &pictures[picture]).unwrap();
            }
            if picture > 0 && lost(picture - 1) {
                room.handle_rtp(*now, teacher, &repairs[picture - 1]).unwrap();
            }
        }
        if i.is_multiple_of(50) {
            let sent = 3 * i as u16;
            let nacked = |i: u32| first_number(Ssrc(200 + i)).wrapping_add(sent).wrapping_sub(8);
            report(room, *now, (teacher, 2000), &listeners, nacked);
        }
        for _ in 0..20 {
            drain(room, *now, |_| sent += 1);
            *now += MS;
        }
    };
    // Ten seconds to grow into, twenty to count.
    (0..500).for_each(|i| speak(&mut lesson, i));
    let before = lesson.room.stats();
    let allocated = allocations(|| (500..1500).for_each(|i| speak(&mut lesson, i)));
    let stats = lesson.room.stats();
    assert_eq!(stats.packets_out, sent);
    let forwarded = stats.packets_out - before.packets_out;
    assert!(forwarded > 4 * 1000 * u64::from(LISTENERS) && stats.resent_out > before.resent_out);
    assert_eq!(allocated, 0, "{forwarded} packets");
}

#[test]
fn changing_encodings_and_layers_costs_no_allocation() {
    const HEIGHTS: [u16; 3] = [180, 360, 720];
    let mut lesson = Lesson::new();
    let teacher = lesson.join(1);
    let listeners: Vec<_> = (0..LISTENERS).map(|i| lesson.join(u64::from(2 + i))).collect();
    let video = TrackId(2);
    let ssrc = |encoding: u32| 2000 + 1000 * encoding;
    let encodings = [0, 1, 2].map(|i| EncodingParams {
        rid: Rid::new(["q", "h", "f"][i as usize]),
        ssrc: Some(Ssrc(ssrc(i))),
        rtx_ssrc: Some(Ssrc(ssrc(i) + 1)),
    });
    lesson.room.publish(lesson.now, teacher, video, Source::Camera, video_in("1", &encodings)).unwrap();
    for (&listener, i) in listeners.iter().zip(0..) {
        lesson.subscribe(listener, video, 200 + i);
    }
    // Frames of three packets, a key frame each four seconds.
    let packets = [0, 1, 2].map(|encoding: u32| {
        let frames = (0..).zip(frames(900, &[0, 120, 240, 360, 480, 600, 720, 840]));
        let own = frames.map(|(i, packet)| {
            let layer = Some(layer((i / 3) as u16));
            let frame = packet.frame + 5000 * encoding as u16;
            let packet = Vp8Packet { ssrc: ssrc(encoding), frame, mark: encoding as u8, layer, ..packet };
            (packet.sized(HEIGHTS[encoding as usize]), packet.rtx(ssrc(encoding) + 1, i as u16))
        });
        own.collect::<Vec<_>>()
    });
    // What each listener got last.
    let mut last = [0; LISTENERS as usize];
    let mut film = |lesson: &mut Lesson, frame: usize| {
        let (room, now) = (&mut lesson.room, &mut lesson.now);
        for own in &packets {
            for i in 3 * frame..3 * frame + 3 {
                // Each fiftieth packet comes only as a repair, a packet later.
                let lost = |i: usize| i % 50 == 7;
                if !lost(i) {
                    room.handle_rtp(*now, teacher, &own[i].0).unwrap();
                }
                if i > 0 && lost(i - 1) {
                    room.handle_rtp(*now, teacher, &own[i - 1].1).unwrap();
                }
            }
        }
        if frame.is_multiple_of(10) {
            for encoding in 0..3 {
                report(room, *now, (teacher, ssrc(encoding)), &listeners, |i| last[i as usize]);
            }
            for (&listener, i) in listeners.iter().zip(0..) {
                let height = HEIGHTS[(frame / 10 + i) % 3];
                let size = Some(Size { width: height / 9 * 16, height });
                let fps = (i % 2 == 0).then_some(15);
                let paused = (frame / 10 + i).is_multiple_of(7);
                room.set_wish(*now, listener, video, Wish { size, fps, paused, priority: None }).unwrap();
            }
        }
        for _ in 0..33 {
            drain(room, *now, |packet| {
                let packet = RtpView::parse(packet).unwrap();
                if let Some(last) = last.get_mut((packet.ssrc().0 as usize).wrapping_sub(200)) {
                    *last = packet.seq();
                }
            });
            *now += MS;
        }
    };
    (0..300).for_each(|frame| film(&mut lesson, frame));
    let before = lesson.room.stats();
    let allocated = allocations(|| (300..900).for_each(|frame| film(&mut lesson, frame)));
    let stats = lesson.room.stats();
    let switches = stats.encoding_switches - before.encoding_switches;
    let left_out = stats.not_meant_temporal_layer - before.not_meant_temporal_layer;
    assert!(switches > 50 && left_out > 1000, "{switches} {left_out}");
    assert!(stats.repaired_in > before.repaired_in && stats.resent_out > before.resent_out);
    assert_eq!(allocated, 0, "{} packets", stats.packets_out - before.packets_out);
}

#[test]
fn packing_sound_costs_no_allocation() {
    let mut lesson = Lesson::new();
    let teacher = lesson.join(1);
    let sound = lesson.publish_audio(teacher);
    let listeners: Vec<_> = (0..LISTENERS).map(|i| lesson.join(u64::from(2 + i))).collect();
    for (&listener, i) in listeners.iter().zip(0..) {
        let mut params = audio_out("a", 200 + i);
        params.codecs[0].red_pt = Some(64);
        lesson.room.subscribe(lesson.now, listener, sound, params).unwrap();
        lesson.room.set_merge(lesson.now, listener, [Merge::Two, Merge::Three, Merge::None][i as usize % 3]);
        lesson.room.set_redundant(lesson.now, listener, i % 4 > 1);
    }
    let sounds: Vec<_> = (0..3000).map(audio).collect();
    let mut last = [0; LISTENERS as usize];
    let mut speak = |lesson: &mut Lesson, i: usize| {
        let (room, now) = (&mut lesson.room, &mut lesson.now);
        // Each hundredth packet is lost, each hundredth comes late.
        match i % 100 {
            10 | 20 => {}
            23 => room.handle_rtp(*now, teacher, &sounds[i - 3]).unwrap(),
            _ => room.handle_rtp(*now, teacher, &sounds[i]).unwrap(),
        }
        if i.is_multiple_of(50) {
            report(room, *now, (teacher, 1000), &listeners, |i| last[i as usize]);
        }
        for _ in 0..20 {
            drain(room, *now, |packet| {
                let packet = RtpView::parse(packet).unwrap();
                last[packet.ssrc().0 as usize - 200] = packet.seq();
            });
            *now += MS;
        }
    };
    (0..1000).for_each(|i| speak(&mut lesson, i));
    let before = lesson.room.stats();
    let allocated = allocations(|| (1000..3000).for_each(|i| speak(&mut lesson, i)));
    let stats = lesson.room.stats();
    let (merged, redundant) =
        (stats.merged_out - before.merged_out, stats.redundant_out - before.redundant_out);
    assert!(merged > 500 * u64::from(LISTENERS) && stats.resent_out > before.resent_out, "{merged}");
    assert!(redundant > 500 * u64::from(LISTENERS), "{redundant}");
    assert_eq!(allocated, 0, "{merged} merged, {redundant} redundant packets");
}

/// Lets everything leave; calls `left` with the packets of media.
fn drain(room: &mut Room, now: std::time::Instant, mut left: impl FnMut(&[u8])) {
    let mut out = [0; 1500];
    if room.poll_timeout().is_some_and(|at| at <= now) {
        room.handle_timeout(now);
    }
    while let Some(outgoing) = room.poll_packet(now, None, &mut out) {
        if outgoing.kind == PacketKind::Rtp {
            left(&out[..outgoing.len]);
        }
    }
    while room.poll_event().is_some() {}
}

/// A sender report of the teacher, a receiver report and a NACK of each listener.
fn report(
    room: &mut Room,
    now: std::time::Instant,
    (teacher, ssrc): (ParticipantKey, u32),
    listeners: &[ParticipantKey],
    nacked: impl Fn(u32) -> u16,
) {
    let mut bytes = [0; 200];
    let mut writer = Writer::new(&mut bytes);
    let info = SenderInfo { ntp: NtpTime(1 << 32), rtp_time: 0, packets: 0, octets: 0 };
    writer.sender_report(Ssrc(ssrc), &info, &[]).unwrap();
    let len = writer.len();
    room.handle_rtcp(now, teacher, &bytes[..len]);
    for (&listener, i) in listeners.iter().zip(0..) {
        let block = ReportBlock {
            ssrc: Ssrc(200 + i),
            fraction_lost: 0,
            cumulative_lost: 0,
            highest_seq: 0,
            jitter: 0,
            last_sr: 0,
            delay_since_sr: 0,
        };
        let mut writer = Writer::new(&mut bytes);
        writer.receiver_report(Ssrc(7), &[block]).unwrap();
        let base = nacked(i);
        writer.nack(Ssrc(7), Ssrc(200 + i), &[base, base.wrapping_add(3)]).unwrap();
        let len = writer.len();
        room.handle_rtcp(now, listener, &bytes[..len]);
    }
}

/// Where a down track begins to count.
fn first_number(ssrc: Ssrc) -> u16 {
    (ssrc.0.wrapping_mul(0x9e37_79b1) >> 17) as u16
}
