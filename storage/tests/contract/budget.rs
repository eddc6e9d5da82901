use std::{
    future::Future as _,
    task::{Context, Waker},
    time::Duration,
};

use oci::{Addressed, Digest, Repository};
use storage::{
    Amount, Budget, Change, ContentClass, EdgeKind, Freed, Keeper, Left, ManifestFact, Marks, Store, Sweep, Totals,
};

use crate::{addressed, at, edge, noise, repository, whole, written};

const LAYER_BYTES: usize = 1000;

/// An image that was stored.
struct Image {
    digest: Digest,
    config: Digest,
    layers: Vec<Digest>,
}

/// Stores an image with these layers, made from numbers, and counts it as used at `used_at`.
async fn image(store: &Store, repository: &Repository, number: u64, layers: &[u64], used_at: u64) -> Image {
    let (manifest, config) = (addressed(noise(number, 300)), addressed(noise(number + 1_000_000, 50)));
    store.blobs().put(&manifest).await.unwrap();
    store.blobs().put(&config).await.unwrap();
    let layers: Vec<_> = layers.iter().map(|layer| noise(*layer, LAYER_BYTES)).collect();
    let digests: Vec<_> = layers.iter().map(|layer| addressed(layer.clone()).digest().clone()).collect();
    let mut changes = vec![
        met(repository, manifest.digest(), used_at),
        Change::Edge {
            repository: repository.clone(),
            edge: edge(EdgeKind::Config, manifest.digest(), config.digest()),
        },
    ];
    let edges = digests.iter().map(|layer| edge(EdgeKind::Layer, manifest.digest(), layer));
    changes.extend(edges.map(|edge| Change::Edge { repository: repository.clone(), edge }));
    store.facts().apply(changes).await.unwrap();
    for (layer, digest) in layers.iter().zip(&digests) {
        if store.blobs().open(digest).await.unwrap().is_none() {
            written(store, digest, layer, 100).await.commit().await.unwrap();
        }
    }
    let image = Image { digest: manifest.digest().clone(), config: config.digest().clone(), layers: digests };
    store.ledger().used(repository, &image.digest, at(used_at));
    image
}

fn met(repository: &Repository, digest: &Digest, first_seen: u64) -> Change {
    let fact = ManifestFact { media_type: "application/json".to_owned(), size: 300, first_seen: at(first_seen) };
    Change::Manifest { repository: repository.clone(), digest: digest.clone(), fact }
}

fn nginx() -> Repository {
    repository("cgr.dev/chainguard/nginx")
}

fn marks(max: u64) -> Marks {
    Marks { max, high: max, low: max }
}

fn budget(store: &Store, layers: Option<u64>, metadata: Option<u64>) {
    store.ledger().set_budget(Budget { layers: layers.map(marks), metadata: metadata.map(marks) });
}

async fn sweep(store: &Store) -> Freed {
    swept(store, Sweep { dry_run: false, spare_since: at(u64::MAX) }).await.0
}

/// How much has left, and what.
async fn swept(store: &Store, sweep: Sweep) -> (Freed, Vec<Left>) {
    let mut what = Vec::new();
    let freed = Keeper::new(store.clone()).sweep(sweep, |left| what.push(left)).await.unwrap();
    (freed, what)
}

async fn has(store: &Store, digest: &Digest) -> bool {
    store.blobs().open(digest).await.unwrap().is_some()
}

async fn totals(store: &Store) -> Totals {
    Keeper::new(store.clone()).settle().await.unwrap();
    store.facts().read().unwrap().totals().unwrap()
}

fn amount(blobs: u64, bytes: u64) -> Amount {
    Amount { blobs, bytes }
}

