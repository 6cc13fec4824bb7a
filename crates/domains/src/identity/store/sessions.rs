//! Sessions. One that has ended has no row.

use contracts::{SessionId, TenantId, UserId};
use platform::{
    database::{Error, Row, Sql, Tx},
    http::{PageRequest, Timestamp},
    params,
};

use crate::identity::sessions::SessionInfo;

pub(in crate::identity) struct NewSession {
    pub id: SessionId,
    pub hash: String,
    pub user: UserId,
    pub tenant: TenantId,
    pub how: &'static str,
    pub user_agent: String,
    pub address: Option<String>,
    pub created_at: i64,
    pub expires_at: i64,
    pub impersonator: Option<UserId>,
    /// The session from which an impersonation was begun, and to which it goes back.
    pub begun_from: Option<SessionId>,
}

pub(in crate::identity) struct ValidSession {
    pub id: SessionId,
    pub user: UserId,
    pub tenant: TenantId,
    pub last_used_at: i64,
    pub impersonator: Option<UserId>,
}

/// Adds a session, and takes away what has ended meanwhile, of anyone.
pub(in crate::identity) async fn insert(tx: &Tx, new: &NewSession, idle_since: i64) -> Result<(), Error> {
    tx.run("DELETE FROM sessions WHERE expires_at <= $1", params![new.created_at]).await?;
    tx.run("DELETE FROM sessions WHERE last_used_at <= $1", params![idle_since]).await?;
    tx.run(
        "INSERT INTO sessions (id, hash, user_id, tenant_id, how, user_agent, address, created_at, last_used_at,
             expires_at, impersonator_id, begun_from)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11)",
        params![
            new.id,
            new.hash.as_str(),
            new.user,
            new.tenant,
            new.how,
            new.user_agent.as_str(),
            new.address.clone(),
            new.created_at,
            new.expires_at,
            new.impersonator.map(String::from),
            new.begun_from.map(String::from),
        ],
    )
    .await?;
    Ok(())
}

/// The session with this hash, unless its time is over or its user has left the tenant.
pub(in crate::identity) async fn valid(
    connection: &impl Sql,
    hash: &str,
    now: i64,
    idle_since: i64,
) -> Result<Option<ValidSession>, Error> {
    let row = connection
        .one(
            "SELECT s.id, s.user_id, s.tenant_id, s.last_used_at, s.impersonator_id FROM sessions s
             JOIN memberships m ON m.tenant_id = s.tenant_id AND m.user_id = s.user_id
             WHERE s.hash = $1 AND s.expires_at > $2 AND s.last_used_at > $3",
            params![hash, now, idle_since],
        )
        .await?;
    row.map(|row| {
        Ok(ValidSession {
            id: row.parse("id")?,
            user: row.parse("user_id")?,
            tenant: row.parse("tenant_id")?,
            last_used_at: row.int("last_used_at")?,
            impersonator: row.parse_opt("impersonator_id")?,
        })
    })
    .transpose()
}

/// Whether whoever acts in a session has no authenticator, though only that could show who they are. For who came by an
/// identity provider that one vouches; who acts as somebody else by a key is a program.
pub(in crate::identity) async fn lacks_factor(connection: &impl Sql, id: SessionId) -> Result<bool, Error> {
    let row = connection
        .one(
            "SELECT s.id FROM sessions s
             LEFT JOIN sessions o ON o.id = s.begun_from
             LEFT JOIN totp_devices t ON t.user_id = COALESCE(s.impersonator_id, s.user_id)
             WHERE s.id = $1 AND t.confirmed_at IS NULL AND COALESCE(o.how, s.how) <> 'oidc'
                 AND (s.impersonator_id IS NULL OR s.begun_from IS NOT NULL)",
            params![id],
        )
        .await?;
    Ok(row.is_some())
}

pub(in crate::identity) async fn touch(tx: &Tx, id: SessionId, now: i64) -> Result<(), Error> {
    tx.run("UPDATE sessions SET last_used_at = $1 WHERE id = $2", params![now, id]).await?;
    Ok(())
}

