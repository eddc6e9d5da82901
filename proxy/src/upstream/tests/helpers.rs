//! Credential helpers, asked again when what they handed out has ended.

use std::{fs, process::Command, sync::Arc, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use config::Secret;
use oci::UnixTime;
use tokio::task::JoinSet;

use super::{
    super::{
        Upstream,
        credentials::Credentials,
        docker::{Helper, Login},
        error::{Kind, UpstreamError},
    },
    Setup, blob, latest, manifest,
    server::{Reply, Seen, Server},
};

/// An upstream whose first password is "old", and a helper that hands out what its file says, or does what it is told instead.
struct Helped {
    upstream: Arc<Upstream>,
    setup: Setup,
}

#[expect(clippy::disallowed_methods, reason = "the operator's own files and programs")]
impl Helped {
    fn new(setup: Setup, first: &str, does: &str) -> Self {
        let files = setup.files.path().display().to_string();
        let answers = r#"echo "{\"Username\":\"user\",\"Secret\":\"$(cat secret)\"}""#;
        let does = if does.is_empty() { answers } else { does };
        let text = setup.file("text", &format!("#!/bin/sh\ncd '{files}'\necho asked >> asked\n{does}\n"));
        let program = setup.files.path().join("helper");
        // By another process: what this one has open for writing, all that its other tests start have open for a moment too, and nobody can
        // run it meanwhile.
        let installed = Command::new("install").args(["-m", "700"]).args([&text, &program]).status().unwrap();
        assert!(installed.success());
        let helper = Helper { program: program.display().to_string(), server: "127.0.0.1".into() };
        let login = Login { username: "user".into(), password: Secret::new(first.to_owned()) };
        let credentials = Credentials::new("cgr.dev".into(), &login, Some(helper)).map(Arc::new);
        let Setup { upstream, limits, proxies, network, .. } = &setup;
        let upstream = Arc::new(Upstream::having(credentials, upstream, limits, proxies, network).unwrap());
        Self { upstream, setup }
    }

    fn hands_out(self, secret: &str) -> Self {
        self.setup.file("secret", secret);
        self
    }

    fn asked(&self) -> usize {
        fs::read_to_string(self.setup.files.path().join("asked")).map_or(0, |asked| asked.lines().count())
    }
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("user:{password}")))
}

fn sends(seen: &Seen, authorization: &str) -> bool {
    seen.header("authorization") == Some(authorization)
}

/// A registry whose token endpoint takes the password "new" and answers every other with this status.
async fn tokens(refusal: u16) -> Server {
    Server::start(move |seen| {
        if seen.is_token() {
            if sends(seen, &basic("new")) { Reply::token("t") } else { Reply::status(refusal) }
        } else if sends(seen, "Bearer t") {
            Reply::ok("{}")
        } else {
            Reply::bearer(format!("http://{}/token", seen.header("host").unwrap()))
        }
    })
    .await
}

/// A registry that wants the password "new" itself, and answers every other with this status.
async fn basics(refusal: u16) -> Server {
    Server::start(move |seen| match seen.header("authorization") {
        None => Reply::status(401).header("www-authenticate", "Basic realm=\"r\""),
        Some(sent) if sent == basic("new") => Reply::ok("{}"),
        Some(_) if refusal == 401 => Reply::status(401).header("www-authenticate", "Basic realm=\"r\""),
        Some(_) => Reply::status(refusal),
    })
    .await
}

#[tokio::test]
async fn a_password_that_has_ended_is_replaced_and_the_pull_that_met_it_goes_on() {
    for refusal in [401, 403] {
        for server in [tokens(refusal).await, basics(refusal).await] {
            let helped = Helped::new(Setup::of(&server), "old", "").hands_out("new");
            for _ in 0..2 {
                manifest(&helped.upstream).await.unwrap_or_else(|error| panic!("{refusal}: {error}"));
            }
            assert_eq!(helped.asked(), 1, "{refusal}");
            assert_eq!(server.count(|seen| sends(seen, &basic("old"))), 1, "{refusal}: what has ended is sent no more");
            assert_eq!(server.count(|seen| sends(seen, "Basic dXNlcjo=")), 0);
        }
    }
}

#[tokio::test]
async fn many_that_are_refused_together_ask_the_helper_once() {
    for server in [tokens(401).await, basics(403).await] {
        let helped = Helped::new(Setup::of(&server), "old", "").hands_out("new");
        let mut tasks = JoinSet::new();
        for number in 0..16 {
            let upstream = Arc::clone(&helped.upstream);
            // Each of its own repository: their tokens are none of each other's business.
            let repository = format!("chainguard/image-{number}").parse().unwrap();
            tasks.spawn(async move { upstream.manifest(&repository, &latest()).await.map(|_| ()) });
        }
        let answers = tasks.join_all().await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(helped.asked(), 1);
    }
}

