//! Rounds in turn: every stage once, then every stage again, so that a slow minute of the machine hits them all.

use std::ops::AddAssign;
use std::time::Duration;

/// Something whose cost per packet is measured.
pub trait Stage {
    /// Makes ready what the next pass handles, while no clock runs.
    ///
    /// # Errors
    /// When a socket fails.
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Handles some packets and tells what that took.
    ///
    /// # Errors
    /// When a socket fails.
    fn pass(&mut self) -> anyhow::Result<Pass>;
}

/// What one pass took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// CPU time.
    pub spent: Duration,
    /// The packets that it was spent on; those sent, where a stage receives and sends.
    pub packets: u64,
}

impl Pass {
    /// ns per packet.
    pub fn cost(&self) -> f64 {
        self.spent.as_nanos() as f64 / self.packets as f64
    }
}

impl AddAssign for Pass {
    fn add_assign(&mut self, other: Self) {
        self.spent += other.spent;
        self.packets += other.packets;
    }
}

/// Cost per packet over all rounds, ns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The cheapest round.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The dearest one.
    pub max: f64,
}

impl Spread {
    /// Of at least one round.
    ///
    /// # Panics
    /// When `rounds` is empty.
    pub fn of(rounds: &[f64]) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self { min: sorted[0], median, max: sorted[sorted.len() - 1] }
    }
}

/// Measures each stage in `rounds` rounds of at least `round` CPU time, in turn, after one round that does not count.
///
/// # Errors
/// When a stage fails or handles no packet.
pub fn interleave(
    stages: &mut [Box<dyn Stage + '_>],
    rounds: usize,
    round: Duration,
) -> anyhow::Result<Vec<Spread>> {
    let mut costs = vec![Vec::with_capacity(rounds); stages.len()];
    for n in 0..=rounds {
        for (stage, costs) in stages.iter_mut().zip(&mut costs) {
            let cost = cost(stage.as_mut(), round)?;
            if n > 0 {
                costs.push(cost);
            }
        }
    }
    Ok(costs.iter().map(|costs| Spread::of(costs)).collect())
}

/// ns per packet over one round.
///
/// # Errors
/// When the stage fails or handles no packet.
pub fn cost(stage: &mut dyn Stage, round: Duration) -> anyhow::Result<f64> {
    let mut sum = Pass::default();
    loop {
        stage.prepare()?;
        let pass = stage.pass()?;
        anyhow::ensure!(pass.packets > 0, "a pass handled no packet: is the receive buffer tiny?");
        sum += pass;
        if sum.spent >= round {
            return Ok(sum.cost());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn spread_is_that_of_the_sorted_rounds() {
        for (rounds, (min, median, max)) in [
            (&[5.0][..], (5.0, 5.0, 5.0)),
            (&[9.0, 1.0, 4.0], (1.0, 4.0, 9.0)),
            (&[4.0, 1.0, 2.0, 9.0], (1.0, 3.0, 9.0)),
        ] {
            assert_eq!(Spread::of(rounds), Spread { min, median, max }, "{rounds:?}");
        }
    }

    struct Scripted<'a> {
        name: char,
        packets: u64,
        log: &'a RefCell<String>,
    }

    impl Stage for Scripted<'_> {
        fn pass(&mut self) -> anyhow::Result<Pass> {
            self.log.borrow_mut().push(self.name);
            Ok(Pass { spent: Duration::from_micros(1), packets: self.packets })
        }
    }

    #[test]
    fn stages_take_turns_and_each_round_is_long_enough() {
        let log = RefCell::default();
        let stage = |name, packets| Box::new(Scripted { name, packets, log: &log }) as Box<dyn Stage>;
        let spreads = interleave(&mut [stage('a', 10), stage('b', 4)], 2, Duration::from_micros(2)).unwrap();
        assert_eq!(log.borrow().as_str(), "aabbaabbaabb", "two rounds after one to warm up");
        assert_eq!(spreads.iter().map(|spread| spread.median).collect::<Vec<_>>(), [100.0, 250.0]);
    }

    #[test]
    fn a_pass_without_packets_is_an_error_and_no_endless_round() {
        let log = RefCell::default();
        let mut stages = [Box::new(Scripted { name: 'a', packets: 0, log: &log }) as Box<dyn Stage>];
        assert!(interleave(&mut stages, 1, Duration::from_micros(1)).is_err());
    }
}
