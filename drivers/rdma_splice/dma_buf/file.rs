// SPDX-License-Identifier: GPL-2.0

//! The file: it gathers data, makes dma-bufs of it, and returns the data of the last one.

use super::{
    counters::COUNTERS,
    export::{ExportedSet, Set},
    uapi,
};
use kernel::{
    dma_buf::{Access, DmaBuf, FenceWatch},
    fs::{file::FileDescriptorReservation, File},
    miscdevice::{MiscDevice, MiscDeviceRegistration},
    mm::locked::LockedMemory,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    splice::driver::{Cursor, FromPipe, SpliceDevice, SpliceOperations, Taken, ToPipe, WholePages},
    sync::{
        poll::{PollEvent, PollEvents, PollTable},
        Arc, Mutex,
    },
};

/// The private data of an open file.
///
/// # Locking
///
/// The mutex nests inside the lock of the pipe, and is not held while user memory is accessed or a
/// fence is waited for.
#[pin_data]
pub(crate) struct Device {
    #[pin]
    state: Mutex<State>,
    /// Notified if a fence is signalled, and if the state has changed.
    #[pin]
    watch: FenceWatch,
}

struct State {
    /// The set that is being gathered, or `None` while a call of the ioctl exports it.
    set: Option<Set>,
    last: Option<Last>,
}

/// The set that was exported last.
#[derive(Clone)]
struct Last {
    set: Arc<ExportedSet>,
    /// What comes out of the device next.
    cursor: Cursor,
}

impl State {
    /// Returns the last set if not all of its data has come out of the device.
    fn unread(&self) -> Option<&Last> {
        self.last.as_ref().filter(|last| last.cursor.left() > 0)
    }
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
        let state = State {
            set: Some(Set::new(file)),
            last: None,
        };
        KBox::pin_init(
            pin_init!(Self {
                state <- new_mutex!(state),
                watch <- FenceWatch::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// The device is writable unless a call exports the set. It is readable if it has data of the
    /// last set, and devices are done with writing to it; also if the last user of that set is
    /// gone, since a call does not wait then.
    fn poll(this: Pin<&Self>, file: &File, table: PollTable<'_>) -> PollEvents {
        table.register_wait(file, this.watch.changed());
        let (writable, unread) = {
            let state = this.state.lock();
            (state.set.is_some(), state.unread().cloned())
        };
        let mut events = PollEvents::empty();
        if writable {
            events |= PollEvent::Out | PollEvent::OutNormal;
        }
        if let Some(last) = unread {
            match last.set.buf() {
                Some(buf) if !this.watch.is_ready(&buf, Access::Read) => (),
                // If it is gone, a call returns ENODATA at once.
                _ => events |= PollEvent::In | PollEvent::InNormal,
            }
        }
        events
    }

    fn ioctl(this: Pin<&Self>, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            uapi::EXPORT => this.export(file, arg),
            _ => Err(ENOTTY),
        }
    }

    /// Does not wait for the mutex, so that it can be called whatever the device does.
    fn show_fdinfo(this: Pin<&Self>, m: &SeqFile, _file: &File) {
        let state = this.state.try_lock();
        let Some(set) = state.as_ref().and_then(|state| state.set.as_ref()) else {
            seq_print!(m, "dma-buf-busy:\t1\n");
            return;
        };
        seq_print!(m, "dma-buf-bytes:\t{}\n", set.pages.bytes());
        seq_print!(m, "dma-buf-copied:\t{}\n", set.pages.copied());
        seq_print!(m, "dma-buf-size:\t{}\n", set.pages.size());
    }
}

impl Device {
    /// Takes the set out of the state, so that others wait, and the mutex need not be held. Returns
    /// [`ENODATA`] if the set is empty, and [`ERESTARTSYS`] if another call has it and a signal is
    /// pending.
    fn take_set(&self) -> Result<Set> {
        let mut state = self.state.lock();
        loop {
            match state.set.take() {
                Some(set) if set.pages.is_empty() => {
                    state.set = Some(set);
                    return Err(ENODATA);
                }
                Some(set) => return Ok(set),
                None => {
                    if self.watch.changed().wait_interruptible(&mut state) {
                        return Err(ERESTARTSYS);
                    }
                }
            }
        }
    }

    /// Ends what [`Self::take_set`] has begun.
    fn return_set(&self, set: Set, last: Option<Last>) {
        let mut state = self.state.lock();
        state.set = Some(set);
        let before = last.and_then(|last| state.last.replace(last));
        drop(state);
        drop(before);
        self.watch.changed().notify_all();
    }

    /// Makes a dma-buf of what was gathered, for `DMA_BUF_SPLICE_EXPORT`.
    fn export(&self, file: &File, arg: usize) -> Result<isize> {
        let flags = uapi::read(arg)?;
        let descriptor = FileDescriptorReservation::get_unused_fd_flags(flags)?;
        let set = self.take_set()?;
        // The last step that can fail is the one that gives the pages back if it does.
        let written = uapi::write(
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
        );
        let exported = match written {
            Ok(()) => set.export(),
            Err(err) => Err((err, set)),
        };
        match exported {
            Ok((buf, set)) => {
                let cursor = set.start();
                self.return_set(Set::new(file), Some(Last { set, cursor }));
                DmaBuf::install(buf, descriptor);
                Ok(0)
            }
            Err((err, unchanged)) => {
                self.return_set(unchanged, None);
                Err(err)
            }
        }
    }

    /// Puts data of the last set into a pipe, if that is still `last`. Returns whether it is.
    fn give(&self, last: &Last, pipe: &mut ToPipe<'_>) -> Result<bool> {
        let mut state = self.state.lock();
        let Some(now) = state.last.as_mut() else {
            return Ok(false);
        };
        if !Arc::ptr_eq(&now.set, &last.set) {
            return Ok(false);
        }
        let before = now.cursor.left();
        let ret = now.set.give(&mut now.cursor, pipe);
        COUNTERS.returned.add(before - now.cursor.left());
        ret.map(|()| true)
    }
}

#[vtable]
impl SpliceDevice for Device {
    type Ptr = Pin<KBox<Self>>;

    fn splice_out(this: Pin<&Self>, _file: &File, bufs: &mut FromPipe<'_>) -> Result {
        let taken = loop {
            bufs.wait(&this.state, this.watch.changed(), |state| {
                state.set.is_some()
            })?;
            let mut state = this.state.lock();
            if let Some(Set { pages, charge }) = &mut state.set {
                break pages.take(bufs, most_bytes(), |bytes| charge.add(bytes))?;
            }
        };
        let Taken { bytes, copied } = taken;
        COUNTERS.gathered.add(bytes);
        COUNTERS.copied.add(copied);
        Ok(())
    }

    /// Gives the data of the set that was exported last, when no device writes to it any more.
    ///
    /// Returns [`ENODATA`] if no set was exported, or if the last user of its dma-buf is gone.
    /// Gives nothing, which is the end of the data, if all of it was given.
    fn splice_in(this: Pin<&Self>, _file: &File, pipe: &mut ToPipe<'_>) -> Result {
        loop {
            let last = this.state.lock().last.clone().ok_or(ENODATA)?;
            if last.cursor.left() == 0 {
                return Ok(());
            }
            let buf = last.set.buf().ok_or(ENODATA)?;
            if !pipe.may_wait() {
                buf.wait(Access::Read, false)?;
            }
            // This waits for the fences, and makes the CPU see what devices have written. Later
            // writes may or may not be seen.
            pipe.unlocked(|| buf.begin_cpu_access(Access::Read)?.end())?;
            if this.give(&last, pipe)? {
                return Ok(());
            }
        }
    }
}
