//! Clients that nobody vetted: what is no request, what is too much, and what never ends.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::{
    prelude::*,
    sample::select,
    strategy::{Union, ValueTree as _},
    test_runner::TestRunner,
};
use support::{
    canary,
    client::Client,
    frames, raw,
    upstream::{Call, Certificate, Fault, TestCa},
    world::{Pratique, Setup, World},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

use crate::{get, sized};

const LATEST: &str = "/v2/chainguard/nginx/manifests/latest";
const TAGS: &str = "/v2/chainguard/nginx/tags/list";
/// Far beyond every time that is set below.
const LONG: Duration = Duration::from_secs(20);

/// Everything that comes back for `said`, up to the end of the connection.
async fn heard(address: SocketAddr, said: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let said = said.to_vec();
    // Kept open for writing: it is not we who end it.
    let writing = tokio::spawn(async move {
        let _ = write.write_all(&said).await;
        write
    });
    let mut heard = Vec::new();
    let ended = timeout(LONG, read.read_to_end(&mut heard)).await;
    assert!(ended.is_ok(), "still open; heard {}", String::from_utf8_lossy(&heard));
    writing.abort();
    heard
}

/// The statuses of all answers in `heard`.
fn statuses(heard: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(heard);
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

fn limits(lines: &str) -> Setup {
    Setup::default().sections(&format!("[limits]\n{lines}\n"))
}

async fn pulled(lines: &str) -> (World, Pratique) {
    let world = World::new().await;
    world.push_signed("chainguard/nginx", "latest", &sized(1000, 1));
    let pratique = world.pratique(&limits(lines)).await;
    (world, pratique)
}

#[tokio::test]
async fn what_two_readers_could_read_differently_is_400_and_nothing_after_it_is_heard() {
    let (world, pratique) = pulled("").await;
    // Whatever else comes over that connection, it must not be answered: it would be the smuggled one.
    let smuggled = "GET /v2/evil/evil/manifests/latest HTTP/1.1\r\nhost: evil\r\n\r\n";
    let many = "x: x\r\n".repeat(200);
    let long = format!("x: {}\r\n", "x".repeat(64 * 1024));
    for (what, lines, status) in [
        ("a length and a coding", "host: p\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("a coding and a length", "host: p\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n", 400),
        ("two lengths", "host: p\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400),
        ("a length that is none", "host: p\r\ncontent-length: +4\r\n\r\nabcd", 400),
        ("a length that is a list", "host: p\r\ncontent-length: 4, 5\r\n\r\nabcd", 400),
        ("a bare line feed after a line", "host: p\nx: a\r\n\r\n", 400),
        ("a bare line feed at the end", "host: p\r\n\n", 400),
        ("bare line feeds", "host: p\n\n", 400),
        ("a bare carriage return", "host: p\rx: a\r\n\r\n", 400),
        ("a folded line", "host: p\r\nx: a\r\n b\r\n\r\n", 400),
        ("an unknown coding", "host: p\r\ntransfer-encoding: xchunked\r\n\r\n", 400),
        ("a coding after chunked", "host: p\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        ("a body", "host: p\r\ncontent-length: 4\r\n\r\nabcd", 400),
        ("a body in chunks", "host: p\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n", 400),
        ("a body that is waited for", "host: p\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nabcd", 400),
        ("a space before the colon", "host: p\r\nx : a\r\n\r\n", 400),
        ("a NUL in a value", "host: p\r\nx: a\0b\r\n\r\n", 400),
        ("no host", "x: a\r\n\r\n", 400),
        ("two hosts", "host: p\r\nhost: evil\r\n\r\n", 400),
        ("too many lines", &format!("host: p\r\n{many}\r\n"), 431),
        ("too long a line", &format!("host: p\r\n{long}\r\n"), 431),
    ] {
        for method in ["GET", "HEAD"] {
            let said = format!("{method} {LATEST} HTTP/1.1\r\n{lines}{smuggled}");
            let answers = heard(pratique.server.address, said.as_bytes()).await;
            assert_eq!(statuses(&answers), [status], "{method} with {what}");
        }
    }
    // hyper would leave it out, and answer what stands before it.
    let said = format!("GET {LATEST}#/../../evil/manifests/latest HTTP/1.1\r\nhost: p\r\n\r\n{smuggled}");
    assert_eq!(statuses(&heard(pratique.server.address, said.as_bytes()).await), [400], "a fragment");
    let said = format!(
        "PUT {LATEST} HTTP/1.1\r\nhost: p\r\ncontent-length: 3\r\n\r\nx\r\nGET {LATEST}#x HTTP/1.1\r\nhost: p\r\n\r\n"
    );
    assert_eq!(statuses(&heard(pratique.server.address, said.as_bytes()).await), [405], "what follows a body");
    assert!(world.registry.calls().is_empty(), "nothing of it was asked of upstream");
    assert_eq!(get(&format!("{}{LATEST}", pratique.url())).await.status, 200);
}

/// Lines after a request line, and how they end.
type Lines = Vec<(Vec<u8>, &'static str)>;

/// Heads of which about every other one is clear, with what two readers are known to read differently.
fn heads() -> impl Strategy<Value = Lines> {
    let names = [(6, "x"), (2, "content-length"), (1, "transfer-encoding"), (1, "host"), (1, "x "), (1, " x"), (1, "")];
    let names = Union::new_weighted(names.map(|(weight, name)| (weight, Just(name))).into());
    let separator = prop_oneof![8 => Just(":"), 8 => Just(": "), 1 => Just(" :"), 1 => Just(""), 1 => Just(":\t")];
    let values =
        ["0", "4", "0, 0", "+0", "0x0", "chunked", "identity", "xchunked", "chunked, chunked", "", "a b", "\u{fc}"];
    let value = prop_oneof![9 => select(values.to_vec()), 1 => select(vec!["a\0b", "a\rb", "a\nb", "\x7f", "\x01"])];
    let end = || prop_oneof![20 => Just("\r\n"), 1 => select(vec!["\n", "\r", "\n\r", "\r\r\n", "\0\r\n"])];
    let line = (names, separator, value, end());
    let line = line.prop_map(|(name, separator, value, end)| ([name, separator, value].concat().into_bytes(), end));
    // A line of nothing ends the head, and what comes after it is another.
    let line = line.prop_filter("nothing", |(line, _)| !line.is_empty());
    let host = end().prop_map(|end| (b"host: p".to_vec(), end));
    (host, prop::collection::vec(line, 0..4), end()).prop_map(|(host, mut lines, end)| {
        lines.insert(0, host);
        lines.push((Vec::new(), end));
        lines
    })
}

/// Whether every reader that goes by RFC 9112 reads the same: a GET without a body, one host, and then the end. None where some may refuse
/// what others read, all alike.
fn is_clear(lines: &Lines) -> Option<bool> {
    let (mut lengths, mut hosts) = (0, 0);
    for (at, (line, end)) in lines.iter().enumerate() {
        if *end != "\r\n" {
            return Some(false);
        }
        let is_last = at + 1 == lines.len();
        let colon = line.iter().position(|byte| *byte == b':');
        let Some((name, value)) = colon.map(|colon| (&line[..colon], &line[colon + 1..])) else {
            if is_last && line.is_empty() {
                break;
            }
            return Some(false);
        };
        let is_said = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        if name.is_empty()
            || !name.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-')
            || !value.iter().all(is_said)
        {
            return Some(false);
        }
        match name {
            b"host" => hosts += 1,
            b"content-length" if value.trim_ascii() == b"0" => lengths += 1,
            b"content-length" | b"transfer-encoding" => return Some(false),
            _ => {}
        }
    }
    if hosts != 1 {
        return Some(false);
    }
    (lengths < 2).then_some(true)
}

/// What every reader reads alike is answered, and what comes after it; anything else is 400, and nothing after it is heard.
#[tokio::test]
async fn a_head_is_read_as_everybody_reads_it_or_refused() {
    let (_world, pratique) = pulled("").await;
    let (strategy, mut runner) = (heads(), TestRunner::deterministic());
    let (mut clear, mut refused) = (0, 0);
    for _ in 0..500 {
        let lines = strategy.new_tree(&mut runner).unwrap().current();
        let mut said = b"GET /v2/ HTTP/1.1\r\n".to_vec();
        for (line, end) in &lines {
            said.extend(line);
            said.extend(end.as_bytes());
        }
        said.extend(b"GET /v2/ HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n");
        let answers = statuses(&heard(pratique.server.address, &said).await);
        let shown = String::from_utf8_lossy(&said);
        match is_clear(&lines) {
            Some(true) => {
                clear += 1;
                assert_eq!(answers, [200, 200], "{shown:?}");
            }
            Some(false) => {
                refused += 1;
                assert_eq!(answers, [400], "{shown:?}");
            }
            None => assert!(answers == [200, 200] || answers == [400], "{answers:?} for {shown:?}"),
        }
    }
    assert!(clear > 50 && refused > 50, "{clear} and {refused}");
}

#[tokio::test]
async fn what_is_odd_and_clear_is_answered_and_no_host_leads_anywhere() {
    let (world, pratique) = pulled("").await;
    let close = "connection: close\r\n\r\n";
    for (what, said) in [
        ("another host", format!("GET {LATEST} HTTP/1.1\r\nhost: evil.example\r\n{close}")),
        ("the absolute form", format!("GET http://evil.example{LATEST} HTTP/1.1\r\nhost: evil.example\r\n{close}")),
        ("two hosts in one", format!("GET http://evil.example{LATEST} HTTP/1.1\r\nhost: p\r\n{close}")),
        ("an expectation", format!("GET {LATEST} HTTP/1.1\r\nhost: p\r\nexpect: 100-continue\r\n{close}")),
        ("forwarded ones", format!("GET {LATEST} HTTP/1.1\r\nhost: p\r\nx-forwarded-host: evil.example\r\n{close}")),
        ("HTTP/1.0", format!("GET {LATEST} HTTP/1.0\r\n\r\n")),
    ] {
        let answer = heard(pratique.server.address, said.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer).replace("HTTP/1.0 ", "HTTP/1.1 ");
        assert_eq!(statuses(answer.as_bytes()), [200], "{what}: {answer}");
        assert!(!answer.contains("evil"), "{what}: {answer}");
    }
    world.registry.put_manifest("chainguard/nginx", Some("older"), oci::MediaType::OCI_MANIFEST, "{}");
    let said = format!("GET /v2/chainguard/nginx/tags/list?n=1 HTTP/1.1\r\nhost: evil.example\r\n{close}");
    let listed = heard(pratique.server.address, said.as_bytes()).await;
    let listed = String::from_utf8_lossy(&listed).to_lowercase();
    assert!(listed.contains("\r\nlink: </v2/") && !listed.contains("evil"), "{listed}");
    assert_eq!(world.registry.count(|call| call.mentions("evil")), 0);
}

#[tokio::test]
async fn a_method_is_what_the_request_line_says() {
    let (_world, pratique) = pulled("").await;
    let (client, url) = (Client::plain(), format!("{}{LATEST}", pratique.url()));
    for header in ["x-http-method-override", "x-http-method", "x-method-override"] {
        assert_eq!(client.get(&url, &[(header, "DELETE")]).await.unwrap().status, 200, "{header}");
        let answer = client.open(http::Method::POST, &url, &[(header, "GET")]).await.unwrap().whole().await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET, HEAD")), "{header}");
    }
}

#[tokio::test]
async fn what_a_client_asks_with_is_not_shown_upstream() {
    let (world, pratique) = pulled("").await;
    let headers = ["authorization", "cookie", "user-agent", "x-canary"].map(|name| (name, canary::CLIENT));
    let answer = Client::plain().get(&format!("{}{LATEST}", pratique.url()), &headers).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(world.registry.count(|_| true) > 0);
    assert_eq!(world.registry.count(|call| call.mentions(canary::CLIENT) || call.has_authorization()), 0);
}

#[tokio::test]
async fn every_error_is_as_long_as_it_says_and_the_connection_goes_on() {
    let world = World::new().await;
    let image = sized(1000, 1);
    for tag in ["latest", "wrong", "out", "busy"] {
        world.push_signed("chainguard/nginx", tag, &image);
    }
    sized(1000, 2).push(&world.registry, "chainguard/nginx", Some("unsigned"));
    for (tag, fault) in [
        ("wrong", Fault::instead(oci::MediaType::OCI_MANIFEST, "{}")),
        ("out", Fault::status(500)),
        ("busy", Fault::too_many_requests(7)),
    ] {
        world.registry.fault(move |call| call.path.ends_with(&format!("/manifests/{tag}")), fault);
    }
    let pratique = world.pratique(&Setup::default()).await;
    let path = |rest: &str| format!("/v2/chainguard/nginx/{rest}");
    let blob = path(&format!("blobs/{}", image.layers()[0].0));
    let asked: [(&str, String, &[&str], u16); 14] = [
        ("GET", path("manifests/latest"), &[], 200),
        ("GET", path("manifests/%3Cscript%3E"), &[], 400),
        ("GET", path("manifests/%0d%0aset-cookie:%20a"), &[], 400),
        ("GET", path("manifests/unsigned"), &[], 403),
        ("GET", path("manifests/missing"), &[], 404),
        ("HEAD", path("manifests/unsigned"), &[], 403),
        ("HEAD", path("manifests/missing"), &[], 404),
        ("HEAD", path("manifests/wrong"), &[], 502),
        ("POST", path("manifests/latest"), &["content-length: 0"], 405),
        ("GET", blob, &["range: bytes=1000-"], 416),
        ("GET", path("manifests/wrong"), &[], 502),
        ("GET", path("manifests/out"), &[], 503),
        ("GET", path("manifests/busy"), &[], 429),
        ("GET", "/v2/".to_owned(), &["connection: close"], 200),
    ];
    let requests: Vec<_> = asked.iter().map(|(method, path, lines, _)| raw::request(method, path, lines)).collect();
    // Each answer is cut off by the length it tells: one that is wrong leaves bytes that belong to none.
    let answers = raw::converse(pratique.server.address, &requests).await.unwrap();
    for ((method, path, _, status), answer) in asked.iter().zip(&answers) {
        assert_eq!(answer.status, *status, "{method} {path}: {}", answer.head);
        if *status >= 400 && *method == "HEAD" {
            assert!(answer.content.is_empty() && answer.header("content-length").is_some_and(|length| length != "0"));
        } else if *status >= 400 {
            let document: serde_json::Value = serde_json::from_slice(&answer.content).expect("an error document");
            assert!(document["errors"][0]["code"].is_string(), "{document}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
            assert!(!answer.head.contains("set-cookie") && !answer.head.contains("script"), "{}", answer.head);
        }
    }
}

/// Status and `Retry-After`.
async fn told(url: &str) -> (u16, Option<String>) {
    let answer = get(url).await;
    (answer.status.as_u16(), answer.header("retry-after").map(str::to_owned))
}

#[tokio::test]
async fn requests_wait_for_their_turn_and_are_told_to_come_again_429_or_503() {
    let one_client = ("requests_per_client_max = 1\nrequests_max = 9", 429, "client");
    let everybody = ("requests_per_client_max = 9\nrequests_max = 1", 503, "all");
    for (lines, status, why) in [one_client, everybody] {
        let world = World::new().await;
        world.push_signed("chainguard/nginx", "latest", &sized(1000, 1));
        let setup = limits(&format!("{lines}\nqueue_timeout = \"1s\""));
        let setup = Setup { top: format!("{}\nadmin_listen = \"127.0.0.1:0\"", setup.top), ..setup };
        let pratique = world.pratique(&setup).await;
        let (tags, base) = (format!("{}{TAGS}", pratique.url()), format!("{}/v2/", pratique.url()));
        // Something that is over as soon as upstream answers: the one that waits has no longer than a second.
        let hanging = world.registry.fault(Call::is_tags, Fault::Hang);
        let first = tokio::spawn(async move { told(&tags).await });
        hanging.hit(1).await.unwrap();
        let began = Instant::now();
        assert_eq!(told(&base).await, (status, Some("1".to_owned())), "{why}");
        assert!(began.elapsed() >= Duration::from_secs(1), "it waits before it is shed");
        // One that waits while a slot comes back gets it.
        let waits = tokio::spawn({
            let base = base.clone();
            async move { told(&base).await }
        });
        hanging.release();
        assert_eq!((first.await.unwrap().0, waits.await.unwrap().0), (200, 200), "{why}");
        let metrics = get(&format!("http://{}/metrics", pratique.server.admin_address.unwrap())).await.text();
        assert!(metrics.contains(&format!("pratique_requests_shed_total{{why=\"{why}\"}}")), "{metrics}");
        assert!(
            metrics.contains(&format!("pratique_requests_total{{call=\"none\",status=\"{status}\"}}")),
            "{metrics}"
        );
    }
}

/// Says `said` as another client than all the others here: by a connection from an address of its own.
async fn asked_elsewhere(address: SocketAddr, said: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut connection = socket.connect(address).await.unwrap();
    connection.write_all(said.as_bytes()).await.unwrap();
    connection
}

/// What comes back until pratique ends the connection.
async fn told_elsewhere(mut connection: TcpStream) -> Vec<u16> {
    let mut heard = Vec::new();
    timeout(LONG, connection.read_to_end(&mut heard)).await.expect("an end").unwrap();
    statuses(&heard)
}

#[tokio::test]
async fn who_asks_and_hangs_up_again_and_again_is_told_429_and_others_are_served() {
    let (own, upstreams) = ("requests_per_client_max = 4", "upstream_connections_max = 8");
    let times = "queue_timeout = \"1s\"\nupstream_response_timeout = \"60s\"";
    let (world, pratique) = pulled(&format!("{own}\n{upstreams}\n{times}")).await;
    let address = pratique.server.address;
    let hanging = world.registry.fault(|call| call.path.contains("/other/"), Fault::Hang);
    let asks = |path: &str| raw::request("GET", path, &["connection: close"]);
    let one_of_many = |n: usize| asks(&format!("/v2/chainguard/other/manifests/{n}"));
    for n in 0..300 {
        let mut connection = asked_elsewhere(address, &one_of_many(n)).await;
        if n < 4 {
            hanging.hit(n + 1).await.unwrap();
        }
        connection.shutdown().await.unwrap();
        assert_eq!(told_elsewhere(connection).await, [0; 0], "given up with who asked");
    }
    assert_eq!(told_elsewhere(asked_elsewhere(address, &one_of_many(300)).await).await, [429]);
    assert_eq!(hanging.hits(), 4, "no more is under way than its limit");
    assert_eq!(get(&format!("{}{LATEST}", pratique.url())).await.status, 200, "another client, a cold image");
    // What was begun ends, and with it what it held.
    hanging.release();
    assert_eq!(told_elsewhere(asked_elsewhere(address, &asks(LATEST)).await).await, [200]);
}

#[tokio::test]
async fn connections_beyond_a_limit_wait_and_are_told_which_one() {
    let asking = format!("GET {LATEST} HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n");
    for (limit, status) in [("connections_per_client_max", 429), ("connections_max", 503)] {
        let limits = format!("{limit} = 2\nconnections_waiting_max = 1\nqueue_timeout = \"3s\"");
        let (_world, pratique) = pulled(&limits).await;
        let address = pratique.server.address;
        let connect = async || TcpStream::connect(address).await.unwrap();
        let (held, leaving) = (connect().await, connect().await);
        let began = Instant::now();
        let told = heard(address, asking.as_bytes()).await;
        assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
        let text = String::from_utf8_lossy(&told);
        assert_eq!(statuses(&told), [status], "{text}");
        assert!(text.contains(&format!("limits.{limit} is 2")) && text.contains("connection: close"), "{text}");
        // Over HTTP/2 it ends after the answer, too: long before it would be given up.
        let stream = TokioIo::new(connect().await);
        let (mut line, connection) =
            http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), stream).await.unwrap();
        let ended = tokio::spawn(connection);
        let request = Request::get(format!("http://p{LATEST}")).body(Empty::new()).unwrap();
        assert_eq!(line.send_request(request).await.unwrap().status().as_u16(), status);
        timeout(Duration::from_secs(5), ended).await.expect("closed").unwrap().unwrap();
        // Who waits is served when one of the two leaves.
        let waiting = tokio::spawn({
            let asking = asking.clone();
            async move { heard(address, asking.as_bytes()).await }
        });
        sleep(Duration::from_millis(300)).await;
        drop(leaving);
        assert_eq!(statuses(&waiting.await.unwrap()), [200], "{limit}");
        drop(held);
    }
}

#[tokio::test]
async fn a_client_with_too_many_connections_and_others_waiting_has_the_next_closed_at_once() {
    let (_world, pratique) = pulled("connections_per_client_max = 2\nconnections_waiting_max = 1").await;
    let address = pratique.server.address;
    let connect = async || TcpStream::connect(address).await.unwrap();
    let held = [connect().await, connect().await, connect().await];
    sleep(Duration::from_millis(300)).await;
    let ended = timeout(Duration::from_secs(3), connect().await.read(&mut [0; 1])).await;
    assert!(matches!(ended.expect("closed, before anybody is told anything"), Ok(0) | Err(_)));
    drop(held);
    // They are taken off when their tasks have noticed.
    let again = async {
        while !Client::plain().get(&format!("{}/v2/", pratique.url()), &[]).await.is_ok_and(|got| got.status == 200) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, again).await.expect("room again");
}

#[tokio::test]
async fn who_does_not_end_a_request_or_asks_nothing_is_closed_in_time() {
    let (_world, pratique) = pulled("request_header_timeout = \"1s\"\nclient_idle_timeout = \"2s\"").await;
    let address = pratique.server.address;
    let whole = format!("GET {LATEST} HTTP/1.1\r\nhost: p\r\n\r\n");
    let preface = [frames::PREFACE, &frames::settings()].concat();
    for (what, said, answers) in [
        ("half a head", &b"GET /v2/ HTTP/1.1\r\nhost"[..], 0),
        ("half a head after an answer", &[whole.as_bytes(), b"GET /v2/"].concat(), 1),
        ("nothing after an answer", whole.as_bytes(), 1),
        ("nothing over HTTP/2", &preface, 0),
        ("nothing after a ping", &[&preface[..], &frames::ping()].concat(), 0),
        ("nothing after an answer over HTTP/2", &[&preface[..], &frames::headers(1, true)].concat(), 0),
    ] {
        let began = Instant::now();
        let heard = heard(address, said).await;
        assert_eq!(statuses(&heard).len(), answers, "{what}");
        assert!(began.elapsed() < Duration::from_secs(8), "{what}: {:?}", began.elapsed());
    }
    let mut dripping = TcpStream::connect(address).await.unwrap();
    let began = Instant::now();
    while dripping.write_all(b"G").await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(8), "drop by drop");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn who_does_not_end_a_handshake_is_closed_in_time() {
    let world = World::new().await;
    let (certificate, key) = TestCa::new().unwrap().server_pem(Certificate::Good).unwrap();
    std::fs::write(world.directory.path().join("tls.crt"), certificate).unwrap();
    std::fs::write(world.directory.path().join("tls.key"), key).unwrap();
    let setup =
        limits("request_header_timeout = \"1s\"").sections("[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n");
    let pratique = world.pratique(&setup).await;
    for said in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        let began = Instant::now();
        heard(pratique.server.address, said).await;
        assert!(began.elapsed() < Duration::from_secs(8), "{said:?}");
    }
}

#[tokio::test]
async fn floods_of_http2_frames_end_their_connection_and_nobody_elses() {
    const CALM: Option<u32> = Some(11);
    const PROTOCOL_ERROR: Option<u32> = Some(1);
    // That nothing was asked for long is not what ends them.
    let (_world, pratique) = pulled("client_idle_timeout = \"10m\"\nclient_write_timeout = \"10m\"").await;
    let address = pratique.server.address;
    let url = format!("{}{LATEST}", pratique.url());
    assert_eq!(get(&url).await.status, 200);
    let streams = |count: u32| (0..count).map(|n| 2 * n + 1);
    let opening = [frames::PREFACE, &frames::settings()].concat();
    let resets: Vec<u8> = streams(10_000).flat_map(|n| [frames::headers(n, true), frames::reset(n)].concat()).collect();
    let goes_on = [frames::headers_unended(1), frames::continuation(1).repeat(10_000)].concat();
    let empty = [frames::headers(1, false), frames::empty_data(1).repeat(100_000)].concat();
    let many: Vec<u8> = streams(100_000).flat_map(|n| frames::headers(n, false)).collect();
    for (what, flood, errors) in [
        ("rapid resets", resets, &[CALM][..]),
        ("a head without end", goes_on, &[CALM, PROTOCOL_ERROR]),
        ("empty frames of content", empty, &[CALM, Some(0), None]),
        ("settings", frames::settings().repeat(100_000), &[CALM, Some(0), None]),
        ("pings", frames::ping().repeat(100_000), &[CALM, Some(0), None]),
        ("streams that are never ended", many, &[CALM, Some(0), None]),
    ] {
        let flooding = tokio::spawn({
            let said = [&opening[..], &flood].concat();
            async move { heard(address, &said).await }
        });
        // Beside it, others are served as ever.
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(get(&url).await.status, 200, "{what}");
            assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
        }
        let error = frames::goaway(&flooding.await.unwrap());
        assert!(errors.contains(&error), "{what} ended with {error:?}");
    }
}
