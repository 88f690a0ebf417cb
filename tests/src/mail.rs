//! Live mail as its users meet it: nodes that are connected with the stand-in for Google, browsers that sign in, event
//! streams.

use std::net::SocketAddr;

use fanfare_bench::local::{Node, NodeOptions, Redis, free_address};
use fanfare_bench::proxy::{Content, Proxy};
use fanfare_stand_in::Google;
use serde_json::{Value, json};

use crate::http::{Http, Response};
use crate::servers;
use crate::sse::Stream;
use crate::wait::eventually;

/// Key of the server API of the nodes.
pub const API_KEY: &str = "a-key-of-the-mail-tests";

/// Where Gmail's notifications are posted.
pub const WEBHOOK: &str = "/webhooks/gmail";

/// The account that pushes.
pub const SERVICE_ACCOUNT: &str = "push@stand-in.iam.gserviceaccount.com";

const TOKEN_SECRET: &str = "a-secret-of-the-mail-tests-of-32-b";

/// Base64 of 32 bytes.
const ENCRYPTION_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// Redirections that are followed.
const REDIRECTIONS_MAX: usize = 8;

/// Nodes on one database and one Redis, with one address for all of them, and Google's stand-in.
pub struct Site {
    /// In the order of their start.
    pub nodes: Vec<Node>,
    /// The bus between them.
    pub redis: Redis,
    /// Google.
    pub google: Google,
    gate: Proxy,
}

/// A browser that is signed in.
#[derive(Clone, Debug)]
pub struct Browser {
    cookie: String,
}

impl Site {
    /// Starts `size` nodes; `settings` are further lines of `[mail]`.
    ///
    /// # Panics
    /// When something does not start.
    #[track_caller]
    pub fn start(size: usize, settings: &str) -> Self {
        let google = Google::start(SocketAddr::from(([127, 0, 0, 1], 0)));
        let google = google.unwrap_or_else(|error| panic!("the stand-in: {error}"));
        let gate = free_address().and_then(|nobody| Proxy::start(nobody, Content::Bytes));
        let gate = gate.unwrap_or_else(|error| panic!("{error}"));
        let redis = servers::redis();
        let options = NodeOptions {
            postgres: Some(servers::database()),
            redis: Some(redis.url()),
            config: Some(config(&google, gate.address(), settings)),
            ..servers::closed(API_KEY, TOKEN_SECRET)
        };
        let nodes: Vec<Node> = (1..=size)
            .map(|number| {
                servers::start(NodeOptions {
                    name: Some(format!("node-{number}")),
                    ..options.clone()
                })
            })
            .collect();
        let addresses: Vec<SocketAddr> = nodes.iter().map(Node::address).collect();
        gate.spread_over(&addresses);
        let site = Self {
            nodes,
            redis,
            google,
            gate,
        };
        let endpoint = site.audience();
        site.control(
            "push",
            json!({"endpoint": endpoint, "audience": endpoint, "serviceAccount": SERVICE_ACCOUNT}),
        );
        site
    }

    /// The audience of Gmail's pushes: where they are posted.
    pub fn audience(&self) -> String {
        format!("http://{}{WEBHOOK}", self.gate.address())
    }

