//! Lists in pages: `limit` and `cursor` as Slack has them. A cursor names the last item of the page before.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{args::Args, failure::Failure, method::Answer};

/// Items of a page if the call does not say.
const LIMIT_DEFAULT: i64 = 100;
/// Most items of a page.
const LIMIT_MAX: i64 = 1000;
/// What a cursor begins with before it is encoded.
const PREFIX: &str = "after:";

/// Which page is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Items with a greater id only.
    pub(crate) after: String,
    /// How many; [`Page::rows`] is one more.
    limit: usize,
}

impl Page {
    /// Reads the arguments of a call.
    ///
    /// # Errors
    /// `invalid_limit`, `invalid_cursor`.
    pub(crate) fn read(args: &Args) -> Result<Self, Failure> {
        // Slack's clients say 0 for "whatever is usual".
        let limit = args.int("limit")?.filter(|limit| *limit != 0);
        let limit = limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
        let limit = usize::try_from(limit).map_err(|_| Failure::new("invalid_limit"))?;
        let after = match args.text("cursor") {
            Some(cursor) => decode(&cursor).ok_or_else(|| Failure::new("invalid_cursor"))?,
            None => String::new(),
        };
        Ok(Self { after, limit })
    }

    /// How many rows are looked for: one more than is shown says whether there is another page.
    pub(crate) fn rows(&self) -> i64 {
        i64::try_from(self.limit + 1).unwrap_or(i64::MAX)
    }

    /// Takes away what belongs to the next page; `id` is what items are sorted by. Adds to the answer where the next page begins.
    pub(crate) fn cut<T>(
        &self,
        mut items: Vec<T>,
        id: impl Fn(&T) -> &str,
        answer: Answer,
    ) -> (Vec<T>, Answer) {
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let last = items.last().filter(|_| has_more);
        let next = last.map_or_else(String::new, |last| {
            STANDARD.encode(format!("{PREFIX}{}", id(last)))
        });
        let answer = answer.with("response_metadata", json!({ "next_cursor": next }));
        (items, answer)
    }
}

fn decode(cursor: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(cursor).ok()?).ok()?;
    let after = text.strip_prefix(PREFIX)?;
    (!after.contains('\0')).then(|| after.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_to_the_next_page_and_nothing_else_does() {
        let page = Page {
            after: String::new(),
            limit: 2,
        };
        assert_eq!(page.rows(), 3);
        let (items, answer) = page.cut(vec!["a", "b", "c"], |it| it, Answer::ok());
        assert_eq!(items, ["a", "b"]);
        let cursor = answer.fields["response_metadata"]["next_cursor"].clone();
        assert_eq!(decode(cursor.as_str().unwrap()).as_deref(), Some("b"));
        let (items, answer) = page.cut(vec!["a", "b"], |it| it, Answer::ok());
        assert_eq!(items, ["a", "b"]);
        assert_eq!(answer.fields["response_metadata"]["next_cursor"], "");
        for bad in ["", "x", "YWZ0ZXI=", "%"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
