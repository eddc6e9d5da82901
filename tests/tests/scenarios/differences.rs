//! What `policy diff` says is what the reload then does: random changes of policy over images and tags, without upstream.

use std::collections::BTreeMap;

use oci::UnixTime;
use proxy::{
    clock::Clock,
    command::{self, Answer, Differences, PolicyText, Reporter, Request, TagAnswer, Verdict},
};
use support::{
    image::{self, Image},
    policies,
    sigstore::{Options, Signer},
    world::{Pratique, Setup, World},
};

use crate::{chainguard_policy, get, sized, static_policy};

const REPOSITORIES: [&str; 2] = ["chainguard/nginx", "org/app"];
const TAGS: u64 = 6;
const NOW: u64 = 1_790_000_000;
const DAY: u64 = 86_400;
/// Changes of policy in one run; the seed of each is told where it fails.
const CHANGES: u64 = 25;

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[usize::try_from(self.throw(choices.len() as u64)).unwrap()]
    }
}

fn policy(dice: &mut Dice, name: &str) -> String {
    let glob = *dice.of(&["cgr.dev/**", "cgr.dev/chainguard/**", "cgr.dev/org/*"]);
    let base = match dice.throw(8) {
        0 => static_policy(name, glob, "pass"),
        1 => static_policy(name, glob, "fail"),
        2..=4 => {
            let fork = Signer::fork();
            policies::keyless(name, glob, &fork.issuer, &fork.subject)
        }
        _ => chainguard_policy(name, glob),
    };
    let is_static = base.contains("static:");
    let mut annotations = vec!["    example.com/x: y\n".to_owned()];
    if dice.throw(2) == 0 {
        annotations.push("    pratique.dev/on-refusal: last-good\n".to_owned());
    }
    if !is_static {
        let levels = ["allow", "warn", "deny"];
        annotations.push(format!("    pratique.dev/rollback: {}\n", dice.of(&levels)));
        annotations.push(format!("    pratique.dev/bind-name: {}\n", dice.of(&["'off'", "warn", "deny"])));
        if dice.throw(3) == 0 {
            annotations.push(format!("    pratique.dev/max-age: {}d\n", 5 + dice.throw(60)));
        }
    }
    let mode = dice.of(&["enforce", "enforce", "warn"]);
    base.replace("spec:\n", &format!("  annotations:\n{}spec:\n  mode: {mode}\n", annotations.concat()))
}

/// What clients get, by what they ask for.
type Seen = BTreeMap<String, String>;

async fn seen(pratique: &Pratique, digests: &[(String, String)]) -> Seen {
    let mut seen = Seen::new();
    let tags = REPOSITORIES.into_iter().flat_map(|repository| (0..TAGS).map(move |n| (repository, format!("v{n}"))));
    let all = tags.map(|(repository, tag)| (repository.to_owned(), tag)).chain(digests.iter().cloned());
    for (repository, reference) in all {
        let answer = get(&format!("{}/v2/{repository}/manifests/{reference}", pratique.url())).await;
        let warned = answer.header("warning").is_some_and(|warning| !warning.contains("upstream does not answer"));
        let digest = answer.header("docker-content-digest").unwrap_or_default();
        let told = match (answer.status.as_u16(), reference.starts_with("sha256:")) {
            (200, true) => if warned { "warned" } else { "served" }.to_owned(),
            (200, false) => format!("{digest} {warned}"),
            (403, _) => "refused".to_owned(),
            (503, _) => "undecided".to_owned(),
            (status, _) => panic!("{status} for {reference}"),
        };
        seen.insert(format!("{repository} {reference}"), told);
    }
    seen
}

