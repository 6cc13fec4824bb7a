//! Watches over what was read from Vault: renews, looks again, and ends the program before it would go on with what it
//! has no right to any more.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{Error, Session};

/// How often the server is asked whether all still stands: what is taken back counts by then.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// The same while it can't be asked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// What the program may take to end. It begins so long before the secrets' time is over.
const ENDING: Duration = Duration::from_secs(25);

/// Whether what was read from Vault stands, for readiness. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<RwLock<Option<&'static str>>>);

impl Standing {
    /// What is wrong, if something is.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, problem: Option<&'static str>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

impl Session {
    /// Watches until `stop`. When the secrets' time is over, or they were taken back, `stop` is cancelled and the answer
    /// is why.
    pub async fn watch(mut self, standing: Standing, stop: CancellationToken) -> Result<(), Error> {
        let mut pause = self.pause();
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let looked = self.look().await;
            let known = standing.problem().is_none();
            standing.set(looked.as_ref().err().map(Error::for_anybody));
            let over = match looked {
                Ok(()) => self.is_over().then_some(Error::Over),
                Err(error) if error.is_final() => Some(error),
                Err(error) => {
                    if known {
                        tracing::warn!(%error, "whether the secrets from Vault still stand is not known");
                    }
                    self.is_over().then_some(Error::Over)
                }
            };
            if let Some(error) = over {
                tracing::error!(%error, "this program has no right to its secrets any more, and ends");
                stop.cancel();
                return Err(error);
            }
            pause = if standing.problem().is_some() { LOOK_AGAIN } else { self.pause() };
        }
        Ok(())
    }

    /// Often enough that a short token is renewed in time.
    fn pause(&self) -> Duration {
        if self.lifetime.is_zero() { LOOK_EVERY } else { LOOK_EVERY.min(self.lifetime / 6) }
    }

    fn is_over(&self) -> bool {
        // What lasts no longer than the program takes to end gives a part of its time for it.
        let ending = if self.lifetime.is_zero() { ENDING } else { ENDING.min(self.lifetime / 4) };
        [self.token.ends, self.secret.ends].into_iter().flatten().any(|ends| ends <= Instant::now() + ending)
    }

    async fn look(&mut self) -> Result<(), Error> {
        if !self.renewed().await? {
            // The end of what renewals give, or of a token that has none: a login gives a new one.
            self.token = self.client.log_in().await?;
            self.bearer.set(self.token.value.clone());
            self.lifetime = self.lifetime.max(self.token.lifetime);
        }
        let secret = self.client.read(&self.token).await?;
        if secret.version == self.secret.version {
            self.secret.ends = secret.ends;
        }
        if secret.version != self.newest {
            self.newest = secret.version;
            tracing::warn!("the secret in Vault has changed: its settings count from the next start");
        }
        Ok(())
    }

    /// Whether the token is good for a while to come.
    async fn renewed(&mut self) -> Result<bool, Error> {
        let asked = if self.token.renewable {
            self.client.renew(&self.token).await.map(|ends| self.token.ends = ends)
        } else {
            self.client.check(&self.token).await
        };
        match asked {
            Ok(()) => Ok(self.token.ends.is_none_or(|ends| ends > Instant::now() + self.lifetime / 2)),
            Err(Error::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
