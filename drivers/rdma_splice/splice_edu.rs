// SPDX-License-Identifier: GPL-2.0

//! QEMU's `edu` device: `/dev/splice-eduN`, a stream through a PCI device with a DMA engine.
//!
//! If data is spliced to the file, the device reads it from the pages of the pipe. If data is
//! spliced from the file, the pipe gets pages that the device has written to. Data comes out in the
//! order in which it went in. With `O_SYNC`, splice(2) returns when the device has read all data;
//! without, it returns when the request is queued, and `fsync(2)` waits for the device.
//!
//! This file binds the driver to a device and unbinds it; [`edu`] has the DMA engine.

mod edu;

use edu::{EduEngine, BAR_SIZE, BUFFER_SIZE};
use kernel::{
    debugfs,
    device::{Bound, Core, Device},
    dma::{Device as _, DmaMask},
    driver,
    fs::{
        file::flags::O_DSYNC,
        File, //
    },
    irq::{self, IrqReturn, ThreadedHandler, ThreadedIrqReturn, ThreadedRegistration},
    miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration},
    pci::{self, IrqType, IrqTypes, IrqVectorRegistration, Vendor},
    prelude::*,
    splice::{
        dma::{Channel, ChannelOwner, Limits, ShowCounters},
        driver::prelude::*, //
    },
    sync::{
        global_lock,
        poll::{PollEvents, PollTable},
        Arc, //
    },
    InPlaceModule, ModuleMetadata,
};

type EduChannel = Channel<EduEngine>;

/// The names of the character devices. There can be as many devices as names.
const NAMES: [&CStr; 8] = [
    c"splice-edu0",
    c"splice-edu1",
    c"splice-edu2",
    c"splice-edu3",
    c"splice-edu4",
    c"splice-edu5",
    c"splice-edu6",
    c"splice-edu7",
];

global_lock! {
    // SAFETY: `EduModule::init` initializes the lock before it registers the driver, so before any
    // function uses it.
    unsafe(uninit) static CHANNELS: Mutex<[Option<Arc<EduChannel>>; NAMES.len()]> =
        [const { None }; NAMES.len()];
}

/// The index of a device in [`CHANNELS`] and [`NAMES`]. `open` finds the channel by the name.
struct Place(usize);

impl Place {
    /// Takes a free index. Returns [`ENOSPC`] if there is none.
    fn take(channel: &Arc<EduChannel>) -> Result<Self> {
        let mut channels = CHANNELS.lock();
        let index = channels.iter().position(Option::is_none).ok_or(ENOSPC)?;
        channels[index] = Some(channel.clone());
        Ok(Self(index))
    }

    fn name(&self) -> &'static CStr {
        NAMES[self.0]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let channel = CHANNELS.lock()[self.0].take();
        drop(channel);
    }
}

/// The private data of an open file of a device.
struct EduFile(Arc<EduChannel>);

#[vtable]
impl MiscDevice for EduFile {
    type Ptr = KBox<Self>;

    const SPLICE: Option<SpliceOperations<Self::Ptr>> = Some(SpliceOperations::of::<Self>());

    fn open(_file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        let name = misc.device().name();
        let index = NAMES
            .iter()
            .position(|&place| place == name)
            .ok_or(ENODEV)?;
        let channel = CHANNELS.lock()[index].clone().ok_or(ENODEV)?;
        Ok(KBox::new(Self(channel), GFP_KERNEL)?)
    }

    fn poll(this: &Self, file: &File, table: PollTable<'_>) -> PollEvents {
        this.0.poll(file, table)
    }

    fn fsync(this: &Self, _file: &File) -> Result {
        this.0.fsync()
    }

    fn ioctl(this: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            #[cfg(CONFIG_DMA_SHARED_BUFFER)]
            edu::dma_buf::TRANSFER => edu::dma_buf::transfer(&this.0, arg).map(|()| 0),
            _ => {
                let _ = (this, arg);
                Err(ENOTTY)
            }
        }
    }
}

#[vtable]
impl SpliceDevice for EduFile {
    type Ptr = KBox<Self>;

    fn splice_in(this: &Self, _file: &File, pipe: &mut ToPipe<'_>) -> Result {
        EduChannel::splice_in(this.0.as_arc_borrow(), pipe)
    }

    fn splice_out(this: &Self, file: &File, bufs: &mut FromPipe<'_>) -> Result {
        // `O_SYNC` includes the bit of `O_DSYNC`.
        this.0.splice_out(file.has_flags(O_DSYNC), bufs)
    }
}

/// The data of the interrupt handler.
struct Interrupt<'bound> {
    dev: &'bound Device<Bound>,
    bar: Arc<edu::Bar>,
    channel: Arc<EduChannel>,
}

