//! TLS and credentials, at both ends.

use support::{
    client::Client,
    image,
    pull::{message, pull},
    upstream::{Certificate, Place, Registry, TestCa, TokenAuth},
    world::{Setup, World},
};

use crate::{get, sized};

fn private_upstream() -> support::upstream::Builder {
    Registry::builder()
        .https()
        .redirect_blobs()
        .token_auth(TokenAuth::account("robot", "canary-password").realm_at(Place::Auth))
}

fn credentials(world: &World) -> Setup {
    std::fs::write(world.directory.path().join("password"), "canary-password\n").unwrap();
    let upstream = format!(
        "username = \"robot\"\npassword_file = \"password\"\nrealms = [\"{}\"]\nredirects = [\"{}\"]",
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
    std::fs::write(world.directory.path().join("password"), "wrong-canary").unwrap();
    let pratique = world.pratique(&setup).await;
    let answer = get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await;
    assert_eq!(answer.status, 503);
    assert!(!answer.text().contains("canary"));
    // Mended on disk, taken up by a reload.
    let mended = credentials(&world);
    pratique.reload(&world, &mended).await.unwrap();
    assert_eq!(get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await.status, 200);
}
