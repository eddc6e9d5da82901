//! The protocol: what every client relies on, whatever the policy.

use http::Method;
use oci::{Digest, MediaType};
use support::{
    client::Client,
    image,
    pull::{message, pull},
    upstream::{Call, Fault},
    world::{Setup, World},
};

use crate::{get, sized};

#[tokio::test]
async fn head_and_get_agree_and_accept_changes_nothing() {
    let world = World::new().await;
    let index = image::index([sized(10, 1), image::single("linux/arm64", [support::upstream::noise(11, 2)])]);
    world.push_signed("chainguard/nginx", "latest", &index);
    let pratique = world.pratique(&Setup::default()).await;
    let (client, url) = (Client::plain(), pratique.url());
    for reference in ["latest".to_owned(), index.digest.to_string()] {
        let address = format!("{url}/v2/chainguard/nginx/manifests/{reference}");
        // Docker 20.10 sends six lines, crane one type only: neither decides anything.
        let lines =
            [("accept", MediaType::DOCKER_LIST), ("accept", MediaType::OCI_INDEX), ("accept", "application/json")];
        let whole = client.get(&address, &lines).await.unwrap();
        let narrow =
            client.get(&address, &[("accept", MediaType::DOCKER_MANIFEST), ("range", "bytes=0-")]).await.unwrap();
        let head = client.head(&address, &[]).await.unwrap();
        for answer in [&whole, &narrow, &head] {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), Some(MediaType::OCI_INDEX));
            assert_eq!(answer.header("docker-content-digest"), Some(index.digest.to_string().as_str()));
            assert_eq!(answer.header("content-length"), Some(index.manifest.len().to_string().as_str()));
            assert_eq!(answer.header("content-encoding"), None);
            assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        }
        assert_eq!(whole.received(), &index.manifest);
        assert_eq!(narrow.received(), &index.manifest);
        assert!(head.received().is_empty());
    }
}

#[tokio::test]
async fn every_child_and_every_config_of_an_admitted_index_is_served() {
    let world = World::new().await;
    let index = image::index([sized(10, 1), image::single("linux/arm64", [support::upstream::noise(11, 2)])]);
    // Only the index is signed: its children come in through it.
    index.push(&world.registry, "chainguard/nginx", Some("latest"));
    let signature = world.sigstore.sign_legacy(
        &support::sigstore::Signer::chainguard(),
        "cgr.dev/chainguard/nginx",
        &index.digest,
        &support::sigstore::Options::default(),
    );
    image::signature_manifest(&[signature]).push(
        &world.registry,
        "chainguard/nginx",
        Some(&image::cosign_tag(&index.digest, "sig")),
    );
    let pratique = world.pratique(&Setup::default()).await;
    let pulled = pull(&Client::plain(), &pratique.url(), "chainguard/nginx", "latest").await.unwrap();
    assert_eq!((pulled.manifests.len(), pulled.blobs.len()), (3, 4));
    assert_eq!(pulled.manifests[0].1, index.manifest);
}

#[tokio::test]
async fn a_child_asked_for_cold_is_judged_by_its_own_evidence() {
    let world = World::new().await;
    let (signed, unsigned) = (sized(10, 1), image::single("linux/arm64", [support::upstream::noise(11, 2)]));
    let index = image::index([signed.clone(), unsigned.clone()]);
    index.push(&world.registry, "chainguard/nginx", Some("latest"));
    world.sign(
        "chainguard/nginx",
        &signed,
        &support::sigstore::Signer::chainguard(),
        &support::sigstore::Options::default(),
    );
    let pratique = world.pratique(&Setup::default()).await;
    let manifest = |digest: &Digest| format!("{}/v2/chainguard/nginx/manifests/{digest}", pratique.url());
    assert_eq!(get(&manifest(&unsigned.digest)).await.status, 403);
    assert_eq!(get(&manifest(&signed.digest)).await.status, 200);
    // The index itself has no signature: its signed child does not open it.
    assert_eq!(get(&manifest(&index.digest)).await.status, 403);
}

