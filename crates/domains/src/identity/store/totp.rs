//! TOTP devices and backup codes. Secrets are sealed, codes are hashed.

use contracts::UserId;
use platform::{
    database::{Error, Sql, Tx},
    params,
};

pub(in crate::identity) struct Device {
    /// The secret, encrypted with the Fernet keys.
    pub sealed: String,
    pub confirmed: bool,
}

pub(in crate::identity) async fn find(connection: &impl Sql, user: UserId) -> Result<Option<Device>, Error> {
    let sql = "SELECT sealed, confirmed_at FROM totp_devices WHERE user_id = $1";
    let row = connection.one(sql, params![user]).await?;
    row.map(|row| {
        Ok(Device { sealed: row.text("sealed")?, confirmed: row.int_opt("confirmed_at")?.is_some() })
    })
    .transpose()
}

/// Puts a device in place of one that was never confirmed; 0 if one was.
pub(in crate::identity) async fn put(tx: &Tx, user: UserId, sealed: &str, now: i64) -> Result<u64, Error> {
    tx.run(
        "INSERT INTO totp_devices (user_id, sealed, created_at, last_step) VALUES ($1, $2, $3, 0)
         ON CONFLICT (user_id) DO UPDATE SET sealed = excluded.sealed, created_at = excluded.created_at, last_step = 0
         WHERE totp_devices.confirmed_at IS NULL",
        params![user, sealed, now],
    )
    .await
}

/// Remembers a step whose code was used, since no code is taken twice; 0 if that one or a later one was used before.
pub(in crate::identity) async fn use_step(tx: &Tx, user: UserId, step: i64) -> Result<u64, Error> {
    let sql = "UPDATE totp_devices SET last_step = $1 WHERE user_id = $2 AND last_step < $1";
    tx.run(sql, params![step, user]).await
}

pub(in crate::identity) async fn confirm(tx: &Tx, user: UserId, now: i64) -> Result<u64, Error> {
    let sql = "UPDATE totp_devices SET confirmed_at = $1 WHERE user_id = $2 AND confirmed_at IS NULL";
    tx.run(sql, params![now, user]).await
}

/// Takes the device and the backup codes away; 0 if there was none.
pub(in crate::identity) async fn delete(tx: &Tx, user: UserId) -> Result<u64, Error> {
    tx.run("DELETE FROM backup_codes WHERE user_id = $1", params![user]).await?;
    tx.run("DELETE FROM totp_devices WHERE user_id = $1", params![user]).await
}

pub(in crate::identity) async fn insert_backup_code(tx: &Tx, user: UserId, hash: &str) -> Result<(), Error> {
    let sql = "INSERT INTO backup_codes (user_id, hash) VALUES ($1, $2)";
    tx.run(sql, params![user, hash]).await?;
    Ok(())
}

/// Uses a backup code up; 0 if there is none such.
pub(in crate::identity) async fn use_backup_code(tx: &Tx, user: UserId, hash: &str) -> Result<u64, Error> {
    tx.run("DELETE FROM backup_codes WHERE user_id = $1 AND hash = $2", params![user, hash]).await
}
