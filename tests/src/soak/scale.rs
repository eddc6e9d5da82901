//! A store of many images: how fast it opens, after a kill too, how fast a hit is, when a server answers, and how much memory that and
//! the commands that look at everything take.
//!
//! ```text
//!   fill ──> facts ──> copied as they lie ──> opened        in this process
//!        └─> tiny blobs ──> served: a server of its own, killed, started again ──> ls, stats, gc
//! ```
//!
//! Judged by how the largest compares with the smallest: the number of images shows nowhere but in the walks in the background.

mod served;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use oci::{Digest, Repository, Tag, UnixTime};
use storage::{Change, ContentClass, Edge, EdgeKind, Keeper, ManifestFact, Store};

use self::served::Served;
use super::{Random, Say, Tally, failed};

/// Of each image, of which nine are layers of its own or shared by ten.
const BLOBS: u64 = 10;
const HITS: u64 = 10_000;
/// Images written in one commit.
const GROUP: u64 = 200;
const VERDICT_BYTES: usize = 1024;
/// Openings and starts of each kind at one size, of which the best counts: chance only adds.
const TURNS: usize = 3;
/// What chance may add to a time of milliseconds.
const SLACK: Duration = Duration::from_millis(100);
/// What chance may add to the start of a process, where nothing else runs beside it.
pub const START_SLACK: Duration = Duration::from_millis(300);
/// The cache of the facts' pages, which is full only where there are many images, and the multiple that a process takes for it; and what a
/// dry run remembers of a million blobs.
const ABOVE_MIB_MAX: u64 = 4 * 16 + 32;

/// What was measured at one size.
#[derive(Debug, Clone)]
struct Measured {
    facts: Facts,
    /// Where that was asked for.
    served: Option<Served>,
}

#[derive(Debug, Clone, Copy)]
struct Facts {
    /// The best of [`TURNS`], like the next.
    open: Duration,
    /// As a killed process leaves it.
    open_killed: Duration,
    p50: Duration,
}

/// Measures a store of each of these sizes, in images; without a server, `only_facts` of it. Chance may add `slack` to a start.
pub async fn run(sizes: &[u64], only_facts: bool, slack: Duration, seed: u64, say: Say) -> Tally {
    let mut tally = Tally::default();
    let mut smallest: Option<Measured> = None;
    for images in sizes {
        match Box::pin(one(*images, only_facts, seed, say)).await {
            Ok(measured) => {
                let fewest = smallest.get_or_insert_with(|| measured.clone());
                judge(*images, fewest, &measured, slack, &mut tally);
            }
            Err(why) => tally.count(Err(failed(&format!("{images} images"), why))),
        }
    }
    tally
}

/// A tree is a level or two deeper; nothing else may be seen of the number.
fn judge(images: u64, few: &Measured, many: &Measured, start_slack: Duration, tally: &mut Tally) {
    let mut time = |what: &str, few: Duration, many: Duration, slack: Duration| {
        tally.check(many <= few * 3 + slack, || {
            format!("{images} images: {what} takes {many:?}, with the fewest {few:?}")
        });
    };
    time("opening", few.facts.open, many.facts.open, SLACK);
    time("opening after a kill", few.facts.open_killed, many.facts.open_killed, SLACK);
    time("a hit", few.facts.p50, many.facts.p50, Duration::from_micros(50));
    let (Some(few), Some(many)) = (&few.served, &many.served) else { return };
    time("a start", few.start, many.start, start_slack);
    time("a start after a kill", few.start_killed, many.start_killed, start_slack);
    time("an answer beside the comparison", few.p50, many.p50, Duration::from_millis(2));
    for ((what, few), (_, many)) in few.peaks.iter().zip(&many.peaks) {
        tally.check(*many <= few + ABOVE_MIB_MAX, || {
            format!("{images} images: {what} takes {many} MiB, with the fewest {few} MiB, at most {ABOVE_MIB_MAX} more")
        });
    }
}

async fn one(images: u64, only_facts: bool, seed: u64, say: Say) -> Result<Measured, String> {
    let stage = Box::pin(served::Stand::new()).await?;
    let path = stage.store();
    let started = Instant::now();
    let killed = stage.directory().join("killed");
    fill(&path, images, &killed).await?;
    say(&format!("{images:>7} images: facts written in {:?}, {} MiB", started.elapsed(), size_mib(&path)));
    let facts = facts(&path, &killed, images, seed, say).await?;
    fs::remove_dir_all(&killed).map_err(|error| failed("the copy", error))?;
    let served = if only_facts { None } else { Some(stage.served(images, say).await?) };
    Ok(Measured { facts, served })
}

