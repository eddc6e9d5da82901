//! kill -9 at points of a pull, then a restart.
//!
//! ```text
//!  HEAD tag ─ GET manifest ─ evidence ─ "image admitted" ─ blobs … growing … whole ─ named ─ served
//!     ▲           ▲            ▲               ▲                 ▲            ▲       ▲        ▲
//!  Asked(n)    Asked(n)     Asked(n)       Admitted(n)        Within(at)    Written  Named   Served
//! ```
//!
//! After each: the store holds only what is what its name says; what a client got to its end is still served with upstream gone;
//! nothing wrong is; the next pull brings everything.

pub mod struck;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::{task::JoinHandle, time::timeout};

use super::{
    Bounds, Got, Page, Random, Say, Stage, Tally, Truth, ask,
    audit::{Leftovers, audit, ingested, is_stored},
    failed,
    stage::{clients_view, ended_well, until},
};
use crate::{
    client::Client,
    image,
    process::Process,
    upstream::{Call, Fault, Injected, noise},
    world::Setup,
};

const REPOSITORY: &str = "chainguard/killed";
const LAYER_BYTES: u64 = 4 << 20;
/// After a kill every connection is closed; a client that still waits then waits in vain.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// Upstream has been asked this often before, and now does not answer.
    Asked(usize),
    /// Upstream has stopped after so many bytes of the index.
    WithinManifest(u64),
    /// Upstream has stopped after so many bytes of a signed payload.
    WithinEvidence(u64),
    /// The log has told of the admission: the verdict is on its way to the disk.
    Admitted(u64),
    /// Upstream has stopped after so many bytes of the large layer, and all of them are written.
    WithinLayer(u64),
    /// Upstream has just sent the large layer's last byte.
    Released(u64),
    /// All bytes of the large layer are written, or it has got its name.
    Written(u64),
    /// The large layer has got its name.
    Named(u64),
    /// A client has all of the large layer.
    Served(u64),
}

/// How far a start gets at most before it is killed: some get to the end.
const START_TURNS: u64 = 100_000;

/// Which kill.
#[derive(Debug, Clone, Copy)]
struct Round {
    number: u64,
    /// 0: the start after the kill is left alone.
    turns_of_the_start: u64,
}

/// Kills and restarts, once for each round; the first twenty rounds are spread over the whole pull.
pub async fn run(bounds: Bounds, say: Say) -> Tally {
    let mut tally = Tally::default();
    let (stage, truth) = set().await;
    let calls = match calls_of_a_pull(&stage, &truth).await {
        Ok(calls) => calls,
        Err(why) => {
            tally.count(Err(failed("a pull that nobody disturbs", why)));
            return tally;
        }
    };
    let mut random = Random::new(bounds.seed);
    for round in bounds.each() {
        let point = point(round, calls, &mut random);
        let again = round % 5 == 4;
        let turns_of_the_start = if again { 1 + random.below(START_TURNS) } else { 0 };
        let outcome = kill_at(&stage, &truth, point, Round { number: round, turns_of_the_start }).await;
        say(&format!(
            "{round:>5}  {point:?}  {}",
            outcome
                .as_ref()
                .map_or_else(String::clone, |served| { format!("{served} of {} had been served", truth.pages.len()) })
        ));
        tally.count(outcome.map(drop).map_err(|why| failed(&format!("killed at {point:?}"), why)));
    }
    tally
}

/// An index of two images, one of them with a layer large enough to stop in.
async fn set() -> (Stage, Truth) {
    let stage = Stage::new(&Setup::default()).await;
    let bytes = |size: u64, seed| noise(usize::try_from(size).unwrap_or_default(), seed);
    let amd64 = image::single("linux/amd64", [bytes(100_000, 1), bytes(LAYER_BYTES, 2)]);
    let arm64 = image::single("linux/arm64", [bytes(70_000, 3)]);
    let index = image::index([amd64, arm64]);
    stage.world.push_signed(REPOSITORY, "latest", &index);
    (stage, Truth::of(REPOSITORY, "latest", &index))
}

async fn calls_of_a_pull(stage: &Stage, truth: &Truth) -> Result<usize, String> {
    let store = stage.store("undisturbed");
    let process = stage.serve(&store).await?;
    whole_pull(&process, truth).await?;
    ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)?;
    let calls = stage.world.registry.calls().len();
    stage.discard(&store)?;
    Ok(calls)
}

fn point(round: u64, calls: usize, random: &mut Random) -> Point {
    let asked = |part: usize| Point::Asked(part * calls.saturating_sub(1) / 5);
    match round {
        0 => asked(0),
        1 => asked(1),
        2 => asked(2),
        3 => asked(3),
        4 => asked(4),
        5 => asked(5),
        6 => Point::WithinManifest(1),
        7 => Point::WithinEvidence(1),
        8 => Point::Admitted(0),
        9 => Point::Admitted(100),
        10 => Point::WithinLayer(0),
        11 => Point::WithinLayer(1),
        12 => Point::WithinLayer(64 * 1024),
        13 => Point::WithinLayer(LAYER_BYTES / 2),
        14 => Point::WithinLayer(LAYER_BYTES - 64 * 1024),
        15 => Point::WithinLayer(LAYER_BYTES - 1),
        16 => Point::Released(0),
        17 => Point::Written(0),
        18 => Point::Named(0),
        19 => Point::Served(0),
        _ => any_point(calls, random),
    }
}

