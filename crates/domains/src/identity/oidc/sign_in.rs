//! Beginning a sign-in at the provider, taking its answer, and letting in who comes with it.

use axum::http::{HeaderMap, HeaderValue};
use contracts::{Caller, TenantId, UserId, policy::Resource};
use platform::{config::Config, database::Tx, durable::unix_ms};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{
    claims::Person,
    pending::Pending,
    provider::{Answered, Asked, Provider},
};
use crate::{
    App, audit,
    identity::{
        Error,
        authenticate::Client,
        events, sessions,
        sessions::How,
        store::{
            keys as key_rows, links as link_rows, oidc as store, sessions as session_rows, users as user_rows,
        },
        users,
    },
    permissions, tenants,
};

const CALLBACK: &str = "/api/v2/auth/oidc/callback";
/// Longest local path to come back to: it travels in a cookie.
const RETURN_TO_BYTES_MAX: usize = 1024;
const HOME: &str = "/";

/// What the provider sent the browser back with (RFC 6749, 4.1.2; RFC 9207).
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Answer {
    pub state: Option<String>,
    pub code: Option<String>,
    /// The issuer, where the provider says it.
    pub iss: Option<String>,
    pub error: Option<String>,
}

/// Where the browser goes to sign in, and the cookie with which it comes back.
pub(super) async fn begin(
    app: &App,
    provider: &Provider,
    return_to: Option<&str>,
    client: &Client,
) -> Result<(Url, HeaderValue), Error> {
    let return_to = return_to.filter(|path| is_local(path)).unwrap_or(HOME);
    let pending = Pending::new(return_to.to_owned());
    let asked = Asked {
        redirect_uri: &redirect_uri(&app.config),
        state: pending.state(),
        nonce: &pending.nonce,
        challenge: &pending.challenge(),
    };
    let url = provider.authorization_url(&asked).await?;
    Ok((url, pending.cookie(&app.config, client).await?))
}

/// The session's cookie, and the path that the person wanted.
pub(super) async fn finish(
    app: &App,
    provider: &Provider,
    answer: Answer,
    headers: &HeaderMap,
    client: &Client,
) -> Result<(HeaderValue, String), Error> {
    app.addresses.count(client.ip)?;
    let state = answer.state.as_deref().unwrap_or_default();
    let pending = Pending::open(&app.config, headers, state).await?.ok_or(Error::SignInEnded)?;
    use_up(app, &pending).await?;
    if let Some(error) = answer.error {
        tracing::info!(
            error = error.chars().take(100).collect::<String>(),
            "a sign-in at the provider failed"
        );
        return Err(Error::NotSignedIn("it answered with an error"));
    }
    let says_issuer = provider.description().await?.authorization_response_iss_parameter_supported;
    if (says_issuer || answer.iss.is_some()) && answer.iss.as_deref() != Some(&provider.oidc.issuer) {
        return Err(Error::NotSignedIn("its answer is of another issuer"));
    }
    let code = answer.code.filter(|code| !code.is_empty());
    let code = code.ok_or(Error::NotSignedIn("it sent no code"))?;
    let answered = Answered {
        code: &code,
        redirect_uri: &redirect_uri(&app.config),
        verifier: &pending.verifier(),
        nonce: &pending.nonce,
    };
    let (person, id_token) = provider.exchange(&answered).await?;
    let cookie = admit(app, provider, person, &id_token, client).await?;
    Ok((cookie, pending.return_to))
}

/// One answer for each sign-in, even if it comes twice at once.
async fn use_up(app: &App, pending: &Pending) -> Result<(), Error> {
    let (hash, expires_at) = (pending.hash(&app.config), pending.expires_at);
    let first = app
        .database
        .write(move |tx| Box::pin(async move { store::use_state(tx, &hash, expires_at, unix_ms()).await }))
        .await
        .map_err(Error::Store)?;
    if first { Ok(()) } else { Err(Error::SignInEnded) }
}

