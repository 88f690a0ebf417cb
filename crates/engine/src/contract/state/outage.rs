//! What happens when the state goes away and comes back. These checks break the network for everybody.

use std::time::Duration;

use super::{LONG, Node, StateNetwork, Told, joined, lease, left, new_key, patient, until};
use crate::port::state::{NODE_LEASE, StateError};

/// Calls fail while the state is away, that is told, and what was there is there afterwards.
pub async fn calls_fail_while_it_is_away(network: &dyn StateNetwork) {
    let node = Node::join(network).await;
    let (key, _) = new_key("object");
    let version = node.put(&key, "1", LONG).await;
    let (ups, downs) = (node.ups(), node.downs());
    network.break_path().await;
    node.await_down().await;
    until("on_down", || async { (node.downs() > downs).then_some(()) }).await;
    let answer = patient("an answer without the state", node.state.object(&key)).await;
    assert!(
        matches!(answer, Err(StateError::Unavailable(_))),
        "{answer:?} from a state that is away"
    );
    network.mend_path().await;
    node.await_up().await;
    until("on_up", || async { (node.ups() > ups).then_some(()) }).await;
    let found = node.object(&key).await.map(|object| object.version);
    assert_eq!(found, Some(version));
}

/// Nodes that could not renew their leases because the state was away for all of them are not dead.
pub async fn an_absence_of_the_state_is_no_death(network: &dyn StateNetwork) {
    let (first, second) = (Node::join(network).await, Node::join(network).await);
    let (scope, channel) = new_key("presence");
    let leases = ["ann", "bob"].map(|member| lease(&scope, member));
    first.enter(&leases[0]).await;
    second.enter(&leases[1]).await;
    network.break_path().await;
    first.await_down().await;
    second.await_down().await;
    tokio::time::sleep(NODE_LEASE + Duration::from_secs(3)).await;
    network.mend_path().await;
    first.await_up().await;
    second.await_up().await;
    let mut news = Told::of(network, &channel).await;
    // As long as a dead node would have needed to be noticed.
    tokio::time::sleep(NODE_LEASE + Duration::from_secs(3)).await;
    assert_eq!(first.count(&scope).await, (2, 2), "both are there");
    news.expect_nothing(&first, &scope).await;
    assert!(first.leave(&leases[0].held).await);
    news.expect(&left(&leases[0])).await;
}

/// Every node is told when the state has lost everything, though no connection broke; versions go on growing.
pub async fn a_loss_is_noticed(network: &dyn StateNetwork) {
    let (first, second) = (Node::join(network).await, Node::join(network).await);
    let [(key, _), (scope, channel)] = ["object", "presence"].map(new_key);
    let mut news = Told::of(network, &channel).await;
    let lost = lease(&scope, "ann");
    first.enter(&lost).await;
    news.expect(&joined(&lost)).await;
    let before = first.put(&key, "1", LONG).await;
    let object = first.object(&key).await;
    let object = object.unwrap_or_else(|| panic!("what was put is not there"));
    let (ups, other_ups) = (first.ups(), second.ups());
    network.lose_everything().await;
    until("on_up after a loss", || async {
        (first.ups() > ups && second.ups() > other_ups).then_some(())
    })
    .await;
    assert_eq!(first.object(&key).await, None, "it was lost");
    assert_eq!(first.count(&scope).await, (0, 0), "it was lost");

    let back = first.state.assert_object(&key, &object, LONG).await;
    assert_eq!(back.ok(), Some(before), "what was lost is put back");
    assert_eq!(second.object(&key).await, Some(object));
    let after = second.put(&key, "2", LONG).await;
    assert!(after > before, "{after} after {before} was lost");
    first.enter(&lost).await;
    news.expect(&joined(&lost)).await;
    news.expect_nothing(&second, &scope).await;
}
