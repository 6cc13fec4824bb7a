//! Attempts to sign in, counted by account.

use platform::{
    database::{Error, Sql, Tx},
    params,
};

pub(in crate::identity) struct Attempts {
    pub failures: i64,
    pub last_at: i64,
    pub locked_until: Option<i64>,
}

pub(in crate::identity) async fn find(
    connection: &impl Sql,
    account: &str,
) -> Result<Option<Attempts>, Error> {
    let sql = "SELECT failures, last_at, locked_until FROM sign_in_attempts WHERE account = $1";
    let row = connection.one(sql, params![account]).await?;
    row.map(|row| {
        Ok(Attempts {
            failures: row.int("failures")?,
            last_at: row.int("last_at")?,
            locked_until: row.int_opt("locked_until")?,
        })
    })
    .transpose()
}

/// Keeps the count, and takes away those from before `forgotten`.
pub(in crate::identity) async fn put(
    tx: &Tx,
    account: &str,
    attempts: &Attempts,
    forgotten: i64,
) -> Result<(), Error> {
    tx.run("DELETE FROM sign_in_attempts WHERE last_at <= $1", params![forgotten]).await?;
    tx.run(
        "INSERT INTO sign_in_attempts (account, failures, last_at, locked_until) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account) DO UPDATE
         SET failures = excluded.failures, last_at = excluded.last_at, locked_until = excluded.locked_until",
        params![account, attempts.failures, attempts.last_at, attempts.locked_until],
    )
    .await?;
    Ok(())
}

/// Takes one failure back: the attempt went well as far as it went.
pub(in crate::identity) async fn take_back(tx: &Tx, account: &str) -> Result<(), Error> {
    tx.run(
        "UPDATE sign_in_attempts SET failures = failures - 1, locked_until = NULL
         WHERE account = $1 AND failures > 0",
        params![account],
    )
    .await?;
    Ok(())
}

pub(in crate::identity) async fn delete(tx: &Tx, account: &str) -> Result<u64, Error> {
    tx.run("DELETE FROM sign_in_attempts WHERE account = $1", params![account]).await
}
