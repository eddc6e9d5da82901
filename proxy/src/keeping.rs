//! Keeps the store within its budgets, and its accounts in order.
//!
//! ```text
//! downloads call for room ──> sweep          every few seconds: what has gathered in memory is written down
//! once after the start, then hourly: facts against directory, what nobody reaches, verdicts of former policies
//! ```

use std::{sync::Arc, time::Duration};

use config::Storage;
use metrics::counter;
use oci::{Digest, Repository, UnixTime};
use policy::Record;
use storage::{Budget, Change, Freed, Keeper, Left, Loss, Marks, StoreError, Sweep};
use tokio::{sync::watch, time::sleep};

use crate::{app::App, error::chain, evidence};

/// Between two times of writing down.
const SETTLE_EVERY: Duration = Duration::from_secs(5);
/// Between two comparisons of facts and directory.
const COMPARE_EVERY: Duration = Duration::from_secs(3600);
/// Longest way of a blob or manifest from its arrival to its facts: as much evidence as one image may have, on a slow disk. What nobody
/// reaches after that, nobody will.
const ARRIVAL_MAX: Duration = Duration::from_secs(10 * 60);
/// What was lost with the facts is kept so long: whoever pulls a manifest again has its layers here.
pub const LOST_KEPT: Duration = Duration::from_secs(14 * 86_400);
/// A pull may take so long: the manifest of an image used since then stays.
const PULL_MAX: Duration = Duration::from_secs(15 * 60);
/// A verdict under a policy that is not in force any more is kept so long: for the operator who takes the change back.
const FORMER_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Between two looks whether there is room for tags.
const THIN_OUT_EVERY: Duration = Duration::from_secs(60);
/// A tag that never served anything is kept so long after it was asked for.
const TAG_KEPT: Duration = Duration::from_secs(3600);
/// Blobs that are looked at once more right before they are removed.
const REMOVED_AT_A_TIME: usize = 64;
/// Manifests looked at in one page, and verdicts on one manifest.
const PAGE: usize = 64;
/// After each group of blobs, or page of manifests, that is looked at: a million blobs take a minute or two, and the pulls that come
/// with a start hardly notice.
const REST: Duration = Duration::from_millis(10);

/// What the operator lets the store hold.
pub(crate) fn budget(storage: &Storage) -> Budget {
    let marks = |max| Marks::new(max, storage.high_water, storage.low_water);
    Budget { layers: storage.max_bytes.map(marks), metadata: storage.metadata_max_bytes.map(marks) }
}

/// How a sweep is made now.
pub(crate) fn sweep(app: &App, dry_run: bool) -> Sweep {
    Sweep { dry_run, spare_since: before(app.clock.now(), PULL_MAX) }
}

