//! What an operator does with tenants at the command line, beside a server that may run: it asks no policy, and the
//! audit has it as the operator's.

use contracts::TenantId;
use platform::{database::Database, http::PageRequest};
use serde_json::json;

use super::{
    Error, NewTenant, Status,
    api::{Suspension, Tenant},
    service::{self, Closing},
    store,
};
use crate::{audit, identity};

/// Tenants that are listed at once.
const LISTED_MAX: u32 = 100_000;

/// Every tenant, the oldest first.
pub async fn list(database: &Database) -> Result<Vec<Tenant>, Error> {
    let page = PageRequest { limit: LISTED_MAX, after: None };
    Ok(store::page(database.read(), &page).await?)
}

/// Makes a tenant with an owner and a default agent. The owner signs in by a link of `soma admin link`.
pub async fn create_with_owner(
    database: &Database,
    new: NewTenant,
    owner: &str,
    pending: bool,
) -> Result<Tenant, Error> {
    service::checked_slug(&new.slug)?;
    let name = service::checked_name(&new.name)?;
    let status = if pending { Status::Pending } else { Status::Active };
    let tenant = service::made(NewTenant { slug: new.slug, name }, status);
    let owner = identity::ensure_person(database, owner).await;
    let owner = owner.map_err(|error| Error::Invalid("owner", error.to_string()))?;
    let details = json!({ "id": tenant.id, "slug": tenant.slug, "owner": owner });
    let entry = by_operator(tenant.id, "tenant:create", details);
    database.write(move |tx| Box::pin(async move { service::furnish(tx, tenant, owner, &entry).await })).await
}

/// Closes a tenant; how many runs are stopped. A server that runs learns of it within seconds.
pub async fn suspend(database: &Database, slug: &str, suspension: &Suspension) -> Result<usize, Error> {
    let tenant = service::by_slug(database.read(), slug).await?;
    let closing = Closing::checked(suspension)?;
    database
        .write(move |tx| {
            Box::pin(async move {
                let entry = |details| by_operator(tenant, "tenant:suspend", details);
                // The server's sweep tells the workflows of what was at work.
                Ok(closing.close(tx, tenant, entry).await?.count())
            })
        })
        .await
}

/// Opens a tenant to its members, again or for the first time.
pub async fn resume(database: &Database, slug: &str) -> Result<(), Error> {
    let tenant = service::by_slug(database.read(), slug).await?;
    let entry = by_operator(tenant, "tenant:suspend", json!({ "status": Status::Active }));
    database
        .write(move |tx| {
            Box::pin(async move {
                store::set_status(tx, tenant, Status::Active, None).await?;
                Ok(audit::add(tx, &entry).await?)
            })
        })
        .await
}

fn by_operator(tenant: TenantId, action: &str, details: serde_json::Value) -> audit::Entry {
    audit::Entry::of_operator(tenant, action, ("tenant", tenant.to_string()), details)
}
