//! What a link carries, estimated from the arrivals of what was sent. The algorithm is behind a trait, so that
//! another one, or a copy with changes, can take its place; the one that we use is libwebrtc's Google congestion
//! control (draft-ietf-rmcat-gcc-02 and its successors) as the crate `goog_cc` ports it.

use std::time::Duration;

use goog_cc::network_control::{NetworkControllerConfig, NetworkControllerInterface};
use goog_cc::transport::{
    NetworkAvailability, PacedPacketInfo, PacketResult as Result, ProcessInterval, SentPacket as Sent,
    StreamsConfig, TargetRateConstraints, TransportPacketsFeedback,
};
use goog_cc::units::{DataRate, DataSize, Timestamp};
use goog_cc::{GoogCcConfig, GoogCcNetworkController};

use super::send_history::{PacketResult, SentPacket};
use crate::units::Bitrate;

/// Estimates what a link carries.
pub trait LinkEstimator {
    /// A packet left.
    fn on_sent(&mut self, packet: &SentPacket);
    /// What a feedback newly says, `now` since the history of sent packets began.
    fn on_feedback(&mut self, now: Duration, results: &[PacketResult]);
    /// Lets time pass.
    fn on_tick(&mut self, now: Duration);
    /// What the link is believed to carry.
    fn target(&self) -> Bitrate;
}

/// Bounds of an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// What a link is believed to carry at first. Too high fills its queue for a minute where that is short.
    pub start: Bitrate,
    /// It carries at least this: a thin voice.
    pub min: Bitrate,
    /// More is not asked for.
    pub max: Bitrate,
    /// What an estimate rests on.
    pub method: Method,
}

/// What an estimate of a link rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The estimator, and what the monitor knows of the link's queue, proven rate and outages.
    #[default]
    Monitored,
    /// The estimator alone: what the other is compared with.
    EstimatorAlone,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            start: Bitrate::kbps(150),
            min: Bitrate::kbps(10),
            max: Bitrate::kbps(5000),
            method: Method::default(),
        }
    }
}

/// Google congestion control. Its requests for probes are not followed: what is worth asking is known elsewhere.
pub struct GoogCc {
    controller: GoogCcNetworkController,
    target: Bitrate,
    /// Losses that were told when nothing had arrived: the controller takes them together with an arrival only.
    lost: Vec<Result>,
}

/// Probes below are the controller's own.
const OWN_CLUSTERS: i32 = 1000;

/// Losses that wait for an arrival; the oldest are forgotten.
const MAX_LOST: usize = 1024;

/// The controller's clock begins here, so that no moment of a receiver's clock, which is within seconds of ours,
/// lies before its zero.
const ORIGIN_MICROS: i64 = 3_600_000_000;

impl GoogCc {
    /// A controller that knows nothing yet.
    pub fn new(config: &LinkConfig) -> Self {
        let rate = |rate: Bitrate| DataRate::from_bits_per_sec(rate.as_bps() as i64);
        let at_time = Timestamp::from_micros(ORIGIN_MICROS);
        let constraints = TargetRateConstraints {
            at_time,
            min_data_rate: Some(rate(config.min)),
            max_data_rate: Some(rate(config.max)),
            starting_rate: Some(rate(config.start)),
        };
        let stream_based_config =
            StreamsConfig { at_time, requests_alr_probing: Some(false), ..StreamsConfig::default() };
        let config_of_controller = NetworkControllerConfig {
            constraints,
            stream_based_config,
            ..NetworkControllerConfig::default()
        };
        let controller =
            GoogCcNetworkController::new(config_of_controller, GoogCcConfig { feedback_only: true });
        let mut this = Self { controller, target: config.start, lost: Vec::new() };
        this.controller.on_network_availability(NetworkAvailability { at_time, network_available: true });
        this.on_tick(Duration::ZERO);
        this
    }

    fn update(&mut self, update: &goog_cc::transport::NetworkControlUpdate) {
        if let Some(rate) = &update.target_rate {
            self.target = Bitrate::bps(u64::try_from(rate.target_rate.bps()).unwrap_or(0));
        }
    }
}

impl LinkEstimator for GoogCc {
    #[inline]
    fn on_sent(&mut self, packet: &SentPacket) {
        let update = self.controller.on_sent_packet(sent(packet));
        self.update(&update);
    }

    fn on_feedback(&mut self, now: Duration, results: &[PacketResult]) {
        let arrived = results.iter().any(|result| result.arrival.is_some());
        if !arrived {
            let room = MAX_LOST - self.lost.len().min(MAX_LOST);
            self.lost.extend(results.iter().take(room).map(result));
            return;
        }
        let mut packet_feedbacks = std::mem::take(&mut self.lost);
        packet_feedbacks.extend(results.iter().map(result));
        let update = self.controller.on_transport_packets_feedback(TransportPacketsFeedback {
            feedback_time: timestamp(now.as_micros() as i64),
            packet_feedbacks,
            ..TransportPacketsFeedback::default()
        });
        self.update(&update);
    }

    fn on_tick(&mut self, now: Duration) {
        let at_time = timestamp(now.as_micros() as i64);
        let update = self.controller.on_process_interval(ProcessInterval { at_time, pacer_queue: None });
        self.update(&update);
    }

