// SPDX-License-Identifier: GPL-2.0

//! The reservation of pipe slots against a model that only counts.
//!
//! Tasks that hold the pipe's mutex run one after another, and each of their stores is recorded as
//! a [`Moment`]. A poller stores nothing. So each pair of moments, for its two loads, represents
//! one interleaving, and all pairs are tested. A blocked writer checks the same conditions as a
//! poller (C: `pipe_writable`), so it is not modelled separately.
//!
//! Stores become visible in program order here. A mutant that swaps two stores, or two loads,
//! represents a missing release or acquire.
//!
//! As in `properties.rs`, the properties are also tested on deliberately broken designs. Most of
//! them change the recorded steps of a call.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestError, TestRng, TestRunner};
use splice_ring::reservation::{self, LockedPipe, Reservations, UnlockedPipe};
use splice_ring::ring::Indices;

/// A store or a wake-up of a task that holds the mutex.
#[derive(Clone, Copy, Debug)]
enum Step {
    Indices(Indices),
    Limit(u32),
    Wake,
}

/// The steps of one call, in their order.
struct Log {
    indices: Indices,
    steps: Vec<Step>,
}

impl LockedPipe for Log {
    fn indices(&self) -> Indices {
        self.indices
    }
    fn store_indices(&mut self, indices: Indices) {
        self.indices = indices;
        self.steps.push(Step::Indices(indices));
    }
    fn store_limit(&mut self, limit: u32) {
        self.steps.push(Step::Limit(limit));
    }
    fn wake_writers(&mut self) {
        self.steps.push(Step::Wake);
    }
}

/// The pipe right after one step, or when a task unlocks it.
#[derive(Clone, Copy, Debug)]
struct Moment {
    limit: u32,
    indices: Indices,
    /// Whether occupancy and reserved slots together are at `max_usage`, by the model.
    full: bool,
    /// Whether the step is a wake-up.
    woke: bool,
    /// Whether the mutex is free and no wake-up is due.
    idle: bool,
}

/// The pipe as seen by a poller, which loads at two moments.
struct Loads<'a> {
    history: &'a [Moment],
    at: [usize; 2],
    next: Cell<usize>,
}

impl Loads<'_> {
    fn load(&self) -> &Moment {
        let next = self.next.get();
        self.next.set(next + 1);
        &self.history[self.at[next]]
    }
}

impl UnlockedPipe for Loads<'_> {
    fn load_limit(&self) -> u32 {
        self.load().limit
    }
    fn load_indices(&self) -> Indices {
        self.load().indices
    }
}

/// The functions of [`Reservations`], which are the defaults, and the rules for all tasks that add
/// buffers, remove buffers or wait for room.
trait Design {
    fn limit(slots: &Reservations) -> u32 {
        slots.limit()
    }
    fn reserve(slots: &mut Reservations, n: u32, pipe: &mut Log) -> u32 {
        slots.reserve(n, pipe)
    }
    fn fill(slots: &mut Reservations, k: u32, pipe: &mut Log) {
        slots.fill(k, pipe);
    }
    fn give_back(slots: &mut Reservations, k: u32, pipe: &mut Log) {
        slots.give_back(k, pipe);
    }
    fn resize(slots: &mut Reservations, max_usage: u32, pipe: &mut Log) -> bool {
        slots.resize(max_usage, pipe).is_ok()
    }
    fn seems_full(pipe: &Loads<'_>) -> bool {
        reservation::seems_full(pipe)
    }
    /// The moment after which a wake-up reaches a poller that loads at the two moments.
    fn registered(loads: [usize; 2]) -> usize {
        loads[0]
    }
    /// How many slots a writer may fill.
    fn writer_space(slots: &Reservations, indices: Indices) -> u32 {
        indices.space(slots.limit())
    }
    /// Whether a reader that takes one slot wakes writers.
    fn reader_wakes(slots: &Reservations, indices: Indices) -> bool {
        indices.is_full(slots.limit())
    }
}

struct Kernel;
impl Design for Kernel {}

