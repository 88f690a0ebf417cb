//! Faults on purpose, to prove that the checker of `fanfare bench` sees them. Compiled only with the feature
//! `sabotage`, which no release has and nothing turns on by default.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::Publication;

/// What goes wrong when the frames of a run are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Every so many publications, one is left out.
    DropEach(u64),
    /// The publication with this number is left out.
    DropNumber(u64),
    /// Every so many publications, two neighbours are swapped.
    SwapEach(u64),
    /// Every so many publications, one is sent twice.
    RepeatEach(u64),
}

static MUTATION: OnceLock<Mutation> = OnceLock::new();
static ENCODED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The publication at hand was sent in the place of the one before it, which comes now.
    static OWES_EARLIER: Cell<bool> = const { Cell::new(false) };
}

/// Chooses what goes wrong from now on. Only the first choice counts.
pub fn choose(mutation: Mutation) {
    MUTATION.get_or_init(|| mutation);
}

/// What is encoded in the place of publication `at` of a run: itself, unless it is its turn.
pub(crate) fn in_place_of(run: &[Publication], at: usize) -> impl Iterator<Item = &Publication> {
    let is_turn = |each: u64| ENCODED.fetch_add(1, Ordering::Relaxed) % each.max(1) == each / 2;
    let [first, second] = match MUTATION.get() {
        None => [Some(at), None],
        Some(Mutation::DropEach(each)) => [(!is_turn(*each)).then_some(at), None],
        Some(Mutation::DropNumber(number)) => [(run[at].seq.0 != *number).then_some(at), None],
        Some(Mutation::RepeatEach(each)) => [Some(at), is_turn(*each).then_some(at)],
        Some(Mutation::SwapEach(each)) => {
            // A publication without a neighbour passes the turn on.
            let swaps = at + 1 < run.len() && is_turn(*each);
            match (OWES_EARLIER.replace(swaps), swaps) {
                (true, _) => {
                    OWES_EARLIER.set(false);
                    [Some(at - 1), None]
                }
                (false, true) => [Some(at + 1), None],
                (false, false) => [Some(at), None],
            }
        }
    };
    [first, second].into_iter().flatten().map(|at| &run[at])
}
