//! Changing a conversation: the one way in which anything happens in it.
//!
//! A change is one transaction. Its first step gives it its place: `last_ts` of the conversation's row goes on, under the row's lock, which
//! is held to the commit. So `ts`, the numbers of the log and the order of commits are one order, and whoever looks at members or messages in
//! a later step sees what the change before has left. The events are made of what the steps returned, and committed with them: to the
//! conversation's channel, and to the apps that have a bot in it.

use std::sync::Arc;

use fanfare_engine::port::{
    TransactError, Transaction,
    tables::{Finish, Row, Step, Value as Sql},
};
use fanfare_wire::{Draft, Json};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{Chat, app_events, conversation::Shape, failure::Failure, id::Id, ts::Ts};

/// Most apps with a bot in one conversation; the others hear nothing of it.
const APPS_MAX: i64 = 20;

/// Gives `$3 + 1` `ts`, the last of which is returned.
const TAKE_TS: &str = "UPDATE chat_conversations SET last_ts = CASE WHEN last_ts < $2 THEN $2 ELSE last_ts + 1 END + $3 \
    WHERE id = $1 AND archived <= $4 RETURNING last_ts, kind, team, members";

const SELECT_APPS: &str = "SELECT a.id FROM chat_members m JOIN chat_apps a ON a.bot_user = m.user_id \
    WHERE m.conversation = $1 ORDER BY a.id LIMIT $2";

/// How many steps the sequencer takes: those of the change stand behind them.
const SEQUENCER_STEPS: usize = 2;

/// An event of Slack's, without what all have: `channel`, `team`, `event_ts` (and `channel_type` of messages) are added.
pub(crate) type Event = Map<String, Value>;

/// Makes the event of one `ts` out of what the steps returned: `rows[i]` is of the change's own step i. May run more than once.
pub(crate) type MakeEvent = Arc<dyn Fn(&[Vec<Row>], Ts) -> Result<Event, Failure> + Send + Sync>;

/// Makes publications of other channels out of the same, and of the `ts` of the last event. May run more than once.
pub(crate) type MakeNotices =
    Arc<dyn Fn(&[Vec<Row>], Ts) -> Result<Vec<Draft>, Failure> + Send + Sync>;