/// The turn of one task that holds the mutex. The counts are upper limits.
#[derive(Clone, Debug)]
enum Op {
    Write(u32),
    Read(u32),
    Reserve(u32),
    Fill(u32),
    GiveBack(u32),
    /// The new size is 2 to the power of this.
    Resize(u32),
}

#[derive(Clone, Debug)]
struct Case {
    max_usage: u32,
    start: u32,
    /// Each turn, and whether its wake-up is delayed until after the next one.
    ops: Vec<(Op, bool)>,
}

fn case() -> impl Strategy<Value = Case> {
    let count = || prop_oneof![3 => 0..=3u32, 1 => 0..=16u32];
    let op = prop_oneof![
        3 => count().prop_map(Op::Write),
        3 => count().prop_map(Op::Read),
        3 => count().prop_map(Op::Reserve),
        2 => count().prop_map(Op::Fill),
        2 => count().prop_map(Op::GiveBack),
        1 => (0..=4u32).prop_map(Op::Resize),
    ];
    let ops = prop::collection::vec((op, prop::bool::weighted(0.3)), 1..24);
    // Counters that are about to wrap, or that start at zero.
    let start = prop_oneof![(0..=8u32).prop_map(|below| u32::MAX - below), Just(0)];
    (0..=4u32, start, ops).prop_map(|(order, start, ops)| Case {
        max_usage: 1 << order,
        start,
        ops,
    })
}

/// The reserved slots of a pipe, and the model, which only counts slots.
struct Pipe {
    slots: Reservations,
    log: Log,
    held: u32,
    reserved: u32,
    max_usage: u32,
    history: Vec<Moment>,
    delay: bool,
    wake_due: bool,
}

impl Pipe {
    /// Whether the model's slots fit in `max_usage`, and leave one to writers if there are more.
    fn fits(&self, reserved: u32, max_usage: u32) -> bool {
        self.held + reserved <= max_usage && reserved <= (max_usage - 1).max(1)
    }

    fn full(&self) -> bool {
        self.held + self.reserved >= self.max_usage
    }

    /// Adds the steps in the log to the history. The model's counts hold from the last store on.
    fn play(&mut self) {
        let steps = std::mem::take(&mut self.log.steps);
        let stored = steps.iter().rposition(|step| !matches!(step, Step::Wake));
        for (i, step) in steps.into_iter().enumerate() {
            let mut now = *self.history.last().unwrap();
            (now.woke, now.idle) = (false, false);
            match step {
                Step::Indices(indices) => now.indices = indices,
                Step::Limit(limit) => now.limit = limit,
                Step::Wake if self.delay => {
                    self.wake_due = true;
                    continue;
                }
                Step::Wake => now.woke = true,
            }
            if stored.is_none_or(|stored| i >= stored) {
                now.full = self.full();
            }
            self.history.push(now);
        }
    }

    fn apply<D: Design>(&mut self, op: &Op, delay: bool) -> TestCaseResult {
        let wake_was_due = std::mem::take(&mut self.wake_due);
        self.delay = delay;
        match *op {
            Op::Write(n) => {
                for _ in 0..n.min(D::writer_space(&self.slots, self.log.indices)) {
                    self.log.store_indices(self.log.indices.advance_head(1));
                    self.held += 1;
                    self.play();
                }
            }
            Op::Read(n) => {
                let mut wake = false;
                for _ in 0..n.min(self.held) {
                    wake |= D::reader_wakes(&self.slots, self.log.indices);
                    self.log.store_indices(self.log.indices.advance_tail(1));
                    self.held -= 1;
                    self.play();
                }
                if wake {
                    self.log.wake_writers();
                }
            }
            Op::Reserve(n) => {
                let granted = D::reserve(&mut self.slots, n, &mut self.log);
                let fits = |&n: &u32| self.fits(self.reserved + n, self.max_usage);
                prop_assert_eq!(Some(granted), (0..=n).rev().find(fits));
                self.reserved += granted;
            }
            Op::Fill(k) => {
                let k = k.min(self.reserved);
                D::fill(&mut self.slots, k, &mut self.log);
                self.held += k;
                self.reserved -= k;
            }
            Op::GiveBack(k) => {
                let k = k.min(self.reserved);
                D::give_back(&mut self.slots, k, &mut self.log);
                self.reserved -= k;
            }
            Op::Resize(order) => {
                let resized = D::resize(&mut self.slots, 1 << order, &mut self.log);
                prop_assert_eq!(resized, self.fits(self.reserved, 1 << order), "resize");
                prop_assert!(resized || self.log.steps.is_empty(), "refused, but stored");
                if resized {
                    self.max_usage = 1 << order;
                }
            }
        }
        self.play();
        self.unlock(wake_was_due);
        prop_assert_eq!(self.log.indices.occupancy(), self.held);
        prop_assert_eq!(D::limit(&self.slots), self.max_usage - self.reserved);
        prop_assert!(self.fits(self.reserved, self.max_usage), "too many slots");
        Ok(())
    }

