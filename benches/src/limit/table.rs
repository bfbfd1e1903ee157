//! What was measured, for people (a table in Markdown) and for programs (JSON).

use serde::Serialize;

use super::rounds::Spread;

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub stage: String,
    /// Over which link, where it matters.
    pub link: &'static str,
    /// Datagrams of each message, where it matters.
    pub run: Option<usize>,
    /// CPU ns per packet.
    pub spread: Spread,
    /// What else there is to say.
    pub note: String,
}

/// The table in Markdown, its columns aligned.
pub fn render(rows: &[Row]) -> String {
    let head = ["stage", "link", "run", "min", "median", "max", "of that"].map(String::from);
    let cells: Vec<_> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|i| cells.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).enumerate().map(|(i, (cell, width))| {
            if NUMBERS.contains(&i) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = std::array::from_fn(|i| {
        if NUMBERS.contains(&i) { "-".repeat(widths[i] - 1) + ":" } else { "-".repeat(widths[i]) }
    });
    std::iter::once(line(&cells[0])).chain([line(&rule)]).chain(cells[1..].iter().map(line)).collect()
}

const COLUMNS: usize = 7;
/// Columns aligned to the right.
const NUMBERS: std::ops::RangeInclusive<usize> = 2..=5;

fn cells(row: &Row) -> [String; COLUMNS] {
    let Spread { min, median, max } = row.spread;
    let [min, median, max] = [min, median, max].map(|ns| format!("{ns:.0}"));
    let run = row.run.map_or_else(String::new, |run| run.to_string());
    [row.stage.clone(), row.link.to_owned(), run, min, median, max, row.note.clone()]
}

/// The medians that the forwarding path is held against.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Json {
    /// The link of [`Self::limit`]: `ifb` where it could be made.
    pub link: &'static str,
    /// Destinations, each with a key of its own.
    pub destinations: usize,
    /// The combined loop at full load, by run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limit: Vec<Limit>,
    /// The combined loop at a pace, by run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paced: Vec<Paced>,
}

/// CPU ns per packet out, of runs of one length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// Datagrams of each message.
    pub run: usize,
    /// Everything.
    pub ns_out: f64,
    /// What sealing adds.
    pub seal_ns: f64,
    /// What sending adds.
    pub send_ns: f64,
}

/// CPU ns per packet out at a pace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paced {
    /// Datagrams of each message.
    pub run: usize,
    /// Packets in, each second.
    pub pps: u32,
    /// Everything, waking up included.
    pub ns_out: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_markdown() {
        let spread = Spread { min: 99.6, median: 1234.4, max: 12_345.0 };
        let rows = [
            Row { stage: "send".into(), link: "loopback", run: Some(16), spread, note: "a µ".into() },
            Row { stage: "seal AES".into(), link: "", run: None, spread, note: String::new() },
        ];
        let expected = "\
| stage    | link     | run | min | median |   max | of that |
| -------- | -------- | --: | --: | -----: | ----: | ------- |
| send     | loopback |  16 | 100 |   1234 | 12345 | a µ     |
| seal AES |          |     | 100 |   1234 | 12345 |         |
";
        assert_eq!(render(&rows), expected);
    }

    #[test]
    fn json_has_the_names_that_comparisons_read() {
        let limit = vec![Limit { run: 2, ns_out: 1621.5, seal_ns: 174.0, send_ns: 1409.0 }];
        let json = Json { link: "ifb", destinations: 30, limit, paced: Vec::new() };
        assert_eq!(
            serde_json::to_string(&json).unwrap(),
            r#"{"link":"ifb","destinations":30,"limit":[{"run":2,"ns_out":1621.5,"seal_ns":174.0,"send_ns":1409.0}]}"#
        );
    }
}
