//! How long a packet stays in the process, from the client that sends it to the one that is served last, beside a
//! plain reflector, and while the server has other work: many join, or session descriptions and metrics are asked for.

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use sfu_protocol::control::ToSfu;
use sfu_protocol::ids::{RoomId, TransportId};

use super::client::{Client, wait};
use super::lessons::{Clock, Lesson, play};
use super::reflector::Reflector;
use super::scene::Scene;
use super::sdp::{Direction, offer};
use super::server::Server;

/// What is measured.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Who is there.
    #[command(flatten)]
    pub scene: Scene,
    /// Shares of what the server can carry, %
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "10,50,80",
          value_parser = clap::value_parser!(u32).range(1..=95))]
    pub loads: Vec<u32>,
    /// Packets of each frame, which come at once
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=32))]
    pub run: u32,
    /// Clients that join in a second, in the last part of each round
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=900))]
    pub joining: u32,
    /// Rounds: each is a part with the server, one with the reflector, and two with the server while it does other work
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

/// Each part of a round.
const PART: Duration = Duration::from_secs(1);

/// How long packets are on their way at most.
const LAST: Duration = Duration::from_millis(300);

/// The rate at which the search for what the server can carry begins, and ends at the latest, packets a second into
/// each room.
const RATES: (u32, u32) = (100, 3200);

/// More than this, a receiver's pacer would be what is measured: it releases 50 Mbit/s.
const MAX_PPS: u32 = 4000;

/// So busy a worker tells what it can carry: with less, waking up weighs in.
const BUSY: f64 = 0.6;

/// With less than this share of what was asked for, the machine has no more to give, however idle it looks to us.
const KEEPS_UP: f64 = 0.9;

/// The times of one load.
#[derive(Clone, Debug)]
pub struct Row {
    /// % of what the server can carry.
    pub load: u32,
    /// Packets a second into each room.
    pub pps: u32,
    /// Through the server, sorted.
    pub server: Vec<Duration>,
    /// Through the reflector, sorted.
    pub reflector: Vec<Duration>,
    /// Through the server while it describes sessions and metrics without a break, sorted.
    pub describing: Vec<Duration>,
    /// How many of each it described.
    pub described: usize,
    /// Through the server while others join, sorted.
    pub joining: Vec<Duration>,
}

impl Row {
    fn new(load: u32, pps: u32) -> Self {
        let none = Vec::new;
        Self {
            load,
            pps,
            server: none(),
            reflector: none(),
            describing: none(),
            described: 0,
            joining: none(),
        }
    }
}

/// Measures everything that `options` ask for.
///
/// # Errors
/// When the server or a socket fails.
pub fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let clock = Clock::new();
    let (mut server, mut lessons) = options.scene.begin_with(clock)?;
    let mut probe = lessons[0].take_last().context("somebody receives")?;
    lessons.iter().try_for_each(Lesson::fall_asleep)?;
    let reflector = Reflector::start()?;
    let capacity = capacity(&mut server, &mut lessons, &mut probe, options)?;
    let mut rows = Vec::new();
    for &load in &options.loads {
        let pps = (capacity * load / 100).max(1);
        ensure!(pps <= MAX_PPS, "{load} % are {pps} packets/s into each room: take more --rooms");
        let mut row = Row::new(load, pps);
        for _ in 0..options.rounds {
            server.listen();
            lessons.iter_mut().try_for_each(Lesson::tend)?;
            row.server.extend(through(&mut lessons, &mut probe, clock, options.run, pps)?);
            let interval = Duration::from_secs(options.run.into()) / pps;
            row.reflector.extend(reflector.play(interval, PART, SIZE)?);
            let (ages, described) =
                described(&mut server, || through(&mut lessons, &mut probe, clock, options.run, pps))?;
            row.describing.extend(ages);
            row.described += described;
            let mut school = School::invite(&mut server, options.joining)?;
            let ages = thread::scope(|scope| {
                let joining = scope.spawn(|| school.join());
                let ages = through(&mut lessons, &mut probe, clock, options.run, pps);
                joining.join().expect("joining does not panic")?;
                ages
            })?;
            row.joining.extend(ages);
            school.leave(&server)?;
        }
        for times in [&mut row.server, &mut row.reflector, &mut row.describing, &mut row.joining] {
            ensure!(!times.is_empty(), "nothing has arrived at {load} %");
            times.sort_unstable();
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Bytes of a datagram through the reflector.
const SIZE: usize = 1200;

/// Packets a second into each room that keep a worker busy all the time.
fn capacity(
    server: &mut Server,
    lessons: &mut [Lesson],
    probe: &mut Client,
    options: &Options,
) -> anyhow::Result<u32> {
    let mut pps = RATES.0;
    loop {
        let (start, before) = (Instant::now(), (server.usage()?, server.work()?));
        play(lessons, options.run as usize, pps, PART)?;
        let time = start.elapsed().as_secs_f64();
        let spent = server.usage()?.since(before.0).cpu.as_secs_f64();
        let busy = spent / time / f64::from(options.scene.workers);
        // On a busy machine less is played than was asked for.
        let sent = server.work()?.since(before.1).datagrams as f64 / time;
        let played = sent / f64::from(options.scene.receivers * options.scene.rooms);
        probe.read(|_, _| {})?;
        server.listen();
        if busy > BUSY || played < KEEPS_UP * f64::from(pps) || pps >= RATES.1 {
            // What it was given too much of belongs to nothing that is measured.
            thread::sleep(PART);
            return Ok((played / busy) as u32);
        }
        pps *= 2;
    }
}

/// Plays the lessons and takes the time of each packet that the probe gets.
fn through(
    lessons: &mut [Lesson],
    probe: &mut Client,
    clock: Clock,
    run: u32,
    pps: u32,
) -> anyhow::Result<Vec<Duration>> {
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let (start, mut ages) = (Instant::now(), Vec::new());
            while start.elapsed() < PART + LAST {
                wait(std::slice::from_ref(probe), LAST)?;
                // What was sent before belongs to something else.
                let recent = |now: Instant, age: &Duration| *age <= now - start;
                probe
                    .read(|now, packet| ages.extend(clock.age(now, packet).filter(|age| recent(now, age))))?;
            }
            anyhow::Ok(ages)
        });
        play(lessons, run as usize, pps, PART)?;
        reading.join().expect("reading does not panic")
    })
}