impl ThreadedHandler for Interrupt<'_> {
    fn handle(&self) -> ThreadedIrqReturn {
        if edu::acknowledge(&self.bar) {
            ThreadedIrqReturn::WakeThread
        } else {
            ThreadedIrqReturn::None
        }
    }

    fn handle_threaded(&self) -> IrqReturn {
        self.channel.interrupt(self.dev);
        IrqReturn::Handled
    }
}

/// The driver data of a bound device.
///
/// The order of the fields is that of their drops: `misc` first, so that the file cannot be opened
/// any more; then the channel; after it the interrupt handler, which still refers to the channel.
#[pin_data]
struct Edu<'bound> {
    #[pin]
    misc: MiscDeviceRegistration<EduFile>,
    #[pin]
    counters: debugfs::File<ShowCounters<EduEngine>>,
    place: Place,
    channel: ChannelOwner<EduEngine>,
    #[pin]
    irq: ThreadedRegistration<'bound, Interrupt<'bound>>,
    vectors: IrqVectorRegistration<'bound>,
}

struct EduDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <EduDriver as pci::Driver>::IdInfo,
    [(pci::DeviceId::from_id(Vendor::from_raw(0x1234), 0x11e8), ())]
);

impl pci::Driver for EduDriver {
    type IdInfo = ();
    type Data<'bound> = Edu<'bound>;
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Edu<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            let bits = *module_parameters::dma_bits.value_ref();
            let mask = DmaMask::try_new(u32::from(bits))?;
            pdev.enable_device_mem()?;
            // SAFETY: Nothing maps or allocates DMA memory for the device before this probe makes
            // the channel, so no such call runs at the same time.
            unsafe {
                pdev.dma_set_mask_and_coherent(mask)?;
                pdev.dma_set_max_seg_size(BUFFER_SIZE as u32);
            }
            let bar = pdev.iomap_region_sized::<BAR_SIZE>(0, c"splice_edu")?;
            let bar = Arc::new(bar.into_devres()?, GFP_KERNEL)?;
            if !edu::is_edu(&bar) {
                dev_err!(pdev, "this is no edu device\n");
                return Err(ENODEV);
            }
            // A previous driver may have left a transfer running or an interrupt pending. This
            // driver must not take the end of that transfer for the end of one that it starts.
            edu::wait_until_idle(&bar)?;
            edu::acknowledge(&bar);
            // Only now that the device is idle: with bus mastering, a transfer that a previous
            // driver could not stop would continue, in memory that is used for other data by now.
            pdev.set_master();

            let vectors = pdev.alloc_irq_vectors(1, 1, IrqTypes::default().with(IrqType::Msi))?;
            let dev: &'bound Device<Bound> = pdev.as_ref();
            let channel = ChannelOwner::new(dev, EduEngine::new(bar.clone()), Limits::default())?;
            let interrupt = Interrupt {
                dev,
                bar,
                channel: channel.channel().clone(),
            };
            let place = Place::take(channel.channel())?;
            let name = place.name();
            let dir = debugfs_dir().subdir(name);
            let shown = ShowCounters(channel.channel().clone());
            Ok(try_pin_init!(&this in Edu {
                vectors,
                irq <- {
                    // SAFETY: `vectors` is initialized above. It is dropped after `irq`, because it
                    // is declared after it, and it does not move, because `Edu` is pinned.
                    let vectors: &'bound IrqVectorRegistration<'bound> =
                        unsafe { &(*this.as_ptr()).vectors };
                    // SAFETY: The registration is a field of the driver data, which the PCI core
                    // drops when the driver is unbound, so its drop runs.
                    unsafe {
                        ThreadedRegistration::new(
                            vectors.index(0)?.into(),
                            irq::Flags::TRIGGER_NONE,
                            name,
                            Ok(interrupt),
                        )
                    }
                },
                channel,
                place,
                counters <- dir.read_only_file(c"counters", shown),
                misc <- MiscDeviceRegistration::register(MiscDeviceOptions { name }),
            }))
        })
    }

    fn unbind<'bound>(pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Edu<'bound>>) {
        this.channel.close(|| {
            dev_err!(pdev, "the device does not stop: keeping it off the bus\n");
            pdev.clear_master();
        });
    }
}

#[pin_data]
struct EduModule {
    #[pin]
    driver: driver::Registration<pci::Adapter<EduDriver>>,
}

impl InPlaceModule for EduModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: `init` runs once for each load of the module, which is the only call for this
        // lock, and the driver that uses the lock is not registered yet.
        unsafe { CHANNELS.init() };
        try_pin_init!(Self {
            driver <- driver::Registration::new(<Self as ModuleMetadata>::NAME, module),
        })
    }
}

module! {
    type: EduModule,
    name: "splice_edu",
    authors: ["The splice developers"],
    description: "Splice to and from QEMU's edu device",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
    params: {
        dma_bits: u8 {
            default: 28,
            description: "How many bits of an address the device has (dma_mask of QEMU's device)",
        },
    },
}
