//! The app on the real database, as two nodes that share it and the state.

use std::{sync::Arc, time::Duration};

use fanfare_backend::sqlite::SqliteLog;
use fanfare_bench::local::TempDir;
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    memory::{bus::LocalBus, state::MemoryStates},
    state::WhenAway,
};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};
use uuid::Uuid;

use crate::{
    Watch, WatchConfig,
    failure::{Code, Failure},
    identity::{MemberId, RoomCode, Visitor},
    limits::Limit,
    owner,
    payload::{self, Answer, How, LoadHistory, NewRoom, Status},
    room::{Control, Present, Room},
    store::Settings,
    sync::{Command, Order},
    turn::IceConfig,
};

/// Two nodes.
struct House {
    nodes: [Arc<Watch>; 2],
    // Gone last.
    _dir: TempDir,
}

impl House {
    async fn build() -> Self {
        let dir = TempDir::new().unwrap();
        let log = Arc::new(SqliteLog::open(dir.path()).unwrap());
        let states = MemoryStates::new();
        let node = || {
            let config = EngineConfig {
                shards: 1,
                retention: Vec::new(),
                retention_interval: Duration::from_secs(3600),
                stall_seconds: 60,
                about: Arc::new(|| "{}".into()),
                metrics: Arc::new(Metrics::default()),
            };
            let state = Arc::new(states.join());
            let (tables, log) = (Arc::clone(&log), Arc::clone(&log));
            let forms = fanfare_gateway::forms(&[crate::NAMESPACE], true);
            let engine =
                Engine::start(config, log, Arc::new(LocalBus), tables, state, forms).unwrap();
            let config = WatchConfig {
                anonymous_rooms: true,
                open: false,
                rooms_per_hour: 5,
                limits_when_away: WhenAway::Local,
                signer: None,
                ice: IceConfig::default(),
            };
            Watch::start(config, engine)
        };
        let house = Self {
            nodes: [node(), node()],
            _dir: dir,
        };
        for node in &house.nodes {
            while node.check_ready().is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        }
        house
    }

    async fn room(&self, fields: serde_json::Value) -> Room {
        let mut wish = json!({ "name": "Movie" });
        for (field, value) in fields.as_object().unwrap() {
            wish[field] = value.clone();
        }
        let wish: NewRoom = serde_json::from_value(wish).unwrap();
        let (room, _) = self.nodes[0]
            .create(wish.check().unwrap(), Some("ann"))
            .await
            .unwrap();
        room
    }

    fn node(&self, number: usize) -> Arc<Watch> {
        Arc::clone(&self.nodes[number % 2])
    }
}

fn ann(code: RoomCode) -> MemberId {
    MemberId::of_user(code, "ann")
}

fn command(code: RoomCode, order: Order, how: serde_json::Value) -> Command {
    let how: How = serde_json::from_value(how).unwrap();
    Command::new(order, ann(code), &how).unwrap()
}

fn visitor(name: &str) -> Visitor {
    Visitor {
        session: Uuid::new_v4(),
        user: None,
        resume_key: format!("key-of-{name}-0123456789"),
        address: "127.0.0.1".to_owned(),
    }
}

