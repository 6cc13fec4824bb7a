//! The settings of signing in at an identity provider, by OpenID Connect.

use std::collections::BTreeMap;

use secrecy::SecretString;
use url::Url;

use super::read::Reader;

const ISSUER: &str = "SA01_OIDC_ISSUER";
const KEYCLOAK_URL: &str = "SA01_KEYCLOAK_URL";
const KEYCLOAK_REALM: &str = "SA01_KEYCLOAK_REALM";
/// Longest tolerance between two clocks: a longer one keeps ended tokens alive.
const LEEWAY_S_MAX: u32 = 300;

/// How a token may be signed. What is not here is refused, whatever a token says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    /// By its name in a token (RFC 7518).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// An identity provider that people sign in at.
#[derive(Debug, Clone)]
pub struct Oidc {
    /// Exactly as the provider's tokens name it.
    pub issuer: String,
    /// The same, parsed. The server calls this origin and no other.
    pub url: Url,
    pub client_id: String,
    /// Absent for a public client, which PKCE alone protects.
    pub client_secret: Option<SecretString>,
    /// What the button says.
    pub name: String,
    /// Slug of the tenant that people come into.
    pub tenant: String,
    /// Which tenant roles a group of the provider gives. A group that is not here gives nothing.
    pub group_roles: BTreeMap<String, Vec<String>>,
    /// What an access token must be meant for to be taken by the API. Absent: none is taken.
    pub audience: Option<String>,
    pub algorithms: Vec<Algorithm>,
    /// How far the provider's clock and this one may be apart.
    pub leeway_s: i64,
    /// Whether an account that is here already is linked by its verified e-mail address.
    pub link_by_email: bool,
}

impl Oidc {
    /// The roles of somebody in these groups, sorted. A slash in front, as Keycloak writes a group's path, is no matter.
    #[must_use]
    pub fn roles_of<'a>(&self, groups: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let found = groups.into_iter().filter_map(|group| self.group_roles.get(plain(group)));
        let mut roles: Vec<String> = found.flatten().cloned().collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }
}

fn plain(group: &str) -> &str {
    group.strip_prefix('/').unwrap_or(group)
}

