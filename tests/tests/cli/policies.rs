//! `policy check`, `policy test` and `policy diff`.

use serde_json::Value;
use support::{
    client::Client,
    image::cosign_tag,
    policies,
    process::Process,
    sigstore::{Layout, Signer},
    world::Setup,
};

use crate::{PUBLIC, Stage, publish};

const IMAGE: &str = "cgr.dev/chainguard/nginx:latest";

fn policy(name: &str, signer: &Signer, more: &str) -> String {
    policies::keyless(name, "cgr.dev/chainguard/**", &signer.issuer, &signer.subject) + more
}

#[tokio::test]
async fn check_tells_every_problem_with_its_place_and_a_way_out() {
    let stage = Stage::public(Layout::Legacy).await;
    let good = stage.file("good.yaml", &policy("good", &Signer::chainguard(), ""));
    let broken = policy("broken", &Signer::chainguard(), "").replace("subject: ", "subjectRegExp: \"(\" # ");
    let broken = stage.file("broken.yaml", &broken.replace("cgr.dev/chainguard/**", "cgr.dev/chainguard/nginx:latest"));
    let said = stage.run(&["policy", "check", &good]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "1 policy in 1 file: good\n"), "{}", said.stderr);
    let said = stage.run(&["policy", "check", &good, &broken]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);
    insta::assert_snapshot!("policy_check", stage.plain(&said.stderr));
    let said = stage.run(&["policy", "check", "--output", "json", &broken]).await;
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let told: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(told["errors"].as_array().unwrap().len(), 2, "{told}");
    let said = stage.run(&["policy", "check"]).await;
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    let said = stage.run(&["policy", "check", "/nowhere.yaml"]).await;
    assert_eq!(said.code, Some(1), "{}", said.stderr);
}

#[tokio::test]
async fn test_tells_what_would_be_decided_and_serves_nothing() {
    let stage = Stage::public(Layout::Legacy).await;
    let chainguard = stage.file("chainguard.yaml", &policy("chainguard", &Signer::chainguard(), ""));
    let fork = stage.file("fork.yaml", &policy("fork", &Signer::fork(), ""));
    let attested = "    attestations:\n    - name: sbom\n      predicateType: https://spdx.dev/Document\n";
    let sbom = stage.file("sbom.yaml", &policy("sbom", &Signer::chainguard(), attested));
    let said = stage.run_both(&["policy", "test", &chainguard, &sbom, IMAGE]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    insta::assert_snapshot!("policy_test_served", stage.plain(&said.stdout));
    let said = stage.run_both(&["policy", "test", &chainguard, &fork, IMAGE]).await;
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    insta::assert_snapshot!("policy_test_refused", stage.plain(&said.stdout));
    let said = stage.run(&["policy", "test", &chainguard, IMAGE, "cgr.dev/chainguard/nothing"]).await;
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains(": served") && said.stderr.contains("unknown"), "{}{}", said.stdout, said.stderr);
    let said = stage.run(&["policy", "test", &chainguard, "--output", "json", IMAGE]).await;
    let told: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(told["images"][0]["verdict"], "served", "{told}");
}

#[tokio::test]
async fn diff_tells_which_kept_images_would_change() {
    let stage = Stage::public(Layout::Legacy).await;
    let other = support::image::single("linux/amd64", [support::upstream::noise(10, 9)]);
    publish(&stage.world, "chainguard/other", &Signer::fork(), Layout::Legacy, &other);
    let server = Process::serve(&stage.config).await.unwrap();
    for repository in [PUBLIC, "chainguard/other"] {
        let url = format!("http://{}/v2/{repository}/manifests/latest", server.address);
        Client::plain().get(&url, &[]).await.unwrap();
    }
    server.terminate().await.unwrap();
    let calls = stage.world.registry.calls().len();
    let same = stage.file("same.yaml", &policy("same", &Signer::chainguard(), ""));
    let said = stage.run_both(&["policy", "diff", &same]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{}", said.stderr);
    assert!(said.stderr.contains("2 kept images were judged again; 0 would change"), "{}", said.stderr);
    let fork = stage.file("fork.yaml", &policy("fork", &Signer::fork(), ""));
    let said = stage.run_both(&["policy", "diff", &fork]).await;
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    insta::assert_snapshot!("policy_diff", stage.plain(&format!("{}{}", said.stdout, said.stderr)));
    // Attestations were never collected: nobody can say.
    let attested = "    attestations:\n    - name: sbom\n      predicateType: https://spdx.dev/Document\n";
    let sbom = stage.file("sbom.yaml", &policy("sbom", &Signer::chainguard(), attested));
    let said = stage.run_both(&["policy", "diff", &sbom]).await;
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("served -> undecided"), "{}", said.stdout);
    assert_eq!(stage.world.registry.calls().len(), calls, "the store is asked and nobody else");
}

