//! A download that ends with its process goes on where it was.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use http::Method;
use oci::Digest;
use support::{
    client::{Client, Open},
    image::Image,
    process::Process,
    upstream::{Fault, ends_with},
    world::{Setup, World},
};

use crate::{REPOSITORY, get, signed};

const SIZE: usize = 8_000_000;
const CUT: u64 = 5_000_000;

/// A pratique in front of a layer of which upstream has sent `CUT` bytes and then nothing more.
struct Scene {
    world: World,
    config: PathBuf,
    layer: Digest,
    process: Process,
    /// Somebody who waits for the rest.
    _client: Open,
}

impl Scene {
    async fn new() -> Self {
        let (world, index): (World, Image) = signed(SIZE).await;
        let config = world.write(&Setup::default());
        let process = Process::serve(&config).await.unwrap();
        let child = &index.children[0];
        let layer = child.layers()[0].0.clone();
        world.registry.fault(ends_with(&layer), Fault::Truncate(CUT)).times(1);
        let hanging = world.registry.fault(ends_with(&layer), Fault::Hang).after(1);
        let base = format!("http://{}/v2/{REPOSITORY}", process.address);
        for digest in [&index.digest, &child.digest] {
            assert_eq!(get(&format!("{base}/manifests/{digest}")).await.status, 200);
        }
        let client = Client::plain().open(Method::GET, &format!("{base}/blobs/{layer}"), &[]).await.unwrap();
        // It goes on only after all that came was taken.
        hanging.hit(1).await.unwrap();
        Self { world, config, layer, process, _client: client }
    }

    fn store(&self) -> PathBuf {
        self.world.directory.path().join("store")
    }

    /// The process is gone, and upstream is itself again.
    async fn ended(self, kill: bool) -> Ended {
        let store = self.store();
        if kill {
            self.process.kill().await.unwrap();
        } else {
            self.process.terminate().await.unwrap();
        }
        self.world.registry.clear_faults();
        self.world.registry.clear_calls();
        Ended { world: self.world, config: self.config, layer: self.layer, store }
    }
}

struct Ended {
    world: World,
    config: PathBuf,
    layer: Digest,
    store: PathBuf,
}

impl Ended {
    /// Asks for the layer; which ranges upstream was asked for.
    async fn asked(&self) -> Vec<Option<String>> {
        let process = Process::serve(&self.config).await.unwrap();
        let url = format!("http://{}/v2/{REPOSITORY}/blobs/{}", process.address, self.layer);
        let answer = Client::plain().open(Method::GET, &url, &[]).await.unwrap().drain().await;
        assert_eq!((answer.complete, answer.length, &answer.digest), (true, SIZE as u64, &self.layer));
        process.terminate().await.unwrap();
        assert!(names(&self.store).is_empty());
        let calls = self.world.registry.calls().into_iter().filter(ends_with(&self.layer));
        calls.map(|call| call.range().map(str::to_owned)).collect()
    }
}

fn names(store: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(store.join("ingest")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "part")).collect()
}

#[tokio::test]
async fn a_download_that_was_terminated_or_killed_goes_on_where_it_was() {
    for kill in [false, true] {
        let ended = Scene::new().await.ended(kill).await;
        let [part] = names(&ended.store).try_into().unwrap();
        let there = std::fs::metadata(part).unwrap().len();
        assert!(there > 0 && there <= CUT, "{there}");
        assert_eq!(ended.asked().await, [Some(format!("bytes={there}-"))], "killed: {kill}");
    }
}

#[tokio::test]
async fn what_the_power_cut_left_of_a_download_is_begun_anew_where_it_is_not_right() {
    let ended = Scene::new().await.ended(true).await;
    let [part] = names(&ended.store).try_into().unwrap();
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[1000..3000].fill(0);
    std::fs::write(&part, &bytes).unwrap();
    let process = Process::serve(&ended.config).await.unwrap();
    let url = format!("http://{}/v2/{REPOSITORY}/blobs/{}", process.address, ended.layer);
    // Who came first was told no better than that it is wrong; nobody after that.
    let first = Client::plain().open(Method::GET, &url, &[]).await.unwrap().drain().await;
    assert!(!first.complete);
    let second = Client::plain().open(Method::GET, &url, &[]).await.unwrap().drain().await;
    assert_eq!((second.complete, &second.digest), (true, &ended.layer));
    process.terminate().await.unwrap();
    let calls = ended.world.registry.calls().into_iter().filter(ends_with(&ended.layer));
    let ranges: Vec<_> = calls.map(|call| call.range().is_some()).collect();
    assert_eq!(ranges, [true, false]);
}

