//! Tags in use are looked up again before their time is over, so that who pulls them need not wait for upstream.
//!
//! What is asked here nobody waits for: it goes a few at a time, joins what clients ask for, and is left out where upstream limits our
//! rate. A tag that nobody has asked for in a while is not in use any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use config::{TagRefresh, Tags};
use futures_util::{StreamExt as _, future::join_all, stream};
use metrics::counter;
use moka::{Equivalent, sync::Cache};
use oci::{Repository, Tag, UnixTime, UpstreamName};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    app::App,
    error::{ApiError, chain},
    evidence_tag::subject_of,
    patience::Patience,
    supervise::part,
};

/// A tag is in use for so many times `tags.ttl` after it was asked for, and not longer than this.
const TTLS: u32 = 10;
const IN_USE_MAX: Duration = Duration::from_secs(3600);
/// Refreshed at one time, of one upstream.
const AT_A_TIME: usize = 4;
/// Looked for what is due so many times within `tags.ttl`, but neither all the time nor next to never.
const LOOKS: u32 = 10;
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Tags that were asked for; at most `limits.tags_refreshed_max`.
pub struct InUse(Cache<(Repository, Tag), Arc<Uses>>);

/// In milliseconds since 1970.
#[derive(Debug, Default)]
struct Uses {
    /// When a client was served it last.
    used: AtomicU64,
    /// When it was refreshed last, whatever came of that: what fails is not asked for at each look.
    tried: AtomicU64,
}

/// Upstreams whose tags are being refreshed: one that is slow keeps no other's waiting.
type Busy = Arc<Mutex<BTreeSet<UpstreamName>>>;

type Due = ((Repository, Tag), Arc<Uses>);

/// A key that need not be made to be looked for.
#[derive(Hash)]
struct Wanted<'a>(&'a Repository, &'a Tag);

impl Equivalent<(Repository, Tag)> for Wanted<'_> {
    fn equivalent(&self, key: &(Repository, Tag)) -> bool {
        *self.0 == key.0 && *self.1 == key.1
    }
}

impl InUse {
    pub(crate) fn new(tags_max: usize) -> Self {
        Self(Cache::new(tags_max as u64))
    }

    /// A client was served what the tag means.
    pub(crate) fn used(&self, repository: &Repository, tag: &Tag, now: UnixTime) {
        // Tags that say what they speak about are looked up with their subjects.
        if subject_of(tag).is_some() {
            return;
        }
        if let Some(uses) = self.0.get(&Wanted(repository, tag)) {
            uses.used.store(now.as_millis(), Ordering::Relaxed);
            return;
        }
        let uses = Uses { used: AtomicU64::new(now.as_millis()), ..Uses::default() };
        self.0.insert((repository.clone(), tag.clone()), Arc::new(uses));
    }

    /// Those that were asked for within `age_max`, and not tried to be refreshed within `pause`; those that are older are forgotten.
    fn young(&self, now: UnixTime, age_max: Duration, pause: Duration) -> Vec<Due> {
        let since = |at: &AtomicU64| now.since(UnixTime::from_millis(at.load(Ordering::Relaxed)));
        let mut young = Vec::new();
        for (key, uses) in &self.0 {
            if since(&uses.used).is_none_or(|age| age < age_max) {
                if since(&uses.tried).is_none_or(|age| age >= pause) {
                    young.push((Arc::unwrap_or_clone(key), uses));
                }
            } else {
                self.0.invalidate(&*key);
            }
        }
        young
    }
}

