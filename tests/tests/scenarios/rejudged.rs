//! Judged again before anybody asks: after a reload, and before verdicts end.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use oci::{Digest, Repository, UnixTime};
use policy::Record;
use proxy::clock::Clock;
use support::{
    client::Client,
    image::{self, Image},
    sigstore::{Options, Signer},
    upstream::Fault,
    world::{Pratique, Setup, World, moved_by_hand, slowed_by_hand},
};
use tokio::task;

use crate::{chainguard_policy, get, keyless_policy, sized};

const REPOSITORY: &str = "chainguard/nginx";

fn repository() -> Repository {
    format!("cgr.dev/{REPOSITORY}").parse().unwrap()
}

/// The verdict that is stored under what is in force.
pub(crate) fn stored(pratique: &Pratique, digest: &Digest) -> Option<Record> {
    stored_through(pratique, &[], digest)
}

/// The same about what is reached through these indexes, outermost first.
fn stored_through(pratique: &Pratique, path: &[Digest], digest: &Digest) -> Option<Record> {
    let app = &pratique.server.app;
    let fingerprint = app.in_force().judge.fingerprint_through(&repository(), path, digest);
    let bytes = app.store.facts().read().unwrap().verdict(&repository(), digest, fingerprint.as_bytes()).unwrap()?;
    Some(Record::from_bytes(&bytes).unwrap())
}

/// Waits for what happens in the background.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

fn pushed(world: &World, count: u64) -> Vec<Image> {
    let images: Vec<_> = (0..count).map(|seed| sized(1000, seed)).collect();
    for (n, image) in images.iter().enumerate() {
        world.push_signed(REPOSITORY, &format!("v{n}"), image);
    }
    images
}

#[tokio::test]
async fn what_is_in_use_is_judged_after_a_reload_without_a_request_and_without_upstream() {
    let world = World::new().await;
    let pratique = world.pratique(&Setup::with_policy(&chainguard_policy("one", "cgr.dev/**"))).await;
    let images = pushed(&world, 10);
    let (url, nobodys) = (pratique.url(), sized(10, 99));
    for n in 0..images.len() {
        assert_eq!(get(&format!("{url}/v2/{REPOSITORY}/manifests/v{n}")).await.status, 200);
    }
    world.push_signed(REPOSITORY, "later", &nobodys);
    world.registry.clear_calls();
    pratique.reload(&world, &Setup::with_policy(&chainguard_policy("two", "cgr.dev/**"))).await.unwrap();
    for image in &images {
        until("a verdict under the new policy", || stored(&pratique, &image.digest).is_some()).await;
    }
    assert_eq!(world.registry.count(|_| true), 0, "by stored evidence");
    assert!(stored(&pratique, &nobodys.digest).is_none());
    // What the new policy does not let in is refused before it is asked for.
    let fork = Signer::fork();
    let refusing = keyless_policy("fork", "cgr.dev/**", &fork.issuer, &fork.subject);
    pratique.reload(&world, &Setup::with_policy(&refusing)).await.unwrap();
    for image in &images {
        until("a refusal", || stored(&pratique, &image.digest).is_some_and(|record| record.refusal().is_some())).await;
    }
    assert_eq!(world.registry.count(|_| true), 0, "by stored evidence");
}

