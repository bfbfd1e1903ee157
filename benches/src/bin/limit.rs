//! Prints what this machine can do at best, as a table: see [`benches::limit`].
#![allow(clippy::print_stdout, reason = "the table is the program's output")]

use std::fs;

use anyhow::Context;
use benches::limit::plan::{Options, measure};
use benches::limit::table::render;
use benches::limit::{HEADER, PACKET};
use clap::Parser;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let report = measure(&options)?;
    println!(
        "CPU ns per packet of {} B payload; {} destinations with a key each ({}); {} rounds\n",
        PACKET - HEADER,
        options.destinations,
        options.profile.name(),
        options.rounds
    );
    print!("{}", render(&report.rows));
    if let Some(reason) = &report.skipped {
        println!("\nifb: skipped: {reason}");
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string(&report.json)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
