//! Who is connected: what one client has taken, so that it leaves something to the others.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use config::Limits;
use tokio::sync::Semaphore;

/// Everybody who has a connection; so there are no more of them than connections.
pub(super) struct Clients {
    connections_max: usize,
    requests_max: usize,
    known: Mutex<HashMap<IpAddr, (Arc<Client>, usize)>>,
}

/// One of them: an address. Of IPv6 the first 64 bits count, the others are the client's to choose.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// One for each of its requests that is worked on.
    pub(crate) slots: Arc<Semaphore>,
    /// One for each of its requests that waits.
    pub(crate) places: Arc<Semaphore>,
}

/// A client as one of its connections has it. The last one to go takes what is known of the client along.
pub(super) struct Connected {
    pub(super) client: Arc<Client>,
    clients: Arc<Clients>,
}

impl Clients {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            connections_max: limits.connections_per_client_max,
            requests_max: limits.requests_per_client_max,
            known: Mutex::default(),
        }
    }

    /// One more connection from `address`; `None` where it has as many as it may.
    pub(super) fn connected(self: &Arc<Self>, address: IpAddr) -> Option<Connected> {
        let address = counted_as(address);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (client, connections) =
            known.entry(address).or_insert_with(|| (Arc::new(Client::new(address, self.requests_max)), 0));
        if *connections >= self.connections_max {
            return None;
        }
        *connections += 1;
        Some(Connected { client: Arc::clone(client), clients: Arc::clone(self) })
    }
}

impl Client {
    /// One that may have so many requests worked on, and as many waiting.
    pub(crate) fn new(address: IpAddr, requests_max: usize) -> Self {
        let semaphore = || Arc::new(Semaphore::new(requests_max));
        Self { address, slots: semaphore(), places: semaphore() }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut known = self.clients.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = known.entry(self.client.address) {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
            }
        }
    }
}

fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (!0 << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(connections_per_client_max: usize) -> Arc<Clients> {
        Arc::new(Clients::new(&Limits { connections_per_client_max, ..Limits::default() }))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_beyond_its_connections_is_refused_until_one_of_them_ends_and_others_are_not() {
        let clients = clients(2);
        let first = clients.connected(ip("192.0.2.1")).unwrap();
        let second = clients.connected(ip("192.0.2.1")).unwrap();
        assert!(clients.connected(ip("192.0.2.1")).is_none());
        assert!(clients.connected(ip("::ffff:192.0.2.1")).is_none(), "the same client, as IPv6 writes it");
        let _other = clients.connected(ip("192.0.2.2")).unwrap();
        drop(first);
        let _third = clients.connected(ip("192.0.2.1")).unwrap();
        assert!(clients.connected(ip("192.0.2.1")).is_none());
        drop(second);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let clients = clients(1);
        let _one = clients.connected(ip("2001:db8:0:1::1")).unwrap();
        assert!(clients.connected(ip("2001:db8:0:1:ffff::9")).is_none());
        assert!(clients.connected(ip("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn nothing_is_known_of_who_is_gone() {
        let clients = clients(9);
        let connected: Vec<_> =
            (1..=9).map(|n| clients.connected(ip(&format!("192.0.2.{}", n % 3))).unwrap()).collect();
        assert_eq!(clients.known.lock().unwrap().len(), 3);
        drop(connected);
        assert!(clients.known.lock().unwrap().is_empty());
    }
}
