//! Search: one question, asked of whichever full text the database has.
//!
//! What somebody may read is a condition of the statement: public channels of the workspace, and conversations that the user is in at that
//! moment. Nothing is filtered afterwards, so neither counts nor pages say anything of the rest.
//!
//! No question takes long because many messages answer it: of the newest [`CANDIDATES_MAX`] that do, the best are shown.
//! SQLite's index yields the newest first. PostgreSQL's does not, so a sample decides ([`Chat::is_frequent`]): what is frequent is found
//! by walking back in time, what is not by the index.

mod expression;
mod highlight;
mod query;
mod schema;
mod statement;
#[cfg(test)]
mod tests;

use fanfare_engine::port::tables::{Dialect, Row, Value as Sql};

use self::statement::Way;
pub(crate) use self::{
    expression::{Marks, mark},
    highlight::highlight,
    query::{Person, Place, Query, What},
    schema::{POSTGRES, SQLITE},
};
use crate::{Chat, caller::Caller, failure::Failure, id::Id, ts::Ts};

/// So many of the newest matches (or oldest, if they are asked for first) are looked at; the total says no more than this.
pub(crate) const CANDIDATES_MAX: i64 = 5_000;

/// In how many of the newest messages a sample looks for matches.
const SAMPLE: i64 = 1_000;
/// With so many matches in a sample it is faster to walk back in time than to fetch all that the index has: in a million messages both take
/// about as long there.
const FREQUENT: i64 = 30;

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The best first.
    Score,
    NewestFirst,
    OldestFirst,
}

/// Which part of the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) order: Order,
    pub(crate) limit: i64,
    pub(crate) offset: i64,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// How many there are, up to [`CANDIDATES_MAX`].
    pub(crate) total: i64,
    pub(crate) matches: Vec<Match>,
}

/// A message that was found.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) conversation: Id,
    pub(crate) ts: Ts,
    /// Greater is better; of no meaning between two searches.
    pub(crate) score: i64,
    pub(crate) user: String,
    pub(crate) user_name: String,
    pub(crate) text: String,
    pub(crate) thread: Option<Ts>,
    /// The conversation's kind, as the database calls it.
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) direct_key: Option<String>,
}

impl Chat {
    /// Finds messages that the caller may read.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn find(
        &self,
        caller: &Caller,
        query: &Query,
        marks: &Marks,
        part: Part,
    ) -> Result<Found, Failure> {
        let asked = self.asked(caller, query, marks);
        let way = match self.engine.dialect() {
            Dialect::Sqlite => Way::Sqlite,
            Dialect::Postgres if self.is_frequent(&asked, part.order).await? => Way::Walk,
            Dialect::Postgres => Way::Index,
        };
        self.find_by(way, asked, part).await
    }

    /// What all statements are asked: in the words of the database, by whom, of which time.
    fn asked(&self, caller: &Caller, query: &Query, marks: &Marks) -> Vec<Sql> {
        let mut asked = match self.engine.dialect() {
            Dialect::Sqlite => vec![expression::sqlite(query, marks).into()],
            Dialect::Postgres => vec![
                expression::postgres_words(query).into(),
                expression::postgres_marks(marks).into(),
            ],
        };
        asked.extend([
            (&caller.team).into(),
            (&caller.user).into(),
            query.from.into(),
            query.until.into(),
        ]);
        asked
    }

    async fn find_by(&self, way: Way, mut params: Vec<Sql>, part: Part) -> Result<Found, Failure> {
        params.extend([CANDIDATES_MAX, part.limit, part.offset].map(Sql::from));
        let rows = self
            .engine
            .query(statement::of(way, part.order), params)
            .await?;
        Found::read(&rows).ok_or_else(|| Failure::internal("a row of a search cannot be read"))
    }

    /// Whether many of the messages that would be walked over first are matches, or there are few to walk over.
    async fn is_frequent(&self, params: &[Sql], order: Order) -> Result<bool, Failure> {
        let mut params = params.to_vec();
        params.push(SAMPLE.into());
        let rows = self.engine.query(statement::sample(order), params).await?;
        let count = |column| rows.first().and_then(|row| row.int(column));
        Ok(count(0).unwrap_or(0) < SAMPLE || count(1).unwrap_or(0) >= FREQUENT)
    }
}

impl Found {
    fn read(rows: &[Row]) -> Option<Self> {
        let total = rows.first()?.int(0)?;
        // A page behind the last one is one row with the total alone.
        let matches = rows.iter().filter(|row| row.text(1).is_some());
        Some(Self {
            total,
            matches: matches.map(Match::read).collect::<Option<_>>()?,
        })
    }
}

impl Match {
    fn read(row: &Row) -> Option<Self> {
        let text = |column| row.text(column).map(str::to_owned);
        Some(Self {
            conversation: Id::known(row.text(1)?),
            ts: Ts(row.int(2)?),
            score: row.int(3)?,
            user: text(4)?,
            text: text(5)?,
            thread: row.int(6).map(Ts),
            kind: text(7)?,
            name: text(8),
            direct_key: text(9),
            user_name: text(10).unwrap_or_default(),
        })
    }
}
