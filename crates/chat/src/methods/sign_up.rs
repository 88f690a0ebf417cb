//! `chat.signUp`, `chat.invite`: making an account, and bringing somebody to it.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fanfare_engine::port::{
    Transaction,
    tables::{Step, Value as Sql},
};

use super::conversations::making;
use crate::{
    Chat, SignUp,
    account::{self, Newcomer, Proof, Wish},
    caller::digest_of,
    change::Change,
    conversation::{Conversation, Shape, conversation_columns},
    failure::{EXISTS, Failure},
    id::{Id, Kind, random_bytes},
    membership::joining,
    method::{Answer, Call, Method, method},
    unix_seconds,
    user::User,
};

pub(crate) const METHODS: &[Method] = &[
    method!("chat.signUp", Anyone, One, sign_up),
    method!("chat.invite", Admin, Two, invite),
];

/// How long an invitation holds, in seconds.
const INVITE_SECONDS: i64 = 7 * 24 * 3600;
const INVITE_USES_DEFAULT: i64 = 100;
const INVITE_USES_MAX: i64 = 1000;
/// How often a name that is taken is made another one.
const TRIES: usize = 4;

const SELECT_ANY_TEAM: &str = "SELECT id FROM chat_teams LIMIT 1";
const SELECT_TEAM: &str =
    "SELECT id FROM chat_teams WHERE $1 = '' OR id = $1 OR domain = $1 ORDER BY created LIMIT 2";
const SELECT_INVITE: &str =
    "SELECT team FROM chat_invites WHERE digest = $1 AND uses_left > 0 AND expires > $2";
const USE_INVITE: &str = "UPDATE chat_invites SET uses_left = uses_left - 1 WHERE digest = $1 AND uses_left > 0 AND expires > $2";
const INSERT_INVITE: &str = "INSERT INTO chat_invites (digest, team, created_by, created, expires, uses_left) \
    VALUES ($1, $2, $3, $4, $5, $6)";
const FORGET_INVITES: &str = "DELETE FROM chat_invites WHERE team = $1 AND expires <= $2";
const SELECT_EMAIL: &str = "SELECT 1 FROM chat_users WHERE team = $1 AND email = $2";
const SELECT_GENERAL: &str = concat!(
    "SELECT ",
    conversation_columns!(),
    " FROM chat_conversations c LEFT JOIN chat_members m ON m.conversation = c.id AND m.user_id = '' \
     WHERE c.team = $1 AND c.is_general = 1"
);
const INSERT_TEAM: &str =
    "INSERT INTO chat_teams (id, domain, name, created) VALUES ($1, $2, $3, $4)";
/// The first workspace of a server is made once, however many want to at the same moment.
const BE_FIRST: &str =
    "INSERT INTO chat_once (what) SELECT 'workspace' WHERE NOT EXISTS (SELECT 1 FROM chat_teams)";

/// Where somebody wants an account, in their own words.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// An invitation.
    pub(crate) invite: Option<String>,
    /// What a new workspace is to be called.
    pub(crate) team_name: Option<String>,
    /// Which workspace: its id or its domain.
    pub(crate) team: Option<String>,
}

/// Where a new account is to be.
pub(crate) enum Place {
    /// In a workspace; with the digest of the invitation, if there is one.
    In(Id, Option<String>),
    /// In one of its own.
    New {
        name: String,
        /// Because there is none yet.
        is_first: bool,
    },
}

async fn sign_up(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    call.need_own_page()?;
    let wish = Wish::read(&call.args)?;
    let wanted = Wanted {
        invite: call.args.text("invite"),
        team_name: call.args.text("team_name"),
        team: call.args.text("team"),
    };
    let place = chat.place_for(&wanted, &wish.real_name).await?;
    if let Place::In(team, _) = &place {
        chat.check_email(team, &wish.email).await?;
    }
    let kept = chat.passwords.hash(wish.password.clone()).await;
    let kept = kept.map_err(Failure::internal)?;
    let newcomer = Newcomer {
        email: Some(&wish.email),
        real_name: &wish.real_name,
        proof: Proof::Password(&kept),
    };
    let (user, token) = chat.enter(&newcomer, &place).await?;
    let answer = Answer::ok()
        .with("user_id", &user.id)
        .with("team_id", &user.team);
    chat.signed_in(answer, &token)
}

