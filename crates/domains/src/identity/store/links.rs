//! One-time links: their hashes, and what they are for.

use contracts::{LinkId, TenantId, UserId};
use platform::{
    database::{Error, Row, Sql, Tx},
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
        created_at: row.int("created_at")?,
        expires_at: row.int("expires_at")?,
    })
}

pub(in crate::identity) async fn insert(tx: &Tx, link: &Link, hash: &str) -> Result<(), Error> {
    let roles = serde_json::to_string(&link.roles).map_err(|error| Error::Corrupt(error.to_string()))?;
    tx.run(
        "INSERT INTO links (id, hash, purpose, email, tenant_id, user_id, roles, created_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        params![
            link.id,
            hash,
            link.purpose.as_str(),
            link.email.as_str(),
            link.tenant,
            link.user.map(String::from),
            roles,
            link.created_by.map(String::from),
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
            "SELECT id, purpose, email, tenant_id, user_id, roles, created_by, created_at, expires_at FROM links
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