    /// Where a node listens.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address()
    }

    /// Tells the stand-in what to do.
    ///
    /// # Panics
    /// When it does not understand.
    #[track_caller]
    pub fn control(&self, what: &str, request: Value) -> Value {
        match self.google.control(what, &request) {
            Ok(answer) => answer,
            Err(words) => panic!("{what}: {words}"),
        }
    }

    /// A message comes; gives its id.
    ///
    /// # Panics
    /// Never: the stand-in takes it.
    pub fn receive(&self, address: &str, subject: &str) -> String {
        let message =
            json!({"address": address, "from": "Ann <ann@example.com>", "subject": subject});
        let answer = self.control("message", message);
        answer["ids"][0].as_str().unwrap_or_default().to_owned()
    }

    /// Labels of a message change.
    pub fn modify(&self, address: &str, id: &str, add: &[&str], remove: &[&str]) {
        self.control(
            "modify",
            json!({"address": address, "id": id, "add": add, "remove": remove}),
        );
    }

    /// Signs in with the mailbox of `address` through the login, and waits until it is in sync.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    pub fn sign_in(&self, address: &str) -> Browser {
        // A node that has just started may not be able to yet.
        let cookie = eventually("somebody can be signed in", || self.login(address));
        let browser = Browser { cookie };
        eventually("the mailbox is in sync", || {
            let me = browser.get(self.address(0), "/mail/me");
            assert_eq!(me.status, 200, "{}", me.text());
            (me.json()["state"] == "live").then_some(())
        });
        browser
    }

    /// Follows the login to its end; gives the cookies of the site, unless it is to be tried again.
    #[track_caller]
    fn login(&self, hint: &str) -> Option<String> {
        let here = self.gate.address();
        let mut cookies: Vec<(String, String)> = Vec::new();
        let mut next = (here, format!("/mail/login?login_hint={hint}"));
        for _ in 0..REDIRECTIONS_MAX {
            let (at, path) = &next;
            let cookie = header(&cookies);
            let answer = Http::once(*at, "GET", path, &[("cookie", &cookie)], &[]);
            let answer = answer.unwrap_or_else(|error| panic!("GET {path}: {error}"));
            if *at == here {
                keep(&mut cookies, &answer);
            }
            let location = answer.header("location").unwrap_or_default().to_owned();
            if location == "/mail" {
                return Some(header(&cookies));
            }
            assert_eq!(answer.status / 100, 3, "GET {path}: {}", answer.text());
            if location.ends_with("error=unavailable") {
                return None;
            }
            assert!(!location.contains("error="), "GET {path}: {location}");
            next = match location.strip_prefix("http://") {
                Some(rest) => {
                    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                    let host = host.parse();
                    (
                        host.unwrap_or_else(|_| panic!("{location}")),
                        format!("/{path}"),
                    )
                }
                None => (*at, location),
            };
        }
        panic!("signing in does not come to an end");
    }
}

impl Browser {
    /// `GET` with its cookies.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn get(&self, address: SocketAddr, path: &str) -> Response {
        self.request(address, "GET", path)
    }

    /// `POST` with its cookies and nothing else.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn post(&self, address: SocketAddr, path: &str) -> Response {
        self.request(address, "POST", path)
    }

    /// Where an event stream of the mailbox begins now.
    ///
    /// # Panics
    /// When the mailbox cannot be read.
    #[track_caller]
    pub fn event_id(&self, address: SocketAddr) -> String {
        let page = self.get(address, "/mail/messages");
        let id = page.json()["eventId"].as_str().map(str::to_owned);
        id.unwrap_or_else(|| panic!("{}", page.text()))
    }

    /// Opens an event stream behind `last_event_id`, and takes its `ready`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn stream(&self, address: SocketAddr, last_event_id: &str) -> Stream {
        let headers = [
            ("accept", "text/event-stream"),
            ("cookie", self.cookie.as_str()),
            ("last-event-id", last_event_id),
        ];
        let mut stream = Stream::open_path(address, "/mail/events", &headers);
        stream.expect("ready");
        stream
    }

    #[track_caller]
    fn request(&self, address: SocketAddr, method: &str, path: &str) -> Response {
        let answer = Http::once(address, method, path, &[("cookie", &self.cookie)], &[]);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }
}

/// The next event that changes the mailbox: neither a heartbeat nor the end of a sync. Its name, id and data.
///
/// # Panics
/// When none comes.
#[track_caller]
pub fn change(stream: &mut Stream) -> (String, String, Value) {
    loop {
        let event = stream.event();
        if !matches!(event.name.as_str(), "heartbeat" | "sync_complete") {
            assert_eq!(event.data["type"], event.name.as_str(), "{event:?}");
            return (event.name, event.id.unwrap_or_default(), event.data);
        }
    }
}

fn config(google: &Google, gate: SocketAddr, settings: &str) -> String {
    let google = google.url();
    format!(
        "[mail]\nenabled = true\npublic_url = \"http://{gate}\"\nclient_id = \"tests\"\nclient_secret = \"tests\"\n\
         topic = \"projects/stand-in/topics/mail\"\nservice_account = \"{SERVICE_ACCOUNT}\"\n\
         encryption_key = \"{ENCRYPTION_KEY}\"\nauth_url = \"{google}/o/oauth2/v2/auth\"\n\
         token_url = \"{google}/token\"\nrevoke_url = \"{google}/revoke\"\ngmail_url = \"{google}\"\n\
         jwks_url = \"{google}/certs\"\n{settings}"
    )
}

fn keep(cookies: &mut Vec<(String, String)>, answer: &Response) {
    let set = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie");
    for (_, cookie) in set {
        let pair = cookie.split(';').next().unwrap_or_default();
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        cookies.retain(|(known, _)| known != name);
        if !value.is_empty() && !cookie.to_ascii_lowercase().contains("max-age=0") {
            cookies.push((name.to_owned(), value.to_owned()));
        }
    }
}

fn header(cookies: &[(String, String)]) -> String {
    let pairs: Vec<String> = cookies
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("; ")
}
