//! Ports, connections, TLS and HTTP/2.

use http::{Method, Version};

use super::{IMAGE, MANIFEST, get, plain};
use crate::client::{Client, Drained};
use crate::upstream::{Call, Certificate, Fault, Place, Registry, TestCa, noise};

#[tokio::test]
async fn after_a_stop_nobody_answers() {
    let mut registry = plain().await;
    let url = format!("{}/v2/team/app/manifests/one", registry.url());
    let client = Client::plain();
    assert_eq!(client.get(&url, &[]).await.unwrap().status, 200);
    registry.stop().await;
    assert!(client.get(&url, &[]).await.is_err());
    assert_eq!(registry.count(Call::is_manifest), 1);
}

#[tokio::test]
async fn a_given_port_is_used_and_free_again_after_a_shutdown() {
    let first = plain().await;
    let port = first.port();
    let taken = Registry::builder().port(Place::Registry, port).start().await;
    assert!(taken.is_err());
    first.shutdown().await;
    let second = Registry::builder().port(Place::Registry, port);
    assert_eq!(second.start().await.unwrap().port(), port);
}

#[tokio::test]
async fn stopping_breaks_a_body_in_flight() {
    let mut registry = plain().await;
    let digest = registry.put_blob("team/app", noise(100_000, 1));
    registry.fault(Call::is_blob, Fault::Stall(50_000));
    let url = format!("{}/v2/team/app/blobs/{digest}", registry.url());
    let mut open = Client::plain().open(Method::GET, &url, &[]).await.unwrap();
    open.at_least(50_000).await.unwrap();
    registry.stop().await;
    assert!(open.whole().await.is_broken());
}

#[tokio::test]
async fn dropped_connections_break_their_bodies_and_new_ones_are_accepted() {
    let registry = plain().await;
    let digest = registry.put_blob("team/app", noise(100_000, 1));
    let fault = registry.fault(Call::is_blob, Fault::Stall(50_000));
    let url = format!("{}/v2/team/app/blobs/{digest}", registry.url());
    let mut open = Client::plain().open(Method::GET, &url, &[]).await.unwrap();
    open.at_least(50_000).await.unwrap();
    registry.drop_connections();
    assert!(open.whole().await.is_broken());
    fault.clear();
    assert_eq!(get(&registry, "team/app/manifests/one").await.status, 200);
}

#[tokio::test]
async fn connections_are_counted_and_calls_say_which_one_they_used() {
    let registry = plain().await;
    let url = format!("{}/v2/", registry.url());
    let client = Client::plain();
    for _ in 0..3 {
        assert_eq!(client.get(&url, &[]).await.unwrap().status, 200);
    }
    assert_eq!(registry.connections(Place::Registry), 1);
    assert_eq!(registry.connections(Place::Storage), 0);
    assert_eq!(get(&registry, "").await.status, 200);
    assert_eq!(registry.connections(Place::Registry), 2);
    let used: Vec<u64> = registry.calls().iter().map(|call| call.connection).collect();
    assert_eq!(used, [0, 0, 0, 1]);
}

