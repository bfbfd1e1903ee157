//! The bars of a row: what its scenario expects and what its group has to hold, the stricter of each.

use serde::Serialize;
use toml::{Table, Value};

use super::row::Row;

/// What a scenario expects.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    bars: Vec<Bar>,
    not_judged: Vec<String>,
}

/// A limit of one figure of a row.
#[derive(Clone, Copy, Debug)]
struct Bar {
    figure: &'static Figure,
    limit: f64,
}

/// A figure that can be judged.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    better: Better,
    of: fn(&Row) -> Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
}

/// A bar that a row misses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Miss {
    /// The figure.
    pub figure: &'static str,
    /// What it is; `None` where it never came.
    pub is: Option<f64>,
    /// What it should be at least or at most.
    pub bar: f64,
}

const FIGURES: &[Figure] = &[
    Figure { name: "util", better: Better::Higher, of: |row| Some(row.util) },
    Figure { name: "util_oracle", better: Better::Higher, of: |row| Some(row.util_oracle) },
    Figure { name: "q95", better: Better::Lower, of: |row| Some(row.q95) },
    Figure { name: "sw_min", better: Better::Lower, of: |row| Some(row.sw_min) },
    Figure { name: "aloss", better: Better::Lower, of: |row| Some(row.aloss) },
    Figure { name: "bad_s", better: Better::Lower, of: |row| Some(row.bad_s) },
    Figure { name: "usable", better: Better::Higher, of: |row| Some(row.usable) },
    Figure { name: "freezes_min", better: Better::Lower, of: |row| Some(row.freezes_min) },
    Figure { name: "audio_gap_ms", better: Better::Lower, of: |row| Some(row.audio_gap_ms) },
    Figure { name: "audio_kbps", better: Better::Lower, of: |row| Some(row.audio_kbps) },
    Figure { name: "video_kbps", better: Better::Lower, of: |row| Some(row.video_kbps) },
    Figure { name: "recover_s", better: Better::Lower, of: |row| row.recover_s },
    Figure { name: "audio_back_s", better: Better::Lower, of: |row| row.audio_back_s },
    Figure { name: "slides_back_s", better: Better::Lower, of: |row| row.slides_back_s },
    Figure { name: "jain", better: Better::Higher, of: |row| Some(row.jain) },
    Figure { name: "receiver0_slides", better: Better::Higher, of: |row| Some(row.receiver0_slides) },
];

/// What is still a picture that is off: the first key frame may have left before the link was known.
const OFF_KBPS: f64 = 1.0;

impl Expectations {
    /// Reads an `expect` table.
    pub fn read(table: &Table) -> Self {
        let mut read = Self::default();
        for (name, value) in table {
            match (name.as_str(), value) {
                ("video", Value::String(text)) if text == "paused-ok" => {}
                ("video", Value::String(text)) if text == "off" => read.push("video_kbps", OFF_KBPS),
                ("audio", Value::String(text)) => match one_stream(text) {
                    Some(kbps) => read.push("audio_kbps", kbps),
                    None => read.not_judged.push(format!("{name} = {value:?}")),
                },
                ("receiver0_slides", Value::String(text)) if text == "always" => {
                    read.push("receiver0_slides", 1.0);
                }
                (name, value) => match number(value) {
                    Some(limit) if FIGURES.iter().any(|figure| figure.name == name) => read.push(name, limit),
                    _ => read.not_judged.push(format!("{name} = {value:?}")),
                },
            }
        }
        read
    }

    /// Expectations that this program does not understand.
    pub fn not_judged(&self) -> &[String] {
        &self.not_judged
    }

