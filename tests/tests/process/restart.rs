//! What was pulled once is there when upstream is not, however the process before ended.

use support::{
    client::Client,
    image,
    process::Process,
    pull::{Pulled, pull},
    world::Setup,
};

use crate::{REPOSITORY, get, signed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Terminated,
    Killed,
}

#[tokio::test]
async fn after_sigterm_and_without_upstream_the_same_pulls_by_digest_and_tag_work() {
    pulls_work_offline_after(End::Terminated).await;
}

#[tokio::test]
async fn after_sigkill_and_without_upstream_the_same_pulls_by_digest_and_tag_work() {
    pulls_work_offline_after(End::Killed).await;
}

async fn pulls_work_offline_after(end: End) {
    let (mut world, index) = signed(1_000_000).await;
    let config = world.write(&Setup::default());
    let process = Process::serve(&config).await.unwrap();
    let warm = pull_by(&process, "latest").await;
    assert!(warm.warnings.is_empty(), "{:?}", warm.warnings);

    // A digest hit costs upstream nothing while it is up, and neither does a second tag lookup within tags.ttl.
    world.registry.clear_calls();
    let by_digest = pull_by(&process, &index.digest.to_string()).await;
    assert_eq!((&by_digest.manifests, &by_digest.blobs), (&warm.manifests, &warm.blobs));
    pull_by(&process, "latest").await;
    assert_eq!(world.registry.calls().len(), 0);

    match end {
        End::Terminated => assert_eq!(process.terminate().await.unwrap().status.code(), Some(0)),
        End::Killed => assert_eq!(process.kill().await.unwrap().status.code(), None),
    }
    world.registry.stop().await;
    let process = Process::serve(&config).await.unwrap();
    for reference in [index.digest.to_string(), index.children[1].digest.to_string(), "latest".to_owned()] {
        let pulled = pull_by(&process, &reference).await;
        let (manifests, blobs) = (&pulled.manifests, &pulled.blobs);
        assert!(manifests.iter().all(|one| warm.manifests.contains(one)), "{reference}");
        assert!(blobs.iter().all(|one| warm.blobs.contains(one)), "{reference}");
        assert!(!reference.starts_with("latest") || manifests.len() == 3, "{reference}");
    }
    // What was never pulled cannot be decided on, and is not served.
    let url = format!("http://{}", process.address);
    assert_eq!(get(&format!("{url}/v2/chainguard/other/manifests/latest")).await.status, 503);
    let signature = image::cosign_tag(&index.digest, "sig");
    assert_eq!(get(&format!("{url}/v2/{REPOSITORY}/manifests/{signature}")).await.status, 200);
}

async fn pull_by(process: &Process, reference: &str) -> Pulled {
    let url = format!("http://{}", process.address);
    pull(&Client::plain(), &url, REPOSITORY, reference).await.unwrap_or_else(|failure| panic!("{reference}: {failure}"))
}
