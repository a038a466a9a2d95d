// SPDX-License-Identifier: GPL-2.0

//! Compares the throughput of two kernels. Runs on the two kernels alternate, so that the machine
//! is in a similar state during both runs of a pair.

use std::fmt::{self, Display, Formatter, Write};
use std::fs;
use std::path::PathBuf;

use anyhow::{bail, Context, Result};

const HEADINGS: &str = "transfer,by,bytes_per_second";
const GIB: f64 = (1u64 << 30) as f64;

/// One line of the output of `throughput`.
#[derive(Debug)]
pub struct Speed {
    transfer: String,
    by: String,
    bytes_per_second: f64,
}

/// Reads the output of each run of `throughput`.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Vec<Speed>>> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path)
            .map_err(anyhow::Error::from)
            .and_then(|text| parse(&text))
            .with_context(|| path.display().to_string())
    };
    paths.iter().map(read).collect()
}

fn parse(text: &str) -> Result<Vec<Speed>> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADINGS) {
        bail!("no headings: this is not what `throughput` prints");
    }
    lines
        .map(|line| parse_line(line).with_context(|| format!("{line:?}")))
        .collect()
}

fn parse_line(line: &str) -> Result<Speed> {
    let (transfer, rest) = line.split_once(",\"").context("no second field")?;
    let (by, speed) = rest.split_once("\",").context("no third field")?;
    let bytes_per_second: f64 = speed.parse()?;
    if !bytes_per_second.is_finite() || bytes_per_second <= 0.0 {
        bail!("nothing was moved");
    }
    Ok(Speed {
        transfer: transfer.into(),
        by: by.into(),
        bytes_per_second,
    })
}

/// The distribution of the values of all runs.
struct Spread {
    least: f64,
    lower: f64,
    median: f64,
    upper: f64,
    most: f64,
}

impl Spread {
    /// `values` is not empty and contains no NaN.
    fn from_values(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        // Interpolates linearly between two values, as R and NumPy do.
        let at = |part: f64| {
            let place = part * last as f64;
            let below = place as usize;
            let above = values[(below + 1).min(last)];
            values[below] + (above - values[below]) * place.fract()
        };
        Self {
            least: at(0.0),
            lower: at(0.25),
            median: at(0.5),
            upper: at(0.75),
            most: at(1.0),
        }
    }
}

/// Formats the quartiles for the table.
struct Quartiles<'a>(&'a Spread, usize);

impl Display for Quartiles<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(spread, digits) = self;
        write!(
            f,
            "{:.digits$} ({:.digits$} to {:.digits$})",
            spread.median, spread.lower, spread.upper
        )
    }
}

/// One transfer on both kernels, in GiB a second.
struct Row {
    transfer: String,
    by: String,
    c: Spread,
    rust: Spread,
    /// Throughput of Rust as a multiple of C's, for each pair of runs.
    ratio: Spread,
}

/// All transfers on both kernels.
pub struct ThroughputReport {
    runs: usize,
    rows: Vec<Row>,
}

impl ThroughputReport {
    /// Returns an error if the runs do not have the same transfers.
    pub fn join(c: Vec<Vec<Speed>>, rust: Vec<Vec<Speed>>) -> Result<Self> {
        if c.len() != rust.len() {
            bail!("{} runs of C, and {} of Rust", c.len(), rust.len());
        }
        let first = match c.first() {
            Some(first) if !first.is_empty() => first,
            _ => bail!("nothing was measured"),
        };
        let row = |i: usize| {
            let Speed { transfer, by, .. } = &first[i];
            let values = |runs: &[Vec<Speed>]| -> Result<Vec<f64>> {
                runs.iter()
                    .map(|run| match run.get(i) {
                        Some(speed) if (&speed.transfer, &speed.by) == (transfer, by) => {
                            Ok(speed.bytes_per_second / GIB)
                        }
                        other => bail!("{transfer} by {by} in one run is {other:?} in another"),
                    })
                    .collect()
            };
            let (c, rust) = (values(&c)?, values(&rust)?);
            let ratios = rust.iter().zip(&c).map(|(rust, c)| rust / c).collect();
            Ok(Row {
                transfer: transfer.clone(),
                by: by.clone(),
                c: Spread::from_values(c),
                rust: Spread::from_values(rust),
                ratio: Spread::from_values(ratios),
            })
        };
        let most = c.iter().chain(&rust).map(Vec::len).max().unwrap_or(0);
        if most != first.len() {
            bail!(
                "{most} transfers in one run, and {} in another",
                first.len()
            );
        }
        Ok(Self {
            runs: c.len(),
            rows: (0..first.len()).map(row).collect::<Result<_>>()?,
        })
    }

