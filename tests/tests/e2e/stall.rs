//! Slow is not stalled: who takes something, however little, stays; who takes nothing for `stall_seconds` is sent away.

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::{Api, publish_many};
use fanfare_tests::expect::{run_over_sse, run_over_ws};
use fanfare_tests::servers;
use fanfare_tests::slow::Line;
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, End};
use serde_json::json;

/// How long a client of these tests may take nothing.
const CONFIG: &str = "stall_seconds = 4\n";

/// More than sockets and pipes hold, and more than trickles through while a stalled client is waited for.
const COUNT: u64 = 800;
const BYTES: usize = 32 * 1024;

const SLOW: u16 = 3008;

#[test]
fn a_slow_websocket_stays_and_a_stalled_one_goes() {
    let node = start();
    let (slow_line, stalled_line) = (Line::to(node.address()), Line::to(node.address()));
    let mut slow = Client::connect(slow_line.address());
    let mut stalled = Client::connect(stalled_line.address());
    for client in [&mut slow, &mut stalled] {
        client.subscribe("channel");
    }
    slow_line.trickle();
    stalled_line.shut();
    publish(&node);
    wait_for_stalled(&node, 1.0);
    // It reads again, just in time to hear why.
    stalled_line.open();
    assert_eq!(stalled.end(), End::Close(SLOW, "slow".to_owned()));
    assert!(slow.is_open());
    slow_line.open();
    run_over_ws(&mut slow, "channel", 1, COUNT);
    assert_eq!(Api::new(node.address()).metric("stalled_total"), 1.0);
}

#[test]
fn a_slow_event_stream_stays_and_a_stalled_one_goes() {
    let node = start();
    let (slow_line, stalled_line) = (Line::to(node.address()), Line::to(node.address()));
    let mut slow = Stream::open(slow_line.address(), &["channel"], None);
    let mut stalled = Stream::open(stalled_line.address(), &["channel"], None);
    for stream in [&mut slow, &mut stalled] {
        stream.expect("ready");
    }
    slow_line.trickle();
    stalled_line.shut();
    publish(&node);
    wait_for_stalled(&node, 1.0);
    stalled_line.open();
    stalled.end();
    assert!(slow.is_open());
    slow_line.open();
    run_over_sse(&mut slow, "channel", 1, COUNT);
}

/// What a stalled client held is given back although it never reads again.
#[test]
fn stalled_clients_leave_nothing_behind() {
    let node = start();
    let api = Api::new(node.address());
    let lines: Vec<Line> = (0..4).map(|_| Line::to(node.address())).collect();
    let mut clients: Vec<Client> = lines[..2]
        .iter()
        .map(|line| Client::connect(line.address()))
        .collect();
    let mut streams: Vec<Stream> = lines[2..]
        .iter()
        .map(|line| Stream::open(line.address(), &["channel"], None))
        .collect();
    for client in &mut clients {
        client.subscribe("channel");
    }
    for stream in &mut streams {
        stream.expect("ready");
    }
    assert_eq!(api.metric("seats_taken"), 4.0);
    lines.iter().for_each(Line::shut);
    publish(&node);
    wait_for_stalled(&node, 4.0);
    eventually("their seats are given back", || {
        (api.metric("seats_taken") == 0.0).then_some(())
    });
    eventually("the kernel keeps nothing for them", || {
        let kept = lines.iter().any(|line| line.is_kept_by(node.address()));
        (!kept).then_some(())
    });
}

fn start() -> Node {
    servers::start(NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..servers::dev()
    })
}

fn publish(node: &Node) {
    let text = "x".repeat(BYTES);
    let data = |number| json!({ "number": number, "text": text });
    publish_many(node.address(), "channel", COUNT, data);
}

#[track_caller]
fn wait_for_stalled(node: &Node, count: f64) {
    let api = Api::new(node.address());
    eventually("clients that take nothing are sent away", || {
        (api.metric("stalled_total") >= count).then_some(())
    });
}
