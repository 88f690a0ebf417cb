//! What somebody types to find messages, read without ever being wrong: whatever is no filter is words.

use crate::{
    id::{Id, Kind},
    ts::Ts,
};

/// Terms of one query at most; what follows is not looked at.
const TERMS_MAX: usize = 30;
/// Fewest characters of a last word for which longer words are found too: what begins with one letter is nearly everything.
const PREFIX_CHARS_MIN: usize = 3;
const DAY_SECONDS: i64 = 86_400;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// Words and phrases; all of them, or none of those that are negated.
    pub(crate) terms: Vec<Term>,
    pub(crate) filters: Vec<Filter>,
    /// From when, included.
    pub(crate) from: Ts,
    /// Until when, excluded.
    pub(crate) until: Ts,
}

/// Words that follow each other, or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// Letters and digits only; never empty.
    pub(crate) words: Vec<String>,
    pub(crate) is_negated: bool,
    /// The last word may go on.
    pub(crate) is_prefix: bool,
}

/// What must hold of a message beside its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) what: What,
    pub(crate) is_negated: bool,
}

/// What a filter asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// `from:`
    From(Person),
    /// `in:#channel`, `in:<#C…>`
    In(Place),
    /// `has:link`
    Link,
    /// `has:reaction`
    Reaction,
    /// `is:thread`
    Thread,
}

/// Whom `from:` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Person {
    /// Who searches.
    Me,
    /// `<@U…>`
    Id(Id),
    /// `@name`
    Name(String),
}

/// What `in:` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `<#C…>`
    Id(Id),
    /// `#name`
    Name(String),
    /// `@name`: the conversation with somebody.
    With(Person),
}

impl Query {
    /// Reads it. `now` is what `today` means.
    pub(crate) fn read(text: &str, now: Ts) -> Self {
        let mut query = Self {
            terms: Vec::new(),
            filters: Vec::new(),
            from: Ts::ZERO,
            until: Ts::MAX,
        };
        let pieces = pieces(text);
        let last = pieces.len().saturating_sub(1);
        for (at, piece) in pieces.iter().enumerate().take(TERMS_MAX) {
            let filtered = !piece.is_quoted && query.add_filter(piece, now);
            if !filtered {
                query.add_words(piece, at == last && !text.ends_with(char::is_whitespace));
            }
        }
        query
    }

    /// It asks for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
            && self.filters.is_empty()
            && (self.from, self.until) == (Ts::ZERO, Ts::MAX)
    }

    fn add_words(&mut self, piece: &Piece<'_>, is_last: bool) {
        let words: Vec<String> = words(piece.text).map(str::to_owned).collect();
        let Some(last) = words.last() else { return };
        let is_long = last.chars().count() >= PREFIX_CHARS_MIN;
        let goes_on = piece.text.ends_with(char::is_alphanumeric);
        self.terms.push(Term {
            is_negated: piece.is_negated,
            is_prefix: is_last && is_long && goes_on && !piece.is_quoted && !piece.is_negated,
            words,
        });
    }

    /// Whether it is one.
    fn add_filter(&mut self, piece: &Piece<'_>, now: Ts) -> bool {
        let Some((name, value)) = piece.text.split_once(':') else {
            return false;
        };
        let name = name.to_ascii_lowercase();
        if let Some(what) = What::read(&name, value) {
            self.filters.push(Filter {
                what,
                is_negated: piece.is_negated,
            });
            return true;
        }
        match day_range(value, now).filter(|_| !piece.is_negated) {
            Some((first, next)) => self.narrow(&name, first, next),
            None => false,
        }
    }

    fn narrow(&mut self, name: &str, first: Ts, next: Ts) -> bool {
        let (from, until) = match name {
            "on" | "during" => (first, next),
            "before" => (Ts::ZERO, first),
            "after" => (next, Ts::MAX),
            _ => return false,
        };
        self.from = self.from.max(from);
        self.until = self.until.min(until);
        true
    }
}

impl What {
    fn read(name: &str, value: &str) -> Option<Self> {
        match (name, value.to_ascii_lowercase().as_str()) {
            ("has", "link") => Some(Self::Link),
            ("has", "reaction") => Some(Self::Reaction),
            ("is", "thread") => Some(Self::Thread),
            ("from", _) => Person::read(value).map(Self::From),
            ("in", _) => Place::read(value).map(Self::In),
            _ => None,
        }
    }
}

