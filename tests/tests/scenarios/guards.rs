//! Guards of tags: an upstream that replays, renames, freezes and flips; and the last good image in place of one that is refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use oci::{Digest, UnixTime};
use proxy::{
    clock::Clock,
    command::{self, Reporter, Request, TagAnswer},
    keeping,
};
use serde_json::{Value, json};
use storage::{Change, TagServed};
use support::{
    client::{Answer, Client},
    image::{self, Image},
    policies,
    sigstore::{Options, Signer},
    upstream::{Call, Fault},
    world::{Pratique, Setup, World, moved_by_hand},
};

use crate::{chainguard_policy, get, rejudged, sized};

const REPOSITORY: &str = "chainguard/nginx";
pub(crate) const DAY: u64 = 86_400;
/// 2026-09-21, in seconds.
pub(crate) const NOW: u64 = 1_790_000_000;

/// A policy for Chainguard's identity with these annotations, each without its prefix.
pub(crate) fn policy(name: &str, mode: &str, annotations: &[&str]) -> String {
    annotated(&chainguard_policy(name, "cgr.dev/chainguard/**"), mode, annotations)
}

fn annotated(policy: &str, mode: &str, annotations: &[&str]) -> String {
    let ours = annotations.iter().map(|annotation| format!("pratique.dev/{annotation}"));
    let policy = policies::annotated(policy, ours.chain(["example.com/x: y".to_owned()]));
    policy.replace("spec:\n", &format!("spec:\n  mode: {mode}\n"))
}

/// A world whose time is moved by hand.
pub(crate) struct Stage {
    pub world: World,
    /// In milliseconds.
    pub time: Arc<AtomicU64>,
    clock: Clock,
    pub pratique: Pratique,
}

impl Stage {
    async fn new(policy: &str) -> Self {
        Self::with(&Setup::with_policy(policy)).await
    }

    pub async fn with(setup: &Setup) -> Self {
        let world = World::new().await;
        let (time, clock) = moved_by_hand(NOW * 1000);
        let pratique = world.try_pratique(setup, clock.clone()).await.unwrap();
        Self { world, time, clock, pratique }
    }

    /// The tag leads to an image that was signed so many days ago.
    pub fn lead(&self, image: &Image, days_ago: u64) {
        self.lead_as(image, days_ago, REPOSITORY, &Signer::chainguard());
    }

    fn lead_as(&self, image: &Image, days_ago: u64, name: &str, signer: &Signer) {
        image.push(&self.world.registry, REPOSITORY, Some("latest"));
        let options = Options::at(NOW - days_ago * DAY);
        let signature = self.world.sigstore.sign_legacy(signer, &format!("cgr.dev/{name}"), &image.digest, &options);
        let tag = image::cosign_tag(&image.digest, "sig");
        image::signature_manifest(&[signature]).push(&self.world.registry, REPOSITORY, Some(&tag));
    }

    pub fn url(&self, reference: &str) -> String {
        format!("{}/v2/{REPOSITORY}/manifests/{reference}", self.pratique.url())
    }

    /// What a client gets, upstream being asked again where the tag leads.
    pub async fn ask(&self) -> Answer {
        self.time.fetch_add(61_000, Ordering::SeqCst);
        get(&self.url("latest")).await
    }

    pub fn served(&self) -> TagServed {
        let (repository, tag) = (format!("cgr.dev/{REPOSITORY}").parse().unwrap(), "latest".parse().unwrap());
        self.pratique
            .server
            .app
            .store
            .facts()
            .read()
            .unwrap()
            .tag_served(&repository, &tag)
            .unwrap()
            .unwrap_or_default()
    }

    pub async fn restarted(self, setup: &Setup) -> Self {
        Box::pin(self.restarted_after(setup, |_| {})).await
    }

    /// Something happens to what lies on the disk meanwhile.
    pub async fn restarted_after(self, setup: &Setup, meanwhile: impl FnOnce(&World)) -> Self {
        let Self { world, time, clock, pratique } = self;
        pratique.stop().await;
        meanwhile(&world);
        let pratique = world.try_pratique(setup, clock.clone()).await.unwrap();
        Self { world, time, clock, pratique }
    }
}

pub(crate) fn warnings(answer: &Answer) -> String {
    answer.header("warning").unwrap_or_default().to_owned()
}

pub(crate) fn led_to(answer: &Answer) -> &str {
    answer.header("docker-content-digest").unwrap_or_default()
}

pub(crate) fn document(answer: &Answer) -> Value {
    serde_json::from_slice(answer.received()).unwrap()
}

