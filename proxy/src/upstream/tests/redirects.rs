//! Redirects: followed to storage, without secrets, and to no place of ours.

use super::{
    super::error::{Flaw, Forbidden, Kind, Pointer, UpstreamError},
    Setup, blob, digest, latest, manifest, repository,
    server::{GOOD, Reply, Seen, Server},
};

/// A registry with token `t` that redirects whoever has it.
async fn redirecting(to: impl AsRef<str>) -> Server {
    let to = to.as_ref().to_owned();
    Server::start(move |seen| {
        if seen.is_token() {
            Reply::token("t")
        } else if seen.header("authorization").is_some() {
            Reply::redirect(&to)
        } else {
            Reply::bearer(format!("http://{}/token", seen.header("host").unwrap()))
        }
    })
    .await
}

fn misdirected(why: Forbidden) -> impl Fn(&UpstreamError) -> bool {
    move |error| matches!(error, UpstreamError::Misdirected { what: Pointer::Redirect, why: got, .. } if *got == why)
}

#[tokio::test]
async fn a_redirect_to_storage_is_followed_without_authorization() {
    let storage = Server::start(|_| Reply::status(206).header("content-range", "bytes 2-3/4").body("ob")).await;
    let server = redirecting(storage.url("/signed?X-Signature=s#fragment")).await;
    let upstream = Setup::of(&server).redirect(&storage).build();
    assert_eq!(blob(&upstream, 2).await.unwrap(), (2, b"ob".to_vec()));
    let seen = storage.seen();
    assert_eq!(seen[0].path, "/signed?X-Signature=s");
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(seen[0].header("range"), Some("bytes=2-"));
    assert_eq!(server.count(|seen| seen.header("authorization") == Some("Bearer t")), 1);
}

#[tokio::test]
async fn a_redirect_within_the_upstream_keeps_the_token_until_it_has_left() {
    let storage = Server::start(|seen| Reply::redirect(seen.path.replace("/back-to?", ""))).await;
    let storage_port = storage.port();
    let server = Server::start(move |seen| {
        let own = seen.header("host").unwrap();
        match seen.path.as_str() {
            "/token?service=registry&scope=repository%3Achainguard%2Fnginx%3Apull" => Reply::token("t"),
            "/within" => Reply::redirect(format!("http://127.0.0.1:{storage_port}/back-to?http://{own}/back")),
            "/back" => Reply::ok("blob"),
            _ if seen.header("authorization").is_some() => Reply::redirect("/within"),
            _ => Reply::bearer(format!("http://{own}/token")),
        }
    })
    .await;
    let upstream = Setup::of(&server).redirect(&storage).build();
    assert_eq!(blob(&upstream, 0).await.unwrap().1, b"blob");
    let sent = |path: &str| {
        let seen = server.seen().into_iter().find(|seen| seen.path == path).unwrap();
        seen.header("authorization").map(str::to_owned)
    };
    assert_eq!(sent("/within").as_deref(), Some("Bearer t"));
    assert_eq!(sent("/back"), None, "who has been elsewhere gets no token on the way back");
}

#[tokio::test]
async fn a_redirect_to_an_address_that_is_not_public_reaches_nobody() {
    let inside = Server::start_tls(GOOD, |_| Reply::ok("secret")).await;
    let port = inside.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "[fe80::1]",
        "[64:ff9b::7f00:1]",
        "224.0.0.1",
        "100.64.0.1",
    ] {
        let server = redirecting(format!("https://{host}:{port}/secret")).await;
        // Even trusting its certificate.
        let mut setup = Setup::of(&server);
        setup.upstream.ca_file = Some(setup.file("ca.pem", inside.ca_pem().unwrap()));
        let error = blob(&setup.build(), 0).await.unwrap_err();
        assert!(misdirected(Forbidden::NotPublic)(&error), "{host}: {error}");
    }
    assert_eq!(inside.seen().len(), 0);
}

