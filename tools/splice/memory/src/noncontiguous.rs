// SPDX-License-Identifier: GPL-2.0

//! Memory whose pages are not adjacent.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{bail, Context, Result};
use rustix::mm::{Advice, MapFlags};

use crate::mapping::Mapping;
use crate::size::PAGE;

/// Additional spare pages, beyond one for each page.
const MORE: usize = 64;

/// Returns private memory of small pages, of which no two successive ones are adjacent in physical
/// memory.
pub fn noncontiguous(pages: usize) -> Result<Mapping> {
    let all = 2 * pages + MORE;
    let mut mapping = Mapping::anonymous(all * PAGE, MapFlags::PRIVATE)?;
    // A kernel without huge pages returns an error, which is no problem.
    let _ = mapping.advise(0, all * PAGE, Advice::LinuxNoHugepage);
    // The kernel often allocates adjacent pages one after the other.
    for page in (0..pages).step_by(2).chain((1..pages).step_by(2)) {
        // SAFETY: The memory was mapped readable and writable.
        unsafe { mapping.touch(page) };
    }
    for spare in pages..all {
        let Some(at) = neighbours(&frames(&mapping, pages)?) else {
            mapping.trim(0, pages * PAGE)?;
            return Ok(mapping);
        };
        // Replace the second page. The spare page takes the old frame, so that it is not reused.
        let second = (at + 1) * PAGE;
        mapping.advise(second, second + PAGE, Advice::LinuxDontNeed)?;
        for page in [spare, at + 1] {
            // SAFETY: The memory was mapped readable and writable.
            unsafe { mapping.touch(page) };
        }
    }
    bail!("the kernel does not give {pages} pages that are no neighbours");
}

/// Returns the index of the first page that is adjacent to the next one.
fn neighbours(frames: &[u64]) -> Option<usize> {
    frames
        .windows(2)
        .position(|pair| pair[0].abs_diff(pair[1]) <= 1)
}

/// Returns the physical frame numbers of the first `pages` of `mapping`.
fn frames(mapping: &Mapping, pages: usize) -> Result<Vec<u64>> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;

    let mut bytes = vec![0; pages * 8];
    let first = mapping.as_ptr() as usize / PAGE * 8;
    File::open("/proc/self/pagemap")
        .and_then(|file| file.read_exact_at(&mut bytes, first as u64))
        .context("/proc/self/pagemap")?;
    bytes
        .chunks_exact(8)
        .map(|entry| {
            let entry = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
            match entry & FRAME {
                _ if entry & PRESENT == 0 => bail!("a page is not there"),
                0 => bail!("/proc/self/pagemap tells only root where a page is"),
                frame => Ok(frame),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_found_in_either_order() {
        assert_eq!(neighbours(&[5, 7, 9, 1]), None);
        assert_eq!(neighbours(&[5, 7, 8, 1]), Some(1));
        assert_eq!(neighbours(&[5, 7, 1, 0]), Some(2));
        assert_eq!(neighbours(&[5]), None);
    }

    #[test]
    fn pages_are_separate_where_that_can_be_seen() {
        for pages in [1, 2, 16, 256] {
            match noncontiguous(pages) {
                Ok(mapping) => {
                    assert_eq!(mapping.len(), pages * PAGE);
                    assert_eq!(neighbours(&frames(&mapping, pages).unwrap()), None);
                }
                Err(error) => assert!(format!("{error:#}").contains("root"), "{error:#}"),
            }
        }
    }
}
