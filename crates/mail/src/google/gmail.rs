//! What Gmail is asked.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_ingress::https::Answer;
use futures_util::FutureExt;
use oauth2::{http::Request, url::form_urlencoded};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    Google, Shared, TOKEN_PURPOSE,
    answer::Refusal,
    documents::{History, Labels, Messages, OneMessage, Profile, WatchAnswer},
    error::GoogleError,
    metrics::Call,
    model::{Grant, HistoryPage, Label, MessagePage, Watch},
    secret::Secret,
    tokens::{Access, Numbered, use_until},
};
use crate::message::{HistoryId, Message};

/// Entries of a page of history or of messages; Gmail gives no more.
pub const PAGE_MAX: usize = 500;

/// Longest token of a page, in bytes.
const PAGE_TOKEN_BYTES_MAX: usize = 4096;
/// Longest id of a message.
const ID_BYTES_MAX: usize = 64;

/// A question: what is asked, under which path below `/gmail/v1/users/me/`, and the body of a POST.
struct Question {
    call: Call,
    path: String,
    post: Option<String>,
}

/// What came of a question.
enum Reply {
    Done(Bytes),
    /// There is no such message.
    Missing,
    /// The mailbox is watched for another topic of this client.
    OtherWatch,
}

impl Google {
    /// Where the history is now.
    ///
    /// # Errors
    /// [`GoogleError`].
    pub async fn profile(&self, grant: &Grant) -> Result<HistoryId, GoogleError> {
        let profile: Profile = self.get(grant, Call::Profile, "profile", &[]).await?;
        Ok(profile.history_id)
    }

    /// What happened after `start`, in pages of [`PAGE_MAX`].
    ///
    /// # Errors
    /// [`GoogleError::Gone`] if Gmail's history does not reach back to `start`; others.
    pub async fn history(
        &self,
        grant: &Grant,
        start: HistoryId,
        page: Option<&str>,
    ) -> Result<HistoryPage, GoogleError> {
        let (start, most) = (start.to_string(), PAGE_MAX.to_string());
        let mut query = vec![("startHistoryId", start.as_str()), ("maxResults", &most)];
        query.extend(page_token(page)?);
        let page: History = self.get(grant, Call::History, "history", &query).await?;
        Ok(page.into())
    }

    /// Ids of messages, the newest first, without spam and bin; at most `limit` (and at most [`PAGE_MAX`]) on a page.
    ///
    /// # Errors
    /// [`GoogleError`].
    pub async fn list(
        &self,
        grant: &Grant,
        limit: usize,
        page: Option<&str>,
    ) -> Result<MessagePage, GoogleError> {
        let most = limit.clamp(1, PAGE_MAX).to_string();
        let mut query = vec![
            ("maxResults", most.as_str()),
            ("fields", "messages/id,nextPageToken"),
        ];
        query.extend(page_token(page)?);
        let page: Messages = self.get(grant, Call::List, "messages", &query).await?;
        Ok(page.into())
    }

    /// A message as it is now; nothing if there is none of that id any more.
    ///
    /// # Errors
    /// [`GoogleError`].
    pub async fn message(&self, grant: &Grant, id: &str) -> Result<Option<Message>, GoogleError> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !(1..=ID_BYTES_MAX).contains(&id.len()) || !id.bytes().all(sound) {
            let words = "message: an id of another form";
            return Err(GoogleError::Unexpected(words.to_owned()));
        }
        let query = [
            ("format", "metadata"),
            ("metadataHeaders", "From"),
            ("metadataHeaders", "Subject"),
            (
                "fields",
                "id,threadId,labelIds,snippet,historyId,internalDate,payload/headers",
            ),
        ];
        let question = Question::get(Call::Message, &format!("messages/{id}"), &query);
        match self.ask(grant, &question).await? {
            Reply::Done(body) => {
                let message: OneMessage = read(Call::Message, &body)?;
                Ok(Some(message.into()))
            }
            _ => Ok(None),
        }
    }

    /// The labels of a mailbox.
    ///
    /// # Errors
    /// [`GoogleError`].
    pub async fn labels(&self, grant: &Grant) -> Result<Vec<Label>, GoogleError> {
        let query = [("fields", "labels(id,name)")];
        let labels: Labels = self.get(grant, Call::Labels, "labels", &query).await?;
        Ok(labels.into())
    }

    /// Lets Gmail tell of all changes from now on, for a week. To be done again daily: then it is the same watch, and only its
    /// end moves. A watch of this client for another topic is taken out of the way.
    ///
    /// # Errors
    /// [`GoogleError::Misconfigured`] if Gmail cannot publish into the topic; others.
    pub async fn watch(&self, grant: &Grant) -> Result<Watch, GoogleError> {
        let topic = &self.shared.config.topic;
        let question = Question {
            call: Call::Watch,
            path: "watch".to_owned(),
            post: Some(serde_json::json!({ "topicName": topic }).to_string()),
        };
        let mut reply = self.ask(grant, &question).await?;
        if matches!(reply, Reply::OtherWatch) {
            self.stop(grant).await?;
            reply = self.ask(grant, &question).await?;
        }
        let Reply::Done(body) = reply else {
            let words = "the mailbox is watched for another topic, and stays so";
            return Err(GoogleError::Unexpected(words.to_owned()));
        };
        let watch: WatchAnswer = read(Call::Watch, &body)?;
        Ok(watch.into())
    }

    /// Lets Gmail tell no more.
    ///
    /// # Errors
    /// [`GoogleError`].
    pub async fn stop(&self, grant: &Grant) -> Result<(), GoogleError> {
        let question = Question {
            call: Call::Stop,
            path: "stop".to_owned(),
            post: Some(String::new()),
        };
        self.ask(grant, &question).await.map(drop)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        grant: &Grant,
        call: Call,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, GoogleError> {
        match self.ask(grant, &Question::get(call, path, query)).await? {
            Reply::Done(body) => read(call, &body),
            Reply::Missing | Reply::OtherWatch => {
                let words = format!("{}: there is no such thing", call.name());
                Err(GoogleError::Unexpected(words))
            }
        }
    }

    /// Asks; once more with another access token if Gmail does not take the one there is.
    async fn ask(&self, grant: &Grant, question: &Question) -> Result<Reply, GoogleError> {
        let shared = &self.shared;
        let units = question.call.units();
        shared.pacer.take(&grant.user, units).await?;
        let known = self.access(grant, None).await?;
        let mut answer = shared.send(question, &known.access.token).await?;
        if answer.status == 401 {
            let other = self.access(grant, Some(known.number)).await?;
            shared.pacer.take(&grant.user, units).await?;
            answer = shared.send(question, &other.access.token).await?;
        }
        shared.judge(question.call, grant, answer)
    }

    async fn access(&self, grant: &Grant, refused: Option<u64>) -> Result<Numbered, GoogleError> {
        let (shared, user) = (Arc::clone(&self.shared), grant.user.clone());
        let refresh = move |sealed: Vec<u8>| {
            async move { shared.refresh(user.as_str(), sealed).await }.boxed()
        };
        self.shared.tokens.get(grant, refused, refresh).await
    }
}

