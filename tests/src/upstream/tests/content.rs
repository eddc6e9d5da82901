//! Manifests, blobs, tags and referrers.

use oci::Digest;

use super::{IMAGE, MANIFEST, get, plain};
use crate::client::Client;
use crate::upstream::{Call, Referrers, Registry, noise};

#[tokio::test]
async fn head_and_get_of_a_manifest_agree_by_tag_and_by_digest() {
    let registry = plain().await;
    let digest = Digest::sha256(MANIFEST).to_string();
    for reference in ["one", &digest] {
        let url = format!("{}/v2/team/app/manifests/{reference}", registry.url());
        let get = Client::plain().get(&url, &[]).await.unwrap();
        let head = Client::plain().head(&url, &[]).await.unwrap();
        assert_eq!(get.status, 200);
        assert_eq!(get.body.as_ref().unwrap(), MANIFEST);
        assert_eq!(get.header("docker-content-digest"), Some(digest.as_str()));
        assert_eq!(get.header("content-type"), Some(IMAGE));
        assert_eq!(head.status, 200);
        assert!(head.body.unwrap().is_empty());
        for name in ["docker-content-digest", "content-type", "content-length"] {
            assert_eq!(get.headers.get(name), head.headers.get(name), "{name}");
        }
    }
    assert_eq!(registry.count(Call::is_head), 2);
    assert_eq!(registry.count(|call| call.is_get() && call.is_manifest()), 2);
    registry.clear_calls();
    assert!(registry.calls().is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_404_and_writing_is_405() {
    let registry = plain().await;
    let nowhere = Digest::sha256(b"nowhere");
    for path in [
        "team/app/manifests/two".to_owned(),
        "team/other/manifests/one".to_owned(),
        format!("team/app/manifests/{nowhere}"),
        format!("team/app/blobs/{nowhere}"),
        "team/other/tags/list".to_owned(),
        "_catalog".to_owned(),
    ] {
        assert_eq!(get(&registry, &path).await.status, 404, "{path}");
    }
    let url = format!("{}/v2/team/app/manifests/one", registry.url());
    let put = Client::plain().open(http::Method::PUT, &url, &[]).await;
    assert_eq!(put.unwrap().status, 405);
}

#[tokio::test]
async fn a_manifest_of_a_type_that_is_not_accepted_is_404_as_at_distribution() {
    let registry = plain().await;
    let url = format!("{}/v2/team/app/manifests/one", registry.url());
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let client = Client::plain();
    let refused = client.get(&url, &[("accept", docker)]).await.unwrap();
    assert_eq!(refused.status, 404);
    let both = [("accept", docker), ("accept", IMAGE)];
    assert_eq!(client.get(&url, &both).await.unwrap().status, 200);
}

#[tokio::test]
async fn deleted_and_moved_tags_are_seen_at_once() {
    let registry = plain().await;
    let other = registry.put_manifest("team/app", Some("two"), IMAGE, "{}");
    registry.put_tag("team/app", "one", &other);
    let answer = get(&registry, "team/app/manifests/one").await;
    assert_eq!(answer.text(), "{}");
    registry.delete_tag("team/app", "one");
    assert_eq!(get(&registry, "team/app/manifests/one").await.status, 404);
    assert_eq!(get(&registry, "team/app/manifests/two").await.status, 200);
    registry.delete_manifest("team/app", &other);
    assert_eq!(get(&registry, "team/app/manifests/two").await.status, 404);
    assert!(registry.manifest("team/app", "two").is_err());
}

#[tokio::test]
async fn a_blob_is_served_whole_and_in_ranges_from_its_own_repository_alone() {
    let registry = plain().await;
    let blob = noise(2500, 1);
    let digest = registry.put_blob("team/app", blob.clone());
    let url = format!("{}/v2/team/app/blobs/{digest}", registry.url());
    let client = Client::plain();

    let whole = client.get(&url, &[]).await.unwrap();
    assert_eq!(whole.status, 200);
    assert_eq!(whole.body.unwrap(), blob);

    let part = client.get_range(&url, "2000-5000").await.unwrap();
    assert_eq!(part.status, 206);
    assert_eq!(part.header("content-range"), Some("bytes 2000-2499/2500"));
    assert_eq!(part.header("content-length"), Some("500"));
    assert_eq!(part.body.unwrap(), blob.slice(2000..));

    let beyond = client.get_range(&url, "2500-").await.unwrap();
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some("bytes */2500"));

    let elsewhere = get(&registry, &format!("team/other/blobs/{digest}")).await;
    assert_eq!(elsewhere.status, 404);
}

#[tokio::test]
async fn a_registry_that_ignores_ranges_answers_with_the_whole_blob() {
    let registry = Registry::builder().ignore_ranges().start().await.unwrap();
    let digest = registry.put_blob("team/app", noise(100, 1));
    let url = format!("{}/v2/team/app/blobs/{digest}", registry.url());
    let answer = Client::plain().get_range(&url, "10-19").await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.unwrap().len(), 100);
}

