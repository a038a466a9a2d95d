// SPDX-License-Identifier: GPL-2.0

//! The file: it gathers data, and makes dma-bufs of it.

use super::{counters::COUNTERS, export::Set, uapi};
use kernel::{
    dma_buf::DmaBuf,
    fs::{file::FileDescriptorReservation, File},
    miscdevice::{MiscDevice, MiscDeviceRegistration},
    mm::locked::LockedMemory,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    splice::driver::{FromPipe, SpliceDevice, SpliceOperations, WholePages},
    sync::Mutex,
};

/// The private data of an open file.
///
/// # Locking
///
/// The mutex nests inside the lock of the pipe. It is held while the result of the ioctl is written
/// to user memory, so it nests outside the locks of page faults.
#[pin_data]
pub(crate) struct Device {
    #[pin]
    set: Mutex<Set>,
}

impl Set {
    /// Creates an empty set. Its memory is charged to the user that opened the file.
    fn new(file: &File) -> Self {
        Self {
            pages: WholePages::new(),
            charge: LockedMemory::of_user(file.cred()),
        }
    }
}

/// Returns the largest size of a set in bytes.
fn most_bytes() -> usize {
    // CAST: A u32 fits in a usize.
    let kib = *crate::module_parameters::most_kib.value_ref() as usize;
    kib.saturating_mul(1024) / PAGE_SIZE * PAGE_SIZE
}

#[vtable]
impl MiscDevice for Device {
    type Ptr = Pin<KBox<Self>>;

    const SPLICE: Option<SpliceOperations<Self::Ptr>> = Some(SpliceOperations::of::<Self>());

    fn open(file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Pin<KBox<Self>>> {
        let set = Set::new(file);
        KBox::pin_init(
            pin_init!(Self {
                set <- new_mutex!(set),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(this: Pin<&Self>, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            uapi::EXPORT => this.export(file, arg),
            _ => Err(ENOTTY),
        }
    }

    fn show_fdinfo(this: Pin<&Self>, m: &SeqFile, _file: &File) {
        let set = this.set.lock();
        seq_print!(m, "dma-buf-bytes:\t{}\n", set.pages.bytes());
        seq_print!(m, "dma-buf-copied:\t{}\n", set.pages.copied());
        seq_print!(m, "dma-buf-size:\t{}\n", set.pages.size());
    }
}

impl Device {
    /// Makes a dma-buf of what was gathered, for `DMA_BUF_SPLICE_EXPORT`.
    fn export(&self, file: &File, arg: usize) -> Result<isize> {
        let flags = uapi::read(arg)?;
        let descriptor = FileDescriptorReservation::get_unused_fd_flags(flags)?;
        let mut set = self.set.lock();
        if set.pages.is_empty() {
            return Err(ENODATA);
        }
        // The last step that can fail is the one that gives the pages back if it does.
        uapi::write(
            arg,
            &uapi::Export {
                fd: descriptor.reserved_fd(),
                cloexec: flags != 0,
                writable: set.pages.is_private(),
                size: set.pages.size(),
                offset: set.pages.offset(),
                bytes: set.pages.bytes(),
                copied: set.pages.copied(),
            },
        )?;
        match core::mem::replace(&mut *set, Set::new(file)).export() {
            Ok(buf) => {
                drop(set);
                DmaBuf::install(buf, descriptor);
                Ok(0)
            }
            Err((err, unchanged)) => {
                *set = unchanged;
                Err(err)
            }
        }
    }
}

#[vtable]
impl SpliceDevice for Device {
    type Ptr = Pin<KBox<Self>>;

    fn splice_out(this: Pin<&Self>, _file: &File, bufs: &mut FromPipe<'_>) -> Result {
        let mut set = this.set.lock();
        let Set { pages, charge } = &mut *set;
        let taken = pages.take(bufs, most_bytes(), |bytes| charge.add(bytes))?;
        COUNTERS.gathered.add(taken.bytes);
        COUNTERS.copied.add(taken.copied);
        Ok(())
    }
}
