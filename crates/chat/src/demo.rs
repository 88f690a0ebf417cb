//! The workspace of a first try: two people, a bot, one channel, and tokens that everybody knows. On loopback addresses only.

use fanfare_engine::port::{TransactError, Transaction, tables::Step};

use crate::{
    Chat,
    caller::{Credential, INSERT_TOKEN, token_values},
    failure::Failure,
    id::Id,
    unix_seconds,
};

/// The workspace's fixed names and tokens.
pub struct Demo;

impl Demo {
    /// Tokens, and whose they are.
    pub const TOKENS: [(&'static str, &'static str); 4] = [
        ("xoxp-dev-alice", "alice, who manages the workspace"),
        ("xoxp-dev-bob", "bob"),
        ("xoxb-dev-bot", "a bot"),
        ("xapp-dev", "the bot's app, for Socket Mode"),
    ];
    /// The people among them: name, full name and token.
    pub(crate) fn people() -> [(&'static str, &'static str, &'static str); 2] {
        [
            ("alice", "Alice", Self::TOKENS[0].0),
            ("bob", "Bob", Self::TOKENS[1].0),
        ]
    }

    pub(crate) const TEAM: &str = "T0DEMO00000";
    pub(crate) const ALICE: &str = "U0ALICE0000";
    pub(crate) const BOB: &str = "U0BOB000000";
    pub(crate) const BOT_USER: &str = "U0BOT000000";
    pub(crate) const BOT: &str = "B0BOT000000";
    pub(crate) const APP: &str = "A0BOT000000";
    pub(crate) const GENERAL: &str = "C0GENERAL00";
}

const INSERT_TEAM: &str =
    "INSERT INTO chat_teams (id, domain, name, created) VALUES ($1, 'demo', 'Demo', $2)";

const INSERT_USER: &str = "INSERT INTO chat_users (id, team, name, real_name, app, bot, is_admin, deleted, away, created, updated) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8, $8)";

const INSERT_APP: &str =
    "INSERT INTO chat_apps (id, team, name, bot_user, created) VALUES ($1, $2, 'Demo bot', $3, $4)";

const INSERT_CHANNEL: &str = "INSERT INTO chat_conversations (id, team, kind, name, topic, topic_by, topic_at, purpose, purpose_by, \
    purpose_at, creator, created, archived, is_general, members, last_ts, last_message) \
    VALUES ($1, $2, 'public', 'general', '', '', 0, 'For everybody in the workspace', '', 0, $3, $4, 0, 1, 3, 0, 0)";

const INSERT_MEMBER: &str = "INSERT INTO chat_members (conversation, user_id, joined, last_read, is_open) VALUES ($1, $2, $3, 0, 1)";

/// Makes it, if it is not there.
pub(crate) async fn make(chat: &Chat) -> Result<(), Failure> {
    let now = unix_seconds();
    let mut steps = vec![Step::some(INSERT_TEAM, vec![Demo::TEAM.into(), now.into()])];
    for (id, name, real_name, is_bot, is_admin) in [
        (Demo::ALICE, "alice", "Alice", false, true),
        (Demo::BOB, "bob", "Bob", false, false),
        (Demo::BOT_USER, "bot", "Demo bot", true, false),
    ] {
        let params = vec![
            id.into(),
            Demo::TEAM.into(),
            name.into(),
            real_name.into(),
            is_bot.then_some(Demo::APP).into(),
            is_bot.then_some(Demo::BOT).into(),
            is_admin.into(),
            now.into(),
        ];
        steps.push(Step::some(INSERT_USER, params));
    }
    let app = vec![
        Demo::APP.into(),
        Demo::TEAM.into(),
        Demo::BOT_USER.into(),
        now.into(),
    ];
    steps.push(Step::some(INSERT_APP, app));
    let general = vec![
        Demo::GENERAL.into(),
        Demo::TEAM.into(),
        Demo::ALICE.into(),
        now.into(),
    ];
    steps.push(Step::some(INSERT_CHANNEL, general));
    for user in [Demo::ALICE, Demo::BOB, Demo::BOT_USER] {
        steps.push(Step::some(
            INSERT_MEMBER,
            vec![Demo::GENERAL.into(), user.into(), now.into()],
        ));
    }
    let users = [Demo::ALICE, Demo::BOB, Demo::BOT_USER, Demo::BOT_USER];
    let kinds = [
        Credential::User,
        Credential::User,
        Credential::Bot,
        Credential::App,
    ];
    for (((token, _), user), kind) in Demo::TOKENS.into_iter().zip(users).zip(kinds) {
        let (team, user, app) = (Id::known(Demo::TEAM), Id::known(user), Id::known(Demo::APP));
        let app = matches!(kind, Credential::Bot | Credential::App).then_some(&app);
        steps.push(Step::some(
            INSERT_TOKEN,
            token_values(token, kind, (&team, &user, app), None),
        ));
    }
    let transaction = Transaction {
        steps,
        ..Transaction::default()
    };
    match chat.engine.transact(transaction).await {
        // Another node, or an earlier start, has made it.
        Ok(_) | Err(TransactError::Exists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