#[tokio::test]
async fn a_listed_host_may_be_private_but_only_at_its_port() {
    let inside = Server::start_tls(GOOD, |_| Reply::ok("blob")).await;
    let other = Server::start_tls(GOOD, |_| Reply::ok("secret")).await;
    let server = redirecting(inside.url("/blob")).await;
    let mut setup = Setup::of(&server).redirect(&inside);
    setup.upstream.ca_file = Some(setup.file("ca.pem", inside.ca_pem().unwrap()));
    assert_eq!(blob(&setup.build(), 0).await.unwrap().1, b"blob");
    let server = redirecting(other.url("/secret")).await;
    let error = blob(&Setup::of(&server).redirect(&inside).build(), 0).await.unwrap_err();
    assert!(misdirected(Forbidden::NotPublic)(&error), "{error}");
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn a_host_listed_for_tokens_is_not_one_for_redirects() {
    let realm = Server::start_tls(GOOD, |_| Reply::ok("secret")).await;
    let server = redirecting(realm.url("/secret")).await;
    let error = blob(&Setup::of(&server).realm(&realm).build(), 0).await.unwrap_err();
    assert!(misdirected(Forbidden::NotPublic)(&error), "{error}");
    assert_eq!(realm.seen().len(), 0);
}

#[tokio::test]
async fn a_redirect_never_leaves_tls() {
    let plain = Server::start(|_| Reply::ok("blob")).await;
    let target = plain.url("/blob");
    let server = Server::start_tls(GOOD, move |_| Reply::redirect(&target)).await;
    // Not even to a listed host.
    let error = blob(&Setup::of(&server).redirect(&plain).build(), 0).await.unwrap_err();
    assert!(misdirected(Forbidden::NotHttps)(&error), "{error}");
    assert_eq!(plain.seen().len(), 0);
}

#[tokio::test]
async fn a_plain_upstream_leads_to_plain_hosts_only_where_they_are_listed() {
    let plain = Server::start(|_| Reply::ok("blob")).await;
    let server = redirecting(plain.url("/blob")).await;
    let error = blob(&Setup::of(&server).build(), 0).await.unwrap_err();
    assert!(misdirected(Forbidden::NotHttps)(&error), "{error}");
    assert_eq!(plain.seen().len(), 0);
}

#[tokio::test]
async fn a_redirect_that_is_none_is_refused() {
    for (location, why) in [
        ("https://user@storage.example/", Forbidden::UserInformation),
        ("https://:pass@storage.example/", Forbidden::UserInformation),
        ("ftp://storage.example/", Forbidden::NotHttps),
        ("file:///etc/passwd", Forbidden::NotHttps),
        ("gopher://127.0.0.1:6379/_FLUSHALL", Forbidden::NotHttps),
    ] {
        let server = redirecting(location).await;
        let error = blob(&Setup::of(&server).build(), 0).await.unwrap_err();
        assert!(misdirected(why)(&error), "{location}: {error}");
    }
    let too_long = format!("/{}", "a".repeat(8 << 10));
    for location in ["", "https://", "https://[", "https://a b/", &too_long] {
        let server = redirecting(location).await;
        let error = blob(&Setup::of(&server).build(), 0).await.unwrap_err();
        let want = UpstreamError::Malformed { what: Kind::Blob, why: Flaw::Header("location") };
        assert_eq!(error, want, "{location}");
    }
    let server = Server::start(|_| Reply::redirect("/a").header("location", "/b")).await;
    let error = blob(&Setup::of(&server).build(), 0).await.unwrap_err();
    assert_eq!(error, UpstreamError::Malformed { what: Kind::Blob, why: Flaw::Header("location") });
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let server = Server::start(|_| Reply::redirect("/again")).await;
    let upstream = Setup::of(&server).limits(|limits| limits.redirects_max = 3).build();
    let error = manifest(&upstream).await.unwrap_err();
    assert!(misdirected(Forbidden::TooManyRedirects)(&error), "{error}");
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn lists_are_not_redirected() {
    let server = Server::start(|_| Reply::redirect("/elsewhere")).await;
    let upstream = Setup::of(&server).build();
    let referrers = upstream.referrers(&repository(), &digest()).await.unwrap_err();
    let tags = upstream.tags(&repository(), None, None).await.unwrap_err();
    assert!(misdirected(Forbidden::Unexpected)(&referrers) && misdirected(Forbidden::Unexpected)(&tags));
    assert_eq!(server.count(|seen: &Seen| seen.path == "/elsewhere"), 0);
}

#[tokio::test]
async fn a_head_stays_a_head_across_a_redirect() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/there" => Reply::status(200),
        _ => Reply::redirect("/there"),
    })
    .await;
    Setup::of(&server).build().head_manifest(&repository(), &latest()).await.unwrap();
    assert!(server.seen().iter().all(|seen| seen.method == http::Method::HEAD));
}
