//! The combined loop at a pace: most of the cost is then in waking up.

use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::clock::scheduled;
use super::combined::{Fanout, Parts};
use super::inbox::Inbox;
use super::link::Link;
use super::rounds::{Pass, Stage};
use super::seal::Key;

/// Forwards packets of a client that sends a run every so often; the client's own thread does not count.
pub struct Paced {
    inbox: Inbox,
    link: Rc<Link>,
    fanout: Fanout,
    run: usize,
    /// Between two runs.
    interval: Duration,
    /// Runs in, for each pass.
    runs: u32,
}

impl Paced {
    /// `pps` packets a second come in, `run` at once, for `length`.
    ///
    /// # Errors
    /// When the sockets cannot be opened.
    pub fn new(
        link: Rc<Link>,
        keys: Rc<[Key]>,
        run: usize,
        pps: u32,
        length: Duration,
    ) -> anyhow::Result<Self> {
        let inbox = Inbox::new(&keys[0])?;
        inbox.socket().set_nonblocking(false)?;
        let interval = Duration::from_secs(run as u64) / pps;
        inbox.socket().set_read_timeout(Some(interval + PATIENCE))?;
        let runs = (length.as_nanos() / interval.as_nanos().max(1)).clamp(1, u32::MAX.into()) as u32;
        Ok(Self { inbox, link, fanout: Fanout::new(keys, run), run, interval, runs })
    }
}

/// How much longer than the interval a run may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

impl Stage for Paced {
    fn pass(&mut self) -> anyhow::Result<Pass> {
        let Self { inbox, link, fanout, run, interval, runs } = self;
        let inbox = &*inbox;
        thread::scope(|scope| {
            let client = scope.spawn(|| send_paced(inbox, *run, *interval, *runs));
            let mut packets = 0;
            let start = scheduled()?;
            for n in 0..*runs {
                ensure!(fanout.gather(inbox)?, "run {n} of {runs} did not come");
                packets += fanout.forward(link, Parts::All)?;
            }
            let spent = scheduled()?.saturating_sub(start);
            client.join().expect("the client does not panic")?;
            Ok(Pass { spent, packets })
        })
    }
}

fn send_paced(inbox: &Inbox, run: usize, interval: Duration, runs: u32) -> anyhow::Result<()> {
    let start = Instant::now();
    for n in 1..=runs {
        thread::sleep((start + interval * n).saturating_duration_since(Instant::now()));
        inbox.send_first(run)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::seal::Profile;
    use super::*;

    #[test]
    fn a_pass_lasts_as_long_as_asked_and_forwards_every_run() {
        let (link, keys) = (Rc::new(Link::loopback(2).unwrap()), Key::set(Profile::Gcm, 2));
        for (run, runs) in [(1, 20), (4, 5)] {
            let length = Duration::from_millis(20);
            let mut stage = Paced::new(Rc::clone(&link), Rc::clone(&keys), run, 1000, length).unwrap();
            assert_eq!(stage.runs, runs);
            let start = Instant::now();
            assert_eq!(stage.pass().unwrap().packets, u64::from(runs) * run as u64 * 2);
            assert!(start.elapsed() >= length);
        }
    }
}
