// SPDX-License-Identifier: GPL-2.0

//! Two minimal drivers that splice: `/dev/splice-sink` drops all data, and `/dev/splice-source`
//! puts its pages into a pipe and reuses them when the readers are done with them.
//!
//! They need no hardware. `splice_edu.rs` shows a driver with a DMA engine.

#![forbid(unsafe_code)]

use kernel::{
    debugfs::{self, Writer},
    fmt,
    fs::File,
    miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration},
    new_mutex, new_poll_condvar,
    page::PAGE_SIZE,
    prelude::*,
    splice::driver::prelude::*,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        poll::{PollCondVar, PollEvent, PollEvents, PollTable},
        Arc, ArcBorrow, Mutex,
    },
    InPlaceModule,
};

/// The sink: drops all data.
struct Sink;

#[vtable]
impl MiscDevice for Sink {
    type Ptr = KBox<Self>;

    const SPLICE: Option<SpliceOperations<Self::Ptr>> = Some(SpliceOperations::of::<Self>());

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        Ok(KBox::new(Self, GFP_KERNEL)?)
    }

    fn poll(_sink: &Self, _file: &File, _table: PollTable<'_>) -> PollEvents {
        PollEvent::Out | PollEvent::OutNormal
    }
}

#[vtable]
impl SpliceDevice for Sink {
    type Ptr = KBox<Self>;

    fn splice_out(_sink: &Self, _file: &File, bufs: &mut FromPipe<'_>) -> Result {
        bufs.for_each(drop);
        Ok(())
    }
}

/// The maximum number of pages of an open file.
const PAGES: usize = 32;

/// The data of a source: byte `n` of it is `n % PERIOD`. This is long enough to have the contents
/// of a page that starts at any position.
static DATA: [u8; PERIOD + PAGE_SIZE] = {
    let mut data = [0; PERIOD + PAGE_SIZE];
    let mut i = 0;
    while i < data.len() {
        data[i] = (i % PERIOD) as u8;
        i += 1;
    }
    data
};

const PERIOD: usize = 251;

/// The source of an open file: its position in the data, and its pages.
#[pin_data]
struct Source {
    #[pin]
    state: Mutex<State>,
    /// Notified when a page has come back, or is lost.
    #[pin]
    changed: PollCondVar,
}

type Page = KBox<ReceivePage<Owner>>;

struct State {
    /// The pages that are not in pipes.
    free: KVec<Page>,
    /// The number of pages, including those in pipes.
    pages: usize,
    /// The number of bytes that were put into pipes.
    position: usize,
    /// The file is closed.
    closed: bool,
}

impl State {
    fn is_ready(&self) -> bool {
        !self.free.is_empty() || self.pages < PAGES
    }
}

/// The owner of the pages: their source.
struct Owner(Arc<Source>);

#[vtable]
impl PageOwner for Owner {
    fn release(page: Page) {
        let source = page.owner().0.clone();
        let mut state = source.state.lock();
        // The page refers to its source. After the file is closed nobody takes it out of the source
        // again, so to keep it would leak both.
        let unused = if state.closed {
            Some(page)
        } else {
            // This cannot fail: the vector has capacity for all pages.
            state.free.push_within_capacity(page).err();
            None
        };
        drop(state);
        drop(unused);
        source.changed.notify_all();
    }

    fn lost(self) {
        LOST.add(1, Relaxed);
        self.0.state.lock().pages -= 1;
        self.0.changed.notify_all();
    }
}

