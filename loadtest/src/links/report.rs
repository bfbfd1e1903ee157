//! Rows on the terminal, and all of them as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::row::Row;

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

/// The mean of a group's rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the figures of `Row`, and these counts")]
pub struct Means {
    pub util: f64,
    pub util_oracle: f64,
    pub q95: f64,
    pub sw_min: f64,
    pub aloss: f64,
    pub usable: f64,
    pub freezes_min: f64,
    pub bad_s: f64,
    pub rows: usize,
    pub passed: usize,
}

impl Report {
    /// Adds a row, and updates its group's means.
    pub fn push(&mut self, row: Row) {
        let group = row.group.clone();
        self.rows.push(row);
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.group == group).collect();
        let mean = |of: fn(&Row) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / rows.len() as f64;
        let means = Means {
            util: mean(|row| row.util),
            util_oracle: mean(|row| row.util_oracle),
            q95: mean(|row| row.q95),
            sw_min: mean(|row| row.sw_min),
            aloss: mean(|row| row.aloss),
            usable: mean(|row| row.usable),
            freezes_min: mean(|row| row.freezes_min),
            bad_s: mean(|row| row.bad_s),
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

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id, group, seed, util, util_oracle, q95, sw_min, aloss, usable, freezes_min, bad_s, ..
        } = self;
        write!(
            f,
            "{id:<19} {group:<9} {seed:>4} {util:>5.2} {util_oracle:>6.2} {q95:>7.0} {sw_min:>6.1} {:>7.2} {:>8.1} \
             {freezes_min:>8.1} {:>6.1} {:>9.0}/{:<7.0} ",
            aloss * 100.0,
            usable * 100.0,
            bad_s * 100.0,
            self.goodput_kbps,
            self.oracle_kbps,
        )?;
        match self.pass {
            Some(true) => f.write_str("pass"),
            None => f.write_str("no bar"),
            Some(false) => {
                f.write_str("MISS")?;
                for miss in &self.misses {
                    let is = miss.is.map_or_else(|| "never".to_owned(), |is| format!("{is:.3}"));
                    write!(f, " {} {is} ({})", miss.figure, miss.bar)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Report {
    /// The means of groups, and what was left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nmeans      rows passed  util oracle  q95 ms sw/min aloss % usable %  frz/min  bad %")?;
        for (group, means) in &self.means {
            writeln!(
                f,
                "{group:<10} {:>4} {:>6} {:>5.2} {:>6.2} {:>7.0} {:>6.1} {:>7.2} {:>8.1} {:>8.1} {:>6.1}",
                means.rows,
                means.passed,
                means.util,
                means.util_oracle,
                means.q95,
                means.sw_min,
                means.aloss * 100.0,
                means.usable * 100.0,
                means.freezes_min,
                means.bad_s * 100.0,
            )?;
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
