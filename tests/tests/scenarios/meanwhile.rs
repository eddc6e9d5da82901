//! What others did while somebody waited: it counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use oci::UnixTime;
use proxy::clock::Clock;
use storage::Change;
use support::{
    image,
    sigstore::{Options, Signer},
    upstream::{Call, Fault, ends_with},
    world::{Setup, World, moved_by_hand},
};
use tokio::{task::JoinHandle, time::timeout};

use crate::{chainguard_policy, get, keyless_policy, rejudged::looking_at_the_time, sized};

const REPOSITORY: &str = "chainguard/nginx";
const START: u64 = 1_790_000_000_000;
/// Far beyond what anything here takes, and before anything that hangs is given up.
const SOON: Duration = Duration::from_secs(8);

/// The status, and the digest that is told.
fn asked(url: &str) -> JoinHandle<(u16, Option<String>, Option<String>)> {
    let url = url.to_owned();
    tokio::spawn(async move {
        let answer = get(&url).await;
        let told = |name: &str| answer.header(name).map(str::to_owned);
        (answer.status.as_u16(), told("docker-content-digest"), told("warning"))
    })
}

#[tokio::test]
async fn a_list_that_upstream_took_long_for_is_answered_under_the_policy_of_now() {
    let world = World::new().await;
    world.push_signed(REPOSITORY, "latest", &sized(10, 1));
    let pratique = world.pratique(&Setup::with_policy(&chainguard_policy("all", "cgr.dev/**"))).await;
    let hanging = world.registry.fault(Call::is_tags, Fault::Hang);
    let listing = asked(&format!("{}/v2/{REPOSITORY}/tags/list", pratique.url()));
    hanging.hit(1).await.unwrap();
    let elsewhere = Setup::with_policy(&chainguard_policy("other", "cgr.dev/other/**"));
    pratique.reload(&world, &elsewhere).await.unwrap();
    hanging.release();
    assert_eq!(listing.await.unwrap().0, 403);
}

#[tokio::test]
async fn who_comes_after_a_reload_does_not_wait_for_what_the_former_upstream_does() {
    let image = sized(10, 1);
    let setup = Setup::with_policy(&chainguard_policy("all", "cgr.dev/**"));
    let sig = format!("/manifests/{}", image::cosign_tag(&image.digest, "sig"));
    for what in ["/manifests/latest".to_owned(), format!("/manifests/{}", image.digest), sig] {
        let world = World::new().await;
        world.push_signed(REPOSITORY, "latest", &image);
        let pratique = world.pratique(&setup).await;
        let url = format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url());
        let hanging = world.registry.fault(ends_with(&what), Fault::Hang).times(1);
        let first = asked(&url);
        hanging.hit(1).await.unwrap();
        // It is not the same upstream any more, as far as anybody knows: another address, another password.
        pratique.reload(&world, &setup).await.unwrap();
        let (status, ..) = timeout(SOON, asked(&url)).await.unwrap_or_else(|_| panic!("waits for {what}")).unwrap();
        assert_eq!(status, 200, "{what}");
        assert!(!first.is_finished(), "{what}");
        hanging.release();
        assert_eq!(first.await.unwrap().0, 200, "{what}");
    }
}