impl Reader<'_> {
    /// The identity provider; none when no issuer is named.
    pub(super) fn oidc(&mut self) -> Option<Oidc> {
        let issuer = self.issuer();
        let client_id = self.text("SA01_KEYCLOAK_CLIENT_ID");
        let client_secret = self.text("SA01_KEYCLOAK_CLIENT_SECRET").map(SecretString::from);
        let group_roles = self.group_roles();
        let algorithms = self.algorithms();
        let leeway_s = self.leeway_s();
        let link_by_email = self.parsed("SA01_OIDC_LINK_EMAIL", "expected true or false");
        let named = [ISSUER, KEYCLOAK_URL, KEYCLOAK_REALM].iter().any(|name| self.text(name).is_some());
        let Some((name, issuer)) = issuer else {
            if client_id.is_some() && !named {
                self.fault("SA01_KEYCLOAK_CLIENT_ID", "names a client of no issuer: set SA01_OIDC_ISSUER, or SA01_KEYCLOAK_URL and SA01_KEYCLOAK_REALM");
            }
            return None;
        };
        if client_id.is_none() {
            self.fault("SA01_KEYCLOAK_CLIENT_ID", "is required where an issuer is named");
        }
        let url = self.issuer_url(name, &issuer);
        Some(Oidc {
            url: url?,
            issuer,
            client_id: client_id?,
            client_secret,
            name: self.text("SA01_OIDC_NAME")?,
            tenant: self.text("SA01_OIDC_TENANT")?,
            group_roles: group_roles?,
            audience: self.text("SA01_OIDC_AUDIENCE"),
            algorithms: algorithms?,
            leeway_s: leeway_s?,
            link_by_email: link_by_email?,
        })
    }

    /// The issuer, and the setting that named it.
    fn issuer(&mut self) -> Option<(&'static str, String)> {
        let issuer = self.text(ISSUER);
        let keycloak = self.text(KEYCLOAK_URL);
        let realm = self.text(KEYCLOAK_REALM);
        match (issuer, keycloak, realm) {
            (Some(issuer), None, None) => Some((ISSUER, issuer)),
            (None, Some(url), Some(realm)) => {
                Some((KEYCLOAK_URL, format!("{}/realms/{realm}", url.trim_end_matches('/'))))
            }
            (None, None, None) => None,
            (None, Some(_), None) => {
                self.fault(KEYCLOAK_REALM, "is required beside SA01_KEYCLOAK_URL");
                None
            }
            (None, None, Some(_)) => {
                self.fault(KEYCLOAK_URL, "is required beside SA01_KEYCLOAK_REALM");
                None
            }
            (Some(_), ..) => {
                self.fault(
                    ISSUER,
                    "is one issuer too many: unset it, or SA01_KEYCLOAK_URL and SA01_KEYCLOAK_REALM",
                );
                None
            }
        }
    }

    /// Keys that travel in clear can be swapped on the way, so plain HTTP is for this machine alone.
    fn issuer_url(&mut self, name: &str, issuer: &str) -> Option<Url> {
        let url = Url::parse(issuer).ok().filter(|url| {
            let loopback = match url.host() {
                Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
                Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
                Some(url::Host::Domain(name)) => name == "localhost",
                None => false,
            };
            (url.scheme() == "https" || (url.scheme() == "http" && loopback))
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        if url.is_none() {
            self.fault(name, "expected an https URL without user, query or fragment (http on loopback only)");
        }
        url
    }

    fn group_roles(&mut self) -> Option<BTreeMap<String, Vec<String>>> {
        const NAME: &str = "SA01_OIDC_GROUP_ROLES";
        let text = self.text(NAME)?;
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let sides = pair.rsplit_once('=').map(|(group, role)| (plain(group.trim()), role.trim()));
            let Some((group, role)) = sides.filter(|(group, role)| !group.is_empty() && !role.is_empty())
            else {
                self.fault(NAME, "expected GROUP=ROLE, comma-separated");
                return None;
            };
            all.entry(group.to_owned()).or_default().push(role.to_owned());
        }
        Some(all)
    }

    fn algorithms(&mut self) -> Option<Vec<Algorithm>> {
        const NAME: &str = "SA01_OIDC_ALGORITHMS";
        let text = self.text(NAME)?;
        let named: Option<Vec<Algorithm>> =
            text.split(',').map(|name| Algorithm::named(name.trim())).collect();
        if named.is_none() {
            self.fault(NAME, "expected RS256, ES256 or both, comma-separated");
        }
        named
    }

    fn leeway_s(&mut self) -> Option<i64> {
        const NAME: &str = "SA01_JWT_LEEWAY";
        let expected = format!("expected a number of seconds, at most {LEEWAY_S_MAX}");
        let seconds = self.parsed::<u32>(NAME, &expected)?;
        if seconds > LEEWAY_S_MAX {
            self.fault(NAME, expected);
            return None;
        }
        Some(seconds.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::Fixed;

    fn read(settings: &[(&str, &str)]) -> Result<Option<Oidc>, Vec<String>> {
        let pairs = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let source = Fixed(pairs.collect::<HashMap<_, _>>());
        let mut reader = Reader::new(&source);
        let oidc = reader.oidc();
        let faults: Vec<String> = reader.faults().iter().map(|fault| fault.name.clone()).collect();
        if faults.is_empty() { Ok(oidc) } else { Err(faults) }
    }

    const CLIENT: (&str, &str) = ("SA01_KEYCLOAK_CLIENT_ID", "soma");

    #[test]
    fn an_issuer_is_named_whole_or_by_an_address_and_a_realm() {
        assert!(read(&[]).unwrap().is_none());
        let by_realm =
            [("SA01_KEYCLOAK_URL", "https://id.example.org/"), ("SA01_KEYCLOAK_REALM", "staff"), CLIENT];
        let whole = [("SA01_OIDC_ISSUER", "https://id.example.org/realms/staff"), CLIENT];
        for settings in [&by_realm[..], &whole[..]] {
            let oidc = read(settings).unwrap().unwrap();
            assert_eq!(oidc.issuer, "https://id.example.org/realms/staff");
            assert_eq!(
                (oidc.algorithms, oidc.leeway_s, oidc.link_by_email, oidc.audience),
                (vec![Algorithm::Rs256], 30, false, None)
            );
        }
        assert_eq!(read(&by_realm[..1]).unwrap_err(), ["SA01_KEYCLOAK_REALM"]);
        assert_eq!(read(&by_realm[1..2]).unwrap_err(), ["SA01_KEYCLOAK_URL"]);
        assert_eq!(read(&by_realm[..2]).unwrap_err(), ["SA01_KEYCLOAK_CLIENT_ID"]);
        assert_eq!(read(&[CLIENT]).unwrap_err(), ["SA01_KEYCLOAK_CLIENT_ID"]);
        assert_eq!(read(&[&by_realm[..], &whole[..1]].concat()).unwrap_err(), ["SA01_OIDC_ISSUER"]);
    }

    #[test]
    fn settings_that_would_weaken_the_checks_are_faults() {
        for (name, value) in [
            ("SA01_OIDC_ISSUER", "http://id.example.org"),
            ("SA01_OIDC_ISSUER", "http://127.0.0.1.example.org"),
            ("SA01_OIDC_ISSUER", "https://user:word@id.example.org"),
            ("SA01_OIDC_ISSUER", "https://id.example.org/?a"),
            ("SA01_OIDC_ISSUER", "id"),
            ("SA01_OIDC_ALGORITHMS", "RS256,none"),
            ("SA01_OIDC_ALGORITHMS", "HS256"),
            ("SA01_OIDC_ALGORITHMS", " "),
            ("SA01_JWT_LEEWAY", "301"),
            ("SA01_JWT_LEEWAY", "-1"),
            ("SA01_OIDC_GROUP_ROLES", "staff"),
            ("SA01_OIDC_GROUP_ROLES", "=owner"),
            ("SA01_OIDC_LINK_EMAIL", "yes"),
        ] {
            let mut settings = HashMap::from([("SA01_OIDC_ISSUER", "https://id.example.org"), CLIENT]);
            settings.insert(name, value);
            let settings: Vec<_> = settings.into_iter().collect();
            assert_eq!(read(&settings).unwrap_err(), [name], "{value}");
        }
    }

    #[test]
    fn a_group_gives_what_the_operator_said_and_an_unknown_one_nothing() {
        let map = ("SA01_OIDC_GROUP_ROLES", "admins=owner, /team/a=member,team/a=viewer, a=b=viewer");
        let oidc = read(&[("SA01_OIDC_ISSUER", "http://127.0.0.1:1"), CLIENT, map]).unwrap().unwrap();
        assert_eq!(
            oidc.roles_of(["/admins", "team/a", "/team/a", "Admins", "//admins", "team"]),
            ["member", "owner", "viewer"]
        );
        assert_eq!(oidc.roles_of(["a=b"]), ["viewer"]);
        assert!(oidc.roles_of([]).is_empty());
    }
}
