//! History page by page, in both encodings: what a client is given is what the log has, wherever it asks from, however much, either way.

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::Api;
use fanfare_tests::servers;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

use crate::protobuf::{Raw, command, text};

/// How many publications the channels have.
const COUNT: u64 = 40;
/// The bound of the namespace `few`.
const FEW: u64 = 7;
const QUESTIONS: u32 = 150;

const CONFIG: &str = r#"
[[namespaces]]
name = "few"
history_limit_max = 7
"#;

/// Where the request for history stands in a command of Protobuf, as (number << 3 | 2).
const HISTORY: u8 = 0x52;
const PING: u8 = 0x5a;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
struct Question {
    channel: &'static str,
    since: Option<u64>,
    limit: i32,
    reverse: bool,
}

impl Question {
    /// The offsets that answer it, as the protocol says.
    fn expected(self) -> Vec<u64> {
        let max = if self.channel == "few:x" { FEW } else { 300 };
        let limit = u64::try_from(self.limit).unwrap_or(max).min(max);
        let limit = usize::try_from(limit).unwrap();
        match (self.since, self.reverse) {
            (since, false) => (since.unwrap_or(0) + 1..=COUNT).take(limit).collect(),
            (None, true) => (1..=COUNT).rev().take(limit).collect(),
            (Some(since), true) => (1..=COUNT)
                .rev()
                .filter(|offset| *offset < since)
                .take(limit)
                .collect(),
        }
    }
}

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn question(&mut self) -> Question {
        let limits = [0, 1, 3, 7, 8, 39, 40, 41, 300, 1000, -1, -5];
        let limit = limits[usize::try_from(self.below(12)).unwrap()];
        Question {
            channel: if self.below(3) == 0 { "few:x" } else { "all:x" },
            since: (self.below(4) > 0).then(|| self.below(COUNT + 1)),
            limit,
            reverse: self.below(2) == 0,
        }
    }
}

#[test]
fn a_page_is_what_the_log_has_in_either_encoding() {
    let (node, epoch) = start();
    let mut of_json = Client::connect(node.address());
    let mut of_protobuf = Raw::connect(node.address());
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for _ in 0..QUESTIONS {
        let question = numbers.question();
        let expected = (question.expected(), COUNT);
        let (offsets, head) = ask_json(&mut of_json, question, &epoch);
        assert_eq!((offsets, head), expected, "{question:?} in JSON");
        let (offsets, head) = ask_protobuf(&mut of_protobuf, question, &epoch);
        assert_eq!((offsets, head), expected, "{question:?} in Protobuf");
    }
    let since = json!({"offset": 1, "epoch": "another"});
    let request = json!({"channel": "all:x", "limit": 1, "since": since});
    let reply = of_json.command("history", request);
    assert_eq!(reply["error"]["code"], 112, "{reply}");
}

#[test]
fn pages_that_follow_each_other_are_the_whole() {
    let (node, epoch) = start();
    let mut client = Client::connect(node.address());
    for reverse in [false, true] {
        let (mut all, mut since) = (Vec::new(), None);
        loop {
            let question = Question {
                channel: "few:x",
                since,
                limit: -1,
                reverse,
            };
            let (page, _) = ask_json(&mut client, question, &epoch);
            let Some(last) = page.last() else { break };
            since = Some(*last);
            all.extend(page);
        }
        if reverse {
            all.reverse();
        }
        assert_eq!(all, (1..=COUNT).collect::<Vec<_>>(), "reverse: {reverse}");
    }
}

#[test]
fn commands_of_one_frame_are_answered_each() {
    let (node, _) = start();
    let mut client = Client::connect(node.address());
    let history = |id: u32| json!({"id": id, "history": {"channel": "all:x", "limit": 0}});
    // So many reads of one connection may be under way.
    let frame: Vec<String> = (100..106).map(|id| history(id).to_string()).collect();
    client.send_text(&frame.join("\n"));
    let mut answered: Vec<u64> = Vec::new();
    for _ in 0..6 {
        let reply = client.answer().unwrap();
        assert_eq!(reply["history"]["offset"], COUNT, "{reply}");
        answered.push(reply["id"].as_u64().unwrap());
    }
    answered.sort_unstable();
    assert_eq!(answered, (100..106).collect::<Vec<_>>());
    // What is answered at once is answered in its order.
    let mut raw = Raw::connect(node.address());
    let pings: Vec<Vec<u8>> = (2..120).map(|id| command(id, PING, b"")).collect();
    raw.send(&pings.concat());
    for id in 2..120 {
        assert_eq!(raw.binary(), [4, 8, id, 0x62, 0]);
    }
}

