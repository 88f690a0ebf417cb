//! Google's stand-in, and what asks it.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use fanfare_gateway::metrics::Samples;
use fanfare_ingress::https::{Client, Url};
use fanfare_mail::{
    google::{Consent, Google, GoogleConfig, GoogleError, Grant, Secret, Signed},
    seal::Sealer,
    user::User,
};
use fanfare_stand_in::Google as StandIn;
use serde_json::{Value, json};

pub(crate) const ADDRESS: &str = "ann@example.com";
pub(crate) const SECRET: &str = "the-secret-of-the-client";

/// The stand-in, and a node that asks it.
pub(crate) struct Scene {
    pub(crate) stand_in: StandIn,
    pub(crate) google: Google,
}

pub(crate) fn sealer(current: u8, old: &[u8]) -> Arc<Sealer> {
    let key = |byte: &u8| STANDARD.encode([*byte; 32]);
    let old: Vec<String> = old.iter().map(key).collect();
    Arc::new(Sealer::new(&key(&current), &old).unwrap())
}

pub(crate) fn config(base: &str) -> GoogleConfig {
    let url = |path: &str| Url::parse(&format!("{base}{path}")).unwrap();
    GoogleConfig {
        client_id: "client-1".to_owned(),
        client_secret: Secret::new(SECRET.to_owned()),
        auth_url: url("/o/oauth2/v2/auth"),
        token_url: url("/token"),
        revoke_url: url("/revoke"),
        gmail_url: url(""),
        jwks_url: url("/certs"),
        redirect_url: Url::parse("http://127.0.0.1:8000/mail/callback").unwrap(),
        topic: "projects/p/topics/mail".to_owned(),
        units_per_minute: 1_000_000,
    }
}

impl Scene {
    /// Must be called within a runtime.
    pub(crate) fn new() -> Self {
        let stand_in = StandIn::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let google = Self::node(&stand_in, |_| ());
        Self { stand_in, google }
    }

    pub(crate) fn node(stand_in: &StandIn, change: impl FnOnce(&mut GoogleConfig)) -> Google {
        let mut config = config(&stand_in.url());
        change(&mut config);
        Google::new(config, Client::new(), sealer(1, &[])).unwrap()
    }

    pub(crate) fn control(&self, what: &str, request: Value) -> Value {
        self.stand_in.control(what, &request).unwrap()
    }

    /// Makes the next requests at a place fail.
    pub(crate) fn fail(&self, place: &str, status: u16, reason: &str) {
        self.fail_times(place, status, reason, 1);
    }

    pub(crate) fn fail_times(&self, place: &str, status: u16, reason: &str, count: u64) {
        let fault = json!({"place": place, "count": count, "status": status, "reason": reason});
        self.control("fail", fault);
    }

    /// How many requests a place has had.
    pub(crate) fn requests(&self, place: &str) -> u64 {
        let state = self.control("state", json!({}));
        state["requests"][place].as_u64().unwrap_or(0)
    }

    /// Consents in a browser; the code and the state that it brings back.
    pub(crate) async fn browse(&self, url: &str) -> (String, String) {
        let answer = Client::new().get(&Url::parse(url).unwrap()).await.unwrap();
        assert_eq!(answer.status, 302, "{url}");
        let location = answer.header("location").unwrap();
        let (_, query) = location.split_once('?').unwrap();
        let of = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let mut values = pairs.filter(|(key, _)| *key == name);
            values.next().map(|(_, value)| value.to_owned()).unwrap()
        };
        (of("code"), of("state"))
    }

    pub(crate) async fn exchange(&self, consent: &Consent) -> Result<Signed, GoogleError> {
        let (code, _) = self.browse(&consent.url).await;
        self.google.exchange(&code, &consent.verifier).await
    }

    /// Somebody's consent.
    pub(crate) async fn grant(&self) -> Grant {
        let consent = self.google.consent(Some(ADDRESS));
        let signed = self.exchange(&consent).await.unwrap();
        let user = User::of_google(&signed.sub).unwrap();
        self.google.grant(&user, &signed.refresh_token)
    }

    /// How often a call had an outcome.
    pub(crate) fn counted(&self, call: &str, outcome: &str) -> u64 {
        let families = self.google.families()();
        let requests = families
            .iter()
            .find(|it| it.name == "mail_google_requests")
            .unwrap();
        let Samples::Counter(samples) = &requests.samples else {
            panic!("it counts");
        };
        let wanted = [("call", call.to_owned()), ("outcome", outcome.to_owned())];
        let found = samples.iter().find(|(labels, _)| *labels == wanted);
        found.map_or(0, |(_, count)| *count)
    }
}
