//! Marks around what was looked for, as Slack's clients know them.

use super::query::Query;

const BEGIN: char = '\u{e000}';
const END: char = '\u{e001}';

/// The text with marks around each word that was looked for.
pub(crate) fn highlight(text: &str, query: &Query) -> String {
    let terms = query.terms.iter().filter(|term| !term.is_negated);
    let wanted: Vec<(String, bool)> = terms
        .flat_map(|term| {
            let last = term.words.len() - 1;
            let words = term.words.iter().enumerate();
            words.map(move |(at, word)| (word.to_lowercase(), term.is_prefix && at == last))
        })
        .collect();
    let mut marked = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while !rest.is_empty() {
        let end = |is_word: bool| {
            let other = rest.find(|letter: char| letter.is_alphanumeric() != is_word);
            other.unwrap_or(rest.len())
        };
        let is_word = rest.starts_with(char::is_alphanumeric);
        let (part, after) = rest.split_at(end(is_word));
        match is_word && is_wanted(&part.to_lowercase(), &wanted) {
            true => {
                marked.push(BEGIN);
                marked.push_str(part);
                marked.push(END);
            }
            false => marked.push_str(part),
        }
        rest = after;
    }
    marked
}

fn is_wanted(word: &str, wanted: &[(String, bool)]) -> bool {
    wanted.iter().any(|(known, is_prefix)| match is_prefix {
        true => word.starts_with(known),
        false => word == known,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::Ts;

    #[test]
    fn words_are_marked_and_nothing_else_changes() {
        let marked = |query: &str, text: &str| {
            let marked = highlight(text, &Query::read(query, Ts::ZERO));
            assert_eq!(marked.replace([BEGIN, END], ""), text);
            marked.replace(BEGIN, "[").replace(END, "]")
        };
        assert_eq!(
            marked("one \"two three\" dep", "One, two! threes deploy dep."),
            "[One], [two]! threes [deploy] [dep]."
        );
        assert_eq!(marked("-one two", "one Two"), "one [Two]");
        assert_eq!(
            marked("größe", "<GRÖSSE> Größe & größer"),
            "<GRÖSSE> [Größe] & [größer]"
        );
        assert_eq!(marked("from:me", "from me"), "from me");
        assert_eq!(marked("x", ""), "");
    }
}
