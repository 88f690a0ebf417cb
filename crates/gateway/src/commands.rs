//! Commands of the application's servers for connections, wherever these are: subscribe, unsubscribe, disconnect, refresh; and the
//! removal of history, which every node has to know of.
//!
//! A command must not be lost because Redis is away, so it is a publication in a channel that no client reaches ([`COMMANDS`]), as a
//! revocation is: committed before it is acknowledged, heard by every node within milliseconds, healed by the sweep. It is for those who are
//! connected when it is committed, and for nobody else: what a node reads of the past, at its start or in a log that was put back, it
//! does not carry out. So nobody is let in before a node hears new commands, and old ones are removed.

mod clients;
mod drafts;

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fanfare_engine::{Engine, follow::Followed};
use fanfare_wire::{ChannelName, Epoch, Publication, Seq};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::{
    api::or_default,
    judge::Judges,
    token::{Seconds, SubOptions},
};

pub(crate) use self::clients::{Clients, Ear, Registered};
pub use self::drafts::{CommandError, disconnect_draft, unsubscribe_draft};

/// The channel of the commands; its namespace is nobody's but the server's.
pub const COMMANDS: &str = "_fanfare:commands";

/// How long commands are kept at least. A node that hangs for longer than this misses some, and the clients that it has are not there
/// any more.
pub const COMMANDS_KEPT: Duration = Duration::from_secs(30 * 60);

/// What the application's servers want done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// With connections.
    Clients {
        /// Whose.
        whose: Whose,
        /// What.
        act: Act,
    },
    /// Publications were removed from the log: they are forgotten.
    Forget {
        /// Where.
        channel: String,
        /// In which epoch.
        epoch: String,
        /// Up to and including which.
        up_to: u64,
    },
}

/// Whose connections are meant: those of a user, and among them one, or those of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Whose {
    #[serde(deserialize_with = "or_default")]
    pub(crate) user: String,
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub(crate) client: String,
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub(crate) session: String,
}

impl Whose {
    /// Whether a connection is one of those; `sessions` are the names that its session goes by.
    pub(crate) fn means(&self, user: &str, client: Uuid, sessions: &[Option<&str>]) -> bool {
        let of_session = self.session.is_empty() || sessions.contains(&Some(self.session.as_str()));
        let is_client = self.client.is_empty() || self.client == client.to_string();
        of_session && is_client && self.user == user
    }
}

/// What is done with a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    /// The server subscribes it.
    Subscribe {
        channel: String,
        #[serde(default)]
        options: SubOptions,
        /// From which position; live if that is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Since>,
    },
    /// A subscription ends, whoever has begun it.
    Unsubscribe { channel: String },
    /// It is closed.
    Disconnect {
        code: u16,
        reason: String,
        /// Connections that stay.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        whitelist: Vec<String>,
    },
    /// It holds until another time, or ends now.
    Refresh {
        #[serde(default)]
        expired: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expire_at: Option<Seconds>,
    },
}

/// A position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Since {
    pub(crate) offset: u64,
    #[serde(default)]
    pub(crate) epoch: String,
}

/// A command for connections, as their sessions are told it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) whose: Whose,
    pub(crate) act: Act,
}

/// Whether whoever is disconnected with a code is told not to come back.
pub(crate) fn is_for_good(code: u16) -> bool {
    code % 1000 >= 500
}

/// The commands of a node.
pub(crate) struct Commands {
    engine: Weak<Engine>,
    judges: Arc<Judges>,
    clients: Arc<Clients>,
    /// New commands are heard.
    hears: watch::Sender<bool>,
    /// The last one that was heard, and the last one when old ones were looked for.
    seen: Mutex<(Seq, Seq)>,
    carried_out: AtomicU64,
}

impl Commands {
    /// Begins to hear commands. Must be called within a tokio runtime.
    pub(crate) fn start(engine: &Arc<Engine>, judges: &Arc<Judges>) -> Arc<Self> {
        let commands = Arc::new(Self {
            engine: Arc::downgrade(engine),
            judges: Arc::clone(judges),
            clients: Arc::default(),
            hears: watch::Sender::new(false),
            seen: Mutex::default(),
            carried_out: AtomicU64::new(0),
        });
        match ChannelName::parse(COMMANDS) {
            Ok(channel) => {
                let told = Arc::clone(&commands);
                engine.follow(
                    channel.clone(),
                    Box::new(move |followed| told.on_followed(followed)),
                );
                tokio::spawn(Arc::clone(&commands).clear(channel));
            }
            // Without them nobody is let in.
            Err(error) => error!(%error, "the channel of the commands has an impossible name"),
        }
        commands
    }

    /// The connections that commands may be for.
    pub(crate) fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    /// Whether a connection that is let in now misses no command.
    pub(crate) fn are_heard(&self) -> bool {
        *self.hears.borrow()
    }

    /// Waits until it is so.
    pub(crate) async fn heard(&self) {
        // It fails only if the sender is gone, and that is here.
        let _ = self.hears.subscribe().wait_for(|hears| *hears).await;
    }

    /// How many commands were carried out.
    pub(crate) fn count(&self) -> u64 {
        self.carried_out.load(Relaxed)
    }

