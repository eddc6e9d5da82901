//! Facts at scale: a store that knows many images, how fast it opens, how fast a hit is, and how much memory that takes.
//!
//! Facts only: the blobs they speak of are not there, and nobody looks.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use oci::{Digest, Repository, Tag, UnixTime};
use storage::{Change, ContentClass, Edge, EdgeKind, Keeper, ManifestFact, Store};

use super::{Random, Say, Tally, failed};

/// Of each image, of which nine are layers of its own or shared by ten.
const BLOBS: u64 = 10;
const HITS: u64 = 10_000;
/// Images written in one commit.
const GROUP: u64 = 200;
const VERDICT_BYTES: usize = 1024;
/// A start does not grow with the store.
const OPEN_MAX: Duration = Duration::from_secs(2);
/// Nor does a hit: the deepest tree has a level or two more.
const TIMES_MAX: u32 = 8;

/// What was measured at one size.
#[derive(Debug, Clone, Copy)]
struct Measured {
    open: Duration,
    p50: Duration,
    p99: Duration,
}

/// Measures a store of each of these sizes, in images.
pub async fn run(sizes: &[u64], seed: u64, say: Say) -> Tally {
    let mut tally = Tally::default();
    let mut smallest: Option<Measured> = None;
    for images in sizes {
        let outcome = one(*images, seed, say).await.and_then(|measured| {
            let first = *smallest.get_or_insert(measured);
            if measured.open > OPEN_MAX {
                return Err(format!("{images} images: opening took {:?}, at most {OPEN_MAX:?}", measured.open));
            }
            if measured.p50 > first.p50 * TIMES_MAX {
                return Err(format!(
                    "{images} images: a hit takes {:?}, with the fewest {:?}",
                    measured.p50, first.p50
                ));
            }
            Ok(())
        });
        tally.count(outcome);
    }
    tally
}

async fn one(images: u64, seed: u64, say: Say) -> Result<Measured, String> {
    let directory = tempfile::tempdir().map_err(|error| failed("a directory", error))?;
    let path = directory.path().join("store");
    fill(&path, images).await?;
    let before = resident();
    let started = Instant::now();
    let store = Store::open(&path, 50).map_err(|error| failed("open", error))?;
    hit(&store, 0)?;
    let open = started.elapsed();
    let mut random = Random::new(seed);
    let mut took = Vec::new();
    for _ in 0..HITS {
        let image = random.below(images);
        let started = Instant::now();
        hit(&store, image)?;
        took.push(started.elapsed());
    }
    took.sort();
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
    let measured = Measured { open, p50: at(50), p99: at(99) };
    for image in 0..1000.min(images) {
        store.ledger().used(&repository(image), &digest("manifest", image), UnixTime::from_millis(u64::MAX >> 1));
    }
    let started = Instant::now();
    Keeper::new(store.clone()).settle().await.map_err(|error| failed("settle", error))?;
    let (settled, totals) = (started.elapsed(), store.facts().read().and_then(|facts| facts.totals()));
    let totals = totals.map_err(|error| failed("totals", error))?;
    let blobs = totals.layers.blobs + totals.metadata.blobs;
    say(&format!(
        "{images:>7} images, {blobs:>7} blobs: open and first hit {open:?}, hit p50 {:?} p99 {:?}, up to 1000 uses written in {settled:?}, \
         {} MiB resident above what the generator left",
        measured.p50,
        measured.p99,
        resident().saturating_sub(before) >> 10,
    ));
    Ok(measured)
}

/// What a pull by tag looks up.
fn hit(store: &Store, image: u64) -> Result<(), String> {
    let (repository, tag) = (repository(image), tag(image));
    let snapshot = store.facts().read().map_err(|error| failed("read", error))?;
    let known = snapshot.tag(&repository, &tag).map_err(|error| failed("tag", error))?;
    let fact = known.ok_or_else(|| format!("tag {image} is not known"))?;
    let verdict = snapshot.verdict(&repository, &fact.digest, &[7; 32]).map_err(|error| failed("verdict", error))?;
    verdict.map(drop).ok_or_else(|| format!("verdict {image} is not known"))
}

async fn fill(path: &Path, images: u64) -> Result<(), String> {
    let store = Store::open(path, 50).map_err(|error| failed("open", error))?;
    for first in (0..images).step_by(usize::try_from(GROUP).unwrap_or(1)) {
        let changes = (first..images.min(first + GROUP)).flat_map(changes).collect();
        store.facts().apply(changes).await.map_err(|error| failed("write", error))?;
    }
    Ok(())
}

fn changes(image: u64) -> Vec<Change> {
    let (repository, manifest, at) = (repository(image), digest("manifest", image), UnixTime::from_millis(image));
    let fact = ManifestFact {
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        size: 1000,
        first_seen: at,
    };
    let mut changes = vec![
        Change::Manifest { repository: repository.clone(), digest: manifest.clone(), fact },
        Change::Tag { repository: repository.clone(), tag: tag(image), digest: manifest.clone(), at },
        Change::Verdict {
            repository: repository.clone(),
            digest: manifest.clone(),
            fingerprint: [7; 32],
            bytes: vec![1; VERDICT_BYTES],
        },
    ];
    for number in 0..BLOBS {
        let kind = if number == 0 { EdgeKind::Config } else { EdgeKind::Layer };
        // One layer in nine is shared.
        let child = if number == 1 { digest("base", image / 10) } else { digest("blob", image * BLOBS + number) };
        let class = if number == 0 { ContentClass::Metadata } else { ContentClass::Layer };
        changes.push(Change::Stored { digest: child.clone(), size: 1_000_000, class: Some(class) });
        let edge = Edge {
            kind,
            parent: manifest.clone(),
            child,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
            size: 1_000_000,
        };
        changes.push(Change::Edge { repository: repository.clone(), edge });
    }
    changes
}

fn repository(image: u64) -> Repository {
    format!("cgr.dev/chainguard/image-{}", image % 500).parse().expect("it is written as repositories are")
}

fn tag(image: u64) -> Tag {
    format!("v{image}").parse().expect("it is written as tags are")
}

fn digest(what: &str, number: u64) -> Digest {
    Digest::sha256(format!("{what} {number}").as_bytes())
}

/// Resident memory of this process, KiB; 0 where the system does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
