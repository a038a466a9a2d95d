// SPDX-License-Identifier: GPL-2.0

//! Runs the program on the running kernel. This tests the program, not the kernel: any
//! implementation of splice is sufficient.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that is deleted at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn demo(file: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_splice-demo"))
        .args(options)
        .arg(file)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns bytes of which no two pages are equal.
fn content(len: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|i| i.wrapping_mul(0x9e37_79b1).to_le_bytes())
        .take(len)
        .collect()
}

#[test]
fn files_of_all_sizes_arrive_unchanged() {
    let folder = Folder::new("sizes");
    for size in [1, 4095, 4096, 4097, 65_536, 65_537, 1_000_003, 9 << 20] {
        let file = folder.file("source", &content(size));
        let output = demo(&file, &["--dir", folder.0.to_str().unwrap()]);
        let shown = text(&output.stdout);
        assert!(output.status.success(), "{size} bytes:\n{shown}");
        assert_eq!(shown.matches(" ok\n").count(), 5, "{shown}");
        assert!(shown.ends_with("all 4 paths delivered the file unchanged\n"));
        // The results were deleted.
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }
}

#[test]
fn what_cannot_be_moved_is_refused_in_a_sentence() {
    let folder = Folder::new("refused");
    for (file, sentence) in [
        (
            folder.file("empty", b""),
            "is empty: there is nothing to move",
        ),
        (folder.0.clone(), "is a directory"),
        (folder.0.join("missing"), "No such file or directory"),
        (PathBuf::from("/dev/null"), "is not a regular file"),
    ] {
        let output = demo(&file, &[]);
        assert_eq!(output.status.code(), Some(2));
        let shown = text(&output.stderr);
        assert!(shown.contains(sentence), "{shown}");
        assert_eq!(shown.lines().count(), 1, "{shown}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_path_that_cannot_be_run_says_so_and_the_program_fails() {
    let folder = Folder::new("unable");
    let file = folder.file("source", b"x");
    // No file can be created there.
    let output = demo(&file, &["--dir", "/proc"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    assert_eq!(shown.matches("  FAILED: /proc/").count(), 4, "{shown}");
    assert!(shown.ends_with("4 of 4 paths FAILED\n"), "{shown}");
}

#[test]
fn counters_mean_the_rust_implementation() {
    let folder = Folder::new("counters");
    let file = folder.file("source", &content(100));
    let counters = folder.file("counters", b"calls.splice 1\n");
    let output = demo(&file, &["--counters", counters.to_str().unwrap()]);
    assert!(output.status.success());
    let shown = text(&output.stdout);
    assert!(shown.starts_with("splice:   Rust (CONFIG_RUST_SPLICE)\n"));
    assert!(!shown.contains("n/a"), "{shown}");

    let missing = folder.0.join("missing");
    let output = demo(&file, &["--counters", missing.to_str().unwrap()]);
    assert!(output.status.success());
    let shown = text(&output.stdout);
    assert!(shown.starts_with("splice:   C (fs/splice.c)\n"));
    assert!(shown.contains("n/a"), "{shown}");
}

#[test]
fn the_time_is_limited() {
    let folder = Folder::new("time");
    let file = folder.file("source", b"x");
    // No process writes to it.
    let fifo = folder.0.join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    let output = demo(
        &file,
        &["--timeout", "1", "--counters", fifo.to_str().unwrap()],
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: not done after 1 s, in: reading the file\n"
    );
}