/// What is to happen in a conversation.
pub(crate) struct Change {
    conversation: Id,
    /// Statements before the sequencer's: what makes the conversation's row.
    before: Vec<(Step, &'static str)>,
    /// Statements, each with what is answered if its guard does not hold. In them `last_ts` of the conversation's row is the `ts` of the last
    /// event, `last_ts - 1` that of the one before.
    steps: Vec<(Step, &'static str)>,
    events: Vec<MakeEvent>,
    /// Publications in other channels.
    also: Vec<Draft>,
    notices: Vec<MakeNotices>,
    /// It may happen in an archived conversation.
    in_archive: bool,
}

/// What has happened.
#[derive(Debug)]
pub(crate) struct Changed {
    /// The `ts` of each event.
    pub(crate) ts: Vec<Ts>,
    /// The events, as everybody is told them.
    pub(crate) events: Vec<Event>,
}

impl Change {
    /// A change of a conversation in which nothing happens yet. It needs an event: what nobody is told of is no change of a conversation.
    pub(crate) fn of(conversation: &Id) -> Self {
        Self {
            conversation: conversation.clone(),
            before: Vec::new(),
            steps: Vec::new(),
            events: Vec::new(),
            also: Vec::new(),
            notices: Vec::new(),
            in_archive: false,
        }
    }

    /// With a statement that runs before the conversation is looked at, and what is answered if its guard does not hold: it may make the
    /// conversation. What it returns nobody is told.
    pub(crate) fn before(mut self, step: Step, otherwise: &'static str) -> Self {
        self.before.push((step, otherwise));
        self
    }

    /// With a statement, and what is answered if its guard does not hold.
    pub(crate) fn step(mut self, step: Step, otherwise: &'static str) -> Self {
        self.steps.push((step, otherwise));
        self
    }

    /// How many statements of its own it has so far: where the rows of the next one stand.
    pub(crate) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// With an event.
    pub(crate) fn event(
        mut self,
        make: impl Fn(&[Vec<Row>], Ts) -> Result<Event, Failure> + Send + Sync + 'static,
    ) -> Self {
        self.events.push(Arc::new(make));
        self
    }

    /// With a publication in another channel.
    pub(crate) fn also(mut self, draft: Draft) -> Self {
        self.also.push(draft);
        self
    }

    /// With publications in other channels that are made of what the steps returned, as events are.
    pub(crate) fn notice(
        mut self,
        make: impl Fn(&[Vec<Row>], Ts) -> Result<Vec<Draft>, Failure> + Send + Sync + 'static,
    ) -> Self {
        self.notices.push(Arc::new(make));
        self
    }

    /// It may happen in an archived conversation.
    pub(crate) fn in_archive(mut self) -> Self {
        self.in_archive = true;
        self
    }
}

/// What all events of a change have in common.
struct Common {
    conversation: Id,
    /// Where the sequencer's steps stand.
    first: usize,
    make: Vec<MakeEvent>,
    notices: Vec<MakeNotices>,
}

impl Chat {
    /// Has it happen, and tells everybody who may know.
    ///
    /// # Errors
    /// What a step's guard stands for; [`EXISTS`](crate::failure::EXISTS) if a step inserts what is there already; `is_archived`;
    /// or the database is away.
    pub(crate) async fn change(&self, change: Change) -> Result<Changed, Failure> {
        let Change {
            conversation,
            before,
            steps,
            events,
            also,
            notices,
            in_archive,
        } = change;
        let mut drafts = Vec::with_capacity(events.len() + also.len());
        for _ in &events {
            let channel = conversation.channel(crate::CONVERSATIONS)?;
            drafts.push(Draft::new(channel, Uuid::now_v7(), json_of(&json!({}))?));
        }
        drafts.extend(also);
        let first = before.len();
        let sequencer = first_steps(&conversation, events.len(), in_archive);
        let sequencer = sequencer.into_iter().map(|step| (step, "is_archived"));
        let all = before.into_iter().chain(sequencer).chain(steps);
        let (steps, otherwise): (Vec<Step>, Vec<&'static str>) = all.unzip();
        let common = Arc::new(Common {
            conversation,
            first,
            make: events,
            notices,
        });
        let finishing = Arc::clone(&common);
        let finish = Finish::new(move |rows, drafts| {
            finish(&finishing, rows, drafts).map_err(|failure| failure.to_string())
        });
        let transaction = Transaction {
            steps,
            drafts,
            finish: Some(finish),
        };
        let done = match self.engine.transact(transaction).await {
            Ok(done) => done,
            Err(TransactError::Refused { step }) => {
                let code = otherwise.get(step).copied();
                return Err(Failure::new(code.unwrap_or("internal_error")));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Changed {
            ts: common.ts(&done.rows)?,
            events: common.events(&done.rows)?,
        })
    }
}

/// What gives a change its place, and finds whom else to tell.
fn first_steps(conversation: &Id, events: usize, in_archive: bool) -> [Step; SEQUENCER_STEPS] {
    let more = i64::try_from(events).unwrap_or(1).saturating_sub(1);
    let take = vec![
        conversation.into(),
        Ts::now().into(),
        more.into(),
        Sql::from(in_archive),
    ];
    [
        Step::some(TAKE_TS, take),
        Step::new(SELECT_APPS, vec![conversation.into(), APPS_MAX.into()]),
    ]
}

impl Common {
    /// What the change's own steps returned.
    fn own<'a>(&self, rows: &'a [Vec<Row>]) -> &'a [Vec<Row>] {
        rows.get(self.first + SEQUENCER_STEPS..).unwrap_or_default()
    }

    fn ts(&self, rows: &[Vec<Row>]) -> Result<Vec<Ts>, Failure> {
        let last = rows.get(self.first).and_then(|rows| rows.first()?.int(0));
        let last =
            last.ok_or_else(|| Failure::internal("the sequencer's step returned nothing"))?;
        let count = i64::try_from(self.make.len()).unwrap_or(i64::MAX);
        Ok((0..count).map(|at| Ts(last - (count - 1 - at))).collect())
    }

    /// The events, complete.
    fn events(&self, rows: &[Vec<Row>]) -> Result<Vec<Event>, Failure> {
        let broken = || Failure::internal("a row of a conversation cannot be read");
        let row = rows.get(self.first).and_then(|rows| rows.first());
        let row = row.ok_or_else(broken)?;
        let shape = row.text(1).and_then(Shape::named).ok_or_else(broken)?;
        let team = row.text(2).ok_or_else(broken)?;
        let own = self.own(rows);
        let ts = self.ts(rows)?;
        let make = self.make.iter().zip(ts);
        make.map(|(make, ts)| {
            let mut event = make(own, ts)?;
            event.insert("channel".to_owned(), (&self.conversation).into());
            event.insert("team".to_owned(), team.into());
            event.insert("event_ts".to_owned(), ts.into());
            if event.get("type").and_then(Value::as_str) == Some("message") {
                event.insert("channel_type".to_owned(), shape.channel_type().into());
            }
            Ok(event)
        })
        .collect()
    }
}

/// Completes the drafts: the events are the first of them, and those for apps and the notices are added.
fn finish(common: &Common, rows: &[Vec<Row>], drafts: &mut Vec<Draft>) -> Result<(), Failure> {
    let events = common.events(rows)?;
    let apps = rows.get(common.first + 1);
    let apps = apps.map(Vec::as_slice).unwrap_or_default();
    let apps = apps.iter().filter_map(|row| row.text(0));
    let apps: Vec<Id> = apps.map(Id::known).collect();
    for (draft, event) in drafts.iter_mut().zip(&events) {
        draft.data = json_of(event)?;
    }
    drafts.extend(app_events::drafts(&apps, events)?);
    let last = common.ts(rows)?.last().copied().unwrap_or_default();
    for make in &common.notices {
        drafts.extend(make(common.own(rows), last)?);
    }
    Ok(())
}

/// A value as the log keeps it.
pub(crate) fn json_of(value: &impl serde::Serialize) -> Result<Json, Failure> {
    let text = serde_json::to_vec(value).map_err(Failure::internal)?;
    Ok(Json::trusted(text.into()))
}
