//! A bell rings for everything that is published anywhere, also when nobody tells of it.

use fanfare_wire::ChannelName;
use tokio::time::timeout;

use crate::{PATIENCE, nodes::Cluster};

#[test]
fn it_rings_for_what_any_node_publishes_and_for_what_the_bus_lost() {
    let cluster = Cluster::start(2);
    let channel = ChannelName::parse("room").unwrap();
    let tail = cluster.block_on(async { cluster.engine(1).tail(channel) });
    let rings = || cluster.block_on(async { timeout(PATIENCE, tail.rings()).await });
    rings().expect("it rings when the channel is live");
    for (node, loses) in [(1, false), (0, false), (0, true)] {
        cluster.lose_hints(loses);
        cluster.publish(node, "room", 10);
        rings().expect("it rings for what is new");
    }
}
