// SPDX-License-Identifier: GPL-2.0

//! The state of a connection, and what it permits.

use super::{
    pages::{Page, Pool},
    protocol::{Offer, Protocol, CONTROL},
};
use kernel::{
    page::PAGE_SIZE,
    pipe::PipeBuffer,
    prelude::*,
    rdma::{
        Connection, DeviceLimits, Endpoint, Id, QueueSizes, ReceiveRequest, SendRequest, SocketAddr,
    },
    splice::driver::{PipeBuffers, ReceivePage},
    time::{Instant, Monotonic},
};

/// The number of entries of a request, including the header, if the device supports more.
const MOST_ENTRIES: usize = 32;

/// The number of sends that are kept for messages without data.
pub(super) const CONTROL_SENDS: usize = 3;

pub(crate) type Send = KBox<SendRequest<PipeBuffers>>;
pub(crate) type Receive = KBox<ReceiveRequest<KVec<Page>>>;

/// The memory and the times that the user chose.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) keepalive_ms: u32,
    /// The memory to receive into. Also the most bytes that are sent and not taken.
    pub(crate) receive_bytes: usize,
}

/// The sizes of a connection on a device.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) queues: QueueSizes,
    pub(super) own: Offer,
    pub(super) window: u16,
    pub(super) send_segment: u32,
}

impl Sizes {
    /// Divides the memory. Returns [`EINVAL`] if it is too small, or if the device can do too
    /// little.
    pub(super) fn new(limits: DeviceLimits, settings: Settings) -> Result<Self> {
        let send_entries = limits.send_entries.min(MOST_ENTRIES);
        let receive_entries = limits.receive_entries.min(MOST_ENTRIES);
        if send_entries < 2 || receive_entries < 2 {
            return Err(EINVAL);
        }
        // Besides the receives for data there are those for messages without data, and the pool.
        let spare = CONTROL + 1;
        let most = settings.receive_bytes / (spare + 1) / PAGE_SIZE;
        let pages = most.min(receive_entries - 1);
        if pages == 0 {
            return Err(EINVAL);
        }
        let segment = pages * PAGE_SIZE;
        // The whole window is charged, so a single message must not exceed it either.
        let send_segment = (send_entries - 1).min(settings.receive_bytes / PAGE_SIZE) * PAGE_SIZE;
        let depth = (settings.receive_bytes / segment - spare)
            .min(limits.requests.saturating_sub(CONTROL))
            .min(4096);
        let window = (settings.receive_bytes / send_segment)
            .min(limits.requests.saturating_sub(CONTROL_SENDS))
            .min(4096);
        if depth == 0 || window == 0 {
            return Err(EINVAL);
        }
        // CAST: The numbers of messages are at most 4096, and a segment has at most 31 pages.
        Ok(Self {
            queues: QueueSizes {
                sends: window + CONTROL_SENDS,
                receives: depth + CONTROL,
                send_entries,
                receive_entries: pages + 1,
            },
            own: Offer {
                depth: depth as u16,
                segment: segment as u32,
            },
            window: window as u16,
            send_segment: send_segment as u32,
        })
    }
}

impl Sizes {
    /// Returns the number of pages of a receive.
    pub(super) fn pages(&self) -> usize {
        // CAST: A u32 fits in a usize.
        self.own.segment as usize / PAGE_SIZE
    }
}

/// A step of the set-up by the side that connects.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Nothing has happened yet.
    Begin,
    /// The address is being resolved.
    Address,
    /// The route is being resolved.
    Route,
}

/// The set-up of a connection that this side starts, until it connects.
pub(super) struct SetUp<E: Endpoint> {
    pub(super) id: Id<E>,
    pub(super) peer: SocketAddr,
    pub(super) local: Option<SocketAddr>,
    pub(super) step: Step,
}

/// A received message, of which the reader has not taken everything.
pub(super) struct Message {
    pub(super) request: Receive,
    /// The number of bytes in the pages of the request that are not in buffers yet.
    pub(super) left: usize,
    /// The rest of a buffer of which the reader has taken a part.
    pub(super) part: Option<PipeBuffer>,
}

/// A receive that is not posted.
pub(super) struct Idle {
    pub(super) request: Receive,
    /// It had data, which the reader has taken.
    pub(super) taken: bool,
}

/// The state of a connection `E`.
pub(crate) struct State<E: Endpoint> {
    /// `None` if this side accepts, once it connects, and while a step begins.
    pub(super) set_up: Option<SetUp<E>>,
    /// The result of the last step of the set-up, if the next one can begin.
    pub(super) step_result: Option<Result>,
    /// The work item takes the steps of the set-up, and not a task that waits.
    pub(super) in_background: bool,
    /// `None` before the connection is set up and after it has ended.
    pub(super) link: Option<Connection<E>>,
    pub(super) sizes: Option<Sizes>,
    pub(super) protocol: Option<Protocol>,
    /// The connection is ending or has ended, so nothing is posted any more.
    pub(super) ending: bool,
    /// The adapter is done with all requests.
    pub(super) ended: bool,
    /// A task is in read(2), and has taken a buffer out of the first message.
    pub(super) reading: bool,
    /// The device is an iWARP device.
    pub(super) iwarp: bool,
    pub(super) error: Option<Error>,
    pub(super) local: Option<SocketAddr>,
    pub(super) peer: Option<SocketAddr>,
    /// The name of the device.
    pub(super) device: [c_char; 64],
    pub(super) idle_sends: KVec<Send>,
    pub(super) idle_receives: KVec<Idle>,
    /// The received messages, oldest first.
    pub(super) messages: KVec<Message>,
    /// The number of sends that tasks are filling.
    pub(super) filling: u64,
    /// The time when the last message arrived, or when the set-up began.
    pub(super) heard: Instant<Monotonic>,
    /// The time for the set-up, including the first message.
    pub(super) set_up_ms: u32,
    /// The bytes that were sent, those that a reader has taken, and those of both that were copied.
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) copied: u64,
}

