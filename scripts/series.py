#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
#
# series.py LINUX-VERSION [check [--tap] | hooks | export]: the part of scripts/series that runs
# in the tool root. The standard input is the list of this repository's files that belong
# in the kernel.

import csv
import filecmp
import io
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
OUT = TOP / "build/series"
LINUX = TOP / "build/linux"
HOOKS = TOP / "Documentation/filesystems/splice-hooks.csv"
GROUPS = ("fix", "build", "pipe", "crate", "user")
# A list on which every patch of the kernel appears is no answer.
NO_ANSWER = ("linux-kernel@vger.kernel.org",)


class Problem(Exception):
    """Something to tell the user, one line each."""


class Patch:
    """A patch of patches/, with its line in patches/series."""

    def __init__(self, path):
        self.path = path
        self.name = re.sub(r"^[0-9]+-", "", path.name.removesuffix(".patch"))
        self.group = self.why = ""
        text = path.read_text()
        head, _, self.diff = text.partition("\n---\n")
        subject, _, body = head.partition("\n")
        self.subject = re.sub(r"^Subject: (\[PATCH\] )?", "", subject)
        self.body = body.strip("\n")
        self.files = re.findall(r"^\+\+\+ b/([^\t\n]*)", self.diff, re.M)


class Commit:
    """A commit, or the cover letter."""

    def __init__(self, subject):
        self.subject = subject
        self.lines = []
        self.patches = []
        self.files = []

    def body(self):
        return "\n".join(self.lines).strip("\n")


