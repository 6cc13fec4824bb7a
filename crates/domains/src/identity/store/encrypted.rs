//! What is encrypted in the database, for encrypting it anew: secrets of authenticators, and ID tokens of sessions that were
//! begun at a provider.

use platform::{
    database::{Error, Sql, Tx},
    params,
};

#[derive(Debug, Clone, Copy)]
pub(in crate::identity) enum Column {
    Authenticators,
    ProviderTokens,
}

impl Column {
    pub(in crate::identity) const ALL: [Self; 2] = [Self::Authenticators, Self::ProviderTokens];

    /// Rows after that one: whose it is, and the encrypted text.
    pub(in crate::identity) async fn page(
        self,
        connection: &impl Sql,
        after: &str,
        limit: i64,
    ) -> Result<Vec<(String, String)>, Error> {
        let sql = match self {
            Self::Authenticators => {
                "SELECT user_id AS id, sealed FROM totp_devices WHERE user_id > $1 ORDER BY user_id LIMIT $2"
            }
            Self::ProviderTokens => {
                "SELECT id, provider_token AS sealed FROM sessions
                 WHERE provider_token IS NOT NULL AND id > $1 ORDER BY id LIMIT $2"
            }
        };
        let rows = connection.all(sql, params![after, limit]).await?;
        rows.iter().map(|row| Ok((row.text("id")?, row.text("sealed")?))).collect()
    }

    /// Unless it has changed meanwhile.
    pub(in crate::identity) async fn replace(
        self,
        tx: &Tx,
        id: &str,
        old: &str,
        new: &str,
    ) -> Result<u64, Error> {
        let sql = match self {
            Self::Authenticators => "UPDATE totp_devices SET sealed = $1 WHERE user_id = $2 AND sealed = $3",
            Self::ProviderTokens => {
                "UPDATE sessions SET provider_token = $1 WHERE id = $2 AND provider_token = $3"
            }
        };
        tx.run(sql, params![new, id, old]).await
    }
}