/// Who looks for the last good image meets others who judge the same images: a refusal that is made between two of its looks holds, and is
/// not taken for one that has ended and wants new evidence.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_refusal_that_was_made_a_moment_ago_asks_nobody() {
    const TAGS: u64 = 8;
    let mut world = World::new().await;
    let (time, is_slow, clock) = slowed_by_hand(1_790_000_000_000, Duration::from_millis(2));
    let setup = |policy: &str| Setup::with_policy(policy).sections("[tags]\nttl = \"1h\"\n");
    let pratique = world.try_pratique(&setup(&chainguard_policy("one", "cgr.dev/**")), clock).await.unwrap();
    let address = |reference: &str| format!("{}/v2/{REPOSITORY}/manifests/{reference}", pratique.url());
    let mut addresses: Vec<_> = (0..TAGS).map(|n| address(&format!("v{n}"))).collect();
    for turn in 0..3 {
        for n in 0..TAGS {
            let image = sized(1000, turn * TAGS + n);
            world.push_signed(REPOSITORY, &format!("v{n}"), &image);
            assert_eq!(get(&address(&format!("v{n}"))).await.status, 200);
            addresses.push(address(&image.digest.to_string()));
        }
        time.fetch_add(3_700_000, Ordering::SeqCst);
    }
    for n in 0..TAGS {
        assert_eq!(get(&address(&format!("v{n}"))).await.status, 200);
    }
    world.registry.stop().await;
    is_slow.store(true, Ordering::SeqCst);
    let fork = Signer::fork();
    for turn in 0..10 {
        let refusing = keyless_policy(&format!("fork-{turn}"), "cgr.dev/**", &fork.issuer, &fork.subject);
        let annotation = "metadata:\n  annotations:\n    pratique.dev/on-refusal: last-good\n";
        pratique.reload(&world, &setup(&refusing.replace("metadata:\n", annotation))).await.unwrap();
        let answers = (0..).zip(&addresses).map(|(n, address)| async move {
            tokio::time::sleep(Duration::from_millis(n * 7 % 31)).await;
            get(address).await
        });
        for answer in futures_util::future::join_all(answers).await {
            assert_eq!(answer.status, 403, "turn {turn}: {}", answer.text());
        }
    }
}

/// The same policy, its verdicts ending because it looks at the time.
pub(crate) fn looking_at_the_time(policy: &str, condition: &str) -> String {
    let rule = format!(
        "spec:\n  policy:\n    type: rego\n    data: |\n      package sigstore\n      default isCompliant = false\n      isCompliant {{ {condition} }}\n"
    );
    policy.replace("spec:\n", &rule)
}

fn clocked(condition: &str) -> Setup {
    Setup::with_policy(&looking_at_the_time(&chainguard_policy("clocked", "cgr.dev/**"), condition))
}

async fn by_hand(world: &World, setup: &Setup) -> (Arc<AtomicU64>, Pratique) {
    let (time, clock) = moved_by_hand(1_790_000_000_000);
    (time, world.try_pratique(setup, clock).await.unwrap())
}

#[tokio::test]
async fn a_verdict_that_ends_is_renewed_before_it_is_asked_for() {
    let world = World::new().await;
    let (time, pratique) = by_hand(&world, &clocked("time.now_ns() > 0")).await;
    let image = pushed(&world, 1).remove(0);
    let address = format!("{}/v2/{REPOSITORY}/manifests/{}", pratique.url(), image.digest);
    assert_eq!(get(&address).await.status, 200);
    let first = stored(&pratique, &image.digest).unwrap();
    world.registry.clear_calls();
    // verdicts.clock_ttl is five minutes.
    time.fetch_add(230_000, Ordering::SeqCst);
    let is_renewed = || stored(&pratique, &image.digest).is_some_and(|record| record.ends_at() > first.ends_at());
    until("a renewed verdict", is_renewed).await;
    // After the end of the first one: answered by the second, which was made then.
    let second = stored(&pratique, &image.digest).unwrap();
    time.fetch_add(100_000, Ordering::SeqCst);
    assert_eq!(get(&address).await.status, 200);
    assert_eq!(stored(&pratique, &image.digest), Some(second), "nobody judged for this request");
    assert_eq!(world.registry.count(|_| true), 0);
}

#[tokio::test]
async fn a_renewal_that_refuses_holds_at_once() {
    let world = World::new().await;
    let (time, pratique) = by_hand(&world, &clocked("time.now_ns() < 1790000200000000000")).await;
    let image = pushed(&world, 1).remove(0);
    let address = format!("{}/v2/{REPOSITORY}/manifests/{}", pratique.url(), image.digest);
    for _ in 0..2 {
        assert_eq!(get(&address).await.status, 200);
    }
    time.fetch_add(230_000, Ordering::SeqCst);
    until("a refusal", || stored(&pratique, &image.digest).is_some_and(|record| record.refusal().is_some())).await;
    assert_eq!(get(&address).await.status, 403, "although the first verdict had another minute");
}

