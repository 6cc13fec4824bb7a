//! Users: who is known, and in which tenants. A person signs in; a service account has keys alone.

mod api;
mod directory;

use std::str::FromStr;

use contracts::{Caller, TenantId, UserId};
use platform::{
    database::{Database, Error as StoreError, Sql, Tx},
    durable::unix_ms,
};

pub(super) use api::routes;
pub(super) use directory::not_given;

use super::{Error, events, store::users as store};
use crate::{App, models, permissions, tenants};

const EMAIL_CHARS_MAX: usize = 254;
const NAME_CHARS_MAX: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Person,
    Service,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Person, Self::Service]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("no kind of user: {text}"))
    }
}

pub(crate) async fn is_member(
    connection: &impl Sql,
    tenant: TenantId,
    user: UserId,
) -> Result<bool, StoreError> {
    store::is_member(connection, tenant, user).await
}

/// A user's address, if there is this user.
pub(crate) async fn email_of(connection: &impl Sql, user: UserId) -> Result<Option<String>, StoreError> {
    Ok(store::by_id(connection, user).await?.map(|user| user.email))
}

/// A user of this tenant. One of another tenant is not there.
pub(super) async fn member(app: &App, tenant: TenantId, user: UserId) -> Result<store::User, Error> {
    if !store::is_member(app.database.read(), tenant, user).await? {
        return Err(Error::NotFound);
    }
    store::by_id(app.database.read(), user).await?.ok_or(Error::NotFound)
}

/// Somebody with all that they may do by now, whatever their credential.
pub(super) async fn by_their_rights(
    connection: &impl Sql,
    tenant: TenantId,
    user: UserId,
) -> Result<Caller, StoreError> {
    let permissions::Rights { roles, grants } = permissions::rights_of(connection, tenant, user).await?;
    Ok(Caller { roles, grants, scopes: vec!["*".to_owned()], ..events::at_the_door(tenant, user) })
}

/// Finds or makes a person and their membership, with the given roles.
pub async fn ensure_user(
    database: &Database,
    email: &str,
    tenant: TenantId,
    roles: &'static [&'static str],
    platform_admin: bool,
) -> Result<UserId, Error> {
    let email = checked_email(email)?;
    let known = store::by_email(database.read(), &email).await?;
    let user = known.map_or_else(UserId::new, |user| user.id);
    database
        .write(move |tx| {
            Box::pin(async move {
                store::insert(tx, user, &email, "", Kind::Person, unix_ms()).await?;
                let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
                join(tx, tenant, user, &roles).await?;
                if platform_admin {
                    permissions::assign_in(tx, None, user, permissions::PLATFORM_ADMIN).await?;
                }
                Ok::<_, StoreError>(())
            })
        })
        .await?;
    Ok(user)
}

/// Finds or makes a person, a member of nothing yet. Not one of whom it is unknown whether the address is theirs: whoever
/// could invite the address may hold that account's password.
pub(crate) async fn ensure_person(database: &Database, email: &str) -> Result<UserId, Error> {
    let email = checked_email(email)?;
    if let Some(known) = store::by_email(database.read(), &email).await? {
        if known.may_be_anothers() {
            return Err(Error::Conflict(
                "address_not_proven",
                "There is an account with this address, and it is not known that the address is theirs: let them use a \
                 link that was mailed to them, or that `soma admin link` made.",
            ));
        }
        return Ok(known.id);
    }
    let user = UserId::new();
    database
        .write(move |tx| {
            Box::pin(async move { store::insert(tx, user, &email, "", Kind::Person, unix_ms()).await })
        })
        .await?;
    Ok(user)
}

/// Makes a user a member with these roles, within a change. One who is a member already gets the roles added.
pub(crate) async fn join(
    tx: &Tx,
    tenant: TenantId,
    user: UserId,
    roles: &[String],
) -> Result<(), StoreError> {
    store::insert_member(tx, tenant, user, unix_ms()).await?;
    for role in roles {
        permissions::assign_in(tx, Some(tenant), user, role).await?;
    }
    models::open_account(tx, tenant, "user", &user.to_string()).await
}

/// Makes the platform's administrator, who owns the default tenant too. Makes no credential.
pub async fn create_admin(database: &Database, email: &str) -> Result<UserId, Error> {
    let tenant = tenants::default_tenant(database).await?;
    ensure_user(database, email, tenant, &permissions::TENANT_OWNER, true).await
}

/// Where somebody is after signing in: where they were last, else where they have been longest.
pub(super) async fn home(
    connection: &impl Sql,
    user: UserId,
    last: Option<TenantId>,
) -> Result<Option<TenantId>, StoreError> {
    let tenants = store::tenants_of(connection, user).await?;
    let last = last.filter(|last| tenants.contains(last));
    Ok(last.or_else(|| tenants.first().copied()))
}

/// An address in the one form in which it is stored and compared.
pub(super) fn checked_email(email: &str) -> Result<String, Error> {
    let email = email.trim().to_lowercase();
    let good = email.len() <= EMAIL_CHARS_MAX
        && email
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
        && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if good {
        Ok(email)
    } else {
        Err(Error::Invalid("email", "expected an address, as in ada@example.org".into()))
    }
}

pub(super) fn checked_name(name: &str) -> Result<String, Error> {
    let name = name.trim();
    if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        let problem = format!("expected at most {NAME_CHARS_MAX} characters on one line");
        return Err(Error::Invalid("name", problem));
    }
    Ok(name.to_owned())
}
