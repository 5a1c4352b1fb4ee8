//! Two servers on the same machine, measured in turn so that both meet the same weather.

use std::io::{self, Write};

use serde::Serialize;

use super::args::{Cell, CompareArgs, LoadArgs};
use super::mix::Mix;
use super::report::{Measurement, Report};
use super::{Result, load, report};

/// Measures all cells of all mixes and prints medians and ratios.
pub(super) fn run(args: &CompareArgs) -> Result<u64> {
    let mut rows = Vec::new();
    let mut measurements = Vec::new();
    for &mix in &args.mixes {
        for &cell in &args.cells {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for round in 0..args.rounds {
                // Who goes first alternates, so that neither always finds the disk as the other left it.
                let order = if round % 2 == 0 { [true, false] } else { [false, true] };
                for is_a in order {
                    let measurement = load::measure(&load_args(args, is_a, mix, cell))?;
                    let name = if is_a { "a" } else { "b" };
                    let rate = measurement.operations_per_second;
                    eprintln!("{mix} {cell} round {}: {name} {rate:.0} operations/s", round + 1);
                    if is_a { &mut a } else { &mut b }.push(measurement);
                }
            }
            rows.push(Row { mix: mix.to_string(), cell, figures: figures(&a, &b) });
            measurements.append(&mut a);
            measurements.append(&mut b);
        }
    }
    let failed = measurements.iter().map(|measurement| measurement.failed).sum();
    let comparison =
        Comparison { a: args.a.clone(), b: args.b.clone(), rounds: args.rounds, rows, measurements };
    report::print(&comparison, args.common.json)?;
    Ok(failed)
}

fn load_args(args: &CompareArgs, is_a: bool, mix: Mix, cell: Cell) -> LoadArgs {
    let (server, server_pid) = if is_a { (&args.a, &args.a_pid) } else { (&args.b, &args.b_pid) };
    LoadArgs {
        server: server.clone(),
        server_pid: server_pid.clone(),
        sessions: cell.sessions,
        outstanding: cell.outstanding,
        mix,
        common: args.common.clone(),
        idle_sessions: None,
        watches_per_session: 0,
    }
}

#[derive(Debug, Serialize)]
struct Comparison {
    a: String,
    b: String,
    rounds: u32,
    rows: Vec<Row>,
    measurements: Vec<Measurement>,
}

#[derive(Debug, Serialize)]
struct Row {
    mix: String,
    cell: Cell,
    figures: Vec<Figure>,
}

/// One quantity on both servers.
#[derive(Debug, PartialEq, Serialize)]
struct Figure {
    name: &'static str,
    a: Summary,
    b: Summary,
    /// Median of a over median of b.
    ratio: f64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    min: f64,
    median: f64,
    max: f64,
}

type Quantity = (&'static str, fn(&Measurement) -> Option<f64>);

const QUANTITIES: [Quantity; 4] = [
    ("operations/s", |measurement| Some(measurement.operations_per_second)),
    ("p50 us", |measurement| Some(measurement.latency_us.p50)),
    ("p99 us", |measurement| Some(measurement.latency_us.p99)),
    ("CPU us/operation", |measurement| Some(measurement.server_process.as_ref()?.cpu_us_per_operation)),
];

/// The quantities that both servers have.
fn figures(a: &[Measurement], b: &[Measurement]) -> Vec<Figure> {
    let values = |measurements: &[Measurement], quantity: fn(&Measurement) -> Option<f64>| {
        measurements.iter().map(quantity).collect::<Option<Vec<f64>>>().and_then(Summary::of)
    };
    QUANTITIES
        .into_iter()
        .filter_map(|(name, quantity)| {
            let (a, b) = (values(a, quantity)?, values(b, quantity)?);
            let ratio = a.median / b.median;
            Some(Figure { name, a, b, ratio })
        })
        .collect()
}

impl Summary {
    fn of(mut values: Vec<f64>) -> Option<Summary> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Summary { min, median, max })
    }
}

impl Report for Comparison {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "a = {}, b = {}; medians (min..max) of {} rounds", self.a, self.b, self.rounds)?;
        writeln!(
            out,
            "{:<8} {:>7}  {:<17} {:>10} {:<21} {:>10} {:<21} {:>6}",
            "mix", "cell", "", "a", "", "b", "", "a/b"
        )?;
        for row in &self.rows {
            for (line, figure) in row.figures.iter().enumerate() {
                let (mix, cell) = match line {
                    0 => (row.mix.as_str(), row.cell.to_string()),
                    _ => ("", String::new()),
                };
                let [(a, a_range), (b, b_range)] = [&figure.a, &figure.b].map(cell_text);
                let Figure { name, ratio, .. } = figure;
                writeln!(
                    out,
                    "{mix:<8} {cell:>7}  {name:<17} {a:>10} {a_range:<21} {b:>10} {b_range:<21} {ratio:>6.2}"
                )?;
            }
        }
        Ok(())
    }
}

/// Median, and range in parentheses.
fn cell_text(summary: &Summary) -> (String, String) {
    let number = |value: f64| if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    (number(summary.median), format!("({}..{})", number(summary.min), number(summary.max)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let median = |values: &[f64]| Summary::of(values.to_vec()).unwrap().median;
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(Summary::of(vec![]), None);
    }
}
