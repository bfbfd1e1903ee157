//! Runs a scenario without a lesson: flows on one link, and no server. What counts is what the elastic ones from the
//! server to the school get, and how much their packets wait.

use std::collections::BTreeSet;
use std::time::Duration;

use sfu_core::cc::link_estimator::LinkConfig;
use sfu_core::sim::clock::origin;

use super::spec::{Kind, Spec};
use super::{Flows, Packet, Running, Setting};
use crate::links::account::{Outcome, PlottedSecond};
use crate::links::path::Path;
use crate::links::row::{FlowFigures, Row};
use crate::links::scenario::{Paths, Scenario};
use crate::links::statistics::{jain, percentile, queue, waits_by_second};

/// Runs it. `link` is what elastic flows do about their link; `None`: nothing.
pub fn run(
    scenario: &Scenario,
    paths: &Paths,
    specs: &[Spec],
    link: Option<LinkConfig>,
    seed: u64,
) -> Outcome {
    let start = origin();
    let (owd, feedback) = (paths.down.delay, scenario.feedback);
    let mut flows = Flows::new(specs, &Setting { start, owd, feedback, link, seed });
    let mut down: Path<Packet> = Path::new(paths.down.clone(), start, seed);
    let mut up: Path<Packet> = Path::new(paths.up.clone(), start, !seed);
    let end = start + scenario.duration;
    let mut now = start;
    while now < end {
        while let Some(packet) = down.receive(now).or_else(|| up.receive(now)) {
            flows.arrive(now, packet);
        }
        flows.step(now, &mut down, &mut up);
        let next = [down.poll_timeout(), up.poll_timeout(), flows.poll_timeout()].into_iter().flatten().min();
        let Some(next) = next else { break };
        now = next.max(now);
    }
    Settled { scenario, paths, specs, flows: flows.running() }.outcome(seed)
}

/// What each flow got.
pub fn figures(specs: &[Spec], flows: &[Running], end: Duration) -> Vec<FlowFigures> {
    let figures = flows.iter().map(|running| {
        let spec = &specs[running.spec];
        let time = spec.times.until.unwrap_or(end).min(end).saturating_sub(spec.times.from);
        let arrived: u64 = running.tally.seconds.iter().map(|second| second.1).sum();
        let mut waits: Vec<f64> =
            running.tally.waits.iter().map(|(_, wait)| wait.as_secs_f64() * 1000.0).collect();
        FlowFigures {
            flow: spec.text.clone(),
            kbps: arrived as f64 / 125.0 / time.as_secs_f64().max(1.0),
            loss: running.tally.lost as f64 / running.tally.packets.max(1) as f64,
            q95: percentile(&mut waits, 0.95).unwrap_or(0.0),
        }
    });
    figures.collect()
}

/// Flows whose time is over.
struct Settled<'a> {
    scenario: &'a Scenario,
    paths: &'a Paths,
    specs: &'a [Spec],
    flows: &'a [Running],
}

