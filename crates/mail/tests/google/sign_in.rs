//! Consent, and what it takes to be one.

use fanfare_ingress::https::Client;
use fanfare_mail::google::{
    GMAIL_SCOPE, Google, GoogleConfigError, GoogleError, Secret, SignInError,
};
use serde_json::json;

use crate::scene::{ADDRESS, SECRET, Scene, config, sealer};

fn refused(error: SignInError) -> GoogleError {
    GoogleError::SignIn(error)
}

#[tokio::test]
async fn somebody_consents_and_is_known_by_it() {
    let scene = Scene::new();
    let consent = scene.google.consent(Some("Ann@Example.com"));
    for part in [
        "response_type=code",
        "client_id=client-1",
        "access_type=offline",
        "prompt=consent",
        "code_challenge_method=S256",
        "scope=openid+email+https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fgmail.readonly",
        "redirect_uri=http%3A%2F%2F127.0.0.1%3A8000%2Fmail%2Fcallback",
        "login_hint=Ann%40Example.com",
    ] {
        assert!(consent.url.contains(part), "{part} in {}", consent.url);
    }
    assert!(!consent.url.contains(&consent.verifier) && !consent.url.contains(SECRET));
    let other = scene.google.consent(None);
    assert!(!other.url.contains("login_hint"));
    assert!(other.state != consent.state && other.verifier != consent.verifier);

    let (code, state) = scene.browse(&consent.url).await;
    assert_eq!(state, consent.state);
    let signed = scene.google.exchange(&code, &consent.verifier).await;
    let signed = signed.unwrap();
    assert_eq!(signed.email, ADDRESS, "in small letters");
    assert!(!signed.sub.is_empty() && !signed.refresh_token.expose().is_empty());
    let again = scene.google.exchange(&code, &consent.verifier).await;
    assert_eq!(again, Err(refused(SignInError::Code)), "a code is for once");
    assert_eq!(scene.counted("exchange", "ok"), 1);
    assert_eq!(scene.counted("exchange", "sign_in"), 1);
}

#[tokio::test]
async fn a_code_is_of_one_sign_in() {
    let scene = Scene::new();
    let (mine, other) = (scene.google.consent(None), scene.google.consent(None));
    let (code, _) = scene.browse(&mine.url).await;
    let stolen = scene.google.exchange(&code, &other.verifier).await;
    assert_eq!(stolen, Err(refused(SignInError::Code)));
    for nonsense in ["", "x", &"x".repeat(5000)] {
        let answer = scene.google.exchange(nonsense, &mine.verifier).await;
        assert_eq!(answer, Err(refused(SignInError::Code)));
    }
}

#[tokio::test]
async fn half_a_consent_is_none() {
    let scene = Scene::new();
    let mut seen = Vec::new();
    for (conduct, error) in [
        (json!({"denied": [GMAIL_SCOPE]}), SignInError::Scope),
        (json!({"verified": false}), SignInError::Unverified),
        (
            json!({"audience": "another-client"}),
            SignInError::Identity("audience"),
        ),
    ] {
        scene.control("consent", conduct);
        let answer = scene.exchange(&scene.google.consent(Some(ADDRESS))).await;
        assert_eq!(answer, Err(refused(error)));
        seen.push(error.to_string());
    }
    scene.control("consent", json!({}));
    // Somebody who has consented before, and is not asked again.
    let mut consent = scene.google.consent(Some(ADDRESS));
    consent.url = consent.url.replace("&prompt=consent", "");
    let answer = scene.exchange(&consent).await;
    assert_eq!(answer, Err(refused(SignInError::NoRefreshToken)));
    assert!(
        scene
            .exchange(&scene.google.consent(Some(ADDRESS)))
            .await
            .is_ok()
    );
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "each says what it is");
}

