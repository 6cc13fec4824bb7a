//! Statements with bound parameters, and rows read by column name.
//!
//! One SQL text serves SQLite and PostgreSQL, but for the few that need a [`Text`] for each: parameters are `$1`, types
//! are TEXT and BIGINT, JSON is text, times are milliseconds since 1970.

use std::{fmt::Display, str::FromStr};

use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value};
use serde::de::DeserializeOwned;

use super::{Error, postgres};

/// One row. Every reader names the column, so a changed query can't shift another's meaning.
#[derive(Debug)]
pub struct Row(QueryResult);

impl Row {
    pub fn text(&self, column: &str) -> Result<String, Error> {
        Ok(self.restored(self.0.try_get("", column)?))
    }

    pub fn text_opt(&self, column: &str) -> Result<Option<String>, Error> {
        Ok(self.0.try_get::<Option<String>>("", column)?.map(|text| self.restored(text)))
    }

    pub fn int(&self, column: &str) -> Result<i64, Error> {
        Ok(self.0.try_get("", column)?)
    }

    pub fn int_opt(&self, column: &str) -> Result<Option<i64>, Error> {
        Ok(self.0.try_get("", column)?)
    }

    fn restored(&self, text: String) -> String {
        if self.0.try_as_pg_row().is_some() { postgres::restored(text) } else { text }
    }

    pub fn flag(&self, column: &str) -> Result<bool, Error> {
        Ok(self.int(column)? != 0)
    }

    /// Text that names something: an id, a state.
    pub fn parse<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, Error> {
        parse(column, &self.text(column)?)
    }

    pub fn parse_opt<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>, Error> {
        self.text_opt(column)?.map(|text| parse(column, &text)).transpose()
    }

    pub fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Error> {
        serde_json::from_str(&self.text(column)?)
            .map_err(|error| Error::Corrupt(format!("{column}: {error}")))
    }
}

fn parse<T: FromStr<Err: Display>>(column: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error| Error::Corrupt(format!("{column}: {error}")))
}

/// A statement that the two databases spell differently.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

impl Text {
    /// As the database of this connection has it.
    pub fn of(self, connection: &(impl ConnectionTrait + ?Sized)) -> &'static str {
        match connection.get_database_backend() {
            DbBackend::Postgres => self.postgres,
            _ => self.sqlite,
        }
    }
}

/// The three things a store does with a statement, on a connection or within a change.
pub trait Sql: ConnectionTrait {
    /// Runs a statement; answers how many rows it changed.
    fn run(&self, sql: &'static str, values: Vec<Value>) -> impl Future<Output = Result<u64, Error>> + Send {
        async move { Ok(self.execute_raw(statement(self, sql, values)).await?.rows_affected()) }
    }

    fn one(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<Option<Row>, Error>> + Send {
        async move { Ok(self.query_one_raw(statement(self, sql, values)).await?.map(Row)) }
    }

    fn all(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Row>, Error>> + Send {
        async move {
            let found = self.query_all_raw(statement(self, sql, values)).await?;
            Ok(found.into_iter().map(Row).collect())
        }
    }
}

impl<C: ConnectionTrait> Sql for C {}

fn statement(
    connection: &(impl ConnectionTrait + ?Sized),
    sql: &'static str,
    mut values: Vec<Value>,
) -> Statement {
    let backend = connection.get_database_backend();
    if backend == DbBackend::Postgres {
        for value in &mut values {
            if let Value::String(Some(text)) = value {
                *text = postgres::storable(std::mem::take(text));
            }
        }
    }
    Statement::from_sql_and_values(backend, sql, values)
}

/// What may stand in [`params!`]: text, numbers and ids.
pub trait Param {
    fn param(self) -> Value;
}

macro_rules! param {
    (value: $($plain:ty),+; text: $($id:ident),+) => {
        $(impl Param for $plain {
            fn param(self) -> Value {
                self.into()
            }
        })+
        $(impl Param for contracts::$id {
            fn param(self) -> Value {
                self.to_string().into()
            }
        })+
    };
}

param!(
    value: &str, String, Option<String>, Option<&str>, i64, Option<i64>;
    text: TenantId, UserId, ApiKeyId, SessionId, LinkId, GrantId, ApprovalId, AgentId, ConversationId, MessageId, RunId,
        ToolCallId, ModelCallId
);

impl Param for bool {
    fn param(self) -> Value {
        i64::from(self).into()
    }
}

impl Param for u64 {
    fn param(self) -> Value {
        i64::try_from(self).unwrap_or(i64::MAX).into()
    }
}

/// Bound parameters: `params![id, name, 3]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$($crate::database::Param::param($value)),*] };
}
