//! A download that breaks off in the middle, between the client and pratique or behind it: clients ask for the rest, get that and nothing
//! else, and have every byte right in the end.

use bytes::Bytes;
use oci::Digest;
use support::{
    client::Client,
    image::{self, Entry, Image},
    needs::note,
    upstream::{Fault, ends_with, noise},
    world::Setup,
};

use crate::{
    command::run,
    containerd::{self, Containerd},
    docker::{self, Docker},
    hello, needs,
    relay::{Cut, Relay},
    stage::Stage,
};

const REPOSITORY: &str = "chainguard/large";
const LAYER_BYTES: usize = 3_000_000;
/// How many bytes come before a cut: two leave some of the layer for the third connection.
const CUT_AFTER: usize = 1_000_000;
/// What containerd fetches at a time where it fetches a layer in parallel: so much that a cut is in the middle of it.
const CHUNK_BYTES: usize = 1_200_000;
/// How much of a layer it then has under way at a time.
const LANES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn docker_asks_for_the_rest_after_each_cut_of_its_connection() {
    if needs::are_met(&docker::PROGRAMS, true) {
        let scene = Scene::new("").await;
        let docker = Docker::start(&scene.stage).await;
        let relay = scene.relay(&[Cut::End, Cut::Reset]).await;
        scene.check_docker(&docker, &relay).await;
        scene.check_resumed(&relay, 2).await;
        assert_eq!(scene.asked_upstream(), [None], "whoever is cut off, upstream is asked once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_asks_for_the_rest_after_each_cut_of_its_connection() {
    if needs::are_met(&containerd::PROGRAMS, true) {
        let scene = Scene::new("").await;
        let relay = scene.relay(&[Cut::End, Cut::End]).await;
        let containerd = scene.containerd(&relay).await;
        containerd.pull(REPOSITORY).await.well();
        scene.check_containerd(&containerd).await;
        scene.check_resumed(&relay, 2).await;
        assert_eq!(scene.asked_upstream(), [None], "whoever is cut off, upstream is asked once");
    }
}

/// containerd gives up where its connection is reset, and keeps what it has until it tidies up, which is put off here: the next pull begins
/// there.
#[tokio::test(flavor = "multi_thread")]
async fn containerd_asks_for_the_rest_at_the_pull_after_one_that_was_reset() {
    if needs::are_met(&containerd::PROGRAMS, true) {
        let scene = Scene::new("").await;
        let relay = scene.relay(&[Cut::Reset]).await;
        let url = format!("http://{}", relay.host_port());
        let config = "[plugins.\"io.containerd.gc.v1.scheduler\"]\nstartup_delay = \"1h\"\n";
        let containerd = Containerd::start_with(&scene.stage, &url, &url, "", config).await;
        containerd.pull(REPOSITORY).await.refused_with("connection reset by peer");
        containerd.pull(REPOSITORY).await.well();
        scene.check_containerd(&containerd).await;
        scene.check_resumed(&relay, 1).await;
        assert_eq!(scene.asked_upstream(), [None], "whoever is cut off, upstream is asked once");
    }
}

/// From version 2.1 on, and where it is told to: each range is open, and left when its part of the layer has come. A cut ends them all,
/// and what is missing is fetched so once more.
#[tokio::test(flavor = "multi_thread")]
async fn containerd_fetches_a_layer_by_parallel_ranges_and_leaves_each_in_the_middle() {
    if !needs::are_met(&containerd::PROGRAMS, true) {
        return;
    }
    let version = containerd::version().await;
    if version < (2, 1) {
        return note(&format!(
            "NOTE: containerd {version:?} has no parallel ranges; what a later one does is done in tests/tests/process/parallel.rs"
        ));
    }
    for cuts in [&[][..], &[Cut::End]] {
        let scene = Scene::with_layer(8 * CHUNK_BYTES + 1, "").await;
        let relay = scene.relay(cuts).await;
        let url = format!("http://{}", relay.host_port());
        let plugin = "plugins.\"io.containerd.transfer.v1.local\"";
        let config = format!(
            "[{plugin}]\nconcurrent_layer_fetch_buffer = {CHUNK_BYTES}\nmax_concurrent_downloads = {LANES}\n\
             [[{plugin}.unpack_config]]\nplatform = \"{}\"\nsnapshotter = \"native\"\n",
            hello::platform()
        );
        let containerd = Containerd::start_with(&scene.stage, &url, &url, "", &config).await;
        containerd.pull(REPOSITORY).await.well();
        scene.check_containerd(&containerd).await;
        let asked = relay.asked_from(&scene.layer.0);
        note(&format!("NOTE: containerd {version:?} asked for the layer from {asked:?}"));
        assert_eq!(relay.cuts_left(), 0);
        for number in 0..=8 {
            let chunk = Some(number * CHUNK_BYTES);
            assert!(!cuts.is_empty() || asked.contains(&chunk), "{number}: {asked:?}");
        }
        // After a cut it goes on in the middle of a chunk.
        let moved = asked.iter().flatten().filter(|from| !from.is_multiple_of(CHUNK_BYTES)).count();
        assert_eq!(moved > 0, !cuts.is_empty(), "{asked:?}");
        assert_eq!(scene.asked_upstream(), [None], "whoever is cut off, upstream is asked once");
    }
}

/// Where an upstream only breaks off, pratique asks for the rest, and clients notice nothing.
#[tokio::test(flavor = "multi_thread")]
async fn docker_and_containerd_do_not_notice_an_upstream_that_breaks_off() {
    for which in [Which::Docker, Which::Containerd] {
        if which.is_here() {
            let scene = Scene::new("").await;
            let blob = ends_with(&scene.layer.0);
            let broken = scene.stage.world.registry.fault(blob.clone(), Fault::Truncate(CUT_AFTER as u64)).times(2);
            let relay = scene.relay(&[]).await;
            scene.pull_by(which, &relay).await;
            assert_eq!(relay.asked_from(&scene.layer.0), [None], "{which:?}");
            let asked = scene.asked_upstream();
            let from = |bytes: usize| Some(format!("bytes={bytes}-"));
            assert_eq!(asked, [None, from(CUT_AFTER), from(2 * CUT_AFTER)], "{which:?}");
            assert_eq!(broken.hits(), 2);
        }
    }
}

/// Where it breaks off and then fails until pratique gives up, the answer ends in the middle, and clients ask for the rest themselves.
#[tokio::test(flavor = "multi_thread")]
async fn docker_and_containerd_ask_for_the_rest_of_what_upstream_failed_under() {
    for which in [Which::Docker, Which::Containerd] {
        if which.is_here() {
            let scene = Scene::new("[limits]\nfill_tries_max = 2\nfill_pause_max = \"1ms\"\n").await;
            let (registry, blob) = (&scene.stage.world.registry, ends_with(&scene.layer.0));
            registry.fault(blob.clone(), Fault::Truncate(CUT_AFTER as u64)).times(1);
            // The rest twice, the whole once: then pratique has given up. Not before the client has what had come.
            let failing = registry.fault(blob.clone(), Fault::status(502)).after(1).times(3);
            let waiting = registry.fault(blob, Fault::Hang).after(1).times(1);
            let relay = scene.relay(&[]).await;
            tokio::join!(scene.pull_by(which, &relay), async {
                relay.brought(CUT_AFTER).await;
                waiting.release();
            });
            assert_eq!(failing.hits(), 3, "{which:?}");
            scene.check_resumed(&relay, 1).await;
            // What pratique had is gone on with too.
            let asked = scene.asked_upstream();
            assert_eq!(asked.last(), Some(&Some(format!("bytes={CUT_AFTER}-"))), "{which:?}: {asked:?}");
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Docker,
    Containerd,
}

impl Which {
    fn is_here(self) -> bool {
        match self {
            Self::Docker => needs::are_met(&docker::PROGRAMS, true),
            Self::Containerd => needs::are_met(&containerd::PROGRAMS, true),
        }
    }
}

/// A stage with one more image, signed, of one large layer.
struct Scene {
    stage: Stage,
    image: Image,
    layer: (Digest, Bytes),
}

impl Scene {
    async fn new(sections: &str) -> Self {
        Self::with_layer(LAYER_BYTES, sections).await
    }

    async fn with_layer(bytes: usize, sections: &str) -> Self {
        let mut setup = Setup::default().sections(sections);
        setup.top.push_str("\nadmin_listen = \"127.0.0.1:0\"");
        let stage = Stage::http_with(&setup).await;
        let layer = image::tar(&[Entry::file("large", &noise(bytes, 1))]);
        let image = image::single(hello::platform(), [layer]);
        stage.world.push_signed(REPOSITORY, "latest", &image);
        let layer = image.layers()[0].clone();
        Self { stage, image, layer }
    }

    async fn relay(&self, cuts: &[Cut]) -> Relay {
        Relay::to(self.stage.pratique.address, CUT_AFTER, cuts).await
    }

    async fn containerd(&self, relay: &Relay) -> Containerd<'_> {
        let url = format!("http://{}", relay.host_port());
        Containerd::start(&self.stage, &url, &url, "").await
    }

    /// Pulls the image, and compares it.
    async fn pull_by(&self, which: Which, relay: &Relay) {
        match which {
            Which::Docker => self.check_docker(&Docker::start(&self.stage).await, relay).await,
            Which::Containerd => {
                let containerd = self.containerd(relay).await;
                containerd.pull(REPOSITORY).await.well();
                self.check_containerd(&containerd).await;
            }
        }
    }

    async fn check_docker(&self, docker: &Docker, relay: &Relay) {
        let reference = format!("{}/{REPOSITORY}:latest", relay.host_port());
        docker.pull(&reference).await.well();
        assert!(docker.saved_layers(&reference).await == [self.layer.1.to_vec()], "the layer is not what upstream has");
    }

    async fn check_containerd(&self, containerd: &Containerd<'_>) {
        let manifest = (self.image.digest.clone(), self.image.manifest.clone());
        for (digest, bytes) in self.image.blobs.iter().chain([&manifest]) {
            let kept = run(containerd.ctr(&["content", "get", &digest.to_string()])).await.well();
            assert!(kept.output == *bytes, "{digest} is not what upstream has");
        }
    }

    /// Fails unless the client asked for the layer once, and then so many times for the rest of it, each time for less; and unless it was
    /// each time the rest that it got.
    async fn check_resumed(&self, relay: &Relay, times: usize) {
        let asked = relay.asked_from(&self.layer.0);
        note(&format!("NOTE: the layer was asked for from {asked:?}"));
        assert_eq!(relay.cuts_left(), 0);
        assert_eq!(asked.len(), 1 + times, "{asked:?}");
        assert_eq!(asked[0], None, "{asked:?}");
        assert!(asked.is_sorted() && asked[1..].iter().all(|from| *from > Some(0)), "{asked:?}");
        let answered = format!("pratique_requests_total{{call=\"blob\",status=\"206\"}} {times}");
        let metrics = self.metrics().await;
        assert!(metrics.lines().any(|line| line == answered), "no {answered}:\n{metrics}");
    }

    async fn metrics(&self) -> String {
        let log = self.stage.pratique.log();
        let line =
            log.iter().find(|entry| entry["message"] == "admin listener").expect("a line about the admin listener");
        let url = format!("http://{}/metrics", line["address"].as_str().expect("its address"));
        Client::plain().get(&url, &[]).await.unwrap().text()
    }

    /// Which ranges of the layer upstream was asked for.
    fn asked_upstream(&self) -> Vec<Option<String>> {
        let calls = self.stage.world.registry.calls().into_iter().filter(ends_with(&self.layer.0));
        calls.map(|call| call.range().map(str::to_owned)).collect()
    }
}
