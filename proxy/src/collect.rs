//! Finds what upstream offers about a digest: the union of all places that policies want asked, none hiding another.
//!
//! ```text
//! origins ── ask ──> candidates ── open, fetch: few and small first ──> pieces ──┬─ few: all are kept, one judgement
//!                                                                               └─ many: sieved as they come, until they suffice
//! ```
//!
//! Nothing in here decides: what is left out is what the judge said no authority takes.

mod candidate;
mod configs;
mod content;
mod fetch;
mod place;
mod room;
mod search;
mod sieve;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use config::Limits;
use futures_util::{StreamExt as _, stream};
use oci::{Addressed, Digest, ManifestKind, Repository, Tag, UntrustedManifest, UpstreamName};
use policy::{Origin, Unasked, UntrustedConfigs, UntrustedEvidence, UntrustedPiece};
use storage::Blobs;
use tokio::time::timeout;

pub(crate) use candidate::SIGNATURE;
pub use room::{Memory, Room, Work};
pub use sieve::{About, Sieve};

use crate::{
    error::patience,
    manifest_room::ManifestRoom,
    upstream::{Flaw, Kind, Upstream, UpstreamError},
};
use search::Search;

/// How many things of one collection are fetched at the same time.
const FETCHES: usize = 8;
/// The config of a manifest of evidence is small; a larger one is left where it is.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// How long one of these may take.
const EXTRA_WITHIN: Duration = Duration::from_secs(3);

/// Asks upstreams, each by its own client only.
pub struct Collector {
    upstreams: BTreeMap<UpstreamName, Arc<Upstream>>,
    limits: Arc<Limits>,
    blobs: Blobs,
    manifests: Arc<ManifestRoom>,
    /// Blobs that came from upstream, and so are not in the store.
    fetched: Mutex<HashSet<Digest>>,
    /// The longest patience that an upstream asked for by a 429.
    patience: Mutex<Option<Duration>>,
}

/// What was found about one digest.
#[derive(Default)]
pub struct Collected {
    /// What became of each place that was to be asked.
    pub places: Vec<Place>,
    /// What they gave.
    pub pieces: Vec<UntrustedPiece>,
    /// The configs of the image, where they were to be collected.
    pub configs: UntrustedConfigs,
    /// The manifests that carried all of their pieces, beside the image, with the tag under which each was found, where there was one.
    pub manifests: Vec<(UntrustedManifest, Option<Tag>)>,
    /// Their configs: nothing is read from them, but who asks for the evidence itself gets them too, with upstream or without.
    pub extras: Vec<Addressed>,
}

/// What became of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which one.
    pub origin: Origin,
    /// Why not all that is there was looked at; none where all was.
    pub unasked: Option<String>,
    /// Why not all that was looked at is kept; none where all is.
    pub partly: Option<String>,
    /// What was there and could not be read, one clause each.
    pub flawed: Vec<String>,
    /// How many more such there were.
    flawed_more: usize,
}

/// Why a place, or one piece in it, gave nothing.
enum Nothing {
    /// It could not be asked: not the same as empty.
    Unasked(String),
    /// What is published there cannot be read. What may only have been damaged on its way, or was never published, is `Unasked`: a no
    /// that is remembered must not rest on it.
    Flawed(String),
    /// There is nothing.
    Empty,
}

impl Collector {
    /// Asks `upstreams` within `limits`. Bytes that `blobs` has need not be fetched again.
    #[must_use]
    pub fn new(
        upstreams: &BTreeMap<UpstreamName, Arc<Upstream>>,
        limits: Arc<Limits>,
        blobs: Blobs,
        manifests: Arc<ManifestRoom>,
    ) -> Self {
        let (fetched, patience) = (Mutex::default(), Mutex::default());
        Self { upstreams: upstreams.clone(), limits, blobs, manifests, fetched, patience }
    }

