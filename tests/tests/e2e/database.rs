//! A database that stands still, locks that others hold, a node that is stopped in the middle of it: what cannot be
//! promised is refused, nothing is guessed, nobody waits for somebody who sleeps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fanfare_bench::local::{Node, Postgres, Session, SmallDisk};
use fanfare_tests::api::{Api, Published, Refusal};
use fanfare_tests::expect::{all_over_ws, dense, run_over_ws};
use fanfare_tests::servers;
use fanfare_tests::wait::{SetOnDrop, eventually};
use fanfare_tests::ws::{Client, meanwhile};
use serde_json::{Value, json};

use crate::outage::two_nodes;

/// Publications of the node that is awake while the other is stopped.
const WHILE_STOPPED: u64 = 50;

/// What a new cluster takes, and some room.
const DISK_MIB: u64 = 128;

/// A node is stopped in the middle of its batches, for so long that the others fence its lane, and wakes.
#[test]
fn a_node_that_is_stopped_and_woken_holds_nobody_up_and_reorders_nothing() {
    let postgres = servers::postgres();
    let database = postgres.create_database("app").unwrap();
    let redis = servers::redis();
    let [mut sleeper, awake] = two_nodes(&database, &redis.url());
    let mut client = Client::connect(awake.address());
    client.subscribe("channel");
    let address = sleeper.address();
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        thread::scope(|scope| {
            let publishers: Vec<_> = (0..3)
                .map(|publisher| {
                    let (count, stop) = (&count, &stop);
                    scope.spawn(move || publish_until_told(address, publisher, count, stop))
                })
                .collect();
            let stopping = SetOnDrop(&stop);
            eventually("publishers are at work", || {
                (count.load(Ordering::Relaxed) >= 60).then_some(())
            });
            sleeper.pause();
            // It sleeps until all this is done: a lock that it held would hold these for ever.
            let mut api = Api::new(awake.address());
            for number in 0..WHILE_STOPPED {
                api.publish("channel", json!({ "publisher": "awake", "number": number }));
            }
            let retired = "SELECT count(*) FROM fanfare.lanes WHERE retired AND node = 'node-1'";
            eventually("the lane of the sleeper is fenced", || {
                (postgres.execute("app", retired).unwrap().trim() != "0").then_some(())
            });
            let before = count.load(Ordering::Relaxed);
            sleeper.resume();
            eventually("publishers are at work again", || {
                (count.load(Ordering::Relaxed) >= before + 60).then_some(())
            });
            drop(stopping);
            publishers
                .into_iter()
                .flat_map(|publisher| publisher.join().unwrap())
                .collect::<Vec<_>>()
        })
    };
    let told = meanwhile([&mut client], work);
    let mut api = Api::new(awake.address());
    api.publish("channel", json!("last"));
    let history = api.history("channel");
    dense(&history);
    for (published, data) in &told {
        let found = &history.publications[published.offset as usize - 1].data;
        assert_eq!(found, data, "offset {}", published.offset);
    }
    for publisher in 0..3 {
        let of_one = history.publications.iter().map(|one| &one.data);
        let numbers: Vec<u64> = of_one
            .filter(|data| data["publisher"] == publisher)
            .filter_map(|data| data["number"].as_u64())
            .collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }
    all_over_ws(&mut client, "channel", &history);
    assert!(sleeper.ended().is_none(), "{}", sleeper.stderr());
}

/// Publishes one after the other; what got no answer is not published again.
fn publish_until_told(
    address: std::net::SocketAddr,
    publisher: u64,
    count: &AtomicU64,
    stop: &AtomicBool,
) -> Vec<(Published, Value)> {
    let mut api = Api::new(address);
    let mut told = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let data = json!({ "publisher": publisher, "number": number });
        if let Ok(published) = api.try_publish("channel", data.clone()) {
            count.fetch_add(1, Ordering::Relaxed);
            told.push((published, data));
        }
    }
    told
}

