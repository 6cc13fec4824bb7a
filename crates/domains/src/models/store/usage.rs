//! The SQL of what calls of a model by its name took, summed.

use contracts::TenantId;
use platform::{
    database::{Error, Sql},
    params,
};

use crate::conversations::{By, Sum, Window};

/// Sums of the calls that were made in a window, by what `$key` says, the dearest first.
macro_rules! sums {
    ($key:literal) => {
        concat!(
            "SELECT ",
            $key,
            " AS key, COUNT(*) AS runs, SUM(input_tokens) AS input_tokens, SUM(output_tokens) AS output_tokens, ",
            "SUM(COALESCE(settled_micros, 0)) AS cost_micros FROM model_calls ",
            "WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 ",
            "GROUP BY 1 ORDER BY 5 DESC, 2 DESC, 1 LIMIT $4"
        )
    };
}

pub(in crate::models) async fn sums(
    connection: &impl Sql,
    tenant: TenantId,
    window: Window,
    by: By,
    limit: i64,
) -> Result<Vec<Sum>, Error> {
    let sql = match by {
        // The start of the day in UTC, in milliseconds since 1970.
        By::Day => sums!("CAST(created_at - created_at % 86400000 AS TEXT)"),
        // No agent is in it.
        By::Agent => sums!("''"),
        By::User => sums!("user_id"),
        By::Model => sums!("model"),
    };
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
