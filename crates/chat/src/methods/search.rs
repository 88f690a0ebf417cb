//! `search.messages`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    Chat,
    caller::Caller,
    conversation::Shape,
    failure::Failure,
    id::Id,
    method::{Answer, Call, Method, method},
    search::{
        CANDIDATES_MAX, Found, Marks, Match, Order, Part, Person, Place, Query, What, highlight,
        mark,
    },
    ts::Ts,
};

pub(crate) const METHODS: &[Method] = &[method!("search.messages", User, Three, search_messages)];

/// Longest query, in characters; what follows is not looked at.
const QUERY_CHARS_MAX: usize = 1_000;
const COUNT_DEFAULT: i64 = 20;
const COUNT_MAX: i64 = 100;
const PAGE_MAX: i64 = 100;

const SELECT_USER_NAMED: &str = "SELECT id FROM chat_users WHERE team = $1 AND name = $2";
const SELECT_CHANNEL_NAMED: &str =
    "SELECT id FROM chat_conversations WHERE team = $1 AND name = $2";
const SELECT_DIRECT: &str = "SELECT id FROM chat_conversations WHERE team = $1 AND direct_key = $2";

async fn search_messages(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let text = call.args.text("query");
    let text = text.ok_or_else(|| Failure::new("no_query"))?;
    let text: String = text.chars().take(QUERY_CHARS_MAX).collect();
    let (count, page) = (
        number(&call, "count", COUNT_DEFAULT)?,
        number(&call, "page", 1)?,
    );
    let (count, page) = (count.min(COUNT_MAX), page.min(PAGE_MAX));
    let part = Part {
        order: order(&call)?,
        limit: count,
        offset: (page - 1) * count,
    };
    let query = Query::read(&text, Ts::now());
    let found = match query.is_empty() {
        true => Found {
            total: 0,
            matches: Vec::new(),
        },
        false => {
            let marks = chat.marks(caller, &query).await?;
            chat.find(caller, &query, &marks, part).await?
        }
    };
    let marked = call.args.flag("highlight").then_some(&query);
    let matches = found.matches.iter();
    let matches: Vec<Value> = matches
        .map(|found| chat.view_match(caller, found, marked))
        .collect();
    let pages = (found.total + count - 1) / count;
    let (first, last) = match matches.len() {
        0 => (0, 0),
        len => (
            part.offset + 1,
            part.offset + i64::try_from(len).unwrap_or(count),
        ),
    };
    let messages = json!({
        "total": found.total,
        "total_is_bound": found.total == CANDIDATES_MAX,
        "paging": { "count": count, "total": found.total, "page": page, "pages": pages },
        "pagination": {
            "total_count": found.total, "page": page, "per_page": count, "page_count": pages, "first": first, "last": last,
        },
        "matches": matches,
    });
    Ok(Answer::ok().with("query", text).with("messages", messages))
}

fn number(call: &Call, name: &str, otherwise: i64) -> Result<i64, Failure> {
    Ok(call.args.int(name)?.unwrap_or(otherwise).max(1))
}

fn order(call: &Call) -> Result<Order, Failure> {
    let sort = call.args.text("sort");
    let direction = call.args.text("sort_dir");
    match (sort.as_deref(), direction.as_deref()) {
        (None | Some("score"), None | Some("asc" | "desc")) => Ok(Order::Score),
        (Some("timestamp"), None | Some("desc")) => Ok(Order::NewestFirst),
        (Some("timestamp"), Some("asc")) => Ok(Order::OldestFirst),
        (None | Some("score" | "timestamp"), Some(_)) => {
            Err(Failure::argument("sort_dir", "must be asc or desc"))
        }
        (Some(_), _) => Err(Failure::argument("sort", "must be score or timestamp")),
    }
}

