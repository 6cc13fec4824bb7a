//! The settings of the gateway: how it listens, whom it believes, and what it takes from a client.

use std::{str::FromStr, time::Duration};

use url::Url;

use super::{read::Reader, tls::TlsFiles};
use crate::http::{ProxyHeader, TrustedProxies};

/// A connection costs a file and some memory: beyond this it is a mistake.
const CONNECTIONS_MOST: usize = 1_000_000;
const SECONDS_MOST: u64 = 24 * 60 * 60;

/// Bounds of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub all_max: usize,
    pub per_address_max: usize,
    /// From the first byte of a request (or the connection's start) to the end of its head; a TLS handshake too.
    pub header_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of what is sent to it, or give nothing of a body that it sends.
    pub stall_timeout: Duration,
    /// From a request's head to the head of its answer.
    pub request_timeout: Duration,
}

/// Requests a minute; `None` is without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Of one API key or session.
    pub key: Option<u32>,
    pub user: Option<u32>,
    pub tenant: Option<u32>,
    /// Of one address, without a valid credential.
    pub address: Option<u32>,
}

#[derive(Debug, Clone)]
pub struct Gateway {
    pub tls: Option<TlsFiles>,
    pub trusted_proxies: TrustedProxies,
    /// Origins, as a browser names them, whose pages may read answers.
    pub cors_origins: Vec<String>,
    pub connections: ConnectionLimits,
    pub rates: RateLimits,
}

impl Reader<'_> {
    pub(super) fn gateway(&mut self) -> Option<Gateway> {
        let tls = self.tls_files("SA01_TLS");
        let proxies = self.text("SA01_TRUSTED_PROXIES").unwrap_or_default();
        let trusted_proxies = match TrustedProxies::from_str(&proxies) {
            Ok(proxies) => Some(proxies),
            Err(entry) => {
                let problem = format!("`{entry}` is no network: expected addresses or CIDR, comma-separated");
                self.fault("SA01_TRUSTED_PROXIES", problem);
                None
            }
        };
        let header = self.text("SA01_PROXY_HEADER").unwrap_or_else(|| "x-forwarded-for".to_owned());
        let header = match header.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Some(ProxyHeader::XForwardedFor),
            "forwarded" => Some(ProxyHeader::Forwarded),
            _ => {
                self.fault("SA01_PROXY_HEADER", "expected `x-forwarded-for` or `forwarded`");
                None
            }
        };
        let cors_origins = self.origins();
        let connections = self.connections();
        let rates = self.rates();
        Some(Gateway {
            tls,
            trusted_proxies: trusted_proxies?.that_write(header?),
            cors_origins: cors_origins?,
            connections: connections?,
            rates: rates?,
        })
    }

    fn origins(&mut self) -> Option<Vec<String>> {
        let text = self.text("SA01_CORS_ORIGINS").unwrap_or_default();
        let mut origins = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let origin = Url::parse(entry).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let origin = origin.map(|url| url.origin().ascii_serialization());
            if origin.as_deref() != Some(entry) {
                let problem = format!(
                    "`{entry}` is no origin: expected them as browsers write them, as in https://app.example.org, \
                     comma-separated; there is no wildcard"
                );
                self.fault("SA01_CORS_ORIGINS", problem);
                return None;
            }
            origins.push(entry.to_owned());
        }
        Some(origins)
    }

    fn connections(&mut self) -> Option<ConnectionLimits> {
        let all_max = self.connection_count("SA01_CONNECTIONS_MAX");
        let per_address_max = self.connection_count("SA01_CONNECTIONS_PER_ADDRESS");
        let header_timeout = self.seconds("SA01_HEADER_TIMEOUT");
        let idle_timeout = self.seconds("SA01_IDLE_TIMEOUT");
        let stall_timeout = self.seconds("SA01_STALL_TIMEOUT");
        let request_timeout = self.seconds("SA01_REQUEST_TIMEOUT");
        Some(ConnectionLimits {
            all_max: all_max?,
            per_address_max: per_address_max?,
            header_timeout: header_timeout?,
            idle_timeout: idle_timeout?,
            stall_timeout: stall_timeout?,
            request_timeout: request_timeout?,
        })
    }

    fn connection_count(&mut self, name: &str) -> Option<usize> {
        let count = self.parsed::<usize>(name, "expected a whole number")?;
        if !(1..=CONNECTIONS_MOST).contains(&count) {
            self.fault(name, format!("expected 1 to {CONNECTIONS_MOST}"));
            return None;
        }
        Some(count)
    }

    fn seconds(&mut self, name: &str) -> Option<Duration> {
        let seconds = self.parsed::<u64>(name, "expected a whole number of seconds")?;
        if !(1..=SECONDS_MOST).contains(&seconds) {
            self.fault(name, format!("expected 1 to {SECONDS_MOST} seconds"));
            return None;
        }
        Some(Duration::from_secs(seconds))
    }

    fn rates(&mut self) -> Option<RateLimits> {
        let key = self.rate("SA01_RATE_LIMIT_KEY");
        let user = self.rate("SA01_RATE_LIMIT_USER");
        let tenant = self.rate("SA01_RATE_LIMIT_TENANT");
        let address = self.rate("SA01_RATE_LIMIT_ADDRESS");
        Some(RateLimits { key: key?, user: user?, tenant: tenant?, address: address? })
    }

    /// `Some(None)` is the setting 0.
    #[expect(clippy::option_option, reason = "a fault, no limit, and a limit are three things")]
    fn rate(&mut self, name: &str) -> Option<Option<u32>> {
        let number =
            self.parsed::<u32>(name, "expected a whole number of requests a minute; 0 is no limit")?;
        Some((number > 0).then_some(number))
    }
}
