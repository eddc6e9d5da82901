//! Evidence at rest: what was collected about a digest, kept beside the image so that it can be judged again without upstream.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use config::Limits;
use oci::{Digest, Repository, Tag, UnixTime, UntrustedManifest};
use policy::{Source, UntrustedEvidence, UntrustedPiece};
use serde::{Deserialize, Serialize};
use storage::{Change, Edge, EdgeKind, ManifestFact, Store};
use tokio::sync::Semaphore;

use crate::{
    collect::{Collected, Collector},
    error::ApiError,
    upstream::Upstream,
};

/// Collects evidence and keeps it.
pub struct EvidenceStore {
    store: Store,
    limits: Arc<Limits>,
    memory: Arc<Semaphore>,
}

/// Evidence that was just collected, with the room it takes in memory.
pub struct Fresh {
    /// For the judge.
    pub evidence: UntrustedEvidence,
    _room: Collector,
}

/// Evidence from the store.
pub struct Stored {
    /// For the judge. Nothing in it is unasked: what was not asked is missing from `asked`.
    pub evidence: UntrustedEvidence,
    /// When it was collected.
    pub collected_at: UnixTime,
}

/// What was collected about a digest, and from where: bytes lie in the blob store, the rest here.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    format: u32,
    collected_at: UnixTime,
    asked: Vec<Source>,
    pieces: Vec<PieceNote>,
    flawed: Vec<String>,
}

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum PieceNote {
    CosignSignature { payload: Digest, size: u64, annotations: BTreeMap<String, String>, source: Source },
    Bundle { bytes: Digest, size: u64, source: Source },
}

/// All places in which a signature can lie. Evidence from fewer is not complete.
const SIGNATURE_SOURCES: [Source; 3] = [Source::CosignTag, Source::ReferrersApi, Source::ReferrersTag];