fn time(days_ago: u64) -> String {
    // The log takes it in two seconds after it is signed.
    UnixTime::from_millis((NOW - days_ago * DAY + 2) * 1000).to_string()
}

#[tokio::test]
async fn a_replayed_image_is_met_as_the_policy_says_by_tag_and_never_by_digest() {
    for (mode, level) in [("enforce", "allow"), ("enforce", "warn"), ("warn", "deny"), ("enforce", "deny")] {
        let setup = Setup::with_policy(&policy("own", mode, &[&format!("rollback: {level}")]));
        let mut stage = Stage::with(&setup).await;
        let (old, new) = (sized(10, 1), sized(10, 2));
        stage.lead(&old, 300);
        assert_eq!(stage.ask().await.status, 200, "the first use");
        stage.lead(&new, 10);
        let answer = stage.ask().await;
        assert_eq!((answer.status.as_u16(), warnings(&answer).as_str()), (200, ""), "{mode} {level}: it leads on");
        stage.lead(&old, 300);
        for turn in 0..4 {
            let answer = match turn {
                0 | 2 => stage.ask().await,
                // From memory, and after a restart from the store.
                _ => get(&stage.url("latest")).await,
            };
            let warned = warnings(&answer).contains("leads back to");
            let expected = match (mode, level) {
                (_, "allow") => (200, false),
                ("enforce", "deny") => (403, false),
                _ => (200, true),
            };
            assert_eq!((answer.status.as_u16(), warned), expected, "{mode} {level}, turn {turn}");
            assert_eq!(stage.served().newest.map(|(digest, _)| digest), Some(new.digest.clone()));
            if expected.0 == 403 {
                let told = &document(&answer)["errors"][0];
                let detail = json!({
                    "repository": format!("cgr.dev/{REPOSITORY}"),
                    "tag": "latest",
                    "digest": old.digest.to_string(),
                    "signed_at": time(300),
                    "newest": { "digest": new.digest.to_string(), "signed_at": time(10) },
                    "policy": "own",
                    "reason": "rolled-back",
                    "hint": format!("pull by digest to take it anyway; if it is meant, pratique cache forget-newest cgr.dev/{REPOSITORY}:latest"),
                });
                assert_eq!((&told["code"], &told["detail"]), (&json!("DENIED"), &detail));
                let message = told["message"].as_str().unwrap();
                for part in [old.digest.to_string(), new.digest.to_string(), time(300), time(10)] {
                    assert!(message.contains(&part), "{message}");
                }
            }
            let head = Client::plain().head(&stage.url("latest"), &[]).await.unwrap();
            assert_eq!((head.status, head.header("content-length")), (answer.status, answer.header("content-length")));
            assert_eq!(get(&stage.url(&old.digest.to_string())).await.status, 200, "by digest policy alone decides");
            if turn == 2 {
                stage = stage.restarted(&setup).await;
            }
        }
        // Where it leads on again, it is followed.
        let newest = sized(10, 3);
        stage.lead(&newest, 1);
        assert_eq!(led_to(&stage.ask().await), newest.digest.to_string());
    }
}

#[tokio::test]
async fn another_image_of_the_signer_is_met_and_an_alias_is_none() {
    for (annotations, status, warned) in [
        (&[][..], 200, true),
        (&["bind-name: 'off'"], 200, false),
        (&["bind-name: deny"], 403, false),
        (&["bind-name: deny", "bind-name-aliases: nginx=redis"], 200, false),
    ] {
        let stage = Stage::new(&policy("own", "enforce", annotations)).await;
        stage.lead_as(&sized(10, 1), 10, "chainguard/redis", &Signer::chainguard());
        for answer in [stage.ask().await, get(&stage.url("latest")).await] {
            assert_eq!(answer.status, status, "{annotations:?}");
            let told = warnings(&answer).contains("which was signed as");
            assert_eq!(told, warned, "{annotations:?}: {}", warnings(&answer));
            if status == 403 {
                assert_eq!(document(&answer)["errors"][0]["detail"]["reason"], "renamed");
            }
        }
    }
}

