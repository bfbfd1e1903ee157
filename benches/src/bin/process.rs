//! Measures the process `lectern-sfu` as a whole: see [`benches::process`].
#![allow(clippy::print_stdout, reason = "the table is the program's output")]

use benches::process::{cost, latency, saturated};
use clap::Parser;

/// Measures the process `lectern-sfu` as a whole, with clients on loopback.
#[derive(Debug, Parser)]
#[command(name = "process")]
enum Options {
    /// CPU that it spends on a datagram that it sends, at a pace, beside the machine's limit
    Cost(cost::Options),
    /// The same while it always has something to read
    #[command(mut_arg("rooms", |rooms| rooms.default_value("10")))]
    Saturated(saturated::Options),
    /// How long a packet stays in it, beside a plain reflector, and while others join
    Latency(latency::Options),
}

fn main() -> anyhow::Result<()> {
    match Options::parse() {
        Options::Cost(options) => print!("{}", cost::render(&options, &cost::measure(&options)?)),
        Options::Saturated(options) => {
            print!("{}", saturated::render(&options, &saturated::measure(&options)?));
        }
        Options::Latency(options) => print!("{}", latency::render(&options, &latency::measure(&options)?)),
    }
    Ok(())
}
