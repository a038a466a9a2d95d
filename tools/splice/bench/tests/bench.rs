// SPDX-License-Identifier: GPL-2.0

//! Runs the program on the running kernel, with its clock, which need not count instructions: every
//! operation must have the expected result.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder(name: &str) -> PathBuf {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_splice-bench"))
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_was_measured_can_be_reported() {
    let folder = folder("measured");
    let dir = folder.to_str().unwrap();
    // So few that all requests of io_uring fit into a pipe of a user without privileges.
    let bytes = ["--bytes", "4096,32768"];
    let measured = bench(
        &[
            &[
                "measure",
                "--any-clock",
                "--any-memory",
                "--dir",
                dir,
                "--disk",
                dir,
            ],
            &bytes[..],
        ]
        .concat(),
    );
    assert!(measured.status.success(), "{}", text(&measured.stderr));
    // The program has removed its files.
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let lines = text(&measured.stdout).lines().count();
    assert!(lines > 30, "{lines} lines");

    let names = ["c", "rust", "csv", "svg"];
    let [c, rust, csv, svg] = names.map(|name| format!("{dir}/{name}"));
    fs::write(&c, &measured.stdout).unwrap();
    // So low that each operation is within its bound.
    let (head, rows) = text(&measured.stdout)
        .split_once('\n')
        .map(|(head, rows)| (head.to_owned(), rows.to_owned()))
        .unwrap();
    let rows = rows.lines().map(|row| {
        let fields: Vec<_> = row.split(',').collect();
        let cost: u64 = fields[2].parse().unwrap();
        let cost = (cost / 50).max(1);
        format!(
            "{},{},{cost},{}\n",
            fields[0],
            fields[1],
            fields[3..].join(",")
        )
    });
    fs::write(&rust, format!("{head}\n{}", rows.collect::<String>())).unwrap();
    let files = ["--c", &c, "--rust", &rust, "--csv", &csv, "--svg", &svg];
    let report = bench(&[&["report", "--strict"], &files[..]].concat());
    assert!(report.status.success(), "{}", text(&report.stderr));
    let last = format!("0 of {} operations cost more than they may\n", lines - 1);
    assert!(text(&report.stdout).ends_with(&last));
    assert_eq!(fs::read_to_string(csv).unwrap().lines().count(), lines);
    let svg = fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("tee 32 KiB") && svg.contains("EAGAIN: tee from empty"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn throughput_can_be_compared() {
    let folder = folder("throughput");
    let dir = folder.to_str().unwrap();
    // An ordinary user cannot enlarge a socket for more bytes.
    let args = ["--dir", dir, "--bytes", "65536", "--milliseconds", "20"];
    let measured = bench(&[&["throughput"], &args[..]].concat());
    assert!(measured.status.success(), "{}", text(&measured.stderr));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

    let [input, csv] = ["in", "csv"].map(|name| format!("{dir}/{name}"));
    fs::write(&input, &measured.stdout).unwrap();
    let report = bench(&[
        "throughput-report",
        "--c",
        &input,
        &input,
        "--rust",
        &input,
        &input,
        "--csv",
        &csv,
    ]);
    assert!(report.status.success(), "{}", text(&report.stderr));
    assert!(text(&report.stdout).ends_with("of 2 pairs of runs; more is better\n"));
    let csv = fs::read_to_string(csv).unwrap();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), text(&measured.stdout).lines().count());
    assert!(
        lines.len() > 6 && lines[1..].iter().all(|line| line.ends_with(",1.000")),
        "{csv}"
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn one_that_costs_too_much_fails_only_if_asked_to() {
    let folder = folder("strict");
    let [c, rust] = [100, 103].map(|instructions| {
        let path = folder.join(format!("{instructions}"));
        let text = format!(
            "operation,bytes,instructions,locked,indirect,copying\n\
             tee,4096,{instructions},5,7,0\n"
        );
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let files = ["report", "--c", &c, "--rust", &rust];
    let lenient = bench(&files);
    assert_eq!(lenient.status.code(), Some(0));
    let strict = bench(&[&files[..], &["--strict"]].concat());
    assert_eq!(strict.status.code(), Some(1));
    assert_eq!(lenient.stdout, strict.stdout);
    assert!(text(&strict.stdout).contains("1.030     1.02      5     5      7     7  over\n"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_clock_that_counts_something_else_is_refused() {
    let folder = folder("clock");
    let dir = folder.to_str().unwrap();
    let output = bench(&["measure", "--dir", dir, "--disk", dir]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("-icount shift=0"));
    fs::remove_dir_all(folder).unwrap();
}