#[tokio::test]
async fn https_speaks_http2_by_alpn_and_http1_where_asked() {
    let registry = Registry::builder().https().start().await.unwrap();
    registry.put_manifest("team/app", Some("one"), IMAGE, MANIFEST);
    let url = format!("{}/v2/team/app/manifests/one", registry.url());
    assert!(url.starts_with("https://127.0.0.1:"));
    let ca = registry.ca_pem();
    for (client, version) in
        [(Client::trusting(&ca).unwrap(), Version::HTTP_2), (Client::trusting_http1(&ca).unwrap(), Version::HTTP_11)]
    {
        let answer = client.get(&url, &[]).await.unwrap();
        assert_eq!(answer.version, version);
        assert_eq!(answer.body.unwrap(), MANIFEST);
        let head = client.head(&url, &[]).await.unwrap();
        let length = MANIFEST.len().to_string();
        assert_eq!(head.header("content-length"), Some(length.as_str()));
        assert!(head.body.unwrap().is_empty());
    }
    let localhost = url.replace("127.0.0.1", "localhost");
    let client = Client::trusting(&ca).unwrap();
    assert_eq!(client.get(&localhost, &[]).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_registry_without_http2_does_not_offer_it() {
    let registry = Registry::builder().https().http1_only().start().await.unwrap();
    let client = Client::trusting(&registry.ca_pem()).unwrap();
    let url = format!("{}/v2/", registry.url());
    let answer = client.get(&url, &[]).await.unwrap();
    assert_eq!(answer.version, Version::HTTP_11);
}

#[tokio::test]
async fn a_wrong_host_an_expired_certificate_and_an_unknown_ca_are_not_trusted() {
    for (certificate, why) in [
        (Certificate::WrongHost, "not valid for name"),
        (Certificate::Expired, "expired"),
        (Certificate::UnknownCa, "UnknownIssuer"),
    ] {
        let registry = Registry::builder().https().certificate(Place::Registry, certificate).start().await.unwrap();
        let client = Client::trusting(&registry.ca_pem()).unwrap();
        let refused = client.get(&format!("{}/v2/", registry.url()), &[]).await;
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(why), "{message}");
        assert!(registry.calls().is_empty(), "{certificate:?}");
        let good = client.get(&registry.url_of(Place::Storage), &[]).await;
        assert_eq!(good.unwrap().status, 403, "only one place was spoilt");
    }
}

#[tokio::test]
async fn one_place_can_be_plain_and_registries_can_share_a_ca() {
    let ca = TestCa::new().unwrap();
    let builder = || Registry::builder().https().ca(&ca);
    let one = builder().plain(Place::Storage).start().await.unwrap();
    let two = builder().host(Place::Registry, "localhost").start().await.unwrap();
    assert!(one.url_of(Place::Storage).starts_with("http://"));
    assert!(two.url().starts_with("https://localhost:"));
    let client = Client::trusting(&ca.pem()).unwrap();
    for url in [one.url(), two.url()] {
        let answer = client.get(&format!("{url}/v2/"), &[]).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let (certificate, key) = ca.server_pem(Certificate::Good).unwrap();
    assert!(certificate.contains("BEGIN CERTIFICATE"));
    assert!(key.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn over_http2_a_truncated_body_resets_its_stream_and_not_the_connection() {
    let registry = Registry::builder().https().start().await.unwrap();
    let blob = noise(300_000, 3);
    let digest = registry.put_blob("team/app", blob.clone());
    let url = format!("{}/v2/team/app/blobs/{digest}", registry.url());
    let client = Client::trusting(&registry.ca_pem()).unwrap();
    registry.fault(Call::is_blob, Fault::Truncate(200_000)).times(1);
    let broken = client.get(&url, &[]).await.unwrap().body.unwrap_err();
    assert!(broken.received.len() <= 200_000);
    assert!(blob.starts_with(&broken.received));
    let whole = client.get(&url, &[]).await.unwrap();
    assert!(whole.body.unwrap() == blob);
    assert_eq!(registry.connections(Place::Registry), 1);
}

#[tokio::test]
async fn over_http2_a_wrong_length_is_a_lie_about_a_stream_that_ends_well() {
    let registry = Registry::builder().https().start().await.unwrap();
    let digest = registry.put_blob("team/app", noise(1000, 3));
    let url = format!("{}/v2/team/app/blobs/{digest}", registry.url());
    let client = Client::trusting(&registry.ca_pem()).unwrap();
    for announced in [400, 1500] {
        let fault = registry.fault(Call::is_blob, Fault::Length(announced));
        let open = client.open(Method::GET, &url, &[]).await.unwrap();
        let announced = announced.to_string();
        assert_eq!(open.header("content-length"), Some(announced.as_str()));
        assert!(open.whole().await.is_broken(), "the client's HTTP/2 compares");
        fault.clear();
    }
}

#[tokio::test]
async fn many_clients_get_one_large_blob_from_shared_memory() {
    let registry = plain().await;
    let length = 16 * 1024 * 1024;
    let digest = registry.put_blob("team/app", noise(length, 4));
    let url = format!("{}/v2/team/app/blobs/{digest}", registry.url());
    let reading: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let open = Client::plain().open(Method::GET, &url, &[]).await;
                open.unwrap().drain().await
            })
        })
        .collect();
    let want = Drained { length: length as u64, digest, complete: true };
    for reader in reading {
        assert_eq!(reader.await.unwrap(), want);
    }
}
