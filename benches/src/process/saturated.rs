//! CPU of the whole process per datagram that it sends while it always has something to read, beside the limit
//! program's.
//!
//! The lessons are fed as fast as the server reads: whenever little waits in its socket, more comes. So nothing is lost
//! on the way in, and it never sleeps. Packets of equal length make runs where several wait for one receiver, and these
//! get longer under load; packets of rising lengths make none, which is the limit's run 1; those of a frame make what
//! its division allows.

use std::fs;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;

use super::lessons::{Lesson, Sizes};
use super::scene::{Rounds, Scene};
use super::usage::{Usage, Work};
use crate::limit::combined::{Combined, Parts};
use crate::limit::link::Link;
use crate::limit::rounds::{Pass, Spread, Stage, cost};
use crate::limit::seal::{Key, Profile};

/// What is measured.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Who is there.
    #[command(flatten)]
    pub scene: Scene,
    /// How long it is watched.
    #[command(flatten)]
    pub rounds: Rounds,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// How long the packets are.
    pub sizes: Sizes,
    /// Packets of each frame.
    pub run: usize,
    /// CPU of the whole process, ns per datagram sent.
    pub process: Spread,
    /// The limit program's, run 1, ns per packet sent.
    pub limit: Spread,
    /// What the process spent in all rounds.
    pub usage: Usage,
    /// What it did in them.
    pub work: Work,
    /// How long they took.
    pub time: Duration,
}

/// CPU time of a round of the limit.
const LIMIT_ROUND: Duration = Duration::from_millis(100);

/// Measures everything that `options` ask for.
///
/// # Errors
/// When the server or a socket fails, or the server is not kept busy.
pub fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let (mut server, mut lessons) = options.scene.begin()?;
    lessons.iter().try_for_each(Lesson::fall_asleep)?;
    let mut limit = Rooms::new(lessons.len(), options.scene.receivers as usize)?;
    let (socket, length) = (Backlog::new(lessons[0].server())?, options.rounds.length());
    let mut rows = Vec::new();
    for (sizes, run) in [(Sizes::Rising, 1), (Sizes::Equal, 1), (Sizes::Split, 4)] {
        lessons.iter_mut().for_each(|lesson| lesson.set_sizes(sizes));
        let (mut process, mut limits) = (Vec::new(), Vec::new());
        let (mut usage, mut work, mut time) = (Usage::default(), Work::default(), Duration::ZERO);
        for round in 0..=options.rounds.rounds {
            server.listen();
            lessons.iter_mut().try_for_each(Lesson::tend)?;
            let (start, before) = (Instant::now(), (server.usage()?, server.work()?));
            feed(&mut lessons, run, &socket, length)?;
            let (spent, done) = (server.usage()?.since(before.0), server.work()?.since(before.1));
            let took = start.elapsed();
            let limit = cost(&mut limit, LIMIT_ROUND)?;
            // The first warms up.
            if round > 0 {
                process.push(spent.cpu.as_nanos() as f64 / done.datagrams.max(1) as f64);
                limits.push(limit);
                (usage, work, time) = (usage + spent, work + done, time + took);
            }
        }
        let (process, limit) = (Spread::of(&process), Spread::of(&limits));
        rows.push(Row { sizes, run, process, limit, usage, work, time });
    }
    Ok(rows)
}

/// The limit's loop for each room, with keys and destinations of its own.
struct Rooms(Vec<Combined>);

impl Rooms {
    fn new(rooms: usize, receivers: usize) -> anyhow::Result<Self> {
        let room = |_| {
            let link = Rc::new(Link::clients(receivers)?);
            Combined::new(link, Key::set(Profile::Gcm, receivers), 1, Parts::All)
        };
        Ok(Self((0..rooms).map(room).collect::<anyhow::Result<_>>()?))
    }
}

