// SPDX-License-Identifier: GPL-2.0

//! The DMA engine of QEMU's `edu` device.
//!
//! The engine copies up to 4 KiB at a time between memory and the device's buffer of 4 KiB, and
//! raises an interrupt at the end of each transfer. Sent data stays in the buffer until it is
//! received, so all data that is sent to the device can be received from it, in the same order.
//!
//! Reference: [docs/specs/edu.rst](https://www.qemu.org/docs/master/specs/edu.html) of QEMU.

#![forbid(unsafe_code)]

#[cfg(CONFIG_DMA_SHARED_BUFFER)]
pub(crate) mod dma_buf;

use kernel::{
    device::{Bound, Device},
    io::{poll::read_poll_timeout, Io},
    pci::DevresBar,
    prelude::*,
    splice::dma::{Engine, Piece, Work},
    sync::Arc,
    time::Delta,
};

/// The size of BAR 0, which has the registers, in bytes.
pub(crate) const BAR_SIZE: usize = 0x10_0000;

pub(crate) type Bar = DevresBar<BAR_SIZE>;

/// The size of the device's buffer in bytes, which is also that of the longest transfer.
pub(crate) const BUFFER_SIZE: usize = 4096;

/// The address of the device's buffer in the registers of the DMA engine.
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

/// The low byte of the identification register. The other bytes hold the version.
const ID: u32 = 0xed;

/// Starts a transfer. Reads as 1 until the transfer is complete.
const RUN: u32 = 1 << 0;
/// Selects the direction from the device to memory, instead of from memory to the device.
const FROM_DEVICE: u32 = 1 << 1;
/// Requests an interrupt at the end of the transfer.
const INTERRUPT: u32 = 1 << 2;

/// Whether the registers are those of an `edu` device.
pub(crate) fn is_edu(bar: &Bar) -> bool {
    bar.try_access()
        .is_some_and(|bar| bar.read32(regs::ID) & 0xff == ID)
}

/// Acknowledges the interrupts that the device has raised, and returns whether there were any. Does
/// not sleep.
pub(crate) fn acknowledge(bar: &Bar) -> bool {
    let Some(bar) = bar.try_access() else {
        return false;
    };
    let status = bar.read32(regs::INTERRUPT_STATUS);
    bar.write32(status, regs::INTERRUPT_ACK);
    status != 0
}

/// Whether a transfer is in progress. The registers of a removed device read as all ones; no
/// transfer is in progress then.
fn is_running(bar: &Bar) -> bool {
    bar.try_access()
        .map(|bar| bar.read32(regs::DMA_COMMAND))
        .is_some_and(|command| command != u32::MAX && command & RUN != 0)
}

/// Waits until no transfer is in progress. Returns [`ETIMEDOUT`] after 5 seconds; a transfer takes
/// a tenth of a second.
pub(crate) fn wait_until_idle(bar: &Bar) -> Result {
    read_poll_timeout(
        || Ok(is_running(bar)),
        |&running| !running,
        Delta::from_millis(10),
        Delta::from_secs(5),
    )?;
    Ok(())
}

/// Where the memory of an importer is in a transfer.
#[cfg(CONFIG_DMA_SHARED_BUFFER)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Source,
    Destination,
}

/// The transfer in progress: its direction, its memory, and for a page to receive into the number
/// of bytes.
enum Transfer {
    ToDevice(Piece),
    FromDevice(Piece, usize),
}

/// The DMA engine.
pub(crate) struct EduEngine {
    bar: Arc<Bar>,
    transfer: Option<Transfer>,
    /// The number of bytes in the device's buffer.
    filled: usize,
    /// The number of bytes at the beginning of the buffer that are data of the last transfers to
    /// the device. They stay valid after the device has written them to memory. The bytes behind
    /// them are stale, or those of an earlier owner of the device.
    valid: usize,
}

