// SPDX-License-Identifier: GPL-2.0

//! The chart: one bar for each operation, from 1 to its ratio, and a line at its bound.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::operations::BOUND;
use crate::report::{Report, Row};

const WIDTH: u32 = 900;
const BAR: u32 = 15;
const AROUND_BARS: u32 = 110;
const LABELS: u32 = 260;

/// The lowest start of the axis. A longer bar is cut off, so that it does not squeeze all others,
/// and its ratio is written in it.
const SHORTEST: f64 = 0.9;

const GOOD: RGBColor = RGBColor(0x2a, 0x7f, 0x62);
const OVER: RGBColor = RGBColor(0xc0, 0x39, 0x2b);
const LINE: RGBColor = RGBColor(0x88, 0x88, 0x88);

/// Draws the chart as an SVG file.
pub fn svg(report: &Report) -> Result<String> {
    let rows = report.rows();
    let count = u32::try_from(rows.len())?;
    let least = rows.iter().map(Row::ratio).fold(1.0, f64::min);
    let most = rows
        .iter()
        .flat_map(|row| [row.ratio(), row.bound()])
        .fold(BOUND, f64::max);
    let left = (least - 0.02).max(SHORTEST);
    let ratios = left..most + 0.02;

    let mut svg = String::new();
    let root =
        SVGBackend::with_string(&mut svg, (WIDTH, count * BAR + AROUND_BARS)).into_drawing_area();
    root.fill(&WHITE)?;
    // The first operation is at the top.
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Instructions per operation, Rust / C (less is better)",
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(ratios, (0..count - 1).into_segmented())?;
    let label = |segment: &SegmentValue<u32>| match segment {
        SegmentValue::CenterOf(i) => rows
            .get((count - 1 - *i) as usize)
            .map(|row| format!("{} {}", row.operation, row.amount()))
            .map_or_else(String::new, |label| label.trim_end().to_string()),
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|ratio| format!("{ratio:.2}"))
        .y_label_formatter(&label)
        .y_labels(rows.len() + 1)
        .label_style(("sans-serif", 12))
        .draw()?;

    let bars = (0..count).zip(rows.iter().rev());
    for (color, over) in [(GOOD, false), (OVER, true)] {
        chart.draw_series(
            Histogram::horizontal(&chart)
                .style(color.filled())
                .baseline(1.0)
                .margin(2)
                .data(
                    bars.clone()
                        .filter(|(_, row)| row.is_over() == over)
                        .map(|(i, row)| (i, row.ratio().max(left))),
                ),
        )?;
    }
    let style = ("sans-serif", 11).into_text_style(&root).color(&WHITE);
    chart.draw_series(
        bars.clone()
            .filter(|(_, row)| row.ratio() < left)
            .map(|(i, row)| {
                let at = (left + 0.003, SegmentValue::CenterOf(i));
                let style = style.pos(Pos::new(HPos::Left, VPos::Center));
                Text::new(format!("{:.3}", row.ratio()), at, style)
            }),
    )?;
    let mut line = |ratio: f64, from: u32, to: u32, color: RGBColor| {
        let ends = [from, to].map(|end| (ratio, SegmentValue::Exact(end)));
        chart.draw_series(LineSeries::new(ends, color)).map(drop)
    };
    line(1.0, 0, count, BLACK)?;
    for (i, row) in bars.filter(|(_, row)| row.bound() > left) {
        line(row.bound(), i, i + 1, LINE)?;
    }
    root.present()?;
    drop(chart);
    drop(root);
    Ok(svg)
}