    /// Ends a turn: the mutex is free, and a delayed wake-up is delivered.
    fn unlock(&mut self, wake: bool) {
        if wake {
            self.delay = false;
            self.log.wake_writers();
            self.play();
        }
        self.history.push(Moment {
            full: self.full(),
            woke: false,
            idle: !self.wake_due,
            ..*self.history.last().unwrap()
        });
    }
}

fn history<D: Design>(case: &Case) -> Result<Vec<Moment>, TestCaseError> {
    let start = Moment {
        limit: case.max_usage,
        indices: Indices::new(case.start, case.start),
        full: false,
        woke: false,
        idle: true,
    };
    let mut pipe = Pipe {
        slots: Reservations::new(case.max_usage),
        log: Log {
            indices: start.indices,
            steps: Vec::new(),
        },
        held: 0,
        reserved: 0,
        max_usage: case.max_usage,
        history: vec![start],
        delay: false,
        wake_due: false,
    };
    for (op, delay) in &case.ops {
        pipe.apply::<D>(op, *delay)?;
    }
    let wake_was_due = std::mem::take(&mut pipe.wake_due);
    pipe.unlock(wake_was_due);
    Ok(pipe.history)
}

/// Calls `check` for every poller, with the moments of its loads and whether it finds the pipe
/// full. Histories that violate [`accounts`] are left to that property.
fn every_poller<D: Design>(
    case: &Case,
    check: impl Fn(&[Moment], [usize; 2], bool) -> TestCaseResult,
) -> TestCaseResult {
    let Ok(history) = history::<D>(case) else {
        return Ok(());
    };
    for first in 0..history.len() {
        for second in first..history.len() {
            let pipe = Loads {
                history: &history,
                at: [first, second],
                next: Cell::new(0),
            };
            check(&history, pipe.at, D::seems_full(&pipe))?;
        }
    }
    Ok(())
}

/// Whether the first moment from `from` on for which `ends` is true is at or after a wake-up that
/// follows the moment `registered`; also true if there is no such moment.
fn woken(
    history: &[Moment],
    registered: usize,
    from: usize,
    ends: impl Fn(&Moment) -> bool,
) -> bool {
    (from..history.len())
        .find(|&i| ends(&history[i]))
        .is_none_or(|end| history[registered + 1..=end].iter().any(|m| m.woke))
}

/// The property: the design and the model agree on every count and on every refusal, and a
/// reservation leaves one slot of several to other writers.
fn accounts<D: Design>(case: &Case) -> TestCaseResult {
    history::<D>(case).map(drop)
}

/// The property: if a poller finds the pipe full, it is full when the poller loads the indices, or
/// a task that is not done at that time wakes the poller.
fn full_is_true_or_woken<D: Design>(case: &Case) -> TestCaseResult {
    every_poller::<D>(case, |history, loads, full| {
        let wrong = full && !history[loads[1]].full;
        let woken = || woken(history, D::registered(loads), loads[1], |m| m.idle);
        prop_assert!(!wrong || woken(), "{:?} of {:?}", loads, history);
        Ok(())
    })
}

