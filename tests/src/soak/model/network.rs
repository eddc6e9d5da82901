//! The network of a simulation: connections in memory, a resolver that lies, and a list of who must never be connected to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use proxy::upstream::{Line, Network, NoLine};

use super::{
    record::Record,
    world::{UPSTREAMS, World},
};
use crate::{
    soak::Random,
    upstream::{Place, Registry},
};

/// Where a cloud tells its secrets.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// A public address, at which nobody answers.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// Resolves to what its owner likes at the time.
pub const HOSTILE: &str = "hostile.example";
/// Resolves to a public address.
pub const STRANGER: &str = "stranger.example";

/// A network in which nothing but the registries answers.
pub struct Wires {
    world: Arc<World>,
    registries: Arc<[Registry; UPSTREAMS]>,
    record: Arc<Record>,
    chance: Mutex<Random>,
}

impl Wires {
    /// Between the product and these registries.
    pub fn new(world: Arc<World>, registries: Arc<[Registry; UPSTREAMS]>, record: Arc<Record>, seed: u64) -> Self {
        Self { world, registries, record, chance: Mutex::new(Random::new(seed)) }
    }

    fn roll(&self, sides: u64) -> u64 {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).below(sides)
    }

    fn place(&self, address: SocketAddr) -> Option<(usize, Place)> {
        self.world.place(address.port()).filter(|_| address.ip() == Ipv4Addr::LOCALHOST)
    }

    fn dial(&self, address: SocketAddr) -> Result<Line, io::Error> {
        if let Some((upstream, place)) = self.place(address) {
            if place == Place::Foreign {
                self.record.violation(&format!("connected to {address}, which nobody has listed"));
            }
            return Ok(Line::over(self.registries[upstream].line(place)));
        }
        if address.ip() != PUBLIC {
            self.record.violation(&format!("connected to {address}, which is not public"));
        }
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

impl Network for Wires {
    fn lookup(self: Arc<Self>, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1 + self.roll(3))).await;
            let with_port = |address: Ipv4Addr| SocketAddr::new(IpAddr::V4(address), port);
            if let Ok(address) = host.parse::<IpAddr>() {
                return Ok(vec![SocketAddr::new(address, port)]);
            }
            match (host.as_str(), self.roll(4)) {
                (HOSTILE, 0) => Ok(vec![with_port(METADATA)]),
                (HOSTILE, 1) => Ok(vec![with_port(PUBLIC), with_port(METADATA)]),
                (HOSTILE, 2) => Ok(vec![with_port(Ipv4Addr::LOCALHOST)]),
                (HOSTILE | STRANGER, _) => Ok(vec![with_port(PUBLIC)]),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        })
    }

    fn connect(
        self: Arc<Self>,
        addresses: Vec<SocketAddr>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Line, NoLine>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1 + self.roll(3))).await;
            if self.record.is_out() {
                // Packets that nobody answers, or a machine that says no.
                if self.roll(2) == 0 {
                    tokio::time::sleep(within * 2).await;
                }
                return Err(NoLine::new(io::Error::from(io::ErrorKind::ConnectionRefused)));
            }
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in addresses {
                match self.dial(address) {
                    Ok(line) => return Ok(line),
                    Err(error) => last = error,
                }
            }
            Err(NoLine::new(last))
        })
    }
}