/// The moments around a commit are the narrow ones: they come more often, and a few turns of the scheduler apart.
fn any_point(calls: usize, random: &mut Random) -> Point {
    let turns = random.below(200);
    match random.below(10) {
        0 => Point::Asked(random.index(calls)),
        1 => Point::WithinManifest(random.below(200)),
        2 => Point::WithinEvidence(random.below(200)),
        3 => Point::Admitted(turns),
        4 | 5 => Point::WithinLayer(random.below(LAYER_BYTES)),
        6 => Point::Released(turns),
        7 => Point::Written(turns),
        8 => Point::Named(turns),
        _ => Point::Served(turns),
    }
}

/// One kill and what comes after it, which in every fifth round begins with another kill, somewhere in the start. Returns how much had
/// been served before.
async fn kill_at(stage: &Stage, truth: &Truth, point: Point, round: Round) -> Result<usize, String> {
    let registry = &stage.world.registry;
    let Round { number, turns_of_the_start } = round;
    registry.clear_faults();
    registry.clear_calls();
    let store = stage.store(&format!("killed-{number}"));
    let process = stage.serve(&store).await?;
    let stop = stop_at(stage, truth, point);
    let pull = Pull::start(&process, truth);
    let reached = reached(point, stop.as_ref(), &process, &pull, &store, truth).await;
    process.kill().await.map_err(|silent| silent.to_string())?;
    reached?;
    registry.clear_faults();
    let served = pull.end().await?;
    audit(&store, Leftovers::Ignored).map_err(|why| failed("the store after the kill", why))?;

    if turns_of_the_start > 0 {
        interrupted_start(stage, &store, turns_of_the_start).await?;
    }
    let process = start_again(stage, &store).await.map_err(|why| failed("restart", why))?;
    let before = audit(&store, Leftovers::Interrupted).map_err(|why| failed("the store after the restart", why))?;
    without_upstream(stage, &process, truth, &served).await.map_err(|why| failed("restarted, upstream down", why))?;
    registry.clear_faults();
    whole_pull(&process, truth).await.map_err(|why| failed("the pull after the restart", why))?;
    ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)?;
    // While somebody still reads what was interrupted, the next download has a file of its own, and that one stays to be swept.
    let after = audit(&store, Leftovers::Interrupted).map_err(|why| failed("the store in the end", why))?;
    if let Some(lost) = before.iter().find(|digest| !after.contains(digest)) {
        return Err(format!("{lost} was in the store and is gone"));
    }
    if let Some(missing) = truth.blobs().find(|page| !after.contains(&page.digest)) {
        return Err(format!("{} was pulled and is not in the store", missing.digest));
    }
    stage.discard(&store)?;
    Ok(served.len())
}

/// A start that does not get far: it is killed after so many turns of our scheduler.
async fn interrupted_start(stage: &Stage, store: &Path, turns: u64) -> Result<(), String> {
    let over = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        started = stage.serve(store) => started?.kill().await.map(drop).map_err(|silent| silent.to_string()),
        // Dropped, the process is killed.
        () = over => Ok(()),
    }
}

/// A process that was just killed may still hold the store for a moment.
async fn start_again(stage: &Stage, store: &Path) -> Result<Process, String> {
    let started = Instant::now();
    loop {
        match stage.serve(store).await {
            Err(why) if why.contains("in use by another process") && started.elapsed() < PATIENCE => {}
            other => return other,
        }
    }
}

/// Has upstream stop where the point is.
fn stop_at(stage: &Stage, truth: &Truth, point: Point) -> Option<Injected> {
    let registry = &stage.world.registry;
    let layer = truth.largest().digest.to_string();
    let of_layer = move |call: &Call| call.is_blob() && call.path.ends_with(&layer);
    let blobs: Vec<_> = truth.blobs().map(|page| page.path.clone()).collect();
    Some(match point {
        Point::Asked(before) => registry.fault(|_| true, Fault::Hang).after(before),
        Point::WithinManifest(at) => registry.fault(|call| call.is_manifest() && call.is_get(), Fault::Stall(at)),
        Point::WithinEvidence(at) => {
            registry.fault(move |call| call.is_blob() && !blobs.contains(&call.path), Fault::Stall(at))
        }
        Point::WithinLayer(at) => registry.fault(of_layer, Fault::Stall(at)),
        Point::Released(_) => registry.fault(of_layer, Fault::Stall(LAYER_BYTES - 1)),
        Point::Admitted(_) | Point::Written(_) | Point::Named(_) | Point::Served(_) => return None,
    })
}

