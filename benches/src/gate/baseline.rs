//! The committed counts, and what is said when they change.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// A count may be off by so much, either way: one that fell by more is to be written down, lest it creep up again.
const TOLERANCE: f64 = 0.02;

/// Instructions per operation, and of which build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The build.
    pub build: Build,
    /// Instructions by workload.
    pub instructions: BTreeMap<String, f64>,
}

/// What instruction counts depend on besides the sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// What `rustc --version` says.
    pub rustc: String,
    /// The profile, by its folder.
    pub profile: String,
    /// The instruction set.
    pub arch: String,
}

/// The outcome of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to print.
    pub lines: Vec<String>,
    /// Whether the gate opens.
    pub passed: bool,
}

impl Baseline {
    /// Reads the file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let Build { rustc, profile, arch } = &self.build;
        let mut text = format!(
            "# Instructions per operation outside crypto: `make bench-gate`. After a change that is meant to move\n\
             # them: `make bench-gate ARGS=--write`, and say why in the commit.\n\
             [build]\nrustc = \"{rustc}\"\nprofile = \"{profile}\"\narch = \"{arch}\"\n\n[instructions]\n"
        );
        for (name, count) in &self.instructions {
            writeln!(text, "{name} = {count:.1}")?;
        }
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Compares a count with this one. Those of another build say nothing, so that the gate opens.
    pub fn compare(&self, now: &Self) -> Verdict {
        if self.build != now.build {
            let lines = vec![format!(
                "The baseline is of another build, so nothing is compared. Baseline: {:?}; here: {:?}. \
                 Write a new one: make bench-gate ARGS=--write",
                self.build, now.build
            )];
            return Verdict { lines, passed: true };
        }
        let names: Vec<_> = self.instructions.keys().chain(now.instructions.keys()).collect();
        let names = std::collections::BTreeSet::from_iter(names);
        let mut verdict =
            Verdict { lines: vec!["| workload | baseline | now | change |".to_owned()], passed: true };
        verdict.lines.push("|---|---:|---:|---:|".to_owned());
        for name in names {
            let (Some(&before), Some(&after)) = (self.instructions.get(name), now.instructions.get(name))
            else {
                verdict.lines.push(format!("| {name} | | | only on one side |"));
                verdict.passed = false;
                continue;
            };
            let change = after / before - 1.0;
            let failed = change.abs() > TOLERANCE;
            let mark = if failed { " FAILED" } else { "" };
            verdict
                .lines
                .push(format!("| {name} | {before:.1} | {after:.1} | {:+.2} %{mark} |", change * 100.0));
            verdict.passed &= !failed;
        }
        if !verdict.passed {
            verdict.lines.push("If that is meant: make bench-gate ARGS=--write, and say why.".to_owned());
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(rustc: &str, forward: f64) -> Baseline {
        let build = Build { rustc: rustc.to_owned(), profile: "ci".to_owned(), arch: "x86_64".to_owned() };
        Baseline { build, instructions: BTreeMap::from([("forward".to_owned(), forward)]) }
    }

    #[test]
    fn two_per_cent_are_let_through_and_more_is_not_either_way() {
        for (now, passed) in
            [(1000.0, true), (1019.0, true), (1021.0, false), (1050.0, false), (950.0, false)]
        {
            assert_eq!(baseline("1.95", 1000.0).compare(&baseline("1.95", now)).passed, passed, "{now}");
        }
    }

    #[test]
    fn another_compiler_is_told_and_not_judged() {
        let verdict = baseline("1.95", 1000.0).compare(&baseline("1.96", 2000.0));
        assert!(verdict.passed && verdict.lines[0].contains("another build"), "{verdict:?}");
    }

    #[test]
    fn a_workload_without_a_baseline_fails() {
        let mut now = baseline("1.95", 1000.0);
        now.instructions.insert("new".to_owned(), 1.0);
        assert!(!baseline("1.95", 1000.0).compare(&now).passed);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let path = std::env::temp_dir().join(format!("lectern-baseline-{}.toml", std::process::id()));
        baseline("rustc 1.95.0 (5980 2026)", 1000.5).write(&path).unwrap();
        let read = Baseline::read(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap(), baseline("rustc 1.95.0 (5980 2026)", 1000.5));
    }
}