/// Plays while the server is asked for one answer and one page of metrics after the other. Returns how many of each.
fn described<T: Send>(
    server: &mut Server,
    play: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<(T, usize)> {
    server.send(ToSfu::OpenRoom { room: SCHOOL })?;
    let mut count = 0;
    let played = thread::scope(|scope| {
        let playing = scope.spawn(play);
        while !playing.is_finished() {
            let name = FIRST_PUPIL + count as u32;
            invite(server, name)?;
            server.send(ToSfu::CloseTransport { transport: TransportId(name.into()) })?;
            server.work()?;
            count += 1;
        }
        playing.join().expect("playing does not panic")
    })?;
    server.send(ToSfu::CloseRoom { room: SCHOOL })?;
    Ok((played, count))
}

/// A client that has made its offer and got the answer.
fn invite(server: &mut Server, name: u32) -> anyhow::Result<Client> {
    let transport = TransportId(name.into());
    server.send(ToSfu::OpenTransport { room: SCHOOL, transport, link: "school".to_owned() })?;
    let mut client = Client::new(name)?;
    let (sdp, publish) = (offer(&client.params(), Direction::Receive), Vec::new());
    client.take(server.negotiate(ToSfu::Offer { transport, offer_id: 1, sdp, publish })?);
    Ok(client)
}

/// Clients that are about to join.
struct School {
    clients: Vec<Client>,
    first: u64,
}

/// Their room, and their transports' ids, are beyond those of the lessons.
const SCHOOL: RoomId = RoomId(1 << 20);
const FIRST_PUPIL: u32 = 1 << 28;

/// How long they may take in all: on a busy machine they compete with the server.
const JOINING: Duration = Duration::from_secs(20);

impl School {
    /// They have made their offers and got answers.
    fn invite(server: &mut Server, count: u32) -> anyhow::Result<Self> {
        server.send(ToSfu::OpenRoom { room: SCHOOL })?;
        let names = FIRST_PUPIL..FIRST_PUPIL + count;
        let clients = names.map(|name| invite(server, name)).collect::<anyhow::Result<_>>()?;
        Ok(Self { clients, first: FIRST_PUPIL.into() })
    }

    /// One after the other begins its checks and handshake, all within a second, and gets in some time.
    fn join(&mut self) -> anyhow::Result<()> {
        let (start, count) = (Instant::now(), self.clients.len());
        while !self.clients.iter().all(Client::is_connected) {
            let now = Instant::now();
            let missing = self.clients.iter().filter(|client| !client.is_connected()).count();
            ensure!(now < start + JOINING, "{missing} of {count} do not get in");
            let begun = (now - start).as_secs_f64() / PART.as_secs_f64() * count as f64;
            let here = &mut self.clients[..count.min(begun as usize + 1)];
            for client in here.iter_mut().filter(|client| !client.is_connected()) {
                client.tend(now)?;
                client.read(|_, _| {})?;
            }
            thread::sleep(PART / count as u32);
        }
        Ok(())
    }

    fn leave(&self, server: &Server) -> anyhow::Result<()> {
        let transports = self.first..self.first + self.clients.len() as u64;
        let mut closed = transports.map(TransportId);
        closed.try_for_each(|transport| server.send(ToSfu::CloseTransport { transport }))?;
        server.send(ToSfu::CloseRoom { room: SCHOOL })
    }
}

/// The table in Markdown.
pub fn render(options: &Options, rows: &[Row]) -> String {
    let mut text = format!(
        "{}; frames of {}; {} join in a second\n\n\
         | load | packets/s into each | through | p50, us | p99, us | p99.9, us | packets |\n\
         |-----:|--------------------:|---------|--------:|--------:|----------:|--------:|\n",
        options.scene, options.run, options.joining
    );
    for Row { load, pps, server, reflector, describing, described, joining } in rows {
        let asked = format!("server, {described} answers and pages");
        for (what, times) in [
            ("server", server),
            ("reflector", reflector),
            (&*asked, describing),
            ("server, others join", joining),
        ] {
            let [p50, p99, p999] = [500, 990, 999].map(|share| quantile(times, share).as_micros());
            let packets = times.len();
            let line = format!("| {load} % | {pps} | {what} | {p50} | {p99} | {p999} | {packets} |");
            writeln!(text, "{line}").expect("a string takes everything");
        }
    }
    text
}

/// What `share` thousandths of the sorted times do not exceed.
fn quantile(sorted: &[Duration], share: usize) -> Duration {
    sorted.get((sorted.len() * share / 1000).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let times: Vec<_> = (0..1000).map(Duration::from_micros).collect();
        for (share, micros) in [(500, 500), (990, 990), (999, 999)] {
            assert_eq!(quantile(&times, share), Duration::from_micros(micros));
        }
        assert_eq!(quantile(&times[..1], 999), times[0]);
        assert_eq!(quantile(&[], 500), Duration::ZERO);
    }
}
