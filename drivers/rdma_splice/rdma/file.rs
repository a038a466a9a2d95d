// SPDX-License-Identifier: GPL-2.0

//! The files: the device, connections, and listeners.

use super::{
    connection::{Connection, Handle},
    listener::ListenerFile,
    protocol::{Offer, Protocol},
    uapi::{self, raw_addr, Connect, Flags, Listen},
};
use kernel::{
    fs::{
        anon::{self, AnonFile},
        file::{flags::O_NONBLOCK, FileDescriptorReservation},
        File,
    },
    iov::{IovIterDest, IovIterSource},
    miscdevice::{MiscDevice, MiscDeviceRegistration},
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    splice::driver::{FromPipe, SpliceDevice, ToPipe},
    sync::poll::{PollEvents, PollTable},
    types::ForeignOwnable,
    uapi::rdma_splice_info,
};

/// The private data of the open device.
pub(crate) struct Device;

#[vtable]
impl MiscDevice for Device {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        Ok(KBox::new(Self, GFP_KERNEL)?)
    }

    fn ioctl(_device: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let keepalive_ms = *crate::module_parameters::keepalive_ms.value_ref();
        match cmd {
            uapi::CONNECT => {
                let args = Connect::read(arg, keepalive_ms)?;
                let descriptor = Descriptor::reserve(args.flags)?;
                let handle = Connection::connect(
                    args.settings,
                    args.peer,
                    args.local,
                    args.timeout_ms,
                    args.flags.wait(),
                )?;
                descriptor.install::<Handle>(c"[rdma_splice]", KBox::new(handle, GFP_KERNEL)?)
            }
            uapi::LISTEN => {
                let args = Listen::read(arg, keepalive_ms)?;
                let descriptor = Descriptor::reserve(args.flags)?;
                let listener = ListenerFile::new(args.local, args.backlog, args.settings)?;
                let listener = KBox::new(listener, GFP_KERNEL)?;
                descriptor.install::<ListenerFile>(c"[rdma_splice_listener]", listener)
            }
            _ => Err(ENOTTY),
        }
    }
}

/// A file descriptor for a new file.
struct Descriptor {
    reservation: FileDescriptorReservation,
    flags: Flags,
}

impl Descriptor {
    /// Takes a free descriptor. Returns [`EMFILE`] if there is none.
    fn reserve(flags: Flags) -> Result<Self> {
        Ok(Self {
            reservation: FileDescriptorReservation::get_unused_fd_flags(flags.of_descriptor())?,
            flags,
        })
    }

    /// Creates a file with private data and returns its descriptor.
    fn install<T: AnonFile>(self, name: &CStr, data: T::Ptr) -> Result<isize>
    where
        T::Ptr: ForeignOwnable,
    {
        let file =
            anon::create::<T>(name, data, self.flags.of_file()).map_err(|(err, _data)| err)?;
        // CAST: A descriptor is a positive int.
        let fd = self.reservation.reserved_fd() as isize;
        self.reservation.fd_install(file);
        Ok(fd)
    }
}

#[vtable]
impl SpliceDevice for Handle {
    type Ptr = KBox<Self>;

    fn splice_in(this: &Self, _file: &File, pipe: &mut ToPipe<'_>) -> Result {
        Connection::splice_in(this, pipe)
    }

    fn splice_out(this: &Self, _file: &File, bufs: &mut FromPipe<'_>) -> Result {
        Connection::splice_out(this.0.as_arc_borrow(), bufs)
    }
}

#[vtable]
impl AnonFile for Handle {
    fn poll(this: &Self, file: &File, table: PollTable<'_>) -> PollEvents {
        this.0.poll(file, table)
    }

    fn fsync(this: &Self, _file: &File) -> Result {
        this.0.fsync()
    }

    fn read(this: &Self, file: &File, to: &mut IovIterDest<'_>) -> Result<usize> {
        Connection::read(this, !file.has_flags(O_NONBLOCK), to)
    }

    fn write(this: &Self, file: &File, from: &mut IovIterSource<'_>) -> Result<usize> {
        let wait = !file.has_flags(O_NONBLOCK);
        Connection::write(this.0.as_arc_borrow(), wait, from)
    }