#[tokio::test]
async fn a_frozen_tag_and_one_that_is_too_fresh_are_met_as_time_goes_by() {
    let stage = Stage::new(&policy("own", "enforce", &["min-age: 24h", "max-age: 30d"])).await;
    let image = sized(10, 1);
    stage.lead(&image, 0);
    let reason = |answer: &Answer| document(answer)["errors"][0]["detail"]["reason"].clone();
    let fresh = stage.ask().await;
    assert_eq!((fresh.status.as_u16(), reason(&fresh)), (403, json!("too-fresh")));
    assert_eq!(get(&stage.url(&image.digest.to_string())).await.status, 200);
    stage.time.fetch_add(DAY * 1000, Ordering::SeqCst);
    assert_eq!(stage.ask().await.status, 200);
    // Within tags.ttl and in memory, and all the same it ends on time.
    stage.time.store((NOW + 30 * DAY + 2) * 1000 - 1000, Ordering::SeqCst);
    assert_eq!(stage.ask().await.status, 403, "a minute later");
    stage.time.store((NOW + 30 * DAY + 2) * 1000 - 62_000, Ordering::SeqCst);
    assert_eq!(stage.ask().await.status, 200);
    stage.time.fetch_add(2000, Ordering::SeqCst);
    let frozen = get(&stage.url("latest")).await;
    assert_eq!((frozen.status.as_u16(), reason(&frozen)), (403, json!("frozen")));
}

#[tokio::test]
async fn a_tag_that_flips_never_leads_back_and_the_ledger_tells_it() {
    let stage = Stage::new(&policy("own", "enforce", &["rollback: deny"])).await;
    let (old, new) = (sized(10, 1), sized(10, 2));
    for turn in 0..6 {
        let (image, days_ago) = if turn % 2 == 0 { (&old, 20) } else { (&new, 10) };
        stage.lead(image, days_ago);
        let expected = if turn == 0 || turn % 2 == 1 { 200 } else { 403 };
        assert_eq!(stage.ask().await.status, expected, "turn {turn}");
    }
    let app = &stage.pratique.server.app;
    let (repository, tag) = (format!("cgr.dev/{REPOSITORY}").parse().unwrap(), "latest".parse().unwrap());
    let history = app.store.facts().read().unwrap().tag_history(&repository, &tag).unwrap();
    let told: Vec<_> = history.iter().map(|event| event.look.as_ref().map(|look| look.served)).collect();
    assert_eq!(told, [Some(true), Some(false), Some(true), Some(false), Some(true), Some(true)]);
    let look = history[1].look.as_ref().unwrap();
    assert!(look.told.contains("leads back to") && look.signed_at.is_some() && look.evidence.len() == 1, "{look:?}");
}

#[tokio::test]
async fn crowds_never_get_an_older_image_after_a_newer_one() {
    let world = World::new().await;
    let setup = Setup::with_policy(&policy("own", "enforce", &["rollback: deny"])).sections("[tags]\nttl = \"1ms\"\n");
    let pratique = world.pratique(&setup).await;
    let stage = Stage { clock: Clock::system(), time: Arc::default(), pratique, world };
    let (old, new) = (sized(10, 1), sized(10, 2));
    stage.lead(&new, 500);
    stage.lead(&old, 600);
    let (url, newer_came) = (stage.url("latest"), Arc::new(AtomicBool::new(false)));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (url, newer_came, old, new) =
            (url.clone(), Arc::clone(&newer_came), old.digest.to_string(), new.digest.to_string());
        crowd.spawn(async move {
            let client = Client::plain();
            for _ in 0..10 {
                let after = newer_came.load(Ordering::SeqCst);
                let answer = client.get(&url, &[]).await.unwrap();
                assert!(answer.status == 200 || answer.status == 403, "{}", answer.status);
                assert!(!(after && answer.status == 200 && led_to(&answer) == old), "an older one after a newer one");
                if answer.status == 200 && led_to(&answer) == new {
                    newer_came.store(true, Ordering::SeqCst);
                }
            }
        });
    }
    for turn in 0..20 {
        let image = if turn % 2 == 0 { &new } else { &old };
        image.push(&stage.world.registry, REPOSITORY, Some("latest"));
        tokio::task::yield_now().await;
        get(&url).await;
    }
    while let Some(done) = crowd.join_next().await {
        done.unwrap();
    }
    // Else nobody could have got an older one after it.
    assert!(newer_came.load(Ordering::SeqCst), "somebody got the newer one");
    // Where the tag led is believed for tags.ttl.
    for (image, status) in [(&new, 200), (&old, 403)] {
        image.push(&stage.world.registry, REPOSITORY, Some("latest"));
        tokio::time::timeout(Duration::from_secs(10), async { while get(&url).await.status != status {} })
            .await
            .unwrap_or_else(|_| panic!("it is never answered {status}"));
    }
}

