// SPDX-License-Identifier: GPL-2.0

//! The part that runs on the host: tells the guest what to show, and compares what QEMU shows
//! with the picture.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use splice_rdma::size::thousands;

use crate::frame::{Difference, Frame};
use crate::lines::{after, Lines};
use crate::picture::{frame_of_run, SQUARE};
use crate::qmp::Monitor;
use crate::table::{Row, Screen};
use crate::talk::{Answer, Command, Counts, Held, Source};

/// `EACCES`.
const EACCES: i32 = 13;

/// The time for the guest to boot, and for a command, in seconds.
const BOOT: u64 = 600;
const COMMAND: u64 = 180;

/// A guest, by the device that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// virtio-gpu with blob resources behind an IOMMU.
    VirtioIommu,
    /// The same without an IOMMU.
    Virtio,
    /// bochs-display; and vkms, which needs no device.
    Bochs,
}

impl Setup {
    pub fn parse(name: &str) -> Result<Self, String> {
        Ok(match name {
            "virtio-iommu" => Self::VirtioIommu,
            "virtio" => Self::Virtio,
            "bochs" => Self::Bochs,
            _ => return Err("virtio-iommu, virtio or bochs".into()),
        })
    }

    /// The importers of the guest.
    fn importers(self) -> &'static [Importer] {
        match self {
            Self::VirtioIommu => &[VIRTIO_IOMMU],
            Self::Virtio => &[VIRTIO],
            Self::Bochs => &[BOCHS, VKMS],
        }
    }
}

/// A driver that imports dma-bufs, and what is expected of it.
struct Importer {
    /// The name for a person, and for files.
    title: &'static str,
    name: &'static str,
    /// The name in `struct drm_driver`.
    driver: &'static str,
    /// Whether the guest writes what is shown to the file; else QEMU does.
    writeback: bool,
    /// Whether dma-bufs that must not be written are refused.
    refuses_read_only: bool,
    /// Whether the device reads the pages of the dma-buf whenever it shows them.
    live: bool,
}

const VIRTIO_IOMMU: Importer = Importer {
    title: "virtio-gpu, IOMMU",
    name: "virtio-iommu",
    driver: "virtio_gpu",
    writeback: false,
    refuses_read_only: false,
    live: true,
};

const VIRTIO: Importer = Importer {
    title: "virtio-gpu, no IOMMU",
    name: "virtio",
    refuses_read_only: true,
    ..VIRTIO_IOMMU
};

const BOCHS: Importer = Importer {
    title: "bochs-display",
    name: "bochs",
    driver: "bochs-drm",
    writeback: false,
    refuses_read_only: false,
    live: false,
};

const VKMS: Importer = Importer {
    title: "vkms, writeback",
    name: "vkms",
    driver: "vkms",
    writeback: true,
    ..BOCHS
};

/// A run of pictures through one pipe.
struct Run {
    /// The bytes that the CPU copied, and the pixels that differ, in all pictures.
    copied: u64,
    difference: Difference,
    /// What exists after it.
    held: Held,
}

/// A guest with its QEMU.
pub struct Host {
    guest: Lines,
    monitor: Monitor,
    picture: Frame,
    /// The folder for what was shown.
    dir: PathBuf,
}

impl Host {
    /// Connects to the sockets of a guest that scripts/guest has started.
    pub fn connect(sockets: &Path, picture: Frame, dir: PathBuf) -> Result<Self> {
        let mut host = Self {
            guest: Lines::connect(&sockets.join("port"), "the guest")?,
            monitor: Monitor::connect(&sockets.join("qmp"))?,
            picture,
            dir,
        };
        let ready = host.answer(BOOT)?;
        ensure!(ready == Answer::Ready, "the guest says {ready}");
        Ok(host)
    }

    /// Goes through all sources for all importers of the guest, and hands each row to `row`.
    pub fn run(&mut self, setup: Setup, frames: u32, row: &mut dyn FnMut(Row)) -> Result<()> {
        for importer in setup.importers() {
            for source in Source::ALL {
                self.source(importer, source, row)?;
            }
            if importer.live && !importer.refuses_read_only && frames > 0 {
                self.frames(importer, frames, row)?;
            }
        }
        self.tell(&Command::Quit, &Answer::Done)
    }

