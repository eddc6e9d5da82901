//! A system that runs out of something or fails: told, never mistaken for an answer about an image, and over when it is over.

use std::{fs, path::Path, process::Command, time::Duration};

use futures_util::future::join_all;
use support::{
    client::Client,
    image::{self, Image},
    needs,
    process::{Child, Process, Signal},
    upstream::{Fault, ends_with, noise},
    world::World,
};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{REPOSITORY, admin::Metrics, admin_url, administered, get, signed};

const LONG: Duration = Duration::from_secs(60);
/// Enough for the store, the listeners and some clients.
const FILES_MAX: u32 = 96;
const CROWD: usize = 200;

#[tokio::test]
async fn without_file_descriptors_nothing_is_refused_or_unknown_and_it_goes_on_when_there_are_some() {
    let limit = format!("--nofile={FILES_MAX}:{FILES_MAX}");
    if !needs::does(Command::new("prlimit").args([&limit, "true"])) {
        return;
    }
    let (world, index) = signed(100_000).await;
    let process = Process::serve_under(&["prlimit", &limit], &world.write(&administered()), &[]).await.unwrap();
    let manifests = format!("http://{}/v2/{REPOSITORY}/manifests", process.address);
    let pulled = format!("{manifests}/{}", index.digest);
    assert_eq!(get(&pulled).await.status, 200);
    let crowd = join_all((0..CROWD).map(|_| TcpStream::connect(process.address))).await;
    assert!(crowd.iter().all(Result::is_ok), "the kernel's queue takes them");
    for reference in [index.digest.to_string(), index.children[0].digest.to_string(), "latest".to_owned()] {
        let (client, url) = (Client::plain(), format!("{manifests}/{reference}"));
        // It waits in the queue, or is told that something of ours fails: nothing is said about the image.
        if let Ok(Ok(answer)) = timeout(Duration::from_secs(2), client.get(&url, &[])).await {
            assert!([200, 429, 500, 503].contains(&answer.status.as_u16()), "{}", answer.text());
        }
    }
    drop(crowd);
    let recovered = async {
        while !Client::plain().get(&pulled, &[]).await.is_ok_and(|answer| answer.status == 200) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONG, recovered).await.expect("it goes on");
    let (layer, bytes) = &index.children[0].layers()[0];
    assert_eq!(get(&format!("{manifests}/{}", index.children[0].digest)).await.status, 200);
    let blob = get(&format!("http://{}/v2/{REPOSITORY}/blobs/{layer}", process.address)).await;
    assert!(blob.status == 200 && blob.received() == bytes);
    assert!(Metrics::of(&process).await.sum("pratique_accept_errors_total", &[]) > 0.0);
    process.terminate().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_under_the_facts_fails_the_health_check_and_a_restart_mends_it() {
    // Where it may trace nobody it is there for nothing.
    let tampers = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=1", "true"];
    if !needs::does(Command::new("strace").args(tampers)) {
        return;
    }
    let mut seen = false;
    for sync in [2, 4, 8, 16] {
        let (world, index) = signed(1000).await;
        let images: Vec<_> = (0..8).map(|seed| image::single("linux/amd64", [noise(10, 100 + seed)])).collect();
        for (number, image) in images.iter().enumerate() {
            world.push_signed(REPOSITORY, &format!("image-{number}"), image);
        }
        let config = world.write(&administered());
        let inject = format!("inject=fdatasync:error=EIO:when={sync}+");
        let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject];
        // So early that it did not even start: then it said so.
        let Ok(process) = Process::serve_under(&strace, &config, &[]).await else { continue };
        let manifests = format!("http://{}/v2/{REPOSITORY}/manifests", process.address);
        for image in &images {
            let status = get(&format!("{manifests}/{}", image.digest)).await.status.as_u16();
            assert!([200, 500, 503].contains(&status), "{status}");
        }
        let health = get(&format!("{}/healthz", admin_url(&process))).await;
        let ready = get(&format!("{}/readyz", admin_url(&process))).await;
        if health.status == 503 {
            assert!(health.text().contains("restart"), "{}", health.text());
            assert_eq!(ready.status, 503);
            seen = true;
        }
        process.kill().await.unwrap();
        let process = Process::serve(&config).await.unwrap();
        let manifests = format!("http://{}/v2/{REPOSITORY}/manifests", process.address);
        assert_eq!(get(&format!("{}/healthz", admin_url(&process))).await.status, 200);
        for digest in images.iter().map(|image| &image.digest).chain([&index.digest]) {
            assert_eq!(get(&format!("{manifests}/{digest}")).await.status, 200, "after a restart");
        }
        process.terminate().await.unwrap();
    }
    assert!(seen, "no sync of the facts was met");
}

/// A disk that fails under a process that runs: strace, which fails calls of it.
struct Failing {
    strace: Child,
    process: u32,
}

impl Failing {
    /// From here on every such call that has to do with `path`, or with whatever, fails with EIO. `None` where nobody may trace.
    async fn under(process: &Process, call: &str, path: Option<&Path>) -> Option<Self> {
        let tampers = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"];
        if !needs::does(Command::new("strace").args(tampers)) {
            return None;
        }
        let id = process.id().unwrap();
        let mut command = tokio::process::Command::new("strace");
        command.args(["-I", "1", "-f", "-qq", "-o", "/dev/null", "-p", &id.to_string()]);
        command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:error=EIO")]);
        command.args(path.iter().flat_map(|path| [Path::new("-P"), path]));
        let failing = Self { strace: Child::start(command).unwrap(), process: id };
        failing.until("it is traced", |threads| threads.iter().all(|tracer| *tracer != "0")).await;
        Some(failing)
    }

