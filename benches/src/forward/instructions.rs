//! Instructions per packet out, outside of crypto and the kernel: exact, whatever else the machine does.
//!
//! `valgrind --tool=callgrind` runs the program itself with the hidden option `--turns`, and counts what
//! [`Lesson::forward`] executes.

use std::process::Command;

use anyhow::{Context, ensure};
use sfu_core::transport::bench::Protection;

use super::lesson::{Lesson, ROOMY, Setup};
use super::source::Shape;

/// Fills that are forwarded.
const FILLS: usize = 4;

/// What callgrind is to count. Returns the packets that left.
///
/// # Errors
/// When a socket fails.
pub fn turns(subscribers: usize, run: usize) -> anyhow::Result<u64> {
    let protection = Protection::None;
    let mut lesson = Lesson::new(Setup { subscribers, shape: Shape::FULL, rate: ROOMY, protection }, None)?;
    let before = lesson.left();
    for _ in 0..FILLS {
        lesson.fill(run)?;
        counted(&mut lesson)?;
    }
    Ok(lesson.left() - before)
}

/// Callgrind counts from here on and no longer.
#[inline(never)]
fn counted(lesson: &mut Lesson) -> anyhow::Result<()> {
    lesson.forward()
}

/// Instructions for each packet out.
///
/// # Errors
/// Without valgrind.
pub fn per_packet(subscribers: usize, run: usize) -> anyhow::Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(concat!("--toggle-collect=*", module_path!(), "*counted*").replace("::", "*"))
        .arg(std::env::current_exe()?)
        .args(["--turns", &subscribers.to_string(), "--runs", &run.to_string()])
        .output()
        .context("`valgrind` does not run")?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {log}");
    let packets: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().context("packets that left")?;
    let collected = log.lines().find_map(|line| line.split_once("Collected : "));
    let instructions: u64 = collected.context("callgrind tells no count")?.1.trim().parse()?;
    ensure!(instructions > 0, "callgrind has not found what to count");
    Ok(instructions as f64 / packets as f64)
}