    /// Asks these places about `subject`. What is found is in `room` until that is dropped.
    ///
    /// 1. All places are asked at once for what they list.
    /// 2. What is listed is opened and fetched: what claims to be evidence before what does not, small before large.
    /// 3. Where that is more than `limits.evidence_count_max`, `sieve` looks at it as it comes: what no authority takes is dropped. It
    ///    is also asked, before the rest is looked at and before each large piece, whether what is there suffices.
    pub async fn evidence(
        &self,
        repository: &Repository,
        subject: &Digest,
        origins: &BTreeSet<Origin>,
        sieve: &Sieve,
        room: &Room,
    ) -> Collected {
        let search = Search::new(self, (repository, subject), sieve, room);
        let mut collected = search.run(origins).await;
        let configs: Vec<_> =
            collected.manifests.iter().map(|(manifest, _)| self.extra(repository, manifest, room)).collect();
        let configs: Vec<_> = stream::iter(configs).buffered(FETCHES).collect().await;
        collected.extras.extend(configs.into_iter().flatten());
        collected
    }

    /// The config of a manifest of evidence. Nobody judges by it: it is left where it does not come at once.
    async fn extra(&self, repository: &Repository, manifest: &UntrustedManifest, room: &Room) -> Option<Addressed> {
        let ManifestKind::Image { config, .. } = manifest.kind() else { return None };
        if config.size > CONFIG_BYTES_MAX {
            return None;
        }
        room.take(vec![config.size]).await.ok()?;
        timeout(EXTRA_WITHIN, self.blob(repository, config)).await.ok()?.ok()
    }

    /// When upstream wants to be asked again, where it limited our rate.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an answer that is none says about what is there: nothing, but for a 404 and for a manifest larger than any may be.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else went wrong, the place was not asked")]
    fn unasked(&self, error: &UpstreamError) -> Nothing {
        match error {
            UpstreamError::NotFound { .. } => Nothing::Empty,
            UpstreamError::Malformed { what: Kind::Manifest, why: Flaw::TooLarge(_) } => {
                Nothing::Flawed(error.to_string())
            }
            UpstreamError::RateLimited { .. } | UpstreamError::HeldBack { is_limit: true, .. } => {
                let mut longest = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
                *longest = (*longest).max(Some(patience(error)));
                Nothing::Unasked(error.to_string())
            }
            _ => {
                if matches!(error, UpstreamError::Misdirected { .. }) {
                    tracing::warn!("cannot fetch evidence: {error}");
                }
                Nothing::Unasked(error.for_clients())
            }
        }
    }

    /// Whether a blob came from upstream by this collector: it is to be stored.
    #[must_use]
    pub fn has_fetched(&self, blob: &Digest) -> bool {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).contains(blob)
    }
}

impl Collected {
    /// For the judge.
    #[must_use]
    pub fn evidence(&self) -> UntrustedEvidence {
        let mut evidence = UntrustedEvidence { pieces: self.pieces.clone(), ..UntrustedEvidence::default() };
        for place in &self.places {
            match &place.unasked {
                None => evidence.asked.push(place.origin.clone()),
                Some(why) => {
                    evidence.unasked.push(Unasked { origin: place.origin.clone(), why: why.clone() });
                }
            }
            evidence.flawed.extend(place.all_flawed());
        }
        evidence.configs = self.configs.clone();
        evidence
    }
}

/// Flaws of one place that are told one by one.
const FLAWED_TOLD_MAX: usize = 16;

impl Place {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, unasked: None, partly: None, flawed: Vec::new(), flawed_more: 0 }
    }

    /// Remembers why one piece gave nothing. What the others gave counts all the same.
    fn note(&mut self, nothing: Nothing) {
        match nothing {
            Nothing::Flawed(why) if self.flawed.len() < FLAWED_TOLD_MAX => self.flawed.push(why),
            Nothing::Flawed(_) => self.flawed_more += 1,
            Nothing::Empty => {}
            Nothing::Unasked(why) => self.cut(why),
        }
    }

    /// Not all that is there was looked at, nor can it be kept.
    fn cut(&mut self, why: String) {
        self.partly.get_or_insert_with(|| why.clone());
        self.unasked.get_or_insert(why);
    }

    /// All flaws, the many summed up.
    pub fn all_flawed(&self) -> impl Iterator<Item = String> {
        let more = (self.flawed_more > 0).then(|| format!("{} more pieces could not be read", self.flawed_more));
        self.flawed.iter().cloned().chain(more)
    }
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked(why) | Self::Flawed(why) => f.write_str(why),
            Self::Empty => f.write_str("nothing is there"),
        }
    }
}
