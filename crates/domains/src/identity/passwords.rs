//! Passwords: what may be one, its hash (argon2id), and the check of one.
//!
//! Hashing is slow and takes memory by intent, so few are hashed at once, beside the server's other work.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use platform::secrets;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OnceCell, Semaphore};

use super::Error;

const CHARS_MIN: usize = 10;
const BYTES_MAX: usize = 1024;
/// Passwords hashed at once: each takes 19 MiB and a core.
const AT_ONCE: usize = 2;
/// Passwords that may wait for their turn. Past it the answer is 503, so that a flood takes no memory.
const WAITING_MAX: usize = 64;

#[derive(Debug)]
pub struct Passwords {
    work: Arc<Semaphore>,
    room: Arc<Semaphore>,
    /// The hash of nobody's password, to be checked where there is no account: that takes the same time.
    dummy: OnceCell<SecretString>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            work: Arc::new(Semaphore::new(AT_ONCE)),
            room: Arc::new(Semaphore::new(WAITING_MAX)),
            dummy: OnceCell::new(),
        }
    }
}

impl Passwords {
    pub(super) async fn hash(&self, password: SecretString) -> Result<SecretString, Error> {
        self.slowly(move || {
            // Version 19, 19 MiB, 2 passes, a random salt: the library's defaults, and OWASP's.
            let hash = Argon2::default().hash_password(password.expose_secret().as_bytes());
            hash.map(|hash| SecretString::from(hash.to_string())).map_err(|error| error.to_string())
        })
        .await
    }

    /// Whether the password has this hash. Without a hash it has not, and the answer takes as long.
    pub(super) async fn matches(
        &self,
        password: SecretString,
        hash: Option<SecretString>,
    ) -> Result<bool, Error> {
        let dummy = self.dummy.get_or_try_init(|| self.hash(secrets::random_token())).await?;
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| dummy.clone());
        let equal = self
            .slowly(move || {
                let parsed = PasswordHash::new(hash.expose_secret()).map_err(|error| error.to_string())?;
                Ok(Argon2::default().verify_password(password.expose_secret().as_bytes(), &parsed).is_ok())
            })
            .await?;
        Ok(known && equal)
    }

    async fn slowly<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, Error> {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Error::Busy)?;
        let turn = Arc::clone(&self.work).acquire_owned().await.map_err(|_| Error::Busy)?;
        // Its places go with the work: it goes on though whoever asked has gone away.
        let work = tokio::task::spawn_blocking(move || {
            let done = work();
            drop((room, turn));
            done
        });
        work.await.map_err(|error| Error::Hashing(error.to_string()))?.map_err(Error::Hashing)
    }
}

/// A password to be: neither short nor endless, and not the address itself.
pub(super) fn checked_new(field: &'static str, password: &SecretString, email: &str) -> Result<(), Error> {
    checked(field, password)?;
    let text = password.expose_secret();
    if text.chars().count() < CHARS_MIN || text.eq_ignore_ascii_case(email) {
        let problem = format!("expected at least {CHARS_MIN} characters, and not the address itself");
        return Err(Error::Invalid(field, problem));
    }
    Ok(())
}

/// A password that somebody gives: not so long that hashing it would be work.
pub(super) fn checked(field: &'static str, password: &SecretString) -> Result<(), Error> {
    if password.expose_secret().len() > BYTES_MAX {
        return Err(Error::Invalid(field, format!("expected at most {BYTES_MAX} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_argon2id_salted_and_fits_its_password_alone() {
        let passwords = Passwords::default();
        let password = || SecretString::from("correct horse battery");
        let (first, second) =
            (passwords.hash(password()).await.unwrap(), passwords.hash(password()).await.unwrap());
        assert!(first.expose_secret().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(first.expose_secret(), second.expose_secret());
        assert!(passwords.matches(password(), Some(first.clone())).await.unwrap());
        assert!(!passwords.matches("correct horse batterz".into(), Some(first)).await.unwrap());
        assert!(!passwords.matches(password(), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_check_that_nobody_waits_for_any_more_keeps_its_place_until_it_is_done() {
        let passwords = Passwords::default();
        let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let work = passwords.slowly(move || {
            begun.send(()).map_err(|()| String::new())?;
            goes_on.recv().map_err(|error| error.to_string())
        });
        tokio::select! {
            _ = work => unreachable!("it is not let go on"),
            begun = begins => begun.unwrap(),
        }
        let places = || (passwords.work.available_permits(), passwords.room.available_permits());
        assert_eq!(places(), (AT_ONCE - 1, WAITING_MAX - 1));

        go_on.send(()).unwrap();

        drop(passwords.work.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap());
        assert_eq!(places(), (AT_ONCE, WAITING_MAX));
    }

    #[test]
    fn a_password_has_bounds() {
        let new = |text: &str| checked_new("password", &text.to_owned().into(), "ada@example.org").is_ok();
        assert!(new("ten chars!"));
        assert!(new(&"\u{1f600}".repeat(10)));
        assert!(!new("nine char"));
        assert!(!new("Ada@Example.Org"));
        assert!(new(&"x".repeat(1024)));
        assert!(!new(&"x".repeat(1025)));
    }
}
