//! What the store costs: hashing, taking a blob in, reading facts and committing them.
//!
//! Input: blobs of 64 MiB in chunks of 256 KiB; facts of 10 000 images of three layers each, in redb, everything synced. `ingest` to `hash`
//! is what storing adds to the floor that SHA-256 sets; `facts/*` are the reads of one admission and one commit of a new verdict.

#![allow(missing_docs, reason = "criterion's macros make items without documentation")]

use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oci::{Algorithm, Digest, Hasher, Repository, UnixTime};
use storage::{Change, Edge, EdgeKind, ManifestFact, Store};
use support::upstream::noise;
use tokio::runtime::Runtime;

const BLOB: usize = 64 << 20;
const CHUNK: usize = 256 << 10;
const IMAGES: u64 = 10_000;
const LAYERS: u64 = 3;
/// As many bytes as a record of one policy takes.
const RECORD: usize = 700;

fn open(directory: &Path) -> Store {
    Store::open(&directory.join("store"), 50).expect("a store in a temporary directory")
}

fn chunks(blob: &Bytes) -> impl Iterator<Item = Bytes> {
    (0..blob.len()).step_by(CHUNK).map(|at| blob.slice(at..blob.len().min(at + CHUNK)))
}

fn hash(criterion: &mut Criterion) {
    let blob = noise(BLOB, 1);
    let mut group = criterion.benchmark_group("blob");
    group.throughput(Throughput::Bytes(BLOB as u64)).sample_size(10);
    group.bench_function("hash", |bencher| {
        bencher.iter(|| {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            chunks(&blob).for_each(|chunk| hasher.update(&chunk));
            black_box(hasher.finish())
        });
    });
    let (directory, runtime) = (tempfile::tempdir().expect("a directory"), runtime());
    let (store, digest) = (open(directory.path()), Digest::sha256(&blob));
    group.bench_function("ingest", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| runtime.block_on(ingest(&store, &digest, &blob))).sum());
    });
    group.bench_function("read", |bencher| {
        runtime.block_on(ingest_and_keep(&store, &digest, &blob));
        bencher.iter(|| runtime.block_on(read(&store, &digest)));
    });
    group.finish();
}

/// From the first chunk to the commit; the blob is gone again afterwards.
async fn ingest(store: &Store, digest: &Digest, blob: &Bytes) -> Duration {
    let begun = Instant::now();
    ingest_and_keep(store, digest, blob).await;
    let taken = begun.elapsed();
    store.blobs().remove(digest).await.expect("a blob to remove");
    taken
}

async fn ingest_and_keep(store: &Store, digest: &Digest, blob: &Bytes) {
    let mut ingest = store.blobs().ingest(digest.clone(), BLOB as u64).await.expect("a place to write");
    for chunk in chunks(blob) {
        ingest.write(chunk).await.expect("room for all of it");
    }
    ingest.commit().await.expect("the digest is its own");
}

/// As a copied body reads it.
async fn read(store: &Store, digest: &Digest) {
    let blob = store.blobs().open(digest).await.expect("a readable store").expect("it was stored");
    for at in (0..BLOB).step_by(CHUNK) {
        black_box(blob.read_at(at as u64, CHUNK).await.expect("bytes"));
    }
}

fn facts(criterion: &mut Criterion) {
    let (directory, runtime) = (tempfile::tempdir().expect("a directory"), runtime());
    let (store, repository) = (open(directory.path()), "cgr.dev/chainguard/nginx".parse().expect("a repository"));
    for first in (0..IMAGES).step_by(500) {
        let changes = (first..first + 500).flat_map(|number| image(&repository, number)).collect();
        runtime.block_on(store.facts().apply(changes)).expect("room for facts");
    }
    let mut group = criterion.benchmark_group("facts");
    let mut number = 0;
    let mut next = || {
        // A stride that is prime to the number of images: neighbours in time are none on disk.
        number = (number + 7919) % IMAGES;
        number
    };
    group.bench_function("manifest and verdict", |bencher| {
        bencher.iter(|| {
            let (digest, read) = (manifest(next()), store.facts().read().expect("a snapshot"));
            let known = read.manifest(&repository, &digest).expect("readable").is_some();
            let judged = read.verdict(&repository, &digest, &[7; 32]).expect("readable").is_some();
            assert!(known && judged, "what was written down is there");
        });
    });
    group.bench_function("parents of a layer", |bencher| {
        bencher.iter(|| {
            let read = store.facts().read().expect("a snapshot");
            let parents = read.parents(&repository, &layer(next(), 1), None, 64).expect("readable");
            assert_eq!(parents.found.len(), 1, "each layer has one");
        });
    });
    group.sample_size(20).bench_function("commit a verdict", |bencher| {
        bencher.iter(|| {
            let verdict = verdict(&repository, next());
            runtime.block_on(store.facts().apply(vec![verdict])).expect("room for facts");
        });
    });
    group.finish();
}

fn manifest(number: u64) -> Digest {
    Digest::sha256(&number.to_be_bytes())
}

fn layer(number: u64, which: u64) -> Digest {
    Digest::sha256(&[number.to_be_bytes(), which.to_be_bytes()].concat())
}

fn verdict(repository: &Repository, number: u64) -> Change {
    let (digest, bytes) = (manifest(number), vec![0x5A; RECORD]);
    Change::Verdict { repository: repository.clone(), digest, fingerprint: [7; 32], bytes }
}

fn image(repository: &Repository, number: u64) -> Vec<Change> {
    let digest = manifest(number);
    let media_type = oci::MediaType::OCI_MANIFEST.to_owned();
    let fact = ManifestFact { media_type, size: 1500, first_seen: UnixTime::from_millis(1_790_000_000_000) };
    let known = Change::Manifest { repository: repository.clone(), digest: digest.clone(), fact };
    let edges = (1..=LAYERS).map(|which| Change::Edge {
        repository: repository.clone(),
        edge: Edge {
            kind: EdgeKind::Layer,
            parent: digest.clone(),
            child: layer(number, which),
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
            size: 30 << 20,
        },
    });
    edges.chain([known, verdict(repository, number)]).collect()
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

criterion_group!(store, hash, facts);
criterion_main!(store);
