//! Upstreams that are slow, gone, or not who they should be.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use config::Scheme;
use http::Version;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    super::{
        Upstream,
        error::{Flaw, Kind, Outage, TlsFault, UpstreamError, UpstreamSetupError},
    },
    SOON, Setup, blob, digest, latest, manifest, repository,
    server::{Certificate, GOOD, Reply, Server, Step, read_head, write},
};

fn unavailable(why: Outage) -> UpstreamError {
    UpstreamError::Unavailable { what: Kind::Manifest, why }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let server = Server::start_async(|_| Box::pin(pending())).await;
    let upstream = Setup::of(&server).limits(|limits| limits.upstream_response_timeout = SOON).build();
    assert_eq!(manifest(&upstream).await.unwrap_err(), unavailable(Outage::AnswerTimedOut(SOON)));
}

#[tokio::test]
async fn headers_beyond_their_limit_are_refused_and_within_it_are_not() {
    let server = Server::start(|_| Reply::ok("{}").header("x-long", "x".repeat(8000))).await;
    let setup = |max| Setup::of(&server).limits(move |limits| limits.upstream_header_bytes_max = max).build();
    let refused = |max| UpstreamError::Malformed { what: Kind::Manifest, why: Flaw::HeadersTooLarge(max) };
    assert_eq!(manifest(&setup(8000)).await.err(), Some(refused(8000)));
    assert_ne!(manifest(&setup(9000)).await.err(), Some(refused(9000)));
}

#[tokio::test]
async fn a_body_that_stalls_is_not_waited_for() {
    let server = Server::start(|_| Reply::status(200).then(Step::Bytes("bl".into())).then(Step::Stall)).await;
    let upstream = Setup::of(&server).limits(|limits| limits.upstream_stall_timeout = SOON).build();
    assert_eq!(manifest(&upstream).await.unwrap_err(), unavailable(Outage::Stalled(SOON)));
    let mut stream = upstream.blob(&repository(), &digest(), 0).await.unwrap();
    assert_eq!(stream.next().await.unwrap().as_deref(), Some(&b"bl"[..]));
    let error = stream.next().await.unwrap_err();
    assert_eq!(error, UpstreamError::Unavailable { what: Kind::Blob, why: Outage::Stalled(SOON) });
}

#[tokio::test]
async fn a_small_body_that_trickles_is_not_waited_for() {
    let server = Server::start(|_| Reply::status(200).then(Step::trickle())).await;
    // Longer than a byte takes, on a busy machine too.
    let within = 20 * SOON;
    let upstream = Setup::of(&server).limits(|limits| limits.upstream_stall_timeout = within).build();
    let (repository, digest) = (repository(), digest());
    let whole_blob = upstream.whole_blob(&repository, &digest, 1 << 20, Duration::ZERO);
    let (manifest, whole_blob) = tokio::join!(manifest(&upstream), whole_blob);
    assert_eq!(manifest.unwrap_err(), unavailable(Outage::Slow(2 * within)));
    let slow = UpstreamError::Unavailable { what: Kind::Blob, why: Outage::Slow(2 * within) };
    assert_eq!(whole_blob.unwrap_err(), slow);
}

