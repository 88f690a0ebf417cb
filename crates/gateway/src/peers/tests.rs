//! Links over real sockets: the contract of the port, and who is believed.

use std::sync::atomic::AtomicU64;

use fanfare_engine::{
    contract,
    port::{LaneId, log::NodeRecord},
};
use fanfare_wire::{ChannelName, Json};
use tokio::{net::TcpListener, time::sleep};

use super::*;
use crate::listener;

/// Longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The links of a node that listens, and its record.
async fn node(number: u128, secret: &[u8]) -> (Arc<PeerLinks>, NodeRecord) {
    let uid = Uuid::from_u128(number);
    let links = PeerLinks::new(uid, secret);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let router = links.router();
    let errors = Arc::new(AtomicU64::new(0));
    let never = std::future::pending();
    tokio::spawn(async move {
        listener::serve(socket, router, errors, never, Duration::ZERO).await;
    });
    let about = format!(r#"{{"uid":"{uid}","address":"http://{address}","owners":true}}"#);
    let record = NodeRecord {
        lane: LaneId(1),
        about: about.into(),
    };
    (links, record)
}

/// Calls a node up until the attempt has failed.
async fn is_refused(links: &PeerLinks, to: PeerId) {
    let calling = async {
        loop {
            match links.link(to) {
                Link::Down => return,
                Link::Opening => sleep(Duration::from_millis(5)).await,
                Link::Open(_) => {
                    // The other end looks at the proof after the link is open at this one.
                    let draft = Draft::new(
                        ChannelName::parse("a").unwrap(),
                        Uuid::nil(),
                        Json::parse(b"1").unwrap(),
                    );
                    let Link::Open(number) = links.link(to) else {
                        continue;
                    };
                    links.forward(to, number, vec![draft]).await.unwrap_err();
                    return;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, calling).await.unwrap();
}

/// Takes nothing, and must never be asked.
struct Nobody;

impl Taker for Nobody {
    fn take(
        &self,
        _: &Arc<fanfare_engine::port::peers::Line>,
        _: Vec<Draft>,
    ) -> BoxFuture<'static, Result<Taken, NotTaken>> {
        panic!("drafts of somebody who proved nothing");
    }
}

#[tokio::test]
async fn the_links_keep_the_contract() {
    let (one, first) = node(1, b"secret").await;
    let (two, second) = node(2, b"secret").await;
    contract::peers::run(one, two, &[first, second]).await;
}

#[tokio::test]
async fn who_has_another_secret_is_not_believed() {
    let (one, first) = node(1, b"secret").await;
    let (two, second) = node(2, b"another").await;
    two.start(Arc::new(Nobody));
    let nodes = [first, second];
    let (members, _) = (one.meet(&nodes), two.meet(&nodes));
    is_refused(&one, members.others[0]).await;
}

#[tokio::test]
async fn a_node_that_is_not_alive_in_this_database_is_not_heard() {
    let (one, first) = node(1, b"secret").await;
    let (two, second) = node(2, b"secret").await;
    two.start(Arc::new(Nobody));
    let members = one.meet(&[first, second.clone()]);
    two.meet(&[second]);
    is_refused(&one, members.others[0]).await;
}

#[tokio::test]
async fn a_node_that_is_found_at_the_address_of_another_is_told_nothing() {
    let (one, first) = node(1, b"secret").await;
    let (two, second) = node(2, b"secret").await;
    two.start(Arc::new(Nobody));
    let nodes = [first.clone(), second.clone()];
    two.meet(&nodes);
    let about = std::str::from_utf8(&second.about).unwrap();
    let renamed = about.replace(
        &Uuid::from_u128(2).to_string(),
        &Uuid::from_u128(3).to_string(),
    );
    let third = NodeRecord {
        about: renamed.into(),
        ..second
    };
    let members = one.meet(&[first, third]);
    is_refused(&one, members.others[0]).await;
}

#[tokio::test]
async fn nodes_that_own_nothing_and_broken_records_are_no_members() {
    let (one, first) = node(1, b"secret").await;
    let record = |about: &str| NodeRecord {
        about: Bytes::copy_from_slice(about.as_bytes()),
        ..first.clone()
    };
    let uid = Uuid::from_u128(9);
    let nodes = [
        first.clone(),
        record("not json"),
        record(&format!(
            r#"{{"uid":"{uid}","address":"http://127.0.0.1:1"}}"#
        )),
        record(&format!(r#"{{"uid":"{uid}","owners":true}}"#)),
        record(r#"{"uid":"9","address":"http://127.0.0.1:1","owners":true}"#),
    ];
    assert_eq!(one.meet(&nodes).others, []);
}
