//! From a reference to bytes: a tag to the digest it has now, a digest to its manifest.

use std::{sync::Arc, time::Duration};

use config::{Limits, Tags};
use metrics::counter;
use oci::{Addressed, Algorithm, Digest, ManifestKind, Reference, Repository, Tag, UnixTime, UntrustedManifest};
use storage::{Change, Edge, EdgeKind, ManifestFact, Store, TagFact};
use tokio::time::timeout;

use crate::{
    clock::Clock,
    error::{ApiError, chain},
    evidence_tag::subject_of,
    flight::Flight,
    limits::manifest_limits,
    manifest_room::ManifestRoom,
    memory::{Memory, Moment},
    seldom::Seldom,
    upstream::{Upstream, UpstreamError},
};

/// The part of the memory for answers that is for tags: a sixteenth.
const TAGS_SHARE: u64 = 16;
/// Of one tag, in bytes.
const FACT_BYTES: usize = 256;

/// Which digest a reference has, and how sure that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The digest that is judged and served.
    pub digest: Digest,
    /// To be told with the answer, where upstream could not confirm a tag.
    pub warning: Option<String>,
}

/// Resolves references and fetches manifests; judges nothing.
pub struct Resolver {
    store: Store,
    clock: Clock,
    limits: Arc<Limits>,
    /// Where tags pointed when they were read, none of them gone.
    known: Memory<Tag, TagFact>,
    tags: Flight<(Repository, Tag, Source), Digest>,
    /// Tags beyond those that may be known.
    unremembered: Seldom,
    /// Shared by all manifests in memory.
    room: Arc<ManifestRoom>,
    manifests: Flight<(Repository, Digest, Source), Arc<UntrustedManifest>>,
}

/// Which upstream is asked, of several of one name that followed each other by reloads: its address, which is no other's for as long as it
/// is asked. Who comes after a reload does not wait for what the former one does.
type Source = usize;

fn source(upstream: &Arc<Upstream>) -> Source {
    Arc::as_ptr(upstream).addr()
}

impl Resolver {
    /// A resolver over `store`.
    #[must_use]
    pub(crate) fn new(store: Store, clock: Clock, limits: Arc<Limits>, room: Arc<ManifestRoom>) -> Self {
        let known = Memory::new(limits.manifest_cache_bytes_max / TAGS_SHARE);
        Self {
            store,
            clock,
            limits,
            known,
            tags: Flight::default(),
            unremembered: Seldom::new(),
            room,
            manifests: Flight::default(),
        }
    }

    /// The digest of a tag that is in memory, and was looked at within `ttl`. `None` says nothing: [`Resolver::tag`] does.
    #[must_use]
    pub fn recalled(&self, repository: &Repository, tag: &Tag, lifetimes: &Tags) -> Option<Digest> {
        let known = self.known.recall(repository, tag)?;
        self.checked_within(&known.value, lifetimes.ttl).then(|| known.value.digest.clone())
    }

    /// Keeps what the store said, from a look from that moment on.
    fn know(&self, repository: &Repository, tag: &Tag, fact: &TagFact, since: Moment) {
        // Tags that say what they speak about are written down wherever evidence is found.
        if fact.gone_at.is_none() && subject_of(tag).is_none() {
            let rests_on = std::iter::once((repository, tag));
            self.known.keep((repository, tag), fact.clone(), (since, rests_on), FACT_BYTES);
        }
    }

