//! What a dry run tells is what then leaves, whatever is in the store.
#![expect(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};

use oci::{Digest, Repository};
use storage::{
    Budget, Change, Content, ContentClass, EdgeKind, Freed, Keeper, Left, ManifestFact, Marks, Store, Sweep, Totals,
};

use crate::{addressed, at, edge, noise, repository, written};

const SEEDS: u64 = 24;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % bound
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn some_of<T: Clone>(&mut self, all: &[T], most: u64) -> Vec<T> {
        if all.is_empty() {
            return Vec::new();
        }
        let pick = |dice: &mut Self| all[usize::try_from(dice.below(all.len() as u64)).unwrap()].clone();
        (0..=self.below(most)).map(|_| pick(self)).collect()
    }
}

/// Images that share layers, configs and evidence, in two repositories; some are pinned, some are listed by indexes.
async fn populate(store: &Store, dice: &mut Dice) -> Vec<(Repository, Digest)> {
    let repositories = ["cgr.dev/chainguard/nginx", "cgr.dev/chainguard/curl"].map(repository);
    let mut known: [Vec<Digest>; 2] = Default::default();
    let (mut changes, mut layers) = (Vec::new(), BTreeMap::new());
    for number in 0..14 {
        let manifest = addressed(noise(number + 1, 300));
        store.blobs().put(&manifest).await.unwrap();
        let is_index = dice.one_in(4);
        let config = addressed(noise(1_000_000 + dice.below(6), 50));
        store.blobs().put(&config).await.unwrap();
        let pointed: Vec<_> = (0..dice.below(4)).map(|_| noise(2_000_000 + dice.below(8), 1000)).collect();
        let first = usize::from(dice.one_in(2));
        // Every fifth is in both.
        let places = if dice.one_in(5) { vec![first, 1 - first] } else { vec![first] };
        for place in places {
            let (repository, digest) = (repositories[place].clone(), manifest.digest().clone());
            let fact =
                ManifestFact { media_type: "application/json".to_owned(), size: 300, first_seen: at(dice.below(50)) };
            changes.push(Change::Manifest { repository: repository.clone(), digest: digest.clone(), fact });
            let mut link = |kind, parent: &Digest, child: &Digest| {
                changes.push(Change::Edge { repository: repository.clone(), edge: edge(kind, parent, child) });
            };
            if is_index {
                dice.some_of(&known[place], 4).iter().for_each(|child| link(EdgeKind::Child, &digest, child));
            } else {
                link(EdgeKind::Config, &digest, config.digest());
                for bytes in &pointed {
                    let layer = Digest::sha256(bytes);
                    link(EdgeKind::Layer, &digest, &layer);
                    layers.insert(layer, bytes.clone());
                }
                if dice.one_in(3) {
                    dice.some_of(&known[place], 2)
                        .iter()
                        .for_each(|subject| link(EdgeKind::Referrer, subject, &digest));
                }
            }
            if dice.one_in(10) {
                changes.push(Change::Pinned { repository, digest: digest.clone(), pinned: true, at: at(1) });
            }
            known[place].push(digest);
        }
    }
    store.facts().apply(changes).await.unwrap();
    for (digest, bytes) in &layers {
        written(store, digest, bytes, 1000).await.commit().await.unwrap();
    }
    let [nginx, curl] = known.map(Vec::into_iter);
    let [in_nginx, in_curl] = repositories;
    nginx.map(|digest| (in_nginx.clone(), digest)).chain(curl.map(|digest| (in_curl.clone(), digest))).collect()
}

/// All that is in the store.
#[derive(Debug, PartialEq)]
struct Held {
    blobs: BTreeMap<Digest, Content>,
    manifests: BTreeSet<(Repository, Digest)>,
    totals: Totals,
}

async fn held(store: &Store) -> Held {
    Keeper::new(store.clone()).settle().await.unwrap();
    let snapshot = store.facts().read().unwrap();
    let blobs: BTreeMap<_, _> = snapshot.contents(None, 1000).unwrap().into_iter().collect();
    for digest in blobs.keys() {
        assert!(store.blobs().open(digest).await.unwrap().is_some(), "{digest} is written down and not there");
    }
    assert_eq!(store.blobs().list_page(None, 1000).await.unwrap().len(), blobs.len());
    let manifests = snapshot.manifests(None, 1000).unwrap().into_iter().collect();
    Held { blobs, manifests, totals: snapshot.totals().unwrap() }
}

