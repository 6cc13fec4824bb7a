//! Who is at the other end of a request, as far as that can be believed.
//!
//! What a request says of its own way (`X-Forwarded-For` and `X-Forwarded-Proto`, or `Forwarded`) counts only where the
//! connection comes from a proxy that the operator trusts. From anyone else it is ignored. Of the two kinds only the one
//! counts that the proxy writes: the other it passes on as the client sent it.

use std::{net::IpAddr, str::FromStr};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use ipnet::IpNet;

use super::Problem;

/// Proxies between a client and this server that are looked at. A longer way is cut here: its far end is unknown.
const HOPS_MAX: usize = 16;

/// The client of a request. The gateway puts it into every request's extensions before anything else sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress {
    /// Never an IPv4 address in IPv6 clothes.
    pub ip: IpAddr,
    /// Whether the client speaks TLS: to this server, or to a proxy that is trusted.
    pub secure: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let found = parts.extensions.get::<Self>().copied();
        found.ok_or_else(|| Problem::internal(&"a request came without its client's address"))
    }
}

/// `SA01_PROXY_HEADER`: where proxies say for whom they pass a request on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// What most write, with `X-Forwarded-Proto`.
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// `SA01_TRUSTED_PROXIES`: networks whose word about their clients is believed. None unless told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ProxyHeader,
}

impl FromStr for TrustedProxies {
    /// The entry that can't be understood.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let read = |entry: &str| match entry.parse::<IpAddr>() {
            Ok(address) => Ok(IpNet::from(address.to_canonical())),
            Err(_) => entry.parse::<IpNet>().map_err(|_| entry.to_owned()),
        };
        Ok(Self { networks: entries.map(read).collect::<Result<_, _>>()?, header: ProxyHeader::default() })
    }
}

/// One proxy's word: for whom it passed the request on, and how that one spoke to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hop {
    /// `None` where it hides the address, or is no address.
    ip: Option<IpAddr>,
    secure: Option<bool>,
}

impl TrustedProxies {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// The same, whose word stands in this header.
    #[must_use]
    pub fn that_write(self, header: ProxyHeader) -> Self {
        Self { header, ..self }
    }

    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// The client of a request that came over a connection from `peer`; `tls` says how.
    ///
    /// The way is walked back from this server: from each trusted proxy to whom it names, up to the first that is not
    /// trusted. What that one says of others could be made up.
    #[must_use]
    pub fn client(&self, peer: IpAddr, tls: bool, headers: &HeaderMap) -> ClientAddress {
        let mut client = ClientAddress { ip: peer.to_canonical(), secure: tls };
        if self.is_empty() || !self.contains(peer) {
            return client;
        }
        let hops = match self.header {
            ProxyHeader::XForwardedFor => x_forwarded(headers),
            ProxyHeader::Forwarded => forwarded(headers),
        };
        for hop in hops.into_iter().take(HOPS_MAX) {
            if let Some(secure) = hop.secure {
                client.secure = secure;
            }
            let Some(ip) = hop.ip else { break };
            client.ip = ip;
            if !self.contains(ip) {
                break;
            }
        }
        client
    }
}

/// The elements of a list header over all its lines, the last one first.
fn elements<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut all: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    all.reverse();
    all
}

/// RFC 7239.
fn forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let read = |element: &str| {
        let mut hop = Hop { ip: None, secure: None };
        for pair in element.split(';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => hop.ip = address(value),
                "proto" => hop.secure = Some(value.eq_ignore_ascii_case("https")),
                _ => {}
            }
        }
        hop
    };
    elements(headers, "forwarded").into_iter().map(read).collect()
}

