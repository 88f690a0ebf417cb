//! A membership that ends while somebody is let in.

use std::{thread, time::Duration};

use serde_json::json;

use crate::{
    client::{Client, code},
    scene::{Scene, wait_for},
};

const DENIED: u64 = 103;
const ROOM: &str = "chat:room";

/// Whatever was said first, in the end the client is not subscribed, and knows it.
#[track_caller]
fn expect_out(client: &mut Client, subscribe: u32) {
    let reply = client.reply(subscribe);
    if reply.get("subscribe").is_some() {
        assert_eq!(client.push(ROOM, "unsubscribe")["code"], 2000);
    } else {
        assert_eq!(code(&reply), DENIED, "{reply}");
    }
    let again = client.subscribe(ROOM);
    assert_eq!(code(&again), DENIED, "{again}");
}

/// The judge has read that the user is a member; before it says so the user is none any more, and the node has heard it.
fn a_late_yes_does_not_count(scene: &Scene, own: usize, other: usize) {
    scene.app.add("ann", ROOM);
    // A second connection of hers shows when the node has heard of it.
    let mut witness = scene.client(own, "ann");
    assert!(witness.subscribe(ROOM).get("subscribe").is_some());
    let mut client = scene.client(own, "ann");
    scene.app.open(false);
    let asked = scene.app.asked();
    let subscribe = client.send("subscribe", json!({"channel": ROOM}));
    wait_for(|| scene.app.asked() > asked);
    scene.expel(other, "ann", ROOM);
    assert_eq!(witness.push(ROOM, "unsubscribe")["code"], 2000);
    scene.app.open(true);
    expect_out(&mut client, subscribe);
    // Who is a member again gets in again.
    scene.app.add("ann", ROOM);
    for client in [&mut client, &mut witness] {
        let reply = client.subscribe(ROOM);
        assert!(reply.get("subscribe").is_some(), "{reply}");
    }
}

#[test]
fn a_late_yes_does_not_count_on_the_node_that_ends_it() {
    a_late_yes_does_not_count(&Scene::start(1), 0, 0);
}

#[test]
fn a_late_yes_does_not_count_on_another_node() {
    a_late_yes_does_not_count(&Scene::start(2), 1, 0);
}

#[test]
fn a_late_yes_does_not_count_without_a_bus() {
    let scene = Scene::start(2);
    scene.cut(1);
    a_late_yes_does_not_count(&scene, 1, 0);
}

#[test]
fn what_stands_behind_is_kept_while_the_judge_is_asked_again() {
    let scene = Scene::start(1);
    scene.app.add("ann", ROOM);
    scene.app.add("ann", "chat:other");
    let mut witness = scene.client(0, "ann");
    witness.subscribe(ROOM);
    let mut client = scene.client(0, "ann");
    scene.app.open(false);
    let asked = scene.app.asked();
    let frame = [(10, ROOM), (11, "chat:other"), (12, "chat:none")]
        .map(|(id, channel)| json!({"id": id, "subscribe": {"channel": channel}}).to_string());
    client.send_text(frame.join("\n"));
    wait_for(|| scene.app.asked() > asked);
    scene.expel(0, "ann", ROOM);
    witness.push(ROOM, "unsubscribe");
    scene.app.open(true);
    expect_out(&mut client, 10);
    assert!(client.reply(11).get("subscribe").is_some());
    assert_eq!(code(&client.reply(12)), DENIED);
}

#[test]
fn whenever_it_ends_nobody_stays() {
    let scene = Scene::start(2);
    for (round, is_cut) in (0..60u64).map(|round| (round, round >= 30)) {
        if round == 30 {
            scene.cut(1);
        }
        let user = format!("user-{round}");
        scene.app.add(&user, ROOM);
        let mut client = scene.client(1, &user);
        scene.app.open(false);
        let asked = scene.app.asked();
        let subscribe = client.send("subscribe", json!({"channel": ROOM}));
        wait_for(|| scene.app.asked() > asked);
        // The answer comes before, at and after the moment at which the node hears of the end.
        let most = if is_cut { 60 } else { 3 };
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(round * 7 % most));
                scene.app.open(true);
            });
            scene.expel(0, &user, ROOM);
        });
        expect_out(&mut client, subscribe);
    }
}

#[test]
fn another_channel_or_another_user_is_not_asked_about_again() {
    let scene = Scene::start(1);
    scene.app.add("ann", ROOM);
    let mut witness = scene.client(0, "ann");
    scene.app.add("ann", "chat:other");
    witness.subscribe("chat:other");
    let mut bob = scene.client(0, "bob");
    scene.app.add("bob", ROOM);
    bob.subscribe(ROOM);
    let mut client = scene.client(0, "ann");
    scene.app.open(false);
    let asked = scene.app.asked();
    let subscribe = client.send("subscribe", json!({"channel": ROOM}));
    wait_for(|| scene.app.asked() > asked);
    scene.expel(0, "bob", ROOM);
    scene.expel(0, "ann", "chat:other");
    bob.push(ROOM, "unsubscribe");
    witness.push("chat:other", "unsubscribe");
    scene.app.open(true);
    let reply = client.reply(subscribe);
    assert!(reply.get("subscribe").is_some(), "{reply}");
    assert_eq!(scene.app.asked(), asked + 1);
}
