//! Where the database is: a file of SQLite's, or a PostgreSQL server.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::postgres::READERS;

#[derive(Debug, Clone)]
pub enum Location {
    Sqlite(PathBuf),
    Postgres(Box<Postgres>),
}

/// A server, and a database on it.
#[derive(Debug, Clone)]
pub struct Postgres {
    host: String,
    port: u16,
    user: String,
    password: SecretString,
    name: String,
    tls: PgSslMode,
    root_certificate: Option<PathBuf>,
    /// Connections that a process reads by, at most.
    pub(super) readers: u32,
}

const PORT: u16 = 5432;
const FORM: &str = "expected sqlite://PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME";

impl FromStr for Location {
    type Err = String;

    /// A connection string; what is wrong with it is told without its password.
    fn from_str(dsn: &str) -> Result<Self, String> {
        if let Some(path) = dsn.strip_prefix("sqlite://").filter(|path| !path.is_empty()) {
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        let url = Url::parse(dsn).map_err(|_| FORM)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(FORM.to_owned());
        }
        Postgres::parse(&url).map(|postgres| Self::Postgres(Box::new(postgres)))
    }
}

impl Location {
    /// The same, read by so many connections of a process at most where it is a server.
    #[must_use]
    pub fn with_readers(mut self, readers: u32) -> Self {
        if let Self::Postgres(server) = &mut self {
            server.readers = readers;
        }
        self
    }
}

impl Postgres {
    fn parse(url: &Url) -> Result<Self, String> {
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(FORM)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let user = decoded(url.username())?;
        let password = SecretString::from(decoded(url.password().unwrap_or_default())?);
        let name = decoded(url.path().trim_start_matches('/'))?;
        if user.is_empty() || name.is_empty() || name.contains('/') {
            return Err(FORM.to_owned());
        }
        let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        // What leaves this machine is encrypted, to a server that has proved who it is, unless the setting says otherwise.
        let mut tls = if here { PgSslMode::Disable } else { PgSslMode::VerifyFull };
        let mut root_certificate = None;
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "sslmode" => {
                    tls = match value.as_ref() {
                        "disable" => PgSslMode::Disable,
                        "require" => PgSslMode::Require,
                        "verify-ca" => PgSslMode::VerifyCa,
                        "verify-full" => PgSslMode::VerifyFull,
                        _ => {
                            return Err("sslmode: expected disable, require, verify-ca or verify-full".into());
                        }
                    };
                }
                "sslrootcert" => root_certificate = Some(PathBuf::from(value.as_ref())),
                _ => return Err("expected no parameters but sslmode and sslrootcert".into()),
            }
        }
        let port = url.port().unwrap_or(PORT);
        Ok(Self { host, port, user, password, name, tls, root_certificate, readers: READERS })
    }

    /// How a connection is made; everything that the driver would take from its own environment variables is said.
    pub(crate) fn options(&self) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .password(self.password.expose_secret())
            .database(&self.name)
            .application_name("soma")
            .ssl_mode(self.tls)
            // A machine that is gone says no goodbye: the server frees what its connections have locked.
            .options([
                ("tcp_keepalives_idle", "10"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
            ]);
        match &self.root_certificate {
            Some(file) => options.ssl_root_cert(file),
            None => options,
        }
    }
}

fn decoded(text: &str) -> Result<String, String> {
    Ok(percent_decode_str(text).decode_utf8().map_err(|_| FORM)?.into_owned())
}

/// For people: nothing secret.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(at) => write!(f, "postgresql://{}:{}/{}", at.host, at.port, at.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(dsn: &str) -> Postgres {
        match dsn.parse().unwrap() {
            Location::Postgres(at) => *at,
            Location::Sqlite(path) => panic!("{}", path.display()),
        }
    }

    #[test]
    fn a_connection_string_says_all_and_nothing_else_is_taken_for_one() {
        let at = postgres("postgresql://so%40ma:p%3Aq%2f@db.internal:6432/so%20ma?sslrootcert=/etc/ca.pem");
        assert_eq!(
            (at.host.as_str(), at.port, at.user.as_str(), at.name.as_str()),
            ("db.internal", 6432, "so@ma", "so ma")
        );
        assert_eq!(at.password.expose_secret(), "p:q/");
        assert!(matches!(at.tls, PgSslMode::VerifyFull));
        assert!(matches!(postgres("postgres://a:b@127.0.0.1/c").tls, PgSslMode::Disable));
        assert!(matches!(postgres("postgres://a:b@[::1]/c").tls, PgSslMode::Disable));
        assert!(matches!(postgres("postgres://a:b@127.0.0.1/c?sslmode=verify-ca").tls, PgSslMode::VerifyCa));
        for wrong in [
            "",
            "sqlite://",
            "mysql://a:b@c/d",
            "postgresql:///soma",
            "postgresql://db/soma",
            "postgresql://u:p@db/",
            "postgresql://u:p@db/a/b",
            "postgresql://u:p@db/soma?sslmode=prefer",
            "postgresql://u:p@db/soma?options=-c%20x",
        ] {
            assert!(wrong.parse::<Location>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_shows_the_password() {
        let at: Location = "postgresql://u:hunter2@db/soma".parse().unwrap();
        assert!(!format!("{at} {at:?}").contains("hunter2"));
    }
}
