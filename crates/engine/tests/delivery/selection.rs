//! Subscribers who are given some of the publications, or what has changed: each reads what it should, however slowly, and from
//! wherever it comes back.

use std::sync::Arc;

use fanfare_wire::{ChannelName, Epoch, FilterNode, Form, NewsBody, Publication, Seq, TagsFilter};

use crate::{
    line::{Client, From, LineForm},
    nodes::Cluster,
};

/// Which publications `subeven` wants.
pub(crate) fn even() -> Arc<TagsFilter> {
    let node = FilterNode {
        key: "even".into(),
        cmp: "ex".into(),
        ..FilterNode::default()
    };
    Arc::new(TagsFilter::compile(&node).unwrap())
}

/// Lines of which the letter before the payload says whether they are whole (`w`) or deltas (`d`).
pub(crate) struct DeltaForm;

impl DeltaForm {
    fn line(letter: char, channel: &ChannelName, publication: &Publication, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{channel} {} {letter}", publication.seq).as_bytes());
        out.extend_from_slice(publication.data.as_bytes());
        out.push(b'\n');
    }
}

impl Form for DeltaForm {
    fn encode(
        &self,
        channel: &ChannelName,
        _: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        Self::line('w', channel, publication, out);
    }

    fn takes_deltas(&self) -> bool {
        true
    }

    fn encode_delta(
        &self,
        channel: &ChannelName,
        _: &Epoch,
        publication: &Publication,
        _: &[u8],
        out: &mut Vec<u8>,
    ) {
        Self::line('d', channel, publication, out);
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        LineForm.encode_news(channel, news, out);
    }
}

/// Publishes so many; the letters that each of the clients has read then.
fn publish(cluster: &Cluster, clients: &mut [Client; 2], count: u64) -> [String; 2] {
    let mut last = Seq::ZERO;
    for number in 0..count {
        last = cluster.publish((number % 2) as usize, "room", 300);
    }
    clients.each_mut().map(|client| {
        client.expect("room", Seq(last.0 - count + 1), last);
        client.take_letters()
    })
}

#[test]
fn the_first_one_is_whole_and_so_is_the_first_behind_a_message() {
    let cluster = Cluster::start(2);
    let mut clients = [cluster.client(0), cluster.client(1)];
    for client in &mut clients {
        client.subscribe_to_deltas("room", From::Live);
    }
    assert_eq!(publish(&cluster, &mut clients, 5), ["wdddd", "wdddd"]);
    cluster.tell(0, "room", "1");
    for client in &mut clients {
        client.expect_news(1);
    }
    assert_eq!(publish(&cluster, &mut clients, 3), ["wdd", "wdd"]);
    for client in &mut clients {
        client.unsubscribe("room");
        client.subscribe_to_deltas("room", From::After(Seq(4)));
        client.expect("room", Seq(5), Seq(8));
        assert_eq!(client.take_letters(), "wddd");
    }
}

#[test]
fn who_reads_slowly_or_from_far_back_has_deltas_too() {
    let cluster = Cluster::start(1);
    let mut slow = cluster.client(0);
    slow.subscribe_to_deltas("room", From::Live);
    let mut quick = cluster.client(0);
    quick.subscribe("room", From::Live);
    // Far more than socket buffers and ring hold together.
    let last = Seq(3000);
    for _ in 0..last.0 {
        cluster.publish(0, "room", 8000);
    }
    quick.expect("room", Seq(1), last);
    let mut late = cluster.client(0);
    late.subscribe_to_deltas("room", From::After(Seq(99)));
    for (client, first) in [(&mut slow, 1), (&mut late, 100)] {
        client.expect("room", Seq(first), last);
        let letters = client.take_letters();
        assert!(letters.starts_with("wd"), "{letters}");
        // At the start, and where a page begins.
        let whole = letters.matches('w').count();
        assert!(whole <= 2 + 3000 / 128, "{whole} of {}", letters.len());
    }
}

#[test]
fn a_filter_selects_however_slowly_its_subscriber_reads() {
    let cluster = Cluster::start(1);
    let mut slow = cluster.client(0);
    slow.subscribe_to_even("room", From::Live);
    let mut quick = cluster.client(0);
    quick.subscribe("room", From::Live);
    let last = 3000;
    for number in 1..=last {
        let tags = match number % 2 {
            0 => r#"{"even":"","other":"x"}"#,
            _ => r#"{"other":"x"}"#,
        };
        cluster.publish_tagged(0, "room", 8000, tags);
    }
    quick.expect("room", Seq(1), Seq(last));
    let wanted = |after: u64| {
        let numbers = after + 1..=last;
        numbers.filter(|number| number % 2 == 0).collect::<Vec<_>>()
    };
    let mut late = cluster.client(0);
    late.subscribe_to_even("room", From::After(Seq(99)));
    late.expect_numbers("room", &wanted(99));
    slow.expect_numbers("room", &wanted(0));
}

#[test]
fn what_is_not_wanted_is_passed_over_and_the_next_one_comes() {
    let cluster = Cluster::start(2);
    let mut early = cluster.client(0);
    early.subscribe_to_even("room", From::Live);
    for _ in 0..1000 {
        cluster.publish(1, "room", 10);
    }
    // It has no tags: those who filter are not told.
    cluster.tell(1, "room", "1");
    let mut late = cluster.client(1);
    assert_eq!(
        late.subscribe_to_even("room", From::After(Seq(0))),
        "recovered"
    );
    let wanted = cluster.publish_tagged(0, "room", 10, r#"{"even":"1"}"#);
    for client in [&mut early, &mut late] {
        client.expect("room", wanted, wanted);
        assert!(client.take_news().is_empty());
    }
}
