//! Forwarding allocates nothing: a worker takes in a teacher's sealed packets and hands out sealed packets to
//! thirty receivers, and the heap is left alone.

mod counting;

use counting::allocations;
use sfu_core::sim::fan_out::FanOut;

#[test]
fn counting_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1, 2, 3]))), 1);
    assert_eq!(allocations(|| {}), 0);
}

#[test]
fn a_packet_forwarded_to_thirty_receivers_allocates_nothing() {
    const RECEIVERS: usize = 30;
    let mut fan_out = FanOut::new(RECEIVERS);
    // Twenty seconds of sound and picture, so that reports, feedback and wrapping counters are all in it.
    let mut packets = fan_out.arriving(3000);
    let (mut packets_in, mut datagrams_out) = (0, 0);
    let allocated = allocations(|| {
        for packet in &mut packets {
            packets_in += 1;
            datagrams_out += fan_out.forward(packet);
        }
    });
    assert!(datagrams_out >= packets_in * RECEIVERS, "{packets_in} in, {datagrams_out} out");
    assert_eq!(fan_out.worker().stats().refused.total(), 0);
    assert_eq!(allocated, 0, "{packets_in} packets in, {datagrams_out} datagrams out");
}