/// How much has left, or would, and what.
type Told = (Freed, Vec<Left>);

async fn swept(keeper: &Keeper, sweep: Sweep) -> Told {
    let mut what = Vec::new();
    (keeper.sweep(sweep, |left| what.push(left)).await.unwrap(), what)
}

async fn removed(keeper: &Keeper, images: &[(Repository, Digest)], dry_run: bool) -> Told {
    let mut what = Vec::new();
    (keeper.remove(images, dry_run, |left| what.push(left)).await.unwrap(), what)
}

/// Compares what was told, what was done and what is no more there. How many things have left.
#[track_caller]
fn is_exact(told: &Told, (done, what): &Told, before: &Held, after: &Held, seed: u64) -> usize {
    assert_eq!((&told.0, &told.1), (done, what), "seed {seed}");
    for class in [ContentClass::Layer, ContentClass::Metadata] {
        let freed = if class == ContentClass::Layer { done.layers } else { done.metadata };
        let (was, is) = (before.totals.of(class), after.totals.of(class));
        assert_eq!((freed.blobs, freed.bytes), (was.blobs - is.blobs, was.bytes - is.bytes), "seed {seed}: {class:?}");
    }
    let (mut layers, mut images) = (BTreeSet::new(), BTreeSet::new());
    for left in what {
        match left {
            Left::Layer { digest, .. } => assert!(layers.insert(digest.clone()), "seed {seed}: {digest} left twice"),
            Left::Image { repository, digest } => {
                assert!(images.insert((repository.clone(), digest.clone())), "seed {seed}: {digest} left twice");
            }
        }
    }
    let is_gone = |(digest, content): &(&Digest, &Content)| {
        content.class == ContentClass::Layer && !after.blobs.contains_key(*digest)
    };
    let gone: BTreeSet<_> = before.blobs.iter().filter(is_gone).map(|(digest, _)| digest.clone()).collect();
    assert_eq!(layers, gone, "seed {seed}");
    assert_eq!(images, before.manifests.difference(&after.manifests).cloned().collect(), "seed {seed}");
    what.len()
}

#[tokio::test]
async fn a_dry_sweep_tells_exactly_what_the_next_one_removes() {
    let mut left = 0;
    for seed in 0..SEEDS {
        let (place, mut dice) = (super::place(), Dice(seed));
        let store = place.open();
        populate(&store, &mut dice).await;
        let mut marks = |most| Some(Marks { max: most, high: most, low: dice.below(most) });
        store.ledger().set_budget(Budget { layers: marks(5000), metadata: marks(3000) });
        let (keeper, spare_since) = (Keeper::new(store.clone()), at(20 + dice.below(40)));
        let before = held(&store).await;
        let told = swept(&keeper, Sweep { dry_run: true, spare_since }).await;
        assert_eq!(held(&store).await, before, "seed {seed}: a dry run touches nothing");
        let done = swept(&keeper, Sweep { dry_run: false, spare_since }).await;
        left += is_exact(&told, &done, &before, &held(&store).await, seed);
    }
    assert!(left > 60, "only {left} things have left in {SEEDS} stores");
}

#[tokio::test]
async fn a_dry_removal_tells_exactly_what_the_real_one_removes() {
    let mut left = 0;
    for seed in 0..SEEDS {
        let (place, mut dice) = (super::place(), Dice(seed));
        let store = place.open();
        let images = populate(&store, &mut dice).await;
        let images = dice.some_of(&images, 8);
        let (keeper, before) = (Keeper::new(store.clone()), held(&store).await);
        let told = removed(&keeper, &images, true).await;
        assert_eq!(held(&store).await, before, "seed {seed}: a dry run touches nothing");
        let done = removed(&keeper, &images, false).await;
        let after = held(&store).await;
        assert!(images.iter().all(|image| !after.manifests.contains(image)), "seed {seed}");
        left += is_exact(&told, &done, &before, &after, seed);
    }
    assert!(left > 60, "only {left} things have left in {SEEDS} stores");
}
