//! The methods, by their families. Each family lists its own; [`ALL`] is what is served.

mod accounts;
mod auth;
mod boot;
mod channels;
mod client;
mod connections;
mod conversations;
mod delete;
mod direct;
mod edit;
mod history;
mod mark;
mod members;
pub(crate) mod post;
mod reactions;
mod say;
mod schedule;
mod search;
mod session;
pub(crate) mod sign_up;
mod team;
mod users;

use crate::method::Method;

/// Every method.
pub(crate) const ALL: &[&[Method]] = &[
    accounts::METHODS,
    auth::METHODS,
    boot::METHODS,
    channels::METHODS,
    client::METHODS,
    connections::METHODS,
    conversations::METHODS,
    delete::METHODS,
    direct::METHODS,
    edit::METHODS,
    history::METHODS,
    mark::METHODS,
    members::METHODS,
    post::METHODS,
    reactions::METHODS,
    say::METHODS,
    schedule::METHODS,
    search::METHODS,
    session::METHODS,
    sign_up::METHODS,
    team::METHODS,
    users::METHODS,
];
