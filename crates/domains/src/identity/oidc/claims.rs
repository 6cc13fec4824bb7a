//! What a token says, checked for each kind of token: an ID token, an access token, a logout token.
//!
//! Rules of OpenID Connect Core 1.0 (3.1.3.7), RFC 9068 (4) and OpenID Connect Back-Channel Logout 1.0 (2.6). A claim
//! of another type than it must be, a time that is text, a fraction or too big for 64 bits, or a claim that is there
//! twice: all of those make no [`Claims`] at all.

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use platform::config::Oidc;
use serde::Deserialize;
use serde_json::Value;

use super::token::{Refused, Verified};

/// Longest name of a person at the provider (OpenID Connect Core 1.0, 2).
const SUBJECT_BYTES_MAX: usize = 255;
/// A token that ends later than this from now is refused: no provider means to give one.
const LIFETIME_S_MAX: i64 = 24 * 60 * 60;
/// An ID token, or a logout token, is used at once: an older one was kept by somebody.
const AGE_S_MAX: i64 = 10 * 60;
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Groups of one person that are looked at.
const GROUPS_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names().iter().any(|audience| audience == name)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: Option<String>,
    aud: Audience,
    azp: Option<String>,
    /// Seconds since 1970, like the next two.
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    at_hash: Option<String>,
    /// Keycloak's own mark of a token's kind: `ID`, `Bearer`, `Refresh`, `Logout`.
    typ: Option<String>,
    sid: Option<String>,
    events: Option<Value>,
    email: Option<String>,
    email_verified: Option<Value>,
    name: Option<String>,
    groups: Option<Value>,
}

/// Who signed in, as an ID token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    pub subject: String,
    /// Only an address that the provider has verified.
    pub email: Option<String>,
    pub name: String,
    pub groups: Vec<String>,
    /// The person's stay at the provider.
    pub session: Option<String>,
}

/// Whose stay at the provider has ended: one stay, or all of a subject's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub subject: Option<String>,
    pub session: Option<String>,
}

/// The answer to a sign-in that was begun with this nonce, and came with this access token.
pub(super) fn id_token(
    token: Verified,
    oidc: &Oidc,
    nonce: &str,
    access_token: &str,
    now_s: i64,
) -> Result<Person, Refused> {
    let Verified { kind, claims } = token;
    let for_id = kind.is_none_or(|kind| kind == "jwt");
    if !for_id || claims.typ.as_deref().is_some_and(|kind| kind != "ID") || claims.events.is_some() {
        return Err(Refused::Kind);
    }
    claims.check_issuer(oidc)?;
    claims.check_client(oidc)?;
    claims.check_times(oidc, now_s, Some(AGE_S_MAX))?;
    if claims.nonce.as_deref() != Some(nonce) {
        return Err(Refused::Nonce);
    }
    if claims.at_hash.as_ref().is_some_and(|hash| *hash != hash_of(access_token)) {
        return Err(Refused::AccessToken);
    }
    let subject = claims.subject()?.to_owned();
    let verified = claims.email_verified == Some(Value::Bool(true));
    let groups = match claims.groups {
        Some(Value::Array(groups)) => groups,
        _ => Vec::new(),
    };
    let text = |group| match group {
        Value::String(text) => Some(text),
        _ => None,
    };
    Ok(Person {
        subject,
        email: claims.email.filter(|_| verified),
        name: claims.name.unwrap_or_default(),
        groups: groups.into_iter().take(GROUPS_MAX).filter_map(text).collect(),
        session: claims.sid,
    })
}

