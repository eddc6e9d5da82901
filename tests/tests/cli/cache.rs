//! `cache`: the same beside a server and without one, for people and for programs.

use std::time::{Duration, Instant};

use proxy::{
    command::{Answer, CacheRequest, Progress, Request, ScrubRate},
    control,
};
use serde_json::Value;
use support::{
    client::Client,
    image, policies,
    process::Process,
    pull,
    sigstore::{Layout, Options, Signer},
    upstream::noise,
    world::Setup,
};
use tokio::sync::Notify;

use crate::{PUBLIC, Stage, publish};

const IMAGE: &str = "cgr.dev/chainguard/nginx:latest";

/// A store that has the stage's image, all of it, and no server.
async fn pulled() -> Stage {
    let stage = Stage::public(Layout::Legacy).await;
    let server = Process::serve(&stage.config).await.unwrap();
    let url = format!("http://{}", server.address);
    pull::pull(&Client::plain(), &url, "chainguard/nginx", "latest").await.unwrap();
    assert_eq!(server.terminate().await.unwrap().status.code(), Some(0));
    stage
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn what_is_kept_is_told_with_its_use_and_its_parts() {
    let stage = pulled().await;
    let listed = stage.run_both(&["cache", "ls", "-o", "json"]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let listed = json(&listed.stdout);
    let images = listed["images"].as_array().unwrap();
    let index = images.iter().find(|image| image["digest"] == stage.index.digest.to_string()).unwrap();
    assert_eq!((&index["tags"][0], &index["pinned"]), (&Value::from("latest"), &Value::from(false)));
    assert_eq!(images.len(), 1 + stage.index.children.len(), "evidence is not listed: {images:#?}");
    for image in images.iter().filter(|image| image["layer_bytes"] != 0) {
        assert_eq!(image["layer_bytes"], image["layer_bytes_kept"]);
    }
    let all = json(&stage.run_both(&["cache", "ls", "--all", "-o", "json"]).await.stdout);
    assert!(all["images"].as_array().unwrap().len() > images.len());
    let shown = json(&stage.run_both(&["cache", "show", IMAGE, "-o", "json"]).await.stdout);
    let kinds: Vec<_> = shown["parts"].as_array().unwrap().iter().map(|part| part["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"child") && kinds.contains(&"evidence"), "{kinds:?}");
    let stats = json(&stage.run_both(&["cache", "stats", "-o", "json"]).await.stdout);
    assert!(stats["layers"]["bytes"].as_u64().unwrap() > 0 && stats["metadata"]["blobs"].as_u64().unwrap() > 4);
    assert_eq!(stats["layers_budget"], Value::Null);
}

#[tokio::test]
async fn a_pinned_image_cannot_be_removed_and_an_unpinned_one_leaves_with_its_children() {
    let stage = pulled().await;
    assert_eq!(stage.run_both(&["cache", "pin", IMAGE]).await.code, Some(0));
    let refused = stage.run_both(&["cache", "rm", IMAGE]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("is pinned") && refused.stderr.contains("hint: pratique cache unpin"),
        "{}",
        refused.stderr
    );
    assert_eq!(stage.run(&["cache", "unpin", IMAGE]).await.code, Some(0));
    let dry = stage.run_both(&["cache", "rm", "--dry-run", "-o", "json", IMAGE]).await;
    let before = json(&stage.run(&["cache", "stats", "-o", "json"]).await.stdout);
    let done = json(&stage.run(&["cache", "rm", "-o", "json", IMAGE]).await.stdout);
    let after = json(&stage.run(&["cache", "stats", "-o", "json"]).await.stdout);
    assert_eq!(json(&dry.stdout)["left_images"], done["left_images"]);
    let bytes = |stats: &Value, class: &str| stats[class]["bytes"].as_u64().unwrap();
    assert!(bytes(&before, "layers") > 0 && bytes(&after, "layers") == 0, "{before} {after}");
    assert!(bytes(&after, "metadata") < bytes(&before, "metadata"));
    let gone = stage.run_both(&["cache", "show", IMAGE]).await;
    assert_eq!(gone.code, Some(1));
    // Nothing of it is in the way of the next pull.
    let server = Process::serve(&stage.config).await.unwrap();
    pull::pull(&Client::plain(), &format!("http://{}", server.address), "chainguard/nginx", "latest").await.unwrap();
    server.terminate().await.unwrap();
}

#[tokio::test]
async fn a_dry_run_tells_of_indexes_all_that_leaves_with_them_and_of_several_images_what_leaves_with_all() {
    let stage = Stage::public(Layout::Legacy).await;
    // Layers that its platforms share, and that it shares with the stage's own index.
    let shared = image::index([
        image::single("linux/amd64", [noise(1000, 1), noise(500, 3)]),
        image::single("linux/arm64", [noise(700, 4), noise(500, 3)]),
    ]);
    publish(&stage.world, "chainguard/shared", &Signer::chainguard(), Layout::Legacy, &shared);
    let server = Process::serve(&stage.config).await.unwrap();
    for repository in ["chainguard/nginx", "chainguard/shared"] {
        pull::pull(&Client::plain(), &format!("http://{}", server.address), repository, "latest").await.unwrap();
    }
    server.terminate().await.unwrap();
    let other = "cgr.dev/chainguard/shared:latest";
    let alone = json(&stage.run_both(&["cache", "rm", "--dry-run", "-o", "json", other]).await.stdout);
    assert_eq!(alone["layers"], serde_json::json!({"blobs": 2, "bytes": 1200}), "{alone:#}");
    let arguments = ["cache", "rm", "-o", "json", IMAGE, other];
    let mut told = json(&stage.run_both(&["cache", "rm", "--dry-run", "-o", "json", IMAGE, other]).await.stdout);
    let before = json(&stage.run(&["cache", "stats", "-o", "json"]).await.stdout);
    let mut done = json(&stage.run(&arguments).await.stdout);
    let after = json(&stage.run(&["cache", "stats", "-o", "json"]).await.stdout);
    assert_eq!((told["dry_run"].take(), done["dry_run"].take()), (true.into(), false.into()));
    assert_eq!(told, done);
    assert_eq!((&done["layers"], done["left_layers"].as_array().unwrap().len()), (&before["layers"], 4), "{done:#}");
    assert_eq!((&after["layers"]["blobs"], &after["manifests"]), (&Value::from(0), &Value::from(0)), "{after:#}");
    assert_eq!(done["metadata"], before["metadata"]);
    // One that is not kept, and nothing of the other leaves either.
    let server = Process::serve(&stage.config).await.unwrap();
    let url = format!("http://{}", server.address);
    pull::pull(&Client::plain(), &url, "chainguard/nginx", "latest").await.unwrap();
    server.terminate().await.unwrap();
    assert_eq!(stage.run_both(&["cache", "rm", IMAGE, "cgr.dev/chainguard/curl"]).await.code, Some(1));
    assert_eq!(stage.run_both(&["cache", "show", IMAGE]).await.code, Some(0));
}

#[tokio::test]
async fn what_cannot_be_meant_or_is_not_kept_is_told() {
    let stage = pulled().await;
    for (arguments, code, what) in [
        (["cache", "show", "cgr.dev/chainguard/curl"], 1, "is not kept here"),
        (["cache", "pin", "ghcr.io/x/y"], 2, "no configured upstream"),
        (["cache", "rm", "cgr.dev/chainguard/nginx:old"], 1, "is not kept here"),
    ] {
        let said = stage.run_both(&arguments).await;
        assert_eq!(said.code, Some(code), "{arguments:?} {}", said.stderr);
        assert!(said.stderr.contains(what), "{arguments:?} {}", said.stderr);
    }
    let gc = stage.run_both(&["cache", "gc"]).await;
    assert_eq!(gc.code, Some(0));
    assert!(gc.stderr.contains("no budget is set"), "{}", gc.stderr);
}

#[tokio::test]
async fn a_scrub_finds_flipped_bytes_sets_them_aside_and_heals_what_is_needed() {
    let mut stage = pulled().await;
    let blobs = stage.world.directory.path().join("store/blobs/sha256");
    let child = stage.index.children[0].clone();
    let (layer, _) = child.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    // Without a server: its own scrub could come first.
    let rotten = [layer.hex(), child.digest.hex(), stage.index.digest.hex()];
    for name in rotten {
        let mut bytes = std::fs::read(blobs.join(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(blobs.join(name), bytes).unwrap();
    }
    let scrubbed = stage.run(&["cache", "scrub", "-o", "json"]).await;
    assert_eq!(scrubbed.code, Some(0), "{}{}", scrubbed.stdout, scrubbed.stderr);
    let scrubbed = json(&scrubbed.stdout);
    // To fetch a layer again its manifests are read: rot in these is found by their readers, before the walk comes to them.
    assert_eq!(scrubbed["healed"], scrubbed["quarantined"], "{scrubbed:#}");
    assert_eq!(scrubbed["healed"].as_array().unwrap().len(), rotten.len(), "{scrubbed:#}");
    let is_right = |name: &str| oci::Digest::sha256(&std::fs::read(blobs.join(name)).unwrap()).hex() == name;
    assert!(rotten.iter().all(|name| is_right(name)), "{scrubbed:#}");
    for name in rotten {
        assert!(stage.world.directory.path().join(format!("store/quarantine/sha256-{name}")).exists());
    }
    // Without upstream: found, and told as not fetched.
    let path = blobs.join(layer.hex());
    std::fs::write(&path, b"rotten").unwrap();
    stage.world.registry.stop().await;
    let scrubbed = stage.run(&["cache", "scrub"]).await;
    assert_eq!(scrubbed.code, Some(3), "{}{}", scrubbed.stdout, scrubbed.stderr);
    assert!(scrubbed.stdout.contains(&format!("quarantined  {layer}")), "{}", scrubbed.stdout);
}

/// The stage's image, and one with a layer of 300 kB.
async fn large() -> Stage {
    let stage = pulled().await;
    let image = image::single("linux/amd64", [noise(300_000, 5)]);
    publish(&stage.world, "chainguard/large", &Signer::chainguard(), Layout::Legacy, &image);
    let server = Process::serve(&stage.config).await.unwrap();
    let url = format!("http://{}", server.address);
    pull::pull(&Client::plain(), &url, "chainguard/large", "latest").await.unwrap();
    server.terminate().await.unwrap();
    stage
}

fn scrub(bytes_per_second: u64) -> Request {
    Request::Cache(CacheRequest::Scrub { rate: ScrubRate::BytesPerSecond(bytes_per_second) })
}

#[tokio::test]
async fn a_scrub_reads_no_faster_than_it_is_told_and_tells_how_far_it_has_come() {
    let stage = Box::pin(large()).await;
    for beside in [true, false] {
        let server = if beside { Some(Process::serve(&stage.config).await.unwrap()) } else { None };
        let begun = Instant::now();
        let said = stage.run(&["cache", "scrub", "--rate", "100KiB", "-o", "json"]).await;
        let took = begun.elapsed();
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let bytes = json(&said.stdout)["bytes"].as_u64().unwrap();
        assert!(bytes > 300_000 && took >= Duration::from_millis(bytes * 1000 / (100 << 10)), "{bytes} in {took:?}");
        let told: Vec<_> = said.stderr.lines().filter(|line| line.starts_with("read ")).collect();
        assert!(
            told.iter().any(|line| line.contains(" KiB of ") && line.ends_with(" %)")),
            "{beside}: {}",
            said.stderr
        );
        // What takes no time is not told of.
        let said = stage.run(&["cache", "scrub", "--rate", "unlimited"]).await;
        assert_eq!((said.code, said.stderr.lines().count()), (Some(0), 1), "{beside}: {}", said.stderr);
        if let Some(server) = server {
            server.terminate().await.unwrap();
        }
    }
}

#[tokio::test]
async fn one_scrub_at_a_time_ends_with_who_asked_for_it_and_with_the_server() {
    let stage = Box::pin(large()).await;
    let server = Process::serve(&stage.config).await.unwrap();
    let settings = stage.world.load(&Setup::default()).settings;
    let told = Notify::new();
    let hear = |progress: &Progress| {
        assert!(progress.bytes <= progress.bytes_total && progress.bytes_total > 300_000, "{progress:?}");
        told.notify_one();
    };
    tokio::select! {
        answer = control::answer(&settings, scrub(1024), hear) => panic!("it takes minutes: {answer:?}"),
        () = async {
            told.notified().await;
            let second = stage.run(&["cache", "scrub"]).await;
            assert_eq!(second.code, Some(3), "{}", second.stderr);
            assert!(second.stderr.contains("another `pratique cache scrub` is under way"), "{}", second.stderr);
            assert_eq!(stage.run(&["cache", "stats"]).await.code, Some(0), "other commands do not wait for it");
        } => {}
    }
    // Nobody waits for the first any more: it ends when the server notices.
    let mut next = stage.run(&["cache", "scrub", "--rate", "0"]).await;
    for _ in 0..50 {
        if next.code == Some(0) {
            break;
        }
        next = stage.run(&["cache", "scrub", "--rate", "0"]).await;
    }
    assert_eq!(next.code, Some(0), "{}", next.stderr);
    let ending = async {
        told.notified().await;
        server.terminate().await.unwrap()
    };
    let (answer, ended) = tokio::join!(control::answer(&settings, scrub(1024), hear), ending);
    let Answer::Failed(failure) = answer else { panic!("{answer:?}") };
    assert_eq!((failure.message.as_str(), ended.status.code()), ("the server is ending", Some(0)));
}

#[tokio::test]
async fn a_rate_is_bytes_or_a_size_or_unlimited_and_nothing_else() {
    let stage = Stage::public(Layout::Legacy).await;
    for rate in ["0", "1", "20971520", "20MiB", "1GB", "unlimited"] {
        let said = stage.run(&["cache", "scrub", "--rate", rate]).await;
        assert_eq!(said.code, Some(0), "{rate}: {}", said.stderr);
    }
    for rate in ["", "-1", "fast", "20 MiB", "20M", "1.5GiB"] {
        let said = stage.run(&["cache", "scrub", &format!("--rate={rate}")]).await;
        assert_eq!(said.code, Some(2), "{rate}: {}", said.stderr);
        assert!(said.stderr.contains("such as 20971520 or 20MiB, or unlimited"), "{rate}: {}", said.stderr);
    }
}

/// What a client gets under the tag: the status, and the digest or the hint.
async fn under_tag(server: &Process) -> (u16, String) {
    let url = format!("http://{}/v2/{PUBLIC}/manifests/latest", server.address);
    let answer = Client::plain().get(&url, &[]).await.unwrap();
    let told = match answer.header("docker-content-digest") {
        Some(digest) => digest.to_owned(),
        None => json(&answer.text())["errors"][0]["detail"]["hint"].as_str().unwrap_or_default().to_owned(),
    };
    (answer.status.as_u16(), told)
}

#[tokio::test]
async fn a_tag_that_was_moved_back_on_purpose_is_let_back_as_the_hint_says() {
    let signer = Signer::chainguard();
    let policy = policies::keyless("own", "cgr.dev/chainguard/**", &signer.issuer, &signer.subject);
    // Looked up for nobody else: who joins a look that began before the tag was moved is told what was so then.
    let setup = Setup::with_policy(&policies::annotated(&policy, ["pratique.dev/rollback: deny"]))
        .sections("[tags]\nttl = \"1ms\"\nrefresh = \"never\"\n");
    let stage = Stage::new(PUBLIC, &signer, Layout::Legacy, &setup).await;
    let (newer, older) = (&stage.index, image::single("linux/amd64", [noise(10, 9)]));
    let options = Options::at(Options::SIGNED_AT - 30 * 86_400);
    stage.world.sign(PUBLIC, &older, &signer, &options);
    let lead = |image: &image::Image| image.push(&stage.world.registry, PUBLIC, Some("latest"));
    for beside in [true, false] {
        let mut server = Process::serve(&stage.config).await.unwrap();
        lead(newer);
        assert_eq!(under_tag(&server).await, (200, newer.digest.to_string()));
        lead(&older);
        let (status, hint) = under_tag(&server).await;
        assert_eq!(status, 403);
        let (_, command) = hint.split_once("; if it is meant, pratique ").expect("a hint with a command");
        let command: Vec<_> = command.split(' ').collect();
        if beside {
            let said = stage.run(&command).await;
            assert_eq!(said.code, Some(0), "{}", said.stderr);
            assert_eq!(said.stdout.trim(), format!("{IMAGE}: {} does not count as its newest any more", newer.digest));
        } else {
            assert_eq!(server.terminate().await.unwrap().status.code(), Some(0));
            let said = stage.run(&command).await;
            assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{}", said.stdout);
            let again = stage.run(&command).await;
            assert!(
                again.code == Some(0) && again.stdout.contains("nothing counted as its newest"),
                "{}",
                again.stdout
            );
            server = Process::serve(&stage.config).await.unwrap();
        }
        assert_eq!(under_tag(&server).await, (200, older.digest.to_string()));
        // What it leads to next sets how new it is anew.
        lead(newer);
        assert_eq!(under_tag(&server).await.0, 200);
        lead(&older);
        assert_eq!(under_tag(&server).await.0, 403);
        let by_digest = stage.run(&["cache", "forget-newest", &format!("cgr.dev/{PUBLIC}@{}", older.digest)]).await;
        assert!(by_digest.code == Some(2) && by_digest.stderr.contains("is a digest"), "{}", by_digest.stderr);
        assert_eq!(stage.run(&command).await.code, Some(0));
        assert_eq!(server.terminate().await.unwrap().status.code(), Some(0));
    }
}
