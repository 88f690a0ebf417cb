//! The task that drives a shard of a simulated node: the same calls as the reactor's, on the simulation's clock.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Instant, timeout_at},
};

use super::{Common, inbox::Inbox, shard::Shard};
use crate::task;

/// Starts a shard within the simulated node that is being started.
pub(super) fn spawn(index: usize, common: Arc<Common>) -> Arc<Inbox> {
    let woken = Arc::new(Notify::new());
    let wake = {
        let woken = Arc::clone(&woken);
        move || woken.notify_one()
    };
    let inbox = Inbox::new(index, Box::new(wake));
    let shard = Shard::new(common, Arc::clone(&inbox));
    task::spawn(run(shard, woken));
    inbox
}

async fn run(mut shard: Shard, woken: Arc<Notify>) {
    let second = Duration::from_secs(1);
    let mut next_second = Instant::now() + second;
    loop {
        // Either way the shard looks around.
        let _ = timeout_at(next_second, woken.notified()).await;
        loop {
            shard.take_messages(&mut |_, _| true);
            if Instant::now() >= next_second {
                next_second += second;
                shard.second();
            }
            if !shard.turn() {
                break;
            }
            yield_now().await;
        }
    }
}
