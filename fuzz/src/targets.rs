//! The decoders, and what holds for all bytes that they are given.

mod commands;
mod emulation;
mod json;
mod protobuf;
mod socketio;
mod websocket;

use crate::Target;

/// All of them.
pub static TARGETS: [Target; 5] = [
    protobuf::TARGET,
    json::TARGET,
    emulation::TARGET,
    socketio::TARGET,
    websocket::TARGET,
];

/// The target of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Gives bytes to the target of this name.
///
/// # Panics
/// When something does not hold, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = named(name).unwrap_or_else(|| panic!("no target is named {name}"));
    (target.run)(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hunt::{Until, hunt};

    #[test]
    fn what_clients_send_is_understood_and_small_changes_of_it_do_no_harm() {
        for target in &TARGETS {
            let seeds = (target.seeds)();
            assert!(seeds.len() >= 5, "{}: {} seeds", target.name, seeds.len());
            let runs = seeds.len() as u64 + 3_000;
            let report = hunt(target, 1, Until::Runs(runs));
            let found = report.found.as_deref().map(<[u8]>::escape_ascii);
            assert!(found.is_none(), "{}: {}", target.name, found.unwrap());
            // Otherwise nothing would be learnt from what a decoder makes of its input.
            assert!(report.outcomes >= 20, "{}: {report:?}", target.name);
            assert_eq!(named(target.name).map(|it| it.name), Some(target.name));
        }
    }
}
