//! Users and memberships.

use contracts::{TenantId, UserId};
use platform::{
    database::{Error, Row, Sql, Tx},
    http::PageRequest,
    params,
};
use secrecy::SecretString;

use crate::identity::users::Kind;

pub(in crate::identity) struct User {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub kind: Kind,
    pub password_hash: Option<SecretString>,
    /// Whether it is known that the address is theirs: a letter to it, an operator or the identity provider has shown it.
    pub proven: bool,
    /// Where they were last.
    pub last_tenant: Option<TenantId>,
    /// Whether a TOTP device was confirmed.
    pub totp: bool,
}

impl User {
    /// Whether somebody else may hold its password: whoever may invite an address can choose the password of a new account.
    pub(in crate::identity) fn may_be_anothers(&self) -> bool {
        self.password_hash.is_some() && !self.proven
    }
}

fn user(row: &Row) -> Result<User, Error> {
    Ok(User {
        id: row.parse("id")?,
        email: row.text("email")?,
        name: row.text("name")?,
        kind: row.parse("kind")?,
        password_hash: row.text_opt("password_hash")?.map(SecretString::from),
        proven: row.int_opt("email_proven_at")?.is_some(),
        last_tenant: row.parse_opt("last_tenant_id")?,
        totp: row.int_opt("confirmed_at")?.is_some(),
    })
}

pub(in crate::identity) async fn by_email(connection: &impl Sql, email: &str) -> Result<Option<User>, Error> {
    let row = connection
        .one(
            "SELECT u.id, u.email, u.name, u.kind, u.password_hash, u.email_proven_at, u.last_tenant_id, t.confirmed_at
             FROM users u LEFT JOIN totp_devices t ON t.user_id = u.id WHERE u.email = $1",
            params![email],
        )
        .await?;
    row.as_ref().map(user).transpose()
}

pub(in crate::identity) async fn by_id(connection: &impl Sql, id: UserId) -> Result<Option<User>, Error> {
    let row = connection
        .one(
            "SELECT u.id, u.email, u.name, u.kind, u.password_hash, u.email_proven_at, u.last_tenant_id, t.confirmed_at
             FROM users u LEFT JOIN totp_devices t ON t.user_id = u.id WHERE u.id = $1",
            params![id],
        )
        .await?;
    row.as_ref().map(user).transpose()
}

/// Adds a user; 0 if somebody has the address already.
pub(in crate::identity) async fn insert(
    tx: &Tx,
    id: UserId,
    email: &str,
    name: &str,
    kind: Kind,
    now: i64,
) -> Result<u64, Error> {
    tx.run(
        "INSERT INTO users (id, email, name, kind, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (email) DO NOTHING",
        params![id, email, name, kind.as_str(), now],
    )
    .await
}

pub(in crate::identity) async fn set_name(tx: &Tx, id: UserId, name: &str) -> Result<(), Error> {
    tx.run("UPDATE users SET name = $1 WHERE id = $2", params![name, id]).await?;
    Ok(())
}

pub(in crate::identity) async fn set_password(tx: &Tx, id: UserId, hash: &str) -> Result<(), Error> {
    tx.run("UPDATE users SET password_hash = $1 WHERE id = $2", params![hash, id]).await?;
    Ok(())
}

/// Notes that the address is known to be the user's.
pub(in crate::identity) async fn set_proven(tx: &Tx, id: UserId, now: i64) -> Result<(), Error> {
    let sql = "UPDATE users SET email_proven_at = COALESCE(email_proven_at, $1) WHERE id = $2";
    tx.run(sql, params![now, id]).await?;
    Ok(())
}

pub(in crate::identity) async fn delete_password(tx: &Tx, id: UserId) -> Result<(), Error> {
    tx.run("UPDATE users SET password_hash = NULL WHERE id = $1", params![id]).await?;
    Ok(())
}

pub(in crate::identity) async fn set_last_tenant(tx: &Tx, id: UserId, tenant: TenantId) -> Result<(), Error> {
    tx.run("UPDATE users SET last_tenant_id = $1 WHERE id = $2", params![tenant, id]).await?;
    Ok(())
}

pub(in crate::identity) async fn set_seen(tx: &Tx, id: UserId, now: i64) -> Result<(), Error> {
    tx.run("UPDATE users SET last_seen_at = $1 WHERE id = $2", params![now, id]).await?;
    Ok(())
}

pub(in crate::identity) async fn insert_member(
    tx: &Tx,
    tenant: TenantId,
    user: UserId,
    now: i64,
) -> Result<(), Error> {
    tx.run(
        "INSERT INTO memberships (tenant_id, user_id, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id, user_id) DO NOTHING",
        params![tenant, user, now],
    )
    .await?;
    Ok(())
}

pub(in crate::identity) async fn is_member(
    connection: &impl Sql,
    tenant: TenantId,
    user: UserId,
) -> Result<bool, Error> {
    let sql = "SELECT 1 AS one FROM memberships WHERE tenant_id = $1 AND user_id = $2";
    Ok(connection.one(sql, params![tenant, user]).await?.is_some())
}

/// The tenants of a user, the first joined first.
pub(in crate::identity) async fn tenants_of(
    connection: &impl Sql,
    user: UserId,
) -> Result<Vec<TenantId>, Error> {
    let sql = "SELECT tenant_id FROM memberships WHERE user_id = $1 ORDER BY created_at, tenant_id";
    let rows = connection.all(sql, params![user]).await?;
    rows.iter().map(|row| row.parse("tenant_id")).collect()
}

/// A user as a member of one tenant.
pub(in crate::identity) struct Member {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub kind: Kind,
    pub created_at: i64,
    pub last_seen_at: Option<i64>,
    pub totp: bool,
}

fn a_member(row: &Row) -> Result<Member, Error> {
    Ok(Member {
        id: row.parse("id")?,
        email: row.text("email")?,
        name: row.text("name")?,
        kind: row.parse("kind")?,
        created_at: row.int("created_at")?,
        last_seen_at: row.int_opt("last_seen_at")?,
        totp: row.int_opt("confirmed_at")?.is_some(),
    })
}

/// The members of a tenant, who was known first first.
pub(in crate::identity) async fn members(
    connection: &impl Sql,
    tenant: TenantId,
    page: &PageRequest,
) -> Result<Vec<Member>, Error> {
    let after = page.after.clone().unwrap_or_default();
    let rows = connection
        .all(
            "SELECT u.id, u.email, u.name, u.kind, u.created_at, u.last_seen_at, t.confirmed_at FROM memberships m
             JOIN users u ON u.id = m.user_id LEFT JOIN totp_devices t ON t.user_id = u.id
             WHERE m.tenant_id = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3",
            params![tenant, after, page.rows_wanted()],
        )
        .await?;
    rows.iter().map(a_member).collect()
}

pub(in crate::identity) async fn member(
    connection: &impl Sql,
    tenant: TenantId,
    id: UserId,
) -> Result<Option<Member>, Error> {
    let row = connection
        .one(
            "SELECT u.id, u.email, u.name, u.kind, u.created_at, u.last_seen_at, t.confirmed_at FROM memberships m
             JOIN users u ON u.id = m.user_id LEFT JOIN totp_devices t ON t.user_id = u.id
             WHERE m.tenant_id = $1 AND m.user_id = $2",
            params![tenant, id],
        )
        .await?;
    row.as_ref().map(a_member).transpose()
}

pub(in crate::identity) async fn delete_member(tx: &Tx, tenant: TenantId, id: UserId) -> Result<u64, Error> {
    tx.run("DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2", params![tenant, id]).await
}
