//! Who calls: tokens in Slack's forms. The database has their digests only, and is asked each time, so that one that is taken back is worth
//! nothing from then on, on every node.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fanfare_engine::port::tables::{Row, Value};
use ring::digest;

use crate::{
    Chat,
    failure::Failure,
    id::{Id, random_bytes},
};

/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 255;

/// What somebody has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// `xoxp-`: a user's token.
    User,
    /// `xoxb-`: a bot's token.
    Bot,
    /// `xapp-`: an app's own token, for its connections.
    App,
    /// `xoxs-`: a person at the page, in a cookie.
    Session,
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// By what.
    pub(crate) credential: Credential,
    /// The workspace.
    pub(crate) team: Id,
    /// The user, or the bot's user.
    pub(crate) user: Id,
    /// The user's name.
    pub(crate) name: String,
    /// The app that it is of, if it is a bot's or an app's token.
    pub(crate) app: Option<Id>,
    /// The bot, as messages name it.
    pub(crate) bot: Option<Id>,
    /// The user manages the workspace.
    pub(crate) is_admin: bool,
    /// The digest of the token: what the session is called.
    pub(crate) digest: String,
}

/// Characters of a digest that name a session.
const SESSION_CHARS: usize = 22;

const SELECT_TOKEN: &str = "SELECT t.kind, t.team, t.user_id, t.app, u.name, u.is_admin, u.deleted, u.bot, t.expires \
    FROM chat_tokens t JOIN chat_users u ON u.id = t.user_id WHERE t.digest = $1";

pub(crate) const INSERT_TOKEN: &str = "INSERT INTO chat_tokens (digest, kind, team, user_id, app, created, expires) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

impl Credential {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::User, Self::Bot, Self::App, Self::Session];

    /// What its tokens begin with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::User => "xoxp-",
            Self::Bot => "xoxb-",
            Self::App => "xapp-",
            Self::Session => "xoxs-",
        }
    }

    /// What the database calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Bot => "bot",
            Self::App => "app",
            Self::Session => "session",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// A new token: 192 random bits.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub(crate) fn draw(self) -> Result<String, Failure> {
        let random = URL_SAFE_NO_PAD.encode(random_bytes::<24>()?);
        Ok(format!("{}{random}", self.prefix()))
    }
}

impl Caller {
    /// What the connections are called that were begun with this token.
    pub(crate) fn session(&self) -> String {
        session_of(&self.digest)
    }
}

/// What the connections are called that were begun with the token of a digest.
pub(crate) fn session_of(digest: &str) -> String {
    let part = digest.get(..SESSION_CHARS).unwrap_or(digest);
    format!("chat.{part}")
}

/// What is kept of a token, or of another secret that is long and random.
pub(crate) fn digest_of(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

impl Chat {
    /// Whose token it is.
    ///
    /// # Errors
    /// `invalid_auth`, `token_expired`, `account_inactive`; or the database is away.
    pub(crate) async fn caller_of(&self, token: &str) -> Result<Caller, Failure> {
        let invalid = || Failure::new("invalid_auth");
        let is_known = Credential::ALL
            .iter()
            .any(|it| token.starts_with(it.prefix()));
        if token.len() > TOKEN_BYTES_MAX || !is_known {
            return Err(invalid());
        }
        // Looked up by digest: the time that the look takes says nothing of how near a guess is.
        let digest = digest_of(token);
        let rows = self
            .engine
            .query(SELECT_TOKEN, vec![digest.as_str().into()])
            .await?;
        let row = rows.first().ok_or_else(invalid)?;
        if row.int(6) != Some(0) {
            return Err(Failure::new("account_inactive"));
        }
        if row
            .int(8)
            .is_some_and(|expires| expires <= crate::unix_seconds())
        {
            return Err(Failure::new("token_expired"));
        }
        read(row, digest).ok_or_else(|| Failure::internal("a row of a token cannot be read"))
    }
}

fn read(row: &Row, digest: String) -> Option<Caller> {
    let id = |column| row.text(column).map(Id::known);
    Some(Caller {
        credential: Credential::named(row.text(0)?)?,
        team: id(1)?,
        user: id(2)?,
        app: id(3),
        name: row.text(4)?.to_owned(),
        is_admin: row.int(5)? != 0,
        bot: id(7),
        digest,
    })
}

/// The parameters of [`INSERT_TOKEN`] for a token that is shown to its holder once. `expires` in seconds since 1970.
pub(crate) fn token_values(
    token: &str,
    credential: Credential,
    (team, user, app): (&Id, &Id, Option<&Id>),
    expires: Option<i64>,
) -> Vec<Value> {
    vec![
        digest_of(token).into(),
        credential.name().into(),
        team.into(),
        user.into(),
        app.map(Id::as_str).into(),
        crate::unix_seconds().into(),
        expires.into(),
    ]
}
