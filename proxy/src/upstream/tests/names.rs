//! Names: slow ones, ones that have several addresses, and ones that change or lie.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use config::Scheme;
use futures_util::future::{BoxFuture, join_all};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::{
    super::{
        Line, Network, NoLine, System,
        error::{Forbidden, Kind, Outage, Pointer, UpstreamError},
    },
    SOON, Setup, blob, manifest,
    server::{Certificate, GOOD, Reply, Server},
};

const REGISTRY: &str = "registry.cloud.example";
const STORAGE: &str = "storage.cloud.example";
const CLOUD: Certificate = Certificate { name: "*.cloud.example", ..GOOD };
/// Names that begin so have a name server that says nothing.
const SILENT: &str = "silent";
/// What was given up in time takes less, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Of the public network; what is connected to there is on this machine.
const PUBLIC: [&str; 2] = ["8.8.8.8", "2001:4860:4860::8888"];

/// The system's network, but names have the addresses that they are given here, the first ones first, the last ones for good.
#[derive(Default)]
struct Names {
    addresses: HashMap<&'static str, Vec<Vec<SocketAddr>>>,
    slow: Duration,
    /// Where public addresses are instead.
    port: u16,
    looked_up: Mutex<Vec<String>>,
    connected: Mutex<Vec<Vec<SocketAddr>>>,
}

impl Names {
    /// `name` has these addresses when it is looked up first, and so on; port 0 stands for the one that is asked for.
    fn with(mut self, name: &'static str, addresses: &[&[&str]]) -> Self {
        let socket = |text: &&str| text.parse().unwrap_or_else(|_| SocketAddr::new(text.parse().unwrap(), 0));
        self.addresses.insert(name, addresses.iter().map(|all| all.iter().map(socket).collect()).collect());
        self
    }

    fn count(&self, name: &str) -> usize {
        self.looked_up.lock().unwrap().iter().filter(|known| *known == name).count()
    }

    fn connected(&self) -> Vec<Vec<SocketAddr>> {
        self.connected.lock().unwrap().clone()
    }
}

impl Network for Names {
    fn lookup(self: Arc<Self>, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            sleep(self.slow).await;
            if host.starts_with(SILENT) {
                self.looked_up.lock().unwrap().push(host);
                return std::future::pending().await;
            }
            let before = self.count(&host);
            self.looked_up.lock().unwrap().push(host.clone());
            let times = self.addresses.get(host.as_str()).ok_or(io::ErrorKind::NotFound)?;
            let addresses = times.get(before).or(times.last()).unwrap();
            let with_port = |address: &SocketAddr| match address.port() {
                0 => SocketAddr::new(address.ip(), port),
                _ => *address,
            };
            Ok(addresses.iter().map(with_port).collect())
        })
    }

    fn connect(
        self: Arc<Self>,
        addresses: Vec<SocketAddr>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Line, NoLine>> {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let is_public = |address: &SocketAddr| PUBLIC.iter().any(|public| public.parse() == Ok(address.ip()));
        let reached = addresses.iter().map(|address| if is_public(address) { here } else { *address }).collect();
        self.connected.lock().unwrap().push(addresses);
        Arc::new(System::default()).connect(reached, within)
    }
}

/// A server for all names, which leads blobs to the storage's.
async fn server() -> Server {
    Server::start_tls(CLOUD, |seen| match seen.path.as_str() {
        "/signed" => Reply::ok("blob"),
        path if path.contains("/blobs/") => Reply::redirect(format!("https://{STORAGE}/signed")),
        _ => Reply::ok("{}"),
    })
    .await
}

/// `server` as [`REGISTRY`], by these names.
fn setup(server: &Server, names: &Arc<Names>) -> Setup {
    Setup { network: Arc::clone(names) as Arc<dyn Network>, ..Setup::named(server, REGISTRY, 443) }
}

fn names_of(server: &Server) -> Names {
    Names { port: server.port(), ..Names::default() }.with(REGISTRY, &[&["8.8.8.8"]])
}

