//! What is asked of the server, one call after the other, and how long each takes: loads of the workspace, and searches of each kind.

use std::io;
use std::net::SocketAddr;

use serde::Serialize;
use serde_json::Value;

use crate::chat::args::ChatArgs;
use crate::chat::seed;
use crate::clock;
use crate::error::BenchError;
use crate::latency::Latency;
use crate::mail::http;
use crate::random::Random;
use crate::report::LatencySummary;

/// Calls of one kind.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    /// What was asked.
    pub(crate) name: String,
    /// From the request to the end of its answer.
    pub(crate) latency: LatencySummary,
    /// Matches, or conversations, of a call on average.
    pub(crate) found: f64,
}

/// Draws one search of a kind.
type Draw = fn(&mut Random, &ChatArgs) -> String;

/// Kinds of searches. The less the number of a word, the more frequent it is.
const SEARCHES: [(&str, Draw); 11] = [
    ("rare word", |random, _| word(random, 10_000, 50_000)),
    ("middling word", |random, _| word(random, 200, 2_000)),
    ("frequent word, in 3 to 10 of 100 messages", |random, _| {
        word(random, 8, 30)
    }),
    ("very frequent word, in 15 to 50 of 100", |random, _| {
        word(random, 1, 5)
    }),
    ("two frequent words", |random, _| {
        format!("{} {}", word(random, 1, 30), word(random, 1, 30))
    }),
    ("phrase of frequent words", |random, _| {
        format!("\"{} {}\"", word(random, 1, 10), word(random, 1, 10))
    }),
    ("beginning of a word", |random, _| {
        format!("w{}", random.below(900) + 100)
    }),
    ("very frequent, from somebody", |random, args| {
        format!(
            "{} from:user{}",
            word(random, 1, 5),
            random.below(args.users as u64)
        )
    }),
    ("very frequent, in a channel", |random, args| {
        format!(
            "{} in:#channel-{}",
            word(random, 1, 5),
            random.below(args.channels as u64)
        )
    }),
    ("frequent, of one month, with a link", |random, _| {
        format!(
            "{} has:link during:2024-0{}",
            word(random, 1, 30),
            random.below(9) + 1
        )
    }),
    (
        "very frequent but not another, newest first",
        |random, _| format!("{} -{}", word(random, 1, 5), word(random, 6, 30)),
    ),
];

fn word(random: &mut Random, from: u64, to: u64) -> String {
    format!("w{}", from + random.below(to - from))
}

/// Loads the workspace as users who have read nearly everything and as users who never have, and searches.
///
/// # Errors
/// When a call is not answered with `ok`.
pub(crate) fn run(
    args: &ChatArgs,
    node: SocketAddr,
) -> Result<(Vec<Asked>, Vec<Asked>), BenchError> {
    let readers: [(&str, usize); 2] = [
        (
            "client.boot and the first history, nearly everything read",
            0,
        ),
        ("client.boot and the first history, nothing ever read", 1),
    ];
    let mut loads = Vec::new();
    for (name, first) in readers {
        loads.push(measure(name, args.asked, |turn| {
            let token = seed::token((first + 2 * turn) % seed::CALLERS);
            let boot = call(node, &token, "client.boot", "")?;
            let history = format!("channel={}&limit=50", seed::channel(turn % args.channels));
            call(node, &token, "conversations.history", &history)?;
            Ok(boot["channels"].as_array().map_or(0, Vec::len))
        })?);
    }
    let mut searches = Vec::new();
    let mut random = Random::new(7);
    for (name, query) in SEARCHES {
        let sort = if name.ends_with("newest first") {
            "timestamp"
        } else {
            "score"
        };
        searches.push(measure(name, args.asked, |turn| {
            let query = http::encode(&query(&mut random, args));
            let token = seed::token(turn % seed::CALLERS);
            let form = format!("query={query}&sort={sort}");
            let answer = call(node, &token, "search.messages", &form)?;
            Ok(answer["messages"]["total"].as_u64().unwrap_or(0) as usize)
        })?);
    }
    Ok((loads, searches))
}

fn measure(
    name: &str,
    count: usize,
    mut ask: impl FnMut(usize) -> io::Result<usize>,
) -> Result<Asked, BenchError> {
    let mut latency = Latency::new();
    let mut found = 0;
    for turn in 0..count {
        let begun = clock::now();
        found +=
            ask(turn).map_err(|source| BenchError::system("call a method of the chat", source))?;
        latency.record(begun, clock::now());
    }
    Ok(Asked {
        name: name.to_owned(),
        latency: latency.summary(),
        found: found as f64 / count.max(1) as f64,
    })
}

/// Calls a method that must answer `ok`.
pub(crate) fn call(node: SocketAddr, token: &str, method: &str, form: &str) -> io::Result<Value> {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let path = format!("/v1/{method}");
    let answer = http::request(node, "POST", &path, &headers, form.as_bytes())?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match body["ok"] == true {
        true => Ok(body),
        false => {
            let words = format!("{method} {form}: {} {body}", answer.status);
            Err(io::Error::other(words))
        }
    }
}