    fn on_followed(&self, followed: Followed) {
        match followed {
            Followed::Publication(publication) => {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).0 = publication.seq;
                if *self.hears.borrow() {
                    self.carry_out(&publication);
                }
            }
            Followed::CaughtUp => _ = self.hears.send_replace(true),
            // What follows is the past, of another log.
            Followed::Reset => {
                self.hears.send_replace(false);
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (Seq::ZERO, Seq::ZERO);
            }
        }
    }

    fn carry_out(&self, publication: &Publication) {
        let command = match serde_json::from_slice(publication.data.as_bytes()) {
            Ok(command) => command,
            Err(error) => {
                warn!(%error, seq = %publication.seq, "a command of a form that this version does not know");
                return;
            }
        };
        self.carried_out.fetch_add(1, Relaxed);
        match command {
            Command::Clients { act, .. } if self.judges.forbid(&act) => {
                warn!(seq = %publication.seq, ?act, "a command that would let clients in where an app is the judge");
            }
            Command::Clients { whose, act } => {
                debug!(seq = %publication.seq, ?act, "a command for connections");
                self.clients.tell(&Arc::new(Told { whose, act }));
            }
            Command::Forget {
                channel,
                epoch,
                up_to,
            } => {
                let named = (ChannelName::parse(&channel).ok(), Epoch::named(&epoch));
                if let (Some(engine), (Some(channel), Some(epoch))) = (self.engine.upgrade(), named)
                {
                    engine.forget(&channel, &epoch, Seq(up_to));
                }
            }
        }
    }

    /// Removes old commands, on whichever nodes there are.
    async fn clear(self: Arc<Self>, channel: ChannelName) {
        let mut ticks = interval(COMMANDS_KEPT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(engine) = self.engine.upgrade() else {
                return;
            };
            let old = {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                let last = seen.0;
                std::mem::replace(&mut seen.1, last)
            };
            if old > Seq::ZERO
                && let Err(error) = engine.remove(&channel, old).await
            {
                debug!(%error, "old commands are removed later");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fanfare_wire::Json;

    use super::*;

    fn written(command: &Command) -> String {
        let draft = command.draft().unwrap();
        assert_eq!(draft.channel.as_str(), COMMANDS);
        String::from_utf8(draft.data.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn what_is_read_of_the_past_is_not_carried_out() {
        let commands = Commands {
            engine: Weak::new(),
            judges: Arc::default(),
            clients: Arc::default(),
            hears: watch::Sender::new(false),
            seen: Mutex::default(),
            carried_out: AtomicU64::new(0),
        };
        let hear = |seq: u64, command: &Command| {
            let draft = command.draft().unwrap();
            commands.on_followed(Followed::Publication(Publication {
                seq: Seq(seq),
                id: draft.id,
                time: 0,
                data: draft.data,
                info: None,
                tags: None,
            }));
            (commands.count(), commands.are_heard())
        };
        let command = Command::Clients {
            whose: Whose::default(),
            act: Act::Refresh {
                expired: true,
                expire_at: None,
            },
        };
        assert_eq!(hear(1, &command), (0, false));
        commands.on_followed(Followed::CaughtUp);
        assert_eq!(hear(2, &command), (1, true));
        // A log that was put back is the past again.
        commands.on_followed(Followed::Reset);
        assert_eq!(hear(1, &command), (1, false));
        commands.on_followed(Followed::CaughtUp);
        assert_eq!(hear(2, &command), (2, true));
    }

    #[test]
    fn commands_are_written_and_read_again() {
        let whose = Whose {
            user: "ann".to_owned(),
            ..Whose::default()
        };
        let options = SubOptions {
            data: Some(Json::parse(b"{\"a\" : [1.0]}").unwrap()),
            expire_at: Some(7),
            ..SubOptions::default()
        };
        let clients = |act| Command::Clients {
            whose: whose.clone(),
            act,
        };
        let channel = || "c".to_owned();
        let commands = [
            clients(Act::Subscribe {
                channel: channel(),
                options,
                since: Some(Since {
                    offset: 7,
                    epoch: "e".to_owned(),
                }),
            }),
            clients(Act::Unsubscribe { channel: channel() }),
            clients(Act::Disconnect {
                code: 4000,
                reason: "enough \"is\" enough".to_owned(),
                whitelist: vec!["x".to_owned()],
            }),
            clients(Act::Refresh {
                expired: false,
                expire_at: Some(9),
            }),
            Command::Forget {
                channel: channel(),
                epoch: "e".to_owned(),
                up_to: 4,
            },
        ];
        for command in &commands {
            let text = written(command);
            let read: Command = serde_json::from_str(&text).unwrap();
            assert_eq!(&read, command, "{text}");
        }
        assert_eq!(
            written(&commands[1]),
            r#"{"clients":{"whose":{"user":"ann"},"act":{"unsubscribe":{"channel":"c"}}}}"#
        );
    }

    #[test]
    fn a_connection_is_meant_by_all_that_is_said() {
        let client = Uuid::from_u128(7);
        let whose = |user: &str, client: &str, session: &str| Whose {
            user: user.to_owned(),
            client: client.to_owned(),
            session: session.to_owned(),
        };
        let name = client.to_string();
        let sessions = [Some("jti"), None];
        for (whose, means) in [
            (whose("ann", "", ""), true),
            (whose("ann", &name, "jti"), true),
            (whose("", &name, ""), false),
            (whose("bob", "", ""), false),
            (whose("ann", "another", ""), false),
            (whose("ann", "", "another"), false),
        ] {
            assert_eq!(whose.means("ann", client, &sessions), means, "{whose:?}");
        }
        assert!(!whose("ann", "", "s").means("ann", client, &[None]));
        assert!(whose("", "", "s").means("", client, &[Some("s")]));
        for (code, for_good) in [
            (3000, false),
            (3499, false),
            (3500, true),
            (4499, false),
            (4999, true),
        ] {
            assert_eq!(is_for_good(code), for_good, "{code}");
        }
    }
}