#[tokio::test]
async fn blob_ranges_are_single_open_suffix_and_clipped() {
    let world = World::new().await;
    let image = sized(3000, 3);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&Setup::default()).await;
    let client = Client::plain();
    let (digest, bytes) = image.layers()[0].clone();
    let address = format!("{}/v2/chainguard/nginx/blobs/{digest}", pratique.url());
    assert_eq!(get(&address).await.status, 404, "no manifest has been asked for yet: nothing reaches the blob");
    assert_eq!(get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await.status, 200);
    for round in ["cold", "warm"] {
        for (range, want) in [
            ("500-1499", 500..1500),
            ("500-", 500..3000),
            ("-500", 2500..3000),
            ("2000-5000", 2000..3000),
            ("0-", 0..3000),
        ] {
            let answer = client.get_range(&address, range).await.unwrap();
            assert_eq!(answer.status, 206, "{round} {range}");
            assert_eq!(answer.received(), &bytes.slice(want.clone()), "{round} {range}");
            let told = format!("bytes {}-{}/3000", want.start, want.end - 1);
            assert_eq!(answer.header("content-range"), Some(told.as_str()));
        }
        for range in ["500-0", "5000-10000", "3000-", "-0", "x"] {
            let answer = client.get_range(&address, range).await.unwrap();
            assert_eq!(answer.status, 416, "{round} {range}");
            assert_eq!(answer.header("content-range"), Some("bytes */3000"));
            assert_eq!(answer.header("content-length"), Some(answer.received().len().to_string().as_str()));
        }
        let several = client.get_range(&address, "0-1,5-6").await.unwrap();
        assert_eq!(several.status, 206, "{round}");
        assert!(several.header("content-type").unwrap().starts_with("multipart/byteranges; boundary="), "{round}");
        for whole in ["5-6,0-1", "0-9,5-12"] {
            let several = client.get_range(&address, whole).await.unwrap();
            assert_eq!((several.status.as_u16(), several.received()), (200, &bytes), "{round} {whole}");
        }
    }
    let head = client.head(&address, &[]).await.unwrap();
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, Some("3000")));
    assert_eq!(head.header("docker-content-digest"), Some(digest.to_string().as_str()));
}

