//! A client that does not read costs the server nothing, hurts nobody, and gets everything when it reads again.

use std::fs;
use std::thread;

use fanfare_tests::api::Api;
use fanfare_tests::expect::run_over_ws;
use fanfare_tests::servers;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

/// Clients that do not read.
const SLOW: usize = 8;

/// Publications while they do not.
const COUNT: u64 = 3_000;

/// Bytes of each.
const BYTES: usize = 16 * 1024;

/// What the server may grow by. All that was published is 48 MiB, and eight times that if it were kept for each client.
const GROWTH_BYTES_MAX: u64 = 40 * 1024 * 1024;

/// Connections that publish at once.
const PUBLISHERS: u64 = 4;

#[test]
fn clients_that_do_not_read_are_neither_cut_off_nor_a_burden() {
    let node = servers::start(servers::dev());
    let address = node.address();
    let mut slow: Vec<Client> = (0..SLOW).map(|_| Client::connect(address)).collect();
    for client in &mut slow {
        client.subscribe("channel");
    }
    let mut fast = Client::connect(address);
    fast.subscribe("channel");
    let before = resident_bytes(node.pid());

    let text = "x".repeat(BYTES);
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let text = &text;
            scope.spawn(move || {
                let mut api = Api::new(address);
                for number in (publisher..COUNT).step_by(PUBLISHERS as usize) {
                    api.publish("channel", json!({ "number": number, "text": text }));
                }
            });
        }
        run_over_ws(&mut fast, "channel", 1, COUNT);
    });

    let after = resident_bytes(node.pid());
    let growth = after.saturating_sub(before);
    assert!(
        growth <= GROWTH_BYTES_MAX,
        "the server grew from {before} to {after} bytes"
    );

    let numbers = |received: Vec<Value>| -> Vec<u64> {
        received
            .iter()
            .filter_map(|data| data["number"].as_u64())
            .collect()
    };
    let mut expected = None;
    for client in &mut slow {
        let received = numbers(run_over_ws(client, "channel", 1, COUNT));
        assert_eq!(received.len() as u64, COUNT);
        assert_eq!(*expected.get_or_insert_with(|| received.clone()), received);
    }
    let after = resident_bytes(node.pid());
    let growth = after.saturating_sub(before);
    assert!(
        growth <= GROWTH_BYTES_MAX,
        "catching up, it grew from {before} to {after} bytes"
    );
}

/// Memory of a process that is in RAM.
fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}