/// All of PostgreSQL stands still, open sessions too.
#[test]
fn postgres_standing_still_costs_time_and_nothing_else() {
    let mut postgres = servers::postgres();
    let database = postgres.create_database("app").unwrap();
    let redis = servers::redis();
    let mut nodes = two_nodes(&database, &redis.url());
    let address = nodes[0].address();
    let mut clients = nodes.each_ref().map(|node| Client::connect(node.address()));
    for client in &mut clients {
        client.subscribe("channel");
    }
    let mut api = Api::new(address);
    api.publish("channel", json!("before"));
    postgres.pause_all();
    let work = || {
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..8)
                .map(|number| {
                    scope.spawn(move || {
                        let key = format!("key-{number}");
                        let request = json!({
                            "channel": "channel", "data": key, "idempotency_key": key,
                        });
                        let first = Api::new(address).try_publish_request(&request);
                        (request, first)
                    })
                })
                .collect();
            eventually("the node says that it is not ready", || {
                (Api::new(address).get("/health/ready").ok()?.status == 503).then_some(())
            });
            // Until one of them is told that nothing can be promised, the database stands still.
            eventually("a publish is answered", || {
                waiting
                    .iter()
                    .any(|publisher| publisher.is_finished())
                    .then_some(())
            });
            assert_eq!(Api::new(address).get("/health/live").unwrap().status, 200);
            postgres.resume_all();
            waiting
                .into_iter()
                .map(|publisher| publisher.join().unwrap())
                .collect::<Vec<_>>()
        })
    };
    let told = meanwhile(&mut clients, work);
    for client in &mut clients {
        assert!(client.is_open(), "a connected client was sent away");
    }
    let mut offsets = Vec::new();
    for (request, first) in told {
        if let Err(refusal) = &first {
            assert!(!matches!(refusal, Refusal::Broken(_)), "{refusal:?}");
        }
        let again = eventually("a retry is acknowledged", || {
            api.try_publish_request(&request).ok()
        });
        if let Ok(first) = first {
            assert_eq!((again.offset, again.duplicate), (first.offset, true));
        }
        offsets.push(again.offset);
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (2..=9).collect::<Vec<_>>(), "every key once");
    for client in &mut clients {
        run_over_ws(client, "channel", 1, 9);
    }
    assert_eq!(
        api.history("channel").epoch,
        api.publish("channel", json!("after")).epoch
    );
    for node in &mut nodes {
        assert!(node.ended().is_none(), "{}", node.stderr());
    }
}

/// The disk under the database is full, and later it is not.
#[test]
fn a_full_disk_refuses_publishes_and_loses_none() {
    let disk = match SmallDisk::mount(DISK_MIB) {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("not run: mounting a small file system needs root ({error})");
            return;
        }
    };
    let mut postgres = Postgres::start_in(&disk.path()).unwrap();
    let database = postgres.create_database("app").unwrap();
    let redis = servers::redis();
    let mut nodes = two_nodes(&database, &redis.url());
    let mut client = Client::connect(nodes[1].address());
    client.subscribe("channel");
    let mut api = Api::new(nodes[0].address());
    let mut acknowledged = vec![(api.publish("channel", json!("before")), json!("before"))];
    disk.fill().unwrap();
    let large = "x".repeat(20_000);
    let publish_until_refused = || {
        (0..).find_map(|number| {
            let data = json!({ "number": number, "large": large });
            match api.try_publish("channel", data.clone()) {
                Ok(published) => {
                    acknowledged.push((published, data));
                    None
                }
                Err(refusal) => Some(refusal),
            }
        })
    };
    let refusal = meanwhile([&mut client], publish_until_refused);
    match refusal {
        Some(Refusal::Api { message, .. }) => assert!(!message.is_empty()),
        Some(Refusal::Status(500..=599, _)) => {}
        other => panic!("a publish onto a full disk: {other:?}"),
    }
    assert_eq!(api.get("/health/live").unwrap().status, 200);
    assert!(client.is_open(), "a connected client was sent away");

    disk.relieve().unwrap();
    let come_back = || {
        if postgres.ended().is_some() {
            // It gives up when not even its log can be written.
            postgres.restart().unwrap();
        }
        eventually("publishes are taken again", || {
            api.try_publish("channel", json!("after")).ok()
        })
    };
    let published = meanwhile([&mut client], come_back);
    acknowledged.push((published, json!("after")));
    let history = api.history("channel");
    dense(&history);
    for (published, data) in &acknowledged {
        assert_eq!(published.epoch, history.epoch);
        let found = &history.publications[published.offset as usize - 1].data;
        assert_eq!(found, data, "offset {}", published.offset);
    }
    all_over_ws(&mut client, "channel", &history);
    for node in &mut nodes {
        assert!(node.ended().is_none(), "{}", node.stderr());
    }
}

