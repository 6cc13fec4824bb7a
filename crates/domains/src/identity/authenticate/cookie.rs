//! The session's cookie: opaque, out of scripts' reach, and not sent along by other sites' forms.

use axum::http::{HeaderMap, HeaderValue, header};

use super::Client;

const NAME: &str = "session_id";
/// Characters of a token: 32 bytes in base64 without its padding.
const TOKEN_CHARS: usize = 43;

/// The one token that the request carries. Two different ones are none: one of them was put there by somebody else.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let mut tokens = values(headers, NAME).filter(|value| looks_like_a_token(value));
    let first = tokens.next()?;
    tokens.all(|other| other == first).then_some(first)
}

/// Whether there is such a cookie at all, however bad.
pub(super) fn is_there(headers: &HeaderMap) -> bool {
    values(headers, NAME).next().is_some()
}

/// The values of a cookie of this name.
pub(in crate::identity) fn values<'a>(
    headers: &'a HeaderMap,
    wanted: &'static str,
) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(name, _)| *name == wanted).map(|(_, value)| value)
}

fn looks_like_a_token(text: &str) -> bool {
    text.len() == TOKEN_CHARS
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// A `Set-Cookie` for a session. `Secure`, unless the client speaks to this machine by plain HTTP.
pub(in crate::identity) fn session(token: &str, max_age_s: i64, client: &Client) -> HeaderValue {
    let secure = if client.by_loopback { "" } else { "; Secure" };
    let text = format!("{NAME}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}");
    // A token is base64, so this never fails; an empty header sets no cookie.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A `Set-Cookie` that takes it away.
pub(in crate::identity) fn clear(client: &Client) -> HeaderValue {
    session("", 0, client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_found_among_others_and_garbage_is_none() {
        let (a, b) = ("a".repeat(43), "b".repeat(43));
        let good = of(&[&format!("theme=dark; session_id={a}"), "x=1"]);
        assert_eq!(token(&good), Some(a.as_str()));
        let twice = of(&[&format!("session_id={a}"), &format!("session_id={a}")]);
        assert_eq!(token(&twice), Some(a.as_str()));
        for bad in [
            "session_id=",
            "session_id",
            "session_id=short",
            "Session_Id=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            &format!("session_id={}", "x".repeat(8000)),
            &format!("session_id={}\u{e9}", "a".repeat(41)),
            &format!("session_id={a}; session_id={b}"),
        ] {
            assert_eq!(token(&of(&[bad])), None, "{bad:.60}");
        }
    }
}