#[tokio::test]
async fn a_child_whose_own_verdict_ends_before_its_indexs_is_renewed_itself() {
    let world = World::new().await;
    let index = image::index([sized(1000, 1)]);
    world.push_signed(REPOSITORY, "latest", &index);
    let child = &index.children[0].digest;
    let all = chainguard_policy("all", "cgr.dev/**");
    let its_own = looking_at_the_time(&chainguard_policy("own", &format!("cgr.dev/**@{child}")), "time.now_ns() > 0");
    let policies = vec![("all.yaml".to_owned(), all), ("own.yaml".to_owned(), its_own)];
    let (time, pratique) = by_hand(&world, &Setup { policies, ..Setup::default() }).await;
    for digest in [&index.digest, child] {
        assert_eq!(get(&format!("{}/v2/{REPOSITORY}/manifests/{digest}", pratique.url())).await.status, 200);
    }
    let path = [index.digest.clone()];
    assert_eq!(stored(&pratique, &index.digest).unwrap().ends_at(), None);
    let first = stored_through(&pratique, &path, child).unwrap().ends_at();
    assert!(first.is_some());
    world.registry.clear_calls();
    time.fetch_add(230_000, Ordering::SeqCst);
    let is_renewed = || stored_through(&pratique, &path, child).is_some_and(|record| record.ends_at() > first);
    until("a renewed verdict on the child", is_renewed).await;
    assert_eq!(world.registry.count(|_| true), 0);
    assert!(stored(&pratique, child).is_none(), "it is let in through its index");
}

/// Two policies: one that Chainguard's signature satisfies, and one that only warns. What that one finds wanting is asked for again.
fn signed_and_warned_about() -> Setup {
    let fork = Signer::fork();
    let signed = chainguard_policy("signed", "cgr.dev/**");
    let warning =
        keyless_policy("fork", "cgr.dev/**", &fork.issuer, &fork.subject).replace("spec:\n", "spec:\n  mode: warn\n");
    let policies = vec![("signed.yaml".to_owned(), signed), ("fork.yaml".to_owned(), warning)];
    Setup { policies, ..Setup::default() }
}

#[tokio::test]
async fn a_renewal_that_upstream_had_to_be_spared_is_made_later() {
    let world = World::new().await;
    let (time, pratique) = by_hand(&world, &signed_and_warned_about()).await;
    let images = pushed(&world, 2);
    let base = format!("{}/v2/{REPOSITORY}/manifests", pratique.url());
    let address = format!("{base}/{}", images[0].digest);
    // From then on it is answered from memory.
    for _ in 0..2 {
        assert_eq!(get(&address).await.status, 200);
    }
    let first = stored(&pratique, &images[0].digest).unwrap();
    let limit = Fault::Status { code: 429, headers: vec![("retry-after".to_owned(), "4".to_owned())] };
    let limited = world.registry.fault(|_| true, limit);
    let asked = std::time::Instant::now();
    assert_eq!(get(&format!("{base}/{}", images[1].digest)).await.status, 429);
    limited.clear();
    world.registry.clear_calls();
    // verdicts.refused_ttl is five minutes. It is looked at once a second.
    time.fetch_add(230_000, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(get(&address).await.status, 200, "from memory");
    assert_eq!((world.registry.count(|_| true), stored(&pratique, &images[0].digest)), (0, Some(first.clone())));
    tokio::time::sleep(Duration::from_millis(4500).saturating_sub(asked.elapsed())).await;
    time.fetch_add(60_000, Ordering::SeqCst);
    let is_renewed = || stored(&pratique, &images[0].digest).is_some_and(|record| record.ends_at() > first.ends_at());
    until("a renewed verdict", is_renewed).await;
}

/// What was signed stays signed: an upstream that hides a signature takes no image away from those who have it.
#[tokio::test]
async fn evidence_that_satisfied_a_policy_is_not_forgotten_when_upstream_shows_it_no_more() {
    let world = World::new().await;
    let (time, pratique) = by_hand(&world, &signed_and_warned_about()).await;
    let images = pushed(&world, 2);
    let address = |image: &Image| format!("{}/v2/{REPOSITORY}/manifests/{}", pratique.url(), image.digest);
    assert_eq!(get(&address(&images[0])).await.status, 200);
    for image in &images {
        world.registry.delete_tag(REPOSITORY, &image::cosign_tag(&image.digest, "sig"));
    }
    // verdicts.refused_ttl is five minutes: each time what the second policy misses is asked for anew, and nothing is found.
    for _ in 0..3 {
        let asked = world.registry.calls().len();
        let before = stored(&pratique, &images[0].digest).unwrap();
        time.fetch_add(400_000, Ordering::SeqCst);
        let answer = get(&address(&images[0])).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(answer.received()));
        assert!(answer.header("warning").is_some_and(|warning| warning.contains("fork")), "the second one still warns");
        assert!(world.registry.calls().len() > asked, "upstream was asked for what is missing");
        let after = stored(&pratique, &images[0].digest).unwrap();
        assert!(after.ends_at() > before.ends_at() && after.refusal().is_none());
    }
    // What never satisfied anybody is not made up.
    assert_eq!(get(&address(&images[1])).await.status, 403);
}

