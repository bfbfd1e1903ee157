//! Rows on the terminal, and all of them as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::row::Row;
use super::run::Control;

/// All runs.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// In the order in which they were run.
    pub rows: Vec<Row>,
    /// Of each group.
    pub means: BTreeMap<String, Means>,
    /// Scenarios that were not run, and why.
    pub skipped: Vec<Note>,
    /// What of scenarios was not understood.
    pub notes: Vec<Note>,
}

/// Something about a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Note {
    /// The scenario.
    pub id: String,
    /// What.
    pub what: String,
}

/// What tables show of a row, or the means of a group's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "figures of `Row`")]
pub struct Figures {
    pub util: f64,
    pub util_oracle: f64,
    pub q95: f64,
    pub sw_min: f64,
    pub aloss: f64,
    pub usable: f64,
    pub freezes_min: f64,
    pub bad_s: f64,
}

impl Figures {
    fn of(row: &Row) -> Self {
        let &Row { util, util_oracle, q95, sw_min, aloss, usable, freezes_min, bad_s, .. } = row;
        Self { util, util_oracle, q95, sw_min, aloss, usable, freezes_min, bad_s }
    }

    fn mean(rows: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| rows.iter().map(of).sum::<f64>() / rows.len() as f64;
        Self {
            util: mean(|row| row.util),
            util_oracle: mean(|row| row.util_oracle),
            q95: mean(|row| row.q95),
            sw_min: mean(|row| row.sw_min),
            aloss: mean(|row| row.aloss),
            usable: mean(|row| row.usable),
            freezes_min: mean(|row| row.freezes_min),
            bad_s: mean(|row| row.bad_s),
        }
    }
}

/// A group of rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Means {
    /// The means.
    #[serde(flatten)]
    pub figures: Figures,
    /// How many rows.
    pub rows: usize,
    /// Those that miss no bar.
    pub passed: usize,
}

impl Report {
    /// Adds a row, and updates its group's means.
    pub fn push(&mut self, row: Row) {
        let group = row.group.clone();
        self.rows.push(row);
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.group == group).collect();
        let figures: Vec<Figures> = rows.iter().map(|row| Figures::of(row)).collect();
        let means = Means {
            figures: Figures::mean(&figures),
            rows: rows.len(),
            passed: rows.iter().filter(|row| row.pass == Some(true)).count(),
        };
        self.means.insert(group, means);
    }

    /// Rows that miss a bar.
    pub fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.pass == Some(false)).count()
    }
}

/// The head of a table of rows.
pub const HEAD: &str = "\
scenario            group     seed  util oracle  q95 ms sw/min aloss % usable %  frz/min  bad %  goodput/best kbit/s";

/// A figure of a table; a dash where there is none.
fn cell(value: f64, width: usize, digits: usize) -> String {
    if value.is_nan() { format!("{:>width$}", "-") } else { format!("{value:>width$.digits$}") }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {} {} {}",
            cell(self.util, 5, 2),
            cell(self.util_oracle, 6, 2),
            cell(self.q95, 7, 0),
            cell(self.sw_min, 6, 1),
            cell(self.aloss * 100.0, 7, 2),
            cell(self.usable * 100.0, 8, 1),
            cell(self.freezes_min, 8, 1),
            cell(self.bad_s * 100.0, 6, 1),
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, group, seed, goodput_kbps, .. } = self;
        let (figures, oracle_kbps) = (Figures::of(self), cell(self.oracle_kbps, 1, 0));
        write!(f, "{id:<19} {group:<9} {seed:>4} {figures} {goodput_kbps:>9.0}/{oracle_kbps:<7} ")?;
        match self.pass {
            Some(true) => f.write_str("pass")?,
            None => f.write_str("no bar")?,
            Some(false) => f.write_str("MISS")?,
        }
        for miss in self.misses.iter().filter(|_| self.pass == Some(false)) {
            let is = miss.is.map_or_else(|| "never".to_owned(), |is| format!("{is:.3}"));
            write!(f, " {} {is} ({})", miss.figure, miss.bar)?;
        }
        if !self.has_lesson() {
            write!(f, "; loss {:.2} %, fairness {:.2}", self.dropped * 100.0, self.jain)?;
        }
        for alike in self.flows.chunk_by(|a, b| a.flow == b.flow) {
            let total: f64 = alike.iter().map(|flow| flow.kbps).sum();
            write!(f, "; {}: {total:.0}", alike[0].flow)?;
        }
        Ok(())
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4} {:>6} {}", self.rows, self.passed, self.figures)
    }
}

/// The head of a table of means.
const MEANS_HEAD: &str = "rows passed  util oracle  q95 ms sw/min aloss % usable %  frz/min  bad %";

impl fmt::Display for Report {
    /// The means of groups, and what was left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nmeans      {MEANS_HEAD}")?;
        for (group, means) in &self.means {
            writeln!(f, "{group:<10} {means}")?;
        }
        for Note { id, what } in &self.skipped {
            writeln!(f, "not run: {id}: {what}")?;
        }
        for Note { id, what } in &self.notes {
            writeln!(f, "note: {id}: {what}")?;
        }
        Ok(())
    }
}

/// The same scenarios under different control.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Comparison(pub BTreeMap<Control, Report>);

impl fmt::Display for Comparison {
    /// The means of groups, one control below the other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nmeans      control   {MEANS_HEAD}")?;
        let groups: BTreeSet<&String> = self.0.values().flat_map(|report| report.means.keys()).collect();
        for group in groups {
            for (control, report) in &self.0 {
                let Some(means) = report.means.get(group) else { continue };
                writeln!(f, "{group:<10} {:<9} {means}", control.name())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_none_is_a_dash_and_null() {
        assert_eq!((cell(f64::NAN, 5, 2), cell(0.5, 5, 2)), ("    -".to_owned(), " 0.50".to_owned()));
        let row = Row { usable: f64::NAN, ..Row::default() };
        assert!(serde_json::to_string(&row).unwrap().contains("\"usable\":null"));
    }

    #[test]
    fn controls_are_compared_group_by_group() {
        let mut comparison = Comparison::default();
        for (control, q95) in [(Control::Full, 25.0), (Control::None, 250.0)] {
            let mut report = Report::default();
            report.push(Row { group: "constant".to_owned(), q95, ..Row::default() });
            comparison.0.insert(control, report);
        }
        let table = comparison.to_string();
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert!(lines[0].starts_with("constant   full ") && lines[0].contains(" 25 "), "{table}");
        assert!(lines[1].starts_with("constant   none ") && lines[1].contains(" 250 "), "{table}");
        assert_eq!(lines.len(), 2, "{table}");
    }
}