async fn invite(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    if chat.config.sign_up == SignUp::Closed {
        return Err(Failure::new("signup_disabled"));
    }
    let uses = call.args.int("uses")?.unwrap_or(INVITE_USES_DEFAULT);
    if !(1..=INVITE_USES_MAX).contains(&uses) {
        return Err(Failure::argument("uses", "must be 1 to 1000"));
    }
    let invite = URL_SAFE_NO_PAD.encode(random_bytes::<24>()?);
    let now = unix_seconds();
    let insert: Vec<Sql> = vec![
        digest_of(&invite).into(),
        (&caller.team).into(),
        (&caller.user).into(),
        now.into(),
        (now + INVITE_SECONDS).into(),
        uses.into(),
    ];
    let forget = vec![(&caller.team).into(), now.into()];
    let transaction = Transaction {
        steps: vec![
            Step::new(FORGET_INVITES, forget),
            Step::some(INSERT_INVITE, insert),
        ],
        ..Transaction::default()
    };
    chat.engine.transact(transaction).await?;
    Ok(Answer::ok()
        .with("url", format!("{}?invite={invite}", chat.page_url()))
        .with("expires", now + INVITE_SECONDS)
        .with("uses", uses))
}

impl Chat {
    async fn has_team(&self) -> Result<bool, Failure> {
        let rows = self.engine.query(SELECT_ANY_TEAM, Vec::new()).await?;
        Ok(!rows.is_empty())
    }

    /// Where somebody may make an account.
    ///
    /// # Errors
    /// `signup_disabled`, `invalid_invite`, `team_not_found`, `invalid_arguments`.
    pub(crate) async fn place_for(
        &self,
        wanted: &Wanted,
        real_name: &str,
    ) -> Result<Place, Failure> {
        let disabled = || Failure::new("signup_disabled");
        let sign_up = self.config.sign_up;
        if let Some(invite) = &wanted.invite {
            if sign_up == SignUp::Closed {
                return Err(disabled());
            }
            let team = self.team_of_invite(invite).await?;
            let team = team.ok_or_else(|| Failure::new("invalid_invite"))?;
            return Ok(Place::In(team, Some(digest_of(invite))));
        }
        let name = wanted.team_name.as_deref().map(str::trim);
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        let named = |name: Option<String>| {
            let name = name.unwrap_or_else(|| format!("{real_name}'s workspace"));
            match name.chars().count() <= 80 && !name.contains(char::is_control) {
                true => Ok(name),
                false => Err(Failure::argument("team_name", "must be 1 to 80 characters")),
            }
        };
        if !self.has_team().await? {
            let name = named(name)?;
            return Ok(Place::New {
                name,
                is_first: true,
            });
        }
        if sign_up != SignUp::Open {
            return Err(disabled());
        }
        if name.is_some() && self.config.create_workspaces {
            let name = named(name)?;
            return Ok(Place::New {
                name,
                is_first: false,
            });
        }
        let team = wanted.team.as_deref().unwrap_or_default();
        let rows = self.engine.query(SELECT_TEAM, vec![team.into()]).await?;
        match (rows.first().and_then(|row| row.text(0)), rows.len()) {
            (Some(team), 1) => Ok(Place::In(Id::known(team), None)),
            _ => Err(Failure::new("team_not_found")),
        }
    }

