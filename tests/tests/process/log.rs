//! What the log says of requests in its default settings: nothing of hits, everything of refusals.

use support::{image, process::Process, upstream::noise};

use crate::{REPOSITORY, admin_url, administered, get, signed};

const HITS: u32 = 5;

#[tokio::test]
async fn hits_are_counted_and_not_told_and_a_refusal_names_its_image() {
    let (world, index) = signed(1000).await;
    let unsigned = image::single("linux/amd64", [noise(10, 9)]);
    unsigned.push(&world.registry, REPOSITORY, Some("unsigned"));
    let process = Process::serve(&world.write(&administered())).await.unwrap();
    let manifests = format!("http://{}/v2/{REPOSITORY}/manifests", process.address);
    let references = [index.digest.to_string(), "latest".to_owned()];
    // The first look makes the verdict, and tells it; the second one is kept.
    for reference in references.iter().chain(&references) {
        assert_eq!(get(&format!("{manifests}/{reference}")).await.status, 200);
    }
    process.logged("the verdict", |entry| entry["verdict"] == "served").await.unwrap();
    let before = (process.log().len(), answered(&process).await);
    for _ in 0..HITS {
        for reference in &references {
            assert_eq!(get(&format!("{manifests}/{reference}")).await.status, 200);
        }
    }
    let after = answered(&process).await;
    assert_eq!(after, before.1.map(|count| count + f64::from(2 * HITS)), "answers, and hits");
    assert_eq!(get(&format!("{manifests}/unsigned")).await.status, 403);
    let refused = process.logged("the answer", |entry| entry["status"] == 403).await.unwrap();
    assert_eq!(refused["span"]["repository"], format!("cgr.dev/{REPOSITORY}"), "{refused}");
    assert_eq!(refused["span"]["reference"], "unsigned", "{refused}");
    let verdict = process.logged("the verdict", |entry| entry["verdict"] == "absent").await.unwrap();
    assert_eq!(verdict["repository"], format!("cgr.dev/{REPOSITORY}"), "{verdict}");
    assert_eq!(verdict["digest"], unsigned.digest.to_string(), "{verdict}");
    // Between the first verdict and the refusal nobody was told anything.
    let log = process.log();
    let between = log[before.0..].iter().take_while(|entry| entry["verdict"] != "absent");
    assert_eq!(between.count(), 0, "{:?}", &log[before.0..]);
}

/// Manifests answered with 200, and those that were hits.
async fn answered(process: &Process) -> [f64; 2] {
    let metrics = get(&format!("{}/metrics", admin_url(process))).await.text();
    let of = |name: &str| {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {metrics}"));
        line.trim().parse().unwrap()
    };
    [of("pratique_requests_total{call=\"manifest\",status=\"200\"}"), of("pratique_manifest_hits_total")]
}
