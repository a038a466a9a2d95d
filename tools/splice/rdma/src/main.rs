// SPDX-License-Identifier: GPL-2.0

//! Sends a file to another machine over RDMA, and receives it there, by splice(2) to and
//! from `/dev/rdma_splice`. See Documentation/filesystems/splice-rdma.rst.
//!
//! Exits with 0 if all data arrived, with 1 if the transfer ended too early, and with 2 if
//! it could not start.

mod input;
mod output;
mod pipe;
mod progress;
mod sum;
mod talk;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail, Context, Result};
use clap::builder::RangedI64ValueParser;
use clap::{Args, Parser, Subcommand};
use rustix::io::Errno;

use splice_rdma::address::{self, Address};
use splice_rdma::connection::{listen, Connection};
use splice_rdma::explain::Settings;
use splice_rdma::size::{self, thousands};

use input::Input;
use output::Output;
use progress::Progress;
use talk::{greeting, parse_greeting, Lines, Receipt};

/// Sends a file to another machine over RDMA, and receives it there.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Connects to ADDR:PORT and sends FILE.
    Send(SendOptions),
    /// Listens at ADDR:PORT, accepts one connection, and writes its data to FILE.
    Recv(ReceiveOptions),
}

#[derive(Args)]
struct SendOptions {
    /// The address at which `splice-rdma recv` listens: 192.0.2.1:5000,
    /// [2001:db8::1]:5000, [fe80::1%eth0]:5000.
    #[arg(value_name = "ADDR:PORT", value_parser = address::with_port)]
    peer: Address,

    /// The file; standard input if it is - or missing.
    #[arg(default_value = "-")]
    file: PathBuf,

    /// Tries to connect for so many seconds if nobody answers.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u32,

    /// Gives up the set-up of the connection after so many seconds [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = seconds())]
    timeout: Option<u32>,

    /// The own address to connect from.
    #[arg(long, value_name = "ADDR", value_parser = address::without_port)]
    source: Option<Address>,

    #[command(flatten)]
    common: CommonOptions,
}

#[derive(Args)]
struct ReceiveOptions {
    /// The own address to listen at; 0.0.0.0:PORT and [::]:PORT stand for all.
    #[arg(value_name = "ADDR:PORT", value_parser = address::with_port)]
    local: Address,

    /// The file; standard output if it is - or missing.
    #[arg(default_value = "-")]
    file: PathBuf,

    /// Replaces a file that exists.
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    common: CommonOptions,
}

#[derive(Args)]
struct CommonOptions {
    /// Resumes a transfer: the first so many bytes are in the receiver's file. Both ends
    /// need the same number.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = size::parse)]
    offset: u64,

    /// Compares the SHA-256 of both files at the end; both ends need this option.
    #[arg(long)]
    checksum: bool,

    /// Exchanges nothing but the data, for a peer that is another program. The offsets
    /// are not compared, and the sender does not learn whether the file was written.
    #[arg(long, conflicts_with = "checksum")]
    plain: bool,

    /// Gives up a silent peer after so many seconds [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = seconds())]
    keepalive: Option<u32>,

    /// The memory to receive into, and the most data on the way [default: 1M].
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    memory: Option<u32>,

    /// Shows errors only.
    #[arg(long, short)]
    quiet: bool,
}

fn seconds() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=86_400)
}

/// Parses the memory of a connection, within the limits of the driver.
fn memory(text: &str) -> Result<u32, String> {
    match size::parse(text)? {
        bytes @ 0x4000..=0x400_0000 => Ok(bytes as u32),
        _ => Err("a connection has from 16K to 64M of memory".into()),
    }
}

impl CommonOptions {
    fn settings(&self, timeout: Option<u32>) -> Settings {
        Settings {
            timeout,
            keepalive: self.keepalive,
            memory: self.memory,
        }
    }

    fn say(&self, what: impl AsRef<str>) {
        if !self.quiet {
            print_line(what.as_ref());
        }
    }
}

