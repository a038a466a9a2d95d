// SPDX-License-Identifier: GPL-2.0

//! The folders in which operations create files.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One folder on each file system under test.
pub struct Folders {
    pub tmpfs: PathBuf,
    pub ext4: PathBuf,
}

/// Creates a file with `content` in `folder`, opens it at position 0 and unlinks it, so that the
/// file exists until the last descriptor and the last mapping of it are closed.
pub fn unlinked_file(folder: &Path, content: &[u8], writable: bool) -> Result<File> {
    let path = folder.join("unlinked");
    std::fs::write(&path, content).context("file")?;
    let file = File::options()
        .read(true)
        .write(writable)
        .open(&path)
        .context("file")?;
    std::fs::remove_file(path).context("file")?;
    Ok(file)
}