/// Somebody else's transaction holds a channel's row, then a whole table.
#[test]
fn locks_of_others_are_not_waited_for_without_end() {
    let postgres = servers::postgres();
    let database = postgres.create_database("app").unwrap();
    let redis = servers::redis();
    let nodes = two_nodes(&database, &redis.url());
    let mut apis = nodes.each_ref().map(|node| Api::new(node.address()));
    let mut client = Client::connect(nodes[1].address());
    client.subscribe("hot");
    client.subscribe("cold");
    apis[0].publish("hot", json!(1));
    apis[1].publish("cold", json!(1));
    let errors = sweep_errors(&nodes);

    let work = || {
        let holds = |lock: &str| {
            postgres
                .begin("app", &format!("{lock}; SELECT pg_sleep(600)"))
                .unwrap()
        };
        let row = holds("SELECT FROM fanfare.channels WHERE name = 'hot' FOR UPDATE");
        is_held(&postgres, "RowShareLock");
        refused_with_a_reason(&mut apis[0], "hot");
        // Another channel through another node does not notice.
        apis[1].publish("cold", json!(2));
        end(&postgres, row);
        eventually("the channel takes publications again", || {
            apis[0].try_publish("hot", json!("after")).ok()
        });

        let table = holds("LOCK TABLE fanfare.publications IN ACCESS EXCLUSIVE MODE");
        is_held(&postgres, "AccessExclusiveLock");
        for api in &mut apis {
            refused_with_a_reason(api, "cold");
        }
        for api in &apis {
            assert_eq!(
                api.get("/health/ready").unwrap().status,
                200,
                "the log answers"
            );
        }
        end(&postgres, table);
        eventually("publications are taken again", || {
            apis[1].try_publish("cold", json!("after")).ok()
        });
    };
    meanwhile([&mut client], work);
    assert!(client.is_open(), "a connected client was sent away");
    let heads = ["hot", "cold"].map(|channel| {
        let history = apis[0].history(channel);
        dense(&history);
        history.head
    });
    run_over_ws(&mut client, "hot", 1, heads[0]);
    run_over_ws(&mut client, "cold", 1, heads[1]);
    assert_eq!(sweep_errors(&nodes), errors, "the sweep was held up");
}

fn refused_with_a_reason(api: &mut Api, channel: &str) {
    match api.try_publish(channel, json!("refused")) {
        Err(Refusal::Api { message, .. }) => assert!(!message.is_empty()),
        Err(Refusal::Status(500..=599, _)) => {}
        answer => panic!("a publish into what is locked: {answer:?}"),
    }
}

fn is_held(postgres: &Postgres, mode: &str) {
    let held = format!(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE mode = '{mode}' AND granted AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
    );
    eventually("the lock is held", || {
        (postgres.execute("app", &held).unwrap().trim() != "0").then_some(())
    });
}

fn end(postgres: &Postgres, session: Session) {
    drop(session);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()";
    postgres.execute("app", end).unwrap();
}

fn sweep_errors(nodes: &[Node]) -> Vec<String> {
    let of = |node: &Node| {
        let metrics = Api::new(node.address()).get("/metrics").unwrap().text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("fanfare_sweep_errors"));
        line.unwrap_or_else(|| panic!("{metrics}")).to_owned()
    };
    nodes.iter().map(of).collect()
}