impl EduEngine {
    pub(crate) fn new(bar: Arc<Bar>) -> Self {
        Self {
            bar,
            transfer: None,
            filled: 0,
            valid: 0,
        }
    }

    /// Starts a transfer. Returns [`ENXIO`] if the registers are not mapped any more.
    fn run(&mut self, transfer: Transfer) -> Result {
        let (source, destination, count, direction) = match &transfer {
            Transfer::ToDevice(piece) => (piece.addr, BUFFER + self.filled as u64, piece.len, 0),
            Transfer::FromDevice(page, bytes) => (BUFFER, page.addr, *bytes, FROM_DEVICE),
        };
        let bar = self.bar.try_access().ok_or(ENXIO)?;
        bar.try_write64(source, regs::DMA_SOURCE)?;
        bar.try_write64(destination, regs::DMA_DESTINATION)?;
        // CAST: At most BUFFER_SIZE.
        bar.write32(count as u32, regs::DMA_COUNT);
        bar.write32(RUN | direction | INTERRUPT, regs::DMA_COMMAND);
        self.transfer = Some(transfer);
        Ok(())
    }

    /// Transfers `bytes` between the device's buffer and memory at `addr`, and waits for the end.
    /// Bytes that the device reads are received next, as all others.
    ///
    /// Returns [`EBUSY`] if a transfer is in progress or the buffer has no room, [`ENODATA`] if the
    /// device is to write more bytes than it has read last, and [`ENXIO`] if the registers are not
    /// mapped any more. Never returns before the device has stopped, because the caller unmaps the
    /// memory then.
    #[cfg(CONFIG_DMA_SHARED_BUFFER)]
    pub(crate) fn transfer(&mut self, place: Place, addr: u64, bytes: usize) -> Result {
        if self.transfer.is_some() {
            return Err(EBUSY);
        }
        match place {
            Place::Source if bytes > BUFFER_SIZE - self.filled => return Err(EBUSY),
            Place::Destination if bytes > self.valid => return Err(ENODATA),
            _ => (),
        }
        let (source, destination, direction) = match place {
            Place::Source => (addr, BUFFER + self.filled as u64, 0),
            Place::Destination => (BUFFER, addr, FROM_DEVICE),
        };
        {
            let bar = self.bar.try_access().ok_or(ENXIO)?;
            bar.try_write64(source, regs::DMA_SOURCE)?;
            bar.try_write64(destination, regs::DMA_DESTINATION)?;
            // CAST: At most BUFFER_SIZE.
            bar.write32(bytes as u32, regs::DMA_COUNT);
            bar.write32(RUN | direction, regs::DMA_COMMAND);
        }
        while wait_until_idle(&self.bar).is_err() {
            pr_err!("a transfer does not end\n");
        }
        if place == Place::Source {
            self.has_read(bytes);
        }
        Ok(())
    }

    /// Notes that the device has read `bytes` to the end of the data in its buffer.
    fn has_read(&mut self, bytes: usize) {
        self.filled += bytes;
        self.valid = self.filled;
    }

    fn try_start(&mut self, dev: &Device<Bound>, work: &mut Work<'_, Self>) -> Result {
        let room = BUFFER_SIZE - self.filled;
        if room > 0 {
            if let Some(piece) = work.next_to_send(room) {
                return self.run(Transfer::ToDevice(piece));
            }
        }
        if self.filled > 0 {
            if let Some(page) = work.next_to_receive(dev) {
                return self.run(Transfer::FromDevice(page, self.filled));
            }
        }
        Ok(())
    }
}

#[vtable]
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
            Some(Transfer::ToDevice(piece)) => {
                self.has_read(piece.len);
                work.sent(piece);
            }
            Some(Transfer::FromDevice(page, bytes)) => {
                self.filled = 0;
                work.received(page, bytes);
            }
            None => (),
        }
    }

    fn stop(&mut self) -> Result {
        wait_until_idle(&self.bar)
    }
}
