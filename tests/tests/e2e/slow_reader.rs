//! A client that does not read costs the server nothing, hurts nobody, and gets everything when it reads again.

use std::thread;

use fanfare_bench::local::NodeOptions;
use fanfare_tests::api::publish_many;
use fanfare_tests::expect::run_over_ws;
use fanfare_tests::servers;
use fanfare_tests::ws::Client;
use serde_json::json;

/// Clients that do not read.
const SLOW: usize = 4;

/// Publications while they do not: 125 MiB in all, and four times that if they were kept for each client.
const COUNT: u64 = 4_000;

/// Bytes of each.
const BYTES: usize = 32 * 1024;

/// What the server may grow by for clients that do not read.
const LAGGING_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What it may grow by when they read again: a cache of the log, whose size depends neither on how many they are nor on
/// how far they are behind. With all that was published in it, encoded, it would be above 250 MiB.
const CATCHING_UP_BYTES_MAX: u64 = 112 * 1024 * 1024;

#[test]
fn clients_that_do_not_read_are_neither_cut_off_nor_a_burden() {
    // Not on SQLite, whose page cache would grow by what was published in any case.
    let node = servers::start(NodeOptions {
        postgres: Some(servers::database()),
        ..servers::dev()
    });
    let address = node.address();
    let mut slow: Vec<Client> = (0..SLOW).map(|_| Client::connect(address)).collect();
    for client in &mut slow {
        client.subscribe("channel");
    }
    let mut fast = Client::connect(address);
    fast.subscribe("channel");
    let before = servers::resident_bytes(node.pid());

    let text = "x".repeat(BYTES);
    let data = |number| json!({ "number": number, "text": text });
    thread::scope(|scope| {
        scope.spawn(|| publish_many(address, "channel", COUNT, data));
        run_over_ws(&mut fast, "channel", 1, COUNT);
    });

    let growth = servers::resident_bytes(node.pid()).saturating_sub(before);
    assert!(
        growth <= LAGGING_BYTES_MAX,
        "the server grew from {before} by {growth} bytes"
    );

    let mut expected = None;
    for client in &mut slow {
        let received: Vec<u64> = run_over_ws(client, "channel", 1, COUNT)
            .iter()
            .filter_map(|data| data["number"].as_u64())
            .collect();
        assert_eq!(received.len() as u64, COUNT);
        assert_eq!(*expected.get_or_insert_with(|| received.clone()), received);
        let growth = servers::resident_bytes(node.pid()).saturating_sub(before);
        assert!(
            growth <= CATCHING_UP_BYTES_MAX,
            "it grew from {before} by {growth} bytes"
        );
    }
}
