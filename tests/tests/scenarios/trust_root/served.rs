//! A server takes up what its own refresh, or a command beside it, has kept.

use std::time::Duration;

use support::{
    tuf::{Mirror, Repository},
    world::{Pratique, Setup, World},
};

use crate::{get, sized};

const PATH: &str = "v2/chainguard/nginx/manifests/latest";

/// A signed image, and a TUF repository of the Sigstore that signed it.
async fn stage(policy: &str) -> (World, Repository, Mirror, Setup) {
    let world = World::new().await;
    world.push_signed("chainguard/nginx", "latest", &sized(1000, 1));
    let repository = Repository::new(&world.sigstore.trusted_root_json());
    let mirror = Mirror::start(repository.files()).await.unwrap();
    std::fs::write(world.directory.path().join("root.json"), repository.initial()).unwrap();
    let policy = format!("trust_root_mirror = \"{}\"\ntrust_root_initial = \"root.json\"\n{policy}\n", mirror.url());
    let setup = Setup { policy, ..Setup::default() };
    (world, repository, mirror, setup)
}

/// Asks until the answer has this status; a test that waits for it too long fails.
async fn until(pratique: &Pratique, status: u16) {
    let url = format!("{}/{PATH}", pratique.url());
    let asked = async {
        while get(&url).await.status != status {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap_or_else(|_| panic!("never {status}"));
}

#[tokio::test]
async fn verdicts_follow_the_refreshed_trust_root_there_and_back_without_a_reload() {
    let (world, mut repository, mirror, setup) = stage("trust_root_refresh = \"100ms\"").await;
    let trusted = world.sigstore.trusted_root_json();
    let setup = Setup { top: format!("{}\nadmin_listen = \"127.0.0.1:0\"", setup.top), ..setup };
    let pratique = world.pratique(&setup).await;
    until(&pratique, 200).await;
    let others = support::sigstore::VirtualSigstore::new().trusted_root_json();
    for (root, status) in [(&others, 403), (&trusted, 200)] {
        repository.publish(root);
        mirror.publish(repository.files());
        until(&pratique, status).await;
    }
    let generation = pratique.server.app.in_force().generation;
    assert_eq!(generation, 2, "daily metadata are no change");
    drop(mirror);
    counted(&pratique, "unreachable").await;
    until(&pratique, 200).await;
    for outcome in ["updated", "unchanged"] {
        counted(&pratique, outcome).await;
    }
    assert!(metrics(&pratique).await.contains("\npratique_trust_root_age_seconds "));
    pratique.stop().await;
}

async fn metrics(pratique: &Pratique) -> String {
    let address = pratique.server.admin_address.expect("an admin listener");
    get(&format!("http://{address}/metrics")).await.text()
}

/// Waits until refreshes with this outcome are counted.
async fn counted(pratique: &Pratique, outcome: &str) {
    let wanted = format!("pratique_trust_root_refreshes_total{{outcome=\"{outcome}\"}}");
    let asked = async {
        while !metrics(pratique).await.contains(&wanted) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap_or_else(|_| panic!("never {wanted}"));
}

#[tokio::test]
async fn a_mirror_that_is_out_of_reach_from_the_start_stops_nothing() {
    let (world, _, mirror, setup) = stage("trust_root_refresh = \"100ms\"").await;
    drop(mirror);
    let pratique = world.pratique(&setup).await;
    assert_eq!(get(&format!("{}/{PATH}", pratique.url())).await.status, 200);
    assert_eq!(pratique.server.app.in_force().generation, 0);
    pratique.stop().await;
}

#[tokio::test]
async fn an_old_trust_root_admits_again_once_it_is_refreshed() {
    let (world, _repository, mirror, setup) =
        stage("trust_root_refresh = \"never\"\ntrust_root_max_age = \"1d\"").await;
    let later = two_days_ahead();
    let pratique = world.try_pratique(&setup, later.clone()).await.unwrap();
    let url = format!("{}/{PATH}", pratique.url());
    assert_eq!(get(&url).await.status, 403, "two days old");
    let settings = std::sync::Arc::clone(&pratique.server.app.in_force().settings);
    proxy::trust::update(&settings, &later).await.unwrap();
    assert!(!pratique.server.app.renew_trust_root().unwrap(), "the same content");
    assert_eq!(pratique.server.app.in_force().generation, 1, "but a later end");
    let answer = get(&url).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(mirror);
    pratique.stop().await;
}

/// Two days ahead of the system's clock.
fn two_days_ahead() -> proxy::clock::Clock {
    let system = proxy::clock::Clock::system();
    proxy::clock::Clock::reading(move || system.now().plus(Duration::from_secs(2 * 86_400)))
}
