// SPDX-License-Identifier: GPL-2.0

//! The ring arithmetic against a model: an array used as a ring through [`Indices`] must behave
//! like a [`VecDeque`].
//!
//! The properties are written for the trait [`Ring`], so that they can also be tested on
//! deliberately broken rings: a property that no mutant violates proves nothing.

use std::collections::VecDeque;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestError, TestRng, TestRunner};
use splice_ring::ring::{self, Indices};

/// The functions under test, like those of [`Indices`] and [`ring::slot`].
trait Ring: Copy {
    fn new(head: u32, tail: u32) -> Self;
    fn head(self) -> u32;
    fn tail(self) -> u32;
    fn occupancy(self) -> u32 {
        self.head().wrapping_sub(self.tail())
    }
    fn is_empty(self) -> bool {
        self.head() == self.tail()
    }
    fn is_full(self, limit: u32) -> bool {
        self.occupancy() >= limit
    }
    fn space(self, limit: u32) -> u32 {
        limit.saturating_sub(self.occupancy())
    }
    fn advance_head(self, n: u32) -> Self {
        Self::new(self.head().wrapping_add(n), self.tail())
    }
    fn advance_tail(self, n: u32) -> Self {
        Self::new(self.head(), self.tail().wrapping_add(n))
    }
    fn occupied(self) -> Vec<u32> {
        (0..self.occupancy())
            .map(|i| self.tail().wrapping_add(i))
            .collect()
    }
    fn slot(index: u32, ring_size: u32) -> usize {
        (index & (ring_size - 1)) as usize
    }
}

/// The kernel's functions. This uses no default of the trait.
impl Ring for Indices {
    fn new(head: u32, tail: u32) -> Self {
        Indices::new(head, tail)
    }
    fn head(self) -> u32 {
        Indices::head(self)
    }
    fn tail(self) -> u32 {
        Indices::tail(self)
    }
    fn occupancy(self) -> u32 {
        Indices::occupancy(self)
    }
    fn is_empty(self) -> bool {
        Indices::is_empty(self)
    }
    fn is_full(self, limit: u32) -> bool {
        Indices::is_full(self, limit)
    }
    fn space(self, limit: u32) -> u32 {
        Indices::space(self, limit)
    }
    fn advance_head(self, n: u32) -> Self {
        Indices::advance_head(self, n)
    }
    fn advance_tail(self, n: u32) -> Self {
        Indices::advance_tail(self, n)
    }
    fn slot(index: u32, ring_size: u32) -> usize {
        ring::slot(index, ring_size)
    }
}

const LARGEST: u32 = 1 << 15;

#[derive(Clone, Debug)]
enum Op {
    /// Add up to so many buffers, if there is room.
    Put(u32),
    /// Add one buffer of up to so many pages, or of as many as there is room for.
    PutLarge(u32),
    /// Remove up to so many buffers, if there are any.
    Take(u32),
    /// Change the ring size, as `F_SETPIPE_SZ` does, to 2 to the power of this, but at least to the
    /// number of slots in use.
    Resize(u32),
    /// Change the limit, as a part of the ring size in 1/256.
    Limit(u32),
}

#[derive(Clone, Debug)]
struct Case {
    ring_size: u32,
    limit: u32,
    start: u32,
    ops: Vec<Op>,
}

fn op(ring_size: u32) -> impl Strategy<Value = Op> {
    // Usually a few at a time, and sometimes as many as the ring has.
    let count = prop_oneof![3 => 0..=4u32, 1 => 0..=ring_size];
    prop_oneof![
        4 => count.clone().prop_map(Op::Put),
        2 => count.clone().prop_map(Op::PutLarge),
        4 => count.prop_map(Op::Take),
        1 => (0..=15u32).prop_map(Op::Resize),
        1 => (1..=256u32).prop_map(Op::Limit),
    ]
}

