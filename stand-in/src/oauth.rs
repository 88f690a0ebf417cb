//! OAuth, where everybody consents, and the keys that tokens are signed with.
//!
//! As at Google: a refresh token comes with `access_type=offline`, and then only at the first consent of somebody to a client, or
//! with `prompt=consent`.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use serde_json::{Value, json};

use crate::{
    World,
    http::{Answer, Request, encode, find},
    lock,
    signer::{KEYS, Signer},
    unix_millis,
};

/// Who signs tokens.
pub const ISSUER: &str = "https://accounts.google.com";
/// How long an access token holds, in seconds, unless a test says otherwise.
const ACCESS_SECONDS: i64 = 3600;
/// Codes and tokens that are remembered; the oldest go first.
const GRANTS_MAX: usize = 10_000;
/// How long the keys may be kept, in seconds, unless a test says otherwise.
const KEYS_SECONDS: u64 = 3600;

/// What was granted, and the keys.
pub struct OAuth {
    current: usize,
    /// How many keys are published, the newest first.
    published: usize,
    keys_seconds: u64,
    access_seconds: i64,
    codes: BTreeMap<String, Grant>,
    /// Refresh tokens, and whom they are of.
    refresh: BTreeMap<String, String>,
    /// Access tokens: whom they are of, and until when.
    access: BTreeMap<String, (String, i64)>,
    /// Who has consented, to which client.
    consented: BTreeSet<(String, String)>,
    conduct: Conduct,
    next: u64,
}

/// What people and Google do at a consent, on demand.
#[derive(Debug, Clone)]
pub struct Conduct {
    /// Scopes that nobody consents to.
    pub denied: Vec<String>,
    /// Whether addresses are verified.
    pub verified: bool,
    /// For whom tokens of identity are, if not for the client.
    pub audience: Option<String>,
    /// How many of the next refreshes come with another refresh token, which is good beside the one before.
    pub renewals: u64,
}

struct Grant {
    address: String,
    redirect: String,
    challenge: Option<String>,
    client: String,
    scopes: String,
    with_refresh: bool,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            denied: Vec::new(),
            verified: true,
            audience: None,
            renewals: 0,
        }
    }
}

impl OAuth {
    pub(crate) fn new() -> Self {
        Self {
            current: 0,
            published: 1,
            keys_seconds: KEYS_SECONDS,
            access_seconds: ACCESS_SECONDS,
            codes: BTreeMap::new(),
            refresh: BTreeMap::new(),
            access: BTreeMap::new(),
            consented: BTreeSet::new(),
            conduct: Conduct::default(),
            next: 0,
        }
    }

    /// The key that signs now.
    #[must_use]
    pub fn signer(&self) -> Signer {
        Signer::new(self.current)
    }

    /// The number of that key.
    #[must_use]
    pub fn key(&self) -> usize {
        self.current
    }

    /// Signs with the next key. Without `keep` the one before is no longer published.
    pub fn rotate(&mut self, keep: bool) {
        self.current = (self.current + 1) % KEYS;
        self.published = if keep { 2 } else { 1 };
    }

    /// For how many seconds whoever reads the keys may keep them.
    pub fn set_keys_seconds(&mut self, seconds: u64) {
        self.keys_seconds = seconds;
    }

    /// For how many seconds access tokens that are made from now on hold.
    pub fn set_access_seconds(&mut self, seconds: i64) {
        self.access_seconds = seconds;
    }

    /// No access token that was made holds any more; refresh tokens do.
    pub fn lapse(&mut self) {
        self.access.clear();
    }

    /// What people and Google do at a consent from now on.
    pub fn set_conduct(&mut self, conduct: Conduct) {
        self.conduct = conduct;
    }

    /// What people and Google do at a consent.
    #[must_use]
    pub fn conduct(&self) -> &Conduct {
        &self.conduct
    }

    /// Whom an access token is of, if it holds.
    #[must_use]
    pub fn address_of(&self, token: &str, now: i64) -> Option<String> {
        let (address, until) = self.access.get(token)?;
        (now < *until).then(|| address.clone())
    }

