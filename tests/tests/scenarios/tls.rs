//! TLS and credentials, at both ends.

use support::{
    canary,
    client::Client,
    image,
    pull::{message, pull},
    upstream::{Call, Certificate, Fault, Place, Registry, TestCa, TokenAuth},
    world::{Setup, World, moved_by_hand},
};

use crate::{get, sized};

fn private_upstream() -> support::upstream::Builder {
    Registry::builder()
        .https()
        .redirect_blobs()
        .token_auth(TokenAuth::account(canary::USER, canary::PASSWORD).realm_at(Place::Auth))
}

fn credentials(world: &World) -> Setup {
    std::fs::write(world.directory.path().join("password"), format!("{}\n", canary::PASSWORD)).unwrap();
    let upstream = format!(
        "username = \"{}\"\npassword_file = \"password\"\nrealms = [\"{}\"]\nredirects = [\"{}\"]",
        canary::USER,
        world.registry.host_port_of(Place::Auth),
        world.registry.host_port_of(Place::Storage),
    );
    Setup { upstream, ..Setup::default() }
}

#[tokio::test]
async fn token_realm_and_blob_redirect_over_https_and_a_client_over_http2() {
    let world = World::with(private_upstream()).await;
    let index = image::index([sized(100_000, 1), image::single("linux/arm64", [support::upstream::noise(6, 2)])]);
    world.push_signed("chainguard/nginx", "latest", &index);
    let ca = TestCa::new().unwrap();
    let (certificate, key) = ca.server_pem(Certificate::Good).unwrap();
    std::fs::write(world.directory.path().join("tls.crt"), certificate).unwrap();
    std::fs::write(world.directory.path().join("tls.key"), key).unwrap();
    let setup = credentials(&world).sections("[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n");
    let pratique = world.pratique(&setup).await;
    let client = Client::trusting(&ca.pem()).unwrap();
    let pulled = pull(&client, &pratique.url(), "chainguard/nginx", "latest").await.unwrap();
    assert_eq!((pulled.manifests.len(), pulled.blobs.len()), (3, 4));
    let base = client.get(&format!("{}/v2/", pratique.url()), &[]).await.unwrap();
    assert_eq!(base.version, http::Version::HTTP_2);
    let old = Client::trusting_http1(&ca.pem()).unwrap();
    assert_eq!(old.get(&format!("{}/v2/", pratique.url()), &[]).await.unwrap().version, http::Version::HTTP_11);
    // Secrets went where they belong: the password to the realm alone, tokens to the registry alone.
    for call in world.registry.calls() {
        match call.place {
            Place::Auth => assert!(call.has_authorization()),
            Place::Storage | Place::Foreign => assert!(!call.has_authorization(), "{call:?}"),
            Place::Registry => {
                assert!(call.authorization().is_none_or(|value| value.starts_with("Bearer ")), "{call:?}")
            }
        }
    }
    assert!(world.registry.count(|call| call.place == Place::Storage) > 0);
}

#[tokio::test]
async fn a_realm_elsewhere_gets_no_request_and_clients_get_502() {
    // The auth host is not listed in `realms`.
    let world = World::with(private_upstream()).await;
    world.push_signed("chainguard/nginx", "latest", &sized(5, 1));
    let mut setup = credentials(&world);
    setup.upstream = setup.upstream.lines().filter(|line| !line.starts_with("realms")).collect::<Vec<_>>().join("\n");
    let pratique = world.pratique(&setup).await;
    let answer = get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(world.registry.count(|call| call.place == Place::Auth), 0);
    assert_eq!(world.registry.count(support::upstream::Call::has_authorization), 0);
}

#[tokio::test]
async fn an_upstream_whose_certificate_is_not_good_is_503_with_a_clear_line() {
    for (certificate, says) in [
        (Certificate::WrongHost, "not valid for"),
        (Certificate::Expired, "expired"),
        (Certificate::UnknownCa, "unknown issuer"),
    ] {
        let world = World::with(Registry::builder().https().certificate(Place::Registry, certificate)).await;
        world.push_signed("chainguard/nginx", "latest", &sized(5, 1));
        let pratique = world.pratique(&Setup::default()).await;
        let answer = get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await;
        assert_eq!(answer.status, 503, "{certificate:?}");
        assert!(message(&answer).contains(says), "{certificate:?}: {}", message(&answer));
    }
}

#[tokio::test]
async fn credentials_that_upstream_does_not_take_are_503_and_never_shown() {
    let world = World::with(private_upstream()).await;
    world.push_signed("chainguard/nginx", "latest", &sized(5, 1));
    let setup = credentials(&world);
    std::fs::write(world.directory.path().join("password"), canary::WRONG_PASSWORD).unwrap();
    let pratique = world.pratique(&setup).await;
    let answer = get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await;
    assert_eq!(answer.status, 503);
    assert!(!answer.text().contains("canary"));
    // Mended on disk, taken up by a reload.
    let mended = credentials(&world);
    pratique.reload(&world, &mended).await.unwrap();
    assert_eq!(get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await.status, 200);
}

