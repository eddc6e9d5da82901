//! Finds what upstream offers about a digest: the union of all places, none hiding another.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use config::Limits;
use futures_util::{StreamExt as _, stream};
use oci::{
    Addressed, Algorithm, Descriptor, Digest, ManifestKind, MediaType, Reference, Repository, Tag, UntrustedManifest,
};
use policy::{Source, Unasked, UntrustedEvidence, UntrustedPiece};
use storage::Blobs;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    error::{ApiError, chain},
    evidence_tag::evidence_tag,
    limits::manifest_limits,
    upstream::{Flaw, Upstream, UpstreamError},
};

/// What was found about one digest.
pub struct Collected {
    /// For the judge.
    pub evidence: UntrustedEvidence,
    /// The manifests that carried it, with the tag under which each was found, where there was one.
    pub manifests: Vec<(UntrustedManifest, Option<Tag>)>,
    /// Their configs: nothing is read from them, but who asks for the evidence itself gets them too, with upstream or without.
    pub configs: Vec<Addressed>,
}

/// Asks one repository of one upstream.
pub struct Collector {
    /// Where to ask.
    pub upstream: Arc<Upstream>,
    /// What may be taken in.
    pub limits: Arc<Limits>,
    /// Bytes already here need not be fetched again.
    pub blobs: Blobs,
    /// Room for evidence in memory, in KiB, shared by all collections.
    pub memory: Arc<Semaphore>,
    /// What this collection takes of it; given back when the collector is dropped, after the judgement.
    pub held: Mutex<Vec<OwnedSemaphorePermit>>,
}

/// How long a piece waits for room in memory. Collections that wait for each other end here, and are asked again.
pub(crate) const ROOM_TIMEOUT: Duration = Duration::from_secs(5);

/// The config of a manifest of evidence is small; a larger one is left where it is.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// How many pieces of one source are fetched at the same time.
const FETCHES: usize = 4;

/// What one place gave.
#[derive(Default)]
struct Yield {
    pieces: Vec<UntrustedPiece>,
    manifests: Vec<(UntrustedManifest, Option<Tag>)>,
    flawed: Vec<String>,
    /// Why this is not all that is there.
    unasked: Option<String>,
}

/// Why a place, or one piece in it, gave nothing.
enum Nothing {
    /// It could not be asked: not the same as empty.
    Unasked(String),
    /// It answered with something that cannot be read.
    Flawed(String),
    /// There is nothing.
    Empty,
}

impl Collector {
    /// Asks every place that can hold a signature of `subject`.
    pub async fn signatures(&self, repository: &Repository, subject: &Digest) -> Collected {
        let (cosign, api, tag) = tokio::join!(
            self.cosign_tag(repository, subject),
            self.referrers_api(repository, subject),
            self.referrers_tag(repository, subject),
        );
        let mut collected =
            Collected { evidence: UntrustedEvidence::default(), manifests: Vec::new(), configs: Vec::new() };
        let places = [(Source::CosignTag, cosign), (Source::ReferrersApi, api), (Source::ReferrersTag, tag)];
        for (source, place) in places {
            collected.add(source, place);
        }
        for (manifest, _) in &collected.manifests {
            if let ManifestKind::Image { config, .. } = manifest.kind()
                && config.size <= CONFIG_BYTES_MAX
                && let Ok(config) = self.blob(repository, config).await
            {
                collected.configs.push(config);
            }
        }
        collected
    }

    /// The tag `sha256-<hex>.sig` of cosign's legacy layout: one layer a signature.
    async fn cosign_tag(&self, repository: &Repository, subject: &Digest) -> Result<Yield, Nothing> {
        let tag = evidence_tag(subject, ".sig").ok_or(Nothing::Empty)?;
        let manifest = self.manifest(repository, &Reference::Tag(tag.clone())).await?;
        let ManifestKind::Image { layers, .. } = manifest.kind() else {
            return Err(Nothing::Flawed("the signature tag holds an index".to_owned()));
        };
        // A registry that answers a missing tag with the image itself has told nothing.
        let layers: Vec<_> =
            layers.iter().filter(|layer| layer.media_type.as_str() == MediaType::SIMPLE_SIGNING).cloned().collect();
        if layers.is_empty() {
            return Err(Nothing::Empty);
        }
        let mut found = Yield::default();
        if layers.len() > self.limits.evidence_count_max {
            found.flawed.push(format!(
                "only {} of {} signatures were looked at (limits.evidence_count_max)",
                self.limits.evidence_count_max,
                layers.len()
            ));
        }
        let fetched: Vec<_> = stream::iter(layers.into_iter().take(self.limits.evidence_count_max))
            .map(|layer| async move { (self.blob(repository, &layer).await, layer.annotations) })
            .buffered(FETCHES)
            .collect()
            .await;
        for (payload, annotations) in fetched {
            match payload {
                Ok(payload) => found.pieces.push(UntrustedPiece::CosignSignature {
                    payload,
                    annotations,
                    source: Source::CosignTag,
                }),
                Err(nothing) => found.note(nothing),
            }
        }
        found.manifests.push((manifest, Some(tag)));
        Ok(found)
    }