#[tokio::test]
async fn a_blob_that_trickles_is_given_up() {
    let server = Server::start(|_| Reply::status(200).then(Step::trickle())).await;
    // Longer than a byte takes, on a busy machine too.
    let within = 20 * SOON;
    let upstream = Setup::of(&server).limits(|limits| limits.upstream_stall_timeout = within).build();
    let error = blob(&upstream, 0).await.unwrap_err();
    assert_eq!(error, UpstreamError::Unavailable { what: Kind::Blob, why: Outage::TooSlow(1024) });
    let patient = Setup::of(&server).limits(|limits| {
        limits.upstream_stall_timeout = within;
        limits.upstream_bytes_per_second_min = 10;
    });
    let mut stream = patient.build().blob(&repository(), &digest(), 0).await.unwrap();
    // Each takes ten milliseconds: twice as long as the one above was given.
    for _ in 0..200 {
        assert!(stream.next().await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_port_without_a_listener_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = manifest(&Setup::at(Scheme::Http, "127.0.0.1", port).build()).await.unwrap_err();
    assert_eq!(error, unavailable(Outage::ConnectionRefused));
    assert_eq!(error.to_string(), "fetching the manifest: connection refused");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told() {
    let label_too_long = format!("{}.example", "a".repeat(64));
    let error = manifest(&Setup::at(Scheme::Https, &label_too_long, 443).build()).await.unwrap_err();
    assert_eq!(error, unavailable(Outage::NameUnknown));
}

#[tokio::test]
async fn a_handshake_that_does_not_end_counts_as_connecting() {
    let server = Server::start_raw(|stream: TcpStream| async move {
        pending::<()>().await;
        drop(stream);
    })
    .await;
    let setup = Setup::at(Scheme::Https, "127.0.0.1", server.port()).limits(|limits| limits.connect_timeout = SOON);
    let error = manifest(&setup.build()).await.unwrap_err();
    assert_eq!(error, unavailable(Outage::ConnectTimedOut(SOON)));
    assert_eq!(error.to_string(), "fetching the manifest: timed out after 0.05 s connecting");
}

#[tokio::test]
async fn a_connection_that_was_idle_too_long_is_tried_anew_once() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    // Each connection answers one request, is kept alive, and ends at the next request without a word.
    let server = Server::start_raw(move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if read_head(&mut stream).await {
                write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
                read_head(&mut stream).await;
            }
        }
    })
    .await;
    let upstream = Setup::of(&server).build();
    for _ in 0..3 {
        assert_eq!(&manifest(&upstream).await.unwrap().bytes[..], b"{}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3, "connections were not reused at all, or more than once retried");
}

/// A middlebox has forgotten them all.
#[tokio::test]
async fn several_idle_connections_that_are_dead_cost_one_retry() {
    let (connections, both) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Barrier::new(2)));
    let counted = Arc::clone(&connections);
    let server = Server::start_raw(move |mut stream| {
        let (number, both) = (counted.fetch_add(1, Ordering::SeqCst), Arc::clone(&both));
        async move {
            if read_head(&mut stream).await {
                if number < 2 {
                    both.wait().await;
                }
                write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
                read_head(&mut stream).await;
            }
        }
    })
    .await;
    let upstream = Setup::of(&server).build();
    let (one, two) = tokio::join!(manifest(&upstream), manifest(&upstream));
    assert!(one.is_ok() && two.is_ok() && connections.load(Ordering::SeqCst) == 2);
    assert_eq!(&manifest(&upstream).await.unwrap().bytes[..], b"{}");
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_upstream_that_always_hangs_up_is_tried_twice() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let server = Server::start_raw(move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            read_head(&mut stream).await;
        }
    })
    .await;
    assert_eq!(manifest(&Setup::of(&server).build()).await.unwrap_err(), unavailable(Outage::ConnectionLost));
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_not_http_or_has_too_large_a_head_is_refused() {
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(10 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx";
    for answer in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", &large, &many, both] {
        let text = answer.to_owned();
        let server = Server::start_raw(move |mut stream| {
            let text = text.clone();
            async move {
                read_head(&mut stream).await;
                write(&mut stream, &text).await;
                // The client hangs up once it has seen enough.
                read_head(&mut stream).await;
            }
        })
        .await;
        let error = manifest(&Setup::of(&server).build()).await.unwrap_err();
        assert_eq!(error, UpstreamError::Malformed { what: Kind::Manifest, why: Flaw::Http }, "{}", &answer[..20]);
    }
}

#[tokio::test]
async fn interim_answers_without_end_are_not_waited_for() {
    let server = Server::start_raw(|mut stream| async move {
        read_head(&mut stream).await;
        while stream.writable().await.is_ok() && stream.try_write(b"HTTP/1.1 103 Early Hints\r\n\r\n").is_ok() {
            tokio::task::yield_now().await;
        }
        pending::<()>().await;
    })
    .await;
    let upstream = Setup::of(&server).limits(|limits| limits.upstream_response_timeout = SOON).build();
    assert_eq!(manifest(&upstream).await.unwrap_err(), unavailable(Outage::AnswerTimedOut(SOON)));
}