/// Everything that is known of an image leaves the store.
async fn evicted(stage: &Stage, digest: &Digest) {
    let (app, repository) = (&stage.pratique.server.app, format!("cgr.dev/{REPOSITORY}").parse().unwrap());
    let change = Change::Forgotten { repository, digest: digest.clone(), unless_pinned: None };
    app.store.facts().apply(vec![change]).await.unwrap();
    app.admission.forget(digest);
}

#[tokio::test]
async fn the_last_good_image_is_served_in_place_of_one_that_is_refused() {
    let stage = Stage::new(&policy("own", "enforce", &["on-refusal: last-good", "rollback: deny"])).await;
    let (first, second, unsigned) = (sized(10, 1), sized(10, 2), sized(10, 3));
    unsigned.push(&stage.world.registry, REPOSITORY, Some("latest"));
    assert_eq!(stage.ask().await.status, 403, "there is none yet");
    stage.lead(&first, 20);
    assert_eq!(stage.ask().await.status, 200);
    stage.lead(&second, 10);
    assert_eq!(stage.ask().await.status, 200);
    unsigned.push(&stage.world.registry, REPOSITORY, Some("latest"));
    for evict in [false, true] {
        if evict {
            evicted(&stage, &second.digest).await;
        }
        let kept = stage.ask().await;
        assert_eq!((kept.status.as_u16(), led_to(&kept)), (200, second.digest.to_string().as_str()));
        let warning = warnings(&kept);
        assert!(warning.contains(&format!("tag kept at {}, signed {}", second.digest, time(10))), "{warning}");
        assert!(warning.contains("refused by policy own"), "{warning}");
        assert_eq!(kept.received(), &second.manifest);
    }
    // Refused by a guard, the same.
    stage.lead(&first, 20);
    let kept = stage.ask().await;
    assert_eq!((kept.status.as_u16(), led_to(&kept)), (200, second.digest.to_string().as_str()));
    assert!(warnings(&kept).contains("leads back to"), "{}", warnings(&kept));
    assert_eq!(
        get(&stage.url(&unsigned.digest.to_string())).await.status,
        403,
        "by digest nothing is put in its place"
    );
}

#[tokio::test]
async fn the_image_that_a_tag_is_kept_at_is_renewed_before_it_is_asked_for() {
    let keeps = policy("own", "enforce", &["on-refusal: last-good"]);
    let stage = Stage::new(&rejudged::looking_at_the_time(&keeps, "time.now_ns() > 0")).await;
    let (good, unsigned) = (sized(10, 1), sized(10, 2));
    let ends = || rejudged::stored(&stage.pratique, &good.digest).unwrap().ends_at();
    stage.lead(&good, 20);
    assert_eq!(stage.ask().await.status, 200);
    let first = ends();
    // verdicts.clock_ttl is five minutes.
    stage.time.fetch_add(230_000, Ordering::SeqCst);
    rejudged::until("a renewed verdict", || ends() > first).await;
    let second = ends();
    unsigned.push(&stage.world.registry, REPOSITORY, Some("latest"));
    assert_eq!(led_to(&stage.ask().await), good.digest.to_string());
    stage.time.fetch_add(200_000, Ordering::SeqCst);
    rejudged::until("another, although the tag does not lead to it any more", || ends() > second).await;
}

#[tokio::test]
async fn an_upstream_that_withholds_the_newest_image_gets_no_older_one_served_in_its_place() {
    for (evidence_only, stays) in [(true, false), (false, false), (true, true)] {
        let stage = Stage::new(&policy("own", "enforce", &["on-refusal: last-good", "rollback: deny"])).await;
        let (first, second, unsigned) = (sized(10, 1), sized(10, 2), sized(10, 3));
        stage.lead(&first, 20);
        assert_eq!(stage.ask().await.status, 200);
        stage.lead(&second, 10);
        assert_eq!(stage.ask().await.status, 200);
        if !stays {
            unsigned.push(&stage.world.registry, REPOSITORY, Some("latest"));
        }
        evicted(&stage, &second.digest).await;
        let hex = second.digest.hex().to_owned();
        let fault = stage.world.registry.fault(
            move |call| {
                let is_evidence = call.is_referrers() || call.path.contains("/manifests/sha256-");
                call.mentions(&hex) && (is_evidence || !evidence_only)
            },
            Fault::status(404),
        );
        let answer = stage.ask().await;
        assert_eq!(answer.status, 403, "evidence only: {evidence_only}, led to {}", led_to(&answer));
        fault.clear();
        assert_eq!(led_to(&stage.ask().await), second.digest.to_string(), "evidence only: {evidence_only}");
    }
}

