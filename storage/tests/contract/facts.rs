//! Facts by key, asked of every implementation.

use std::collections::BTreeSet;

use oci::{Digest, Repository, Tag};
use storage::{Change, Edge, EdgeKind, ManifestFact, Store, TagEvent, TagFact, TagLook, TagServed};
use tokio::task::JoinSet;

use crate::{at, edge, repository, shared, tag};

const KINDS: [EdgeKind; 5] =
    [EdgeKind::Child, EdgeKind::Config, EdgeKind::Layer, EdgeKind::Referrer, EdgeKind::EvidenceBlob];

fn nginx() -> Repository {
    repository("cgr.dev/chainguard/nginx")
}

fn digest(number: u64) -> Digest {
    Digest::sha256(&number.to_be_bytes())
}

fn set(tag: &Tag, digest: &Digest, millis: u64) -> Change {
    Change::Tag { repository: nginx(), tag: tag.clone(), digest: digest.clone(), at: at(millis) }
}

fn checked(tag: &Tag, millis: u64) -> Change {
    Change::TagChecked { repository: nginx(), tag: tag.clone(), at: at(millis) }
}

fn gone(tag: &Tag, millis: u64) -> Change {
    Change::TagGone { repository: nginx(), tag: tag.clone(), at: at(millis) }
}

fn fact(store: &Store, tag: &Tag) -> Option<TagFact> {
    store.facts().read().unwrap().tag(&nginx(), tag).unwrap()
}

fn history(store: &Store, tag: &Tag) -> Vec<TagEvent> {
    store.facts().read().unwrap().tag_history(&nginx(), tag).unwrap()
}

#[tokio::test]
async fn a_tag_keeps_since_when_it_means_what_it_means() {
    let place = super::place();
    let (store, latest) = (place.open(), tag("latest"));
    let apply = |change| store.facts().apply(vec![change]);
    assert_eq!(fact(&store, &latest), None);
    apply(set(&latest, &digest(1), 100)).await.unwrap();
    apply(set(&latest, &digest(1), 200)).await.unwrap();
    apply(checked(&latest, 300)).await.unwrap();
    let mut want = TagFact { digest: digest(1), seen_at: at(100), checked_at: at(300), gone_at: None };
    assert_eq!(fact(&store, &latest), Some(want.clone()));
    apply(gone(&latest, 400)).await.unwrap();
    apply(gone(&latest, 450)).await.unwrap();
    apply(checked(&latest, 460)).await.unwrap();
    want.checked_at = at(400);
    want.gone_at = Some(at(400));
    assert_eq!(fact(&store, &latest), Some(want));
    apply(set(&latest, &digest(1), 500)).await.unwrap();
    apply(set(&latest, &digest(2), 600)).await.unwrap();
    let want = TagFact { digest: digest(2), seen_at: at(600), checked_at: at(600), gone_at: None };
    assert_eq!(fact(&store, &latest), Some(want));
    let history: Vec<_> = history(&store, &latest).into_iter().map(|it| (it.digest, it.at)).collect();
    assert_eq!(history, [(digest(2), at(600)), (digest(1), at(500)), (digest(1), at(100))]);
}

#[tokio::test]
async fn what_is_said_of_an_unknown_tag_does_not_make_it_known() {
    let place = super::place();
    let (store, latest) = (place.open(), tag("latest"));
    let changes = vec![checked(&latest, 1), gone(&latest, 2)];
    store.facts().apply(changes).await.unwrap();
    assert_eq!(fact(&store, &latest), None);
    assert_eq!(history(&store, &latest), []);
}

#[tokio::test]
async fn tag_history_is_bounded_and_in_order_even_when_the_clock_goes_back() {
    let place = super::place();
    let (store, latest) = (place.open(), tag("latest"));
    for number in 0..20 {
        let change = set(&latest, &digest(number), 1000 - number);
        store.facts().apply(vec![change]).await.unwrap();
    }
    let numbers =
        |history: Vec<TagEvent>| -> Vec<u64> { history.iter().map(|event| 1000 - event.at.as_millis()).collect() };
    assert_eq!(numbers(history(&store, &latest)), [19, 18, 17, 16, 15]);
}