#[tokio::test]
async fn an_image_that_left_the_store_while_its_evidence_was_fetched_can_be_pulled() {
    let world = World::new().await;
    let image = sized(1000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let pratique = world.pratique(&Setup::with_policy(&chainguard_policy("all", "cgr.dev/**"))).await;
    let base = format!("{}/v2/{REPOSITORY}", pratique.url());
    let sig = image::cosign_tag(&image.digest, "sig");
    let hanging = world.registry.fault(ends_with(&format!("/manifests/{sig}")), Fault::Hang);
    let asking = asked(&format!("{base}/manifests/{}", image.digest));
    hanging.hit(1).await.unwrap();
    let repository = format!("cgr.dev/{REPOSITORY}").parse().unwrap();
    let change = Change::Forgotten { repository, digest: image.digest.clone(), even_pinned: false };
    pratique.server.app.store.facts().apply(vec![change]).await.unwrap();
    hanging.release();
    assert_eq!(asking.await.unwrap().0, 200);
    for (digest, _) in &image.blobs {
        assert_eq!(get(&format!("{base}/blobs/{digest}")).await.status, 200);
    }
}

/// A child is let in through its index by one policy, and by its own evidence by another.
#[tokio::test]
async fn an_index_whose_verdict_ends_while_its_childs_evidence_is_fetched_still_lets_it_in() {
    let world = World::new().await;
    let index = image::index([sized(1000, 1)]);
    let child = &index.children[0];
    index.push(&world.registry, REPOSITORY, Some("latest"));
    let signed = |signer: &Signer, digest| {
        let signature =
            world.sigstore.sign_legacy(signer, &format!("cgr.dev/{REPOSITORY}"), digest, &Options::default());
        let tag = image::cosign_tag(digest, "sig");
        image::signature_manifest(&[signature]).push(&world.registry, REPOSITORY, Some(&tag));
        tag
    };
    signed(&Signer::chainguard(), &index.digest);
    let fork = Signer::fork();
    let of_child = signed(&fork, &child.digest);
    let all = looking_at_the_time(&chainguard_policy("all", "cgr.dev/**"), "time.now_ns() > 0");
    let own = keyless_policy("own", &format!("cgr.dev/**@{}", child.digest), &fork.issuer, &fork.subject);
    let policies = vec![("all.yaml".to_owned(), all), ("own.yaml".to_owned(), own)];
    let (time, clock) = moved_by_hand(START);
    let pratique = world.try_pratique(&Setup { policies, ..Setup::default() }, clock).await.unwrap();
    let address = |digest| format!("{}/v2/{REPOSITORY}/manifests/{digest}", pratique.url());
    assert_eq!(get(&address(&index.digest)).await.status, 200);
    let hanging = world.registry.fault(ends_with(&format!("/manifests/{of_child}")), Fault::Hang).times(1);
    let asking = asked(&address(&child.digest));
    hanging.hit(1).await.unwrap();
    // verdicts.clock_ttl is five minutes.
    time.fetch_add(301_000, Ordering::SeqCst);
    hanging.release();
    assert_eq!(asking.await.unwrap().0, 200);
}

/// A clock of which one reading takes until it is let go.
#[derive(Clone, Default)]
struct Delayed {
    moved: Arc<AtomicU64>,
    /// How many readings until that one; none where it is not armed.
    left: Arc<AtomicUsize>,
    is_held: Arc<AtomicBool>,
}

impl Delayed {
    fn clock(&self) -> Clock {
        let this = self.clone();
        Clock::reading(move || {
            let counted = |left: usize| left.checked_sub(1);
            if this.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, counted) == Ok(1) {
                this.is_held.store(true, Ordering::SeqCst);
                while this.is_held.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            UnixTime::from_millis(START + this.moved.load(Ordering::SeqCst))
        })
    }
}

/// Wherever one look at a tag is held up while another finds that it has moved on, and upstream is out after that: nobody is led back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tag_is_not_answered_as_of_before_what_another_has_found_meanwhile() {
    let world = World::new().await;
    let held = Delayed::default();
    let setup = Setup::with_policy(&chainguard_policy("all", "cgr.dev/**"))
        .sections("[tags]\nttl = \"1m\"\nwait = \"20s\"\nrefresh = \"never\"\n");
    let pratique = world.try_pratique(&setup, held.clock()).await.unwrap();
    let url = format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url());
    world.push_signed(REPOSITORY, "latest", &sized(10, 0));
    assert_eq!(get(&url).await.status, 200);
    let mut held_up = 0;
    for nth in 1..=8 {
        held.moved.fetch_add(61_000, Ordering::SeqCst);
        let newer = sized(10, nth as u64);
        world.push_signed(REPOSITORY, "latest", &newer);
        held.left.store(nth, Ordering::SeqCst);
        let one = asked(&url);
        while !held.is_held.load(Ordering::SeqCst) && !one.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        held.left.store(0, Ordering::SeqCst);
        let expected = (200, Some(newer.digest.to_string()), None);
        let another = timeout(SOON / 2, asked(&url)).await;
        let out = world.registry.fault(Call::is_manifest, Fault::status(500));
        held.is_held.store(false, Ordering::SeqCst);
        // Where it was held up in what both wait for, both go on now.
        let Ok(another) = another else {
            world.registry.clear_faults();
            one.await.unwrap();
            continue;
        };
        assert_eq!(another.unwrap(), expected, "reading {nth}");
        assert_eq!(one.await.unwrap(), expected, "reading {nth}");
        held_up += 1;
        drop(out);
        world.registry.clear_faults();
    }
    assert!(held_up > 1);
}
