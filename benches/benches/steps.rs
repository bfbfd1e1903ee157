//! The steps of a packet's way, each alone: reading it, choosing and numbering it for a receiver, pacing, what is
//! missing and what can be sent again, congestion feedback, the choice of layers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sfu_core::cc::lesson_allocator::{EncodingInput, wished_layer};
use sfu_core::cc::pacer::{Pacer, PacerConfig, Priority};
use sfu_core::cc::twcc::{ArrivalRecorder, DEFAULT_INTERVAL, FeedbackView};
use sfu_core::forward::repacketiser::Makeup;
use sfu_core::forward::rewriter::{Offsets, Rewriter};
use sfu_core::forward::rtx::{Departure, DepartureLog, Stamps, VIDEO_DEPARTURES};
use sfu_core::forward::selector::{Selector, Target};
use sfu_core::room::{Merge, Packing};
use sfu_core::rtp::ext::Values;
use sfu_core::rtp::packet::RtpView;
use sfu_core::rtp::params::{Codec, Extension, ExtensionMap, Ssrc};
use sfu_core::rtp::rtcp::{Rtcp, packets};
use sfu_core::rtp::vp8::Vp8Descriptor;
use sfu_core::sim::clock;
use sfu_core::track::StreamKey;
use sfu_core::track::encoding::Arrival;
use sfu_core::track::nack::NackGenerator;
use sfu_core::track::packet_cache::PacketFacts;
use sfu_core::units::{MediaKind, Millis, Size, Wish};

const MS: Duration = Duration::from_millis(1);
const STREAM: StreamKey = StreamKey::new(0, 0);

fn parse(criterion: &mut Criterion) {
    let packet = benches::video_packet();
    let mut map = ExtensionMap::default();
    for (id, extension) in [(1, Extension::AudioLevel), (3, Extension::TransportCc), (4, Extension::Mid)] {
        map.insert(id, extension);
    }
    let view = RtpView::parse(&packet).expect("it is valid");
    criterion.bench_function("parse/header", |bencher| {
        bencher.iter(|| RtpView::parse(black_box(&packet)).expect("it is valid").seq());
    });
    criterion.bench_function("parse/extensions", |bencher| {
        bencher.iter(|| Values::read(black_box(view).extensions(), &map).transport_cc);
    });
    criterion.bench_function("parse/vp8", |bencher| {
        bencher.iter(|| Vp8Descriptor::parse(black_box(view).payload()).expect("it is valid").picture_id);
    });
}

/// The packet of that number: three make a frame, the first frame is a key frame.
fn facts(now: Instant, seq: u64) -> PacketFacts {
    let packet = benches::video_packet();
    let view = RtpView::parse(&packet).expect("it is valid");
    PacketFacts {
        seq,
        time: (seq / 3 * 3000) as u32,
        arrival: now,
        marker: seq % 3 == 2,
        codec: Codec::Vp8,
        vp8: Vp8Descriptor::parse(view.payload()).ok(),
        starts_decoding: seq == 0,
        audio_level: None,
        orientation: None,
    }
}

fn forward(criterion: &mut Criterion) {
    let start = clock::origin();
    let first = facts(start, 0);
    criterion.bench_function("forward/select", |bencher| {
        let mut selector = Selector::new(false);
        selector.aim(Target { encoding: 0, max_tid: 3 });
        selector.begin(STREAM, &first);
        let mut seq = 0;
        bencher.iter(|| {
            seq += 1;
            let facts = PacketFacts { seq, marker: seq % 3 == 2, time: (seq / 3 * 3000) as u32, ..first };
            let arrival = Arrival { stream: STREAM, facts, payload_len: 1156, newest: true };
            selector.judge(MediaKind::Video, black_box(&arrival), 0, false)
        });
    });
    criterion.bench_function("forward/rewrite", |bencher| {
        let mut rewriter = Rewriter::new(4711);
        rewriter.begin(STREAM, &first, None);
        let mut seq = 0;
        bencher.iter(|| {
            seq += 1;
            let facts = PacketFacts { seq, time: (seq / 3 * 3000) as u32, ..first };
            assert!(rewriter.admit(STREAM, black_box(&facts)));
            rewriter.number(STREAM, seq)
        });
    });
}

