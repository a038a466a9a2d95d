// SPDX-License-Identifier: GPL-2.0

//! Runs the program on the running kernel. This tests the program, not the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_splice-differential");

/// A folder that is deleted at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn command(&self, args: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command
            .env("SPLICE_TMPFS_DIR", "/dev/shm")
            .env("SPLICE_EXT4_DIR", self.path())
            .args(args);
        command.output().unwrap()
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_kernel_agrees_with_itself() {
    let folder = Folder::new("agree");
    let args = [
        "run",
        "--seed",
        "40",
        "--count",
        "8",
        "--ops",
        "200",
        "--transcript",
    ];
    let (first, second) = (folder.run(&args), folder.run(&args));
    assert_eq!(first, second);
    assert!(!first.contains("lost:"), "{first}");
    assert!(!first.contains("failed:"), "{first}");
    // The program has removed its files.
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[test]
fn a_part_of_a_sequence_can_be_run() {
    let folder = Folder::new("part");
    let all: Vec<usize> = (0..200).collect();
    let all = all
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let args = ["run", "--seed", "4", "--ops", "200"];
    assert_eq!(
        folder.run(&args),
        folder.run(&[&args[..], &["--keep", &all]].concat())
    );
    let part = folder.run(&[&args[..], &["--keep", "0,3,150", "--transcript"]].concat());
    let indexes: Vec<&str> = part
        .lines()
        .filter(|line| !line.starts_with(" end "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(indexes, ["0", "3", "150", "4"]);

    let output = folder.command(&["run", "--ops", "10", "--keep", "10"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("there are 10 operations only"), "{text}");
}

#[test]
fn a_changed_result_is_found_and_is_all_that_is_left() {
    let folder = Folder::new("changed");
    let hashes = |name: &str, more: &[&str]| {
        let text = folder.run(&[&["run", "--count", "4", "--ops", "100"], more].concat());
        let path = folder.0.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let same = hashes("same", &[]);
    let changed = hashes("changed", &["--perturb", "3:70"]);
    let compare = |a: &Path, b: &Path| {
        folder.command(&[
            "compare",
            "--count",
            "4",
            "--batch",
            "2",
            a.to_str().unwrap(),
            b.to_str().unwrap(),
        ])
    };
    let output = compare(&same, &same);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.ends_with("ok 2 SEED=3 COUNT=2\n2 passed, 0 failed, 0 skipped\n"),
        "{text}"
    );

    let output = compare(&same, &changed);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nok 1 SEED=1 COUNT=2\n# seed 3: "), "{text}");
    assert!(
        text.ends_with("not ok 2 SEED=3 COUNT=2\n1 passed, 1 failed, 0 skipped\n"),
        "{text}"
    );

    let explain = |seed: &str| {
        folder.command(&[
            "explain",
            "--seed",
            seed,
            "--ops",
            "100",
            "--folder",
            folder.path(),
            "--sides",
            PROGRAM,
            &format!("{PROGRAM} --perturb 3:70"),
        ])
    };
    let output = explain("3");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("seed 3, shortened to 1 operations: --seed 3 --ops 100 --keep 70\n"),
        "{text}"
    );

    let output = explain("2");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("no difference when run again"), "{text}");
}

#[test]
fn nothing_that_ran_is_no_success() {
    let folder = Folder::new("nothing");
    let empty = folder.0.join("empty");
    fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    let output = folder.command(&["compare", "--count", "2", empty, empty]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("0 passed, 1 failed, 0 skipped\n"));
}
