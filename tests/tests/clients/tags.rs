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

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
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

#[tokio::test(flavor = "multi_thread")]
async fn docker_meets_frozen_fresh_and_renamed_images_and_a_tag_that_flips() {
    if !needs::are_met(&PROGRAMS, true) {
        return;
    }
    let stage = guarded().await;
    let docker = Docker::start(&stage).await;
    check_met(&stage, async |reference, _| docker.pull(&reference).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_meets_frozen_fresh_and_renamed_images_and_a_tag_that_flips() {
    if !needs::are_met(&["skopeo"], false) {
        return;
    }
    let stage = guarded().await;
    let copy = async |reference, number| {
        let target = stage.files.path().join(format!("met-{number}"));
        skopeo::copy(&stage, &format!("docker://{reference}"), &target).await
    };
    check_met(&stage, copy).await;
}

/// An image that a guard meets, or lets pass.
struct Met {
    repository: &'static str,
    /// Without its prefix.
    annotation: &'static str,
    hours_ago: u64,
    /// The last segment of the name that it was signed under.
    signed_as: &'static str,
    /// What a client is told that does not get it.
    denied: Option<&'static str>,
    /// What an operator sees who looks at the answer.
    warned: Option<&'static str>,
}

const MET: [Met; 8] = [
    Met::new("frozen", "max-age: 30d", 60 * 24).denied("more than 30d ago (pratique.dev/max-age)"),
    Met::new("moving", "max-age: 30d", 5 * 24),
    Met::new("fresh", "min-age: 24h", 1).denied("less than 1d ago (pratique.dev/min-age)"),
    Met::new("settled", "min-age: 24h", 25),
    Met::new("renamed-denied", "bind-name: deny", 1).signed_as("redis").denied("org/redis\" (pratique.dev/bind-name)"),
    Met::new("renamed-warned", "bind-name: warn", 1).signed_as("redis").warned("org/redis"),
    Met::new("renamed-allowed", "bind-name: 'off'", 1).signed_as("redis"),
    Met::new("named", "bind-name: deny", 1),
];

impl Met {
    const fn new(repository: &'static str, annotation: &'static str, hours_ago: u64) -> Self {
        Self { repository, annotation, hours_ago, signed_as: repository, denied: None, warned: None }
    }

    const fn signed_as(self, name: &'static str) -> Self {
        Self { signed_as: name, ..self }
    }

    const fn denied(self, why: &'static str) -> Self {
        Self { denied: Some(why), ..self }
    }

    const fn warned(self, why: &'static str) -> Self {
        Self { warned: Some(why), ..self }
    }
}

/// `pull` is given a reference, and a number of its own.
async fn check_met(stage: &Stage, pull: impl AsyncFn(String, usize) -> Said) {
    for (number, met) in MET.iter().enumerate() {
        let repository = format!("org/{}", met.repository);
        let image = built(&repository, "met");
        lead_as(stage, &repository, &image, met.hours_ago * HOUR, &format!("org/{}", met.signed_as));
        let said = pull(stage.reference(&repository), number).await;
        match met.denied {
            Some(why) => said.refused_with(why),
            None => drop(said.well()),
        }
        let warning = warning(stage, &repository).await;
        assert_eq!(warning.is_empty(), met.warned.is_none(), "{repository}: {warning}");
        assert!(warning.contains(met.warned.unwrap_or_default()), "{repository}: {warning}");
    }
    let (newer, older) = (built(DENIED, "newer"), built(DENIED, "older"));
    for turn in 0..3 {
        lead(stage, DENIED, &newer, 10);
        pull(stage.reference(DENIED), MET.len() + 2 * turn).await.well();
        lead(stage, DENIED, &older, 20);
        pull(stage.reference(DENIED), MET.len() + 2 * turn + 1).await.refused_with("leads back to");
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
    let met = |met: &Met| {
        let glob = format!("cgr.dev/org/{}@*", met.repository);
        policy(met.repository, &glob, &[&format!("pratique.dev/{}", met.annotation)])
    };
    let all = [
        policy("chainguard-public", "cgr.dev/chainguard/**", &["pratique.dev/rollback: allow"]),
        policy("denies", "cgr.dev/org/denied@*", &["pratique.dev/rollback: deny"]),
        policy("warns", "cgr.dev/org/warned@*", &["pratique.dev/rollback: warn"]),
        policy("keeps", "cgr.dev/org/kept@*", &["pratique.dev/rollback: deny", "pratique.dev/on-refusal: last-good"]),
    ];
    let all = all.into_iter().chain(MET.iter().map(met)).collect::<Vec<_>>();
    let setup = Setup::with_policy(&all.join("---\n")).sections("[tags]\nttl = \"1ms\"\n");
    Stage::http_with(&setup).await
}

fn replay(stage: &Stage, repository: &str) -> Replayed {
    let replayed = Replayed { new: built(repository, "new"), old: built(repository, "old") };
    replayed.old.push(&stage.world.registry, repository, None);
    replayed
}

fn built(repository: &str, text: &str) -> Image {
    let layer = image::tar(&[Entry::file("note", format!("{repository}, {text}").as_bytes())]);
    image::single(hello::platform(), [layer])
}

/// The tag leads to an image that was signed so many days ago.
fn lead(stage: &Stage, repository: &str, image: &Image, days_ago: u64) {
    lead_as(stage, repository, image, days_ago * DAY, repository);
}

/// The same, in seconds, and signed as an image of that repository.
fn lead_as(stage: &Stage, repository: &str, image: &Image, seconds_ago: u64, name: &str) {
    let world = &stage.world;
    let options = Options::at(Clock::system().now().as_secs() - seconds_ago);
    let signer = Signer::chainguard();
    let signature = world.sigstore.sign_legacy(&signer, &format!("cgr.dev/{name}"), &image.digest, &options);
    let tag = image::cosign_tag(&image.digest, "sig");
    image::signature_manifest(&[signature]).push(&world.registry, repository, Some(&tag));
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

async fn check_warning(stage: &Stage, repository: &str) {
    let warning = warning(stage, repository).await;
    let wanted = match repository {
        WARNED => "leads back to",
        KEPT => "tag kept at",
        _ => "",
    };
    assert!(warning.contains(wanted) && warning.is_empty() == wanted.is_empty(), "{repository}: {warning}");
}

/// Clients do not print warnings: an operator who looks sees them.
async fn warning(stage: &Stage, repository: &str) -> String {
    let url = format!("http://{}/v2/{repository}/manifests/latest", stage.host);
    let answer = Client::plain().get(&url, &[]).await.unwrap();
    answer.header("warning").unwrap_or_default().to_owned()
}