#[tokio::test]
async fn what_is_stored_is_counted_once_by_what_it_is_and_is_known_after_a_restart() {
    let place = super::place();
    let store = place.open();
    let one = image(&store, &nginx(), 1, &[10, 11], 1).await;
    image(&store, &repository("cgr.dev/chainguard/curl"), 2, &[11], 2).await;
    let want = Totals { layers: amount(2, 2000), metadata: amount(4, 700) };
    assert_eq!(totals(&store).await, want);
    // Stored again in place of itself.
    store.blobs().put(&addressed(noise(1, 300))).await.unwrap();
    assert_eq!(totals(&store).await, want);
    let content = store.facts().read().unwrap().content(&one.layers[0]).unwrap().unwrap();
    assert_eq!((content.class, content.size), (ContentClass::Layer, 1000));
    drop(store);
    let store = place.open();
    assert_eq!(store.facts().read().unwrap().totals().unwrap(), want);
    store.blobs().quarantine(&one.layers[0]).await.unwrap();
    assert_eq!(totals(&store).await.layers, amount(1, 1000));
}

#[tokio::test]
async fn the_least_recently_used_image_loses_its_layers_and_nothing_else() {
    let place = super::place();
    let store = place.open();
    let old = image(&store, &nginx(), 1, &[10], 1).await;
    let new = image(&store, &nginx(), 2, &[20], 2).await;
    store.ledger().used(&nginx(), &old.digest, at(3));
    budget(&store, Some(1500), None);
    let freed = sweep(&store).await;
    assert_eq!((freed.layers, freed.metadata), (amount(1, 1000), amount(0, 0)));
    assert!(has(&store, &old.layers[0]).await && !has(&store, &new.layers[0]).await);
    assert!(has(&store, &new.digest).await && has(&store, &new.config).await);
    assert!(store.facts().read().unwrap().manifest(&nginx(), &new.digest).unwrap().is_some());
    assert_eq!(totals(&store).await.layers, amount(1, 1000));
}

#[tokio::test]
async fn below_the_high_mark_nothing_leaves_and_above_it_no_more_than_down_to_the_low_one() {
    let place = super::place();
    let store = place.open();
    for number in 0..10 {
        image(&store, &nginx(), number, &[100 + number], number).await;
    }
    store.ledger().set_budget(Budget { layers: Some(Marks { max: 20_000, high: 10_000, low: 6500 }), metadata: None });
    assert_eq!(sweep(&store).await, Freed::default());
    image(&store, &nginx(), 10, &[110], 10).await;
    assert_eq!(sweep(&store).await.layers, amount(5, 5000));
    assert_eq!(totals(&store).await.layers, amount(6, 6000));
}

#[tokio::test]
async fn a_layer_stays_while_an_image_used_later_needs_it_in_any_repository() {
    let place = super::place();
    let store = place.open();
    let old = image(&store, &nginx(), 1, &[10, 11], 1).await;
    image(&store, &repository("cgr.dev/chainguard/curl"), 2, &[11, 12], 2).await;
    budget(&store, Some(2000), None);
    sweep(&store).await;
    assert!(!has(&store, &old.layers[0]).await && has(&store, &old.layers[1]).await);
    budget(&store, Some(0), None);
    sweep(&store).await;
    assert_eq!(totals(&store).await.layers, amount(0, 0));
}

#[tokio::test]
async fn pinned_images_and_the_children_of_pinned_indexes_stay() {
    let place = super::place();
    let store = place.open();
    let pinned = image(&store, &nginx(), 1, &[10], 1).await;
    let child = image(&store, &nginx(), 2, &[20], 2).await;
    let other = image(&store, &nginx(), 3, &[30], 3).await;
    let index = addressed(noise(77, 200));
    store.blobs().put(&index).await.unwrap();
    let pin =
        |digest: &Digest, pinned| Change::Pinned { repository: nginx(), digest: digest.clone(), pinned, at: at(9) };
    let changes = vec![
        met(&nginx(), index.digest(), 1),
        Change::Edge { repository: nginx(), edge: edge(EdgeKind::Child, index.digest(), &child.digest) },
        pin(&pinned.digest, true),
        pin(index.digest(), true),
    ];
    store.facts().apply(changes).await.unwrap();
    budget(&store, Some(0), Some(0));
    sweep(&store).await;
    for kept in [&pinned.layers[0], &pinned.digest, &child.layers[0], &child.digest, index.digest()] {
        assert!(has(&store, kept).await);
    }
    assert!(!has(&store, &other.layers[0]).await && !has(&store, &other.digest).await);
    store.facts().apply(vec![pin(&pinned.digest, false)]).await.unwrap();
    sweep(&store).await;
    assert!(!has(&store, &pinned.layers[0]).await && !has(&store, &pinned.digest).await);
}