    fn source(
        &mut self,
        importer: &Importer,
        source: Source,
        row: &mut dyn FnMut(Row),
    ) -> Result<()> {
        let picture = self.picture.turned(source.turns());
        let file = self.file(importer, source.name());
        let answer = self.ask(&Command::Show {
            driver: importer.driver.into(),
            source,
            file: file.clone(),
        })?;
        let new = |result: String| Row::new(importer.title, source.title(), result);
        let read_only = source != Source::Direct;
        let refusal = importer.refuses_read_only && read_only;
        match answer {
            Answer::Shown(counts) => {
                let screen = self.screen(importer, &file, &picture)?;
                let rights = if counts.writable {
                    "writable"
                } else {
                    "read-only"
                };
                row(new(format!("shown, {rights}"))
                    .screen(screen)
                    .copied(counts.copied)
                    .expect(!refusal && screen.is_equal())
                    .expect(counts.writable != read_only)
                    .expect(self.is_whole(counts)));
                if importer.live && source != Source::Memory {
                    self.square(importer, source, &picture, row)?;
                }
                self.tell(&Command::Hide, &Answer::Done)
            }
            Answer::Refused { call, errno } => {
                // The picture must not have reached the screen by another way.
                let screen = self.screen(importer, &file, &picture)?;
                let name = if errno == EACCES {
                    "EACCES".into()
                } else {
                    format!("error {errno}")
                };
                row(new(format!("{name} from {call}"))
                    .expect(refusal && errno == EACCES && call == "drmPrimeFDToHandle")
                    .expect(!screen.is_equal()));
                Ok(())
            }
            other => bail!("{}: {}: {other}", importer.title, source.title()),
        }
    }

    /// Whether nothing but whole pages was spliced, none of which was copied.
    fn is_whole(&self, counts: Counts) -> bool {
        counts.bytes == self.picture.bytes().len() as u64 && counts.copied == 0
    }

    /// Writes the square to the file. The picture changes there if its pages are those of the
    /// page cache, and nowhere if they are not.
    fn square(
        &mut self,
        importer: &Importer,
        source: Source,
        picture: &Frame,
        row: &mut dyn FnMut(Row),
    ) -> Result<()> {
        self.tell(&Command::Square, &Answer::Done)?;
        let mut expected = picture.clone();
        let mut wanted = 0;
        if source == Source::Ext4 {
            expected.invert(SQUARE);
            wanted = SQUARE.pixels();
        }
        let file = self.file(importer, &format!("{}-square", source.name()));
        let screen = self.screen(importer, &file, &expected)?;
        let pixels = self.shown(&file)?.compare(picture)?.pixels;
        let changed = format!("{} pixels change", thousands(pixels));
        row(Row::new(importer.title, "  square in the file", changed)
            .screen(screen)
            .expect(screen.is_equal() && pixels == wanted));
        Ok(())
    }

    /// Sends pictures through one pipe. Then memory and references are as before.
    fn frames(&mut self, importer: &Importer, frames: u32, row: &mut dyn FnMut(Row)) -> Result<()> {
        // The first run allocates memory that stays allocated.
        let before = self.pictures(importer, frames)?.held;
        let run = self.pictures(importer, frames)?;
        let (after, screen, copied) = (run.held, Screen::Compared(run.difference), run.copied);
        row(Row::new(
            importer.title,
            format!("{frames} frames, one pipe"),
            "shown, read-only",
        )
        .screen(screen)
        .copied(copied)
        .expect(screen.is_equal() && copied == 0));

        let frame_kib = self.picture.bytes().len() as u64 / 1024;
        let lost = before
            .free_kib
            .checked_signed_diff(after.free_kib)
            .context("KiB")?;
        let new = |name: &str, result| Row::new(importer.title, name, result);
        row(new("  memory in use after them", format!("{lost:+} KiB"))
            // Other parts of the system allocate memory, too, but less than one picture.
            .expect(lost < frame_kib as i64));
        row(new(
            "  dma-bufs after them",
            format!("{} before, {} now", before.buffers, after.buffers),
        )
        .expect(before.buffers == after.buffers));
        row(new(
            "  bytes of their pages",
            format!("{} before, {} now", before.bytes, after.bytes),
        )
        .expect(before.bytes == after.bytes));
        row(new(
            "  references of the module",
            format!("{} before, {} now", before.module, after.module),
        )
        .expect(before.module == after.module));
        row(new(
            "  pages that cannot be dropped",
            format!("{} before, {} now", before.cached, after.cached),
        )
        .expect((before.cached, after.cached) == (0, 0)));
        Ok(())
    }

