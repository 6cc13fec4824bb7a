//! The SQL of budgets; calls of a model by its name have a file of their own.

pub(super) mod calls;
pub(super) mod usage;

use contracts::{RunId, TenantId, UserId};
use platform::{
    database::{Error, Migration, Row, Sql, Tx},
    params,
};

use super::{api::Budget, budget::Charge};

pub(super) const MIGRATIONS: &[Migration] = &[BUDGETS, calls::MIGRATION];

const BUDGETS: Migration = Migration {
    name: "models_0001_budgets",
    postgres: None,
    statements: &[
        "CREATE TABLE budget_accounts (
            tenant_id TEXT NOT NULL,
            scope_id TEXT NOT NULL,
            scope TEXT NOT NULL,
            limit_micros BIGINT,
            reserved_micros BIGINT NOT NULL DEFAULT 0,
            spent_micros BIGINT NOT NULL DEFAULT 0,
            PRIMARY KEY (tenant_id, scope_id)
        )",
        "CREATE TABLE reservations (
            run_id TEXT NOT NULL,
            ordinal BIGINT NOT NULL,
            number BIGINT NOT NULL,
            tenant_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            reserved_micros BIGINT NOT NULL,
            settled_micros BIGINT,
            PRIMARY KEY (run_id, ordinal, number)
        )",
    ],
};

pub(super) async fn insert_account(tx: &Tx, tenant: TenantId, scope: &str, id: &str) -> Result<(), Error> {
    tx.run(
        "INSERT INTO budget_accounts (tenant_id, scope_id, scope) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id, scope_id) DO NOTHING",
        params![tenant, id, scope],
    )
    .await?;
    Ok(())
}

/// Reserves in both accounts, or in neither.
pub(super) async fn hold(tx: &Tx, tenant: TenantId, user: UserId, amount: u64) -> Result<bool, Error> {
    let changed = tx
        .run(
            "UPDATE budget_accounts SET reserved_micros = reserved_micros + $1
             WHERE tenant_id = $2 AND scope_id IN ($3, $4) AND 2 = (
                 SELECT COUNT(*) FROM budget_accounts fits
                 WHERE fits.tenant_id = $2 AND fits.scope_id IN ($3, $4)
                   AND (fits.limit_micros IS NULL OR fits.spent_micros + fits.reserved_micros + $1 <= fits.limit_micros))",
            params![amount, tenant, tenant, user],
        )
        .await?;
    Ok(changed == 2)
}

/// Answers the accounts as they are then.
pub(super) async fn release(
    tx: &Tx,
    tenant: TenantId,
    user: UserId,
    reserved: u64,
    cost: u64,
) -> Result<Vec<Budget>, Error> {
    let rows = tx
        .all(
            "UPDATE budget_accounts SET reserved_micros = reserved_micros - $1, spent_micros = spent_micros + $2
             WHERE tenant_id = $3 AND scope_id IN ($4, $5)
             RETURNING scope_id, scope, limit_micros, reserved_micros, spent_micros",
            params![reserved, cost, tenant, tenant, user],
        )
        .await?;
    rows.iter().map(budget).collect()
}

pub(super) async fn insert_reservation(tx: &Tx, charge: &Charge, amount: u64) -> Result<(), Error> {
    tx.run(
        "INSERT INTO reservations (run_id, ordinal, number, tenant_id, user_id, reserved_micros)
         SELECT $1, $2, COALESCE(MAX(number), 0) + 1, $3, $4, $5 FROM reservations WHERE run_id = $1 AND ordinal = $2",
        params![charge.run, i64::from(charge.ordinal), charge.tenant, charge.user, amount],
    )
    .await?;
    Ok(())
}

/// Closes open reservations at `cost`, or each at its own amount; answers what was reserved.
pub(super) async fn take_open(
    tx: &Tx,
    run: RunId,
    ordinal: Option<u32>,
    cost: Option<u64>,
) -> Result<Vec<u64>, Error> {
    let cost = cost.map(|cost| i64::try_from(cost).unwrap_or(i64::MAX));
    let rows = tx
        .all(
            "UPDATE reservations SET settled_micros = COALESCE($1, reserved_micros)
             WHERE run_id = $2 AND settled_micros IS NULL AND ($3 IS NULL OR ordinal = $3)
             RETURNING reserved_micros",
            params![cost, run, ordinal.map(i64::from)],
        )
        .await?;
    rows.iter().map(|row| Ok(row.int("reserved_micros")?.unsigned_abs())).collect()
}

/// What a run has spent and reserved.
pub(super) async fn run_total(connection: &impl Sql, run: RunId) -> Result<u64, Error> {
    let row = connection
        .one(
            "SELECT CAST(COALESCE(SUM(COALESCE(settled_micros, reserved_micros)), 0) AS BIGINT) AS total FROM reservations WHERE run_id = $1",
            params![run],
        )
        .await?;
    Ok(row.map(|row| row.int("total")).transpose()?.unwrap_or(0).unsigned_abs())
}

pub(super) async fn accounts(connection: &impl Sql, tenant: TenantId) -> Result<Vec<Budget>, Error> {
    let rows = connection
        .all(
            "SELECT scope_id, scope, limit_micros, reserved_micros, spent_micros FROM budget_accounts
             WHERE tenant_id = $1 ORDER BY scope, scope_id",
            params![tenant],
        )
        .await?;
    rows.iter().map(budget).collect()
}

pub(super) async fn account(
    connection: &impl Sql,
    tenant: TenantId,
    id: &str,
) -> Result<Option<Budget>, Error> {
    let row = connection
        .one(
            "SELECT scope_id, scope, limit_micros, reserved_micros, spent_micros FROM budget_accounts
             WHERE tenant_id = $1 AND scope_id = $2",
            params![tenant, id],
        )
        .await?;
    row.as_ref().map(budget).transpose()
}

fn budget(row: &Row) -> Result<Budget, Error> {
    Ok(Budget {
        id: row.text("scope_id")?,
        scope: row.text("scope")?,
        limit_micros: row.int_opt("limit_micros")?.map(i64::unsigned_abs),
        reserved_micros: row.int("reserved_micros")?.unsigned_abs(),
        spent_micros: row.int("spent_micros")?.unsigned_abs(),
    })
}

pub(super) async fn set_limit(tx: &Tx, tenant: TenantId, id: &str, limit: Option<u64>) -> Result<u64, Error> {
    let limit = limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let sql = "UPDATE budget_accounts SET limit_micros = $1 WHERE tenant_id = $2 AND scope_id = $3";
    tx.run(sql, params![limit, tenant, id]).await
}
