//! What a link has shown to carry, exactly: the rate at which packets arrive that had to wait for each other is the
//! rate of the link, however little is sent on average. A page of slides or a key frame tells it in passing, and
//! so does a probe; no change of delay has to be interpreted for it.

use super::send_history::{Cluster, PacketResult};
use super::sliding::Sliding;
use crate::units::Bitrate;

/// A packet that was this much longer on its way than the fastest one waited behind another. Microseconds.
const WAITED: i64 = 10_000;

/// Longer than this between two arrivals is a stall, not the rate of anything.
const MAX_GAP: i64 = 500_000;

/// So much waiting time, in so many packets of 400 ms, makes a rate.
const MIN_BUSY: i64 = 150_000;
const MIN_PACKETS: u32 = 4;

/// What fills a queue is sent at least so much faster than it arrives.
const FILLING: f64 = 1.1;

/// What was shown is believed for so long. A link that has become worse shows it as soon as it matters.
const BELIEVED: i64 = 20_000_000;

/// A ceiling is certain for so long, and grows by this each second from then on.
const UNDOUBTED: i64 = 10_000_000;
const GROWTH: f64 = 1.03;

/// See the module. All times are microseconds on the receiver's clock, but for those of sending.
#[derive(Debug)]
pub(super) struct Capacity {
    last_arrival: Option<i64>,
    last_sent: i64,
    /// What arrived while the link was busy, of 400 ms.
    busy: Sliding<Busy, 4>,
    train: Option<Train>,
    /// It carries at least this, and no more than this, and when that showed.
    floor: Option<(f64, i64)>,
    ceiling: Option<(f64, i64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Busy {
    bytes: u64,
    micros: i64,
    /// In which they were sent.
    sent_micros: i64,
    packets: u32,
}

/// What has arrived of a probe.
#[derive(Clone, Copy, Debug)]
struct Train {
    cluster: Cluster,
    packets: u16,
    bytes: u32,
    first_bytes: u32,
    last_bytes: u32,
    sent: (i64, i64),
    arrived: (i64, i64),
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            last_arrival: None,
            last_sent: 0,
            busy: Sliding::new(100),
            train: None,
            floor: None,
            ceiling: None,
        }
    }
}

impl Capacity {
    /// A packet arrived, after it waited so long.
    pub(super) fn on_arrival(&mut self, result: &PacketResult, arrival: i64, waited: i64) {
        let sent = result.sent.at.as_micros() as i64;
        if sent < self.last_sent {
            // It was overtaken: what held it was not the link's rate.
            return;
        }
        let sent_micros = (sent - std::mem::replace(&mut self.last_sent, sent)).min(MAX_GAP);
        let last = self.last_arrival.replace(self.last_arrival.map_or(arrival, |last| last.max(arrival)));
        let Some(gap) = last.map(|last| arrival - last).filter(|gap| (0..MAX_GAP).contains(gap)) else {
            return;
        };
        if waited > WAITED {
            let busy = Busy { bytes: u64::from(result.sent.size), micros: gap, sent_micros, packets: 1 };
            self.busy.add(arrival, busy, Busy::and);
        }
        if let Some(cluster) = result.sent.probe {
            self.probe(cluster, result, arrival);
        }
    }

    /// All of a feedback was told. `standing` says that no packet of late did not wait: then what arrives now is
    /// all that the link carries, whatever it was before. `forming` says so of the last few only: then it is, if more
    /// was sent than arrived. Else it may be a link whose delay varies.
    pub(super) fn settle(&mut self, standing: bool, forming: bool) {
        let Some(now) = self.last_arrival.filter(|_| standing || forming) else { return };
        self.busy.advance(now);
        let busy = self.busy.values().fold(Busy::default(), Busy::and);
        let fills = standing || busy.micros as f64 >= busy.sent_micros as f64 * FILLING;
        if fills && busy.micros >= MIN_BUSY && busy.packets >= MIN_PACKETS {
            let rate = busy.bytes as f64 * 8e6 / busy.micros as f64;
            (self.floor, self.ceiling) = (Some((rate, now)), Some((rate, now)));
        }
    }

    /// What the link carries at least, where it has shown that lately.
    pub(super) fn floor(&self) -> Option<Bitrate> {
        self.fresh(self.floor)
    }

    /// What the link carries at most, where it has shown that lately.
    pub(super) fn ceiling(&self) -> Option<Bitrate> {
        let ((rate, at), now) = (self.ceiling?, self.last_arrival?);
        // It is doubted little by little: a link that has become better shows it by the queue that does not form.
        let doubt = (now - at - UNDOUBTED).max(0) as f64 / 1e6;
        Some(Bitrate::bps((rate * GROWTH.powf(doubt)) as u64))
    }

    /// So much arrived in a second, and hardly waited.
    pub(super) fn prove(&mut self, rate: Bitrate) {
        let Some(now) = self.last_arrival else { return };
        if self.floor().is_none_or(|floor| rate >= floor) {
            self.floor = Some((rate.as_bps() as f64, now));
        }
    }

    fn fresh(&self, shown: Option<(f64, i64)>) -> Option<Bitrate> {
        let ((rate, at), now) = (shown?, self.last_arrival?);
        (now - at < BELIEVED).then(|| Bitrate::bps(rate as u64))
    }

    /// Nothing arrived for long: what was in the queue is gone, and so may be what it told.
    pub(super) fn forget_queue(&mut self) {
        (self.ceiling, self.train) = (None, None);
        self.busy.clear();
    }

