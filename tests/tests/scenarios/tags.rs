//! What a tag means, when upstream says one thing and has another.

use oci::Digest;
use support::{
    client::Client,
    pull::pull,
    upstream::Fault,
    world::{Setup, World},
};

use crate::{get, sized};

/// A digest that nobody has.
const NOBODYS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn a_digest_that_upstream_tells_and_does_not_have_is_not_taken_for_the_tags() {
    let world = World::new().await;
    let image = sized(1000, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    world.registry.fault(support::upstream::Call::is_head, Fault::digest_header(NOBODYS)).times(1);
    let pratique = world.pratique(&Setup::default()).await;
    for _ in 0..3 {
        let answer = get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(answer.received()));
        assert_eq!(answer.header("docker-content-digest"), Some(image.digest.to_string().as_str()));
    }
}

#[tokio::test]
async fn a_lying_digest_does_not_take_the_place_of_the_last_good_one() {
    let mut world = World::new().await;
    let image = sized(1000, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&Setup::default().sections("[tags]\nttl = \"1ms\"\n")).await;
    let (client, url) = (Client::plain(), pratique.url());
    pull(&client, &url, "chainguard/nginx", "latest").await.unwrap();
    // From here on the header lies, and whoever believes it finds nothing; then upstream is gone altogether.
    world.registry.fault(support::upstream::Call::is_head, Fault::digest_header(NOBODYS));
    let during = get(&format!("{url}/v2/chainguard/nginx/manifests/latest")).await;
    assert_eq!(during.status, 200);
    world.registry.stop().await;
    let after = pull(&client, &url, "chainguard/nginx", "latest").await.unwrap();
    assert_eq!(after.manifests[0].1, image.manifest);
    let digest: Digest = after.manifests[0].0.clone();
    assert_eq!(digest, image.digest);
}