    /// The bars that a row misses: its scenario's, and those of its group.
    pub fn misses(&self, row: &Row, group: &Self) -> Vec<Miss> {
        let mut misses: Vec<Miss> = Vec::new();
        for figure in FIGURES {
            let bars = self
                .bars
                .iter()
                .chain(&group.bars)
                .filter(|bar| bar.figure.name == figure.name)
                .map(|bar| bar.limit);
            let strictest = match figure.better {
                Better::Higher => bars.max_by(f64::total_cmp),
                Better::Lower => bars.min_by(f64::total_cmp),
            };
            let Some(bar) = strictest else { continue };
            let is = (figure.of)(row);
            let holds = is.is_some_and(|is| match figure.better {
                Better::Higher => is >= bar - 1e-9,
                Better::Lower => is <= bar + 1e-9,
            });
            if !holds {
                misses.push(Miss { figure: figure.name, is, bar });
            }
        }
        misses
    }

    /// What every lesson of a group has to hold, whatever its scenario says. `kbps` is a constant link's rate.
    pub fn of_group(group: &str, kbps: Option<f64>, outage: bool) -> Self {
        let mut bars = Self::default();
        match group {
            "constant" | "impaired" => {
                bars.push("util_oracle", 0.95);
                bars.push("sw_min", 2.5);
                bars.push("aloss", 0.005);
            }
            "stepped" | "recorded" => {
                bars.push("sw_min", 10.0);
                bars.push("bad_s", 0.10);
                bars.push("util", 0.60);
            }
            _ => return bars,
        }
        if !outage && group != "recorded" {
            bars.push("audio_gap_ms", 400.0);
        }
        if group == "constant" && kbps.is_some_and(|kbps| kbps >= 100.0) {
            bars.push("q95", 125.0);
            bars.push("usable", 0.99);
            bars.push("freezes_min", 0.5);
        }
        bars
    }

    fn push(&mut self, name: &str, limit: f64) {
        self.bars
            .extend(FIGURES.iter().find(|figure| figure.name == name).map(|figure| Bar { figure, limit }));
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
}

/// "one stream <= 12 kbps wire"
fn one_stream(text: &str) -> Option<f64> {
    text.strip_prefix("one stream <= ")?.strip_suffix(" kbps wire")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misses(expect: &str, group: &Expectations, row: &Row) -> Vec<&'static str> {
        let expect = Expectations::read(&toml::from_str(expect).unwrap());
        assert!(expect.not_judged().is_empty(), "{:?}", expect.not_judged());
        expect.misses(row, group).iter().map(|miss| miss.figure).collect()
    }

    #[test]
    fn a_row_has_to_hold_the_stricter_of_both_bars() {
        let row = Row { util_oracle: 0.9, q95: 130.0, sw_min: 2.0, ..Row::default() };
        let none = Expectations::default();
        assert!(misses("util_oracle = 0.85\nq95 = 150", &none, &row).is_empty());
        assert_eq!(misses("util_oracle = 0.95\nq95 = 100", &none, &row), ["util_oracle", "q95"]);
        let group = Expectations::of_group("constant", Some(100.0), false);
        let missed = misses("util_oracle = 0.85\nq95 = 150", &group, &row);
        assert_eq!(missed, ["util_oracle", "q95", "usable"]);
        assert!(misses("", &Expectations::of_group("rfc", None, false), &row).is_empty());
    }

    #[test]
    fn what_never_came_back_misses_its_bar() {
        let none = Expectations::default();
        assert_eq!(misses("audio_back_s = 2.0", &none, &Row::default()), ["audio_back_s"]);
        let back = Row { audio_back_s: Some(1.5), ..Row::default() };
        assert!(misses("audio_back_s = 2.0", &none, &back).is_empty());
    }

    #[test]
    fn words_are_bars_too_and_unknown_ones_are_told() {
        let none = Expectations::default();
        let row = Row { audio_kbps: 12.5, video_kbps: 80.0, ..Row::default() };
        assert_eq!(
            misses("audio = 'one stream <= 12 kbps wire'\nvideo = 'off'", &none, &row),
            ["audio_kbps", "video_kbps"]
        );
        assert!(misses("video = 'paused-ok'", &none, &row).is_empty());
        let odd = Expectations::read(&toml::from_str("smell = 3\nvideo = 'pretty'").unwrap());
        assert_eq!(odd.not_judged().len(), 2);
    }
}