/// Prints a line to standard error by one write, so that lines of two programs do not mix.
fn print_line(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Send(options) => send(&options),
        Command::Recv(options) => receive(&options),
    };
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            print_line(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
        Err(error) => {
            print_line(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// The outer error is one before the transfer, the inner one of the transfer.
fn send(options: &SendOptions) -> Result<Result<()>> {
    let common = &options.common;
    let mut input = Input::open(&options.file)?;
    if common.checksum {
        input.require_sum()?;
    }
    input.skip(common.offset)?;
    let connection = Connection::connect(
        options.peer,
        options.source,
        Duration::from_secs(options.wait.into()),
        common.offset,
        common.settings(options.timeout),
    )?;
    Ok(send_to(&connection, &input, common))
}

fn send_to(connection: &Connection, input: &Input, options: &CommonOptions) -> Result<()> {
    let offset = options.offset;
    let mut lines = Lines::new(connection.file());
    if !options.plain {
        let line = next_line(&mut lines, connection)?;
        compare_offsets(line.as_deref(), offset)?;
    }
    let mut progress = Progress::new(input.length(offset), options.quiet);
    input.send(offset, connection, &mut progress)?;
    connection.shut_down()?;
    let end = offset + progress.moved();
    if options.plain {
        connection.flush()?;
    } else {
        let line = next_line(&mut lines, connection)?;
        let sum = options.checksum.then(|| input.sum(end)).transpose()?;
        compare_receipt(line.as_deref(), end, sum.as_deref())?;
        // The receiver ends its data after the receipt. Closing before that would be an
        // error there.
        next_line(&mut lines, connection)?;
    }
    let summary = progress.summary("sent");
    drop(progress);
    options.say(format!(
        "{summary}, to {} over {}",
        connection.peer, connection.device
    ));
    Ok(())
}

fn next_line(lines: &mut Lines<&std::fs::File>, connection: &Connection) -> Result<Option<String>> {
    lines.next().map_err(
        |error| match error.downcast_ref().and_then(Errno::from_io_error) {
            Some(errno) => connection.sending(errno, "the connection"),
            None => error,
        },
    )
}

fn compare_offsets(line: Option<&str>, offset: u64) -> Result<()> {
    let Some(theirs) = line.and_then(parse_greeting) else {
        bail!("the peer is not `splice-rdma recv`: use --plain for another program");
    };
    if theirs != offset {
        bail!(
            "the receiver's file continues at offset {theirs}, and this end started with --offset \
             {offset}: use the same --offset at both ends"
        );
    }
    Ok(())
}

fn compare_receipt(line: Option<&str>, end: u64, sum: Option<&str>) -> Result<()> {
    let Some(receipt) = line.and_then(Receipt::parse) else {
        bail!("the receiver took all data, but did not confirm that it has written it");
    };
    if receipt.end != end {
        bail!(
            "the receiver has written its file up to offset {}, and not to {end}",
            receipt.end
        );
    }
    match (sum, receipt.sum.as_deref()) {
        (None, _) => Ok(()),
        (Some(_), None) => bail!(
            "the receiver has written {} bytes, but computed no check sum: it needs --checksum \
             as well",
            thousands(end)
        ),
        (Some(ours), Some(theirs)) if ours == theirs => Ok(()),
        (Some(ours), Some(theirs)) => bail!(
            "the files differ: SHA-256 {ours} here, {theirs} at the receiver; send all of it again"
        ),
    }
}

/// The outer error is one before the transfer, the inner one of the transfer.
fn receive(options: &ReceiveOptions) -> Result<Result<()>> {
    let common = &options.common;
    let mut output = Output::open(&options.file, common.offset, options.force)?;
    if common.checksum {
        output.require_sum()?;
    }
    let settings = common.settings(None);
    let listener = listen(options.local, &settings)?;
    if let Some(warning) = output.warning() {
        common.say(warning);
    }
    common.say(format!("listening at {}", options.local));
    let connection = Connection::accept(&listener, common.offset, settings)?;
    drop(listener);
    Ok(receive_from(&connection, &mut output, common))
}

fn receive_from(
    connection: &Connection,
    output: &mut Output,
    options: &CommonOptions,
) -> Result<()> {
    if !options.plain {
        write_line(connection, output.kept(), &greeting(options.offset))?;
    }
    let mut progress = Progress::new(None, options.quiet);
    output.receive(connection, &mut progress)?;
    output.sync()?;
    let end = options.offset + progress.moved();
    let sum = options.checksum.then(|| output.sum()).transpose()?;
    if !options.plain {
        let receipt = Receipt { end, sum };
        write_line(connection, output.kept(), &receipt.line())
            .context("the data was written, but the sender does not know it")?;
    }
    let confirmed = connection.shut_down().and_then(|()| connection.flush());
    let summary = progress.summary("received");
    drop(progress);
    if confirmed.is_err() {
        options.say("the sender ended early, and may not know that all data has arrived");
    }
    options.say(format!(
        "{summary}, from {} over {}",
        connection.peer, connection.device
    ));
    Ok(())
}

/// Sends a line of text to the sender.
fn write_line(connection: &Connection, kept: Option<(&str, u64)>, line: &str) -> Result<()> {
    let mut file = connection.file();
    file.write_all(line.as_bytes())
        .map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => connection.receiving(errno, kept, "the connection"),
            None => anyhow!(error),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Options, String> {
        Options::try_parse_from(words.split(' ')).map_err(|e| e.to_string())
    }

    #[test]
    fn options_are_read() {
        let words = "splice-rdma send --offset 4M --checksum --keepalive 3 --memory 64K \
                     [fe80::2%7]:5000 file";
        let Command::Send(send) = parse(words).unwrap().command else {
            panic!("not send");
        };
        assert_eq!(send.peer.to_string(), "[fe80::2%7]:5000");
        assert_eq!(send.file, PathBuf::from("file"));
        assert_eq!(send.common.offset, 4 << 20);
        assert!(send.common.checksum && !send.common.plain);
        let settings = send.common.settings(send.timeout);
        assert_eq!(settings.memory, Some(64 << 10));
        assert_eq!((settings.keepalive, settings.timeout), (Some(3), None));

        let words = "splice-rdma recv 0.0.0.0:5000";
        let Command::Recv(recv) = parse(words).unwrap().command else {
            panic!("not recv");
        };
        assert_eq!(recv.file, PathBuf::from("-"));
        assert_eq!((recv.common.offset, recv.force), (0, false));
    }

    #[test]
    fn wrong_options_are_explained() {
        for (words, sentence) in [
            ("splice-rdma send 192.0.2.1", "no port"),
            (
                "splice-rdma recv --offset x 192.0.2.1:5",
                "not a number of bytes",
            ),
            (
                "splice-rdma recv --memory 1K 192.0.2.1:5",
                "from 16K to 64M",
            ),
            ("splice-rdma recv --keepalive 0 192.0.2.1:5", "0 is not in"),
            (
                "splice-rdma send --plain --checksum 192.0.2.1:5",
                "cannot be used with",
            ),
            (
                "splice-rdma send --force 192.0.2.1:5",
                "unexpected argument",
            ),
        ] {
            let error = parse(words).err().unwrap();
            assert!(error.contains(sentence), "{error}");
        }
    }

    #[test]
    fn both_ends_need_the_same_offset() {
        compare_offsets(Some("splice-rdma 1 offset 7"), 7).unwrap();
        let error = compare_offsets(Some("splice-rdma 1 offset 7"), 0).unwrap_err();
        assert!(error.to_string().contains("continues at offset 7"));
        for other in [None, Some("HTTP/1.1 200 OK")] {
            let error = compare_offsets(other, 0).unwrap_err();
            assert!(error.to_string().contains("--plain"));
        }
    }

    #[test]
    fn the_receipt_is_compared() {
        let sums = ["1".repeat(64), "2".repeat(64)];
        let line = |sum: Option<&String>| {
            let receipt = Receipt {
                end: 9,
                sum: sum.cloned(),
            };
            receipt.line().trim_end().to_owned()
        };
        let plain = line(None);
        let summed = line(Some(&sums[0]));
        compare_receipt(Some(&plain), 9, None).unwrap();
        compare_receipt(Some(&summed), 9, None).unwrap();
        compare_receipt(Some(&summed), 9, Some(&sums[0])).unwrap();
        for (line, end, sum, sentence) in [
            (None, 9, None, "did not confirm"),
            (Some(&plain), 10, None, "up to offset 9, and not to 10"),
            (Some(&plain), 9, Some(&sums[0]), "needs --checksum as well"),
            (Some(&summed), 9, Some(&sums[1]), "the files differ"),
        ] {
            let line = line.map(String::as_str);
            let error = compare_receipt(line, end, sum.map(String::as_str)).unwrap_err();
            assert!(error.to_string().contains(sentence), "{error}");
        }
    }
}
