// SPDX-License-Identifier: GPL-2.0

//! How many bytes a second are moved.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::clock;
use crate::measure::median;
use crate::transfers::{Mover, Transfer, TRANSFERS};

/// A transfer is done for one in so many of the time that it is measured for,
/// before it is: until its memory is there, and TCP has found its window.
const WARM_UP: u32 = 5;

/// How often a transfer is done between two looks at the time, which cost a
/// system call.
const BATCH: usize = 16;

/// Writes a line `transfer,by,bytes_per_second` for every transfer.
pub fn measure(dir: &Path, bytes: usize, time: Duration, out: &mut impl Write) -> Result<()> {
    writeln!(out, "transfer,by,bytes_per_second")?;
    for transfer in TRANSFERS {
        let (name, by) = (transfer.name, transfer.by);
        let speed =
            speed(transfer, dir, bytes, time).with_context(|| format!("{name}, by {by}"))?;
        writeln!(out, "{name},\"{by}\",{speed:.0}")?;
        out.flush()?;
    }
    Ok(())
}

fn speed(transfer: &Transfer, dir: &Path, bytes: usize, time: Duration) -> Result<f64> {
    let mut mover = Mover::new(dir, bytes)?;
    transfer.verify(&mut mover)?;
    repeat(transfer, &mut mover, time / WARM_UP)?;
    let seconds = repeat(transfer, &mut mover, time)?;
    transfer.verify(&mut mover)?;
    Ok(bytes as f64 / seconds)
}

/// Repeats it for at least `time`; how many seconds it takes. That is the median: a
/// machine that does something else as well interrupts some, but not most of them.
fn repeat(transfer: &Transfer, mover: &mut Mover, time: Duration) -> Result<f64> {
    let mut costs = Vec::new();
    let (start, first) = (Instant::now(), clock::now());
    loop {
        for _ in 0..BATCH {
            let before = clock::now();
            transfer.go(mover)?;
            costs.push(clock::now().wrapping_sub(before));
            transfer.finish(mover)?;
        }
        let (elapsed, all) = (start.elapsed(), clock::now().wrapping_sub(first));
        if elapsed >= time {
            let sum: u64 = costs.iter().sum();
            if sum == 0 || sum > all {
                bail!("the processor's clock went on by {sum} of {all}");
            }
            return Ok(elapsed.as_secs_f64() * median(&mut costs) as f64 / all as f64);
        }
    }
}
