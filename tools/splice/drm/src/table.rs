// SPDX-License-Identifier: GPL-2.0

//! The table that the program prints.

use splice_rdma::size::thousands;

use crate::frame::Difference;

/// What a comparison with the screen has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// The pixels that differ, which can be none.
    Compared(Difference),
    /// The screen has another size than the picture.
    OtherSize,
}

impl Screen {
    /// Whether the screen shows the picture.
    pub fn is_equal(self) -> bool {
        matches!(self, Self::Compared(difference) if difference.pixels == 0)
    }

    /// The first pixel that differs.
    fn first(self) -> Option<(u32, u32)> {
        match self {
            Self::Compared(difference) => difference.first,
            Self::OtherSize => None,
        }
    }
}

/// A row: a result, and whether it is the expected one.
pub struct Row {
    importer: &'static str,
    source: String,
    result: String,
    screen: Option<Screen>,
    copied: Option<u64>,
    good: bool,
}

impl Row {
    pub fn new(
        importer: &'static str,
        source: impl Into<String>,
        result: impl Into<String>,
    ) -> Self {
        Self {
            importer,
            source: source.into(),
            result: result.into(),
            screen: None,
            copied: None,
            good: true,
        }
    }

    pub fn screen(self, screen: Screen) -> Self {
        Self {
            screen: Some(screen),
            ..self
        }
    }

    pub fn copied(self, bytes: u64) -> Self {
        Self {
            copied: Some(bytes),
            ..self
        }
    }

    /// Marks the row as failed unless `good`.
    pub fn expect(self, good: bool) -> Self {
        Self {
            good: self.good && good,
            ..self
        }
    }

    pub fn is_good(&self) -> bool {
        self.good
    }

    pub fn text(&self) -> String {
        let differ = match self.screen {
            None => "-".into(),
            Some(Screen::Compared(difference)) => thousands(difference.pixels),
            Some(Screen::OtherSize) => "all".into(),
        };
        let copied = self.copied.map_or("-".into(), thousands);
        let mark = match self.screen.and_then(Screen::first) {
            _ if self.good => String::new(),
            None => "FAILED".into(),
            Some((x, y)) => format!("FAILED, first at {x}, {y}"),
        };
        line(
            self.importer,
            &self.source,
            &self.result,
            &differ,
            &copied,
            &mark,
        )
    }
}

/// The headings, and a line below them.
pub fn head() -> String {
    let head = line(
        "importer",
        "source",
        "result",
        "pixels differ",
        "bytes copied",
        "",
    );
    format!("{head}\n{}", "-".repeat(head.len()))
}

fn line(
    importer: &str,
    source: &str,
    result: &str,
    differ: &str,
    copied: &str,
    mark: &str,
) -> String {
    format!("{importer:<21} {source:<31} {result:<31} {differ:>13} {copied:>13}  {mark}")
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EQUAL: Screen = Screen::Compared(Difference {
        pixels: 0,
        first: None,
    });

    const ONE: Screen = Screen::Compared(Difference {
        pixels: 1,
        first: Some((7, 9)),
    });

    #[test]
    fn columns_line_up() {
        let row = Row::new("bochs-display", "ext4", "shown, read-only")
            .screen(EQUAL)
            .copied(4096);
        let text = row.text();
        assert_eq!(text.len(), head().lines().next().unwrap().len());
        assert!(text.ends_with("            0         4,096"), "{text}");
        assert!(row.is_good());
    }

    #[test]
    fn one_unmet_expectation_fails_a_row() {
        let row = Row::new("vkms", "ext4", "shown")
            .screen(ONE)
            .expect(true)
            .expect(false)
            .expect(true);
        assert!(!row.is_good());
        assert!(row.text().ends_with("FAILED, first at 7, 9"));
    }

    #[test]
    fn only_a_screen_without_a_difference_is_equal() {
        assert!(EQUAL.is_equal());
        assert!(!ONE.is_equal());
        assert!(!Screen::OtherSize.is_equal());
    }
}
