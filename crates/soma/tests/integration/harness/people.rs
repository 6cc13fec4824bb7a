//! Users, tenants and keys beside the administrator, made as an operator would: on the database of a running server.

use contracts::{TenantId, UserId};
use domains::{
    agents,
    identity::{self, NewKey},
    tenants::{self, NewTenant},
};
use platform::database::Database;
use secrecy::ExposeSecret;

use serde_json::json;

use super::{Api, Server, text};

/// The password of every person here.
pub const PASSWORD: &str = "correct horse battery";

impl Server {
    pub async fn database(&self) -> Database {
        domains::open_database(&self.config()).await.expect("the database opens")
    }

    pub async fn default_tenant(&self) -> TenantId {
        tenants::default_tenant(&self.database().await).await.expect("the default tenant")
    }

    /// A user of the default tenant with these roles.
    pub async fn user(&self, email: &str, roles: &'static [&'static str]) -> UserId {
        let database = self.database().await;
        let tenant = tenants::default_tenant(&database).await.expect("the default tenant");
        identity::ensure_user(&database, email, tenant, roles, false).await.expect("a user")
    }

    /// A one-time link for a user, as the operator prints it; its token.
    pub fn link(&self, email: &str) -> String {
        let output = self.run(&["admin", "link", "--email", email]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let link = text(&output.stdout);
        link.trim().split_once("/link#").expect("a link").1.to_owned()
    }

    /// A person of the default tenant with a password, signed in.
    pub async fn person(&self, email: &str, roles: &'static [&'static str]) -> Api {
        self.user(email, roles).await;
        let body = json!({ "token": self.link(email), "password": PASSWORD });
        let api = self.api().without_key();
        let redeemed = api.post("/api/v2/auth/links/redeem", body).await;
        api.in_session(&redeemed)
    }

    /// The same, with a key that has no limits of its own.
    pub async fn member(&self, email: &str, roles: &'static [&'static str]) -> Api {
        let user = self.user(email, roles).await;
        self.api().with_key(&self.key(self.default_tenant().await, user, NewKey::default()).await)
    }

    pub async fn key(&self, tenant: TenantId, user: UserId, new: NewKey) -> String {
        let key = identity::issue_key(&self.config(), &self.database().await, tenant, user, new).await;
        key.expect("a key").expose_secret().to_owned()
    }

    /// The owner of another tenant, which has an agent `default` too.
    pub async fn stranger(&self) -> Api {
        let database = self.database().await;
        let new = NewTenant { slug: "elsewhere".into(), name: "Elsewhere".into() };
        let tenant = tenants::create(&database, new).await.expect("a tenant");
        agents::ensure_default(&database, tenant).await.expect("an agent");
        let roles = &["tenant_admin", "billing_admin"];
        let user = identity::ensure_user(&database, "eve@example.org", tenant, roles, false).await;
        self.api().with_key(&self.key(tenant, user.expect("a user"), NewKey::default()).await)
    }
}
