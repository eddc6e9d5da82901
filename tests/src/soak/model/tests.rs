//! The law notices what must never be: each answer here differs from a right one in the one thing that its line says.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use oci::{Addressed, Algorithm, Digest};
use serde_json::{Value, json};
use storage::Store;
use tokio::time::{Instant, sleep};

use super::{
    client::{Got, Outcome},
    law::{Law, Seen},
    operation::{Operation, Span, What},
    record::Record,
    world::{Held, World, secrets},
};
use crate::image::cosign_tag;

const APP: &str = "chainguard/app";
const HIDDEN: &str = "hidden/app";

/// The law over a world in which nothing has happened.
struct Court {
    world: Arc<World>,
    record: Arc<Record>,
    store: Store,
    law: Law,
}

impl Court {
    fn opens() -> Self {
        let (world, store) = (Arc::new(World::mint(1)), Store::in_memory(1).unwrap());
        let record = Arc::new(Record::new(Arc::clone(&world)));
        let law = Law::new(Arc::clone(&world), Arc::clone(&record), store.clone());
        Self { world, record, store, law }
    }

    fn held(&self, repository: &str, tag: &str) -> &Held {
        self.world.in_it(0, repository).find(|held| held.tag.as_deref() == Some(tag)).expect(tag)
    }

    fn app(&self, tag: &str) -> &Held {
        self.held(APP, tag)
    }

    /// The manifest under a tag of evidence of what has that tag.
    fn signature(&self, tag: &str) -> &Held {
        self.app(&cosign_tag(&self.app(tag).image.digest, "sig"))
    }

    /// What the law says to this answer.
    async fn says(&self, operation: &Operation, outcome: &Outcome) -> String {
        let now = Instant::now();
        self.law.judge(&Seen { operation, began: now, head_at: now }, outcome).await;
        self.record.take().1.join("\n")
    }

    /// Right where nothing is `wrong`, and else just that.
    async fn finds(&self, wrong: &str, operation: &Operation, got: Got) {
        let (line, said) = (format!("{operation:?} {got:?}"), self.says(operation, &Outcome::Answer(got)).await);
        assert!(if wrong.is_empty() { said.is_empty() } else { said.contains(wrong) }, "{wrong:?}, {said:?}: {line}");
    }
}

fn tag(held: &Held, tag: &str) -> Operation {
    Operation::plain(held, What::Tag(tag.to_owned()))
}

fn digest(held: &Held) -> Operation {
    Operation::plain(held, What::Manifest(held.image.digest.clone()))
}

