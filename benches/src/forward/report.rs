//! What was measured, for people (a table, rows of `RESULTS.md`) and for programs (JSON).

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use serde::Serialize;

use super::instructions;
use super::plan::{Measured, Wanted, measure, measure_thin};
use super::scaling::{self, Scaling};
use crate::limit::rounds::Spread;
use crate::memory;

/// Prints what the forwarding path costs, beside what this machine can do at best.
#[derive(Clone, Debug, Parser)]
#[command(name = "forward")]
pub struct Options {
    /// Subscribers of the picture
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,30,300,1000",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub subs: Vec<usize>,
    /// Packets of a frame that arrive at once, and leave in one message
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,2,4,8",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=8))]
    pub runs: Vec<usize>,
    /// Rounds, of which the middle one counts
    #[arg(long, value_name = "N", default_value = "21",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1001))]
    pub rounds: usize,
    /// Send into an `ifb` device in a network namespace of its own (needs root) instead of over loopback
    #[arg(long)]
    pub ifb: bool,
    /// Count instructions, too (needs valgrind)
    #[arg(long)]
    pub instructions: bool,
    /// Measure also what two cores carry beside one
    #[arg(long)]
    pub two_cores: bool,
    /// Write the medians to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Append rows to this table
    #[arg(long, value_name = "FILE")]
    pub results: Option<PathBuf>,
    /// What the rows call the command
    #[arg(long, value_name = "TEXT", default_value = "forward", requires = "results")]
    pub command: String,
    /// What callgrind counts: print the packets that left
    #[arg(long, value_name = "SUBS", hide = true)]
    pub turns: Option<usize>,
}

/// Measures what `options` ask for, and says it.
///
/// # Errors
/// When a socket fails or a file cannot be written.
pub fn run(options: &Options) -> anyhow::Result<String> {
    if let Some(subscribers) = options.turns {
        return Ok(instructions::turns(subscribers, options.runs[0])?.to_string());
    }
    let wanted = Wanted {
        subscribers: options.subs.clone(),
        runs: options.runs.clone(),
        rounds: options.rounds,
        ifb: options.ifb,
    };
    let mut measured = measure(&wanted)?;
    measured.extend(measure_thin(&wanted, CLASS)?);
    let rows = measured.into_iter().map(|one| Row::new(one, options)).collect::<anyhow::Result<Vec<_>>>()?;
    let two_cores = scaling::Wanted {
        subscribers: CLASS,
        runs: options.runs.clone(),
        rounds: options.rounds,
        ifb: options.ifb,
    };
    let scalings = options.two_cores.then(|| scaling::measure(&two_cores)).transpose()?.unwrap_or_default();
    if let Some(path) = &options.json {
        let footprint = memory::measure(CLASS + 1)?;
        let (idle_transport, down_track) = (footprint.idle_transport, footprint.down_track);
        let text =
            serde_json::to_string(&Json::of(&rows, &scalings, MemoryJson { idle_transport, down_track }))?
                + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &options.results {
        append(path, &options.command, &rows, &scalings)?;
    }
    let mut text = table(options, &rows);
    if options.two_cores {
        text += &scaling::table(&two_cores, &scalings);
    }
    Ok(text)
}

/// Subscribers as a class has them.
const CLASS: usize = 30;

/// What was measured, and the instructions beside it.
struct Row {
    measured: Measured,
    instructions: Option<f64>,
}

impl Row {
    fn new(measured: Measured, options: &Options) -> anyhow::Result<Self> {
        let counted = (options.instructions && measured.kbps.is_none())
            .then(|| instructions::per_packet(measured.subscribers, measured.run));
        Ok(Self { measured, instructions: counted.transpose()? })
    }

    /// Packets that one core forwards in a second.
    fn pps(&self) -> f64 {
        1e9 / self.measured.all.median
    }
}

fn table(options: &Options, rows: &[Row]) -> String {
    let mut text = format!(
        "CPU ns per packet out, medians of {} interleaved rounds, into {}; own: neither sealed nor sent\n\n",
        options.rounds,
        if options.ifb { "ifb" } else { "loopback" },
    );
    text +=
        "| subs | run | limit | ours | ratio | own (min, max) | k packets/s | allocs | instr | stages |\n";
    text +=
        "| ---: | --: | ----: | ---: | ----: | -------------- | ----------: | -----: | ----: | ------ |\n";
    for row in rows {
        let Row { measured: one, instructions } = row;
        let stages: Vec<_> = one.stages.iter().map(|(name, ns)| format!("{name} {ns:.0}")).collect();
        let subscribers = match one.kbps {
            Some(kbps) => format!("{} at {kbps} kbit/s", one.subscribers),
            None => one.subscribers.to_string(),
        };
        let (limit, ratio) = match (&one.limit, one.ratio()) {
            (Some(limit), Some(ratio)) => (format!("{:.0}", limit.all.median), format!("{ratio:.2}")),
            _ => Default::default(),
        };
        let instructions = instructions.map_or_else(String::new, |count| format!("{count:.0}"));
        let Spread { min, median, max } = one.own;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {subscribers} | {} | {limit} | {:.0} | {ratio} | {median:.0} ({min:.0}, {max:.0}) | {:.0} | {:.3} | {instructions} | {} |",
            one.run,
            one.all.median,
            row.pps() / 1000.0,
            one.allocations,
            stages.join(", "),
        );
    }
    text
}