/// The property: a poller that sleeps is woken before all tasks are done and leave room.
fn no_sleep_beside_room<D: Design>(case: &Case) -> TestCaseResult {
    every_poller::<D>(case, |history, loads, full| {
        let room = |m: &Moment| m.idle && !m.full;
        let woken = || woken(history, D::registered(loads), loads[1], room);
        prop_assert!(!full || woken(), "{:?} of {:?}", loads, history);
        Ok(())
    })
}

/// The property: if a poller finds room, there is room at its first load, at its second one or
/// between them.
fn room_is_true<D: Design>(case: &Case) -> TestCaseResult {
    every_poller::<D>(case, |history, loads, full| {
        let room = || history[loads[0]..=loads[1]].iter().any(|m| !m.full);
        prop_assert!(full || room(), "{:?} of {:?}", loads, history);
        Ok(())
    })
}

/// Tests a property on `cases` cases, always the same ones.
fn try_on(property: fn(&Case) -> TestCaseResult, cases: u32) -> Result<(), TestError<Case>> {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng).run(&case(), |case| property(&case))
}

proptest! {
    #![proptest_config(Config { cases: 4_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn reservations_have_every_property(case in case()) {
        accounts::<Kernel>(&case)?;
        full_is_true_or_woken::<Kernel>(&case)?;
        no_sleep_beside_room::<Kernel>(&case)?;
        room_is_true::<Kernel>(&case)?;
    }
}