    /// Returns the report as CSV.
    pub fn csv(&self) -> String {
        let mut csv = String::from(
            "transfer,by,c,c_q1,c_q3,rust,rust_q1,rust_q3,ratio,ratio_q1,ratio_q3,ratio_min,ratio_max\n",
        );
        for row in &self.rows {
            let _ = write!(csv, "{},\"{}\"", row.transfer, row.by);
            for spread in [&row.c, &row.rust] {
                let (median, lower, upper) = (spread.median, spread.lower, spread.upper);
                let _ = write!(csv, ",{median:.2},{lower:.2},{upper:.2}");
            }
            let ratio = &row.ratio;
            for value in [
                ratio.median,
                ratio.lower,
                ratio.upper,
                ratio.least,
                ratio.most,
            ] {
                let _ = write!(csv, ",{value:.3}");
            }
            csv.push('\n');
        }
        csv
    }

    /// Returns the report as a table.
    pub fn table(&self) -> String {
        let head = format!(
            "{:<27}  {:<18}  {:<22}  {:<22}  {:<22}  {}",
            "transfer", "by", "C, GiB/s", "Rust, GiB/s", "Rust / C", "least to most"
        );
        let mut table = format!("{head}\n{}\n", "-".repeat(head.len()));
        for row in &self.rows {
            let _ = writeln!(
                table,
                "{:<27}  {:<18}  {:<22}  {:<22}  {:<22}  {:.3} to {:.3}",
                row.transfer,
                row.by,
                Quartiles(&row.c, 2).to_string(),
                Quartiles(&row.rust, 2).to_string(),
                Quartiles(&row.ratio, 3).to_string(),
                row.ratio.least,
                row.ratio.most,
            );
        }
        let _ = writeln!(
            table,
            "median (lower to upper quartile) of {} pairs of runs; more is better",
            self.runs
        );
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(speeds: [u64; 2]) -> Vec<Speed> {
        let [one, two] = speeds.map(|speed| speed << 30);
        parse(&format!(
            "{HEADINGS}\nfile,\"read, write\",{one}\nfile,\"sendfile\",{two}\n"
        ))
        .unwrap()
    }

    #[test]
    fn refuses_what_is_not_a_measurement() {
        for (text, complaint) in [
            ("", "no headings"),
            ("file,\"sendfile\",1\n", "no headings"),
            ("transfer,by,bytes_per_second\nfile\n", "no second field"),
            (
                "transfer,by,bytes_per_second\nfile,\"tee\"\n",
                "no third field",
            ),
            (
                "transfer,by,bytes_per_second\nfile,\"tee\",x\n",
                "invalid float",
            ),
            (
                "transfer,by,bytes_per_second\nfile,\"tee\",0\n",
                "nothing was moved",
            ),
            (
                "transfer,by,bytes_per_second\nfile,\"tee\",NaN\n",
                "nothing was moved",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(format!("{error:#}").contains(complaint), "{error:#}");
        }
    }

    #[test]
    fn refuses_to_compare_what_is_not_the_same() {
        let short = || vec![run([1, 1]).remove(0)];
        let swapped = || run([1, 1]).into_iter().rev().collect::<Vec<_>>();
        for (c, rust) in [
            (vec![], vec![]),
            (vec![vec![]], vec![vec![]]),
            (vec![run([1, 1])], vec![]),
            (vec![run([1, 1])], vec![short()]),
            (vec![short()], vec![run([1, 1])]),
            (vec![run([1, 1])], vec![swapped()]),
        ] {
            assert!(ThroughputReport::join(c, rust).is_err());
        }
    }

    #[test]
    fn a_ratio_is_of_runs_side_by_side() {
        // The machine becomes four times as fast, and Rust has two thirds of C's throughput.
        let c = vec![run([3, 1]), run([6, 1]), run([12, 1])];
        let rust = vec![run([2, 3]), run([4, 1]), run([8, 2])];
        let report = ThroughputReport::join(c, rust).unwrap();
        let csv = report.csv();
        let lines: Vec<_> = csv.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "file,\"read, write\",6.00,4.50,9.00,4.00,3.00,6.00,0.667,0.667,0.667,0.667,0.667",
                "file,\"sendfile\",1.00,1.00,1.00,2.00,1.50,2.50,2.000,1.500,2.500,1.000,3.000",
            ]
        );
        let table = report.table();
        assert!(
            table.contains(" 2.000 (1.500 to 2.500)  1.000 to 3.000\n"),
            "{table}"
        );
        assert!(table.contains("of 3 pairs of runs"), "{table}");
    }
}
