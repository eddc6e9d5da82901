//! Manifests and blobs: bounded, unencoded, in the range asked for.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use oci::Digest;

use super::{
    super::error::{Flaw, Kind, Outage, UpstreamError},
    Setup, blob, digest, latest, manifest, repository,
    server::{GOOD, Reply, Server, Step, read_head, write},
};

fn malformed(what: Kind, why: Flaw) -> UpstreamError {
    UpstreamError::Malformed { what, why }
}

#[tokio::test]
async fn a_manifest_is_asked_for_as_it_is_and_in_every_type() {
    let server =
        Server::start(|_| Reply::ok("{ }").header("content-type", "application/vnd.oci.image.index.v1+json")).await;
    let fetched = manifest(&Setup::of(&server).build()).await.unwrap();
    assert_eq!(&fetched.bytes[..], b"{ }");
    assert_eq!(fetched.content_type.as_deref(), Some("application/vnd.oci.image.index.v1+json"));
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/v2/chainguard/nginx/manifests/latest"));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    let accept: Vec<_> = seen.header("accept").unwrap().split(", ").collect();
    assert_eq!(accept.len(), oci::MediaType::MANIFESTS.len());
    assert!(oci::MediaType::MANIFESTS.iter().all(|media_type| accept.contains(media_type)), "{accept:?}");
}

#[tokio::test]
async fn a_manifest_too_large_is_cut_whatever_its_head_says() {
    let replies: [fn() -> Reply; 3] = [
        || Reply::ok(vec![b'x'; 1001]),
        || Reply::status(200).then(Step::Flood),
        || Reply::status(200).header("content-length", "1000000000000").then(Step::Flood),
    ];
    for reply in replies {
        let server = Server::start(move |_| reply()).await;
        let upstream = Setup::of(&server).limits(|limits| limits.manifest_bytes_max = 1000).build();
        assert_eq!(manifest(&upstream).await.unwrap_err(), malformed(Kind::Manifest, Flaw::TooLarge(1000)));
    }
    let server = Server::start(|_| Reply::ok(vec![b'x'; 1000])).await;
    let upstream = Setup::of(&server).limits(|limits| limits.manifest_bytes_max = 1000).build();
    assert_eq!(manifest(&upstream).await.unwrap().bytes.len(), 1000);
}

#[tokio::test]
async fn a_manifest_for_which_there_is_no_room_is_left_before_it_is_in_memory() {
    let replies: [fn() -> Reply; 3] = [
        || Reply::ok(vec![b'x'; 101]),
        || Reply::status(200).then(Step::Flood),
        || Reply::status(200).header("content-length", "1000").then(Step::Stall),
    ];
    let asked = Mutex::new(Vec::new());
    let may = |bytes| {
        asked.lock().unwrap().push(bytes);
        bytes <= 100
    };
    for reply in replies {
        let server = Server::start(move |_| reply()).await;
        let upstream = Setup::of(&server).build();
        assert_eq!(upstream.manifest_where(&repository(), &latest(), &may).await, Ok(None));
        assert!(asked.lock().unwrap().drain(..).next_back() > Some(100));
    }
    let server = Server::start(|_| Reply::ok(vec![b'x'; 100])).await;
    let fetched = Setup::of(&server).build().manifest_where(&repository(), &latest(), &may).await;
    assert_eq!(fetched.unwrap().expect("within what may be").bytes.len(), 100);
}

#[tokio::test]
async fn a_manifest_that_breaks_off_is_not_a_short_one() {
    let server =
        Server::start(|_| Reply::status(200).header("content-length", "10").then(Step::Bytes("{}".into()))).await;
    let error = manifest(&Setup::of(&server).build()).await.unwrap_err();
    assert_eq!(error, UpstreamError::Unavailable { what: Kind::Manifest, why: Outage::ConnectionLost });
    let server = Server::start(|_| Reply::status(200).then(Step::Bytes("{}".into())).then(Step::Break)).await;
    let error = manifest(&Setup::of(&server).build()).await.unwrap_err();
    assert_eq!(error, UpstreamError::Unavailable { what: Kind::Manifest, why: Outage::ConnectionLost });
}

