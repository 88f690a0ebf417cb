//! `chat.door`, `chat.logIn`, `chat.logOut`, `auth.revoke`: coming in with a password, and going.

use std::{sync::Arc, time::Duration};

use axum::http::HeaderValue;
use fanfare_engine::port::{TransactError, Transaction, state::Bucket, tables::Step};
use fanfare_gateway::{
    password::{NOBODY, PASSWORD_CHARS_MAX, Password},
    sessions::Revocation,
};
use serde_json::{Value, json};

use crate::{
    Chat, SignUp, account,
    caller::{Caller, digest_of, session_of},
    failure::Failure,
    id::Id,
    method::{Answer, Call, Method, method},
    oidc, unix_seconds,
};

pub(crate) const METHODS: &[Method] = &[
    method!("chat.door", Anyone, Three, door),
    method!("chat.logIn", Anyone, One, log_in),
    method!("chat.logOut", Anyone, Two, log_out),
    method!("auth.revoke", User, Two, revoke),
];

/// Who has an address; in several workspaces without a word of which, the oldest account is meant.
const SELECT_ACCOUNT: &str = "SELECT u.id, u.team, u.password FROM chat_users u JOIN chat_teams t ON t.id = u.team \
    WHERE u.email = $1 AND u.deleted = 0 AND ($2 = '' OR t.id = $2 OR t.domain = $2) ORDER BY u.created, u.id LIMIT 1";

const FORGET_EXPIRED: &str = "DELETE FROM chat_tokens WHERE user_id = $1 AND expires <= $2";

/// A session begins only for who is not deactivated meanwhile.
const IS_ACTIVE: &str = "SELECT 1 FROM chat_users WHERE id = $1 AND deleted = 0";

pub(crate) const DELETE_TOKEN: &str = "DELETE FROM chat_tokens WHERE digest = $1 AND user_id = $2";

/// What the page may offer to whoever stands before it.
async fn door(chat: Arc<Chat>, _: Call) -> Result<Answer, Failure> {
    let oidc = chat.oidc.as_ref().map_or(
        Value::Null,
        |oidc| json!({ "name": oidc.name(), "url": oidc::BEGIN_PATH }),
    );
    Ok(Answer::ok()
        .with("password", true)
        .with("sign_up", chat.config.sign_up == SignUp::Open)
        .with("oidc", oidc)
        .with("dev", chat.config.open))
}

async fn log_in(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    call.need_own_page()?;
    let email = account::email(&call.args)?;
    let password = call.args.need("password")?;
    if password.chars().count() > PASSWORD_CHARS_MAX {
        return Err(Failure::new("invalid_credentials"));
    }
    // Whoever guesses does so from many places; the account is the same.
    let guesses = 10_u32.saturating_mul(chat.config.ease());
    let bucket = Bucket {
        capacity: guesses,
        refill: guesses,
        period: Duration::from_secs(600),
    };
    chat.limit("login", &digest_of(&email), bucket).await?;
    let team = call.args.text("team").unwrap_or_default();
    let rows = chat
        .engine
        .query(SELECT_ACCOUNT, vec![email.into(), team.into()])
        .await?;
    let row = rows.first();
    // Who is not known takes as long as who is.
    let kept = row.and_then(|row| row.text(2)).unwrap_or(NOBODY);
    let fits = chat.passwords.verify(Password(password), kept).await;
    let fits = fits.map_err(Failure::internal)?;
    let account = row.and_then(|row| Some((Id::known(row.text(0)?), Id::known(row.text(1)?))));
    let Some((user, team)) = account.filter(|_| fits) else {
        return Err(Failure::new("invalid_credentials"));
    };
    let token = chat.begin_session(&team, &user).await?;
    let token = token.ok_or_else(|| Failure::new("invalid_credentials"))?;
    let answer = Answer::ok().with("user_id", &user).with("team_id", &team);
    chat.signed_in(answer, &token)
}

async fn log_out(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    call.need_own_page()?;
    // Who is not signed in is signed out.
    if let Ok(caller) = call.caller() {
        chat.end_session(caller).await?;
    }
    let mut answer = Answer::ok();
    answer.cookies.push(chat.cookie(chat.cookie_name(), "", 0)?);
    Ok(answer)
}

async fn revoke(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    if call.args.flag("test") {
        return Ok(Answer::ok().with("revoked", false));
    }
    chat.end_session(call.caller()?).await?;
    Ok(Answer::ok().with("revoked", true))
}

impl Chat {
    /// Begins a session of a user: its token. None if the user is deactivated, or was not there.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn begin_session(
        &self,
        team: &Id,
        user: &Id,
    ) -> Result<Option<String>, Failure> {
        let (token, begin) = account::session(team, user)?;
        let active = Step::some(IS_ACTIVE, vec![user.into()]);
        let forget = vec![user.into(), unix_seconds().into()];
        let transaction = Transaction {
            steps: vec![active, Step::new(FORGET_EXPIRED, forget), begin],
            ..Transaction::default()
        };
        match self.engine.transact(transaction).await {
            Ok(_) => Ok(Some(token)),
            Err(TransactError::Refused { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a token, and the connections that were begun with it, on all nodes.
    async fn end_session(&self, caller: &Caller) -> Result<(), Failure> {
        self.end_token(&caller.digest, &caller.user).await
    }

    /// Ends the token of a digest if it is this user's, and the connections that were begun with it, on all nodes. It may be gone already.
    pub(crate) async fn end_token(&self, digest: &str, user: &Id) -> Result<(), Failure> {
        let revocation = Revocation::Session {
            session: session_of(digest),
            expires: None,
        };
        let transaction = Transaction {
            steps: vec![Step::new(DELETE_TOKEN, vec![digest.into(), user.into()])],
            drafts: vec![revocation.draft().map_err(Failure::internal)?],
            ..Transaction::default()
        };
        self.engine.transact(transaction).await?;
        Ok(())
    }

    /// An answer that has the browser keep a session.
    ///
    /// # Errors
    /// The token does not fit into a header.
    pub(crate) fn signed_in(&self, mut answer: Answer, token: &str) -> Result<Answer, Failure> {
        let cookie = self.cookie(self.cookie_name(), token, account::SESSION_SECONDS)?;
        answer.cookies.push(cookie);
        Ok(answer)
    }

    /// A cookie that no script reads, for so many seconds. `name` says whether it came over TLS: see [`Chat::host_cookie`].
    ///
    /// # Errors
    /// The value does not fit into a header.
    pub(crate) fn cookie(
        &self,
        name: &str,
        value: &str,
        seconds: i64,
    ) -> Result<HeaderValue, Failure> {
        let secure = if name.starts_with("__Host-") {
            "; Secure"
        } else {
            ""
        };
        let cookie =
            format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::try_from(cookie).map_err(Failure::internal)
    }
}