#[tokio::test]
async fn a_use_of_a_child_counts_for_its_index_and_a_use_of_what_is_unknown_for_nothing() {
    let place = super::place();
    let store = place.open();
    let (index, child) = (image(&store, &nginx(), 1, &[], 1).await, image(&store, &nginx(), 2, &[20], 2).await);
    let listed = Change::Edge { repository: nginx(), edge: edge(EdgeKind::Child, &index.digest, &child.digest) };
    store.facts().apply(vec![listed]).await.unwrap();
    let unknown = Digest::sha256(b"unknown");
    store.ledger().used(&nginx(), &child.digest, at(50));
    store.ledger().used(&nginx(), &unknown, at(60));
    Keeper::new(store.clone()).settle().await.unwrap();
    let snapshot = store.facts().read().unwrap();
    assert_eq!(snapshot.usage(&nginx(), &index.digest).unwrap().unwrap().used_at, at(50));
    assert_eq!(snapshot.usage(&nginx(), &unknown).unwrap(), None);
    assert_eq!(snapshot.least_recently_used(None, 10).unwrap().len(), 2);
}

#[tokio::test]
async fn who_settles_finds_written_down_what_another_was_writing_down() {
    let place = super::place();
    let store = place.open();
    let (one, other) = (Keeper::new(store.clone()), Keeper::new(store.clone()));
    written(&store, addressed(noise(1, LAYER_BYTES)).digest(), &noise(1, LAYER_BYTES), 100).await.commit().await.unwrap();
    let mut under_way = Box::pin(one.settle());
    assert!(
        under_way.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(),
        "what has gathered is with the writer now"
    );
    let settled = other.settle();
    let (first, second) = tokio::join!(under_way, async {
        settled.await.unwrap();
        store.facts().read().unwrap().totals().unwrap()
    });
    first.unwrap();
    assert_eq!(second.layers, Amount { blobs: 1, bytes: LAYER_BYTES as u64 });
}