/// A node whose channels have [`COUNT`] publications, and its epoch.
fn start() -> (Node, String) {
    let node = servers::start(NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..servers::dev()
    });
    let mut api = Api::new(node.address());
    let mut epoch = String::new();
    for number in 1..=COUNT {
        for channel in ["few:x", "all:x"] {
            epoch = api.publish(channel, json!(number)).epoch;
        }
    }
    (node, epoch)
}

fn ask_json(client: &mut Client, question: Question, epoch: &str) -> (Vec<u64>, u64) {
    let Question {
        channel,
        since,
        limit,
        reverse,
    } = question;
    let mut request = json!({"channel": channel, "limit": limit, "reverse": reverse});
    if let Some(offset) = since {
        request["since"] = json!({"offset": offset, "epoch": epoch});
    }
    let reply = client.command("history", request);
    let publications = reply["history"]["publications"].as_array();
    let publications = publications.unwrap_or_else(|| panic!("{question:?}: {reply}"));
    let offset = |publication: &Value| {
        let offset = publication["offset"].as_u64().unwrap();
        assert_eq!(publication["data"], offset, "{publication}");
        offset
    };
    let offsets = publications.iter().map(offset).collect();
    (offsets, reply["history"]["offset"].as_u64().unwrap())
}

fn ask_protobuf(raw: &mut Raw, question: Question, epoch: &str) -> (Vec<u64>, u64) {
    let mut body = text(0x0a, question.channel.as_bytes());
    if question.limit != 0 {
        body.push(7 << 3);
        // A negative one is ten bytes long.
        put_varint(i64::from(question.limit).cast_unsigned(), &mut body);
    }
    if let Some(offset) = question.since {
        let mut since = Vec::new();
        if offset > 0 {
            since.push(1 << 3);
            put_varint(offset, &mut since);
        }
        since.extend(text(0x12, epoch.as_bytes()));
        body.extend(text(0x42, &since));
    }
    if question.reverse {
        body.extend([9 << 3, 1]);
    }
    raw.send(&command(2, HISTORY, &body));
    let frame = raw.binary();
    let reply = fields(delimited(&mut &frame[..]));
    let answered = reply.iter().any(|(field, _)| *field == 11);
    assert!(answered, "{question:?}: {frame:x?}");
    let history = fields(bytes(&reply, 11));
    let offset = |publication: &(u64, Field<'_>)| {
        let (_, Field::Bytes(publication)) = publication else {
            panic!("{frame:x?}");
        };
        let publication = fields(publication);
        let offset = number(&publication, 6);
        assert_eq!(bytes(&publication, 4), offset.to_string().as_bytes());
        offset
    };
    let publications = history.iter().filter(|(field, _)| *field == 1);
    let offsets = publications.map(offset).collect();
    assert_eq!(bytes(&history, 2), epoch.as_bytes());
    (offsets, number(&history, 3))
}

// === As much of Protobuf as it takes to read a reply ===

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields(mut rest: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut rest)),
            2 => Field::Bytes(delimited(&mut rest)),
            other => panic!("a field of type {other}"),
        };
        fields.push((tag >> 3, field));
    }
    fields
}

fn bytes<'a>(all: &[(u64, Field<'a>)], wanted: u64) -> &'a [u8] {
    all.iter()
        .find_map(|(number, field)| match field {
            Field::Bytes(bytes) if *number == wanted => Some(*bytes),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no field {wanted}"))
}

fn number(all: &[(u64, Field<'_>)], wanted: u64) -> u64 {
    all.iter()
        .find_map(|(number, field)| match field {
            Field::Number(value) if *number == wanted => Some(*value),
            _ => None,
        })
        .unwrap_or(0)
}

fn delimited<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::try_from(varint(rest)).unwrap();
    let (taken, left) = rest.split_at(length);
    *rest = left;
    taken
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, left) = rest.split_first().expect("a varint");
        *rest = left;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint without an end");
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
