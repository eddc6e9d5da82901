//! Forward proxies: all goes through them, and what they do wrong is told as theirs.

use std::{
    future::pending,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use config::{ForwardProxy, Limits, MirrorUrl, Proxies, Scheme, Secret, TrustRootRefresh};
use http::Version;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::{
    super::{
        Mirror,
        error::{Forbidden, Kind, Outage, Pointer, ProxyFault, TlsFault, UpstreamError},
    },
    SOON, Setup, blob, manifest,
    server::{Certificate, GOOD, Reply, Seen, Server, head, write},
};

const REGISTRY: &str = "registry.cloud.example";
/// Of all places that only a proxy can find.
const CLOUD: Certificate = Certificate { name: "*.cloud.example", ..GOOD };

/// A proxy, and the heads of what it was asked.
pub(super) struct Forward {
    server: Server,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    /// Says `answer`, and then connects to `port` of this machine, whatever it was asked for; without a port it says no more.
    pub(super) async fn saying(answer: &'static str, port: Option<u16>) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let server = Server::start_raw(move |mut stream| {
            let log = Arc::clone(&log);
            async move {
                let Some(head) = head(&mut stream).await else { return };
                log.lock().unwrap().push(head);
                write(&mut stream, answer).await;
                let Some(port) = port else { return pending().await };
                let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
                // Either side may leave whenever it likes.
                let _ = copy_bidirectional(&mut stream, &mut far).await;
            }
        })
        .await;
        Self { server, asked }
    }

    async fn to(server: &Server) -> Self {
        Self::saying("HTTP/1.1 200 Connection established\r\n\r\n", Some(server.port())).await
    }

    /// What it was asked to connect to.
    fn targets(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    /// All that it was asked.
    pub(super) fn asked(&self) -> String {
        self.asked.lock().unwrap().concat()
    }

    pub(super) fn port(&self) -> u16 {
        self.server.port()
    }

    fn proxies(&self) -> Proxies {
        at(self.port(), None)
    }
}

fn at(port: u16, credentials: Option<&str>) -> Proxies {
    let credentials = credentials.map(|credentials| Secret::new(credentials.to_owned()));
    Proxies::through(ForwardProxy { host: "127.0.0.1".to_owned(), port, credentials })
}

/// `setup` through `forward`.
fn through(setup: Setup, forward: &Forward) -> Setup {
    Setup { proxies: forward.proxies(), ..setup }
}

fn fault(why: ProxyFault) -> UpstreamError {
    UpstreamError::Unavailable { what: Kind::Manifest, why: Outage::Proxy(why) }
}

#[tokio::test]
async fn an_upstream_is_spoken_to_through_the_proxy_which_alone_sees_its_credentials() {
    let server = Server::start_tls(CLOUD, |_| Reply::ok("{}")).await;
    let forward = Forward::to(&server).await;
    let proxies = at(forward.port(), Some("user:hunter2"));
    let setup = Setup { proxies, ..Setup::named(&server, REGISTRY, 443) };
    let upstream = setup.build();
    for _ in 0..2 {
        manifest(&upstream).await.unwrap();
    }
    assert_eq!(forward.targets(), ["registry.cloud.example:443"], "one connection for both");
    let asked = forward.asked().to_ascii_lowercase();
    assert!(asked.starts_with("connect registry.cloud.example:443 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nhost: registry.cloud.example:443\r\n"), "{asked}");
    assert!(asked.contains("\r\nproxy-authorization: basic dxnlcjpodw50zxiy\r\n"), "{asked}");
    assert!(!asked.contains("manifests"), "{asked}");
    let seen = server.seen();
    assert!(seen.len() == 2 && seen.iter().all(|seen| seen.version == Version::HTTP_2));
    assert!(seen.iter().all(|seen| seen.header("proxy-authorization").is_none()));
}

#[tokio::test]
async fn realms_and_redirects_are_reached_through_the_proxy_too() {
    let server = Server::start_tls(CLOUD, |seen: &Seen| match seen.path.as_str() {
        "/signed" => Reply::ok("blob"),
        _ if seen.is_token() => Reply::token("t"),
        _ if seen.header("authorization").is_some() => Reply::redirect("https://storage.cloud.example/signed"),
        _ => Reply::bearer("https://auth.cloud.example:8443/token"),
    })
    .await;
    let forward = Forward::to(&server).await;
    let mut setup = through(Setup::named(&server, REGISTRY, 443), &forward);
    setup.upstream.realms.push("auth.cloud.example:8443".parse().unwrap());
    assert_eq!(blob(&setup.build(), 0).await.unwrap().1, b"blob");
    let wanted = ["registry.cloud.example:443", "auth.cloud.example:8443", "storage.cloud.example:443"];
    assert_eq!(forward.targets(), wanted);
}

