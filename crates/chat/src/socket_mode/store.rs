//! What the database holds of Socket Mode: tickets that open one socket each, and for each app who reads for it and up to where it has
//! acknowledged.

use fanfare_engine::port::{
    TransactError, Transaction,
    tables::{Row, Step, Value},
};
use fanfare_wire::Seq;

use super::{App, Timing};
use crate::{
    Chat,
    caller::{Caller, digest_of},
    failure::Failure,
    id::{Id, random_bytes},
    unix_seconds,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Longest ticket that is looked at, in bytes.
const TICKET_BYTES_MAX: usize = 64;

const DROP_TICKETS: &str = "DELETE FROM chat_tickets WHERE app = $1 AND expires <= $2";
const INSERT_TICKET: &str =
    "INSERT INTO chat_tickets (digest, app, token, expires) VALUES ($1, $2, $3, $4)";
/// Once: whoever comes second finds nothing.
const TAKE_TICKET: &str =
    "DELETE FROM chat_tickets WHERE digest = $1 AND expires > $2 RETURNING token";

/// The app of a token that is worth something.
const SELECT_APP: &str = "SELECT a.id, a.team, a.bot_user FROM chat_tokens t JOIN chat_apps a ON a.id = t.app \
    JOIN chat_users u ON u.id = a.bot_user WHERE t.digest = $1 AND t.kind = 'app' AND u.deleted = 0 \
    AND (t.expires IS NULL OR t.expires > $2)";

const SELECT_MEMBER: &str = "SELECT 1 FROM chat_members WHERE conversation = $1 AND user_id = $2";

const SELECT_READER: &str = "SELECT holder, beat FROM chat_app_readers WHERE app = $1";
const INSERT_READER: &str = "INSERT INTO chat_app_readers (app, holder, beat, acknowledged) VALUES ($1, '', 0, $2) \
    ON CONFLICT (app) DO NOTHING";
const CLAIM: &str = "UPDATE chat_app_readers SET holder = $2, beat = beat + 1 WHERE app = $1 RETURNING acknowledged";
const CLAIM_FROM: &str = "UPDATE chat_app_readers SET holder = $2, beat = beat + 1 WHERE app = $1 AND holder = $3 AND beat = $4 \
    RETURNING acknowledged";
const BEAT: &str = "UPDATE chat_app_readers SET beat = beat + 1 WHERE app = $1 AND holder = $2";
const RELEASE: &str = "UPDATE chat_app_readers SET holder = '' WHERE app = $1 AND holder = $2";
/// Only ever forward, whoever knows it.
const KEEP: &str =
    "UPDATE chat_app_readers SET acknowledged = $2 WHERE app = $1 AND acknowledged < $2";

/// Who reads for an app, as its row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// A name that a reader drew for itself; empty if there is none.
    pub(super) name: String,
    /// Goes on while the reader lives.
    pub(super) beat: i64,
}

/// What a ticket opens.
pub(super) struct Pass {
    pub(super) app: App,
    /// The digest of the token that it was drawn with.
    pub(super) token: String,
}