/// Waits until the pull is there.
async fn reached(
    point: Point,
    stop: Option<&Injected>,
    process: &Process,
    pull: &Pull,
    store: &Path,
    truth: &Truth,
) -> Result<(), String> {
    let layer = truth.largest();
    let written = |bytes| move || ingested(store, &layer.digest).is_some_and(|length| length >= bytes);
    if let Some(stop) = stop {
        stop.hit(1).await.map_err(|never| never.to_string())?;
    }
    let turns = match point {
        Point::Asked(_) | Point::WithinManifest(_) | Point::WithinEvidence(_) => 0,
        Point::Admitted(turns) => {
            admission(process).await?;
            turns
        }
        Point::WithinLayer(at) => {
            until("the bytes upstream sent", written(at)).await?;
            0
        }
        Point::Released(turns) => {
            until("all bytes but one", written(LAYER_BYTES - 1)).await?;
            if let Some(stop) = stop {
                stop.release();
            }
            turns
        }
        Point::Written(turns) => {
            let whole = written(LAYER_BYTES);
            until("the whole layer", || whole() || is_stored(store, &layer.digest)).await?;
            turns
        }
        Point::Named(turns) => {
            until("the layer's name", || is_stored(store, &layer.digest)).await?;
            turns
        }
        Point::Served(turns) => {
            until("the layer at the client", || pull.served().iter().any(|page| page.digest == layer.digest)).await?;
            turns
        }
    };
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn admission(process: &Process) -> Result<(), String> {
    let told = |entry: &Value| entry["message"].as_str().is_some_and(|text| text.starts_with("image admitted"));
    process.logged("that the image was admitted", told).await.map(drop).map_err(|silent| silent.to_string())
}

/// A pull under way; it ends at the first thing that does not come whole.
struct Pull {
    served: Arc<Mutex<Vec<Page>>>,
    task: JoinHandle<Result<(), String>>,
}

impl Pull {
    fn start(process: &Process, truth: &Truth) -> Self {
        let served = Arc::new(Mutex::new(Vec::new()));
        let (kept, pages) = (Arc::clone(&served), truth.pages.clone());
        let (client, base) = clients_view(process);
        let task = tokio::spawn(async move {
            for page in pages {
                match ask(&client, &base, &page, None).await? {
                    Got::Whole => lock(&kept).push(page),
                    Got::Broken | Got::Nothing => break,
                    other => return Err(format!("before the kill: {other:?} for {}", page.path)),
                }
            }
            Ok(())
        });
        Self { served, task }
    }

    fn served(&self) -> Vec<Page> {
        lock(&self.served).clone()
    }

    async fn end(self) -> Result<Vec<Page>, String> {
        let ended = timeout(PATIENCE, self.task).await.map_err(|_| "a client still waits after the kill".to_owned())?;
        ended.map_err(|error| error.to_string())??;
        let served = lock(&self.served).clone();
        Ok(served)
    }
}

fn lock(served: &Mutex<Vec<Page>>) -> MutexGuard<'_, Vec<Page>> {
    served.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a client once had to its end was acknowledged: it is there. Of the rest there may be nothing, but nothing wrong.
async fn without_upstream(stage: &Stage, process: &Process, truth: &Truth, served: &[Page]) -> Result<(), String> {
    stage.world.registry.fault(|_| true, Fault::status(503));
    let (client, base) = clients_view(process);
    let had = |page: &Page| served.iter().any(|one| one.path == page.path);
    let looks = truth.pages.iter().map(|page| {
        let (client, base) = (&client, &base);
        async move {
            let got = ask(client, base, page, None).await?;
            if had(page) && got != Got::Whole {
                return Err(format!("{} had been served whole, and is now {got:?}", page.path));
            }
            let part = ask(client, base, page, page.is_blob.then_some(0..1000)).await?;
            if had(page) && !part.is_complete() {
                return Err(format!("{} had been served whole, and a part of it is now {part:?}", page.path));
            }
            Ok(())
        }
    });
    join_all(looks).await.into_iter().collect()
}

/// Everything, whole, and the blobs in parts too.
async fn whole_pull(process: &Process, truth: &Truth) -> Result<(), String> {
    let (client, base) = clients_view(process);
    for page in &truth.pages {
        pull_page(&client, &base, page).await?;
    }
    Ok(())
}

async fn pull_page(client: &Client, base: &str, page: &Page) -> Result<(), String> {
    let whole = ask(client, base, page, None).await?;
    if whole != Got::Whole {
        return Err(format!("{whole:?} for {}", page.path));
    }
    let length = page.bytes.len() as u64;
    for range in [0..1.min(length), length / 2..length] {
        let part = ask(client, base, page, page.is_blob.then(|| range.clone())).await?;
        if !part.is_complete() {
            return Err(format!("{part:?} for {range:?} of {}", page.path));
        }
    }
    Ok(())
}