impl Settled<'_> {
    fn outcome(&self, seed: u64) -> Outcome {
        let end = self.scenario.duration;
        let capacity = self.paths.down.capacity.mean_bps(end) as f64;
        let judged = || self.flows.iter().filter(|running| self.is_judged(running));
        let goodput = judged().flat_map(|it| &it.tally.seconds).map(|second| second.1).sum::<u64>() as f64
            * 8.0
            / end.as_secs_f64();
        let (q50, q95, bad_s) = queue(judged().flat_map(|running| &running.tally.waits));
        let lost: u64 = judged().map(|running| running.tally.lost).sum();
        let packets: u64 = judged().map(|running| running.tally.packets).sum();
        let row = Row {
            util: goodput / capacity.max(1.0),
            q95,
            q50,
            bad_s,
            goodput_kbps: goodput / 1000.0,
            dropped: lost as f64 / packets.max(1) as f64,
            jain: self.jain(),
            flows: figures(self.specs, self.flows, end),
            ..Row::without_lesson(self.scenario, seed)
        };
        Outcome {
            row,
            parts: self.specs.iter().map(|spec| spec.text.clone()).collect(),
            seconds: self.seconds(),
        }
    }

    /// Whether it is media from the server to the school.
    fn is_judged(&self, running: &Running) -> bool {
        let spec = &self.specs[running.spec];
        spec.kind == Kind::Elastic && !spec.up
    }

    /// Fairness between elastic flows, in the seconds in which all of them send.
    fn jain(&self) -> f64 {
        let judged: Vec<&Running> = self.flows.iter().filter(|running| self.is_judged(running)).collect();
        let all_send = |second: &u64| {
            let (begin, end) = (Duration::from_secs(*second), Duration::from_secs(second + 1));
            let times = judged.iter().map(|running| self.specs[running.spec].times);
            times.into_iter().all(|times| times.sends_at(begin) && times.sends_at(end))
        };
        let shared: BTreeSet<u64> = (0..self.scenario.duration.as_secs()).filter(all_send).collect();
        let of = |running: &&Running| {
            let seconds = running.tally.seconds.iter().zip(0..).filter(|(_, at)| shared.contains(at));
            seconds.map(|(second, _)| second.1 as f64).sum::<f64>()
        };
        jain(&judged.iter().map(of).collect::<Vec<_>>())
    }

    fn seconds(&self) -> Vec<PlottedSecond> {
        let capacity = self.paths.down.capacity.by_second(self.scenario.duration);
        let mut seconds: Vec<PlottedSecond> = capacity
            .into_iter()
            .map(|capacity| PlottedSecond {
                capacity,
                sent: vec![0; self.specs.len()],
                usable: true,
                ..PlottedSecond::default()
            })
            .collect();
        for running in self.flows.iter().filter(|running| !running.up) {
            let judged = self.is_judged(running);
            for (second, &(sent, arrived)) in seconds.iter_mut().zip(&running.tally.seconds) {
                second.sent[running.spec] += sent;
                second.goodput += if judged { arrived } else { 0 };
            }
        }
        let down = self.flows.iter().filter(|running| !running.up);
        for (at, mut waits) in waits_by_second(down.flat_map(|running| &running.tally.waits)) {
            if let Some(second) = seconds.get_mut(at) {
                second.queue_ms = percentile(&mut waits, 0.95).unwrap_or(0.0);
            }
        }
        seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::scenario;

    fn row(text: &str, seed: u64) -> Row {
        let text = format!("[[scenario]]\nid = 'x'\nsrc = 'a test'\ngroup = 'rfc'\n{text}");
        let scenarios = scenario::read(&text, std::path::Path::new("/nowhere")).unwrap();
        let scenario = &scenarios.all[0];
        let specs: Vec<Spec> = scenario.flows.iter().map(|flow| flow.parse().unwrap()).collect();
        run(scenario, scenario.paths.as_ref().unwrap(), &specs, Some(LinkConfig::default()), seed).row
    }

    #[test]
    fn one_elastic_flow_finds_its_link_and_keeps_its_queue_short() {
        let row = row("dur_s = 100\ndown = { kbps = 1000 }\nflows = ['elastic']", 1);
        assert!(row.util > 0.6 && row.util <= 1.0 && row.q95 < 100.0 && row.dropped < 0.01, "{row:?}");
        assert!(row.jain == 1.0 && row.usable.is_nan() && row.pass.is_none(), "{row:?}");
    }

    #[test]
    fn a_source_has_its_least_and_its_highest_rate() {
        for (kbps, expected) in [(8000, 1500.0), (100, 100.0)] {
            let row =
                row(&format!("dur_s = 100\ndown = {{ kbps = {kbps} }}\nflows = ['elastic@50..100']"), 1);
            assert!(row.flows[0].kbps <= expected * 1.01, "{row:?}");
        }
        let fast = row("dur_s = 200\ndown = { kbps = 8000 }\nflows = ['elastic']", 1);
        assert!(fast.flows[0].kbps > 1000.0, "{fast:?}");
    }

    #[test]
    fn a_constant_rate_and_a_pause_leave_what_they_leave() {
        let row =
            row("dur_s = 20\ndown = { kbps = 1000 }\nflows = ['cbr=300@5..10', 'cbr=100 pause=5..15']", 1);
        let rates: Vec<i64> = row.flows.iter().map(|flow| flow.kbps.round() as i64).collect();
        assert_eq!(rates, [301, 50], "a packet of 8 kbit begins each interval");
    }

    #[test]
    fn tcp_takes_what_is_left_and_fills_the_queue() {
        let row = row("dur_s = 60\ndown = { kbps = 2000 }\nflows = ['elastic', 'tcp@0']", 1);
        let total: f64 = row.flows.iter().map(|flow| flow.kbps).sum();
        assert!((1850.0..=2000.0).contains(&total) && row.q95 > 150.0, "{row:?}");
    }

    #[test]
    fn flows_the_other_way_load_the_other_direction() {
        let text = "dur_s = 60\ndown = { kbps = 9000 }\nup = { kbps = 500 }\nflows = ['elastic', 'tcp-up']";
        let row = row(text, 1);
        assert!(
            row.flows[1].kbps > 300.0 && row.flows[1].kbps <= 500.0 && row.flows[0].q95 == 0.0,
            "{row:?}"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_row_to_the_byte() {
        let rough = "dur_s = 40\ndown = { kbps = 2000 }\njitter_ms = 10\nloss = 0.01\n\
                     flows = ['elastic', 'elastic owd=10', 'tcp@10', 'tcp-short x5 off_s=2']";
        let json = |seed| serde_json::to_string(&row(rough, seed)).unwrap();
        assert_eq!(json(3), json(3));
        assert_ne!(json(3).replace("\"seed\":3", ""), json(4).replace("\"seed\":4", ""));
    }
}
