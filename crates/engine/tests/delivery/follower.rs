//! A reader inside the node is told everything, from the beginning, in order, each once, whatever happens.

use std::sync::{Arc, Mutex};

use fanfare_engine::follow::Followed;
use fanfare_wire::{ChannelName, Seq};

use crate::nodes::{Cluster, wait_for};

/// What a follower was told: numbers, and words for the rest.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn follow(cluster: &Cluster, node: usize, channel: &str) -> Self {
        let told = Self::default();
        let words = told.clone();
        let follower = move |followed| {
            words.0.lock().unwrap().push(match followed {
                Followed::Publication(publication) => publication.seq.to_string(),
                Followed::CaughtUp => "caught up".to_owned(),
                Followed::Reset => "reset".to_owned(),
            });
        };
        let channel = ChannelName::parse(channel).unwrap();
        cluster.block_on(async {
            cluster.engine(node).follow(channel, Box::new(follower));
        });
        told
    }

    fn wait_for(&self, words: &str) {
        wait_for(|| self.0.lock().unwrap().join(" ") == words);
    }
}

#[test]
fn it_begins_at_the_beginning_and_goes_on() {
    let cluster = Cluster::start(2);
    for _ in 0..3 {
        cluster.publish(0, "rules", 10);
    }
    let told = Told::follow(&cluster, 1, "rules");
    told.wait_for("1 2 3 caught up");
    cluster.publish(0, "rules", 10);
    cluster.publish(1, "rules", 10);
    told.wait_for("1 2 3 caught up 4 5");
    cluster.lose_hints(true);
    cluster.publish(0, "rules", 10);
    told.wait_for("1 2 3 caught up 4 5 6");
}

#[test]
fn it_begins_anew_with_another_log() {
    let cluster = Cluster::start(2);
    let told = Told::follow(&cluster, 1, "rules");
    told.wait_for("caught up");
    cluster.publish(0, "rules", 10);
    let backup = cluster.snapshot();
    cluster.publish(0, "rules", 10);
    told.wait_for("caught up 1 2");
    cluster.restore(backup, "second");
    assert_eq!(cluster.publish(0, "rules", 10), Seq(2));
    wait_for(|| {
        let told = told.0.lock().unwrap();
        let reset = told.iter().position(|word| word == "reset");
        let after = reset.map(|at| told[at + 1..].to_vec());
        let numbers = after.unwrap_or_default();
        numbers
            .iter()
            .filter(|word| *word != "caught up")
            .eq(["1", "2"])
    });
}
