//! A node that cannot do its work says so in one clear line and does not start; one that can starts beside others.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use fanfare_bench::local::{LocalError, Node, NodeOptions, TempDir, free_address};
use fanfare_tests::api::Api;
use fanfare_tests::{expect, servers};
use serde_json::json;

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let options = NodeOptions {
        listen: Some(address.clone()),
        ..servers::dev()
    };
    refused_with(options, &[&address, "in use"]);
}

#[test]
fn an_unreachable_database() {
    let address = free_address().unwrap().to_string();
    let postgres = Some(format!("postgres://user:SECRET-WORD@{address}/app"));
    let line = refused_with(
        NodeOptions {
            postgres,
            ..servers::dev()
        },
        &["PostgreSQL"],
    );
    assert!(
        !line.contains("SECRET-WORD"),
        "the password is shown: {line}"
    );
}

#[test]
fn a_data_folder_that_cannot_be_written() {
    let dir = TempDir::new().unwrap();
    // Root may write anywhere, but nobody can make a folder below a file.
    let file = dir.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let data = file.join("data");
    let shown = data.display().to_string();
    refused_with(
        NodeOptions {
            data: Some(data),
            ..servers::dev()
        },
        &[&shown],
    );
}

#[test]
fn a_data_folder_without_permission() {
    // SAFETY: reads this process's own user id; cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        // Permissions do not bind root, so the kernel's own read-only folder stands in.
        let data = PathBuf::from("/proc/fanfare-data");
        refused_with(
            NodeOptions {
                data: Some(data),
                ..servers::dev()
            },
            &["/proc/fanfare-data"],
        );
        return;
    }
    let dir = TempDir::new().unwrap();
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).unwrap();
    let data = closed.join("data");
    let shown = data.display().to_string();
    refused_with(
        NodeOptions {
            data: Some(data),
            ..servers::dev()
        },
        &[&shown],
    );
}

#[test]
fn dev_on_an_address_that_others_reach() {
    let options = NodeOptions {
        listen: Some("0.0.0.0:0".to_owned()),
        ..servers::dev()
    };
    refused_with(options, &["--dev", "0.0.0.0"]);
}

#[test]
fn a_configuration_with_an_unknown_setting() {
    let config = Some("lissten = \"127.0.0.1:0\"\n".to_owned());
    refused_with(
        NodeOptions {
            config,
            ..servers::dev()
        },
        &["lissten"],
    );
}

#[test]
fn an_unknown_flag() {
    let arguments = vec!["--postgrez".to_owned()];
    let options = NodeOptions {
        arguments,
        ..servers::dev()
    };
    let error = Node::start(options).unwrap_err().to_string();
    assert!(error.contains("--postgrez"), "{error}");
}

#[test]
fn a_free_port_of_the_systems_choice() {
    let options = NodeOptions {
        listen: Some("127.0.0.1:0".to_owned()),
        ..servers::dev()
    };
    let node = servers::start(options);
    assert_ne!(node.address().port(), 0);
    assert_eq!(node.stdout().len(), 1, "{:?}", node.stdout());
    Api::new(node.address()).publish("channel", json!(1));
}

#[test]
fn settings_from_the_environment() {
    let address = free_address().unwrap();
    let environment = vec![
        ("FANFARE_API_KEY".to_owned(), "key-from-outside".to_owned()),
        (
            "FANFARE_NODE_NAME".to_owned(),
            "named-from-outside".to_owned(),
        ),
    ];
    let options = NodeOptions {
        binary: servers::binary(),
        listen: Some(address.to_string()),
        environment,
        ..NodeOptions::default()
    };
    let node = servers::start(options);
    let mut api = Api::with_key(node.address(), "key-from-outside");
    let info = api.call("info", &json!({})).unwrap();
    assert_eq!(info["nodes"][0]["name"], "named-from-outside", "{info}");
}

#[test]
fn several_nodes_at_once_on_an_empty_database() {
    const NODES: usize = 4;
    let database = servers::database();
    let redis = servers::redis();
    let nodes: Vec<Node> = thread::scope(|scope| {
        let starts: Vec<_> = (0..NODES)
            .map(|number| {
                let options = NodeOptions {
                    postgres: Some(database.clone()),
                    redis: Some(redis.url()),
                    name: Some(format!("node-{number}")),
                    ..servers::dev()
                };
                scope.spawn(move || servers::start(options))
            })
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    let mut epochs = Vec::new();
    for node in &nodes {
        epochs.push(
            Api::new(node.address())
                .publish("channel", json!("hello"))
                .epoch,
        );
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "one database has one epoch");
    let history = Api::new(nodes[0].address()).history("channel");
    expect::dense(&history);
    assert_eq!(history.head, NODES as u64);
}

/// Starts a node that must refuse: an exit code that is not 0, and exactly one line of standard error that has all of
/// `words`. Gives all that it wrote.
#[track_caller]
fn refused_with(options: NodeOptions, words: &[&str]) -> String {
    match Node::start(options) {
        Err(LocalError::Ended { status, output, .. }) => {
            assert!(status.starts_with("exit status: "), "{status}: {output}");
            assert_ne!(status, "exit status: 0", "{output}");
            assert!(!output.contains("panicked"), "{output}");
            let telling = output
                .lines()
                .filter(|line| words.iter().all(|word| line.contains(word)));
            assert_eq!(
                telling.count(),
                1,
                "one line with {words:?} was expected: {output}"
            );
            output
        }
        Err(error) => panic!("{error}"),
        Ok(node) => panic!("it started at {} all the same", node.url()),
    }
}
