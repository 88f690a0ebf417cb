//! A database that is held up: what fits waits, what does not is refused before it is taken, and nothing that was taken
//! is lost or left without an answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fanfare_bench::local::NodeOptions;
use fanfare_tests::api::Api;
use fanfare_tests::expect::dense;
use fanfare_tests::hold::Hold;
use fanfare_tests::servers;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

const DATABASE: &str = "app";

/// Broadcasts at once, channels of each, and bytes for each channel: 120 MiB together, more than may wait.
const BROADCASTS: usize = 40;
const CHANNELS: usize = 1_000;
const BYTES: usize = 3 * 1024;

/// What a node may grow by while its database is held up: what may wait (64 MiB), the requests themselves, and what the
/// allocator does not give back.
const GROWTH_BYTES_MAX: u64 = 160 << 20;

/// The error codes of what was not taken, and of what nobody knows.
const BUSY: u64 = 111;
const UNAVAILABLE: u64 = 1001;

#[test]
fn beyond_what_may_wait_publishes_are_refused_and_the_rest_is_committed() {
    let postgres = servers::postgres();
    let url = postgres.create_database(DATABASE).unwrap();
    let node = servers::start(NodeOptions {
        postgres: Some(url),
        ..servers::dev()
    });
    let address = node.address();
    let api = Api::new(address);
    let mut client = Client::connect(address);
    let before = servers::resident_bytes(node.pid());
    let ended = AtomicUsize::new(0);

    let answers: Vec<Value> = thread::scope(|scope| {
        let broadcasts: Vec<_> = Hold::commits(&postgres, DATABASE, |hold| {
            let broadcasts = (0..BROADCASTS)
                .map(|number| {
                    let ended = &ended;
                    scope.spawn(move || {
                        let answer = broadcast(address, number);
                        ended.fetch_add(1, Ordering::Relaxed);
                        answer
                    })
                })
                .collect();
            eventually("publishes are refused", || {
                (api.metric("busy_total") > 0.0).then_some(())
            });
            refused_over_websocket(&mut client);
            eventually("every publish is taken or refused", || {
                let taken = api.metric("publishes_waiting") + api.metric("busy_total");
                // A batch is in flight besides.
                let all = BROADCASTS * CHANNELS + 1 - 512;
                (taken >= all as f64).then_some(())
            });
            let growth = servers::resident_bytes(node.pid()).saturating_sub(before);
            assert!(growth <= GROWTH_BYTES_MAX, "it grew by {growth} bytes");
            eventually("a refusal does not wait for the database", || {
                (ended.load(Ordering::Relaxed) > 0).then_some(())
            });
            assert!(ended.load(Ordering::Relaxed) < BROADCASTS);
            hold.release();
            broadcasts
        });
        let join = |it: thread::ScopedJoinHandle<'_, Value>| it.join().unwrap();
        broadcasts.into_iter().map(join).collect()
    });
    check(address, &answers);
}

/// One broadcast to all channels, and its answer.
fn broadcast(address: SocketAddr, number: usize) -> Value {
    let request = json!({
        "channels": (0..CHANNELS).map(channel).collect::<Vec<_>>(),
        "data": format!("{number} {}", "x".repeat(BYTES)),
    });
    let mut api = Api::new(address);
    api.call("broadcast", &request).unwrap()
}

fn channel(number: usize) -> String {
    format!("c{number}")
}

fn refused_over_websocket(client: &mut Client) {
    let request = json!({ "channel": "c0", "data": "x".repeat(32 * 1024) });
    // Something may have gone to the database meanwhile, so that one fits again.
    let error = eventually("a publish over a websocket is refused", || {
        client.send_command("publish", request.clone());
        let reply = client.reply_soon()?;
        reply.get("error").cloned()
    });
    assert_eq!(error["code"], BUSY, "{error}");
    assert_eq!(error["temporary"], true, "{error}");
    assert!(retry_is_honest(&error), "{error}");
}

/// A time within its bounds: 50 ms to 10 s, and up to half of it more.
fn retry_is_honest(error: &Value) -> bool {
    let retry_after_ms = error["retry_after_ms"].as_u64();
    retry_after_ms.is_some_and(|ms| (50..=15_000).contains(&ms))
}

/// Every channel got an answer in every broadcast, and holds what was acknowledged, no more and no less.
fn check(address: SocketAddr, answers: &[Value]) {
    let mut acknowledged: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    let mut refused = 0;
    for answer in answers {
        let responses = answer["responses"].as_array().unwrap();
        assert_eq!(responses.len(), CHANNELS);
        for (number, response) in responses.iter().enumerate() {
            if let Some(offset) = response["result"]["offset"].as_u64() {
                acknowledged.entry(number).or_default().push(offset);
                continue;
            }
            let error = &response["error"];
            let code = error["code"].as_u64().unwrap();
            assert!(code == BUSY || code == UNAVAILABLE, "{error}");
            assert_eq!(error["temporary"], true, "{error}");
            assert!(code != BUSY || retry_is_honest(error), "{error}");
            refused += u64::from(code == BUSY);
        }
    }
    assert!(refused > 0, "nothing was refused");
    assert!(!acknowledged.is_empty(), "nothing was taken");
    let mut api = Api::new(address);
    for (number, mut offsets) in acknowledged.into_iter().skip(1).step_by(97) {
        offsets.sort_unstable();
        let history = api.history(&channel(number));
        dense(&history);
        assert_eq!(history.head, offsets.len() as u64, "{}", channel(number));
        assert_eq!(offsets, (1..=history.head).collect::<Vec<_>>());
    }
}
