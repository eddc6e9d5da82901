//! What the log says of requests in its default settings: nothing of hits, everything of refusals.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use serde_json::Value;
use support::{
    image,
    process::{self, Child, Process, Signal},
    upstream::noise,
    world::{Setup, World},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    time::timeout,
};

use crate::{REPOSITORY, admin_url, administered, get, signed};

const HITS: u32 = 5;

#[tokio::test]
async fn hits_are_counted_and_not_told_and_a_refusal_names_its_image() {
    let (world, index) = signed(1000).await;
    let unsigned = image::single("linux/amd64", [noise(10, 9)]);
    unsigned.push(&world.registry, REPOSITORY, Some("unsigned"));
    let process = Process::serve(&world.write(&administered())).await.unwrap();
    let manifests = format!("http://{}/v2/{REPOSITORY}/manifests", process.address);
    let references = [index.digest.to_string(), "latest".to_owned()];
    // The first look makes the verdict, and tells it; the second one is kept.
    for reference in references.iter().chain(&references) {
        assert_eq!(get(&format!("{manifests}/{reference}")).await.status, 200);
    }
    process.logged("the verdict", |entry| entry["verdict"] == "served").await.unwrap();
    let before = (process.log().len(), answered(&process).await);
    for _ in 0..HITS {
        for reference in &references {
            assert_eq!(get(&format!("{manifests}/{reference}")).await.status, 200);
        }
    }
    let after = answered(&process).await;
    assert_eq!(after, before.1.map(|count| count + f64::from(2 * HITS)), "answers, and hits");
    assert_eq!(get(&format!("{manifests}/unsigned")).await.status, 403);
    let refused = process.logged("the answer", |entry| entry["status"] == 403).await.unwrap();
    assert_eq!(refused["span"]["repository"], format!("cgr.dev/{REPOSITORY}"), "{refused}");
    assert_eq!(refused["span"]["reference"], "unsigned", "{refused}");
    let verdict = process.logged("the verdict", |entry| entry["verdict"] == "absent").await.unwrap();
    assert_eq!(verdict["repository"], format!("cgr.dev/{REPOSITORY}"), "{verdict}");
    assert_eq!(verdict["digest"], unsigned.digest.to_string(), "{verdict}");
    // Between the first verdict and the refusal nobody was told anything.
    let log = process.log();
    let between = log[before.0..].iter().take_while(|entry| entry["verdict"] != "absent");
    assert_eq!(between.count(), 0, "{:?}", &log[before.0..]);
}

/// Manifests answered with 200, and those that were hits.
async fn answered(process: &Process) -> [f64; 2] {
    let metrics = get(&format!("{}/metrics", admin_url(process))).await.text();
    let of = |name: &str| {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {metrics}"));
        line.trim().parse().unwrap()
    };
    [of("pratique_requests_total{call=\"manifest\",status=\"200\"}"), of("pratique_manifest_hits_total")]
}

const LONG: Duration = Duration::from_secs(60);
/// What nobody but a forger says, as a line of either form, between ends of lines and colours.
const FORGED: &str = "FORGED\r\n{\"timestamp\":\"2026-01-01T00:00:00.000000Z\",\"level\":\"ERROR\",\"message\":\"FORGED\"}\r\n\
                      2026-01-01T00:00:00.000000Z ERROR FORGED\n\u{1b}[31mFORGED\u{1b}[2J\u{7}\u{9b}1m\u{2028}\r";

/// What an upstream says that no HTTP library would send.
fn hostile_answers() -> Vec<Vec<u8>> {
    let one_line = FORGED.replace(['\r', '\n'], " ");
    let document = serde_json::json!({"errors": [{"code": FORGED, "message": FORGED, "detail": FORGED}]}).to_string();
    let answer = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n\r\n");
        (head + body).into_bytes()
    };
    let quoted = one_line.replace('"', "'");
    vec![
        answer("500 Internal", "Content-Type: application/json", &document),
        answer("404 Not Found", "Content-Type: application/json", &document),
        answer("403 Forbidden", "Content-Type: text/plain", FORGED),
        answer("400 Bad", "Content-Type: application/json", &document),
        answer(&format!("500 {one_line}"), "X-A: b", &document),
        answer("200 OK", &format!("Content-Type: {one_line}"), FORGED),
        answer("200 OK", "Content-Type: FORGED/\tx\r\nDocker-Content-Digest: FORGED\tx", FORGED),
        answer("200 OK", "Content-Type: application/vnd.oci.image.manifest.v1+json", FORGED),
        answer("401 No", &format!("WWW-Authenticate: Bearer realm=\"{quoted}\",service=\"{quoted}\""), ""),
        answer(
            "401 No",
            "WWW-Authenticate: Bearer realm=\"http://FORGED.example/%0aFORGED\",service=\"a\tFORGED\"",
            "",
        ),
        answer("307 There", &format!("Location: http://x/{one_line}"), ""),
        answer("307 There", "Location: http://forged.example/%0d%0aFORGED", ""),
        answer("200 OK", "X-A: b\nX-FORGED: c\r\n folded FORGED", "{}"),
        FORGED.as_bytes().to_vec(),
        // Nothing is asked for a while after this one.
        answer("429 Slow", "Content-Type: application/json\r\nRetry-After: FORGED", &document),
    ]
}