/// Whom an access token for the API acts for, and when it ends, in seconds since 1970.
pub(super) fn access_token(
    token: Verified,
    oidc: &Oidc,
    audience: &str,
    now_s: i64,
) -> Result<(String, i64), Refused> {
    let Verified { kind, claims } = token;
    // RFC 9068's mark in the header, or Keycloak's in the claims. An ID token has neither, and may be marked as such.
    let marked = match kind.as_deref() {
        Some("at+jwt" | "application/at+jwt") => claims.typ.as_deref().is_none_or(|kind| kind == "Bearer"),
        None | Some("jwt") => claims.typ.as_deref() == Some("Bearer"),
        Some(_) => false,
    };
    if !marked || claims.nonce.is_some() || claims.at_hash.is_some() || claims.events.is_some() {
        return Err(Refused::Kind);
    }
    claims.check_issuer(oidc)?;
    if !claims.aud.has(audience) {
        return Err(Refused::Audience);
    }
    let ends_at = claims.check_times(oidc, now_s, None)?;
    Ok((claims.subject()?.to_owned(), ends_at))
}

/// Whose stay the provider says has ended.
pub(super) fn logout_token(token: Verified, oidc: &Oidc, now_s: i64) -> Result<Ended, Refused> {
    let Verified { kind, claims } = token;
    let for_logout = kind.is_none_or(|kind| kind == "jwt" || kind == "logout+jwt");
    let says_so = claims.events.as_ref().and_then(|events| events.get(LOGOUT_EVENT));
    if !for_logout || !says_so.is_some_and(Value::is_object) || claims.nonce.is_some() {
        return Err(Refused::Kind);
    }
    claims.check_issuer(oidc)?;
    claims.check_client(oidc)?;
    claims.check_times(oidc, now_s, Some(AGE_S_MAX))?;
    let subject = claims.sub.as_ref().map(|_| claims.subject().map(str::to_owned)).transpose()?;
    if subject.is_none() && claims.sid.is_none() {
        return Err(Refused::Subject);
    }
    Ok(Ended { subject, session: claims.sid })
}

impl Claims {
    fn check_issuer(&self, oidc: &Oidc) -> Result<(), Refused> {
        if self.iss == oidc.issuer { Ok(()) } else { Err(Refused::Issuer) }
    }

    /// Meant for this client; where it is meant for others too, it must say that this client asked for it.
    fn check_client(&self, oidc: &Oidc) -> Result<(), Refused> {
        if !self.aud.has(&oidc.client_id) {
            return Err(Refused::Audience);
        }
        match &self.azp {
            Some(party) if *party != oidc.client_id => Err(Refused::AuthorizedParty),
            None if self.aud.names().len() > 1 => Err(Refused::AuthorizedParty),
            _ => Ok(()),
        }
    }

    /// When it ends, if that is not over, not too far, and it was not made in the future or too long ago.
    fn check_times(&self, oidc: &Oidc, now_s: i64, age_s_max: Option<i64>) -> Result<i64, Refused> {
        let leeway_s = oidc.leeway_s;
        let (ends_at, made_at) = (self.exp, self.iat);
        if ends_at <= now_s.saturating_sub(leeway_s) {
            return Err(Refused::Ended);
        }
        let soonest = now_s.saturating_add(leeway_s);
        if made_at > soonest || self.nbf.is_some_and(|from| from > soonest) {
            return Err(Refused::NotYet);
        }
        let too_old =
            age_s_max.is_some_and(|age| made_at < now_s.saturating_sub(age).saturating_sub(leeway_s));
        if too_old || ends_at > soonest.saturating_add(LIFETIME_S_MAX) {
            return Err(Refused::TooLong);
        }
        Ok(ends_at)
    }

    fn subject(&self) -> Result<&str, Refused> {
        let good = |subject: &&str| !subject.is_empty() && subject.len() <= SUBJECT_BYTES_MAX;
        self.sub.as_deref().filter(good).ok_or(Refused::Subject)
    }
}

/// The left half of an access token's SHA-256, in base64: `at_hash` for algorithms on SHA-256, as all of ours are.
fn hash_of(access_token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, access_token.as_bytes());
    let half = &hash.as_ref()[..hash.as_ref().len() / 2];
    BASE64URL_NOPAD.encode(half)
}
