//! Small makers for unit tests.

use std::sync::Arc;

use fanfare_wire::{ChannelName, Epoch, Json, Publication, Run, Seq};
use uuid::Uuid;

pub(crate) fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

pub(crate) fn run(numbers: impl IntoIterator<Item = u64>) -> Arc<Run> {
    let publication = |number: u64| Publication {
        seq: Seq(number),
        id: Uuid::nil(),
        time: 0,
        data: Json::parse(number.to_string().as_bytes()).unwrap(),
        info: None,
        tags: None,
    };
    let publications = numbers.into_iter().map(publication).collect();
    Run::new(channel("c"), Epoch::parse("e1").unwrap(), publications).unwrap()
}