#[tokio::test]
async fn neighbours_in_the_key_order_are_kept_apart() {
    let place = super::place();
    let store = place.open();
    let repositories = ["cgr.dev/a", "cgr.dev/a/b", "cgr.dev/ab", "cgr.dev:443/a", "docker.io/a"];
    let tags = ["a", "ab", "a.b", "b"];
    let mut changes = Vec::new();
    let mut number = 0;
    for name in repositories {
        for label in tags {
            number += 1;
            changes.push(Change::Tag {
                repository: repository(name),
                tag: tag(label),
                digest: digest(number),
                at: at(number),
            });
        }
        changes.push(Change::Edge {
            repository: repository(name),
            edge: edge(EdgeKind::Layer, &digest(number), &digest(0)),
        });
    }
    store.facts().apply(changes).await.unwrap();
    let snapshot = store.facts().read().unwrap();
    let mut number = 0;
    for name in repositories {
        for label in tags {
            number += 1;
            let found = snapshot.tag(&repository(name), &tag(label)).unwrap().unwrap();
            assert_eq!(found.digest, digest(number));
            let history = snapshot.tag_history(&repository(name), &tag(label)).unwrap();
            assert_eq!(history.len(), 1);
        }
        let parents = snapshot.parents(&repository(name), &digest(0), None, 10).unwrap();
        assert_eq!(parents.found.len(), 1);
        assert_eq!(parents.found[0].parent, digest(number));
    }
}

#[tokio::test]
async fn manifests_verdicts_and_evidence_belong_to_one_repository() {
    let place = super::place();
    let store = place.open();
    let (here, there) = (nginx(), repository("docker.io/chainguard/nginx"));
    let manifest = |first_seen, size| ManifestFact {
        media_type: "application/vnd.oci.image.index.v1+json\0\u{1f512}".to_owned(),
        size,
        first_seen: at(first_seen),
    };
    let verdict = |fingerprint, bytes: &[u8]| Change::Verdict {
        repository: nginx(),
        digest: digest(1),
        fingerprint: [fingerprint; 32],
        bytes: bytes.to_vec(),
    };
    let changes = vec![
        Change::Manifest { repository: here.clone(), digest: digest(1), fact: manifest(10, 1) },
        Change::Manifest { repository: here.clone(), digest: digest(1), fact: manifest(20, 2) },
        verdict(1, b"first"),
        verdict(2, b""),
        verdict(1, b"second"),
        Change::Evidence { repository: here.clone(), digest: digest(1), bytes: b"note".to_vec(), names: Vec::new() },
    ];
    store.facts().apply(changes).await.unwrap();
    let store = place.reopen(store);
    let snapshot = store.facts().read().unwrap();
    assert_eq!(snapshot.manifest(&here, &digest(1)).unwrap(), Some(manifest(10, 2)));
    let verdict = |fingerprint| snapshot.verdict(&here, &digest(1), &[fingerprint; 32]).unwrap();
    assert_eq!(verdict(1).as_deref(), Some(&b"second"[..]));
    assert_eq!(verdict(2).as_deref(), Some(&b""[..]));
    assert_eq!(verdict(3), None);
    assert_eq!(snapshot.evidence(&here, &digest(1)).unwrap().as_deref(), Some(&b"note"[..]));
    for (repository, number) in [(&there, 1), (&here, 2)] {
        assert_eq!(snapshot.manifest(repository, &digest(number)).unwrap(), None);
        assert_eq!(snapshot.verdict(repository, &digest(number), &[1; 32]).unwrap(), None);
        assert_eq!(snapshot.evidence(repository, &digest(number)).unwrap(), None);
    }
}

