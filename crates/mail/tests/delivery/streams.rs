//! How many event streams one user may have.

use crate::{
    browser::{Browser, Stream},
    scene::{Node, Scene, Setup, eventually},
};

async fn open(browser: &Browser, node: &Node) -> Stream {
    let mut stream = browser.stream(node, None).await;
    stream.until("event: ready\n").await;
    stream
}

fn setup(nodes: usize) -> Setup {
    Setup {
        nodes,
        streams_per_user_max: 2,
        ..Setup::default()
    }
}

/// Reads the last word.
async fn told(stream: Stream) {
    let text = stream.end().await;
    let (_, last) = text.split_once("event: error\n").unwrap();
    assert!(last.contains("\"code\":\"too_many_streams\""), "{text}");
    // Who does not know better does not come back at once.
    assert!(text.contains("retry: 60000\n"), "{text}");
}

#[tokio::test]
async fn the_oldest_is_told_and_closed_at_once_on_its_node() {
    let scene = Scene::with(setup(1)).await;
    let node = &scene.nodes[0];
    let browser = Browser::sign_in(&scene).await;
    let mut other = Browser::default();
    other.sign_in_as(&scene, "bob@example.com").await;
    let of_bob = open(&other, node).await;
    let first = open(&browser, node).await;
    let mut second = open(&browser, node).await;
    let mut third = open(&browser, node).await;
    told(first).await;
    assert_eq!(node.metric("mail_streams_closed", None), 1);
    scene.message("to those who are left");
    second.until("to those who are left").await;
    third.until("to those who are left").await;
    // One that has ended makes room.
    drop(second);
    eventually("its place is free", || async {
        (node.metric("mail_streams", None) == 2).then_some(())
    })
    .await;
    let mut fourth = open(&browser, node).await;
    scene.message("and again");
    third.until("and again").await;
    fourth.until("and again").await;
    assert_eq!(node.metric("mail_streams_closed", None), 1);
    drop(of_bob);
}

#[tokio::test]
async fn streams_are_counted_over_all_nodes() {
    let scene = Scene::with(setup(3)).await;
    let browser = Browser::sign_in(&scene).await;
    let first = open(&browser, &scene.nodes[0]).await;
    let second = open(&browser, &scene.nodes[1]).await;
    let mut third = open(&browser, &scene.nodes[2]).await;
    told(first).await;
    let mut fourth = open(&browser, &scene.nodes[2]).await;
    told(second).await;
    scene.message("to those who are left");
    third.until("to those who are left").await;
    fourth.until("to those who are left").await;
    let closed = |node: &Node| node.metric("mail_streams_closed", None);
    let closed: Vec<u64> = scene.nodes.iter().map(closed).collect();
    assert_eq!(closed, [1, 1, 0]);
}
