//! The network of a simulation: connections in memory, a resolver that lies, and a list of who must never be connected to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use proxy::upstream::{Line, Network, NoLine};
use tokio::io::{DuplexStream, copy, copy_bidirectional, duplex, sink};
use tokio_rustls::TlsAcceptor;

use super::{
    chaos::{Chaos, Handshake},
    record::Record,
    world::{UPSTREAMS, World, is_tls},
};
use crate::{
    soak::Random,
    upstream::{Certificate, Place, Registry},
};

/// Where a cloud tells its secrets.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// A public address, at which nobody answers.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// Resolves to what its owner likes at the time.
pub const HOSTILE: &str = "hostile.example";
/// What is on its way in a connection over TLS.
const BUFFER: usize = 64 * 1024;
/// Resolves to a public address.
pub const STRANGER: &str = "stranger.example";

/// A network in which nothing but the registries answers.
pub struct Wires {
    world: Arc<World>,
    registries: Arc<[Registry; UPSTREAMS]>,
    chaos: Arc<Chaos>,
    record: Arc<Record>,
    /// What shows each of the certificates.
    acceptors: [(Certificate, TlsAcceptor); 4],
    chance: Mutex<Random>,
}

impl Wires {
    /// Between the product and these registries.
    pub fn new(
        world: Arc<World>,
        registries: Arc<[Registry; UPSTREAMS]>,
        chaos: Arc<Chaos>,
        record: Arc<Record>,
        seed: u64,
    ) -> Self {
        use Certificate::{Expired, Good, UnknownCa, WrongHost};
        let acceptors = [Good, WrongHost, Expired, UnknownCa].map(|shown| (shown, world.acceptor(shown)));
        Self { world, registries, chaos, record, acceptors, chance: Mutex::new(Random::new(seed)) }
    }

    fn roll(&self, sides: u64) -> u64 {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).below(sides)
    }

    fn place(&self, address: SocketAddr) -> Option<(usize, Place)> {
        self.world.place(address.port()).filter(|_| address.ip() == Ipv4Addr::LOCALHOST)
    }

    /// Over TLS, as far as chaos lets it. Who goes on although the certificate is wrong has been taken in.
    fn within_tls(&self, upstream: usize, handshake: Handshake, mut line: DuplexStream) -> DuplexStream {
        let (near, far) = duplex(BUFFER);
        let mut acceptors = self.acceptors.iter();
        let shown = acceptors.find(|(certificate, _)| handshake == Handshake::Shows(*certificate)).cloned();
        let record = Arc::clone(&self.record);
        tokio::spawn(async move {
            let Some((certificate, acceptor)) = shown else {
                let mut near = near;
                if handshake == Handshake::Hangs {
                    // Until the other side has had enough of it.
                    let _ = copy(&mut near, &mut sink()).await;
                }
                return;
            };
            let Ok(mut near) = acceptor.accept(near).await else { return };
            if certificate != Certificate::Good {
                record.violation(&format!(
                    "upstream {upstream} is spoken to in spite of its certificate: {certificate:?}"
                ));
            }
            // An end of either side, whatever its reason, is for the other one to see.
            let _ = copy_bidirectional(&mut near, &mut line).await;
        });
        far
    }

    fn dial(&self, address: SocketAddr) -> Result<Line, io::Error> {
        if let Some((upstream, place)) = self.place(address) {
            if place == Place::Foreign {
                self.record.violation(&format!("connected to {address}, which nobody has listed"));
            }
            let line = self.registries[upstream].line(place);
            if !is_tls(upstream, place) {
                return Ok(Line::over(line));
            }
            return Ok(Line::over(self.within_tls(upstream, self.chaos.handshake(upstream), line)));
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

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, RootCertStore};
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// What comes back to a client that takes upstream 1 for `name`, and the violations.
    async fn spoken(name: &'static str, handshake: Handshake) -> (usize, Vec<String>) {
        let world = Arc::new(World::mint(1));
        let (registries, record) = (Arc::new(world.registries()), Arc::new(Record::new(Arc::clone(&world))));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(registries[1].ca_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
        let chaos = Chaos::new(Arc::clone(&world), Arc::clone(&record), 1);
        let wires = Wires::new(world, Arc::clone(&registries), chaos, Arc::clone(&record), 1);
        let line = wires.within_tls(1, handshake, registries[1].line(Place::Registry));
        let mut came = Vec::new();
        if let Ok(mut line) = client.connect(name.try_into().unwrap(), line).await {
            line.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            line.read_to_end(&mut came).await.unwrap();
        }
        (came.len(), record.take().1)
    }

    #[tokio::test]
    async fn who_goes_on_in_spite_of_a_certificate_is_noticed() {
        let (good, other) = (Handshake::Shows(Certificate::Good), Handshake::Shows(Certificate::WrongHost));
        let (came, violations) = spoken("localhost", good).await;
        assert!(came > 0 && violations.is_empty(), "{came} {violations:?}");
        for wrong in [other, Handshake::Shows(Certificate::UnknownCa), Handshake::Ends] {
            assert_eq!(spoken("localhost", wrong).await, (0, Vec::new()), "{wrong:?}");
        }
        // Whom the certificate is for takes it for a good one.
        let (_, violations) = spoken("elsewhere.example", other).await;
        assert!(violations.concat().contains("in spite of its certificate: WrongHost"), "{violations:?}");
    }
}