impl Person {
    fn read(value: &str) -> Option<Self> {
        if value.eq_ignore_ascii_case("me") {
            return Some(Self::Me);
        }
        let name = marked(value, '@').unwrap_or_else(|| value.strip_prefix('@').unwrap_or(value));
        if let Some(id) = Id::parse(Kind::User, name) {
            return Some(Self::Id(id));
        }
        (!name.is_empty()).then(|| Self::Name(name.to_lowercase()))
    }
}

impl Place {
    fn read(value: &str) -> Option<Self> {
        if value.starts_with('@') || value.starts_with("<@") {
            return Person::read(value).map(Self::With);
        }
        let name = marked(value, '#').unwrap_or_else(|| value.strip_prefix('#').unwrap_or(value));
        if let Some(id) = Id::parse_conversation(name) {
            return Some(Self::Id(id));
        }
        (!name.is_empty()).then(|| Self::Name(name.to_lowercase()))
    }
}

/// What stands in `<@…>` or `<#…|name>`.
fn marked(value: &str, sign: char) -> Option<&str> {
    let inner = value.strip_prefix('<')?.strip_suffix('>')?;
    inner.strip_prefix(sign)?.split('|').next()
}

/// The words in a text: runs of letters and digits.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_alphanumeric());
    words.filter(|word| !word.is_empty())
}

/// A part of what was typed: what stands between quotation marks, or between spaces.
struct Piece<'a> {
    text: &'a str,
    is_quoted: bool,
    is_negated: bool,
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (is_negated, bare) = match rest.strip_prefix('-') {
            Some(bare) if !bare.starts_with(char::is_whitespace) => (true, bare),
            _ => (false, rest),
        };
        let (is_quoted, piece, after) = match bare.strip_prefix('"') {
            // A quotation that is not closed goes to the end.
            Some(quoted) => match quoted.split_once('"') {
                Some((piece, after)) => (true, piece, after),
                None => (true, quoted, ""),
            },
            None => match bare.split_once(char::is_whitespace) {
                Some((piece, after)) => (false, piece, after),
                None => (false, bare, ""),
            },
        };
        pieces.push(Piece {
            text: piece,
            is_quoted,
            is_negated,
        });
        rest = after.trim_start();
    }
    pieces
}

/// The beginning of a day, month or year, and that of the next one, in UTC.
fn day_range(value: &str, now: Ts) -> Option<(Ts, Ts)> {
    let today = now.seconds().div_euclid(DAY_SECONDS);
    let ts = |day: i64| Ts(day * DAY_SECONDS * 1_000_000);
    match value.to_ascii_lowercase().as_str() {
        "today" => return Some((ts(today), ts(today + 1))),
        "yesterday" => return Some((ts(today - 1), ts(today))),
        _ => {}
    }
    let number = |text: &str, digits: usize| {
        let fits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| text.parse::<i64>().ok()).flatten()
    };
    let mut parts = value.split(['-', '/']);
    let year = number(parts.next()?, 4).filter(|year| *year >= 1970)?;
    let month = parts.next().map(|text| number(text, 2));
    let day = parts.next().map(|text| number(text, 2));
    if parts.next().is_some() {
        return None;
    }
    let (first, next) = match (month, day) {
        (None, _) => (day_of(year, 1, 1)?, day_of(year + 1, 1, 1)?),
        (Some(month), None) => {
            let month = month?;
            let next = if month == 12 {
                (year + 1, 1)
            } else {
                (year, month + 1)
            };
            (day_of(year, month, 1)?, day_of(next.0, next.1, 1)?)
        }
        (Some(month), Some(day)) => {
            let day = day_of(year, month?, day?)?;
            (day, day + 1)
        }
    };
    Some((ts(first), ts(next)))
}