#[tokio::test]
async fn a_token_endpoint_that_answers_nonsense_is_503_and_known_tags_are_stale() {
    let faults = [
        Fault::status(500),
        Fault::status(400),
        Fault::Hang,
        Fault::instead("text/html", "<html>"),
        Fault::instead("application/json", "{}"),
        Fault::Endless,
    ];
    for fault in faults {
        let world = World::with(private_upstream()).await;
        world.push_signed("chainguard/nginx", "latest", &sized(5, 1));
        world.push_signed("chainguard/other", "latest", &sized(5, 2));
        // Looked up for nobody else: who joins a look that began before the fault is told what was so then.
        let sections = "[tags]\nttl = \"1ms\"\nrefresh = \"never\"\n[limits]\nupstream_response_timeout = \"1s\"\n";
        let pratique = world.pratique(&credentials(&world).sections(sections)).await;
        let url = |repository: &str| format!("{}/v2/chainguard/{repository}/manifests/latest", pratique.url());
        assert_eq!(get(&url("nginx")).await.status, 200);
        world.registry.fault(Call::is_token, fault.clone());
        world.registry.revoke_tokens();
        let known = get(&url("nginx")).await;
        assert_eq!(known.status, 200, "{fault:?}: {}", known.text());
        assert!(known.header("warning").is_some_and(|warning| warning.starts_with("299 ")), "{fault:?}");
        let unseen = get(&url("other")).await;
        assert_eq!(unseen.status, 503, "{fault:?}: {}", unseen.text());
        assert!(unseen.header("retry-after").is_some(), "{fault:?}");
        world.registry.clear_faults();
        assert_eq!(get(&url("other")).await.status, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn after_a_rotation_many_clients_cost_one_token() {
    let world = World::with(private_upstream()).await;
    let image = sized(5, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    for number in 0..32 {
        image.push(&world.registry, "chainguard/nginx", Some(&format!("v{number}")));
    }
    let pratique = world.pratique(&credentials(&world)).await;
    assert_eq!(get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await.status, 200);
    world.registry.revoke_tokens();
    world.registry.clear_calls();
    let urls: Vec<_> = (0..32).map(|tag| format!("{}/v2/chainguard/nginx/manifests/v{tag}", pratique.url())).collect();
    for answer in futures_util::future::join_all(urls.iter().map(|url| get(url))).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(world.registry.count(Call::is_token), 1);
}

#[tokio::test]
async fn the_end_of_a_pull_token_is_told_daily_from_two_weeks_before_it_and_without_the_token() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    const DAY: u64 = 86_400_000;
    let world = World::with(private_upstream()).await;
    let (time, clock) = moved_by_hand(1_790_000_000_000);
    let setup =
        Setup { top: format!("{}\nadmin_listen = \"127.0.0.1:0\"", Setup::default().top), ..credentials(&world) };
    let claims = format!("{{\"canary\":\"canary\",\"exp\":{}}}", (1_790_000_000_000 + 30 * DAY) / 1000);
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    std::fs::write(world.directory.path().join("password"), &token).unwrap();
    let pratique = world.try_pratique(&setup, clock).await.unwrap();
    let mut told = proxy::expiry::Told::default();
    let mut lines_after = |days: u64| {
        time.store(1_790_000_000_000 + days * DAY, std::sync::atomic::Ordering::SeqCst);
        told.round(&pratique.server.app)
    };
    assert!(lines_after(15).is_empty());
    let line = lines_after(16).remove(0);
    assert!(line.contains("cgr.dev ends in 14 days") && !line.contains(&token), "{line}");
    assert!(lines_after(16).is_empty(), "told today");
    assert!(lines_after(29)[0].contains("ends in 24 h"));
    assert!(lines_after(31)[0].contains("has ended (2026-"));
    let admin = pratique.server.admin_address.unwrap();
    let metrics = get(&format!("http://{admin}/metrics")).await.text();
    assert!(metrics.contains("pratique_credentials_end_seconds{upstream=\"cgr.dev\"} -86400"), "{metrics}");
    // Replaced by one without an end: an alert on the metric has to end as well.
    std::fs::write(world.directory.path().join("password"), "hunter2").unwrap();
    pratique.reload(&world, &setup).await.unwrap();
    assert!(told.round(&pratique.server.app).is_empty());
    let metrics = get(&format!("http://{admin}/metrics")).await.text();
    assert!(metrics.contains("pratique_credentials_end_seconds{upstream=\"cgr.dev\"} inf"), "{metrics}");
}
