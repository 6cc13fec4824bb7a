//! The web interface: files that Vite built into `web/dist/site`, embedded in the program and the same for everybody.
//!
//! It knows no user and reads no cookie: what a page may see, the API decides. A program that was built without the
//! interface says so on a page of its own.

use std::{borrow::Cow, fmt::Write as _};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use domains::identity;
use platform::http::Problem;

/// `web/dist` is there in every checkout; `site` in it only once the interface was built. A debug build reads the
/// folder as it is at the time.
#[derive(rust_embed::RustEmbed)]
#[folder = "../../web/dist"]
#[include = "site/*"]
struct Files;

/// Scripts, styles and fonts come from here alone, nothing is inline, and no other page may frame this one.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// A file under `assets/` has its content's hash in its name.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

/// Compressed copies that the build made, the smaller first, with the name a client accepts them by.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

const NOT_BUILT: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <title>Soma: no web interface</title>\n<h1>The web interface is not in this program</h1>\n\
    <p>This <code>soma</code> was compiled without it. The API under <code>/api</code> works all the same.</p>\n\
    <p>To have the interface, install Node.js 18 or newer with npm, then run <code>scripts/web build</code> and \
    compile again. <code>./quickstart</code> does both.</p>\n</html>\n";

/// Answers whatever no route answers: a file of the interface, its page for an address that the page itself
/// understands, or 404.
pub async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    if identity::is_guarded(path) || !(method == Method::GET || method == Method::HEAD) {
        return Problem::not_found().into_response();
    }
    if let Some(response) = file(path.trim_start_matches('/'), &headers) {
        return response;
    }
    // A name with an ending is a file's, and there is none; any other address is for the page's own router.
    if path.rsplit('/').next().is_some_and(|name| name.contains('.')) || path.starts_with("/assets/") {
        return Problem::not_found().into_response();
    }
    file("index.html", &headers).unwrap_or_else(not_built)
}

fn not_built() -> Response {
    let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    with_headers((StatusCode::SERVICE_UNAVAILABLE, [kind], NOT_BUILT).into_response(), ASK_AGAIN)
}

fn file(path: &str, headers: &HeaderMap) -> Option<Response> {
    let plain = Files::get(&format!("site/{path}"))?;
    let tag = entity_tag(&plain.metadata.sha256_hash());
    let cache = if path.starts_with("assets/") { FOR_EVER } else { ASK_AGAIN };
    let unchanged = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let (encoding, data) = compressed(path, headers).unwrap_or(("", plain.data));
        let mut response = Response::new(Body::from(data.into_owned()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(path)));
        if !encoding.is_empty() {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    };
    // Weak: the same tag stands for the plain and the compressed form.
    if let Ok(value) = HeaderValue::from_str(&format!("W/{tag}")) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    Some(with_headers(response, cache))
}

fn with_headers(mut response: Response, cache: &'static str) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

/// The smallest form that the client takes, when the build made one.
fn compressed(path: &str, headers: &HeaderMap) -> Option<(&'static str, Cow<'static, [u8]>)> {
    let accepted = headers.get(header::ACCEPT_ENCODING)?.to_str().ok()?;
    ENCODINGS
        .into_iter()
        .filter(|(name, _)| accepts(accepted, name))
        .find_map(|(name, ending)| Files::get(&format!("site/{path}{ending}")).map(|file| (name, file.data)))
}

/// Whether an `Accept-Encoding` names this coding, and not with a weight of zero (RFC 9110, 12.5.3).
fn accepts(accepted: &str, coding: &str) -> bool {
    accepted.split(',').any(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        let weight: String = weight.chars().filter(|character| !character.is_whitespace()).collect();
        let refused = weight.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0));
        name.trim().eq_ignore_ascii_case(coding) && !refused
    })
}

fn entity_tag(hash: &[u8]) -> String {
    let mut tag = String::from("\"");
    for byte in hash.iter().take(16) {
        // Writing to a string does not fail.
        write!(tag, "{byte:02x}").unwrap_or_default();
    }
    tag.push('"');
    tag
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_without_the_interface_says_so_and_how_to_have_it() {
        let response = not_built();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-security-policy"], CONTENT_SECURITY_POLICY);
        assert!(NOT_BUILT.contains("scripts/web build"));
    }

    #[tokio::test]
    async fn what_is_no_page_of_the_interface_is_not_found() {
        for (method, path) in [
            (Method::GET, "/api/v2/nothing"),
            (Method::GET, "/v1"),
            (Method::GET, "/assets/missing"),
            (Method::GET, "/missing.js"),
            (Method::GET, "/../../Cargo.toml"),
            (Method::POST, "/chat"),
        ] {
            let response = serve(method.clone(), path.parse().unwrap(), HeaderMap::new()).await;
            assert_eq!(response.status(), 404, "{method} {path}");
            assert_eq!(response.headers()["content-type"], "application/problem+json", "{method} {path}");
        }
    }

    #[test]
    fn a_coding_that_a_client_refuses_is_not_sent() {
        assert!(accepts("gzip, deflate, br", "br"));
        assert!(accepts("br;q=0.5", "br"));
        assert!(!accepts("br; q=0, gzip", "br"));
        assert!(!accepts("gzip", "br"));
    }
}
