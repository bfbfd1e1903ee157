//! Every metric: its name, what it says, and which counter it comes from.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use sfu_core::stats::Refusal;
use sfu_protocol::link::LinkStats;

use crate::control::ControlStats;
use crate::worker_thread::Snapshot;

/// All counters at one moment.
pub(super) struct Counters {
    /// The workers' together.
    edge: Snapshot,
    workers: Vec<Snapshot>,
    control: ControlStats,
    /// None: signaling is in this process.
    link: Option<LinkStats>,
}

impl Counters {
    pub(super) fn new(workers: Vec<Snapshot>, control: ControlStats, link: Option<LinkStats>) -> Self {
        let edge = workers.iter().fold(Snapshot::default(), |sum, &worker| sum + worker);
        Self { edge, workers, control, link }
    }

    fn link(&self) -> LinkStats {
        self.link.unwrap_or_default()
    }
}

/// All metrics at that moment.
pub(super) fn all(counters: &Counters) -> Vec<MetricFamily> {
    let mut families = vec![build_info()];
    families.extend(FAMILIES.iter().map(|family| family.at(counters)));
    if counters.link.is_some() {
        families.extend(LINK_FAMILIES.iter().map(|family| family.at(counters)));
    }
    families
}

/// One metric.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Samples,
}

/// Where a metric's values come from.
enum Samples {
    One(fn(&Counters) -> u64),
    /// One for each value of a label.
    By(&'static str, fn(&Counters) -> Vec<(&'static str, u64)>),
    /// One for each worker.
    ByWorker(fn(&Snapshot) -> u64),
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Counters) -> u64) -> Family {
    Family { name, help, kind: MetricType::GAUGE, samples: Samples::One(value) }
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Counters) -> u64) -> Family {
    Family { name, help, kind: MetricType::COUNTER, samples: Samples::One(value) }
}