#[tokio::test]
async fn nobody_who_follows_a_rotten_beginning_is_answered_in_full_and_the_second_try_is_right() {
    const MORE: u64 = 1_000_000;
    for at_end in [false, true] {
        let ended = Scene::new().await.ended(true).await;
        let [part] = names(&ended.store).try_into().unwrap();
        let mut bytes = std::fs::read(&part).unwrap();
        let there = bytes.len();
        let at = if at_end { there - 1 } else { 0 };
        bytes[at] ^= 1;
        std::fs::write(&part, &bytes).unwrap();
        // Upstream goes on with a little more and waits there, so that all of them follow before anybody can know.
        let waiting = ended.world.registry.fault(ends_with(&ended.layer), Fault::Stall(MORE));
        let process = Process::serve(&ended.config).await.unwrap();
        let (client, url) =
            (Client::plain(), format!("http://{}/v2/{REPOSITORY}/blobs/{}", process.address, ended.layer));
        let ranges =
            ["0-", "0-0", "1000-999999", "7000000-", "-1", "0-9,3000-500000,7999990-"].map(|it| format!("bytes={it}"));
        let ask = |range: &str| {
            let (client, url, range) = (client.clone(), url.clone(), range.to_owned());
            async move { client.open(Method::GET, &url, &[("range", &range)]).await.unwrap() }
        };
        let firsts = join_all(ranges.iter().map(|range| ask(range))).await;
        waiting.clear();
        for (first, range) in firsts.into_iter().zip(&ranges) {
            assert_eq!(first.status, 206);
            assert!(first.whole().await.is_broken(), "{range}, wrong at {at} of {there}");
        }
        let whole = client.open(Method::GET, &url, &[]).await.unwrap().drain().await;
        assert!(whole.complete && whole.digest == ended.layer, "{whole:?}");
        let parts = join_all(ranges.iter().map(|range| ask(range))).await;
        for (part, range) in parts.into_iter().zip(&ranges) {
            assert!(!part.whole().await.is_broken(), "{range}");
        }
        process.terminate().await.unwrap();
        let calls = ended.world.registry.calls().into_iter().filter(ends_with(&ended.layer));
        let asked: Vec<_> = calls.map(|call| call.range().map(str::to_owned)).collect();
        assert_eq!(asked, [Some(format!("bytes={there}-")), None]);
    }
}

#[tokio::test]
async fn a_rotten_beginning_that_has_all_its_bytes_is_found_out_without_upstream() {
    let ended = Scene::new().await.ended(true).await;
    let [part] = names(&ended.store).try_into().unwrap();
    let mut bytes = ended.world.registry.blob(REPOSITORY, &ended.layer).unwrap().to_vec();
    bytes[SIZE / 2] ^= 1;
    std::fs::write(&part, &bytes).unwrap();
    let process = Process::serve(&ended.config).await.unwrap();
    let url = format!("http://{}/v2/{REPOSITORY}/blobs/{}", process.address, ended.layer);
    let first = Client::plain().get(&url, &[]).await.unwrap();
    assert!(first.status != 200 || first.is_broken(), "{}", first.status);
    let second = Client::plain().open(Method::GET, &url, &[]).await.unwrap().drain().await;
    assert_eq!((second.complete, &second.digest), (true, &ended.layer));
    process.terminate().await.unwrap();
    let calls = ended.world.registry.calls().into_iter().filter(ends_with(&ended.layer));
    let asked: Vec<_> = calls.map(|call| call.range().map(str::to_owned)).collect();
    assert_eq!(asked, [None], "all of it, once");
}

#[tokio::test]
async fn what_is_kept_of_downloads_is_bounded_at_the_next_start() {
    for (limit, stays) in [("", 1), ("fill_kept_bytes_max = \"1MiB\"", 0), ("fill_kept_age_max = \"1ms\"", 0)] {
        let ended = Scene::new().await.ended(true).await;
        let setup = Setup::default().sections(&format!("[limits]\n{limit}\n"));
        let config = ended.world.write(&setup);
        let process = Process::serve(&config).await.unwrap();
        assert_eq!(names(&ended.store).len(), stays, "{limit:?}");
        process.terminate().await.unwrap();
    }
}