fn before(now: UnixTime, age: Duration) -> UnixTime {
    UnixTime::from_millis(now.as_millis().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
}

/// Keeps until told to drain, and writes down what is left then.
pub(crate) async fn run(app: Arc<App>, mut draining: watch::Receiver<bool>) {
    let keeper = Keeper::new(app.store.clone());
    tokio::select! {
        () = keeper.run(|| sweep(&app, false), |left| forget(&app, &left), swept) => {}
        () = settle(&keeper) => {}
        () = compare(&app, &keeper) => {}
        () = thin_out(&app) => {}
        _ = draining.wait_for(|draining| *draining) => {}
    }
    complain("writing down what was used", keeper.settle().await);
}

async fn settle(keeper: &Keeper) {
    loop {
        sleep(SETTLE_EVERY).await;
        complain("writing down what was used", keeper.settle().await);
    }
}

async fn compare(app: &Arc<App>, keeper: &Keeper) {
    loop {
        complain("comparing facts and directory", put_in_order(app, keeper, ARRIVAL_MAX).await);
        complain("looking for former verdicts", drop_former(app).await);
        sleep(COMPARE_EVERY).await;
    }
}

async fn thin_out(app: &Arc<App>) {
    loop {
        sleep(THIN_OUT_EVERY).await;
        complain("looking for tags that served nothing", drop_idle_tags(app).await);
    }
}

/// Where there is not much room for tags any more: lets go of those that never served anything, as they lead to what is refused, or speak
/// about an image, and that nobody has asked for lately. The others hold how new they ever were.
///
/// # Errors
/// When the store fails.
pub async fn drop_idle_tags(app: &App) -> Result<(), StoreError> {
    let limit = app.in_force().settings.limits.tags_max;
    if app.store.facts().read()?.tags_count()? < limit - limit / 4 {
        return Ok(());
    }
    let since = before(app.clock.now(), TAG_KEPT);
    let mut after = None;
    loop {
        let snapshot = app.store.facts().read()?;
        let page = snapshot.tag_facts(after.as_ref(), PAGE)?;
        let mut gone = Vec::new();
        for (repository, tag, fact) in &page {
            // A record that cannot be read holds its tag as others do: `cache forget-newest` is the way out.
            let is_held = match snapshot.tag_served(repository, tag) {
                Ok(served) => served.is_some(),
                Err(error) if error.is_damage() => true,
                Err(error) => return Err(error),
            };
            if fact.checked_at < since && !is_held {
                gone.push(Change::TagForgotten { repository: repository.clone(), tag: tag.clone(), since });
            }
        }
        drop(snapshot);
        if !gone.is_empty() {
            app.store.facts().apply(gone).await?;
        }
        let is_last = page.len() < PAGE;
        after = page.into_iter().next_back().map(|(repository, tag, _)| (repository, tag));
        if is_last {
            return Ok(());
        }
        sleep(REST).await;
    }
}

/// Compares facts and directory, and removes what nobody reached at the beginning nor does after `arrival`, the longest way of a blob
/// from its file to its facts.
///
/// # Errors
/// When the store fails. What was put in order by then is.
pub async fn put_in_order(app: &App, keeper: &Keeper, arrival: Duration) -> Result<(), StoreError> {
    loop {
        let first = keeper.reconcile(REST).await?;
        tracing::debug!(blobs = first.blobs, "facts and directory were compared");
        if first.added + first.struck_off > 0 {
            tracing::info!(
                added = first.added,
                struck_off = first.struck_off,
                "accounts corrected: {} blobs are there",
                first.blobs
            );
        }
        if first.unreached.is_empty() {
            return nothing_lost(app).await;
        }
        evidence::tie(&app.store, &first.unreached).await?;
        sleep(arrival).await;
        if keeps_lost(app).await? {
            tracing::info!(
                "the facts were lost: {} blobs that no manifest reaches are kept for its return",
                first.unreached.len()
            );
            return Ok(());
        }
        let (unreached, mut removed) = (Vec::from_iter(first.unreached), 0);
        // Asked again right before: a manifest that comes meanwhile reaches them.
        for page in unreached.chunks(REMOVED_AT_A_TIME) {
            for digest in keeper.unreached(page.to_vec()).await? {
                app.store.blobs().remove(&digest).await?;
                removed += 1;
            }
        }
        if removed > 0 {
            tracing::info!("{removed} blobs that no manifest reaches were removed");
        }
        // As many as are noted at a time.
        if !first.has_more {
            return Ok(());
        }
    }
}

/// All that is there is reached: whatever was lost has come back.
async fn nothing_lost(app: &App) -> Result<(), StoreError> {
    if app.store.facts().read()?.loss()?.is_some() {
        app.store.facts().apply(vec![Change::Loss(None)]).await?;
    }
    Ok(())
}

/// Whether what nothing reaches is kept, as the facts were lost not long ago.
async fn keeps_lost(app: &App) -> Result<bool, StoreError> {
    let now = app.clock.now();
    let Some(Loss { noticed_at }) = app.store.facts().read()?.loss()? else { return Ok(false) };
    let (keeps, loss) = match noticed_at {
        None => (true, Some(Loss { noticed_at: Some(now) })),
        // By a clock that stepped back nobody knows how long.
        Some(at) if now.since(at).is_none_or(|age| age < LOST_KEPT) => return Ok(true),
        Some(_) => (false, None),
    };
    app.store.facts().apply(vec![Change::Loss(loss)]).await?;
    Ok(keeps)
}

/// Makes memory forget what has left.
pub(crate) fn forget(app: &App, left: &Left) {
    if let Left::Image { digest, .. } = left {
        app.admission.forget(digest);
    }
}

fn swept(freed: Result<Freed, StoreError>) {
    match freed {
        Ok(freed) => told(&freed),
        Err(error) => tracing::warn!("cannot make room in the store: {}", chain(&error)),
    }
}

/// Counts and tells how much has left.
pub(crate) fn told(freed: &Freed) {
    if *freed == Freed::default() {
        return;
    }
    for (class, amount) in [("layers", freed.layers), ("metadata", freed.metadata)] {
        counter!("pratique_evicted_bytes_total", "class" => class).increment(amount.bytes);
        counter!("pratique_evicted_blobs_total", "class" => class).increment(amount.blobs);
    }
    tracing::info!(
        layers = freed.layers.blobs,
        layer_bytes = freed.layers.bytes,
        metadata = freed.metadata.blobs,
        metadata_bytes = freed.metadata.bytes,
        "room was made in the store"
    );
}

/// Lets go of verdicts that do not count any more: those that have ended or cannot be read, and old ones under another policy. One
/// that is dropped too early is made again from stored evidence.
async fn drop_former(app: &Arc<App>) -> Result<(), StoreError> {
    let mut after: Option<(Repository, Digest)> = None;
    loop {
        let (of, from) = (Arc::clone(app), after.take());
        let looked = storage::work::run(move || former(&of, from.as_ref()));
        let (page, gone) =
            looked.await.map_err(|_| StoreError::Stopped { operation: "look for former verdicts" })??;
        if !gone.is_empty() {
            app.store.facts().apply(gone).await?;
        }
        let is_last = page.len() < PAGE;
        after = page.into_iter().next_back();
        if is_last {
            return Ok(());
        }
        sleep(REST).await;
    }
}

type Manifests = Vec<(Repository, Digest)>;

/// The next page of manifests, and which verdicts on them do not count any more.
fn former(app: &App, after: Option<&(Repository, Digest)>) -> Result<(Manifests, Vec<Change>), StoreError> {
    let snapshot = app.store.facts().read()?;
    let page = snapshot.manifests(after, PAGE)?;
    let (judge, now) = (Arc::clone(&app.in_force().judge), app.clock.now());
    let mut gone = Vec::new();
    for (repository, digest) in &page {
        let current = *judge.fingerprint(repository, digest).as_bytes();
        for (fingerprint, bytes) in snapshot.verdicts(repository, digest, PAGE)? {
            if fingerprint != current && is_former(&bytes, now) {
                let (repository, digest) = (repository.clone(), digest.clone());
                gone.push(Change::VerdictGone { repository, digest, fingerprint });
            }
        }
    }
    Ok((page, gone))
}

fn is_former(bytes: &[u8], now: UnixTime) -> bool {
    let counts = |record: Record| record.holds_at(now) && record.decided_at() >= before(now, FORMER_KEPT);
    !Record::from_bytes(bytes).is_ok_and(counts)
}

fn complain(what: &str, done: Result<(), StoreError>) {
    if let Err(error) = done {
        tracing::warn!("{what}: {}", chain(&error));
    }
}
