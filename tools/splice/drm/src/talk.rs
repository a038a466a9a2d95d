// SPDX-License-Identifier: GPL-2.0

//! The lines that the host and the guest exchange, over a port of a virtio console. The host
//! sends a command, and the guest answers it by one line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{bail, Context, Error, Result};

/// Where the bytes of a picture come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file on ext4: pages of the page cache.
    Ext4,
    /// The same, opened with O_DIRECT: pages that belong to the pipe alone.
    Direct,
    /// Memory of the program, by vmsplice(2).
    Memory,
}

impl Source {
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Direct, Self::Memory];

    /// The name in commands and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Direct => "direct",
            Self::Memory => "vmsplice",
        }
    }

    /// The name for a person.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Direct => "O_DIRECT",
            Self::Memory => "vmsplice",
        }
    }

    /// How often the colours of the picture change places. A picture that an earlier source
    /// has left on the screen is not equal to that of this one.
    pub fn turns(self) -> u32 {
        match self {
            Self::Ext4 => 0,
            Self::Direct => 1,
            Self::Memory => 2,
        }
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|source| source.name() == name)
            .with_context(|| format!("unknown source: {name}"))
    }
}

/// A command of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Show the picture of a source on the display of a driver. A driver without a display
    /// writes what it would show to the file.
    Show {
        driver: String,
        source: Source,
        file: PathBuf,
    },
    /// Write the square to the file whose picture is shown.
    Square,
    /// Release the picture that is shown.
    Hide,
    /// Send so many pictures through one pipe to the display of a driver, from now on.
    Begin { driver: String, frames: u32 },
    /// Show the next of them.
    Next,
    /// Release all of them.
    End,
    /// Exit.
    Quit,
}

/// An answer of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The guest has started, and waits for the first command.
    Ready,
    /// The command is done.
    Done,
    /// The picture is shown.
    Shown(Counts),
    /// A call has failed.
    Refused { call: String, errno: i32 },
    /// All pictures are released.
    Released(Held),
    /// The command cannot be done.
    Failed(String),
}

/// What the exporter says about a dma-buf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The bytes of data.
    pub bytes: u64,
    /// The bytes that the CPU copied.
    pub copied: u64,
    /// Whether devices may write to it.
    pub writable: bool,
}

/// What exists in the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Free memory, in KiB.
    pub free_kib: u64,
    /// The number of dma-bufs.
    pub buffers: u64,
    /// The bytes of the pages that the driver's dma-bufs have.
    pub bytes: u64,
    /// The references of the driver's module.
    pub module: u64,
    /// The pages of the file in the page cache, after the kernel was asked to drop them. A
    /// page with a reference is not dropped.
    pub cached: u64,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Show {
                driver,
                source,
                file,
            } => write!(f, "show {driver} {} {}", source.name(), file.display()),
            Self::Square => f.write_str("square"),
            Self::Hide => f.write_str("hide"),
            Self::Begin { driver, frames } => write!(f, "begin {driver} {frames}"),
            Self::Next => f.write_str("next"),
            Self::End => f.write_str("end"),
            Self::Quit => f.write_str("quit"),
        }
    }
}

impl FromStr for Command {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        Ok(match words[..] {
            ["show", driver, source, file] => Self::Show {
                driver: driver.into(),
                source: source.parse()?,
                file: file.into(),
            },
            ["square"] => Self::Square,
            ["hide"] => Self::Hide,
            ["begin", driver, frames] => Self::Begin {
                driver: driver.into(),
                frames: frames.parse()?,
            },
            ["next"] => Self::Next,
            ["end"] => Self::End,
            ["quit"] => Self::Quit,
            _ => bail!("unknown command: {line}"),
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Done => f.write_str("done"),
            Self::Shown(counts) => write!(
                f,
                "shown {} {} {}",
                counts.bytes, counts.copied, counts.writable
            ),
            Self::Refused { call, errno } => write!(f, "refused {call} {errno}"),
            Self::Released(held) => write!(
                f,
                "released {} {} {} {} {}",
                held.free_kib, held.buffers, held.bytes, held.module, held.cached
            ),
            // An answer is one line.
            Self::Failed(why) => write!(f, "failed {}", why.replace('\n', "; ")),
        }
    }
}

impl FromStr for Answer {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        if let Some(why) = line.strip_prefix("failed ") {
            return Ok(Self::Failed(why.into()));
        }
        let words: Vec<&str> = line.split(' ').collect();
        Ok(match words[..] {
            ["ready"] => Self::Ready,
            ["done"] => Self::Done,
            ["shown", bytes, copied, writable] => Self::Shown(Counts {
                bytes: bytes.parse()?,
                copied: copied.parse()?,
                writable: writable.parse()?,
            }),
            ["refused", call, errno] => Self::Refused {
                call: call.into(),
                errno: errno.parse()?,
            },
            ["released", free, buffers, bytes, module, cached] => Self::Released(Held {
                free_kib: free.parse()?,
                buffers: buffers.parse()?,
                bytes: bytes.parse()?,
                module: module.parse()?,
                cached: cached.parse()?,
            }),
            _ => bail!("unknown answer: {line}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_they_were_written() {
        for command in [
            Command::Show {
                driver: "vkms".into(),
                source: Source::Direct,
                file: "/a folder/x.png".into(),
            },
            Command::Square,
            Command::Hide,
            Command::Begin {
                driver: "virtio_gpu".into(),
                frames: 30,
            },
            Command::Next,
            Command::End,
            Command::Quit,
        ] {
            assert_eq!(command.to_string().parse::<Command>().unwrap(), command);
        }
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        for answer in [
            Answer::Ready,
            Answer::Done,
            Answer::Shown(Counts {
                bytes: 1_228_800,
                copied: 96,
                writable: true,
            }),
            Answer::Refused {
                call: "SetCrtc".into(),
                errno: 13,
            },
            Answer::Released(Held {
                free_kib: 1,
                buffers: 2,
                bytes: 3,
                module: 4,
                cached: 5,
            }),
            Answer::Failed("the first cause".into()),
        ] {
            assert_eq!(answer.to_string().parse::<Answer>().unwrap(), answer);
        }
        let failed = Answer::Failed("one\ntwo".into());
        assert_eq!(failed.to_string(), "failed one; two");
    }

    #[test]
    fn other_lines_are_errors() {
        for line in ["", "show vkms", "show vkms nowhere /x", "begin vkms x"] {
            assert!(line.parse::<Command>().is_err());
        }
        for line in [
            "",
            "shown",
            "shown 1 2 maybe",
            "refused x",
            "released 1 2 3 4",
        ] {
            assert!(line.parse::<Answer>().is_err());
        }
    }
}
