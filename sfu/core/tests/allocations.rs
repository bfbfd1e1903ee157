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

/// Receivers of the packets.
const RECEIVERS: usize = 30;

/// Lets twenty seconds of sound and picture pass, so that reports, feedback and wrapping counters are all in it.
/// Returns how many packets came in.
fn forwards_without_allocating(fan_out: &mut FanOut) -> usize {
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
    packets_in
}

#[test]
fn a_packet_forwarded_to_thirty_receivers_allocates_nothing() {
    forwards_without_allocating(&mut FanOut::new(RECEIVERS));
}

#[test]
fn nor_does_one_that_reached_another_worker_first() {
    let mut fan_out = FanOut::behind_a_neighbour(RECEIVERS);
    let before = fan_out.worker().stats().worker.handed_over_in;
    let packets_in = forwards_without_allocating(&mut fan_out);
    assert_eq!(fan_out.worker().stats().worker.handed_over_in - before, packets_in as u64);
    let neighbour = fan_out.neighbour().unwrap().stats();
    assert_eq!(neighbour.worker.foreign_in, neighbour.worker.datagrams_in);
    assert_eq!(neighbour.refused.total(), 0);
}
