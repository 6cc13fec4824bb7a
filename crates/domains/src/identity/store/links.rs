//! One-time links: their hashes, and what they are for.

use contracts::{LinkId, TenantId, UserId};
use platform::{
    database::{Error, Row, Sql, Tx},
    http::PageRequest,
    params,
};

use crate::identity::links::Purpose;

pub(in crate::identity) struct Link {
    pub id: LinkId,
    pub purpose: Purpose,
    pub email: String,
    pub tenant: TenantId,
    /// Absent in an invitation.
    pub user: Option<UserId>,
    pub roles: Vec<String>,
    /// Absent where an operator made it, or nobody.
    pub created_by: Option<UserId>,
    /// It went to the address, and was shown to nobody else.
    pub mailed: bool,
    pub created_at: i64,
    pub expires_at: i64,
}

fn link(row: &Row) -> Result<Link, Error> {
    Ok(Link {
        id: row.parse("id")?,
        purpose: row.parse("purpose")?,
        email: row.text("email")?,
        tenant: row.parse("tenant_id")?,
        user: row.parse_opt("user_id")?,
        roles: row.json("roles")?,
        created_by: row.parse_opt("created_by")?,
        mailed: row.int("mailed")? != 0,
        created_at: row.int("created_at")?,
        expires_at: row.int("expires_at")?,
    })
}

/// Adds a link, and takes away those whose time is over, of anyone.
pub(in crate::identity) async fn insert(tx: &Tx, link: &Link, hash: &str) -> Result<(), Error> {
    tx.run("DELETE FROM links WHERE expires_at <= $1", params![link.created_at]).await?;
    let roles = serde_json::to_string(&link.roles).map_err(|error| Error::Corrupt(error.to_string()))?;
    tx.run(
        "INSERT INTO links (id, hash, purpose, email, tenant_id, user_id, roles, created_by, mailed, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        params![
            link.id,
            hash,
            link.purpose.as_str(),
            link.email.as_str(),
            link.tenant,
            link.user.map(String::from),
            roles,
            link.created_by.map(String::from),
            i64::from(link.mailed),
            link.created_at,
            link.expires_at,
        ],
    )
    .await?;
    Ok(())
}

/// The link with this hash, unless it was used or has ended.
pub(in crate::identity) async fn open(
    connection: &impl Sql,
    hash: &str,
    now: i64,
) -> Result<Option<Link>, Error> {
    let row = connection
        .one(
            "SELECT id, purpose, email, tenant_id, user_id, roles, created_by, mailed, created_at, expires_at FROM links
             WHERE hash = $1 AND used_at IS NULL AND expires_at > $2",
            params![hash, now],
        )
        .await?;
    row.as_ref().map(link).transpose()
}

/// Uses the link up: 0 if somebody else was first.
pub(in crate::identity) async fn use_up(tx: &Tx, id: LinkId, now: i64) -> Result<u64, Error> {
    let sql = "UPDATE links SET used_at = $1 WHERE id = $2 AND used_at IS NULL AND expires_at > $1";
    tx.run(sql, params![now, id]).await
}

/// Takes away a user's unused links: a new one takes their place, or a password was set.
pub(in crate::identity) async fn delete_of_user(tx: &Tx, user: UserId) -> Result<(), Error> {
    tx.run("DELETE FROM links WHERE user_id = $1 AND used_at IS NULL", params![user]).await?;
    Ok(())
}

/// Whether a link to a password was made for a user since then because somebody had forgotten theirs.
pub(in crate::identity) async fn made_since(tx: &Tx, user: UserId, since: i64) -> Result<bool, Error> {
    let sql = "SELECT 1 AS one FROM links WHERE user_id = $1 AND created_by IS NULL AND mailed = 1 AND created_at > $2 LIMIT 1";
    Ok(tx.one(sql, params![user, since]).await?.is_some())
}

/// Notes that a link went to its address.
pub(in crate::identity) async fn set_mailed(tx: &Tx, id: LinkId) -> Result<(), Error> {
    tx.run("UPDATE links SET mailed = 1 WHERE id = $1", params![id]).await?;
    Ok(())
}

/// Takes away the unused links of one tenant that lead a user into it, or that the user has made.
pub(in crate::identity) async fn delete_in_tenant(
    tx: &Tx,
    user: UserId,
    tenant: TenantId,
) -> Result<(), Error> {
    let sql =
        "DELETE FROM links WHERE (user_id = $1 OR created_by = $1) AND tenant_id = $2 AND used_at IS NULL";
    tx.run(sql, params![user, tenant]).await?;
    Ok(())
}

/// The invitations of a tenant that were not taken, the oldest first.
pub(in crate::identity) async fn invitations(
    connection: &impl Sql,
    tenant: TenantId,
    page: &PageRequest,
    now: i64,
) -> Result<Vec<Link>, Error> {
    let after = page.after.clone().unwrap_or_default();
    let rows = connection
        .all(
            "SELECT id, purpose, email, tenant_id, user_id, roles, created_by, mailed, created_at, expires_at FROM links
             WHERE tenant_id = $1 AND id > $2 AND purpose = 'invitation' AND used_at IS NULL AND expires_at > $3
             ORDER BY id LIMIT $4",
            params![tenant, after, now, page.rows_wanted()],
        )
        .await?;
    rows.iter().map(link).collect()
}

pub(in crate::identity) async fn delete_invitation(
    tx: &Tx,
    tenant: TenantId,
    id: LinkId,
) -> Result<u64, Error> {
    let sql = "DELETE FROM links
               WHERE id = $1 AND tenant_id = $2 AND purpose = 'invitation' AND used_at IS NULL";
    tx.run(sql, params![id, tenant]).await
}

/// Takes away unused invitations of an address into a tenant: a new one takes their place.
pub(in crate::identity) async fn delete_invitations_for(
    tx: &Tx,
    tenant: TenantId,
    email: &str,
) -> Result<(), Error> {
    let sql = "DELETE FROM links
               WHERE tenant_id = $1 AND email = $2 AND purpose = 'invitation' AND used_at IS NULL";
    tx.run(sql, params![tenant, email]).await?;
    Ok(())
}
