//! Who is connected: what one client has taken, so that it leaves something to the others.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use config::Limits;
use tokio::sync::Semaphore;

/// Everybody who has a connection, or something under way; so there are no more of them than connections, waiting ones
/// included, and requests may be.
pub(super) struct Clients {
    connections_max: usize,
    arriving_max: usize,
    requests_max: usize,
    known: Mutex<HashMap<IpAddr, Weak<Client>>>,
}

/// One of them: an address. Of IPv6 the first 64 bits count, the others are the client's to choose.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// One for each of its requests that is worked on.
    pub(crate) slots: Arc<Semaphore>,
    /// One for each of its requests that waits.
    pub(crate) places: Arc<Semaphore>,
    /// One for each of its connections.
    connections: Arc<Semaphore>,
    /// One for each of its connections that waits.
    arriving: Arc<Semaphore>,
    /// Those who know it.
    clients: Weak<Clients>,
}

impl Clients {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            connections_max: limits.connections_per_client_max,
            arriving_max: (limits.connections_waiting_max / 2).max(1),
            requests_max: limits.requests_per_client_max,
            known: Mutex::default(),
        }
    }

    /// Who comes from `address`.
    pub(super) fn known(self: &Arc<Self>, address: IpAddr) -> Arc<Client> {
        self.counted(counted_as(address))
    }

    /// Who has this address. No client is dropped here: that would wait for the lock that is held.
    fn counted(self: &Arc<Self>, address: IpAddr) -> Arc<Client> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.get(&address).and_then(Weak::upgrade) {
            return client;
        }
        let of_connections = (self.connections_max, self.arriving_max);
        let client = Arc::new(Client::new(address, of_connections, self.requests_max, Arc::downgrade(self)));
        known.insert(address, Arc::downgrade(&client));
        client
    }
}

impl Client {
    /// One that may have so many connections served and waiting, and so many requests worked on, and as many waiting.
    fn new(
        address: IpAddr,
        (connections_max, arriving_max): (usize, usize),
        requests_max: usize,
        clients: Weak<Clients>,
    ) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            address,
            slots: semaphore(requests_max),
            places: semaphore(requests_max),
            connections: semaphore(connections_max),
            arriving: semaphore(arriving_max),
            clients,
        }
    }

    /// A seat for each of its connections.
    pub(super) fn connection(&self) -> Arc<Semaphore> {
        Arc::clone(&self.connections)
    }

    /// A place for each of those that wait for one.
    pub(super) fn place(&self) -> Arc<Semaphore> {
        Arc::clone(&self.arriving)
    }

    /// One that nobody else knows.
    #[cfg(test)]
    pub(crate) fn alone(address: IpAddr, requests_max: usize) -> Arc<Self> {
        Arc::new(Self::new(address, (1, 1), requests_max, Weak::new()))
    }
}

/// The last of its connections and of what it has under way takes what is known of a client along.
impl Drop for Client {
    fn drop(&mut self) {
        let Some(clients) = self.clients.upgrade() else { return };
        let mut known = clients.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(entry) = known.entry(self.address)
            // Whoever came from there since is another one.
            && entry.get().strong_count() == 0
        {
            entry.remove();
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
    fn addresses_of_one_ipv6_network_are_one_client_and_so_is_ipv4_as_ipv6_writes_it() {
        let clients = clients(1);
        let is_one = |one: &str, other: &str| Arc::ptr_eq(&clients.known(ip(one)), &clients.known(ip(other)));
        let held = clients.known(ip("192.0.2.1"));
        assert!(is_one("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!is_one("192.0.2.1", "192.0.2.2"));
        drop(held);
        let _held = clients.known(ip("2001:db8:0:1::1"));
        assert!(is_one("2001:db8:0:1::1", "2001:db8:0:1:ffff::9"));
        assert!(!is_one("2001:db8:0:1::1", "2001:db8:0:2::1"));
    }

    #[test]
    fn who_hangs_up_with_work_under_way_and_comes_again_is_the_same_client() {
        let clients = clients(1);
        let first = clients.known(ip("192.0.2.1"));
        let under_way = Arc::clone(&first);
        drop(first);
        let again = clients.known(ip("192.0.2.1"));
        assert!(Arc::ptr_eq(&again, &under_way));
        drop((again, under_way));
        assert!(clients.known.lock().unwrap().is_empty());
    }

    #[test]
    fn nothing_is_known_of_who_is_gone() {
        let clients = clients(9);
        let connected: Vec<_> = (1..=9).map(|n| clients.known(ip(&format!("192.0.2.{}", n % 3)))).collect();
        assert_eq!(clients.known.lock().unwrap().len(), 3);
        drop(connected);
        assert!(clients.known.lock().unwrap().is_empty());
    }
}