#[tokio::test]
async fn requests_beyond_the_limit_wait_and_then_give_up() {
    let server = Server::start(|seen| {
        if seen.path.contains("/blobs/") { Reply::status(200).then(Step::Stall) } else { Reply::ok("{}") }
    })
    .await;
    let setup = Setup::of(&server).limits(|limits| {
        limits.upstream_connections_max = 1;
        limits.upstream_response_timeout = 20 * SOON;
    });
    let upstream = setup.build();
    let stream = upstream.blob(&repository(), &digest(), 0).await.unwrap();
    assert_eq!(manifest(&upstream).await.unwrap_err(), unavailable(Outage::Busy(1)));
    drop(stream);
    assert!(manifest(&upstream).await.is_ok());
}

#[tokio::test]
async fn an_upstream_with_its_own_authority_is_spoken_to_over_http_2() {
    let server = Server::start_tls(GOOD, |_| Reply::ok("{}")).await;
    let upstream = Setup::of(&server).build();
    manifest(&upstream).await.unwrap();
    assert_eq!(server.seen()[0].version, Version::HTTP_2);
}

#[tokio::test]
async fn an_upstream_that_is_not_who_it_should_be_gets_no_request() {
    let other_name = Certificate { name: "localhost", ..GOOD };
    let expired = Certificate { until: 2001, ..GOOD };
    for (certificate, is_known, fault, text) in [
        (other_name, true, TlsFault::WrongHost, "TLS: certificate is not valid for host"),
        (expired, true, TlsFault::Expired, "TLS: certificate expired"),
        (GOOD, false, TlsFault::UnknownIssuer, "TLS: unknown issuer"),
    ] {
        let server = Server::start_tls(certificate, |_| Reply::ok("{}")).await;
        let mut setup = Setup::of(&server).credentials("user", "hunter2");
        if !is_known {
            setup.upstream.ca_file = None;
        }
        let error = manifest(&setup.build()).await.unwrap_err();
        assert_eq!(error, unavailable(Outage::Tls(fault)));
        assert!(error.to_string().ends_with(text), "{error}");
        assert_eq!(server.seen().len(), 0);
    }
    let plain = Server::start(|_| Reply::ok("{}")).await;
    let error = manifest(&Setup::at(Scheme::Https, "127.0.0.1", plain.port()).build()).await.unwrap_err();
    assert_eq!(error, unavailable(Outage::Tls(TlsFault::Handshake)));
}

/// A server that knows no TLS after 1.0 says so by an alert, or goes on with what it knows.
#[tokio::test]
async fn an_upstream_that_speaks_only_old_tls_gets_no_request() {
    // TLS_RSA_WITH_AES_128_CBC_SHA, no session, no compression.
    let hello = [&[2, 0, 0, 38, 3, 1][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    let goes_on = [&[22, 3, 1, 0, 42][..], &hello].concat();
    let refuses = [21, 3, 1, 0, 2, 2, 70].to_vec();
    for said in [refuses, goes_on] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ours = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut first = [0; 4096];
                assert!(stream.read(&mut first).await.unwrap() > 0);
                stream.write_all(&said).await.unwrap();
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                ours.lock().unwrap().push(rest);
            }
        });
        let upstream = Setup::at(Scheme::Https, "127.0.0.1", port).credentials("user", "hunter2").build();
        assert_eq!(manifest(&upstream).await.unwrap_err(), unavailable(Outage::Tls(TlsFault::Handshake)));
        drop(upstream);
        let all = heard.lock().unwrap().concat();
        // An alert, or nothing: never a record of content.
        assert!(all.is_empty() || all[0] == 21 && all.len() == 7, "{all:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_set_up_is_told_before_anything_is_sent() {
    let build = |setup: &Setup| Upstream::new(&setup.upstream, &setup.limits).map(|_| ()).unwrap_err();
    let at = |scheme, host| Setup::at(scheme, host, 443);
    let plain = at(Scheme::Http, "registry.example").credentials("user", "hunter2");
    assert!(matches!(build(&plain), UpstreamSetupError::PlainCredentials { .. }));
    let colon = at(Scheme::Https, "registry.example").credentials("us:er", "hunter2");
    assert!(matches!(build(&colon), UpstreamSetupError::Username { .. }));
    for (text, want) in [
        ("", "got none"),
        ("no certificate", "got none"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "got text that is not PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "got a certificate that cannot be an authority's",
        ),
    ] {
        let mut setup = at(Scheme::Https, "registry.example");
        setup.upstream.ca_file = Some(setup.file("ca.pem", text));
        let error = build(&setup);
        assert!(error.to_string().ends_with(want), "{error}");
    }
    let mut missing = at(Scheme::Https, "registry.example");
    missing.upstream.ca_file = Some(missing.files.path().join("absent"));
    assert!(matches!(build(&missing), UpstreamSetupError::File { key: "ca_file", .. }));
}

