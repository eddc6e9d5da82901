//! Health, readiness and metrics, on a listener of their own.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use support::{
    client::Client,
    image,
    process::Process,
    pull::pull,
    sigstore::Signer,
    soak::Random,
    upstream::{Fault, ends_with, noise},
};

use crate::{REPOSITORY, admin_url, administered, get, signed};

/// Whatever clients ask for, there are no more series than this.
const SERIES_MAX: usize = 250;

#[tokio::test]
async fn health_readiness_and_metrics_are_on_the_admin_listener_only() {
    let (world, _) = signed(1000).await;
    let process = Process::serve(&world.write(&administered())).await.unwrap();
    let (admin, public) = (admin_url(&process), format!("http://{}", process.address));
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(&format!("{admin}{path}")).await.status, 200, "{path}");
        assert_eq!(get(&format!("{public}{path}")).await.status, 404, "{path} for clients");
    }
    for path in ["/", "/v2/", &format!("/v2/{REPOSITORY}/manifests/latest"), "/metrics/x"] {
        assert_eq!(get(&format!("{admin}{path}")).await.status, 404, "{path} on the admin listener");
    }
    let put = Client::plain().open(http::Method::PUT, &format!("{admin}/healthz"), &[]).await.unwrap();
    assert_eq!(put.status, 405);
}

