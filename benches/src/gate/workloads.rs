//! The work that is counted. Each workload prepares outside of its `measured_` function, whose name is what switches
//! the counting on and off.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sfu_core::cc::pacer::{Pacer, PacerConfig, Priority};
use sfu_core::cc::twcc::{ArrivalRecorder, DEFAULT_INTERVAL, FeedbackView};
use sfu_core::rtp::ext::Values;
use sfu_core::rtp::packet::RtpView;
use sfu_core::rtp::params::{Extension, ExtensionMap, Ssrc};
use sfu_core::rtp::rtcp::{Rtcp, packets};
use sfu_core::rtp::vp8::Vp8Descriptor;
use sfu_core::sim::clock;
use sfu_core::sim::fan_out::{Arriving, FanOut};
use sfu_core::units::Millis;

/// A workload: its name, how many operations it is, and what prepares and does it.
pub struct Workload {
    /// Its function is `measured_` and this.
    pub name: &'static str,
    /// Its instructions are divided by this.
    pub operations: usize,
    run: fn(),
}

/// All of them.
pub const WORKLOADS: &[Workload] = &[
    Workload { name: "forward", operations: FORWARDED * RECEIVERS, run: forward },
    Workload { name: "pacer", operations: PACED, run: || measured_pacer(clock::origin()) },
    Workload {
        name: "parse",
        operations: PARSED,
        run: || measured_parse(&crate::video_packet(), &extensions()),
    },
    Workload { name: "resend", operations: MISSED * RECEIVERS, run: resend },
    Workload { name: "twcc", operations: REPORTED, run: || measured_twcc(clock::origin()) },
];

/// Does the work of that name.
pub fn run(name: &str) {
    WORKLOADS.iter().filter(|workload| workload.name == name).for_each(|workload| (workload.run)());
}

const PARSED: usize = 1000;

/// Header, extensions and VP8 descriptor of a packet.
#[inline(never)]
fn measured_parse(packet: &[u8], map: &ExtensionMap) {
    for _ in 0..PARSED {
        let view = RtpView::parse(black_box(packet)).expect("it is valid");
        black_box(Values::read(view.extensions(), map));
        black_box(Vp8Descriptor::parse(view.payload()).expect("it is valid"));
    }
}

fn extensions() -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for (id, extension) in [(1, Extension::AudioLevel), (3, Extension::TransportCc), (4, Extension::Mid)] {
        map.insert(id, extension);
    }
    map
}

const RECEIVERS: usize = 10;
const FORWARDED: usize = 600;

fn forward() {
    let mut fan_out = FanOut::new(RECEIVERS);
    let mut packets = fan_out.arriving(FORWARDED);
    measured_forward(&mut fan_out, &mut packets);
}

/// Four seconds of a lesson through a worker, from the sealed packet in to the sealed packets out; reports, feedback
/// and timers are in it. Counted per packet out.
#[inline(never)]
fn measured_forward(fan_out: &mut FanOut, packets: &mut [Arriving]) {
    for packet in packets {
        black_box(fan_out.forward(packet));
    }
}

const MISSED: usize = 20;

fn resend() {
    let mut fan_out = FanOut::new(RECEIVERS);
    let mut nacks = missed(&mut fan_out);
    measured_resend(&mut fan_out, &mut nacks);
}

/// Requests for a packet each, of those that left last to each receiver.
fn missed(fan_out: &mut FanOut) -> Vec<Arriving> {
    let mut left: Vec<(usize, Ssrc, u16)> = Vec::new();
    for packet in &mut fan_out.arriving(4 * MISSED) {
        fan_out.forward_each(packet, |to, datagram| {
            let header = RtpView::parse(datagram).ok().filter(|header| header.pt() == 96);
            left.extend(header.map(|header| (to, header.ssrc(), header.seq())));
        });
    }
    let mut nacks = Vec::new();
    for receiver in 1..=RECEIVERS {
        let mine: Vec<_> = left.iter().filter(|(to, ..)| *to == receiver).collect();
        let newest = mine.iter().rev().take(MISSED);
        nacks.extend(newest.map(|&&(to, ssrc, seq)| fan_out.nack(to, ssrc, seq)));
    }
    nacks
}

/// NACK in, retransmission out.
#[inline(never)]
fn measured_resend(fan_out: &mut FanOut, nacks: &mut [Arriving]) {
    for nack in nacks {
        black_box(fan_out.forward(nack));
    }
}

const PACED: usize = 4000;

/// Sound and pictures through a link that cannot keep up: each is pushed, looked for and popped.
#[inline(never)]
fn measured_pacer(start: Instant) {
    let mut pacer = Pacer::new(PacerConfig::default(), start);
    for item in 0..PACED as u64 {
        let now = start + Duration::from_micros(item * 100);
        let (priority, size) = if item % 4 == 0 { (Priority::Audio, 120) } else { (Priority::Video, 1200) };
        let _ = black_box(pacer.push(Millis(0), priority, size, item));
        black_box(pacer.poll_timeout());
        while let Some(entry) = pacer.pop(now) {
            black_box(entry.item);
        }
    }
}

const REPORTED: usize = 2000;

/// Arrivals recorded, reported each 100 ms, and the reports read.
#[inline(never)]
fn measured_twcc(start: Instant) {
    let mut recorder = ArrivalRecorder::new(DEFAULT_INTERVAL, start);
    let mut out = [0; 1200];
    for seq in 0..REPORTED as u16 {
        // Every seventeenth is lost.
        let now = start + Duration::from_micros(u64::from(seq) * 6_667);
        if seq % 17 != 0 {
            recorder.record(now, seq);
        }
        while let Some(len) = recorder.poll_feedback(now, Ssrc(1), Ssrc(2), &mut out) {
            let Some(Ok(Rtcp::TransportFeedback(feedback))) = packets(&out[..len]).next() else { continue };
            black_box(FeedbackView::parse(&feedback).map(|view| view.statuses().count()).ok());
        }
    }
}