#[tokio::test]
async fn content_can_be_held_under_a_digest_that_is_not_its_own() {
    let registry = plain().await;
    let wanted = Digest::sha256(b"wanted");
    registry.put_blob_as("team/app", &wanted, "tampered");
    let answer = get(&registry, &format!("team/app/blobs/{wanted}")).await;
    assert_eq!(answer.text(), "tampered");
    assert_eq!(registry.blob("team/app", &wanted).unwrap(), "tampered");
    registry.delete_blob("team/app", &wanted);
    assert!(registry.blob("team/app", &wanted).is_err());
}

#[tokio::test]
async fn tags_come_in_pages_in_order_with_a_link_to_the_next() {
    let registry = Registry::builder().tags_page_max(2).start().await.unwrap();
    let digest = registry.put_manifest("team/app", None, IMAGE, MANIFEST);
    for tag in ["b", "a", "C", "d", "e"] {
        registry.put_tag("team/app", tag, &digest);
    }
    let mut path = "/v2/team/app/tags/list?n=3".to_owned();
    let mut pages = Vec::new();
    loop {
        let url = format!("{}{path}", registry.url());
        let page = Client::plain().get(&url, &[]).await.unwrap();
        let document: serde_json::Value = serde_json::from_slice(page.received()).unwrap();
        pages.push(document["tags"].to_string());
        match page.header("link") {
            Some(link) => path = next(link),
            None => break,
        }
    }
    assert_eq!(pages, [r#"["C","a"]"#, r#"["b","d"]"#, r#"["e"]"#]);

    let none = get(&registry, "team/app/tags/list?n=0").await;
    assert_eq!(none.text(), r#"{"name":"team/app","tags":[]}"#);
    assert_eq!(none.header("link"), None);
    let last = get(&registry, "team/app/tags/list?last=d").await;
    assert_eq!(last.text(), r#"{"name":"team/app","tags":["e"]}"#);
    assert_eq!(get(&registry, "team/app/tags/list?n=-1").await.status, 400);
}

#[tokio::test]
async fn referrers_come_in_pages_and_filtered() {
    let registry = Registry::builder().referrers(Referrers::Paged(2)).start().await.unwrap();
    let subject = Digest::sha256(b"subject");
    for (number, kind) in ["x/sbom", "x/sig", "x/sig", "x/sig"].iter().enumerate() {
        put_referrer(&registry, &subject, kind, number);
    }
    let path = format!("team/app/referrers/{subject}?artifactType=x%2Fsig");
    let first = get(&registry, &path).await;
    assert_eq!(first.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(kinds(&first.text()), ["x/sig", "x/sig"]);
    let url = format!("{}{}", registry.url(), next(first.header("link").unwrap()));
    let second = Client::plain().get(&url, &[]).await.unwrap();
    assert_eq!(kinds(&second.text()), ["x/sig"]);
    assert_eq!(second.header("link"), None);

    let all = get(&registry, &format!("team/app/referrers/{subject}")).await;
    assert_eq!(all.header("oci-filters-applied"), None);
    assert!(all.header("link").is_some());
    let unknown = Digest::sha256(b"unknown");
    let none = get(&registry, &format!("team/app/referrers/{unknown}")).await;
    assert_eq!(none.status, 200);
    assert!(kinds(&none.text()).is_empty());
}

#[tokio::test]
async fn without_the_referrers_api_the_tag_is_what_is_left() {
    let registry = Registry::builder().referrers(Referrers::Missing).start().await.unwrap();
    let subject = Digest::sha256(b"subject");
    put_referrer(&registry, &subject, "x/sig", 0);
    let api = get(&registry, &format!("team/app/referrers/{subject}")).await;
    assert_eq!(api.status, 404);
    registry.put_referrers_tag("team/app", &subject);
    let tag = format!("team/app/manifests/sha256-{}", subject.hex());
    let fallback = get(&registry, &tag).await;
    assert_eq!(kinds(&fallback.text()), ["x/sig"]);
}

fn put_referrer(registry: &Registry, subject: &Digest, kind: &str, number: usize) {
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "artifactType": kind,
        "annotations": {"number": number.to_string()},
        "subject": {"mediaType": IMAGE, "digest": subject.to_string(), "size": 7},
    });
    registry.put_manifest("team/app", None, IMAGE, manifest.to_string());
}

/// The artifact types in an index.
fn kinds(index: &str) -> Vec<String> {
    let index: serde_json::Value = serde_json::from_str(index).unwrap();
    index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|descriptor| descriptor["artifactType"].as_str().unwrap().to_owned())
        .collect()
}

/// The target of a `Link` header.
fn next(link: &str) -> String {
    let target = link.strip_suffix(r#">; rel="next""#).unwrap();
    target.strip_prefix('<').unwrap().to_owned()
}
