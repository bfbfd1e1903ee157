//! CPU time of the calling thread: what a neighbour on a shared machine takes does not count.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of this thread so far, exact. It costs a system call: read it around many packets.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("CPU time is positive");
    let nanos = u32::try_from(time.tv_nsec).expect("a fraction of a second is below 10^9");
    Duration::new(seconds, nanos)
}

/// The same as the scheduler's statistics tell it, of this thread here as of any other process elsewhere; the
/// kernel updates them at ticks and switches, so that they are good for seconds, not for milliseconds.
pub fn scheduled() -> io::Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path)?;
    first_number(&text).map(Duration::from_nanos).ok_or_else(|| io::Error::other(format!("{path}: {text:?}")))
}

/// `time on CPU, time waiting for one (both ns), time slices`.
pub(crate) fn first_number(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_cpu_is_the_first_number_of_schedstat() {
        for (text, expected) in
            [("1234567 89 10\n", Some(1_234_567)), ("0 0 0\n", Some(0)), ("", None), ("a 1 2", None)]
        {
            assert_eq!(first_number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn work_takes_cpu_time() {
        let before = thread_cpu();
        while thread_cpu() == before {
            std::hint::spin_loop();
        }
    }
}
