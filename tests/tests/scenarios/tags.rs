//! What a tag means, when upstream says one thing and has another.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use oci::Digest;
use support::{
    client::Client,
    pull::pull,
    upstream::{Call, Fault, Registry},
    world::{Setup, World, moved_by_hand},
};

use crate::{chainguard_policy, get, sized, static_policy};

/// A digest that nobody has.
const NOBODYS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn a_digest_that_upstream_tells_and_does_not_have_is_not_taken_for_the_tags() {
    let world = World::new().await;
    let image = sized(1000, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    world.registry.fault(support::upstream::Call::is_head, Fault::digest_header(NOBODYS)).times(1);
    let pratique = world.pratique(&Setup::default()).await;
    for _ in 0..3 {
        let answer = get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(answer.received()));
        assert_eq!(answer.header("docker-content-digest"), Some(image.digest.to_string().as_str()));
    }
}

#[tokio::test]
async fn a_lying_digest_does_not_take_the_place_of_the_last_good_one() {
    let mut world = World::new().await;
    let image = sized(1000, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&Setup::default().sections("[tags]\nttl = \"1ms\"\n")).await;
    let (client, url) = (Client::plain(), pratique.url());
    pull(&client, &url, "chainguard/nginx", "latest").await.unwrap();
    // From here on the header lies, and whoever believes it finds nothing; then upstream is gone altogether.
    world.registry.fault(support::upstream::Call::is_head, Fault::digest_header(NOBODYS));
    let during = get(&format!("{url}/v2/chainguard/nginx/manifests/latest")).await;
    assert_eq!(during.status, 200);
    world.registry.stop().await;
    let after = pull(&client, &url, "chainguard/nginx", "latest").await.unwrap();
    assert_eq!(after.manifests[0].1, image.manifest);
    let digest: Digest = after.manifests[0].0.clone();
    assert_eq!(digest, image.digest);
}

/// A signed image under `latest`, and pratique with these `sections`, asked for it once.
async fn warm(sections: &str) -> (World, support::world::Pratique, String) {
    let world = World::new().await;
    world.push_signed("chainguard/nginx", "latest", &sized(1000, 1));
    let pratique = world.pratique(&Setup::default().sections(sections)).await;
    let url = format!("{}/v2/chainguard/nginx/manifests", pratique.url());
    assert_eq!(get(&format!("{url}/latest")).await.status, 200);
    (world, pratique, url)
}

#[tokio::test]
async fn a_tag_of_a_slow_upstream_is_served_stale_within_the_wait() {
    // Looked up for nobody else: who joins a look that began before the upstream was slow is told what was so then.
    let sections = "[tags]\nttl = \"1ms\"\nrefresh = \"never\"\nwait = \"200ms\"\n";
    let (world, _pratique, url) = warm(sections).await;
    let slow = world.registry.fault(Call::is_head, Fault::Hang);
    let began = Instant::now();
    for _ in 0..3 {
        let stale = get(&format!("{url}/latest")).await;
        assert_eq!(stale.status, 200);
        assert!(stale.header("warning").is_some_and(|warning| warning.ends_with("upstream is slow\"")));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(slow.hits(), 1, "all of them waited for one question");
    slow.clear();
    // On a busy machine an upstream that is well again may be late as well.
    let fresh = async {
        loop {
            let answer = get(&format!("{url}/latest")).await;
            assert_eq!(answer.status, 200);
            if answer.header("warning").is_none() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), fresh).await.expect("an answer that is not stale");
}

#[tokio::test]
async fn an_unseen_tag_of_an_upstream_that_hangs_is_503_within_the_decision_timeout() {
    let (world, _pratique, url) = warm("[limits]\ndecision_timeout = \"4s\"\n").await;
    let hanging = world.registry.fault(|_| true, Fault::Hang);
    let began = Instant::now();
    for what in ["manifests/unseen", "tags/list"] {
        let answer = get(&format!("{}/{what}", url.trim_end_matches("/manifests"))).await;
        assert_eq!(answer.status, 503, "{what}: {}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    hanging.clear();
    assert_eq!(get(&format!("{url}/unseen")).await.status, 404);
}

#[tokio::test]
async fn a_tag_under_a_limited_rate_is_stale_and_an_unseen_one_429_and_upstream_is_asked_once() {
    // Looked up for nobody else, as above.
    let (world, pratique, url) = warm("[tags]\nttl = \"1ms\"\nrefresh = \"never\"\n").await;
    world.registry.fault(|_| true, Fault::too_many_requests(7));
    world.registry.clear_calls();
    for _ in 0..10 {
        let stale = get(&format!("{url}/latest")).await;
        assert_eq!(stale.status, 200);
        assert!(stale.header("warning").is_some_and(|warning| warning.ends_with("upstream limits our rate\"")));
    }
    for other in ["nginx/manifests/unseen", "other/manifests/latest", "nginx/tags/list"] {
        let answer = get(&format!("{}/v2/chainguard/{other}", pratique.url())).await;
        assert_eq!(answer.status, 429, "{other}: {}", answer.text());
        let patience: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=7).contains(&patience), "{patience}");
    }
    assert_eq!(world.registry.calls().len(), 1, "nobody else asks before the time that upstream named");
}

#[tokio::test]
async fn many_clients_of_one_tag_cost_one_head() {
    let world = World::new().await;
    world.push_signed("chainguard/nginx", "latest", &sized(1000, 1));
    let head = world.registry.fault(Call::is_head, Fault::Hang);
    let pratique = world.pratique(&Setup::default()).await;
    let url = format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url());
    let released = async {
        head.hit(1).await.unwrap();
        head.release();
    };
    let (answers, ()) = tokio::join!(join_all((0..32).map(|_| get(&url))), released);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(world.registry.count(Call::is_head), 1);
}

