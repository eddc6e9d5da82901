//! Random changes of policy over images and tags, without upstream: what `policy diff` says is what the reload then does.
//!
//! ```text
//!  push each tag twice, pull all ── upstream goes away ──> round:  policies by chance ─ diff ─ reload ─ ask for everything ─ compare
//! ```

use std::{collections::BTreeMap, sync::atomic::Ordering};

use proxy::command::{self, Answer, Differences, PolicyText, Reporter, Request, TagAnswer, Verdict};

use super::{Bounds, Random, Say, Tally, failed};
use crate::{
    client::Client,
    image::{self, Image},
    policies,
    sigstore::{Options, Signer},
    upstream::noise,
    world::{Pratique, Setup, World, moved_by_hand},
};

const REPOSITORIES: [&str; 2] = ["chainguard/nginx", "org/app"];
/// 2026-09-21, in seconds.
const NOW: u64 = 1_790_000_000;
const DAY: u64 = 86_400;
/// Between two images under one tag.
const TURN_MILLIS: u64 = 3_700_000;
/// Changes between two lines about them.
const TOLD_EVERY: u64 = 50;

/// What clients get, by what they ask for.
type Seen = BTreeMap<String, Got>;

struct Got {
    told: String,
    /// What came with a 503: not compared.
    why: String,
}

/// Changes of policy until a bound is reached, over about so many images: two under each tag, of two repositories.
pub async fn run(bounds: Bounds, images: u64, say: Say) -> Tally {
    let mut tally = Tally::default();
    let mut stage = match Box::pin(Stage::start(bounds.seed, images)).await {
        Ok(stage) => stage,
        Err(why) => {
            tally.count(Err(why));
            return tally;
        }
    };
    let (mut changes, mut otherwise) = (0, 0);
    for round in bounds.each() {
        let seed = bounds.seed.wrapping_add(round);
        match stage.change(seed, &mut tally).await {
            Ok(told) => otherwise += told,
            Err(why) => {
                // What is in force is not known any more.
                tally.count(Err(failed(&format!("change {seed}"), why)));
                return tally;
            }
        }
        changes = round + 1;
        if changes.is_multiple_of(TOLD_EVERY) {
            let answers = stage.before.len();
            say(&format!("{changes:>5}  changes of policy over {answers} answers: {otherwise} were to be otherwise"));
        }
    }
    // Else nothing was compared.
    tally.check(otherwise > changes, || format!("{changes} changes of policy changed only {otherwise} answers"));
    tally
}

struct Stage {
    world: World,
    pratique: Pratique,
    client: Client,
    first: Setup,
    tags: u64,
    /// By repository.
    digests: Vec<(String, String)>,
    before: Seen,
}

impl Stage {
    async fn start(seed: u64, images: u64) -> Result<Self, String> {
        let (world, mut random) = (World::new().await, Random::new(seed));
        let first = first();
        let (millis, clock) = moved_by_hand(NOW * 1000);
        let started = world.try_pratique(&first, clock).await;
        let pratique = started.map_err(|error| failed("pratique", error))?;
        let tags = images.div_ceil(2 * REPOSITORIES.len() as u64).max(1);
        let (digests, before) = (Vec::new(), Seen::new());
        let mut stage = Self { world, pratique, client: Client::plain(), first, tags, digests, before };
        // Each tag twice: first one image, then another.
        for turn in 0..2 {
            for (place, repository) in REPOSITORIES.into_iter().enumerate() {
                for tag in 0..tags {
                    let layer = noise(10, 1 + random.any() / 2 + place as u64 + turn);
                    let image = image::single("linux/amd64", [layer]);
                    push(&stage.world, &mut random, (repository, &format!("v{tag}")), &image);
                    stage.digests.push((repository.to_owned(), image.digest.to_string()));
                }
            }
            millis.fetch_add(TURN_MILLIS, Ordering::SeqCst);
            stage.seen().await?;
        }
        stage.world.registry.stop().await;
        stage.before = stage.seen().await?;
        Ok(stage)
    }

    /// One change of policy. How many answers it is said to change.
    async fn change(&mut self, seed: u64, tally: &mut Tally) -> Result<u64, String> {
        let mut random = Random::new(seed);
        let names = if random.once_in(2) { &["one"][..] } else { &["one", "two"] };
        let texts: Vec<_> = names.iter().map(|name| (format!("{name}.yaml"), policy(&mut random, name))).collect();
        let given = texts.iter().map(|(name, text)| PolicyText { name: name.clone(), text: text.clone() }).collect();
        let asked = Request::PolicyDiff { policies: given };
        let Answer::Differs(differences) =
            command::answer(&self.pratique.server.app, asked, &Reporter::default()).await
        else {
            return Err("policy diff tells no differences".to_owned());
        };
        let setup = Setup { policies: texts, ..self.first.clone() };
        self.pratique.reload(&self.world, &setup).await.map_err(|error| failed("reload", error))?;
        let after = self.seen().await?;
        let expected = predicted(std::mem::replace(&mut self.before, after), &differences);
        let wrong: Vec<_> = self
            .before
            .iter()
            .filter(|(what, got)| expected.get(*what) != Some(&got.told))
            .map(|(what, Got { told, why })| format!("{what}: {told}, and {:?} was said {why}", expected.get(what)))
            .collect();
        tally.check(wrong.is_empty(), || format!("change {seed}:\n{}\n{:#?}", wrong.join("\n"), setup.policies));
        Ok((differences.changed.len() + differences.tags.len()) as u64)
    }

