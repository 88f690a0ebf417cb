//! Live mail: what happens in a Gmail mailbox is in its owner's browser at once, and none of it is missed. An app on the
//! engine's public interface and the webhook ingress; [docs/mail.md](../../../docs/mail.md) says what it speaks.
//!
//! Google tells the ingress that a mailbox has changed. The change itself is fetched from Gmail's history, from the place
//! that is stored: the rows, the place, and the events commit together, so each change is told exactly once, however often and in
//! whatever order Google tells of it.
//!
//! | file | subject |
//! | --- | --- |
//! | `user` | whose mailbox, and its channel |
//! | `message` | a message as it is kept and shown, and the ids of Gmail's history |
//! | `event` | what clients are told: one envelope for every transport |
//! | `google` | OAuth and the Gmail API |
//! | `seal` | what is kept so that only this server can read it |
//! | `account` | a mailbox that is connected, and how far it is in sync |
//! | `store`, `schema` | the tables |
//! | `sync` | from "something has changed" to rows and events |
//! | `app` | the parts on one node, and how a server puts them to work |
//! | `session`, `streams` | who is at the browser; how many event streams one user may have |
//! | `limits`, `labels` | how often something may be done; the names of labels |
//! | `http` | the HTTP side |

pub mod account;
pub mod app;
pub mod event;
pub mod google;
mod http;
mod labels;
mod limits;
pub mod message;
mod schema;
pub mod seal;
pub mod session;
mod store;
pub mod streams;
pub mod sync;
pub mod user;

pub use store::StoreError;

/// The namespace of channels that is the app's: `mail:USER`. Clients read their own, with a token of the app.
pub const CHANNEL_NAMESPACE: &str = "mail";

/// How many publications a mailbox's channel keeps if the configuration says nothing else.
pub const HISTORY_COUNT_DEFAULT: u64 = 10_000;
/// For how many days it keeps publications if the configuration says nothing else.
pub const HISTORY_DAYS_DEFAULT: u64 = 30;

/// The source of webhooks that Google delivers to: `POST /webhooks/gmail`.
pub const WEBHOOK_SOURCE: &str = "gmail";
/// Its path.
pub const WEBHOOK_PATH: &str = "/webhooks/gmail";