/// Defines designs with one broken function, and for each a test that the properties before its
/// name fail.
macro_rules! mutants {
    ($($(#[$doc:meta])* [$($property:ident),*] $name:ident { $function:item })*) => { $(
        #[test]
        $(#[$doc])*
        fn $name() {
            struct Mutant;
            impl Design for Mutant {
                $function
            }
            $(
                let outcome = try_on($property::<Mutant>, 500);
                let name = stringify!($property);
                assert!(matches!(outcome, Err(TestError::Fail(..))), "not noticed by {name}");
            )*
        }
    )* };
}

mutants! {
    [accounts] noticed_a_limit_without_reserved_slots {
        fn limit(slots: &Reservations) -> u32 {
            slots.max_usage()
        }
    }
    [accounts] noticed_writers_that_use_reserved_slots {
        fn writer_space(slots: &Reservations, indices: Indices) -> u32 {
            indices.space(slots.max_usage())
        }
    }
    [accounts] noticed_a_reservation_of_every_slot {
        fn reserve(slots: &mut Reservations, n: u32, pipe: &mut Log) -> u32 {
            let space = pipe.indices.space(slots.limit());
            let granted = slots.reserve(n, pipe);
            granted.max(n.min(space))
        }
    }
    [accounts] noticed_no_reservation_in_a_pipe_of_one_slot {
        fn reserve(slots: &mut Reservations, n: u32, pipe: &mut Log) -> u32 {
            slots.reserve(n.min(slots.max_usage() - 1), pipe)
        }
    }
    [accounts] noticed_a_resize_that_ignores_reserved_slots {
        fn resize(slots: &mut Reservations, max_usage: u32, pipe: &mut Log) -> bool {
            slots.resize(max_usage, pipe).is_ok() || pipe.indices.occupancy() <= max_usage
        }
    }
    [accounts] noticed_a_resize_to_reserved_slots_alone {
        fn resize(slots: &mut Reservations, max_usage: u32, pipe: &mut Log) -> bool {
            let reserved = slots.max_usage() - slots.limit();
            let used = pipe.indices.occupancy() + reserved;
            slots.resize(max_usage, pipe).is_ok() || used <= max_usage
        }
    }
    [accounts] noticed_a_resize_that_fails_although_all_fits {
        fn resize(slots: &mut Reservations, max_usage: u32, pipe: &mut Log) -> bool {
            let fits = pipe.indices.occupancy() < max_usage;
            fits && slots.resize(max_usage, pipe).is_ok()
        }
    }
    /// A poller counts reserved slots as free.
    [room_is_true] noticed_a_reservation_that_is_not_stored {
        fn reserve(slots: &mut Reservations, n: u32, pipe: &mut Log) -> u32 {
            let granted = slots.reserve(n, pipe);
            pipe.steps.pop();
            granted
        }
    }
    /// The old head with the raised limit looks like room.
    [room_is_true] noticed_a_limit_raised_before_the_head {
        fn fill(slots: &mut Reservations, k: u32, pipe: &mut Log) {
            slots.fill(k, pipe);
            pipe.steps.swap(0, 1);
        }
    }
    /// C stores them in this order. If the head has wrapped, the slots before the wrap look free in
    /// between.
    [room_is_true] noticed_a_resize_that_stores_tail_and_head_apart {
        fn resize(slots: &mut Reservations, max_usage: u32, pipe: &mut Log) -> bool {
            let tail_only = Indices::new(pipe.indices.head(), 0);
            let resized = slots.resize(max_usage, pipe).is_ok();
            if resized {
                pipe.steps.insert(0, Step::Indices(tail_only));
            }
            resized
        }
    }
    /// The indices before a fill look like room with the limit after it. The indices before a read
    /// look full with the limit after the reservation that follows.
    [room_is_true, full_is_true_or_woken, no_sleep_beside_room]
    noticed_a_poller_that_loads_the_indices_first {
        fn seems_full(pipe: &Loads<'_>) -> bool {
            let indices = pipe.load_indices();
            indices.is_full(pipe.load_limit())
        }
    }
    [full_is_true_or_woken, no_sleep_beside_room]
    noticed_a_poller_that_registers_after_its_loads {
        fn registered(loads: [usize; 2]) -> usize {
            loads[1]
        }
    }
    [full_is_true_or_woken, no_sleep_beside_room]
    noticed_a_give_back_without_a_wake_up {
        fn give_back(slots: &mut Reservations, k: u32, pipe: &mut Log) {
            slots.give_back(k, pipe);
            pipe.steps.pop();
        }
    }
    [full_is_true_or_woken, no_sleep_beside_room]
    noticed_a_give_back_that_wakes_before_the_store {
        fn give_back(slots: &mut Reservations, k: u32, pipe: &mut Log) {
            slots.give_back(k, pipe);
            pipe.steps.swap(0, 1);
        }
    }
    /// The old limit looks full with a buffer that a writer adds after the give-back.
    [full_is_true_or_woken, no_sleep_beside_room]
    noticed_a_give_back_that_wakes_only_if_the_pipe_was_full {
        fn give_back(slots: &mut Reservations, k: u32, pipe: &mut Log) {
            let was_full = pipe.indices.is_full(slots.limit());
            slots.give_back(k, pipe);
            if !was_full {
                pipe.steps.pop();
            }
        }
    }
    /// The old limit looks full with the new head.
    [full_is_true_or_woken, no_sleep_beside_room]
    noticed_a_fill_without_a_wake_up {
        fn fill(slots: &mut Reservations, k: u32, pipe: &mut Log) {
            slots.fill(k, pipe);
            pipe.steps.pop();
        }
    }
    [full_is_true_or_woken, no_sleep_beside_room]
    noticed_a_fill_that_wakes_before_the_limit_is_raised {
        fn fill(slots: &mut Reservations, k: u32, pipe: &mut Log) {
            slots.fill(k, pipe);
            pipe.steps.swap(1, 2);
        }
    }
    [full_is_true_or_woken, no_sleep_beside_room]
    noticed_a_resize_without_a_wake_up {
        fn resize(slots: &mut Reservations, max_usage: u32, pipe: &mut Log) -> bool {
            let resized = slots.resize(max_usage, pipe).is_ok();
            pipe.steps.retain(|step| !matches!(step, Step::Wake));
            resized
        }
    }
    /// The rule of C, which has no reservations.
    [no_sleep_beside_room]
    noticed_a_reader_that_wakes_only_at_max_usage {
        fn reader_wakes(slots: &Reservations, indices: Indices) -> bool {
            indices.is_full(slots.max_usage())
        }
    }
}