    /// Whom a refresh token is of, if it is not taken back.
    #[must_use]
    pub fn address_to_refresh(&self, token: &str) -> Option<String> {
        self.refresh.get(token).cloned()
    }

    /// Takes all of somebody's tokens back.
    pub fn revoke(&mut self, address: &str) {
        self.refresh.retain(|_, of| of != address);
        self.access.retain(|_, (of, _)| of != address);
        self.consented.retain(|(of, _)| of != address);
    }

    fn mint(&mut self, kind: &str) -> String {
        self.next += 1;
        // In the order in which they are made.
        format!("{kind}-{:012}", self.next)
    }

    fn tokens(&mut self, address: &str, client: &str, scopes: &str, with_refresh: bool) -> Value {
        let now = unix_millis();
        let access = self.mint("access");
        let until = now + self.access_seconds * 1000;
        self.access
            .insert(access.clone(), (address.to_owned(), until));
        bound(&mut self.access);
        let audience = self.conduct.audience.as_deref().unwrap_or(client);
        let mut answer = json!({
            "access_token": access,
            "expires_in": self.access_seconds,
            "scope": scopes,
            "token_type": "Bearer",
            "id_token": self.signer().token(&json!({
                "iss": ISSUER, "aud": audience, "azp": client, "sub": subject(address), "email": address,
                "email_verified": self.conduct.verified, "iat": now / 1000, "exp": now / 1000 + 3600,
            })),
        });
        if with_refresh {
            let refresh = self.mint("refresh");
            self.refresh.insert(refresh.clone(), address.to_owned());
            bound(&mut self.refresh);
            answer["refresh_token"] = json!(refresh);
        }
        answer
    }
}

