//! What the service counts, in Prometheus' text form.

use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::rooms::Rooms;

/// Counters and gauges, all named `lectern_signaling_*`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Clients that wanted to join, by outcome: `joined`, `resumed`, or why not.
    pub joins: IntCounterVec,
    /// Requests refused before a client was let in, by reason.
    pub refused: IntCounterVec,
    /// Signal messages, by direction: `in`, `out` and `unreadable`.
    pub messages: IntCounterVec,
    /// Data messages between participants, by outcome: `relayed`, or why not.
    pub data: IntCounterVec,
    /// Open TCP connections.
    pub connections: IntGauge,
    /// TCP connections closed before their first byte, by reason.
    pub connections_refused: IntCounterVec,
    /// Clients dropped because they did not read their messages.
    pub slow_clients: IntCounter,
    /// Events of SFU nodes that were ignored, as they were about rooms on other nodes.
    pub foreign_events: IntCounter,
    /// SFU nodes in reach.
    pub nodes: IntGauge,
    node_up: IntGaugeVec,
    node_participants: IntGaugeVec,
    rooms: IntGauge,
    participants: IntGauge,
    tracks: IntGauge,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        Self {
            joins: counters(&registry, "joins_total", "Clients that wanted to join", "outcome"),
            refused: counters(&registry, "refused_total", "Requests refused at the door", "reason"),
            messages: counters(&registry, "messages_total", "Signal messages", "direction"),
            data: counters(&registry, "data_messages_total", "Data messages of participants", "outcome"),
            connections: gauge(&registry, "connections", "Open TCP connections"),
            connections_refused: counters(
                &registry,
                "connections_refused_total",
                "TCP connections closed before their first byte",
                "reason",
            ),
            slow_clients: registered(
                &registry,
                IntCounter::with_opts(opts("slow_clients_total", "Clients dropped for not reading")),
            ),
            foreign_events: registered(
                &registry,
                IntCounter::with_opts(opts(
                    "foreign_events_total",
                    "Events about rooms on other nodes, ignored",
                )),
            ),
            nodes: gauge(&registry, "nodes", "SFU nodes in reach"),
            node_up: gauges(&registry, "node_up", "Whether an SFU node is in reach"),
            node_participants: gauges(&registry, "node_participants", "Participants on an SFU node"),
            rooms: gauge(&registry, "rooms", "Open rooms"),
            participants: gauge(&registry, "sessions", "Sessions of participants"),
            tracks: gauge(&registry, "tracks", "Published tracks"),
            registry,
        }
    }

    /// Notes how many nodes, rooms, sessions and tracks there are now.
    pub fn observe(&self, all: &Rooms) {
        let census = all.census();
        let set = |gauge: &IntGauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let mut nodes = 0;
        for (name, up, load) in all.node_loads() {
            nodes += usize::from(up);
            set(&self.node_up.with_label_values(&[name]), up.into());
            set(&self.node_participants.with_label_values(&[name]), load.participants);
        }
        set(&self.nodes, nodes);
        set(&self.rooms, census.rooms);
        set(&self.participants, census.participants);
        set(&self.tracks, census.tracks);
    }

    /// The text form of all metrics.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and our names are valid");
        String::from_utf8(text).expect("Prometheus' text form is UTF-8")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("lectern").subsystem("signaling")
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> IntCounterVec {
    registered(registry, IntCounterVec::new(opts(name, help), &[label]))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::with_opts(opts(name, help)))
}

fn gauges(registry: &Registry, name: &str, help: &str) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(opts(name, help), &["node"]))
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> C {
    let collector = collector.expect("the names are constants of the valid form");
    registry.register(Box::new(collector.clone())).expect("each name is registered once");
    collector
}
