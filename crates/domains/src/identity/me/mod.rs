//! Oneself: who the credential says one is, and what one may do.

mod api;

use contracts::{
    Caller, Credential, TenantId, UserId,
    policy::{Effect, Request, Resource},
};
use platform::database::Error as StoreError;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;

pub(super) use api::{NewTotp, routes};

use super::{
    Error, attempts,
    authenticate::Client,
    events, passwords, sessions,
    sign_in::{self, Shown},
    store::{attempts as attempt_rows, links as link_rows, sessions as session_rows, users as store},
    users,
};
use crate::{
    App, audit, tenants,
    tenants::{MfaPolicy, TenantName},
};

/// Who the credential says you are, and what you may do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Me {
    pub user_id: UserId,
    pub email: String,
    pub name: String,
    pub tenant_id: TenantId,
    pub tenant: TenantName,
    /// Every tenant that you are a member of; a session can change to another.
    pub tenants: Vec<TenantName>,
    pub roles: Vec<String>,
    /// Actions that the credential is limited to; `*` stands for all that the roles allow.
    pub scopes: Vec<String>,
    /// The actions that the policy allows you now, where nothing about the single thing forbids it.
    pub permissions: Vec<String>,
    /// `api_key`, `access_token` or `session`.
    pub credential: &'static str,
    /// Who really acts, when an administrator acts as you.
    pub impersonator: Option<Impersonator>,
    /// Whether signing in takes a code of an authenticator.
    pub totp: bool,
    /// Whether you can do nothing but set up an authenticator: your tenant asks for one.
    pub totp_required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Impersonator {
    pub user_id: UserId,
    pub email: String,
}

pub(super) async fn of(app: &App, caller: &Caller) -> Result<Me, Error> {
    let connection = app.database.read();
    let user = store::by_id(connection, caller.user).await?.ok_or(Error::NotFound)?;
    let tenants = tenants_of(app, caller.user).await?;
    let tenant = tenants.iter().find(|tenant| tenant.id == caller.tenant).ok_or(Error::NotFound)?;
    let impersonator = match caller.impersonator {
        Some(id) => {
            let user = store::by_id(connection, id).await?.ok_or(Error::NotFound)?;
            Some(Impersonator { user_id: id, email: user.email })
        }
        None => None,
    };
    Ok(Me {
        user_id: user.id,
        email: user.email,
        name: user.name,
        tenant_id: caller.tenant,
        tenant: tenant.clone(),
        roles: caller.roles.clone(),
        scopes: caller.scopes.clone(),
        permissions: allowed(app, caller).await,
        credential: match caller.credential {
            Credential::ApiKey(_) => "api_key",
            Credential::AccessToken => "access_token",
            Credential::Session(_) | Credential::Run(_) | Credential::Event => "session",
        },
        impersonator,
        totp: user.totp,
        totp_required: lacks_factor(app, caller).await?,
        tenants,
    })
}

/// Whether the caller's tenant asks for a second factor that they have not.
async fn lacks_factor(app: &App, caller: &Caller) -> Result<bool, StoreError> {
    let Credential::Session(session) = caller.credential else { return Ok(false) };
    let standing = app.standings.of(app, caller.tenant).await?;
    Ok(standing.mfa == MfaPolicy::Required
        && session_rows::lacks_factor(app.database.read(), session).await?)
}

async fn tenants_of(app: &App, user: UserId) -> Result<Vec<TenantName>, StoreError> {
    let mut found = Vec::new();
    for id in store::tenants_of(app.database.read(), user).await? {
        found.extend(tenants::name_of(app.database.read(), id).await?);
    }
    Ok(found)
}

/// The right to call tools depends on the tool.
const TOOL_CALL: &str = "tool:execute";

