//! Signatures and attestations as content: served for the sake of a subject that is admitted.

use std::{collections::BTreeMap, sync::Arc};

use oci::{Addressed, Descriptor, Digest, ManifestKind, Repository, UntrustedManifest};
use policy::{Admitted, EvidenceLink, EvidenceManifest, Manifest, NotEvidence};
use storage::{Change, Edge, EdgeKind};

use super::{Admission, Effort, Entry};
use crate::{
    app::InForce,
    collect::{Collector, Work},
    error::ApiError,
    evidence::found,
    evidence_tag::evidence_tag,
    patience::Patience,
};

impl Admission {
    /// `digest` as evidence: some subject in this repository that is admitted now is what it speaks about. `None` where it is no
    /// evidence, or of nothing that is admitted.
    pub(super) async fn as_evidence(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        repository: &Repository,
        digest: &Digest,
        effort: Effort,
    ) -> Result<Option<Arc<Admitted<EvidenceManifest>>>, ApiError> {
        let referrers = self.parents(repository, digest, |kind| kind == EdgeKind::Referrer)?;
        let mut subjects: Vec<Digest> = referrers.into_iter().map(|edge| edge.parent).collect();
        // Where nothing is known of it, whether it names a subject is only known when it is here.
        let manifest = match self.resolver.stored(repository, digest).await? {
            Some(manifest) => manifest,
            None if effort.is_local() => return Ok(None),
            None => self.fetch(in_force, repository, digest).await?,
        };
        let named = manifest.subject().map(|subject| subject.digest.clone());
        subjects.extend(named.filter(|subject| !subjects.contains(subject)));
        let mut worst: Option<ApiError> = None;
        for subject in subjects {
            let outcome = match self.admitted(in_force, repository, &subject, 0, effort).await {
                Ok(admitted) => {
                    let links = links(&manifest, &subject);
                    self.evidence_of(in_force, &admitted, &manifest, &links).await
                }
                Err(error) => Err(error),
            };
            match outcome {
                Ok(Some(evidence)) => return Ok(Some(evidence)),
                Ok(None) => {}
                Err(error) => worst = Some(worst.map_or(error.clone(), |worst| worst.or_worse(error))),
            }
        }
        worst.map_or(Ok(None), Err)
    }

    pub(super) async fn fetch(
        &self,
        in_force: &InForce,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<UntrustedManifest, ApiError> {
        let upstream = in_force.upstream(repository.upstream())?;
        Ok(self.resolver.manifest(&upstream, repository, digest).await?.as_ref().clone())
    }

    /// `manifest` as evidence of `subject`, where it is; its blobs are then here, hashed and read. What was looked at before is not
    /// read again for as long as the subject's admission counts.
    pub(super) async fn evidence_of(
        &self,
        in_force: &InForce,
        subject: &Arc<Admitted<Manifest>>,
        manifest: &UntrustedManifest,
        links: &[EvidenceLink],
    ) -> Result<Option<Arc<Admitted<EvidenceManifest>>>, ApiError> {
        let key = (subject.repository().clone(), subject.digest().clone(), manifest.digest().clone());
        let seen = self.seen.get(&key, in_force.generation);
        if let Some(evidence) = seen.filter(|evidence| in_force.judge.in_force(evidence, self.clock.now())) {
            return Ok(Some(evidence));
        }
        if !could_be_evidence(manifest, &in_force.settings.evidence.media_types) {
            return Ok(None);
        }
        // Holds the room in memory for as long as the blobs are looked at.
        let (collector, room) = (self.evidence.collector(&in_force.upstreams), self.evidence.room(Work::Reading));
        let Some(blobs) = collector.blobs_of(subject.repository(), manifest, &room).await? else { return Ok(None) };
        let checked = self.check_evidence(in_force, subject, manifest, links, blobs.clone()).await?;
        let Some(evidence) = checked.map(Arc::new) else { return Ok(None) };
        self.keep_evidence(subject, manifest, &blobs, &collector).await?;
        self.seen.put(key, in_force.generation, &evidence);
        Ok(Some(evidence))
    }

    /// Asks the judge, where its reading of megabytes holds up nobody.
    async fn check_evidence(
        &self,
        in_force: &InForce,
        subject: &Arc<Admitted<Manifest>>,
        manifest: &UntrustedManifest,
        links: &[EvidenceLink],
        blobs: Vec<Addressed>,
    ) -> Result<Option<Admitted<EvidenceManifest>>, ApiError> {
        let (judge, settings, now) = (Arc::clone(&in_force.judge), Arc::clone(&in_force.settings), self.clock.now());
        let (subject, manifest, links) = (Arc::clone(subject), manifest.clone(), links.to_vec());
        self.aside(move || {
            let media_types = &settings.evidence.media_types;
            links.iter().find_map(|link| {
                let checked = judge.evidence_of(&subject, manifest.clone(), link, &blobs, media_types, now);
                let told = |why: &NotEvidence| {
                    tracing::debug!(repository = %subject.repository(), digest = %manifest.digest(), "not served as evidence: {why}");
                };
                checked.inspect_err(told).ok()
            })
        })
        .await
    }

    async fn keep_evidence(
        &self,
        subject: &Admitted<Manifest>,
        manifest: &UntrustedManifest,
        blobs: &[Addressed],
        collector: &Collector,
    ) -> Result<(), ApiError> {
        let repository = subject.repository();
        for blob in blobs.iter().filter(|blob| collector.has_fetched(blob.digest())) {
            self.store.blobs().put(blob).await?;
        }
        let mut changes = found(repository, subject.digest(), manifest, None, self.clock.now());
        self.store.blobs().put(manifest.addressed()).await?;
        changes.extend(manifest.points_at().map(|blob| Change::Edge {
            repository: repository.clone(),
            edge: Edge {
                kind: EdgeKind::EvidenceBlob,
                parent: manifest.digest().clone(),
                child: blob.digest.clone(),
                media_type: blob.media_type.as_str().to_owned(),
                size: blob.size,
            },
        }));
        Ok(self.store.facts().apply(changes).await?)
    }
}

/// How `manifest` is tied to `subject`: by its own word, or by the tag under which it was found.
fn links(manifest: &UntrustedManifest, subject: &Digest) -> Vec<EvidenceLink> {
    if manifest.subject().is_some_and(|named| &named.digest == subject) {
        return vec![EvidenceLink::Subject];
    }
    [".sig", ".att", ".sbom"].iter().filter_map(|suffix| evidence_tag(subject, suffix)).map(EvidenceLink::Tag).collect()
}

/// Whether fetching its blobs for a closer look is worth anything: all layers claim types of evidence.
fn could_be_evidence(manifest: &UntrustedManifest, media_types: &[String]) -> bool {
    match manifest.kind() {
        ManifestKind::Index { .. } => false,
        ManifestKind::Image { layers, .. } => {
            layers.iter().all(|layer| media_types.iter().any(|t| t == layer.media_type.as_str()))
        }
    }
}

/// What may be served about a subject.
#[derive(Debug, Default)]
pub struct Referrers {
    /// Pointers made from what was fetched and checked, not from what upstream says of it.
    pub descriptors: Vec<Descriptor>,
    /// To be told with the answer, where upstream could not be asked.
    pub warning: Option<String>,
}

impl Admission {
    /// The referrers of `subject` that may be served: evidence, and images that are admitted themselves.
    ///
    /// # Errors
    /// As [`Admission::manifest`] for the subject; 503 when upstream cannot be asked and nothing is known.
    pub async fn referrers(
        self: &Arc<Self>,
        repository: &Repository,
        subject: &Digest,
        patience: Patience,
    ) -> Result<Referrers, ApiError> {
        self.settled(patience, |in_force| async move { self.referrers_under(&in_force, repository, subject).await })
            .await
    }

