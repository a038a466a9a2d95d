// SPDX-License-Identifier: GPL-2.0

//! The table that the program prints.

use splice_rdma::size::thousands;

/// A table whose rows are formatted one at a time, so that each can be printed at once. The first
/// and last column are text, the others are numbers.
pub struct Table {
    label: usize,
    number: usize,
}

/// The content of a number column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Blank,
    /// A count that the kernel does not provide.
    NotAvailable,
    /// A count that does not apply.
    None,
    /// A count.
    Number(u64),
}

impl Cell {
    fn text(self) -> String {
        match self {
            Self::Blank => String::new(),
            Self::NotAvailable => "n/a".into(),
            Self::None => "-".into(),
            Self::Number(n) => thousands(n),
        }
    }
}

const LABEL: &str = "path";
const NUMBERS: [&str; 3] = ["bytes", "by reference", "copied"];

impl Table {
    /// A table for labels of up to `label` characters and numbers up to `number`.
    pub fn new(label: usize, number: u64) -> Self {
        let longest = NUMBERS.iter().map(|heading| heading.len()).max();
        Self {
            label: label.max(LABEL.len()),
            number: thousands(number).len().max(longest.unwrap_or(0)),
        }
    }

    /// The headings, and a line below them.
    pub fn head(&self) -> String {
        let head = self.line(LABEL, &NUMBERS.map(String::from), "checksum");
        let rule = "-".repeat(self.label + NUMBERS.len() * (self.number + 2) + 2 + 21);
        format!("{head}\n{rule}")
    }

    /// One row.
    pub fn row(&self, label: &str, numbers: [Cell; 3], last: &str) -> String {
        self.line(label, &numbers.map(Cell::text), last)
    }

    fn line(&self, label: &str, numbers: &[String; 3], last: &str) -> String {
        let mut line = format!("{label:<width$}", width = self.label);
        for number in numbers {
            line += &format!("  {number:>width$}", width = self.number);
        }
        format!("{line}  {last}").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let table = Table::new(14, 1_000_000);
        let rows = [
            table.row(
                "  file to pipe",
                [
                    Cell::Number(70_000),
                    Cell::Number(65_536),
                    Cell::Number(4464),
                ],
                "",
            ),
            table.row(
                "  tee",
                [Cell::Number(1), Cell::NotAvailable, Cell::None],
                "0123456789ab ok",
            ),
        ];
        assert_eq!(
            table.head().lines().next().unwrap(),
            "path                   bytes  by reference        copied  checksum"
        );
        assert_eq!(
            rows,
            [
                "  file to pipe        70,000        65,536         4,464",
                "  tee                      1           n/a             -  0123456789ab ok",
            ]
        );
    }

    #[test]
    fn columns_are_as_wide_as_the_largest_number() {
        let table = Table::new(1, 1_000_000_000_000);
        let row = table.row("x", [Cell::Number(1_000_000_000_000); 3], "y");
        assert_eq!(
            row,
            "x     1,000,000,000,000  1,000,000,000,000  1,000,000,000,000  y"
        );
        assert_eq!(
            table.head().lines().next().unwrap().find("checksum"),
            row.find('y')
        );
    }

    #[test]
    fn a_row_without_numbers_has_no_trailing_blanks() {
        assert_eq!(Table::new(20, 1).row("path", [Cell::Blank; 3], ""), "path");
    }
}
