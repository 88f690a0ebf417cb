//! Accounts: who gets one, who gets in, and what ends with it.

use axum::{body::Body, extract::Request};
use serde_json::{Value, json};

use super::{ALICE, BOB, BOT, EVE, House, config_of_a_try};
use crate::{ChatConfig, Demo, SignUp, http, id::Id};

const PASSWORD: &str = "correct horse";

impl House {
    /// What a page asks: with the cookies that it has, and what the browser says of it. The answer, and the cookie that came with it.
    async fn page(
        &self,
        headers: &[(&str, &str)],
        method: &str,
        args: &Value,
    ) -> Result<(Value, String), String> {
        let mut request = Request::builder()
            .method("POST")
            .header("host", "chat.example.com")
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(args.to_string())).unwrap();
        let answer = http::run(self.nodes[0].clone(), method, request).await;
        let answer = answer.map_err(|failure| failure.code.into_owned())?;
        let cookies = answer.cookies.iter().map(|it| it.to_str().unwrap());
        Ok((Value::Object(answer.fields), cookies.collect()))
    }

    /// An account, made by a page; the id of the user and the cookie as it is sent back.
    async fn sign_up(
        &self,
        email: &str,
        more: &[(&str, &str)],
    ) -> Result<(String, String), String> {
        let mut args = json!({ "email": email, "password": PASSWORD, "name": "Ann Lee" });
        for (name, value) in more {
            args[*name] = (*value).into();
        }
        let (answer, cookie) = self.page(&[], "chat.signUp", &args).await?;
        let user = answer["user_id"].as_str().unwrap().to_owned();
        Ok((user, cookie.split(';').next().unwrap().to_owned()))
    }
}

