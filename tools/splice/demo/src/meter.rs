// SPDX-License-Identifier: GPL-2.0

//! Counts the bytes that each step of a path moved, by the results of its calls and by the kernel's
//! counters.

use std::io::{Error, ErrorKind};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::{retry_on_intr, Errno};

use crate::counters::{Counters, Sample};

/// The bytes that one step moved.
#[derive(Debug)]
pub struct Step {
    /// The step's name.
    pub name: &'static str,
    /// The number of bytes, as returned by the calls.
    pub bytes: u64,
    /// The mover of the bytes.
    pub by: By,
}

/// The mover of the bytes of a step.
#[derive(Debug)]
pub enum By {
    /// The kernel, with the growth of its counters if it has them.
    Splice(Option<Sample>),
    /// This program, with `read` and `write`.
    Program,
    /// A device. The CPU copied `copied` bytes of the data for it.
    Device { copied: u64 },
}

/// Measures the steps of one path, which may run in several threads.
///
/// Only one call runs at a time: otherwise the growth of the counters could not be attributed to a
/// call. A call must therefore not wait for the peer of a socket: see [`Meter::socket_call`].
pub struct Meter<'a> {
    counters: Option<&'a Counters>,
    state: Mutex<State>,
}

struct State {
    last: Option<Sample>,
    steps: Vec<Step>,
}

impl<'a> Meter<'a> {
    /// A meter that starts at the current values of the counters.
    pub fn new(counters: Option<&'a Counters>) -> Result<Self> {
        let last = counters.map(Counters::sample).transpose()?;
        Ok(Self {
            counters,
            state: Mutex::new(State {
                last,
                steps: Vec::new(),
            }),
        })
    }

    /// The steps so far, in the order in which they first ran.
    pub fn into_steps(self) -> Vec<Step> {
        self.state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .steps
    }

    /// Makes `call` and adds the bytes that it returns to `step`.
    pub fn call(
        &self,
        step: &'static str,
        call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Result<usize> {
        self.measure(step, call)?.with_context(|| step.to_owned())
    }

    /// Makes `call` when `socket`, which is in non-blocking mode, is ready for `ready`. Repeats it
    /// until it moves data or fails.
    pub fn socket_call(
        &self,
        step: &'static str,
        socket: impl AsFd,
        ready: PollFlags,
        mut call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Result<usize> {
        loop {
            retry_on_intr(|| poll(&mut [PollFd::new(&socket, ready)], None))
                .with_context(|| format!("{step}: poll"))?;
            match self.measure(step, &mut call)? {
                Err(Errno::AGAIN) => {}
                result => return result.with_context(|| step.to_owned()),
            }
        }
    }

    /// Adds bytes that this program moved itself to `step`.
    pub fn moved_by_program(&self, step: &'static str, bytes: u64) {
        self.lock().step(step, || By::Program).bytes += bytes;
    }

    /// Adds the bytes that a device moved, by its own counters, as `step`.
    pub fn moved_by_device(&self, step: &'static str, bytes: u64, copied: u64) {
        self.lock().step(step, || By::Device { copied }).bytes += bytes;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(
        &self,
        step: &'static str,
        call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Result<rustix::io::Result<usize>> {
        let mut state = self.lock();
        let result = retry_on_intr(call);
        let now = self.counters.map(Counters::sample).transpose()?;
        let grown = match (&now, &state.last) {
            (Some(now), Some(last)) => Some(now.since(last)?),
            _ => None,
        };
        state.last = now;

        let step = state.step(step, || By::Splice(None));
        step.bytes += result.unwrap_or(0) as u64;
        if let (By::Splice(sum), Some(grown)) = (&mut step.by, grown) {
            sum.get_or_insert_default().add(&grown);
        }
        Ok(result)
    }
}

impl State {
    fn step(&mut self, name: &'static str, by: impl FnOnce() -> By) -> &mut Step {
        let at = self.steps.iter().position(|step| step.name == name);
        let at = at.unwrap_or_else(|| {
            self.steps.push(Step {
                name,
                bytes: 0,
                by: by(),
            });
            self.steps.len() - 1
        });
        &mut self.steps[at]
    }
}

/// Returns the error of a call that moved nothing before the end of the data.
pub fn ended(step: &str, moved: u64, total: u64) -> anyhow::Error {
    Error::new(
        ErrorKind::UnexpectedEof,
        format!("{step}: ended after {moved} of {total} bytes"),
    )
    .into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    use super::*;
    use crate::counters::Implementation;

    /// Creates a counters file, which the calls change as the kernel would.
    fn counters(test: &str) -> (PathBuf, Implementation) {
        let path = std::env::temp_dir().join(format!("{test}-{}", std::process::id()));
        fs::write(&path, "bytes.tee.referenced 100\n").unwrap();
        let found = Implementation::detect(&path).unwrap();
        (path, found)
    }

    #[test]
    fn each_step_gets_what_its_own_calls_changed() {
        let (path, splice) = counters("each-step");
        let meter = Meter::new(splice.counters()).unwrap();
        let call = |step, total: u64, bytes: usize| {
            meter.call(step, || {
                fs::write(&path, format!("bytes.tee.referenced {total}\n")).unwrap();
                Ok(bytes)
            })
        };
        assert_eq!(call("a", 110, 11).unwrap(), 11);
        assert_eq!(call("b", 150, 40).unwrap(), 40);
        assert_eq!(call("a", 155, 5).unwrap(), 5);
        let error = call("b", 154, 1).unwrap_err();
        assert!(error.to_string().contains("fell from 155 to 154"));
        meter.moved_by_program("c", 9);
        meter.moved_by_device("d", 20, 1);
        fs::remove_file(&path).unwrap();

        let seen: Vec<_> = meter
            .into_steps()
            .into_iter()
            .map(|step| match step.by {
                By::Splice(sum) => (step.name, step.bytes, sum.unwrap().kinds()[0].referenced),
                By::Program => (step.name, step.bytes, 0),
                By::Device { copied } => (step.name, step.bytes, step.bytes - copied),
            })
            .collect();
        assert_eq!(
            seen,
            [("a", 16, 15), ("b", 40, 40), ("c", 9, 0), ("d", 20, 19)]
        );
    }

    #[test]
    fn a_failed_call_moves_nothing_and_names_the_step() {
        let meter = Meter::new(None).unwrap();
        let error = meter.call("tee", || Err(Errno::INVAL)).unwrap_err();
        assert_eq!(format!("{error:#}"), "tee: Invalid argument (os error 22)");
        let steps = meter.into_steps();
        assert_eq!((steps[0].name, steps[0].bytes), ("tee", 0));
    }

    #[test]
    fn a_socket_that_is_not_ready_is_tried_again() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let meter = Meter::new(None).unwrap();
        let mut answers = [Err(Errno::INTR), Err(Errno::AGAIN), Ok(3)].into_iter();
        let call = || answers.next().unwrap();
        let n = meter.socket_call("send", &socket, PollFlags::OUT, call);
        assert_eq!(n.unwrap(), 3);
        assert_eq!(meter.into_steps()[0].bytes, 3);
    }
}
