// SPDX-License-Identifier: GPL-2.0

//! Compares what the programs of scripts/guest-programs did on two kernels, stock C and Rust.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

use crate::outcome::{Outcome, Verdict};
use crate::run::read_lines;
use crate::tap::{End, Program};

/// The calls that are counted, in the order of the table.
const CALLS: [&str; 6] = [
    "splice",
    "tee",
    "vmsplice",
    "sendfile",
    "copy_file_range",
    "nfsd_read_splice",
];

/// How a test case ended; an expected failure counts as neither passed nor failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Pass,
    Fail,
    ExpectedFailure,
    Skip,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Pass, Kind::Fail, Kind::ExpectedFailure, Kind::Skip];

    fn of(outcome: &Outcome) -> Self {
        match outcome.verdict {
            _ if outcome.reason.starts_with("as expected") => Kind::ExpectedFailure,
            Verdict::Pass => Kind::Pass,
            Verdict::Fail => Kind::Fail,
            Verdict::Skip => Kind::Skip,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Pass => "pass",
            Kind::Fail => "fail",
            Kind::ExpectedFailure => "xfail",
            Kind::Skip => "skip",
        }
    }
}

/// A system call that the table shows.
#[derive(Debug)]
struct Call {
    name: String,
    number: u64,
    bytes: u64,
}

/// One program on one kernel.
#[derive(Debug, Default)]
struct Ran {
    name: String,
    outcomes: Vec<Outcome>,
    calls: Vec<Call>,
    /// Processor time in microseconds, and memory in bytes.
    cost: Option<(f64, f64)>,
    /// Numbers that must be the same on each kernel.
    values: Vec<(String, f64)>,
}

impl Ran {
    fn call(&self, name: &str) -> Option<&Call> {
        self.calls.iter().find(|call| call.name == name)
    }

    fn count(&self, kind: Kind) -> usize {
        self.outcomes
            .iter()
            .filter(|outcome| Kind::of(outcome) == kind)
            .count()
    }

    /// The numbers of test cases: "3 pass, 1 skip".
    fn summary(&self) -> String {
        let counts: Vec<_> = Kind::ALL
            .into_iter()
            .map(|kind| (self.count(kind), kind.word()))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        if counts.is_empty() {
            "none".to_owned()
        } else {
            counts.join(", ")
        }
    }
}

/// The log of a kernel while it is read.
#[derive(Default)]
struct Log {
    runs: Vec<Ran>,
    /// The program whose output this is, and the calls that it must make; `true` if the calls
    /// must move bytes.
    current: Option<(Program, Vec<(String, bool)>)>,
}

impl Log {
    /// The entry of the program; a program has one for each kind of line that it may have.
    fn ran(&mut self, name: &str) -> &mut Ran {
        let index = self.runs.iter().position(|ran| ran.name == name);
        let index = index.unwrap_or_else(|| {
            self.runs.push(Ran {
                name: name.to_owned(),
                ..Ran::default()
            });
            self.runs.len() - 1
        });
        &mut self.runs[index]
    }

    fn end(&mut self, end: End) {
        let Some((program, needs)) = self.current.take() else {
            return;
        };
        let name = program.name.clone();
        let problem = program.end(end);
        let ran = self.ran(&name);
        ran.outcomes.extend(problem);
        for (call, moves) in needs {
            let made = ran.call(&call);
            let reason = if made.is_none_or(|made| made.number == 0) {
                format!("it did not call {call}")
            } else if moves && made.is_none_or(|made| made.bytes == 0) {
                format!("it moved nothing by {call}")
            } else {
                continue;
            };
            ran.outcomes
                .push(Outcome::new(Verdict::Fail, &name, "", &reason));
        }
    }

