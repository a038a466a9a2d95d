// SPDX-License-Identifier: GPL-2.0

//! The part that runs in the guest: does what the host says.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Error, Result};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::sendfile;
use rustix::io::{ioctl_fionread, retry_on_intr};
use splice_memory::PAGE;

use crate::display::{refused, Display, Imported};
use crate::exporter::{pipe, write_new, Device, Input, MODULE};
use crate::ffi::{cached_pages, Exported};
use crate::frame::Frame;
use crate::picture::{frame_of_run, SQUARE};
use crate::talk::{Answer, Command, Counts, Held, Source};

/// The counters of the driver.
const COUNTERS: &str = "/sys/kernel/debug/splice/dma_buf/counters";

/// The port of the virtio console that leads to the host.
pub struct Port {
    file: File,
    buffer: Vec<u8>,
}

impl Port {
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Ok(Self {
            file: file.with_context(|| path.display().to_string())?,
            buffer: Vec::new(),
        })
    }

    /// Reads a line. Fails if there is no host for a minute.
    fn read_line(&mut self) -> Result<String> {
        let mut alone = Instant::now();
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(String::from_utf8(line)?.trim_end().to_owned());
            }
            let mut bytes = [0; 512];
            let n = self.file.read(&mut bytes).context("the port to the host")?;
            if n > 0 {
                self.buffer.extend(&bytes[..n]);
                alone = Instant::now();
                continue;
            }
            // Nobody is at the other end of the port.
            ensure!(
                alone.elapsed() < Duration::from_secs(60),
                "the host has left the port"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn answer(&mut self, answer: &Answer) -> Result<()> {
        self.file
            .write_all(format!("{answer}\n").as_bytes())
            .context("the port to the host")
    }
}

/// A picture that is shown: the driver of the display, the frame buffer, the dma-buf, and
/// where its bytes come from.
struct Shown {
    driver: String,
    imported: Imported,
    _exported: Exported,
    input: Option<Input>,
}

/// Pictures that go through one pipe.
struct Run {
    driver: String,
    pipe: OwnedFd,
    writer: JoinHandle<Result<()>>,
    path: PathBuf,
    len: usize,
}

struct Guest {
    picture: Frame,
    dir: PathBuf,
    device: Device,
    displays: BTreeMap<String, Display>,
    shown: Option<Shown>,
    run: Option<Run>,
}

/// Does what the host says, until it says that it is all. `dir` is a folder on ext4.
pub fn serve(mut port: Port, picture: Frame, dir: PathBuf) -> Result<()> {
    let mut guest = Guest {
        picture,
        dir,
        device: Device::open()?,
        displays: BTreeMap::new(),
        shown: None,
        run: None,
    };
    port.answer(&Answer::Ready)?;
    loop {
        let command: Command = port.read_line()?.parse()?;
        if command == Command::Quit {
            return port.answer(&Answer::Done);
        }
        let answer = guest.handle(command).unwrap_or_else(|error| failed(&error));
        port.answer(&answer)?;
    }
}

/// The answer if a command has failed.
fn failed(error: &Error) -> Answer {
    match refused(error) {
        Some((call, errno)) => Answer::Refused {
            call: call.into(),
            errno,
        },
        None => Answer::Failed(format!("{error:#}")),
    }
}

impl Guest {
    fn handle(&mut self, command: Command) -> Result<Answer> {
        match command {
            Command::Show {
                driver,
                source,
                file,
            } => self.show(driver, source, &file),
            Command::Square => self.square(),
            Command::Hide => {
                self.hide()?;
                Ok(Answer::Done)
            }
            Command::Begin { driver, frames } => self.begin(driver, frames),
            Command::Next => self.next(),
            Command::End => self.end(),
            Command::Quit => Ok(Answer::Done),
        }
    }

    fn show(&mut self, driver: String, source: Source, file: &Path) -> Result<Answer> {
        let picture = self.picture.turned(source.turns());
        let input = Input::new(source, picture, &self.dir)?;
        let exported = self.device.export(&input)?;
        self.display(driver, exported, Some(input), file)
    }

    /// Shows a dma-buf, and releases the picture that was shown before.
    fn display(
        &mut self,
        driver: String,
        exported: Exported,
        input: Option<Input>,
        file: &Path,
    ) -> Result<Answer> {
        if !self.displays.contains_key(&driver) {
            let size = (self.picture.width(), self.picture.height());
            let display = Display::open(&driver, size)?;
            self.displays.insert(driver.clone(), display);
        }
        let display = &self.displays[&driver];
        let counts = Counts {
            bytes: exported.bytes,
            copied: exported.copied,
            writable: exported.writable,
        };
        let imported = display.import(&exported.fd, &self.picture)?;
        match display.show(&imported) {
            Ok(Some(frame)) => frame.write_png(file)?,
            Ok(None) => {}
            Err(error) => {
                display.release(imported)?;
                return Err(error);
            }
        }
        let before = self.shown.replace(Shown {
            driver,
            imported,
            _exported: exported,
            input,
        });
        self.release(before)?;
        Ok(Answer::Shown(counts))
    }

    fn release(&self, shown: Option<Shown>) -> Result<()> {
        match shown {
            Some(shown) => self.displays[&shown.driver].release(shown.imported),
            None => Ok(()),
        }
    }

