//! The apps of this server: each serves a Socket.IO namespace and some routes.

use std::{sync::Arc, time::Duration};

use axum::Router;
use fanfare_chat::{Chat, ChatConfig, Demo};
use fanfare_engine::{Engine, state::WhenAway};
use fanfare_gateway::{
    judge::Judge, metrics::Family, sessions::Sessions, socketio::Namespace, token::TokenSigner,
};
use fanfare_watch::{Watch, WatchConfig, turn::IceConfig};
use tracing::info;
use uuid::Uuid;

use crate::config::{Config, Secret};

/// Gives a server for a first try a secret of its own: its apps sign tokens for whoever asks. They end with the server.
pub(crate) fn complete(config: &mut Config) {
    let signs = config.watch.enabled || config.chat.enabled || config.mail.is_on();
    if config.dev && signs && config.token_secret.is_none() {
        // From the operating system's source, 122 bits each.
        let random = [Uuid::new_v4(), Uuid::new_v4()].map(|uuid| uuid.simple().to_string());
        config.token_secret = Some(Secret::from(random.concat()));
    }
}

/// The apps that are on.
pub(crate) struct Apps {
    chat: Option<Arc<Chat>>,
    watch: Option<Arc<Watch>>,
}

impl Apps {
    /// Starts the apps that the configuration has on.
    pub(crate) fn start(config: &Config, engine: &Arc<Engine>) -> Self {
        let settings = &config.watch;
        let watch = settings.enabled.then(|| {
            let secret = config.token_secret.as_ref();
            let config = WatchConfig {
                anonymous_rooms: settings.anonymous_rooms,
                open: config.dev,
                rooms_per_hour: settings.rooms_per_hour,
                limits_when_away: settings.limits_when_away,
                signer: secret.map(|secret| TokenSigner::new(secret.reveal().as_bytes())),
                ice: IceConfig {
                    stun_urls: settings.stun_urls.clone(),
                    turn_urls: settings.turn_urls.clone(),
                    turn_secret: settings
                        .turn_secret
                        .as_ref()
                        .map(|secret| secret.reveal().to_owned()),
                },
            };
            Watch::start(config, Arc::clone(engine))
        });
        let chat = start_chat(config, engine);
        Self { chat, watch }
    }

    /// The apps behind Socket.IO, in the order of [`namespaces`].
    pub(crate) fn all(&self) -> Vec<Arc<dyn Namespace>> {
        let watch = self.watch.iter();
        watch.map(|watch| Arc::clone(watch) as _).collect()
    }

    /// The apps that decide who subscribes in their namespaces.
    pub(crate) fn judges(&self) -> Vec<Arc<dyn Judge>> {
        self.chat.iter().map(Chat::judge).collect()
    }

    /// Lets the apps judge tokens.
    pub(crate) fn trust(&self, sessions: &Arc<Sessions>) {
        if let Some(watch) = &self.watch {
            watch.trust(Arc::clone(sessions));
        }
    }

    /// The apps' routes.
    pub(crate) fn router(&self) -> Router {
        let watch = self.watch.iter().map(Watch::router);
        let chat = self.chat.iter().map(Chat::router);
        watch.chain(chat).fold(Router::new(), Router::merge)
    }

    /// What the apps count.
    pub(crate) fn families(&self) -> Box<dyn Fn() -> Vec<Family> + Send + Sync> {
        let chat = self.chat.as_ref().map(Chat::families);
        Box::new(move || chat.as_ref().map_or_else(Vec::new, |chat| chat()))
    }

    /// Tells the apps' clients that the server goes.
    pub(crate) fn farewell(&self, window: Duration) {
        if let Some(watch) = &self.watch {
            watch.farewell(window);
        }
        if let Some(chat) = &self.chat {
            chat.farewell();
        }
    }
}

fn start_chat(config: &Config, engine: &Arc<Engine>) -> Option<Arc<Chat>> {
    let settings = &config.chat;
    if !settings.enabled {
        return None;
    }
    if config.dev {
        for (token, whose) in Demo::TOKENS {
            info!("the chat's demo workspace: {token} is the token of {whose}");
        }
    }
    let secret = config.token_secret.as_ref();
    let chat = ChatConfig {
        open: config.dev,
        sign_up: settings.sign_up,
        create_workspaces: settings.create_workspaces,
        public_url: settings.public_url.clone(),
        oidc: settings.oidc.clone(),
        limits_when_away: WhenAway::Local,
        signer: secret.map(|secret| TokenSigner::new(secret.reveal().as_bytes())),
    };
    Some(Chat::start(chat, Arc::clone(engine)))
}

/// The names of the apps' namespaces.
pub(crate) fn namespaces(config: &Config) -> Vec<&'static str> {
    match config.watch.enabled {
        true => vec![fanfare_watch::NAMESPACE],
        false => Vec::new(),
    }
}