    /// Sends pictures through one pipe, and compares each.
    fn pictures(&mut self, importer: &Importer, frames: u32) -> Result<Run> {
        let begin = Command::Begin {
            driver: importer.driver.into(),
            frames,
        };
        self.tell(&begin, &Answer::Done)?;
        let mut copied = 0;
        let mut difference = Difference {
            pixels: 0,
            first: None,
        };
        for number in 0..frames {
            let Answer::Shown(counts) = self.ask(&Command::Next)? else {
                bail!("picture {number} is not shown");
            };
            copied += counts.copied;
            let file = self.file(importer, &format!("frame-{number:02}"));
            let picture = frame_of_run(&self.picture, number);
            match self.screen(importer, &file, &picture)? {
                Screen::Compared(one) => {
                    difference.pixels += one.pixels;
                    difference.first = difference.first.or(one.first);
                }
                Screen::OtherSize => bail!("picture {number}: the screen has another size"),
            }
        }
        Ok(Run {
            copied,
            difference,
            held: self.held(&Command::End)?,
        })
    }

    fn held(&mut self, command: &Command) -> Result<Held> {
        match self.ask(command)? {
            Answer::Released(held) => Ok(held),
            other => bail!("{command}: {other}"),
        }
    }

    /// Takes the screen to `file`, if there is one, and compares it with a picture.
    fn screen(&mut self, importer: &Importer, file: &Path, picture: &Frame) -> Result<Screen> {
        if !importer.writeback {
            self.monitor.screendump(file)?;
        }
        let shown = self.shown(file)?;
        Ok(match picture.compare(&shown) {
            Ok(difference) => Screen::Compared(difference),
            Err(_) => Screen::OtherSize,
        })
    }

    fn shown(&self, file: &Path) -> Result<Frame> {
        Frame::read_png(file)
    }

    fn file(&self, importer: &Importer, name: &str) -> PathBuf {
        self.dir.join(format!("{}-{name}.png", importer.name))
    }

    fn tell(&mut self, command: &Command, wanted: &Answer) -> Result<()> {
        let answer = self.ask(command)?;
        ensure!(answer == *wanted, "{command}: {answer}");
        Ok(())
    }

    fn ask(&mut self, command: &Command) -> Result<Answer> {
        self.guest.write(&command.to_string())?;
        self.answer(COMMAND).with_context(|| command.to_string())
    }

    fn answer(&mut self, seconds: u64) -> Result<Answer> {
        self.guest.read(after(seconds))?.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use serde_json::{json, Value};

    use crate::lines::pair;

    /// A small picture in which the square has room.
    fn picture() -> Frame {
        Frame::new(200, 150, |x, y| [x as u8, y as u8, 0])
    }

    /// Answers each line that comes.
    fn answering(peer: UnixStream, mut answer: impl FnMut(String) -> String + Send + 'static) {
        thread::spawn(move || {
            let mut writer = peer.try_clone().unwrap();
            for line in BufReader::new(peer).lines().map_while(Result::ok) {
                if writeln!(writer, "{}", answer(line)).is_err() {
                    break;
                }
            }
        });
    }

    /// Runs `test` with a guest that gives these answers, and a QEMU that shows these screens.
    /// Returns whether each row is good.
    fn with<const A: usize, const S: usize>(
        answers: [Answer; A],
        screens: [Frame; S],
        test: impl FnOnce(&mut Host, &mut dyn FnMut(Row)) -> Result<()>,
    ) -> Vec<bool> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "splice-drm-host-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();

        let (guest, peer) = pair();
        let mut answers = answers.into_iter();
        answering(peer, move |_| answers.next().unwrap().to_string());
        let (qemu, mut peer) = pair();
        peer.write_all(b"{\"QMP\": {}}\n").unwrap();
        let mut screens = screens.into_iter();
        answering(peer, move |line| {
            let command: Value = serde_json::from_str(&line).unwrap();
            if command["execute"] == "screendump" {
                let file = command["arguments"]["filename"].as_str().unwrap();
                screens.next().unwrap().write_png(Path::new(file)).unwrap();
            }
            json!({ "return": {} }).to_string()
        });
        let mut host = Host {
            guest,
            monitor: Monitor::greet(qemu).unwrap(),
            picture: picture(),
            dir: dir.clone(),
        };
        let mut rows = Vec::new();
        test(&mut host, &mut |row| rows.push(row.is_good())).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        rows
    }

