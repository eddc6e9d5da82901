//! kill -9 of the server itself, at the n-th call of a kind that it makes, while clients pull and the budget holds half of what they pull.
//!
//! ```text
//!   strace ──> pratique serve ──> one store, from round to round
//!     │           ▲  clients: tags, manifests, blobs, in the order of the seed; layers leave all the while
//!     └─ SIGKILL before openat | write | pwritev | … | fdatasync | rename | unlink number n of a thread
//! ```
//!
//! After each, the server is started again: the store holds only what is what its name says; a manifest that a client once had is served
//! with upstream gone, and a layer that is there too; every image is served whole, its missing parts fetched again; in the end the sums
//! that the facts keep are those of the directory.

use std::{collections::HashSet, path::Path};

use futures_util::future::join_all;
use oci::Digest;
use storage::Store;

use super::{PATIENCE, start_again};
use crate::{
    image,
    process::Process,
    soak::{
        Bounds, Got, Page, Random, Say, Stage, Tally, Truth, ask,
        audit::{Leftovers, audit},
        durability, failed,
        stage::{clients_view, ended_well},
    },
    upstream::{Fault, noise},
    world::Setup,
};

/// The calls that change the store, and how many of each a thread makes at most while it serves, as a power of two.
const CALLS: [(&str, u64); 10] = [
    ("openat", 6),
    ("write", 7),
    ("pwritev", 5),
    ("pwrite64", 7),
    ("ftruncate", 2),
    ("fallocate", 2),
    ("fsync", 5),
    ("fdatasync", 6),
    ("rename", 4),
    ("unlink", 3),
];
const IMAGES: u64 = 12;
/// Layers that several images share.
const BASES: u64 = 3;
const CLIENTS: u64 = 3;
const LAYER_BYTES_MIN: u64 = 64 << 10;
const LAYER_BYTES_MAX: u64 = 512 << 10;
/// So many kills must have met a server at work for the rest to say anything: one in so many.
const STRUCK_ONE_IN: u64 = 4;

/// Where it is killed.
#[derive(Debug, Clone, Copy)]
struct Strike {
    call: &'static str,
    /// Of one thread, from 1 on.
    number: u64,
}

impl Strike {
    fn any(random: &mut Random) -> Self {
        let (call, most) = random.pick(&CALLS).copied().unwrap_or(("fdatasync", 5));
        // The first few are as likely as all that come after them.
        let range = 1 << random.below(most + 1);
        Self { call, number: 1 + random.below(range) }
    }

    /// What starts the server so that it is killed there. The server is our child, and strace is not.
    fn starter(self) -> [String; 10] {
        let Self { call, number } = self;
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={number}"));
        ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject].map(str::to_owned)
    }
}

/// Kills and restarts, once for each round.
pub async fn run(bounds: Bounds, say: Say) -> Tally {
    let mut tally = Tally::default();
    if let Some(why) = durability::no_steps() {
        say(&format!("skipped: no kills at steps here: {why}"));
        tally.count(Ok(()));
        return tally;
    }
    let (stage, truths) = set().await;
    let store = stage.store("struck");
    let (mut known, mut rounds, mut struck) = (HashSet::new(), 0, 0);
    for round in bounds.each() {
        // Each round by itself is the same again, whatever came before it.
        let mut random = Random::new(bounds.seed.wrapping_add(round << 32));
        let strike = Strike::any(&mut random);
        let outcome = one(&stage, &truths, &store, strike, random, &mut known).await;
        rounds += 1;
        match &outcome {
            Ok(met) => {
                struck += u64::from(*met);
                let when = if *met { "at work" } else { "after all was pulled" };
                say(&format!("{round:>5}  killed {when}, {} number {}", strike.call, strike.number));
            }
            Err(why) => say(&format!("{round:>5}  FAILED at {} number {}: {why}", strike.call, strike.number)),
        }
        tally.count(
            outcome.map(drop).map_err(|why| format!("round {round} of seed {}, {strike:?}: {why}", bounds.seed)),
        );
    }
    tally.check(struck * STRUCK_ONE_IN >= rounds, || {
        format!("only {struck} of {rounds} kills met a server at work: the figures beside the calls are wrong")
    });
    tally
}

/// Twice as much as the budget holds.
async fn set() -> (Stage, Vec<Truth>) {
    let mut random = Random::new(1);
    let mut layer = |seed| {
        let size = LAYER_BYTES_MIN + random.below(LAYER_BYTES_MAX - LAYER_BYTES_MIN);
        noise(usize::try_from(size).unwrap_or_default(), seed)
    };
    let bases: Vec<_> = (0..BASES).map(|number| layer(1000 + number)).collect();
    let own: Vec<_> = (0..IMAGES).map(&mut layer).collect();
    let working_set: usize = bases.iter().chain(&own).map(bytes::Bytes::len).sum();
    let setup = Setup { storage: format!("max_bytes = {}", working_set / 2), ..Setup::default() };
    let stage = Stage::new(&setup).await;
    let push = |(number, (own, base)): (usize, (bytes::Bytes, &bytes::Bytes))| {
        let (repository, tag) = (format!("chainguard/struck-{}", number % 3), format!("v{number}"));
        let image = image::single("linux/amd64", [base.clone(), own]);
        stage.world.push_signed(&repository, &tag, &image);
        Truth::of(&repository, &tag, &image)
    };
    let truths = own.into_iter().zip(bases.iter().cycle()).enumerate().map(push).collect();
    (stage, truths)
}