/// Rows in the form of `RESULTS.md`; the first one says what they have in common.
fn append(path: &Path, command: &str, rows: &[Row], scalings: &[Scaling]) -> anyhow::Result<()> {
    let mut first = description(command)?;
    let mut text = String::new();
    for Row { measured: one, instructions } in rows {
        let what = match one.kbps {
            Some(kbps) => format!("1 -> {} at {kbps} kbit/s each", one.subscribers),
            None => format!("1 -> {}, run {}", one.subscribers, one.run),
        };
        let spread = |Spread { min, median, max }| format!("{min:.0} / {median:.0} / {max:.0}");
        let mut result = format!("own {}; forwarded {}", spread(one.own), spread(one.all));
        if let (Some(limit), Some(ratio)) = (&one.limit, one.ratio()) {
            let _ = write!(result, "; limit {}; ratio {ratio:.2}", spread(limit.all));
        }
        let _ = write!(result, "; {:.3} allocations", one.allocations);
        if let Some(instructions) = instructions {
            let _ = write!(result, "; {instructions:.0} instructions");
        }
        let head = std::mem::replace(&mut first, " | | | ".to_owned());
        let _ = writeln!(text, "|{head}| {what}, ns/packet out | {result} |");
    }
    for scaling in scalings {
        let [limit, ours] = [&scaling.limit, &scaling.ours].map(scaling::spread);
        let what = format!("two cores beside one, each 1 -> {CLASS}, run {}, times the packets", scaling.run);
        let _ =
            writeln!(text, "| | | | | {what} | ours {ours}; limit {limit}; ratio {:.2} |", scaling.ratio());
    }
    let mut file = OpenOptions::new().append(true).open(path).with_context(|| path.display().to_string())?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Date, commit, machine and command.
fn description(command: &str) -> anyhow::Result<String> {
    let date = output("date", &["-u", "+%F"])?;
    let commit = output("git", &["rev-parse", "--short", "HEAD"])?;
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"])?;
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |model| model.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism()?;
    let kernel = output("uname", &["-r"])?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    let changed = if changed.is_empty() { "" } else { "+" };
    Ok(format!(
        " {date} | {commit}{changed} | {cores} cores ({model}), Linux {kernel}; load {load} | `{command}` "
    ))
}

fn output(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output =
        Command::new(program).args(args).output().with_context(|| format!("`{program}` does not run"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[derive(Serialize)]
struct Json {
    limit: Vec<LimitJson>,
    forward: Vec<ForwardJson>,
    /// As `forward`, on thin lines.
    thin: Vec<ForwardJson>,
    /// Two cores beside one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scaling: Vec<scaling::Json>,
    memory: MemoryJson,
}

/// Bytes on the heap.
#[derive(Serialize)]
struct MemoryJson {
    idle_transport: usize,
    down_track: usize,
}

#[derive(Serialize)]
struct LimitJson {
    subs: usize,
    run: usize,
    ns_out: f64,
    seal_ns: f64,
    send_ns: f64,
}

#[derive(Serialize)]
struct ForwardJson {
    subs: usize,
    run: usize,
    ns_out: f64,
    own_ns: f64,
    ratio: Option<f64>,
    pps: f64,
    allocs: f64,
    instructions: Option<f64>,
}

impl Json {
    fn of(rows: &[Row], scalings: &[Scaling], memory: MemoryJson) -> Self {
        // Of a class; what others are held against is in their ratio.
        let class = rows.iter().map(|row| row.measured.subscribers).find(|&subscribers| subscribers == CLASS);
        let class = class.or(rows.first().map(|row| row.measured.subscribers));
        let limit = rows.iter().filter_map(|Row { measured: one, .. }| {
            let limit = one.limit.as_ref().filter(|_| Some(one.subscribers) == class)?;
            let (subs, run) = (one.subscribers, one.run);
            Some(LimitJson { subs, run, ns_out: limit.all.median, seal_ns: limit.seal, send_ns: limit.send })
        });
        let forward = |row: &Row| ForwardJson {
            subs: row.measured.subscribers,
            run: row.measured.run,
            ns_out: row.measured.all.median,
            own_ns: row.measured.own.median,
            ratio: row.measured.ratio(),
            pps: row.pps(),
            allocs: row.measured.allocations,
            instructions: row.instructions,
        };
        let (roomy, thin): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.measured.kbps.is_none());
        Self {
            limit: limit.collect(),
            forward: roomy.into_iter().map(forward).collect(),
            thin: thin.into_iter().map(forward).collect(),
            scaling: scalings.iter().map(Into::into).collect(),
            memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::plan::Limit;

    #[test]
    fn arguments_are_checked() {
        for (args, ok) in [
            (&[][..], true),
            (&["--subs", "30", "--runs", "1,8", "--json", "f"], true),
            (&["--subs", "0"], false),
            (&["--runs", "9"], false),
            (&["--rounds", "0"], false),
            (&["--command", "make bench"], false),
        ] {
            assert_eq!(Options::try_parse_from([&["forward"], args].concat()).is_ok(), ok, "{args:?}");
        }
    }

    #[test]
    fn json_has_the_names_that_comparisons_read() {
        let at = |median| Spread { min: median, median, max: median };
        let row = |subscribers, kbps, limit: Option<f64>| Row {
            measured: Measured {
                subscribers,
                run: 4,
                kbps,
                limit: limit.map(|ns| Limit { all: at(ns), seal: 170.0, send: 800.0 }),
                all: at(1000.0),
                own: at(200.0),
                sealed: 400.0,
                stages: Vec::new(),
                allocations: 0.0,
            },
            instructions: Some(900.0),
        };
        let rows = [row(1, None, Some(900.0)), row(30, None, Some(800.0)), row(30, Some(300), None)];
        let one = |subs, ratio| {
            format!(
                r#"{{"subs":{subs},"run":4,"ns_out":1000.0,"own_ns":200.0,"ratio":{ratio},"pps":1000000.0,"allocs":0.0,"instructions":900.0}}"#
            )
        };
        let expected = format!(
            r#"{{"limit":[{{"subs":30,"run":4,"ns_out":800.0,"seal_ns":170.0,"send_ns":800.0}}],"forward":[{},{}],"thin":[{}],"memory":{{"idle_transport":50000,"down_track":1500}}}}"#,
            one(1, "0.9"),
            one(30, "0.8"),
            one(30, "null"),
        );
        let memory = MemoryJson { idle_transport: 50_000, down_track: 1500 };
        assert_eq!(serde_json::to_string(&Json::of(&rows, &[], memory)).unwrap(), expected);
    }
}
