//! Prints what the forwarding path costs beside what this machine can do at best: see [`benches::forward`].
#![allow(clippy::print_stdout, reason = "the table is the program's output")]

use benches::counting::Counting;
use benches::forward::report::{Options, run};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> anyhow::Result<()> {
    print!("{}", run(&Options::parse())?);
    Ok(())
}