    async fn referrers_under(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, ApiError> {
        let Entry::Image(admitted) = self.entry(in_force, repository, subject).await? else {
            // Evidence of evidence is not followed.
            return Ok(Referrers::default());
        };
        let mut referrers = Referrers::default();
        let listed = match self.evidence.collector(&in_force.upstreams).referrers_of(repository, subject).await {
            Ok((listed, true)) => listed,
            Ok((listed, false)) => {
                referrers.warning = Some(NOT_ALL.to_owned());
                listed
            }
            Err(error @ (ApiError::Undecided { .. } | ApiError::RateLimited { .. })) => {
                let known =
                    self.store.facts().read()?.children(repository, subject, None, self.limits.referrers_count_max)?;
                let known = known.found.into_iter().filter(|edge| edge.kind == EdgeKind::Referrer);
                let known: Vec<_> = known.map(|edge| edge.child).collect();
                if known.is_empty() {
                    return Err(error);
                }
                referrers.warning = Some("referrers as last seen: upstream does not answer".to_owned());
                known
            }
            Err(error) => return Err(error),
        };
        for digest in listed {
            match self.listed(in_force, &admitted, &digest).await {
                Ok(descriptor) => referrers.descriptors.extend(descriptor),
                Err(ApiError::Refused(_) | ApiError::Unknown { .. } | ApiError::Wrong { .. }) => {}
                Err(error) => {
                    tracing::warn!(%repository, %digest, "referrer not listed: {error}");
                    referrers.warning.get_or_insert_with(|| NOT_ALL.to_owned());
                }
            }
        }
        Ok(referrers)
    }

    /// What is told of one referrer of `subject`, where it may be served.
    async fn listed(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        subject: &Arc<Admitted<Manifest>>,
        digest: &Digest,
    ) -> Result<Option<Descriptor>, ApiError> {
        let repository = subject.repository();
        let manifest = self.fetch(in_force, repository, digest).await?;
        if manifest.subject().is_none_or(|named| &named.digest != subject.digest()) {
            return Ok(None);
        }
        if self.evidence_of(in_force, subject, &manifest, &[EvidenceLink::Subject]).await?.is_none() {
            self.admitted(in_force, repository, digest, 0, Effort::Upstream).await?;
        }
        Ok(Some(described(&manifest)))
    }
}

/// Told with a list that may be longer than it looks.
const NOT_ALL: &str = "not all referrers could be looked at: upstream does not answer";
/// More annotations than this, in bytes, are left out of a list; the manifest itself has them.
const ANNOTATION_BYTES_MAX: usize = 8 * 1024;

/// A descriptor of a manifest that is here.
fn described(manifest: &UntrustedManifest) -> Descriptor {
    let config_type = match manifest.kind() {
        ManifestKind::Image { config, .. } => Some(config.media_type.clone()),
        ManifestKind::Index { .. } => None,
    };
    let bytes: usize = manifest.annotations().iter().map(|(key, value)| key.len() + value.len()).sum();
    Descriptor {
        media_type: manifest.media_type().clone(),
        digest: manifest.digest().clone(),
        size: manifest.addressed().bytes().len() as u64,
        // The specification: the config's type where the manifest names none.
        artifact_type: manifest.artifact_type().cloned().or(config_type),
        annotations: if bytes <= ANNOTATION_BYTES_MAX { manifest.annotations().clone() } else { BTreeMap::new() },
        platform: None,
    }
}