fn repair(criterion: &mut Criterion) {
    let start = clock::origin();
    let departure = |seq| Departure {
        seq,
        stream: STREAM,
        source_seq: seq + 1000,
        makeup: Makeup::SINGLE,
        offsets: Offsets::default(),
        stamps: Stamps::default(),
    };
    criterion.bench_function("repair/record_departure", |bencher| {
        let mut log = DepartureLog::new(VIDEO_DEPARTURES, false);
        let mut seq = 65_536;
        bencher.iter(|| {
            seq += 1;
            log.record(Millis(1), black_box(&departure(seq)));
        });
    });
    criterion.bench_function("repair/look_up_departure", |bencher| {
        let mut log = DepartureLog::new(VIDEO_DEPARTURES, false);
        (65_536..66_036).for_each(|seq| log.record(Millis(0), &departure(seq)));
        let mut wire = 0;
        bencher.iter(|| {
            wire = (wire + 1) % 500;
            log.resend(Millis(1), black_box(wire), None).is_ok()
        });
    });
    criterion.bench_function("repair/nack_a_gap", |bencher| {
        let mut nack = NackGenerator::default();
        let (mut seq, mut now) = (0, start);
        bencher.iter(|| {
            (seq, now) = (seq + 2, now + 20 * MS);
            nack.on_packet(now, seq, true);
            nack.collect(now, 50 * MS, |missing| black_box(missing) > 0);
            nack.on_packet(now, seq - 1, true)
        });
    });
}

fn pace(criterion: &mut Criterion) {
    let start = clock::origin();
    criterion.bench_function("pacer/push_and_pop", |bencher| {
        let mut pacer = Pacer::new(PacerConfig::default(), start);
        let mut now = start;
        for item in 0..30 {
            let _ = pacer.push(Millis(0), Priority::Video, 1200, item);
        }
        bencher.iter(|| {
            now += MS;
            let _ = pacer.push(Millis(0), Priority::Video, 1200, black_box(7));
            pacer.pop(now)
        });
    });
}

fn congestion(criterion: &mut Criterion) {
    let start = clock::origin();
    let recorded = |seqs: u16| {
        let mut recorder = ArrivalRecorder::new(DEFAULT_INTERVAL, start);
        let arrived = (0..seqs).filter(|seq| seq % 17 != 5);
        arrived.for_each(|seq| recorder.record(start + MS * u32::from(seq), seq));
        recorder
    };
    criterion.bench_function("twcc/record", |bencher| {
        let (mut recorder, mut seq) = (recorded(1), 0_u16);
        bencher.iter(|| {
            seq = seq.wrapping_add(1);
            recorder.record(start + MS, black_box(seq));
        });
    });
    let mut out = [0; 1200];
    let now = start + Duration::from_secs(1);
    criterion.bench_function("twcc/build_100", |bencher| {
        bencher.iter_batched(
            || recorded(100),
            |mut recorder| recorder.poll_feedback(now, Ssrc(1), Ssrc(2), &mut out),
            criterion::BatchSize::SmallInput,
        );
    });
    let len = recorded(100).poll_feedback(now, Ssrc(1), Ssrc(2), &mut out).expect("a hundred wait");
    criterion.bench_function("twcc/parse_100", |bencher| {
        bencher.iter(|| {
            let Some(Ok(Rtcp::TransportFeedback(feedback))) = packets(black_box(&out[..len])).next() else {
                return 0;
            };
            FeedbackView::parse(&feedback).map_or(0, |view| view.statuses().count())
        });
    });
}

/// A packet of speech to fifty receivers: as it came, three as one, and each saying the one before again.
fn sound(criterion: &mut Criterion) {
    const RECEIVERS: u64 = 50;
    let mut group = criterion.benchmark_group("sound");
    group.throughput(Throughput::Elements(RECEIVERS));
    let thin = Packing { merge: Merge::Three, redundant: false };
    let lossy = Packing { merge: Merge::None, redundant: true };
    for (name, packing) in [("as_it_came", Packing::default()), ("three_as_one", thin), ("repeated", lossy)] {
        group.bench_function(name, |bencher| {
            let mut talk = benches::talk::Talk::new(RECEIVERS, packing);
            bencher.iter(|| black_box(talk.say()));
        });
    }
}

fn allocate(criterion: &mut Criterion) {
    let size = |height: u16| Size { width: height / 9 * 16, height };
    let encodings = [180, 360, 720].map(|height| EncodingInput {
        active: true,
        size: Some(size(height)),
        fps: [8, 7, 15, 0],
        ..EncodingInput::default()
    });
    criterion.bench_function("allocator/wished_layer", |bencher| {
        let wish = Wish { size: Some(size(360)), fps: Some(15), ..Wish::default() };
        bencher.iter(|| wished_layer(black_box(&wish), black_box(&encodings)));
    });
}

criterion_group!(benches, parse, forward, repair, pace, congestion, sound, allocate);
criterion_main!(benches);