impl Shared {
    async fn send(&self, question: &Question, token: &Secret) -> Result<Answer, GoogleError> {
        let call = question.call;
        let base = self.config.gmail_url.uri().to_string();
        let uri = format!(
            "{}/gmail/v1/users/me/{}",
            base.trim_end_matches('/'),
            question.path
        );
        let request = match &question.post {
            None => Request::get(uri),
            Some(_) => Request::post(uri).header("content-type", "application/json"),
        };
        let body = question.post.clone().unwrap_or_default();
        let request = request
            .header("authorization", format!("Bearer {}", token.expose()))
            .body(Bytes::from(body).into())
            .map_err(|_| GoogleError::Unexpected(format!("{} cannot be asked", call.name())))?;
        let began = Instant::now();
        let answer = self.http.ask(request).await;
        let answer = answer.map_err(|error| GoogleError::Unavailable(error.to_string()));
        let outcome = match &answer {
            Err(error) => Err(error.clone()),
            Ok(answer) if answer.status < 300 => Ok(Some(())),
            Ok(answer) if answer.status == 404 && call == Call::Message => Ok(None),
            Ok(answer) => Err(Refusal::read(answer).error(call, answer, &self.config.topic)),
        };
        self.metrics.count(call, began.elapsed(), &outcome);
        answer
    }

    fn judge(&self, call: Call, grant: &Grant, answer: Answer) -> Result<Reply, GoogleError> {
        match answer.status {
            200..=299 => return Ok(Reply::Done(answer.body)),
            404 if call == Call::Message => return Ok(Reply::Missing),
            _ => {}
        }
        let refusal = Refusal::read(&answer);
        if call == Call::Watch && refusal.is_other_watch() {
            return Ok(Reply::OtherWatch);
        }
        let error = refusal.error(call, &answer, &self.config.topic);
        if let GoogleError::Slow { after: Some(after) } = &error {
            self.pacer.pause(&grant.user, *after);
        }
        Err(error)
    }

    /// An access token for a sealed refresh token.
    async fn refresh(&self, user: &str, sealed: Vec<u8>) -> Result<Access, GoogleError> {
        let opened = self.sealer.open(TOKEN_PURPOSE, user, &sealed);
        let opened = opened.map_err(|error| {
            GoogleError::Misconfigured(format!("a refresh token cannot be opened: {error}"))
        })?;
        let text = String::from_utf8(opened)
            .map_err(|_| GoogleError::Unexpected("a refresh token that is no text".to_owned()))?;
        let token = Secret::new(text);
        let asked = Instant::now();
        let refreshed = self.oauth.refresh(token.clone()).await?;
        let seal = |token: &Secret| {
            self.sealer
                .seal(TOKEN_PURPOSE, user, token.expose().as_bytes())
        };
        let replacement = match &refreshed.refresh_token {
            Some(new) => seal(new),
            None if self.sealer.is_current(&sealed) => sealed,
            None => seal(&token),
        };
        Ok(Access {
            token: refreshed.access_token,
            until: use_until(asked, refreshed.life),
            replacement: Some(replacement),
        })
    }
}

impl Question {
    fn get(call: Call, path: &str, query: &[(&str, &str)]) -> Self {
        let mut path = path.to_owned();
        if !query.is_empty() {
            path.push('?');
            path = form_urlencoded::Serializer::for_suffix(path.clone(), path.len())
                .extend_pairs(query)
                .finish();
        }
        Self {
            call,
            path,
            post: None,
        }
    }
}

fn page_token(page: Option<&str>) -> Result<Option<(&str, &str)>, GoogleError> {
    match page {
        Some(page) if page.len() > PAGE_TOKEN_BYTES_MAX => {
            let words = "the token of a page is too long";
            Err(GoogleError::Unexpected(words.to_owned()))
        }
        page => Ok(page.map(|page| ("pageToken", page))),
    }
}

fn read<T: DeserializeOwned>(call: Call, body: &[u8]) -> Result<T, GoogleError> {
    // The error itself may quote what it read.
    serde_json::from_slice(body).map_err(|_| {
        let words = format!("{}: its answer cannot be read", call.name());
        GoogleError::Unexpected(words)
    })
}
