//! What the control links count.

use prometheus::{IntCounterVec, Opts, Registry, TextEncoder};
use sfu_protocol::link::LinkStats;

/// Counters of all nodes' links.
#[derive(Clone, Debug)]
pub(super) struct ControlMetrics {
    registry: Registry,
    /// Connections, by outcome: `fresh`, `resumed` or `refused`.
    pub(super) connections: IntCounterVec,
    messages: IntCounterVec,
}

impl ControlMetrics {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let opts = Opts::new(name, help).namespace("lectern").subsystem("signaling");
            let counters =
                IntCounterVec::new(opts, labels).expect("the names are constants of the valid form");
            registry.register(Box::new(counters.clone())).expect("each name is registered once");
            counters
        };
        Self {
            connections: counters("node_connections_total", "Connections of SFU nodes", &["outcome"]),
            messages: counters(
                "node_messages_total",
                "Messages on the links to SFU nodes: sent, received, sent again after a lost connection, dropped",
                &["node", "what"],
            ),
            registry,
        }
    }

    /// Counts what a link has done since `before`.
    pub(super) fn count(&self, node: &str, before: &LinkStats, now: &LinkStats) {
        for (what, before, now) in [
            ("sent", before.sent, now.sent),
            ("received", before.received, now.received),
            ("replayed", before.replayed, now.replayed),
            ("dropped", before.dropped, now.dropped),
        ] {
            self.messages.with_label_values(&[node, what]).inc_by(now - before);
        }
    }

    pub(super) fn render(&self) -> String {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather());
        text.expect("writing to memory does not fail, and our names are valid")
    }
}
