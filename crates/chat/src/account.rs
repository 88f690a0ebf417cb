//! Accounts: what somebody says to make one, and the rows that make it.

use fanfare_engine::port::tables::{Step, Value as Sql};
use fanfare_gateway::password::{PASSWORD_CHARS_MAX, Password};
use serde_json::json;

use crate::{
    args::Args,
    caller::{Credential, INSERT_TOKEN, token_values},
    change::Change,
    failure::Failure,
    id::{Id, random_bytes},
    notice,
    ts::Ts,
    unix_seconds,
    user::User,
};

/// How long somebody stays signed in, in seconds.
pub(crate) const SESSION_SECONDS: i64 = 30 * 24 * 3600;
const EMAIL_BYTES_MAX: usize = 254;
pub(crate) const NAME_CHARS_MAX: usize = 80;
const PASSWORD_CHARS_MIN: usize = 8;
/// Longest handle that is made of a name, in characters.
const HANDLE_CHARS_MAX: usize = 40;

pub(crate) const INSERT_USER: &str = "INSERT INTO chat_users (id, team, name, real_name, email, password, app, bot, is_admin, deleted, \
    away, created, updated, oidc_subject) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, $10, $10, $11)";

/// By what somebody is known again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Proof<'a> {
    /// By nothing: a bot has tokens.
    None,
    /// By a password: what is kept of it.
    Password(&'a str),
    /// By what another system says: its issuer and its name for who it is.
    Oidc(&'a str),
}

/// Somebody who comes for an account.
pub(crate) struct Newcomer<'a> {
    /// In small letters; none if nobody vouches for it.
    pub(crate) email: Option<&'a str>,
    pub(crate) real_name: &'a str,
    pub(crate) proof: Proof<'a>,
}

/// What somebody says who wants an account.
pub(crate) struct Wish {
    /// In small letters.
    pub(crate) email: String,
    pub(crate) password: Password,
    pub(crate) real_name: String,
}

impl Wish {
    /// Reads the arguments of a call.
    ///
    /// # Errors
    /// `invalid_email`, `password_too_short`, `invalid_password`, `invalid_arguments`.
    pub(crate) fn read(args: &Args) -> Result<Self, Failure> {
        let email = email(args)?;
        let password = args.need("password")?;
        match password.chars().count() {
            0..PASSWORD_CHARS_MIN => return Err(Failure::new("password_too_short")),
            count if count > PASSWORD_CHARS_MAX => return Err(Failure::new("invalid_password")),
            _ => {}
        }
        Ok(Self {
            email,
            password: Password(password),
            real_name: real_name(args)?,
        })
    }
}

/// An address, in small letters.
pub(crate) fn email(args: &Args) -> Result<String, Failure> {
    email_of(&args.need("email")?)
}

/// An address, in small letters, of whatever somebody says it is.
pub(crate) fn email_of(text: &str) -> Result<String, Failure> {
    let email = text.trim().to_lowercase();
    let is_sound = |part: &str| {
        !part.is_empty() && !part.contains(|it: char| it.is_whitespace() || it.is_control())
    };
    let parts = email.rsplit_once('@');
    let fits = parts.is_some_and(|(local, domain)| is_sound(local) && is_sound(domain));
    match fits && email.len() <= EMAIL_BYTES_MAX {
        true => Ok(email),
        false => Err(Failure::new("invalid_email")),
    }
}

/// What somebody, or an app, is called.
pub(crate) fn real_name(args: &Args) -> Result<String, Failure> {
    let name = args.need("name")?.trim().to_owned();
    let is_text = !name.is_empty() && !name.contains(char::is_control);
    match is_text && name.chars().count() <= NAME_CHARS_MAX {
        true => Ok(name),
        false => Err(Failure::argument("name", "must be 1 to 80 characters")),
    }
}

/// What is typed behind an `@`, or stands in an address: small letters and digits of a name. `is_taken`: another one has it.
///
/// # Errors
/// The operating system gives no random bytes.
pub(crate) fn handle(name: &str, is_taken: bool) -> Result<String, Failure> {
    let mut handle = String::new();
    for letter in name.to_lowercase().chars().take(HANDLE_CHARS_MAX) {
        if letter.is_alphanumeric() {
            handle.push(letter);
        } else if !handle.ends_with('-') && !handle.is_empty() {
            handle.push('-');
        }
    }
    let handle = handle.trim_end_matches('-');
    let handle = if handle.is_empty() { "user" } else { handle };
    Ok(match is_taken {
        false => handle.to_owned(),
        true => format!("{handle}-{:04x}", u16::from_be_bytes(random_bytes()?)),
    })
}

/// The row of a user.
pub(crate) fn insert(user: &User, proof: Proof<'_>) -> Step {
    let (password, subject) = match proof {
        Proof::None => (None, None),
        Proof::Password(kept) => (Some(kept), None),
        Proof::Oidc(subject) => (None, Some(subject)),
    };
    let params: Vec<Sql> = vec![
        (&user.id).into(),
        (&user.team).into(),
        user.name.as_str().into(),
        user.real_name.as_str().into(),
        user.email.as_deref().into(),
        password.into(),
        user.app.as_ref().map(Id::as_str).into(),
        user.bot.as_ref().map(Id::as_str).into(),
        user.is_admin.into(),
        user.updated.into(),
        subject.into(),
    ];
    Step::some(INSERT_USER, params)
}

/// The row of a session that begins now, and its token.
///
/// # Errors
/// The operating system gives no random bytes.
pub(crate) fn session(team: &Id, user: &Id) -> Result<(String, Step), Failure> {
    let token = Credential::Session.draw()?;
    let expires = Some(unix_seconds() + SESSION_SECONDS);
    let values = token_values(&token, Credential::Session, (team, user, None), expires);
    Ok((token, Step::some(INSERT_TOKEN, values)))
}

impl Change {
    /// With a new user, who is in nothing yet, and whom the workspace is told of.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn with_user(self, user: &User, proof: Proof<'_>) -> Result<Self, Failure> {
        let event =
            json!({ "type": "team_join", "user": user.view(), "event_ts": Ts::now().to_string() });
        let draft = notice::to_team(&user.team, &event)?;
        Ok(self
            .before(insert(user, proof), "user_not_found")
            .also(draft))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_made_of_names() {
        for (name, expected) in [
            ("Ann Lee", "ann-lee"),
            ("  Jörg  M. ", "jörg-m"),
            ("<script>", "script"),
            ("!!!", "user"),
        ] {
            assert_eq!(handle(name, false).unwrap(), expected);
        }
        assert_ne!(handle("Ann", true).unwrap(), handle("Ann", false).unwrap());
    }
}
