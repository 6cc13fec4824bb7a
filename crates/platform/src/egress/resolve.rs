//! The only look-up of names: it answers a connection with addresses that were checked, or not at all.
//!
//! Each client gets one of these as its resolver, and what it returns is what is connected to. So there is no second
//! look-up between the check and the connection that a name's owner could answer differently (DNS rebinding), not
//! even when a connection is made again.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{AllowList, address};

/// Asks the name servers; another one in tests.
pub(super) trait Lookup: Send + Sync {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
pub(super) struct System;

impl Lookup for System {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Why a name was not connected to. It travels through `reqwest` as the cause of its error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the address {address} is {what}; an operator can allow it with SA01_EGRESS_ALLOW")]
    Forbidden { address: SocketAddr, what: &'static str },
    #[error("`{host}` has no address: {reason}")]
    NoAddress { host: String, reason: String },
    #[error("this client calls {origin} only")]
    OtherOrigin { origin: String },
}

pub(super) fn check(allow: &AllowList, address: SocketAddr) -> Result<(), Refusal> {
    match address::forbidden(address.ip()) {
        Some(what) if !allow.contains(address) => Err(Refusal::Forbidden { address, what }),
        _ => Ok(()),
    }
}

/// For calls to anywhere on one port. All of a name's addresses must be allowed: one forbidden address among them
/// is a trick or a mistake.
pub(super) struct Guarded {
    pub(super) allow: Arc<AllowList>,
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) port: u16,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let found = look_up(&self.lookup, name.as_str(), self.port);
        let allow = Arc::clone(&self.allow);
        Box::pin(async move {
            let found = found.await?;
            for address in &found {
                check(&allow, *address)?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// For calls to one origin that the operator configured: its name may be at any address, other names have none.
pub(super) struct OneOrigin {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) origin: String,
}

impl Resolve for OneOrigin {
    fn resolve(&self, name: Name) -> Resolving {
        if name.as_str() != self.host {
            let origin = self.origin.clone();
            return Box::pin(async move { Err(Refusal::OtherOrigin { origin }.into()) });
        }
        let found = look_up(&self.lookup, name.as_str(), self.port);
        Box::pin(async move { Ok(Box::new(found.await?.into_iter()) as Addrs) })
    }
}

fn look_up(
    lookup: &Arc<dyn Lookup>,
    host: &str,
    port: u16,
) -> BoxFuture<'static, Result<Vec<SocketAddr>, Refusal>> {
    let lookup = Arc::clone(lookup);
    let host = host.to_owned();
    Box::pin(async move {
        let no_address = |reason: String| Refusal::NoAddress { host: host.clone(), reason };
        let found = lookup.lookup(host.clone()).await;
        let found = found.map_err(|error| no_address(error.to_string()))?;
        if found.is_empty() {
            return Err(no_address("the name servers know none".to_owned()));
        }
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    })
}