/// A rule may want to see more than one authority: what satisfied the others stays too.
#[tokio::test]
async fn evidence_of_every_authority_that_a_rule_looks_at_is_kept() {
    let world = World::new().await;
    let (ours, fork, nobody) = (Signer::chainguard(), Signer::fork(), "https://example.com/nobody");
    let both = chainguard_policy("both", "cgr.dev/**")
        + &format!(
            "  - name: fork\n    keyless:\n      identities:\n      - issuer: {}\n        subject: {}\n",
            fork.issuer, fork.subject
        );
    let both = looking_at_the_time(&both, "input.authorityMatches.release; input.authorityMatches.fork");
    let warning =
        keyless_policy("nobody", "cgr.dev/**", &fork.issuer, nobody).replace("spec:\n", "spec:\n  mode: warn\n");
    let policies = vec![("both.yaml".to_owned(), both), ("nobody.yaml".to_owned(), warning)];
    let (time, pratique) = by_hand(&world, &Setup { policies, ..Setup::default() }).await;
    let image = sized(1000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let name = format!("cgr.dev/{REPOSITORY}");
    let signed = |signer| world.sigstore.sign_legacy(signer, &name, &image.digest, &Options::default());
    let (by_us, by_fork) = (signed(&ours), signed(&fork));
    let tag = image::cosign_tag(&image.digest, "sig");
    image::signature_manifest(&[by_us.clone(), by_fork]).push(&world.registry, REPOSITORY, Some(&tag));
    let address = format!("{}/v2/{REPOSITORY}/manifests/{}", pratique.url(), image.digest);
    assert_eq!(get(&address).await.status, 200);
    image::signature_manifest(&[by_us]).push(&world.registry, REPOSITORY, Some(&tag));
    for _ in 0..2 {
        time.fetch_add(400_000, Ordering::SeqCst);
        let answer = get(&address).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Between two times of yes a rule said no, and was asked for anew then.
#[tokio::test]
async fn evidence_outlives_a_no_that_was_made_for_another_reason() {
    const SECONDS: u64 = 1_790_000_000;
    let world = World::new().await;
    let condition = format!(
        "time.now_ns() < {}000000000 }} isCompliant {{ time.now_ns() > {}000000000",
        SECONDS + 200,
        SECONDS + 2000
    );
    let (time, pratique) = by_hand(&world, &clocked(&condition)).await;
    let image = pushed(&world, 1).remove(0);
    let address = format!("{}/v2/{REPOSITORY}/manifests/{}", pratique.url(), image.digest);
    assert_eq!(get(&address).await.status, 200);
    world.registry.delete_tag(REPOSITORY, &image::cosign_tag(&image.digest, "sig"));
    for _ in 0..3 {
        time.fetch_add(500_000, Ordering::SeqCst);
        assert_eq!(get(&address).await.status, 403, "{} s", time.load(Ordering::SeqCst) / 1000 - SECONDS);
    }
    time.fetch_add(1_000_000, Ordering::SeqCst);
    assert_eq!(get(&address).await.status, 200);
}

/// A clock that stands until it is moved, and panics once where it is told to.
#[derive(Clone, Default)]
struct Brittle {
    /// In milliseconds since it began.
    moved: Arc<AtomicU64>,
    reading: Arc<Mutex<Reading>>,
}

#[derive(Default)]
struct Reading {
    /// How often each task has read it.
    by_task: HashMap<task::Id, u32>,
    breaks: Option<Break>,
}

/// Which reading panics: of a task that has not read it before, so many of its own on. Who else reads it, and when, is nothing to that.
struct Break {
    known: HashSet<task::Id>,
    reading: u32,
    /// Of the runtime: what blocks has threads of its own.
    thread: ThreadId,
}

impl Brittle {
    fn clock(&self) -> Clock {
        let this = self.clone();
        Clock::reading(move || {
            assert!(!this.breaks_now(), "a clock that cannot be read");
            UnixTime::from_millis(1_790_000_000_000 + this.moved.load(Ordering::SeqCst))
        })
    }

    fn breaks_now(&self) -> bool {
        let Some(id) = task::try_id() else { return false };
        let mut reading = self.reading.lock().unwrap();
        let count = reading.by_task.entry(id).or_default();
        *count += 1;
        let count = *count;
        let is_it =
            |at: &mut Break| !at.known.contains(&id) && count == at.reading && thread::current().id() == at.thread;
        reading.breaks.take_if(is_it).is_some()
    }

    /// At the next reading of any task.
    fn break_next(&self) {
        let mut reading = self.reading.lock().unwrap();
        reading.by_task.clear();
        reading.breaks = Some(Break { known: HashSet::new(), reading: 1, thread: thread::current().id() });
    }

    /// At that reading of a task that has not read it yet.
    fn break_at(&self, of_its_own: u32) {
        let mut reading = self.reading.lock().unwrap();
        let known = reading.by_task.keys().copied().collect();
        reading.breaks = Some(Break { known, reading: of_its_own, thread: thread::current().id() });
    }

    fn is_broken(&self) -> bool {
        self.reading.lock().unwrap().breaks.is_some()
    }

    /// Waits until who looks what is about to end, once a second, has read it.
    async fn read(&self) {
        let read = || self.reading.lock().unwrap().by_task.values().sum::<u32>();
        let before = read();
        until("a look", || read() > before).await;
    }
}

#[tokio::test]
async fn a_reload_while_renewals_rest_after_a_panic_is_judged_at_once() {
    let (world, brittle) = (World::new().await, Brittle::default());
    let setup = |name: &str| Setup::with_policy(&chainguard_policy(name, "cgr.dev/**"));
    let pratique = world.try_pratique(&setup("one"), brittle.clock()).await.unwrap();
    let image = pushed(&world, 1).remove(0);
    assert_eq!(get(&format!("{}/v2/{REPOSITORY}/manifests/{}", pratique.url(), image.digest)).await.status, 200);
    // Once a second it is looked what is about to end.
    brittle.break_next();
    until("a panic", || !brittle.is_broken()).await;
    pratique.reload(&world, &setup("two")).await.unwrap();
    let judged = until("a verdict under the new policy", || stored(&pratique, &image.digest).is_some());
    tokio::time::timeout(Duration::from_secs(20), judged).await.expect("no minute of rest");
}

/// Under another policy by the same rules, of which the round that it calls for has panicked.
async fn after_a_round_that_panicked(brittle: &Brittle) -> (World, Pratique, Image) {
    let world = World::new().await;
    // Nobody but the round is to read the time for the first time after the reload, as who looks for tags in use would.
    let setup = |name: &str| {
        Setup::with_policy(&looking_at_the_time(&chainguard_policy(name, "cgr.dev/**"), "time.now_ns() > 0"))
            .sections("[tags]\nrefresh = \"never\"\n")
    };
    let pratique = world.try_pratique(&setup("one"), brittle.clock()).await.unwrap();
    let image = pushed(&world, 1).remove(0);
    assert_eq!(get(&format!("{}/v2/{REPOSITORY}/manifests/{}", pratique.url(), image.digest)).await.status, 200);
    brittle.read().await;
    // The round reads it when it begins.
    brittle.break_at(1);
    pratique.reload(&world, &setup("two")).await.unwrap();
    until("a panic", || !brittle.is_broken()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(stored(&pratique, &image.digest).is_none(), "it rests");
    (world, pratique, image)
}

#[tokio::test]
async fn a_round_that_panicked_is_begun_anew() {
    let brittle = Brittle::default();
    let (_world, pratique, image) = after_a_round_that_panicked(&brittle).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    until("a verdict under the new policy", || stored(&pratique, &image.digest).is_some()).await;
}

#[tokio::test]
async fn an_image_whose_judgement_panics_costs_the_others_nothing() {
    let (world, brittle) = (World::new().await, Brittle::default());
    let setup = |name: &str| Setup::with_policy(&chainguard_policy(name, "cgr.dev/**"));
    let pratique = world.try_pratique(&setup("one"), brittle.clock()).await.unwrap();
    let images = pushed(&world, 3);
    for Image { digest, .. } in &images {
        assert_eq!(get(&format!("{}/v2/{REPOSITORY}/manifests/{digest}", pratique.url())).await.status, 200);
    }
    brittle.read().await;
    // The round reads it when it begins, for the age of the images, and while it judges the first of them.
    brittle.break_at(3);
    pratique.reload(&world, &setup("two")).await.unwrap();
    let judged = || images.iter().filter(|image| stored(&pratique, &image.digest).is_some()).count();
    let others = until("verdicts under the new policy", || judged() == 2);
    tokio::time::timeout(Duration::from_secs(25), others).await.expect("no minute of rest");
    assert!(!brittle.is_broken());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(judged(), 2, "the other one is judged when it is asked for");
}

#[tokio::test]
async fn verdicts_are_renewed_while_rounds_rest_after_a_panic() {
    let brittle = Brittle::default();
    let (_world, pratique, image) = after_a_round_that_panicked(&brittle).await;
    // verdicts.clock_ttl is five minutes.
    brittle.moved.store(230_000, Ordering::SeqCst);
    until("a renewed verdict", || stored(&pratique, &image.digest).is_some()).await;
}

/// Clients that pull without pause while policies change: nothing fails that the new policy lets in, and from the end of the reload on
/// nothing begins that it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_break_no_pull_and_let_none_begin() {
    const CLIENTS: usize = 16;
    const IMAGES: u64 = 20;
    let world = World::new().await;
    let setup = |name: &str| Setup::with_policy(&chainguard_policy(name, "cgr.dev/**"));
    let pratique = world.pratique(&setup("one")).await;
    let images = pushed(&world, IMAGES);
    let url = pratique.url();
    for n in 0..images.len() {
        assert_eq!(get(&format!("{url}/v2/{REPOSITORY}/manifests/v{n}")).await.status, 200);
    }
    // 0: everything is let in; 1: it is being reloaded; 2: nothing is let in.
    let (phase, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let addresses: Arc<Vec<[String; 2]>> = Arc::new(
        images
            .iter()
            .map(|image| {
                let base = format!("{url}/v2/{REPOSITORY}");
                [format!("{base}/manifests/{}", image.digest), format!("{base}/blobs/{}", image.layers()[0].0)]
            })
            .collect(),
    );
    let mut clients = tokio::task::JoinSet::new();
    for first in 0..CLIENTS {
        let (phase, over, addresses) = (Arc::clone(&phase), Arc::clone(&over), Arc::clone(&addresses));
        clients.spawn(async move {
            let (client, mut answers) = (Client::plain(), 0);
            for turn in first.. {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                for address in &addresses[turn % addresses.len()] {
                    let before = phase.load(Ordering::SeqCst);
                    let answer = client.get(address, &[]).await.unwrap();
                    let after = phase.load(Ordering::SeqCst);
                    match (before, after, answer.status.as_u16()) {
                        (0, 0, 200) => assert!(!answer.is_broken(), "{address}"),
                        (2, _, 403) | (0 | 1, 1 | 2, 200 | 403) => {}
                        (_, _, status) => panic!("{status} for {address}: begun in phase {before}, ended in {after}"),
                    }
                    answers += 1;
                }
            }
            answers
        });
    }
    world.registry.clear_calls();
    for turn in 0..4 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        pratique.reload(&world, &setup(&format!("turn-{turn}"))).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.registry.count(|call| !call.is_blob() && !call.is_storage()), 0, "by stored evidence");
    let fork = Signer::fork();
    let refusing = keyless_policy("fork", "cgr.dev/**", &fork.issuer, &fork.subject);
    phase.store(1, Ordering::SeqCst);
    pratique.reload(&world, &Setup::with_policy(&refusing)).await.unwrap();
    phase.store(2, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(500)).await;
    over.store(true, Ordering::SeqCst);
    let mut answers = 0;
    while let Some(done) = clients.join_next().await {
        answers += done.unwrap();
    }
    assert!(answers > CLIENTS * 4, "{answers} answers");
}
