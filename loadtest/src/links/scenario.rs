//! Scenarios as they are written in a file: links, flows, sources and bars. `scenarios/README.md` describes the
//! format. What is not understood is said, never left out in silence.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use toml::{Table, Value};

use super::capacity::Capacity;
use super::expect::Expectations;
use super::path::{Conditions, Hold, Loss, QueueLimit};
use super::sources::Lesson;
use super::trace::{self, Format};

/// A file of scenarios.
pub struct Scenarios {
    /// What a lesson is made of.
    pub lesson: Lesson,
    /// In the order of the file.
    pub all: Vec<Scenario>,
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub id: String,
    /// What it is compared with.
    pub group: String,
    /// How long it takes.
    pub duration: Duration,
    /// From the server to the school and back; or why it cannot be run.
    pub paths: Result<Paths, String>,
    /// How often receivers report on what arrived.
    pub feedback: Duration,
    /// What the server believes of the link at first, bit/s.
    pub start_bps: Option<u64>,
    /// How many receive behind the same link.
    pub receivers: usize,
    /// How long after one another they join.
    pub join_gap: Duration,
    /// What flows.
    pub flows: Vec<String>,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// Its bars.
    pub expect: Expectations,
    /// Keys that this program does not know.
    pub unknown: Vec<String>,
}

/// Both directions of a link.
#[derive(Clone, Debug)]
pub struct Paths {
    /// From the server to the school.
    pub down: Conditions,
    /// Back.
    pub up: Conditions,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    defaults: Table,
    #[serde(default)]
    sources: Option<Sources>,
    #[serde(default)]
    scenario: Vec<Table>,
}

#[derive(Deserialize)]
struct Sources {
    lesson: Option<Lesson>,
}

#[derive(Deserialize)]
struct Written {
    id: String,
    #[serde(default)]
    group: Option<String>,
    dur_s: f64,
    owd: f64,
    queue: WrittenQueue,
    jitter_ms: f64,
    loss: f64,
    ge: Option<WrittenBursts>,
    reorder: Option<WrittenHold>,
    down: WrittenRate,
    up: WrittenRate,
    feedback_ms: f64,
    start_kbps: Option<f64>,
    #[serde(default = "one")]
    receivers: usize,
    #[serde(default)]
    join_gap_s: f64,
    flows: Option<Vec<String>>,
    seeds: Vec<u64>,
    #[serde(default)]
    expect: Table,
}

/// What [`Written`] knows, `src` besides.
const KNOWN: [&str; 18] = [
    "id",
    "src",
    "group",
    "dur_s",
    "owd",
    "queue",
    "jitter_ms",
    "loss",
    "ge",
    "reorder",
    "down",
    "up",
    "feedback_ms",
    "start_kbps",
    "receivers",
    "join_gap_s",
    "flows",
    "seeds",
];

/// What holds where neither a scenario nor its file's defaults say anything.
const FALLBACK: &str = "
    owd = 50
    queue = { ms = 300 }
    jitter_ms = 0
    loss = 0.0
    up = { kbps = 1000 }
    feedback_ms = 100
    seeds = [1, 2, 3, 4, 5]
";

