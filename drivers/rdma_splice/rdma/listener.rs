// SPDX-License-Identifier: GPL-2.0

//! Listeners: files on which peers wait to be accepted.

use super::{
    connection::{without_socket, Connection, Handle},
    protocol::Offer,
    state::Settings,
};
use kernel::{
    fs::File,
    new_mutex, new_poll_condvar,
    prelude::*,
    rdma::{Acceptor, Listener, Private, SocketAddr},
    sync::{
        poll::{PollCondVar, PollEvent, PollEvents, PollTable},
        Arc, ArcBorrow, Mutex,
    },
};

/// The part of a listener that is notified when a peer waits.
#[pin_data]
pub(crate) struct Waiting {
    /// The number of notifications. A task that waits compares it.
    #[pin]
    count: Mutex<u64>,
    #[pin]
    changed: PollCondVar,
}

impl Acceptor for Waiting {
    fn check(_this: ArcBorrow<'_, Self>, private: &[u8]) -> Result<(), Private> {
        match Offer::parse(private) {
            Some(_) => Ok(()),
            None => Err(Private::new(&Offer::default().to_bytes())),
        }
    }

    fn changed(this: ArcBorrow<'_, Self>) {
        *this.count.lock() += 1;
        this.changed.notify_all();
    }
}

/// A file that listens.
pub(crate) struct ListenerFile {
    listener: Listener<Waiting>,
    waiting: Arc<Waiting>,
    settings: Settings,
}

impl ListenerFile {
    /// Listens at `local`. The errors are those of [`Listener::new`].
    pub(crate) fn new(local: SocketAddr, backlog: usize, settings: Settings) -> Result<Self> {
        let waiting = Arc::pin_init(
            pin_init!(Waiting {
                count <- new_mutex!(0),
                changed <- new_poll_condvar!(),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self {
            listener: Listener::new(local, backlog, waiting.clone()).map_err(without_socket)?,
            waiting,
            settings,
        })
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.listener.local()
    }

    /// Accepts the oldest peer that waits. Waits for one if `wait` permits it.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: no peer waits.
    /// - [`ERESTARTSYS`]: a signal arrived first.
    /// - [`ENODEV`]: the device of the listener is gone.
    /// - Those of [`Connection::accept`].
    pub(crate) fn accept(&self, wait: bool) -> Result<Handle> {
        loop {
            let seen = *self.waiting.count.lock();
            if let Some(incoming) = self.listener.take() {
                match Connection::accept(self.settings, incoming) {
                    // The peer has given up: take the next one.
                    Err(ECONNABORTED) => continue,
                    result => return result,
                }
            }
            if self.listener.is_gone() {
                return Err(ENODEV);
            }
            if !wait {
                return Err(EAGAIN);
            }
            let mut count = self.waiting.count.lock();
            while *count == seen {
                if self.waiting.changed.wait_interruptible(&mut count) {
                    return Err(ERESTARTSYS);
                }
            }
        }
    }

    pub(crate) fn poll(&self, file: &File, table: PollTable<'_>) -> PollEvents {
        table.register_wait(file, &self.waiting.changed);
        let mut events = PollEvents::empty();
        if self.listener.has_incoming() {
            events |= PollEvent::In | PollEvent::InNormal;
        }
        if self.listener.is_gone() {
            events |= PollEvent::Error | PollEvent::HangUp;
        }
        events
    }
}
