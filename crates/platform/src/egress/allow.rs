//! The operator's list of addresses that may be called although they are not the public internet.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

/// `SA01_EGRESS_ALLOW`: entries between commas, each `CIDR`, `CIDR:PORT`, `[V6CIDR]` or `[V6CIDR]:PORT`; an address
/// without a length is that address alone, an entry without a port is all ports. The default lets nothing through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    network: IpNet,
    port: Option<u16>,
}

/// An entry of the list that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}` is no entry of an egress allow-list: {reason}")]
pub struct BadEntry {
    pub entry: String,
    pub reason: String,
}

impl AllowList {
    /// A mapped IPv4 address is looked up as the IPv4 address that it would reach.
    #[must_use]
    pub fn contains(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.0
            .iter()
            .any(|entry| entry.network.contains(&ip) && entry.port.is_none_or(|port| port == address.port()))
    }
}

impl FromStr for AllowList {
    type Err = BadEntry;

    fn from_str(text: &str) -> Result<Self, BadEntry> {
        let entries = text.split(',').map(str::trim);
        let entries = entries.filter(|entry| !entry.is_empty());
        let read =
            |entry: &str| read_entry(entry).map_err(|reason| BadEntry { entry: entry.to_owned(), reason });
        Ok(Self(entries.map(read).collect::<Result<_, _>>()?))
    }
}

fn read_entry(entry: &str) -> Result<Entry, String> {
    if let Some(rest) = entry.strip_prefix('[') {
        let (network, rest) = rest.split_once(']').ok_or("the `]` is missing")?;
        let network = read_network(network)?;
        if network.addr().is_ipv4() {
            return Err("only IPv6 goes between `[` and `]`".to_owned());
        }
        let port = match rest {
            "" => None,
            rest => Some(read_port(rest.strip_prefix(':').ok_or("after `]` comes `:` and a port")?)?),
        };
        return Ok(Entry { network, port });
    }
    let (network, port) = match entry.split_once(':') {
        Some((network, port)) if !port.contains(':') => (network, Some(read_port(port)?)),
        _ => (entry, None),
    };
    Ok(Entry { network: read_network(network)?, port })
}

fn read_network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(
            |_| "write CIDR, CIDR:PORT or [V6CIDR]:PORT, such as 10.1.0.0/16:8080 or [fd00::/8]:443",
        )?,
    };
    if network != network.trunc() {
        return Err(format!("it has bits beyond its length; write {}", network.trunc()));
    }
    match network {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err("write a mapped address as the IPv4 address inside it".to_owned())
        }
        network => Ok(network),
    }
}

fn read_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("`{text}` is no port: 1 to 65535")),
    }
}
