//! What clients make of tags that guards meet: denied, warned about, kept at the last good image; and by digest, which nobody guards.

use proxy::clock::Clock;
use support::{
    client::Client,
    image::{self, Entry, Image},
    policies,
    sigstore::{Options, Signer},
    world::Setup,
};

use crate::{
    command::{Said, read},
    docker::{Docker, PROGRAMS},
    hello, needs, skopeo,
    stage::Stage,
};

const DAY: u64 = 86_400;
const DENIED: &str = "org/denied";
const WARNED: &str = "org/warned";
const KEPT: &str = "org/kept";

#[tokio::test(flavor = "multi_thread")]
async fn docker_is_denied_a_replayed_tag_pulls_a_warned_one_and_gets_the_last_good_one() {
    if !needs::are_met(&PROGRAMS, true) {
        return;
    }
    let stage = guarded().await;
    let docker = Docker::start(&stage).await;
    for repository in [DENIED, WARNED, KEPT] {
        let tag = stage.reference(repository);
        let replayed = replay(&stage, repository);
        lead(&stage, repository, &replayed.new, 10);
        docker.pull(&tag).await.well();
        lead(&stage, repository, &replayed.old, 300);
        let pulled = docker.pull(&tag).await;
        check_denied(repository, &pulled, &replayed);
        if let Some(image) = replayed.expected(repository) {
            let inspect = ["image", "inspect", "--format", "{{json .RepoDigests}}", &tag];
            let digests = docker.run(&inspect).await.well().trimmed();
            assert!(digests.contains(&image.digest.to_string()), "{repository}: {digests}");
        }
        check_warning(&stage, repository).await;
        docker.pull(&format!("{}/{repository}@{}", stage.host, replayed.old.digest)).await.well();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_is_denied_a_replayed_tag_copies_a_warned_one_and_gets_the_last_good_one() {
    if !needs::are_met(&["skopeo"], false) {
        return;
    }
    let stage = guarded().await;
    for repository in [DENIED, WARNED, KEPT] {
        let at = |name: &str| stage.files.path().join(format!("{repository}/{name}"));
        std::fs::create_dir_all(at("")).unwrap();
        let tag = format!("docker://{}", stage.reference(repository));
        let replayed = replay(&stage, repository);
        lead(&stage, repository, &replayed.new, 10);
        skopeo::copy(&stage, &tag, &at("new")).await.well();
        lead(&stage, repository, &replayed.old, 300);
        let copied = skopeo::copy(&stage, &tag, &at("replayed")).await;
        check_denied(repository, &copied, &replayed);
        if let Some(image) = replayed.expected(repository) {
            assert!(read(&at("replayed").join("manifest.json")) == image.manifest, "{repository}");
        }
        check_warning(&stage, repository).await;
        let digest = format!("docker://{}/{repository}@{}", stage.host, replayed.old.digest);
        skopeo::copy(&stage, &digest, &at("by-digest")).await.well();
        assert!(read(&at("by-digest").join("manifest.json")) == replayed.old.manifest);
    }
}

/// What a tag leads to, and what an upstream that replays answers under it then.
struct Replayed {
    new: Image,
    old: Image,
}

impl Replayed {
    /// What is served under the replayed tag; nothing where that is denied.
    fn expected(&self, repository: &str) -> Option<&Image> {
        match repository {
            WARNED => Some(&self.old),
            KEPT => Some(&self.new),
            _ => None,
        }
    }
}

async fn guarded() -> Stage {
    let signer = Signer::chainguard();
    let policy = |name: &str, glob: &str, annotations: &[&str]| {
        policies::annotated(&policies::keyless(name, glob, &signer.issuer, &signer.subject), annotations)
    };
    let all = [
        policy("chainguard-public", "cgr.dev/chainguard/**", &["pratique.dev/rollback: allow"]),
        policy("denies", "cgr.dev/org/denied@*", &["pratique.dev/rollback: deny"]),
        policy("warns", "cgr.dev/org/warned@*", &["pratique.dev/rollback: warn"]),
        policy("keeps", "cgr.dev/org/kept@*", &["pratique.dev/rollback: deny", "pratique.dev/on-refusal: last-good"]),
    ];
    let setup = Setup::with_policy(&all.join("---\n")).sections("[tags]\nttl = \"1ms\"\n");
    Stage::http_with(&setup).await
}

fn replay(stage: &Stage, repository: &str) -> Replayed {
    let build = |text: &str| {
        let layer = image::tar(&[Entry::file("note", format!("{repository}, {text}").as_bytes())]);
        image::single(hello::platform(), [layer])
    };
    let replayed = Replayed { new: build("new"), old: build("old") };
    replayed.old.push(&stage.world.registry, repository, None);
    replayed
}

/// The tag leads to an image that was signed so many days ago.
fn lead(stage: &Stage, repository: &str, image: &Image, days_ago: u64) {
    let world = &stage.world;
    let options = Options::at(Clock::system().now().as_secs() - days_ago * DAY);
    world.sign(repository, image, &Signer::chainguard(), &options);
    image.push(&world.registry, repository, Some("latest"));
}

/// Where it is denied the client prints why, with both digests; elsewhere it is content.
fn check_denied(repository: &str, said: &Said, replayed: &Replayed) {
    if repository != DENIED {
        assert!(said.is_ok, "{}:\n{}", said.line, said.text);
        return;
    }
    let old = &replayed.old.digest;
    said.refused_with(&format!(
        "refused by policy denies: tag cgr.dev/{repository}:latest leads back to {old}, signed "
    ));
    said.refused_with(&format!("; it has led to {}, signed ", replayed.new.digest));
}

/// Clients do not print warnings: an operator who looks sees them.
async fn check_warning(stage: &Stage, repository: &str) {
    let url = format!("http://{}/v2/{repository}/manifests/latest", stage.host);
    let answer = Client::plain().get(&url, &[]).await.unwrap();
    let warning = answer.header("warning").unwrap_or_default();
    let wanted = match repository {
        WARNED => "leads back to",
        KEPT => "tag kept at",
        _ => "",
    };
    assert!(warning.contains(wanted) && warning.is_empty() == wanted.is_empty(), "{repository}: {warning}");
}