impl<E: Endpoint> State<E> {
    /// Creates the state of a connection that is not set up.
    pub(super) fn new() -> Self {
        Self {
            set_up: None,
            step_result: None,
            in_background: false,
            link: None,
            sizes: None,
            protocol: None,
            ending: false,
            ended: false,
            reading: false,
            iwarp: false,
            error: None,
            local: None,
            peer: None,
            device: [0; 64],
            idle_sends: KVec::new(),
            idle_receives: KVec::new(),
            messages: KVec::new(),
            filling: 0,
            heard: Instant::now(),
            set_up_ms: 0,
            sent: 0,
            received: 0,
            copied: 0,
        }
    }

    /// Returns the error of a call that sends, if the connection cannot send any more.
    pub(crate) fn send_error(&self) -> Option<Error> {
        let fin = self.protocol.as_ref().is_some_and(Protocol::fin_wanted);
        if self.ending {
            Some(self.error.unwrap_or(EPIPE))
        } else if fin {
            Some(EPIPE)
        } else {
            None
        }
    }

    /// Returns whether a message with data can be sent now.
    pub(crate) fn can_send(&self) -> bool {
        !self.ending
            && self.link.is_some()
            && self.idle_sends.len() > CONTROL_SENDS
            && self
                .protocol
                .as_ref()
                .is_some_and(|protocol| protocol.has_credit(self.filling + 1))
    }

    /// Returns whether a call that receives returns without a wait: there is data, or there will be
    /// none.
    pub(crate) fn can_receive(&self) -> bool {
        !self.reading && (!self.messages.is_empty() || self.end_of_data().is_some())
    }

    /// Takes the next buffer of received data, whose page is of `pool`, out of the first message.
    /// `None` if there is none.
    /// The caller gives the rest of it back by [`Self::put_rest`].
    pub(super) fn next_buffer(&mut self, pool: &Pool) -> Option<PipeBuffer> {
        if self.reading {
            return None;
        }
        let message = self.messages.first_mut()?;
        if let Some(part) = message.part.take() {
            return Some(part);
        }
        let page = message.request.memory_mut().remove(0).ok()?;
        pool.lost();
        let len = message.left.min(PAGE_SIZE);
        // CAST: At most PAGE_SIZE.
        // This fails only if the module is being unloaded, which cannot be while its file is open.
        let buf = ReceivePage::into_buffer(page, 0, len as u32).ok()?;
        message.left -= len;
        Some(buf)
    }

    /// Gives the rest of a buffer back, or notes that there is none.
    pub(super) fn put_rest(&mut self, rest: Option<PipeBuffer>) {
        let Some(message) = self.messages.first_mut() else {
            return;
        };
        message.part = rest;
        if message.part.is_none() && message.left == 0 {
            if let Ok(message) = self.messages.remove(0) {
                self.put_receive(message.request, true);
            }
        }
    }

    /// Returns the result of a call that receives if there is no data and there will be none: 0
    /// bytes, or the error. A connection that is ending can still have data.
    pub(crate) fn end_of_data(&self) -> Option<Result> {
        if !self.messages.is_empty() {
            return None;
        }
        if self.protocol.as_ref().is_some_and(Protocol::fin_received) {
            Some(Ok(()))
        } else if self.ended {
            Some(self.error.map_or(Ok(()), Err))
        } else {
            None
        }
    }

    /// Returns whether the connection is set up.
    pub(super) fn is_started(&self) -> bool {
        self.protocol.as_ref().is_some_and(Protocol::is_started)
    }

    /// Returns whether no send is posted or being filled.
    pub(super) fn is_quiet(&self) -> bool {
        let sends = self.sizes.map_or(0, |sizes| sizes.queues.sends);
        self.filling == 0 && (self.ending || self.idle_sends.len() == sends)
    }

    /// Gives a send back that was not posted, or that is complete.
    pub(super) fn put_send(&mut self, request: Send) {
        // This cannot fail as long as the connection exists: the vector has room for all sends.
        let _ = self.idle_sends.push_within_capacity(request);
    }

    pub(super) fn put_receive(&mut self, request: Receive, taken: bool) {
        // This cannot fail as long as the connection exists: the vector has room for all receives.
        let _ = self
            .idle_receives
            .push_within_capacity(Idle { request, taken });
    }
}
