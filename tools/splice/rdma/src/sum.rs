// SPDX-License-Identifier: GPL-2.0

//! The check sum of a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use anyhow::{bail, Context, Result};
use sha2::{Digest, Sha256};

/// Returns the SHA-256 of the bytes from `start` to `end`, in hexadecimal digits.
pub fn sha256(file: &File, start: u64, end: u64) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut at = start;
    while at < end {
        let want = (end - at).min(buffer.len() as u64) as usize;
        match file.read_at(&mut buffer[..want], at) {
            Ok(0) => bail!("the file ended at {at} while its check sum was computed"),
            Ok(n) => {
                hash.update(&buffer[..n]);
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("read"),
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_range() {
        let path = std::env::temp_dir().join(format!("splice-rdma-sum-{}", std::process::id()));
        std::fs::write(&path, b"..abc").unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            sha256(&file, 2, 5).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(sha256(&file, 2, 6).is_err());
    }
}
