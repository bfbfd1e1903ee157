//! Runs the workloads under Callgrind and adds up what their functions executed.
//!
//! Callgrind collects inside of a workload's `measured_` function alone (`--toggle-collect`). Its profile says for each
//! function (`fn=`) of an object (`ob=`) how many instructions its own lines executed; lines behind `calls=` repeat
//! what its callees did and are left out.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::baseline::Build;
use super::workloads::{WORKLOADS, Workload};

/// Parts of the names of Rust functions that are not counted.
pub const LEFT_OUT: &[&str] = &[
    // The front of the crypto, which is not ours.
    "aws_lc",
    // Debug builds hash each plaintext to see that no nonce is used twice.
    "nonce_rule",
    "rustc_hash::hash_bytes",
];

/// Whether a function counts: one of Rust, which has a path for a name. Crypto is in C and assembler.
fn counts(function: &str) -> bool {
    function.contains("::") && !LEFT_OUT.iter().any(|part| function.contains(part))
}

/// Instructions of each workload, per operation.
///
/// # Errors
/// Without Valgrind.
pub fn count() -> anyhow::Result<BTreeMap<String, f64>> {
    let program = std::env::current_exe()?;
    let profile = std::env::temp_dir().join(format!("lectern-gate-{}", std::process::id()));
    let mut counts = BTreeMap::new();
    for Workload { name, operations, .. } in WORKLOADS {
        let run = Command::new("valgrind")
            .args(["--tool=callgrind", &format!("--toggle-collect=*measured_{name}*")])
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(&program)
            .args(["--work", name])
            .output()
            .context("valgrind does not run: is it installed?")?;
        ensure!(run.status.success(), "valgrind failed:\n{}", String::from_utf8_lossy(&run.stderr));
        let text = fs::read_to_string(&profile).with_context(|| format!("no profile of {name}"))?;
        fs::remove_file(&profile)?;
        // Valgrind succeeds on a full disk, too, with what had room.
        ensure!(is_whole(&text), "the profile of {name} is cut off: is the disk full?");
        let instructions = own_instructions(&text, &program.to_string_lossy());
        ensure!(instructions > 0, "nothing was counted for {name}");
        counts.insert((*name).to_owned(), instructions as f64 / *operations as f64);
    }
    Ok(counts)
}

/// Whether a profile was written to its end, where the totals stand.
fn is_whole(profile: &str) -> bool {
    profile.lines().last().is_some_and(|line| line.starts_with("totals:"))
}

/// Adds up the profile's instructions of functions of `program` that are not left out.
fn own_instructions(profile: &str, program: &str) -> u64 {
    // A name stands behind its number where it first occurs: `fn=(12) name`, later `fn=(12)`.
    let (mut objects, mut functions) = (HashMap::new(), HashMap::new());
    let (mut object, mut function) = (String::new(), String::new());
    let (mut sum, mut is_call) = (0, false);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("ob=") {
            object = resolve(&mut objects, name);
        } else if let Some(name) = line.strip_prefix("fn=") {
            function = resolve(&mut functions, name);
        } else if let Some(name) = line.strip_prefix("cob=") {
            resolve(&mut objects, name);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            resolve(&mut functions, name);
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
            let counts = object == program && counts(&function);
            sum += if std::mem::take(&mut is_call) || !counts { 0 } else { cost };
        }
    }
    sum
}

fn resolve(names: &mut HashMap<String, String>, text: &str) -> String {
    let (number, name) = text.split_once(' ').unwrap_or((text, ""));
    if !name.is_empty() {
        names.insert(number.to_owned(), name.to_owned());
    }
    names.get(number).cloned().unwrap_or_default()
}

/// How this program was built.
pub fn build() -> anyhow::Result<Build> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output().context("rustc cannot be run")?;
    let program = std::env::current_exe()?;
    let profile =
        program.parent().and_then(Path::file_name).context("a program lies in its profile's folder")?;
    Ok(Build {
        rustc: String::from_utf8_lossy(&version.stdout).trim().to_owned(),
        profile: profile.to_string_lossy().into_owned(),
        arch: std::env::consts::ARCH.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_lines_of_own_functions_are_added_up() {
        let profile = "ob=(1) /gate\nfl=(1) a.rs\nfn=(1) core::forward\n10 100\n+2 30\ncfn=(2) aws_lc_0_seal\n\
                       calls=5 20\n+1 9000\n* 7\n\nfn=(2)\n20 8000\n\nob=(2) /libc.so\nfn=(3) memcpy\n1 500\n\n\
                       ob=(1)\nfn=(5) aead_seal\n1 600\nfn=(4) core::pace\n3 1\ntotals: 17000\n";
        assert_eq!(own_instructions(profile, "/gate"), 100 + 30 + 7 + 1);
        assert!(is_whole(profile) && !is_whole(&profile[..profile.len() - 20]));
    }
}