/// A port that answers nobody: its queue is full.
async fn dead() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = timeout(4 * SOON, TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    (address, listener, waiting)
}

#[tokio::test]
async fn an_address_that_does_not_answer_gives_way_to_the_next_one_within_a_moment() {
    let (dead, _listener, _waiting) = dead().await;
    let server = server().await;
    let live = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
    let (dead, live) = (dead.to_string(), live.to_string());
    let names = Arc::new(Names::default().with(REGISTRY, &[&[&dead, &dead, &live]]));
    let setup = setup(&server, &names).limits(|limits| limits.connect_timeout = Duration::from_secs(30));
    let started = Instant::now();
    manifest(&setup.build()).await.unwrap();
    let took = started.elapsed();
    // Twice 250 ms; a third of the time each would be ten seconds.
    assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn an_address_that_refuses_gives_way_to_the_next_one_and_all_of_them_are_told() {
    let server = server().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = listener.local_addr().unwrap().to_string();
    drop(listener);
    let live = format!("127.0.0.1:{}", server.port());
    let names = Arc::new(Names::default().with(REGISTRY, &[&[&refusing, &refusing, &live], &[&refusing, &refusing]]));
    manifest(&setup(&server, &names).build()).await.unwrap();
    let error = manifest(&setup(&server, &names).build()).await.unwrap_err();
    assert_eq!(error, UpstreamError::Unavailable { what: Kind::Manifest, why: Outage::ConnectionRefused });
}

#[tokio::test]
async fn addresses_of_which_none_answers_are_given_up_in_time() {
    let (dead, _listener, _waiting) = dead().await;
    let dead = dead.to_string();
    let names = Arc::new(Names::default().with(REGISTRY, &[&[&dead, &dead]]));
    let setup = Setup::at(Scheme::Https, REGISTRY, 443).limits(|limits| limits.connect_timeout = 4 * SOON);
    let started = Instant::now();
    let error = manifest(&Setup { network: names, ..setup }.build()).await.unwrap_err();
    let why = Outage::ConnectTimedOut(4 * SOON);
    assert_eq!(error, UpstreamError::Unavailable { what: Kind::Manifest, why });
    assert!(started.elapsed() < AT_ONCE);
}

#[tokio::test]
async fn a_name_that_resolves_too_slowly_counts_as_connecting() {
    let server = server().await;
    let slow = Names { slow: Duration::from_secs(60), ..names_of(&server) };
    let setup = setup(&server, &Arc::new(slow)).limits(|limits| limits.connect_timeout = SOON);
    let started = Instant::now();
    let error = manifest(&setup.build()).await.unwrap_err();
    assert_eq!(error, UpstreamError::Unavailable { what: Kind::Manifest, why: Outage::ConnectTimedOut(SOON) });
    assert!(started.elapsed() < AT_ONCE);
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn the_addresses_looked_at_are_the_ones_connected_to() {
    let server = server().await;
    let names = Arc::new(names_of(&server).with(STORAGE, &[&PUBLIC, &["127.0.0.1"]]));
    assert_eq!(blob(&setup(&server, &names).build(), 0).await.unwrap().1, b"blob");
    assert_eq!(names.count(STORAGE), 1, "whoever looks a second time may see another address");
    let public: Vec<_> = PUBLIC.iter().map(|text| SocketAddr::new(text.parse::<IpAddr>().unwrap(), 443)).collect();
    assert_eq!(names.connected(), [vec![public[0]], public]);
    // And looked at they are each time: the next connection is to where it points by then.
    let error = blob(&setup(&server, &names).build(), 0).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Misdirected { why: Forbidden::NotPublic, .. }), "{error}");
}

