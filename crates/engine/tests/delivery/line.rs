//! The smallest gateway there can be: lines of text over TCP. `sub <channel> <start>` and `unsub <channel>` go in;
//! `substrict` leaves when it cannot go on; `subdelta` has the second wire form, `subeven` wants what has the tag `even`;
//! `= <channel> <position> <recovery>`, `<channel> <seq> <payload>` and, for news, `~ <channel> <kind> <payload>` come out.

use std::{
    collections::HashMap,
    fmt,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use fanfare_engine::hub::{Context, Event, Recovery, Request, Resume, Session, Start};
use fanfare_wire::{ChannelName, Epoch, Form, FormId, NewsBody, Publication, Seq};

use crate::{PATIENCE, selection::even};

pub(crate) struct LineForm;

impl Form for LineForm {
    fn encode(
        &self,
        channel: &ChannelName,
        _: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(format!("{channel} {} ", publication.seq).as_bytes());
        out.extend_from_slice(publication.data.as_bytes());
        out.push(b'\n');
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        let (kind, data) = match news {
            NewsBody::Message { data, .. } => ("message", data),
            NewsBody::Join { info } => ("join", info),
            NewsBody::Leave { info } => ("leave", info),
        };
        out.extend_from_slice(format!("~ {channel} {kind} ").as_bytes());
        out.extend_from_slice(data.as_bytes());
        out.push(b'\n');
    }
}

/// One connection. A strict subscriber leaves when it is truncated or reset, as Centrifuge clients do.
#[derive(Default)]
pub(crate) struct LineSession {
    strict: bool,
}

impl Session for LineSession {
    fn on_open(&mut self, _: &mut Context<'_>) {}

    fn on_bytes(&mut self, bytes: &mut [u8], cx: &mut Context<'_>) -> usize {
        let mut consumed = 0;
        while let Some(length) = bytes[consumed..].iter().position(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(&bytes[consumed..consumed + length]).unwrap();
            consumed += length + 1;
            let words: Vec<&str> = line.split(' ').collect();
            let channel = ChannelName::parse(words[1]).unwrap();
            self.strict |= words[0] == "substrict";
            cx.request(match words[0] {
                "sub" | "substrict" | "subdelta" | "subeven" => Request::Subscribe {
                    tag: 0,
                    channel,
                    start: start(words[2]),
                    form: FormId(u8::from(words[0] == "subdelta")),
                    filter: (words[0] == "subeven").then(even),
                },
                "unsub" => Request::Unsubscribe(channel),
                other => panic!("{other}"),
            });
        }
        consumed
    }

    fn on_event(&mut self, event: Event, cx: &mut Context<'_>) {
        let (channel, line) = match event {
            Event::Subscribed {
                channel,
                position,
                recovery,
                ..
            } => {
                let line = format!("= {channel} {position} {}\n", words(recovery));
                let goes_on = matches!(recovery, Recovery::NotAsked | Recovery::Recovered);
                ((!goes_on).then_some(channel), line)
            }
            Event::Truncated { channel, oldest } => {
                let line = format!("= {channel} {oldest} overtaken\n");
                (Some(channel), line)
            }
            Event::Reset => {
                cx.request(Request::Close);
                return;
            }
            other => (None, format!("! {other:?}\n")),
        };
        cx.out.extend_from_slice(line.as_bytes());
        if let Some(channel) = channel
            && self.strict
        {
            cx.request(Request::Unsubscribe(channel));
        }
    }
}

fn words(recovery: Recovery) -> String {
    match recovery {
        Recovery::NotAsked => "live".to_owned(),
        Recovery::Recovered => "recovered".to_owned(),
        Recovery::Truncated { oldest } => format!("truncated {oldest}"),
        Recovery::Reset => "reset".to_owned(),
    }
}

fn start(word: &str) -> Start {
    let resume = |epoch: Option<&str>, seq: &str| {
        let (seq, within) = match seq.split_once('<') {
            Some((seq, missed_max)) => (seq, Some(missed_max)),
            None => (seq, None),
        };
        let epoch = epoch.map(|epoch| Epoch::parse(epoch).unwrap());
        let resume = Resume {
            epoch,
            seq: Seq(seq.parse().unwrap()),
            oldest_if_truncated: true,
        };
        match within {
            Some(missed_max) => Start::ResumeWithin(resume, missed_max.parse().unwrap()),
            None => Start::Resume(resume),
        }
    };
    if let Some(seen) = word.strip_prefix("newest") {
        let seen = seen.strip_prefix('@').map(|seq| resume(None, seq));
        let seen = seen.map(|start| match start {
            Start::Resume(resume) => resume,
            other => panic!("{other:?}"),
        });
        return Start::Newest(seen);
    }
    match word.split_once(':') {
        None if word == "live" => Start::Live,
        None => resume(None, word),
        Some((epoch, seq)) => resume(Some(epoch), seq),
    }
}

/// Where a subscription begins.
pub(crate) enum From {
    Live,
    After(Seq),
    /// After a number, if no more than so many follow it.
    Within(Seq, u64),
    OtherEpoch(Seq),
    /// With the newest, unless it is this one.
    Newest(Option<Seq>),
    In(&'static str, Seq),
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::After(seq) => write!(f, "{seq}"),
            Self::Within(seq, missed_max) => write!(f, "{seq}<{missed_max}"),
            Self::Newest(None) => f.write_str("newest"),
            Self::Newest(Some(seq)) => write!(f, "newest@{seq}"),
            Self::OtherEpoch(seq) => write!(f, "other:{seq}"),
            Self::In(epoch, seq) => write!(f, "{epoch}:{seq}"),
        }
    }
}

/// A client that checks what it reads.
pub(crate) struct Client {
    socket: TcpStream,
    lines: BufReader<TcpStream>,
    /// Numbers that were read while looking for something else.
    read: HashMap<String, Vec<u64>>,
    smallest_payload: usize,
    /// The first letter of each payload.
    letters: String,
    /// News that were read, as `<kind> <payload>`.
    news: Vec<String>,
    /// How long it rests after each line.
    rest: Duration,
}

impl Client {
    pub(crate) fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(socket.try_clone().unwrap());
        Self {
            socket,
            lines,
            read: HashMap::new(),
            smallest_payload: usize::MAX,
            letters: String::new(),
            news: Vec::new(),
            rest: Duration::ZERO,
        }
    }

    /// Subscribes and returns what became of the position.
    pub(crate) fn subscribe(&mut self, channel: &str, from: From) -> String {
        self.ask(channel, from);
        self.answer()
    }

    /// Subscribes in the form that has deltas.
    pub(crate) fn subscribe_to_deltas(&mut self, channel: &str, from: From) -> String {
        writeln!(self.socket, "subdelta {channel} {from}").unwrap();
        self.answer()
    }

    /// Subscribes to what has the tag `even`.
    pub(crate) fn subscribe_to_even(&mut self, channel: &str, from: From) -> String {
        writeln!(self.socket, "subeven {channel} {from}").unwrap();
        self.answer()
    }

    /// Subscribes, to leave when it cannot go on.
    pub(crate) fn subscribe_strictly(&mut self, channel: &str, from: From) -> String {
        self.ask_strictly(channel, from);
        self.answer()
    }

    /// Asks to subscribe, without waiting for the answer.
    pub(crate) fn ask(&mut self, channel: &str, from: From) {
        writeln!(self.socket, "sub {channel} {from}").unwrap();
    }

    /// Asks to subscribe strictly, without waiting for the answer.
    pub(crate) fn ask_strictly(&mut self, channel: &str, from: From) {
        writeln!(self.socket, "substrict {channel} {from}").unwrap();
    }

    /// The next answer to a subscribe.
    pub(crate) fn answer(&mut self) -> String {
        loop {
            if let Some(reply) = self.read_line() {
                return reply;
            }
        }
    }

    /// The answer to a subscribe, if there is one before the node closes the connection.
    pub(crate) fn last_answer(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().rsplit(' ').next().unwrap().to_owned()
    }

    /// Reads until the subscription is told that retention was faster.
    pub(crate) fn expect_truncated(&mut self) {
        assert_eq!(self.answer(), "overtaken");
    }

    /// Reads until the node closes the connection: no publication may come before.
    #[track_caller]
    pub(crate) fn expect_sent_away(&mut self) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), self.read.len()), ("", 0));
    }

    /// The smallest payload that was read, in bytes.
    pub(crate) fn smallest_payload(&self) -> usize {
        self.smallest_payload
    }

    pub(crate) fn unsubscribe(&mut self, channel: &str) {
        writeln!(self.socket, "unsub {channel}").unwrap();
    }

    /// Reads exactly the publications `first ..= last`.
    #[track_caller]
    pub(crate) fn expect(&mut self, channel: &str, first: Seq, last: Seq) {
        self.expect_numbers(channel, &(first.0..=last.0).collect::<Vec<_>>());
    }

    /// Reads exactly the publications with these numbers.
    #[track_caller]
    pub(crate) fn expect_numbers(&mut self, channel: &str, wanted: &[u64]) {
        while self.numbers(channel).len() < wanted.len() {
            assert_eq!(self.read_line(), None);
        }
        assert_eq!(self.read.remove(channel).unwrap(), wanted);
    }

    /// Reads until a number has come: all that have.
    #[track_caller]
    pub(crate) fn read_up_to(&mut self, channel: &str, last: u64) -> Vec<u64> {
        while self.numbers(channel).last() != Some(&last) {
            assert_eq!(self.read_line(), None);
        }
        self.read.remove(channel).unwrap_or_default()
    }

    /// Reads everything of two channels from the beginning.
    #[track_caller]
    pub(crate) fn expect_both(
        &mut self,
        (one, last_of_one): (&str, u64),
        (two, last_of_two): (&str, u64),
    ) {
        while self.numbers(one).len() + self.numbers(two).len()
            < (last_of_one + last_of_two) as usize
        {
            assert_eq!(self.read_line(), None);
        }
        self.expect(one, Seq(1), Seq(last_of_one));
        self.expect(two, Seq(1), Seq(last_of_two));
    }

    /// The first letters of the payloads that were read since the last time.
    pub(crate) fn take_letters(&mut self) -> String {
        std::mem::take(&mut self.letters)
    }

    /// Reads slowly from now on.
    pub(crate) fn slow_down(&mut self, rest: Duration) {
        self.rest = rest;
    }

    /// Reads until so many news have come since the last time, and gives them.
    #[track_caller]
    pub(crate) fn expect_news(&mut self, count: usize) -> Vec<String> {
        while self.news.len() < count {
            assert_eq!(self.read_line(), None);
        }
        std::mem::take(&mut self.news)
    }

    /// The news that were read while looking for something else.
    pub(crate) fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    fn numbers(&self, channel: &str) -> &[u64] {
        self.read.get(channel).map_or(&[], Vec::as_slice)
    }

    /// Reads a line: a publication is kept, a reply is returned.
    fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self
            .lines
            .read_line(&mut line)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.read));
        std::thread::sleep(self.rest);
        assert!(
            length > 0,
            "the node closed the connection; read {:?}",
            self.read
        );
        let words: Vec<&str> = line.trim_end().splitn(4, ' ').collect();
        match words[0] {
            "=" => Some(words[3].to_owned()),
            "!" => panic!("{line}"),
            "~" => {
                assert!(line.ends_with('\n'), "cut off: {line}");
                self.news.push(format!("{} {}", words[2], words[3]));
                None
            }
            channel => {
                assert!(line.ends_with('\n'), "cut off: {line}");
                self.letters.push(words[2].chars().next().unwrap());
                let payload = words[2].len() - 2;
                self.smallest_payload = self.smallest_payload.min(payload);
                self.read
                    .entry(channel.to_owned())
                    .or_default()
                    .push(words[1].parse().unwrap());
                None
            }
        }
    }
}
