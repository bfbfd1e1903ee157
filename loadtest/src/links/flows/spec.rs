//! What a scenario's `flows` say:
//!
//! ```text
//! lesson | elastic[-up] | tcp[-up] | tcp-short[-up] | cbr[-up]=KBPS
//!     [@FROM_S[..UNTIL_S]] [xCOUNT] [owd=MS] [pause=FROM_S..UNTIL_S] [size=BYTES..BYTES] [off_s=S]
//! ```

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// A flow, or several of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// As it was written.
    pub text: String,
    /// What it is.
    pub kind: Kind,
    /// Whether it goes from the school to the server.
    pub up: bool,
    /// How many of them there are.
    pub count: usize,
    /// How far it travels each way; `None`: as far as the scenario says.
    pub owd: Option<Duration>,
    /// When it sends.
    pub times: Times,
}

/// What a flow is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The lesson: the server's own worker.
    Lesson,
    /// An encoder that follows its target exactly.
    Elastic,
    /// A transfer without end.
    Tcp,
    /// Files, one after the other.
    TcpShort {
        /// Bytes of a file: the least and the most.
        size: (u64, u64),
        /// Mean time between two of them.
        off: Duration,
    },
    /// A constant rate, bit/s.
    Cbr(u64),
}

/// When a flow sends, since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// From then on.
    pub from: Duration,
    /// Until then.
    pub until: Option<Duration>,
    /// But not in between.
    pub pause: Option<(Duration, Duration)>,
}

impl Times {
    /// Whether it sends.
    pub fn sends_at(&self, at: Duration) -> bool {
        self.next(at) == Some(at)
    }

    /// When it sends next, from `at` on.
    pub fn next(&self, at: Duration) -> Option<Duration> {
        let at = at.max(self.from);
        let at =
            self.pause.filter(|&(from, until)| (from..until).contains(&at)).map_or(at, |(_, until)| until);
        self.until.is_none_or(|until| at < until).then_some(at)
    }
}

/// Bounds of what a file may ask for.
const MAX_COUNT: usize = 100;
const MAX_KBPS: f64 = 1e6;
const MAX_BYTES: u64 = 1 << 30;
const MAX_SECONDS: f64 = 3600.0;

impl FromStr for Spec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut words = text.split_whitespace();
        let first = words.next().unwrap_or_default();
        let (what, times) = first.split_once('@').unwrap_or((first, "0"));
        let (name, rate) = what.split_once('=').map_or((what, None), |(name, rate)| (name, Some(rate)));
        let (name, up) = name.strip_suffix("-up").map_or((name, false), |name| (name, true));
        let kind = match (name, rate) {
            ("lesson", None) => Kind::Lesson,
            ("elastic", None) => Kind::Elastic,
            ("tcp", None) => Kind::Tcp,
            ("tcp-short", None) => Kind::TcpShort { size: SIZE, off: OFF },
            ("cbr", Some(rate)) => Kind::Cbr((within(rate, MAX_KBPS)? * 1000.0) as u64),
            _ => bail!("flow \"{text}\": unknown"),
        };
        let mut spec = Self { text: text.to_owned(), kind, up, count: 1, owd: None, times: Times::default() };
        spec.read_times(times).with_context(|| format!("flow \"{text}\""))?;
        for word in words {
            spec.read_option(word).with_context(|| format!("flow \"{text}\": {word}"))?;
        }
        ensure!(
            spec.kind != Kind::Lesson || what == text,
            "flow \"{text}\": a lesson has neither times nor options"
        );
        Ok(spec)
    }
}

/// What files are without `size` and `off_s`: those of RFC 8867, 5.7.
const SIZE: (u64, u64) = (30_000, 50_000);
const OFF: Duration = Duration::from_secs(10);

impl Spec {
    fn read_times(&mut self, text: &str) -> anyhow::Result<()> {
        match text.split_once("..") {
            Some(_) => {
                let (from, until) = span(text)?;
                self.times = Times { from, until: Some(until), pause: None };
            }
            None => self.times.from = seconds(text)?,
        }
        Ok(())
    }

