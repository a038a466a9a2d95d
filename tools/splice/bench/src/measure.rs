// SPDX-License-Identifier: GPL-2.0

//! Repeats an operation until its cost is known.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::classes::Classes;
use crate::clock::{self, Cost};
use crate::endpoints::{Amount, Endpoints};
use crate::memory::Source;
use crate::operations::{Operation, OPERATIONS};
use crate::uring::Ring;

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
///
/// The folders are those of [`Amount`]. Requests of io_uring are left out if there is no io_uring,
/// and `source` accepts other memory as well.
pub fn measure(
    dirs: [&Path; 2],
    amounts: &[usize],
    only: &str,
    source: Source,
    out: &mut impl Write,
) -> Result<()> {
    let overhead = clock::overhead();
    writeln!(out, "{HEADINGS}")?;
    let has_rings = Ring::new(1).is_ok();
    for operation in OPERATIONS.iter().filter(|o| o.name.contains(only)) {
        if operation.batch > 0 && !has_rings && matches!(source, Source::Any) {
            continue;
        }
        if operation.error.is_some() {
            let cost = cost(operation, dirs, DEFAULT_PIPE, source, overhead)?;
            write_line(out, operation.name, 0, cost)?;
            continue;
        }
        let amounts = amounts
            .iter()
            .filter(|bytes| operation.sizes().contains(bytes));
        for &bytes in amounts {
            let cost = cost(operation, dirs, bytes, source, overhead)?;
            write_line(out, operation.name, bytes, cost)?;
            out.flush()?;
        }
    }
    Ok(())
}

/// Writes a line for every operation of io_uring: how many requests complete in a second. Only the
/// time in [`Operation::call`] counts.
pub fn rates(dirs: [&Path; 2], time: Duration, out: &mut impl Write) -> Result<()> {
    for operation in OPERATIONS.iter().filter(|o| o.batch > 0) {
        for bytes in [4 << 10, 64 << 10] {
            let mut endpoints = endpoints(operation, dirs, bytes, Source::Any)?;
            let mut spent = Duration::ZERO;
            let mut requests = 0;
            while spent < time {
                (operation.before)(&mut endpoints)?;
                let start = Instant::now();
                let result = (operation.call)(&mut endpoints);
                spent += start.elapsed();
                if result != Ok(bytes) {
                    bail!("{}: {result:?} instead of {bytes}", operation.name);
                }
                (operation.after)(&mut endpoints)?;
                requests += operation.batch;
            }
            let rate = requests as f64 / spent.as_secs_f64();
            writeln!(out, "{},{bytes},{rate:.0}", operation.name)?;
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
    dirs: [&Path; 2],
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
        medians.push(round(operation, dirs, bytes, source).with_context(what)?);
        medians.sort_unstable_by_key(|cost| cost.instructions);
    }
    if !near(&medians) {
        let medians: Vec<_> = medians.iter().map(|cost| cost.instructions).collect();
        eprintln!("warning: {}: medians differ: {medians:?}", what());
    }
    let least = medians[0];
    let each = |sum: u64| sum / operation.batch.max(1) as u64;
    Ok(Cost {
        instructions: each(least.instructions.saturating_sub(overhead)),
        classes: Classes {
            locked: each(least.classes.locked),
            indirect: each(least.classes.indirect),
            copying: each(least.classes.copying),
        },
    })
}

/// Makes the endpoints of an operation.
fn endpoints(
    operation: &Operation,
    dirs: [&Path; 2],
    bytes: usize,
    source: Source,
) -> Result<Endpoints> {
    let [dir, disk] = dirs;
    let amount = Amount {
        dir,
        folios: operation.folios,
        disk,
        bytes,
        batch: operation.batch,
    };
    Endpoints::with_memory(amount, operation.memory, source)
}

/// Returns the medians of one round.
fn round(operation: &Operation, dirs: [&Path; 2], bytes: usize, source: Source) -> Result<Cost> {
    let expected = operation.error.map_or(Ok(bytes), Err);
    let mut endpoints = endpoints(operation, dirs, bytes, source)?;
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
