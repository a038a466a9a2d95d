// SPDX-License-Identifier: GPL-2.0

//! Moves a file through pipes and sockets with splice, tee, vmsplice and sendfile, compares every
//! result with the file, and shows how much was moved by reference and how much was copied.
//!
//! The exit code is 0 if every path delivered the file unchanged, 1 if one did not or the time
//! limit expired, and 2 if the program could not start.

mod counters;
mod memory;
mod meter;
mod paths;
mod table;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use clap::Parser;
use rustix::fs::{access, statfs, Access};
use sha2::{Digest, Sha256};
use splice_rdma::size::thousands;

use counters::{Counters, Implementation, Sample};
use meter::{By, Meter, Step};
use paths::{Output, Route, Source, MOST_OUTPUTS, ROUTES};
use table::{Cell, Table};

/// `f_type` of tmpfs, see `magic.h`.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// The usual places of a tmpfs.
const TMPFS_DIRS: [&str; 3] = ["/dev/shm", "/tmp", "/run"];

/// Moves FILE through pipes and sockets and shows how much was copied.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The file to move: a regular file that is not empty.
    file: PathBuf,

    /// Folder for the results, which are deleted after comparison; it needs
    /// twice the file's size. Default: a tmpfs with enough space.
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Time limit in seconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// Shows every counter that a path changed.
    #[arg(long, short)]
    verbose: bool,

    /// The path of the kernel's splice counters.
    #[arg(long, default_value = counters::DEFAULT_PATH)]
    counters: PathBuf,
}

/// The current activity, for the message when the time limit expires.
static DOING: Mutex<&str> = Mutex::new("reading the file");

fn doing(what: &'static str) {
    *DOING.lock().unwrap_or_else(PoisonError::into_inner) = what;
}

/// Exits after `timeout` seconds.
fn watchdog(timeout: u64) {
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(timeout));
        let what = *DOING.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("error: not done after {timeout} s, in: {what}");
        std::process::exit(1);
    });
}

