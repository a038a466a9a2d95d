// SPDX-License-Identifier: GPL-2.0

//! Shortens a sequence that fails. A test boots two guests, so each test tries many candidates.

use std::collections::BTreeSet;

use anyhow::Result;

/// The number of candidates in one test.
const BATCH: usize = 96;

/// Runs all of the sequences; returns for each whether it still fails.
pub type Test<'a> = dyn FnMut(&[Vec<usize>]) -> Result<Vec<bool>> + 'a;

/// Returns a part of `sequence` that still fails, without the operations that are not needed.
/// Returns the best result so far after `rounds` tests. Tries `hints` first.
pub fn shrink(
    mut sequence: Vec<usize>,
    hints: Vec<Vec<usize>>,
    rounds: usize,
    test: &mut Test<'_>,
) -> Result<Vec<usize>> {
    let mut extra = hints;
    let mut parts = 2;
    for _ in 0..rounds {
        if sequence.len() <= 1 {
            break;
        }
        // The range that a candidate leaves out.
        let mut cuts: Vec<Option<(usize, usize)>> = vec![None; extra.len()];
        let mut candidates = std::mem::take(&mut extra);
        let mut fine = parts;
        // From coarse to fine, up to the maximum number of candidates.
        while candidates.len() + fine.min(sequence.len()) <= BATCH.max(sequence.len().min(BATCH)) {
            let n = fine.min(sequence.len());
            for part in 0..n {
                let (from, to) = (sequence.len() * part / n, sequence.len() * (part + 1) / n);
                candidates.push([&sequence[..from], &sequence[to..]].concat());
                cuts.push(Some((from, to)));
            }
            if n == sequence.len() {
                break;
            }
            fine *= 2;
        }
        let finest = fine >= sequence.len();
        let failed = test(&candidates)?;

        let best = candidates
            .iter()
            .zip(&failed)
            .filter(|(candidate, failed)| **failed && !candidate.is_empty())
            .map(|(candidate, _)| candidate)
            .min_by_key(|candidate| candidate.len());
        if let Some(best) = best {
            // Ranges that can be left out one at a time may also be left out together: try all of
            // them, and the first few of them.
            let mut out = BTreeSet::new();
            let mut together = Vec::new();
            for (cut, _) in cuts.iter().zip(&failed).filter(|(_, failed)| **failed) {
                let Some((from, to)) = *cut else { continue };
                out.extend(from..to);
                together.push(
                    (0..sequence.len())
                        .filter(|i| !out.contains(i))
                        .map(|i| sequence[i])
                        .collect::<Vec<_>>(),
                );
            }
            together.retain(|candidate| !candidate.is_empty() && candidate.len() < best.len());
            together.dedup();
            together.reverse();
            together.truncate(BATCH / 2);
            extra = together;
            sequence.clone_from(best);
            parts = 2;
        } else if finest {
            break;
        } else {
            parts = fine.max(parts * 2);
        }
    }
    Ok(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shrinks a sequence that fails if it contains all of `needed`; also returns the number of
    /// tests.
    fn shrunk(len: usize, needed: &[usize], rounds: usize) -> (Vec<usize>, usize) {
        let mut tests = 0;
        let result = shrink((0..len).collect(), Vec::new(), rounds, &mut |candidates| {
            tests += 1;
            assert!(candidates.len() <= BATCH * 2, "{}", candidates.len());
            Ok(candidates
                .iter()
                .map(|candidate| needed.iter().all(|i| candidate.contains(i)))
                .collect())
        });
        (result.unwrap(), tests)
    }

    #[test]
    fn only_what_is_needed_is_left() {
        for needed in [
            &[499][..],
            &[0],
            &[3, 77, 140],
            &[0, 1, 2, 250, 497, 498, 499],
            &[10, 60, 110, 160, 210, 260, 310, 360, 410, 460],
        ] {
            let (left, tests) = shrunk(500, needed, 100);
            assert_eq!(left, needed);
            assert!(tests <= 16, "{tests} tests for {needed:?}");
        }
    }

    #[test]
    fn what_needs_everything_stays() {
        let all: Vec<usize> = (0..40).collect();
        assert_eq!(shrunk(40, &all, 100).0, all);
    }

    #[test]
    fn the_number_of_tests_is_limited() {
        let (left, tests) = shrunk(500, &[3, 250, 499], 2);
        assert_eq!(tests, 2);
        assert!(left.len() < 500);
        assert!([3, 250, 499].iter().all(|i| left.contains(i)));
    }

    #[test]
    fn a_hint_is_taken() {
        let mut tests = 0;
        let left = shrink(
            (0..500).collect(),
            vec![vec![5, 499], vec![499]],
            1,
            &mut |candidates| {
                tests += 1;
                Ok(candidates
                    .iter()
                    .map(|c| c.contains(&5) && c.contains(&499))
                    .collect())
            },
        );
        assert_eq!((left.unwrap(), tests), (vec![5, 499], 1));
    }

    #[test]
    fn a_test_that_cannot_be_made_is_an_error() {
        let broken = &mut |_: &[Vec<usize>]| Err(anyhow::anyhow!("no guest"));
        assert!(shrink(vec![1, 2], Vec::new(), 5, broken).is_err());
    }
}