#[tokio::test]
async fn a_plain_upstream_is_connected_to_as_well() {
    let server = Server::start(|_| Reply::ok("{}")).await;
    let forward = Forward::to(&server).await;
    manifest(&through(Setup::named(&server, REGISTRY, 80), &forward).build()).await.unwrap();
    assert_eq!(forward.targets(), ["registry.cloud.example:80"]);
    assert_eq!(server.seen()[0].header("host"), Some(REGISTRY));
}

#[tokio::test]
async fn a_mirror_of_the_trust_root_is_asked_through_the_proxy() {
    let server = Server::start_tls(CLOUD, |_| Reply::ok("{}")).await;
    let forward = Forward::to(&server).await;
    let setup = Setup::named(&server, REGISTRY, 443);
    let mirror: MirrorUrl = "https://tuf.cloud.example".parse().unwrap();
    let refresh = TrustRootRefresh { mirror, ca_file: setup.upstream.ca_file.clone(), initial: None, every: None };
    let mirror = Mirror::new(&refresh, &Limits::default(), &forward.proxies()).unwrap();
    assert_eq!(mirror.get("timestamp.json", 100).await.unwrap().as_deref(), Some(&b"{}"[..]));
    assert_eq!(forward.targets(), ["tuf.cloud.example:443"]);
}

#[tokio::test]
async fn any_success_opens_the_way_and_nothing_else_does() {
    let server = Server::start_tls(CLOUD, |_| Reply::ok("{}")).await;
    for answer in [
        "HTTP/1.0 200 Connection established\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let forward = Forward::saying(answer, Some(server.port())).await;
        let answered = manifest(&through(Setup::named(&server, REGISTRY, 443), &forward).build()).await;
        assert!(answered.is_ok(), "{answer}: {answered:?}");
    }
    let before = server.seen().len();
    for (answer, why) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", ProxyFault::Unauthorized),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\n<html>", ProxyFault::Status(403)),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", ProxyFault::Status(502)),
        ("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3600\r\n\r\n", ProxyFault::Status(503)),
        ("HTTP/1.1 404 Not Found\r\n\r\n", ProxyFault::Status(404)),
        ("HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\n\r\n", ProxyFault::Status(302)),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", ProxyFault::Status(101)),
        ("HTTP/1.1 204 No Content\r\n\r\n", ProxyFault::Http),
        ("HTTP/1.1 200 OK\r\n\r\nwelcome", ProxyFault::Http),
        ("HTTP/2 200\r\n\r\n", ProxyFault::Http),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", ProxyFault::Http),
        ("\x15\x03\x01\0\x02\x02\x28 this is TLS \r\n\r\n", ProxyFault::Http),
    ] {
        let forward = Forward::saying(answer, Some(server.port())).await;
        let setup = through(Setup::named(&server, REGISTRY, 443), &forward);
        let error = manifest(&setup.build()).await.unwrap_err();
        assert_eq!(error, fault(why), "{answer}");
        assert!(error.to_string().starts_with("fetching the manifest: forward proxy: "), "{error}");
        assert_eq!(forward.targets().len(), 1, "{answer}: it was asked again");
    }
    assert_eq!(server.seen().len(), before);
}

#[tokio::test]
async fn a_head_without_end_is_not_read() {
    let long = "HTTP/1.1 200 OK\r\nx: ".to_owned() + &"x".repeat(1 << 20);
    let many = "HTTP/1.1 200 OK\r\n".to_owned() + &"x: y\r\n".repeat(100_000);
    for answer in [long, many] {
        let forward = Forward::saying(answer.leak(), None).await;
        let setup = through(Setup::at(Scheme::Https, REGISTRY, 443), &forward);
        assert_eq!(manifest(&setup.build()).await.unwrap_err(), fault(ProxyFault::Http));
    }
}