    fn read_option(&mut self, word: &str) -> anyhow::Result<()> {
        if let Some(count) = word.strip_prefix('x') {
            self.count = count.parse()?;
            ensure!((1..=MAX_COUNT).contains(&self.count), "more than {MAX_COUNT}");
            return Ok(());
        }
        match (word.split_once('=').context("an option is `name=value`")?, &mut self.kind) {
            (("owd", ms), _) => self.owd = Some(Duration::from_secs_f64(within(ms, 60_000.0)? / 1000.0)),
            (("pause", times), _) => self.times.pause = Some(span(times)?),
            (("size", range), Kind::TcpShort { size, .. }) => {
                let (least, most) = range.split_once("..").unwrap_or((range, range));
                *size = (least.parse()?, most.parse()?);
                ensure!((1..=size.1).contains(&size.0) && size.1 <= MAX_BYTES, "of {least} to {most} bytes");
            }
            (("off_s", mean), Kind::TcpShort { off, .. }) => *off = seconds(mean)?,
            _ => bail!("unknown"),
        }
        Ok(())
    }
}

fn span(text: &str) -> anyhow::Result<(Duration, Duration)> {
    let (from, until) = text.split_once("..").context("a time is FROM..UNTIL")?;
    let (from, until) = (seconds(from)?, seconds(until)?);
    ensure!(from < until, "it ends before it begins");
    Ok((from, until))
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    Ok(Duration::from_secs_f64(within(text, MAX_SECONDS)?))
}

fn within(text: &str, most: f64) -> anyhow::Result<f64> {
    let number: f64 = text.parse().with_context(|| format!("\"{text}\""))?;
    ensure!((0.0..=most).contains(&number), "{number} is not in 0 to {most}");
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn flows_are_read_as_they_are_written() {
        let read = |text: &str| text.parse::<Spec>().unwrap();
        let plain = |kind| Spec { kind, ..read("elastic") };
        let of = |text: &str, spec: Spec| assert_eq!(read(text), Spec { text: text.to_owned(), ..spec });
        of("lesson", plain(Kind::Lesson));
        of("elastic-up", Spec { up: true, ..plain(Kind::Elastic) });
        let times = Times { from: s(10), ..Times::default() };
        of("elastic@10 owd=25", Spec { times, owd: Some(s(1) / 40), ..plain(Kind::Elastic) });
        let times = Times { pause: Some((s(40), s(60))), ..Times::default() };
        of("elastic pause=40..60", Spec { times, ..plain(Kind::Elastic) });
        let times = Times { from: s(40), until: Some(s(80)), pause: None };
        of("cbr=300@40..80", Spec { times, ..plain(Kind::Cbr(300_000)) });
        of("tcp-up@40..80", Spec { times, up: true, ..plain(Kind::Tcp) });
        let short = Kind::TcpShort { size: (30_000, 40_000), off: s(5) };
        of("tcp-short x10 size=30000..40000 off_s=5", Spec { count: 10, ..plain(short) });
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "torrent",
            "elastic=5",
            "cbr",
            "cbr=-1",
            "cbr=NaN",
            "tcp@80..40",
            "tcp@x",
            "tcp x0",
            "tcp x101",
            "tcp size=1..2",
            "tcp-short size=5..4",
            "elastic weather=rain",
            "elastic rain",
            "lesson@5",
        ] {
            assert!(text.parse::<Spec>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_flow_sends_from_then_until_then_but_for_its_pause() {
        let times = Times { from: s(10), until: Some(s(50)), pause: Some((s(20), s(30))) };
        for (at, next) in
            [(0, Some(10)), (10, Some(10)), (19, Some(19)), (20, Some(30)), (49, Some(49)), (50, None)]
        {
            assert_eq!(times.next(s(at)), next.map(s), "{at}");
            assert_eq!(times.sends_at(s(at)), next == Some(at), "{at}");
        }
    }
}
