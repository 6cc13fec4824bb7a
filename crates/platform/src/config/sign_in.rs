//! The settings of signing in: how long it lasts, and where people come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lettre::message::Mailbox;
use secrecy::SecretString;
use url::{Host, Url};

use super::read::Reader;

/// How people sign in.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// Where people reach this install; what links begin with.
    pub public_url: Url,
    /// A session without a request for this long has ended.
    pub session_idle_ms: i64,
    /// A session that began this long ago has ended.
    pub session_max_ms: i64,
    /// Absent where no mail is sent.
    pub mail: Option<Mail>,
}

/// The mail server, and whom letters are from.
#[derive(Debug, Clone)]
pub struct Mail {
    /// With the account's name and password.
    pub url: SecretString,
    pub from: Mailbox,
}

impl Reader<'_> {
    pub(super) fn sign_in(&mut self, listen: SocketAddr, tls: bool) -> Option<SignIn> {
        let public_url = self.public_url(listen, tls);
        let session_idle_ms = self.lifetime_ms("SA01_SESSION_IDLE");
        let session_max_ms = self.lifetime_ms("SA01_SESSION_MAX");
        let mail = self.mail();
        Some(SignIn {
            public_url: public_url?,
            session_idle_ms: session_idle_ms?,
            session_max_ms: session_max_ms?,
            mail,
        })
    }

    /// Milliseconds of a setting in seconds.
    fn lifetime_ms(&mut self, name: &str) -> Option<i64> {
        let expected = "expected a number of seconds, at least 1";
        let seconds = self.parsed::<u32>(name, expected)?;
        if seconds == 0 {
            self.fault(name, expected);
            return None;
        }
        Some(i64::from(seconds) * 1000)
    }

    fn mail(&mut self) -> Option<Mail> {
        const NAME: &str = "SA01_SMTP_URL";
        let url = self.text(NAME)?;
        let from = self.text("SA01_MAIL_FROM").and_then(|from| from.parse::<Mailbox>().ok());
        if from.is_none() {
            self.fault("SA01_MAIL_FROM", "is needed with SA01_SMTP_URL, as in `Agents <agents@example.org>`");
        }
        let parsed = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "smtp" | "smtps"));
        let Some(parsed) = parsed.filter(|url| url.host().is_some()) else {
            self.fault(
                NAME,
                "expected smtps://HOST or smtp://HOST?tls=required, with USER:PASSWORD@ before it",
            );
            return None;
        };
        let encrypted = parsed.scheme() == "smtps"
            || parsed.query_pairs().any(|(name, value)| name == "tls" && value == "required");
        if !encrypted && !is_here(&parsed) {
            self.fault(
                NAME,
                "would send links and a password unencrypted: use smtps://, or add ?tls=required",
            );
            return None;
        }
        Some(Mail { url: url.into(), from: from? })
    }

    fn public_url(&mut self, listen: SocketAddr, tls: bool) -> Option<Url> {
        const NAME: &str = "SA01_PUBLIC_URL";
        let given = self.text(NAME);
        let text = given.unwrap_or_else(|| {
            let scheme = if tls { "https" } else { "http" };
            format!("{scheme}://{}", reachable(listen))
        });
        let url = Url::parse(&text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.host().is_some()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        if url.is_none() {
            self.fault(NAME, "expected an http(s) URL without user, query or fragment");
        }
        url
    }
}

/// An address by which this machine reaches what listens on `listen`: a server on all addresses is on loopback too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Whether a server is on this machine: what goes there crosses no network.
fn is_here(url: &Url) -> bool {
    match url.host_str().map(Host::parse) {
        Some(Ok(Host::Domain(name))) => name == "localhost",
        Some(Ok(Host::Ipv4(ip))) => ip.is_loopback(),
        Some(Ok(Host::Ipv6(ip))) => ip.is_loopback(),
        _ => false,
    }
}
