// SPDX-License-Identifier: GPL-2.0

//! Runs the program where there is no `/dev/rdma_splice`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder that is gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn program(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_splice-rdma"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn refused(words: &[&str], sentence: &str) {
    let output = program(words);
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(shown.starts_with("error: "), "{shown}");
    assert!(shown.contains(sentence), "{shown}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_missing_device_is_explained() {
    if Path::new("/dev/rdma_splice").exists() {
        return;
    }
    let folder = Folder::new("device");
    let file = folder.file("source", b"x");
    for words in [
        &["send", "192.0.2.1:5000", &file][..],
        &["send", "192.0.2.1:5000"],
        &["recv", "[::]:5000"],
    ] {
        refused(words, "modprobe splice_rdma");
    }
}

#[test]
fn a_file_is_not_replaced_by_mistake() {
    let folder = Folder::new("replace");
    let file = folder.file("target", b"0123456789");
    let at = "192.0.2.1:5000";
    refused(&["recv", at, &file], "--force");
    refused(&["recv", at, &file, "--offset", "11"], "would be missing");
    if !Path::new("/dev/rdma_splice").exists() {
        for options in [["--offset", "4"], ["--force", "--quiet"]] {
            refused(
                &["recv", at, &file, options[0], options[1]],
                "modprobe splice_rdma",
            );
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"0123456789");
}

#[test]
fn the_sender_needs_what_it_is_to_send() {
    let folder = Folder::new("sender");
    let file = folder.file("source", b"0123456789");
    let at = "192.0.2.1:5000";
    refused(&["send", at, &file, "--offset", "11"], "has 10 bytes");
    refused(&["send", at, "/nonexistent"], "/nonexistent: No such file");
    refused(&["send", at, "/"], "is a directory");
    refused(&["send", at, "--checksum"], "--checksum needs a file");
    refused(&["recv", at, "--checksum"], "--checksum needs a named file");
}

#[test]
fn the_help_names_the_options() {
    for (command, options) in [
        (
            "send",
            &["--offset", "--wait", "--source", "--checksum"][..],
        ),
        ("recv", &["--offset", "--force", "--checksum", "--plain"]),
    ] {
        let output = program(&[command, "--help"]);
        assert!(output.status.success());
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        for option in options {
            assert!(shown.contains(option), "{shown}");
        }
    }
}
