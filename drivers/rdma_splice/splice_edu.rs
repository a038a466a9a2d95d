// SPDX-License-Identifier: GPL-2.0

//! QEMU's `edu` device: `/dev/splice-eduN`, a stream through a PCI device with a DMA engine.
//!
//! What is spliced to it is read by the device out of the pipe's pages; what is spliced from it are
//! pages that the device has written to. What goes in comes out. With `O_SYNC` a call to splice
//! returns when the device has read all; without, once it is queued, and `fsync(2)` waits.
//!
//! This file is where the device comes and goes; [`edu`] is its DMA engine.

mod adapter;
mod edu;

use adapter::{Channel, ChannelOf, CountersOf};
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
    splice::{self, FromPipe, PollEvents, ToPipe},
    sync::{global_lock, poll::PollTable, Arc},
    InPlaceModule, ModuleMetadata,
};

type EduChannel = Channel<EduEngine>;

/// The names of the devices; there can be no more.
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
    // SAFETY: Initialized when the module is, before there are devices.
    unsafe(uninit) static CHANNELS: Mutex<[Option<Arc<EduChannel>>; NAMES.len()]> =
        [const { None }; NAMES.len()];
}

/// The place of a device among [`CHANNELS`], by which whoever opens its file finds it.
struct Place(usize);

impl Place {
    /// Takes a place that is free. Fails with [`ENOSPC`] where there is none.
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

/// What an open file of a device has.
struct EduFile(Arc<EduChannel>);

#[vtable]
impl MiscDevice for EduFile {
    type Ptr = KBox<Self>;

    fn open(_file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        let name = misc.device().name();
        let index = NAMES
            .iter()
            .position(|&place| place == name)
            .ok_or(ENODEV)?;
        let channel = CHANNELS.lock()[index].clone().ok_or(ENODEV)?;
        Ok(KBox::new(Self(channel), GFP_KERNEL)?)
    }

    fn splice_in(this: &Self, _file: &File, pipe: &mut ToPipe<'_>) -> Result {
        EduChannel::splice_in(this.0.as_arc_borrow(), pipe)
    }

    fn splice_out(this: &Self, file: &File, bufs: &mut FromPipe<'_>) -> Result {
        // O_SYNC has the bit of O_DSYNC.
        this.0.splice_out(file.has_flags(O_DSYNC), bufs)
    }

    fn poll(this: &Self, file: &File, table: PollTable<'_>) -> PollEvents {
        this.0.poll(file, table)
    }

    fn fsync(this: &Self, _file: &File) -> Result {
        this.0.fsync()
    }
}

/// What the interrupt needs.
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

/// What a device has while it has this driver. Dropped in this order: nobody opens it any more,
/// then nobody interrupts.
#[pin_data]
struct Edu<'bound> {
    #[pin]
    misc: MiscDeviceRegistration<EduFile>,
    #[pin]
    counters: debugfs::File<CountersOf<EduEngine>>,
    place: Place,
    channel: ChannelOf<EduEngine>,
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
            // SAFETY: The device does not do DMA yet.
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
            // What came before this driver is not for it.
            edu::wait_until_idle(&bar)?;
            edu::acknowledge(&bar);
            // Not before: what another driver has left it at would go on.
            pdev.set_master();

            let vectors = pdev.alloc_irq_vectors(1, 1, IrqTypes::default().with(IrqType::Msi))?;
            let dev: &'bound Device<Bound> = pdev.as_ref();
            let channel = ChannelOf::new(dev, EduEngine::new(bar.clone()))?;
            let interrupt = Interrupt {
                dev,
                bar,
                channel: channel.channel().clone(),
            };
            let place = Place::take(channel.channel())?;
            let name = place.name();
            let dir = splice::debugfs_dir().subdir(name);
            let shown = CountersOf(channel.channel().clone());
            Ok(try_pin_init!(&this in Edu {
                vectors,
                irq <- {
                    // SAFETY: Initialized above, and dropped after `irq`, since it is declared
                    // after it. It is not moved, for all of this is pinned.
                    let vectors: &'bound IrqVectorRegistration<'bound> =
                        unsafe { &(*this.as_ptr()).vectors };
                    // SAFETY: It is dropped with the device's data, which is not forgotten.
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
        // SAFETY: Once, before there are devices.
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
    params: {
        dma_bits: u8 {
            default: 28,
            description: "How many bits of an address the device has (dma_mask of QEMU's device)",
        },
    },
}
