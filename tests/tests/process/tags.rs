//! What is counted where a tag does not lead on.

use proxy::clock::Clock;
use support::{
    client::Answer,
    image::{self, Image},
    policies,
    process::Process,
    sigstore::{Options, Signer},
    upstream::{Call, Fault, noise},
    world::{Setup, World},
};

use crate::{admin::Metrics, administered, get};

const DAY: u64 = 86_400;

fn policy(name: &str, repositories: &str, annotations: &[&str]) -> String {
    let signer = Signer::chainguard();
    let glob = format!("cgr.dev/chainguard/{repositories}@*");
    let ours = annotations.iter().map(|annotation| format!("pratique.dev/{annotation}"));
    let policy = policies::keyless(name, &glob, &signer.issuer, &signer.subject);
    policies::annotated(&policy, ours.chain(["example.com/x: y".to_owned()]))
}

fn setup(turn: &str) -> Setup {
    let policies = [
        policy(&format!("kept-{turn}"), "kept-*", &["rollback: deny", "on-refusal: last-good"]),
        policy(&format!("aged-{turn}"), "aged", &["min-age: 1d", "max-age: 30d"]),
        policy(&format!("free-{turn}"), "free", &[]),
    ];
    let policies = vec![("policy.yaml".to_owned(), policies.join("---\n"))];
    // Looked up for nobody else: that would be counted as well, and who joins it is told what was so before.
    Setup { policies, ..administered() }.sections("[tags]\nttl = \"1ms\"\nrefresh = \"never\"\n")
}

/// Where tags are led, and by which clock.
struct Stage {
    world: World,
    process: Process,
    now: u64,
    seed: u64,
}

impl Stage {
    /// Another image under the tag.
    fn push(&mut self, repository: &str) -> Image {
        self.seed += 1;
        let image = image::single("linux/amd64", [noise(10, self.seed)]);
        image.push(&self.world.registry, &format!("chainguard/{repository}"), Some("latest"));
        image
    }

    /// The same, signed so many seconds ago under that name.
    fn lead(&mut self, repository: &str, name: &str, ago: u64) -> Image {
        let image = self.push(repository);
        let options = Options::at(self.now - ago);
        let signature =
            self.world.sigstore.sign_legacy(&Signer::chainguard(), &format!("cgr.dev/{name}"), &image.digest, &options);
        let tag = image::cosign_tag(&image.digest, "sig");
        let repository = format!("chainguard/{repository}");
        image::signature_manifest(&[signature]).push(&self.world.registry, &repository, Some(&tag));
        image
    }

    async fn ask(&self, repository: &str) -> Answer {
        get(&format!("http://{}/v2/chainguard/{repository}/manifests/latest", self.process.address)).await
    }
}

