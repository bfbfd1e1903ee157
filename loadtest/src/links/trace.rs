//! Reads recorded links: `cooked` (seconds and Mbit/s), `nyu` (a rate and its unit for each second) and
//! `mahimahi` (milliseconds at which a packet may leave). All begin anew at their end.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use super::capacity::Capacity;

/// How a recorded link is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `seconds Mbit/s`: the rate holds until the next line.
    Cooked,
    /// `value,unit` for each second.
    Nyu,
    /// One integer a line: a millisecond at which one packet of 1500 bytes may leave.
    Mahimahi,
}

/// Why a trace cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TraceError {
    /// A line is not what its format says.
    #[error("line {0} is malformed")]
    Line(usize),
    /// Its times do not ascend.
    #[error("line {0} is earlier than the one before")]
    Order(usize),
    /// Too few lines for a link.
    #[error("it is too short")]
    Short,
}

/// The fastest link that a trace can tell of, Mbit/s.
const MAX_MBPS: f64 = 100_000.0;

/// Reads a trace and multiplies its rates by `scale`. Moments of `mahimahi` cannot be scaled: there `scale` thins
/// or repeats them.
pub fn read(text: &str, format: Format, scale: f64) -> Result<Capacity, TraceError> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'));
    match format {
        Format::Cooked => cooked(lines, scale),
        Format::Nyu => nyu(lines, scale),
        Format::Mahimahi => mahimahi(lines, scale),
    }
}

fn cooked<'a>(lines: impl Iterator<Item = (&'a str, usize)>, scale: f64) -> Result<Capacity, TraceError> {
    let mut samples: Vec<(Duration, u64)> = Vec::new();
    let mut origin = None;
    for (line, number) in lines {
        let mut fields = line.split_whitespace();
        let seconds: f64 = field(fields.next(), number)?;
        let mbps: f64 = field(fields.next(), number)?;
        let since = seconds - *origin.get_or_insert(seconds);
        let at = Duration::try_from_secs_f64(since).map_err(|_| TraceError::Order(number))?;
        if samples.last().is_some_and(|&(last, _)| at <= last) {
            return Err(TraceError::Order(number));
        }
        samples.push((at, bps(mbps * scale, number)?));
    }
    let [.., (before, _), (last, _)] = samples[..] else { return Err(TraceError::Short) };
    // How long the last sample holds is not written: as long as the one before.
    let period = Some(last + (last - before));
    Ok(Capacity::Steps { steps: samples, period })
}

fn nyu<'a>(lines: impl Iterator<Item = (&'a str, usize)>, scale: f64) -> Result<Capacity, TraceError> {
    let mut steps = Vec::new();
    for (line, number) in lines {
        let (value, unit) = line.split_once(',').ok_or(TraceError::Line(number))?;
        let value: f64 = field(Some(value.trim()), number)?;
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "mbits/sec" => 1.0,
            "kbits/sec" => 1e-3,
            "bits/sec" => 1e-6,
            "gbits/sec" => 1e3,
            _ => return Err(TraceError::Line(number)),
        };
        steps.push((Duration::from_secs(steps.len() as u64), bps(value * unit * scale, number)?));
    }
    let period = Some(Duration::from_secs(steps.len() as u64));
    if steps.is_empty() { Err(TraceError::Short) } else { Ok(Capacity::Steps { steps, period }) }
}

fn mahimahi<'a>(lines: impl Iterator<Item = (&'a str, usize)>, scale: f64) -> Result<Capacity, TraceError> {
    let mut at_ms: Vec<u64> = Vec::new();
    let mut last = 0;
    let mut credit = 0.0;
    for (line, number) in lines {
        let at: u64 = field(line.split_whitespace().next(), number)?;
        if at < last {
            return Err(TraceError::Order(number));
        }
        last = at;
        credit += scale;
        while credit >= 1.0 {
            credit -= 1.0;
            at_ms.push(at);
        }
    }
    // The last moment is where it begins anew.
    if at_ms.is_empty() || last == 0 {
        return Err(TraceError::Short);
    }
    Ok(Capacity::Opportunities { at_ms, period_ms: last })
}

fn field<T: FromStr>(field: Option<&str>, number: usize) -> Result<T, TraceError> {
    field.and_then(|field| field.parse().ok()).ok_or(TraceError::Line(number))
}

fn bps(mbps: f64, number: usize) -> Result<u64, TraceError> {
    if (0.0..=MAX_MBPS).contains(&mbps) {
        Ok((mbps * 1e6).round() as u64)
    } else {
        Err(TraceError::Line(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_format() {
        let steps = |steps: &[(u64, u64)], period| Capacity::Steps {
            steps: steps.iter().map(|&(at, bps)| (Duration::from_millis(at), bps)).collect(),
            period: Some(Duration::from_secs(period)),
        };
        let cooked = "185.0\t0.5\n190.0\t0\n195.0\t1.25\n";
        assert_eq!(
            read(cooked, Format::Cooked, 1.0),
            Ok(steps(&[(0, 500_000), (5000, 0), (10_000, 1_250_000)], 15))
        );
        let nyu = "0.27,Mbits/sec\n800,Kbits/sec\n";
        assert_eq!(read(nyu, Format::Nyu, 0.5), Ok(steps(&[(0, 135_000), (1000, 400_000)], 2)));
        let opportunities =
            |at_ms: &[u64]| Ok(Capacity::Opportunities { at_ms: at_ms.to_vec(), period_ms: 9 });
        assert_eq!(read("0\n4\n4\n9\n", Format::Mahimahi, 1.0), opportunities(&[0, 4, 4, 9]));
        assert_eq!(read("0\n4\n4\n9\n", Format::Mahimahi, 0.5), opportunities(&[4, 9]));
    }

    #[test]
    fn refuses_what_is_no_trace() {
        for (text, format, error) in [
            ("", Format::Cooked, TraceError::Short),
            ("1 2", Format::Cooked, TraceError::Short),
            ("1 x", Format::Cooked, TraceError::Line(1)),
            ("1 2\n1 2", Format::Cooked, TraceError::Order(2)),
            ("1 2\n2 -1", Format::Cooked, TraceError::Line(2)),
            ("1 2\n2 NaN", Format::Cooked, TraceError::Line(2)),
            ("NaN 2\n2 1", Format::Cooked, TraceError::Order(1)),
            ("", Format::Nyu, TraceError::Short),
            ("5", Format::Nyu, TraceError::Line(1)),
            ("5,parsecs", Format::Nyu, TraceError::Line(1)),
            ("", Format::Mahimahi, TraceError::Short),
            ("0\n0", Format::Mahimahi, TraceError::Short),
            ("5\n4", Format::Mahimahi, TraceError::Order(2)),
            ("-5", Format::Mahimahi, TraceError::Line(1)),
        ] {
            assert_eq!(read(text, format, 1.0), Err(error), "{text:?}");
        }
    }
}