    fn line(&mut self, line: &str) {
        let mut fields = line.split('\t');
        let (word, name) = match fields.next().and_then(|first| first.strip_prefix("# ")) {
            Some(first) => first.split_once(' ').unwrap_or((first, "")),
            None => ("", ""),
        };
        let mut number = || fields.next().and_then(|field| field.trim().parse().ok());
        match word {
            "program" => {
                self.end(End::Lost);
                self.ran(name);
                self.current = Some((Program::new(name), Vec::new()));
            }
            "needs" => {
                let call = fields.next().unwrap_or("");
                if let Some((_, needs)) = &mut self.current {
                    let refused = call.strip_suffix("-refused");
                    needs.push((refused.unwrap_or(call).to_owned(), refused.is_none()));
                }
            }
            "call" => {
                let call = fields.next().unwrap_or("").to_owned();
                let mut number = || fields.next().and_then(|field| field.trim().parse().ok());
                let (number, bytes) = (number().unwrap_or(0), number().unwrap_or(0));
                self.ran(name).calls.push(Call {
                    name: call,
                    number,
                    bytes,
                });
            }
            "cost" => {
                let cost = number().zip(number());
                self.ran(name).cost = cost;
            }
            "value" => {
                let key = fields.next().unwrap_or("").to_owned();
                if let Some(value) = fields.next().and_then(|field| field.trim().parse().ok()) {
                    self.ran(name).values.push((key, value));
                }
            }
            "exit" => {
                let code = fields.next().and_then(|field| field.parse().ok());
                self.end(code.map_or(End::Lost, End::Exit));
            }
            _ => {
                let Some((program, _)) = &mut self.current else {
                    return;
                };
                let Some(outcome) = program.line(line) else {
                    return;
                };
                let name = program.name.clone();
                self.ran(&name).outcomes.push(outcome);
            }
        }
    }
}

/// The results of the programs on one kernel.
pub struct Kernel(Vec<Ran>);

impl Kernel {
    fn ran(&self, name: &str) -> Option<&Ran> {
        self.0.iter().find(|ran| ran.name == name)
    }
}

fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Kernel {
    let mut log = Log::default();
    for line in lines {
        log.line(line);
    }
    log.end(End::Lost);
    Kernel(log.runs)
}

/// Reads the log of a kernel.
pub fn read(file: &Path) -> Result<Kernel> {
    let mut lines = Vec::new();
    File::open(file)
        .and_then(|log| read_lines(log, &mut [], |line| lines.push(line.to_owned())))
        .with_context(|| file.display().to_string())?;
    Ok(parse(lines.iter().map(String::as_str)))
}

/// Both tables, and what is wrong.
#[derive(Debug, Default)]
pub struct Comparison {
    pub tables: String,
    pub problems: Vec<String>,
}

/// The test cases of a program, in order; the number counts those of the same name.
fn cases(ran: &Ran) -> Vec<((String, usize), Kind)> {
    let mut seen = HashMap::new();
    ran.outcomes
        .iter()
        .map(|outcome| {
            let number: &mut usize = seen.entry(outcome.name()).or_default();
            *number += 1;
            ((outcome.name(), *number), Kind::of(outcome))
        })
        .collect()
}

/// How the results of a program on both kernels relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Same,
    /// Cases that stock C is known to fail pass.
    Better,
    Differs,
}

