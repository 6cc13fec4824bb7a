//! Signing in at an identity provider, by OpenID Connect: authorization code with PKCE. Its access tokens are taken by the
//! API too, where the operator says what they must be meant for.
//!
//! What a token says is believed only after its signature and every rule about its kind were checked ([`token`],
//! [`claims`]). No token makes this server call anything that the provider's own description does not name.

mod api;
mod claims;
mod kept;
mod keys;
mod leave;
mod pending;
mod provider;
mod sign_in;
#[cfg(test)]
mod tests;
mod token;

use axum::http::StatusCode;
use contracts::{TenantId, UserId, policy::Scope};
use platform::{config::Oidc, egress::Egress, http::Problem, policy::Catalogue};

pub(super) use api::routes;
pub use provider::{Error as ProviderError, Provider};

use super::store::{oidc as store, users as user_rows};
use crate::{App, BuildError, permissions, tenants};

impl Provider {
    /// The provider of an app: refuses a group that would give what is no role of a tenant.
    pub(crate) fn for_app(oidc: Oidc, egress: &Egress, catalogue: &Catalogue) -> Result<Self, BuildError> {
        for role in oidc.group_roles.values().flatten() {
            let names = permissions::roles_named(catalogue, role);
            let of_tenants =
                |name: &String| catalogue.roles.get(name).is_some_and(|role| role.scope == Scope::Tenant);
            if names.is_empty() || !names.iter().all(of_tenants) {
                return Err(BuildError::GroupRole(role.clone()));
            }
        }
        Ok(Self::new(oidc, egress)?)
    }

    /// What people know it as.
    pub(super) fn name(&self) -> &str {
        &self.oidc.name
    }
}

impl From<ProviderError> for Problem {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Refused(_) | ProviderError::Rejected(_) => {
                tracing::warn!(%error, "a token or a code of the identity provider was refused");
                let detail = "What came from the identity provider was refused. Begin again; this server's log says why.";
                Self::new(StatusCode::FORBIDDEN, "provider_refused", detail)
            }
            ProviderError::Unreachable(_)
            | ProviderError::TimedOut
            | ProviderError::TooSoon
            | ProviderError::Unusable(_) => {
                tracing::error!(%error, "the identity provider can't be used");
                let detail = "The identity provider can't be used now. Try again in a moment; this server's log says why.";
                Self::unavailable("provider_unavailable", detail)
            }
        }
    }
}

/// Whom an access token acts for: somebody who has signed in here before and still is a member. With the tenant, and
/// when the token ends, in milliseconds since 1970.
pub(super) async fn bearer(
    app: &App,
    provider: &Provider,
    token: &str,
) -> Result<(UserId, TenantId, i64), Problem> {
    let (subject, ends_at) = match provider.access_token(token).await {
        Ok(found) => found,
        Err(ProviderError::Refused(refused)) => {
            tracing::debug!(%refused, "an access token was refused");
            return Err(Problem::unauthenticated());
        }
        Err(error) => return Err(error.into()),
    };
    let connection = app.database.read();
    let user = store::user_of(connection, &provider.oidc.issuer, &subject).await?;
    let user = user.ok_or_else(Problem::unauthenticated)?;
    let tenant = tenants::by_slug(connection, &provider.oidc.tenant).await?;
    if !user_rows::is_member(connection, tenant, user).await? {
        return Err(Problem::unauthenticated());
    }
    Ok((user, tenant, ends_at.saturating_mul(1000)))
}
