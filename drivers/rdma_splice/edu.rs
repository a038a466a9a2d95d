// SPDX-License-Identifier: GPL-2.0

//! The DMA engine of QEMU's `edu` device.
//!
//! It moves up to 4 KiB at a time between memory and a buffer of its own, and raises an interrupt
//! when that is done. The buffer is all that there is: what was sent is in there until it is
//! received. So whatever is written to the device can be read from it, in order.
//!
//! Reference: [docs/specs/edu.rst](https://www.qemu.org/docs/master/specs/edu.html) of QEMU.

#![forbid(unsafe_code)]

use crate::adapter::{Engine, Piece, Work};
use kernel::{
    device::{Bound, Device},
    io::{poll::read_poll_timeout, Io},
    pci::DevresBar,
    prelude::*,
    sync::Arc,
    time::Delta,
};

/// The size of the region of registers, and of what is mapped into it.
pub(crate) const BAR_SIZE: usize = 0x10_0000;

pub(crate) type Bar = DevresBar<BAR_SIZE>;

/// The size of the device's buffer, and so the most that it moves at a time.
pub(crate) const BUFFER_SIZE: usize = 4096;

/// Where the DMA engine finds the device's buffer.
const BUFFER: u64 = 0x4_0000;

mod regs {
    pub(super) const ID: usize = 0x00;
    pub(super) const INTERRUPT_STATUS: usize = 0x24;
    pub(super) const INTERRUPT_ACK: usize = 0x64;
    pub(super) const DMA_SOURCE: usize = 0x80;
    pub(super) const DMA_DESTINATION: usize = 0x88;
    pub(super) const DMA_COUNT: usize = 0x90;
    pub(super) const DMA_COMMAND: usize = 0x98;
}

/// The low byte of the identification; the rest is the version.
const ID: u32 = 0xed;

/// Begins a transfer; reads as 1 until it is done.
const RUN: u32 = 1 << 0;
/// From the device to memory, and not the other way.
const FROM_DEVICE: u32 = 1 << 1;
/// With an interrupt at the end.
const INTERRUPT: u32 = 1 << 2;

/// Whether there is an `edu` device behind these registers.
pub(crate) fn is_edu(bar: &Bar) -> bool {
    bar.try_access()
        .is_some_and(|bar| bar.read32(regs::ID) & 0xff == ID)
}

/// Takes note of the interrupts that the device has raised; says whether there were any. Does not
/// sleep.
pub(crate) fn acknowledge(bar: &Bar) -> bool {
    let Some(bar) = bar.try_access() else {
        return false;
    };
    let status = bar.read32(regs::INTERRUPT_STATUS);
    bar.write32(status, regs::INTERRUPT_ACK);
    status != 0
}

/// Whether a transfer is under way. A device that is not there any more reads as all ones.
fn is_running(bar: &Bar) -> bool {
    bar.try_access()
        .map(|bar| bar.read32(regs::DMA_COMMAND))
        .is_some_and(|command| command != u32::MAX && command & RUN != 0)
}

/// Waits until no transfer is under way; one takes a tenth of a second. Fails with [`ETIMEDOUT`].
pub(crate) fn wait_until_idle(bar: &Bar) -> Result {
    read_poll_timeout(
        || Ok(is_running(bar)),
        |&running| !running,
        Delta::from_millis(10),
        Delta::from_secs(5),
    )?;
    Ok(())
}

/// What the device is at.
enum Transfer {
    ToDevice(usize),
    FromDevice(usize),
}

/// The DMA engine.
pub(crate) struct EduEngine {
    bar: Arc<Bar>,
    transfer: Option<Transfer>,
    /// How many bytes there are in the device's buffer.
    filled: usize,
}

impl EduEngine {
    pub(crate) fn new(bar: Arc<Bar>) -> Self {
        Self {
            bar,
            transfer: None,
            filled: 0,
        }
    }

    /// Has the device begin a transfer. Fails with [`ENXIO`] where it has no registers any more.
    fn run(&mut self, transfer: Transfer, source: u64, destination: u64) -> Result {
        let (count, direction) = match transfer {
            Transfer::ToDevice(count) => (count, 0),
            Transfer::FromDevice(count) => (count, FROM_DEVICE),
        };
        let bar = self.bar.try_access().ok_or(ENXIO)?;
        bar.try_write64(source, regs::DMA_SOURCE)?;
        bar.try_write64(destination, regs::DMA_DESTINATION)?;
        // CAST: No more than the device's buffer has.
        bar.write32(count as u32, regs::DMA_COUNT);
        bar.write32(RUN | direction | INTERRUPT, regs::DMA_COMMAND);
        self.transfer = Some(transfer);
        Ok(())
    }

    fn try_start(&mut self, dev: &Device<Bound>, work: &mut Work<'_, Self>) -> Result {
        let room = BUFFER_SIZE - self.filled;
        if room > 0 {
            if let Some(Piece { addr, len }) = work.next_to_send(room) {
                let end = BUFFER + self.filled as u64;
                return self.run(Transfer::ToDevice(len), addr, end);
            }
        }
        if self.filled > 0 {
            if let Some(page) = work.next_to_receive(dev) {
                return self.run(Transfer::FromDevice(self.filled), BUFFER, page.addr);
            }
        }
        Ok(())
    }
}

impl Engine for EduEngine {
    fn start(&mut self, dev: &Device<Bound>, work: &mut Work<'_, Self>) {
        if self.transfer.is_none() && self.try_start(dev, work).is_err() {
            dev_err!(dev, "the device has no registers\n");
        }
    }

    fn completed(&mut self, work: &mut Work<'_, Self>) {
        if is_running(&self.bar) {
            return;
        }
        match self.transfer.take() {
            Some(Transfer::ToDevice(bytes)) => {
                self.filled += bytes;
                work.sent(bytes);
            }
            Some(Transfer::FromDevice(bytes)) => {
                self.filled = 0;
                work.received(bytes);
            }
            None => (),
        }
    }

    fn stop(&mut self) -> Result {
        wait_until_idle(&self.bar)
    }
}