/// Days since 1970 of a day of the Gregorian calendar; `None` if there is none such.
fn day_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day at the end, and months before it follow one rule.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before = 365 * year + year / 4 - year / 100 + year / 400;
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(before + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Query {
        // 2023-11-14 22:13:20 UTC
        Query::read(text, Ts(1_700_000_000_000_000))
    }

    fn terms(text: &str) -> String {
        let term = |term: &Term| {
            let sign = if term.is_negated { "-" } else { "" };
            let star = if term.is_prefix { "*" } else { "" };
            format!("{sign}{}{star}", term.words.join("+"))
        };
        let terms: Vec<String> = read(text).terms.iter().map(term).collect();
        terms.join(" ")
    }

    #[test]
    fn words_phrases_and_negations() {
        assert_eq!(terms("deploy failed"), "deploy failed*");
        assert_eq!(terms("deploy failed "), "deploy failed");
        assert_eq!(
            terms("don't \"the end\" -not -\"at all\""),
            "don+t the+end -not -at+all"
        );
        assert_eq!(terms("a.b/c x"), "a+b+c x");
        assert_eq!(terms("\"not closed"), "not+closed");
        assert_eq!(terms("- -- \" \" ' ; ) ( * : !"), "");
        assert_eq!(terms("foo:bar http://x.de:80"), "foo+bar http+x+de+80");
        assert!(read("").is_empty() && read(" - \"\"").is_empty());
    }

    #[test]
    fn filters() {
        let filters = |text: &str| read(text).filters;
        let one = |what, is_negated| vec![Filter { what, is_negated }];
        let alice = || Id::known("U0ALICE0000");
        assert_eq!(filters("from:me"), one(What::From(Person::Me), false));
        for text in [
            "from:<@U0ALICE0000>",
            "From:@U0ALICE0000",
            "from:<@U0ALICE0000|alice>",
        ] {
            assert_eq!(filters(text), one(What::From(Person::Id(alice())), false));
        }
        let named = Person::Name("alice".to_owned());
        assert_eq!(
            filters("-from:@Alice"),
            one(What::From(named.clone()), true)
        );
        let general = Place::Name("general".to_owned());
        assert_eq!(
            filters("in:#general"),
            one(What::In(general.clone()), false)
        );
        assert_eq!(filters("in:general"), one(What::In(general), false));
        assert_eq!(
            filters("in:@alice"),
            one(What::In(Place::With(named)), false)
        );
        let id = Place::Id(Id::known("C0GENERAL00"));
        assert_eq!(
            filters("in:<#C0GENERAL00|general>"),
            one(What::In(id), false)
        );
        assert_eq!(filters("has:link"), one(What::Link, false));
        assert_eq!(filters("-has:reaction"), one(What::Reaction, true));
        assert_eq!(filters("is:thread"), one(What::Thread, false));
        assert_eq!(filters("has:x \"from:me\" from: in:"), Vec::new());
    }

    #[test]
    fn days() {
        let range = |text: &str| {
            let query = read(text);
            (query.from.seconds(), query.until)
        };
        let at = |seconds: i64| Ts(seconds * 1_000_000);
        assert_eq!(range("on:2023-11-14"), (1_699_920_000, at(1_700_006_400)));
        assert_eq!(range("on:today"), (1_699_920_000, at(1_700_006_400)));
        assert_eq!(range("before:2024-03-01"), (0, at(1_709_251_200)));
        assert_eq!(range("after:2024-02-29"), (1_709_251_200, Ts::MAX));
        assert_eq!(range("during:2024-02"), (1_706_745_600, at(1_709_251_200)));
        assert_eq!(range("on:1970"), (0, at(31_536_000)));
        assert_eq!(range("after:2023-01-01 before:yesterday").0, 1_672_617_600);
        for words in [
            "on:2023-02-29",
            "before:2023-13-01",
            "after:x",
            "on:2023-1-1",
            "on:2023-01-01-01",
            "on:1969",
        ] {
            assert_eq!(range(words), (0, Ts::MAX), "{words}");
            assert!(!read(words).terms.is_empty());
        }
    }

    proptest! {
        #[test]
        fn whatever_is_typed_comes_to_letters_and_digits(text in ".{0,200}") {
            let query = read(&text);
            for word in query.terms.iter().flat_map(|term| &term.words) {
                prop_assert!(!word.is_empty() && word.chars().all(char::is_alphanumeric));
            }
            prop_assert!(query.terms.iter().all(|term| !term.words.is_empty()));
            prop_assert!(query.terms.len() + query.filters.len() <= TERMS_MAX);
        }
    }
}