impl Source {
    fn new() -> Result<Arc<Self>> {
        let free = KVec::with_capacity(PAGES, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                state <- new_mutex!(State {
                    free,
                    pages: 0,
                    position: 0,
                    closed: false,
                }),
                changed <- new_poll_condvar!(),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns a page with up to `len` bytes of the data that comes next, and the number of bytes;
    /// `None` if all pages are in pipes. Returns [`ENOMEM`] if no page can be allocated.
    fn next(this: ArcBorrow<'_, Self>, len: usize) -> Result<Option<(Page, usize)>> {
        let mut state = this.state.lock();
        let mut page = match state.free.pop() {
            Some(page) => {
                RECYCLED.add(1, Relaxed);
                page
            }
            None if state.pages < PAGES => {
                let page = ReceivePage::new(Owner(this.into()), GFP_KERNEL)?;
                ALLOCATED.add(1, Relaxed);
                state.pages += 1;
                page
            }
            None => return Ok(None),
        };
        let start = state.position % PERIOD;
        let len = page.write(&DATA[start..start + len.min(PAGE_SIZE)]);
        state.position += len;
        Ok(Some((page, len)))
    }

    /// Puts pages into the pipe, until no page is free, the pipe is full, or the caller has enough.
    fn give(this: ArcBorrow<'_, Self>, pipe: &mut ToPipe<'_>) -> Result {
        while pipe.wanted() > 0 && !pipe.is_full() {
            let Some((page, len)) = Self::next(this, pipe.wanted())? else {
                break;
            };
            // CAST: At most PAGE_SIZE.
            let buf = ReceivePage::into_buffer(page, 0, len as u32).map_err(|page| {
                Owner::release(page);
                ENODEV
            })?;
            // Nothing is left: the pipe is not full, and `next` returned at most `wanted` bytes.
            let _ = pipe.push(buf);
        }
        Ok(())
    }
}

/// An open file. Each has its own position and pages.
struct SourceFile(Arc<Source>);

#[vtable]
impl MiscDevice for SourceFile {
    type Ptr = KBox<Self>;

    const SPLICE: Option<SpliceOperations<Self::Ptr>> = Some(SpliceOperations::of::<Self>());

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        Ok(KBox::new(Self(Source::new()?), GFP_KERNEL)?)
    }

    fn poll(this: &Self, file: &File, table: PollTable<'_>) -> PollEvents {
        table.register_wait(file, &this.0.changed);
        if this.0.state.lock().is_ready() {
            PollEvent::In | PollEvent::InNormal
        } else {
            PollEvents::empty()
        }
    }
}

#[vtable]
impl SpliceDevice for SourceFile {
    type Ptr = KBox<Self>;

    fn splice_in(this: &Self, _file: &File, pipe: &mut ToPipe<'_>) -> Result {
        let source = &this.0;
        while pipe.given() == 0 {
            pipe.wait(&source.state, &source.changed, State::is_ready)?;
            Source::give(source.as_arc_borrow(), pipe)?;
        }
        Ok(())
    }
}

impl Drop for SourceFile {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        let free = core::mem::take(&mut state.free);
        drop(state);
        drop(free);
    }
}

static ALLOCATED: Atomic<u64> = Atomic::new(0);
static RECYCLED: Atomic<u64> = Atomic::new(0);
static LOST: Atomic<u64> = Atomic::new(0);

/// Shows the counters of all sources in debugfs.
struct Counters;

impl Writer for Counters {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pages.allocated {}", ALLOCATED.load(Relaxed))?;
        writeln!(f, "pages.recycled {}", RECYCLED.load(Relaxed))?;
        writeln!(f, "pages.lost {}", LOST.load(Relaxed))
    }
}

#[pin_data]
struct Sample {
    #[pin]
    sink: MiscDeviceRegistration<Sink>,
    #[pin]
    source: MiscDeviceRegistration<SourceFile>,
    #[pin]
    counters: debugfs::File<Counters>,
}

impl InPlaceModule for Sample {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let named = |name| MiscDeviceOptions { name };
        pin_init::pin_init_scope(move || {
            let dir = debugfs_dir().subdir(c"splice-source");
            Ok(try_pin_init!(Self {
                counters <- dir.read_only_file(c"counters", Counters),
                sink <- MiscDeviceRegistration::register(named(c"splice-sink")),
                source <- MiscDeviceRegistration::register(named(c"splice-source")),
            }))
        })
    }
}

module! {
    type: Sample,
    name: "splice_sample",
    authors: ["The splice developers"],
    description: "Sample drivers that splice",
    license: "GPL",
}
