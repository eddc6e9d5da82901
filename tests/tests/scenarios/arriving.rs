//! A blob on its way: what followers get of it meanwhile, and what ends it.

use std::time::Duration;

use http::Method;
use oci::Digest;
use support::{
    client::Client,
    image,
    pull::pull,
    upstream::{Fault, Injected, ends_with},
    world::{Pratique, Setup, World},
};
use tokio::time::timeout;

use crate::{get, sized};

const SIZE: usize = 3_000_000;
/// How much of it comes before upstream pauses.
const COME: u64 = 2_000_000;
/// What every range of it keeps back until all agrees.
const KEPT_BACK: usize = 64 * 1024;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// An image whose one layer pauses on its way.
struct Scene {
    world: World,
    pratique: Pratique,
    paused: Injected,
    layer: Digest,
    bytes: bytes::Bytes,
}

impl Scene {
    async fn new(limits: &str) -> Self {
        let world = World::new().await;
        let image = sized(SIZE, 1);
        world.push_signed("chainguard/big", "latest", &image);
        let (layer, bytes) = image.layers()[0].clone();
        let paused = world.registry.fault(ends_with(&layer), Fault::Stall(COME)).times(1);
        let pratique = world.pratique(&Setup::default().sections(&format!("[limits]\n{limits}\n"))).await;
        assert_eq!(get(&format!("{}/v2/chainguard/big/manifests/latest", pratique.url())).await.status, 200);
        Self { world, pratique, paused, layer, bytes }
    }

    fn address(&self) -> String {
        format!("{}/v2/chainguard/big/blobs/{}", self.pratique.url(), self.layer)
    }

    /// What upstream was asked for of the layer, request by request.
    fn asked(&self) -> Vec<Option<String>> {
        let calls = self.world.registry.calls().into_iter().filter(ends_with(&self.layer));
        calls.map(|call| call.range().map(str::to_owned)).collect()
    }
}

#[tokio::test]
async fn a_range_is_sent_as_its_bytes_arrive_and_its_end_when_the_whole_agrees() {
    let scene = Scene::new("").await;
    let ask =
        async |range: &str| Client::plain().open(Method::GET, &scene.address(), &[("range", range)]).await.unwrap();
    let mut one = ask("bytes=100000-1099999").await;
    let mut several = ask("bytes=0-499999,600000-699999").await;
    let arrived = 1_000_000 - KEPT_BACK;
    let begun = timeout(LONG, one.at_least(arrived)).await.expect("what has come is sent").unwrap();
    assert_eq!(begun, scene.bytes.slice(100_000..100_000 + arrived));
    // The first part, and its head; nothing of the second before the end of the first.
    let of_several =
        timeout(LONG, several.at_least(500_000 - KEPT_BACK)).await.expect("what has come is sent").unwrap();
    assert!(of_several.len() < 500_000 - KEPT_BACK + 500, "{} bytes", of_several.len());
    scene.paused.release();
    assert_eq!(one.whole().await.received(), &scene.bytes.slice(100_000 + arrived..1_100_000));
    let rest = several.whole().await;
    assert!(!rest.is_broken());
    let content = [of_several, rest.received().clone()].concat();
    let parts = [&scene.bytes[..500_000], &scene.bytes[600_000..700_000]];
    assert!(parts.iter().all(|part| content.windows(part.len()).any(|window| window == *part)));
    assert_eq!(scene.asked(), [None]);
}

#[tokio::test]
async fn a_download_that_all_its_clients_have_left_is_completed() {
    let scene = Scene::new("connections_max = 1").await;
    let client = Client::plain();
    let mut open = client.open(Method::GET, &scene.address(), &[]).await.unwrap();
    open.at_least(1_000_000).await.unwrap();
    drop((open, client));
    // There is room for one connection: that this one is answered says that the other is gone.
    assert_eq!(get(&format!("{}/v2/", scene.pratique.url())).await.status, 200);
    scene.paused.release();
    let stored = async {
        while scene.pratique.server.app.store.blobs().open(&scene.layer).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, stored).await.expect("nobody has to wait for it");
    assert_eq!(scene.asked(), [None]);
}

#[tokio::test]
async fn a_download_that_takes_too_long_is_broken_and_goes_on_at_the_next_request() {
    let scene = Scene::new("fill_timeout = \"5s\"").await;
    let broken = Client::plain().open(Method::GET, &scene.address(), &[]).await.unwrap().drain().await;
    assert!(!broken.complete && broken.length > 0, "{broken:?}");
    let again = get(&scene.address()).await;
    assert!(again.received() == &scene.bytes && !again.is_broken());
    let asked = scene.asked();
    let from: u64 =
        asked[1].as_ref().unwrap().strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    assert_eq!((asked.len(), (1..=COME).contains(&from)), (2, true), "{asked:?}");
}

#[tokio::test]
async fn an_upstream_that_pauses_too_long_is_asked_for_the_rest_while_followers_wait() {
    let scene = Scene::new("upstream_stall_timeout = \"1s\"").await;
    let pulled = pull(&Client::plain(), &scene.pratique.url(), "chainguard/big", "latest").await.unwrap();
    assert_eq!(pulled.blobs[1], (scene.layer.clone(), scene.bytes.clone()));
    assert_eq!(scene.asked(), [None, Some(format!("bytes={COME}-"))]);
}

#[tokio::test]
async fn a_scrub_does_not_wait_for_long_for_what_it_fetches_again() {
    let world = World::new().await;
    let image = image::single("linux/amd64", [1, 2].map(|seed| support::upstream::noise(300_000, seed)));
    world.push_signed("chainguard/big", "latest", &image);
    // Upstream is not asked twice in the time that the test takes.
    let limits = "[limits]\ndecision_timeout = \"5s\"\nupstream_response_timeout = \"60s\"\n";
    let setup = Setup::default().sections(limits);
    let pratique = world.pratique(&setup).await;
    pull(&Client::plain(), &pratique.url(), "chainguard/big", "latest").await.unwrap();
    pratique.stop().await;
    let mut layers: Vec<Digest> = image.layers().iter().map(|(layer, _)| layer.clone()).collect();
    layers.sort();
    let store = world.directory.path().join("store");
    for layer in &layers {
        std::fs::write(store.join("blobs/sha256").join(layer.hex()), vec![0; 300_000]).unwrap();
    }
    // The first that the scrub comes to does not come back.
    let paused = world.registry.fault(ends_with(&layers[0]), Fault::Hang);
    let pratique = world.pratique(&setup).await;
    let healed = async {
        let was_rotten = || store.join("quarantine").join(format!("sha256-{}", layers[1].hex())).exists();
        while !was_rotten() || pratique.server.app.store.blobs().open(&layers[1]).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, healed).await.expect("the second is healed while the first is on its way");
    assert_eq!(paused.hits(), 1);
    assert!(pratique.server.app.store.blobs().open(&layers[0]).await.unwrap().is_none());
    paused.release();
}
