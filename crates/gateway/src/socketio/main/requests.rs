//! What clients of the namespace `/` ask for: events with an acknowledgement, which is the result or `{"error": …}`.

use std::{sync::Arc, time::Instant};

use fanfare_engine::{
    hub::{HistoryQuery, Recovery, Resume, Start},
    port::{Direction, KEY_BYTES_MAX},
};
use fanfare_wire::{
    ChannelName, Draft, Epoch, Json, Seq,
    centrifuge::{ErrorCode, errors},
    socketio::form::tags_of_event,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    super::{Ack, Args, Incoming, JoinError, Keep, app::Gone},
    guest::Guest,
};
use crate::{
    access::Right,
    api::{self, ApiResult, ErrorBody, to_json},
    commands::Since,
    rights::Leave,
    token::Seconds,
    unix_seconds,
};

/// What begins the names of events that only the server sends.
const OWN_EVENTS: &str = "fanfare:";
/// Publications that history returns when no limit is given.
const HISTORY_LIMIT_DEFAULT: usize = 100;

/// The second argument of `subscribe`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SubscribeOptions {
    /// Begin behind this position.
    since: Option<Since>,
    /// A subscription token.
    token: String,
    /// Be told who joins and leaves, if that is allowed.
    join_leave: bool,
}

/// The third argument of `publish`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PublishOptions {
    /// The name of the event that others see.
    event: Option<String>,
    /// The same key again within its time is the same publication.
    idempotency_key: Option<String>,
}

/// The second argument of `history`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct HistoryOptions {
    limit: Option<usize>,
    since: Option<Since>,
    reverse: bool,
}

#[derive(Serialize)]
pub(super) struct Subscribed {
    ok: bool,
    /// Where it stands, if the channel has positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    recoverable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    /// The oldest that can be read, when retention has removed some of what follows the position.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<u64>,
    /// Seconds until the subscription expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<Seconds>,
}

/// What became of a publish that was allowed.
enum Drafted {
    /// It was told to those who are there.
    Told,
    /// It is to be committed.
    Wanted(Draft),
}

impl Guest {
    /// Does what is asked, and says what came of it to who wants to know.
    pub(super) async fn on_incoming(&mut self, incoming: Incoming) {
        if &*incoming.event == "publish" {
            return self.on_publish(incoming).await;
        }
        let result = match &*incoming.event {
            "subscribe" => self.on_subscribe(&incoming).await,
            "unsubscribe" => self.on_unsubscribe(&incoming),
            "history" => self.on_history(&incoming).await,
            "presence" => match self.presence_of(&incoming) {
                Ok(channel) => api::members_of(&self.gateway, &channel).await,
                Err(error) => Err(error.into()),
            },
            "presence_stats" => match self.presence_of(&incoming) {
                Ok(channel) => api::count_of(&self.gateway, &channel).await,
                Err(error) => Err(error.into()),
            },
            _ => Err(errors::METHOD_NOT_FOUND.into()),
        };
        answer(incoming.ack, result);
    }

    async fn on_subscribe(&mut self, incoming: &Incoming) -> ApiResult {
        let channel = channel_of(incoming)?;
        let options: SubscribeOptions = options_of(incoming, 1)?;
        if self.subs.iter().any(|sub| sub.channel == channel) {
            return Err(errors::ALREADY_SUBSCRIBED.into());
        }
        let gateway = Arc::clone(&self.gateway);
        if options.since.is_some() && !gateway.options(&channel)?.is_durable() {
            return Err(errors::NOT_AVAILABLE.into());
        }
        let claims = self.identity.claims.as_deref();
        let leave = gateway.may_subscribe(claims, &channel, &options.token)?;
        let since = options.since;
        let subscribed = self.begin_in(channel, leave, since, options.join_leave);
        to_json(&subscribed.await?)
    }

    /// Subscribes the client, which may.
    pub(super) async fn begin_in(
        &mut self,
        channel: ChannelName,
        leave: Leave,
        since: Option<Since>,
        join_leave: bool,
    ) -> Result<Subscribed, ErrorBody> {
        let gateway = Arc::clone(&self.gateway);
        let rules = gateway.options(&channel)?;
        let (durable, is_state) = (rules.is_durable(), rules.is_state());
        let recovering = since.is_some();
        let terms = leave.terms.as_deref();
        let recoverable = self.may_look_back(&channel, terms);
        let resume = since.filter(|_| recoverable).map(|since| Resume {
            epoch: Epoch::named(&since.epoch),
            seq: Seq(since.offset),
            oldest_if_truncated: false,
        });
        let start = match resume {
            resume if is_state => Start::Newest(resume),
            Some(resume) => Start::Resume(resume),
            None => Start::Live,
        };
        let keep = match recoverable {
            true => Keep::Position,
            false => Keep::Name,
        };
        let claims = self.identity.claims.as_deref();
        let joins = gateway.may_see_joins(claims, &channel, terms, join_leave);
        let joining = self
            .client
            .join_and_see(channel.clone(), start, keep, joins);
        let joined = joining.await.map_err(refused_join)?;
        let is_recovered = joined.recovery == Recovery::Recovered;
        let expires = leave.expires;
        self.subscribed(channel, leave);
        Ok(Subscribed {
            ok: true,
            epoch: durable.then(|| joined.epoch.as_str().to_owned()),
            offset: durable.then_some(joined.position.0),
            recoverable,
            recovered: (recovering || is_recovered).then_some(is_recovered),
            oldest: match joined.recovery {
                Recovery::Truncated { oldest } => Some(oldest.0),
                Recovery::NotAsked | Recovery::Recovered | Recovery::Reset => None,
            },
            ttl: expires.map(|expires| (expires - unix_seconds()).max(0)),
        })
    }