fn got(status: StatusCode, headers: &[(&'static str, &str)], body: Bytes) -> Got {
    let header = |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
    Got { status, headers: headers.iter().map(header).collect::<HeaderMap>(), body, is_complete: true }
}

fn content(digest: &Digest, media_type: &str, bytes: &Bytes) -> Got {
    let (digest, length) = (digest.to_string(), bytes.len().to_string());
    let headers =
        [("docker-content-digest", digest.as_str()), ("content-type", media_type), ("content-length", &length)];
    got(StatusCode::OK, &headers, bytes.clone())
}

fn manifest(held: &Held) -> Got {
    content(&held.image.digest, held.image.media_type.as_str(), &held.image.manifest)
}

fn blob((digest, bytes): &(Digest, Bytes)) -> Got {
    content(digest, "application/octet-stream", bytes)
}

fn list(document: &Value) -> Got {
    got(StatusCode::OK, &[], document.to_string().into())
}

fn with(mut got: Got, name: &'static str, value: &str) -> Got {
    got.headers.insert(name, value.parse().unwrap());
    got
}

fn broken_off(mut got: Got, bytes: &'static [u8]) -> Got {
    (got.body, got.is_complete) = (Bytes::from_static(bytes), false);
    got
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_in_time_with_a_status_that_there_is() {
    let court = Court::opens();
    let release = court.app("stable");
    let (by_digest, now) = (digest(release), Instant::now());
    court.finds("", &by_digest, got(StatusCode::NOT_FOUND, &[], Bytes::new())).await;
    court.finds("not a status", &by_digest, got(StatusCode::INTERNAL_SERVER_ERROR, &[], Bytes::new())).await;
    assert!(court.says(&by_digest, &Outcome::Stuck).await.contains("never came to an end"));
    assert!(court.says(&by_digest, &Outcome::Lost).await.contains("there was no answer"));
    let late = Seen { operation: &by_digest, began: now, head_at: now + Duration::from_secs(23) };
    court.law.judge(&late, &Outcome::Answer(manifest(release))).await;
    assert!(court.record.take().1.concat().contains("the head came after"));
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_noticed_in_the_headers_of_every_answer_and_in_what_is_no_content() {
    let court = Court::opens();
    let (tags, secret) = (Operation::plain(court.app("stable"), What::Tags), secrets(0).remove(0));
    for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
        let answer = |warning, body: &str| {
            let got = got(status, &[("warning", warning)], Bytes::copy_from_slice(body.as_bytes()));
            Got { is_complete: false, ..got }
        };
        court.finds("", &tags, answer("x", "x")).await;
        court.finds("tells a secret", &tags, answer(&secret, "x")).await;
        court.finds("tells a secret", &tags, answer("x", &secret)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_admitted_in_its_repository_and_served_as_it_is() {
    let court = Court::opens();
    let (release, bare) = (court.app("stable"), court.app("bare"));
    let (vaulted, ours) = (court.held("vault/app", "latest"), digest(release));
    let elsewhere = Operation { repository: APP, ..digest(vaulted) };
    let head = Operation { method: Method::HEAD, ..digest(release) };
    for (wrong, operation, got) in [
        ("", &ours, manifest(release)),
        ("", &ours, broken_off(manifest(release), b"{")),
        ("", &head, Got { body: Bytes::new(), ..manifest(release) }),
        ("HEAD has a body", &head, manifest(release)),
        ("is not admitted", &digest(bare), manifest(bare)),
        ("no manifest of that repository", &elsewhere, manifest(vaulted)),
        ("was served instead", &ours, manifest(court.app("edge"))),
        ("no digest is told", &ours, got(StatusCode::OK, &[], Bytes::new())),
        ("no status of a manifest", &ours, Got { status: StatusCode::PARTIAL_CONTENT, ..manifest(release) }),
        ("its type is told", &ours, with(manifest(release), "content-type", "text/html")),
        ("its length is told", &ours, with(manifest(release), "content-length", "1")),
        ("other bytes", &ours, Got { body: "{}".into(), ..manifest(release) }),
        ("other bytes", &ours, Got { body: release.image.manifest.slice(1..), ..manifest(release) }),
        ("other bytes", &ours, broken_off(manifest(release), b"}")),
    ] {
        court.finds(wrong, operation, got).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_already_is_told_to_who_holds_it_alone() {
    let court = Court::opens();
    let (release, bare) = (court.app("stable"), court.app("bare"));
    let layer = &release.image.blobs[1];
    let of_layer = Operation::plain(release, What::Blob(layer.0.clone()));
    let not_modified = |got| Got { status: StatusCode::NOT_MODIFIED, body: Bytes::new(), ..got };
    let holding = |operation, digest: &Digest| Operation { holds: Some(digest.clone()), ..operation };
    for (wrong, operation, got) in [
        ("", holding(tag(release, "stable"), &release.image.digest), not_modified(manifest(release))),
        ("", holding(tag(release, "stable"), &bare.image.digest), manifest(release)),
        ("", holding(of_layer.clone(), &layer.0), not_modified(blob(layer))),
        ("does not hold it", tag(release, "stable"), not_modified(manifest(release))),
        ("does not hold it", of_layer, not_modified(blob(layer))),
        ("holds it already", holding(digest(release), &release.image.digest), manifest(release)),
        ("is not admitted", holding(digest(bare), &bare.image.digest), not_modified(manifest(bare))),
    ] {
        court.finds(wrong, &operation, got).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tag_leads_where_upstream_has_led_it_lately() {
    let court = Court::opens();
    let (release, both) = (court.app("stable"), court.app("edge"));
    let stable = tag(release, "stable");
    let believed = || with(manifest(release), "warning", "299 - \"tag as of 40 s ago: upstream is slow\"");
    let wrong = "is not where the tag has led";
    court.finds("", &stable, manifest(release)).await;
    court.finds(wrong, &stable, manifest(both)).await;
    court.record.moved(0, APP, "stable", &both.image.digest);
    court.finds("", &stable, manifest(both)).await;
    court.finds("", &stable, manifest(release)).await;
    sleep(Duration::from_secs(40)).await;
    court.finds("", &stable, manifest(both)).await;
    court.finds(wrong, &stable, manifest(release)).await;
    court.finds("", &stable, believed()).await;
    court.record.claimed(0, APP, "stable", &release.image.digest);
    court.finds("", &stable, manifest(release)).await;
    court.finds(wrong, &tag(release, "dup"), manifest(release)).await;
    sleep(Duration::from_secs(8000)).await;
    court.finds(wrong, &stable, believed()).await;
}

#[tokio::test(start_paused = true)]
async fn evidence_is_of_an_image_that_is_admitted() {
    let court = Court::opens();
    let (signature, refused) = (court.signature("stable"), court.signature("bare"));
    court.finds("", &digest(signature), manifest(signature)).await;
    court.finds("is not admitted", &digest(refused), manifest(refused)).await;
    // Who signed it is accepted no more; a lie shows it as evidence of another image, which is accepted or not.
    court.record.reloading(1);
    court.record.reloaded();
    sleep(Duration::from_secs(1)).await;
    let claimed =
        |tag| court.record.claimed(0, APP, &cosign_tag(&court.app(tag).image.digest, "sig"), &signature.image.digest);
    let its_blob = &signature.image.blobs[1];
    let blob_head = Operation { method: Method::HEAD, ..Operation::plain(signature, What::Blob(its_blob.0.clone())) };
    let head = || Got { body: Bytes::new(), ..blob(its_blob) };
    claimed("bare");
    court.finds("is not admitted", &digest(signature), manifest(signature)).await;
    court.finds("reaches it", &blob_head, head()).await;
    claimed("edge");
    court.finds("", &digest(signature), manifest(signature)).await;
    court.finds("", &blob_head, head()).await;
}

#[tokio::test(start_paused = true)]
async fn evidence_that_nobody_has_pushed_is_what_a_flipped_bit_makes_of_it() {
    let court = Court::opens();
    let (release, bare) = (court.app("stable"), court.app("bare"));
    let of = |image: &Held| cosign_tag(&image.image.digest, "sig");
    let made_of = |layer: &Digest| {
        let bytes = Bytes::from(json!({"layers": [{"digest": layer}]}).to_string());
        content(&Digest::sha256(&bytes), "application/vnd.oci.image.manifest.v1+json", &bytes)
    };
    let unknown = || made_of(&court.signature("stable").image.blobs[1].0);
    court.finds("upstream has never shown", &tag(release, &of(release)), unknown()).await;
    for image in [release, bare] {
        court.record.spoils(0, &format!("/v2/{APP}/manifests/{}", of(image)));
    }
    court.record.spoils(0, &format!("/v2/{APP}/manifests/stable"));
    for (wrong, operation, got) in [
        ("", tag(release, &of(release)), unknown()),
        ("is not admitted", tag(bare, &of(bare)), unknown()),
        ("no manifest of that repository", tag(release, "stable"), unknown()),
        ("other bytes", tag(release, &of(release)), Got { body: "{}".into(), ..unknown() }),
        ("a layer that is no evidence", tag(release, &of(release)), made_of(&release.image.blobs[1].0)),
    ] {
        court.finds(wrong, &operation, got).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_reached_from_what_is_admitted_and_right_when_it_is_complete() {
    let court = Court::opens();
    let (release, bare) = (court.app("stable"), court.app("bare"));
    let vaulted = court.held("vault/app", "latest");
    let layer = &release.image.blobs[1];
    let of = |held: &Held| Operation::plain(held, What::Blob(held.image.blobs[1].0.clone()));
    let head = Operation { method: Method::HEAD, ..of(release) };
    let part = Operation { range: Some(vec![Span::FromTo(0, 1)]), ..of(release) };
    let cut = |first: usize, range| {
        let body = layer.1.slice(first..first + 2);
        with(Got { status: StatusCode::PARTIAL_CONTENT, body, ..blob(layer) }, "content-range", range)
    };
    let range = format!("bytes 0-1/{}", layer.1.len());
    let early = "before the whole blob was known to be right";
    court.finds(early, &of(release), blob(layer)).await;
    court.finds(early, &part, cut(0, &range)).await;
    court.finds("", &of(release), broken_off(blob(layer), b"x")).await;
    court.store.blobs().put(&Addressed::hash(Algorithm::Sha256, layer.1.clone())).await.unwrap();
    for (wrong, operation, got) in [
        ("", &of(release), blob(layer)),
        ("", &part, cut(0, &range)),
        ("", &head, Got { body: Bytes::new(), ..blob(layer) }),
        ("reaches it", &of(bare), blob(&bare.image.blobs[1])),
        ("reaches it", &Operation { repository: APP, ..of(vaulted) }, blob(&vaulted.image.blobs[1])),
        ("its digest is told", &of(release), with(blob(layer), "docker-content-digest", "x")),
        ("its length is told", &head, with(Got { body: Bytes::new(), ..blob(layer) }, "content-length", "1")),
        ("other bytes", &of(release), Got { body: "x".into(), ..blob(layer) }),
        ("a part although the whole", &of(release), cut(0, &range)),
        ("other bytes", &part, cut(5, &range)),
        ("its parts are told as", &part, cut(0, &range.replace("0-1", "0-2"))),
    ] {
        court.finds(wrong, operation, got).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_of_tags_has_all_there_are_and_only_where_a_policy_is_about_the_repository() {
    let court = Court::opens();
    let (tags, hidden) = (|held| Operation::plain(held, What::Tags), court.held(HIDDEN, "latest"));
    let team = court.held("team/app", "dup");
    let names = court.record.tags(0, "team/app");
    let told = |names: &[String]| list(&json!({"name": "team/app", "tags": names}));
    let other = |old: &str, new: &str| names.iter().map(|name| name.replace(old, new)).collect::<Vec<_>>();
    court.finds("", &tags(team), told(&names)).await;
    court.finds("no policy is about", &tags(hidden), list(&json!({"name": HIDDEN, "tags": ["latest"]}))).await;
    court.finds("the repository is told as", &tags(team), list(&json!({"name": "x", "tags": names}))).await;
    court.finds("the tags are told as", &tags(team), told(&names[1..])).await;
    court.finds("the tags are told as", &tags(team), told(&other("dup", "dtp"))).await;
    court.record.spoils(0, "/v2/team/app/tags/list");
    court.finds("", &tags(team), told(&other("dup", "dtp"))).await;
    court.finds("the tags are told as", &tags(team), told(&other("dup", "cap"))).await;
    court.finds("the tags are told as", &tags(team), told(&names[2..])).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_of_referrers_has_what_refers_to_the_subject_and_passes() {
    let court = Court::opens();
    let such = |subject: &Held| {
        let named = subject.image.digest.to_string();
        court.world.in_it(0, APP).find(move |held| held.document()["subject"]["digest"] == *named).expect("a referrer")
    };
    let [release, both, bare] = ["stable", "edge", "bare"].map(|tag| court.app(tag));
    let entry = |held: &Held| {
        let document = held.document();
        json!({"mediaType": document["mediaType"], "digest": held.image.digest, "size": held.image.manifest.len(), "artifactType": document["artifactType"]})
    };
    let lie = |field: &str, value: Value| {
        let mut entry = entry(such(release));
        entry[field] = value;
        entry
    };
    for (wrong, subject, entries) in [
        ("", release, json!([entry(such(release))])),
        ("", release, json!([])),
        ("does not refer to", both, json!([entry(such(release))])),
        ("is not admitted", both, json!([entry(such(both))])),
        ("is not admitted", bare, json!([entry(such(bare))])),
        ("is not admitted", bare, json!([entry(such(release))])),
        ("size of", release, json!([lie("size", json!(1))])),
        ("mediaType of", release, json!([lie("mediaType", json!("text/html"))])),
        ("artifactType of", release, json!([lie("artifactType", json!("text/html"))])),
        ("no manifest of that repository", release, json!([lie("digest", json!(Digest::sha256(b"x")))])),
    ] {
        let operation = Operation::plain(subject, What::Referrers(subject.image.digest.clone()));
        court.finds(wrong, &operation, list(&json!({"manifests": entries}))).await;
    }
}
