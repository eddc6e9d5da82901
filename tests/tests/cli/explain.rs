//! `explain`: what is told is what was decided, after a pull, beside the server and after it.

use serde_json::Value;
use support::{
    client::Client,
    image, policies,
    process::Process,
    sigstore::{Layout, Signer},
    world::Setup,
};

use crate::{PUBLIC, Stage};

const IMAGE: &str = "cgr.dev/chainguard/nginx:latest";

async fn pulled(stage: &Stage, reference: &str) -> u16 {
    let server = Process::serve(&stage.config).await.unwrap();
    let url = format!("http://{}/v2/{PUBLIC}/manifests/{reference}", server.address);
    let answer = Client::plain().get(&url, &[]).await.unwrap();
    server.terminate().await.unwrap();
    answer.status.as_u16()
}

#[tokio::test]
async fn an_admitted_image_is_explained_down_to_the_piece_of_evidence() {
    let stage = Stage::public(Layout::Legacy).await;
    assert_eq!(pulled(&stage, "latest").await, 200);
    let said = stage.run_both(&["explain", IMAGE]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    insta::assert_snapshot!("explain_admitted", stage.plain(&said.stdout));
    let said = stage.run_both(&["explain", "--output", "json", IMAGE]).await;
    let told: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(told["verdict"], "served");
    assert_eq!(told["digest"], stage.index.digest.to_string());
    assert_eq!(told["policies"][0]["evidence"][0]["subject"], Signer::chainguard().subject);
    // A platform of it has no verdict of its own until somebody asks for one.
    let child = format!("cgr.dev/{PUBLIC}@{}", stage.index.children[0].digest);
    assert_eq!(pulled(&stage, &stage.index.children[0].digest.to_string()).await, 200);
    let said = stage.run_both(&["explain", &child]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    insta::assert_snapshot!("explain_child", stage.plain(&said.stdout));
}

#[tokio::test]
async fn a_platform_of_which_its_own_attestation_is_asked_is_explained_by_that() {
    let signer = Signer::chainguard();
    let policy = policies::keyless("attested", "cgr.dev/chainguard/**", &signer.issuer, &signer.subject);
    let policy = policies::annotated(&policy, ["pratique.dev/attestations-per-platform: \"true\""])
        + "    attestations:\n    - name: built\n      predicateType: slsaprovenance1\n";
    let setup = Setup::with_policy(&policy).sections("[verdicts]\nabsent_ttl = \"1h\"\n");
    let stage = Stage::new(PUBLIC, &signer, Layout::Legacy, &setup).await;
    let [with, without] = [&stage.index.children[0].digest, &stage.index.children[1].digest];
    stage.world.registry.delete_tag(PUBLIC, &image::cosign_tag(without, "att"));
    assert_eq!(pulled(&stage, "latest").await, 200);
    for (child, status, name) in [(with, 200, "explain_attested_child"), (without, 403, "explain_unattested_child")] {
        assert_eq!(pulled(&stage, &child.to_string()).await, status);
        let said = stage.run_both(&["explain", &format!("cgr.dev/{PUBLIC}@{child}")]).await;
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        insta::assert_snapshot!(name, stage.plain(&said.stdout));
    }
}

#[tokio::test]
async fn a_refused_image_is_explained_with_what_was_wanted_and_seen() {
    let stage = Stage::new(PUBLIC, &Signer::fork(), Layout::Legacy, &Setup::default()).await;
    assert_eq!(pulled(&stage, "latest").await, 403);
    let said = stage.run_both(&["explain", IMAGE]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    insta::assert_snapshot!("explain_refused", stage.plain(&said.stdout));
}

#[tokio::test]
async fn what_was_never_met_is_said_so_and_asks_nobody() {
    let stage = Stage::public(Layout::Legacy).await;
    for image in [IMAGE, &format!("cgr.dev/{PUBLIC}@{}", stage.index.digest)] {
        let said = stage.run_both(&["explain", image]).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);
        assert!(said.stderr.contains("hint: "), "{}", said.stderr);
    }
    assert_eq!(stage.world.registry.calls().len(), 0);
}
