//! Encrypts anew, by today's key, what the database keeps encrypted, so that earlier keys may go.

use platform::{config::Config, database::Database};

use super::{Error, store::encrypted::Column};

/// Rows in one look.
const PAGE: i64 = 100;

/// What became of the rows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reencrypted {
    pub done: u64,
    /// No key of today's made them: they are left as they are.
    pub unreadable: u64,
}

/// Safe beside running processes, and to be repeated.
pub async fn reencrypt(config: &Config, database: &Database) -> Result<Reencrypted, Error> {
    let mut all = Reencrypted::default();
    for column in Column::ALL {
        let mut after = String::new();
        loop {
            let page = column.page(database.read(), &after, PAGE).await.map_err(Error::Store)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (id, old) in page {
                let Some(plain) = config.keys.decrypt(&old).await? else {
                    all.unreadable += 1;
                    continue;
                };
                let new = config.keys.encrypt(secrecy::ExposeSecret::expose_secret(&plain)).await?;
                let replaced = database
                    .write(move |tx| Box::pin(async move { column.replace(tx, &id, &old, &new).await }));
                all.done += replaced.await.map_err(Error::Store)?;
            }
        }
    }
    Ok(all)
}