    fn probe(&mut self, cluster: Cluster, result: &PacketResult, arrival: i64) {
        let (size, sent) = (u32::from(result.sent.size), result.sent.at.as_micros() as i64);
        let train = self.train.get_or_insert(Train::new(cluster));
        if train.cluster.id != cluster.id {
            *train = Train::new(cluster);
        }
        if train.packets == 0 {
            (train.sent.0, train.arrived.0, train.first_bytes) = (sent, arrival, size);
        }
        (train.sent.1, train.arrived.1, train.last_bytes) = (sent, arrival, size);
        train.packets = train.packets.saturating_add(1);
        train.bytes = train.bytes.saturating_add(size);
        let Some(rate) = train.rate() else { return };
        if self.floor().is_none_or(|floor| rate >= floor.as_bps() as f64) {
            self.floor = Some((rate, arrival));
        }
        self.ceiling = self.ceiling.filter(|(ceiling, _)| *ceiling >= rate);
    }
}

impl Busy {
    fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            micros: self.micros + other.micros,
            sent_micros: self.sent_micros + other.sent_micros,
            packets: self.packets + other.packets,
        }
    }
}

impl Train {
    fn new(cluster: Cluster) -> Self {
        Self { cluster, packets: 0, bytes: 0, first_bytes: 0, last_bytes: 0, sent: (0, 0), arrived: (0, 0) }
    }

    /// Its rate in bit/s, by departure or arrival, whichever is less, once all of it has arrived.
    fn rate(&self) -> Option<f64> {
        let whole = self.packets >= self.cluster.packets && self.bytes >= self.cluster.bytes;
        let (sent, arrived) = (self.sent.1 - self.sent.0, self.arrived.1 - self.arrived.0);
        if !whole || sent <= 0 || arrived <= 0 {
            return None;
        }
        // Each span begins behind a packet on one side, and in front of one on the other.
        let sent = f64::from(self.bytes - self.last_bytes) * 8e6 / sent as f64;
        let arrived = f64::from(self.bytes - self.first_bytes) * 8e6 / arrived as f64;
        Some(sent.min(arrived))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cc::send_history::SentPacket;

    const MS: i64 = 1000;

    /// A link that carries a packet of 500 bytes in `micros`.
    struct Link {
        capacity: Capacity,
        seq: u64,
        free: i64,
    }

    impl Link {
        fn new() -> Self {
            Self { capacity: Capacity::default(), seq: 0, free: 0 }
        }

        /// Packets that are sent so far apart from `at` on, and whether all of them found a queue.
        fn send(&mut self, at: i64, packets: u16, apart: i64, micros: i64, probe: Option<Cluster>) {
            let mut waited_least = i64::MAX;
            for packet in 0..i64::from(packets) {
                let sent = at + packet * apart;
                self.free = self.free.max(sent) + micros;
                let waited = self.free - micros - sent;
                waited_least = waited_least.min(waited);
                let packet = SentPacket {
                    seq: self.seq,
                    at: Duration::from_micros(sent as u64),
                    size: 500,
                    audio: false,
                    probe,
                };
                self.seq += 1;
                let result = PacketResult { sent: packet, arrival: Some(self.free) };
                self.capacity.on_arrival(&result, self.free, waited);
            }
            self.capacity.settle(waited_least > 30 * MS, false);
        }

        fn shown(&self) -> (u64, u64) {
            let kbps = |rate: Option<Bitrate>| rate.map_or(0, |rate| rate.as_bps() / 1000);
            (kbps(self.capacity.floor()), kbps(self.capacity.ceiling()))
        }
    }

    #[test]
    fn packets_that_wait_for_each_other_show_the_rate_exactly() {
        let mut link = Link::new();
        link.send(0, 10, 10 * MS, 20 * MS, None);
        assert_eq!(link.shown(), (0, 0), "the first did not wait: it may have been one burst");
        link.send(100 * MS, 20, 10 * MS, 20 * MS, None);
        assert_eq!(link.shown(), (200, 200));
    }

    #[test]
    fn a_worse_link_shows_it_and_a_ceiling_is_doubted_in_time() {
        let mut link = Link::new();
        link.send(0, 10, 10 * MS, 20 * MS, None);
        link.send(100 * MS, 20, 10 * MS, 20 * MS, None);
        link.send(300 * MS, 40, 10 * MS, 80 * MS, None);
        assert_eq!(link.shown(), (50, 50));
        let later = link.free + 20_000 * MS;
        link.send(later, 1, 0, MS, None);
        let (floor, ceiling) = link.shown();
        assert!(floor == 0 && (60..80).contains(&ceiling), "{floor} {ceiling}");
    }

    #[test]
    fn a_probe_shows_what_it_came_through_at() {
        for (link_micros, floor) in [(MS, 400), (10 * MS, 400), (20 * MS, 200)] {
            let mut link = Link::new();
            link.send(0, 1, 0, MS, None);
            link.send(MS, 8, 10 * MS, link_micros, Some(Cluster { id: 1, packets: 8, bytes: 4000 }));
            assert_eq!(link.shown(), (floor, 0), "{link_micros}");
        }
    }

    #[test]
    fn a_part_of_a_probe_and_a_stall_show_nothing() {
        let mut link = Link::new();
        let cluster = Cluster { id: 1, packets: 8, bytes: 4000 };
        link.send(0, 7, 10 * MS, MS, Some(cluster));
        link.send(100 * MS, 7, 10 * MS, MS, Some(Cluster { id: 2, ..cluster }));
        assert_eq!(link.shown(), (0, 0));
        link.send(200 * MS, 30, MS, 600 * MS, None);
        assert_eq!(link.shown(), (0, 0));
    }

    #[test]
    fn what_is_proven_is_a_floor_and_lifts_no_lower_one() {
        let mut link = Link::new();
        link.send(0, 2, 10 * MS, MS, None);
        link.capacity.prove(Bitrate::kbps(300));
        link.capacity.prove(Bitrate::kbps(100));
        assert_eq!(link.shown(), (300, 0));
    }
}