    fn target(&self) -> Bitrate {
        self.target
    }
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_micros(ORIGIN_MICROS + micros)
}

fn sent(packet: &SentPacket) -> Sent {
    Sent {
        send_time: timestamp(packet.at.as_micros() as i64),
        size: DataSize::from_bytes(i64::from(packet.size)),
        audio: packet.audio,
        pacing_info: packet.probe.map_or_else(PacedPacketInfo::default, |probe| {
            let id = OWN_CLUSTERS + i32::from(probe.id);
            PacedPacketInfo::new(id, i64::from(probe.packets), i64::from(probe.bytes))
        }),
        sequence_number: packet.seq as i64,
        ..Sent::default()
    }
}

fn result(result: &PacketResult) -> Result {
    let receive_time = result.arrival.map_or(Timestamp::plus_infinity(), timestamp);
    Result { sent_packet: sent(&result.sent), receive_time, ..Result::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cc::send_history::Cluster;
    use crate::testing::Random;

    const MS: Duration = Duration::from_millis(1);

    /// Sends at `target * use_of_it` over a link of that rate with a queue of 300 ms, for so many seconds.
    fn converge(config: &LinkConfig, bps: u64, seconds: u64, loss_per_mille: u64) -> Bitrate {
        let mut estimator = GoogCc::new(config);
        let mut random = Random::new(7);
        let (mut free_at, mut credit, mut seq) = (0, 0, 0);
        let mut flying: Vec<PacketResult> = Vec::new();
        for tick in 0..seconds * 200 {
            let now = MS * 5 * tick as u32;
            let micros = now.as_micros() as i64;
            credit += estimator.target().as_bps() * 5 / 1000;
            while credit >= 8000 {
                credit -= 8000;
                seq += 1;
                let packet = SentPacket { seq, at: now, size: 1000, audio: false, probe: None };
                estimator.on_sent(&packet);
                let wait = (free_at - micros).max(0);
                let lost = wait > 300_000 || random.below(1000) < loss_per_mille;
                if wait <= 300_000 {
                    free_at = micros.max(free_at) + 8_000_000_000 / bps as i64;
                }
                let arrival = (!lost).then_some(free_at + 50_000);
                flying.push(PacketResult { sent: packet, arrival });
            }
            if tick % 20 == 0 {
                let known = |it: &PacketResult| {
                    it.arrival.unwrap_or(it.sent.at.as_micros() as i64) + 50_000 <= micros
                };
                let (told, later) = flying.iter().partition(|it| known(it));
                flying = later;
                let told: Vec<PacketResult> = told;
                estimator.on_feedback(now, &told);
                estimator.on_tick(now);
            }
        }
        estimator.target()
    }

    #[test]
    fn finds_what_a_link_carries_from_below_and_from_above() {
        for (start, bps) in [(150, 500_000), (300, 100_000), (150, 64_000)] {
            let config = LinkConfig { start: Bitrate::kbps(start), ..LinkConfig::default() };
            let found = converge(&config, bps, 120, 0).as_bps() as f64 / bps as f64;
            assert!((0.7..1.15).contains(&found), "{bps}: {found}");
        }
    }

    #[test]
    fn random_loss_is_not_taken_for_a_full_link() {
        let found = converge(&LinkConfig::default(), 500_000, 120, 20).as_bps();
        assert!(found > 300_000, "{found}");
    }

    #[test]
    fn keeps_its_bounds() {
        let config = LinkConfig { max: Bitrate::kbps(400), ..LinkConfig::default() };
        assert!(converge(&config, 5_000_000, 60, 0) <= config.max);
        assert!(converge(&config, 5_000, 60, 0) >= config.min);
    }

    #[test]
    fn nothing_that_a_receiver_claims_makes_it_panic() {
        for seed in 1..=200 {
            let mut random = Random::new(seed);
            let mut estimator = GoogCc::new(&LinkConfig::default());
            let (mut now, mut seq) = (Duration::ZERO, 0);
            for _ in 0..200 {
                let scale = random.below(24);
                now += Duration::from_micros(random.below(1 << scale));
                let mut results = Vec::new();
                for _ in 0..random.below(40) {
                    seq += 1;
                    let size = random.below(1500) as u16;
                    let cluster = |id| Cluster { id, packets: 6, bytes: 900 };
                    let probe = (random.below(4) == 0).then(|| cluster(random.below(9) as u16));
                    let packet = SentPacket { seq, at: now, size, audio: random.below(2) == 0, probe };
                    estimator.on_sent(&packet);
                    // As far from our clock as the history lets through, in any order.
                    let offset = random.below(20_000_000) as i64 - 10_000_000;
                    let scaled = if random.below(2) == 0 { offset } else { offset / 1000 };
                    let arrival = (random.below(3) > 0).then_some(now.as_micros() as i64 + scaled);
                    results.push(PacketResult { sent: packet, arrival });
                }
                estimator.on_feedback(now, &results);
                if random.below(4) == 0 {
                    estimator.on_tick(now);
                }
                assert!(estimator.target() >= Bitrate::kbps(10) && estimator.target() <= Bitrate::kbps(5000));
            }
        }
    }
}