/// It need not say that there is nothing: evidence that is no good is refused too.
#[tokio::test]
async fn an_upstream_that_shows_other_evidence_of_the_newest_image_gets_no_older_one_served_in_its_place() {
    let junk = |stage: &Stage, image: &Image, how: &str| {
        let options = Options::at(NOW - 5 * DAY);
        let signer = if how == "another identity" { Signer::fork() } else { Signer::chainguard() };
        let about = if how == "another image" { Digest::sha256(b"another") } else { image.digest.clone() };
        let name = format!("cgr.dev/{REPOSITORY}");
        let signature = stage.world.sigstore.sign_legacy(&signer, &name, &about, &options);
        let manifest = image::signature_manifest(&[signature]);
        manifest.push(&stage.world.registry, REPOSITORY, Some(&image::cosign_tag(&image.digest, "sig")));
        if how == "gone" {
            for (digest, _) in &manifest.blobs {
                stage.world.registry.delete_blob(REPOSITORY, digest);
            }
        }
    };
    for (how, stays) in
        ["another identity", "another image", "gone"].into_iter().flat_map(|how| [(how, false), (how, true)])
    {
        let stage = Stage::new(&policy("own", "enforce", &["on-refusal: last-good", "rollback: deny"])).await;
        let (first, second, unsigned) = (sized(10, 1), sized(10, 2), sized(10, 3));
        // The bytes of one whose evidence is gone upstream are in the store.
        for (image, days_ago) in [(&first, 20), (&second, 10)] {
            stage.lead(image, days_ago);
            assert_eq!(stage.ask().await.status, 200);
        }
        if !stays {
            unsigned.push(&stage.world.registry, REPOSITORY, Some("latest"));
        }
        evicted(&stage, &second.digest).await;
        junk(&stage, &second, how);
        let answer = stage.ask().await;
        assert_ne!(led_to(&answer), first.digest.to_string(), "{how}, the tag leads to it still: {stays}");
    }
}

/// Whose identity is let in no more is refused for good, whatever is newer: the last good one may be older.
#[tokio::test]
async fn an_image_that_is_refused_by_its_own_evidence_makes_way_for_an_older_one() {
    let keeps = ["on-refusal: last-good", "rollback: deny"];
    let fork = Signer::fork();
    let narrow = policy("own", "enforce", &keeps);
    let stage = Stage::new(&policies::or_by(&narrow, &fork)).await;
    let (first, second, unsigned) = (sized(10, 1), sized(10, 2), sized(10, 3));
    stage.lead(&first, 20);
    assert_eq!(stage.ask().await.status, 200);
    stage.lead_as(&second, 10, REPOSITORY, &fork);
    assert_eq!(stage.ask().await.status, 200);
    stage.pratique.reload(&stage.world, &Setup::with_policy(&narrow)).await.unwrap();
    assert_eq!(led_to(&stage.ask().await), first.digest.to_string());
    unsigned.push(&stage.world.registry, REPOSITORY, Some("latest"));
    assert_eq!(led_to(&stage.ask().await), first.digest.to_string());
}

#[tokio::test]
async fn what_is_served_in_place_is_admitted_by_what_is_in_force() {
    let both = |accepted: &[Signer], annotations: &[&str]| {
        let identities: String = accepted
            .iter()
            .map(|signer| format!("      - issuer: {:?}\n        subject: {:?}\n", signer.issuer, signer.subject))
            .collect::<Vec<_>>()
            .concat();
        let first = &accepted[0];
        let one = policies::keyless("own", "cgr.dev/chainguard/**", &first.issuer, &first.subject);
        let at = one.find("      - issuer").unwrap();
        annotated(&format!("{}{identities}", &one[..at]), "enforce", annotations)
    };
    let keeps = &["on-refusal: last-good"][..];
    let all = [Signer::chainguard(), Signer::fork()];
    let stage = Stage::new(&both(&all, keeps)).await;
    let (ours, theirs) = (sized(10, 1), sized(10, 2));
    stage.lead(&ours, 20);
    assert_eq!(stage.ask().await.status, 200);
    stage.lead_as(&theirs, 10, REPOSITORY, &Signer::fork());
    assert_eq!(stage.ask().await.status, 200);
    // Their identity is removed: what is older and still admitted is served.
    let setup = Setup::with_policy(&both(&all[..1], keeps));
    stage.pratique.reload(&stage.world, &setup).await.unwrap();
    let kept = get(&stage.url("latest")).await;
    assert_eq!((kept.status.as_u16(), led_to(&kept)), (200, ours.digest.to_string().as_str()));
    assert!(warnings(&kept).contains("tag kept at"), "{}", warnings(&kept));
    // Ours instead: nothing of what was served is admitted any more, and the newer one is.
    let setup = Setup::with_policy(&both(&all[1..], keeps));
    stage.pratique.reload(&stage.world, &setup).await.unwrap();
    assert_eq!(led_to(&get(&stage.url("latest")).await), theirs.digest.to_string());
    // Where one policy does not say so, it is refused.
    let mut mixed = Setup::with_policy(&both(&all[..1], keeps));
    mixed.policies.push(("other.yaml".to_owned(), chainguard_policy("other", "cgr.dev/chainguard/**")));
    stage.pratique.reload(&stage.world, &mixed).await.unwrap();
    assert_eq!(get(&stage.url("latest")).await.status, 403);
}

