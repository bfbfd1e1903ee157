//! Forwarding a packet to 1 and to 30 receivers, SRTP on both sides included, sockets left out. The time is for
//! one packet in; divide by the receivers for one packet out.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sfu_core::sim::fan_out::FanOut;

/// Packets that one measurement forwards: about a second of the lesson.
const BATCH: usize = 150;

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    for receivers in [1, 30] {
        let mut fan_out = FanOut::new(receivers);
        group.throughput(Throughput::Elements((BATCH * receivers) as u64));
        group.bench_function(format!("1_to_{receivers}"), |bencher| {
            let fan_out = std::cell::RefCell::new(&mut fan_out);
            bencher.iter_batched(
                || fan_out.borrow_mut().arriving(BATCH),
                |mut packets| {
                    let mut fan_out = fan_out.borrow_mut();
                    packets.iter_mut().map(|packet| fan_out.forward(packet)).sum::<usize>()
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
