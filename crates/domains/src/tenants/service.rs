//! Making and finding tenants.

use contracts::{Caller, TenantId, policy::Resource};
use platform::{
    database::{Database, Error as StoreError, Sql},
    durable::unix_ms,
    http::Timestamp,
};

use super::{api::Tenant, store};
use crate::{App, authority, authority::Denied, models};

/// The tenant of a standalone install.
pub const DEFAULT_SLUG: &str = "default";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("no such tenant: run `soma migrate` first")]
    NotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Clone)]
pub struct NewTenant {
    pub slug: String,
    pub name: String,
}

/// What a tenant is called.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct TenantName {
    pub id: TenantId,
    pub slug: String,
    pub name: String,
}

/// What a tenant is called, for whoever is a member of it. Asks no policy.
pub(crate) async fn name_of(connection: &impl Sql, id: TenantId) -> Result<Option<TenantName>, StoreError> {
    let tenant = store::by_id(connection, id).await?;
    Ok(tenant.map(|Tenant { id, slug, name, .. }| TenantName { id, slug, name }))
}

/// Makes a tenant and its budget account. An operator's act: there is no route for it yet.
pub async fn create(database: &Database, new: NewTenant) -> Result<TenantId, StoreError> {
    let id = TenantId::new();
    let tenant = Tenant { id, slug: new.slug, name: new.name, created_at: Timestamp(unix_ms()) };
    database
        .write(move |tx| {
            Box::pin(async move {
                store::insert(tx, &tenant).await?;
                models::open_account(tx, id, "tenant", &id.to_string()).await
            })
        })
        .await?;
    Ok(id)
}

/// Makes the default tenant unless it is there.
pub async fn ensure_default(database: &Database) -> Result<TenantId, StoreError> {
    match store::by_slug(database.read(), DEFAULT_SLUG).await? {
        Some(tenant) => Ok(tenant.id),
        None => create(database, NewTenant { slug: DEFAULT_SLUG.into(), name: "Default".into() }).await,
    }
}

/// The tenant of a slug that the operator configured. Asks no policy.
pub(crate) async fn by_slug(connection: &impl Sql, slug: &str) -> Result<TenantId, Error> {
    Ok(store::by_slug(connection, slug).await?.ok_or(Error::NotFound)?.id)
}

pub async fn default_tenant(database: &Database) -> Result<TenantId, Error> {
    Ok(store::by_slug(database.read(), DEFAULT_SLUG).await?.ok_or(Error::NotFound)?.id)
}

/// Every tenant's slug, for the operator's commands.
pub async fn slugs(database: &Database) -> Result<Vec<(TenantId, String)>, StoreError> {
    store::slugs(database.read()).await
}

pub(super) async fn own(app: &App, caller: &Caller) -> Result<Tenant, Error> {
    authority::require(app, caller, "tenant:read", Resource::new("tenant", caller.tenant)).await?;
    store::by_id(app.database.read(), caller.tenant).await?.ok_or(Error::NotFound)
}
