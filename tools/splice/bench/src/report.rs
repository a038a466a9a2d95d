// SPDX-License-Identifier: GPL-2.0

//! Compares the instruction counts of two kernels.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{bail, Context, Result};

use crate::operations;

/// One line of the output of `measure`.
#[derive(Debug, PartialEq, Eq)]
pub struct Cost {
    operation: String,
    bytes: u64,
    instructions: u64,
}

/// Reads the output of `measure`.
pub fn read(path: &Path) -> Result<Vec<Cost>> {
    fs::read_to_string(path)
        .map_err(anyhow::Error::from)
        .and_then(|text| parse(&text))
        .with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Cost>> {
    let mut lines = (1..).zip(text.lines());
    match lines.next() {
        Some((_, "operation,bytes,instructions")) => (),
        _ => bail!("no headings: this is not what `measure` prints"),
    }
    lines
        .map(|(number, line)| {
            let fields: Vec<_> = line.split(',').collect();
            let [operation, bytes, instructions] = fields[..] else {
                bail!("line {number} has {} fields: {line:?}", fields.len());
            };
            let parse = |field: &str| field.parse().with_context(|| format!("line {number}"));
            Ok(Cost {
                operation: operation.into(),
                bytes: parse(bytes)?,
                instructions: parse(instructions)?,
            })
        })
        .collect()
}

/// One operation on both kernels.
pub struct Row {
    pub operation: String,
    pub bytes: u64,
    pub c: u64,
    pub rust: u64,
}

impl Row {
    /// The cost in Rust as a multiple of the cost in C.
    pub fn ratio(&self) -> f64 {
        // Instruction counts are far below 2^52.
        self.rust as f64 / self.c as f64
    }

    /// The maximum ratio.
    pub fn bound(&self) -> f64 {
        operations::bound(&self.operation, self.bytes)
    }

    /// Whether the ratio exceeds its bound.
    pub fn is_over(&self) -> bool {
        self.ratio() > self.bound()
    }

    /// The number of bytes, as in `4 KiB`; empty for an operation that moves nothing.
    pub fn amount(&self) -> String {
        match self.bytes {
            0 => String::new(),
            n if n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
            n if n % (1 << 10) == 0 => format!("{} KiB", n >> 10),
            n => format!("{n} B"),
        }
    }
}

/// All operations on both kernels.
pub struct Report(Vec<Row>);

impl Report {
    /// Returns an error if the two outputs do not have the same operations.
    pub fn join(c: &[Cost], rust: &[Cost]) -> Result<Self> {
        if c.len() != rust.len() {
            bail!("{} lines for C, and {} for Rust", c.len(), rust.len());
        }
        if c.is_empty() {
            bail!("nothing was measured");
        }
        c.iter()
            .zip(rust)
            .map(|(c, rust)| {
                if (&c.operation, c.bytes) != (&rust.operation, rust.bytes) {
                    bail!("a line for C is {c:?}, and the one for Rust {rust:?}");
                }
                if c.instructions == 0 || rust.instructions == 0 {
                    bail!("{}: no instructions", c.operation);
                }
                Ok(Row {
                    operation: c.operation.clone(),
                    bytes: c.bytes,
                    c: c.instructions,
                    rust: rust.instructions,
                })
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    pub fn rows(&self) -> &[Row] {
        &self.0
    }

    /// Returns the operations that exceed their bounds.
    pub fn over(&self) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(|row| row.is_over())
    }

    /// Returns the report as CSV.
    pub fn csv(&self) -> String {
        let mut csv = String::from("operation,bytes,c,rust,ratio\n");
        for row in &self.0 {
            let (c, rust, ratio) = (row.c, row.rust, row.ratio());
            let _ = writeln!(csv, "{},{},{c},{rust},{ratio:.3}", row.operation, row.bytes);
        }
        csv
    }

    /// Returns the report as a table.
    pub fn table(&self) -> String {
        const OPERATION: &str = "operation";

        let widths = self.0.iter().map(|row| row.operation.len());
        let width = widths.max().unwrap_or(0).max(OPERATION.len());
        let head = format!(
            "{:<width$}  {:>6}  {:>9}  {:>9}  {:>5}  {:>7}",
            OPERATION, "amount", "C", "Rust", "ratio", "at most"
        );
        let mut table = format!("{head}\n{}\n", "-".repeat(head.len()));
        for row in &self.0 {
            let _ = writeln!(
                table,
                "{:<width$}  {:>6}  {:>9}  {:>9}  {:>5.3}  {:>7.2}{}",
                row.operation,
                row.amount(),
                row.c,
                row.rust,
                row.ratio(),
                row.bound(),
                if row.is_over() { "  over" } else { "" }
            );
        }
        let (over, all) = (self.over().count(), self.0.len());
        let _ = writeln!(table, "{over} of {all} operations cost more than they may");
        table
    }
}

/// The marks in a page between which the report is inserted.
const BEGIN: &str = "<!-- make bench writes this -->\n";
const END: &str = "<!-- until here -->\n";

impl Report {
    /// Returns a table for a page of documentation: a line for each operation, with a column for
    /// each number of bytes.
    pub fn markdown(&self) -> String {
        let mut amounts: Vec<_> = self.0.iter().map(|row| row.bytes).collect();
        amounts.retain(|&bytes| bytes != 0);
        amounts.sort_unstable();
        amounts.dedup();

        let heads = |row: &Row| format!(" {} |", row.amount());
        let mut table = String::from("| operation |");
        for &bytes in &amounts {
            let row = self.0.iter().find(|row| row.bytes == bytes);
            table += &row.map_or_else(String::new, heads);
        }
        table += "\n| --- |";
        table += &" ---: |".repeat(amounts.len());
        table.push('\n');

        for rows in self.0.chunk_by(|a, b| a.operation == b.operation) {
            let _ = write!(table, "| {} |", rows[0].operation);
            for &bytes in &amounts {
                // An operation that moves nothing is in the first column.
                let at = |row: &&Row| row.bytes == bytes || row.bytes == 0 && bytes == amounts[0];
                let cell = rows.iter().find(at).map_or_else(String::new, |row| {
                    format!("{} : {} = {:.3}", row.rust, row.c, row.ratio())
                });
                let _ = write!(table, " {cell} |");
            }
            table.push('\n');
        }
        table
    }

    /// Inserts the table, followed by `notes`, into `text` between the marks.
    pub fn insert_into(&self, text: &str, notes: &str) -> Result<String> {
        let place = text
            .split_once(BEGIN)
            .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let Some((before, after)) = place else {
            bail!("there are no lines {BEGIN:?} and {END:?}");
        };
        let table = self.markdown();
        let notes = match notes.trim_end() {
            "" => String::new(),
            notes => format!("\n```\n{notes}\n```\n"),
        };
        Ok(format!("{before}{BEGIN}{table}{notes}{END}{after}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: &str = "operation,bytes,instructions\ntee,4096,100\nEAGAIN: tee,0,1000\n";

    fn report(rust: &str) -> Result<Report> {
        Report::join(&parse(C).unwrap(), &parse(rust).unwrap())
    }

    #[test]
    fn refuses_what_is_not_a_measurement() {
        for (text, complaint) in [
            ("", "no headings"),
            ("tee,4096,100\n", "no headings"),
            (
                "operation,bytes,instructions\ntee,1\n",
                "line 2 has 2 fields",
            ),
            ("operation,bytes,instructions\ntee,1,x\n", "line 2"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(format!("{error:#}").contains(complaint), "{error:#}");
        }
    }

    #[test]
    fn refuses_to_compare_what_is_not_the_same() {
        let head = "operation,bytes,instructions\n";
        for rust in [
            String::from(head),
            format!("{head}tee,4096,100\n"),
            format!("{head}tee,4097,100\nEAGAIN: tee,0,1000\n"),
            format!("{head}splice,4096,100\nEAGAIN: tee,0,1000\n"),
            format!("{head}tee,4096,0\nEAGAIN: tee,0,1000\n"),
        ] {
            assert!(report(&rust).is_err(), "{rust}");
        }
        assert!(Report::join(&[], &[]).is_err());
    }

    #[test]
    fn more_than_the_limit_is_marked() {
        let rust = "operation,bytes,instructions\ntee,4096,102\nEAGAIN: tee,0,1021\n";
        let report = report(rust).unwrap();
        let over: Vec<_> = report.over().map(|row| row.operation.as_str()).collect();
        assert_eq!(over, ["EAGAIN: tee"]);
        assert_eq!(
            report.table().lines().skip(2).collect::<Vec<_>>(),
            [
                "tee           4 KiB        100        102  1.020     1.02",
                "EAGAIN: tee               1000       1021  1.021     1.02  over",
                "1 of 2 operations cost more than they may",
            ]
        );
        assert_eq!(
            report.csv(),
            "operation,bytes,c,rust,ratio\ntee,4096,100,102,1.020\nEAGAIN: tee,0,1000,1021,1.021\n"
        );
    }

    #[test]
    fn an_operation_is_held_to_its_own_bound() {
        let costs = |instructions: [u32; 3]| {
            let mut text = String::from("operation,bytes,instructions\n");
            for (name, instructions) in [
                "vmsplice of THP,1048576",
                "vmsplice of THP,65536",
                "vmsplice,4096",
            ]
            .iter()
            .zip(instructions)
            {
                let _ = writeln!(text, "{name},{instructions}");
            }
            parse(&text).unwrap()
        };
        let over = |rust| {
            let report = Report::join(&costs([1000; 3]), &costs(rust)).unwrap();
            report.over().map(|row| row.rust).collect::<Vec<_>>()
        };
        assert_eq!(over([50, 350, 1020]), []);
        assert_eq!(over([51, 351, 1021]), [51, 351, 1021]);
    }

    #[test]
    fn amounts_are_in_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, ""),
            (100, "100 B"),
            (4096, "4 KiB"),
            (65_536, "64 KiB"),
            (1 << 20, "1 MiB"),
        ] {
            let row = Row {
                operation: String::new(),
                bytes,
                c: 1,
                rust: 1,
            };
            assert_eq!(row.amount(), text);
        }
    }

    #[test]
    fn a_page_gets_the_table_in_the_place_for_it() {
        let rust = "operation,bytes,instructions\ntee,4096,102\nEAGAIN: tee,0,1021\n";
        let report = report(rust).unwrap();
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let table = "| operation | 4 KiB |\n| --- | ---: |\n| tee | 102 : 100 = 1.020 |\n\
                     | EAGAIN: tee | 1021 : 1000 = 1.021 |\n";
        assert_eq!(
            report.insert_into(&page, "sizes\n").unwrap(),
            format!("before\n{BEGIN}{table}\n```\nsizes\n```\n{END}after\n")
        );
        assert_eq!(
            report.insert_into(&page, "").unwrap(),
            format!("before\n{BEGIN}{table}{END}after\n")
        );
        assert!(report.insert_into("before\n", "").is_err());
        assert!(report.insert_into(BEGIN, "").is_err());
    }
}