    async fn referrers_api(&self, repository: &Repository, subject: &Digest) -> Result<Yield, Nothing> {
        let listed = self.upstream.referrers(repository.path(), subject).await;
        // A list that cannot be read says nothing about what is there.
        let listed = listed.map_err(|error| match unasked(&error) {
            Nothing::Flawed(why) => Nothing::Unasked(why),
            nothing @ (Nothing::Unasked(_) | Nothing::Empty) => nothing,
        })?;
        // 404: upstream has no such API, and says so; nothing can be there.
        let Some(listed) = listed else { return Err(Nothing::Empty) };
        let mut found = self.referrers(repository, subject, &listed.descriptors, Source::ReferrersApi).await;
        if let Some(error) = listed.cut {
            found.note(Nothing::Unasked(error.to_string()));
        }
        Ok(found)
    }

    /// The referrers tag schema: an index under the tag `sha256-<hex>`.
    async fn referrers_tag(&self, repository: &Repository, subject: &Digest) -> Result<Yield, Nothing> {
        let tag = evidence_tag(subject, "").ok_or(Nothing::Empty)?;
        let index = self.manifest(repository, &Reference::Tag(tag)).await?;
        let ManifestKind::Index { manifests } = index.kind() else {
            return Err(Nothing::Empty);
        };
        // Seen in the wild: a missing tag answered with the index asked about. Its children have no such subject and fall out below.
        Ok(self.referrers(repository, subject, manifests, Source::ReferrersTag).await)
    }

