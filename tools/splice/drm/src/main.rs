// SPDX-License-Identifier: GPL-2.0

//! Shows a picture on the display of a DRM driver, from a dma-buf that `/dev/dma_buf_splice`
//! has made of spliced pages, and compares what is shown with the picture. Part of it runs in
//! a guest, and part of it on the host. See scripts/run-drm, and
//! Documentation/filesystems/splice-dma-buf.rst.
//!
//! Exits with 0 if all is as expected, with 1 if a comparison has failed, and with 2 if it
//! could not be made.

mod display;
mod exporter;
mod ffi;
mod frame;
mod guest;
mod host;
mod lines;
mod picture;
mod qmp;
mod table;
mod talk;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use frame::Frame;
use guest::Port;
use host::{Host, Setup};
use picture::{picture, HEIGHT, WIDTH};

/// Shows a picture from a dma-buf of spliced pages, and compares it with the screen.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the test picture to a PNG file.
    Picture { png: PathBuf },
    /// Decodes a PNG file to a raw frame: XRGB8888, without gaps.
    Decode { png: PathBuf, raw: PathBuf },
    /// Prints the headings of the table.
    Head,
    /// In the guest: does what the host says over PORT, with the raw frame RAW, and files in
    /// the folder DIR.
    Guest {
        port: PathBuf,
        raw: PathBuf,
        dir: PathBuf,
    },
    /// On the host: compares all that a guest shows with PNG.
    Host {
        /// The device of the guest: virtio-iommu, virtio or bochs.
        #[arg(value_parser = Setup::parse)]
        setup: Setup,
        /// The folder with the sockets of the guest.
        sockets: PathBuf,
        png: PathBuf,
        /// The folder for what was shown.
        dir: PathBuf,
        /// The number of pictures to send through one pipe.
        #[arg(long, default_value_t = 30)]
        frames: u32,
    },
}

fn main() -> ExitCode {
    match run(Options::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether all comparisons are as expected.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Picture { png } => picture().write_png(&png)?,
        Command::Decode { png, raw } => {
            let frame = Frame::read_png(&png)?;
            fs::write(&raw, frame.bytes()).with_context(|| raw.display().to_string())?;
        }
        Command::Head => println!("{}", table::head()),
        Command::Guest { port, raw, dir } => {
            let bytes = fs::read(&raw).with_context(|| raw.display().to_string())?;
            let frame = Frame::from_bytes(WIDTH, HEIGHT, bytes)?;
            guest::serve(Port::open(&port)?, frame, dir)?;
        }
        Command::Host {
            setup,
            sockets,
            png,
            dir,
            frames,
        } => {
            let picture = Frame::read_png(&png)?;
            let mut good = true;
            Host::connect(&sockets, picture, dir)?.run(setup, frames, &mut |row| {
                println!("{}", row.text());
                good &= row.is_good();
            })?;
            return Ok(good);
        }
    }
    Ok(true)
}
