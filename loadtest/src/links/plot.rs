//! A picture of a run: capacity, what was sent by layer, goodput, the queue, and unusable seconds.

use std::fmt::Write as _;

use super::account::{Outcome, PlottedSecond};
use super::row::Row;

const WIDTH: f64 = 1000.0;
const RATES: f64 = 320.0;
const QUEUE: f64 = 120.0;
const MARGIN: f64 = 50.0;

/// Of what is stacked, from below; where there is more, they begin anew.
const COLOURS: [&str; 9] =
    ["#1b7837", "#8073ac", "#b2abd2", "#d8daeb", "#e08214", "#fdb863", "#fee0b6", "#d6604d", "#999999"];

/// About as wide as a character of the legend.
const CHARACTER: f64 = 6.2;

/// The longest wait that is drawn in full.
const MAX_WAIT_MS: f64 = 1000.0;

/// Draws a run as SVG.
pub fn svg(outcome: &Outcome) -> String {
    let seconds = &outcome.seconds;
    let x = |second: usize| MARGIN + second as f64 * WIDTH / seconds.len().max(1) as f64;
    let most = seconds.iter().map(|it| it.capacity.max(it.sent.iter().sum::<u64>() * 8)).max().unwrap_or(1);
    // A constant set of layers far above the capacity would flatten everything else.
    let capacity = seconds.iter().map(|it| it.capacity).max().unwrap_or(1);
    let top = most.min(capacity * 3).max(1) as f64;
    let y = |bps: f64| 30.0 + RATES * (1.0 - (bps / top).min(1.0));
    let (width, height) = (WIDTH + 2.0 * MARGIN, RATES + QUEUE + 110.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut svg, MARGIN, 18.0, &title(&outcome.row));
    text(&mut svg, 2.0, 38.0, &format!("{:.0}k", top / 1000.0));
    unusable(&mut svg, seconds, x);
    stack(&mut svg, outcome, x, y);
    line(&mut svg, "black", seconds.iter().enumerate().map(|(at, it)| (x(at), y(it.capacity as f64))));
    line(&mut svg, "#2166ac", seconds.iter().enumerate().map(|(at, it)| (x(at), y(it.goodput as f64 * 8.0))));
    let estimates = seconds.iter().enumerate().filter_map(|(at, it)| Some((x(at), y(it.estimate? as f64))));
    line(&mut svg, "#00a0a0", estimates);
    let floor = 30.0 + RATES + 20.0 + QUEUE;
    let wait = |ms: f64| floor - QUEUE * (ms / MAX_WAIT_MS).min(1.0);
    line(&mut svg, "#b2182b", seconds.iter().enumerate().map(|(at, it)| (x(at), wait(it.queue_ms))));
    text(&mut svg, 2.0, floor - QUEUE + 10.0, "1 s");
    text(&mut svg, 2.0, floor, "queue");
    for at in (0..=seconds.len()).step_by(20) {
        text(&mut svg, x(at), floor + 16.0, &at.to_string());
    }
    let parts = outcome.parts.iter().map(String::as_str).zip(COLOURS.into_iter().cycle());
    let legend = parts.chain([
        ("capacity", "black"),
        ("goodput", "#2166ac"),
        ("estimate", "#00a0a0"),
        ("unusable", "#fddbc7"),
    ]);
    let mut at = MARGIN;
    for (name, colour) in legend {
        let _ = writeln!(
            svg,
            "<rect x=\"{at}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>",
            floor + 26.0
        );
        text(&mut svg, at + 13.0, floor + 35.0, name);
        at += 26.0 + name.len() as f64 * CHARACTER;
    }
    svg.push_str("</svg>\n");
    svg
}

fn title(row: &Row) -> String {
    let more = if row.has_lesson() {
        format!("{:.1} switches/min, {:.1} % usable", row.sw_min, row.usable * 100.0)
    } else {
        format!("fairness {:.2}", row.jain)
    };
    format!("{} seed {}: use {:.2}, q95 {:.0} ms, {more}", row.id, row.seed, row.util, row.q95)
}

fn stack(svg: &mut String, outcome: &Outcome, x: impl Fn(usize) -> f64, y: impl Fn(f64) -> f64) {
    let seconds = &outcome.seconds;
    for (part, colour) in (0..outcome.parts.len()).zip(COLOURS.into_iter().cycle()) {
        let upto = |second: &PlottedSecond, parts_below: usize| {
            y(second.sent[..parts_below].iter().sum::<u64>() as f64 * 8.0)
        };
        let mut points = String::new();
        for (at, second) in seconds.iter().enumerate() {
            let _ = write!(points, "{:.1},{:.1} ", x(at), upto(second, part + 1));
        }
        for (at, second) in seconds.iter().enumerate().rev() {
            let _ = write!(points, "{:.1},{:.1} ", x(at), upto(second, part));
        }
        let _ = writeln!(svg, "<polygon points=\"{points}\" fill=\"{colour}\"/>");
    }
}

fn unusable(svg: &mut String, seconds: &[PlottedSecond], x: impl Fn(usize) -> f64) {
    for (at, _) in seconds.iter().enumerate().filter(|(_, second)| !second.usable) {
        let (left, width) = (x(at), x(at + 1) - x(at));
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"30\" width=\"{width:.2}\" height=\"{RATES}\" fill=\"#fddbc7\"/>"
        );
    }
}

fn line(svg: &mut String, colour: &str, points: impl Iterator<Item = (f64, f64)>) {
    let points: String = points.map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>");
}
