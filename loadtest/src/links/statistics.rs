//! Percentiles, means, shares, fairness and queues.

use std::collections::BTreeMap;
use std::time::Duration;

/// The nearest rank; `None` of nothing.
pub fn percentile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// Zero of nothing.
pub fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count();
    values.sum::<f64>() / count.max(1) as f64
}

/// Of those that are good; all of nothing.
pub fn share(good: &[bool]) -> f64 {
    if good.is_empty() { 1.0 } else { good.iter().filter(|&&good| good).count() as f64 / good.len() as f64 }
}

/// R. Jain's index: 1 where all get the same, 1/n where one gets all.
pub fn jain(values: &[f64]) -> f64 {
    let (sum, squares) = (values.iter().sum::<f64>(), values.iter().map(|value| value * value).sum::<f64>());
    if squares > 0.0 { sum * sum / (values.len() as f64 * squares) } else { 1.0 }
}

/// A second in which packets wait longer is bad.
const BAD: Duration = Duration::from_millis(400);

/// Median and 95th percentile of the time in the queue, milliseconds, and the share of bad seconds.
pub fn queue<'a>(waits: impl Iterator<Item = &'a (Duration, Duration)> + Clone) -> (f64, f64, f64) {
    let seconds = waits_by_second(waits.clone());
    let mut waits: Vec<f64> = waits.map(|(_, wait)| wait.as_secs_f64() * 1000.0).collect();
    let (q50, q95) = (percentile(&mut waits, 0.5), percentile(&mut waits, 0.95));
    let total = seconds.len().max(1);
    let bad = seconds.into_iter().filter_map(|(_, mut waits)| percentile(&mut waits, 0.95));
    let bad = bad.filter(|&ms| ms > BAD.as_secs_f64() * 1000.0).count();
    (q50.unwrap_or(0.0), q95.unwrap_or(0.0), bad as f64 / total as f64)
}

/// Milliseconds in the queue of the packets of each second in which some were carried.
pub fn waits_by_second<'a>(waits: impl Iterator<Item = &'a (Duration, Duration)>) -> Vec<(usize, Vec<f64>)> {
    let mut seconds = BTreeMap::<usize, Vec<f64>>::new();
    for &(at, wait) in waits {
        seconds.entry(at.as_secs() as usize).or_default().push(wait.as_secs_f64() * 1000.0);
    }
    seconds.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let mut values = vec![3.0, 1.0, 2.0, 4.0];
        assert_eq!(percentile(&mut values, 0.5), Some(2.0));
        assert_eq!(percentile(&mut values, 0.95), Some(4.0));
        assert_eq!(percentile(&mut [], 0.5), None);
    }

    #[test]
    fn jains_index_is_one_for_equals() {
        assert_eq!((jain(&[5.0, 5.0]), jain(&[5.0, 0.0]), jain(&[0.0])), (1.0, 0.5, 1.0));
    }

    #[test]
    fn nothing_has_a_mean_and_a_share() {
        assert_eq!((mean([].into_iter()), mean([1.0, 2.0].into_iter())), (0.0, 1.5));
        assert_eq!((share(&[]), share(&[true, false])), (1.0, 0.5));
    }
}