    fn ioctl(this: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            uapi::SHUTDOWN => Connection::shut_down(this.0.as_arc_borrow())?,
            uapi::INFO => uapi::write(arg, &this.info())?,
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }

    fn show_fdinfo(this: &Self, m: &SeqFile, _file: &File) {
        let info = this.info();
        let (posted, copied) = this.pending();
        seq_print!(m, "rdma-state:\t{}\n", info.state);
        seq_print!(m, "rdma-sent:\t{}\n", info.sent);
        seq_print!(m, "rdma-taken:\t{}\n", info.taken);
        seq_print!(m, "rdma-received:\t{}\n", info.received);
        seq_print!(m, "rdma-copied:\t{}\n", copied);
        seq_print!(m, "rdma-sends-posted:\t{}\n", posted);
    }
}

impl Handle {
    /// Returns the number of sends that are posted, and of bytes that were copied.
    fn pending(&self) -> (usize, u64) {
        let state = self.0.state.lock();
        let sends = state.sizes.map_or(0, |sizes| sizes.queues.sends);
        let posted = if state.ended {
            0
        } else {
            sends.saturating_sub(state.idle_sends.len())
        };
        (posted, state.copied)
    }

    fn info(&self) -> rdma_splice_info {
        let mut info = empty_info();
        let state = self.0.state.lock();
        if let Some(protocol) = state.protocol.as_ref() {
            let (send, receive) = (protocol.send_limits(), protocol.receive_limits());
            (info.send_segment, info.send_depth) = limits(send);
            (info.receive_segment, info.receive_depth) = limits(receive);
            info.taken = protocol.bytes_taken();
            if protocol.fin_sent() {
                info.flags |= kernel::uapi::RDMA_SPLICE_FIN_SENT;
            }
            if protocol.fin_received() {
                info.flags |= kernel::uapi::RDMA_SPLICE_FIN_RECEIVED;
            }
        }
        let started = state.protocol.as_ref().is_some_and(Protocol::is_started);
        info.state = match (state.ending, state.error) {
            (true, Some(err)) => {
                info.error = -err.to_errno();
                kernel::uapi::rdma_splice_state_RDMA_SPLICE_FAILED
            }
            (true, None) => kernel::uapi::rdma_splice_state_RDMA_SPLICE_CLOSED,
            (false, _) if started => kernel::uapi::rdma_splice_state_RDMA_SPLICE_CONNECTED,
            (false, _) => kernel::uapi::rdma_splice_state_RDMA_SPLICE_CONNECTING,
        };
        info.sent = state.sent;
        info.received = state.received;
        info.local = raw_addr(state.local);
        info.peer = raw_addr(state.peer);
        info.device = state.device;
        info
    }
}

fn limits(offer: Offer) -> (u32, u32) {
    (offer.segment, offer.depth.into())
}

fn empty_info() -> rdma_splice_info {
    rdma_splice_info {
        state: 0,
        error: 0,
        flags: 0,
        reserved: 0,
        local: raw_addr(None),
        peer: raw_addr(None),
        device: [0; 64],
        send_segment: 0,
        send_depth: 0,
        receive_segment: 0,
        receive_depth: 0,
        sent: 0,
        taken: 0,
        received: 0,
    }
}

#[vtable]
impl SpliceDevice for ListenerFile {
    type Ptr = KBox<Self>;
}

#[vtable]
impl AnonFile for ListenerFile {
    fn poll(this: &Self, file: &File, table: PollTable<'_>) -> PollEvents {
        ListenerFile::poll(this, file, table)
    }

    fn ioctl(this: &Self, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            uapi::ACCEPT => {
                let flags = uapi::read_accept(arg)?;
                let descriptor = Descriptor::reserve(flags)?;
                let handle = this.accept(!file.has_flags(O_NONBLOCK))?;
                uapi::write_accept(arg, handle.0.state.lock().peer)?;
                descriptor.install::<Handle>(c"[rdma_splice]", KBox::new(handle, GFP_KERNEL)?)
            }
            uapi::INFO => {
                let mut info = empty_info();
                info.state = kernel::uapi::rdma_splice_state_RDMA_SPLICE_LISTENING;
                info.local = raw_addr(this.local());
                uapi::write(arg, &info)?;
                Ok(0)
            }
            _ => Err(ENOTTY),
        }
    }
}
