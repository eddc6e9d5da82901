//! What clients make of tags that guards meet: denied, warned about, kept at the last good image; and by digest, which nobody guards.

use std::time::Duration;

use oci::Digest;
use proxy::clock::Clock;
use support::{
    client::Client,
    image::{self, Entry, Image},
    policies, process,
    sigstore::{Options, Signer},
    world::Setup,
};
use tokio::process::Command;

use crate::{
    command::{Said, read, run},
    docker::{Docker, PROGRAMS},
    hello, needs, skopeo,
    stage::Stage,
};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const DENIED: &str = "org/denied";
const KEPT: &str = "org/kept";

/// A tag that upstream replays, and what becomes of that.
struct Guarded {
    repository: &'static str,
    mode: &'static str,
    /// Without their prefix.
    annotations: &'static [&'static str],
    /// What is served under the replayed tag.
    served: Served,
    /// What an operator sees who looks at the answer.
    warned: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Served {
    Nothing,
    Replayed,
    LastGood,
}

const GUARDED: [Guarded; 5] = [
    Guarded::new(DENIED, "enforce", &["rollback: deny"], Served::Nothing, ""),
    Guarded::new("org/warned", "enforce", &["rollback: warn"], Served::Replayed, "leads back to"),
    Guarded::new("org/allowed", "enforce", &["rollback: allow"], Served::Replayed, ""),
    Guarded::new("org/only-warned", "warn", &["rollback: deny"], Served::Replayed, "leads back to"),
    Guarded::new(KEPT, "enforce", &["rollback: deny", "on-refusal: last-good"], Served::LastGood, "tag kept at"),
];