#[tokio::test]
async fn the_key_of_a_token_must_be_one_of_googles() {
    let scene = Scene::new();
    assert!(scene.exchange(&scene.google.consent(None)).await.is_ok());
    scene.control("keys", json!({"rotate": true, "keep": true}));
    // The keys were read a moment ago, and are not read again so soon.
    let answer = scene.exchange(&scene.google.consent(None)).await;
    let unknown = refused(SignInError::Identity("unknown_key"));
    assert_eq!(answer, Err(unknown));
    let fresh = Scene {
        google: Scene::node(&scene.stand_in, |_| ()),
        stand_in: scene.stand_in,
    };
    assert!(fresh.exchange(&fresh.google.consent(None)).await.is_ok());
}

#[tokio::test]
async fn what_is_wrong_with_the_client_is_the_operators_to_mend() {
    let scene = Scene::new();
    for (status, reason) in [
        (401, "invalid_client"),
        (401, "deleted_client"),
        (400, "unauthorized_client"),
        (400, "redirect_uri_mismatch"),
    ] {
        let consent = scene.google.consent(None);
        let (code, _) = scene.browse(&consent.url).await;
        scene.fail("token", status, reason);
        let answer = scene.google.exchange(&code, &consent.verifier).await;
        let Err(GoogleError::Misconfigured(words)) = &answer else {
            panic!("{reason}: {answer:?}");
        };
        assert!(words.contains(reason), "{words}");
    }
    let consent = scene.google.consent(None);
    scene.fail("token", 503, "");
    let answer = scene.exchange(&consent).await;
    assert!(
        matches!(answer, Err(GoogleError::Unavailable(_))),
        "{answer:?}"
    );
    assert_eq!(scene.google.check_client().await, Ok(()));
    scene.fail("token", 401, "invalid_client");
    let answer = scene.google.check_client().await;
    assert!(
        matches!(answer, Err(GoogleError::Misconfigured(_))),
        "{answer:?}"
    );
    assert_eq!(scene.counted("exchange", "misconfigured"), 4);
    assert_eq!(scene.counted("exchange", "unavailable"), 1);
}

#[tokio::test]
async fn a_configuration_that_google_would_not_take_is_refused() {
    let make = |change: fn(&mut fanfare_mail::google::GoogleConfig)| {
        let mut config = config("http://127.0.0.1:1");
        change(&mut config);
        Google::new(config, Client::new(), sealer(1, &[])).err()
    };
    assert_eq!(make(|_| ()), None);
    let client = Some(GoogleConfigError::Client);
    assert_eq!(make(|config| config.client_id.clear()), client);
    assert_eq!(
        make(|config| config.client_secret = Secret::new(String::new())),
        client
    );
    for topic in [
        "",
        "mail",
        "projects/p/topics/",
        "projects//topics/t",
        "projects/p/subscriptions/s",
        "projects/p/topics/t/x",
    ] {
        let mut config = config("http://127.0.0.1:1");
        config.topic = topic.to_owned();
        assert_eq!(config.check(), Err(GoogleConfigError::Topic), "{topic}");
    }
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let scene = Scene::new();
    let consent = scene.google.consent(Some(ADDRESS));
    let signed = scene.exchange(&consent).await.unwrap();
    let user = fanfare_mail::user::User::of_google(&signed.sub).unwrap();
    let grant = scene.google.grant(&user, &signed.refresh_token);
    scene.control("revoke", json!({"address": ADDRESS}));
    let error = scene.google.profile(&grant).await.unwrap_err();
    let shown = format!(
        "{consent:?} {signed:?} {grant:?} {:?} {:?} {error:?} {error}",
        scene.google,
        config("http://127.0.0.1:1")
    );
    for secret in [
        SECRET,
        &consent.verifier,
        &consent.state,
        signed.refresh_token.expose(),
    ] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    let sealed = String::from_utf8_lossy(&grant.sealed).into_owned();
    assert!(!sealed.contains(signed.refresh_token.expose()));
}