/// Counters that are about to wrap, or arbitrary ones.
fn start(ring_size: u32) -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => (0..=ring_size.saturating_mul(2)).prop_map(|below| u32::MAX - below),
        1 => any::<u32>(),
        1 => Just(0),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (0..=15u32).prop_flat_map(|order| {
        let ring_size = 1 << order;
        (
            1..=ring_size,
            start(ring_size),
            prop::collection::vec(op(ring_size), 1..60),
        )
            .prop_map(move |(limit, start, ops)| Case {
                ring_size,
                limit,
                start,
                ops,
            })
    })
}

/// A buffer of consecutive pages.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Buffer {
    first: u64,
    pages: u32,
}

/// The array that the indices refer to, and the model.
struct Pipe<R> {
    indices: R,
    slots: Vec<Option<Buffer>>,
    limit: u32,
    // The pages.
    model: VecDeque<u64>,
    next: u64,
}

impl<R: Ring> Pipe<R> {
    fn new(case: &Case) -> Self {
        Self {
            indices: R::new(case.start, case.start),
            slots: vec![None; case.ring_size as usize],
            limit: case.limit,
            model: VecDeque::new(),
            next: 0,
        }
    }

    fn size(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Returns the slot of a counter value, which must be in the array.
    fn slot(&self, index: u32) -> Result<usize, TestCaseError> {
        let slot = R::slot(index, self.size());
        prop_assert!(slot < self.slots.len(), "slot {} of {}", slot, self.size());
        Ok(slot)
    }

    fn apply(&mut self, op: &Op) -> TestCaseResult {
        match *op {
            Op::Put(n) => self.put(n, 1),
            Op::PutLarge(pages) => self.put(1, pages),
            Op::Take(n) => self.take(n),
            Op::Resize(order) => self.resize(1 << order),
            Op::Limit(part) => {
                self.limit = (self.size() * part / 256).max(1);
                Ok(())
            }
        }
    }

    /// Adds `n` buffers of `pages` pages. Each buffer is in the first of its slots, and the others
    /// are empty.
    fn put(&mut self, n: u32, pages: u32) -> TestCaseResult {
        for _ in 0..n {
            let pages = pages.min(self.indices.space(self.limit));
            if pages == 0 {
                break;
            }
            let first = self.indices.head();
            for i in 0..pages {
                let slot = self.slot(first.wrapping_add(i))?;
                prop_assert_eq!(self.slots[slot], None, "slot {} is in use", slot);
            }
            let slot = self.slot(first)?;
            self.slots[slot] = Some(Buffer {
                first: self.next,
                pages,
            });
            self.model.extend(self.next..self.next + u64::from(pages));
            self.next += u64::from(pages);
            let tail = self.indices.tail();
            self.indices = self.indices.advance_head(pages);
            prop_assert_eq!(self.indices.head(), first.wrapping_add(pages));
            prop_assert_eq!(self.indices.tail(), tail);
        }
        Ok(())
    }

    /// Removes `n` pages. A buffer that has more pages moves on by as many slots as pages are
    /// removed.
    fn take(&mut self, n: u32) -> TestCaseResult {
        let mut left = n.min(self.indices.occupancy());
        while left > 0 {
            let (head, tail) = (self.indices.head(), self.indices.tail());
            let slot = self.slot(tail)?;
            let Some(mut buf) = self.slots[slot].take() else {
                return Err(TestCaseError::fail("no buffer at the tail"));
            };
            let taken = left.min(buf.pages);
            for page in 0..taken {
                prop_assert_eq!(Some(buf.first + u64::from(page)), self.model.pop_front());
            }
            self.indices = self.indices.advance_tail(taken);
            prop_assert_eq!(self.indices.tail(), tail.wrapping_add(taken));
            prop_assert_eq!(self.indices.head(), head);
            buf.pages -= taken;
            if buf.pages > 0 {
                buf.first += u64::from(taken);
                let slot = self.slot(self.indices.tail())?;
                prop_assert_eq!(self.slots[slot], None, "slot {} is in use", slot);
                self.slots[slot] = Some(buf);
            }
            left -= taken;
        }
        Ok(())
    }

    /// Like `pipe_resize_ring` in C: the buffers move to the start of a new array.
    fn resize(&mut self, size: u32) -> TestCaseResult {
        if size < self.indices.occupancy() {
            return Ok(());
        }
        let mut slots = vec![None; size as usize];
        for (to, index) in self.indices.occupied().into_iter().enumerate() {
            let from = self.slot(index)?;
            prop_assert!(to < slots.len(), "more buffers than slots");
            slots[to] = self.slots[from].take();
        }
        self.indices = R::new(self.indices.occupancy(), 0);
        self.slots = slots;
        self.limit = self.limit.min(size);
        Ok(())
    }

    fn check(&self) -> TestCaseResult {
        let held = self.model.len() as u32;
        prop_assert_eq!(self.indices.occupancy(), held);
        prop_assert_eq!(self.indices.is_empty(), self.model.is_empty());
        for limit in [1, self.limit, self.size(), held, held + 1] {
            prop_assert_eq!(self.indices.is_full(limit), held >= limit);
            prop_assert_eq!(self.indices.space(limit), limit.saturating_sub(held));
        }
        let mut found = Vec::with_capacity(self.model.len());
        for index in self.indices.occupied() {
            match self.slots[self.slot(index)?] {
                Some(buf) => {
                    prop_assert_eq!(found.len() as u32, index.wrapping_sub(self.indices.tail()));
                    found.extend((buf.first..).take(buf.pages as usize).map(Some));
                }
                None => prop_assert!(found.len() as u32 > index.wrapping_sub(self.indices.tail())),
            }
        }
        prop_assert!(
            found
                .iter()
                .copied()
                .eq(self.model.iter().copied().map(Some)),
            "{:?} instead of {:?}",
            found,
            self.model
        );
        Ok(())
    }
}

/// The property: ring and model agree after every operation.
fn behaves_as_a_queue<R: Ring>(case: &Case) -> TestCaseResult {
    let mut pipe = Pipe::<R>::new(case);
    pipe.check()?;
    for op in &case.ops {
        pipe.apply(op)?;
        pipe.check()?;
    }
    Ok(())
}

/// Tests the property on `cases` cases, always the same ones.
fn try_on<R: Ring>(cases: u32) -> Result<(), TestError<Case>> {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng).run(&case(), |case| behaves_as_a_queue::<R>(&case))
}

