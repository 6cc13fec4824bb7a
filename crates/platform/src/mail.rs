//! Mail, by the one SMTP server that the operator names. No address that comes from anywhere else is connected to.

use std::{fmt, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};
use secrecy::{ExposeSecret, SecretString};

use crate::config;

/// Longest wait for the server, at each step of a delivery.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest delivery in all.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the mail server's address can't be used: {0}")]
    Address(lettre::transport::smtp::Error),
    #[error("the letter can't be written: {0}")]
    Letter(String),
    #[error("the mail server did not take the letter: {0}")]
    Refused(lettre::transport::smtp::Error),
    #[error("the mail server did not answer in time")]
    Slow,
}

/// A letter to one person, as plain text.
#[derive(Debug)]
pub struct Letter {
    pub to: String,
    pub subject: String,
    /// Holds a link that signs somebody in.
    pub text: SecretString,
}

#[derive(Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Mailer {
    pub fn new(settings: &config::Mail) -> Result<Self, Error> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(settings.url.expose_secret());
        let transport = builder.map_err(Error::Address)?.timeout(Some(STEP_TIMEOUT)).build();
        Ok(Self { transport, from: settings.from.clone() })
    }

    /// Returns when the server has taken the letter.
    pub async fn send(&self, letter: Letter) -> Result<(), Error> {
        let to: Mailbox = letter.to.parse().map_err(|_| Error::Letter("the address is none".into()))?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(letter.subject)
            .message_id(Some(format!("<{}@{}>", uuid::Uuid::now_v7(), self.from.email.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(letter.text.expose_secret().to_owned())
            .map_err(|error| Error::Letter(error.to_string()))?;
        match tokio::time::timeout(SEND_TIMEOUT, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Error::Refused(error)),
            Err(_) => Err(Error::Slow),
        }
    }
}