pub(in crate::identity) async fn delete(tx: &Tx, id: SessionId) -> Result<u64, Error> {
    tx.run("DELETE FROM sessions WHERE id = $1", params![id]).await
}

/// Ends every session of a user, and those in which they act as somebody else.
pub(in crate::identity) async fn delete_of_user(tx: &Tx, user: UserId) -> Result<u64, Error> {
    tx.run("DELETE FROM sessions WHERE user_id = $1 OR impersonator_id = $1", params![user]).await
}

fn info(row: &Row, current: Option<SessionId>) -> Result<SessionInfo, Error> {
    let id = row.parse("id")?;
    Ok(SessionInfo {
        id,
        how: row.text("how")?,
        created_at: Timestamp(row.int("created_at")?),
        last_used_at: Timestamp(row.int("last_used_at")?),
        expires_at: Timestamp(row.int("expires_at")?),
        user_agent: row.text("user_agent")?,
        address: row.text_opt("address")?,
        impersonator_id: row.parse_opt("impersonator_id")?,
        current: current == Some(id),
    })
}

/// What is asked of the sessions of one user: those in one tenant, or in all.
pub(in crate::identity) struct Of {
    pub user: UserId,
    pub tenant: Option<TenantId>,
    pub current: Option<SessionId>,
}

/// A user's sessions, the oldest first.
pub(in crate::identity) async fn page(
    connection: &impl Sql,
    of: &Of,
    page: &PageRequest,
    now: i64,
    idle_since: i64,
) -> Result<Vec<SessionInfo>, Error> {
    let after = page.after.clone().unwrap_or_default();
    let rows = connection
        .all(
            "SELECT id, how, created_at, last_used_at, expires_at, user_agent, address, impersonator_id FROM sessions
             WHERE user_id = $1 AND (tenant_id = $2 OR $2 IS NULL) AND id > $3 AND expires_at > $4
                 AND last_used_at > $5
             ORDER BY id LIMIT $6",
            params![of.user, of.tenant.map(String::from), after, now, idle_since, page.rows_wanted()],
        )
        .await?;
    rows.iter().map(|row| info(row, of.current)).collect()
}

/// Ends one session of a user; 0 if they have none such.
pub(in crate::identity) async fn delete_one_of(tx: &Tx, user: UserId, id: SessionId) -> Result<u64, Error> {
    tx.run("DELETE FROM sessions WHERE id = $1 AND user_id = $2", params![id, user]).await
}

/// Ends a user's sessions but one, and those in which they act as somebody else.
pub(in crate::identity) async fn delete_others(tx: &Tx, user: UserId, kept: SessionId) -> Result<u64, Error> {
    let sql = "DELETE FROM sessions WHERE (user_id = $1 OR impersonator_id = $1) AND id <> $2";
    tx.run(sql, params![user, kept]).await
}

pub(in crate::identity) async fn set_tenant(tx: &Tx, id: SessionId, tenant: TenantId) -> Result<(), Error> {
    tx.run("UPDATE sessions SET tenant_id = $1 WHERE id = $2", params![tenant, id]).await?;
    Ok(())
}

/// The session that an impersonation was begun from, if that one is still there.
pub(in crate::identity) async fn begun_from(
    connection: &impl Sql,
    id: SessionId,
) -> Result<Option<SessionId>, Error> {
    let row = connection
        .one(
            "SELECT o.id FROM sessions i JOIN sessions o ON o.id = i.begun_from AND o.user_id = i.impersonator_id
             WHERE i.id = $1",
            params![id],
        )
        .await?;
    row.map(|row| row.parse("id")).transpose()
}

/// Gives a session another token.
pub(in crate::identity) async fn set_hash(tx: &Tx, id: SessionId, hash: &str) -> Result<u64, Error> {
    tx.run("UPDATE sessions SET hash = $1 WHERE id = $2", params![hash, id]).await
}

/// Ends a user's sessions in one tenant.
pub(in crate::identity) async fn delete_in_tenant(
    tx: &Tx,
    user: UserId,
    tenant: TenantId,
) -> Result<u64, Error> {
    let sql = "DELETE FROM sessions WHERE user_id = $1 AND tenant_id = $2";
    tx.run(sql, params![user, tenant]).await
}
