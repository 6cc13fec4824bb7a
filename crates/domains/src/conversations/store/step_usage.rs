//! The SQL of what each model call of a run took.

use std::collections::HashMap;

use contracts::{RunId, model::Usage};
use platform::{
    database::{Error, Sql, Tx},
    params,
};

/// Tokens, and millionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct StepUsage {
    pub usage: Usage,
    pub cost_micros: u64,
}

/// Adds to a step's sums: an attempt that was lost has cost something too.
pub(in super::super) async fn add(
    tx: &Tx,
    run: RunId,
    ordinal: u32,
    usage: Usage,
    cost: u64,
) -> Result<(), Error> {
    tx.run(
        "INSERT INTO step_usage (run_id, ordinal, input_tokens, output_tokens, cost_micros)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (run_id, ordinal) DO UPDATE SET input_tokens = step_usage.input_tokens + excluded.input_tokens,
             output_tokens = step_usage.output_tokens + excluded.output_tokens,
             cost_micros = step_usage.cost_micros + excluded.cost_micros",
        params![run, i64::from(ordinal), usage.input_tokens, usage.output_tokens, cost],
    )
    .await?;
    Ok(())
}

/// By the step's ordinal.
pub(in super::super) async fn of_run(
    connection: &impl Sql,
    run: RunId,
) -> Result<HashMap<u32, StepUsage>, Error> {
    let sql = "SELECT ordinal, input_tokens, output_tokens, cost_micros FROM step_usage WHERE run_id = $1";
    let rows = connection.all(sql, params![run]).await?;
    rows.iter()
        .map(|row| {
            let ordinal = u32::try_from(row.int("ordinal")?)
                .map_err(|_| Error::Corrupt("step_usage.ordinal".into()))?;
            let usage = Usage {
                input_tokens: row.int("input_tokens")?.unsigned_abs(),
                output_tokens: row.int("output_tokens")?.unsigned_abs(),
            };
            Ok((ordinal, StepUsage { usage, cost_micros: row.int("cost_micros")?.unsigned_abs() }))
        })
        .collect()
}