/// Compares the cases of one program. Appends to `problems`, and to `both` what fails on both.
fn relate(c: &Ran, rust: &Ran, problems: &mut Vec<String>, both: &mut String) -> Relation {
    let (c_cases, rust_cases) = (cases(c), cases(rust));
    let find = |cases: &[((String, usize), Kind)], which: &(String, usize)| {
        cases
            .iter()
            .find(|(case, _)| case == which)
            .map(|(_, kind)| *kind)
    };
    let word = |kind: Option<Kind>| kind.map_or("nothing", Kind::word);
    let mut differs = false;
    // The line of an expected failure does not contain the name of the case.
    let (mut expected_failures, mut passed) = (0, Vec::new());
    let all = c_cases.iter().map(|(case, _)| case);
    let new = rust_cases.iter().map(|(case, _)| case);
    for case in all.chain(new.filter(|case| find(&c_cases, case).is_none())) {
        let name = &case.0;
        match (find(&c_cases, case), find(&rust_cases, case)) {
            (_, Some(Kind::ExpectedFailure)) => problems.push(format!("{name}: Rust xfail")),
            (Some(Kind::ExpectedFailure), None) => expected_failures += 1,
            (None, Some(Kind::Pass)) => passed.push(name.as_str()),
            (on_c, on_rust) if on_c != on_rust => {
                differs = true;
                problems.push(format!("{name}: C {}, Rust {}", word(on_c), word(on_rust)));
            }
            (Some(Kind::Fail), _) => {
                let _ = writeln!(both, "fails on both: {name}");
            }
            _ => {}
        }
    }
    let better = expected_failures == passed.len();
    if !better && !passed.is_empty() {
        let news = passed.join("\n");
        problems.push(format!("{}: C nothing, Rust pass:\n{news}", c.name));
    }
    if !better && expected_failures > 0 {
        problems.push(format!("{}: {expected_failures} xfail on C alone", c.name));
    }
    if differs || !better {
        Relation::Differs
    } else if expected_failures > 0 {
        Relation::Better
    } else {
        Relation::Same
    }
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn row(table: &mut String, cells: [&str; 7]) {
    let [program, c, rust, same, call, c_number, rust_number] = cells;
    let line = format!(
        "{program:<27}  {c:<21}  {rust:<21}  {same:<6}  {call:<16}  {c_number:>9}  {rust_number:>9}"
    );
    table.push_str(line.trim_end());
    table.push('\n');
}

fn problems_of(ran: &Ran, kernel: &str, problems: &mut Vec<String>) {
    for outcome in &ran.outcomes {
        let reason = &outcome.reason;
        if reason.starts_with("it did not call") || reason.starts_with("it moved nothing") {
            problems.push(format!("{}: on {kernel} {reason}", ran.name));
        } else if outcome.verdict == Verdict::Skip && reason.is_empty() {
            problems.push(format!("{}: skipped without a reason", outcome.name()));
        }
    }
}

fn results(c: &Kernel, rust: &Kernel, comparison: &mut Comparison) {
    let nothing = Ran::default();
    let problems = &mut comparison.problems;
    let table = &mut comparison.tables;
    row(
        table,
        ["program", "C", "Rust", "same", "system call", "C", "Rust"],
    );
    let _ = writeln!(table, "{}", "-".repeat(120));

    let names = c.0.iter().chain(&rust.0).map(|ran| ran.name.as_str());
    let mut known = BTreeSet::new();
    let (mut programs, mut equal) = (0, 0);
    let mut both = String::new();
    for name in names.filter(|name| known.insert(*name)) {
        let on_c = c.ran(name).unwrap_or(&nothing);
        let on_rust = rust.ran(name).unwrap_or(&nothing);
        if on_c.outcomes.is_empty() && on_rust.outcomes.is_empty() {
            problems.push(format!("{name}: no results"));
            continue;
        }
        programs += 1;
        problems_of(on_c, "C", problems);
        problems_of(on_rust, "Rust", problems);
        let relation = relate(on_c, on_rust, problems, &mut both);
        if on_c.count(Kind::Pass) == 0 {
            problems.push(format!("{name}: nothing passed on C"));
        }
        let same = match relation {
            Relation::Same => "yes",
            Relation::Better => "better",
            Relation::Differs => "NO",
        };
        equal += usize::from(relation != Relation::Differs);
        let mut first = [name, &on_c.summary(), &on_rust.summary(), same];
        let number = |ran: &Ran, call| {
            ran.call(call)
                .map_or("-".to_owned(), |made| grouped(made.number))
        };
        let mut written = false;
        for call in CALLS {
            if on_c.call(call).is_none() && on_rust.call(call).is_none() {
                continue;
            }
            let [program, c, rust, same] = first;
            row(
                table,
                [
                    program,
                    c,
                    rust,
                    same,
                    call,
                    &number(on_c, call),
                    &number(on_rust, call),
                ],
            );
            first = [""; 4];
            written = true;
        }
        if !written {
            let [program, c, rust, same] = first;
            row(table, [program, c, rust, same, "", "", ""]);
        }
    }
    let _ = writeln!(
        table,
        "\n{both}{programs} programs, {equal} with the same results, or better"
    );
    if programs == 0 {
        problems.push("no program ran".to_owned());
    }
}

/// Rust may cost a tenth more than C, or the amount that is measured with any certainty.
fn ratio(
    name: &str,
    kind: &str,
    pair: Option<(f64, f64)>,
    floor: f64,
    problems: &mut Vec<String>,
) -> String {
    match pair {
        Some((c, rust)) if c > 0.0 => {
            if rust > 1.1 * c && rust - c > floor {
                problems.push(format!("{name}: {kind}: Rust : C = {:.3}", rust / c));
            }
            format!("{:.3}", rust / c)
        }
        _ => {
            problems.push(format!("{name}: no {kind}"));
            "-".to_owned()
        }
    }
}

fn costs(c: &Kernel, rust: &Kernel, comparison: &mut Comparison) {
    let nothing = Ran::default();
    let problems = &mut comparison.problems;
    let table = &mut comparison.tables;
    let mut header = false;
    let mut known = BTreeSet::new();
    let measured = c.0.iter().chain(&rust.0).filter(|ran| ran.cost.is_some());
    for name in measured
        .map(|ran| ran.name.as_str())
        .filter(|name| known.insert(*name))
    {
        if !header {
            header = true;
            let _ = writeln!(
                table,
                "\n{:<27}  {:>9}  {:>9}  {:>6}  {:>9}  {:>9}  {:>6}\n{}",
                "program",
                "C, ms",
                "Rust, ms",
                "ratio",
                "C, KiB",
                "Rust, KiB",
                "ratio",
                "-".repeat(87)
            );
        }
        let on_c = c.ran(name).unwrap_or(&nothing).cost;
        let on_rust = rust.ran(name).unwrap_or(&nothing).cost;
        let pair = on_c.zip(on_rust);
        let times = pair.map(|(c, rust)| (c.0, rust.0));
        let memory = pair.map(|(c, rust)| (c.1, rust.1));
        let (c_time, c_memory) = on_c.unwrap_or_default();
        let (rust_time, rust_memory) = on_rust.unwrap_or_default();
        let _ = writeln!(
            table,
            "{name:<27}  {:>9.1}  {:>9.1}  {:>6}  {:>9.0}  {:>9.0}  {:>6}",
            c_time / 1e3,
            rust_time / 1e3,
            ratio(name, "time", times, 1e4, problems),
            (c_memory / 1024.0).floor(),
            (rust_memory / 1024.0).floor(),
            ratio(name, "memory", memory, 1_048_576.0, problems),
        );
    }
}

fn values(c: &Kernel, rust: &Kernel, comparison: &mut Comparison) {
    let find = |kernel: &Kernel, name: &str, key: &str| {
        let ran = kernel.ran(name)?;
        ran.values
            .iter()
            .find(|(of, _)| of == key)
            .map(|(_, value)| *value)
    };
    let mut known = BTreeSet::new();
    let mut first = true;
    for ran in c.0.iter().chain(&rust.0) {
        for (key, _) in &ran.values {
            if !known.insert((ran.name.as_str(), key.as_str())) {
                continue;
            }
            if first {
                comparison.tables.push('\n');
                first = false;
            }
            let (on_c, on_rust) = (find(c, &ran.name, key), find(rust, &ran.name, key));
            let text = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
            let line = format!(
                "{}: {key}: C {}, Rust {}",
                ran.name,
                text(on_c),
                text(on_rust)
            );
            let _ = writeln!(comparison.tables, "{line}");
            // A few pages differ from boot to boot.
            if on_c.zip(on_rust).is_none_or(|(c, rust)| rust > c + 8.0) {
                comparison.problems.push(line);
            }
        }
    }
}

/// Compares the two kernels.
pub fn compare(c: &Kernel, rust: &Kernel) -> Comparison {
    let mut comparison = Comparison::default();
    results(c, rust, &mut comparison);
    costs(c, rust, &mut comparison);
    values(c, rust, &mut comparison);
    comparison
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(c: &str, rust: &str) -> Comparison {
        compare(&parse(c.lines()), &parse(rust.lines()))
    }

    const PV: &str = "\
# program pv, socat
# needs pv, socat\tsplice
1..1
ok 1 same data
# call pv, socat\tsplice\t1234567\t99
# exit pv, socat\t0
";

    #[test]
    fn the_same_results() {
        let same = compared(PV, PV);
        assert_eq!(same.problems, Vec::<String>::new());
        assert!(same.tables.contains("pv, socat                    1 pass"));
        assert!(same.tables.contains("1,234,567  1,234,567"));
        assert!(same
            .tables
            .ends_with("\n1 programs, 1 with the same results, or better\n"));
    }

    #[test]
    fn a_different_result_is_a_problem() {
        let worse = compared(PV, &PV.replace("ok 1", "not ok 1"));
        assert_eq!(worse.problems, ["pv, socat same data: C pass, Rust fail"]);
        assert!(worse.tables.contains("  NO  "));
    }

    #[test]
    fn a_program_must_make_its_calls() {
        let none = PV.replace("\t1234567\t99", "\t0\t0");
        let nothing = PV.replace("\t99", "\t0");
        assert_eq!(
            compared(&none, &none).problems,
            [
                "pv, socat: on C it did not call splice",
                "pv, socat: on Rust it did not call splice"
            ]
        );
        assert_eq!(
            compared(PV, &nothing).problems,
            [
                "pv, socat: on Rust it moved nothing by splice",
                "pv, socat: C nothing, Rust fail"
            ]
        );
        let refused = nothing.replace("\tsplice\n1..", "\tsplice-refused\n1..");
        assert_eq!(compared(&refused, &refused).problems, Vec::<String>::new());
    }

    #[test]
    fn a_program_that_does_not_end_is_a_problem() {
        let lost = PV.replace("# exit pv, socat\t0\n", "");
        assert_eq!(
            compared(PV, &lost).problems,
            ["pv, socat: C nothing, Rust fail"]
        );
    }

    #[test]
    fn known_failures_of_c_that_pass_are_better() {
        let c = "# program cow\n1..2\nok 1 a\nok 2 # XFAIL leaks\n# exit cow\t0\n";
        let rust = "# program cow\n1..2\nok 1 a\nok 2 vmsplice\n# exit cow\t0\n";
        let better = compared(c, rust);
        assert_eq!(better.problems, Vec::<String>::new());
        assert!(better.tables.contains("better"));
        assert_eq!(compared(rust, c).problems.len(), 2);
    }

    #[test]
    fn costs_have_a_bound() {
        let cost = |time: u32, memory: u32| format!("{PV}# cost pv, socat\t{time}\t{memory}\n");
        assert_eq!(
            compared(&cost(100_000, 0x1000_0000), &cost(109_000, 0x1000_0000))
                .problems
                .len(),
            0
        );
        assert_eq!(
            compared(&cost(100_000, 0x1000_0000), &cost(120_000, 0x1400_0000)).problems,
            [
                "pv, socat: time: Rust : C = 1.200",
                "pv, socat: memory: Rust : C = 1.250"
            ]
        );
        // Less than 10 ms and 1 MiB more.
        assert_eq!(
            compared(&cost(1_000, 1024), &cost(9_000, 4096))
                .problems
                .len(),
            0
        );
        assert_eq!(
            compared(&cost(1_000, 1024), PV).problems,
            ["pv, socat: no time", "pv, socat: no memory"]
        );
    }

    #[test]
    fn values_must_be_equal() {
        let value = |value: u32| format!("{PV}# value pv, socat\tshared pages\t{value}\n");
        assert_eq!(compared(&value(10), &value(18)).problems.len(), 0);
        assert_eq!(
            compared(&value(10), &value(19)).problems,
            ["pv, socat: shared pages: C 10, Rust 19"]
        );
    }

    #[test]
    fn nothing_is_a_problem() {
        assert_eq!(compared("", "").problems, ["no program ran"]);
    }
}
