//! A CA that nobody was born with, and a way to a name that no resolver knows.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

/// Under which name clients know pratique where it speaks TLS (RFC 6761 keeps `.test` out of the DNS).
pub const NAME: &str = "pratique.test";

/// A CA made on the spot.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "private CA of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for pratique, and its key.
    pub fn server(&self) -> (String, String) {
        let names = [NAME, "localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// An HTTP proxy that connects to [`NAME`] and to nothing else. It cannot read what goes through, only which protocols a client
/// offers at the beginning of its handshake.
pub struct Tunnel {
    address: SocketAddr,
    http2_offered: Arc<Mutex<Vec<bool>>>,
    listening: JoinHandle<()>,
}

impl Tunnel {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let http2_offered = Arc::new(Mutex::new(Vec::new()));
        let offers = Arc::clone(&http2_offered);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, Arc::clone(&offers)));
            }
        });
        Self { address, http2_offered, listening }
    }

    /// What to put into `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For each connection so far, whether the client offered HTTP/2.
    pub fn http2_offered(&self) -> Vec<bool> {
        self.http2_offered.lock().unwrap().clone()
    }
}

impl Tunnel {
    /// Goes through the tunnel as a client does, offering HTTP/2; returns the protocol that pratique chose.
    pub async fn handshake(&self, ca: &Ca, port: u16) -> Option<Vec<u8>> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.0.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let mut stream = BufReader::new(TcpStream::connect(self.address).await.unwrap());
        stream.write_all(format!("CONNECT {NAME}:{port} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut answer).await.unwrap() > 0, "{answer}");
        }
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(NAME.try_into().unwrap(), stream).await.unwrap();
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn carry(client: TcpStream, target: SocketAddr, offers: Arc<Mutex<Vec<bool>>>) -> Option<()> {
    let mut client = BufReader::new(client);
    let mut line = String::new();
    client.read_line(&mut line).await.ok()?;
    let wanted = line.split(' ').nth(1)?.to_owned();
    while line.trim() != "" {
        line.clear();
        client.read_line(&mut line).await.ok()?;
    }
    if wanted != format!("{NAME}:{}", target.port()) {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.ok();
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    let mut hello = vec![0; 4096];
    let length = client.read(&mut hello).await.ok()?;
    hello.truncate(length);
    // ALPN (RFC 7301) lists each protocol with its length before it.
    let offered = hello.windows(3).any(|window| window == b"\x02h2");
    offers.lock().unwrap().push(offered);
    let mut server = TcpStream::connect(target).await.ok()?;
    server.write_all(&hello).await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}
