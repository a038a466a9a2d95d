// SPDX-License-Identifier: GPL-2.0

//! Repeats an operation until its cost is known.

use std::io::Write;
use std::path::Path;

use anyhow::{bail, Context, Result};

use crate::clock;
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

/// Writes a line `operation,bytes,instructions` for every operation.
pub fn measure(
    dir: &Path,
    amounts: &[usize],
    only: &str,
    source: Source,
    out: &mut impl Write,
) -> Result<()> {
    let overhead = clock::overhead();
    writeln!(out, "operation,bytes,instructions")?;
    for operation in OPERATIONS.iter().filter(|o| o.name.contains(only)) {
        if operation.error.is_some() {
            let cost = cost(operation, dir, DEFAULT_PIPE, source, overhead)?;
            writeln!(out, "{},0,{cost}", operation.name)?;
            continue;
        }
        for &bytes in amounts.iter().filter(|bytes| **bytes >= operation.least) {
            let cost = cost(operation, dir, bytes, source, overhead)?;
            writeln!(out, "{},{bytes},{cost}", operation.name)?;
            out.flush()?;
        }
    }
    Ok(())
}

fn cost(
    operation: &Operation,
    dir: &Path,
    bytes: usize,
    source: Source,
    overhead: u64,
) -> Result<u64> {
    let what = || format!("{}, {bytes} bytes", operation.name);
    let mut medians = Vec::new();
    while medians.len() < *ROUNDS.end() {
        medians.push(round(operation, dir, bytes, source).with_context(what)?);
        medians.sort_unstable();
        if medians.len() >= *ROUNDS.start() && medians[1] - medians[0] <= medians[0] / PRECISION {
            return Ok(medians[0].saturating_sub(overhead));
        }
    }
    eprintln!("warning: {}: medians differ: {medians:?}", what());
    Ok(medians[0].saturating_sub(overhead))
}

/// Returns the median of one round.
fn round(operation: &Operation, dir: &Path, bytes: usize, source: Source) -> Result<u64> {
    let expected = operation.error.map_or(Ok(bytes), Err);
    let mut endpoints = Endpoints::with_memory(dir, bytes, operation.memory, source)?;
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
    Ok(median(&mut costs[WARM_UP..]))
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