impl EvidenceStore {
    /// Over `store`.
    #[must_use]
    pub fn new(store: Store, limits: Arc<Limits>) -> Self {
        let kib = usize::try_from(limits.evidence_memory_bytes_max / 1024).unwrap_or(Semaphore::MAX_PERMITS);
        let memory = Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)));
        Self { store, limits, memory }
    }

    /// A collector for `upstream` within the limits shared by all collections.
    #[must_use]
    pub fn collector(&self, upstream: Arc<Upstream>) -> Collector {
        Collector {
            upstream,
            limits: Arc::clone(&self.limits),
            blobs: self.store.blobs().clone(),
            memory: Arc::clone(&self.memory),
            held: Mutex::default(),
        }
    }

    /// Asks upstream for signatures of `subject` and keeps what came.
    ///
    /// # Errors
    /// When the store fails; what upstream did not answer is in the evidence as unasked.
    pub async fn collect(
        &self,
        upstream: Arc<Upstream>,
        repository: &Repository,
        subject: &Digest,
        now: UnixTime,
    ) -> Result<Fresh, ApiError> {
        let collector = self.collector(upstream);
        let collected = collector.signatures(repository, subject).await;
        self.keep(repository, subject, &collected, now).await?;
        Ok(Fresh { evidence: collected.evidence, _room: collector })
    }

    async fn keep(
        &self,
        repository: &Repository,
        subject: &Digest,
        collected: &Collected,
        now: UnixTime,
    ) -> Result<(), ApiError> {
        let blobs = self.store.blobs();
        let mut pieces = Vec::new();
        for piece in &collected.evidence.pieces {
            let (bytes, note) = piece_note(piece);
            blobs.put(bytes).await?;
            pieces.push(note);
        }
        let note = Note {
            format: FORMAT,
            collected_at: now,
            asked: collected.evidence.asked.clone(),
            pieces,
            flawed: collected.evidence.flawed.clone(),
        };
        let mut changes = Vec::new();
        for config in &collected.configs {
            blobs.put(config).await?;
        }
        for (manifest, tag) in &collected.manifests {
            blobs.put(manifest.addressed()).await?;
            changes.extend(found(repository, subject, manifest, tag.as_ref(), now));
        }
        let bytes = serde_json::to_vec(&note).map_err(|error| ApiError::Fault { message: error.to_string() })?;
        changes.push(Change::Evidence { repository: repository.clone(), digest: subject.clone(), bytes });
        Ok(self.store.facts().apply(changes).await?)
    }

    /// What is kept about `subject`, where it is complete: every place was asked and every byte is still there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stored(&self, repository: &Repository, subject: &Digest) -> Result<Option<Stored>, ApiError> {
        let Some(bytes) = self.store.facts().read()?.evidence(repository, subject)? else {
            return Ok(None);
        };
        // A note of another form is one that was never made.
        let Ok(note) = serde_json::from_slice::<Note>(&bytes) else { return Ok(None) };
        if note.format != FORMAT || !SIGNATURE_SOURCES.iter().all(|source| note.asked.contains(source)) {
            return Ok(None);
        }
        let mut evidence = UntrustedEvidence { asked: note.asked, flawed: note.flawed, ..UntrustedEvidence::default() };
        for piece in note.pieces {
            match self.piece(piece).await? {
                Some(piece) => evidence.pieces.push(piece),
                None => return Ok(None),
            }
        }
        Ok(Some(Stored { evidence, collected_at: note.collected_at }))
    }

    async fn piece(&self, note: PieceNote) -> Result<Option<UntrustedPiece>, ApiError> {
        let (digest, size) = match &note {
            PieceNote::CosignSignature { payload, size, .. } => (payload, *size),
            PieceNote::Bundle { bytes, size, .. } => (bytes, *size),
        };
        let read = match self.store.blobs().read(digest, size).await {
            // Damage was set aside; the piece is fetched again with the rest.
            Err(storage::StoreError::Corrupt { .. }) => None,
            other => other?,
        };
        Ok(read.map(|addressed| match note {
            PieceNote::CosignSignature { annotations, source, .. } => {
                UntrustedPiece::CosignSignature { payload: addressed, annotations, source }
            }
            PieceNote::Bundle { source, .. } => UntrustedPiece::Bundle { bytes: addressed, source },
        }))
    }
}

fn piece_note(piece: &UntrustedPiece) -> (&oci::Addressed, PieceNote) {
    match piece {
        UntrustedPiece::CosignSignature { payload, annotations, source } => (
            payload,
            PieceNote::CosignSignature {
                payload: payload.digest().clone(),
                size: payload.bytes().len() as u64,
                annotations: annotations.clone(),
                source: *source,
            },
        ),
        UntrustedPiece::Bundle { bytes, source } => (
            bytes,
            PieceNote::Bundle { bytes: bytes.digest().clone(), size: bytes.bytes().len() as u64, source: *source },
        ),
    }
}

/// What is remembered of a manifest that carries evidence. The edge from its subject says where it was found, not that it may be served.
pub(crate) fn found(
    repository: &Repository,
    subject: &Digest,
    manifest: &UntrustedManifest,
    tag: Option<&Tag>,
    now: UnixTime,
) -> Vec<Change> {
    let size = manifest.addressed().bytes().len() as u64;
    let media_type = manifest.media_type().as_str().to_owned();
    let mut changes = vec![
        Change::Manifest {
            repository: repository.clone(),
            digest: manifest.digest().clone(),
            fact: ManifestFact { media_type: media_type.clone(), size, first_seen: now },
        },
        Change::Edge {
            repository: repository.clone(),
            edge: Edge {
                kind: EdgeKind::Referrer,
                parent: subject.clone(),
                child: manifest.digest().clone(),
                media_type,
                size,
            },
        },
    ];
    changes.extend(tag.map(|tag| Change::Tag {
        repository: repository.clone(),
        tag: tag.clone(),
        digest: manifest.digest().clone(),
        at: now,
    }));
    changes
}
