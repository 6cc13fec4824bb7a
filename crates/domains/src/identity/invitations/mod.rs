//! Invitations: one-time links into a tenant, for somebody with this address, known or not.

mod api;

use contracts::{Caller, LinkId, UserId, policy::Resource};
use platform::{
    database::Error as StoreError,
    durable::unix_ms,
    http::{Page, PageRequest, Timestamp},
};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::json;

pub(super) use api::routes;

use super::{
    Error,
    links::{self, For, Purpose},
    mail,
    store::{links as store, users as user_rows},
    users,
};
use crate::{App, audit, authority, permissions};

/// An invitation that was not taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Invitation {
    pub id: LinkId,
    pub email: String,
    /// The roles that come with it.
    pub roles: Vec<String>,
    pub created_by: Option<UserId>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// A new invitation. `link` is there, this once, where no mail was sent.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CreatedInvitation {
    #[serde(flatten)]
    pub invitation: Invitation,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl From<&store::Link> for Invitation {
    fn from(link: &store::Link) -> Self {
        Self {
            id: link.id,
            email: link.email.clone(),
            roles: link.roles.clone(),
            created_by: link.created_by,
            created_at: Timestamp(link.created_at),
            expires_at: Timestamp(link.expires_at),
        }
    }
}

async fn list(app: &App, caller: &Caller, page: &PageRequest) -> Result<Page<Invitation>, Error> {
    authority::require(app, caller, "user:read", Resource::any("invitation")).await?;
    let rows = store::invitations(app.database.read(), caller.tenant, page, unix_ms()).await?;
    let page = page.page(rows, |link| link.id.to_string());
    Ok(Page { items: page.items.iter().map(Invitation::from).collect(), next_cursor: page.next_cursor })
}

/// Invites an address, in place of an earlier invitation for it.
async fn create(
    app: &App,
    caller: &Caller,
    email: &str,
    roles: &[String],
) -> Result<CreatedInvitation, Error> {
    let permit = authority::require(app, caller, "user:create", Resource::any("invitation")).await?;
    let email = users::checked_email(email)?;
    let roles = permissions::giveable(app, caller, roles).await.map_err(users::not_given)?;
    let known = user_rows::by_email(app.database.read(), &email).await?;
    if let Some(user) = known
        && users::is_member(app.database.read(), caller.tenant, user.id).await?
    {
        return Err(Error::Conflict("already_member", "There is a user with this address in this tenant."));
    }
    let tenant = caller.tenant;
    let new =
        For { purpose: Purpose::Invitation, email, tenant, user: None, roles, created_by: Some(caller.user) };
    let new = links::prepare(&app.config, new);
    let details = json!({ "id": new.row.id, "email": new.row.email, "roles": new.row.roles });
    let entry = permit.entry(details);
    let new = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                store::delete_invitations_for(tx, tenant, &new.row.email).await?;
                store::insert(tx, &new.row, &new.hash).await?;
                audit::add(tx, &entry).await?;
                Ok::<_, StoreError>(new)
            })
        })
        .await
        .map_err(Error::Store)?;
    let mailed = mail::invitation(app, &new).await;
    let link = (!mailed).then(|| new.link.expose_secret().to_owned());
    Ok(CreatedInvitation { invitation: Invitation::from(&new.row), link })
}

async fn withdraw(app: &App, caller: &Caller, id: LinkId) -> Result<(), Error> {
    let permit = authority::require(app, caller, "user:create", Resource::new("invitation", id)).await?;
    let (tenant, entry) = (caller.tenant, permit.entry(json!({ "withdrawn": true })));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::delete_invitation(tx, tenant, id).await? == 0 {
                    return Err(Error::NotFound);
                }
                Ok(audit::add(tx, &entry).await?)
            })
        })
        .await
}
