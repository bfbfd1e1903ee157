//! A sliding window over time, in buckets of equal width: bounded, however much comes.

/// The last `N` buckets of a stream of values. Times are microseconds on any one clock, and may be negative.
#[derive(Clone, Debug)]
pub(super) struct Sliding<T, const N: usize> {
    width: i64,
    /// The newest bucket's number.
    newest: Option<i64>,
    buckets: [Option<T>; N],
}

impl<T: Copy, const N: usize> Sliding<T, N> {
    /// An empty window of `N` buckets that are each `width_ms` wide.
    pub(super) fn new(width_ms: u32) -> Self {
        Self { width: i64::from(width_ms) * 1000, newest: None, buckets: [None; N] }
    }

    /// Takes in a value. One that is older than the window is left out.
    pub(super) fn add(&mut self, at: i64, value: T, combine: impl Fn(T, T) -> T) {
        self.advance(at);
        let number = at.div_euclid(self.width);
        if self.newest.is_some_and(|newest| number > newest - N as i64) {
            let bucket = &mut self.buckets[place::<N>(number)];
            *bucket = Some(bucket.map_or(value, |before| combine(before, value)));
        }
    }

    /// Moves the window on, so that what is too old is forgotten. Never back.
    pub(super) fn advance(&mut self, at: i64) {
        let number = at.div_euclid(self.width);
        let newest = *self.newest.get_or_insert(number);
        if number <= newest {
            return;
        }
        let first = (newest + 1).max(number - N as i64 + 1);
        (first..=number).for_each(|passed| self.buckets[place::<N>(passed)] = None);
        self.newest = Some(number);
    }

    /// What is in the window, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = T> + '_ {
        self.buckets.iter().flatten().copied()
    }

    /// What is in the newest `count` buckets, the newest first.
    pub(super) fn latest(&self, count: usize) -> impl Iterator<Item = T> + '_ {
        let numbers = self
            .newest
            .into_iter()
            .flat_map(move |newest| (0..count.min(N) as i64).map(move |back| newest - back));
        numbers.filter_map(|number| self.buckets[place::<N>(number)])
    }

    pub(super) fn clear(&mut self) {
        (self.newest, self.buckets) = (None, [None; N]);
    }
}

fn place<const N: usize>(number: i64) -> usize {
    number.rem_euclid(N as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_is_older_than_the_window() {
        let mut window = Sliding::<u64, 4>::new(10);
        let sum = |window: &Sliding<u64, 4>| window.values().sum::<u64>();
        for (at_ms, value, expected) in [
            (0, 1, 1),
            (9, 2, 3),
            (10, 4, 7),
            (39, 8, 15),
            (40, 16, 28),
            (-1, 100, 28), // too old
            (5, 100, 28),
            (12, 1, 29), // late, but not too late
            (1000, 5, 5),
        ] {
            window.add(at_ms * 1000, value, |a, b| a + b);
            assert_eq!(sum(&window), expected, "{at_ms}");
        }
        window.advance(i64::MAX);
        assert_eq!(sum(&window), 0);
        window.clear();
        window.add(i64::MIN / 2, 3, |a, b| a + b);
        assert_eq!(sum(&window), 3);
    }
}
