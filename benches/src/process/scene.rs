//! Who is there in a measurement.

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::lessons::{Clock, Lesson};
use super::server::Server;

/// Lessons of equal size in one process.
#[derive(Clone, Debug, Args)]
pub struct Scene {
    /// Receivers in each room
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=999))]
    pub receivers: u32,
    /// Rooms
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rooms: u32,
    /// Workers of the server
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// Where the server listens; on all addresses (0.0.0.0:0) it has a socket for each besides
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// The server; by default the `lectern-sfu` beside this program
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,
}

/// How long the server is watched.
#[derive(Clone, Debug, Args)]
pub struct Rounds {
    /// Rounds, of which the table gives the cheapest, the middle and the dearest
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u32).range(1..=1001))]
    pub rounds: u32,
    /// Length of each round
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=60))]
    pub seconds: u64,
}

impl Rounds {
    /// Length of each round.
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl Scene {
    /// Starts the server and lets everyone join.
    ///
    /// # Errors
    /// When something does not start or somebody cannot join.
    pub fn begin(&self) -> anyhow::Result<(Server, Vec<Lesson>)> {
        self.begin_with(Clock::new())
    }

    /// The same with a clock that stamps the packets.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_with(&self, clock: Clock) -> anyhow::Result<(Server, Vec<Lesson>)> {
        let own = env::current_exe()?;
        let beside = || own.parent().map(|folder| folder.join("lectern-sfu"));
        let binary = self.server.clone().or_else(beside).context("a program is in a folder")?;
        let mut server = Server::start(&binary, self.listen, self.workers as usize)?;
        let begin = |number| Lesson::begin(&mut server, clock, number, self.receivers);
        let lessons = (1..=self.rooms).map(begin).collect::<anyhow::Result<Vec<_>>>()?;
        Ok((server, lessons))
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { receivers, rooms, workers, listen, .. } = self;
        write!(f, "rooms: {rooms}, each 1 -> {receivers}; workers: {workers}; on {}", listen.ip())
    }
}
