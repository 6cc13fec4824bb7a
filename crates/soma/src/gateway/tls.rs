//! TLS by rustls: one certificate, read from files, and read again when they change.
//!
//! New files that can't be used are told in the log, and the certificate that was there stays.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use platform::config::TlsFiles;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{setting}: {path} can't be read: {source}")]
    Read { setting: &'static str, path: PathBuf, source: io::Error },
    #[error("{setting}: {path} holds no {what} in PEM form")]
    Empty { setting: &'static str, path: PathBuf, what: &'static str },
    #[error("SA01_TLS_CERT and SA01_TLS_KEY: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The certificate of new connections.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What accepts TLS connections.
pub struct Tls {
    pub acceptor: TlsAcceptor,
    current: Arc<Current>,
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    pub fn open(files: TlsFiles) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let current = Arc::new(Current(RwLock::new(Arc::new(read(&files, &provider)?))));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&current));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), current, files, provider })
    }

    /// Reads the files again whenever they change, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = self.stamps();
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = self.stamps();
            if now == seen {
                continue;
            }
            // One file may be written before the other: the second change is seen as well.
            seen = now;
            match read(&self.files, &self.provider) {
                Ok(key) => {
                    *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                    tracing::info!("the TLS certificate was read again");
                }
                Err(error) => {
                    tracing::error!(%error, "the new TLS files can't be used; the old certificate stays");
                }
            }
        }
    }

    fn stamps(&self) -> [Option<Stamp>; 2] {
        [stamp(&self.files.certificate), stamp(&self.files.key)]
    }
}

/// What changes when a file, or what a link points to, is replaced or written.
type Stamp = (u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let pem = |setting, path: &Path| {
        std::fs::read(path).map_err(|source| Error::Read { setting, path: path.to_owned(), source })
    };
    let empty = |setting, path: &Path, what| Error::Empty { setting, path: path.to_owned(), what };
    let certificate = pem("SA01_TLS_CERT", &files.certificate)?;
    let key = pem("SA01_TLS_KEY", &files.key)?;
    let no_chain = || empty("SA01_TLS_CERT", &files.certificate, "certificate");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(no_chain)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| empty("SA01_TLS_KEY", &files.key, "unencrypted private key"))?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

/// What is wrong with these files, as `soma check` says it.
pub fn problem_of(files: &TlsFiles) -> Option<String> {
    if let Err(error) = Tls::open(files.clone()) {
        return Some(error.to_string());
    }
    let mode = std::fs::metadata(&files.key).map_or(0, |data| data.mode());
    (mode & 0o007 != 0).then(|| format!("SA01_TLS_KEY may be read by everybody (mode {:04o})", mode & 0o7777))
}
