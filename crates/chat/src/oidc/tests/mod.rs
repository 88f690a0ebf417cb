//! A browser, two nodes, and a provider that says what a test wants.

mod logins;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderMap, Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use fanfare_engine::state::WhenAway;
use fanfare_gateway::https::{Answer, Client};
use fanfare_stand_in::signer::Signer;
use form_urlencoded::parse;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{BEGIN_PATH, OidcConfig, OidcSettings};
use crate::{ChatConfig, SignUp, caller::digest_of, tests::people::House, unix_seconds};

const CLIENT: &str = "chat of ours";
const SECRET: &str = "a secret: 100% & more";

/// A provider.
struct Provider {
    issuer: String,
    /// What it calls itself in its discovery document.
    own_name: Mutex<Option<String>>,
    signer: Mutex<Signer>,
    /// What its next tokens say that others do not.
    claims: Mutex<Value>,
    /// The codes that it has given out: with the challenge and the nonce of each.
    codes: Mutex<HashMap<String, (String, String)>>,
}

fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Provider {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Arc::new(Self {
            issuer: format!("http://{}", listener.local_addr().unwrap()),
            own_name: Mutex::default(),
            signer: Mutex::new(Signer::new(0)),
            claims: Mutex::new(json!({})),
            codes: Mutex::default(),
        });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(describe))
            .route("/keys", get(keys))
            .route("/token", post(exchange))
            .with_state(Arc::clone(&provider));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        provider
    }

    fn say(&self, claims: Value) {
        *lock(&self.claims) = claims;
    }

    /// What somebody gets who consents: the query with which the browser goes back.
    fn consent(&self, url: &str) -> String {
        let query = url.strip_prefix(&format!("{}/authorize?", self.issuer));
        let asked: HashMap<String, String> =
            parse(query.unwrap().as_bytes()).into_owned().collect();
        assert_eq!(
            [
                &*asked["response_type"],
                &asked["client_id"],
                &asked["code_challenge_method"]
            ],
            ["code", CLIENT, "S256"]
        );
        assert!(asked["redirect_uri"].ends_with("/chat/oidc/callback"));
        let code = digest_of(&asked["state"]);
        let kept = (asked["code_challenge"].clone(), asked["nonce"].clone());
        lock(&self.codes).insert(code.clone(), kept);
        format!("code={code}&state={}", asked["state"])
    }
}

async fn describe(State(provider): State<Arc<Provider>>) -> Json<Value> {
    let issuer = &provider.issuer;
    let own_name = lock(&provider.own_name).clone();
    Json(json!({
        "issuer": own_name.as_ref().unwrap_or(issuer),
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
    }))
}

async fn keys() -> Json<Value> {
    Json(json!({ "keys": [Signer::new(0).jwk(), Signer::new(1).jwk()] }))
}

async fn exchange(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    Form(asked): Form<HashMap<String, String>>,
) -> Response {
    let refused = |error: &str| {
        let body = Json(json!({ "error": error }));
        (StatusCode::BAD_REQUEST, body).into_response()
    };
    // "chat of ours" and "a secret: 100% & more", each encoded as in a form.
    let expected = "Basic Y2hhdCtvZitvdXJzOmErc2VjcmV0JTNBKzEwMCUyNSslMjYrbW9yZQ==";
    if headers[header::AUTHORIZATION] != expected {
        return refused("invalid_client");
    }
    let kept = lock(&provider.codes).remove(&asked["code"]);
    let Some((challenge, nonce)) = kept else {
        return refused("invalid_grant");
    };
    if digest_of(&asked["code_verifier"]) != challenge {
        return refused("invalid_grant");
    }
    let now = unix_seconds();
    let mut claims = json!({
        "iss": provider.issuer, "aud": CLIENT, "sub": "7", "iat": now, "exp": now + 60, "nonce": nonce,
        "email": "ann@example.com", "email_verified": true, "name": "Ann Lee",
    });
    for (name, value) in lock(&provider.claims).as_object().unwrap() {
        claims[name] = value.clone();
    }
    let token = lock(&provider.signer).token(&claims);
    Json(json!({ "access_token": "a", "token_type": "Bearer", "id_token": token })).into_response()
}