    fn on_unsubscribe(&mut self, incoming: &Incoming) -> ApiResult {
        let channel = channel_of(incoming)?;
        self.unsubscribe(&channel);
        to_json(&serde_json::Map::new())
    }

    async fn on_publish(&mut self, incoming: Incoming) {
        match self.draft_of(&incoming) {
            Ok(Drafted::Told) => answer(incoming.ack, to_json(&serde_json::Map::new())),
            Ok(Drafted::Wanted(draft)) => {
                let (gateway, ack) = (Arc::clone(&self.gateway), incoming.ack);
                let publish = async move {
                    let published = gateway.engine.publish(draft).await;
                    answer(ack, api::published(published));
                };
                self.begin(Box::pin(publish)).await;
            }
            Err(error) => answer(incoming.ack, Err(error)),
        }
    }

    /// What is to be committed; what is told now or never is told.
    fn draft_of(&mut self, incoming: &Incoming) -> Result<Drafted, ErrorBody> {
        let channel = channel_of(incoming)?;
        let options: PublishOptions = options_of(incoming, 2)?;
        let rules = self.may(Right::Publish, &channel)?;
        let (durable, rate) = (rules.is_durable(), rules.publish_rate);
        // Publications are JSON; what is binary has no place in them.
        let data = incoming
            .args
            .get(1)
            .filter(|_| incoming.attachments.is_empty());
        let data: &RawValue = data.ok_or(errors::BAD_REQUEST)?;
        self.gateway.check_length(data.get().len(), rules)?;
        let terms = self.terms(&channel).flatten();
        let info = self.identity.info(terms);
        let mut draft = Draft::new(channel, Uuid::now_v7(), Json::from_raw(data));
        draft.info = Some(info);
        if let Some(event) = options.event {
            if event.starts_with(OWN_EVENTS) {
                return Err(errors::BAD_REQUEST.into());
            }
            draft.tags = Some(tags_of_event(&event).ok_or(errors::BAD_REQUEST)?);
        }
        if let Some(key) = options.idempotency_key.filter(|key| !key.is_empty()) {
            if !durable {
                return Err(errors::NOT_AVAILABLE.into());
            }
            draft.idempotency_key = Some(self.own_key(&key)?);
        }
        if let Some(rate) = rate {
            let turn = self
                .paces
                .take(draft.channel.namespace(), rate, Instant::now());
            turn.map_err(api::too_often)?;
        }
        if !durable {
            self.gateway.tell(draft);
            return Ok(Drafted::Told);
        }
        Ok(Drafted::Wanted(draft))
    }

    /// A key that no other user's is the same as.
    fn own_key(&self, key: &str) -> Result<String, ErrorCode> {
        let key = key_of(self.identity.user(), key);
        // PostgreSQL stores no NUL in text.
        match key.len() > KEY_BYTES_MAX || key.contains('\0') {
            true => Err(errors::BAD_REQUEST),
            false => Ok(key),
        }
    }

    async fn on_history(&mut self, incoming: &Incoming) -> ApiResult {
        let channel = channel_of(incoming)?;
        let options: HistoryOptions = options_of(incoming, 1)?;
        let max = self.may(Right::History, &channel)?.history_limit_max;
        let since = options.since;
        let query = HistoryQuery {
            channel,
            since: since.map(|since| (Epoch::named(&since.epoch), Seq(since.offset))),
            limit: options.limit.unwrap_or(HISTORY_LIMIT_DEFAULT).min(max),
            direction: match options.reverse {
                true => Direction::Backward,
                false => Direction::Forward,
            },
        };
        api::history_of(&self.gateway, query).await
    }

    /// The channel that a client asks about, if it may.
    fn presence_of(&self, incoming: &Incoming) -> Result<ChannelName, ErrorCode> {
        let channel = channel_of(incoming)?;
        self.may(Right::Presence, &channel)?;
        Ok(channel)
    }
}

/// A user's key. Ids of users and keys may have slashes, so the length says where the one ends.
fn key_of(user: &str, key: &str) -> String {
    format!("{}/{user}/{key}", user.len())
}

fn channel_of(incoming: &Incoming) -> Result<ChannelName, ErrorCode> {
    let name: String = incoming.arg(0).map_err(|_| errors::BAD_REQUEST)?;
    ChannelName::parse(&name).map_err(|_| errors::BAD_REQUEST)
}

/// Options, which may be absent or `null`.
fn options_of<T: DeserializeOwned + Default>(
    incoming: &Incoming,
    at: usize,
) -> Result<T, ErrorCode> {
    if at >= incoming.args.len() {
        return Ok(T::default());
    }
    let options: Option<T> = incoming.arg(at).map_err(|_| errors::BAD_REQUEST)?;
    Ok(options.unwrap_or_default())
}

fn refused_join(error: JoinError) -> ErrorBody {
    let error = match error {
        JoinError::Already => errors::ALREADY_SUBSCRIBED,
        JoinError::Limit => errors::LIMIT_EXCEEDED,
        JoinError::Gone(Gone) | JoinError::Log(_) => errors::INTERNAL,
    };
    error.into()
}

/// Gives an acknowledgement, if one is waited for.
fn answer(ack: Option<Ack>, result: ApiResult) {
    let Some(ack) = ack else { return };
    let args = match result {
        Ok(result) => Args::one(&result),
        Err(error) => Args::one(&serde_json::json!({ "error": error })),
    };
    ack.send_or_part(args);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_two_users_are_never_the_same() {
        assert_ne!(key_of("a", "b/c"), key_of("a/b", "c"));
        assert_ne!(key_of("", "1/a/b"), key_of("a", "b"));
        assert_ne!(key_of("", "x"), key_of("x", ""));
    }
}