impl Chat {
    /// A ticket for one socket of the caller's app. With the first one of all the app begins to listen.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn draw_ticket(&self, caller: &Caller) -> Result<String, Failure> {
        let app = caller.app.as_ref();
        let app = app.ok_or_else(|| Failure::new("not_allowed_token_type"))?;
        let ticket = URL_SAFE_NO_PAD.encode(random_bytes::<32>()?);
        let now = unix_seconds();
        let Timing { ticket: lasts, .. } = self.sockets.timing;
        let expires = now.saturating_add(i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX));
        let insert = vec![
            digest_of(&ticket).into(),
            app.into(),
            caller.digest.as_str().into(),
            expires.into(),
        ];
        let mut steps = vec![
            Step::new(DROP_TICKETS, vec![app.into(), now.into()]),
            Step::some(INSERT_TICKET, insert),
        ];
        if self.holder(app).await?.is_none() {
            let (_, head) = self.engine.head(&app.channel(crate::APPS)?).await?;
            steps.push(Step::new(INSERT_READER, vec![app.into(), number(head.seq)]));
        }
        self.write(steps).await?;
        Ok(ticket)
    }

    /// What a ticket opens, for the first who shows it; `None` if it opens nothing, or nothing any more.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn take_ticket(&self, ticket: &str) -> Result<Option<Pass>, Failure> {
        if ticket.len() > TICKET_BYTES_MAX {
            return Ok(None);
        }
        let take = vec![digest_of(ticket).into(), unix_seconds().into()];
        let rows = self.write(vec![Step::new(TAKE_TICKET, take)]).await?;
        let Some(token) = rows.first().and_then(|row| row.text(0)) else {
            return Ok(None);
        };
        let app = self.app_of(token).await?;
        Ok(app.map(|app| Pass {
            app,
            token: token.to_owned(),
        }))
    }

    /// The app whose token has this digest, if the token is worth something still.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn app_of(&self, token: &str) -> Result<Option<App>, Failure> {
        let params = vec![token.into(), unix_seconds().into()];
        let rows = self.engine.query(SELECT_APP, params).await?;
        let read = |row: &Row| {
            let id = |column| row.text(column).map(Id::known);
            Some(App {
                id: id(0)?,
                team: id(1)?,
                bot_user: id(2)?,
            })
        };
        Ok(rows.first().and_then(read))
    }

    /// Whether a user is in a conversation now.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn is_member(&self, conversation: &Id, user: &Id) -> Result<bool, Failure> {
        let params = vec![conversation.into(), user.into()];
        Ok(!self.engine.query(SELECT_MEMBER, params).await?.is_empty())
    }

    /// Who reads for an app; `None` if it has never listened.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn holder(&self, app: &Id) -> Result<Option<Holder>, Failure> {
        let rows = self.engine.query(SELECT_READER, vec![app.into()]).await?;
        Ok(rows.first().and_then(|row| {
            Some(Holder {
                name: row.text(0)?.to_owned(),
                beat: row.int(1)?,
            })
        }))
    }

    /// Reads for an app from now on, whoever did before; or only if that still is `instead_of`. Returns up to where the app has acknowledged;
    /// `None` if somebody else reads for it now.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn claim(
        &self,
        app: &Id,
        name: &str,
        instead_of: Option<&Holder>,
    ) -> Result<Option<Seq>, Failure> {
        let mut params = vec![app.into(), name.into()];
        let sql = match instead_of {
            None => CLAIM,
            Some(holder) => {
                params.extend([holder.name.as_str().into(), holder.beat.into()]);
                CLAIM_FROM
            }
        };
        let rows = self.write(vec![Step::new(sql, params)]).await?;
        let acknowledged = rows.first().and_then(|row| row.int(0));
        Ok(acknowledged.map(|seq| Seq(u64::try_from(seq).unwrap_or_default())))
    }

    /// Shows that the reader lives. Returns whether it still is the one.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn beat(&self, app: &Id, name: &str) -> Result<bool, Failure> {
        let step = Step::some(BEAT, vec![app.into(), name.into()]);
        let transaction = Transaction {
            steps: vec![step],
            ..Transaction::default()
        };
        match self.engine.transact(transaction).await {
            Ok(_) => Ok(true),
            Err(TransactError::Refused { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads no longer.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn release(&self, app: &Id, name: &str) -> Result<(), Failure> {
        let step = Step::new(RELEASE, vec![app.into(), name.into()]);
        self.write(vec![step]).await.map(drop)
    }

    /// Keeps up to where an app has acknowledged.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn keep(&self, app: &Id, acknowledged: Seq) -> Result<(), Failure> {
        let step = Step::new(KEEP, vec![app.into(), number(acknowledged)]);
        self.write(vec![step]).await.map(drop)
    }

    /// Runs statements, and returns what the last of them returned.
    async fn write(&self, steps: Vec<Step>) -> Result<Vec<Row>, Failure> {
        let transaction = Transaction {
            steps,
            ..Transaction::default()
        };
        let done = self.engine.transact(transaction).await?;
        Ok(done.rows.into_iter().next_back().unwrap_or_default())
    }
}

fn number(seq: Seq) -> Value {
    Value::Int(i64::try_from(seq.0).unwrap_or(i64::MAX))
}