/// Asks for a manifest of another repository than the one that all else is about.
async fn other(upstream: &Upstream) -> Result<(), UpstreamError> {
    upstream.manifest(&"chainguard/other".parse().unwrap(), &latest()).await.map(drop)
}

#[tokio::test]
async fn who_is_out_for_one_thing_in_one_repository_is_left_alone_about_that_and_asked_for_all_else() {
    let server = Server::start(|seen| {
        let is_out = seen.path.starts_with("/v2/chainguard/nginx/") && !seen.path.ends_with("/tags/list");
        if is_out { Reply::status(503).header("retry-after", "600") } else { Reply::ok(r#"{"tags":[]}"#) }
    })
    .await;
    let upstream = Setup::of(&server).build();
    let out = |what| {
        let why = Outage::ComeAgain(503, Duration::from_secs(600));
        UpstreamError::Unavailable { what, why }
    };
    assert_eq!(manifest(&upstream).await.unwrap_err(), out(Kind::Manifest));
    assert!(!upstream.is_to_be_spared(), "it limits no rate");
    // Another reload, another hundred clients: it has said when to ask for that again.
    let upstream = Setup::of(&server).build_after(&upstream);
    for _ in 0..100 {
        let error = manifest(&upstream).await.unwrap_err();
        assert!(matches!(error, UpstreamError::HeldBack { what: Kind::Manifest, is_limit: false, .. }), "{error}");
        assert!(error.retry_after().is_some_and(|left| left > Duration::from_secs(500)), "{error}");
    }
    assert_eq!(server.seen().len(), 1);
    // Whether it is out for all else it has not said.
    other(&upstream).await.unwrap();
    upstream.tags(&repository(), None, None).await.unwrap();
    assert_eq!(blob(&upstream, 0).await.unwrap_err(), out(Kind::Blob));
    assert!(matches!(blob(&upstream, 0).await.unwrap_err(), UpstreamError::HeldBack { what: Kind::Blob, .. }));
    other(&upstream).await.unwrap();
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn what_fails_in_one_repository_without_naming_a_time_keeps_nobody_waiting() {
    let server = Server::start_async(|seen| {
        Box::pin(async move {
            match seen.path.as_str() {
                path if path.starts_with("/v2/chainguard/other/") => Reply::ok("{}"),
                path if path.ends_with("/tags/list") => Reply::status(500),
                _ => pending().await,
            }
        })
    })
    .await;
    // Long enough for those who answer, on a busy machine too.
    let within = 20 * SOON;
    let upstream = Setup::of(&server).limits(|limits| limits.upstream_response_timeout = within).build();
    for _ in 0..2 {
        let failing = UpstreamError::Unavailable { what: Kind::Tags, why: Outage::Status(500) };
        assert_eq!(upstream.tags(&repository(), None, None).await.unwrap_err(), failing);
        assert_eq!(manifest(&upstream).await.unwrap_err(), unavailable(Outage::AnswerTimedOut(within)));
        other(&upstream).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_endpoint_that_is_out_for_one_repository_hands_out_tokens_for_others() {
    let realm = Server::start(|seen| {
        let is_out = seen.query().iter().any(|(_, value)| value.contains("chainguard/nginx"));
        if is_out { Reply::status(503).header("retry-after", "600") } else { Reply::token("t") }
    })
    .await;
    let address = realm.url("/token");
    let server =
        Server::start(
            move |seen| {
                if seen.header("authorization").is_some() { Reply::ok("{}") } else { Reply::bearer(&address) }
            },
        )
        .await;
    let upstream = Setup::of(&server).realm(&realm).build();
    let why = Outage::ComeAgain(503, Duration::from_secs(600));
    assert_eq!(manifest(&upstream).await.unwrap_err(), UpstreamError::Unavailable { what: Kind::Token, why });
    let held = manifest(&upstream).await.unwrap_err();
    assert!(matches!(held, UpstreamError::HeldBack { what: Kind::Token, is_limit: false, .. }), "{held}");
    other(&upstream).await.unwrap();
    assert_eq!(realm.seen().len(), 2);
}
