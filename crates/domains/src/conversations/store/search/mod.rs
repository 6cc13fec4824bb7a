//! The SQL of searching what was said, in which the two databases have nothing in common.
//!
//! The tenant is a word of each document: a search never looks at what another tenant has said. What nobody keeps is not
//! in it.

mod fts5;
mod tsvector;

use contracts::{ConversationId, MessageId, TenantId};
use platform::{
    database::{DbBackend, Error, Migration, Row, Sql, Text},
    http::Timestamp,
    params,
};

pub(super) const MIGRATION: Migration =
    Migration { name: "conversations_0006_search", postgres: Some(tsvector::MADE), statements: fts5::MADE };

/// The beginnings of words, two and three letters long, in indexes of their own: without them the beginning of a common
/// word is looked for in the lists of all words that begin so, which took 0.2 s in a million messages of SQLite's.
pub(super) const BEGINNINGS: Migration = Migration {
    name: "conversations_0011_search_beginnings",
    postgres: Some(&[]),
    statements: fts5::WITH_BEGINNINGS,
};

/// Something that was found.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Hit {
    /// Newer documents have higher numbers.
    pub document: i64,
    pub conversation: ConversationId,
    pub title: Option<String>,
    /// Absent where the title was found.
    pub message: Option<MessageId>,
    pub said: String,
    pub at: Timestamp,
}

fn hit(row: &Row) -> Result<Hit, Error> {
    Ok(Hit {
        document: row.int("id")?,
        conversation: row.parse("conversation_id")?,
        title: row.text_opt("title")?,
        message: row.parse_opt("message_id")?,
        said: row.text("said")?,
        at: Timestamp(row.int("at")?),
    })
}

/// What is searched for.
pub(in super::super) struct Wanted<'a> {
    pub tenant: TenantId,
    pub words: &'a [String],
    /// Documents with lower numbers.
    pub before: i64,
    pub limit: i64,
    /// Agents whose conversations are left out, as JSON.
    pub without: &'a str,
}

const FIND: Text = Text { sqlite: fts5::FIND, postgres: tsvector::FIND };

/// Messages and titles that have all these words, the newest first, in conversations that are not deleted.
pub(in super::super) async fn find(connection: &impl Sql, wanted: &Wanted<'_>) -> Result<Vec<Hit>, Error> {
    let expression = match connection.get_database_backend() {
        DbBackend::Postgres => tsvector::expression(wanted.tenant, wanted.words),
        _ => fts5::expression(wanted.tenant, wanted.words),
    };
    let values = params![expression, wanted.before, wanted.tenant, wanted.limit, wanted.without];
    connection.all(FIND.of(connection), values).await?.iter().map(hit).collect()
}
