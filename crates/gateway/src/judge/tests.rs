use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::mpsc;

use super::*;
use crate::access::{Access, ChannelOptions};

/// Answers by the name of the channel, when it is let.
struct Named {
    go: Arc<Semaphore>,
    asked: AtomicUsize,
}

impl Judge for Named {
    fn namespaces(&self) -> &[&str] {
        &["chat", "notes", "", RESERVED_NAMESPACE]
    }

    fn may_subscribe(&self, asked: Asked) -> BoxFuture<'static, Verdict> {
        self.asked.fetch_add(1, SeqCst);
        let go = Arc::clone(&self.go);
        Box::pin(async move {
            go.acquire().await.unwrap().forget();
            match asked.channel.as_str() {
                "chat:yes" => Verdict::Yes { seconds: 60 },
                "chat:no" => Verdict::No,
                "chat:mistake" => panic!("on purpose"),
                _ => Verdict::Away,
            }
        })
    }
}

fn judges(permits: usize) -> (Judges, Arc<Named>) {
    let judge = Arc::new(Named {
        go: Arc::new(Semaphore::new(permits)),
        asked: AtomicUsize::new(0),
    });
    (Judges::start(vec![Arc::clone(&judge) as _]), judge)
}

fn asked(channel: &str) -> Asked {
    Asked {
        user: "ann".to_owned(),
        channel: ChannelName::parse(channel).unwrap(),
        claims: None,
    }
}

/// Asks, and waits for the answer.
async fn answer(judges: &Judges, channel: &str) -> proxy::Verdict {
    let (answers, mut answered) = mpsc::unbounded_channel();
    let done = move |verdict| drop(answers.send(verdict));
    let _call = judges.ask(asked(channel), done).unwrap();
    answered.recv().await.unwrap()
}

#[tokio::test]
async fn what_a_judge_says_is_what_a_backend_would() {
    let (judges, _) = judges(100);
    let before = unix_seconds();
    let proxy::Verdict::Granted(granted) = answer(&judges, "chat:yes").await else {
        panic!("not granted");
    };
    let expires = granted.expire_at.unwrap();
    assert!((before + 45..=unix_seconds() + 60).contains(&expires));
    assert!(granted.allow.has(Right::History) && granted.allow.has(Right::Presence));
    assert!(!granted.allow.has(Right::Publish) && !granted.allow.has(Right::Subscribe));
    let refused = answer(&judges, "chat:no").await;
    assert!(matches!(refused, proxy::Verdict::Refused { code: 103, .. }));
    for away in ["notes:1", "chat:mistake"] {
        assert_eq!(answer(&judges, away).await, proxy::Verdict::Failed);
    }
    let counted = judges.family().unwrap().samples;
    let Samples::Counter(counted) = counted else {
        panic!("not counted");
    };
    let counts: Vec<u64> = counted.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [1, 1, 2]);
}

#[test]
fn a_yes_holds_for_no_longer_and_not_much_shorter() {
    for seconds in [1, 2, 3, 600, u32::MAX] {
        for _ in 0..100 {
            let held = spread(seconds);
            let least = Seconds::from(seconds - seconds / 4);
            assert!(
                (least..=seconds.into()).contains(&held),
                "{seconds}: {held}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_judge_has_its_time_and_its_calls_and_no_more() {
    let (judges, judge) = judges(0);
    let (answers, mut answered) = mpsc::unbounded_channel();
    let ask = || {
        let answers = answers.clone();
        let done = move |verdict| drop(answers.send(verdict));
        judges.ask(asked("chat:yes"), done).unwrap()
    };
    let calls: Vec<Call> = (0..CALLS_MAX + 10).map(|_| ask()).collect();
    // All of them run until they wait.
    tokio::time::sleep(PATIENCE / 2).await;
    assert_eq!(judge.asked.load(SeqCst), CALLS_MAX);
    for _ in &calls {
        assert_eq!(answered.recv().await, Some(proxy::Verdict::Failed));
    }
    // Who goes away gives the place up, and is told nothing.
    let gone = ask();
    tokio::task::yield_now().await;
    drop(gone);
    judge.go.add_permits(1);
    let _call = ask();
    assert!(matches!(
        answered.recv().await,
        Some(proxy::Verdict::Granted(_))
    ));
    assert!(answered.try_recv().is_err());
}

#[tokio::test]
async fn a_namespace_has_one_judge_and_no_other_way_in() {
    let (first, second) = (judges(0).1, judges(0).1);
    let judges = Judges::start(vec![first as _, Arc::clone(&second) as _]);
    let decides = |name: &str| judges.decide(&ChannelName::parse(name).unwrap());
    assert!(decides("chat:1") && decides("notes:1:2"));
    for other in ["chat", "chatter:1", ":1", "_fanfare:commands"] {
        assert!(!decides(other), "{other}");
        assert!(judges.ask(asked(other), |_| {}).is_none());
    }
    let _call = judges.ask(asked("chat:yes"), |_| {}).unwrap();
    tokio::task::yield_now().await;
    assert_eq!(second.asked.load(SeqCst), 0);
    let open = ChannelOptions {
        publish: Access::SUBSCRIBER,
        allow_user_limited_channels: true,
        personal_channels: true,
        proxied: Proxied {
            subscribe: true,
            sub_refresh: true,
            publish: true,
        },
        ..ChannelOptions::default()
    };
    let mut rules = ChannelRules {
        outside: open.clone(),
        namespaces: BTreeMap::from([("chat".to_owned(), open.clone())]),
        unknown: Some(open.clone()),
    };
    judges.restrict(&mut rules);
    let chat = ChannelOptions {
        publish: Access::SUBSCRIBER,
        ..ChannelOptions::default()
    };
    let expected = [
        ("chat".to_owned(), chat),
        ("notes".to_owned(), ChannelOptions::default()),
    ];
    assert_eq!(rules.namespaces, BTreeMap::from(expected));
    assert_eq!((rules.outside, rules.unknown), (open.clone(), Some(open)));
}