impl Chat {
    /// The filters of a query as marks: `from:` one of those that are named, `in:` one of those, and everything else.
    async fn marks(&self, caller: &Caller, query: &Query) -> Result<Marks, Failure> {
        let mut marks = Marks::default();
        marks.need(vec![mark::team(&caller.team)]);
        let (mut from, mut places) = (Vec::new(), Vec::new());
        for filter in &query.filters {
            let mark = match &filter.what {
                What::Link => mark::LINK.to_owned(),
                What::Reaction => mark::REACTION.to_owned(),
                What::Thread => mark::THREAD.to_owned(),
                What::From(person) => {
                    let id = self.person(caller, person).await?;
                    id.map_or_else(|| mark::NOTHING.to_owned(), |id| mark::user(&id))
                }
                What::In(place) => {
                    let id = self.place(caller, place).await?;
                    id.map_or_else(|| mark::NOTHING.to_owned(), |id| mark::conversation(&id))
                }
            };
            match (&filter.what, filter.is_negated) {
                (_, true) => marks.forbidden.push(mark),
                (What::From(_), false) => from.push(mark),
                (What::In(_), false) => places.push(mark),
                (_, false) => marks.need(vec![mark]),
            }
        }
        marks.need(from);
        marks.need(places);
        Ok(marks)
    }

    async fn person(&self, caller: &Caller, person: &Person) -> Result<Option<Id>, Failure> {
        match person {
            Person::Me => Ok(Some(caller.user.clone())),
            Person::Id(id) => Ok(Some(id.clone())),
            Person::Name(name) => self.id_of(SELECT_USER_NAMED, caller, name).await,
        }
    }

    async fn place(&self, caller: &Caller, place: &Place) -> Result<Option<Id>, Failure> {
        match place {
            Place::Id(id) => Ok(Some(id.clone())),
            Place::Name(name) => self.id_of(SELECT_CHANNEL_NAMED, caller, name).await,
            Place::With(person) => {
                let Some(other) = self.person(caller, person).await? else {
                    return Ok(None);
                };
                let mut users = [caller.user.as_str(), other.as_str()];
                users.sort_unstable();
                let key = match users[0] == users[1] {
                    true => users[0].to_owned(),
                    false => users.join(","),
                };
                self.id_of(SELECT_DIRECT, caller, &key).await
            }
        }
    }

    async fn id_of(
        &self,
        sql: &'static str,
        caller: &Caller,
        name: &str,
    ) -> Result<Option<Id>, Failure> {
        let params = vec![(&caller.team).into(), name.into()];
        let rows = self.engine.query(sql, params).await?;
        Ok(rows.first().and_then(|row| row.text(0)).map(Id::known))
    }

    fn view_match(&self, caller: &Caller, found: &Match, marked: Option<&Query>) -> Value {
        let shape = Shape::named(&found.kind);
        let is = |it: Shape| shape == Some(it);
        let direct_key = found.direct_key.as_deref().unwrap_or_default();
        let mut others = direct_key
            .split(',')
            .filter(|user| *user != caller.user.as_str());
        let name = match &found.name {
            Some(name) => name.as_str(),
            None => others.next().unwrap_or(direct_key),
        };
        let text = match marked {
            Some(query) => highlight(&found.text, query),
            None => found.text.clone(),
        };
        let mut view = json!({
            "iid": format!("{}-{}", found.conversation, found.ts),
            "type": if is(Shape::Direct) { "im" } else { "message" },
            "team": caller.team.as_str(),
            "channel": {
                "id": found.conversation.as_str(),
                "name": name,
                "is_channel": is(Shape::Public),
                "is_group": is(Shape::Private),
                "is_im": is(Shape::Direct),
                "is_mpim": is(Shape::Group),
                "is_private": !is(Shape::Public),
                "is_shared": false,
                "is_ext_shared": false,
                "is_org_shared": false,
                "is_pending_ext_shared": false,
                "pending_shared": [],
            },
            "user": found.user,
            "username": found.user_name,
            "text": text,
            "ts": Value::from(found.ts),
            "score": found.score,
            "permalink": self.permalink(&found.conversation, found.ts, found.thread),
        });
        if let Some(thread) = found.thread {
            view["thread_ts"] = thread.into();
        }
        view
    }
}