#[tokio::test]
async fn edges_are_found_from_both_ends_with_their_kind() {
    let place = super::place();
    let store = place.open();
    let (parent, child) = (digest(1), Digest::of(oci::Algorithm::Sha512, b"child"));
    let edges: Vec<Edge> = KINDS.into_iter().map(|kind| edge(kind, &parent, &child)).collect();
    let change = |edge: &Edge| Change::Edge { repository: nginx(), edge: edge.clone() };
    store.facts().apply(edges.iter().map(change).collect()).await.unwrap();
    let snapshot = store.facts().read().unwrap();
    let found = snapshot.children(&nginx(), &parent, None, 100).unwrap();
    assert_eq!((found.found, found.more), (edges.clone(), false));
    let found = snapshot.parents(&nginx(), &child, None, 100).unwrap();
    assert_eq!((found.found, found.more), (edges, false));
    // Pointing is not being pointed at.
    assert_eq!(snapshot.parents(&nginx(), &parent, None, 100).unwrap().found, []);
    assert_eq!(snapshot.children(&nginx(), &child, None, 100).unwrap().found, []);
    let other = repository("cgr.dev/chainguard/other");
    assert_eq!(snapshot.parents(&other, &child, None, 100).unwrap().found, []);
}

#[tokio::test]
async fn more_edges_than_asked_for_are_never_silently_cut() {
    let place = super::place();
    let store = place.open();
    let shared = digest(0);
    let change = |number| Change::Edge { repository: nginx(), edge: edge(EdgeKind::Layer, &digest(number), &shared) };
    store.facts().apply((1..=30).map(change).collect()).await.unwrap();
    let snapshot = store.facts().read().unwrap();
    let want: BTreeSet<Digest> = (1..=30).map(digest).collect();
    for limit in [1, 7, 29, 30, 31] {
        let mut got = Vec::new();
        loop {
            let page = snapshot.parents(&nginx(), &shared, got.last(), limit).unwrap();
            assert!(page.found.len() <= limit);
            got.extend(page.found);
            assert_eq!(page.more, got.len() < 30);
            if !page.more {
                break;
            }
        }
        assert_eq!(got.len(), 30);
        assert_eq!(got.into_iter().map(|edge| edge.parent).collect::<BTreeSet<_>>(), want);
    }
    // An edge that does not belong here is a place in the order like any other, and lets nothing foreign in.
    let foreign = [digest(1), digest(2), digest(3), digest(4)].map(|child| {
        let after = edge(EdgeKind::Layer, &digest(0), &child);
        snapshot.parents(&nginx(), &shared, Some(&after), 100).unwrap().found
    });
    for found in foreign {
        assert!(found.is_empty() || found.len() == 30);
        assert!(found.iter().all(|edge| edge.child == shared));
    }
    let none = snapshot.parents(&nginx(), &shared, None, 0).unwrap();
    assert!(none.found.is_empty() && none.more);
}