#[tokio::test]
async fn a_redirect_to_a_name_with_an_address_that_is_not_public_connects_to_none_of_its_addresses() {
    let server = server().await;
    for addresses in [
        &["127.0.0.1"][..],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["::1"],
        &["::ffff:10.0.0.1"],
        &["64:ff9b::a9fe:a9fe"],
        &["8.8.8.8", "169.254.169.254"],
        &["10.0.0.1", "8.8.8.8"],
        &["8.8.8.8", "2001:4860:4860::8888", "fd00::1"],
    ] {
        let names = Arc::new(names_of(&server).with(STORAGE, &[addresses]));
        let error = blob(&setup(&server, &names).build(), 0).await.unwrap_err();
        let UpstreamError::Misdirected { what: Pointer::Redirect, host, why } = &error else { panic!("{error}") };
        assert_eq!((host.as_str(), *why), (STORAGE, Forbidden::NotPublic), "{addresses:?}");
        assert_eq!(names.connected().len(), 1, "{addresses:?}: to the registry alone");
    }
}

/// Somebody whose storage has another name each time, and a name server that is silent.
#[tokio::test]
async fn names_that_upstream_makes_up_are_looked_up_a_few_at_a_time_however_many_give_up() {
    let made_up = AtomicUsize::new(0);
    let server = Server::start_tls(CLOUD, move |seen| match seen.path.as_str() {
        path if path.contains("/blobs/") => {
            let number = made_up.fetch_add(1, Ordering::SeqCst);
            Reply::redirect(format!("https://{SILENT}-{number}.example/signed"))
        }
        _ => Reply::ok("{}"),
    })
    .await;
    let names = Arc::new(names_of(&server));
    let upstream = Arc::new(setup(&server, &names).limits(|limits| limits.connect_timeout = SOON).build());
    for _ in 0..10 {
        let error = blob(&upstream, 0).await.unwrap_err();
        assert_eq!(error, UpstreamError::Unavailable { what: Kind::Blob, why: Outage::ConnectTimedOut(SOON) });
    }
    let looked_up = names.looked_up.lock().unwrap().iter().filter(|name| name.starts_with(SILENT)).count();
    assert_eq!(looked_up, 4);
    manifest(&upstream).await.unwrap();
}

#[tokio::test]
async fn one_silent_name_takes_one_look_of_these_however_many_want_it() {
    let asked = AtomicUsize::new(0);
    let server = Server::start_tls(CLOUD, move |seen| match seen.path.as_str() {
        "/signed" => Reply::ok("blob"),
        path if path.contains("/blobs/") && asked.fetch_add(1, Ordering::SeqCst) < 10 => {
            Reply::redirect(format!("https://{SILENT}.example/signed"))
        }
        _ => Reply::redirect(format!("https://{STORAGE}/signed")),
    })
    .await;
    let names = Arc::new(names_of(&server).with(STORAGE, &[&["8.8.8.8"]]));
    let upstream = Arc::new(setup(&server, &names).limits(|limits| limits.connect_timeout = 20 * SOON).build());
    let silent = join_all((0..10).map(|_| blob(&upstream, 0))).await;
    assert!(silent.iter().all(Result::is_err));
    assert_eq!(names.count("silent.example"), 1);
    assert_eq!(blob(&upstream, 0).await.unwrap().1, b"blob");
}

/// The name that may have secrets in the clear, where a name server says it is another machine.
#[tokio::test]
async fn a_localhost_that_is_elsewhere_is_not_spoken_to_in_the_clear() {
    for (addresses, is_here) in
        [(&["127.0.0.1", "::1"][..], true), (&["127.0.0.1", "8.8.8.8"], false), (&["10.0.0.7"], false)]
    {
        let server = Server::start(|_| Reply::ok("{}")).await;
        let names = Arc::new(Names { port: server.port(), ..Names::default() }.with("localhost", &[addresses]));
        let setup = Setup::at(Scheme::Http, "localhost", server.port()).credentials("alice", "secret");
        let asked = manifest(&Setup { network: Arc::clone(&names) as Arc<dyn Network>, ..setup }.build()).await;
        assert_eq!(asked.is_ok(), is_here, "{asked:?}");
        assert_eq!((names.connected().len(), server.seen().len()), (usize::from(is_here), usize::from(is_here)));
    }
}
