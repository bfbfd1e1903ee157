//! Thin links in virtual time: the server's real core, a scripted teacher and scripted receivers over emulated
//! paths. Minutes of a lesson run in about a second, and a run can be run again.
//!
//! ```text
//! publisher (sources) -> Worker -> path (queue, loss, jitter) -> receiver (playout, pictures)
//!                          ^------------ path back <-------------- reports, TWCC, NACK, PLI
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`scenario`], [`trace`], [`expect`] | scenario files, recorded links, bars |
//! | [`capacity`], [`path`] | what a link carries when; one direction of a path |
//! | [`sources`], [`media`], [`publisher`] | frames of real encoders' sizes, their packets, who sends them |
//! | [`receiver`], [`nack`], [`playout`], [`pictures`] | what a browser answers, plays and shows |
//! | [`mod@run`], [`ledger`], [`account`], [`oracle`] | the run; what left; what came of it; what could have come |
//! | [`flows`] | what else is on a link: elastic media, TCP, constant rates |
//! | [`row`], [`report`], [`plot`], [`statistics`] | figures, tables and pictures |

pub mod account;
pub mod capacity;
pub mod expect;
pub mod flows;
pub mod ledger;
pub mod media;
pub mod nack;
pub mod oracle;
pub mod path;
pub mod pictures;
pub mod playout;
pub mod plot;
pub mod publisher;
pub mod receiver;
pub mod report;
pub mod row;
pub mod run;
pub mod scenario;
pub mod sources;
pub mod speech;
pub mod statistics;
pub mod trace;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use report::{Note, Report};
use row::Row;
use scenario::{Scenario, Scenarios};

/// What to run.
pub struct LinksOptions {
    /// A file of scenarios; `None`: our own.
    pub scenarios: Option<PathBuf>,
    /// Where its traces are; `None`: beside it.
    pub traces: Option<PathBuf>,
    /// A scenario's id, or `all`.
    pub scenario: String,
    /// How many of each scenario's seeds.
    pub seeds: usize,
    /// What the server does about its links.
    pub control: run::Control,
    /// Where pictures are written.
    pub plots: Option<PathBuf>,
}

/// Where our own scenarios are in the source tree.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Reads a file of scenarios, or our own; its traces are beside it if not in `traces`.
pub fn read(file: Option<&Path>, traces: Option<&Path>) -> anyhow::Result<Scenarios> {
    let file = file.map_or_else(|| folder().join("scenarios.toml"), Path::to_path_buf);
    let beside = file.parent().unwrap_or(Path::new("."));
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    scenario::read(&text, traces.unwrap_or(beside)).with_context(|| file.display().to_string())
}

/// Runs scenarios one after the other; `tell` is told each row.
pub fn run(options: &LinksOptions, mut tell: impl FnMut(&Row)) -> anyhow::Result<Report> {
    let scenarios = read(options.scenarios.as_deref(), options.traces.as_deref())?;
    let chosen: Vec<&Scenario> = scenarios
        .all
        .iter()
        .filter(|scenario| options.scenario == "all" || scenario.id == options.scenario)
        .collect();
    ensure!(!chosen.is_empty(), "there is no scenario {}", options.scenario);
    if let Some(plots) = &options.plots {
        std::fs::create_dir_all(plots).with_context(|| plots.display().to_string())?;
    }
    let mut report = Report::default();
    for scenario in chosen {
        let note = |what: String| Note { id: scenario.id.clone(), what };
        report.notes.extend(scenario.unknown.iter().map(|key| note(format!("`{key}` is not known"))));
        report
            .notes
            .extend(scenario.expect.not_judged().iter().map(|what| note(format!("not judged: {what}"))));
        for &seed in scenario.seeds.iter().take(options.seeds) {
            let outcome = run::run(scenario, &scenarios.lesson, options.control, seed)
                .with_context(|| scenario.id.clone())?;
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(why) => {
                    report.skipped.push(note(why));
                    break;
                }
            };
            if let Some(plots) = &options.plots {
                let file = plots.join(format!("{}-{seed}.svg", scenario.id.replace(['/', '\\'], "_")));
                std::fs::write(&file, plot::svg(&outcome)).with_context(|| file.display().to_string())?;
            }
            tell(&outcome.row);
            report.push(outcome.row);
        }
    }
    Ok(report)
}