#[tokio::test]
async fn metadata_leaves_with_verdicts_edges_and_evidence_and_tags_stay() {
    let place = super::place();
    let store = place.open();
    let old = image(&store, &nginx(), 1, &[10], 1).await;
    let new = image(&store, &nginx(), 2, &[10, 20], 2).await;
    let evidence = image(&store, &nginx(), 3, &[30], 3).await;
    let tag = crate::tag("latest");
    let changes = vec![
        Change::Edge { repository: nginx(), edge: edge(EdgeKind::Referrer, &old.digest, &evidence.digest) },
        Change::Verdict { repository: nginx(), digest: old.digest.clone(), fingerprint: [7; 32], bytes: vec![1] },
        Change::Evidence { repository: nginx(), digest: old.digest.clone(), bytes: vec![2], names: Vec::new() },
        Change::Tag { repository: nginx(), tag: tag.clone(), digest: old.digest.clone(), at: at(1) },
    ];
    store.facts().apply(changes).await.unwrap();
    budget(&store, None, Some(1000));
    let freed = sweep(&store).await;
    assert_eq!((freed.layers, freed.metadata), (amount(0, 0), amount(5, 1700)), "a layer of evidence is evidence");
    for gone in [&old.digest, &old.config, &evidence.digest, &evidence.config, &evidence.layers[0]] {
        assert!(!has(&store, gone).await);
    }
    for kept in [&new.digest, &new.config, &new.layers[0], &new.layers[1]] {
        assert!(has(&store, kept).await);
    }
    let snapshot = store.facts().read().unwrap();
    assert_eq!(snapshot.manifest(&nginx(), &old.digest).unwrap(), None);
    assert_eq!(snapshot.verdict(&nginx(), &old.digest, &[7; 32]).unwrap(), None);
    assert_eq!(snapshot.evidence(&nginx(), &old.digest).unwrap(), None);
    assert!(snapshot.children(&nginx(), &old.digest, None, 9).unwrap().found.is_empty());
    assert_eq!(snapshot.parents(&nginx(), &new.layers[0], None, 9).unwrap().found.len(), 1);
    assert_eq!(snapshot.usage(&nginx(), &old.digest).unwrap(), None);
    assert_eq!(snapshot.tag(&nginx(), &tag).unwrap().unwrap().digest, old.digest);
    assert_eq!(snapshot.tag_history(&nginx(), &tag).unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_note_names_stays_with_its_subject_and_leaves_with_it() {
    let place = super::place();
    let store = place.open();
    let subject = image(&store, &nginx(), 1, &[], 1).await;
    let [piece, config, former] = [501, 502, 503].map(|number| addressed(noise(number, 40)));
    let with_note = async |pieces: &[&Addressed]| {
        for piece in pieces {
            store.blobs().put(piece).await.unwrap();
        }
        let names = pieces.iter().map(|piece| (piece.digest().clone(), 40)).collect();
        let (repository, digest) = (nginx(), subject.digest.clone());
        store.facts().apply(vec![Change::Evidence { repository, digest, bytes: vec![1], names }]).await.unwrap();
    };
    with_note(&[&former, &piece]).await;
    with_note(&[&piece, &config]).await;
    let unreached = Keeper::new(store.clone()).reconcile(Duration::ZERO).await.unwrap().unreached;
    assert_eq!(unreached.into_iter().collect::<Vec<_>>(), [former.digest().clone()], "the note names it no more");
    let (notes, again) = {
        let snapshot = store.facts().read().unwrap();
        let notes = snapshot.evidence_notes(None, 9).unwrap();
        let again = snapshot.evidence_notes(Some(&notes[0].0), 9).unwrap();
        (notes, again)
    };
    assert_eq!((notes, again), (vec![((nginx(), subject.digest.clone()), vec![1])], Vec::new()));
    budget(&store, None, Some(100));
    assert_eq!(sweep(&store).await.metadata, amount(4, 430));
    for gone in [&subject.digest, piece.digest(), config.digest()] {
        assert!(!has(&store, gone).await);
    }
    let snapshot = store.facts().read().unwrap();
    assert!(snapshot.reached_by(piece.digest(), None, 9).unwrap().is_empty());
}

#[tokio::test]
async fn evidence_about_each_other_leaves_and_evidence_about_evidence_of_an_image_stays_with_it() {
    let place = super::place();
    let store = place.open();
    let mut images = Vec::new();
    for number in 1..=6 {
        images.push(image(&store, &nginx(), number, &[], number).await.digest);
    }
    let [one, other, itself, second, first, subject] = <[Digest; 6]>::try_from(images).unwrap();
    let about = |subject: &Digest, evidence: &Digest| Change::Edge {
        repository: nginx(),
        edge: edge(EdgeKind::Referrer, subject, evidence),
    };
    let pin = Change::Pinned { repository: nginx(), digest: subject.clone(), pinned: true, at: at(9) };
    let edges = vec![
        about(&one, &other),
        about(&other, &one),
        about(&itself, &itself),
        about(&subject, &first),
        about(&first, &second),
        pin,
    ];
    store.facts().apply(edges).await.unwrap();
    budget(&store, None, Some(0));
    sweep(&store).await;
    for gone in [&one, &other, &itself] {
        assert!(!has(&store, gone).await);
    }
    for kept in [&second, &first, &subject] {
        assert!(has(&store, kept).await);
    }
}

#[tokio::test]
async fn what_was_never_served_leaves_before_what_was_served_long_ago() {
    let place = super::place();
    let store = place.open();
    let served = image(&store, &nginx(), 1, &[], 1).await;
    let [refused, both] = [(2, 50), (3, 60)].map(|(number, seen)| (addressed(noise(number, 300)), seen));
    for (manifest, seen) in [&refused, &both] {
        store.blobs().put(manifest).await.unwrap();
        store.facts().apply(vec![met(&nginx(), manifest.digest(), *seen)]).await.unwrap();
    }
    let unserved = |digest: &Digest| Change::Unserved { repository: nginx(), digest: digest.clone() };
    let keeper = Keeper::new(store.clone());
    store.ledger().used(&nginx(), &served.digest, at(2));
    store.ledger().used(&nginx(), both.0.digest(), at(61));
    keeper.settle().await.unwrap();
    let all = [&served.digest, refused.0.digest(), both.0.digest(), &Digest::sha256(b"unknown")];
    store.facts().apply(all.into_iter().map(unserved).collect()).await.unwrap();
    let order = || {
        let oldest = store.facts().read().unwrap().least_recently_used(None, 9).unwrap();
        oldest.into_iter().map(|usage| usage.digest).collect::<Vec<_>>()
    };
    assert_eq!(order(), [refused.0.digest().clone(), served.digest.clone(), both.0.digest().clone()]);
    // Served after all.
    store.ledger().used(&nginx(), refused.0.digest(), at(70));
    keeper.settle().await.unwrap();
    assert_eq!(order().last().unwrap(), refused.0.digest());
}

#[tokio::test]
async fn metadata_of_images_just_used_stays_and_so_does_what_another_repository_has() {
    let place = super::place();
    let store = place.open();
    let curl = repository("cgr.dev/chainguard/curl");
    let here = image(&store, &nginx(), 1, &[10], 1).await;
    image(&store, &curl, 1, &[10], 5).await;
    budget(&store, Some(0), Some(0));
    let (freed, what) = swept(&store, Sweep { dry_run: false, spare_since: at(5) }).await;
    assert_eq!(freed.metadata, amount(0, 0), "the bytes are the other repository's too");
    assert!(what.contains(&Left::Image { repository: nginx(), digest: here.digest.clone() }));
    assert!(has(&store, &here.digest).await);
    assert!(store.facts().read().unwrap().manifest(&curl, &here.digest).unwrap().is_some());
}

#[tokio::test]
async fn what_is_used_or_pinned_while_others_leave_stays() {
    let place = super::place();
    let store = place.open();
    let first = image(&store, &nginx(), 1, &[10], 1).await;
    let second = image(&store, &nginx(), 2, &[20], 2).await;
    budget(&store, None, Some(0));
    let mut what = Vec::new();
    let left = |left: Left| {
        store.ledger().used(&nginx(), &second.digest, at(9));
        what.push(left);
    };
    let sweep = Sweep { dry_run: false, spare_since: at(5) };
    Keeper::new(store.clone()).sweep(sweep, left).await.unwrap();
    assert!(what.contains(&Left::Image { repository: nginx(), digest: first.digest.clone() }));
    let is_known = |digest| store.facts().read().unwrap().manifest(&nginx(), digest).unwrap().is_some();
    assert!(!is_known(&first.digest) && is_known(&second.digest), "{what:?}");
    assert!(has(&store, &second.config).await);
    // Decided where it is written: whoever looked before saw none of it.
    let pinned = Change::Pinned { repository: nginx(), digest: second.digest.clone(), pinned: true, at: at(10) };
    let forgotten = |image: Option<&Digest>| Change::Forgotten {
        repository: nginx(),
        digest: second.digest.clone(),
        unless_pinned: image.cloned(),
    };
    store.facts().apply(vec![pinned, forgotten(Some(&second.digest))]).await.unwrap();
    assert!(is_known(&second.digest));
    store.facts().apply(vec![forgotten(None)]).await.unwrap();
    assert!(!is_known(&second.digest));
}

#[tokio::test]
async fn a_dry_run_tells_the_same_and_touches_nothing() {
    let place = super::place();
    let store = place.open();
    let images = [image(&store, &nginx(), 1, &[10, 11], 1).await, image(&store, &nginx(), 2, &[11, 20], 2).await];
    budget(&store, Some(1000), Some(400));
    let told = swept(&store, Sweep { dry_run: true, spare_since: at(100) }).await;
    for image in &images {
        assert!(has(&store, &image.digest).await && has(&store, &image.layers[0]).await);
    }
    let done = swept(&store, Sweep { dry_run: false, spare_since: at(u64::MAX) }).await;
    assert_eq!(told, done);
    assert_eq!(done.0.layers, amount(3, 3000), "what left with its image had left before, and is counted once");
}

#[tokio::test]
async fn a_blob_larger_than_the_whole_budget_is_read_to_its_end_and_not_kept() {
    let place = super::place();
    let store = place.open();
    let small = image(&store, &nginx(), 1, &[10], 1).await;
    budget(&store, Some(1500), None);
    let bytes = noise(99, 1501);
    let digest = Digest::sha256(&bytes);
    let ingest = written(&store, &digest, &bytes, 100).await;
    let growing = ingest.growing();
    assert_eq!(store.ledger().in_flight(), 0);
    let blob = ingest.commit().await.unwrap();
    assert_eq!(growing.advance(u64::MAX).await, storage::Progress::Committed);
    assert_eq!(growing.read_at(1000, 501).await.unwrap(), bytes[1000..]);
    assert_eq!(whole(&blob).await, bytes);
    assert!(!has(&store, &digest).await && place.names("ingest").is_empty());
    assert_eq!(sweep(&store).await, Freed::default());
    assert!(has(&store, &small.layers[0]).await, "nothing left for its sake");
}

#[tokio::test]
async fn nothing_leaves_for_the_sake_of_bytes_that_were_only_declared() {
    let place = super::place();
    let store = place.open();
    let old = image(&store, &nginx(), 1, &[10, 11], 1).await;
    budget(&store, Some(1 << 30), None);
    let digest = Digest::sha256(b"never sent");
    let mut ingests = Vec::new();
    for _ in 0..4 {
        ingests.push(store.blobs().ingest(digest.clone(), 1 << 30).await.unwrap());
        ingests.push(store.blobs().resume(digest.clone(), 1 << 30, "cgr.dev".parse().unwrap()).await.unwrap());
    }
    assert_eq!(store.ledger().in_flight(), 0);
    assert_eq!(sweep(&store).await, Freed::default());
    // A byte of it makes a step, not all that follows.
    ingests[0].write("x".into()).await.unwrap();
    let step = store.ledger().in_flight();
    assert!((1..=(64 << 20) + 1).contains(&step), "{step}");
    assert_eq!(sweep(&store).await, Freed::default());
    assert!(has(&store, &old.layers[0]).await && has(&store, &old.layers[1]).await);
    drop(ingests);
    assert_eq!(store.ledger().in_flight(), 0);
}

#[tokio::test]
async fn a_commit_waits_until_there_is_room_for_it() {
    let place = super::place();
    let store = place.open();
    let old = image(&store, &nginx(), 1, &[10, 11], 1).await;
    budget(&store, Some(2000), None);
    let keeper = Keeper::new(store.clone());
    let running = tokio::spawn(async move {
        keeper.run(|| Sweep { dry_run: false, spare_since: at(0) }, drop, |freed| assert!(freed.is_ok())).await;
    });
    tokio::task::yield_now().await;
    let bytes = noise(99, 1200);
    let digest = Digest::sha256(&bytes);
    let ingest = written(&store, &digest, &bytes, 100).await;
    assert_eq!(store.ledger().in_flight(), 1200);
    ingest.commit().await.unwrap();
    assert_eq!(store.ledger().in_flight(), 0);
    assert!(!has(&store, &old.layers[0]).await && !has(&store, &old.layers[1]).await);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    // Nobody makes room any more, and nobody waits for it.
    let bytes = noise(98, 1200);
    written(&store, &Digest::sha256(&bytes), &bytes, 100).await.commit().await.unwrap();
}

#[tokio::test]
async fn a_blob_for_which_no_room_can_be_made_is_read_to_its_end_and_not_kept() {
    let place = super::place();
    let store = place.open();
    let pinned = image(&store, &nginx(), 1, &[10, 11], 1).await;
    let pin = Change::Pinned { repository: nginx(), digest: pinned.digest.clone(), pinned: true, at: at(2) };
    store.facts().apply(vec![pin]).await.unwrap();
    budget(&store, Some(2500), None);
    let keeper = Keeper::new(store.clone());
    keeper.settle().await.unwrap();
    let running = tokio::spawn(async move {
        keeper.run(|| Sweep { dry_run: false, spare_since: at(0) }, drop, |freed| assert!(freed.is_ok())).await;
    });
    tokio::task::yield_now().await;
    let one = async |seed| {
        let bytes = noise(seed, 400);
        let digest = Digest::sha256(&bytes);
        let ingest = written(&store, &digest, &bytes, 100).await;
        (bytes, digest, ingest)
    };
    // Together they do not fit, and one of them does.
    let ((first_bytes, first, first_ingest), (bytes, second, second_ingest)) = (one(98).await, one(99).await);
    let growing = second_ingest.growing();
    assert_eq!(whole(&first_ingest.commit().await.unwrap()).await, first_bytes);
    assert_eq!(whole(&second_ingest.commit().await.unwrap()).await, bytes);
    assert_eq!(growing.advance(u64::MAX).await, storage::Progress::Committed);
    assert_eq!((has(&store, &first).await, has(&store, &second).await), (true, false));
    assert_eq!(place.names("ingest"), <[String; 0]>::default());
    assert_eq!(store.ledger().in_flight(), 0);
    running.abort();
    assert_eq!(totals(&store).await.layers.bytes, 2400);
}

#[tokio::test]
async fn who_reads_an_evicted_layer_reads_it_to_its_end() {
    let place = super::place();
    let store = place.open();
    let image = image(&store, &nginx(), 1, &[10], 1).await;
    let open = store.blobs().open(&image.layers[0]).await.unwrap().unwrap();
    budget(&store, Some(0), None);
    sweep(&store).await;
    assert!(!has(&store, &image.layers[0]).await);
    assert_eq!(whole(&open).await, noise(10, LAYER_BYTES));
}

/// The store without its facts, looked through once.
async fn without_facts(place: &crate::Place, store: Store) -> Store {
    drop(store);
    std::fs::remove_file(place.path().join("facts.redb")).unwrap();
    let store = place.open();
    Keeper::new(store.clone()).reconcile(Duration::ZERO).await.unwrap();
    store
}

#[tokio::test]
async fn what_was_lost_with_the_facts_counts_as_what_it_is_once_it_is_reached_again() {
    let place = super::place();
    let store = place.open();
    image(&store, &nginx(), 1, &[10, 11], 1).await;
    let want = totals(&store).await;
    let store = without_facts(&place, store).await;
    assert_eq!(totals(&store).await, Totals { layers: amount(4, 2350), metadata: amount(0, 0) });
    // The manifest and its config are stored again, the layers are there.
    image(&store, &nginx(), 1, &[10, 11], 2).await;
    assert_eq!(totals(&store).await, want);
}

#[tokio::test]
async fn a_config_that_was_lost_with_the_facts_is_one_again_by_the_edge_to_it() {
    let place = super::place();
    let store = place.open();
    let image = image(&store, &nginx(), 1, &[10], 1).await;
    let store = without_facts(&place, store).await;
    let to = |kind, child| Change::Edge { repository: nginx(), edge: edge(kind, &image.digest, child) };
    let edges = vec![to(EdgeKind::Config, &image.config), to(EdgeKind::Layer, &image.layers[0])];
    store.facts().apply(edges).await.unwrap();
    let class = |digest| store.facts().read().unwrap().content(digest).unwrap().unwrap().class;
    assert_eq!(class(&image.config), ContentClass::Metadata);
    assert_eq!(class(&image.layers[0]), ContentClass::Layer);
    // What it is was decided: another manifest's word changes nothing.
    let other = Change::Edge { repository: nginx(), edge: edge(EdgeKind::Config, &image.config, &image.layers[0]) };
    store.facts().apply(vec![other]).await.unwrap();
    assert_eq!(class(&image.layers[0]), ContentClass::Layer);
}

#[tokio::test]
async fn what_was_lost_with_the_facts_leaves_before_any_image_loses_a_layer() {
    let place = super::place();
    let store = place.open();
    let old = image(&store, &nginx(), 1, &[10, 11], 1).await;
    let store = without_facts(&place, store).await;
    let new = image(&store, &nginx(), 2, &[20], 2).await;
    budget(&store, Some(1000), None);
    assert_eq!(sweep(&store).await.layers, amount(4, 2350));
    assert!(has(&store, &new.layers[0]).await && !has(&store, &old.layers[0]).await);
}

#[tokio::test]
async fn accounts_are_made_again_from_the_directory_where_the_facts_do_not_know() {
    let place = super::place();
    let store = place.open();
    let image = image(&store, &nginx(), 1, &[10, 11], 1).await;
    let want = totals(&store).await;
    let stray = addressed(noise(500, 10));
    store.blobs().put(&stray).await.unwrap();
    let changes = [&image.digest, &image.layers[0]].map(|digest| Change::Removed { digest: digest.clone() });
    store.facts().apply(changes.to_vec()).await.unwrap();
    let keeper = Keeper::new(store.clone());
    keeper.settle().await.unwrap();
    std::fs::remove_file(place.blob(&image.layers[1])).unwrap();
    let account = keeper.reconcile(Duration::ZERO).await.unwrap();
    assert_eq!((account.blobs, account.added, account.struck_off), (4, 2, 1));
    assert_eq!(account.unreached.into_iter().collect::<Vec<_>>(), [stray.digest().clone()]);
    let now = totals(&store).await;
    assert_eq!(now.layers, amount(1, 1000));
    assert_eq!(now.metadata, amount(want.metadata.blobs + 1, want.metadata.bytes + 10));
}

#[tokio::test]
async fn accounts_of_more_blobs_than_are_compared_at_a_time_are_made_again_too() {
    let place = super::place();
    let store = place.open();
    let mut all = Vec::new();
    for number in 0..600 {
        let blob = addressed(noise(1000 + number, 10));
        store.blobs().put(&blob).await.unwrap();
        all.push(blob.digest().clone());
    }
    assert_eq!(totals(&store).await.metadata, amount(600, 6000));
    let changes = all[..300].iter().map(|digest| Change::Removed { digest: digest.clone() });
    store.facts().apply(changes.collect()).await.unwrap();
    all[400..].iter().for_each(|digest| std::fs::remove_file(place.blob(digest)).unwrap());
    let account = Keeper::new(store.clone()).reconcile(Duration::ZERO).await.unwrap();
    assert_eq!((account.blobs, account.added, account.struck_off), (400, 300, 200));
    assert_eq!(account.unreached, all[..400].iter().cloned().collect());
    assert!(!account.has_more);
    // What was found, and nothing says what it is, counts as layers until an edge does.
    let Totals { layers, metadata } = totals(&store).await;
    assert_eq!((layers, metadata), (amount(300, 3000), amount(100, 1000)));
}
