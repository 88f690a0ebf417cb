//! Chat: workspaces, channels, threads and direct messages, for people and for programs that were written for Slack. An app on the engine's
//! public interface; [docs/chat.md](../../../docs/chat.md) says what it speaks.
//!
//! Everything that happens in a conversation is a row and a publication of its channel `chat:C…`, committed together
//! (`change`). What a client has applied up to a position is therefore what a fresh one loads.
//!
//! | file | subject |
//! | --- | --- |
//! | `id`, `ts`, `args`, `cursor`, `failure` | the words of Slack's Web API |
//! | `http`, `method`, `caller` | a request becomes a call: who, what, how often |
//! | `methods` | what can be called, a family of methods each |
//! | `change` | the one way in which a conversation changes |
//! | `hidden` | the events that say what has become of a message |
//! | `schedule` | what is posted later |
//! | `account` | who makes an account of what |
//! | `judge` | who may follow which channel of the log |
//! | `oidc` | signing in by OpenID Connect |
//! | `membership`, `system`, `notice` | who comes and goes, what the chat says of it itself, and whom else it tells |
//! | `conversation`, `channel_name`, `user`, `message`, `mention`, `unread`, `page` | rows, rules and views |
//! | `app_events`, `socket_mode` | what apps are told, and how they are told it: over WebSockets |
//! | `search` | what finds messages, and only what one may read |
//! | `schema`, `demo` | the tables; the workspace of a first try |

mod account;
mod app_events;
mod args;
mod caller;
mod change;
mod channel_name;
mod conversation;
mod cursor;
mod demo;
mod failure;
mod hidden;
mod http;
mod id;
mod judge;
mod membership;
mod mention;
mod message;
mod method;
mod methods;
mod notice;
mod oidc;
mod page;
mod schedule;
mod schema;
mod search;
mod socket_mode;
mod system;
#[cfg(test)]
mod tests;
mod ts;
mod unread;
mod user;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::Router;
use fanfare_engine::{
    Engine,
    port::state::{Bucket, StateKey, Taken},
    state::{Limiter, WhenAway},
};
use fanfare_gateway::{judge::Judge, metrics::Family, password::Passwords, token::TokenSigner};
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing::warn;

pub use self::{
    demo::Demo,
    oidc::{OidcConfig, OidcConfigError, OidcSettings},
};
use self::{
    failure::Failure,
    id::Id,
    method::Method,
    oidc::Oidc,
    socket_mode::{SocketMode, Timing},
};

/// The namespace of conversations' channels.
pub const CONVERSATIONS: &str = "chat";
/// The namespace of what happens to one user.
pub const USERS: &str = "chat.user";
/// The namespace of what happens in a workspace.
pub const TEAMS: &str = "chat.team";
/// The namespace of what apps are told over their connections.
pub const APPS: &str = "chat.app";

/// The namespaces of channels that are the app's.
pub const CHANNEL_NAMESPACES: [&str; 4] = [CONVERSATIONS, USERS, TEAMS, APPS];

/// How many publications a channel keeps if the configuration says nothing else. Messages are kept for ever; this is how far a client may be
/// behind and go on.
pub const HISTORY_COUNT_DEFAULT: u64 = 100_000;
/// For how many days a channel keeps publications if the configuration says nothing else.
pub const HISTORY_DAYS_DEFAULT: u64 = 30;

/// How much easier a first try is.
const EASE_WHEN_OPEN: u32 = 100;
/// How long until the tables are tried again.
const MIGRATE_RETRY: Duration = Duration::from_secs(1);

/// How the app runs.
pub struct ChatConfig {
    /// For a first try: a workspace with users whose tokens are known, and easier limits.
    pub open: bool,
    /// Who may make an account. The first one of a server, which makes its first workspace, always may be made.
    pub sign_up: SignUp,
    /// Whoever may make an account without an invitation may make a workspace.
    pub create_workspaces: bool,
    /// The origin of the page (`https://chat.example.com`); without it whatever the request says, over plain HTTP.
    pub public_url: Option<String>,
    /// Another system by which people sign in.
    pub oidc: Option<OidcConfig>,
    /// What limits do while the shared state is away.
    pub limits_when_away: WhenAway,
    /// What signs the tokens with which pages read channels.
    pub signer: Option<TokenSigner>,
}

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignUp {
    /// Nobody.
    Closed,
    /// Whoever has an invitation of somebody who manages the workspace.
    Invite,
    /// Whoever comes.
    Open,
}

/// The app on one node.
pub struct Chat {
    engine: Arc<Engine>,
    config: ChatConfig,
    limiter: Limiter,
    passwords: Passwords,
    methods: HashMap<&'static str, &'static Method>,
    sockets: SocketMode,
    /// Signing in by another system.
    oidc: Option<Oidc>,
    /// The tables are there.
    ready: AtomicBool,
}

/// A workspace.
pub(crate) struct Team {
    pub(crate) name: String,
    pub(crate) domain: String,
}

const SELECT_TEAM: &str = "SELECT name, domain FROM chat_teams WHERE id = $1";

