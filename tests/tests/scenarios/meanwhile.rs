//! What others did while somebody waited: it counts.

use std::{sync::atomic::Ordering, time::Duration};

use storage::Change;
use support::{
    image,
    sigstore::{Options, Signer},
    upstream::{Call, Fault, ends_with},
    world::{Setup, World, moved_by_hand, slowed_by_hand},
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
async fn what_a_former_upstream_says_late_does_not_take_the_place_of_what_was_told_since() {
    let world = World::new().await;
    let image = sized(10, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let setup = Setup::with_policy(&chainguard_policy("all", "cgr.dev/**"))
        .sections("[tags]\nttl = \"10m\"\nrefresh = \"never\"\n");
    let (time, clock) = moved_by_hand(START);
    let pratique = world.try_pratique(&setup, clock).await.unwrap();
    let url = format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url());
    let hanging = world.registry.fault(ends_with("/manifests/latest"), Fault::Hang).times(1);
    let one = asked(&url);
    hanging.hit(1).await.unwrap();
    pratique.reload(&world, &setup).await.unwrap();
    time.fetch_add(1000, Ordering::SeqCst);
    let expected = (200, Some(image.digest.to_string()), None);
    assert_eq!(asked(&url).await.unwrap(), expected);
    world.registry.delete_tag(REPOSITORY, "latest");
    hanging.release();
    assert_eq!(one.await.unwrap(), expected);
    assert_eq!(asked(&url).await.unwrap(), expected, "within its ttl");
}

/// Zero decides anew for every request, and that is no end.
#[tokio::test]
async fn a_child_whose_own_verdict_lasts_no_time_is_let_in_through_its_index() {
    let world = World::new().await;
    let index = image::index([sized(1000, 1)]);
    let child = &index.children[0].digest;
    index.push(&world.registry, REPOSITORY, Some("latest"));
    world.sign_alone(REPOSITORY, &index.digest, &Signer::chainguard(), &Options::default());
    let fork = Signer::fork();
    let own = keyless_policy("own", &format!("cgr.dev/**@{child}"), &fork.issuer, &fork.subject);
    let own = own.replace("spec:\n", "spec:\n  mode: warn\n");
    let policies = vec![("all.yaml".to_owned(), chainguard_policy("all", "cgr.dev/**")), ("own.yaml".to_owned(), own)];
    let setup = Setup { policies, ..Setup::default() }
        .sections("[verdicts]\nabsent_ttl = \"0s\"\nrefused_ttl = \"0s\"\nclock_ttl = \"0s\"\n");
    let pratique = world.pratique(&setup).await;
    for digest in [&index.digest, child, child] {
        let answer = get(&format!("{}/v2/{REPOSITORY}/manifests/{digest}", pratique.url())).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
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
    let change = Change::Forgotten { repository, digest: image.digest.clone(), unless_pinned: None };
    pratique.server.app.store.facts().apply(vec![change]).await.unwrap();
    hanging.release();
    assert_eq!(asking.await.unwrap().0, 200);
    for (digest, _) in &image.blobs {
        assert_eq!(get(&format!("{base}/blobs/{digest}")).await.status, 200);
    }
}

#[tokio::test]
async fn a_tag_that_moves_on_while_its_image_is_judged_leads_nobody_back() {
    let world = World::new().await;
    let keeps = "metadata:\n  annotations:\n    pratique.dev/rollback: deny\n";
    let policy = chainguard_policy("all", "cgr.dev/**").replace("metadata:\n", keeps);
    let setup = Setup::with_policy(&policy).sections("[tags]\nttl = \"1m\"\nrefresh = \"never\"\n");
    let (time, clock) = moved_by_hand(START);
    let pratique = world.try_pratique(&setup, clock).await.unwrap();
    let url = format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url());
    let pushed = |image: &image::Image, days_ago: u64| {
        image.push(&world.registry, REPOSITORY, Some("latest"));
        let options = Options::at(START / 1000 - days_ago * 86_400);
        world.sign(REPOSITORY, image, &Signer::chainguard(), &options);
    };
    let (older, newer) = (sized(10, 1), sized(10, 2));
    pushed(&older, 9);
    let sig = image::cosign_tag(&older.digest, "sig");
    let hanging = world.registry.fault(ends_with(&format!("/manifests/{sig}")), Fault::Hang);
    let one = asked(&url);
    hanging.hit(1).await.unwrap();
    pushed(&newer, 1);
    time.fetch_add(61_000, Ordering::SeqCst);
    let expected = (200, Some(newer.digest.to_string()), None);
    assert_eq!(asked(&url).await.unwrap(), expected);
    hanging.release();
    assert_eq!(one.await.unwrap(), expected);
}

/// A child is let in through its index by one policy, and by its own evidence by another.
#[tokio::test]
async fn an_index_whose_verdict_ends_while_its_childs_evidence_is_fetched_still_lets_it_in() {
    let world = World::new().await;
    let index = image::index([sized(1000, 1)]);
    let child = &index.children[0];
    index.push(&world.registry, REPOSITORY, Some("latest"));
    world.sign_alone(REPOSITORY, &index.digest, &Signer::chainguard(), &Options::default());
    let fork = Signer::fork();
    let of_child = world.sign_alone(REPOSITORY, &child.digest, &fork, &Options::default());
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

/// Many who ask for a child after its refusal has ended: its evidence is looked for once, however their looks lie to each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_childs_own_evidence_is_looked_for_once_however_many_ask() {
    let world = World::new().await;
    let index = image::index([sized(1000, 1)]);
    let child = index.children[0].digest.clone();
    world.push_signed(REPOSITORY, "latest", &index);
    let fork = Signer::fork();
    let own = keyless_policy("own", &format!("cgr.dev/**@{child}"), &fork.issuer, &fork.subject);
    let policies = vec![("all.yaml".to_owned(), chainguard_policy("all", "cgr.dev/**")), ("own.yaml".to_owned(), own)];
    let (time, is_slow, clock) = slowed_by_hand(START, Duration::from_millis(2));
    let pratique = world.try_pratique(&Setup { policies, ..Setup::default() }, clock).await.unwrap();
    let address = |digest| format!("{}/v2/{REPOSITORY}/manifests/{digest}", pratique.url());
    assert_eq!(get(&address(&index.digest)).await.status, 200);
    let url = address(&child);
    assert_eq!(get(&url).await.status, 403);
    is_slow.store(true, Ordering::SeqCst);
    let sig = format!("/manifests/{}", image::cosign_tag(&child, "sig"));
    for turn in 0..10 {
        // Beyond verdicts.refused_ttl.
        time.fetch_add(24 * 3_600_000, Ordering::SeqCst);
        world.registry.clear_calls();
        let answers = (0..24).map(|n| {
            let url = url.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(n * 3)).await;
                get(&url).await.status.as_u16()
            }
        });
        let statuses = futures_util::future::join_all(answers).await;
        assert!(statuses.iter().all(|status| *status == 403), "turn {turn}: {statuses:?}");
        let looked = world.registry.count(|call| call.path.ends_with(&sig));
        assert_eq!(looked, 1, "turn {turn}");
    }
}

