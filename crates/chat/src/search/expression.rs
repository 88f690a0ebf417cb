//! What is looked for, in the words of each database. Whatever was typed, these are never malformed: words are letters and digits, marks are
//! made here.

use super::query::{Query, Term};
use crate::id::Id;

/// What must hold of the marks of a message; see [`schema`](super::schema).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// One of each group must be there.
    pub(crate) groups: Vec<Vec<String>>,
    /// None of these may be.
    pub(crate) forbidden: Vec<String>,
}

/// The marks by their form.
pub(crate) mod mark {
    use super::Id;

    pub(crate) const LINK: &str = "link";
    pub(crate) const THREAD: &str = "thread";
    pub(crate) const REACTION: &str = "reaction";
    /// What no message has: somebody or something that there is not.
    pub(crate) const NOTHING: &str = "nothing";

    pub(crate) fn team(id: &Id) -> String {
        format!("t{id}")
    }

    pub(crate) fn conversation(id: &Id) -> String {
        format!("c{id}")
    }

    pub(crate) fn user(id: &Id) -> String {
        format!("u{id}")
    }
}

impl Marks {
    /// With a group of which one must be there.
    pub(crate) fn need(&mut self, group: Vec<String>) {
        if !group.is_empty() {
            self.groups.push(group);
        }
    }
}

/// What FTS5 is asked. There is always something that must be there: the workspace.
pub(super) fn sqlite(query: &Query, marks: &Marks) -> String {
    let mark = |mark: &String| format!("marks : \"{mark}\"");
    let term = |term: &Term| {
        let star = if term.is_prefix { " *" } else { "" };
        format!("words : \"{}\"{star}", term.words.join(" "))
    };
    let groups = marks.groups.iter();
    let mut needed: Vec<String> = groups
        .map(|group| group.iter().map(mark).collect::<Vec<_>>().join(" OR "))
        .collect();
    let mut forbidden: Vec<String> = marks.forbidden.iter().map(mark).collect();
    for one in &query.terms {
        match one.is_negated {
            true => forbidden.push(term(one)),
            false => needed.push(term(one)),
        }
    }
    let needed = format!("({})", needed.join(") AND ("));
    match forbidden.is_empty() {
        true => needed,
        false => format!("({needed}) NOT ({})", forbidden.join(" OR ")),
    }
}

/// What `to_tsquery` is given for the words.
pub(super) fn postgres_words(query: &Query) -> String {
    let terms = query.terms.iter().map(|term| {
        let last = term.words.len() - 1;
        let words = term.words.iter().enumerate().map(|(at, word)| {
            let star = if term.is_prefix && at == last {
                ":*"
            } else {
                ""
            };
            format!("'{word}'{star}")
        });
        let sign = if term.is_negated { "!" } else { "" };
        format!("{sign}({})", words.collect::<Vec<_>>().join(" <-> "))
    });
    terms.collect::<Vec<_>>().join(" & ")
}

/// The query of the marks, as a `tsquery` is written.
pub(super) fn postgres_marks(marks: &Marks) -> String {
    let mark = |mark: &String| format!("'#{mark}'");
    let groups = marks.groups.iter().map(|group| {
        let marks: Vec<String> = group.iter().map(mark).collect();
        format!("({})", marks.join(" | "))
    });
    let forbidden = marks.forbidden.iter().map(|one| format!("!{}", mark(one)));
    groups.chain(forbidden).collect::<Vec<_>>().join(" & ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::Ts;

    #[test]
    fn both_say_the_same() {
        let query = Query::read("one \"two three\" -four fiv", Ts::ZERO);
        let mut marks = Marks::default();
        marks.need(vec!["tT".to_owned()]);
        marks.need(vec!["cA".to_owned(), "cB".to_owned()]);
        marks.need(Vec::new());
        marks.forbidden.push("link".to_owned());
        assert_eq!(
            sqlite(&query, &marks),
            "((marks : \"tT\") AND (marks : \"cA\" OR marks : \"cB\") AND (words : \"one\") AND (words : \"two three\") AND \
             (words : \"fiv\" *)) NOT (marks : \"link\" OR words : \"four\")"
        );
        assert_eq!(
            postgres_words(&query),
            "('one') & ('two' <-> 'three') & !('four') & ('fiv':*)"
        );
        assert_eq!(
            postgres_marks(&marks),
            "('#tT') & ('#cA' | '#cB') & !'#link'"
        );
    }
}