/// Two nodes whose people sign in by a provider.
struct Scene {
    provider: Arc<Provider>,
    /// Where the nodes listen.
    nodes: Vec<String>,
    client: Client,
    // Gone last.
    _house: House,
}

/// What a browser keeps.
type Jar = HashMap<String, String>;

impl Scene {
    async fn build(sign_up: SignUp) -> Self {
        let provider = Provider::start().await;
        let issuer = provider.issuer.clone();
        let config = move || {
            let settings = OidcSettings {
                issuer: issuer.clone(),
                client_id: CLIENT.to_owned(),
                client_secret: SECRET.to_owned(),
                name: "Acme".to_owned(),
                public_url: "http://chat.example.com".to_owned(),
            };
            ChatConfig {
                open: false,
                sign_up,
                create_workspaces: false,
                public_url: Some("http://chat.example.com".to_owned()),
                oidc: Some(OidcConfig::new(settings).unwrap()),
                limits_when_away: WhenAway::Local,
                signer: None,
            }
        };
        let house = House::empty(config).await;
        let mut nodes = Vec::new();
        for node in &house.nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            nodes.push(format!("http://{}", listener.local_addr().unwrap()));
            let routes = node.router();
            tokio::spawn(async move { axum::serve(listener, routes).await });
        }
        Self {
            _house: house,
            provider,
            nodes,
            client: Client::new(),
        }
    }

    /// The same with a workspace that ben has made with a password; what ben's browser keeps.
    async fn with_ben(sign_up: SignUp) -> (Self, Jar) {
        let scene = Self::build(sign_up).await;
        let (mut ben, args) = (
            Jar::new(),
            "email=ben@example.com&password=correct+horse&name=Ben&team_name=Acme",
        );
        let made = scene
            .get(0, &format!("/v1/chat.signUp?{args}"), &mut ben)
            .await;
        assert_eq!(fields(&made)["ok"], true, "{made:?}");
        (scene, ben)
    }

    /// What a browser gets under a path of a node, and keeps of it.
    async fn get(&self, node: usize, path: &str, jar: &mut Jar) -> Answer {
        let cookies: Vec<String> = jar
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let request = Request::get(format!("{}{path}", self.nodes[node]))
            .header(header::COOKIE, cookies.join("; "))
            .body(String::new().into());
        let answer = self.client.ask(request.unwrap()).await.unwrap();
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
            let (key, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            match value {
                "" => jar.remove(key),
                value => jar.insert(key.to_owned(), value.to_owned()),
            };
        }
        answer
    }

    /// Begins a login; where the browser comes back from the provider.
    async fn begin(&self, query: &str, jar: &mut Jar) -> String {
        let answer = self.get(0, &format!("{BEGIN_PATH}{query}"), jar).await;
        let consented = self.provider.consent(place(&answer));
        format!("/chat/oidc/callback?{consented}")
    }

    /// A whole login, which ends on another node than it began; where the browser is then.
    async fn log_in(&self, query: &str, jar: &mut Jar) -> String {
        let back = self.begin(query, jar).await;
        let answer = self.get(1, &back, jar).await;
        assert!(!jar.contains_key("fanfare_chat_login"), "it is over");
        place(&answer).to_owned()
    }

    /// The error of a login that comes to nothing.
    async fn lost(&self, query: &str, jar: &mut Jar) -> String {
        let place = self.log_in(query, jar).await;
        let error = place.strip_prefix("/chat/?error=");
        error.unwrap_or_else(|| panic!("{place}")).to_owned()
    }

    /// Who a browser is.
    async fn user(&self, jar: &mut Jar) -> Option<String> {
        let answer = self.get(0, "/v1/auth.test", jar).await;
        fields(&answer)["user_id"].as_str().map(str::to_owned)
    }
}

fn place(answer: &Answer) -> &str {
    assert_eq!(answer.status, 303, "{answer:?}");
    answer.header("location").unwrap()
}

fn fields(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}