/// One kill and what comes after it. Whether a client noticed.
async fn one(
    stage: &Stage,
    truths: &[Truth],
    store: &Path,
    strike: Strike,
    mut random: Random,
    known: &mut HashSet<String>,
) -> Result<bool, String> {
    stage.world.registry.clear_faults();
    stage.world.registry.clear_calls();
    let starter = strike.starter();
    let starter: Vec<&str> = starter.iter().map(String::as_str).collect();
    // Where it does not come to serving it was killed on the way: that it starts without strace is seen below.
    let met = match stage.serve_under(&starter, store).await {
        Err(_) => true,
        Ok(process) => {
            let pulls = join_all((0..CLIENTS).map(|_| pulls(&process, truths, random.any())));
            let pulled = tokio::time::timeout(PATIENCE, pulls).await.map_err(|_| "a client waits in vain".to_owned());
            process.kill().await.map_err(|silent| silent.to_string())?;
            let mut met = false;
            for one in pulled? {
                let (manifests, ended) = one?;
                known.extend(manifests);
                met |= !ended;
            }
            met
        }
    };
    audit(store, Leftovers::Ignored).map_err(|why| failed("the store after the kill", why))?;
    let process = start_again(stage, store).await.map_err(|why| failed("restart", why))?;
    let there = audit(store, Leftovers::Interrupted).map_err(|why| failed("the store after the restart", why))?;
    without_upstream(stage, &process, truths, known, (store, &there))
        .await
        .map_err(|why| failed("restarted, upstream down", why))?;
    stage.world.registry.clear_faults();
    for page in truths.iter().flat_map(|truth| &truth.pages) {
        let (client, base) = clients_view(&process);
        match ask(&client, &base, page, None).await? {
            Got::Whole => {}
            other => return Err(format!("the pull after the restart: {other:?} for {}", page.path)),
        }
    }
    known.extend(
        truths.iter().flat_map(|truth| &truth.pages).filter(|page| is_manifest(page)).map(|page| page.path.clone()),
    );
    ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)?;
    sums(store)?;
    Ok(met)
}

fn is_manifest(page: &Page) -> bool {
    !page.is_blob
}

/// Pulls all images, in the order of the seed, up to the first thing that does not come whole. The manifests that did, and whether all
/// did.
async fn pulls(process: &Process, truths: &[Truth], seed: u64) -> Result<(Vec<String>, bool), String> {
    let (client, base) = clients_view(process);
    let mut order: Vec<&Truth> = truths.iter().collect();
    Random::new(seed).shuffle(&mut order);
    let mut manifests = Vec::new();
    for page in order.into_iter().flat_map(|truth| &truth.pages) {
        match ask(&client, &base, page, None).await? {
            Got::Whole => manifests.extend(Some(page.path.clone()).filter(|_| is_manifest(page))),
            Got::Broken | Got::Nothing => return Ok((manifests, false)),
            other => return Err(format!("before the kill: {other:?} for {}", page.path)),
        }
    }
    Ok((manifests, true))
}

/// What a client once had of manifests is durable; a layer that is there, and stays there, is served. Of the rest there may be nothing,
/// but nothing wrong.
async fn without_upstream(
    stage: &Stage,
    process: &Process,
    truths: &[Truth],
    known: &HashSet<String>,
    (store, there): (&Path, &[Digest]),
) -> Result<(), String> {
    stage.world.registry.fault(|_| true, Fault::status(503));
    let (client, base) = clients_view(process);
    for truth in truths {
        let is_known = truth.pages.iter().any(|page| is_manifest(page) && known.contains(&page.path));
        for page in &truth.pages {
            let got = ask(&client, &base, page, None).await?;
            let must = if is_manifest(page) {
                known.contains(&page.path)
            } else {
                is_known && there.contains(&page.digest) && super::is_stored(store, &page.digest)
            };
            if must && got != Got::Whole {
                return Err(format!("{} is there, and is answered with {got:?}", page.path));
            }
        }
    }
    Ok(())
}

/// What the facts say is there is what is there.
fn sums(store: &Path) -> Result<(), String> {
    let there = audit(store, Leftovers::Refused).map_err(|why| failed("the store in the end", why))?;
    let open = Store::open(store, 50).map_err(|error| failed("open", error))?;
    let totals = open.facts().read().and_then(|facts| facts.totals()).map_err(|error| failed("totals", error))?;
    let told = totals.layers.blobs + totals.metadata.blobs;
    if told != there.len() as u64 {
        return Err(format!("the facts count {told} blobs, and {} are there", there.len()));
    }
    Ok(())
}
