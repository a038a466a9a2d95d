// SPDX-License-Identifier: GPL-2.0

//! Measures how many bytes per second transfers move.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::clock;
use crate::measure::median;
use crate::transfers::{Mover, Transfer, TRANSFERS};

/// Before a transfer is measured, it runs for this fraction of the time: until its memory is mapped
/// and the TCP window has grown.
const WARM_UP: u32 = 5;

/// How often a transfer runs between two readings of the time, each of which costs a system call.
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

/// Repeats the transfer for at least `time`; returns the median duration in seconds. Other load on
/// the machine interrupts some transfers, but not most of them.
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
