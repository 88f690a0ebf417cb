//! The methods, by their families. Each family lists its own; [`ALL`] is what is served.

mod auth;
mod history;
mod post;

use crate::method::Method;

/// Every method.
pub(crate) const ALL: &[&[Method]] = &[auth::METHODS, history::METHODS, post::METHODS];
