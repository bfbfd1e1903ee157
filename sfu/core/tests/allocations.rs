//! Forwarding allocates nothing: a worker takes in a teacher's sealed packets and hands out sealed packets to
//! thirty receivers, and the heap is left alone.

mod counting;

use counting::allocations;
use sfu_core::rtp::packet::RtpView;
use sfu_core::rtp::params::Ssrc;
use sfu_core::sim::fan_out::FanOut;
use sfu_core::units::{Size, Wish};

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

#[test]
fn nor_do_other_wishes_and_packets_sent_again() {
    const HEIGHTS: [u16; 3] = [180, 360, 720];
    let mut fan_out = FanOut::of_simulcast_behind_a_neighbour(RECEIVERS);
    // What each client got last of the picture.
    let mut last = [None; 1 + RECEIVERS];
    let mut before = fan_out.worker().stats();
    let mut allocated = 0;
    for round in 0..50 {
        if round == 10 {
            // What has grown until then stays as it is.
            (before, allocated) = (fan_out.worker().stats(), 0);
        }
        allocated += allocations(|| {
            for receiver in 1..=RECEIVERS {
                let height = HEIGHTS[(round + receiver) % 3];
                let size = Some(Size { width: height / 9 * 16, height });
                fan_out.wish(receiver, Wish { size, ..Wish::default() });
            }
        });
        fan_out.want_key_frames();
        let mut packets = fan_out.arriving(150);
        allocated += allocations(|| {
            for packet in &mut packets {
                fan_out.forward_each(packet, |to, datagram| {
                    let header = RtpView::parse(datagram).ok().filter(|header| header.pt() == 96);
                    last[to] = header.map(|header| (header.ssrc(), header.seq())).or(last[to]);
                });
            }
        });
        let nacks = (1..=RECEIVERS).filter_map(|to| last[to].map(|(ssrc, seq): (Ssrc, u16)| (to, ssrc, seq)));
        let mut nacks: Vec<_> = nacks.map(|(to, ssrc, seq)| fan_out.nack(to, ssrc, seq)).collect();
        allocated += allocations(|| {
            for nack in &mut nacks {
                fan_out.forward(nack);
            }
        });
    }
    let stats = fan_out.worker().stats();
    let switches = stats.rooms.encoding_switches - before.rooms.encoding_switches;
    let resent = stats.rooms.resent_out - before.rooms.resent_out;
    assert!(switches > 20 * RECEIVERS as u64 && resent > 20 * RECEIVERS as u64, "{switches} {resent}");
    assert_eq!(stats.refused.total() + fan_out.neighbour().unwrap().stats().refused.total(), 0);
    assert_eq!(allocated, 0, "{} packets out", stats.rooms.packets_out - before.rooms.packets_out);
}
