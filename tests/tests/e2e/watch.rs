//! The watch party with the official Socket.IO client: alone on the embedded database, and on two nodes, whose Redis hangs
//! for a while and of which one dies.

use fanfare_bench::local::NodeOptions;
use fanfare_tests::servers;

use crate::browser::run_script;

/// What the nodes of a cluster sign with: who is known to one is known to all.
const SECRET: &str = "the secret of two nodes, 32 bytes";

#[test]
fn a_party_on_one_node() {
    let node = servers::start(servers::dev());
    run_script("watch.mjs", &["--url", &node.url()], &[&node]);
}

#[test]
fn a_party_on_two_nodes_of_which_one_is_killed() {
    let (redis, database) = (servers::redis(), servers::database());
    let start = |name: &str| {
        servers::start(NodeOptions {
            postgres: Some(database.clone()),
            redis: Some(redis.url()),
            name: Some(name.to_owned()),
            token_secret: Some(SECRET.to_owned()),
            ..servers::dev()
        })
    };
    let nodes = [start("one"), start("two")];
    let [one, two] = &nodes;
    let (shared, victim) = (redis.pid().to_string(), two.pid().to_string());
    let arguments = [
        "--url",
        &one.url(),
        "--other",
        &two.url(),
        "--redis",
        &shared,
        "--victim",
        &victim,
    ];
    run_script("watch.mjs", &arguments, &[one, two]);
}
