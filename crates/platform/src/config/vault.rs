//! Where Vault is and who asks there. These settings alone can't come from Vault itself.

use std::path::PathBuf;

use url::Url;

use super::{Faults, Source, read::Reader};

/// How the names of these settings begin.
pub(super) const PREFIX: &str = "VAULT_";

pub(super) const TRANSIT_KEY: &str = "SA01_CRYPTO_TRANSIT_KEY";

/// A Vault or OpenBao server, and what of it this program is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    /// Ends before `/v1`.
    pub address: Url,
    pub namespace: Option<String>,
    /// PEM file of the authority that the server's certificate is from, beside the system's.
    pub authority: Option<PathBuf>,
    pub auth: VaultAuth,
    /// Of the key-value engine, version 2.
    pub mount: String,
    /// Of the one secret whose keys are names of settings.
    pub path: String,
}

/// By what the program proves who it is. What is in the files is read at each login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    Token { file: PathBuf },
    AppRole { mount: String, role_id: String, secret_id_file: PathBuf },
    Kubernetes { mount: String, role: String, token_file: PathBuf },
}

/// A key of Vault's transit engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitKey {
    pub mount: String,
    pub name: String,
}

impl TransitKey {
    /// `MOUNT/KEY`; a mount may have slashes in it.
    fn parse(text: &str) -> Option<Self> {
        let (mount, name) = text.trim_matches('/').rsplit_once('/')?;
        let plain = |part: &str| {
            !part.is_empty()
                && part.chars().all(|own| own.is_ascii_alphanumeric() || matches!(own, '-' | '_' | '.'))
                && part != ".."
        };
        let right = plain(name) && mount.split('/').all(plain);
        right.then(|| Self { mount: mount.to_owned(), name: name.to_owned() })
    }
}

impl Vault {
    /// `None` where `VAULT_ADDR` is not set: then all settings are from the environment.
    pub fn load(source: &dyn Source) -> Result<Option<Self>, Faults> {
        let mut reader = Reader::new(source);
        let Some(address) = reader.text("VAULT_ADDR") else { return Ok(None) };
        let address = reader.vault_address(&address);
        let auth = reader.vault_auth();
        let path = reader.text("VAULT_SECRETS_PATH").unwrap_or_default();
        let parts =
            path.trim_matches('/').split_once('/').map(|(mount, path)| (mount.to_owned(), path.to_owned()));
        if parts.is_none() {
            reader.fault(
                "VAULT_SECRETS_PATH",
                "expected the engine's mount and the secret's path, as in secret/soma",
            );
        }
        let namespace = reader.text("VAULT_NAMESPACE");
        let authority = reader.text("VAULT_CACERT").map(PathBuf::from);
        let vault = || {
            let (mount, path) = parts?;
            Some(Self { address: address?, namespace, authority, auth: auth?, mount, path })
        };
        match vault() {
            Some(vault) => Ok(Some(vault)),
            None => Err(reader.end()),
        }
    }
}

impl Reader<'_> {
    /// The key that encrypts in place of the Fernet keys, if one is to.
    pub(super) fn transit_key(&mut self) -> Option<TransitKey> {
        let text = self.text(TRANSIT_KEY)?;
        let key = TransitKey::parse(&text);
        if key.is_none() {
            self.fault(TRANSIT_KEY, "expected the engine's mount and the key's name, as in transit/soma");
        } else if self.text("VAULT_ADDR").is_none() {
            self.fault(TRANSIT_KEY, "is a key of Vault's, and VAULT_ADDR is not set");
        }
        key
    }

    fn vault_address(&mut self, text: &str) -> Option<Url> {
        let url = Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.host().is_some()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        let Some(url) = url else {
            self.fault("VAULT_ADDR", "expected an http(s) URL without user, query or fragment");
            return None;
        };
        let here = match url.host()? {
            url::Host::Domain(name) => name == "localhost",
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.is_loopback(),
        };
        if url.scheme() == "http" && !here {
            self.fault("VAULT_ADDR", "secrets go over https, or not beyond this machine");
            return None;
        }
        Some(url)
    }

    fn vault_auth(&mut self) -> Option<VaultAuth> {
        let token_file = self.text("VAULT_TOKEN_FILE");
        let role_id = self.text("VAULT_ROLE_ID");
        let kubernetes_role = self.text("VAULT_KUBERNETES_ROLE");
        let mount = self.text("VAULT_AUTH_MOUNT");
        match (token_file, role_id, kubernetes_role) {
            (Some(file), None, None) => Some(VaultAuth::Token { file: file.into() }),
            (None, Some(role_id), None) => {
                let Some(file) = self.text("VAULT_SECRET_ID_FILE") else {
                    self.fault("VAULT_SECRET_ID_FILE", "is required with VAULT_ROLE_ID and not set");
                    return None;
                };
                let mount = mount.unwrap_or_else(|| "approle".to_owned());
                Some(VaultAuth::AppRole { mount, role_id, secret_id_file: file.into() })
            }
            (None, None, Some(role)) => {
                let token_file = self.text("VAULT_KUBERNETES_TOKEN_FILE").unwrap_or_default().into();
                let mount = mount.unwrap_or_else(|| "kubernetes".to_owned());
                Some(VaultAuth::Kubernetes { mount, role, token_file })
            }
            _ => {
                let expected = "set one of VAULT_TOKEN_FILE, VAULT_ROLE_ID and VAULT_KUBERNETES_ROLE: it says how this \
                                program proves who it is";
                self.fault("VAULT_ADDR", expected);
                None
            }
        }
    }
}