proptest! {
    #![proptest_config(Config { cases: 10_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn kernel_ring_behaves_as_a_queue(case in case()) {
        behaves_as_a_queue::<Indices>(&case)?;
    }

    /// Adjacent counter values have adjacent slots, and as many consecutive values as the ring has
    /// slots have different slots.
    #[test]
    fn slots_go_round(index in start(LARGEST), order in 0..=15u32) {
        let size = 1 << order;
        let slot = ring::slot(index, size);
        prop_assert!(slot < size as usize);
        prop_assert_eq!(ring::slot(index.wrapping_add(1), size), (slot + 1) % size as usize);
        prop_assert_eq!(ring::slot(index.wrapping_add(size), size), slot);
    }

    #[test]
    fn counters_are_kept_as_given(head: u32, tail: u32) {
        let indices = Indices::new(head, tail);
        prop_assert_eq!((indices.head(), indices.tail()), (head, tail));
    }
}

/// Every ring size, filled and emptied across the wrap of the counters.
#[test]
fn every_size_wraps() {
    for order in 0..=15 {
        let ring_size = 1 << order;
        for start in [u32::MAX - ring_size, u32::MAX - 1, u32::MAX, 0] {
            let case = Case {
                ring_size,
                limit: ring_size,
                start,
                ops: vec![
                    Op::Put(ring_size),
                    Op::Take(ring_size / 2 + 1),
                    Op::Put(ring_size),
                    Op::Resize(15),
                    Op::Take(ring_size),
                ],
            };
            behaves_as_a_queue::<Indices>(&case).unwrap();
        }
    }
}

