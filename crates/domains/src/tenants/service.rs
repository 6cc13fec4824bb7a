//! Making, finding, closing and opening tenants.

use contracts::{Caller, TenantId, UserId, policy::Resource};
use platform::{
    database::{Database, Error as StoreError, Sql, Tx},
    durable::unix_ms,
    http::{Page, PageRequest, Timestamp},
};
use serde_json::json;

use super::{
    api::{CreateTenant, Suspension, Tenant},
    standing::Status,
    store,
};
use crate::{App, agents, audit, authority, authority::Denied, conversations, identity, models, permissions};

/// The tenant of a standalone install.
pub const DEFAULT_SLUG: &str = "default";
const SLUG_CHARS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 200;
const REASON_CHARS_MAX: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("no such tenant: run `soma migrate` first")]
    NotFound,
    #[error("another tenant has this slug")]
    SlugTaken,
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
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

pub(super) fn made(new: NewTenant, status: Status) -> Tenant {
    Tenant {
        id: TenantId::new(),
        slug: new.slug,
        name: new.name,
        status,
        status_reason: None,
        created_at: Timestamp(unix_ms()),
    }
}

/// Makes a tenant and its budget account, asking nobody: an operator's act.
pub async fn create(database: &Database, new: NewTenant) -> Result<TenantId, StoreError> {
    let tenant = made(new, Status::Active);
    let id = tenant.id;
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

/// A tenant by its id as the policy sees it: one of another tenant's ids is asked for as an absent one is.
fn resource(id: &str) -> Resource {
    let mut resource = Resource::new("tenant", id);
    resource.attributes = json!({ "tenant": id });
    resource
}

async fn find(connection: &impl Sql, id: &str) -> Result<Tenant, Error> {
    let id = id.parse().map_err(|_| Error::NotFound)?;
    store::by_id(connection, id).await?.ok_or(Error::NotFound)
}

pub(super) fn checked_name(name: &str) -> Result<String, Error> {
    let name = name.trim();
    if (1..=NAME_CHARS_MAX).contains(&name.chars().count()) {
        return Ok(name.to_owned());
    }
    Err(Error::Invalid("name", format!("expected 1 to {NAME_CHARS_MAX} characters")))
}

pub(super) fn checked_slug(slug: &str) -> Result<(), Error> {
    let good = (1..=SLUG_CHARS_MAX).contains(&slug.len())
        && slug.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if good && slug.parse::<TenantId>().is_err() {
        return Ok(());
    }
    let expected = format!("expected 1 to {SLUG_CHARS_MAX} lower-case letters, digits and hyphens");
    Err(Error::Invalid("slug", expected))
}

pub(super) async fn show(app: &App, caller: &Caller, id: &str) -> Result<Tenant, Error> {
    authority::require(app, caller, "tenant:read", resource(id)).await?;
    find(app.database.read(), id).await
}

pub(super) async fn list(app: &App, caller: &Caller, page: &PageRequest) -> Result<Page<Tenant>, Error> {
    authority::require(app, caller, "platform:manage", Resource::any("tenant")).await?;
    let rows = store::page(app.database.read(), page).await?;
    Ok(page.page(rows, |tenant| tenant.id.to_string()))
}

pub(super) async fn create_by(app: &App, caller: &Caller, new: CreateTenant) -> Result<Tenant, Error> {
    let permit = authority::require(app, caller, "tenant:create", Resource::any("tenant")).await?;
    checked_slug(&new.slug)?;
    let name = checked_name(&new.name)?;
    let status = if new.pending { Status::Pending } else { Status::Active };
    let tenant = made(NewTenant { slug: new.slug, name }, status);
    let id = tenant.id;
    let owner = match &new.owner_email {
        Some(email) => {
            let owner = identity::ensure_person(&app.database, email).await;
            owner.map_err(|error| Error::Invalid("owner_email", error.to_string()))?
        }
        None => caller.user,
    };
    let entry = permit.entry(json!({ "id": id, "slug": tenant.slug, "owner": owner }));
    let tenant = app
        .database
        .write(move |tx| Box::pin(async move { furnish(tx, tenant, owner, &entry).await }))
        .await?;
    app.sessions.forget_all();
    Ok(tenant)
}

/// Stores a tenant with all that it needs to be worked in.
pub(super) async fn furnish(
    tx: &Tx,
    tenant: Tenant,
    owner: UserId,
    entry: &audit::Entry,
) -> Result<Tenant, Error> {
    if store::by_slug(tx, &tenant.slug).await?.is_some() {
        return Err(Error::SlugTaken);
    }
    store::insert(tx, &tenant).await?;
    models::open_account(tx, tenant.id, "tenant", &tenant.id.to_string()).await?;
    identity::join(tx, tenant.id, owner, &permissions::TENANT_OWNER.map(str::to_owned)).await?;
    agents::add_default(tx, tenant.id).await?;
    audit::add(tx, entry).await?;
    Ok(tenant)
}

pub(super) async fn rename(app: &App, caller: &Caller, id: &str, name: String) -> Result<Tenant, Error> {
    let permit = authority::require(app, caller, "tenant:update", resource(id)).await?;
    let mut tenant = find(app.database.read(), id).await?;
    tenant.name = checked_name(&name)?;
    let entry = permit.entry(json!({ "name": tenant.name }));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::rename(tx, tenant.id, &tenant.name).await? == 0 {
                    return Err(Error::NotFound);
                }
                audit::add(tx, &entry).await?;
                Ok(tenant)
            })
        })
        .await
}

