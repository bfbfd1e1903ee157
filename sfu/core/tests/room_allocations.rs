//! A room allocates nothing per packet with losses, repairs and reports going on: one speaker, thirty listeners.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod counting;
mod room_support;

use counting::allocations;
use room_support::*;
use sfu_core::room::{PacketKind, ParticipantKey, Room};
use sfu_core::rtp::params::Ssrc;
use sfu_core::rtp::rtcp::{NtpTime, ReportBlock, SenderInfo, Writer};

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
            report(room, *now, teacher, &listeners, 3 * i as u16);
        }
        for _ in 0..20 {
            sent += drain(room, *now);
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

/// Lets everything leave; returns how many packets of media did.
fn drain(room: &mut Room, now: std::time::Instant) -> u64 {
    let (mut out, mut sent) = ([0; 1500], 0);
    if room.poll_timeout().is_some_and(|at| at <= now) {
        room.handle_timeout(now);
    }
    while let Some(outgoing) = room.poll_packet(now, None, &mut out) {
        sent += u64::from(outgoing.kind == PacketKind::Rtp);
    }
    while room.poll_event().is_some() {}
    sent
}

/// A sender report of the teacher, a receiver report and a NACK of each listener.
fn report(
    room: &mut Room,
    now: std::time::Instant,
    teacher: ParticipantKey,
    listeners: &[ParticipantKey],
    sent: u16,
) {
    let mut bytes = [0; 200];
    let mut writer = Writer::new(&mut bytes);
    let info = SenderInfo { ntp: NtpTime(1 << 32), rtp_time: 0, packets: 0, octets: 0 };
    writer.sender_report(Ssrc(2000), &info, &[]).unwrap();
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
        let base = first_number(Ssrc(200 + i)).wrapping_add(sent).wrapping_sub(8);
        writer.nack(Ssrc(7), Ssrc(200 + i), &[base, base.wrapping_add(3)]).unwrap();
        let len = writer.len();
        room.handle_rtcp(now, listener, &bytes[..len]);
    }
}

/// Where a down track begins to count.
fn first_number(ssrc: Ssrc) -> u16 {
    (ssrc.0.wrapping_mul(0x9e37_79b1) >> 17) as u16
}