    /// All that clients get under tags and by digest.
    async fn seen(&self) -> Result<Seen, String> {
        let mut seen = Seen::new();
        let tags = REPOSITORIES
            .into_iter()
            .flat_map(|repository| (0..self.tags).map(move |tag| (repository.to_owned(), format!("v{tag}"))));
        for (repository, reference) in tags.chain(self.digests.iter().cloned()) {
            let url = format!("{}/v2/{repository}/manifests/{reference}", self.pratique.url());
            let answer = self.client.get(&url, &[]).await.map_err(|error| failed(&url, error))?;
            let warned = answer.header("warning").is_some();
            let digest = answer.header("docker-content-digest").unwrap_or_default();
            let told = match (answer.status.as_u16(), reference.starts_with("sha256:")) {
                (200, true) => if warned { "warned" } else { "served" }.to_owned(),
                (200, false) => format!("{digest} {warned}"),
                (403, _) => "refused".to_owned(),
                (503, _) => "undecided".to_owned(),
                (status, _) => return Err(format!("{status} for {url}")),
            };
            let why = if told == "undecided" { answer.text() } else { String::new() };
            seen.insert(format!("{repository} {reference}"), Got { told, why });
        }
        Ok(seen)
    }
}

/// Both identities are let in, whatever they signed, and everything that either of them would want is collected.
fn first() -> Setup {
    let policies = [("a", Signer::chainguard()), ("b", Signer::fork())].map(|(name, signer)| {
        let policy = policies::keyless(name, "cgr.dev/**", &signer.issuer, &signer.subject);
        (format!("{name}.yaml"), policy.replace("spec:\n", "spec:\n  mode: warn\n"))
    });
    Setup { policies: policies.to_vec(), ..Setup::default() }
        .sections("[tags]\nttl = \"1h\"\n[verdicts]\nabsent_ttl = \"30d\"\nrefused_ttl = \"30d\"\n")
}

/// One of them; the first where there are none to choose from.
fn one_of<'a>(random: &mut Random, choices: &[&'a str]) -> &'a str {
    random.pick(choices).copied().unwrap_or_default()
}

fn policy(random: &mut Random, name: &str) -> String {
    let glob = one_of(random, &["cgr.dev/**", "cgr.dev/chainguard/**", "cgr.dev/org/*"]);
    let kind = random.below(8);
    let base = match kind {
        0 => policies::decided(name, glob, "pass"),
        1 => policies::decided(name, glob, "fail"),
        _ => {
            let signer = if kind < 5 { Signer::fork() } else { Signer::chainguard() };
            policies::keyless(name, glob, &signer.issuer, &signer.subject)
        }
    };
    let mut annotations = vec!["example.com/x: y".to_owned()];
    if random.once_in(2) {
        annotations.push("pratique.dev/on-refusal: last-good".to_owned());
    }
    // What is decided without evidence knows no signed time and no name.
    if kind > 1 {
        let rollback = one_of(random, &["allow", "warn", "deny"]);
        annotations.push(format!("pratique.dev/rollback: {rollback}"));
        annotations.push(format!("pratique.dev/bind-name: {}", one_of(random, &["'off'", "warn", "deny"])));
        if random.once_in(3) {
            annotations.push(format!("pratique.dev/max-age: {}d", 5 + random.below(60)));
        }
    }
    let mode = one_of(random, &["enforce", "enforce", "warn"]);
    policies::annotated(&base, annotations).replace("spec:\n", &format!("spec:\n  mode: {mode}\n"))
}

/// What was seen, with what is said to become of it.
fn predicted(seen: Seen, differences: &Differences) -> BTreeMap<String, String> {
    let mut seen: BTreeMap<_, _> = seen.into_iter().map(|(what, got)| (what, got.told)).collect();
    for changed in &differences.changed {
        let told = match changed.to {
            Verdict::Served => "served",
            Verdict::Warned => "warned",
            Verdict::Refused | Verdict::Absent => "refused",
            Verdict::Undecided => "undecided",
        };
        seen.insert(format!("{} {}", changed.repository.path(), changed.digest), told.to_owned());
    }
    for changed in &differences.tags {
        let told = match &changed.to {
            TagAnswer::Served { digest, warned } => format!("{digest} {warned}"),
            TagAnswer::LastGood { digest } => format!("{digest} true"),
            TagAnswer::Refused => "refused".to_owned(),
            TagAnswer::Undecided => "undecided".to_owned(),
        };
        seen.insert(format!("{} {}", changed.repository.path(), changed.tag), told);
    }
    seen
}

/// By one, the other, both or nobody; up to two months old; now and then under another name.
fn push(world: &World, random: &mut Random, (repository, tag): (&str, &str), image: &Image) {
    image.push(&world.registry, repository, Some(tag));
    let name = if random.once_in(4) { "cgr.dev/org/other".to_owned() } else { format!("cgr.dev/{repository}") };
    let signers = match random.below(4) {
        0 => vec![Signer::chainguard()],
        1 => vec![Signer::fork()],
        2 => vec![Signer::chainguard(), Signer::fork()],
        _ => return,
    };
    let signed: Vec<_> = signers
        .iter()
        .map(|signer| {
            let options = Options::at(NOW - (1 + random.below(60)) * DAY);
            world.sigstore.sign_legacy(signer, &name, &image.digest, &options)
        })
        .collect();
    let tag = image::cosign_tag(&image.digest, "sig");
    image::signature_manifest(&signed).push(&world.registry, repository, Some(&tag));
}