    /// The disk is well again.
    async fn ends(mut self) {
        self.strace.signal(Signal::TERM).unwrap();
        self.strace.ended(LONG).await.unwrap();
        self.until("it is let go", |threads| threads.iter().all(|tracer| *tracer == "0")).await;
    }

    /// Waits until those who trace each thread are `such`.
    async fn until(&self, wanted: &str, such: impl Fn(&[String]) -> bool) {
        let tracers = || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.process)).unwrap();
            let statuses = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
            let tracer = |status: String| {
                let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
                line.map(|tracer| tracer.trim().to_owned())
            };
            statuses.filter_map(tracer).collect::<Vec<_>>()
        };
        let reached = async {
            while !such(&tracers()) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LONG, reached).await.expect(wanted);
    }
}

/// Two more images, signed.
fn pushed(world: &World) -> [Image; 2] {
    [1, 2].map(|seed| {
        let image = image::single("linux/amd64", [noise(100_000, 200 + seed)]);
        world.push_signed(REPOSITORY, &format!("image-{seed}"), &image);
        image
    })
}

/// How often upstream was asked for what `image` is judged by.
fn judged(world: &World, image: &Image) -> usize {
    world.registry.count(ends_with(&image::cosign_tag(&image.digest, "sig")))
}

#[tokio::test]
async fn facts_that_cannot_be_synced_are_no_verdict_and_a_restart_judges_anew() {
    let (world, _) = signed(1000).await;
    let [before, during] = pushed(&world);
    let config = world.write(&administered());
    let process = Process::serve(&config).await.unwrap();
    let ask = async |process: &Process, image: &Image| {
        get(&format!("http://{}/v2/{REPOSITORY}/manifests/{}", process.address, image.digest)).await.status
    };
    assert_eq!(ask(&process, &before).await, 200);
    let facts = world.directory.path().join("store/facts.redb");
    let evidence = world.registry.fault(ends_with(&image::cosign_tag(&during.digest, "sig")), Fault::Hang);
    let judging = async {
        evidence.hit(1).await.unwrap();
        let failing = Failing::under(&process, "fdatasync", Some(&facts)).await;
        evidence.clear();
        failing
    };
    // The image is there and is judged, and the verdict cannot be stored.
    let (status, failing) = tokio::join!(ask(&process, &during), judging);
    let Some(failing) = failing else { return };
    assert_eq!(status, 500, "a verdict that is not stored is none");
    // Neither this nor anything else is served by facts that nobody can rely on.
    for _ in 0..2 {
        for image in [&during, &before] {
            assert_eq!(ask(&process, image).await, 500);
        }
    }
    assert_eq!(judged(&world, &during), 1, "it was judged");
    let health = get(&format!("{}/healthz", admin_url(&process))).await;
    assert_eq!((health.status.as_u16(), health.text().contains("restart")), (503, true), "{}", health.text());
    // A disk that is well again changes nothing: what it took meanwhile is known after a restart.
    failing.ends().await;
    assert_eq!(ask(&process, &during).await, 500);
    process.kill().await.unwrap();
    world.registry.clear_calls();
    let process = Process::serve(&config).await.unwrap();
    for image in [&before, &during] {
        assert_eq!(ask(&process, image).await, 200);
    }
    assert_eq!((judged(&world, &before), judged(&world, &during)), (0, 1), "one verdict was stored, and one was not");
    process.terminate().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_written_or_synced_is_not_kept_and_is_no_verdict() {
    for call in ["pwritev", "fsync"] {
        let (world, _) = signed(1000).await;
        let [before, during] = pushed(&world);
        let config = world.write(&administered());
        let process = Process::serve(&config).await.unwrap();
        let base = format!("http://{}/v2/{REPOSITORY}", process.address);
        let manifest = async |image: &Image| get(&format!("{base}/manifests/{}", image.digest)).await.status;
        assert_eq!(manifest(&before).await, 200);
        let Some(failing) = Failing::under(&process, call, None).await else { return };
        let (layer, bytes) = &before.layers()[0];
        let blob = format!("{base}/blobs/{layer}");
        let stored =
            |digest: &oci::Digest| world.directory.path().join("store/blobs/sha256").join(digest.hex()).exists();
        for _ in 0..2 {
            assert_eq!(manifest(&during).await, 500, "{call}");
            assert_eq!(manifest(&before).await, 200, "{call}: it is there");
            // A blob that cannot even be begun is told as that; one that cannot be brought to its end breaks before it.
            let answer = get(&blob).await;
            let is_told = answer.status == 500;
            assert!(is_told || answer.is_broken(), "{call}: {} and whole", answer.status);
            assert!(!stored(layer) && !stored(&during.digest), "{call}");
        }
        assert_eq!(judged(&world, &during), 0, "{call}: what was never stored is not judged");
        assert_eq!(get(&format!("{}/healthz", admin_url(&process))).await.status, 200, "{call}: the facts are well");
        failing.ends().await;
        // No restart is needed, and the verdict is made only now.
        assert_eq!(manifest(&during).await, 200, "{call}");
        assert_eq!(judged(&world, &during), 1, "{call}");
        let answer = get(&blob).await;
        assert!(answer.status == 200 && answer.received() == bytes, "{call}: {}", answer.status);
        process.terminate().await.unwrap();
    }
}
