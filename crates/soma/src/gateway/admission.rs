//! Which connections are open: a bound on all, and one for each address. When all places are taken, a newcomer gets
//! that of a connection which asks for nothing.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use platform::{config::ConnectionLimits, http::TrustedProxies};

use super::activity::Activity;

/// Why there is no place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// All places are taken, and everybody works.
    Full,
    /// This address has as many as one may have.
    Address,
}

impl Refused {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "address",
        }
    }
}

/// The book of open connections. Clones share it.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all_max: usize,
    per_address_max: usize,
    proxies: TrustedProxies,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, (IpAddr, Arc<Activity>)>,
    of_address: HashMap<IpAddr, usize>,
}

/// A place for one connection, free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    id: u64,
    admission: Admission,
    pub activity: Arc<Activity>,
}

impl Admission {
    pub fn new(limits: &ConnectionLimits, proxies: TrustedProxies) -> Self {
        Self(Arc::new(Inner {
            all_max: limits.all_max,
            per_address_max: limits.per_address_max,
            proxies,
            open: Mutex::default(),
        }))
    }

    /// A place for a connection from this address.
    pub fn admit(&self, peer: IpAddr) -> Result<Place, Refused> {
        let address = who(peer);
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = open.of_address.get(&address).copied().unwrap_or(0);
        if taken >= self.0.per_address_max && !self.0.proxies.contains(peer) {
            return Err(Refused::Address);
        }
        if open.connections.len() >= self.0.all_max {
            open.evict()?;
        }
        let activity = Arc::new(Activity::new());
        open.next += 1;
        let id = open.next;
        open.connections.insert(id, (address, Arc::clone(&activity)));
        *open.of_address.entry(address).or_default() += 1;
        open.tell();
        Ok(Place { id, admission: self.clone(), activity })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(self.id);
        open.tell();
    }
}

impl Open {
    /// Ends the connection that has idled longest, of an address that has most of them: who holds many gives first.
    fn evict(&mut self) -> Result<(), Refused> {
        let idle = self.connections.iter().filter_map(|(id, (address, activity))| {
            let since = activity.idle_since()?;
            let of_address = self.of_address.get(address).copied().unwrap_or(0);
            Some((std::cmp::Reverse(of_address), since, *id))
        });
        let (.., id) = idle.min().ok_or(Refused::Full)?;
        if let Some((_, activity)) = self.connections.get(&id) {
            activity.evicted.cancel();
        }
        // Its place is free now; its socket closes within a moment.
        self.remove(id);
        Ok(())
    }

    fn remove(&mut self, id: u64) {
        let Some((address, _)) = self.connections.remove(&id) else { return };
        if let std::collections::hash_map::Entry::Occupied(mut entry) = self.of_address.entry(address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn tell(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a number of connections")]
        let open = self.connections.len() as f64;
        metrics::gauge!("gateway_connections").set(open);
    }
}

/// One client of the internet: an IPv4 address, or the 64-bit network that an IPv6 client has to itself.
pub fn who(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admission(all_max: usize, per_address_max: usize, proxies: &str) -> Admission {
        let time = Duration::from_secs(1);
        let limits = ConnectionLimits {
            all_max,
            per_address_max,
            header_timeout: time,
            idle_timeout: time,
            stall_timeout: time,
            request_timeout: time,
        };
        Admission::new(&limits, proxies.parse().unwrap())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_bound_and_a_trusted_proxy_has_none() {
        let admission = admission(10, 2, "10.0.0.1");
        let places: Vec<_> = (0..2).map(|_| admission.admit(ip("1.1.1.1")).unwrap()).collect();
        assert_eq!(admission.admit(ip("::ffff:1.1.1.1")).unwrap_err(), Refused::Address);
        drop(places);
        let again = admission.admit(ip("1.1.1.1"));
        let of_network = ["2001:db8::1", "2001:db8::2"].map(|text| admission.admit(ip(text)).unwrap());
        assert_eq!(admission.admit(ip("2001:db8::3")).unwrap_err(), Refused::Address);
        let proxied: Vec<_> = (0..5).map(|_| admission.admit(ip("10.0.0.1")).unwrap()).collect();
        drop((again, of_network, proxied));
        assert!(admission.0.open.lock().unwrap().of_address.is_empty(), "nothing is remembered");
    }

    #[test]
    fn a_newcomer_gets_the_place_of_whoever_idles_and_has_most_and_of_nobody_who_works() {
        let admission = admission(3, 3, "");
        let healthy = admission.admit(ip("1.1.1.1")).unwrap();
        let slow = ["2.2.2.2"; 2].map(|text| admission.admit(ip(text)).unwrap());
        let newcomer = admission.admit(ip("3.3.3.3")).unwrap();
        assert!(slow[0].activity.evicted.is_cancelled() || slow[1].activity.evicted.is_cancelled());
        assert!(!healthy.activity.evicted.is_cancelled(), "it was there first, and has one only");
        let working = [&healthy, &newcomer].map(|place| place.activity.request(false));
        let last = slow.iter().find(|place| !place.activity.evicted.is_cancelled()).unwrap();
        let upgraded = &last.activity;
        upgraded.upgraded();
        assert_eq!(admission.admit(ip("4.4.4.4")).unwrap_err(), Refused::Full);
        drop(working);
        admission.admit(ip("4.4.4.4")).unwrap();
        assert!(healthy.activity.evicted.is_cancelled() || newcomer.activity.evicted.is_cancelled());
    }
}