#[tokio::test]
async fn a_snapshot_does_not_see_what_comes_after_it() {
    let place = super::place();
    let (store, latest) = (place.open(), tag("latest"));
    store.facts().apply(vec![set(&latest, &digest(1), 1)]).await.unwrap();
    let before = store.facts().read().unwrap();
    store.facts().apply(vec![set(&latest, &digest(2), 2)]).await.unwrap();
    assert_eq!(before.tag(&nginx(), &latest).unwrap().unwrap().digest, digest(1));
    assert_eq!(fact(&store, &latest).unwrap().digest, digest(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_of_many_writers_are_all_made_and_each_whole() {
    let place = super::place();
    let store = shared(&place);
    let mut writers = JoinSet::new();
    for writer in 0..16_u64 {
        let store = store.clone();
        writers.spawn(async move {
            for round in 0..25_u64 {
                let number = writer * 1000 + round;
                let name = tag(&format!("t{number}"));
                let changes = vec![
                    set(&name, &digest(number), number),
                    Change::Edge { repository: nginx(), edge: edge(EdgeKind::Layer, &digest(number), &digest(0)) },
                ];
                store.facts().apply(changes).await.unwrap();
                assert_eq!(fact(&store, &name).unwrap().digest, digest(number));
            }
        });
    }
    // Whoever looks meanwhile sees a tag and its edge, or neither.
    let reader = tokio::task::spawn_blocking({
        let store = store.clone();
        move || {
            for round in 0..200 {
                let snapshot = store.facts().read().unwrap();
                let number = (round % 16) * 1000 + round % 25;
                let known = snapshot.tag(&nginx(), &tag(&format!("t{number}"))).unwrap().is_some();
                let edges = snapshot.children(&nginx(), &digest(number), None, 2).unwrap();
                assert_eq!(known, edges.found.len() == 1);
            }
        }
    });
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    reader.await.unwrap();
    let store = place.reopen(std::sync::Arc::unwrap_or_clone(store));
    let parents = store.facts().read().unwrap().parents(&nginx(), &digest(0), None, 1000).unwrap();
    assert_eq!((parents.found.len(), parents.more), (400, false));
}

#[tokio::test]
async fn no_changes_are_made_without_complaint() {
    let place = super::place();
    place.open().facts().apply(Vec::new()).await.unwrap();
}

#[test]
fn what_crosses_threads_can() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<Store>();
    crosses::<storage::Snapshot>();
    crosses::<storage::Growing>();
    crosses::<storage::Ingest>();
    crosses::<storage::Blob>();
    crosses::<storage::StoreError>();
    crosses::<storage::IngestError>();
}

#[tokio::test]
async fn known_manifests_are_listed_page_by_page_each_once() {
    let place = super::place();
    let store = place.open();
    let fact = || ManifestFact { media_type: "x".to_owned(), size: 1, first_seen: at(1) };
    let mut want = BTreeSet::new();
    for name in ["cgr.dev/a", "cgr.dev/a/b", "cgr.dev/b"] {
        for number in 0..5 {
            let key = (repository(name), digest(number));
            let change = Change::Manifest { repository: key.0.clone(), digest: key.1.clone(), fact: fact() };
            store.facts().apply(vec![change]).await.unwrap();
            want.insert(key);
        }
    }
    for limit in [1, 4, 5, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.facts().read().unwrap().manifests(after.as_ref(), limit).unwrap();
            assert!(page.len() <= limit);
            let is_last = page.len() < limit;
            after = page.last().cloned().or(after);
            seen.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(seen.len(), want.len(), "pages of {limit}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), want, "pages of {limit}");
    }
}

#[tokio::test]
async fn changes_of_one_commit_see_those_before_them() {
    let place = super::place();
    let (store, latest) = (place.open(), tag("latest"));
    store.facts().apply(vec![set(&latest, &digest(100), 1)]).await.unwrap();
    let changes = (0..20).map(|number| set(&latest, &digest(number), number)).chain([gone(&latest, 50)]);
    store.facts().apply(changes.collect()).await.unwrap();
    let digests: Vec<Digest> = history(&store, &latest).into_iter().map(|event| event.digest).collect();
    assert_eq!(digests, [19, 18, 17, 16, 15].map(digest));
    assert_eq!(fact(&store, &latest).unwrap().gone_at, Some(at(50)));
}

#[tokio::test]
async fn snapshots_of_several_instants_each_see_their_own() {
    let place = super::place();
    let (store, latest) = (place.open(), tag("latest"));
    let mut snapshots = Vec::new();
    for number in 0..12 {
        snapshots.push((number, store.facts().read().unwrap()));
        store.facts().apply(vec![set(&latest, &digest(number), number)]).await.unwrap();
    }
    // Not in the order in which they were taken.
    snapshots.sort_by_key(|(number, _)| number * 5 % 12);
    for (number, snapshot) in snapshots {
        let want: Vec<Digest> = (number.saturating_sub(5)..number).rev().map(digest).collect();
        let got: Vec<Digest> =
            snapshot.tag_history(&nginx(), &latest).unwrap().into_iter().map(|event| event.digest).collect();
        assert_eq!(got, want, "at {number}");
        let known = snapshot.tag(&nginx(), &latest).unwrap().map(|fact| fact.digest);
        assert_eq!(known.as_ref(), want.first(), "at {number}");
    }
}

/// `latest` was looked at meaning this digest, signed then, and served or not.
fn looked(number: u64, served: bool, signed_at: Option<u64>, millis: u64) -> Change {
    let told = if served { String::new() } else { "refused".to_owned() };
    let look = TagLook { at: at(millis), served, signed_at: signed_at.map(at), evidence: vec![digest(1000)], told };
    Change::TagLooked { repository: nginx(), tag: tag("latest"), digest: digest(number), look }
}

fn served(store: &Store) -> Option<TagServed> {
    store.facts().read().unwrap().tag_served(&nginx(), &tag("latest")).unwrap()
}

fn targets(store: &Store) -> Vec<Digest> {
    served(store).unwrap_or_default().targets.into_iter().map(|target| target.digest).collect()
}

fn newest(store: &Store) -> Option<Digest> {
    served(store)?.newest.map(|(digest, _)| digest)
}

#[tokio::test]
async fn what_a_tag_served_is_kept_apart_from_its_history() {
    let place = super::place();
    let (mut store, latest) = (place.open(), tag("latest"));
    assert_eq!(served(&store), None);
    let mut changes = vec![set(&latest, &digest(0), 1), looked(0, true, Some(9_000), 2)];
    // More than the history keeps, none of it served.
    for number in 1..20 {
        changes.push(set(&latest, &digest(number), 10 * number));
        changes.push(looked(number, false, Some(10_000 + number), 10 * number + 1));
    }
    store.facts().apply(changes).await.unwrap();
    for _ in 0..2 {
        let kept = served(&store).unwrap();
        assert_eq!(kept.newest, Some((digest(0), at(9_000))));
        let [target] = kept.targets.as_slice() else { panic!("{kept:?}") };
        assert_eq!((&target.digest, target.served_at, target.signed_at), (&digest(0), at(2), Some(at(9_000))));
        assert!(history(&store, &latest).iter().all(|event| event.digest != digest(0)));
        store = place.reopen(store);
    }
}

#[tokio::test]
async fn how_new_a_tag_was_only_rises_and_its_targets_are_bounded() {
    let place = super::place();
    let store = place.open();
    // Signed at: none, 50, 40, 50 again, 60, none.
    for (number, signed_at) in [(1, None), (2, Some(50)), (3, Some(40)), (4, Some(50)), (5, Some(60)), (6, None)] {
        store.facts().apply(vec![looked(number, true, signed_at, number)]).await.unwrap();
        let expected = match number {
            1 => None,
            2..=4 => Some(digest(2)),
            _ => Some(digest(5)),
        };
        assert_eq!(newest(&store), expected, "after {number}");
    }
    assert_eq!(targets(&store), [6, 5, 4, 3, 2, 1].map(digest));
    // A flip of two images, and a clock that goes back.
    for turn in 0..6 {
        store.facts().apply(vec![looked(2 + turn % 2, true, Some(50), 100 - turn)]).await.unwrap();
    }
    assert_eq!(targets(&store), [3, 2, 6, 5, 4, 1].map(digest));
    for number in 10..20 {
        store.facts().apply(vec![looked(number, true, Some(1), 200)]).await.unwrap();
    }
    assert_eq!(targets(&store), [19, 18, 17, 16, 15, 14, 13, 12].map(digest));
    assert_eq!(newest(&store), Some(digest(5)), "although it is no target any more");
}

#[tokio::test]
async fn a_look_is_noted_with_the_newest_event_of_its_meaning() {
    let place = super::place();
    let (store, latest) = (place.open(), tag("latest"));
    for (number, millis) in [(1, 10), (2, 20), (1, 30), (2, 40)] {
        store.facts().apply(vec![set(&latest, &digest(number), millis)]).await.unwrap();
    }
    let unknown = looked(7, false, None, 45);
    let long = TagLook {
        at: at(51),
        served: true,
        signed_at: None,
        evidence: (0..40).map(digest).collect(),
        told: "ä".repeat(1000),
    };
    let long = Change::TagLooked { repository: nginx(), tag: latest.clone(), digest: digest(2), look: long };
    store.facts().apply(vec![looked(1, false, Some(5), 50), unknown, long]).await.unwrap();
    let events = history(&store, &latest);
    let noted: Vec<_> = events.iter().map(|event| event.look.as_ref().map(|look| (look.at, look.served))).collect();
    assert_eq!(noted, [Some((at(51), true)), Some((at(50), false)), None, None]);
    let look = events[1].look.as_ref().unwrap();
    assert_eq!((look.signed_at, look.evidence.as_slice(), look.told.as_str()), (Some(at(5)), &[digest(1000)][..], "refused"));
    let look = events[0].look.as_ref().unwrap();
    assert_eq!((look.evidence.len(), look.told.len()), (16, 512), "bounded");
    assert_eq!(targets(&store), [digest(2)]);
}

#[tokio::test]
async fn what_a_tag_served_outlives_the_tag_and_its_images() {
    let place = super::place();
    let (store, latest) = (place.open(), tag("latest"));
    let forgotten = Change::Forgotten { repository: nginx(), digest: digest(1), unless_pinned: None };
    let changes = vec![set(&latest, &digest(1), 1), looked(1, true, Some(9), 2), gone(&latest, 3), forgotten];
    store.facts().apply(changes).await.unwrap();
    assert_eq!((newest(&store), targets(&store)), (Some(digest(1)), vec![digest(1)]));
    store.facts().apply(vec![set(&latest, &digest(2), 4), looked(2, true, Some(8), 5)]).await.unwrap();
    assert_eq!((newest(&store), targets(&store)), (Some(digest(1)), vec![digest(2), digest(1)]));
    let way_out = Change::TagNewestGone { repository: nginx(), tag: latest.clone() };
    store.facts().apply(vec![way_out.clone(), way_out]).await.unwrap();
    assert_eq!((newest(&store), targets(&store)), (None, vec![digest(2), digest(1)]));
    assert_eq!(history(&store, &latest).len(), 2);
}

#[tokio::test]
async fn tags_are_listed_in_pages_whoever_has_them() {
    let place = super::place();
    let store = place.open();
    let mut changes = Vec::new();
    for name in ["cgr.dev/a", "cgr.dev/b"] {
        for label in ["1", "2", "3"] {
            changes.push(Change::Tag { repository: repository(name), tag: tag(label), digest: digest(1), at: at(1) });
        }
    }
    store.facts().apply(changes).await.unwrap();
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let page = store.facts().read().unwrap().tag_facts(after.as_ref(), 4).unwrap();
        found.extend(page.iter().map(|(repository, tag, _)| format!("{repository}:{tag}")));
        match page.last() {
            Some((repository, tag, _)) if page.len() == 4 => after = Some((repository.clone(), tag.clone())),
            _ => break,
        }
    }
    assert_eq!(found, ["a:1", "a:2", "a:3", "b:1", "b:2", "b:3"].map(|tag| format!("cgr.dev/{tag}")));
}

#[tokio::test]
async fn what_was_used_last_is_told_first() {
    let place = super::place();
    let store = place.open();
    let fact = |millis| ManifestFact { media_type: "x".to_owned(), size: 1, first_seen: at(millis) };
    for (number, millis) in [(1, 10), (2, 30), (3, 20), (4, 30)] {
        let change = Change::Manifest { repository: nginx(), digest: digest(number), fact: fact(millis) };
        store.facts().apply(vec![change]).await.unwrap();
    }
    let snapshot = store.facts().read().unwrap();
    let (mut before, mut found) = (None, Vec::new());
    loop {
        let page = snapshot.most_recently_used(before.as_ref(), 3).unwrap();
        found.extend(page.iter().map(|usage| usage.used_at.as_millis()));
        before = page.last().cloned();
        if page.len() < 3 {
            break;
        }
    }
    assert_eq!(found, [30, 30, 20, 10]);
}