#[tokio::test]
async fn a_helper_that_has_nothing_better_is_asked_once_a_minute_and_nothing_is_sent_twice() {
    let token = UpstreamError::Refused { what: Kind::Token, status: 401 };
    let own = UpstreamError::Refused { what: Kind::Manifest, status: 401 };
    for (server, want) in [(tokens(401).await, token), (basics(401).await, own)] {
        for (does, secret) in
            [("", "old"), ("", "wrong"), ("exit 1", ""), ("echo '{\"Username\":\"a:b\",\"Secret\":\"new\"}'", "")]
        {
            let helped = Helped::new(Setup::of(&server), "old", does).hands_out(secret);
            let before = server.count(|seen| sends(seen, &basic("old")));
            assert_eq!(manifest(&helped.upstream).await.unwrap_err(), want, "{does} {secret}");
            assert_eq!(server.count(|seen| sends(seen, &basic("old"))), before + 1, "{does} {secret}");
            // What it would hand out now has to wait.
            let helped = helped.hands_out("new");
            assert_eq!(manifest(&helped.upstream).await.unwrap_err(), want, "{does} {secret}");
            assert_eq!(helped.asked(), 1, "{does} {secret}");
        }
    }
}

#[tokio::test]
async fn what_refuses_something_else_than_the_password_asks_no_helper() {
    let storage = Server::start(|_| Reply::status(403)).await;
    let target = storage.url("/blob");
    let server = Server::start(move |seen| {
        if seen.is_token() {
            Reply::token("t")
        } else if !sends(seen, "Bearer t") {
            Reply::bearer(format!("http://{}/token", seen.header("host").unwrap()))
        } else if seen.path.contains("/blobs/") {
            Reply::redirect(&target)
        } else {
            Reply::status(403)
        }
    })
    .await;
    let helped = Helped::new(Setup::of(&server).redirect(&storage), "old", "").hands_out("new");
    let refused = |what| UpstreamError::Refused { what, status: 403 };
    assert_eq!(manifest(&helped.upstream).await.unwrap_err(), refused(Kind::Manifest));
    assert_eq!(blob(&helped.upstream, 0).await.unwrap_err(), refused(Kind::Blob));
    assert_eq!(helped.asked(), 0);
    assert_eq!(storage.count(|seen| seen.header("authorization").is_some()), 0);
}

#[tokio::test]
async fn a_pull_does_not_wait_for_a_slow_helper_and_the_next_has_what_that_hands_out() {
    let server = tokens(401).await;
    let setup = Setup::of(&server).limits(|limits| limits.upstream_response_timeout = Duration::from_secs(1));
    let slow = r#"while [ ! -e go ]; do sleep 0.05; done; echo '{"Username":"user","Secret":"new"}'"#;
    let helped = Helped::new(setup, "old", slow);
    let want = UpstreamError::Refused { what: Kind::Token, status: 401 };
    assert_eq!(manifest(&helped.upstream).await.unwrap_err(), want);
    helped.setup.file("go", "");
    // It waits for the helper that is being asked.
    manifest(&helped.upstream).await.unwrap();
    assert_eq!(helped.asked(), 1);
}

#[tokio::test]
async fn a_password_that_says_when_it_ends_is_replaced_before_and_its_end_is_that_of_the_new_one() {
    let server = basics(401).await;
    let token = |ends: u64| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{ends}}}")));
    let at = |seconds: u64| UnixTime::from_millis(seconds * 1000);
    let helped = Helped::new(Setup::of(&server), &token(10_000), "").hands_out(&token(20_000));
    helped.upstream.renew_credentials(at(9_000)).await;
    assert_eq!((helped.asked(), helped.upstream.credentials_end()), (0, Some(at(10_000))), "not yet");
    helped.upstream.renew_credentials(at(9_800)).await;
    assert_eq!((helped.asked(), helped.upstream.credentials_end()), (1, Some(at(20_000))));
    let helped = helped.hands_out(&token(30_000));
    helped.upstream.renew_credentials(at(19_900)).await;
    assert_eq!((helped.asked(), helped.upstream.credentials_end()), (1, Some(at(20_000))), "once a minute");
    // What says nothing of its end is renewed by nothing but a refusal.
    let helped = Helped::new(Setup::of(&server), "opaque", "").hands_out("new");
    helped.upstream.renew_credentials(at(10_000)).await;
    assert_eq!((helped.asked(), helped.upstream.credentials_end()), (0, None));
    assert_eq!(server.seen().len(), 0, "nothing of it needs upstream");
}