impl Stage for Rooms {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.0.iter_mut().try_for_each(Combined::prepare)
    }

    fn pass(&mut self) -> anyhow::Result<Pass> {
        let mut sum = Pass::default();
        for room in &mut self.0 {
            sum += room.pass()?;
        }
        Ok(sum)
    }
}

/// Keeps some packets in the server's socket for a while, the rooms in turn.
fn feed(lessons: &mut [Lesson], run: usize, socket: &Backlog, length: Duration) -> anyhow::Result<()> {
    let (start, mut turn) = (Instant::now(), 0);
    while start.elapsed() < length {
        if socket.bytes()? > LITTLE {
            thread::sleep(PAUSE);
            continue;
        }
        for _ in 0..BATCH / run {
            let lesson = turn % lessons.len();
            lessons[lesson].send_frame(run)?;
            turn += 1;
        }
    }
    Ok(())
}

/// Bytes of the kernel's memory: about a hundred packets, milliseconds of work for a class.
const LITTLE: u64 = 256 << 10;
/// Packets between two looks at what waits.
const BATCH: usize = 64;
/// Less than the server takes for what is left.
const PAUSE: Duration = Duration::from_micros(200);

/// What waits in a socket of another process.
struct Backlog {
    /// Its port as `/proc/net/udp` writes it.
    port: String,
}

impl Backlog {
    fn new(socket: SocketAddr) -> anyhow::Result<Self> {
        ensure!(socket.is_ipv4(), "clients use IPv4");
        Ok(Self { port: format!(":{:04X}", socket.port()) })
    }

    fn bytes(&self) -> anyhow::Result<u64> {
        let table = fs::read_to_string("/proc/net/udp")?;
        waiting(&table, &self.port).context("the server has no socket")
    }
}

/// `slot: local remote state sent:received ..`, all in hexadecimal; several sockets may have one port.
fn waiting(table: &str, port: &str) -> Option<u64> {
    let received = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().filter(|local| local.ends_with(port))?;
        let (_, received) = words.nth(2)?.split_once(':')?;
        u64::from_str_radix(received, 16).ok()
    });
    received.reduce(|sum, bytes| sum + bytes)
}

/// The table in Markdown.
pub fn render(options: &Options, rows: &[Row]) -> String {
    let mut text = format!(
        "{}, as fast as they are read\n\n\
         | lengths | process, ns/packet | limit, run 1, ns/packet | ratio | mean run | packets/s | busy, cores | dropped |\n\
         |---------|-------------------:|------------------------:|------:|---------:|----------:|------------:|--------:|\n",
        options.scene
    );
    for Row { sizes, run, process, limit, usage, work, time } in rows {
        let spread =
            |spread: &Spread| format!("{:.0} / {:.0} / {:.0}", spread.min, spread.median, spread.max);
        let cells = [
            format!("{sizes}, frames of {run}"),
            spread(process),
            spread(limit),
            format!("{:.2}", process.median / limit.median),
            format!("{:.2}", work.datagrams as f64 / work.sends.max(1) as f64),
            format!("{:.0}", work.datagrams as f64 / time.as_secs_f64()),
            format!("{:.2}", usage.cpu.as_secs_f64() / time.as_secs_f64()),
            work.dropped.to_string(),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_summed_over_the_sockets_of_a_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
                     \x20 10: 0100007F:1ECA 00000000:0000 07 00000000:00000300 00:00000000 00000000     0\n\
                     \x20 11: 00000000:1ECA 00000000:0000 07 00000000:00000010 00:00000000 00000000     0\n\
                     \x20 12: 00000000:1ECB 00000000:1ECA 07 00000000:00000001 00:00000000 00000000     0\n";
        assert_eq!((waiting(table, ":1ECA"), waiting(table, ":0001")), (Some(0x310), None));
    }

    #[test]
    fn this_machine_tells_what_waits() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let backlog = Backlog::new(socket.local_addr().unwrap()).unwrap();
        assert_eq!(backlog.bytes().unwrap(), 0);
        socket.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
        assert!(backlog.bytes().unwrap() >= 1000);
    }
}
