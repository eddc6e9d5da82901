//! A system that runs out of something or fails: told, never mistaken for an answer about an image, and over when it is over.

use std::{process::Command, time::Duration};

use futures_util::future::join_all;
use support::{client::Client, image, needs, process::Process, upstream::noise};
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
