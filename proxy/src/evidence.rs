//! Evidence at rest: what was collected about a digest, kept beside the image so that it can be judged again without upstream.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use config::Limits;
use oci::{Digest, Repository, Tag, UnixTime, UntrustedManifest};
use policy::{Source, Unasked, UntrustedEvidence, UntrustedPiece};
use serde::{Deserialize, Serialize};
use storage::{Change, Edge, EdgeKind, ManifestFact, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    collect::{Collected, Collector, ROOM_TIMEOUT},
    error::ApiError,
    resolve::edges,
    upstream::Upstream,
};

/// Collects evidence and keeps it.
pub struct EvidenceStore {
    store: Store,
    limits: Arc<Limits>,
    memory: Arc<Semaphore>,
    room_kib: u32,
}

/// Evidence that was just collected, with the room it takes in memory.
pub struct Fresh {
    /// For the judge.
    pub evidence: UntrustedEvidence,
    _room: Collector,
}

/// Evidence from the store, with the room it takes in memory.
pub struct Stored {
    /// For the judge. Places that could not be asked when it was collected are unasked in it.
    pub evidence: UntrustedEvidence,
    _room: OwnedSemaphorePermit,
}

impl Stored {
    /// Whether every place had answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.evidence.unasked.is_empty()
    }
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
        let room_kib = u32::try_from(limits.evidence_memory_bytes_max / 1024).unwrap_or(u32::MAX);
        let permits = usize::try_from(room_kib).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { store, limits, memory: Arc::new(Semaphore::new(permits)), room_kib }
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

    /// What is kept about `subject`, where every byte of it is still there.
    ///
    /// # Errors
    /// When the store cannot be read, or there is no room for it in memory.
    pub async fn stored(&self, repository: &Repository, subject: &Digest) -> Result<Option<Stored>, ApiError> {
        let Some(bytes) = self.store.facts().read()?.evidence(repository, subject)? else {
            return Ok(None);
        };
        // A note of another form is one that was never made.
        let Ok(note) = serde_json::from_slice::<Note>(&bytes) else { return Ok(None) };
        if note.format != FORMAT {
            return Ok(None);
        }
        let room = self.room(&note).await?;
        let missing = SIGNATURE_SOURCES.into_iter().filter(|source| !note.asked.contains(source));
        let why = "could not be asked when the evidence was collected";
        let unasked = missing.map(|source| Unasked { source, why: why.to_owned() }).collect();
        let mut evidence = UntrustedEvidence { pieces: Vec::new(), asked: note.asked, unasked, flawed: note.flawed };
        for piece in note.pieces {
            match self.piece(piece).await? {
                Some(piece) => evidence.pieces.push(piece),
                None => return Ok(None),
            }
        }
        Ok(Some(Stored { evidence, _room: room }))
    }

    async fn room(&self, note: &Note) -> Result<OwnedSemaphorePermit, ApiError> {
        let bytes = note.pieces.iter().map(PieceNote::size).fold(0, u64::saturating_add);
        // What was let in under a larger limit takes all the room there is.
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.room_kib);
        let room = tokio::time::timeout(ROOM_TIMEOUT, Arc::clone(&self.memory).acquire_many_owned(kib)).await;
        room.ok()
            .and_then(Result::ok)
            .ok_or_else(|| ApiError::undecided("too much evidence in memory (limits.evidence_memory_bytes_max)"))
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

impl PieceNote {
    fn size(&self) -> u64 {
        match self {
            Self::CosignSignature { size, .. } | Self::Bundle { size, .. } => *size,
        }
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
    // What it points at permits nothing until it is admitted itself, or served as evidence.
    changes.extend(edges(manifest).map(|edge| Change::Edge { repository: repository.clone(), edge }));
    changes.extend(tag.map(|tag| Change::Tag {
        repository: repository.clone(),
        tag: tag.clone(),
        digest: manifest.digest().clone(),
        at: now,
    }));
    changes
}