const fn counters(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: fn(&Counters) -> Vec<(&'static str, u64)>,
) -> Family {
    Family { name, help, kind: MetricType::COUNTER, samples: Samples::By(label, values) }
}

const fn by_worker(
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    value: fn(&Snapshot) -> u64,
) -> Family {
    Family { name, help, kind, samples: Samples::ByWorker(value) }
}

/// The link to signaling in another process.
const LINK_FAMILIES: &[Family] = &[
    gauge("lectern_sfu_control_link_up", "Whether signaling is in reach.", |at| at.link().connected.into()),
    counters("lectern_sfu_control_connections_total", "Connections to signaling.", "outcome", |at| {
        vec![("fresh", at.link().fresh), ("resumed", at.link().resumed)]
    }),
    counters(
        "lectern_sfu_control_messages_total",
        "Messages on the control link: sent, received, sent again after a lost connection, dropped.",
        "what",
        |at| {
            let LinkStats { sent, received, replayed, dropped, .. } = at.link();
            vec![("sent", sent), ("received", received), ("replayed", replayed), ("dropped", dropped)]
        },
    ),
];

const FAMILIES: &[Family] = &[
    // What there is.
    gauge("lectern_sfu_rooms", "Rooms now.", |at| at.control.rooms),
    gauge("lectern_sfu_transports", "Participants' transports now.", |at| at.control.transports),
    gauge("lectern_sfu_tracks", "Tracks announced or wanted now.", |at| at.control.tracks),
    counter("lectern_sfu_handshakes_total", "DTLS handshakes completed.", |at| {
        at.edge.core.worker.handshakes
    }),
    counter("lectern_sfu_transports_refused_total", "Transports refused: full or draining.", |at| {
        at.control.transports_refused
    }),
    counters("lectern_sfu_offers_total", "Session descriptions from clients.", "outcome", |at| {
        vec![("answered", at.control.offers_answered), ("rejected", at.control.offers_rejected)]
    }),
    counters(
        "lectern_sfu_commands_ignored_total",
        "Commands that named something unknown or were out of bounds.",
        "by",
        |at| vec![("control", at.control.commands_ignored), ("worker", at.edge.core.worker.commands_ignored)],
    ),
    // Datagrams in.
    counter("lectern_sfu_received_datagrams_total", "Datagrams received.", |at| {
        at.edge.core.worker.datagrams_in
    }),
    counter("lectern_sfu_received_bytes_total", "UDP payload received.", |at| at.edge.core.worker.bytes_in),
    counter("lectern_sfu_receive_calls_total", "System calls that received datagrams.", |at| {
        at.edge.udp.receive_calls
    }),
    counter("lectern_sfu_receive_errors_total", "System calls to receive that failed.", |at| {
        at.edge.udp.receive_errors
    }),
    counters("lectern_sfu_refused_datagrams_total", "Datagrams that were of no use.", "reason", |at| {
        let refused = |why: Refusal| (why.label(), at.edge.core.refused.of(why) + oversized_at_edge(at, why));
        Refusal::ALL.map(refused).to_vec()
    }),
    // Datagrams out.
    counter("lectern_sfu_sent_datagrams_total", "Datagrams sent.", |at| at.edge.udp.datagrams_out),
    counter("lectern_sfu_sent_bytes_total", "UDP payload sent.", |at| at.edge.udp.bytes_out),
    counter("lectern_sfu_send_calls_total", "System calls that sent a run of datagrams.", |at| {
        at.edge.udp.send_calls
    }),
    counter(
        "lectern_sfu_send_blocked_total",
        "Times that the kernel had no room for what was to leave.",
        |at| at.edge.udp.send_blocked,
    ),
    counter("lectern_sfu_send_waited_runs_total", "Runs that waited for room in the kernel.", |at| {
        at.edge.egress.runs_waited
    }),
    counters(
        "lectern_sfu_send_queue_dropped_total",
        "Datagrams dropped because too much waited for room in the kernel.",
        "kind",
        |at| vec![("sound", at.edge.egress.dropped_sound), ("picture", at.edge.egress.dropped_pictures)],
    ),
    counter("lectern_sfu_send_dropped_total", "Datagrams that the kernel refused to send.", |at| {
        at.edge.udp.send_dropped
    }),
    counter("lectern_sfu_runs_split_total", "Runs that had to be sent datagram by datagram.", |at| {
        at.edge.udp.runs_split
    }),
    counters("lectern_sfu_gso_changes_total", "Times that GSO went off or was tried again.", "to", |at| {
        vec![("off", at.edge.udp.gso_disabled), ("on", at.edge.udp.gso_rearmed)]
    }),
    // Media.
    counter("lectern_sfu_media_received_packets_total", "RTP packets received.", |at| {
        at.edge.core.rooms.packets_in
    }),
    counter("lectern_sfu_media_received_bytes_total", "RTP packets received, decrypted.", |at| {
        at.edge.core.rooms.bytes_in
    }),
    counters("lectern_sfu_media_received_of_note_total", "Of these, the remarkable ones.", "which", |at| {
        let rooms = &at.edge.core.rooms;
        vec![
            ("repaired", rooms.repaired_in),
            ("duplicate", rooms.duplicates_in),
            ("padding", rooms.padding_in),
            ("refused", rooms.refused_in),
        ]
    }),
    counter("lectern_sfu_media_sent_packets_total", "RTP packets sent.", |at| at.edge.core.rooms.packets_out),
    counter("lectern_sfu_media_sent_bytes_total", "RTP packets sent, before encryption.", |at| {
        at.edge.core.rooms.bytes_out
    }),
    counter("lectern_sfu_media_resent_packets_total", "RTP packets sent again on request.", |at| {
        at.edge.core.rooms.resent_out
    }),
    counter("lectern_sfu_media_merged_packets_total", "RTP packets sent that hold several of sound.", |at| {
        at.edge.core.rooms.merged_out
    }),
    counter("lectern_sfu_media_redundant_packets_total", "RTP packets sent that repeat sound.", |at| {
        at.edge.core.rooms.redundant_out
    }),
    counters("lectern_sfu_media_dropped_packets_total", "Packets dropped from a queue.", "reason", |at| {
        let rooms = &at.edge.core.rooms;
        vec![
            ("queue_full", rooms.dropped_queue_full),
            ("stale", rooms.dropped_stale),
            ("unsubscribed", rooms.dropped_unsubscribed),
            ("unsendable", rooms.dropped_unsendable + at.edge.core.worker.unsendable),
        ]
    }),
    counters("lectern_sfu_media_not_meant_packets_total", "Packets not meant to be sent.", "reason", |at| {
        let rooms = &at.edge.core.rooms;
        vec![
            ("paused", rooms.not_meant_paused),
            ("awaiting_key_frame", rooms.not_meant_awaiting_key_frame),
            ("other_encoding", rooms.not_meant_other_encoding),
            ("temporal_layer", rooms.not_meant_temporal_layer),
            ("useless", rooms.useless),
        ]
    }),
    counter(
        "lectern_sfu_media_encoding_switches_total",
        "Changes of a receiver from one encoding of a track to another.",
        |at| at.edge.core.rooms.encoding_switches,
    ),
    counter("lectern_sfu_media_holes_total", "Dropped packets that receivers ask for in vain.", |at| {
        at.edge.core.rooms.holes_left
    }),
    // Feedback.
    counters("lectern_sfu_nacked_packets_total", "Packets asked for again.", "of", |at| {
        vec![
            ("publishers", at.edge.core.rooms.nacked_to_publishers),
            ("us", at.edge.core.rooms.nacked_by_receivers),
        ]
    }),
    counters("lectern_sfu_key_frame_requests_total", "Key frames asked for.", "of", |at| {
        let rooms = &at.edge.core.rooms;
        vec![
            ("publishers", rooms.key_frames_asked_of_publishers),
            ("us", rooms.key_frames_asked_by_receivers),
        ]
    }),
    counters("lectern_sfu_not_resent_packets_total", "Packets asked for in vain.", "reason", |at| {
        vec![
            ("too_soon", at.edge.core.rooms.not_resent_too_soon),
            ("gone", at.edge.core.rooms.not_resent_gone),
        ]
    }),
    counter("lectern_sfu_rtcp_sent_total", "Datagrams of reports and feedback sent.", |at| {
        at.edge.core.rooms.rtcp_out
    }),
    counters("lectern_sfu_rtcp_unused_total", "RTCP packets that were of no use.", "reason", |at| {
        let rooms = &at.edge.core.rooms;
        vec![
            ("malformed", rooms.rtcp_malformed),
            ("unknown", rooms.rtcp_unknown),
            ("foreign", rooms.rtcp_foreign),
        ]
    }),
    // Messages.
    counter("lectern_sfu_received_messages_total", "Data messages from clients.", |at| {
        at.edge.core.worker.data_in
    }),
    counter("lectern_sfu_dropped_messages_total", "Data messages that missed a recipient.", |at| {
        at.edge.core.worker.data_dropped
    }),
    // The workers' threads.
    by_worker("lectern_sfu_worker_transports", "A worker's transports now.", MetricType::GAUGE, |worker| {
        worker.core.open_transports
    }),
    by_worker("lectern_sfu_worker_turns_total", "Turns of a worker's loop.", MetricType::COUNTER, |worker| {
        worker.turns
    }),
    by_worker(
        "lectern_sfu_worker_events_blocked_total",
        "Turns of a worker's loop that left events waiting because nobody took them.",
        MetricType::COUNTER,
        |worker| worker.events_blocked,
    ),
    by_worker(
        "lectern_sfu_worker_passed_on_datagrams_total",
        "Datagrams that reached this worker and were passed on to their owner.",
        MetricType::COUNTER,
        |worker| worker.handover.passed_on,
    ),
    by_worker(
        "lectern_sfu_worker_taken_over_datagrams_total",
        "Datagrams that other workers passed on to this one.",
        MetricType::COUNTER,
        |worker| worker.core.worker.handed_over_in,
    ),
    counters(
        "lectern_sfu_handover_dropped_total",
        "What did not get from worker to worker: an inbox was full.",
        "what",
        |at| {
            let handover = &at.edge.handover;
            vec![
                ("datagram", handover.dropped_full),
                ("request", handover.dropped_claims),
                ("notice", handover.dropped_notices),
            ]
        },
    ),
    counter(
        "lectern_sfu_handover_addresses_evicted_total",
        "Addresses of other workers' clients forgotten for want of room.",
        |at| at.edge.core.worker.foreign_evicted,
    ),
    counter("lectern_sfu_handover_wakes_total", "Times that a worker woke another.", |at| {
        at.edge.handover.wakes
    }),
];

/// The socket drops datagrams that are too long before the worker sees them.
fn oversized_at_edge(at: &Counters, why: Refusal) -> u64 {
    if why == Refusal::Oversized { at.edge.udp.oversized } else { 0 }
}

impl Family {
    fn at(&self, counters: &Counters) -> MetricFamily {
        let metrics = match self.samples {
            Samples::One(value) => vec![self.metric(Vec::new(), value(counters))],
            Samples::By(label, values) => {
                let labelled = |(name, value)| self.metric(vec![pair(label, name)], value);
                values(counters).into_iter().map(labelled).collect()
            }
            Samples::ByWorker(value) => {
                let labelled = |(index, worker): (usize, &Snapshot)| {
                    self.metric(vec![pair("worker", &index.to_string())], value(worker))
                };
                counters.workers.iter().enumerate().map(labelled).collect()
            }
        };
        family(self.name, self.help, self.kind, metrics)
    }

    fn metric(&self, labels: Vec<LabelPair>, value: u64) -> Metric {
        let mut metric = Metric::from_label(labels);
        // Exact up to 2^53: a century of bytes at 20 Mbit/s.
        let value = value as f64;
        if self.kind == MetricType::GAUGE {
            metric.set_gauge(gauge_of(value));
        } else {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        metric
    }
}

fn build_info() -> MetricFamily {
    let mut metric = Metric::from_label(vec![pair("version", env!("CARGO_PKG_VERSION"))]);
    metric.set_gauge(gauge_of(1.0));
    let help = "The SFU's version; the value is always 1.";
    family("lectern_sfu_build_info", help, MetricType::GAUGE, vec![metric])
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn gauge_of(value: f64) -> Gauge {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    gauge
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_fitting_name_and_a_help_text() {
        for family in FAMILIES {
            assert!(family.name.starts_with("lectern_sfu_") && family.help.ends_with('.'), "{}", family.name);
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == MetricType::COUNTER,
                "{}",
                family.name
            );
        }
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }

    #[test]
    fn oversized_datagrams_are_counted_wherever_they_were_dropped() {
        let mut workers = vec![Snapshot::default(); 2];
        workers[0].udp.oversized = 2;
        workers[1].core.refused.count(Refusal::Oversized);
        let counters = Counters::new(workers, ControlStats::default(), None);
        let families = all(&counters);
        let refused = families.iter().find(|family| family.name() == "lectern_sfu_refused_datagrams_total");
        let of = |metric: &&Metric| metric.get_label()[0].value() == "oversized";
        let oversized = refused.unwrap().get_metric().iter().find(of).unwrap();
        assert_eq!(oversized.get_counter().get_value() as u64, 3);
    }
}