/// An upstream that answers so, each repository in its own way; its address.
async fn hostile_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let answers = hostile_answers();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match client.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let number = head.split("/forged").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
            let _ = client.write_all(answers.get(number.unwrap_or(0)).unwrap()).await;
        }
    });
    address
}

/// Sends these bytes and waits for whatever comes, to its end.
async fn say(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect(address).await.unwrap();
    let _ = client.write_all(request).await;
    let mut answer = Vec::new();
    let _ = timeout(LONG, client.read_to_end(&mut answer)).await.expect("an end");
    answer
}

/// Requests in which everything that a client can say is forged.
fn hostile_requests() -> Vec<Vec<u8>> {
    let escape =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let escaped: String = FORGED.bytes().map(escape).collect();
    let raw = FORGED.replace(' ', "");
    let one_line = FORGED.replace(['\r', '\n', ' '], "");
    let request = |path: &str, header: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: pratique\r\nConnection: close\r\n{header}\r\n\r\n").into_bytes()
    };
    let mut requests = Vec::new();
    for text in [escaped.as_str(), &raw, &one_line] {
        for path in [
            format!("/v2/chainguard/{text}/manifests/latest"),
            format!("/v2/{REPOSITORY}/manifests/{text}"),
            format!("/v2/{REPOSITORY}/blobs/sha256:{text}"),
            format!("/v2/{REPOSITORY}/referrers/{text}?artifactType={text}"),
            format!("/v2/{REPOSITORY}/tags/list?n={text}&last={text}"),
            format!("/v2/{REPOSITORY}/manifests/latest?ns={text}"),
            format!("/{text}"),
        ] {
            requests.push(request(&path, "X-A: b"));
        }
    }
    for name in
        ["User-Agent", "Accept", "Range", "If-None-Match", "Authorization", "X-Request-Id", "Host", "FORGED\u{1b}["]
    {
        for text in [&raw, &one_line, "FORGED\ta", "a\n{\"FORGED\":1}", "a\r\n {\"FORGED\":1}"] {
            requests.push(request(&format!("/v2/{REPOSITORY}/manifests/latest"), &format!("{name}: {text}")));
        }
    }
    // As many well-formed ones as bring up each of upstream's answers, by tag, digest and as lists.
    let digest = oci::Digest::sha256(b"FORGED");
    for number in 0..hostile_answers().len() {
        for what in [format!("manifests/v{number}"), format!("manifests/{digest}"), "tags/list".to_owned()] {
            // Each repository by itself: one upstream that is out is not asked again for the same.
            requests
                .push(request(&format!("/v2/chainguard/forged{number}/{what}"), "User-Agent: FORGED/1.0 \u{9b}31m"));
        }
    }
    requests
}

/// Whether this is one line as the log of that form has them.
fn is_line(form: &str, line: &str) -> bool {
    let level = |text: &str| ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&text);
    let is_time = |text: &str| text.len() == 27 && text.starts_with("20") && text.ends_with('Z');
    if form == "json" {
        let Ok(Value::Object(entry)) = serde_json::from_str(line) else { return false };
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        return is_time(text("timestamp")) && level(text("level")) && !text("target").is_empty();
    }
    let mut words = line.split_whitespace();
    words.next().is_some_and(is_time) && words.next().is_some_and(level)
}

#[tokio::test]
async fn whatever_clients_and_upstreams_say_each_line_of_the_log_is_one_of_ours() {
    for form in ["json", "human"] {
        let world = World::new().await;
        let upstream = hostile_upstream().await;
        let limits = "upstream_backoff_max = \"1s\"\ndecision_timeout = \"2s\"\ndrain_timeout = \"2s\"";
        let sections = format!("[limits]\n{limits}\n[log]\nformat = \"{form}\"\nfilter = \"trace\"\n");
        let config = world.write(&Setup::default().sections(&sections));
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace(&world.registry.url(), &format!("http://{upstream}"))).unwrap();
        let mut command = Command::new(process::binary().await.unwrap());
        command.arg("serve").arg("--config").arg(&config);
        process::alone(&mut command);
        let mut child = Child::start(command).unwrap();
        let address = child.line(0, "where it serves", LONG, |line| {
            let after = line.contains("serving").then(|| line.split("127.0.0.1:").nth(1))??;
            let port: String = after.chars().take_while(char::is_ascii_digit).collect();
            Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
        });
        let address = address.await.unwrap();
        let mut requests = hostile_requests();
        let last = requests.split_off(requests.len() - 3);
        for requests in [requests, last] {
            join_all(requests.iter().map(|request| say(address, request))).await;
        }
        child.signal(Signal::TERM).unwrap();
        child.ended(LONG).await.unwrap();
        let log = child.said();
        for line in &log {
            assert!(is_line(form, line), "{form}: no line of ours: {line:?}");
            assert!(!line.chars().any(|char| char.is_control() || char == '\u{2028}'), "{form}: {line:?}");
            let said = serde_json::from_str::<Value>(line).ok();
            let forged = said.is_some_and(|entry| entry["message"] == "FORGED")
                || line.contains("ERROR FORGED") && line.starts_with("2026-01-01");
            assert!(!forged, "{form}: {line:?}");
        }
        assert!(
            log.last().is_some_and(|line| line.contains("stopped")),
            "{form}: all of it was read: {:?}",
            log.last()
        );
        let foreign = log.iter().filter(|line| line.contains("FORGED")).count();
        assert!(foreign >= 5, "{form}: {foreign} lines with what clients and upstreams said");
    }
}