    fn hide(&mut self) -> Result<()> {
        let shown = self.shown.take();
        self.release(shown)
    }

    /// Writes the square to the file by write(2). Calls nothing of DRM.
    fn square(&mut self) -> Result<Answer> {
        let input = self
            .shown
            .as_ref()
            .and_then(|shown| shown.input.as_ref())
            .context("no picture of a file is shown")?;
        let file = input.open_for_writing()?;
        for (at, bytes) in input.frame().clone().invert(SQUARE) {
            file.write_all_at(&bytes, at)?;
        }
        Ok(Answer::Done)
    }

    fn begin(&mut self, driver: String, frames: u32) -> Result<Answer> {
        self.hide()?;
        let path = self.dir.join("frames");
        let len = self.picture.bytes().len();
        write_new(
            &path,
            (0..frames).map(|number| frame_of_run(&self.picture, number)),
        )?;
        let (read, write) = pipe()?;
        let file = File::open(&path)?;
        let all = frames as usize * len;
        let writer = thread::spawn(move || -> Result<()> {
            let mut at = 0;
            while at < all as u64 {
                let left = all - at as usize;
                let moved = retry_on_intr(|| sendfile(&write, &file, Some(&mut at), left))
                    .context("sendfile to the pipe")?;
                ensure!(moved > 0, "the file has ended");
            }
            Ok(())
        });
        self.run = Some(Run {
            driver,
            pipe: read,
            writer,
            path,
            len,
        });
        Ok(Answer::Done)
    }

    fn next(&mut self) -> Result<Answer> {
        let run = self.run.as_ref().context("no pictures to show")?;
        let (driver, mut left) = (run.driver.clone(), run.len);
        while left > 0 {
            wait_for_data(&run.pipe)?;
            let there = ioctl_fionread(&run.pipe).context("FIONREAD")? as usize;
            let part = left.min(there);
            self.device.take(&run.pipe, part)?;
            left -= part;
        }
        let exported = self.device.finish(run.len)?;
        self.display(driver, exported, None, Path::new("/dev/null"))
    }

    fn end(&mut self) -> Result<Answer> {
        self.hide()?;
        let run = self.run.take().context("no pictures were shown")?;
        let joined = run.writer.join();
        joined.map_err(|_| Error::msg("the writer has panicked"))??;
        drop(run.pipe);
        Ok(Answer::Released(held(&run.path)?))
    }
}

/// Waits until a pipe has data, or its end.
fn wait_for_data(pipe: impl AsFd) -> Result<()> {
    let limit = Timespec::try_from(Duration::from_secs(60))?;
    let mut fds = [PollFd::new(&pipe, PollFlags::IN)];
    let ready = retry_on_intr(|| poll(&mut fds, Some(&limit))).context("poll")?;
    ensure!(
        ready == 1 && fds[0].revents().contains(PollFlags::IN),
        "no data in the pipe after 60 s: {:?}",
        fds[0].revents()
    );
    Ok(())
}

/// What exists now, after the kernel has dropped what it does not need.
fn held(path: &Path) -> Result<Held> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
    let file = File::open(path)?;
    // The last references go away a little later: of files by delayed work, of memory after a
    // grace period of RCU, and of buffers when the device has answered.
    thread::sleep(Duration::from_secs(1));
    let name = "/proc/sys/vm/drop_caches";
    fs::write(name, "3").context(name)?;
    let cached = cached_pages(&file, file.metadata()?.len() as usize)?;
    let number = |text: &str, before: &str, place: &str| -> Result<u64> {
        text.rsplit_once(before)
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("{place} has no number after {before}"))
    };
    Ok(Held {
        free_kib: number(&read("/proc/meminfo")?, "MemFree:", "/proc/meminfo")?
            + kept_pages(&read("/proc/zoneinfo")?) * (PAGE as u64 / 1024),
        buffers: number(
            &read("/sys/kernel/debug/dma_buf/bufinfo")?,
            "\nTotal ",
            "bufinfo",
        )?,
        bytes: number(&read(COUNTERS)?, "bytes.held", COUNTERS)?,
        module: read(&format!("/sys/module/{MODULE}/refcnt"))?
            .trim()
            .parse()?,
        cached,
    })
}

/// The free pages that the processors keep for themselves, which are not in `MemFree`.
fn kept_pages(zoneinfo: &str) -> u64 {
    zoneinfo
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("count:")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_all_processors_are_counted() {
        let zoneinfo = "Node 0, zone    DMA32\n  pages free     3840\n  pagesets\n    cpu: 0\n\
                        \x20             count:    34\n              high:     62\n    cpu: 1\n\
                        \x20             count:    8\n";
        assert_eq!(kept_pages(zoneinfo), 42);
    }

    #[test]
    fn a_refusal_of_drm_is_not_another_failure() {
        let error = Error::msg("no file").context("show");
        assert_eq!(failed(&error), Answer::Failed("show: no file".into()));
        let error = Error::from(crate::display::Refused {
            call: "drmPrimeFDToHandle",
            error: std::io::Error::from_raw_os_error(13),
        });
        let call = "drmPrimeFDToHandle".into();
        assert_eq!(failed(&error), Answer::Refused { call, errno: 13 });
    }
}
