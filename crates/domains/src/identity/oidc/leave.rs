//! Leaving: here and at the provider, or because the provider says that somebody's stay there has ended.

use axum::http::HeaderMap;
use contracts::{Credential, policy::Resource};
use platform::database::Error as StoreError;
use serde_json::json;
use url::Url;

use super::{provider::Provider, sign_in::base};
use crate::{
    App, audit,
    identity::{
        Error, authenticate, events, sessions,
        store::{oidc as store, sessions as session_rows},
    },
};

/// Ends the session of the cookie. Where it was begun at the provider: the address at which the browser ends its stay
/// there too.
pub(super) async fn sign_out(
    app: &App,
    provider: &Provider,
    headers: &HeaderMap,
) -> Result<Option<Url>, Error> {
    let Some(caller) = authenticate::by_cookie(app, headers).await? else { return Ok(None) };
    let Credential::Session(id) = caller.credential else { return Ok(None) };
    let sealed = store::sealed_token(app.database.read(), &provider.oidc.issuer, id).await?;
    sessions::close(app, caller, id).await?;
    let Some(sealed) = sealed else { return Ok(None) };
    // They are signed out here, whether or not the provider can be told.
    let Ok(Some(token)) = app.config.keys.decrypt(&sealed).await else { return Ok(None) };
    Ok(provider.end_session_url(&token, &format!("{}/", base(&app.config))).await)
}

/// Ends the sessions that follow what the provider says has ended (OpenID Connect Back-Channel Logout 1.0).
pub(super) async fn provider_says(app: &App, provider: &Provider, logout_token: &str) -> Result<(), Error> {
    let ended = provider.logout_token(logout_token).await?;
    let issuer = provider.oidc.issuer.clone();
    app.database
        .write(move |tx| {
            Box::pin(async move {
                let (subject, session) = (ended.subject.as_deref(), ended.session.as_deref());
                for (id, user, tenant) in store::following(tx, &issuer, subject, session).await? {
                    session_rows::delete(tx, id).await?;
                    let who = events::at_the_door(tenant, user);
                    let on = Resource::new("session", id);
                    let entry = events::done(&who, events::SIGNED_OUT, "oidc_provider", on, json!(null));
                    audit::add(tx, &entry).await?;
                }
                Ok::<_, StoreError>(())
            })
        })
        .await
        .map_err(Error::Store)?;
    app.sessions.forget_all();
    Ok(())
}
