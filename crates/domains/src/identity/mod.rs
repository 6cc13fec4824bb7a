//! Identity: who is known, how they prove who they are, and what proves it afterwards.
//!
//! Users are global; a membership carries the tenant. A person signs in, by a password and a code of an authenticator, and
//! then has a session; a program has an API key. Either is one user in one tenant: its rights are the roles held there.
//! Of passwords, tokens, links and codes only hashes are stored.

mod attempts;
mod authenticate;
mod error;
mod events;
mod impersonation;
mod invitations;
mod keys;
mod links;
mod mail;
mod me;
mod oidc;
mod passwords;
mod reencrypt;
mod sessions;
mod sign_in;
mod store;
mod totp;
mod users;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

pub(crate) use attempts::Addresses;
pub use authenticate::{Authenticated, is_guarded, require_caller};
pub(crate) use authenticate::{Sessions, admitted, service_account};
pub use error::Error;
pub use keys::{NewKey, create_key_for_email, issue_key};
pub use links::{NewLink, issue_link_for_email};
pub(crate) use mail::Mail;
pub use oidc::Provider;
pub(crate) use passwords::Passwords;
pub use reencrypt::{Reencrypted, reencrypt};
pub use users::{create_admin, ensure_user};
pub(crate) use users::{email_of, ensure_person, is_member, join};

use crate::{App, Domain};

pub(crate) const DOMAIN: Domain = Domain {
    name: "identity",
    prefixes: &[
        "/api/v2/auth",
        "/api/v2/me",
        "/api/v2/users",
        "/api/v2/invitations",
        "/api/v2/service-accounts",
        "/api/v2/api-keys",
    ],
    routes,
    migrations: store::MIGRATIONS,
};

fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .merge(sign_in::routes())
        .merge(oidc::routes())
        .merge(links::routes())
        .merge(me::routes())
        .merge(users::routes())
        .merge(invitations::routes())
        .merge(keys::routes())
}