#[tokio::test]
async fn encoded_answers_are_refused() {
    for encoding in ["gzip", "zstd", "deflate", "identity, gzip", "", "x"] {
        let server = Server::start(move |_| Reply::ok("{}").header("content-encoding", encoding)).await;
        let upstream = Setup::of(&server).build();
        assert_eq!(manifest(&upstream).await.unwrap_err(), malformed(Kind::Manifest, Flaw::Encoded), "{encoding}");
        assert_eq!(blob(&upstream, 0).await.unwrap_err(), malformed(Kind::Blob, Flaw::Encoded), "{encoding}");
    }
    let server = Server::start(|_| Reply::ok("{}").header("content-encoding", "Identity")).await;
    assert!(manifest(&Setup::of(&server).build()).await.is_ok());
}

#[tokio::test]
async fn a_head_names_a_digest_or_none() {
    let real = Digest::sha256(b"x");
    let text = real.to_string();
    let server =
        Server::start(move |_| Reply::status(200).header("docker-content-digest", &text).header("content-type", "a/b"))
            .await;
    let head = Setup::of(&server).build().head_manifest(&repository(), &latest()).await.unwrap();
    assert_eq!((head.digest, head.media_type.as_deref()), (Some(real), Some("a/b")));
    assert_eq!(server.seen()[0].method, "HEAD");

    let server = Server::start(|_| Reply::status(200)).await;
    let head = Setup::of(&server).build().head_manifest(&repository(), &latest()).await.unwrap();
    assert_eq!((head.digest, head.media_type), (None, None));
}

#[tokio::test]
async fn an_upstream_that_does_not_do_head_names_no_digest() {
    let answering = |status, retry_after| {
        Server::start(move |seen| {
            let known = if seen.method == "HEAD" { Reply::status(status) } else { Reply::ok("{}") };
            known.header("retry-after", retry_after)
        })
    };
    for (status, retry_after) in [(405, ""), (501, ""), (501, "600")] {
        let server = answering(status, retry_after).await;
        let upstream = Setup::of(&server).build();
        // It is no outage either, that would pass.
        for _ in 0..2 {
            let head = upstream.head_manifest(&repository(), &latest()).await.unwrap();
            assert_eq!((head.digest, head.media_type), (None, None), "{status}");
        }
        manifest(&upstream).await.unwrap();
    }
    for status in [400, 401, 403, 404, 406, 410, 418, 429, 500, 502, 503, 505] {
        let server = answering(status, "").await;
        assert!(Setup::of(&server).build().head_manifest(&repository(), &latest()).await.is_err(), "{status}");
    }
    // Of what is asked for itself they say nothing good.
    for status in [405, 501] {
        let server = Server::start(move |_| Reply::status(status)).await;
        assert!(manifest(&Setup::of(&server).build()).await.is_err(), "{status}");
    }
}

#[tokio::test]
async fn a_malformed_digest_of_a_head_is_none() {
    let hex = "A".repeat(64);
    for bad in ["sha256:", "sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e", "latest", &format!("sha256:{hex}")] {
        let bad = bad.to_owned();
        let server = Server::start(move |_| Reply::status(200).header("docker-content-digest", &bad)).await;
        let head = Setup::of(&server).build().head_manifest(&repository(), &latest()).await.unwrap();
        assert_eq!(head.digest, None);
    }
    let two = [Digest::sha256(b"a").to_string(), Digest::sha256(b"b").to_string()];
    let server = Server::start(move |_| {
        Reply::status(200).header("docker-content-digest", &two[0]).header("docker-content-digest", &two[1])
    })
    .await;
    let head = Setup::of(&server).build().head_manifest(&repository(), &latest()).await.unwrap();
    assert_eq!(head.digest, None);
}

