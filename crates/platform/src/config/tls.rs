//! Certificates: those that this program shows, to clients and as a client, and those that it believes of engines.

use std::path::PathBuf;

use super::read::Reader;

/// Where a certificate and its key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the certificate itself, then those that lead to its root.
    pub certificate: PathBuf,
    /// PEM: the certificate's private key.
    pub key: PathBuf,
}

/// TLS to an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM: the authorities that are believed; without it, the system's.
    pub authorities: Option<PathBuf>,
    /// What the engine lets this program in by, where it asks for a certificate.
    pub shown: Option<TlsFiles>,
}

impl Reader<'_> {
    /// A certificate and its key, in settings whose names begin alike: both, or neither.
    pub(super) fn tls_files(&mut self, prefix: &str) -> Option<TlsFiles> {
        let (certificate_name, key_name) = (format!("{prefix}_CERT"), format!("{prefix}_KEY"));
        let certificate = self.text(&certificate_name).map(PathBuf::from);
        let key = self.text(&key_name).map(PathBuf::from);
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => {
                self.fault(&key_name, format!("is required with {certificate_name}"));
                None
            }
            (None, Some(_)) => {
                self.fault(&certificate_name, format!("is required with {key_name}"));
                None
            }
        }
    }

    /// What is said of TLS to an engine. Where the engine is not spoken to by TLS nothing may be: `otherwise` says why.
    pub(super) fn client_tls(&mut self, prefix: &str, spoken: bool, otherwise: &str) -> Option<ClientTls> {
        let authorities_name = format!("{prefix}_CA");
        let authorities = self.text(&authorities_name).map(PathBuf::from);
        let shown = self.tls_files(prefix);
        if spoken {
            return Some(ClientTls { authorities, shown });
        }
        if authorities.is_some() {
            self.fault(&authorities_name, otherwise);
        }
        if shown.is_some() {
            self.fault(&format!("{prefix}_CERT"), otherwise);
        }
        None
    }
}
