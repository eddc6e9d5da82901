//! A refresh: TUF is asked, and what it vouches for is kept.

use std::sync::Arc;

use config::Settings;
use metrics::counter;
use oci::UnixTime;
use policy::TrustRoot;

use super::{
    TRUST_ROOT_BYTES_MAX,
    error::TrustError,
    kept::{Held, Keeper, Kept, KeptRoot, Provenance},
    load,
    repository::{Metadata, Source},
    tuf::{self, Verified, Versions},
};
use crate::{app::StartError, clock::Clock, upstream::Mirror};

/// What a refresh or an import came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// In force before.
    pub before: TrustRoot,
    /// In force from now on, for whoever loads it.
    pub after: TrustRoot,
    /// When it was known to be current.
    pub as_of: UnixTime,
    /// Where it came from.
    pub from: String,
    /// Which metadata vouched for it, where TUF did.
    pub versions: Option<Versions>,
}

impl Outcome {
    /// Whether the content is another: only then is anything judged again.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.before.content_digest() != self.after.content_digest()
    }
}

/// Asks the configured mirror now. The store's directory `trust` is all it changes, so that it works beside a running server; who
/// serves loads it afterwards.
///
/// # Errors
/// As [`TrustError`] says; what was in force stays.
pub async fn update(settings: &Arc<Settings>, clock: &Clock) -> Result<Outcome, TrustError> {
    let outcome = from_mirror(settings, clock).await;
    let label = match &outcome {
        Ok(outcome) if outcome.is_changed() => "updated",
        Ok(_) => "unchanged",
        Err(error) => error.as_str(),
    };
    counter!("pratique_trust_root_refreshes_total", "outcome" => label).increment(1);
    outcome
}

async fn from_mirror(settings: &Arc<Settings>, clock: &Clock) -> Result<Outcome, TrustError> {
    let refresh = settings.policy.trust_root_refresh.as_ref().ok_or_else(|| not_refreshed(settings))?;
    let mirror = Mirror::new(refresh, &settings.limits, &settings.proxies).map_err(Box::new)?;
    let from = refresh.mirror.to_string();
    let provenance = Provenance::Refreshed(from.clone());
    from_tuf(settings, clock, Source::Mirror(Box::new(mirror)), from, provenance).await
}

/// The error of a trust root that is a file and nothing more.
pub(super) fn not_refreshed(settings: &Settings) -> TrustError {
    let path = match &settings.policy.trust_root {
        config::TrustRootSource::File(path) => path.clone(),
        config::TrustRootSource::PublicGood => "policy.trust_root".into(),
    };
    TrustError::NotRefreshed { path }
}

/// Takes what a TUF repository vouches for, and keeps it together with the metadata that say so.
pub(super) async fn from_tuf(
    settings: &Arc<Settings>,
    clock: &Clock,
    source: Source,
    from: String,
    provenance: Provenance,
) -> Result<Outcome, TrustError> {
    let now = clock.now();
    let begun = Arc::clone(settings);
    let Begun { held, mut kept, before, initial } = blocking(move || Begun::new(&begun, now)).await?;
    let metadata = Metadata::of(kept.metadata.clone());
    let verified = tuf::verified(source, &from, initial, metadata.clone(), now).await;
    let parsed = verified.and_then(|verified| parsed(&from, &verified));
    let metadata = metadata.now();
    let is_news = metadata != kept.metadata || parsed.is_ok();
    kept.metadata = metadata;
    if let Ok((after, _)) = &parsed {
        kept.root = Some(KeptRoot { text: after.text().to_owned(), as_of: now, from: provenance });
    }
    if is_news {
        // Also where nothing was taken: what was verified must not be gone back behind.
        blocking(move || held.keep(&kept)).await?;
    }
    let (after, versions) = parsed?;
    Ok(Outcome { before, after, as_of: now, from, versions: Some(versions) })
}

/// What there is before the repository is asked, under the lock.
pub(super) struct Begun {
    pub(super) held: Held,
    pub(super) kept: Kept,
    pub(super) before: TrustRoot,
    initial: (String, String),
}

impl Begun {
    pub(super) fn new(settings: &Settings, now: UnixTime) -> Result<Self, TrustError> {
        let refresh = settings.policy.trust_root_refresh.as_ref().ok_or_else(|| not_refreshed(settings))?;
        let keeper = Keeper::of(settings)?.ok_or_else(|| not_refreshed(settings))?;
        let initial = tuf::initial(refresh)?;
        let held = keeper.hold()?;
        let kept = held.read()?.unwrap_or_default();
        let before = load(settings, now)?.value.root;
        Ok(Self { held, kept, before, initial })
    }
}

fn parsed(from: &str, verified: &Verified) -> Result<(TrustRoot, Versions), TrustError> {
    debug_assert!(verified.bytes.len() as u64 <= TRUST_ROOT_BYTES_MAX, "bounded while it was fetched");
    let root =
        TrustRoot::parse(&verified.bytes).map_err(|source| TrustError::Unusable { from: from.to_owned(), source })?;
    Ok((root, verified.versions))
}

/// Files are small here, but a disk can be slow.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TrustError> + Send + 'static,
) -> Result<T, TrustError> {
    storage::work::run(work).await.map_err(|error| StartError::Store(error.to_string()))?
}