    /// The digest of `tag`: the stored one within `ttl`, else upstream's; the last known within `max_stale` where upstream does not
    /// answer, or not within `wait`. Upstream is asked to the end all the same, and what it says is there for the next who asks.
    ///
    /// # Errors
    /// 404 when upstream has no such tag, 429 and 503 when it cannot be asked and nothing known is young enough.
    pub async fn tag(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        repository: &Repository,
        tag: &Tag,
        lifetimes: &Tags,
    ) -> Result<Resolved, ApiError> {
        let since = self.known.moment();
        let known = self.store.facts().read()?.tag(repository, tag)?;
        if let Some(fact) = &known
            && self.checked_within(fact, lifetimes.ttl)
        {
            counter!("pratique_tag_lookups_total", "outcome" => "hit").increment(1);
            self.know(repository, tag, fact, since);
            return fact.gone_at.map_or_else(
                || Ok(Resolved { digest: fact.digest.clone(), warning: None }),
                |_| Err(unknown(repository, tag)),
            );
        }
        let key = (repository.clone(), tag.clone(), source(upstream));
        let asking = self.tags.join(key, || {
            let (this, upstream) = (Arc::clone(self), Arc::clone(upstream));
            let (repository, tag) = (repository.clone(), tag.clone());
            async move { this.ask(&upstream, &repository, &tag).await }
        });
        let can_be_stale = known.as_ref().is_some_and(|fact| self.may_be_stale(fact, lifetimes.max_stale));
        let asked = if can_be_stale { timeout(lifetimes.wait, asking).await } else { Ok(asking.await) };
        let Ok(asked) = asked else {
            let slow = || ApiError::undecided(format!("cannot resolve tag {repository}:{tag}: upstream is slow"));
            return self.stale(lifetimes, repository, tag, "is slow")?.ok_or_else(slow);
        };
        match asked {
            Ok(digest) => {
                counter!("pratique_tag_lookups_total", "outcome" => "revalidated").increment(1);
                Ok(Resolved { digest, warning: None })
            }
            Err(error @ ApiError::Undecided { .. }) => {
                self.stale(lifetimes, repository, tag, "does not answer")?.ok_or(error)
            }
            Err(error @ ApiError::RateLimited { .. }) => {
                self.stale(lifetimes, repository, tag, "limits our rate")?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    fn checked_within(&self, fact: &TagFact, age_max: Duration) -> bool {
        // A record dated in the future has ended: one of the clocks was wrong.
        self.clock.now().since(fact.checked_at).is_some_and(|age| age < age_max)
    }

    fn may_be_stale(&self, fact: &TagFact, max_stale: Duration) -> bool {
        fact.gone_at.is_none() && self.checked_within(fact, max_stale)
    }

    /// The last known digest, where it is young enough, because upstream `does` something else than to tell today's. By what is known now:
    /// somebody else may have been told more since this look began.
    fn stale(
        &self,
        lifetimes: &Tags,
        repository: &Repository,
        tag: &Tag,
        does: &str,
    ) -> Result<Option<Resolved>, ApiError> {
        let known = self.store.facts().read()?.tag(repository, tag)?;
        let Some(fact) = known.filter(|fact| self.may_be_stale(fact, lifetimes.max_stale)) else { return Ok(None) };
        if self.checked_within(&fact, lifetimes.ttl) {
            counter!("pratique_tag_lookups_total", "outcome" => "hit").increment(1);
            return Ok(Some(Resolved { digest: fact.digest, warning: None }));
        }
        let Some(age) = self.clock.now().since(fact.checked_at) else { return Ok(None) };
        counter!("pratique_tag_lookups_total", "outcome" => "stale").increment(1);
        let warning = format!("tag as of {} ago: upstream {does}", ago(age));
        tracing::warn!(%repository, %tag, digest = %fact.digest, "{warning}");
        Ok(Some(Resolved { digest: fact.digest, warning: Some(warning) }))
    }

    /// Asks upstream by HEAD. What it tells is a claim until the manifest is here, and only then the tag's meaning: a digest that
    /// upstream does not have, because the tag moved on or the header lies, must not take the place of one that is good.
    async fn ask(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Digest, ApiError> {
        let (what, began) = (format!("tag {repository}:{tag}"), self.clock.now());
        let head = match upstream.head_manifest(repository.path(), &Reference::Tag(tag.clone())).await {
            Ok(head) => head,
            Err(UpstreamError::NotFound { .. }) => return self.gone(repository, tag, began).await,
            Err(error) => return Err(ApiError::from_upstream(&error, "MANIFEST_UNKNOWN", &what)),
        };
        let told = match head.digest {
            Some(digest) => match self.manifest(upstream, repository, &digest).await {
                Ok(_) => Some(digest),
                Err(error @ (ApiError::Unknown { .. } | ApiError::Wrong { .. })) => {
                    tracing::warn!(%repository, %tag, %digest, "upstream tells a digest for the tag and does not have it: {error}");
                    None
                }
                Err(error) => return Err(error),
            },
            None => None,
        };
        let digest = match told {
            Some(digest) => digest,
            None => self.whole(upstream, repository, tag, began).await?,
        };
        if let Some(digest) = self.told_since(repository, tag, began)? {
            return Ok(digest);
        }
        self.remember(repository, tag, &digest).await?;
        Ok(digest)
    }

    /// What somebody else was told after that time, who asked another upstream of this name: a slow answer of the former one does not
    /// take its place.
    fn told_since(&self, repository: &Repository, tag: &Tag, began: UnixTime) -> Result<Option<Digest>, ApiError> {
        let (fact, now) = (self.store.facts().read()?.tag(repository, tag)?, self.clock.now());
        // One that is dated in the future was told before the clock was set back.
        let is_since = |fact: &TagFact| fact.gone_at.is_none() && began < fact.checked_at && fact.checked_at <= now;
        Ok(fact.filter(is_since).map(|fact| fact.digest))
    }

    /// Fetches what `tag` has now and names it by its own digest.
    async fn whole(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        tag: &Tag,
        began: UnixTime,
    ) -> Result<Digest, ApiError> {
        let what = format!("tag {repository}:{tag}");
        let reference = Reference::Tag(tag.clone());
        let (fetched, room) = match self.room.fetched(upstream, repository.path(), &reference).await? {
            Ok(fetched) => fetched,
            Err(UpstreamError::NotFound { .. }) => return self.gone(repository, tag, began).await,
            Err(error) => return Err(ApiError::from_upstream(&error, "MANIFEST_UNKNOWN", &what)),
        };
        let addressed = Addressed::hash(Algorithm::Sha256, fetched.bytes);
        let manifest = self.parse(room.go_with(addressed), fetched.content_type.as_deref())?;
        self.keep(repository, &manifest).await?;
        Ok(manifest.digest().clone())
    }

    /// Records where `tag` points now, unless as many tags are known as may be (`limits.tags_max`), and this is not one of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remember(&self, repository: &Repository, tag: &Tag, digest: &Digest) -> Result<(), ApiError> {
        let facts = self.store.facts().read()?;
        if facts.tag(repository, tag)?.is_none() && facts.tags_count()? >= self.limits.tags_max {
            counter!("pratique_tags_unremembered_total").increment(1);
            if let Some(times) = self.unremembered.times() {
                tracing::warn!(%repository, %tag, times, "tags are not written down any more: limits.tags_max are known");
            }
            return Ok(());
        }
        drop(facts);
        let change = Change::Tag {
            repository: repository.clone(),
            tag: tag.clone(),
            digest: digest.clone(),
            at: self.clock.now(),
        };
        self.store.facts().apply(vec![change]).await?;
        self.known.forget(&(repository, tag));
        Ok(())
    }

    /// Upstream, asked then, says that the tag is no more: it ends here too, unless somebody was told otherwise since; content and history
    /// stay.
    async fn gone(&self, repository: &Repository, tag: &Tag, began: UnixTime) -> Result<Digest, ApiError> {
        if let Some(digest) = self.told_since(repository, tag, began)? {
            return Ok(digest);
        }
        if self.store.facts().read()?.tag(repository, tag)?.is_none() {
            return Err(unknown(repository, tag));
        }
        let change = Change::TagGone { repository: repository.clone(), tag: tag.clone(), at: self.clock.now() };
        self.store.facts().apply(vec![change]).await?;
        self.known.forget(&(repository, tag));
        Err(unknown(repository, tag))
    }

    /// The manifest as stored in this repository; damage is set aside and told as a miss by the caller's fetching it again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stored(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<UntrustedManifest>, ApiError> {
        let fact = self.store.facts().read()?.manifest(repository, digest)?;
        let Some(fact) = fact else { return Ok(None) };
        let room = self.room.take(fact.size.min(self.limits.manifest_bytes_max)).await?;
        let bytes = self.store.blobs().read(digest, self.limits.manifest_bytes_max).await;
        let addressed = match bytes {
            Ok(Some(addressed)) => addressed,
            Ok(None) => return Ok(None),
            Err(storage::StoreError::Corrupt { .. }) => {
                tracing::warn!(%repository, %digest, "stored manifest is damaged: set aside, to be fetched again");
                counter!("pratique_content_mismatches_total", "what" => "stored-manifest").increment(1);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        self.parse(room.go_with(addressed), Some(&fact.media_type)).map(Some)
    }

    /// The manifest: stored, else from upstream by digest.
    ///
    /// # Errors
    /// 404 when upstream does not have it, 502 when what it has is not what it must be, 503 when it cannot be asked.
    pub async fn manifest(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Arc<UntrustedManifest>, ApiError> {
        if let Some(manifest) = self.stored(repository, digest).await? {
            counter!("pratique_manifest_hits_total").increment(1);
            return Ok(Arc::new(manifest));
        }
        self.manifests
            .join((repository.clone(), digest.clone(), source(upstream)), || {
                let (this, upstream) = (Arc::clone(self), Arc::clone(upstream));
                let (repository, digest) = (repository.clone(), digest.clone());
                async move {
                    // Somebody else's fetch may have ended since.
                    let manifest = match this.stored(&repository, &digest).await? {
                        Some(manifest) => manifest,
                        None => this.fetch(&upstream, &repository, &digest).await?,
                    };
                    Ok(Arc::new(manifest))
                }
            })
            .await
    }

    async fn fetch(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<UntrustedManifest, ApiError> {
        counter!("pratique_manifest_misses_total").increment(1);
        let reference = Reference::Digest(digest.clone());
        let what = format!("manifest {repository}@{digest}");
        let fetched = self.room.fetched(upstream, repository.path(), &reference).await?;
        let (fetched, room) = fetched.map_err(|error| ApiError::from_upstream(&error, "MANIFEST_UNKNOWN", &what))?;
        let addressed = Addressed::check(digest, fetched.bytes).map_err(|error| {
            counter!("pratique_content_mismatches_total", "what" => "manifest").increment(1);
            ApiError::Wrong { code: "MANIFEST_INVALID", message: format!("upstream {error}") }
        })?;
        let manifest = self.parse(room.go_with(addressed), fetched.content_type.as_deref())?;
        self.keep(repository, &manifest).await?;
        Ok(manifest)
    }

    fn parse(&self, addressed: Addressed, content_type: Option<&str>) -> Result<UntrustedManifest, ApiError> {
        UntrustedManifest::parse(addressed, content_type, &manifest_limits(&self.limits)).map_err(|error| {
            ApiError::Wrong { code: "MANIFEST_INVALID", message: format!("upstream's {}", chain(&error)) }
        })
    }

    /// Stores the manifest's bytes, that this repository has it, and what it points at.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep(&self, repository: &Repository, manifest: &UntrustedManifest) -> Result<(), ApiError> {
        self.store.blobs().put(manifest.addressed()).await?;
        let fact = Change::Manifest {
            repository: repository.clone(),
            digest: manifest.digest().clone(),
            fact: ManifestFact {
                media_type: manifest.media_type().as_str().to_owned(),
                size: manifest.addressed().bytes().len() as u64,
                first_seen: self.clock.now(),
            },
        };
        let edges = edges(manifest).map(|edge| Change::Edge { repository: repository.clone(), edge });
        Ok(self.store.facts().apply([fact].into_iter().chain(edges).collect()).await?)
    }
}

/// What a manifest points at, as typed edges.
pub(crate) fn edges(manifest: &UntrustedManifest) -> impl Iterator<Item = Edge> {
    let is_index = matches!(manifest.kind(), ManifestKind::Index { .. });
    manifest.points_at().enumerate().map(move |(position, pointed)| Edge {
        kind: match (is_index, position) {
            (true, _) => EdgeKind::Child,
            (false, 0) => EdgeKind::Config,
            (false, _) => EdgeKind::Layer,
        },
        parent: manifest.digest().clone(),
        child: pointed.digest.clone(),
        media_type: pointed.media_type.as_str().to_owned(),
        size: pointed.size,
    })
}

fn unknown(repository: &Repository, tag: &Tag) -> ApiError {
    ApiError::Unknown { code: "MANIFEST_UNKNOWN", what: format!("tag {repository}:{tag}") }
}

/// A duration as a person says it.
fn ago(age: Duration) -> String {
    match age.as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7200 => format!("{} min", secs / 60),
        secs @ 7200..172_800 => format!("{} h", secs / 3600),
        secs => format!("{} days", secs / 86_400),
    }
}
