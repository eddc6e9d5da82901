//! Bearer and Basic: what is asked for, how often, and who may learn it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Barrier, task::JoinSet};

use super::{
    super::error::{Flaw, Forbidden, Kind, Outage, Pointer, UpstreamError},
    Setup, blob, latest, manifest, repository,
    server::{Reply, Seen, Server, Step},
};

/// A registry that wants the token `want`; its realm is its own `/token`, answered by `token`.
async fn registry(want: &'static str, token: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |seen| {
        if seen.is_token() {
            token(seen)
        } else if seen.header("authorization") == Some(&format!("Bearer {want}")) {
            Reply::ok("{}")
        } else {
            Reply::bearer(format!("http://{}/token", seen.header("host").unwrap()))
        }
    })
    .await
}

#[tokio::test]
async fn a_challenge_is_answered_with_a_token_to_pull_from_our_repository_only() {
    let server = registry("t1", |_| Reply::token("t1")).await;
    let upstream = Setup::of(&server).build();
    manifest(&upstream).await.unwrap();
    let seen = server.seen();
    let [bare, token, with_token] = &seen[..] else { panic!("{} requests", seen.len()) };
    assert_eq!(bare.header("authorization"), None);
    assert_eq!(token.header("authorization"), None);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(token.query(), [pair("service", "registry"), pair("scope", "repository:chainguard/nginx:pull")]);
    assert_eq!(with_token.header("authorization"), Some("Bearer t1"));
}

#[tokio::test]
async fn a_token_is_used_again_for_its_own_repository_only() {
    let server = registry("t1", |_| Reply::token("t1")).await;
    let upstream = Setup::of(&server).build();
    for _ in 0..3 {
        manifest(&upstream).await.unwrap();
    }
    assert_eq!((server.count(Seen::is_token), server.seen().len()), (1, 5));
    upstream.manifest(&"chainguard/curl".parse().unwrap(), &latest()).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[5].header("authorization"), None, "the token of another repository was sent");
    assert!(seen[6].path.contains("scope=repository%3Achainguard%2Fcurl%3Apull"), "{}", seen[6].path);
}

#[tokio::test]
async fn a_query_of_the_realm_cannot_widen_the_scope() {
    let server = Server::start(|seen| {
        if seen.is_token() {
            Reply::status(403)
        } else {
            Reply::bearer(format!(
                "http://{}/token?scope=registry:catalog:*&a=b&service=x",
                seen.header("host").unwrap()
            ))
        }
    })
    .await;
    manifest(&Setup::of(&server).build()).await.unwrap_err();
    let query = server.seen()[1].query();
    let keys: Vec<_> = query.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["a", "service", "scope"]);
    assert_eq!(query[2].1, "repository:chainguard/nginx:pull");
}