#[tokio::test]
async fn the_base_lists_and_errors_are_what_the_specification_says() {
    let world = World::new().await;
    let image = sized(5, 4);
    for tag in ["a", "b", "c"] {
        world.push_signed("chainguard/nginx", tag, &image);
    }
    let pratique = world.pratique(&Setup::default()).await;
    let (client, url) = (Client::plain(), pratique.url());
    let base = get(&format!("{url}/v2/")).await;
    assert_eq!((base.status.as_u16(), base.header("docker-distribution-api-version")), (200, Some("registry/2.0")));

    let tags = get(&format!("{url}/v2/chainguard/nginx/tags/list")).await;
    let listed: serde_json::Value = serde_json::from_str(&tags.text()).unwrap();
    assert_eq!(listed["name"], "chainguard/nginx");
    assert!(["a", "b", "c"].iter().all(|tag| listed["tags"].as_array().unwrap().iter().any(|t| t == tag)));
    let page = get(&format!("{url}/v2/chainguard/nginx/tags/list?n=1&last=a")).await;
    assert_eq!(page.text(), r#"{"name":"chainguard/nginx","tags":["b"]}"#);
    assert_eq!(page.header("link"), Some("</v2/chainguard/nginx/tags/list?n=1&last=b>; rel=\"next\""));
    let none = get(&format!("{url}/v2/chainguard/nginx/tags/list?n=0")).await;
    assert_eq!((none.text().as_str(), none.header("link")), (r#"{"name":"chainguard/nginx","tags":[]}"#, None));
    // A repository that no policy matches tells nothing under no_match = deny.
    let other = get(&format!("{url}/v2/other/nginx/tags/list")).await;
    assert_eq!((other.status.as_u16(), message(&other).contains("no policy matches")), (403, true));

    for (path, status, code) in [
        ("/v2/chainguard/nginx/manifests/nosuchtag", 404, "MANIFEST_UNKNOWN"),
        ("/v2/chainguard/nginx/manifests/sha256:bad", 400, "DIGEST_INVALID"),
        ("/v2/Chainguard/nginx/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/chainguard/nginx/manifests/latest?ns=evil.example", 404, "NAME_UNKNOWN"),
        ("/v2/_catalog", 404, "NOT_FOUND"),
        ("/v2/chainguard/nginx/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
    ] {
        let answer = get(&format!("{url}{path}")).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains(&format!("\"code\":\"{code}\"")), "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let answer =
            client.open(method, &format!("{url}/v2/chainguard/nginx/blobs/uploads/"), &[]).await.unwrap().whole().await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET, HEAD")));
        assert!(answer.text().contains("UNSUPPORTED"));
    }
}

#[tokio::test]
async fn a_namespace_is_told_back_and_chooses_the_upstream() {
    let world = World::new().await;
    world.push_signed("chainguard/nginx", "latest", &sized(5, 5));
    let pratique = world.pratique(&Setup::default()).await;
    let answer = get(&format!("{}/v2/chainguard/nginx/manifests/latest?ns=cgr.dev", pratique.url())).await;
    assert_eq!((answer.status.as_u16(), answer.header("oci-namespace")), (200, Some("cgr.dev")));
    let twice = get(&format!("{}/v2/chainguard/nginx/manifests/latest?ns=cgr.dev&ns=cgr.dev", pratique.url())).await;
    assert_eq!(twice.status, 404);
}

#[tokio::test]
async fn a_digest_hit_costs_upstream_nothing() {
    let world = World::new().await;
    let image = sized(100_000, 6);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&Setup::default()).await;
    let (client, reference) = (Client::plain(), image.digest.to_string());
    pull(&client, &pratique.url(), "chainguard/nginx", &reference).await.unwrap();
    world.registry.clear_calls();
    for _ in 0..3 {
        pull(&client, &pratique.url(), "chainguard/nginx", &reference).await.unwrap();
    }
    assert_eq!(world.registry.calls().len(), 0);
}

/// All tags of `chainguard/nginx` as a client gets them that follows our links, and in how many pages.
async fn listed(url: &str) -> (Vec<String>, usize) {
    let (mut listed, mut pages) = (Vec::new(), 0);
    let mut next = Some("/v2/chainguard/nginx/tags/list".to_owned());
    while let Some(path) = next {
        let answer = get(&format!("{url}{path}")).await;
        assert_eq!(answer.status, 200, "{path}");
        let page: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
        listed.extend(page["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()));
        next = answer.header("link").map(|link| {
            let path = link.strip_prefix('<').and_then(|link| link.split('>').next()).unwrap();
            assert!(path.starts_with("/v2/chainguard/nginx/tags/list?"), "{link}");
            path.to_owned()
        });
        pages += 1;
        assert!(pages <= 100, "{pages} pages");
    }
    (listed, pages)
}

#[tokio::test]
async fn a_list_whose_next_page_is_elsewhere_is_listed_to_its_end() {
    for link in ["<https://evil.example/v2/chainguard/nginx/tags/list?last=b>; rel=\"next\"", "nonsense"] {
        let world = World::with(support::upstream::Registry::builder().tags_page_max(2)).await;
        let image = sized(5, 1);
        // And the tag of its signature, the last of five.
        world.push_signed("chainguard/nginx", "a", &image);
        for tag in ["b", "c", "d"] {
            world.registry.put_tag("chainguard/nginx", tag, &image.digest);
        }
        let pages = |call: &Call| call.path.ends_with("/tags/list");
        world.registry.fault(pages, Fault::header("link", link)).times(2);
        let pratique = world.pratique(&Setup::default()).await;
        let (tags, pages) = listed(&pratique.url()).await;
        assert_eq!((&tags[..4], tags.len(), pages), (&["a", "b", "c", "d"].map(String::from)[..], 5, 3), "{link}");
    }
}

#[tokio::test]
async fn a_list_of_tags_that_leads_nowhere_is_502_and_not_a_short_one() {
    let world = World::new().await;
    world.push_signed("chainguard/nginx", "a", &sized(5, 1));
    let pages = |call: &Call| call.path.ends_with("/tags/list");
    world.registry.fault(pages, Fault::header("link", "<https://evil.example/>; rel=\"next\""));
    world.registry.fault(pages, Fault::instead("application/json", r#"{"tags":[7]}"#));
    let pratique = world.pratique(&Setup::default()).await;
    let answer = get(&format!("{}/v2/chainguard/nginx/tags/list", pratique.url())).await;
    assert_eq!((answer.status.as_u16(), answer.text().contains("evil")), (502, false), "{}", answer.text());
}

#[tokio::test]
async fn ten_thousand_tags_are_listed_page_by_page_each_once() {
    const TAGS: usize = 10_000;
    let world = World::with(support::upstream::Registry::builder().tags_page_max(1000)).await;
    let image = sized(5, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    for number in 0..TAGS {
        world.registry.put_tag("chainguard/nginx", &format!("t{number:05}"), &image.digest);
    }
    let pratique = world.pratique(&Setup::default()).await;
    let (listed, pages) = listed(&pratique.url()).await;
    assert!(pages <= TAGS / 1000 + 2, "{pages} pages");
    let tags: Vec<_> = listed.iter().filter(|tag| tag.starts_with('t')).collect();
    assert_eq!(tags.len(), TAGS);
    assert!(tags.windows(2).all(|pair| pair[0] < pair[1]), "each once");
    world.registry.clear_calls();
    for query in ["n=1000000000000000000", "last=nosuch", "last=zzz&n=3"] {
        assert_eq!(
            get(&format!("{}/v2/chainguard/nginx/tags/list?{query}", pratique.url())).await.status,
            200,
            "{query}"
        );
    }
    assert_eq!(world.registry.count(|call| call.query.contains("1000000000000000000")), 0, "as large as it may be");
}

/// An upstream that says all it has, where nobody says how many.
#[tokio::test]
async fn more_than_ten_thousand_tags_are_told_in_pages_to_who_asks_for_no_number_too() {
    let world = World::with(support::upstream::Registry::builder().tags_page_max(100_000)).await;
    let image = sized(5, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    for number in 0..10_005 {
        world.registry.put_tag("chainguard/nginx", &format!("t{number:05}"), &image.digest);
    }
    let pratique = world.pratique(&Setup::default()).await;
    let answer = get(&format!("{}/v2/chainguard/nginx/tags/list", pratique.url())).await;
    let document: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    let tags = document["tags"].as_array().unwrap();
    assert_eq!(tags.len(), 10_000);
    let last = tags.last().unwrap().as_str().unwrap();
    assert_eq!(
        answer.header("link"),
        Some(format!("</v2/chainguard/nginx/tags/list?n=10000&last={last}>; rel=\"next\"").as_str())
    );
}
