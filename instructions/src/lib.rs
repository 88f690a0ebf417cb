//! What the data path costs in instructions of the processor, in user space: scenes of a fixed size, run under callgrind and
//! held against what is recorded. A time says something about a machine on a day; a count says the same tomorrow, so that a
//! regression of some percent shows as a number.
//!
//! | module | subject |
//! | --- | --- |
//! | `scenes` | what is counted |
//! | `callgrind` | runs one scene of this program under callgrind |
//! | `expected` | what is recorded, and how far off a count is |
//!
//! Counts are a compiler's: those of another one are printed and not judged. What the kernel does is not counted; it is most
//! of what a delivery costs (`docs/benchmarks.md`).

pub mod callgrind;
pub mod expected;
pub mod scenes;

/// The compiler that built this program, and for what.
#[must_use]
pub fn compiler() -> String {
    use std::env::consts::{ARCH, OS};
    format!("{}, {ARCH}-{OS}", env!("COMPILER"))
}