#[tokio::test]
async fn the_digest_that_a_head_told_is_there_for_the_whole_pull() {
    let world = World::new().await;
    let (image, next) = (sized(1000, 1), sized(1000, 2));
    world.push_signed("chainguard/nginx", "latest", &image);
    // Else it would be asked for while we look whether anything is.
    let setup = Setup::default().sections("[tags]\nttl = \"1ms\"\nrefresh = \"never\"\n");
    let pratique = world.pratique(&setup).await;
    let url = format!("{}/v2/chainguard/nginx", pratique.url());
    let head = Client::plain().head(&format!("{url}/manifests/latest"), &[]).await.unwrap();
    assert_eq!(head.header("docker-content-digest"), Some(image.digest.to_string().as_str()));
    world.push_signed("chainguard/nginx", "latest", &next);
    world.registry.delete_manifest("chainguard/nginx", &image.digest);
    assert_eq!(get(&format!("{url}/manifests/latest")).await.received(), &next.manifest);
    world.registry.clear_calls();
    assert_eq!(get(&format!("{url}/manifests/{}", image.digest)).await.received(), &image.manifest);
    assert!(world.registry.calls().is_empty());
    for (digest, bytes) in &image.blobs {
        assert_eq!(get(&format!("{url}/blobs/{digest}")).await.received(), bytes);
    }
}

#[tokio::test]
async fn a_tag_in_use_is_refreshed_with_its_evidence_before_its_time_is_over_and_one_that_is_not_is_left_alone() {
    let world = World::new().await;
    let (image, next) = (sized(1000, 1), sized(1000, 2));
    world.push_signed("chainguard/nginx", "latest", &image);
    let (time, clock) = moved_by_hand(1_790_000_000_000);
    let setup = Setup::default().sections("[tags]\nttl = \"1h\"\n");
    let pratique = world.try_pratique(&setup, clock).await.unwrap();
    let app = &pratique.server.app;
    let url = format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url());
    let pass = |minutes: u64| time.fetch_add(minutes * 60_000, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(get(&url).await.received(), &image.manifest);
    world.push_signed("chainguard/nginx", "latest", &next);
    world.registry.clear_calls();
    pass(40);
    proxy::refresh::round(app).await;
    assert!(world.registry.calls().is_empty(), "its time is not nearly over");
    pass(10);
    proxy::refresh::round(app).await;
    assert_eq!(world.registry.count(Call::is_head), 1);
    world.registry.clear_calls();
    pass(50);
    // By now it would have had to be asked for; the answer is here instead, and judged.
    let answer = get(&url).await;
    assert_eq!((answer.received(), answer.header("warning")), (&next.manifest, None));
    assert!(world.registry.calls().is_empty(), "{:?}", world.registry.calls());
    pass(61);
    proxy::refresh::round(app).await;
    assert!(world.registry.calls().is_empty(), "nobody has asked for it for an hour");
}

#[tokio::test]
async fn a_tag_is_not_refreshed_where_upstream_limits_our_rate_or_the_operator_says_never() {
    for (never, limited) in [(false, false), (true, false), (false, true)] {
        let world = World::new().await;
        world.push_signed("chainguard/nginx", "latest", &sized(1000, 1));
        let (time, clock) = moved_by_hand(1_790_000_000_000);
        let refresh = if never { "refresh = \"never\"" } else { "" };
        let setup = Setup::default().sections(&format!("[tags]\nttl = \"1h\"\n{refresh}\n"));
        let pratique = world.try_pratique(&setup, clock).await.unwrap();
        let url = format!("{}/v2/chainguard/nginx", pratique.url());
        assert_eq!(get(&format!("{url}/manifests/latest")).await.status, 200);
        if limited {
            world.registry.fault(Call::is_tags, Fault::too_many_requests(600));
            assert_eq!(get(&format!("{url}/tags/list")).await.status, 429);
        }
        world.registry.clear_calls();
        time.fetch_add(55 * 60_000, std::sync::atomic::Ordering::SeqCst);
        proxy::refresh::round(&pratique.server.app).await;
        let wanted = usize::from(!never && !limited);
        assert_eq!(world.registry.count(Call::is_head), wanted, "never {never}, limited {limited}");
    }
}

/// The other's tag is refreshed again and again while this one's is still waited for.
#[tokio::test]
async fn an_upstream_that_does_not_answer_keeps_no_other_s_tags_from_being_refreshed() {
    let (world, hanging) = (World::new().await, Registry::builder().start().await.unwrap());
    world.push_signed("chainguard/nginx", "latest", &sized(1000, 1));
    sized(1000, 2).push(&hanging, "nginx", Some("latest"));
    let policies =
        chainguard_policy("ours", "cgr.dev/**") + "---\n" + &static_policy("theirs", "mirror.example/**", "pass");
    let more = format!(
        "[tags]\nttl = \"500ms\"\n[[upstreams]]\nname = \"mirror.example\"\nurl = \"{}\"\nprefix = \"mirror\"\n",
        hanging.url()
    );
    let pratique = world.pratique(&Setup::with_policy(&policies).sections(&more)).await;
    let manifest = |name: &str| format!("{}/v2/{name}/manifests/latest", pratique.url());
    for name in ["chainguard/nginx", "mirror/nginx"] {
        assert_eq!(get(&manifest(name)).await.status, 200);
    }
    let hung = hanging.fault(Call::is_head, Fault::Hang);
    hung.hit(1).await.unwrap();
    world.registry.clear_calls();
    world.registry.called(3, Call::is_head).await.unwrap();
    assert_eq!(hung.hits(), 1, "all that time it is waited for");
    hung.clear();
}
