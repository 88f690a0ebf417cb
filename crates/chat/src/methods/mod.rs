//! The methods, by their families. Each family lists its own; [`ALL`] is what is served.

mod auth;
mod delete;
mod edit;
mod history;
mod mark;
pub(crate) mod post;
mod reactions;
mod say;
mod schedule;

use crate::method::Method;

/// Every method.
pub(crate) const ALL: &[&[Method]] = &[
    auth::METHODS,
    delete::METHODS,
    edit::METHODS,
    history::METHODS,
    mark::METHODS,
    post::METHODS,
    reactions::METHODS,
    say::METHODS,
    schedule::METHODS,
];