/// What was seen, with what is said to become of it.
fn predicted(mut seen: Seen, differences: &Differences) -> Seen {
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

fn push(world: &World, dice: &mut Dice, repository: &str, tag: &str, image: &Image) {
    image.push(&world.registry, repository, Some(tag));
    let name = if dice.throw(4) == 0 { "cgr.dev/org/other".to_owned() } else { format!("cgr.dev/{repository}") };
    let signers =
        [vec![Signer::chainguard()], vec![Signer::fork()], vec![Signer::chainguard(), Signer::fork()], vec![]];
    let signed = dice.of(&signers).iter().map(|signer| {
        let options = Options::at(NOW - (1 + image.manifest.len() as u64 % 7 + 40) * DAY);
        world.sigstore.sign_legacy(signer, &name, &image.digest, &options)
    });
    let signed: Vec<_> = signed.collect();
    if !signed.is_empty() {
        let tag = image::cosign_tag(&image.digest, "sig");
        image::signature_manifest(&signed).push(&world.registry, repository, Some(&tag));
    }
}

#[tokio::test]
async fn what_diff_says_is_what_the_reload_does() {
    let mut world = World::new().await;
    let mut dice = Dice(20_261_121);
    // Both are let in, and everything that either of them would want is collected.
    let fork = Signer::fork();
    let first = Setup {
        policies: vec![
            ("a.yaml".to_owned(), chainguard_policy("a", "cgr.dev/**").replace("spec:\n", "spec:\n  mode: warn\n")),
            (
                "b.yaml".to_owned(),
                policies::keyless("b", "cgr.dev/**", &fork.issuer, &fork.subject)
                    .replace("spec:\n", "spec:\n  mode: warn\n"),
            ),
        ],
        ..Setup::default()
    }
    .sections("[tags]\nttl = \"1h\"\n[verdicts]\nabsent_ttl = \"30d\"\nrefused_ttl = \"30d\"\n");
    let millis = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(NOW * 1000));
    let hand = std::sync::Arc::clone(&millis);
    let clock = Clock::reading(move || UnixTime::from_millis(hand.load(std::sync::atomic::Ordering::SeqCst)));
    let pratique = world.try_pratique(&first, clock).await.unwrap();
    let mut digests = Vec::new();
    // Each tag twice: first one image, then another.
    for turn in 0..2 {
        for repository in REPOSITORIES {
            for n in 0..TAGS {
                let image = sized(10 + usize::try_from(n).unwrap(), turn * 100 + n + repository.len() as u64 * 1000);
                push(&world, &mut dice, repository, &format!("v{n}"), &image);
                digests.push((repository.to_owned(), image.digest.to_string()));
            }
        }
        millis.fetch_add(3_700_000, std::sync::atomic::Ordering::SeqCst);
        seen(&pratique, &digests).await;
    }
    world.registry.stop().await;
    let (mut before, mut changes) = (seen(&pratique, &digests).await, 0);
    for seed in 0..CHANGES {
        let mut dice = Dice(seed * 7919 + 1);
        let names = if dice.throw(2) == 0 { &["one"][..] } else { &["one", "two"] };
        let texts: Vec<_> = names.iter().map(|name| (format!("{name}.yaml"), policy(&mut dice, name))).collect();
        let given = texts.iter().map(|(name, text)| PolicyText { name: name.clone(), text: text.clone() }).collect();
        let asked = Request::PolicyDiff { policies: given };
        let Answer::Differs(differences) = command::answer(&pratique.server.app, asked, &Reporter::default()).await
        else {
            panic!("seed {seed}: no differences")
        };
        changes += differences.changed.len() + differences.tags.len();
        let expected = predicted(before, &differences);
        let setup = Setup { policies: texts, ..first.clone() };
        pratique.reload(&world, &setup).await.unwrap();
        before = seen(&pratique, &digests).await;
        let wrong: Vec<_> = before
            .iter()
            .filter(|(what, told)| expected.get(*what) != Some(told))
            .map(|(what, told)| format!("{what}: {told}, and {:?} was said", expected.get(what)))
            .collect();
        assert!(wrong.is_empty(), "seed {seed}:\n{}\n{:#?}", wrong.join("\n"), setup.policies);
    }
    assert!(changes > 50, "only {changes} changes");
}