#[tokio::test]
async fn what_cannot_be_decided_is_not_refused_and_the_last_served_is_kept_for_max_stale() {
    let setup = Setup::with_policy(&policy("own", "enforce", &[])).sections("[tags]\nmax_stale = \"1h\"\n");
    let stage = Stage::with(&setup).await;
    let (first, second) = (sized(10, 1), sized(10, 2));
    stage.lead(&first, 20);
    assert_eq!(stage.ask().await.status, 200);
    stage.lead(&second, 10);
    let hex = second.digest.hex().to_owned();
    let fault = stage.world.registry.fault(
        move |call| call.mentions(&hex) && (call.is_referrers() || call.path.contains("/manifests/sha256-")),
        Fault::status(500),
    );
    let kept = stage.ask().await;
    assert_eq!((kept.status.as_u16(), led_to(&kept)), (200, first.digest.to_string().as_str()));
    assert!(warnings(&kept).contains(&format!("cannot decide on {}", second.digest)), "{}", warnings(&kept));
    assert_eq!(get(&stage.url(&second.digest.to_string())).await.status, 503);
    // Another that cannot be decided on prolongs nothing.
    stage.time.fetch_add(1_800_000, Ordering::SeqCst);
    let third = sized(10, 3);
    stage.lead(&third, 5);
    let hex = third.digest.hex().to_owned();
    let other_fault = stage.world.registry.fault(
        move |call| call.mentions(&hex) && (call.is_referrers() || call.path.contains("/manifests/sha256-")),
        Fault::status(500),
    );
    assert_eq!(led_to(&stage.ask().await), first.digest.to_string());
    stage.time.fetch_add(1_800_000, Ordering::SeqCst);
    assert_eq!(stage.ask().await.status, 503);
    fault.clear();
    other_fault.clear();
    assert_eq!(led_to(&stage.ask().await), third.digest.to_string());
}

/// What was served last, and the floor, are damaged on the disk: nobody can say how new the tag was.
fn damaged(world: &World, served: &TagServed) {
    let path = world.directory.path().join("store/facts.redb");
    let (newest, signed_at) = served.newest.clone().unwrap();
    // A time that is there, and a SHA-256: the record of what the tag served begins with these, and nothing else has them side by side.
    let mut row = vec![1];
    row.extend(signed_at.as_millis().to_be_bytes());
    row.push(1);
    row.extend(hex::decode(newest.hex()).unwrap());
    let mut facts = std::fs::read(&path).unwrap();
    let found: Vec<_> =
        facts.windows(row.len()).enumerate().filter(|(_, window)| *window == row).map(|(at, _)| at).collect();
    assert!(!found.is_empty());
    for at in found {
        facts[at] = 9;
    }
    std::fs::write(&path, facts).unwrap();
}