impl Guarded {
    const fn new(
        repository: &'static str,
        mode: &'static str,
        annotations: &'static [&'static str],
        served: Served,
        warned: &'static str,
    ) -> Self {
        Self { repository, mode, annotations, served, warned }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_is_denied_a_replayed_tag_pulls_a_warned_one_and_gets_the_last_good_one() {
    if !needs::are_met(&PROGRAMS, true) {
        return;
    }
    let stage = guarded().await;
    let docker = Docker::start(&stage).await;
    for guarded in &GUARDED {
        let repository = guarded.repository;
        let tag = stage.reference(repository);
        let replayed = replay(&stage, repository);
        lead(&stage, repository, &replayed.new, 10);
        docker.pull(&tag).await.well();
        lead(&stage, repository, &replayed.old, 300);
        let pulled = docker.pull(&tag).await;
        check_denied(guarded, &pulled, &replayed);
        if let Some(image) = replayed.expected(guarded) {
            let inspect = ["image", "inspect", "--format", "{{json .RepoDigests}}", &tag];
            let digests = docker.run(&inspect).await.well().trimmed();
            assert!(digests.contains(&image.digest.to_string()), "{repository}: {digests}");
        }
        check_warning(&stage, guarded).await;
        docker.pull(&format!("{}/{repository}@{}", stage.host, replayed.old.digest)).await.well();
        check_ledger(&stage, guarded, &replayed).await;
    }
    let newest = unsigned_tag(&stage).await;
    docker.pull(&stage.reference(KEPT)).await.well();
    let inspect = ["image", "inspect", "--format", "{{json .RepoDigests}}", &stage.reference(KEPT)];
    assert!(docker.run(&inspect).await.well().trimmed().contains(&newest.digest.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_is_denied_a_replayed_tag_copies_a_warned_one_and_gets_the_last_good_one() {
    if !needs::are_met(&["skopeo"], false) {
        return;
    }
    let stage = guarded().await;
    for guarded in &GUARDED {
        let repository = guarded.repository;
        let at = |name: &str| stage.files.path().join(format!("{repository}/{name}"));
        std::fs::create_dir_all(at("")).unwrap();
        let tag = format!("docker://{}", stage.reference(repository));
        let replayed = replay(&stage, repository);
        lead(&stage, repository, &replayed.new, 10);
        skopeo::copy(&stage, &tag, &at("new")).await.well();
        lead(&stage, repository, &replayed.old, 300);
        let copied = skopeo::copy(&stage, &tag, &at("replayed")).await;
        check_denied(guarded, &copied, &replayed);
        if let Some(image) = replayed.expected(guarded) {
            assert!(read(&at("replayed").join("manifest.json")) == image.manifest, "{repository}");
        }
        check_warning(&stage, guarded).await;
        let digest = format!("docker://{}/{repository}@{}", stage.host, replayed.old.digest);
        skopeo::copy(&stage, &digest, &at("by-digest")).await.well();
        assert!(read(&at("by-digest").join("manifest.json")) == replayed.old.manifest);
        check_ledger(&stage, guarded, &replayed).await;
    }
    let (newest, target) = (unsigned_tag(&stage).await, stage.files.path().join("unsigned"));
    skopeo::copy(&stage, &format!("docker://{}", stage.reference(KEPT)), &target).await.well();
    assert!(read(&target.join("manifest.json")) == newest.manifest);
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
    // Every second it leads elsewhere.
    let mut flips = tokio::time::interval(Duration::from_secs(1));
    for turn in 0..3 {
        flips.tick().await;
        lead(stage, DENIED, &newer, 10);
        pull(stage.reference(DENIED), MET.len() + 2 * turn).await.well();
        flips.tick().await;
        lead(stage, DENIED, &older, 20);
        pull(stage.reference(DENIED), MET.len() + 2 * turn + 1).await.refused_with("leads back to");
    }
    let told = explained(stage, DENIED).await;
    for digest in [&newer.digest, &older.digest] {
        assert_eq!(told.lines().filter(|line| is_event(line, digest)).count(), 3, "{told}");
    }
}

/// What a tag leads to, and what an upstream that replays answers under it then.
struct Replayed {
    new: Image,
    old: Image,
}

impl Replayed {
    /// What is served under the replayed tag; nothing where that is denied.
    fn expected(&self, guarded: &Guarded) -> Option<&Image> {
        match guarded.served {
            Served::Nothing => None,
            Served::Replayed => Some(&self.old),
            Served::LastGood => Some(&self.new),
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
    let guarded = |guarded: &Guarded| {
        let (name, glob) = (guarded.repository.replace('/', "-"), format!("cgr.dev/{}@*", guarded.repository));
        let annotations: Vec<_> = guarded.annotations.iter().map(|it| format!("pratique.dev/{it}")).collect();
        let annotations: Vec<_> = annotations.iter().map(String::as_str).collect();
        policy(&name, &glob, &annotations).replace("spec:\n", &format!("spec:\n  mode: {}\n", guarded.mode))
    };
    let all = [policy("chainguard-public", "cgr.dev/chainguard/**", &["pratique.dev/rollback: allow"])];
    let all = all.into_iter().chain(GUARDED.iter().map(guarded)).chain(MET.iter().map(met)).collect::<Vec<_>>();
    // Looked up for nobody else: who joins a look that began before the tag was moved is told what was so then.
    let setup = Setup::with_policy(&all.join("---\n")).sections("[tags]\nttl = \"1ms\"\nrefresh = \"never\"\n");
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
fn check_denied(guarded: &Guarded, said: &Said, replayed: &Replayed) {
    if guarded.served != Served::Nothing {
        assert!(said.is_ok, "{}:\n{}", said.line, said.text);
        return;
    }
    let (repository, old) = (guarded.repository, &replayed.old.digest);
    said.refused_with(&format!(
        "refused by policy org-denied: tag cgr.dev/{repository}:latest leads back to {old}, signed "
    ));
    said.refused_with(&format!("; it has led to {}, signed ", replayed.new.digest));
}

async fn check_warning(stage: &Stage, guarded: &Guarded) {
    let (warning, wanted) = (warning(stage, guarded.repository).await, guarded.warned);
    assert!(warning.contains(wanted) && warning.is_empty() == wanted.is_empty(), "{}: {warning}", guarded.repository);
}

/// An image that nobody signed takes the place of the last good one, or would.
async fn unsigned_tag(stage: &Stage) -> Image {
    let (newest, unsigned) = (built(KEPT, "newest"), built(KEPT, "unsigned"));
    lead(stage, KEPT, &newest, 1);
    warning(stage, KEPT).await;
    unsigned.push(&stage.world.registry, KEPT, Some("latest"));
    let warning = warning(stage, KEPT).await;
    assert!(warning.contains(&format!("tag kept at {}", newest.digest)), "{warning}");
    newest
}

/// The ledger tells both images, in their order, and how each was answered.
async fn check_ledger(stage: &Stage, guarded: &Guarded, replayed: &Replayed) {
    let told = explained(stage, guarded.repository).await;
    let line =
        |image: &Image| told.lines().find(|line| is_event(line, &image.digest)).unwrap_or_else(|| panic!("{told}"));
    let is_served = |line: &str| !line.contains("not served") && line.contains("served, signed ");
    assert!(is_served(line(&replayed.new)), "{told}");
    assert_eq!(is_served(line(&replayed.old)), guarded.served == Served::Replayed, "{told}");
    assert!(told.find(line(&replayed.old)) < told.find(line(&replayed.new)), "the newest first:\n{told}");
}

/// A line of the ledger: when, what it meant then, how that was answered.
fn is_event(line: &str, digest: &Digest) -> bool {
    line.starts_with("    ") && line.split_whitespace().nth(1) == Some(&digest.to_string()) && line.contains("served")
}

async fn explained(stage: &Stage, repository: &str) -> String {
    let mut explain = Command::new(process::binary().await.unwrap());
    process::alone(&mut explain);
    explain.arg("explain").arg("--config").arg(stage.world.directory.path().join("pratique.toml"));
    explain.arg(format!("cgr.dev/{repository}:latest"));
    run(explain).await.text
}

/// Clients do not print warnings: an operator who looks sees them.
async fn warning(stage: &Stage, repository: &str) -> String {
    let url = format!("http://{}/v2/{repository}/manifests/latest", stage.host);
    let answer = Client::plain().get(&url, &[]).await.unwrap();
    answer.header("warning").unwrap_or_default().to_owned()
}
