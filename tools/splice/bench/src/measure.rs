// SPDX-License-Identifier: GPL-2.0

//! Repeats an operation until its cost is known.

use std::io::Write;
use std::path::Path;

use anyhow::{bail, Context, Result};

use crate::classes::Classes;
use crate::clock::{self, Cost};
use crate::endpoints::Endpoints;
use crate::memory::Source;
use crate::operations::{Operation, OPERATIONS};

/// The default capacity of a pipe.
const DEFAULT_PIPE: usize = 64 << 10;

/// How often an operation is executed for one median. The timer interrupts, and the kernel refills
/// its caches of free memory, in fewer than half of these.
const ROUND: usize = 101;

/// How often it is executed before that, until the caches are warm and TCP delays its
/// acknowledgements.
const WARM_UP: usize = 101;

/// The cost is the smallest median of at least and at most this many rounds. Each round has new
/// files, pipes and sockets: their addresses in memory make a difference of some instructions.
const ROUNDS: std::ops::RangeInclusive<usize> = 4..=12;

/// The maximum difference of the two smallest medians, as one in so many instructions.
const PRECISION: u64 = 200;

/// The first line of what [`measure`] writes.
pub const HEADINGS: &str = "operation,bytes,instructions,locked,indirect,copying";

/// Writes [`HEADINGS`], and a line for every operation.
pub fn measure(
    dir: &Path,
    amounts: &[usize],
    only: &str,
    source: Source,
    out: &mut impl Write,
) -> Result<()> {
    let overhead = clock::overhead();
    writeln!(out, "{HEADINGS}")?;
    for operation in OPERATIONS.iter().filter(|o| o.name.contains(only)) {
        if operation.error.is_some() {
            let cost = cost(operation, dir, DEFAULT_PIPE, source, overhead)?;
            write_line(out, operation.name, 0, cost)?;
            continue;
        }
        for &bytes in amounts.iter().filter(|bytes| **bytes >= operation.least) {
            let cost = cost(operation, dir, bytes, source, overhead)?;
            write_line(out, operation.name, bytes, cost)?;
            out.flush()?;
        }
    }
    Ok(())
}

fn write_line(out: &mut impl Write, name: &str, bytes: usize, cost: Cost) -> Result<()> {
    let Classes {
        locked,
        indirect,
        copying,
    } = cost.classes;
    let instructions = cost.instructions;
    writeln!(
        out,
        "{name},{bytes},{instructions},{locked},{indirect},{copying}"
    )?;
    Ok(())
}

fn cost(
    operation: &Operation,
    dir: &Path,
    bytes: usize,
    source: Source,
    overhead: u64,
) -> Result<Cost> {
    let what = || format!("{}, {bytes} bytes", operation.name);
    let mut medians = Vec::new();
    let near = |medians: &[Cost]| {
        let [least, next, ..] = medians else {
            return false;
        };
        next.instructions - least.instructions <= least.instructions / PRECISION
    };
    while medians.len() < *ROUNDS.end() && !(medians.len() >= *ROUNDS.start() && near(&medians)) {
        medians.push(round(operation, dir, bytes, source).with_context(what)?);
        medians.sort_unstable_by_key(|cost| cost.instructions);
    }
    if !near(&medians) {
        let medians: Vec<_> = medians.iter().map(|cost| cost.instructions).collect();
        eprintln!("warning: {}: medians differ: {medians:?}", what());
    }
    let least = medians[0];
    Ok(Cost {
        instructions: least.instructions.saturating_sub(overhead),
        ..least
    })
}

/// Returns the medians of one round.
fn round(operation: &Operation, dir: &Path, bytes: usize, source: Source) -> Result<Cost> {
    let expected = operation.error.map_or(Ok(bytes), Err);
    let mut endpoints = Endpoints::with_memory(dir, bytes, operation.memory, operation.folios, source)?;
    let mut costs = Vec::with_capacity(WARM_UP + ROUND);
    for _ in 0..WARM_UP + ROUND {
        (operation.before)(&mut endpoints)?;
        let (cost, result) = clock::time(operation.call, &mut endpoints);
        if result != expected {
            bail!("{result:?} instead of {expected:?}");
        }
        (operation.after)(&mut endpoints)?;
        costs.push(cost);
    }
    let costs = &costs[WARM_UP..];
    let of = |field: fn(&Cost) -> u64| median(&mut costs.iter().map(field).collect::<Vec<_>>());
    Ok(Cost {
        instructions: of(|cost| cost.instructions),
        classes: Classes {
            locked: of(|cost| cost.classes.locked),
            indirect: of(|cost| cost.classes.indirect),
            copying: of(|cost| cost.classes.copying),
        },
    })
}

/// Returns the middle value.
pub fn median(values: &mut [u64]) -> u64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable(middle).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_that_are_far_off_do_not_move_the_median() {
        let mut values: Vec<u64> = (0..ROUND as u64).map(|i| 1000 + i % 2).collect();
        values[0] = u64::MAX;
        values[1] = 0;
        assert!((1000..=1001).contains(&median(&mut values)));
        assert_eq!(median(&mut [7]), 7);
    }
}