    fn shown(copied: u64, writable: bool) -> Answer {
        Answer::Shown(Counts {
            bytes: picture().bytes().len() as u64,
            copied,
            writable,
        })
    }

    fn refused(call: &str, errno: i32) -> Answer {
        let call = call.into();
        Answer::Refused { call, errno }
    }

    /// The picture with a square.
    fn squared(side: u32) -> Frame {
        let mut frame = picture();
        frame.invert(crate::frame::Square { side, ..SQUARE });
        frame
    }

    #[test]
    fn one_pixel_that_differs_fails_a_row() {
        for (screen, good) in [(picture(), true), (squared(1), false)] {
            let rows = with([shown(0, false), Answer::Done], [screen], |host, row| {
                host.source(&BOCHS, Source::Ext4, row)
            });
            assert_eq!(rows, [good]);
        }
    }

    #[test]
    fn the_picture_of_another_source_fails_a_row() {
        let rows = with([shown(0, false), Answer::Done], [picture()], |host, row| {
            host.source(&BOCHS, Source::Memory, row)
        });
        assert_eq!(rows, [false]);
    }

    #[test]
    fn copied_bytes_and_wrong_rights_fail_a_row() {
        for (answer, good) in [
            (shown(0, true), true),
            (shown(1, true), false),
            (shown(0, false), false),
        ] {
            let screen = picture().turned(Source::Direct.turns());
            let rows = with([answer, Answer::Done], [screen], |host, row| {
                host.source(&BOCHS, Source::Direct, row)
            });
            assert_eq!(rows, [good]);
        }
    }

    #[test]
    fn only_the_right_refusal_is_good() {
        let import = "drmPrimeFDToHandle";
        for (answer, screen, good) in [
            (refused(import, EACCES), squared(1), true),
            (refused(import, EACCES), picture(), false),
            (refused(import, 22), squared(1), false),
            (refused("drmModeSetCrtc", EACCES), squared(1), false),
        ] {
            let rows = with([answer], [screen], |host, row| {
                host.source(&VIRTIO, Source::Ext4, row)
            });
            assert_eq!(rows, [good]);
        }
        let rows = with([refused(import, EACCES)], [squared(1)], |host, row| {
            host.source(&BOCHS, Source::Ext4, row)
        });
        assert_eq!(rows, [false]);
    }

    #[test]
    fn read_only_pictures_must_be_refused_without_an_iommu() {
        let rows = with(
            [shown(0, false), Answer::Done, Answer::Done],
            [picture(), squared(SQUARE.side)],
            |host, row| host.source(&VIRTIO, Source::Ext4, row),
        );
        assert_eq!(rows, [false, true]);
    }

    #[test]
    fn the_square_changes_its_pixels_and_no_others() {
        for (side, good) in [(SQUARE.side, true), (SQUARE.side + 1, false), (0, false)] {
            let rows = with(
                [shown(0, false), Answer::Done, Answer::Done],
                [picture(), squared(side)],
                |host, row| host.source(&VIRTIO_IOMMU, Source::Ext4, row),
            );
            assert_eq!(rows, [true, good]);
        }
    }

    #[test]
    fn what_is_left_after_the_frames_is_counted() {
        let clean = Held {
            free_kib: 10_000,
            buffers: 1,
            bytes: 4096,
            module: 1,
            cached: 0,
        };
        for (after, good) in [
            (clean, [true; 6]),
            (
                Held {
                    free_kib: 10_000 - 1200,
                    ..clean
                },
                [true, false, true, true, true, true],
            ),
            (
                Held {
                    buffers: 2,
                    ..clean
                },
                [true, true, false, true, true, true],
            ),
            (
                Held {
                    bytes: 8192,
                    ..clean
                },
                [true, true, true, false, true, true],
            ),
            (
                Held { module: 2, ..clean },
                [true, true, true, true, false, true],
            ),
            (
                Held { cached: 1, ..clean },
                [true, true, true, true, true, false],
            ),
        ] {
            let run = |after| [Answer::Done, shown(0, false), Answer::Released(after)];
            let [a, b, c] = run(clean);
            let [d, e, f] = run(after);
            let rows = with([a, b, c, d, e, f], [picture(), picture()], |host, row| {
                host.frames(&VIRTIO_IOMMU, 1, row)
            });
            assert_eq!(rows, good);
        }
    }
}
