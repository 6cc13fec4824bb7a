//! Who somebody of an identity provider is here, and what is kept of sign-ins there.

use contracts::{SessionId, TenantId, UserId};
use platform::{
    database::{Error, Sql, Tx},
    params,
};

pub(in crate::identity) async fn user_of(
    connection: &impl Sql,
    issuer: &str,
    subject: &str,
) -> Result<Option<UserId>, Error> {
    let sql = "SELECT user_id FROM external_identities WHERE issuer = $1 AND subject = $2";
    let row = connection.one(sql, params![issuer, subject]).await?;
    row.map(|row| row.parse("user_id")).transpose()
}

pub(in crate::identity) async fn insert(
    tx: &Tx,
    issuer: &str,
    subject: &str,
    user: UserId,
    now: i64,
) -> Result<(), Error> {
    let sql =
        "INSERT INTO external_identities (issuer, subject, user_id, created_at) VALUES ($1, $2, $3, $4)";
    tx.run(sql, params![issuer, subject, user, now]).await?;
    Ok(())
}

/// Uses a sign-in up; false when it was before. Forgets those that could not come back any more.
pub(in crate::identity) async fn use_state(
    tx: &Tx,
    hash: &str,
    expires_at: i64,
    now: i64,
) -> Result<bool, Error> {
    tx.run("DELETE FROM oidc_states WHERE expires_at <= $1", params![now]).await?;
    let sql = "INSERT INTO oidc_states (hash, expires_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING";
    Ok(tx.run(sql, params![hash, expires_at]).await? == 1)
}

/// A stay at a provider that a session here follows.
pub(in crate::identity) struct Stay<'a> {
    pub issuer: &'a str,
    pub subject: &'a str,
    pub session: Option<&'a str>,
    pub sealed_token: &'a str,
}

pub(in crate::identity) async fn set_stay(tx: &Tx, session: SessionId, stay: &Stay<'_>) -> Result<(), Error> {
    tx.run(
        "UPDATE sessions SET provider_issuer = $1, provider_subject = $2, provider_session = $3, provider_token = $4
         WHERE id = $5",
        params![stay.issuer, stay.subject, stay.session, stay.sealed_token, session],
    )
    .await?;
    Ok(())
}

/// The sealed ID token of a session that was begun at this provider.
pub(in crate::identity) async fn sealed_token(
    connection: &impl Sql,
    issuer: &str,
    session: SessionId,
) -> Result<Option<String>, Error> {
    let sql = "SELECT provider_token FROM sessions WHERE id = $1 AND provider_issuer = $2";
    let row = connection.one(sql, params![session, issuer]).await?;
    row.map_or(Ok(None), |row| row.text_opt("provider_token"))
}

/// The sessions that follow these stays: one of them, a subject's, or both conditions at once.
pub(in crate::identity) async fn following(
    connection: &impl Sql,
    issuer: &str,
    subject: Option<&str>,
    session: Option<&str>,
) -> Result<Vec<(SessionId, UserId, TenantId)>, Error> {
    let rows = connection
        .all(
            "SELECT id, user_id, tenant_id FROM sessions
             WHERE provider_issuer = $1 AND (provider_subject = $2 OR $2 IS NULL)
                 AND (provider_session = $3 OR $3 IS NULL) AND ($2 IS NOT NULL OR $3 IS NOT NULL)",
            params![issuer, subject, session],
        )
        .await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.parse("user_id")?, row.parse("tenant_id")?))).collect()
}