fn one() -> usize {
    1
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum WrittenQueue {
    Ms(f64),
    Bytes(u64),
    Pkts(usize),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBursts {
    p: f64,
    r: f64,
    #[serde(default = "certain")]
    h: f64,
    #[serde(default)]
    k: f64,
}

fn certain() -> f64 {
    1.0
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHold {
    p: f64,
    hold_ms: f64,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRate {
    kbps: Option<f64>,
    steps: Option<Vec<(f64, f64)>>,
    trace: Option<String>,
    fmt: Option<Format>,
    scale: Option<f64>,
}

/// Bounds of what a file may ask for.
const MAX_SECONDS: f64 = 3600.0;
const MAX_MS: f64 = 60_000.0;
const MAX_KBPS: f64 = 1e6;
const MAX_RECEIVERS: usize = 50;

/// Reads a file of scenarios; traces are looked for in `traces`.
pub fn read(text: &str, traces: &Path) -> anyhow::Result<Scenarios> {
    let file: File = toml::from_str(text)?;
    let defaults = merged(file.defaults, &toml::from_str(FALLBACK).context("the built-in defaults")?);
    let lesson = file.sources.and_then(|sources| sources.lesson).unwrap_or_default();
    lesson.check().context("[sources.lesson]")?;
    let mut all = Vec::with_capacity(file.scenario.len());
    for (index, table) in file.scenario.into_iter().enumerate() {
        let id = table
            .get("id")
            .and_then(Value::as_str)
            .map_or_else(|| format!("number {}", index + 1), str::to_owned);
        all.push(scenario(table, &defaults, traces).with_context(|| format!("scenario {id}"))?);
    }
    ensure!(!all.is_empty(), "there is no [[scenario]]");
    Ok(Scenarios { lesson, all })
}

fn merged(mut table: Table, defaults: &Table) -> Table {
    for (key, value) in defaults {
        if !table.contains_key(key) {
            table.insert(key.clone(), value.clone());
        }
    }
    table
}

fn scenario(table: Table, defaults: &Table, traces: &Path) -> anyhow::Result<Scenario> {
    let known = |key: &&String| KNOWN.contains(&key.as_str()) || *key == "expect";
    let unknown = table.keys().filter(|key| !known(key)).cloned().collect();
    let written: Written = merged(table, defaults).try_into()?;
    ensure!((1.0..=MAX_SECONDS).contains(&written.dur_s), "dur_s = {}", written.dur_s);
    ensure!((1..=MAX_RECEIVERS).contains(&written.receivers), "receivers = {}", written.receivers);
    ensure!((10.0..=MAX_MS).contains(&written.feedback_ms), "feedback_ms = {}", written.feedback_ms);
    ensure!((0.0..=MAX_SECONDS).contains(&written.join_gap_s), "join_gap_s = {}", written.join_gap_s);
    ensure!(!written.seeds.is_empty(), "no seeds");
    let duration = Duration::from_secs_f64(written.dur_s);
    let group = written.group.clone().unwrap_or_else(|| "other".to_owned());
    Ok(Scenario {
        paths: paths(&written, duration, traces)?,
        expect: Expectations::read(&written.expect),
        duration,
        group,
        feedback: millis(written.feedback_ms)?,
        start_bps: written.start_kbps.map(bps).transpose()?,
        receivers: written.receivers,
        join_gap: Duration::from_secs_f64(written.join_gap_s),
        flows: written.flows.unwrap_or_else(|| vec!["lesson".to_owned()]),
        seeds: written.seeds,
        id: written.id,
        unknown,
    })
}

/// The inner error is a trace that is not there: its scenario is not run, and says so.
fn paths(written: &Written, duration: Duration, traces: &Path) -> anyhow::Result<Result<Paths, String>> {
    let down = match capacity(&written.down, traces).context("down")? {
        Ok(capacity) => conditions(written, capacity, duration, true)?,
        Err(missing) => return Ok(Err(missing)),
    };
    let up = match capacity(&written.up, traces).context("up")? {
        Ok(capacity) => conditions(written, capacity, duration, false)?,
        Err(missing) => return Ok(Err(missing)),
    };
    Ok(Ok(Paths { down, up }))
}

/// Random accidents happen to what is judged, on the way down; the way up has its own capacity and queue.
fn conditions(
    written: &Written,
    capacity: Capacity,
    duration: Duration,
    down: bool,
) -> anyhow::Result<Conditions> {
    let share = |name: &str, share: f64| {
        ensure!((0.0..=1.0).contains(&share), "{name} = {share}: a share is 0 to 1");
        Ok(share)
    };
    let loss = match written.ge {
        Some(WrittenBursts { p, r, h, k }) => Loss::Bursts {
            to_bad: share("p", p)?,
            to_good: share("r", r)?,
            bad: share("h", h)?,
            good: share("k", k)?,
        },
        None => Loss::Uniform(share("loss", written.loss)?),
    };
    let hold = match written.reorder {
        Some(WrittenHold { p, hold_ms }) => Some(Hold { share: share("p", p)?, time: millis(hold_ms)? }),
        None => None,
    };
    let queue = match written.queue {
        WrittenQueue::Ms(ms) => QueueLimit::of_time(capacity.mean_bps(duration), millis(ms)?),
        WrittenQueue::Bytes(bytes) => QueueLimit::Bytes(bytes),
        WrittenQueue::Pkts(packets) => QueueLimit::Packets(packets),
    };
    let (loss, hold, jitter) =
        if down { (loss, hold, written.jitter_ms) } else { (Loss::Uniform(loss.mean()), None, 0.0) };
    Ok(Conditions { capacity, queue, delay: millis(written.owd)?, jitter: millis(jitter)?, loss, hold })
}

fn capacity(rate: &WrittenRate, traces: &Path) -> anyhow::Result<Result<Capacity, String>> {
    let scale = rate.scale.unwrap_or(1.0);
    ensure!((1e-6..=1e6).contains(&scale), "scale = {scale}");
    match rate {
        WrittenRate { kbps: Some(kbps), steps: None, trace: None, .. } => {
            Ok(Ok(Capacity::constant(bps(kbps * scale)?)))
        }
        WrittenRate { kbps: None, steps: Some(steps), trace: None, .. } => {
            ensure!(steps.first().is_some_and(|step| step.0 == 0.0), "the first step is at 0 s");
            ensure!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0), "steps ascend in time");
            let mut read = Vec::with_capacity(steps.len());
            for &(at, kbps) in steps {
                ensure!((0.0..=MAX_SECONDS).contains(&at), "a step at {at} s");
                read.push((Duration::from_secs_f64(at), bps(kbps * scale)?));
            }
            Ok(Ok(Capacity::Steps { steps: read, period: None }))
        }
        WrittenRate { kbps: None, steps: None, trace: Some(name), fmt, .. } => {
            let path = traces.join(name);
            let Ok(text) = std::fs::read_to_string(&path) else {
                return Ok(Err(format!("there is no trace {}", path.display())));
            };
            let format = fmt.or_else(|| guess(name)).context("fmt is missing")?;
            Ok(Ok(trace::read(&text, format, scale).with_context(|| name.clone())?))
        }
        _ => bail!("one of kbps, steps and trace"),
    }
}

/// What a file's name says of its format, where the scenario says nothing.
fn guess(name: &str) -> Option<Format> {
    let formats = [(".csv", Format::Nyu), (".up", Format::Mahimahi), (".down", Format::Mahimahi)];
    formats.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, format)| format)
}

