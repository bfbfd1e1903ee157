//! Reading a packet: header, extensions, VP8 descriptor.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sfu_core::rtp::ext::Values;
use sfu_core::rtp::packet::RtpView;
use sfu_core::rtp::params::{Extension, ExtensionMap};
use sfu_core::rtp::vp8::Vp8Descriptor;

fn parse(criterion: &mut Criterion) {
    let packet = benches::video_packet();
    let mut map = ExtensionMap::default();
    for (id, extension) in [(1, Extension::AudioLevel), (3, Extension::TransportCc), (4, Extension::Mid)] {
        map.insert(id, extension);
    }
    criterion.bench_function("parse/header", |bencher| {
        bencher.iter(|| RtpView::parse(black_box(&packet)).expect("it is valid").seq());
    });
    criterion.bench_function("parse/extensions", |bencher| {
        let view = RtpView::parse(&packet).expect("it is valid");
        bencher.iter(|| Values::read(black_box(view).extensions(), &map).transport_cc);
    });
    criterion.bench_function("parse/vp8", |bencher| {
        let view = RtpView::parse(&packet).expect("it is valid");
        bencher.iter(|| Vp8Descriptor::parse(black_box(view).payload()).expect("it is valid").picture_id);
    });
}

criterion_group!(benches, parse);
criterion_main!(benches);
