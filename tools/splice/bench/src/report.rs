// SPDX-License-Identifier: GPL-2.0

//! Compares the instruction counts of two kernels.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{bail, Context, Result};

use crate::classes::Classes;
use crate::measure::HEADINGS;
use crate::operations;

/// One line of the output of `measure`.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    operation: String,
    bytes: u64,
    instructions: u64,
    classes: Classes,
}

/// Reads the output of `measure`.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    fs::read_to_string(path)
        .map_err(anyhow::Error::from)
        .and_then(|text| parse(&text))
        .with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Line>> {
    let mut lines = (1..).zip(text.lines());
    match lines.next() {
        Some((_, HEADINGS)) => (),
        _ => bail!("no headings: this is not what `measure` prints"),
    }
    lines
        .map(|(number, line)| {
            let fields: Vec<_> = line.split(',').collect();
            let [operation, bytes, instructions, locked, indirect, copying] = fields[..] else {
                bail!("line {number} has {} fields: {line:?}", fields.len());
            };
            let parse = |field: &str| field.parse().with_context(|| format!("line {number}"));
            Ok(Line {
                operation: operation.into(),
                bytes: parse(bytes)?,
                instructions: parse(instructions)?,
                classes: Classes {
                    locked: parse(locked)?,
                    indirect: parse(indirect)?,
                    copying: parse(copying)?,
                },
            })
        })
        .collect()
}

/// The cost of an operation on one kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Instructions other than those that copy memory, on which the emulator says nothing about a
    /// processor.
    pub instructions: u64,
    /// The locked ones among these.
    pub locked: u64,
    /// The calls and jumps through a pointer among these.
    pub indirect: u64,
}

impl Cost {
    fn of(line: &Line) -> Self {
        Self {
            instructions: line.instructions.saturating_sub(line.classes.copying),
            locked: line.classes.locked,
            indirect: line.classes.indirect,
        }
    }
}

/// One operation on both kernels.
pub struct Row {
    pub operation: String,
    pub bytes: u64,
    pub c: Cost,
    pub rust: Cost,
    /// The maximum number of instructions, if that depends on another row.
    most: Option<u64>,
}

impl Row {
    /// The cost in Rust as a multiple of the cost in C.
    pub fn ratio(&self) -> f64 {
        // Instruction counts are far below 2^52.
        self.rust.instructions as f64 / self.c.instructions as f64
    }