#[tokio::test]
async fn a_proxy_that_stalls_is_not_waited_for() {
    let started = Instant::now();
    for answer in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let forward = Forward::saying(answer, None).await;
        let setup = Setup::at(Scheme::Https, REGISTRY, 443).limits(|limits| limits.connect_timeout = SOON);
        let error = manifest(&through(setup, &forward).build()).await.unwrap_err();
        assert_eq!(error, fault(ProxyFault::TimedOut(SOON)), "{answer}");
        let told = "fetching the manifest: forward proxy: timed out after 0.05 s waiting for it to connect";
        assert_eq!(error.to_string(), told);
    }
    let silent = Server::start_raw(|stream: TcpStream| async move {
        pending::<()>().await;
        drop(stream);
    })
    .await;
    // The proxy did what it could.
    let forward = Forward::to(&silent).await;
    let setup = Setup::at(Scheme::Https, REGISTRY, 443).limits(|limits| limits.connect_timeout = 4 * SOON);
    let error = manifest(&through(setup, &forward).build()).await.unwrap_err();
    let why = Outage::ConnectTimedOut(4 * SOON);
    assert_eq!(error, UpstreamError::Unavailable { what: Kind::Manifest, why });
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_proxy_that_is_not_there_or_goes_away_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let setup = || Setup::at(Scheme::Https, REGISTRY, 443);
    let error = manifest(&Setup { proxies: at(port, None), ..setup() }.build()).await.unwrap_err();
    assert_eq!(error, fault(ProxyFault::ConnectionRefused));
    assert_eq!(error.to_string(), "fetching the manifest: forward proxy: connection to it refused");
    let host = format!("{}.example", "a".repeat(64));
    let proxies = Proxies::through(ForwardProxy { host, port, credentials: None });
    let error = manifest(&Setup { proxies, ..setup() }.build()).await.unwrap_err();
    assert_eq!(error, fault(ProxyFault::NameUnknown));
    for answer in ["", "HTTP/1.1 200 OK\r\n"] {
        let leaving = Server::start_raw(move |mut stream: TcpStream| async move {
            head(&mut stream).await;
            write(&mut stream, answer).await;
        })
        .await;
        let error = manifest(&Setup { proxies: at(leaving.port(), None), ..setup() }.build()).await.unwrap_err();
        assert_eq!(error, fault(ProxyFault::ConnectFailed), "{answer}");
    }
}

#[tokio::test]
async fn a_proxy_that_looks_into_tls_is_not_taken_for_the_upstream() {
    let inspecting = Server::start_tls(CLOUD, |_| Reply::ok("{}")).await;
    let forward = Forward::to(&inspecting).await;
    let error = manifest(&through(Setup::at(Scheme::Https, REGISTRY, 443), &forward).build()).await.unwrap_err();
    let why = Outage::Tls(TlsFault::UnknownIssuer);
    assert_eq!(error, UpstreamError::Unavailable { what: Kind::Manifest, why });
    assert_eq!(inspecting.seen().len(), 0);
}

#[tokio::test]
async fn a_redirect_to_a_literal_address_that_is_not_public_reaches_neither_proxy_nor_address() {
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "2852039166",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "192.168.0.1",
        "[64:ff9b::a00:1]",
    ] {
        let server = Server::start_tls(CLOUD, move |_| Reply::redirect(format!("https://{host}/secret"))).await;
        let forward = Forward::to(&server).await;
        let error = blob(&through(Setup::named(&server, REGISTRY, 443), &forward).build(), 0).await.unwrap_err();
        let UpstreamError::Misdirected { what: Pointer::Redirect, why, .. } = &error else { panic!("{host}: {error}") };
        assert_eq!(*why, Forbidden::NotPublic, "{host}");
        assert_eq!(forward.targets(), ["registry.cloud.example:443"], "{host}");
    }
}

#[tokio::test]
async fn an_address_that_the_operator_named_is_reached_through_the_proxy() {
    let certificate = Certificate { name: "10.1.2.3", ..GOOD };
    let server = Server::start_tls(certificate, |seen| match seen.path.as_str() {
        "/blob" => Reply::ok("blob"),
        _ => Reply::redirect("https://10.1.2.3:8443/blob"),
    })
    .await;
    let forward = Forward::to(&server).await;
    let mut setup = through(Setup::named(&server, "10.1.2.3", 443), &forward);
    let error = blob(&setup.build(), 0).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Misdirected { why: Forbidden::NotPublic, .. }), "{error}");
    setup.upstream.redirects.push("10.1.2.3:8443".parse().unwrap());
    assert_eq!(blob(&setup.build(), 0).await.unwrap().1, b"blob");
    assert_eq!(forward.targets(), ["10.1.2.3:443", "10.1.2.3:443", "10.1.2.3:8443"]);
}

#[tokio::test]
async fn this_machine_is_asked_without_the_proxy() {
    let server = Server::start(|_| Reply::ok("{}")).await;
    let forward = Forward::saying("HTTP/1.1 403 Forbidden\r\n\r\n", None).await;
    let setup = Setup::of(&server).limits(|limits| limits.connect_timeout = Duration::from_secs(5));
    manifest(&through(setup, &forward).build()).await.unwrap();
    assert_eq!(forward.targets(), Vec::<String>::new());
}
