//! News of the moment: told on all nodes once, never in the way of publications, and not to those who lag.

use std::time::Duration;

use fanfare_wire::Seq;

use crate::{
    line::From,
    nodes::{Cluster, wait_for},
};

#[test]
fn news_reach_the_subscribers_of_all_nodes_once() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<_> = (0..9).map(|at| cluster.client(at % 3)).collect();
    for client in &mut clients {
        client.subscribe("room", From::Live);
    }
    let mut stranger = cluster.client(0);
    stranger.subscribe("other", From::Live);
    for number in 0..50 {
        cluster.tell(number % 3, "room", &number.to_string());
    }
    for client in &mut clients {
        let news = client.expect_news(50);
        let mut numbers: Vec<u32> = news
            .iter()
            .map(|news| news.strip_prefix("message ").unwrap().parse().unwrap())
            .collect();
        for node in 0..3 {
            let of_node: Vec<u32> = numbers
                .iter()
                .copied()
                .filter(|it| it % 3 == node)
                .collect();
            assert!(
                of_node.is_sorted(),
                "those of a node keep their order: {of_node:?}"
            );
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    }
    // Behind all of it on the same ways: nothing came twice.
    for node in 0..3 {
        cluster.publish(node, "room", 10);
    }
    for client in &mut clients {
        client.expect("room", Seq(1), Seq(3));
        assert_eq!(client.take_news(), [""; 0]);
    }
    cluster.publish(0, "other", 10);
    stranger.expect("other", Seq(1), Seq(1));
    assert_eq!(stranger.take_news(), [""; 0]);
}

#[test]
fn without_a_bus_the_own_subscribers_are_told() {
    let cluster = Cluster::start(2);
    let mut here = cluster.client(0);
    here.subscribe("room", From::Live);
    cluster.cut(0);
    cluster.tell(0, "room", "1");
    assert_eq!(here.expect_news(1), ["message 1"]);
}

#[test]
fn publications_are_whole_and_in_order_however_much_is_told_between() {
    let cluster = Cluster::start(2);
    let mut clients: Vec<_> = (0..4).map(|at| cluster.client(at % 2)).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        let from = match at {
            0 | 1 => From::Live,
            _ => From::After(Seq(0)),
        };
        client.subscribe("room", from);
    }
    // Sizes that end anywhere in a socket's buffer.
    for number in 1..=600_usize {
        let node = number % 2;
        cluster.tell(
            node,
            "room",
            &format!("\"{}\"", "n".repeat(number * 37 % 3000)),
        );
        cluster.publish(node, "room", number * 101 % 5000);
        cluster.tell(
            1 - node,
            "room",
            &format!("\"{}\"", "m".repeat(number * 53 % 200)),
        );
    }
    for client in &mut clients {
        client.expect("room", Seq(1), Seq(600));
        for news in client.take_news() {
            let text = news.strip_prefix("message \"").unwrap();
            let text = text.strip_suffix('"').unwrap();
            assert!(text.bytes().all(|it| it == b'n') || text.bytes().all(|it| it == b'm'));
        }
    }
}

#[test]
fn who_lags_misses_news_and_no_publication_and_no_frame_is_torn() {
    let cluster = Cluster::start(1);
    let mut slow = cluster.client(0);
    slow.subscribe("room", From::Live);
    let mut quick = cluster.client(0);
    quick.subscribe("room", From::Live);
    let metrics = cluster.engine(0).metrics();
    // Far more than the buffers of a socket hold; the quick one reads along.
    let news = format!("\"{}\"", "x".repeat(20_000));
    let mut told = 0_u64;
    let mut rounds = 0_u64;
    while rounds < 40 || metrics.news_dropped.value() == 0 {
        cluster.tell(0, "room", &news);
        told += 1;
        rounds += 1;
        cluster.publish(0, "room", 20_000);
        quick.expect("room", Seq(rounds), Seq(rounds));
        assert!(rounds < 5_000, "its socket takes everything");
    }
    // Both read all publications, whatever was dropped between.
    slow.expect("room", Seq(1), Seq(rounds));
    let heard = slow.take_news();
    assert!((heard.len() as u64) < told, "{} of {told}", heard.len());
    for text in heard {
        assert_eq!(text.len(), "message ".len() + news.len(), "a torn frame");
    }
    // Having caught up, it is told again.
    wait_for(|| {
        cluster.tell(0, "room", "1");
        let number = cluster.publish(0, "room", 10);
        slow.expect("room", number, number);
        slow.take_news().contains(&"message 1".to_owned())
    });
}

#[test]
fn a_reader_that_is_always_behind_sees_whole_frames_only() {
    let cluster = Cluster::start(1);
    let mut slow = cluster.client(0);
    slow.subscribe("room", From::Live);
    slow.slow_down(Duration::from_micros(300));
    let news = format!("\"{}\"", "x".repeat(29_000));
    let last = 1_500;
    let reader = std::thread::spawn(move || {
        slow.expect("room", Seq(1), Seq(last));
        slow.take_news()
    });
    // Its socket is full, or has little room, most of the time: what is written ends anywhere in a frame.
    for _ in 0..last {
        cluster.tell(0, "room", &news);
        cluster.publish(0, "room", 7_000);
        cluster.tell(0, "room", &news);
    }
    let heard = reader.join().unwrap();
    assert!(cluster.engine(0).metrics().news_dropped.value() > 0);
    assert!(!heard.is_empty());
    for text in heard {
        assert_eq!(text, format!("message {news}"), "a torn frame");
    }
}

#[test]
fn a_flood_of_news_is_bounded_and_delays_no_publication() {
    let cluster = Cluster::start(1);
    let mut silent = cluster.client(0);
    silent.subscribe("room", From::Live);
    let news = format!("\"{}\"", "x".repeat(60_000));
    for _ in 0..3_000 {
        cluster.tell(0, "room", &news);
    }
    cluster.publish(0, "room", 10);
    silent.expect("room", Seq(1), Seq(1));
    assert!(cluster.engine(0).metrics().news_dropped.value() > 0);
    assert!(silent.take_news().len() < 3_000);
}