/// How a tenant is closed.
pub(super) struct Closing {
    status: Status,
    reason: String,
}

impl Closing {
    pub(super) fn checked(suspension: &Suspension) -> Result<Self, Error> {
        let reason = suspension.reason.trim().to_owned();
        if !(1..=REASON_CHARS_MAX).contains(&reason.chars().count()) {
            return Err(Error::Invalid("reason", format!("expected 1 to {REASON_CHARS_MAX} characters")));
        }
        let status = if suspension.churned { Status::Churned } else { Status::Suspended };
        Ok(Self { status, reason })
    }

    /// Closes a tenant, with the row of the audit that `entry` makes of what was done.
    pub(super) async fn close(
        &self,
        tx: &Tx,
        tenant: TenantId,
        entry: impl FnOnce(serde_json::Value) -> audit::Entry + Send,
    ) -> Result<conversations::Stopped, Error> {
        store::set_status(tx, tenant, self.status, Some(&self.reason)).await?;
        let stopped = conversations::stop_all(tx, tenant).await?;
        let details = json!({ "status": self.status, "reason": self.reason, "runs": stopped.count() });
        audit::add(tx, &entry(details)).await?;
        Ok(stopped)
    }
}

/// Closes a tenant and stops what is at work in it, in one commit.
pub(super) async fn suspend(
    app: &App,
    caller: &Caller,
    id: &str,
    suspension: Suspension,
) -> Result<Tenant, Error> {
    let permit = authority::require(app, caller, "tenant:suspend", resource(id)).await?;
    let tenant = find(app.database.read(), id).await?.id;
    let closing = Closing::checked(&suspension)?;
    let (tenant, stopped) = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                let stopped = closing.close(tx, tenant, |details| permit.entry(details)).await?;
                let tenant = store::by_id(tx, tenant).await?.ok_or(Error::NotFound)?;
                Ok::<_, Error>((tenant, stopped))
            })
        })
        .await?;
    app.standings.forget_all();
    stopped.tell(app).await;
    Ok(tenant)
}

pub(super) async fn resume(app: &App, caller: &Caller, id: &str) -> Result<Tenant, Error> {
    let permit = authority::require(app, caller, "tenant:suspend", resource(id)).await?;
    let before = find(app.database.read(), id).await?;
    let entry = permit.entry(json!({ "status": Status::Active, "before": before.status }));
    let id = before.id;
    let tenant = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                store::set_status(tx, id, Status::Active, None).await?;
                audit::add(tx, &entry).await?;
                store::by_id(tx, id).await?.ok_or(Error::NotFound)
            })
        })
        .await?;
    app.standings.forget_all();
    Ok(tenant)
}