#[tokio::test]
async fn credentials_go_to_the_realm_and_not_to_the_registry() {
    let server = registry("t1", |seen| match seen.header("authorization") {
        Some("Basic dXNlcjpodW50ZXIy") => Reply::ok(r#"{"access_token":"t1","expires_in":300}"#),
        _ => Reply::status(401),
    })
    .await;
    let upstream = Setup::of(&server).credentials("user", "hunter2").build();
    manifest(&upstream).await.unwrap();
    let sent_to_registry = server
        .count(|seen| !seen.is_token() && seen.header("authorization").is_some_and(|sent| sent.starts_with("Basic")));
    assert_eq!(sent_to_registry, 0);
}

/// Answers 401 to all of `clients` before the first token is handed out.
async fn crowded(clients: usize, token: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    let all_challenged = Arc::new(Barrier::new(clients + 1));
    let challenged = Arc::new(AtomicUsize::new(0));
    let token = Arc::new(token);
    Server::start_async(move |seen| {
        let (all_challenged, challenged, token) =
            (Arc::clone(&all_challenged), Arc::clone(&challenged), Arc::clone(&token));
        Box::pin(async move {
            if seen.is_token() {
                if challenged.load(Ordering::SeqCst) == clients {
                    return token();
                }
                all_challenged.wait().await;
                challenged.store(clients, Ordering::SeqCst);
                return token();
            }
            if seen.header("authorization").is_some() {
                return Reply::ok("{}");
            }
            let realm = format!("http://{}/token", seen.header("host").unwrap());
            // Not waited for here: the answer must be out before the token is.
            tokio::spawn(async move { all_challenged.wait().await });
            Reply::bearer(realm)
        })
    })
    .await
}

async fn all_at_once(clients: usize, setup: &Setup) -> Vec<Result<(), UpstreamError>> {
    let upstream = Arc::new(setup.build());
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let upstream = Arc::clone(&upstream);
        tasks.spawn(async move { manifest(&upstream).await.map(|_| ()) });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn clients_that_come_together_share_one_token_request() {
    let server = crowded(32, || Reply::token("t")).await;
    let answers = all_at_once(32, &Setup::of(&server)).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(server.count(Seen::is_token), 1);
}

#[tokio::test]
async fn clients_that_come_together_share_a_token_that_ends_at_once() {
    let server = crowded(32, || Reply::ok(r#"{"token":"t","expires_in":-1}"#)).await;
    let answers = all_at_once(32, &Setup::of(&server)).await;
    assert!(answers.iter().all(Result::is_ok));
    let tokens = server.count(Seen::is_token);
    assert!(tokens <= 4, "{tokens} token requests for 32 clients");
}

#[tokio::test]
async fn clients_that_come_together_share_a_failure() {
    let server = crowded(32, || Reply::status(503)).await;
    let answers = all_at_once(32, &Setup::of(&server)).await;
    let want = Err(UpstreamError::Unavailable { what: Kind::Token, why: Outage::Status(503) });
    assert!(answers.iter().all(|answer| *answer == want), "{answers:?}");
    let tokens = server.count(Seen::is_token);
    assert!(tokens <= 4, "{tokens} token requests for 32 clients");
}

#[tokio::test]
async fn a_token_that_has_ended_is_renewed_before_it_is_refused() {
    let server = registry("t", |_| Reply::ok(r#"{"token":"t","expires_in":-1}"#)).await;
    let upstream = Setup::of(&server).build();
    manifest(&upstream).await.unwrap();
    manifest(&upstream).await.unwrap();
    let unauthorized = server.count(|seen| !seen.is_token() && seen.header("authorization").is_none());
    assert_eq!((unauthorized, server.count(Seen::is_token)), (1, 2));
}

#[tokio::test]
async fn a_rotated_token_is_renewed_once() {
    let issued = AtomicUsize::new(0);
    let server =
        registry("t2", move |_| Reply::token(if issued.fetch_add(1, Ordering::SeqCst) == 0 { "t1" } else { "t2" }))
            .await;
    let upstream = Setup::of(&server).build();
    // Refused with the first token: within one request there is one refresh only.
    assert_eq!(manifest(&upstream).await.unwrap_err(), UpstreamError::Refused { what: Kind::Manifest, status: 401 });
    assert_eq!((server.count(Seen::is_token), server.seen().len()), (1, 3));
    manifest(&upstream).await.unwrap();
    assert_eq!((server.count(Seen::is_token), server.seen().len()), (2, 6));
}

#[tokio::test]
async fn tokens_that_are_never_taken_do_not_go_in_circles() {
    let server = registry("never", |_| Reply::token("t")).await;
    let upstream = Setup::of(&server).build();
    for requests in [3, 6] {
        assert_eq!(
            manifest(&upstream).await.unwrap_err(),
            UpstreamError::Refused { what: Kind::Manifest, status: 401 }
        );
        assert_eq!(server.seen().len(), requests);
    }
}

#[tokio::test]
async fn a_token_endpoint_that_fails_gives_its_own_error() {
    const WHAT: Kind = Kind::Token;
    // Its double is another error, and a busy machine may be late for one of them.
    const WITHIN: Duration = Duration::from_secs(1);
    let malformed = |why| UpstreamError::Malformed { what: WHAT, why };
    let unavailable = |why| UpstreamError::Unavailable { what: WHAT, why };
    let realm_redirects =
        UpstreamError::Misdirected { what: Pointer::Realm, host: "127.0.0.1".into(), why: Forbidden::Unexpected };
    let cases: [(fn() -> Reply, UpstreamError); 11] = [
        (|| Reply::status(500), unavailable(Outage::Status(500))),
        (|| Reply::status(401), UpstreamError::Refused { what: WHAT, status: 401 }),
        (|| Reply::status(403), UpstreamError::Refused { what: WHAT, status: 403 }),
        (
            || Reply::status(429).header("retry-after", "7"),
            UpstreamError::RateLimited { what: WHAT, retry_after: Some(Duration::from_secs(7)) },
        ),
        (|| Reply::status(400), malformed(Flaw::Status(400))),
        (|| Reply::redirect("https://evil.example/"), realm_redirects),
        (|| Reply::ok("{}"), malformed(Flaw::Json)),
        (|| Reply::ok("<html>"), malformed(Flaw::Json)),
        (|| Reply::status(200).then(Step::Flood), malformed(Flaw::TooLarge(1000))),
        (|| Reply::ok(vec![b' '; 1001]), malformed(Flaw::TooLarge(1000))),
        (|| Reply::status(200).then(Step::Stall), unavailable(Outage::AnswerTimedOut(WITHIN))),
    ];
    for (answer, want) in cases {
        let server = registry("t", move |_| answer()).await;
        let setup = Setup::of(&server).limits(|limits| {
            limits.token_bytes_max = 1000;
            if matches!(want, UpstreamError::Unavailable { why: Outage::AnswerTimedOut(_), .. }) {
                limits.upstream_response_timeout = WITHIN;
            }
        });
        assert_eq!(manifest(&setup.build()).await.unwrap_err(), want);
        assert_eq!(server.count(Seen::is_token), 1, "{want}");
    }
}

#[tokio::test]
async fn a_realm_elsewhere_gets_no_request_at_all() {
    let other = Server::start(|_| Reply::token("t")).await;
    let own_port = Arc::new(AtomicUsize::new(0));
    for (realm, why) in [
        ("http://127.0.0.1:OTHER/token", Forbidden::OtherHost),
        ("http://localhost:OWN/token", Forbidden::OtherHost),
        ("https://127.0.0.1:OWN/token", Forbidden::OtherHost),
        ("https://127.0.0.1.evil.example/token", Forbidden::OtherHost),
        ("http://evil.example/token", Forbidden::NotHttps),
        ("http://127.0.0.1.evil.example:OWN/token", Forbidden::NotHttps),
        ("http://user@127.0.0.1:OWN/token", Forbidden::UserInformation),
        ("http://:pass@127.0.0.1:OWN/token", Forbidden::UserInformation),
        ("http://127.0.0.1:OWN@127.0.0.1:OTHER/token", Forbidden::UserInformation),
        ("ftp://127.0.0.1:OWN/token", Forbidden::NotHttps),
    ] {
        let (other_port, port) = (other.port(), Arc::clone(&own_port));
        let server = Server::start(move |_| {
            let own = port.load(Ordering::SeqCst);
            Reply::bearer(realm.replace("OTHER", &other_port.to_string()).replace("OWN", &own.to_string()))
        })
        .await;
        own_port.store(server.port().into(), Ordering::SeqCst);
        let upstream = Setup::of(&server).credentials("user", "hunter2").build();
        let error = manifest(&upstream).await.unwrap_err();
        assert!(
            matches!(&error, UpstreamError::Misdirected { what: Pointer::Realm, why: got, .. } if *got == why),
            "{realm}: {error}"
        );
        assert_eq!(server.seen().len(), 1, "{realm}");
        assert_eq!(server.count(|seen| seen.header("authorization").is_some()), 0, "{realm}");
    }
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn a_listed_realm_gets_the_credentials() {
    let realm = Server::start(|_| Reply::token("t")).await;
    let url = realm.url("/token");
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some("Bearer t") => Reply::ok("{}"),
        _ => Reply::bearer(&url),
    })
    .await;
    manifest(&Setup::of(&server).credentials("user", "hunter2").realm(&realm).build()).await.unwrap();
    assert_eq!(realm.seen()[0].header("authorization"), Some("Basic dXNlcjpodW50ZXIy"));
}

#[tokio::test]
async fn a_challenge_that_does_not_parse_is_told() {
    for challenge in [
        "Bearer",
        "Bearer realm=\"",
        "Bearer service=\"s\"",
        "Bearer realm=\"\"",
        "Bearer realm=\"/token\"",
        "=",
        "Bearer realm=\"x\" y",
        "Bearer realm=\"https://a/\",realm=\"https://b/\"",
        "Bearer realm=\"https:///\\\"",
    ] {
        let server = Server::start(move |_| Reply::status(401).header("www-authenticate", challenge)).await;
        let error = manifest(&Setup::of(&server).build()).await.unwrap_err();
        let want = UpstreamError::Malformed { what: Kind::Manifest, why: Flaw::Header("www-authenticate") };
        assert_eq!(error, want, "{challenge}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn basic_is_answered_to_the_upstream_itself() {
    let server = Server::start(|seen| match seen.header("authorization") {
        Some("Basic dXNlcjpodW50ZXIy") => Reply::ok("{}"),
        _ => Reply::status(401).header("www-authenticate", "Negotiate, Basic realm=\"r\""),
    })
    .await;
    let upstream = Setup::of(&server).credentials("user", "hunter2").build();
    manifest(&upstream).await.unwrap();
    manifest(&upstream).await.unwrap();
    assert_eq!(server.seen().len(), 3, "once asked for, it is sent along");
    let refused = UpstreamError::Refused { what: Kind::Manifest, status: 401 };
    assert_eq!(manifest(&Setup::of(&server).build()).await.unwrap_err(), refused);
    let wrong = Setup::of(&server).credentials("user", "wrong").build();
    let before = server.seen().len();
    assert_eq!(manifest(&wrong).await.unwrap_err(), refused);
    assert_eq!(server.seen().len(), before + 2);
}

#[tokio::test]
async fn a_challenge_behind_a_redirect_is_not_answered() {
    let elsewhere = Server::start(|seen| Reply::bearer(format!("http://{}/token", seen.header("host").unwrap()))).await;
    let target = elsewhere.url("/blob");
    let server = Server::start(move |_| Reply::redirect(&target)).await;
    let upstream = Setup::of(&server).credentials("user", "hunter2").redirect(&elsewhere).build();
    let error = blob(&upstream, 0).await.unwrap_err();
    assert_eq!(error, UpstreamError::Refused { what: Kind::Blob, status: 401 });
    assert_eq!((server.seen().len(), elsewhere.seen().len()), (1, 1));
    assert_eq!(elsewhere.seen()[0].header("authorization"), None);
    assert_eq!(repository().as_str(), "chainguard/nginx");
}
