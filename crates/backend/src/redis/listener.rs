//! The hearing half of a session: a connection to every master, and the wishes of this node spread over them.

use std::{convert::Infallible, sync::Arc};

use fanfare_wire::ChannelName;
use futures_util::{
    future::try_join_all,
    stream::{FuturesUnordered, StreamExt},
};

use super::{
    link::Link,
    registry::Changes,
    session::{Broken, Session},
    topology::into_error,
};

/// Listens until a path breaks.
pub(super) async fn run(session: Arc<Session>) -> Broken {
    into_error(listen(&session).await)
}

async fn listen(session: &Arc<Session>) -> Result<Infallible, Broken> {
    let places = 0..session.paths.len();
    let mut links = try_join_all(places.map(|place| Link::open(session, place))).await?;
    tokio::select! {
        followed = follow(session, &mut links) => followed,
        broken = silence(session) => Err(broken),
    }
}

/// Tells the masters what is wanted, reports that the bus is up, and goes on telling.
async fn follow(session: &Session, links: &mut [Link]) -> Result<Infallible, Broken> {
    let registry = &session.shared.registry;
    let wanted = registry.begin();
    let channels = wanted.len();
    let all = Changes {
        subscribe: wanted,
        ..Changes::default()
    };
    apply(session, links, all).await?;
    while let Some(changes) = registry.open() {
        apply(session, links, changes).await?;
    }
    session.up(channels);
    loop {
        let changes = registry.changes().await;
        apply(session, links, changes).await?;
    }
}

/// Returns once a master has not let an own heartbeat through for too long.
async fn silence(session: &Session) -> Broken {
    let mut watched: FuturesUnordered<_> = session
        .paths
        .iter()
        .map(async |path| {
            path.heartbeat.silence().await;
            Broken::Silent(path.endpoint().clone())
        })
        .collect();
    match watched.next().await {
        Some(broken) => broken,
        None => std::future::pending().await,
    }
}

/// Tells each master its part, all at the same time.
async fn apply(session: &Session, links: &mut [Link], changes: Changes) -> Result<(), Broken> {
    let leave = by_master(session, &changes.unsubscribe);
    let join = by_master(session, &changes.subscribe);
    let tell = links.iter_mut().zip(leave).zip(join);
    try_join_all(tell.map(async |((link, leave), join)| {
        link.unsubscribe(leave).await?;
        link.subscribe(join).await
    }))
    .await?;
    for waiter in changes.waiters {
        // A caller that no longer waits is told nothing.
        let _ = waiter.send(());
    }
    Ok(())
}

/// The topics of channels, for each master those that it serves.
fn by_master(session: &Session, channels: &[ChannelName]) -> Vec<Vec<String>> {
    let topics = &session.shared.topics;
    let mut parts = vec![Vec::new(); session.paths.len()];
    for channel in channels {
        let owner = session.map.owner(topics.partition(channel));
        if let Some(part) = parts.get_mut(owner) {
            part.push(topics.of(channel));
        }
    }
    parts
}
