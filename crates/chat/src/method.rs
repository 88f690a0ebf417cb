//! What can be called: one table of methods, with who may call each and how often.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::http::HeaderValue;
use fanfare_engine::port::{BoxFuture, state::Bucket};
use serde_json::{Map, Value};

use crate::{
    Chat,
    args::Args,
    caller::{Caller, Credential},
    failure::Failure,
    methods,
};

/// One method of the Web API.
pub(crate) struct Method {
    /// Its name, as it stands in the path.
    pub(crate) name: &'static str,
    /// Who may call it.
    pub(crate) who: Who,
    /// How often.
    pub(crate) tier: Tier,
    /// What it does.
    pub(crate) run: fn(Arc<Chat>, Call) -> Running,
}

/// A method at work.
pub(crate) type Running = BoxFuture<'static, Result<Answer, Failure>>;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever comes.
    Anyone,
    /// Users and bots: `xoxp-`, `xoxb-`, and people at the page.
    User,
    /// Users and bots that manage the workspace.
    Admin,
    /// Apps, with their own token: `xapp-`.
    App,
}

/// How often one user, or one address, may call a method in a minute: Slack's tiers, with room for a workspace that is one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// What costs much, or is guessed at.
    One,
    /// What is done now and then.
    Two,
    /// What is done often.
    Three,
    /// What a page does all the time.
    Four,
    /// What has limits of its own: see the method.
    Own,
}

/// One call.
pub(crate) struct Call {
    /// Who calls; there always is one but for [`Who::Anyone`].
    caller: Option<Caller>,
    /// With what.
    pub(crate) args: Args,
    /// No page of somebody else has the browser send it.
    is_own_page: bool,
    /// Whom it asked, as it says.
    pub(crate) host: Option<String>,
}

/// What a method answers beside `ok`.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The fields.
    pub(crate) fields: Map<String, Value>,
    /// What a browser is to keep.
    pub(crate) cookies: Vec<HeaderValue>,
}

/// Makes a [`Method`] of an `async fn(Arc<Chat>, Call) -> Result<Answer, Failure>`.
macro_rules! method {
    ($name:literal, $who:ident, $tier:ident, $run:path) => {
        $crate::method::Method {
            name: $name,
            who: $crate::method::Who::$who,
            tier: $crate::method::Tier::$tier,
            run: |chat, call| Box::pin($run(chat, call)),
        }
    };
}
pub(crate) use method;

impl Tier {
    /// The bucket of a method of this tier; none if it has limits of its own. `ease` is how many times as high limits are.
    pub(crate) fn bucket(self, ease: u32) -> Option<Bucket> {
        let count: u32 = match self {
            Self::One => 20,
            Self::Two => 60,
            Self::Three => 300,
            Self::Four => 1_200,
            Self::Own => return None,
        };
        let count = count.saturating_mul(ease.max(1));
        Some(Bucket {
            capacity: count,
            refill: count,
            period: Duration::from_secs(60),
        })
    }
}

impl Who {
    /// Whether a credential is of the kind.
    pub(crate) fn admits(self, caller: &Caller) -> bool {
        match self {
            Self::Anyone => true,
            Self::User => caller.credential != Credential::App,
            Self::Admin => caller.credential != Credential::App && caller.is_admin,
            Self::App => caller.credential == Credential::App,
        }
    }
}

impl Call {
    pub(crate) fn new(caller: Option<Caller>, args: Args) -> Self {
        Self {
            caller,
            args,
            is_own_page: false,
            host: None,
        }
    }

    /// Whether no page of somebody else can have the browser send it.
    pub(crate) fn of_own_page(mut self, is_own_page: bool) -> Self {
        self.is_own_page = is_own_page;
        self
    }

    /// Refuses what another page has the browser send: nobody is signed in or out by a link.
    ///
    /// # Errors
    /// `invalid_origin`.
    pub(crate) fn need_own_page(&self) -> Result<(), Failure> {
        match self.is_own_page {
            true => Ok(()),
            false => Err(Failure::new("invalid_origin")),
        }
    }

    /// With the name of the host that was asked.
    pub(crate) fn at(mut self, host: Option<String>) -> Self {
        self.host = host;
        self
    }

    /// Who calls.
    ///
    /// # Errors
    /// `not_authed`, of a method that anyone may call.
    pub(crate) fn caller(&self) -> Result<&Caller, Failure> {
        self.caller
            .as_ref()
            .ok_or_else(|| Failure::new("not_authed"))
    }
}

impl Answer {
    /// Nothing but `ok`.
    pub(crate) fn ok() -> Self {
        Self::default()
    }

    /// With a field.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }
}

/// The methods by name.
pub(crate) fn registry() -> HashMap<&'static str, &'static Method> {
    let all = methods::ALL.iter().copied().flatten();
    all.map(|method| (method.name, method)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_method_is_there_twice() {
        let count: usize = methods::ALL.iter().map(|some| some.len()).sum();
        assert_eq!(registry().len(), count);
    }
}
