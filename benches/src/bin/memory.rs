//! Prints what a transport and a down track take on the heap, as tables: see [`benches::memory`].
#![allow(clippy::print_stdout, reason = "the tables are the program's output")]

use benches::counting::Counting;
use benches::memory::{Footprint, measure, parts};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Prints what a transport and a down track take on the heap.
#[derive(Parser)]
struct Options {
    /// Participants of the lessons to measure.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    participants: Vec<usize>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    println!("Bytes asked of the allocator, each per transport or track\n");
    if cfg!(debug_assertions) {
        println!(
            "The first packet makes the 96 KiB of the nonce rule, which a release build does not check.\n"
        );
    }
    println!(
        "| participants | idle transport | with data channels | first packet sent | down track | active | active, sound | up track |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    for participants in options.participants {
        let Footprint {
            participants,
            idle_transport,
            idle_transport_with_channels,
            first_packet,
            down_track,
            active_down_track,
            active_audio_down_track,
            up_track,
        } = measure(participants)?;
        println!(
            "| {participants} | {idle_transport} | {idle_transport_with_channels} | {first_packet} | {down_track} \
             | {active_down_track} | {active_audio_down_track} | {up_track} |"
        );
    }
    println!("\n| part of one idle transport | bytes |\n|---|---:|");
    for (part, bytes) in parts()? {
        println!("| {part} | {bytes} |");
    }
    Ok(())
}
