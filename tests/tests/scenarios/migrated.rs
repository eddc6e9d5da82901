//! A store that an older build wrote, with this one in front of it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use config::Overrides;
use oci::UnixTime;
use proxy::{clock::Clock, server::Server};
use storage::{Amount, Keeper};
use support::{
    client::Client,
    pull::pull,
    upstream::Fault,
    world::{Pratique, Setup, World},
};

/// The index that was pulled, by its tag, through the last build that wrote facts of format 1 (1b744ef): two images with a layer in
/// common, signed in the legacy layout. Then that build was stopped, and its facts file compacted.
const INDEX: &str = "sha256:7845b885b72d8e79aaf1bf4e53f7afebc15db11ac12b17a192d387f0ba76d2fe";
/// A day later.
const NOW: u64 = 1_795_363_200_000;

fn written() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/stores/facts-1")
}

/// Puts the store where the configuration wants one, and the trust root it was judged by.
fn lay(directory: &Path) {
    let (from, store) = (written(), directory.join("store"));
    let blobs = store.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for name in ["format", "facts.redb"] {
        fs::copy(from.join(name), store.join(name)).unwrap();
    }
    for blob in fs::read_dir(from.join("blobs")).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), blobs.join(blob.file_name())).unwrap();
    }
    fs::copy(from.join("trusted_root.json"), directory.join("trusted_root.json")).unwrap();
}

async fn serve(config: &Path) -> Pratique {
    let overrides = Overrides { config: Some(config.to_owned()), ..Overrides::default() };
    let loaded = config::load_without_environment(&overrides).unwrap();
    let server = Server::start(loaded, Clock::reading(|| UnixTime::from_millis(NOW))).await.unwrap();
    Pratique { server: Arc::new(server) }
}

#[tokio::test]
async fn a_store_of_the_first_facts_format_is_served_from_without_upstream() {
    let world = World::new().await;
    let config = world.write(&Setup::default());
    lay(world.directory.path());
    world.registry.fault(|_| true, Fault::status(503));
    // The second start finds what the first one has brought up to date.
    for start in 0..2 {
        let pratique = serve(&config).await;
        let (client, url) = (Client::plain(), pratique.url());
        let by_digest = pull(&client, &url, "chainguard/nginx", INDEX).await.unwrap();
        assert_eq!((by_digest.manifests.len(), by_digest.blobs.len()), (3, 6), "start {start}");
        assert!(world.registry.calls().is_empty(), "start {start}: {:?}", world.registry.calls());
        let by_tag = pull(&client, &url, "chainguard/nginx", "latest").await.unwrap();
        assert_eq!(by_tag.manifests, by_digest.manifests);
        assert!(by_tag.warnings.iter().any(|warning| warning.contains("upstream does not answer")));
        world.registry.clear_calls();

        // What was not counted then is counted now, as what it is.
        let store = pratique.server.app.store.clone();
        Keeper::new(store.clone()).reconcile(Duration::ZERO).await.unwrap();
        let totals = store.facts().read().unwrap().totals().unwrap();
        let there = fs::read_dir(written().join("blobs")).unwrap().count() as u64;
        assert_eq!(totals.layers, Amount { blobs: 3, bytes: 600 });
        assert_eq!(totals.metadata.blobs, there - 3);
        drop(store);
        pratique.stop().await;
    }
}

#[tokio::test]
async fn a_store_of_the_first_facts_format_tells_another_repository_nothing() {
    let world = World::new().await;
    let config = world.write(&Setup::default());
    lay(world.directory.path());
    world.registry.fault(|_| true, Fault::status(404));
    let pratique = serve(&config).await;
    let layer = fs::read_dir(written().join("blobs")).unwrap().map(|blob| blob.unwrap().file_name());
    for hex in layer {
        let path = format!("{}/v2/chainguard/other/blobs/sha256:{}", pratique.url(), hex.to_string_lossy());
        assert_eq!(crate::get(&path).await.status, 404, "{path}");
    }
    pratique.stop().await;
}