/// The older headers. `X-Forwarded-Proto` has one entry for each hop, or one for all of them.
fn x_forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let addresses = elements(headers, "x-forwarded-for");
    let protocols = elements(headers, "x-forwarded-proto");
    let secure = |index: usize| {
        let own = if protocols.len() == addresses.len() { index } else { 0 };
        protocols.get(own).map(|protocol| protocol.eq_ignore_ascii_case("https"))
    };
    let hops = addresses.iter().enumerate();
    let hops: Vec<Hop> = hops.map(|(index, text)| Hop { ip: address(text), secure: secure(index) }).collect();
    if hops.is_empty() { vec![Hop { ip: None, secure: secure(0) }] } else { hops }
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:443`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => host,
            _ => text,
        },
    };
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn seen(trusted: &str, peer: &str, lines: &[(&'static str, &'static str)]) -> (String, bool) {
        told(ProxyHeader::XForwardedFor, trusted, peer, lines)
    }

    fn told(
        header: ProxyHeader,
        trusted: &str,
        peer: &str,
        lines: &[(&'static str, &'static str)],
    ) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let proxies: TrustedProxies = trusted.parse().unwrap();
        let client = proxies.that_write(header).client(peer.parse().unwrap(), false, &headers);
        (client.ip.to_string(), client.secure)
    }

    fn at(ip: &str, secure: bool) -> (String, bool) {
        (ip.to_owned(), secure)
    }

    #[test]
    fn nobody_is_believed_unless_trusted() {
        let lines =
            [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https"), ("forwarded", "for=1.2.3.4")];
        assert_eq!(seen("", "9.9.9.9", &lines), at("9.9.9.9", false));
        assert_eq!(seen("10.0.0.0/8", "9.9.9.9", &lines), at("9.9.9.9", false));
        assert_eq!(seen("9.9.9.9", "::ffff:9.9.9.9", &lines[..2]), at("1.2.3.4", true));
    }

    #[test]
    fn the_way_is_walked_back_to_the_first_that_is_not_trusted() {
        let way = [("x-forwarded-for", "6.6.6.6, 1.2.3.4"), ("x-forwarded-for", "10.0.0.7")];
        assert_eq!(seen("10.0.0.0/8", "10.0.0.9", &way), at("1.2.3.4", false));
        let all_trusted = [("x-forwarded-for", "10.0.0.1, 10.0.0.7")];
        assert_eq!(seen("10.0.0.0/8", "10.0.0.9", &all_trusted), at("10.0.0.1", false));
        let no_address = [("x-forwarded-for", "1.2.3.4, unknown, 10.0.0.7")];
        assert_eq!(seen("10.0.0.0/8", "10.0.0.9", &no_address), at("10.0.0.7", false));
    }

    #[test]
    fn each_hops_protocol_is_its_own_and_a_single_one_is_for_all() {
        let each = [("x-forwarded-for", "1.2.3.4, 10.0.0.7"), ("x-forwarded-proto", "https, http")];
        assert_eq!(seen("10.0.0.0/8", "10.0.0.9", &each), at("1.2.3.4", true));
        let one = [("x-forwarded-for", "1.2.3.4, 10.0.0.7"), ("x-forwarded-proto", "https")];
        assert_eq!(seen("10.0.0.0/8", "10.0.0.9", &one), at("1.2.3.4", true));
        assert_eq!(seen("10.0.0.9", "10.0.0.9", &[("x-forwarded-proto", "https")]), at("10.0.0.9", true));
    }

    #[test]
    fn of_two_headers_that_of_the_proxy_counts_and_not_that_of_its_client() {
        let lines = [
            ("forwarded", "for=6.6.6.6;proto=http, for=\"[2001:db8::1]:4711\";Proto=https;by=10.0.0.9"),
            ("x-forwarded-for", "1.2.3.4"),
        ];
        let standard = |lines| told(ProxyHeader::Forwarded, "10.0.0.0/8", "10.0.0.9", lines);
        assert_eq!(standard(&lines), at("2001:db8::1", true));
        assert_eq!(seen("10.0.0.0/8", "10.0.0.9", &lines), at("1.2.3.4", false));
        assert_eq!(standard(&[("forwarded", "for=1.2.3.4, for=_hidden")]), at("10.0.0.9", false));
        assert_eq!(seen("10.0.0.0/8", "10.0.0.9", &lines[..1]), at("10.0.0.9", false));
    }

    #[test]
    fn what_is_no_network_is_named() {
        assert_eq!("10.0.0.0/8, proxy.local".parse::<TrustedProxies>(), Err("proxy.local".to_owned()));
    }
}