#[tokio::test]
async fn every_status_has_its_own_meaning() {
    const WHAT: Kind = Kind::Manifest;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (status, retry_after, want) in [
        (404, "", UpstreamError::NotFound { what: WHAT }),
        (401, "", UpstreamError::Refused { what: WHAT, status: 401 }),
        (403, "", UpstreamError::Refused { what: WHAT, status: 403 }),
        (429, "30", UpstreamError::RateLimited { what: WHAT, retry_after: seconds(30) }),
        (429, "99999999999", UpstreamError::RateLimited { what: WHAT, retry_after: None }),
        (429, "-1", UpstreamError::RateLimited { what: WHAT, retry_after: None }),
        (429, "Wed, 21 Oct 2015 07:28:00 GMT", UpstreamError::RateLimited { what: WHAT, retry_after: None }),
        (500, "", UpstreamError::Unavailable { what: WHAT, why: Outage::Status(500) }),
        (503, "30", UpstreamError::Unavailable { what: WHAT, why: Outage::ComeAgain(503, Duration::from_secs(30)) }),
        (599, "", UpstreamError::Unavailable { what: WHAT, why: Outage::Status(599) }),
        (201, "", malformed(WHAT, Flaw::Status(201))),
        (204, "", malformed(WHAT, Flaw::Status(204))),
        (300, "", malformed(WHAT, Flaw::Status(300))),
        (304, "", malformed(WHAT, Flaw::Status(304))),
        (400, "", malformed(WHAT, Flaw::Status(400))),
        (418, "", malformed(WHAT, Flaw::Status(418))),
    ] {
        let server = Server::start(move |_| Reply::status(status).header("retry-after", retry_after)).await;
        assert_eq!(manifest(&Setup::of(&server).build()).await.unwrap_err(), want);
    }
}

#[tokio::test]
async fn a_date_to_come_again_is_as_far_off_as_the_answers_own_date_says() {
    for (date, retry_after, seconds) in [
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 23 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:27:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "soon", None),
        ("today", "Wed, 21 Oct 2015 07:28:30 GMT", None),
    ] {
        let server =
            Server::start(move |_| Reply::status(429).header("date", date).header("retry-after", retry_after)).await;
        let want = UpstreamError::RateLimited { what: Kind::Manifest, retry_after: seconds.map(Duration::from_secs) };
        assert_eq!(manifest(&Setup::of(&server).build()).await.unwrap_err(), want, "{retry_after}");
    }
}

#[tokio::test]
async fn after_one_429_nobody_asks_the_registry_and_nobody_else_is_spared() {
    let storage = Server::start(|_| Reply::status(429).header("retry-after", "30")).await;
    let target = storage.url("/blob");
    let server = Server::start(move |seen| match seen.path.as_str() {
        path if path.contains("/blobs/") => Reply::redirect(&target),
        path if path.ends_with("/tags/list") => Reply::status(429).header("retry-after", "30"),
        _ => Reply::ok("{}"),
    })
    .await;
    let upstream = Setup::of(&server).redirect(&storage).build();
    // Storage has its own limits.
    let limited = |what| UpstreamError::RateLimited { what, retry_after: Some(Duration::from_secs(30)) };
    assert_eq!(blob(&upstream, 0).await.unwrap_err(), limited(Kind::Blob));
    manifest(&upstream).await.unwrap();
    assert_eq!(upstream.tags(&repository(), None, None).await.unwrap_err(), limited(Kind::Tags));
    let asked = server.seen().len();
    assert!(upstream.is_to_be_spared());
    for _ in 0..100 {
        let error = manifest(&upstream).await.unwrap_err();
        assert!(matches!(error, UpstreamError::HeldBack { is_limit: true, .. }), "{error}");
        assert!(error.retry_after().unwrap() > Duration::from_secs(20));
    }
    assert_eq!(server.seen().len(), asked);
    // A reload takes it over; another upstream under the same name has said nothing.
    let again = Setup::of(&server).redirect(&storage).build_after(&upstream);
    assert!(again.is_to_be_spared());
    let other = Setup::of(&storage).build_after(&upstream);
    assert!(!other.is_to_be_spared());
}

