//! Counts instructions of fixed work under Valgrind and compares them with `benches/baseline.toml`: see
//! [`benches::gate`].
#![allow(clippy::print_stdout, reason = "the table is the program's output")]

use std::path::PathBuf;
use std::process::ExitCode;

use benches::gate::baseline::{Baseline, Verdict};
use benches::gate::{callgrind, workloads};
use clap::Parser;

/// Counts instructions of fixed work and compares them with the baseline.
#[derive(Parser)]
struct Options {
    /// Writes the counts as the new baseline instead of comparing them.
    #[arg(long)]
    write: bool,
    /// The baseline.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.toml"))]
    baseline: PathBuf,
    /// Does the work of that name and nothing else: what runs under Valgrind.
    #[arg(long, hide = true)]
    work: Option<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if let Some(name) = options.work {
        workloads::run(&name);
        return Ok(ExitCode::SUCCESS);
    }
    let counted = Baseline { build: callgrind::build()?, instructions: callgrind::count()? };
    if options.write {
        counted.write(&options.baseline)?;
        println!("{} is written", options.baseline.display());
        return Ok(ExitCode::SUCCESS);
    }
    let baseline = Baseline::read(&options.baseline)?;
    let Verdict { lines, passed } = baseline.compare(&counted);
    lines.iter().for_each(|line| println!("{line}"));
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
