// SPDX-License-Identifier: GPL-2.0

//! Runs commands that print TAP, and reports their results, as scripts/check does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder for the files of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn results(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_splice-results"))
            .current_dir(&self.0)
            .args(["--results", "results"])
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs a shell command as the kselftest `tee_test`.
    fn run(&self, command: &str) -> Output {
        self.results(&[
            "run",
            "--stage",
            "kselftest",
            "--log",
            "tests.log",
            "--times",
            "times",
            "--repeat",
            "make check TEST={program}:{test}",
            "--format",
            "kselftest",
            "--expect",
            "tee_test",
            "--",
            "sh",
            "-c",
            command,
        ])
    }

    fn report(&self) -> (bool, String) {
        let output = self.results(&["report", "--totals", "totals"]);
        (output.status.success(), text(&output.stdout))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const PASSES: &str = "echo '# program tee_test'; echo 1..2; echo ok 1 tee.empty; \
    echo 'ok 2 tee.full # SKIP no memory'; echo '# exit tee_test 0'";

#[test]
fn results_are_kept_and_reported() {
    let folder = Folder::new("passes");
    let output = folder.run(PASSES);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(output.stdout, fs::read(folder.0.join("tests.log")).unwrap());
    assert!(text(&output.stdout).contains("\nok 1 tee.empty\n"));
    assert_eq!(
        folder.report(),
        (
            true,
            "skipped: kselftest: tee_test tee.full: no memory\n1 passed, 0 failed, 1 skipped\n"
                .into()
        )
    );
    let totals = fs::read_to_string(folder.0.join("totals")).unwrap();
    assert_eq!(totals, "1 passed, 0 failed, 1 skipped\n");
    assert!(fs::read_to_string(folder.0.join("times"))
        .unwrap()
        .starts_with("kselftest\ttee_test\t"));
}

#[test]
fn after_a_failure_the_last_line_names_the_log_and_the_command() {
    let folder = Folder::new("fails");
    let output = folder.run(&format!("{}; exit 3", PASSES.replace("ok 1", "not ok 1")));
    assert_eq!(output.status.code(), Some(3));
    let (success, report) = folder.report();
    assert!(!success);
    assert!(
        report.ends_with(
            "FAILED: kselftest: tee_test tee.empty: failed\n\
            0 passed, 1 failed, 1 skipped\n\
            log: tests.log; repeat tee_test tee.empty with: make check TEST=tee_test:tee.empty\n"
        ),
        "{report}"
    );
}

#[test]
fn a_command_that_prints_nothing_fails() {
    let folder = Folder::new("nothing");
    assert_eq!(folder.run("kill -9 $$").status.code(), Some(137));
    assert!(folder
        .report()
        .1
        .starts_with("FAILED: kselftest: tee_test: did not run to its end\n"));
}

#[test]
fn a_test_that_was_skipped_did_not_run() {
    let folder = Folder::new("expect");
    folder.run(PASSES);
    let expect = |name: &str| {
        let args = ["expect", "--stage", "kselftest", name];
        assert!(folder.results(&args).status.success());
        folder.report().0
    };
    assert!(expect("tee_test tee.empty"));
    assert!(!expect("tee_test tee.full"));
}

#[test]
fn errors_of_its_own_are_no_exit_code_of_a_command() {
    let folder = Folder::new("errors");
    fs::write(folder.0.join("results"), "no result\n").unwrap();
    let output = folder.results(&["report", "--totals", "totals"]);
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        text(&output.stderr),
        "error: results:1: not a result: no result\n"
    );
}
