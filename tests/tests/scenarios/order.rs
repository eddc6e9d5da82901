//! Facts and directory are compared again and again, and nothing that is still needed goes with that.

use std::time::Duration;

use oci::Digest;
use proxy::keeping;
use storage::{Change, Keeper};
use support::{
    image,
    sigstore::{Options, Signer},
    world::{Pratique, Setup, World},
};

use crate::{
    attestations::{Demand, demanding},
    get, sized,
};

const REPOSITORY: &str = "chainguard/nginx";

/// Compares twice, as a server does at its start and an hour later; what has arrived has its facts.
async fn compared_twice(pratique: &Pratique) {
    let app = &pratique.server.app;
    let keeper = Keeper::new(app.store.clone());
    for _ in 0..2 {
        keeping::put_in_order(app, &keeper, Duration::ZERO).await.unwrap();
    }
}

async fn status(pratique: &Pratique, digest: &Digest) -> (u16, String) {
    let answer = get(&format!("{}/v2/{REPOSITORY}/manifests/{digest}", pratique.url())).await;
    (answer.status.as_u16(), answer.text())
}

/// The same demand under another name: everything is judged again.
fn renamed(policy: &str) -> Setup {
    Setup::with_policy(&policy.replace("name: demanding", "name: renamed"))
}

fn of_another_repository() -> String {
    let source = "oci: cgr.dev/chainguard/signatures";
    demanding(&Signer::chainguard(), &Demand { source, ..Demand::default() })
}

/// An image whose signature lies in another repository.
fn signed_elsewhere(world: &World) -> image::Image {
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let signature = world.sigstore.sign_legacy(&Signer::chainguard(), "cgr.dev/x", &image.digest, &Options::default());
    let tag = image::cosign_tag(&image.digest, "sig");
    image::signature_manifest(&[signature]).push(&world.registry, "chainguard/signatures", Some(&tag));
    image
}

#[tokio::test]
async fn evidence_of_another_repository_is_there_when_the_image_is_judged_again_without_upstream() {
    let mut world = World::new().await;
    let image = signed_elsewhere(&world);
    let pratique = world.pratique(&Setup::with_policy(&of_another_repository())).await;
    assert_eq!(status(&pratique, &image.digest).await.0, 200);
    compared_twice(&pratique).await;
    world.registry.stop().await;
    pratique.reload(&world, &renamed(&of_another_repository())).await.unwrap();
    let (status, text) = status(&pratique, &image.digest).await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn configs_of_children_that_nobody_pulled_are_there_when_the_index_is_judged_again_without_upstream() {
    let mut world = World::new().await;
    let index = image::index([sized(5000, 1), image::single("linux/arm64", [support::upstream::noise(6000, 2)])]);
    world.push_signed(REPOSITORY, "latest", &index);
    let rule = "package sigstore\ndefault isCompliant = false\nisCompliant {\n  input.config[\"linux/arm64\"].os == \"linux\"\n}\n";
    let policy = demanding(&Signer::chainguard(), &Demand { rule, ..Demand::default() });
    let pratique = world.pratique(&Setup::with_policy(&policy)).await;
    assert_eq!(status(&pratique, &index.digest).await.0, 200);
    compared_twice(&pratique).await;
    world.registry.stop().await;
    pratique.reload(&world, &renamed(&policy)).await.unwrap();
    let (status, text) = status(&pratique, &index.digest).await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn evidence_that_only_a_note_of_an_older_version_names_is_not_removed() {
    let mut world = World::new().await;
    let image = signed_elsewhere(&world);
    let pratique = world.pratique(&Setup::with_policy(&of_another_repository())).await;
    assert_eq!(status(&pratique, &image.digest).await.0, 200);
    let facts = pratique.server.app.store.facts();
    let repository = format!("cgr.dev/{REPOSITORY}").parse::<oci::Repository>().unwrap();
    let note = facts.read().unwrap().evidence(&repository, &image.digest).unwrap().unwrap();
    let (digest, names) = (image.digest.clone(), Vec::new());
    facts.apply(vec![Change::Evidence { repository, digest, bytes: note, names }]).await.unwrap();
    compared_twice(&pratique).await;
    world.registry.stop().await;
    pratique.reload(&world, &renamed(&of_another_repository())).await.unwrap();
    let (status, text) = status(&pratique, &image.digest).await;
    assert_eq!(status, 200, "{text}");
}