fn millis(ms: f64) -> anyhow::Result<Duration> {
    ensure!((0.0..=MAX_MS).contains(&ms), "{ms} ms");
    Ok(Duration::from_secs_f64(ms / 1000.0))
}

fn bps(kbps: f64) -> anyhow::Result<u64> {
    ensure!((0.0..=MAX_KBPS).contains(&kbps), "{kbps} kbit/s");
    Ok((kbps * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> anyhow::Result<Scenario> {
        Ok(read(&format!("[[scenario]]\nid = 'x'\nsrc = ''\ndur_s = 100\n{text}"), Path::new("/nowhere"))?
            .all
            .remove(0))
    }

    #[test]
    fn every_field_but_four_has_a_default() {
        let scenario = one("down = { kbps = 100 }").unwrap();
        let Paths { down, up } = scenario.paths.unwrap();
        assert_eq!(down.queue, QueueLimit::Bytes(3750), "300 ms of 100 kbit/s");
        assert_eq!(
            (down.capacity, up.capacity),
            (Capacity::constant(100_000), Capacity::constant(1_000_000))
        );
        assert_eq!(
            (scenario.receivers, scenario.flows, scenario.seeds.len()),
            (1, vec!["lesson".to_owned()], 5)
        );
        assert!(scenario.unknown.is_empty());
    }

    #[test]
    fn a_key_that_is_not_known_is_told() {
        assert_eq!(one("down = { kbps = 1 }\nweather = 'rain'").unwrap().unknown, ["weather"]);
    }

    #[test]
    fn a_trace_that_is_not_there_spoils_its_scenario_alone() {
        let scenario = one("down = { trace = 'none', fmt = 'cooked' }").unwrap();
        assert!(scenario.paths.unwrap_err().contains("none"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "down = { }",
            "down = { kbps = 1, steps = [[0, 1]] }",
            "down = { kbps = -1 }",
            "down = { steps = [[1, 1]] }",
            "down = { steps = [[0, 1], [0, 2]] }",
            "down = { kbps = 1 }\nloss = 1.5",
            "down = { kbps = 1 }\nqueue = { litres = 1 }",
            "down = { kbps = 1 }\nreceivers = 0",
            "down = { kbps = 1 }\nseeds = []",
        ] {
            assert!(one(text).is_err(), "{text}");
        }
    }

    #[test]
    fn our_own_file_is_understood() {
        let folder = super::super::folder();
        let text = std::fs::read_to_string(folder.join("scenarios.toml")).unwrap();
        let scenarios = read(&text, &folder).unwrap();
        assert!(scenarios.all.len() > 40, "{}", scenarios.all.len());
        for scenario in scenarios.all {
            assert!(scenario.unknown.is_empty() && scenario.paths.is_ok(), "{scenario:?}");
            assert!(
                scenario.expect.not_judged().is_empty(),
                "{}: {:?}",
                scenario.id,
                scenario.expect.not_judged()
            );
        }
    }
}