/// One look at a tag hangs while another finds that it has moved on, and upstream is out after that: nobody is led back.
#[tokio::test]
async fn a_tag_is_not_answered_as_of_before_what_another_has_found_meanwhile() {
    let world = World::new().await;
    let setup = Setup::with_policy(&chainguard_policy("all", "cgr.dev/**")).sections(
        "[tags]\nttl = \"1m\"\nwait = \"20s\"\nrefresh = \"never\"\n[limits]\nupstream_response_timeout = \"4s\"\n",
    );
    let (time, clock) = moved_by_hand(START);
    let pratique = world.try_pratique(&setup, clock).await.unwrap();
    let url = format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url());
    let (older, newer) = (sized(10, 1), sized(10, 2));
    world.push_signed(REPOSITORY, "latest", &older);
    assert_eq!(get(&url).await.status, 200);
    time.fetch_add(61_000, Ordering::SeqCst);
    let hanging = world.registry.fault(ends_with("/manifests/latest"), Fault::Hang).times(1);
    let one = asked(&url);
    hanging.hit(1).await.unwrap();
    world.push_signed(REPOSITORY, "latest", &newer);
    // Who comes after a reload has a look of its own.
    pratique.reload(&world, &setup).await.unwrap();
    let expected = (200, Some(newer.digest.to_string()), None);
    assert_eq!(asked(&url).await.unwrap(), expected);
    world.registry.fault(Call::is_manifest, Fault::status(500));
    assert_eq!(one.await.unwrap(), expected);
}