#[tokio::test]
async fn a_redirect_ends_the_pause_as_any_answer_does() {
    const PAUSE: Duration = Duration::from_millis(20);
    let storage = Server::start(|_| Reply::ok("blob")).await;
    let target = storage.url("/blob");
    let server = Server::start_async(move |seen| {
        let target = target.clone();
        Box::pin(async move {
            match seen.path.as_str() {
                path if path.contains("/blobs/") => Reply::redirect(&target),
                path if path.contains("/referrers/") => Reply::status(429),
                path if path.ends_with("/tags/list") => std::future::pending().await,
                _ => Reply::ok("{}"),
            }
        })
    })
    .await;
    let setup = Setup::of(&server).redirect(&storage).limits(|limits| limits.upstream_backoff_max = PAUSE);
    let upstream = setup.build();
    assert!(upstream.referrers(&repository(), &digest()).await.is_err());
    while upstream.is_to_be_spared() {
        tokio::task::yield_now().await;
    }
    assert_eq!(blob(&upstream, 0).await.unwrap(), (0, b"blob".to_vec()));
    // Were the pause not over, the one that hangs would be the next to try, and the other would wait for it.
    let path = repository();
    let hanging = upstream.tags(&path, None, None);
    let manifest = async {
        while server.count(|seen| seen.path.ends_with("/tags/list")) == 0 {
            tokio::task::yield_now().await;
        }
        manifest(&upstream).await
    };
    tokio::select! {
        ended = hanging => panic!("{ended:?}"),
        fetched = manifest => assert!(fetched.is_ok(), "{fetched:?}"),
    }
}

#[tokio::test]
async fn who_says_that_nothing_is_left_of_its_rate_is_spared_what_nobody_waits_for() {
    let server = Server::start(|seen| {
        let left = if seen.path.contains("/blobs/") { "0;w=21600" } else { "76;w=21600" };
        Reply::ok("{}").header("ratelimit-limit", "100;w=21600").header("ratelimit-remaining", left)
    })
    .await;
    let upstream = Setup::of(&server).build();
    manifest(&upstream).await.unwrap();
    assert!(!upstream.is_to_be_spared());
    blob(&upstream, 0).await.unwrap();
    assert!(upstream.is_to_be_spared());
    // Clients are not: it says itself when it has had enough.
    manifest(&upstream).await.unwrap();
    assert!(!upstream.is_to_be_spared());
}