    /// Opens every manifest that is listed: what descriptors say of them is not believed.
    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        listed: &[Descriptor],
        source: Source,
    ) -> Yield {
        let digests: BTreeSet<_> = listed.iter().map(|descriptor| descriptor.digest.clone()).collect();
        let mut found = Yield::default();
        if digests.len() > self.limits.evidence_count_max {
            found.flawed.push(format!(
                "only {} of {} referrers were looked at (limits.evidence_count_max)",
                self.limits.evidence_count_max,
                digests.len()
            ));
        }
        let opened: Vec<_> = stream::iter(digests.into_iter().take(self.limits.evidence_count_max))
            .map(|digest| async move { self.referrer(repository, subject, digest, source).await })
            .buffered(FETCHES)
            .collect()
            .await;
        for outcome in opened {
            match outcome {
                Ok((piece, manifest)) => {
                    found.pieces.extend(piece);
                    found.manifests.push((manifest, None));
                }
                Err(nothing) => found.note(nothing),
            }
        }
        found
    }

    /// One referrer: a bundle where it is one; another referrer of this subject is remembered without being a piece.
    async fn referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: Digest,
        source: Source,
    ) -> Result<(Option<UntrustedPiece>, UntrustedManifest), Nothing> {
        let manifest = self.manifest(repository, &Reference::Digest(digest)).await?;
        if manifest.subject().is_none_or(|named| &named.digest != subject) {
            return Err(Nothing::Empty);
        }
        let ManifestKind::Image { layers, .. } = manifest.kind() else {
            return Ok((None, manifest));
        };
        let [layer] = layers.as_slice() else {
            return Ok((None, manifest));
        };
        if !layer.media_type.as_str().starts_with(MediaType::SIGSTORE_BUNDLE_PREFIX) {
            return Ok((None, manifest));
        }
        let bytes = self.blob(repository, layer).await?;
        Ok((Some(UntrustedPiece::Bundle { bytes, source }), manifest))
    }

    /// The digests of all that upstream lists about `subject`, by API and by tag, and whether that is all.
    ///
    /// # Errors
    /// When one of the two cannot be asked.
    pub async fn referrers_of(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<(Vec<Digest>, bool), ApiError> {
        let what = format!("referrers of {subject}");
        let listed = self.upstream.referrers(repository.path(), subject).await;
        let listed = listed.map_err(|error| ApiError::from_upstream(&error, "MANIFEST_UNKNOWN", &what))?;
        let whole = listed.as_ref().is_none_or(|listed| listed.cut.is_none() && listed.skipped == 0);
        let descriptors = listed.map(|listed| listed.descriptors).unwrap_or_default();
        let mut digests: BTreeSet<_> = descriptors.into_iter().map(|descriptor| descriptor.digest).collect();
        if let Some(tag) = evidence_tag(subject, "") {
            match self.manifest(repository, &Reference::Tag(tag)).await {
                Ok(index) if index.media_type().is_index() => {
                    digests.extend(index.points_at().map(|descriptor| descriptor.digest.clone()));
                }
                Err(Nothing::Unasked(why)) => return Err(ApiError::undecided(format!("cannot fetch {what}: {why}"))),
                Ok(_) | Err(Nothing::Empty | Nothing::Flawed(_)) => {}
            }
        }
        let whole = whole && digests.len() <= self.limits.referrers_count_max;
        Ok((digests.into_iter().take(self.limits.referrers_count_max).collect(), whole))
    }

    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<UntrustedManifest, Nothing> {
        let fetched = self.upstream.manifest(repository.path(), reference).await.map_err(|error| unasked(&error))?;
        let flawed = |why: String| Nothing::Flawed(format!("manifest {reference}: {why}"));
        let addressed = match reference {
            Reference::Tag(_) => Addressed::hash(Algorithm::Sha256, fetched.bytes),
            Reference::Digest(digest) => Addressed::check(digest, fetched.bytes).map_err(|e| flawed(e.to_string()))?,
        };
        UntrustedManifest::parse(addressed, fetched.content_type.as_deref(), &manifest_limits(&self.limits))
            .map_err(|error| flawed(error.to_string()))
    }

    /// A blob of evidence: from the store where it is, else from upstream; never more than its descriptor says.
    async fn small_blob(&self, repository: &Repository, blob: &Descriptor) -> Result<Addressed, Nothing> {
        match self.blobs.read(&blob.digest, blob.size).await {
            Ok(Some(addressed)) => return Ok(addressed),
            // Damage was set aside; what it should be is fetched again.
            Ok(None) | Err(storage::StoreError::Corrupt { .. }) => {}
            Err(error) => return Err(Nothing::Unasked(format!("store: {}", chain(&error)))),
        }
        let fetched = self.upstream.small_blob(repository.path(), &blob.digest, blob.size).await;
        let bytes = fetched.map_err(|error| match unasked(&error) {
            // A manifest that points at nothing is a flaw of its own, not an empty place.
            Nothing::Empty => Nothing::Flawed(format!("piece {} is missing upstream", blob.digest)),
            nothing @ (Nothing::Unasked(_) | Nothing::Flawed(_)) => nothing,
        })?;
        Addressed::check(&blob.digest, bytes).map_err(|error| Nothing::Flawed(error.to_string()))
    }

    async fn blob(&self, repository: &Repository, blob: &Descriptor) -> Result<Addressed, Nothing> {
        if blob.size > self.limits.evidence_bytes_max {
            return Err(Nothing::Flawed(format!(
                "a piece of {} bytes is larger than limits.evidence_bytes_max ({})",
                blob.size, self.limits.evidence_bytes_max
            )));
        }
        let kib = u32::try_from(blob.size.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = tokio::time::timeout(ROOM_TIMEOUT, Arc::clone(&self.memory).acquire_many_owned(kib)).await;
        let Ok(Ok(room)) = room else {
            return Err(Nothing::Unasked("too much evidence in memory (limits.evidence_memory_bytes_max)".to_owned()));
        };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(room);
        self.small_blob(repository, blob).await
    }

    /// Every blob that `manifest` points at, for a look at what it is. `None` where that is more than evidence may be, or not to be had.
    ///
    /// # Errors
    /// When upstream cannot be asked.
    pub async fn blobs_of(
        &self,
        repository: &Repository,
        manifest: &UntrustedManifest,
    ) -> Result<Option<Vec<Addressed>>, ApiError> {
        let pointed: Vec<&Descriptor> = manifest.points_at().collect();
        let total = pointed.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
        if total > self.limits.evidence_bytes_max || pointed.len() > self.limits.signature_layers_max {
            return Ok(None);
        }
        let mut blobs = Vec::with_capacity(pointed.len());
        for blob in pointed {
            match self.blob(repository, blob).await {
                Ok(addressed) => blobs.push(addressed),
                Err(Nothing::Unasked(why)) => {
                    return Err(ApiError::undecided(format!("cannot fetch evidence blob {}: {why}", blob.digest)));
                }
                Err(Nothing::Flawed(_) | Nothing::Empty) => return Ok(None),
            }
        }
        Ok(Some(blobs))
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else went wrong, the place was not asked")]
fn unasked(error: &UpstreamError) -> Nothing {
    match error {
        UpstreamError::NotFound { .. } => Nothing::Empty,
        // A status that means nothing here says nothing about what is there.
        UpstreamError::Malformed { why: Flaw::Status(_), .. } => Nothing::Unasked(error.to_string()),
        UpstreamError::Malformed { .. } => Nothing::Flawed(error.to_string()),
        _ => Nothing::Unasked(error.to_string()),
    }
}

impl Yield {
    /// Remembers why one piece gave nothing. What the others gave counts all the same.
    fn note(&mut self, nothing: Nothing) {
        match nothing {
            Nothing::Flawed(why) => self.flawed.push(why),
            Nothing::Empty => {}
            Nothing::Unasked(why) => self.unasked = Some(why),
        }
    }
}

impl Collected {
    fn add(&mut self, source: Source, place: Result<Yield, Nothing>) {
        match place {
            Ok(found) => {
                match found.unasked {
                    None => self.evidence.asked.push(source),
                    Some(why) => self.evidence.unasked.push(Unasked { source, why }),
                }
                self.evidence.pieces.extend(found.pieces);
                self.evidence.flawed.extend(found.flawed);
                self.manifests.extend(found.manifests);
            }
            Err(Nothing::Empty) => self.evidence.asked.push(source),
            Err(Nothing::Flawed(why)) => {
                self.evidence.asked.push(source);
                self.evidence.flawed.push(why);
            }
            Err(Nothing::Unasked(why)) => self.evidence.unasked.push(Unasked { source, why }),
        }
    }
}
