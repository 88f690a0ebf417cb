//! Logins, and what becomes of them.

use axum::http::Request;
use fanfare_gateway::https::Answer;
use fanfare_stand_in::signer::Signer;
use serde_json::json;

use super::{Jar, Scene, fields, lock, place};
use crate::{SignUp, oidc::BEGIN_PATH, unix_seconds};

#[tokio::test(flavor = "multi_thread")]
async fn the_door_names_the_provider_and_who_comes_by_it_has_an_account() {
    let (scene, _) = Scene::with_ben(SignUp::Open).await;
    let door = scene.get(0, "/v1/chat.door", &mut Jar::new()).await;
    assert_eq!(
        fields(&door)["oidc"],
        json!({ "name": "Acme", "url": BEGIN_PATH })
    );
    let mut ann = Jar::new();
    assert_eq!(scene.log_in("", &mut ann).await, "/chat/");
    let id = scene.user(&mut ann).await.unwrap();
    let info = scene
        .get(1, &format!("/v1/users.info?user={id}"), &mut ann)
        .await;
    let profile = &fields(&info)["user"]["profile"];
    assert_eq!(profile["real_name"], "Ann Lee", "{info:?}");
    // Again, with another address: it is the same person.
    scene
        .provider
        .say(json!({ "email": "ann@elsewhere.example" }));
    let mut again = Jar::new();
    assert_eq!(scene.log_in("?team=acme", &mut again).await, "/chat/");
    assert_eq!(scene.user(&mut again).await, Some(id.clone()));
    // Another one is another one, whatever it is called.
    scene
        .provider
        .say(json!({ "sub": "8", "email": "zoe@example.com" }));
    let mut zoe = Jar::new();
    assert_eq!(scene.log_in("", &mut zoe).await, "/chat/");
    assert_ne!(scene.user(&mut zoe).await.unwrap(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_identity_is_of_this_login_of_this_client() {
    let (scene, _) = Scene::with_ben(SignUp::Open).await;
    let now = unix_seconds();
    for bad in [
        json!({ "nonce": "of another login" }),
        json!({ "nonce": null }),
        json!({ "aud": "another client" }),
        json!({ "iss": "https://accounts.example.com" }),
        json!({ "exp": now - 60 }),
        json!({ "iat": now + 600 }),
        json!({ "sub": "" }),
    ] {
        scene.provider.say(bad.clone());
        let mut jar = Jar::new();
        assert_eq!(scene.lost("", &mut jar).await, "oidc_identity", "{bad}");
        assert_eq!(scene.user(&mut jar).await, None);
    }
    scene.provider.say(json!({}));
    // A key that the provider has not published.
    *lock(&scene.provider.signer) = Signer::new(2);
    assert_eq!(scene.lost("", &mut Jar::new()).await, "oidc_identity");
    *lock(&scene.provider.signer) = Signer::new(1);
    assert_eq!(scene.log_in("", &mut Jar::new()).await, "/chat/");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_once_and_where_it_began() {
    let (scene, _) = Scene::with_ben(SignUp::Open).await;
    let error = |answer: &Answer| place(answer).replace("/chat/?error=", "");
    // Somebody else's answer.
    let (mut ann, mut eve) = (Jar::new(), Jar::new());
    let of_eve = scene.begin("", &mut eve).await;
    let of_ann = scene.begin("", &mut ann).await;
    assert_eq!(
        error(&scene.get(0, &of_eve, &mut Jar::new()).await),
        "oidc_expired"
    );
    assert_eq!(
        error(&scene.get(0, &of_eve, &mut ann.clone()).await),
        "oidc_state"
    );
    // Another provider's.
    let mixed = format!("{of_ann}&iss=https://evil.example.com");
    assert_eq!(
        error(&scene.get(0, &mixed, &mut ann.clone()).await),
        "oidc_state"
    );
    let (kept, codes) = (ann.clone(), lock(&scene.provider.codes).clone());
    assert_eq!(place(&scene.get(0, &of_ann, &mut ann).await), "/chat/");
    assert!(scene.user(&mut ann).await.is_some());
    // Once more, with the cookie that was kept, on the other node: nobody asks the provider, who would take the code again.
    *lock(&scene.provider.codes) = codes;
    assert_eq!(
        error(&scene.get(1, &of_ann, &mut kept.clone()).await),
        "oidc_expired"
    );
    // Who says no at the provider is asked nothing.
    let mut ben = Jar::new();
    let back = scene.begin("", &mut ben).await;
    let state = back.split("state=").nth(1).unwrap();
    let denied = format!("/chat/oidc/callback?error=access_denied&state={state}");
    assert_eq!(error(&scene.get(0, &denied, &mut ben).await), "oidc_denied");
    // Another page sends nobody here.
    let request = Request::get(format!("{}{BEGIN_PATH}", scene.nodes[0]))
        .header("sec-fetch-site", "cross-site")
        .body(String::new().into());
    let answer = scene.client.ask(request.unwrap()).await.unwrap();
    assert_eq!(error(&answer), "invalid_origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_address_that_the_provider_vouches_for_is_an_account() {
    let (scene, mut ben) = Scene::with_ben(SignUp::Invite).await;
    let id = scene.user(&mut ben).await.unwrap();
    let of_ben = |verified: bool| json!({ "email": "Ben@Example.com", "email_verified": verified });
    scene.provider.say(of_ben(false));
    assert_eq!(scene.lost("", &mut Jar::new()).await, "signup_disabled");
    assert!(scene.user(&mut ben).await.is_some());
    scene.provider.say(of_ben(true));
    let mut linked = Jar::new();
    assert_eq!(scene.log_in("", &mut linked).await, "/chat/");
    assert_eq!(scene.user(&mut linked).await, Some(id.clone()));
    // Whoever had made the account with that address is out.
    assert_eq!(scene.user(&mut ben).await, None);
    let args = "email=ben@example.com&password=correct+horse";
    let entered = scene
        .get(0, &format!("/v1/chat.logIn?{args}"), &mut Jar::new())
        .await;
    assert_eq!(fields(&entered)["error"], "invalid_credentials");
    // Nobody else of the provider's gets it with the same address.
    scene
        .provider
        .say(json!({ "sub": "8", "email": "ben@example.com" }));
    assert_eq!(scene.lost("", &mut Jar::new()).await, "email_taken");
    // The link holds without the address.
    scene.provider.say(json!({ "email": null }));
    let mut again = Jar::new();
    assert_eq!(scene.log_in("", &mut again).await, "/chat/");
    assert_eq!(scene.user(&mut again).await, Some(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_new_comes_in_as_the_sign_up_rule_says() {
    let (scene, mut ben) = Scene::with_ben(SignUp::Invite).await;
    assert_eq!(scene.lost("", &mut Jar::new()).await, "signup_disabled");
    assert_eq!(
        scene.lost("?invite=guessed", &mut Jar::new()).await,
        "invalid_invite"
    );
    let invite = scene.get(0, "/v1/chat.invite?uses=1", &mut ben).await;
    let url = fields(&invite)["url"].as_str().unwrap().to_owned();
    let (_, invite) = url.split_once('?').unwrap();
    let mut ann = Jar::new();
    assert_eq!(
        scene.log_in(&format!("?{invite}"), &mut ann).await,
        "/chat/"
    );
    let id = scene.user(&mut ann).await.unwrap();
    scene
        .provider
        .say(json!({ "sub": "8", "email": "zoe@example.com" }));
    assert_eq!(
        scene.lost(&format!("?{invite}"), &mut Jar::new()).await,
        "invalid_invite"
    );
    // Who is deactivated stays out.
    scene.provider.say(json!({}));
    let ended = scene
        .get(0, &format!("/v1/chat.deactivate?user={id}"), &mut ben)
        .await;
    assert_eq!(fields(&ended)["ok"], true, "{ended:?}");
    assert_eq!(scene.lost("", &mut Jar::new()).await, "account_inactive");

    let (closed, _) = Scene::with_ben(SignUp::Closed).await;
    assert_eq!(closed.lost("", &mut Jar::new()).await, "signup_disabled");
    // The first one of a server makes its workspace.
    let first = Scene::build(SignUp::Closed).await;
    let mut ann = Jar::new();
    assert_eq!(first.log_in("", &mut ann).await, "/chat/");
    assert!(first.user(&mut ann).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_calls_itself_otherwise_is_not_the_one() {
    let scene = Scene::build(SignUp::Open).await;
    *lock(&scene.provider.own_name) = Some("https://accounts.example.com".to_owned());
    let answer = scene.get(0, BEGIN_PATH, &mut Jar::new()).await;
    assert_eq!(place(&answer), "/chat/?error=oidc_unavailable");
    // From one place 20 times a minute; each of them ends at the page.
    let mut last = String::new();
    for _ in 0..200 {
        last = place(&scene.get(0, BEGIN_PATH, &mut Jar::new()).await).to_owned();
        if last != "/chat/?error=oidc_unavailable" {
            break;
        }
    }
    assert_eq!(last, "/chat/?error=ratelimited");
}