fn closed() -> ChatConfig {
    ChatConfig {
        open: false,
        public_url: Some("https://chat.example.com".to_owned()),
        ..config_of_a_try()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_account_makes_the_workspace_and_the_others_are_invited() {
    let house = House::empty(closed).await;
    let (ann, cookie) = house
        .sign_up("Ann@Example.com", &[("team_name", "Acme")])
        .await
        .unwrap();
    let ann_asks = [("cookie", &*cookie)];
    let (auth, _) = house
        .page(&ann_asks, "auth.test", &json!({}))
        .await
        .unwrap();
    assert_eq!(
        (&auth["team"], &auth["user_id"]),
        (&json!("Acme"), &json!(ann))
    );
    let team = auth["team_id"].as_str().unwrap();
    // Nobody else makes one, or gets in, without being invited.
    for more in [
        &[][..],
        &[("team_name", "Evil")],
        &[("team", team)],
        &[("team", "acme")],
    ] {
        let refused = house.sign_up("eve@example.com", more).await;
        assert_eq!(refused.unwrap_err(), "signup_disabled");
    }
    let refused = house
        .sign_up("eve@example.com", &[("invite", "guessed")])
        .await;
    assert_eq!(refused.unwrap_err(), "invalid_invite");
    let (invite, _) = house
        .page(&ann_asks, "chat.invite", &json!({ "uses": 1 }))
        .await
        .unwrap();
    let url = invite["url"].as_str().unwrap();
    let invite = url.strip_prefix("https://chat.example.com/chat/?invite=");
    let invite = [("invite", invite.unwrap())];
    for (args, error) in [
        (
            json!({ "email": "no", "password": PASSWORD, "name": "x" }),
            "invalid_email",
        ),
        (
            json!({ "email": "a@b", "password": "short", "name": "x" }),
            "password_too_short",
        ),
        (
            json!({ "email": "a@b", "password": "x".repeat(129), "name": "x" }),
            "invalid_password",
        ),
        (
            json!({ "email": "a@b", "password": PASSWORD }),
            "invalid_arguments",
        ),
    ] {
        let refused = house.page(&[], "chat.signUp", &args).await;
        assert_eq!(refused.unwrap_err(), error);
    }
    let taken = house.sign_up("ann@example.com", &invite).await;
    assert_eq!(taken.unwrap_err(), "email_taken");
    let (bob, cookie) = house.sign_up("bob@example.com", &invite).await.unwrap();
    let bob_asks = [("cookie", &*cookie)];
    // The same name is another handle; in general are both; the invitation is used up; bob manages nothing.
    let (users, _) = house
        .page(&bob_asks, "users.list", &json!({}))
        .await
        .unwrap();
    let users = users["members"].as_array().unwrap();
    assert_eq!(users.len(), 2);
    assert_ne!(users[0]["name"], users[1]["name"]);
    let (list, _) = house
        .page(&bob_asks, "users.conversations", &json!({}))
        .await
        .unwrap();
    let general = &list["channels"][0];
    assert_eq!(
        (&general["is_general"], &general["num_members"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(house.kinds("chat.team", team, 1).await, ["team_join"]);
    assert_eq!(house.kinds("chat.user", &bob, 1).await, ["channel_joined"]);
    let again = house.sign_up("carol@example.com", &invite).await;
    assert_eq!(again.unwrap_err(), "invalid_invite");
    for method in ["chat.invite", "apps.create", "chat.deactivate"] {
        let args = json!({ "name": "x", "user": ann });
        let refused = house.page(&bob_asks, method, &args).await;
        assert_eq!(refused.unwrap_err(), "restricted_action");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_sign_up_is_closed_no_invitation_helps_and_where_it_is_open_none_is_needed() {
    let house = House::empty(|| ChatConfig {
        sign_up: SignUp::Closed,
        ..closed()
    })
    .await;
    let (_, cookie) = house.sign_up("ann@example.com", &[]).await.unwrap();
    let refused = house
        .page(&[("cookie", &cookie)], "chat.invite", &json!({}))
        .await;
    assert_eq!(refused.unwrap_err(), "signup_disabled");
    let refused = house.sign_up("eve@example.com", &[("invite", "x")]).await;
    assert_eq!(refused.unwrap_err(), "signup_disabled");
    let house = House::empty(|| ChatConfig {
        sign_up: SignUp::Open,
        ..closed()
    })
    .await;
    house.sign_up("ann@example.com", &[]).await.unwrap();
    // A workspace of one's own is not to be had: whoever comes is in the one that there is.
    let more = [("team_name", "Own")];
    let (_, cookie) = house.sign_up("bob@example.com", &more).await.unwrap();
    let asks = [("cookie", &*cookie)];
    let (auth, _) = house.page(&asks, "auth.test", &json!({})).await.unwrap();
    assert_eq!(auth["team"], "Ann Lee's workspace");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_a_cookie_of_ones_own_page() {
    let house = House::empty(closed).await;
    let (ann, _) = house.sign_up("ann@example.com", &[]).await.unwrap();
    let login = json!({ "email": " ANN@example.com ", "password": PASSWORD });
    let (answer, set) = house.page(&[], "chat.logIn", &login).await.unwrap();
    assert_eq!(answer["user_id"], ann);
    for part in [
        "__Host-fanfare_chat=xoxs-",
        "Path=/",
        "HttpOnly",
        "Secure",
        "SameSite=Lax",
    ] {
        assert!(set.contains(part), "{set}");
    }
    let cookie = set.split(';').next().unwrap();
    let from = |origin: &'static str| [("cookie", cookie), ("origin", origin)];
    let own = from("https://chat.example.com");
    house.page(&own, "auth.test", &json!({})).await.unwrap();
    // A page of somebody else's asks with the same cookie, or has the browser sign somebody in or out.
    for foreign in [
        from("https://evil.example.com"),
        from("http://chat.example.com"),
        from("null"),
        [("cookie", cookie), ("sec-fetch-site", "cross-site")],
        [("cookie", cookie), ("sec-fetch-site", "same-site")],
    ] {
        for method in ["auth.test", "users.list", "chat.logOut", "chat.logIn"] {
            let refused = house.page(&foreign, method, &login).await;
            assert_eq!(refused.unwrap_err(), "invalid_auth", "{method}");
        }
        let without = [foreign[1]];
        for method in ["chat.logIn", "chat.signUp", "chat.logOut"] {
            let refused = house.page(&without, method, &login).await;
            assert_eq!(refused.unwrap_err(), "invalid_origin", "{method}");
        }
    }
    let (_, unset) = house.page(&own, "chat.logOut", &json!({})).await.unwrap();
    assert!(unset.contains("Max-Age=0"), "{unset}");
    let ended = house.page(&own, "auth.test", &json!({})).await;
    assert_eq!(ended.unwrap_err(), "invalid_auth");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_learns_nothing_and_does_not_guess_for_long() {
    let house = House::empty(closed).await;
    house.sign_up("ann@example.com", &[]).await.unwrap();
    let log_in = async |email: &str, password: &str| {
        let args = json!({ "email": email, "password": password });
        house.page(&[], "chat.logIn", &args).await.map(|_| ())
    };
    // The same answer, whether there is such an account or not.
    for email in ["ann@example.com", "nobody@example.com"] {
        assert_eq!(
            log_in(email, "wrong horse").await.unwrap_err(),
            "invalid_credentials"
        );
    }
    for _ in 0..9 {
        log_in("ann@example.com", "").await.unwrap_err();
        let long = "x".repeat(129);
        assert_eq!(
            log_in("carol@example.com", &long).await.unwrap_err(),
            "invalid_credentials"
        );
    }
    for _ in 0..12 {
        _ = log_in("ann@example.com", "wrong horse").await;
    }
    assert_eq!(
        log_in("ann@example.com", PASSWORD).await.unwrap_err(),
        "ratelimited"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_account_all_of_it_ends() {
    let house = House::build().await;
    let token = house.call(BOB, "chat.tokens.create", json!({})).await;
    let token = token["token"].as_str().unwrap();
    house.call(token, "auth.test", json!({})).await;
    let bob = || json!({ "user": Demo::BOB });
    for (by, args, error) in [
        (BOB, json!({ "user": Demo::ALICE }), "restricted_action"),
        (
            ALICE,
            json!({ "user": Demo::ALICE }),
            "cant_deactivate_self",
        ),
        (EVE, bob(), "user_not_found"),
    ] {
        assert_eq!(house.refused(by, "chat.deactivate", args).await, error);
    }
    house.call(ALICE, "chat.deactivate", bob()).await;
    for token in [BOB, token] {
        for method in ["auth.test", "users.list"] {
            assert_eq!(
                house.refused(token, method, json!({})).await,
                "invalid_auth"
            );
        }
    }
    let channel = |id: &str, namespace| Id::known(id).channel(namespace).unwrap();
    for channel in [
        channel(Demo::GENERAL, "chat"),
        channel(Demo::TEAM, "chat.team"),
        channel(Demo::BOB, "chat.user"),
    ] {
        assert!(
            !house.nodes[1]
                .may_follow(Demo::BOB, &channel)
                .await
                .unwrap()
        );
    }
    assert_eq!(
        house.kinds("chat.team", Demo::TEAM, 1).await,
        ["user_change"]
    );
    let commands = house.log_of("_fanfare:commands").await;
    let end = commands.last().unwrap()["clients"].clone();
    assert_eq!(
        (&end["whose"]["user"], &end["act"]["disconnect"]["code"]),
        (&json!(Demo::BOB), &json!(3503))
    );
    assert_eq!(
        house
            .refused(ALICE, "conversations.open", json!({ "users": Demo::BOB }))
            .await,
        "user_disabled"
    );
    assert_eq!(
        house.refused(ALICE, "chat.deactivate", bob()).await,
        "user_not_found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bots_and_tokens() {
    let house = House::build().await;
    assert_eq!(
        house
            .refused(BOB, "apps.create", json!({ "name": "x" }))
            .await,
        "restricted_action"
    );
    let app = house
        .call(ALICE, "apps.create", json!({ "name": "Bob" }))
        .await;
    let (bot, own) = (&app["bot_token"], &app["app_token"]);
    let (bot, own) = (bot.as_str().unwrap(), own.as_str().unwrap());
    assert!(bot.starts_with("xoxb-") && own.starts_with("xapp-"));
    let auth = house.call(bot, "auth.test", json!({})).await;
    assert_eq!(
        (&auth["user_id"], &auth["bot_id"]),
        (&app["bot_user_id"], &app["bot_id"])
    );
    assert_eq!(
        house.refused(own, "auth.test", json!({})).await,
        "not_allowed_token_type"
    );
    // A bot has its token and makes no others.
    assert_eq!(
        house.refused(bot, "chat.tokens.create", json!({})).await,
        "not_allowed_token_type"
    );
    let made = house.call(BOB, "chat.tokens.create", json!({})).await;
    let (id, token) = (made["id"].clone(), made["token"].as_str().unwrap());
    let list = house.call(BOB, "chat.tokens.list", json!({})).await;
    assert!(!list.to_string().contains(token));
    assert_eq!(list["tokens"].as_array().unwrap().len(), 2);
    let of_bob = json!({ "id": id });
    assert_eq!(
        house
            .refused(ALICE, "chat.tokens.revoke", of_bob.clone())
            .await,
        "token_not_found"
    );
    house.call(token, "auth.test", json!({})).await;
    house.call(BOB, "chat.tokens.revoke", of_bob).await;
    assert_eq!(
        house.refused(token, "auth.test", json!({})).await,
        "invalid_auth"
    );
    for _ in 0..19 {
        house.call(BOB, "chat.tokens.create", json!({})).await;
    }
    assert_eq!(
        house.refused(BOB, "chat.tokens.create", json!({})).await,
        "too_many_tokens"
    );
    house
        .call(BOT, "auth.revoke", json!({ "test": true }))
        .await;
    house.call(BOT, "auth.test", json!({})).await;
    house.call(BOT, "auth.revoke", json!({})).await;
    assert_eq!(
        house.refused(BOT, "auth.test", json!({})).await,
        "invalid_auth"
    );
}