    /// The maximum ratio.
    pub fn bound(&self) -> f64 {
        // A row of its own, without the row that its bound depends on, has no bound.
        match (operations::plain(&self.operation), self.most) {
            (Some(_), None) => f64::INFINITY,
            (Some(_), Some(most)) => most as f64 / self.c.instructions as f64,
            (None, _) => operations::bound(&self.operation, self.bytes),
        }
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
    pub fn join(c: &[Line], rust: &[Line]) -> Result<Self> {
        if c.len() != rust.len() {
            bail!("{} lines for C, and {} for Rust", c.len(), rust.len());
        }
        if c.is_empty() {
            bail!("nothing was measured");
        }
        // The cost of the same operation without io_uring, plus what a request may cost.
        let most = |line: &Line| {
            let plain = operations::plain(&line.operation)?;
            let plain = rust
                .iter()
                .find(|other| other.operation == plain && other.bytes == line.bytes)?;
            Some(Cost::of(plain).instructions + operations::MORE)
        };
        c.iter()
            .zip(rust)
            .map(|(c, rust)| {
                if (&c.operation, c.bytes) != (&rust.operation, rust.bytes) {
                    bail!("a line for C is {c:?}, and the one for Rust {rust:?}");
                }
                let row = Row {
                    operation: c.operation.clone(),
                    bytes: c.bytes,
                    c: Cost::of(c),
                    rust: Cost::of(rust),
                    most: most(rust),
                };
                if row.c.instructions == 0 || row.rust.instructions == 0 {
                    bail!("{}: no instructions", row.operation);
                }
                Ok(row)
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
        let mut csv = String::from(
            "operation,bytes,c,rust,ratio,c locked,rust locked,c indirect,rust indirect\n",
        );
        for row in &self.0 {
            let Row { c, rust, .. } = row;
            let _ = writeln!(
                csv,
                "{},{},{},{},{:.3},{},{},{},{}",
                row.operation,
                row.bytes,
                c.instructions,
                rust.instructions,
                row.ratio(),
                c.locked,
                rust.locked,
                c.indirect,
                rust.indirect
            );
        }
        csv
    }

    /// Returns the report as a table.
    pub fn table(&self) -> String {
        const OPERATION: &str = "operation";

        let widths = self.0.iter().map(|row| row.operation.len());
        let width = widths.max().unwrap_or(0).max(OPERATION.len());
        let above = format!(
            "{:<width$}  {:>6}  {:^35}  {:^11}  {:^11}",
            "", "", "instructions", "locked", "indirect"
        );
        let head = format!(
            "{:<width$}  {:>6}  {:>9}  {:>9}  {:>5}  {:>7}  {:>5} {:>5}  {:>5} {:>5}",
            OPERATION, "amount", "C", "Rust", "ratio", "at most", "C", "Rust", "C", "Rust"
        );
        let above = above.trim_end();
        let mut table = format!("{above}\n{head}\n{}\n", "-".repeat(head.len()));
        for row in &self.0 {
            let _ = writeln!(
                table,
                "{:<width$}  {:>6}  {:>9}  {:>9}  {:>5.3}  {:>7.2}  {:>5} {:>5}  {:>5} {:>5}{}",
                row.operation,
                row.amount(),
                row.c.instructions,
                row.rust.instructions,
                row.ratio(),
                row.bound(),
                row.c.locked,
                row.rust.locked,
                row.c.indirect,
                row.rust.indirect,
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
                    let (rust, c) = (row.rust.instructions, row.c.instructions);
                    format!("{rust} : {c} = {:.3}", row.ratio())
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

    const C: &str = "tee,4096,150,6,9,50\nEAGAIN: tee,0,1000,4,2,0\n";

    const RUST: &str = "tee,4096,142,5,8,40\nEAGAIN: tee,0,1021,3,1,0\n";

    fn lines(rows: &str) -> Vec<Line> {
        parse(&format!("{HEADINGS}\n{rows}")).unwrap()
    }

    fn report(rust: &str) -> Result<Report> {
        Report::join(&lines(C), &lines(rust))
    }

    #[test]
    fn refuses_what_is_not_a_measurement() {
        let after_headings = |row: &str| format!("{HEADINGS}\n{row}\n");
        for (text, complaint) in [
            (String::new(), "no headings"),
            ("tee,4096,100,1,1,0\n".into(), "no headings"),
            (after_headings("tee,1"), "line 2 has 2 fields"),
            (after_headings("tee,1,x,1,1,0"), "line 2"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(format!("{error:#}").contains(complaint), "{error:#}");
        }
    }

    #[test]
    fn refuses_to_compare_what_is_not_the_same() {
        let failed = "EAGAIN: tee,0,1000,1,1,0\n";
        for rust in [
            String::new(),
            "tee,4096,100,1,1,0\n".into(),
            format!("tee,4097,100,1,1,0\n{failed}"),
            format!("splice,4096,100,1,1,0\n{failed}"),
            format!("tee,4096,0,1,1,0\n{failed}"),
            format!("tee,4096,100,1,1,100\n{failed}"),
        ] {
            assert!(report(&rust).is_err(), "{rust}");
        }
        assert!(Report::join(&[], &[]).is_err());
    }

    #[test]
    fn more_than_the_limit_is_marked() {
        let report = report(RUST).unwrap();
        let over: Vec<_> = report.over().map(|row| row.operation.as_str()).collect();
        assert_eq!(over, ["EAGAIN: tee"]);
        assert_eq!(
            report.table().lines().skip(3).collect::<Vec<_>>(),
            [
                "tee           4 KiB        100        102  1.020     1.02      6     5      9     8",
                "EAGAIN: tee               1000       1021  1.021     1.02      4     3      2     1  over",
                "1 of 2 operations cost more than they may",
            ]
        );
        assert_eq!(
            report.csv(),
            "operation,bytes,c,rust,ratio,c locked,rust locked,c indirect,rust indirect\n\
             tee,4096,100,102,1.020,6,5,9,8\nEAGAIN: tee,0,1000,1021,1.021,4,3,2,1\n"
        );
    }

    #[test]
    fn an_operation_is_held_to_its_own_bound() {
        let costs = |instructions: [u32; 3]| {
            let mut text = String::new();
            for (name, instructions) in [
                "vmsplice of THP,1048576",
                "vmsplice of THP,65536",
                "vmsplice,4096",
            ]
            .iter()
            .zip(instructions)
            {
                let _ = writeln!(text, "{name},{instructions},0,0,0");
            }
            lines(&text)
        };
        let over = |rust| {
            let report = Report::join(&costs([1000; 3]), &costs(rust)).unwrap();
            let instructions = report.over().map(|row| row.rust.instructions);
            instructions.collect::<Vec<_>>()
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
            let cost = Cost {
                instructions: 1,
                locked: 0,
                indirect: 0,
            };
            let row = Row {
                operation: String::new(),
                bytes,
                c: cost,
                rust: cost,
                most: None,
            };
            assert_eq!(row.amount(), text);
        }
    }

    #[test]
    fn a_page_gets_the_table_in_the_place_for_it() {
        let report = report(RUST).unwrap();
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
