//! One channel, many clients on two nodes, many messages through both: nothing is lost, repeated or out of order, however fast.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::chat::args::ChatArgs;
use crate::chat::listeners::{Board, Listeners, Way};
use crate::chat::site::Site;
use crate::chat::{asked, seed};
use crate::clock::{self, SECOND};
use crate::error::BenchError;
use crate::latency::Latency;
use crate::report::LatencySummary;

/// Threads that post, each one message at a time.
const POSTERS: usize = 16;
/// How long to wait for the last message, and for subscriptions.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Live {
    /// Messages that were posted.
    pub(crate) posted: usize,
    /// Messages that were refused, by the reason.
    pub(crate) refused: BTreeMap<String, usize>,
    /// Clients.
    pub(crate) clients: usize,
    /// Messages that came, over all clients.
    pub(crate) delivered: usize,
    /// What clients saw that may not be, and how often.
    pub(crate) wrong: BTreeMap<String, u64>,
    /// From the moment at which a message was to be posted to the answer.
    pub(crate) acknowledged: LatencySummary,
    /// From the same moment to the event at each client.
    pub(crate) event: LatencySummary,
}

/// Runs it.
///
/// # Errors
/// When it cannot be run.
pub(crate) fn run(args: &ChatArgs, site: &mut Site) -> Result<Live, BenchError> {
    let messages = (args.rate * args.seconds) as usize;
    let board = Arc::new(Board {
        meant: (0..messages).map(|_| AtomicU64::new(0)).collect(),
        live: AtomicUsize::new(0),
        seen: AtomicUsize::new(0),
        ended: AtomicBool::new(false),
    });
    let channel = seed::channel(0);
    let ways: Vec<Way> = (0..args.clients)
        .map(|client| site.way(client, &channel))
        .collect::<Result<_, _>>()?;
    let listeners = Listeners::start(&ways, &format!("chat:{channel}"), &board);
    wait(|| board.live.load(Ordering::Acquire) >= args.clients);
    let ready = board.live.load(Ordering::Acquire);
    if ready < args.clients {
        board.ended.store(true, Ordering::Release);
        let found = listeners.finish()?;
        return Err(BenchError::NotReady {
            what: "subscriptions",
            ready,
            wanted: args.clients,
            seconds: PATIENCE.as_secs(),
            reason: found.wrong.into_keys().next().unwrap_or_default(),
        });
    }
    let (acknowledged, refused) = post_all(args, site, &board)?;
    let posted = messages - refused.values().sum::<usize>();
    wait(|| board.seen.load(Ordering::Acquire) >= posted * args.clients);
    board.ended.store(true, Ordering::Release);
    let found = listeners.finish()?;
    Ok(Live {
        posted,
        refused,
        clients: args.clients,
        delivered: found.delivered,
        wrong: found.wrong.into_iter().collect(),
        acknowledged: acknowledged.summary(),
        event: found.latency.unwrap_or_else(Latency::new).summary(),
    })
}

fn wait(mut until: impl FnMut() -> bool) {
    let begun = clock::now();
    while !until() && clock::between(begun, clock::now()) < PATIENCE {
        thread::sleep(Duration::from_millis(20));
    }
}

type Posted = (Latency, BTreeMap<String, usize>);

fn post_all(args: &ChatArgs, site: &mut Site, board: &Board) -> Result<Posted, BenchError> {
    let nodes = site.addresses();
    let next = AtomicUsize::new(0);
    let begun = clock::now() + SECOND / 2;
    let interval = (SECOND as f64 / args.rate) as u64;
    thread::scope(|scope| {
        let posters: Vec<_> = (0..POSTERS)
            .map(|_| scope.spawn(|| post_some(&nodes, board, &next, begun, interval)))
            .collect();
        if args.kill_redis {
            let quarter = Duration::from_secs_f64(args.seconds / 4.0);
            thread::sleep(quarter * 2);
            site.redis.kill();
            thread::sleep(quarter);
            site.redis.restart()?;
        }
        let mut all = (Latency::new(), BTreeMap::new());
        for poster in posters {
            let (latency, refused) = poster.join().map_err(|_| BenchError::Thread("poster"))?;
            all.0.merge(&latency);
            for (reason, count) in refused {
                *all.1.entry(reason).or_default() += count;
            }
        }
        Ok(all)
    })
}

fn post_some(
    nodes: &[SocketAddr],
    board: &Board,
    next: &AtomicUsize,
    begun: u64,
    interval: u64,
) -> Posted {
    let mut all = (Latency::new(), BTreeMap::new());
    loop {
        let number = next.fetch_add(1, Ordering::AcqRel);
        let Some(meant) = board.meant.get(number) else {
            return all;
        };
        let at = begun + number as u64 * interval;
        thread::sleep(clock::between(clock::now(), at));
        meant.store(at, Ordering::Release);
        let form = format!(
            "channel={}&client_msg_id=bench-{number}&text=message+number+{number}+of+the+run",
            seed::channel(0)
        );
        let token = seed::token(number % seed::CALLERS);
        let node = nodes[number % nodes.len()];
        match asked::call(node, &token, "chat.postMessage", &form) {
            Ok(_) => all.0.record(at, clock::now()),
            Err(error) => *all.1.entry(error.to_string()).or_default() += 1,
        }
    }
}
