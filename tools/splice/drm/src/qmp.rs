// SPDX-License-Identifier: GPL-2.0

//! The machine protocol of QEMU: one object of JSON in each line.

use std::path::Path;

use anyhow::{anyhow, Context, Result};
use serde_json::{json, Value};

use crate::lines::{after, Lines};

/// The longest time for a command, in seconds.
const LIMIT: u64 = 60;

/// A monitor of QEMU.
pub struct Monitor(Lines);

impl Monitor {
    /// Connects to the socket of a QEMU.
    pub fn connect(path: &Path) -> Result<Self> {
        Self::greet(Lines::connect(path, "QEMU")?)
    }

    /// Waits for QEMU's greeting, and ends the negotiation.
    pub fn greet(lines: Lines) -> Result<Self> {
        let mut monitor = Self(lines);
        monitor.reply(|value| value.get("QMP").cloned())?;
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Writes what the first display shows to a PNG file.
    pub fn screendump(&mut self, file: &Path) -> Result<()> {
        let name = file.to_str().context("the name of the file")?;
        self.execute("screendump", json!({ "filename": name, "format": "png" }))
            .map(|_| ())
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments });
        self.0.write(&line.to_string())?;
        self.reply(|value| value.get("return").cloned())
            .with_context(|| command.to_owned())
    }

    /// Waits for the first object in which `wanted` finds something. There are events between
    /// the replies.
    fn reply(&mut self, wanted: impl Fn(&Value) -> Option<Value>) -> Result<Value> {
        let deadline = after(LIMIT);
        loop {
            let value: Value = serde_json::from_str(&self.0.read(deadline)?)?;
            if let Some(found) = wanted(&value) {
                return Ok(found);
            }
            if let Some(error) = value.get("error") {
                let text = error.get("desc").and_then(Value::as_str);
                return Err(anyhow!("{}", text.unwrap_or("unknown error")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{BufRead, BufReader, Write};
    use std::thread;

    use crate::lines::pair;

    /// Runs `test` with a monitor that answers the commands after the first by `replies`.
    /// Returns what it was told.
    fn with(replies: &'static [&'static str], test: impl FnOnce(&mut Monitor)) -> Vec<Value> {
        let (lines, mut peer) = pair();
        let qemu = thread::spawn(move || {
            peer.write_all(b"{\"QMP\": {\"version\": {}}}\r\n").unwrap();
            let mut seen = Vec::new();
            let commands = BufReader::new(peer.try_clone().unwrap()).lines();
            let replies = std::iter::once(&"{\"return\": {}}").chain(replies);
            for (command, reply) in commands.zip(replies) {
                seen.push(serde_json::from_str(&command.unwrap()).unwrap());
                writeln!(peer, "{reply}").unwrap();
            }
            seen
        });
        let mut monitor = Monitor::greet(lines).unwrap();
        test(&mut monitor);
        drop(monitor);
        qemu.join().unwrap()
    }

    #[test]
    fn the_file_is_named() {
        let seen = with(
            &["{\"event\": \"RESUME\"}\r\n{\"return\": {}}"],
            |monitor| monitor.screendump(Path::new("/a \"b\".png")).unwrap(),
        );
        assert_eq!(seen[0]["execute"], "qmp_capabilities");
        assert_eq!(seen[1]["execute"], "screendump");
        assert_eq!(seen[1]["arguments"]["filename"], "/a \"b\".png");
        assert_eq!(seen[1]["arguments"]["format"], "png");
    }

    #[test]
    fn an_error_of_qemu_is_an_error() {
        with(
            &["{\"error\": {\"class\": \"GenericError\", \"desc\": \"no surface\"}}"],
            |monitor| {
                let error = monitor.screendump(Path::new("/x")).unwrap_err();
                assert_eq!(format!("{error:#}"), "screendump: no surface");
            },
        );
    }
}
