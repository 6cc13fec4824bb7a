//! The SQL of sums, for the stores of those who took something: each says of which table, and what it costs there.

use contracts::TenantId;
use platform::{
    database::{Error, Sql},
    params,
};

/// What sums are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Day,
    Agent,
    User,
    Model,
}

/// From a time on, up to and without another, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub from: i64,
    pub to: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    /// The day's first millisecond, or the id of agent or user, or the model's name; empty when no model was asked.
    pub key: String,
    pub runs: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_micros: u64,
}

/// Sums of what a tenant took of `$table` in a window, at `$cost` each, by what `$key` says, the dearest first.
macro_rules! sums_of {
    ($table:literal, $cost:literal, $key:literal) => {
        concat!(
            "SELECT ",
            $key,
            " AS key, COUNT(*) AS runs, CAST(SUM(input_tokens) AS BIGINT) AS input_tokens, \
             CAST(SUM(output_tokens) AS BIGINT) AS output_tokens, CAST(SUM(",
            $cost,
            ") AS BIGINT) AS cost_micros FROM ",
            $table,
            " WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 ",
            "GROUP BY 1 ORDER BY 5 DESC, 2 DESC, 1 LIMIT $4"
        )
    };
    // The start of the day in UTC, in milliseconds since 1970.
    ($table:literal, $cost:literal, day) => {
        $crate::usage::sums_of!($table, $cost, "CAST(created_at - created_at % 86400000 AS TEXT)")
    };
}

pub(crate) use sums_of;

/// Reads what a statement of [`sums_of`] says, at most `limit` sums.
pub(crate) async fn read(
    connection: &impl Sql,
    sql: &'static str,
    tenant: TenantId,
    window: Window,
    limit: i64,
) -> Result<Vec<Sum>, Error> {
    let rows = connection.all(sql, params![tenant, window.from, window.to, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Sum {
                key: row.text("key")?,
                runs: row.int("runs")?.unsigned_abs(),
                input_tokens: row.int("input_tokens")?.unsigned_abs(),
                output_tokens: row.int("output_tokens")?.unsigned_abs(),
                cost_micros: row.int("cost_micros")?.unsigned_abs(),
            })
        })
        .collect()
}