async fn facts(path: &Path, killed: &Path, images: u64, seed: u64, say: Say) -> Result<Facts, String> {
    let opened = |path: &Path| {
        let started = Instant::now();
        let store = Store::open(path, 50).map_err(|error| failed("open", error))?;
        hit(&store, 0)?;
        Ok::<_, String>((store, started.elapsed()))
    };
    // Who opens one repairs it.
    let (mut open_killed, copy) = (Duration::MAX, killed.with_extension("copy"));
    for _ in 1..TURNS {
        copied(killed, &copy)?;
        open_killed = open_killed.min(opened(&copy)?.1);
        fs::remove_dir_all(&copy).map_err(|error| failed("the copy", error))?;
    }
    open_killed = open_killed.min(opened(killed)?.1);
    // What a repair costs, which has to look at all of the file: the price of leaving `quick repair` out.
    fs::write(killed.join("facts.suspect"), "").map_err(|error| failed("facts.suspect", error))?;
    let walked = opened(killed)?.1;
    let mut open = Duration::MAX;
    for _ in 1..TURNS {
        open = open.min(opened(path)?.1);
    }
    let (store, last) = opened(path)?;
    open = open.min(last);
    let mut random = Random::new(seed);
    let mut took = Vec::new();
    for _ in 0..HITS {
        let image = random.below(images);
        let started = Instant::now();
        hit(&store, image)?;
        took.push(started.elapsed());
    }
    let (p50, p99) = (percent(&mut took, 50), percent(&mut took, 99));
    for image in 0..1000.min(images) {
        store.ledger().used(&repository(image), &digest(&manifest(image)), UnixTime::from_millis(u64::MAX >> 1));
    }
    let started = Instant::now();
    Keeper::new(store.clone()).settle().await.map_err(|error| failed("settle", error))?;
    say(&format!(
        "{images:>7} images: open and first hit {open:?}, after a kill {open_killed:?}, walking all of it {walked:?}; hit p50 {p50:?} p99 {p99:?}; \
         up to 1000 uses written in {:?}",
        started.elapsed(),
    ));
    Ok(Facts { open, open_killed, p50 })
}

/// So many hundredths were at most so slow.
fn percent(took: &mut [Duration], percent: usize) -> Duration {
    took.sort();
    took.get(took.len() * percent / 100).copied().unwrap_or_default()
}

fn size_mib(store: &Path) -> u64 {
    fs::metadata(store.join("facts.redb")).map_or(0, |metadata| metadata.len() >> 20)
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

/// Writes the facts, and copies them to `killed` as they lie: that is what a process leaves that is killed between two commits.
async fn fill(path: &Path, images: u64, killed: &Path) -> Result<(), String> {
    let store = Store::open(path, 50).map_err(|error| failed("open", error))?;
    for first in (0..images).step_by(usize::try_from(GROUP).unwrap_or(1)) {
        let changes = (first..images.min(first + GROUP)).flat_map(changes).collect();
        store.facts().apply(changes).await.map_err(|error| failed("write", error))?;
    }
    copied(path, killed)
}

/// Copies facts as they lie.
fn copied(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to.join("blobs/sha256")).map_err(|error| failed("a directory", error))?;
    for name in ["format", "facts.redb"] {
        let copy = to.join(name);
        let copied = fs::copy(from.join(name), &copy).and_then(|_| fs::File::open(&copy)?.sync_all());
        // Not opened before it is on disk: the first sync would wait for all of it.
        copied.map_err(|error| failed(name, error))?;
    }
    Ok(())
}

fn changes(image: u64) -> Vec<Change> {
    let (repository, manifest, at) = (repository(image), digest(&manifest(image)), UnixTime::from_millis(image));
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
    // One is left for the comparison to find.
    if image > 0 {
        let size = self::manifest(image).len() as u64;
        changes.push(Change::Stored { digest: manifest.clone(), size, class: Some(ContentClass::Metadata) });
    }
    for number in 0..BLOBS {
        let kind = if number == 0 { EdgeKind::Config } else { EdgeKind::Layer };
        let child = digest(&name(image, number));
        let class = if number == 0 { ContentClass::Metadata } else { ContentClass::Layer };
        let size = name(image, number).len() as u64;
        changes.push(Change::Stored { digest: child.clone(), size, class: Some(class) });
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

fn manifest(image: u64) -> String {
    format!("manifest {image}")
}

/// Of one of an image's blobs. One layer in nine is shared by ten.
fn name(image: u64, number: u64) -> String {
    if number == 1 { format!("base {}", image / 10) } else { format!("blob {}", image * BLOBS + number) }
}

/// What lies under that name: nobody runs it, and the scrub finds it sound.
fn content(name: &str) -> &[u8] {
    name.as_bytes()
}

fn digest(name: &str) -> Digest {
    Digest::sha256(content(name))
}