class Series:
    """patches/series, with the files of this repository that it has."""

    def __init__(self, patches, overlay):
        self.patches = {patch.name: patch for patch in patches}
        self.overlay = overlay
        self.cover = None
        self.commits = []
        self.problems = []
        self.paths = {}
        self.read(TOP / "patches/series")
        self.assign_files()
        for patch in self.patches.values():
            if not patch.group:
                self.problem(f"patches/{patch.path.name} is in no commit of patches/series")
        for commit in self.commits:
            self.complete(commit)
        if self.problems:
            raise Problem("\n".join(self.problems))

    def problem(self, text):
        self.problems.append(text)

    def read(self, path):
        current = None
        for number, line in enumerate(path.read_text().split("\n"), 1):
            word, _, rest = line.partition(" ")
            if line.startswith("#"):
                continue
            if not line or line.startswith("  "):
                if current:
                    current.lines.append(line[2:])
            elif word == "cover":
                self.cover = current = Commit(rest)
            elif word == "commit":
                current = Commit(rest)
                self.commits.append(current)
            elif word == "patch" and self.commits:
                self.read_patch(number, rest, current)
            elif word == "files" and self.commits:
                for pattern in rest.split():
                    if pattern in self.paths:
                        self.problem(f"patches/series:{number}: {pattern} is there twice")
                    self.paths[pattern] = current
            else:
                self.problem(f"patches/series:{number}: cannot read '{line}'")
        if not self.cover:
            self.problem("patches/series: no cover letter")

    def read_patch(self, number, rest, commit):
        fields = rest.split(": ", 2)
        patch = self.patches.get(fields[0])
        if len(fields) != 3 or fields[1] not in GROUPS:
            self.problem(
                f"patches/series:{number}: not 'patch NAME: GROUP: WHY' with a GROUP of {', '.join(GROUPS)}"
            )
        elif not patch:
            self.problem(f"patches/series:{number}: there is no patches/NNNN-{fields[0]}.patch")
        elif patch.group:
            self.problem(f"patches/series:{number}: patch {patch.name} is there twice")
        else:
            patch.group, patch.why = fields[1:]
            commit.patches.append(patch)

    def assign_files(self):
        used = set()
        for file in self.overlay:
            fits = [p for p in self.paths if p == file or p.endswith("/") and file.startswith(p)]
            if not fits:
                self.problem(f"{file} is in no commit of patches/series")
                continue
            best = max(fits, key=len)
            used.add(best)
            self.paths[best].files.append(file)
        for path in self.paths:
            if path not in used:
                self.problem(f"patches/series: no file is in {path}")

    def complete(self, commit):
        """Takes the subject and the description from the only patch, if there are none."""
        if not commit.subject and len(commit.patches) == 1 and not commit.files:
            commit.subject = commit.patches[0].subject
            commit.lines = commit.patches[0].body.split("\n")
        if not commit.subject or not commit.body():
            names = [patch.name for patch in commit.patches] + commit.files[:1]
            self.problem(f"patches/series: a commit without a description: {commit.subject or names}")
        if not commit.patches and not commit.files:
            self.problem(f"patches/series: an empty commit: {commit.subject}")

    def hooks(self):
        """The table of the documentation."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["patch", "group", "files", "reason"])
        for commit in self.commits:
            for patch in commit.patches:
                number = patch.path.name.split("-")[0]
                table.writerow([number, patch.group, ", ".join(patch.files), patch.why])
        return text.getvalue()


def run(*command, cwd=None, data=None):
    """Runs a command, and returns its output; a failure is a problem."""
    done = subprocess.run(
        command, cwd=cwd, input=data, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise Problem(f"{' '.join(map(str, command))[:200]}: exit {done.returncode}\n{done.stdout}".rstrip())
    return done.stdout


def git(tree, *args, data=None):
    return run("git", "-c", "safe.directory=*", "-c", "gc.auto=0", *args, cwd=tree, data=data)


def new_tree(name, version):
    """A git repository with the files of the stock kernel that the patches change."""
    tree = OUT / name
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(OUT / "plain", tree)
    git(tree, "init", "-q", "-b", "splice")
    git(tree, "add", "-f", "-A")
    git(tree, "commit", "-q", "-m", f"Linux {version}")
    return tree


def commit_all(series, tree):
    for commit in series.commits:
        for patch in sorted(commit.patches, key=lambda patch: patch.path.name):
            try:
                run("patch", "-p1", "--force", "--no-backup-if-mismatch", cwd=tree, data=patch.path.read_text())
            except Problem as problem:
                raise Problem(
                    f"patches/{patch.path.name} does not apply in the commit '{commit.subject}':\n{problem}"
                ) from None
        for file in commit.files:
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / file, tree / file)
        git(tree, "add", "-f", "-A")
        text = f"{commit.subject}\n\n{commit.body()}\n"
        git(tree, "commit", "-q", "-s", "--cleanup=verbatim", "-F", "-", data=text)


def export(series, version):
    """Writes the patches, and returns their paths."""
    tree = new_tree("git", version)
    commit_all(series, tree)
    shutil.rmtree(OUT / "patches", ignore_errors=True)
    root = git(tree, "rev-list", "--max-parents=0", "HEAD").strip()
    git(tree, "format-patch", "-q", "--cover-letter", "-o", str(OUT / "patches"), root)
    cover = OUT / "patches/0000-cover-letter.patch"
    text = cover.read_text()
    text = text.replace("*** SUBJECT HERE ***", series.cover.subject)
    text = text.replace("*** BLURB HERE ***", series.cover.body() + f"\n\nThe series applies to Linux {version}.")
    cover.write_text(text)
    return sorted(path for path in (OUT / "patches").iterdir() if path != cover)


def check_am(series, version, paths):
    """Applies the patches with git am, and compares the result with build/linux."""
    tree = new_tree("am", version)
    git(tree, "am", "-q", *map(str, paths))
    files = set(git(tree, "ls-files", "-z").split("\0")) - {""}
    expected = set(series.overlay).union(*(patch.files for patch in series.patches.values()))
    wrong = [f"only in one of the trees: {file}" for file in sorted(files ^ expected)]
    for file in sorted(files & expected):
        theirs = LINUX / file
        if not theirs.exists() or not filecmp.cmp(tree / file, theirs, shallow=False):
            wrong.append(f"differs from build/linux: {file}")
        elif os.access(tree / file, os.X_OK) != os.access(theirs, os.X_OK):
            wrong.append(f"one of the trees can execute it: {file}")
    if wrong:
        raise Problem("\n".join(wrong))


def check_style(path):
    # The entry in MAINTAINERS is in the last commit.
    run("perl", "scripts/checkpatch.pl", "--strict", "--terse", "--show-types",
        "--ignore", "FILE_PATH_CHANGES", path, cwd=LINUX)


def maintainers(path):
    """The addresses that get_maintainer.pl gives for a patch."""
    text = run("perl", "scripts/get_maintainer.pl", "--no-git", "--no-git-fallback", "--no-rolestats",
               path, cwd=LINUX)
    answer = text.split("\n")[:-1]
    if not any(address not in NO_ANSWER for address in answer):
        raise Problem(f"get_maintainer.pl knows nobody for {path.name}")
    return answer


def check_entry(series):
    """Whether MAINTAINERS has each file of ours."""
    text = (LINUX / "MAINTAINERS").read_text()
    entry = re.search(r"^SPLICE IN RUST\n(.+\n)+", text, re.M)
    if not entry:
        raise Problem("MAINTAINERS has no entry SPLICE IN RUST")
    patterns = re.findall(r"^F:\t(.*)$", entry.group(0), re.M)

    def has(file):
        for pattern in patterns:
            if pattern.endswith("/"):
                if file.startswith(pattern):
                    return True
            elif file.count("/") == pattern.count("/") and fnmatchcase(file, pattern):
                return True
        return False

    missing = [f"no line of SPLICE IN RUST in MAINTAINERS has {file}" for file in series.overlay if not has(file)]
    if missing:
        raise Problem("\n".join(missing))


def check_hooks(series):
    if not HOOKS.exists() or HOOKS.read_text() != series.hooks():
        raise Problem(f"{HOOKS.relative_to(TOP)} does not have the hooks of patches/series: run 'scripts/series hooks'")


class Report:
    """Results of checks, as TAP or as errors."""

    def __init__(self, tap):
        self.tap = tap
        self.number = 0
        self.failed = False

    def check(self, name, function, *args):
        """Runs a check, and returns its result, or None if it failed."""
        self.number += 1
        try:
            result = function(*args)
        except Problem as problem:
            self.failed = True
            if self.tap:
                print(f"not ok {self.number} - {name}", flush=True)
            for line in str(problem).split("\n"):
                print(f"# {line}" if self.tap else f"error: {line}", flush=True)
            return None
        if self.tap:
            print(f"ok {self.number} - {name}", flush=True)
        return result

    def end(self):
        if self.tap:
            print(f"1..{self.number}")
        sys.exit(self.failed)


def main():
    version, *arguments = sys.argv[1:]
    report = Report("--tap" in arguments)
    overlay = sys.stdin.read().split("\n")[:-1]
    patches = [Patch(path) for path in sorted(TOP.glob("patches/[0-9]*.patch"))]
    series = report.check("each file and patch is in one commit", Series, patches, overlay)
    if series is None:
        report.end()
    if arguments[:1] == ["hooks"]:
        HOOKS.write_text(series.hooks())
        report.end()
    report.check("the table of hooks is that of patches/series", check_hooks, series)
    if arguments == ["check"]:
        report.end()

    paths = report.check("the commits can be made and exported", export, series, version)
    if paths is None or arguments == ["export"]:
        report.end()
    report.check("git am on the stock kernel gives the tree that is built", check_am, series, version, paths)
    report.check("MAINTAINERS has each new file", check_entry, series)
    table = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        styles = [threads.submit(check_style, path) for path in paths]
        answers = [threads.submit(maintainers, path) for path in paths]
        for path, commit, style, answer in zip(paths, series.commits, styles, answers):
            name = f"{path.name[:4]} {commit.subject}"
            report.check(f"checkpatch: {name}", style.result)
            table.append((path, commit, report.check(f"maintainers: {name}", answer.result) or []))
    (OUT / "maintainers").write_text(
        "".join(f"{path.name}\n" + "".join(f"\t{address}\n" for address in answer) for path, _, answer in table)
    )
    if not report.tap:
        for path, commit, answer in table:
            stat = git(OUT / "git", "diff", "--shortstat", f"HEAD~{len(paths) - int(path.name[:4]) + 1}",
                       f"HEAD~{len(paths) - int(path.name[:4])}")
            added = re.search(r"(\d+) insertion", stat)
            print(f"{path.name[:4]} {commit.subject:64} {int(added.group(1)) if added else 0:6,} lines, "
                  f"{len(answer)} addresses")
        if not report.failed:
            print(f"build/series/patches: {len(paths)} patches and a cover letter; build/series/maintainers: "
                  "the answers of get_maintainer.pl")
    report.end()


main()