/// A guest who takes a place.
async fn come(node: &Watch, room: &Room, name: &str) -> Result<(Visitor, Present), Failure> {
    let visitor = visitor(name);
    let present = Present {
        oder_id: visitor.member(room.code),
        user_id: None,
        username: name.to_owned(),
        guest: true,
        status: Status::Online,
        joined_at: node.clock.now(),
    };
    node.enter(room, visitor.session, &present, true).await?;
    node.remember(room.code, &present.oder_id, &visitor, name)
        .await?;
    Ok((visitor, present))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_who_expect_a_version_one_wins() {
    let house = House::build().await;
    let code = house.room(json!({})).await.code;
    for version in 0..3 {
        let mut writers = JoinSet::new();
        for number in 0..100 {
            let node = house.node(number);
            let order = Order::Seek(i64::try_from(number).unwrap());
            let command = command(code, order, json!({ "expectedVersion": version }));
            writers.spawn(async move { node.command(code, command).await });
        }
        let results = writers.join_all().await;
        let won: Vec<_> = results.iter().filter_map(|it| it.as_ref().ok()).collect();
        assert_eq!(won.len(), 1);
        assert_eq!(won[0].version, version + 1);
        for lost in results.iter().filter_map(|it| it.as_ref().err()) {
            assert_eq!(lost.code, Code::Conflict);
            assert_eq!(lost.more["currentVersion"], version + 1);
            assert_eq!(lost.more["state"], won[0].state);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_expectation_everybody_gets_a_version_of_its_own() {
    let house = House::build().await;
    let code = house.room(json!({})).await.code;
    let mut writers = JoinSet::new();
    for number in 0..40 {
        let node = house.node(number);
        let order = if number % 3 == 0 {
            Order::Play
        } else {
            Order::Seek(5000)
        };
        let command = command(code, order, json!({}));
        writers.spawn(async move { node.command(code, command).await.unwrap().version });
    }
    let mut versions = writers.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=40).collect::<Vec<i64>>());
    // And the log has them in this order.
    let page = house.nodes[0].page_before(code, None, 100).await.unwrap();
    let told = page.publications.iter().rev().map(|publication| {
        let told: serde_json::Value = serde_json::from_slice(publication.data.as_bytes()).unwrap();
        assert_eq!(told["state"]["version"], told["command"]["sequenceNumber"]);
        told["command"]["sequenceNumber"].as_i64().unwrap()
    });
    assert_eq!(told.collect::<Vec<_>>(), versions);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_sent_again_has_one_effect() {
    let house = House::build().await;
    let code = house.room(json!({})).await.code;
    let once = || {
        let how = json!({ "idempotencyKey": "k", "expectedVersion": 0 });
        command(code, Order::Seek(7000), how)
    };
    let mut senders = JoinSet::new();
    for number in 0..10 {
        let (node, command) = (house.node(number), once());
        senders.spawn(async move { node.command(code, command).await.unwrap() });
    }
    let results = senders.join_all().await;
    assert_eq!(results.iter().filter(|it| !it.duplicate).count(), 1);
    for result in &results {
        assert_eq!((result.version, &result.state), (1, &results[0].state));
    }
    // Also much later, when the room is somewhere else.
    let play = command(code, Order::Play, json!({}));
    house.nodes[1].command(code, play).await.unwrap();
    let late = house.nodes[0].command(code, once()).await.unwrap();
    assert_eq!((late.version, late.duplicate), (1, true));
    assert_eq!(house.nodes[0].load(code).await.unwrap().playback.version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_a_version_that_is_yet_to_come_never_takes_its_place() {
    let house = House::build().await;
    let code = house.room(json!({})).await.code;
    let mut writers = JoinSet::new();
    for number in 0..60 {
        let how = match number % 3 {
            0 => json!({}),
            ahead => {
                json!({ "idempotencyKey": format!("k{number}"), "expectedVersion": number / 3 + ahead })
            }
        };
        let (node, command) = (house.node(number), command(code, Order::Seek(5000), how));
        writers.spawn(async move { node.command(code, command).await.map(|it| it.version) });
    }
    let results = writers.join_all().await;
    let mut versions: Vec<i64> = results.into_iter().filter_map(Result::ok).collect();
    versions.sort_unstable();
    let newest = house.nodes[0].load(code).await.unwrap().playback.version;
    assert_eq!(versions, (1..=newest).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_comes_again_late_is_told_that_it_was_carried_out() {
    let house = House::build().await;
    let node = house.node(0);
    let code = house.room(json!({})).await.code;
    let at = |at: i64| {
        let how = json!({ "idempotencyKey": "k", "atServerTime": at });
        command(code, Order::Play, how)
    };
    let now = node.clock.now();
    let first = node.command(code, at(now)).await.unwrap();
    let late = node.command(code, at(now - 60_000)).await.unwrap();
    assert_eq!((late.version, late.at, late.duplicate), (1, first.at, true));
    let how = json!({ "idempotencyKey": "other", "atServerTime": now - 60_000 });
    let refused = node.command(code, command(code, Order::Play, how)).await;
    assert_eq!(refused.unwrap_err().code, Code::ClockSkew);
    assert_eq!(node.load(code).await.unwrap().playback.version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_take_effect_together_and_nobody_jumps() {
    let house = House::build().await;
    let node = house.node(0);
    let code = house.room(json!({})).await.code;
    let before = node.clock.now();
    let play = node.command(code, command(code, Order::Play, json!({})));
    let play = play.await.unwrap();
    assert!(play.at >= before + crate::playback::LEAD_MIN);
    let again = node.command(code, command(code, Order::Play, json!({})));
    let again = again.await.unwrap();
    assert_eq!(
        again.state["anchorServerTimeMs"],
        play.state["anchorServerTimeMs"]
    );
    assert_eq!(again.version, 2);
    for far in [0, before - 11_000, before + 600_000] {
        let wish = command(code, Order::Pause, json!({ "atServerTime": far }));
        let refused = node.command(code, wish).await.unwrap_err();
        assert_eq!(refused.code, Code::ClockSkew);
        assert!(refused.more["serverTime"].as_i64().unwrap() >= before);
    }
    assert_eq!(node.load(code).await.unwrap().playback.version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_controls() {
    let house = House::build().await;
    let node = house.node(0);
    let room = house.room(json!({})).await;
    let guest = MemberId::of_guest(room.code, "k");
    let mut play = command(room.code, Order::Play, json!({}));
    play.by = guest.clone();
    let refused = node.command(room.code, play).await.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    for settings in [
        Settings {
            control: Some(Control::Selected),
            controllers: Some(vec![guest.clone()]),
            ..Settings::default()
        },
        Settings {
            control: Some(Control::All),
            controllers: Some(Vec::new()),
            ..Settings::default()
        },
    ] {
        let now = node.load(room.code).await.unwrap();
        node.write_settings(now.clone(), settings.clone())
            .await
            .unwrap()
            .unwrap();
        // What was read before the change is not written over it.
        assert!(node.write_settings(now, settings).await.unwrap().is_none());
        let mut play = command(room.code, Order::Play, json!({}));
        play.by = guest.clone();
        house.nodes[1].command(room.code, play).await.unwrap();
    }
    let url = payload::parse::<NewRoom>(Some(br#"{"name":"x","source":"/b.mp4"}"#));
    let source = url.unwrap().check().unwrap().source.unwrap();
    let mut other = command(room.code, Order::Source(source), json!({}));
    other.by = guest;
    let refused = node.command(room.code, other).await.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden, "the source is the owner's");
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_have_as_many_places_as_they_say() {
    let house = House::build().await;
    let room = house.room(json!({ "maxParticipants": 3 })).await;
    let mut comers = JoinSet::new();
    for number in 0..12 {
        let (node, room) = (house.node(number), room.clone());
        comers.spawn(async move { come(&node, &room, &format!("g{number}")).await });
    }
    let results = comers.join_all().await;
    let inside: Vec<_> = results.iter().filter_map(|it| it.as_ref().ok()).collect();
    assert_eq!(inside.len(), 3);
    let outside = results.iter().filter_map(|it| it.as_ref().err());
    assert!(
        outside
            .into_iter()
            .all(|failure| failure.code == Code::RoomFull)
    );
    assert_eq!(house.nodes[1].present(room.code).await.unwrap().len(), 3);
    // A second connection of who is in needs no second place, and somebody takes the place of who goes.
    let (first, present) = inside[0];
    let again = Uuid::new_v4();
    house.nodes[1]
        .enter(&room, again, present, true)
        .await
        .unwrap();
    assert_eq!(house.nodes[0].count(room.code).await.unwrap(), 3);
    house.nodes[0].leave(room.code, first.session).await;
    assert_eq!(house.nodes[0].count(room.code).await.unwrap(), 3);
    house.nodes[1].leave(room.code, again).await;
    assert!(come(&house.nodes[0], &room, "late").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_replaced_once_whoever_looks() {
    let house = House::build().await;
    let room = house.room(json!({})).await;
    let (_, guest) = come(&house.nodes[1], &room, "bob").await.unwrap();
    let now = house.nodes[0].clock.now();
    let absent = owner::next_step(&room, std::slice::from_ref(&guest), now);
    assert_eq!(absent, owner::Step::NoteAbsent);
    let long_ago = now - owner::HANDOVER_AFTER;
    let mut lookers = JoinSet::new();
    for number in 0..6 {
        let (node, room) = (house.node(number), room.clone());
        lookers.spawn(async move {
            let step = owner::Step::NoteAbsent;
            node.write_absence(&room, &step, long_ago).await.unwrap()
        });
    }
    let noted = lookers.join_all().await;
    assert_eq!(noted.iter().filter(|did| **did).count(), 1);
    let room = house.nodes[0].load(room.code).await.unwrap();
    let step = owner::next_step(&room, std::slice::from_ref(&guest), now);
    assert_eq!(step, owner::Step::HandOver(guest.oder_id.clone()));
    let mut lookers = JoinSet::new();
    for number in 0..6 {
        let (node, room, heir) = (house.node(number), room.clone(), guest.oder_id.clone());
        lookers.spawn(async move {
            let written = node.write_owner(room, heir, "bob", "away").await;
            written.unwrap().is_some()
        });
    }
    let written = lookers.join_all().await;
    assert_eq!(written.iter().filter(|did| **did).count(), 1);
    let room = house.nodes[1].load(room.code).await.unwrap();
    assert!(room.is_owner(&guest.oder_id));
    assert_eq!(room.former_owner, Some(ann(room.code)));
    assert_eq!(room.owner_absent_since, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_saw_the_owner_absent_hands_nothing_over_once_it_is_back() {
    let house = House::build().await;
    let room = house.room(json!({})).await;
    let (_, guest) = come(&house.nodes[1], &room, "bob").await.unwrap();
    let long_ago = house.nodes[0].clock.now() - owner::HANDOVER_AFTER;
    let absent = owner::Step::NoteAbsent;
    let noted = house.nodes[0].write_absence(&room, &absent, long_ago).await;
    assert!(noted.unwrap());
    let seen = house.nodes[1].load(room.code).await.unwrap();
    let back = owner::Step::NoteBack { tell: false };
    assert!(
        house.nodes[0]
            .write_absence(&seen, &back, long_ago)
            .await
            .unwrap()
    );
    let given = house.nodes[1]
        .write_owner(seen, guest.oder_id, "bob", "away")
        .await;
    assert!(given.unwrap().is_none());
    let room = house.nodes[0].load(room.code).await.unwrap();
    assert!(room.is_owner(&ann(room.code)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_speaks_on_one_connection() {
    let house = House::build().await;
    let code = house.room(json!({})).await.code;
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let (ann, bob) = (ann(code), MemberId::of_guest(code, "bob"));
    let enter = house.nodes[0].voice_enter(code, first, &ann);
    assert_eq!(enter.await.unwrap(), []);
    let enter = house.nodes[1].voice_enter(code, second, &ann);
    assert_eq!(enter.await.unwrap(), []);
    house.nodes[1].voice_leave(code, second).await.unwrap();
    let enter = house.nodes[0].voice_enter(code, Uuid::new_v4(), &bob);
    assert_eq!(
        enter.await.unwrap(),
        [],
        "the first connection speaks no more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_over_all_nodes() {
    let house = House::build().await;
    let mut takers = JoinSet::new();
    for number in 0..60 {
        let node = house.node(number);
        takers.spawn(async move {
            let taken = node.limits.take(Limit::CreateRoom, "ann").await;
            taken.map_err(|failure| (failure.code, failure.retry_after))
        });
    }
    let results = takers.join_all().await;
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 5);
    for refused in results.into_iter().filter_map(Result::err) {
        assert_eq!(refused.0, Code::RateLimitExceeded);
        assert!(refused.1.unwrap() > Duration::from_secs(60));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_are_ready_the_start_is_committed_once() {
    let house = House::build().await;
    let room = house.room(json!({ "playbackControl": "all" })).await;
    let (_, bob) = come(&house.nodes[0], &room, "bob").await.unwrap();
    let (_, cid) = come(&house.nodes[1], &room, "cid").await.unwrap();
    let check = house.nodes[0]
        .ready_begin(&room, &bob.oder_id)
        .await
        .unwrap();
    let second = house.nodes[1].ready_begin(&room, &cid.oder_id).await;
    assert_eq!(second.unwrap_err().code, Code::ReadyCheckActive);
    let shown = house.nodes[1].ready_current(room.code).await.unwrap();
    assert_eq!(shown, Some(check.clone()));
    let respond = |status: Answer| payload::Respond {
        check_id: check.check_id.clone(),
        status,
    };
    let stranger = MemberId::of_guest(room.code, "x");
    let ready = respond(Answer::Ready);
    let answer = house.nodes[1].ready_answer(room.code, &stranger, &ready);
    assert_eq!(answer.await.unwrap_err().code, Code::NotAParticipant);
    let mut answers = JoinSet::new();
    for number in 0..6 {
        let (node, member) = (house.node(number), cid.oder_id.clone());
        let (code, answer) = (room.code, respond(Answer::Ready));
        answers.spawn(async move { node.ready_answer(code, &member, &answer).await });
    }
    // One of them ends the check; those after it find none.
    let results = answers.join_all().await;
    assert!(results.iter().any(Result::is_ok));
    let now = house.nodes[0].load(room.code).await.unwrap();
    assert_eq!((now.playback.version, now.playback.is_playing), (1, true));
    assert_eq!(house.nodes[0].ready_current(room.code).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_far_back_are_found_and_a_page_without_one_is_the_last() {
    let house = House::build().await;
    let node = house.node(0);
    let room = house.room(json!({})).await;
    let (_, bob) = come(&node, &room, "bob").await.unwrap();
    let chat = |words: &str| serde_json::from_value(json!({ "content": words })).unwrap();
    let first: payload::Chat = chat("first");
    node.say(&room, &bob, &first).await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..2100 {
        let (node, channel) = (house.node(0), room.code.channel());
        let draft = crate::draft(channel, "reaction:new", &json!({})).unwrap();
        writers.spawn(async move { node.engine.publish(draft).await.unwrap() });
    }
    writers.join_all().await;
    let page = node.messages(room.code, None, 10).await.unwrap();
    assert_eq!((page.messages.len(), page.has_more), (1, false));
    assert_eq!(page.messages[0]["content"], "first");
    for offset in [0, 1, u64::MAX] {
        let ask: LoadHistory = serde_json::from_value(json!({ "beforeOffset": offset })).unwrap();
        let page = node.load_history(room.code, &ask).await.unwrap();
        assert!(!page.has_more);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_paged_by_number_and_by_time() {
    let house = House::build().await;
    let node = house.node(0);
    let room = house.room(json!({})).await;
    let (_, bob) = come(&node, &room, "bob").await.unwrap();
    let mut times = Vec::new();
    for number in 0..12 {
        let chat: payload::Chat =
            serde_json::from_value(json!({ "content": format!("m{number}") })).unwrap();
        node.say(&room, &bob, &chat).await.unwrap();
        // A command between messages is not one of them.
        let seek = command(room.code, Order::Seek(number), json!({}));
        node.command(room.code, seek).await.unwrap();
        let page = node.page_before(room.code, None, 1).await.unwrap();
        times.push(page.publications[0].time);
        sleep(Duration::from_millis(3)).await;
    }
    let ask =
        |fields: serde_json::Value| -> LoadHistory { serde_json::from_value(fields).unwrap() };
    let said = |page: &crate::chat::Messages| -> Vec<String> {
        let contents = page
            .messages
            .iter()
            .map(|it| it["content"].as_str().unwrap());
        contents.map(str::to_owned).collect()
    };
    let ask_last = ask(json!({ "limit": 3 }));
    let last = node.load_history(room.code, &ask_last).await.unwrap();
    assert_eq!(said(&last), ["m9", "m10", "m11"]);
    assert!(last.has_more);
    let offset = last.messages[0]["offset"].as_u64().unwrap();
    let ask_before = ask(json!({ "limit": 100, "beforeOffset": offset }));
    let before = node.load_history(room.code, &ask_before).await.unwrap();
    assert_eq!(before.messages.len(), 9);
    assert!(!before.has_more);
    let ask_time = ask(json!({ "limit": 100, "before": times[4] }));
    let before = node.load_history(room.code, &ask_time).await.unwrap();
    assert_eq!(said(&before).last().map(String::as_str), Some("m4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_are_counted_with_their_publication() {
    let house = House::build().await;
    let room = house.room(json!({})).await;
    let (_, bob) = come(&house.nodes[0], &room, "bob").await.unwrap();
    for media in [100, 4999, 5000] {
        let fields = json!({ "emoji": "🎉", "mediaTimeMs": media });
        let reaction: payload::Reaction = serde_json::from_value(fields).unwrap();
        house.nodes[0].react(&room, &bob, &reaction).await.unwrap();
    }
    let timeline = house.nodes[1].timeline(room.code).await.unwrap();
    let expected = json!({ "reactions": [
        { "mediaTimeMs": 0, "reactions": { "🎉": 2 } },
        { "mediaTimeMs": 5000, "reactions": { "🎉": 1 } },
    ] });
    assert_eq!(timeline, expected);
    let page = house.nodes[1]
        .page_before(room.code, None, 10)
        .await
        .unwrap();
    assert_eq!(page.publications.len(), 3);
}