impl ChatConfig {
    /// How many times as high limits are.
    fn ease(&self) -> u32 {
        if self.open { EASE_WHEN_OPEN } else { 1 }
    }
}

impl Chat {
    /// Starts the app on a node. It serves once the database has its tables; until then it refuses everything as unavailable. Must be
    /// called within a tokio runtime; ends with it.
    #[must_use]
    pub fn start(config: ChatConfig, engine: Arc<Engine>) -> Arc<Self> {
        Self::start_with(config, engine, Timing::default())
    }

    fn start_with(mut config: ChatConfig, engine: Arc<Engine>, timing: Timing) -> Arc<Self> {
        let limiter = engine.limiter(config.limits_when_away);
        let oidc = config.oidc.take().map(Oidc::new);
        let chat = Arc::new(Self {
            oidc,
            engine,
            config,
            limiter,
            passwords: Passwords::new(),
            methods: method::registry(),
            sockets: SocketMode::new(timing),
            ready: AtomicBool::new(false),
        });
        tokio::spawn(make_ready(Arc::downgrade(&chat)));
        schedule::start(&chat);
        chat
    }

    /// The HTTP routes: `/v1/…`, `/chat/dev` and, if it is configured, `/chat/oidc/…`.
    pub fn router(self: &Arc<Self>) -> Router {
        http::router(self)
    }

    /// What decides who follows the app's channels.
    pub fn judge(self: &Arc<Self>) -> Arc<dyn Judge> {
        Arc::new(judge::ChatJudge(Arc::clone(self)))
    }

    /// Tells the sockets of apps that the server goes.
    pub fn farewell(&self) {
        self.sockets.farewell();
    }

    /// What the app counts on this node.
    pub fn families(self: &Arc<Self>) -> impl Fn() -> Vec<Family> + Send + Sync + use<> {
        let chat = Arc::clone(self);
        move || chat.sockets.families()
    }

    fn check_ready(&self) -> Result<(), Failure> {
        match self.ready.load(Relaxed) {
            true => Ok(()),
            false => Err(Failure::away()),
        }
    }

    /// A workspace that there is.
    async fn team(&self, id: &Id) -> Result<Team, Failure> {
        let rows = self.engine.query(SELECT_TEAM, vec![id.into()]).await?;
        let team = rows.first().and_then(|row| {
            let text = |column| row.text(column).map(str::to_owned);
            Some(Team {
                name: text(0)?,
                domain: text(1)?,
            })
        });
        team.ok_or_else(|| Failure::new("team_not_found"))
    }

    /// Where a conversation's channel stands: whoever reads rows afterwards and then follows from here misses nothing.
    async fn position(&self, conversation: &Id) -> Result<Value, Failure> {
        let channel = conversation.channel(CONVERSATIONS)?;
        let (epoch, head) = self.engine.head(&channel).await?;
        Ok(json!({ "offset": head.seq.0, "epoch": epoch.to_string() }))
    }

    /// Takes one from a bucket that holds over all nodes. `subject` is whatever is limited.
    async fn limit(&self, what: &str, subject: &str, bucket: Bucket) -> Result<(), Failure> {
        let key = format!("rate.chat.{what}/{subject}");
        let key = StateKey::parse(&key).map_err(Failure::internal)?;
        match self.limiter.take(&key, bucket, 1).await {
            Taken::Granted { .. } => Ok(()),
            Taken::Refused { retry_after } => Err(Failure::too_often(retry_after)),
        }
    }

    /// Where the page is.
    fn page_url(&self) -> String {
        let origin = self.config.public_url.as_deref().unwrap_or_default();
        format!("{origin}/chat/")
    }

    /// What the cookie of a session is called.
    fn cookie_name(&self) -> &'static str {
        self.host_cookie("__Host-fanfare_chat", http::SESSION_COOKIE)
    }

    /// Which of two names a cookie has: one that came over TLS is this host's own.
    fn host_cookie(&self, secure: &'static str, plain: &'static str) -> &'static str {
        let is_secure = |url: &String| url.starts_with("https://");
        match self.config.public_url.as_ref().is_some_and(is_secure) {
            true => secure,
            false => plain,
        }
    }
}

/// Brings the tables up to date, and makes the workspace of a first try.
async fn make_ready(chat: std::sync::Weak<Chat>) {
    loop {
        let Some(chat) = chat.upgrade() else { return };
        match prepare(&chat).await {
            Ok(()) => return chat.ready.store(true, Relaxed),
            Err(problem) => warn!(%problem, "the chat waits for its tables"),
        }
        drop(chat);
        sleep(MIGRATE_RETRY).await;
    }
}

async fn prepare(chat: &Chat) -> Result<(), String> {
    let migrated = chat.engine.migrate(schema::APP, schema::MIGRATIONS).await;
    migrated.map_err(|error| error.to_string())?;
    match chat.config.open {
        true => demo::make(chat)
            .await
            .map_err(|failure| failure.to_string()),
        false => Ok(()),
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