/// A few cases are enough to show that a correct ring passes. So the mutants below do not fail
/// because of the defaults of the trait.
#[derive(Clone, Copy)]
struct Right(u32, u32);

impl Ring for Right {
    fn new(head: u32, tail: u32) -> Self {
        Self(head, tail)
    }
    fn head(self) -> u32 {
        self.0
    }
    fn tail(self) -> u32 {
        self.1
    }
}

#[test]
fn a_ring_that_is_right_passes() {
    try_on::<Right>(500).unwrap();
}

/// Defines rings with one broken function, and for each a test that the property fails.
macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident { $($function:item)* })*) => { $(
        #[test]
        $(#[$doc])*
        fn $name() {
            #[derive(Clone, Copy)]
            struct Mutant(u32, u32);

            impl Ring for Mutant {
                fn new(head: u32, tail: u32) -> Self {
                    Self(head, tail)
                }
                fn head(self) -> u32 {
                    self.0
                }
                fn tail(self) -> u32 {
                    self.1
                }
                $($function)*
            }

            let outcome = try_on::<Mutant>(500);
            assert!(matches!(outcome, Err(TestError::Fail(..))), "not noticed");
        }
    )* };
}

mutants! {
    /// Correct until `head` wraps and `tail` does not.
    noticed_occupancy_that_saturates {
        fn occupancy(self) -> u32 {
            self.0.saturating_sub(self.1)
        }
    }
    noticed_occupancy_as_a_distance {
        fn occupancy(self) -> u32 {
            self.0.abs_diff(self.1)
        }
    }
    noticed_occupancy_one_too_large_after_the_wrap {
        fn occupancy(self) -> u32 {
            self.0.wrapping_sub(self.1) + u32::from(self.0 < self.1)
        }
    }
    noticed_a_head_that_stops_at_the_end {
        fn advance_head(self, n: u32) -> Self {
            Self(self.0.saturating_add(n), self.1)
        }
    }
    noticed_a_tail_that_stops_at_the_end {
        fn advance_tail(self, n: u32) -> Self {
            Self(self.0, self.1.saturating_add(n))
        }
    }
    /// Skips the counter value `u32::MAX`.
    noticed_a_wrap_at_the_largest_value {
        fn advance_head(self, n: u32) -> Self {
            Self(((u64::from(self.0) + u64::from(n)) % u64::from(u32::MAX)) as u32, self.1)
        }
    }
    noticed_both_counters_advanced {
        fn advance_head(self, n: u32) -> Self {
            Self(self.0.wrapping_add(n), self.1.wrapping_add(n))
        }
    }
    noticed_empty_compared_as_order {
        fn is_empty(self) -> bool {
            self.0 <= self.1
        }
    }
    noticed_full_only_when_equal {
        fn is_full(self, limit: u32) -> bool {
            self.occupancy() == limit
        }
    }
    noticed_full_compared_as_order {
        fn is_full(self, limit: u32) -> bool {
            self.0 >= self.1.saturating_add(limit)
        }
    }
    noticed_space_that_wraps_below_zero {
        fn space(self, limit: u32) -> u32 {
            limit.wrapping_sub(self.occupancy())
        }
    }
    noticed_a_mask_that_is_the_size {
        fn slot(index: u32, ring_size: u32) -> usize {
            (index & ring_size) as usize
        }
    }
    noticed_a_slot_that_is_not_masked {
        fn slot(index: u32, _ring_size: u32) -> usize {
            index as usize
        }
    }
    /// Never uses the last slot.
    noticed_a_slot_that_leaves_one_out {
        fn slot(index: u32, ring_size: u32) -> usize {
            (index % (ring_size - 1).max(1)) as usize
        }
    }
}