fn main() -> ExitCode {
    let options = Options::parse();
    watchdog(options.timeout);
    match run(&options, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether every path delivered the file unchanged.
fn run(options: &Options, out: &mut impl Write) -> Result<bool> {
    let source = open_source(&options.file)?;
    let dir = output_dir(options.dir.as_deref(), source.size * MOST_OUTPUTS)?;
    let expected = checksum(&source.file, source.size)?;
    let splice = Implementation::detect(&options.counters)?;

    let uname = rustix::system::uname();
    writeln!(out, "splice:   {}", splice.describe())?;
    writeln!(
        out,
        "kernel:   {} {} {}",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy()
    )?;
    writeln!(
        out,
        "file:     {}, {} bytes, SHA-256 {}",
        options.file.display(),
        thousands(source.size),
        expected.short()
    )?;
    writeln!(out, "results:  {}\n", dir.display())?;

    let table = Table::new(label_width(), source.size);
    writeln!(out, "{}", table.head())?;
    let mut failed = 0;
    let routes: Vec<_> = ROUTES.iter().filter(|route| route.is_there()).collect();
    for route in &routes {
        doing(route.title);
        let part;
        let (source, expected) = if source.size <= route.most {
            (&source, &expected)
        } else {
            part = source.beginning(route.most)?;
            (&part.0, &part.1)
        };
        let passage = Passage::new(route, source, &dir, splice.counters());
        passage.print(&table, expected, options.verbose, out)?;
        out.flush()?;
        failed += usize::from(!passage.delivered(expected));
    }

    match &splice {
        Implementation::Rust(_) => writeln!(
            out,
            "\nby reference, copied: bytes as the kernel counts them; \
             -: moved by this program with read and write"
        )?,
        Implementation::C | Implementation::Unknown(_) => {
            writeln!(out, "\nn/a: this kernel shows no splice counters")?;
        }
    }
    let all = routes.len();
    if failed == 0 {
        writeln!(out, "all {all} paths delivered the file unchanged")?;
    } else {
        writeln!(out, "{failed} of {all} paths FAILED")?;
    }
    Ok(failed == 0)
}

fn open_source(path: &Path) -> Result<Source> {
    let name = path.display();
    // Before opening it: opening a FIFO would wait for a writer.
    let kind = fs::metadata(path).with_context(|| name.to_string())?;
    if kind.is_dir() {
        bail!("{name} is a directory, and only a file can be moved");
    }
    if !kind.is_file() {
        bail!("{name} is not a regular file");
    }
    let file = File::open(path).with_context(|| name.to_string())?;
    let size = file.metadata().with_context(|| name.to_string())?.len();
    if size == 0 {
        bail!("{name} is empty: there is nothing to move");
    }
    Ok(Source { file, size })
}

impl Source {
    /// Returns the first `size` bytes and their checksum.
    fn beginning(&self, size: u64) -> Result<(Self, Checksum)> {
        let file = self.file.try_clone().context("dup")?;
        let sum = checksum(&file, size)?;
        Ok((Self { file, size }, sum))
    }
}

/// Returns the folder for the results: `wanted`, or a tmpfs. It has room for `needed` bytes.
fn output_dir(wanted: Option<&Path>, needed: u64) -> Result<PathBuf> {
    if let Some(dir) = wanted {
        let name = dir.display();
        if !fs::metadata(dir)
            .with_context(|| name.to_string())?
            .is_dir()
        {
            bail!("{name} is not a directory");
        }
        let free = free_space(dir)?;
        if free < needed {
            bail!(
                "{name} has {} bytes free, and {} are needed",
                thousands(free),
                thousands(needed)
            );
        }
        return Ok(dir.to_owned());
    }
    let fits = |dir: &&str| {
        statfs(*dir).is_ok_and(|s| s.f_type as u64 == TMPFS_MAGIC)
            && access(*dir, Access::WRITE_OK).is_ok()
            && free_space(Path::new(dir)).is_ok_and(|free| free >= needed)
    };
    match TMPFS_DIRS.iter().copied().find(fits) {
        Some(dir) => Ok(dir.into()),
        None => bail!(
            "none of {} is a tmpfs with {} bytes free: name a folder with --dir",
            TMPFS_DIRS.join(", "),
            thousands(needed)
        ),
    }
}

fn free_space(dir: &Path) -> Result<u64> {
    let stat = statfs(dir).with_context(|| dir.display().to_string())?;
    if stat.f_blocks == 0 {
        // A tmpfs without a limit.
        return Ok(u64::MAX);
    }
    Ok(stat.f_bavail.saturating_mul(stat.f_bsize as u64))
}

/// The SHA-256 of a file, and the number of bytes.
#[derive(PartialEq, Eq)]
struct Checksum {
    digest: [u8; 32],
    size: u64,
}

impl Checksum {
    /// The first twelve hexadecimal digits.
    fn short(&self) -> String {
        self.digest[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Returns the checksum of the first `most` bytes of `file`.
fn checksum(mut file: &File, most: u64) -> Result<Checksum> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    file.rewind()?;
    let mut input = file.take(most);
    loop {
        match input.read(&mut buffer).context("read")? {
            0 => break,
            n => {
                hash.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
    Ok(Checksum {
        digest: hash.finalize().into(),
        size,
    })
}

/// The result of one route.
struct Passage {
    title: &'static str,
    steps: Vec<Step>,
    outcome: Result<Vec<(&'static str, Checksum)>>,
}

impl Passage {
    fn new(route: &Route, source: &Source, dir: &Path, counters: Option<&Counters>) -> Self {
        let (outcome, steps) = match Meter::new(counters) {
            Ok(meter) => {
                let outputs = (route.run)(source, dir, &meter);
                (outputs.and_then(checksums), meter.into_steps())
            }
            Err(error) => (Err(error), Vec::new()),
        };
        Self {
            title: route.title,
            steps,
            outcome,
        }
    }

    /// Whether each result is equal to the source.
    fn delivered(&self, expected: &Checksum) -> bool {
        self.outcome
            .as_ref()
            .is_ok_and(|sums| sums.iter().all(|(_, sum)| sum == expected))
    }

    fn print(
        &self,
        table: &Table,
        expected: &Checksum,
        verbose: bool,
        out: &mut impl Write,
    ) -> Result<()> {
        writeln!(out, "{}", table.row(self.title, [Cell::Blank; 3], ""))?;
        for step in &self.steps {
            for line in step_rows(step, table, &self.verdict(step.name, expected)) {
                writeln!(out, "{line}")?;
            }
        }
        if let Err(error) = &self.outcome {
            writeln!(out, "  FAILED: {error:#}")?;
        }
        if verbose {
            for (name, grown) in self.grown().nonzero() {
                writeln!(out, "      {name} +{}", thousands(grown))?;
            }
        }
        Ok(())
    }

    fn verdict(&self, step: &str, expected: &Checksum) -> String {
        let sums = self.outcome.as_deref().unwrap_or_default();
        match sums.iter().find(|(name, _)| *name == step) {
            None => String::new(),
            Some((_, sum)) if sum == expected => format!("{} ok", sum.short()),
            Some((_, sum)) if sum.size == expected.size => format!("{} MISMATCH", sum.short()),
            Some((_, sum)) => format!("{} MISMATCH, {} bytes", sum.short(), thousands(sum.size)),
        }
    }

    /// Returns the growth of the counters on the whole route.
    fn grown(&self) -> Sample {
        let mut sum = Sample::default();
        for step in &self.steps {
            if let By::Splice(Some(grown)) = &step.by {
                sum.add(grown);
            }
        }
        sum
    }
}

fn checksums(outputs: Vec<Output>) -> Result<Vec<(&'static str, Checksum)>> {
    outputs
        .into_iter()
        .map(|Output { step, file }| Ok((step, checksum(&file, u64::MAX)?)))
        .collect()
}

fn step_label(name: &str) -> String {
    format!("  {name}")
}

fn kind_label(name: &str) -> String {
    format!("    of it {name}")
}

fn label_width() -> usize {
    let titles = ROUTES.iter().map(|route| route.title.len());
    let steps = paths::step::ALL.iter().map(|name| step_label(name).len());
    titles.chain(steps).max().unwrap_or(0)
}

/// Returns the rows of one step. If the kernel used several kinds of transfer, as for sendfile,
/// each of them has its own row below.
fn step_rows(step: &Step, table: &Table, verdict: &str) -> Vec<String> {
    let label = step_label(step.name);
    let bytes = Cell::Number(step.bytes);
    let kinds = match &step.by {
        By::Program => return vec![table.row(&label, [bytes, Cell::None, Cell::None], verdict)],
        By::Device { copied } => {
            let direct = Cell::Number(step.bytes.saturating_sub(*copied));
            let cells = [bytes, direct, Cell::Number(*copied)];
            return vec![table.row(&label, cells, verdict)];
        }
        By::Splice(None) => {
            let cells = [bytes, Cell::NotAvailable, Cell::NotAvailable];
            return vec![table.row(&label, cells, verdict)];
        }
        By::Splice(Some(grown)) => grown.kinds(),
    };
    if kinds.len() > 1 {
        let mut rows = vec![table.row(&label, [bytes, Cell::Blank, Cell::Blank], verdict)];
        rows.extend(kinds.iter().map(|kind| {
            let cells = [
                Cell::Blank,
                Cell::Number(kind.referenced),
                Cell::Number(kind.copied),
            ];
            table.row(&kind_label(&kind.name), cells, "")
        }));
        return rows;
    }
    let (referenced, copied) = kinds
        .first()
        .map_or((0, 0), |kind| (kind.referenced, kind.copied));
    let cells = [bytes, Cell::Number(referenced), Cell::Number(copied)];
    vec![table.row(&label, cells, verdict)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(by: By) -> Step {
        Step {
            name: "sendfile",
            bytes: 1000,
            by,
        }
    }

    fn splice(text: &str) -> By {
        By::Splice(Some(text.parse().unwrap()))
    }

    fn rows(by: By) -> Vec<String> {
        step_rows(&step(by), &Table::new(10, 1000), "")
            .iter()
            .map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn a_kernel_without_counters_shows_none() {
        assert_eq!(rows(By::Splice(None)), ["sendfile 1,000 n/a n/a"]);
        assert_eq!(rows(By::Program), ["sendfile 1,000 - -"]);
        let device = By::Device { copied: 100 };
        assert_eq!(rows(device), ["sendfile 1,000 900 100"]);
    }

    #[test]
    fn one_kind_of_transfer_is_shown_in_the_step_itself() {
        let text = "bytes.file_to_pipe.referenced 900\nbytes.file_to_pipe.copied 100\n";
        assert_eq!(rows(splice(text)), ["sendfile 1,000 900 100"]);
        assert_eq!(rows(splice("calls.tee 1\n")), ["sendfile 1,000 0 0"]);
    }

    #[test]
    fn several_kinds_have_rows_of_their_own() {
        let text = "bytes.file_to_pipe.referenced 1000\nbytes.pipe_to_socket.referenced 1000\n";
        assert_eq!(
            rows(splice(text)),
            [
                "sendfile 1,000",
                "of it file to pipe 1,000 0",
                "of it pipe to socket 1,000 0",
            ]
        );
    }

    #[test]
    fn every_label_fits() {
        for name in paths::step::ALL {
            assert!(step_label(name).len() <= label_width());
        }
        assert!(kind_label("pipe to socket").len() <= label_width());
    }

    #[test]
    fn a_wrong_or_short_result_is_called_so() {
        let sum = |first, size| {
            let mut digest = [0; 32];
            digest[0] = first;
            Checksum { digest, size }
        };
        let expected = sum(0xab, 5000);
        let passage = |got| Passage {
            title: "",
            steps: Vec::new(),
            outcome: Ok(vec![("tee", got)]),
        };
        for (got, delivered, verdict) in [
            (sum(0xab, 5000), true, "ab0000000000 ok"),
            (sum(0xac, 5000), false, "ac0000000000 MISMATCH"),
            (sum(0xac, 4096), false, "ac0000000000 MISMATCH, 4,096 bytes"),
        ] {
            let passage = passage(got);
            assert_eq!(passage.delivered(&expected), delivered);
            assert_eq!(passage.verdict("tee", &expected), verdict);
            assert_eq!(passage.verdict("sendfile", &expected), "");
        }
    }
}