impl World {
    pub(crate) fn oauth(&self, request: &Request) -> Answer {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/o/oauth2/v2/auth") => self.authorize(request),
            ("POST", "/token") => self.token(request),
            ("POST", "/revoke") => {
                let form = request.form();
                let token = find(&form, "token").or_else(|| request.parameter("token"));
                let mut oauth = lock(&self.oauth);
                let known = token.and_then(|token| {
                    let by_access = oauth.access.get(token).map(|(of, _)| of.clone());
                    by_access.or_else(|| oauth.refresh.get(token).cloned())
                });
                match known {
                    Some(address) => {
                        oauth.revoke(&address);
                        Answer::json(200, &json!({}))
                    }
                    None => refused(400, "invalid_token"),
                }
            }
            ("GET", "/userinfo") => {
                let token = request.bearer().unwrap_or_default();
                match lock(&self.oauth).address_of(token, unix_millis()) {
                    Some(address) => Answer::json(
                        200,
                        &json!({"sub": subject(&address), "email": address, "email_verified": true}),
                    ),
                    None => refused(401, "invalid_token"),
                }
            }
            ("GET", "/certs") => {
                let oauth = lock(&self.oauth);
                let at = |back: usize| Signer::new(oauth.current + KEYS - back).jwk();
                let keys: Vec<Value> = (0..oauth.published).map(at).collect();
                let mut answer = Answer::json(200, &json!({ "keys": keys }));
                let life = format!(
                    "public, max-age={}, must-revalidate, no-transform",
                    oauth.keys_seconds
                );
                answer.headers.push(("cache-control", life));
                answer
            }
            _ => Answer::empty(404),
        }
    }

    fn authorize(&self, request: &Request) -> Answer {
        let parameter = |name| request.parameter(name).map(str::to_owned);
        let (Some(redirect), Some(client), Some("code")) = (
            parameter("redirect_uri"),
            parameter("client_id"),
            request.parameter("response_type"),
        ) else {
            return refused(400, "invalid_request");
        };
        let first = lock(&self.mailboxes).keys().next().cloned();
        let address = parameter("login_hint").or(first);
        let address = address.unwrap_or_else(|| "user@example.com".to_owned());
        // Makes it, if it is not there.
        self.with_mailbox(&address, |_| ());
        let mut oauth = lock(&self.oauth);
        let code = oauth.mint("code");
        let first = oauth.consented.insert((address.clone(), client.clone()));
        while oauth.consented.len() > GRANTS_MAX {
            oauth.consented.pop_first();
        }
        let offline = request.parameter("access_type") == Some("offline");
        let asked_again = request.parameter("prompt") == Some("consent");
        let grant = Grant {
            address,
            redirect: redirect.clone(),
            challenge: parameter("code_challenge"),
            client,
            scopes: granted(request.parameter("scope"), &oauth.conduct.denied),
            with_refresh: offline && (first || asked_again),
        };
        oauth.codes.insert(code.clone(), grant);
        bound(&mut oauth.codes);
        let joint = if redirect.contains('?') { '&' } else { '?' };
        let state = request.parameter("state").unwrap_or_default();
        let location = format!(
            "{redirect}{joint}code={}&state={}",
            encode(&code),
            encode(state)
        );
        let mut answer = Answer::empty(302);
        answer.headers.push(("location", location));
        answer
    }

    fn token(&self, request: &Request) -> Answer {
        let form = request.form();
        let field = |name| find(&form, name).unwrap_or_default();
        let basic = request
            .header("authorization")
            .is_some_and(|it| it.starts_with("Basic "));
        if !basic && (field("client_id").is_empty() || field("client_secret").is_empty()) {
            return refused(401, "invalid_client");
        }
        let mut oauth = lock(&self.oauth);
        match field("grant_type") {
            "authorization_code" => {
                // A code is good for one attempt.
                let Some(grant) = oauth.codes.remove(field("code")) else {
                    return refused(400, "invalid_grant");
                };
                let verifier = digest::digest(&digest::SHA256, field("code_verifier").as_bytes());
                let verified = grant
                    .challenge
                    .is_none_or(|challenge| challenge == URL_SAFE_NO_PAD.encode(verifier));
                if !verified || grant.redirect != field("redirect_uri") {
                    return refused(400, "invalid_grant");
                }
                let (address, client) = (&grant.address, &grant.client);
                let tokens = oauth.tokens(address, client, &grant.scopes, grant.with_refresh);
                Answer::json(200, &tokens)
            }
            "refresh_token" => match oauth.refresh.get(field("refresh_token")).cloned() {
                Some(address) => {
                    let renewed = oauth.conduct.renewals > 0;
                    oauth.conduct.renewals = oauth.conduct.renewals.saturating_sub(1);
                    let scopes = granted(None, &[]);
                    let tokens = oauth.tokens(&address, field("client_id"), &scopes, renewed);
                    Answer::json(200, &tokens)
                }
                None => refused(400, "invalid_grant"),
            },
            _ => refused(400, "unsupported_grant_type"),
        }
    }
}

/// The scopes that come of those that are asked for, in Google's long names.
fn granted(asked: Option<&str>, denied: &[String]) -> String {
    let asked = asked.unwrap_or("openid email https://www.googleapis.com/auth/gmail.readonly");
    let wanted = |scope: &&str| !denied.iter().any(|denied| denied == scope);
    let long = |scope| match scope {
        "email" => "https://www.googleapis.com/auth/userinfo.email",
        scope => scope,
    };
    let scopes = asked.split_whitespace().filter(wanted).map(long);
    scopes.collect::<Vec<_>>().join(" ")
}

/// An error as OAuth writes it.
pub(crate) fn refused(status: u16, error: &str) -> Answer {
    Answer::json(
        status,
        &json!({"error": error, "error_description": "refused by the stand-in"}),
    )
}

/// A number that stands for somebody.
fn subject(address: &str) -> String {
    let sum = address.bytes().fold(1, |sum: u64, byte| {
        sum.wrapping_mul(131).wrapping_add(u64::from(byte))
    });
    format!("1{:020}", sum)
}

fn bound<T>(granted: &mut BTreeMap<String, T>) {
    while granted.len() > GRANTS_MAX {
        granted.pop_first();
    }
}
