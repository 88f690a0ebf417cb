use fanfare_engine::port::Retention;
use fanfare_gateway::access::{Circle, Right, Standing};

use super::*;

const DEV: Everywhere = Everywhere {
    dev: true,
    message_bytes_max: 1000,
};
const CLOSED: Everywhere = Everywhere { dev: false, ..DEV };

fn namespace(name: &str) -> FileNamespace {
    FileNamespace {
        name: name.to_owned(),
        publish: Some(Access::SUBSCRIBER),
        history_max_count: Some(10),
        history_max_age: Some("1h".to_owned()),
        ..FileNamespace::default()
    }
}

/// The rules of one namespace `a` of which the file says this.
fn said(toml: &str) -> Result<ChannelOptions, ConfigError> {
    let namespace = toml::from_str(&format!("name = \"a\"\n{toml}")).expect(toml);
    let rules = resolve(FileChannels::default(), vec![namespace], CLOSED)?;
    Ok(rules.namespaces["a"].clone())
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

#[test]
fn what_is_not_said_is_refused() {
    let rules = resolve(FileChannels::default(), vec![namespace("talk")], CLOSED).unwrap();
    let talk = rules.of(&channel("talk:1:2")).unwrap();
    assert_eq!(
        (talk.subscribe, talk.publish),
        (Access::NOBODY, Access::SUBSCRIBER)
    );
    assert_eq!(
        rules.of(&channel("plain")),
        Some(&ChannelOptions::default())
    );
    assert_eq!((talk.presence, talk.join_leave), (None, false));
    assert_eq!(rules.of(&channel("other:1")), None);
    assert_eq!(rules.of(&channel(":1")), None);
}

#[test]
fn for_a_first_try_everything_is_open_but_what_is_said() {
    let ephemeral = FileNamespace {
        name: "typing".to_owned(),
        kind: Some(FileKind::Ephemeral),
        ..FileNamespace::default()
    };
    let namespaces = vec![namespace("talk"), ephemeral];
    let rules = resolve(FileChannels::default(), namespaces, DEV).unwrap();
    let talk = rules.of(&channel("talk:1")).unwrap();
    assert_eq!(
        (talk.subscribe, talk.publish),
        (Access::ANYONE, Access::SUBSCRIBER)
    );
    for open in ["plain", "other:1", ":1"] {
        let options = rules.of(&channel(open)).unwrap();
        assert_eq!(options.subscribe, Access::ANYONE, "{open}");
        assert_eq!(options.publish, Access::ANYONE, "{open}");
        assert_eq!(options.history, Access::ANYONE, "{open}");
        assert_eq!(options.presence, Some(Access::ANYONE), "{open}");
        assert!(options.join_leave, "{open}");
        assert!(options.fossil_deltas && options.allow_tags_filter, "{open}");
    }
    let typing = rules.of(&channel("typing:1")).unwrap();
    assert_eq!(
        (typing.kind, typing.subscribe, typing.history),
        (Kind::Ephemeral, Access::ANYONE, Access::NOBODY)
    );
}

#[test]
fn what_is_said_is_what_holds() {
    let options = said(
        r#"
        subscribe = ["authenticated", "anonymous"]
        publish = ["subscriber", "authenticated"]
        history = "subscriber"
        presence = "anonymous"
        join_leave = true
        join_leave_per = "user"
        force_push_join_leave = true
        recovery = false
        history_limit_max = 20
        message_bytes_max = 100
        publishes_per_second = 5
        allowed_delta_types = ["fossil"]
        allow_tags_filter = true
        "#,
    )
    .unwrap();
    let expected = ChannelOptions {
        subscribe: Access::ANYONE,
        publish: Access::SUBSCRIBER.or(Access::AUTHENTICATED),
        history: Access::SUBSCRIBER,
        presence: Some(Access::ANONYMOUS),
        join_leave: true,
        join_leave_per: JoinLeavePer::User,
        force_push_join_leave: true,
        recovery: false,
        history_limit_max: 20,
        message_bytes_max: Some(100),
        publish_rate: Some(Rate {
            per_second: 5,
            burst: 5,
        }),
        fossil_deltas: true,
        allow_tags_filter: true,
        ..ChannelOptions::default()
    };
    assert_eq!(options, expected);
    let burst = said("publishes_per_second = 5\npublishes_burst = 1").unwrap();
    assert_eq!(burst.publish_rate.unwrap().burst, 1);
    assert_eq!(
        said("kind = \"durable\"").unwrap(),
        ChannelOptions::default()
    );
    let ephemeral = said("kind = \"ephemeral\"\nrecovery = false\nhistory = \"nobody\"").unwrap();
    assert_eq!(ephemeral.kind, Kind::Ephemeral);
}

#[test]
fn rules_by_name_are_kept_in_their_order() {
    let options = said(
        r#"
        presence = "nobody"
        [[rules]]
        pattern = "public-*"
        subscribe = "anyone"
        presence = "subscriber"
        [[rules]]
        pattern = "inbox-{user}"
        subscribe = "authenticated"
        "#,
    )
    .unwrap();
    let patterns: Vec<_> = options.rules.iter().map(|it| it.pattern.as_str()).collect();
    assert_eq!(patterns, ["public-*", "inbox-{user}"]);
    let standing = Standing {
        authenticated: true,
        subscribed: false,
        circle: Circle::Open,
    };
    let may = |name, user| options.permits(Right::Subscribe, &channel(name), user, standing);
    assert!(may("a:inbox-ann", "ann"));
    assert!(!may("a:inbox-ann", "bob"));
}

#[test]
fn only_limits_are_told_to_the_log() {
    let limited = FileChannels {
        history_max_count: Some(5),
        ..FileChannels::default()
    };
    let mut endless = namespace("endless");
    endless.history_max_count = None;
    endless.history_max_age = None;
    let rules = resolve(limited, vec![namespace("talk"), endless], CLOSED).unwrap();
    let expected = [
        Retention {
            namespace: String::new(),
            age_max: None,
            count_max: Some(5),
        },
        Retention {
            namespace: "talk".to_owned(),
            age_max: Some(Duration::from_secs(3600)),
            count_max: Some(10),
        },
    ];
    let of_no_app = |rule: &Retention| !is_of_app(&rule.namespace);
    let told: Vec<_> = rules.retention().into_iter().filter(of_no_app).collect();
    assert_eq!(told, expected);
}

#[test]
fn channels_of_apps_are_closed_and_bounded_with_dev_too() {
    let mut said = namespace("watch");
    said.publish = None;
    said.history_max_count = Some(7);
    let rules = resolve(FileChannels::default(), vec![said], DEV).unwrap();
    for (name, count) in [("watch:ABCDEFGH", 7), ("watch.member:x", 5000)] {
        let options = rules.of(&ChannelName::parse(name).unwrap()).unwrap();
        assert_eq!(options.subscribe, Access::NOBODY, "{name}");
        assert_eq!(options.publish, Access::NOBODY, "{name}");
        assert_eq!(options.history, Access::NOBODY, "{name}");
        assert_eq!(options.presence, None, "{name}");
        assert_eq!(options.history_max_count, Some(count), "{name}");
        assert!(options.history_max_age.is_some(), "{name}");
        assert!(options.by_name_only, "{name}");
    }
    let ephemeral = FileNamespace {
        name: "mail".to_owned(),
        kind: Some(FileKind::Ephemeral),
        ..FileNamespace::default()
    };
    let error = resolve(FileChannels::default(), vec![ephemeral], CLOSED).unwrap_err();
    assert!(
        error.to_string().contains("namespace \"mail\", kind"),
        "{error}"
    );
}

#[test]
fn impossible_names_are_named() {
    let check = |name: &str, words: &str| {
        let namespaces = vec![namespace(name)];
        let error = resolve(FileChannels::default(), namespaces, CLOSED).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    };
    check("", "[channels]");
    check("_fanfare", "the server's own");
    check("a:b", "a:b");
    check("a b", "namespaces, name");
    check(&"x".repeat(65), "64");
    let twice = vec![namespace("a"), namespace("a")];
    let twice = resolve(FileChannels::default(), twice, CLOSED);
    assert!(twice.unwrap_err().to_string().contains("twice"));
}

#[test]
fn impossible_options_are_named() {
    let long = format!(
        "[[rules]]\npattern = \"{}\"\npublish = \"anyone\"",
        "x".repeat(256)
    );
    let many = "[[rules]]\npattern = \"x\"\npublish = \"anyone\"\n".repeat(33);
    for (toml, option, problem) in [
        ("subscribe = \"subscriber\"", "subscribe", "cannot be"),
        (
            "subscribe = [\"anonymous\", \"subscriber\"]",
            "subscribe",
            "cannot be",
        ),
        ("join_leave = true", "join_leave", "needs presence"),
        (
            "presence = \"anyone\"\nforce_push_join_leave = true",
            "force_push_join_leave",
            "needs join_leave",
        ),
        (
            "presence = \"anyone\"\njoin_leave_per = \"user\"",
            "join_leave_per",
            "needs join_leave",
        ),
        (
            "personal_channels = true",
            "personal_channels",
            "needs allow_user_limited_channels",
        ),
        ("history_max_count = 0", "history_max_count", "at least 1"),
        ("history_max_age = \"soon\"", "history_max_age", "\"soon\""),
        (
            "history_max_age = \"1ms\"",
            "history_max_age",
            "at least 1s",
        ),
        ("history_limit_max = 0", "history_limit_max", "1 to 300"),
        ("history_limit_max = 301", "history_limit_max", "1 to 300"),
        ("message_bytes_max = 0", "message_bytes_max", "1 to 1000"),
        ("message_bytes_max = 1001", "message_bytes_max", "1 to 1000"),
        (
            "publishes_per_second = 0",
            "publishes_per_second",
            "1 to 100000",
        ),
        (
            "publishes_per_second = 100001",
            "publishes_per_second",
            "1 to 100000",
        ),
        (
            "publishes_burst = 5",
            "publishes_burst",
            "publishes_per_second",
        ),
        (
            "publishes_per_second = 1\npublishes_burst = 0",
            "publishes_burst",
            "1 to 100000",
        ),
        (
            "kind = \"ephemeral\"\nhistory = \"anyone\"",
            "history",
            "\"durable\"",
        ),
        (
            "kind = \"ephemeral\"\nrecovery = true",
            "recovery",
            "\"durable\"",
        ),
        (
            "kind = \"ephemeral\"\nhistory_max_count = 1",
            "history_max_count",
            "\"durable\"",
        ),
        (
            "kind = \"ephemeral\"\nhistory_max_age = \"1h\"",
            "history_max_age",
            "\"durable\"",
        ),
        (
            "kind = \"ephemeral\"\nhistory_limit_max = 1",
            "history_limit_max",
            "\"durable\"",
        ),
        (
            "kind = \"ephemeral\"\nallowed_delta_types = [\"fossil\"]",
            "allowed_delta_types",
            "\"durable\"",
        ),
        (
            "kind = \"ephemeral\"\n[[rules]]\npattern = \"x\"\nhistory = \"anyone\"",
            "rules, history",
            "\"durable\"",
        ),
        (
            "[[rules]]\npattern = \"\"\npublish = \"anyone\"",
            "rule \"\", pattern",
            "is empty",
        ),
        (
            "[[rules]]\npattern = \"a b\"\npublish = \"anyone\"",
            "rule \"a b\", pattern",
            "ASCII",
        ),
        (long.as_str(), "pattern", "255"),
        ("[[rules]]\npattern = \"x\"", "rule \"x\"", "says nothing"),
        (
            "[[rules]]\npattern = \"x\"\nsubscribe = \"subscriber\"",
            "rule \"x\", subscribe",
            "cannot be",
        ),
        (
            "[[rules]]\npattern = \"x\"\npresence = \"anyone\"",
            "rule \"x\", presence",
            "needs presence",
        ),
        (many.as_str(), "rules", "more than 32"),
    ] {
        let error = said(toml).unwrap_err().to_string();
        assert!(error.starts_with("namespace \"a\", "), "{error}");
        assert!(error.contains(option), "{option}: {error}");
        assert!(error.contains(problem), "{problem}: {error}");
    }
}

#[test]
fn impossible_words_are_named() {
    for (toml, word) in [
        ("kind = \"stateful\"", "stateful"),
        ("publish = \"everyone\"", "everyone"),
        ("publish = [\"nobody\", \"anyone\"]", "stands alone"),
        ("publish = []", "empty list"),
        ("recovery = \"yes\"", "boolean"),
        ("[[rules]]\npublish = \"anyone\"", "pattern"),
        ("[[rules]]\npattern = \"x\"\nkind = \"durable\"", "kind"),
    ] {
        let read = toml::from_str::<FileNamespace>(&format!("name = \"a\"\n{toml}"));
        let error = read.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn how_much_may_be_missed_is_said_or_all_that_is_kept() {
    let said = |toml| said(toml).unwrap().recovery_max_count;
    assert_eq!(said("recovery_max_count = 0"), Some(0));
    assert_eq!(said(""), None);
}

#[test]
fn a_state_keeps_one_and_gives_it_whole() {
    let options = said("kind = \"state\"\nhistory_max_age = \"1h\"").unwrap();
    assert!(options.is_durable() && options.is_state());
    assert_eq!(options.history_max_count, Some(1));
    for said_too in [
        "recovery = true",
        "recovery = false",
        "history_max_count = 1",
        "recovery_max_count = 1",
        "history_limit_max = 1",
        "allowed_delta_types = [\"fossil\"]",
        "allow_tags_filter = true",
    ] {
        let error = said(&format!("kind = \"state\"\n{said_too}")).unwrap_err();
        let option = said_too.split(' ').next().unwrap();
        let text = error.to_string();
        assert!(text.contains(option) && text.contains("newest"), "{text}");
    }
    let namespace = FileNamespace {
        name: "score".to_owned(),
        kind: Some(FileKind::State),
        ..FileNamespace::default()
    };
    let rules = resolve(FileChannels::default(), vec![namespace], DEV).unwrap();
    let score = &rules.namespaces["score"];
    assert!(!score.fossil_deltas && !score.allow_tags_filter);
    assert_eq!(score.history, Access::ANYONE);
    let mail = "[[namespaces]]\nname = \"mail\"\nkind = \"state\"";
    let mail = toml::from_str::<toml::Table>(mail).unwrap();
    let mail: Vec<FileNamespace> = mail["namespaces"].clone().try_into().unwrap();
    let error = resolve(FileChannels::default(), mail, CLOSED).unwrap_err();
    assert!(error.to_string().contains("must be \"durable\""), "{error}");
}