#[tokio::test]
async fn metrics_count_hits_misses_fills_bytes_verdicts_and_what_upstream_does() {
    let (world, _) = signed(200_000).await;
    let unsigned = image::single("linux/amd64", [noise(7, 3)]);
    unsigned.push(&world.registry, "chainguard/unsigned", Some("latest"));
    let forked = image::single("linux/amd64", [noise(7, 4)]);
    forked.push(&world.registry, "chainguard/forked", Some("latest"));
    world.sign("chainguard/forked", &forked, &Signer::fork(), &support::sigstore::Options::default());
    let process = Process::serve(&world.write(&administered())).await.unwrap();
    let (client, url) = (Client::plain(), format!("http://{}", process.address));
    for _ in 0..2 {
        pull(&client, &url, REPOSITORY, "latest").await.unwrap();
    }
    for (repository, status) in [("unsigned", 403), ("forked", 403), ("missing", 404)] {
        assert_eq!(get(&format!("{url}/v2/chainguard/{repository}/manifests/latest")).await.status, status);
    }
    world.registry.fault(|_| true, Fault::status(500));
    assert_eq!(get(&format!("{url}/v2/chainguard/ill/manifests/latest")).await.status, 503);

    let metrics = Metrics::of(&process).await;
    // 2 configs and 2 layers, each once from upstream and once from the store.
    assert_eq!(metrics.sum("pratique_blob_misses_total", &[]), 4.0);
    assert_eq!(metrics.sum("pratique_blob_hits_total", &[]), 4.0);
    assert_eq!(metrics.sum("pratique_fills_total", &["outcome=\"committed\""]), 4.0);
    assert!(metrics.sum("pratique_manifest_hits_total", &[]) > 0.0);
    assert!(metrics.sum("pratique_manifest_misses_total", &[]) >= 3.0);
    assert!(metrics.sum("pratique_upstream_bytes_total", &[]) > 200_000.0);
    assert!(metrics.sum("pratique_served_bytes_total", &[]) > 400_000.0);
    let verdicts = |outcome: &str, reason: &str| {
        let labels = [
            "policy=\"chainguard-public\"".to_owned(),
            format!("outcome=\"{outcome}\""),
            format!("reason=\"{reason}\""),
        ];
        metrics.sum("pratique_verdicts_total", &labels.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(verdicts("served", "none") >= 1.0);
    assert_eq!(verdicts("absent", "signature-missing"), 1.0);
    assert_eq!(verdicts("refused", "identity-mismatch"), 1.0);
    let upstream = |labels: &[&str]| {
        metrics.sum("pratique_upstream_requests_total", &[&["upstream=\"cgr.dev\""], labels].concat())
    };
    assert!(upstream(&["outcome=\"ok\""]) >= 5.0);
    assert!(upstream(&["outcome=\"not_found\""]) >= 1.0);
    assert!(upstream(&["outcome=\"unavailable\""]) >= 1.0);
    assert!(metrics.sum("pratique_upstream_seconds_count", &["upstream=\"cgr.dev\""]) >= 5.0);
    assert!(metrics.sum("pratique_requests_total", &["call=\"manifest\"", "status=\"403\""]) >= 2.0);
    assert!(metrics.sum("pratique_request_seconds_count", &["call=\"blob\""]) >= 8.0);
}

#[tokio::test]
async fn a_manifest_that_is_not_what_its_digest_says_is_counted_and_both_digests_are_in_the_log() {
    let (world, image) = signed(1000).await;
    world.registry.fault(ends_with(&image.digest), Fault::Corrupt(7));
    let process = Process::serve(&world.write(&administered())).await.unwrap();
    let answer = get(&format!("http://{}/v2/{REPOSITORY}/manifests/{}", process.address, image.digest)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    let metrics = Metrics::of(&process).await;
    assert_eq!(metrics.sum("pratique_content_mismatches_total", &["what=\"manifest\""]), 1.0);
    let mut other = image.manifest.to_vec();
    other[7] ^= 1;
    let wanted = format!("want {}, got {}", image.digest, oci::Digest::sha256(&other));
    process.logged("a line with both digests", |line| line.to_string().contains(&wanted)).await.unwrap();
}

#[tokio::test]
async fn five_hundred_names_that_nobody_configured_add_no_series() {
    let (world, _) = signed(1000).await;
    // A refresh in the background would have a series of its own, if all this takes long enough for one.
    let setup = administered().sections("[tags]\nrefresh = \"never\"\n");
    let process = Process::serve(&world.write(&setup)).await.unwrap();
    let (client, url) = (Client::plain(), format!("http://{}", process.address));
    pull(&client, &url, REPOSITORY, "latest").await.unwrap();
    let mut random = Random::new(7);
    let names: Vec<_> = (0..500).map(|_| format!("n{:x}", random.any())).collect();
    // One of each kind first: these are the series that there may be.
    ask_for(&client, &url, &names[0]).await;
    let before = Metrics::of(&process).await.series();
    for some in names[1..].chunks(50) {
        join_all(some.iter().map(|name| ask_for(&client, &url, name))).await;
    }
    let metrics = Metrics::of(&process).await;
    let after = metrics.series();
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(after.len() < SERIES_MAX, "{} series", after.len());
    for name in &names {
        assert!(!metrics.text.contains(name), "{name} is a label");
    }
    assert!(metrics.sum("pratique_requests_total", &[]) >= 500.0, "they were asked for");
}

/// Every way in which a name can come in: repository, tag, digest, namespace, query, method, and as no endpoint at all.
async fn ask_for(client: &Client, url: &str, name: &str) {
    let digest = oci::Digest::sha256(name.as_bytes());
    for path in [
        format!("chainguard/{name}/manifests/latest"),
        format!("chainguard/{name}/blobs/{digest}"),
        format!("chainguard/{name}/tags/list"),
        format!("{name}/nginx/manifests/{digest}"),
        format!("{REPOSITORY}/manifests/{name}"),
        format!("{REPOSITORY}/manifests/latest?ns={name}"),
        format!("{REPOSITORY}/referrers/{digest}?artifactType={name}"),
        name.to_owned(),
    ] {
        client.get(&format!("{url}/v2/{path}"), &[]).await.unwrap();
    }
    let method = http::Method::from_bytes(name.to_uppercase().as_bytes()).unwrap();
    client.open(method, &format!("{url}/v2/"), &[]).await.unwrap();
}

/// A scrape.
pub struct Metrics {
    text: String,
}

impl Metrics {
    pub async fn of(process: &Process) -> Self {
        Self { text: get(&format!("{}/metrics", admin_url(process))).await.text() }
    }

    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '))
    }

    /// Names with labels.
    fn series(&self) -> BTreeSet<String> {
        self.lines().map(|(series, _)| series.to_owned()).collect()
    }

    /// All series of that name that have these labels, added up.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let is_it = |series: &str| {
            let (own, told) = series.split_once('{').unwrap_or((series, ""));
            own == name && labels.iter().all(|label| told.contains(label))
        };
        self.lines().filter(|(series, _)| is_it(series)).filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }
}