/// Refreshes until told to drain.
pub(crate) async fn run(app: Arc<App>, mut draining: watch::Receiver<bool>) {
    let (mut under_way, busy) = (JoinSet::new(), Busy::default());
    let rounds = async {
        loop {
            let ttl = app.in_force().settings.tags.ttl;
            tokio::time::sleep((ttl / LOOKS).clamp(LOOK_MIN, LOOK_MAX)).await;
            for (upstream, due) in due(&app) {
                if lock(&busy).insert(upstream.clone()) {
                    let (app, turn) = (Arc::clone(&app), Turn { busy: Arc::clone(&busy), upstream });
                    under_way.spawn(async move {
                        if part("tags", refresh_all(app, due)).await.is_none() {
                            tracing::error!(upstream = %turn.upstream, "tags were not refreshed: a panic");
                        }
                    });
                }
            }
            while under_way.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = rounds => {}
        _ = draining.wait_for(|draining| *draining) => {}
    }
}

/// Looks once, and refreshes what is due.
pub async fn round(app: &Arc<App>) {
    join_all(due(app).into_values().map(|due| refresh_all(Arc::clone(app), due))).await;
}

/// What is due, by upstream: used lately, and looked at so long ago that its time is nearly over.
fn due(app: &App) -> BTreeMap<UpstreamName, Vec<Due>> {
    let in_force = app.in_force();
    let tags = &in_force.settings.tags;
    if tags.refresh == TagRefresh::Never || tags.ttl.is_zero() {
        return BTreeMap::new();
    }
    let in_use = tags.ttl.saturating_mul(TTLS).min(IN_USE_MAX.max(tags.ttl));
    // A refresh that went well makes the tag young for four fifths of its time; one that did not is not repeated before that.
    let young = app.tags_in_use.young(app.clock.now(), in_use, due_after(tags));
    let due = young.into_iter().filter(|((repository, tag), _)| is_due(app, repository, tag, tags));
    let mut by_upstream = BTreeMap::<_, Vec<_>>::new();
    for (tag, uses) in due {
        by_upstream.entry(tag.0.upstream().clone()).or_default().push((tag, uses));
    }
    by_upstream
}

/// An upstream's turn, which ends when this is dropped, also by a panic.
struct Turn {
    busy: Busy,
    upstream: UpstreamName,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.busy).remove(&self.upstream);
    }
}

/// A set is whole whoever panics beside it.
fn lock(busy: &Busy) -> MutexGuard<'_, BTreeSet<UpstreamName>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tags of one upstream.
async fn refresh_all(app: Arc<App>, due: Vec<Due>) {
    stream::iter(due).for_each_concurrent(AT_A_TIME, |(tag, uses)| refresh(Arc::clone(&app), tag, uses)).await;
}

/// How old a tag is when it is looked up again.
fn due_after(tags: &Tags) -> Duration {
    tags.ttl.saturating_sub(tags.ttl / 5)
}

fn is_due(app: &App, repository: &Repository, tag: &Tag, tags: &Tags) -> bool {
    let fact = app.store.facts().read().and_then(|snapshot| snapshot.tag(repository, tag));
    // A store that cannot be read says so to whoever asks for something.
    let Ok(Some(fact)) = fact else { return false };
    let age = app.clock.now().since(fact.checked_at);
    fact.gone_at.is_none() && age.is_some_and(|age| age >= due_after(tags))
}

async fn refresh(app: Arc<App>, (repository, tag): (Repository, Tag), uses: Arc<Uses>) {
    uses.tried.store(app.clock.now().as_millis(), Ordering::Relaxed);
    // Nobody waits for it, and what it has begun goes on.
    let patience = app.in_force().patience();
    let outcome = match patience.wait(refreshed(&app, &repository, &tag, patience)).await {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => {
            tracing::debug!(%repository, %tag, "tag not refreshed: {}", chain(&error));
            "failed"
        }
        None => "failed",
    };
    counter!("pratique_tag_refreshes_total", "outcome" => outcome).increment(1);
}

async fn refreshed(
    app: &Arc<App>,
    repository: &Repository,
    tag: &Tag,
    patience: Patience,
) -> Result<&'static str, ApiError> {
    let upstream = app.in_force().upstream(repository.upstream())?;
    if upstream.is_to_be_spared() {
        return Ok("spared");
    }
    let afresh = Tags { ttl: Duration::ZERO, max_stale: Duration::ZERO, ..Tags::default() };
    let resolved = app.resolver.tag(&upstream, repository, tag, &afresh).await?;
    // Judged as well where it has moved: the evidence is here when somebody asks, and so is the refusal. Not as an answer under the
    // tag: nobody got one.
    match app.admission.manifest(repository, &resolved.digest, patience).await {
        Ok(_) | Err(ApiError::Refused(_)) => Ok("ok"),
        Err(error) => Err(error),
    }
}