#[tokio::test]
async fn metrics_count_what_guards_met_last_good_images_the_age_of_evidence_and_what_was_judged_again() {
    let world = World::new().await;
    let process = Process::serve(&world.write(&setup("one"))).await.unwrap();
    let mut stage = Stage { world, process, now: Clock::system().now().as_secs(), seed: 0 };
    // Refused by a guard, then by policy, with a last good image; and without one.
    let good = stage.lead("kept-a", "kept-a", 10 * DAY);
    assert_eq!(stage.ask("kept-a").await.status, 200);
    stage.lead("kept-a", "kept-a", 20 * DAY);
    let kept = |answer: &Answer| answer.header("docker-content-digest").map(str::to_owned);
    assert_eq!(kept(&stage.ask("kept-a").await), Some(good.digest.to_string()));
    stage.push("kept-a");
    assert_eq!(kept(&stage.ask("kept-a").await), Some(good.digest.to_string()));
    stage.push("kept-b");
    assert_eq!(stage.ask("kept-b").await.status, 403);
    // Frozen, too fresh, and right.
    for (ago, status) in [(60 * DAY, 403), (3600, 403), (5 * DAY, 200)] {
        stage.lead("aged", "aged", ago);
        assert_eq!(stage.ask("aged").await.status, status);
    }
    // Of another name, with a warning; back, which nobody minds; and nobody can say.
    stage.lead("free", "redis", 10 * DAY);
    assert!(stage.ask("free").await.header("warning").is_some());
    let back = stage.lead("free", "free", 20 * DAY);
    assert_eq!(stage.ask("free").await.status, 200);
    let unknown = stage.lead("free", "free", 5 * DAY);
    let hex = unknown.digest.hex().to_owned();
    let fault =
        stage.world.registry.fault(move |call| call.path.ends_with(&format!("sha256-{hex}.sig")), Fault::status(500));
    assert_eq!(kept(&stage.ask("free").await), Some(back.digest.to_string()));
    fault.clear();

    let metrics = Metrics::of(&stage.process).await;
    for (guard, outcome) in [
        ("rollback", "denied"),
        ("rollback", "allowed"),
        ("max-age", "denied"),
        ("min-age", "denied"),
        ("bind-name", "warned"),
    ] {
        let labels = [format!("guard=\"{guard}\""), format!("outcome=\"{outcome}\"")];
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        assert_eq!(metrics.sum("pratique_tag_guards_total", &labels), 1.0, "{guard} {outcome}");
    }
    assert_eq!(metrics.sum("pratique_tag_guards_total", &[]), 5.0);
    assert_eq!(metrics.sum("pratique_tag_last_good_total", &["outcome=\"served\""]), 2.0);
    assert_eq!(metrics.sum("pratique_tag_last_good_total", &["outcome=\"none\""]), 1.0);
    assert_eq!(metrics.sum("pratique_tag_lookups_total", &["outcome=\"undecided-stale\""]), 1.0);
    // Of what was served: 10 and 5 days, and 10 and 20.
    assert_eq!(metrics.sum("pratique_evidence_age_seconds_count", &[]), 4.0);
    let (days, age) = (45.0 * 86_400.0, metrics.sum("pratique_evidence_age_seconds_sum", &[]));
    assert!((days - 60.0..days + 600.0).contains(&age), "{age}");
    let younger = metrics.sum("pratique_evidence_age_seconds_bucket", &["le=\"604800\""]);
    assert_eq!(younger, 1.0, "one is younger than a week");

    assert_eq!(metrics.sum("pratique_verdicts_renewed_total", &[]), 0.0);
    stage.world.write(&setup("two"));
    stage.process.reload().await.unwrap();
    let told = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.starts_with("judged again"));
    let line = stage.process.logged("a line that tells what was judged again", told).await.unwrap();
    let metrics = Metrics::of(&stage.process).await;
    let renewed = |outcome: &str| {
        // The sum of nothing is below zero by its sign.
        metrics.sum("pratique_verdicts_renewed_total", &["why=\"reload\"", &format!("outcome=\"{outcome}\"")]).abs()
    };
    let (served, refused, undecided) = (renewed("served"), renewed("refused"), renewed("undecided"));
    let expected = format!(
        "judged again after the reload: {} in use, {served} served, {refused} refused, {undecided} could not be decided",
        served + refused + undecided
    );
    assert_eq!(line["message"], expected);
    assert!(served >= 4.0, "{expected}");
}

#[tokio::test]
async fn what_is_no_tag_in_a_list_is_counted_and_told() {
    let world = World::new().await;
    let lists = |call: &Call| call.path.ends_with("/tags/list");
    world.registry.fault(lists, Fault::instead("application/json", r#"{"tags":["a","<script>",7,"b"]}"#));
    let process = Process::serve(&world.write(&setup("one"))).await.unwrap();
    for _ in 0..2 {
        let list = get(&format!("http://{}/v2/chainguard/free/tags/list", process.address)).await;
        assert_eq!(list.text(), r#"{"name":"chainguard/free","tags":["a","b"]}"#);
    }
    let metrics = Metrics::of(&process).await;
    assert_eq!(metrics.sum("pratique_tags_skipped_total", &["upstream=\"cgr.dev\""]), 4.0);
    let told = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains("are no tags"));
    let line = process.logged("a line that tells what is left out", told).await.unwrap();
    assert_eq!((line["repository"].as_str(), line["skipped"].as_u64()), (Some("chainguard/free"), Some(2)), "{line}");
}
