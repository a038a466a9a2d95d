// SPDX-License-Identifier: GPL-2.0

//! Runs a command whose output is that of tests.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::formats::Reader;
use crate::outcome::Outcome;
use crate::progress::Progress;

/// The time between two lines that show the progress.
const INTERVAL: Duration = Duration::from_secs(10);

/// How far the run is, as the thread that shows it needs it.
struct Shown {
    progress: Progress,
    total: Option<usize>,
}

/// Copies the lines of `input` to each of `outputs`, and reads them.
///
/// Lines end with a newline, with or without a carriage return. Bytes that are no UTF-8 are copied
/// as they are.
pub fn read_lines(
    input: impl io::Read,
    outputs: &mut [&mut dyn Write],
    mut line: impl FnMut(&str),
) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let mut bytes = Vec::new();
    while input.read_until(b'\n', &mut bytes)? > 0 {
        for output in &mut *outputs {
            output.write_all(&bytes)?;
            output.flush()?;
        }
        line(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']));
        bytes.clear();
    }
    Ok(())
}

/// Runs `command`; copies its standard output to `log` and to standard output, and shows the
/// progress on standard error. Returns the exit code, the outcomes and the times of the tests.
///
/// A command that a signal ended has the exit code 128 and the number of the signal, as in a shell.
pub fn run(
    command: &[String],
    log: &Path,
    mut reader: Box<dyn Reader>,
    progress: Progress,
) -> Result<(i32, Vec<Outcome>, Progress)> {
    let start = Instant::now();
    let mut log_file = File::create(log).with_context(|| log.display().to_string())?;
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| command[0].clone())?;
    let stdout = child.stdout.take().context("no standard output")?;

    let shown = Arc::new(Mutex::new(Shown {
        progress,
        total: reader.total(),
    }));
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = {
        let shown = Arc::clone(&shown);
        thread::spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                eprintln!("{}", shown.progress.line(shown.total, start.elapsed()));
            }
        })
    };

    let mut outcomes = Vec::new();
    let copied = read_lines(
        stdout,
        &mut [&mut log_file, &mut io::stdout().lock()],
        |line| {
            reader.line(line, &mut outcomes);
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.total = reader.total();
            for test in reader.finished() {
                shown.progress.end(&test, start.elapsed());
            }
        },
    );
    let status = child.wait()?;
    drop(stop);
    let _ = thread.join();
    copied.with_context(|| log.display().to_string())?;

    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    reader.end(code, &mut outcomes);
    let shown = Arc::into_inner(shown).context("the progress is in use")?;
    let shown = shown.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((code, outcomes, shown.progress))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_copied_to_the_byte() {
        let input = b"ok 1 a\r\n\xff\xfe\nlast";
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let mut lines = Vec::new();
        read_lines(&input[..], &mut [&mut one, &mut two], |line| {
            lines.push(line.to_owned())
        })
        .unwrap();
        assert_eq!(one, input);
        assert_eq!(two, input);
        assert_eq!(lines, ["ok 1 a", "\u{fffd}\u{fffd}", "last"]);
    }
}
