//! The command line, the signals and the exit codes of the real binary.

use std::os::unix::process::ExitStatusExt as _;

use super::*;
use crate::{
    client::Client,
    image::{self, Image},
    pull::message,
    world::{Setup, World},
};

const REPOSITORY: &str = "chainguard/app";
const REFUSE_ALL: &str = "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: closed
spec:
  images:
  - glob: cgr.dev/chainguard/**
  authorities:
  - name: nobody
    static:
      action: fail
";

#[tokio::test]
async fn a_reload_takes_the_new_policy_and_a_broken_one_leaves_what_was_in_force() {
    let (world, _) = world().await;
    let process = Process::serve(&world.write(&Setup::default())).await.unwrap();
    assert_eq!(status(&process).await, (200, String::new()));

    world.write(&Setup::with_policy(REFUSE_ALL));
    process.reload().await.unwrap();
    let (code, reason) = status(&process).await;
    assert_eq!(code, 403);
    assert!(reason.contains("policy closed"), "{reason}");

    world.write(&Setup::with_policy("kind: ClusterImagePolicy\nspec: [\n"));
    let failure = process.reload().await.unwrap_err();
    assert!(failure.contains("what was in force stays") && failure.contains("policy.yaml"), "{failure}");
    assert_eq!(status(&process).await, (403, reason));
}

#[tokio::test]
async fn it_ends_well_when_told_to_and_serves_from_its_store_on_the_same_address_after_a_restart() {
    let (mut world, image) = world().await;
    let process = Process::serve(&world.write(&Setup::default())).await.unwrap();
    assert_eq!(status(&process).await.0, 200);
    let address = process.address;

    world.registry.stop().await;
    let process = process.restart().await.unwrap();
    assert_eq!(process.address, address);
    let url = format!("http://{address}/v2/{REPOSITORY}/manifests/{}", image.digest);
    let answer = Client::plain().get(&url, &[]).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.received()), (200, &image.manifest));

    let ended = process.terminate().await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[tokio::test]
async fn a_killed_process_leaves_a_store_that_the_next_one_opens() {
    let (world, _) = world().await;
    let config = world.write(&Setup::default());
    let process = Process::serve(&config).await.unwrap();
    assert_eq!(status(&process).await.0, 200);
    let ended = process.kill().await.unwrap();
    assert_eq!(ended.status.signal(), Some(9));

    let process = Process::serve(&config).await.unwrap();
    assert_eq!(status(&process).await.0, 200);
}

#[tokio::test]
async fn a_second_process_on_the_same_store_does_not_serve_and_says_why() {
    let (world, _) = world().await;
    let config = world.write(&Setup::default());
    let _first = Process::serve(&config).await.unwrap();
    let Err(NotServing::Silent(silent)) = Process::serve(&config).await else { panic!("a second one serves") };
    assert!(silent.said.iter().any(|line| line.contains("store")), "{silent}");
}

#[tokio::test]
async fn a_configuration_with_an_unknown_key_is_named_and_not_served_with() {
    let (world, _) = world().await;
    let config = world.write(&Setup::default().sections("[tagz]\nttl = \"1s\"\n"));
    let Err(NotServing::Silent(silent)) = Process::serve(&config).await else { panic!("it serves") };
    assert!(silent.said.iter().any(|line| line.contains("pratique.toml") && line.contains("tagz")), "{silent}");
}

async fn world() -> (World, Image) {
    let world = World::new().await;
    let image = image::single("linux/amd64", [image::filler(4096, 1)]);
    world.push_signed(REPOSITORY, "latest", &image);
    (world, image)
}

/// The status and, where there is one, the message of an answer for the image.
async fn status(process: &Process) -> (u16, String) {
    let url = format!("http://{}/v2/{REPOSITORY}/manifests/latest", process.host_port());
    let answer = Client::plain().get(&url, &[]).await.unwrap();
    (answer.status.as_u16(), message(&answer))
}