#[tokio::test]
async fn while_nobody_can_read_how_new_a_tag_was_nothing_is_served_under_it() {
    for annotation in ["rollback: deny", "rollback: allow", "on-refusal: last-good"] {
        let setup = Setup::with_policy(&policy("own", "enforce", &[annotation]));
        let stage = Stage::with(&setup).await;
        let (image, older) = (sized(10, 1), sized(10, 2));
        stage.lead(&image, 10);
        assert_eq!(stage.ask().await.status, 200);
        let served = stage.served();
        let stage = Box::pin(stage.restarted_after(&setup, |world| damaged(world, &served))).await;
        for led in [&image, &older] {
            stage.lead(led, if led.digest == image.digest { 10 } else { 20 });
            for answer in [stage.ask().await, get(&stage.url("latest")).await] {
                assert_eq!(answer.status, 500, "{annotation}: {}", answer.text());
                assert!(document(&answer)["errors"][0]["code"].is_string() && led_to(&answer).is_empty());
            }
            assert_eq!(get(&stage.url(&led.digest.to_string())).await.status, 200, "by digest policy alone decides");
        }
        // The way out: nothing is known of it then, as at the first use.
        let (repository, tag) = (format!("cgr.dev/{REPOSITORY}").parse().unwrap(), "latest".parse().unwrap());
        let forgotten = stage.pratique.server.app.admission.forget_newest(&repository, &tag).await;
        assert!(matches!(forgotten, Ok(None)), "what it was nobody can say");
        assert_eq!(led_to(&stage.ask().await), older.digest.to_string(), "{annotation}");
        assert_eq!(stage.served().newest.map(|(digest, _)| digest), Some(older.digest.clone()));
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_does_not_keep_idle_tags_from_making_way() {
    let setup = Setup::with_policy(&policy("own", "enforce", &["rollback: deny"])).sections("[limits]\ntags_max = 2\n");
    let stage = Stage::with(&setup).await;
    stage.lead(&sized(10, 1), 10);
    assert_eq!(stage.ask().await.status, 200);
    let served = stage.served();
    let stage = Box::pin(stage.restarted_after(&setup, |world| damaged(world, &served))).await;
    sized(10, 3).push(&stage.world.registry, REPOSITORY, Some("unsigned"));
    assert_eq!(get(&stage.url("unsigned")).await.status, 403);
    stage.time.fetch_add(3_700_000, Ordering::SeqCst);
    let app = &stage.pratique.server.app;
    keeping::drop_idle_tags(app).await.unwrap();
    let repository = format!("cgr.dev/{REPOSITORY}").parse().unwrap();
    let is_known =
        |tag: &str| app.store.facts().read().unwrap().tag(&repository, &tag.parse().unwrap()).unwrap().is_some();
    assert!(is_known("latest") && !is_known("unsigned"));
}

#[tokio::test]
async fn a_tag_that_leads_to_a_platform_let_in_through_its_index_is_explained_as_it_is_answered() {
    let stage = Stage::new(&policy("own", "enforce", &["rollback: deny", "max-age: 30d"])).await;
    let child = sized(10, 1);
    // Only the index is signed: what let it in says how old the platform is.
    stage.lead(&image::index([child.clone()]), 10);
    assert_eq!(stage.ask().await.status, 200);
    child.push(&stage.world.registry, REPOSITORY, Some("latest"));
    let answer = stage.ask().await;
    assert_eq!(
        (answer.status.as_u16(), led_to(&answer)),
        (200, child.digest.to_string().as_str()),
        "{}",
        answer.text()
    );
    let asked = Request::Explain { image: format!("cgr.dev/{REPOSITORY}:latest") };
    let told = command::answer(&stage.pratique.server.app, asked, &Reporter::default()).await;
    let command::Answer::Explained(told) = told else { panic!("nothing is explained") };
    let tag = told.tag.unwrap();
    assert_eq!(tag.answer, TagAnswer::Served { digest: child.digest.clone(), warned: false }, "{:?}", tag.why);
}

/// A tag that was answered with one image, and leads to another whose evidence does not come; which these are.
async fn hanging(sections: &str) -> (Stage, Image) {
    let stage = Stage::with(&Setup::with_policy(&policy("own", "enforce", &[])).sections(sections)).await;
    let (first, second) = (sized(10, 1), sized(10, 2));
    stage.lead(&first, 20);
    assert_eq!(stage.ask().await.status, 200);
    stage.lead(&second, 10);
    let hex = second.digest.hex().to_owned();
    let is_evidence =
        move |call: &Call| call.mentions(&hex) && (call.is_referrers() || call.path.contains("/manifests/sha256-"));
    stage.world.registry.fault(is_evidence, Fault::Hang);
    (stage, first)
}

#[tokio::test]
async fn what_hangs_while_it_is_decided_on_costs_the_wait_and_not_the_whole_budget() {
    let (stage, first) = Box::pin(hanging("[tags]\nwait = \"200ms\"\n[limits]\ndecision_timeout = \"10s\"\n")).await;
    let began = Instant::now();
    assert_eq!(led_to(&stage.ask().await), first.digest.to_string());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_a_tag_means_and_what_is_decided_about_it_share_one_budget() {
    let sections = "[tags]\nttl = \"0s\"\nwait = \"20s\"\n[limits]\ndecision_timeout = \"10s\"\n";
    let (stage, first) = Box::pin(hanging(sections)).await;
    // Six of the ten seconds are gone when upstream has said what the tag means.
    let late = Fault::Late(Duration::from_secs(6));
    stage.world.registry.fault(|call| call.path.ends_with("/manifests/latest"), late);
    let answer = stage.ask().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(led_to(&answer), first.digest.to_string());
}

#[tokio::test]
async fn where_upstream_sends_us_for_evidence_is_for_the_log() {
    let stage = Stage::new(&policy("own", "enforce", &[])).await;
    stage.lead(&sized(10, 1), 20);
    let away = Fault::Redirect("http://smuggled.example/secret".to_owned());
    let _away =
        stage.world.registry.fault(|call| call.is_referrers() || call.path.contains("/manifests/sha256-"), away);
    let answer = stage.ask().await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let said = answer.text();
    assert!(said.contains("leads to a host which is") && !said.contains("smuggled"), "{said}");
}

#[tokio::test]
async fn beyond_limits_tags_max_a_tag_is_served_with_a_warning_or_not_as_its_guards_need_memory() {
    let setup = |name: &str, annotations: &[&str], bounds: &str| {
        Setup::with_policy(&policy(name, "enforce", annotations)).sections(bounds)
    };
    let bounds = "[limits]\ntags_max = 1\n";
    let denying = setup("denying", &["rollback: deny"], bounds);
    let stage = Stage::with(&denying).await;
    let (known, beyond) = (sized(10, 1), sized(10, 2));
    stage.lead(&known, 3);
    assert_eq!(stage.ask().await.status, 200, "the one that may be known");
    stage.lead(&beyond, 2);
    beyond.push(&stage.world.registry, REPOSITORY, Some("beyond"));
    // That one goes on, guarded.
    assert_eq!(led_to(&stage.ask().await), beyond.digest.to_string());
    known.push(&stage.world.registry, REPOSITORY, Some("latest"));
    assert_eq!(stage.ask().await.status, 403, "rolled back");
    for _ in 0..2 {
        let answer = get(&stage.url("beyond")).await;
        let text = String::from_utf8_lossy(answer.received()).into_owned();
        assert_eq!(answer.status, 503, "{text}");
        assert!(text.contains("limits.tags_max") && text.contains("pull by digest"), "{text}");
        assert_eq!(get(&stage.url(&beyond.digest.to_string())).await.status, 200);
    }
    for (annotations, warns) in
        [(["rollback: warn"], true), (["on-refusal: last-good"], true), (["rollback: allow"], false)]
    {
        stage.pratique.reload(&stage.world, &setup("other", &annotations, bounds)).await.unwrap();
        for _ in 0..2 {
            let answer = get(&stage.url("beyond")).await;
            assert_eq!((answer.status.as_u16(), led_to(&answer)), (200, beyond.digest.to_string().as_str()));
            assert_eq!(warnings(&answer).contains("limits.tags_max"), warns, "{annotations:?}: {}", warnings(&answer));
        }
    }
    // What never served anything makes way, an hour after it was asked for.
    let few = "[limits]\ntags_max = 2\n";
    let stage = stage.restarted(&setup("denying", &["rollback: deny"], few)).await;
    let unsigned = sized(10, 3);
    unsigned.push(&stage.world.registry, REPOSITORY, Some("unsigned"));
    let thinned = async |stage: &Stage| keeping::drop_idle_tags(&stage.pratique.server.app).await.unwrap();
    assert_eq!(get(&stage.url("unsigned")).await.status, 403);
    thinned(&stage).await;
    assert_eq!(get(&stage.url("beyond")).await.status, 503);
    stage.time.fetch_add(3_700_000, Ordering::SeqCst);
    thinned(&stage).await;
    assert_eq!(get(&stage.url("beyond")).await.status, 200);
    assert_eq!(get(&stage.url("unsigned")).await.status, 403, "it is still asked for");
    assert_eq!(stage.ask().await.status, 403, "how new latest was is not forgotten");
    // With more room it is known from then on.
    let stage = stage.restarted(&setup("denying", &["rollback: deny"], "[limits]\ntags_max = 10\n")).await;
    assert_eq!(get(&stage.url("beyond")).await.status, 200);
    known.push(&stage.world.registry, REPOSITORY, Some("beyond"));
    stage.time.fetch_add(61_000, Ordering::SeqCst);
    let answer = get(&stage.url("beyond")).await;
    assert_eq!(answer.status, 403);
    assert_eq!(document(&answer)["errors"][0]["detail"]["reason"], "rolled-back");
}