#[tokio::test]
async fn platforms_are_judged_through_their_index_as_at_a_pull() {
    let attested = policy(
        "attested",
        &Signer::chainguard(),
        "    attestations:\n    - name: built\n      predicateType: slsaprovenance1\n",
    );
    let per_platform = policies::annotated(&attested, ["pratique.dev/attestations-per-platform: \"true\""]);
    let stage = Stage::new(PUBLIC, &Signer::chainguard(), Layout::Legacy, &Setup::with_policy(&attested)).await;
    let [with, without] = [&stage.index.children[0].digest, &stage.index.children[1].digest];
    for suffix in ["sig", "att"] {
        stage.world.registry.delete_tag(PUBLIC, &cosign_tag(without, suffix));
    }
    let pulled = async |reference: String| {
        let server = Process::serve(&stage.config).await.unwrap();
        let url = format!("http://{}/v2/{PUBLIC}/manifests/{reference}", server.address);
        let answer = Client::plain().get(&url, &[]).await.unwrap();
        server.terminate().await.unwrap();
        answer.status.as_u16()
    };
    for reference in ["latest".to_owned(), with.to_string(), without.to_string()] {
        assert_eq!(pulled(reference).await, 200);
    }
    let own = stage.file("own.yaml", &attested);
    let said = stage.run_both(&["policy", "diff", &own]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{}", said.stderr);
    assert!(said.stderr.contains("3 kept images were judged again; 0 would change"), "{}", said.stderr);
    // What is attested of each platform was never asked for: nobody can say.
    let each = stage.file("each.yaml", &per_platform);
    let said = stage.run_both(&["policy", "diff", &each]).await;
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains(&format!("{without}: served -> undecided")), "{}", said.stdout);
    assert!(!said.stdout.contains(&stage.index.digest.to_string()), "{}", said.stdout);

    // Under the stricter policy each platform is tested besides its index.
    let said = stage.run_both(&["policy", "test", &each, IMAGE]).await;
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    insta::assert_snapshot!("policy_test_platforms", stage.plain(&said.stdout));
    // By the other one nothing is asked of them; and of a platform alone only its own evidence is looked at, which is said.
    let said = stage.run_both(&["policy", "test", &own, IMAGE]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    assert!(!said.stdout.contains(&without.to_string()), "{}", said.stdout);
    let child = format!("cgr.dev/{PUBLIC}@{without}");
    let said = stage.run_both(&["policy", "test", &own, &child]).await;
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("an index that lists it"), "{}", said.stdout);
}

#[tokio::test]
async fn check_tells_every_problem_of_every_file() {
    let stage = Stage::public(Layout::Legacy).await;
    let good = policy("good", &Signer::chainguard(), "");
    let glob = good.replace("name: good", "name: glob").replace("cgr.dev/chainguard/**", "nginx");
    let key = "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: key\nspec:\n  images:\n  - glob: \
               cgr.dev/**\n  authorities:\n  - key:\n      data: |\n        -----BEGIN PUBLIC KEY-----\n        AAAA\n        -----END PUBLIC \
               KEY-----\n";
    let files = [
        stage.file("good.yaml", &good),
        stage.file("glob.yaml", &glob),
        stage.file("key.yaml", key),
        stage.file("gone.yaml", ""),
    ];
    std::fs::remove_file(&files[3]).unwrap();
    let arguments: Vec<_> = ["policy", "check"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let said = stage.run(&arguments).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);
    insta::assert_snapshot!("policy_check_files", stage.plain(&said.stderr));
}