    /// The workspace to which an invitation invites, if it still does.
    pub(crate) async fn team_of_invite(&self, invite: &str) -> Result<Option<Id>, Failure> {
        let params = vec![digest_of(invite).into(), unix_seconds().into()];
        let rows = self.engine.query(SELECT_INVITE, params).await?;
        Ok(rows.first().and_then(|row| row.text(0)).map(Id::known))
    }

    /// Makes an account, and a session of it: with the user, and the token of the session.
    ///
    /// # Errors
    /// `email_taken`, `invalid_invite`, `signup_disabled`, `name_taken`; or the database is away.
    pub(crate) async fn enter(
        &self,
        newcomer: &Newcomer<'_>,
        place: &Place,
    ) -> Result<(User, String), Failure> {
        for attempt in 0..TRIES {
            let (user, token, change) = self.entering(newcomer, place, attempt > 0).await?;
            match self.change(change).await {
                Ok(_) => return Ok((user, token)),
                Err(failure) if failure.is(EXISTS) => match (place, newcomer.email) {
                    (Place::In(team, _), Some(email)) => self.check_email(team, email).await?,
                    (Place::New { is_first: true, .. }, _) if self.has_team().await? => {
                        return Err(Failure::new("signup_disabled"));
                    }
                    _ => {}
                },
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::new("name_taken"))
    }

    async fn check_email(&self, team: &Id, email: &str) -> Result<(), Failure> {
        let params = vec![team.into(), email.into()];
        match self.engine.query(SELECT_EMAIL, params).await?.is_empty() {
            true => Ok(()),
            false => Err(Failure::new("email_taken")),
        }
    }

    /// The change that makes the account, its session, and, if it has to be, its workspace.
    async fn entering(
        &self,
        newcomer: &Newcomer<'_>,
        place: &Place,
        is_taken: bool,
    ) -> Result<(User, String, Change), Failure> {
        let team = match place {
            Place::In(team, _) => team.clone(),
            Place::New { .. } => Id::random(Kind::Team)?,
        };
        let user = User {
            id: Id::random(Kind::User)?,
            team: team.clone(),
            name: account::handle(newcomer.real_name, is_taken)?,
            real_name: newcomer.real_name.to_owned(),
            email: newcomer.email.map(str::to_owned),
            app: None,
            bot: None,
            // Whoever makes a workspace manages it.
            is_admin: matches!(place, Place::New { .. }),
            is_deleted: false,
            is_away: false,
            updated: unix_seconds(),
        };
        let (token, begin) = account::session(&team, &user.id)?;
        let change = match place {
            Place::In(team, invite) => {
                let change = joining(&self.general(team).await?, &user.id, None)?;
                match invite {
                    Some(digest) => {
                        let params = vec![digest.as_str().into(), unix_seconds().into()];
                        change.before(Step::some(USE_INVITE, params), "invalid_invite")
                    }
                    None => change,
                }
            }
            Place::New { name, is_first } => {
                let id = Id::random(Kind::Channel)?;
                let change = making((&id, &team, &user.id), "general", Shape::Public, true)?;
                let change = match is_first {
                    true => change.before(Step::some(BE_FIRST, Vec::new()), "signup_disabled"),
                    false => change,
                };
                let domain = account::handle(name, is_taken)?;
                let insert = vec![
                    (&team).into(),
                    domain.into(),
                    name.as_str().into(),
                    unix_seconds().into(),
                ];
                change.before(Step::some(INSERT_TEAM, insert), "team_not_found")
            }
        };
        let change = change
            .with_user(&user, newcomer.proof)?
            .before(begin, "user_not_found");
        Ok((user, token, change))
    }

    /// The channel in which everybody in a workspace is.
    async fn general(&self, team: &Id) -> Result<Conversation, Failure> {
        let rows = self.engine.query(SELECT_GENERAL, vec![team.into()]).await?;
        let general = rows.first().map(Conversation::read).transpose()?;
        general.ok_or_else(|| Failure::internal("a workspace has no channel for everybody"))
    }
}