/// Every action of the catalogue that the policy allows the caller.
async fn allowed(app: &App, caller: &Caller) -> Vec<String> {
    let actions = app.policy.catalogue().actions.keys();
    let actions: Vec<&String> = actions.filter(|&action| action != TOOL_CALL).collect();
    let about = |action: &&String| {
        let kind = action.split(':').next().unwrap_or_default();
        Request::new(caller, action, Resource::any(kind))
    };
    let questions: Vec<Request> = actions.iter().map(about).collect();
    let decisions = app.policy.decide_all(&questions).await;
    let allowed = actions.into_iter().zip(decisions).filter(|(_, decision)| decision.allowed());
    let mut allowed: Vec<String> = allowed.map(|(action, _)| action.clone()).collect();
    if calls_tools(app, caller).await {
        allowed.push(TOOL_CALL.to_owned());
        allowed.sort();
    }
    allowed
}

/// Whether the caller may call any tool, if an agent has it. That somebody has to approve the call is no matter here.
async fn calls_tools(app: &App, caller: &Caller) -> bool {
    let Ok(toolbox) = app.tools.get().await else { return false };
    let calls: Vec<Request> = toolbox
        .specs()
        .map(|tool| {
            let request = Request::new(caller, TOOL_CALL, Resource::new("tool", &tool.name));
            request.with_context(json!({ "agent_tools": [tool.name] }))
        })
        .collect();
    let decisions = app.policy.decide_all(&calls).await;
    decisions.iter().any(|decision| decision.effect != Effect::Deny)
}

async fn rename(app: &App, caller: &Caller, name: &str) -> Result<Me, Error> {
    sessions::of_oneself(caller)?;
    let name = users::checked_name(name)?;
    let user = caller.user;
    let details = json!({ "name": name });
    let entry = events::done(caller, events::NAME_CHANGED, "own", Resource::new("user", user), details);
    app.database
        .write(move |tx| {
            Box::pin(async move {
                store::set_name(tx, user, &name).await?;
                audit::add(tx, &entry).await
            })
        })
        .await
        .map_err(Error::Store)?;
    of(app, caller).await
}

/// Sets another password. Every other session and every unused link of the user ends.
async fn change_password(
    app: &App,
    caller: &Caller,
    current: SecretString,
    new: SecretString,
    client: &Client,
) -> Result<(), Error> {
    let session = sessions::of_oneself(caller)?;
    let user = store::by_id(app.database.read(), caller.user).await?.ok_or(Error::NotFound)?;
    passwords::checked_new("new", &new, &user.email)?;
    app.addresses.count(client.ip)?;
    sign_in::prove_password(app, Shown { email: user.email.clone(), password: current, code: None }, client)
        .await?;
    let hash = app.passwords.hash(new).await?;
    let entry =
        events::done(caller, events::PASSWORD_CHANGED, "own", Resource::new("user", user.id), json!(null));
    let account = attempts::account(&app.config, &user.email);
    app.database
        .write(move |tx| {
            Box::pin(async move {
                store::set_password(tx, user.id, hash.expose_secret()).await?;
                session_rows::delete_others(tx, user.id, session).await?;
                link_rows::delete_of_user(tx, user.id).await?;
                attempt_rows::delete(tx, &account).await?;
                audit::add(tx, &entry).await
            })
        })
        .await
        .map_err(Error::Store)?;
    app.sessions.forget_all();
    Ok(())
}

/// Goes to another tenant of the caller's, in the same session.
async fn change_tenant(app: &App, caller: &Caller, tenant: TenantId) -> Result<Me, Error> {
    let session = sessions::of_oneself(caller)?;
    if !store::is_member(app.database.read(), tenant, caller.user).await? {
        return Err(Error::NotFound);
    }
    let user = caller.user;
    let there = super::authenticate::of_session(app, session, user, tenant, None).await?;
    let details = json!({ "from": caller.tenant, "to": tenant });
    let entry =
        events::done(&there, events::TENANT_CHANGED, "own", Resource::new("session", session), details);
    app.database
        .write(move |tx| {
            Box::pin(async move {
                session_rows::set_tenant(tx, session, tenant).await?;
                store::set_last_tenant(tx, user, tenant).await?;
                audit::add(tx, &entry).await
            })
        })
        .await
        .map_err(Error::Store)?;
    app.sessions.forget_all();
    of(app, &there).await
}