/// Opens a session for somebody whom the provider vouches for. At their first sign-in they become a member of the
/// tenant; whoever was taken out of it since does not come back by themselves.
async fn admit(
    app: &App,
    provider: &Provider,
    person: Person,
    id_token: &SecretString,
    client: &Client,
) -> Result<HeaderValue, Error> {
    let oidc = &provider.oidc;
    let tenant = tenants::by_slug(app.database.read(), &oidc.tenant).await?;
    let (issuer, link_by_email) = (oidc.issuer.clone(), oidc.link_by_email);
    let catalogue = app.policy.catalogue();
    let names = oidc.roles_of(person.groups.iter().map(String::as_str));
    let mut roles: Vec<String> =
        names.iter().flat_map(|name| permissions::roles_named(catalogue, name)).collect();
    roles.sort_unstable();
    roles.dedup();
    let sealed_token = app.config.keys.encrypt(id_token.expose_secret()).await?;
    // The user is known only within the change.
    let draft = sessions::prepare(app, UserId::new(), tenant, How::Oidc, client);
    let outcome = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                let user = match store::user_of(tx, &issuer, &person.subject).await? {
                    Some(user) if user_rows::is_member(tx, tenant, user).await? => user,
                    Some(_) => return Err(Error::Conflict("no_tenant", NOT_A_MEMBER)),
                    None => match first_time(tx, &issuer, tenant, &person, link_by_email).await? {
                        Ok(user) => user,
                        Err(owner) => return Ok(Err(owner)),
                    },
                };
                let changed = permissions::set_roles_of_groups_in(tx, tenant, user, &roles).await?;
                if [&changed.given, &changed.withdrawn, &changed.kept].iter().any(|roles| !roles.is_empty()) {
                    let details = json!(changed);
                    note(tx, tenant, user, events::ROLES_OF_GROUPS, "oidc_groups", details).await?;
                }
                let opening = draft.for_user(user);
                sessions::open_in(tx, &opening).await?;
                let stay = store::Stay {
                    issuer: &issuer,
                    subject: &person.subject,
                    session: person.session.as_deref(),
                    sealed_token: &sealed_token,
                };
                store::set_stay(tx, opening.id(), &stay).await?;
                Ok(Ok(opening.cookie()))
            })
        })
        .await?;
    // Roles may have changed.
    app.sessions.forget_all();
    match outcome {
        Ok(cookie) => Ok(cookie),
        Err(owner) => {
            let who = events::at_the_door(tenant, owner);
            let on = Resource::new("user", owner);
            let entry = events::refused(&who, events::SIGN_IN_REFUSED, "oidc_not_linked", on, json!(null));
            audit::write(app, entry).await?;
            Err(Error::Conflict("account_exists", ACCOUNT_EXISTS))
        }
    }
}

const NOT_A_MEMBER: &str =
    "This account is no member here any more: ask an administrator to invite it again.";
const ACCOUNT_EXISTS: &str = "There is an account with this e-mail address here already, and it is not linked to the identity \
     provider: sign in with its password, or ask whoever runs this install to link accounts by address.";

/// Makes the user, or links the one that has the verified address, where that is allowed; else whose address it is.
async fn first_time(
    tx: &Tx,
    issuer: &str,
    tenant: TenantId,
    person: &Person,
    link_by_email: bool,
) -> Result<Result<UserId, UserId>, Error> {
    let email = person.email.as_deref().ok_or(Error::EmailNotVerified)?;
    let email = users::checked_email(email).map_err(|_| Error::EmailNotVerified)?;
    let now = unix_ms();
    let (user, action) = match user_rows::by_email(tx, &email).await? {
        // Somebody's second factor is not passed by because an address is the same.
        Some(known) if link_by_email && known.kind == users::Kind::Person && !known.totp => {
            if known.may_be_anothers() {
                shut_out(tx, known.id, now).await?;
            }
            (known.id, events::PROVIDER_LINKED)
        }
        Some(known) => return Ok(Err(known.id)),
        None => {
            let user = UserId::new();
            let name = users::checked_name(&person.name).unwrap_or_default();
            user_rows::insert(tx, user, &email, &name, users::Kind::Person, now).await?;
            (user, events::USER_MADE)
        }
    };
    user_rows::set_proven(tx, user, now).await?;
    store::insert(tx, issuer, &person.subject, user, now).await?;
    users::join(tx, tenant, user, &[]).await?;
    let details = json!({ "issuer": issuer, "subject": person.subject });
    note(tx, tenant, user, action, "oidc", details).await?;
    Ok(Ok(user))
}

/// Takes an account from whoever has it: they never showed that the address is theirs, and its owner has come.
async fn shut_out(tx: &Tx, user: UserId, now: i64) -> Result<(), Error> {
    user_rows::delete_password(tx, user).await?;
    session_rows::delete_of_user(tx, user).await?;
    link_rows::delete_of_user(tx, user).await?;
    key_rows::revoke_everywhere(tx, user, now).await?;
    Ok(())
}

async fn note(
    tx: &Tx,
    tenant: TenantId,
    user: UserId,
    action: &str,
    reason: &str,
    details: serde_json::Value,
) -> Result<(), Error> {
    let who: Caller = events::at_the_door(tenant, user);
    let entry = events::done(&who, action, reason, Resource::new("user", user), details);
    audit::add(tx, &entry).await.map_err(Error::Store)
}

fn redirect_uri(config: &Config) -> String {
    format!("{}{CALLBACK}", base(config))
}

/// What the public addresses of this install begin with.
pub(super) fn base(config: &Config) -> &str {
    config.sign_in.public_url.as_str().trim_end_matches('/')
}

/// A path of this server, which no browser takes for another's: browsers read `\` as `/`, and leave out what controls.
fn is_local(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && path.len() <= RETURN_TO_BYTES_MAX
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn one_comes_back_to_a_path_of_this_server_and_nowhere_else() {
        for good in ["/", "/c/1?x=//y", "/a#b", "/a//b"] {
            assert!(is_local(good), "{good}");
        }
        let long = format!("/{}", "a".repeat(1024));
        for bad in [
            "",
            "a",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "/\t/evil.example",
            "/a b",
            "/a\r\nset-cookie: x",
            "/é",
            "javascript:alert(1)",
            " /a",
            &long,
        ] {
            assert!(!is_local(bad), "{bad}");
        }
    }
}