/// Hangs up in the middle of its first answer; later ones are whole.
async fn hangs_up_once(body: &'static str) -> Server {
    let is_first = Arc::new(AtomicBool::new(true));
    Server::start_raw(move |mut stream| {
        let is_first = Arc::clone(&is_first);
        async move {
            read_head(&mut stream).await;
            let sent = if is_first.swap(false, Ordering::SeqCst) { &body[..body.len() - 1] } else { body };
            write(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{sent}", body.len())).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_loses_its_connection_in_the_middle_is_asked_for_once_more() {
    let server = hangs_up_once("{} ").await;
    assert_eq!(&manifest(&Setup::of(&server).build()).await.unwrap().bytes[..], b"{} ");
    let server = hangs_up_once(r#"{"tags":["v1"]}"#).await;
    assert_eq!(Setup::of(&server).build().tags(&repository(), None, None).await.unwrap().tags.len(), 1);
    let server = hangs_up_once(r#"{"manifests":[]}"#).await;
    let referrers = Setup::of(&server).build().referrers(&repository(), &digest()).await.unwrap();
    assert_eq!(referrers.map(|found| found.cut), Some(None));
    let server = hangs_up_once("blob").await;
    let blob = Setup::of(&server).build().whole_blob(&repository(), &digest(), 4, Duration::ZERO).await;
    assert_eq!(blob.as_deref(), Ok(&b"blob"[..]));
}

#[tokio::test]
async fn a_blob_comes_from_the_byte_asked_for_or_from_its_start() {
    let server = Server::start(|seen| match seen.header("range") {
        Some("bytes=1-") => Reply::status(206).header("content-range", "bytes 1-3/4").body("lob"),
        Some("bytes=2-") => Reply::status(206).header("content-range", "bytes 2-3/*").body("ob"),
        // also with a range that is not done
        _ => Reply::ok("blob"),
    })
    .await;
    let upstream = Setup::of(&server).build();
    assert_eq!(blob(&upstream, 0).await.unwrap(), (0, b"blob".to_vec()));
    assert_eq!(blob(&upstream, 1).await.unwrap(), (1, b"lob".to_vec()));
    assert_eq!(blob(&upstream, 2).await.unwrap(), (2, b"ob".to_vec()));
    assert_eq!(blob(&upstream, 3).await.unwrap(), (0, b"blob".to_vec()), "ranges not done: from the start, and told");
    assert_eq!(server.seen()[0].path, format!("/v2/chainguard/nginx/blobs/{}", digest()));
    let stream = upstream.blob(&repository(), &digest(), 1).await.unwrap();
    assert_eq!((stream.start(), stream.size()), (1, Some(4)));
}

#[tokio::test]
async fn a_range_that_was_not_asked_for_is_refused() {
    for range in [
        "bytes 0-3/4",
        "bytes 2-3/4",
        "bytes 1-2/4",
        "bytes 1-3/9",
        "bytes 1-4/4",
        "bytes 1-0/4",
        "bytes 1-3",
        "bytes */4",
        "bits 1-3/4",
        "bytes +1-3/4",
        "bytes 1-18446744073709551615/*",
        "bytes 1-99999999999999999999/*",
        "1-3/4",
        "bytes 1-5/6",
        "",
    ] {
        let server = Server::start(move |_| Reply::status(206).header("content-range", range).body("lob")).await;
        assert_eq!(
            blob(&Setup::of(&server).build(), 1).await.unwrap_err(),
            malformed(Kind::Blob, Flaw::Range),
            "{range}"
        );
    }
    let server = Server::start(|_| Reply::status(206).body("lob")).await;
    assert_eq!(blob(&Setup::of(&server).build(), 1).await.unwrap_err(), malformed(Kind::Blob, Flaw::Range));
    let server = Server::start(|_| Reply::status(206).header("content-range", "bytes 0-3/4").body("blob")).await;
    let error = blob(&Setup::of(&server).build(), 0).await.unwrap_err();
    assert_eq!(error, malformed(Kind::Blob, Flaw::Range), "a part where the whole was asked for");
    let server = Server::start(|_| Reply::status(416)).await;
    assert_eq!(blob(&Setup::of(&server).build(), 9).await.unwrap_err(), malformed(Kind::Blob, Flaw::Status(416)));
}

#[tokio::test]
async fn a_blob_larger_than_any_may_be_is_not_begun() {
    let server = Server::start(|_| Reply::ok(vec![0; 1001])).await;
    let upstream = Setup::of(&server).limits(|limits| limits.blob_bytes_max = 1000).build();
    assert_eq!(blob(&upstream, 0).await.unwrap_err(), malformed(Kind::Blob, Flaw::TooLarge(1000)));
}

#[tokio::test]
async fn a_whole_blob_is_bounded() {
    let server = Server::start(|_| Reply::ok("blob")).await;
    let upstream = Setup::of(&server).build();
    assert_eq!(&upstream.whole_blob(&repository(), &digest(), 4, Duration::ZERO).await.unwrap()[..], b"blob");
    let error = upstream.whole_blob(&repository(), &digest(), 3, Duration::ZERO).await.unwrap_err();
    assert_eq!(error, malformed(Kind::Blob, Flaw::TooLarge(3)));
    let server = Server::start(|_| Reply::status(200).then(Step::Flood)).await;
    let error =
        Setup::of(&server).build().whole_blob(&repository(), &digest(), 100_000, Duration::ZERO).await.unwrap_err();
    assert_eq!(error, malformed(Kind::Blob, Flaw::TooLarge(100_000)));
}

#[tokio::test]
async fn a_blob_that_breaks_off_ends_in_an_error() {
    let server = Server::start_raw(|mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbl").await;
    })
    .await;
    let upstream = Setup::of(&server).build();
    let mut stream = upstream.blob(&repository(), &digest(), 0).await.unwrap();
    assert_eq!(stream.next().await.unwrap().as_deref(), Some(&b"bl"[..]));
    let error = stream.next().await.unwrap_err();
    assert_eq!(error, UpstreamError::Unavailable { what: Kind::Blob, why: Outage::ConnectionLost });
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_up_no_other_in_the_same_connection() {
    let server = Server::start_tls(GOOD, |seen| {
        if seen.path.contains("/blobs/") { Reply::status(200).then(Step::Flood) } else { Reply::ok("{ }") }
    })
    .await;
    let upstream = Setup::of(&server).build();
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(upstream.blob(&repository(), &digest(), 0).await.unwrap());
    }
    // Until upstream may send no more of them.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(&manifest(&upstream).await.unwrap().bytes[..], b"{ }");
    assert!(server.seen().iter().all(|seen| seen.version == http::Version::HTTP_2));
}
