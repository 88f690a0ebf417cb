//! What a pass allocates does not depend on how many it is for.

#[path = "../../crates/wire/tests/centrifuge_protobuf/allocations.rs"]
mod allocations;

use std::sync::Arc;

use allocations::allocated;
use fanfare_engine::hub::scene::Scene;
use fanfare_instructions::scenes;
use fanfare_wire::{
    FormId, Run,
    centrifuge::{Codec, Pushes},
};

const JSON: Pushes = Pushes::websocket(Codec::Json, false);

/// The bytes that a pass of `burst` publications, a run each, to so many subscribers of one channel allocates, once
/// everything that grows has grown.
fn pass(subscribers: usize, burst: u64) -> usize {
    let mut scene = Scene::new(1, subscribers, Box::new(JSON)).unwrap();
    let data = scenes::data();
    let mut bytes = 0;
    for _ in 0..3 {
        let runs: Vec<Arc<Run>> = (0..burst).flat_map(|_| scene.runs(1, &data)).collect();
        bytes = allocated(|| {
            scene.publish(&runs);
            scene.turn();
        });
        let frames = runs.iter().map(|run| run.encoded(FormId(0), &JSON));
        let length = frames.map(|encoded| encoded.bytes.len()).sum();
        scene.read(length).unwrap();
    }
    assert_eq!(scene.deliveries(), 3 * burst * subscribers as u64);
    bytes
}

#[test]
fn a_delivery_allocates_nothing() {
    for burst in [1, 8] {
        let few = pass(5, burst);
        // The frames at least: what counts does count.
        assert!(few > 200, "{few} bytes");
        assert_eq!(pass(300, burst), few, "{burst} publications");
    }
}
