//! Evidence at rest: what was collected about a digest, kept beside the image so that it can be judged again without upstream.

mod hold;
mod note;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use config::Limits;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{Addressed, Digest, Repository, Tag, UnixTime, UntrustedManifest, UpstreamName};
use policy::{Origin, Unasked, UntrustedConfigs, UntrustedEvidence, Wanted};
use storage::{Change, Edge, EdgeKind, ManifestFact, Store, StoreError};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout_at},
};

use crate::{
    collect::{Collected, Collector, Memory, Room, Sieve, Work},
    error::ApiError,
    manifest_room::ManifestRoom,
    resolve::edges,
    upstream::Upstream,
};
use hold::{Hold, Holds};
use note::{BlobNote, ConfigsNote, Note, PieceNote, PlaceNote};

/// Collects evidence and keeps it.
pub struct EvidenceStore {
    store: Store,
    limits: Arc<Limits>,
    memory: Arc<Memory>,
    /// Room for its manifests.
    manifests: Arc<ManifestRoom>,
    /// One writer of a note at a time: it is read, added to and written again.
    notes: [Mutex<()>; NOTE_LOCKS],
    /// Of whom evidence is being judged.
    holds: Holds,
}

const NOTE_LOCKS: usize = 64;
/// Notes read at a time.
const NOTES_PAGE: usize = 16;
/// How long is waited for what is stored of places that do not answer.
const RECALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How many blobs are written or read at the same time.
const FILES: usize = 4;

/// Evidence for one judgement, with the room it takes in memory.
pub struct Gathered {
    /// For the judge. Places that could not be asked, now or when it was collected, are unasked in it.
    pub evidence: UntrustedEvidence,
    /// When upstream wants to be asked again, where it limited our rate.
    pub patience: Option<Duration>,
    room: Room,
    /// Until the judgement is remembered, nobody forgets what it was made by.
    hold: Hold,
}

/// What is asked about: an image, with its manifest for the sake of its configs.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Where it is.
    pub repository: &'a Repository,
    /// What it is.
    pub manifest: &'a UntrustedManifest,
}

impl Gathered {
    /// Whether all that is wanted was there to be looked at.
    #[must_use]
    pub fn is_complete(&self, wanted: &Wanted) -> bool {
        self.missing(wanted).is_empty()
    }

    /// What of it is still to be collected.
    #[must_use]
    pub fn missing(&self, wanted: &Wanted) -> Wanted {
        let asked = |origin: &&Origin| !self.evidence.asked.contains(origin);
        Wanted {
            origins: wanted.origins.iter().filter(asked).cloned().collect(),
            configs: wanted.configs && matches!(self.evidence.configs, UntrustedConfigs::Unasked),
        }
    }
}

impl EvidenceStore {
    /// Over `store`.
    #[must_use]
    pub(crate) fn new(store: Store, limits: Arc<Limits>, manifests: Arc<ManifestRoom>) -> Self {
        let memory = Memory::new(limits.evidence_memory_bytes_max, limits.evidence_timeout);
        Self {
            store,
            limits,
            memory,
            manifests,
            notes: [const { Mutex::const_new(()) }; NOTE_LOCKS],
            holds: Holds::default(),
        }
    }

    /// A collector that asks `upstreams`.
    #[must_use]
    pub fn collector(&self, upstreams: &BTreeMap<UpstreamName, Arc<Upstream>>) -> Collector {
        self.collector_within(upstreams, Arc::clone(&self.limits))
    }

    /// The same within other limits.
    pub(crate) fn collector_within(
        &self,
        upstreams: &BTreeMap<UpstreamName, Arc<Upstream>>,
        limits: Arc<Limits>,
    ) -> Collector {
        Collector::new(upstreams, limits, self.store.blobs().clone(), Arc::clone(&self.manifests))
    }

    /// Room in memory, shared by all collections.
    #[must_use]
    pub fn room(&self, work: Work) -> Room {
        self.memory.room(work)
    }

    /// Asks upstream for what is wanted about `subject` and keeps what came. Of places that are not wanted, what `before` has goes
    /// into the same judgement; of those that do not answer, what is stored; of all of them what has satisfied a policy before: it stays,
    /// whatever upstream shows now.
    ///
    /// # Errors
    /// When the store fails; what upstream did not answer is in the evidence as unasked.
    pub async fn collect(
        &self,
        collector: &Collector,
        subject: Subject<'_>,
        wanted: &Wanted,
        before: Option<Gathered>,
        sieve: &Sieve,
        now: UnixTime,
    ) -> Result<Gathered, ApiError> {
        let Subject { repository, manifest } = subject;
        let (hold, known) = self.held(repository, manifest.digest()).await?;
        let known = known.unwrap_or_default();
        let (mut before, room) = match before {
            // Its hold ends here: this one's is there already.
            Some(Gathered { evidence, room, hold: _older, .. }) => (evidence, room),
            None => (UntrustedEvidence::default(), self.room(sieve.work())),
        };
        let mut collected = collector.evidence(repository, manifest.digest(), &wanted.origins, sieve, &room).await;
        if wanted.configs {
            collected.configs = collector.configs(repository, manifest, &room).await;
        }
        self.keep(collector, (subject, &known, &hold), &collected, now).await?;
        before.pieces.retain(|piece| !wanted.origins.contains(&piece.origin));
        before.asked.retain(|origin| !wanted.origins.contains(origin));
        before.unasked.retain(|unasked| !wanted.origins.contains(&unasked.origin));
        let mut evidence = collected.evidence();
        evidence.pieces.append(&mut before.pieces);
        evidence.asked.append(&mut before.asked);
        evidence.unasked.append(&mut before.unasked);
        evidence.flawed.append(&mut before.flawed);
        if !wanted.configs {
            evidence.configs = before.configs;
        }
        self.recall(subject, &mut evidence, wanted, &room).await?;
        Ok(Gathered { evidence, patience: collector.patience(), room, hold })
    }

    /// Adds what is stored and was not collected now: of places that do not answer all that they gave before, while they stay unasked; of
    /// those that do what is proven. Where that is not there any more, or has no room, its place counts as not asked: it could say yes.
    async fn recall(
        &self,
        Subject { repository, manifest }: Subject<'_>,
        evidence: &mut UntrustedEvidence,
        wanted: &Wanted,
        room: &Room,
    ) -> Result<(), ApiError> {
        let Some(note) = self.note(repository, manifest.digest())? else { return Ok(()) };
        // Who waits for room holds up all who ask about this image, and upstream may be back by then.
        let deadline = Instant::now() + RECALL_TIMEOUT;
        for place in note.places.iter().filter(|place| wanted.origins.contains(&place.origin)) {
            let here = evidence.pieces.iter().filter(|piece| piece.origin == place.origin).map(PieceNote::of);
            let here: Vec<_> = here.collect();
            let known = place.pieces.iter().filter(|piece| !here.iter().any(|it| it.is(piece)));
            let known: Vec<_> = known.collect();
            let read = self.read(known.iter().map(|piece| &piece.blob).collect(), room);
            let missing = match timeout_at(deadline, read).await {
                Ok(Ok(read)) => {
                    let is_missing = read.iter().any(Option::is_none);
                    let read = known.iter().zip(read);
                    evidence.pieces.extend(read.filter_map(|(piece, bytes)| Some(piece.piece(bytes?, &place.origin))));
                    is_missing.then_some("what it gave before is not there any more")
                }
                Ok(Err(ApiError::Undecided { .. })) | Err(_) => Some("no room in memory for what it gave before"),
                Ok(Err(error)) => return Err(error),
            };
            let asked = evidence.asked.iter().position(|origin| *origin == place.origin);
            if let (Some(why), Some(asked)) = (missing, asked) {
                let origin = evidence.asked.swap_remove(asked);
                evidence.unasked.push(Unasked { origin, why: why.to_owned() });
            }
        }
        if let (true, UntrustedConfigs::Unasked, Some(configs)) = (wanted.configs, &evidence.configs, &note.configs)
            && let Ok(configs) = timeout_at(deadline, self.read_configs(configs, room)).await
        {
            evidence.configs = configs.unwrap_or_default();
        }
        Ok(())
    }

    /// These pieces of evidence about `subject` ([`policy::Form::piece`]) have satisfied a policy: they stay as long as the image does.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn prove(
        &self,
        (repository, subject): (&Repository, &Digest),
        pieces: &HashSet<Digest>,
    ) -> Result<(), ApiError> {
        let _writing = self.writing(repository, subject).await;
        let Some(mut note) = self.note(repository, subject)? else { return Ok(()) };
        if note.prove(pieces) {
            self.write(repository, subject, &note, Vec::new()).await?;
        }
        Ok(())
    }

    /// Whether something has satisfied a policy about `subject` by its own evidence, and all that has since that time is still there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_whole_since(&self, repository: &Repository, subject: &Digest, time: UnixTime) -> Result<bool, ApiError> {
        let note = self.note(repository, subject)?.filter(Note::has_proven);
        Ok(note.and_then(|note| note.since).is_some_and(|since| since <= time))
    }

    async fn write(
        &self,
        repository: &Repository,
        subject: &Digest,
        note: &Note,
        mut changes: Vec<Change>,
    ) -> Result<(), ApiError> {
        let bytes = note.to_bytes().map_err(|error| ApiError::Fault { message: error.to_string() })?;
        let (repository, digest, names) = (repository.clone(), subject.clone(), note.names());
        changes.push(Change::Evidence { repository, digest, bytes, names });
        Ok(self.store.facts().apply(changes).await?)
    }

    async fn keep(
        &self,
        collector: &Collector,
        (Subject { repository, manifest }, before, hold): (Subject<'_>, &Note, &Hold),
        collected: &Collected,
        now: UnixTime,
    ) -> Result<(), ApiError> {
        let subject = manifest.digest();
        let configs: &[Addressed] = match &collected.configs {
            UntrustedConfigs::Asked(configs) => configs,
            UntrustedConfigs::Unasked | UntrustedConfigs::Flawed(_) => &[],
        };
        let pieces = collected.pieces.iter().map(|piece| &piece.bytes);
        let blobs = pieces.chain(configs).chain(&collected.extras);
        let blobs = blobs.filter(|blob| collector.has_fetched(blob.digest()));
        let manifests = collected.manifests.iter().map(|(manifest, _)| manifest.addressed());
        let puts = blobs.chain(manifests).map(|blob| self.store.blobs().put(blob));
        // Collected first: an iterator over borrowed things does not live across the waiting.
        let puts: Vec<_> = puts.collect();
        let () = stream::iter(puts).buffer_unordered(FILES).try_collect().await?;
        let mut changes = Vec::new();
        for (manifest, tag) in &collected.manifests {
            changes.extend(found(repository, subject, manifest, tag.as_ref(), now));
        }
        let _writing = self.writing(repository, subject).await;
        let mut note = self.note(repository, subject)?.unwrap_or_else(|| Note::begun(now));
        // Somebody else who judges by what was known may yet find that it satisfies a policy.
        let nothing = Note::default();
        note.add(collected, if hold.is_shared() { &nothing } else { before }, now);
        self.write(repository, subject, &note, changes).await
    }

    /// What is kept about `subject` of what is wanted. A place of which not every byte is there any more is one that was not asked.
    /// `None` where nothing was ever collected.
    ///
    /// # Errors
    /// When the store cannot be read, or there is no room for it in memory.
    pub async fn stored(
        &self,
        repository: &Repository,
        subject: &Digest,
        wanted: &Wanted,
        work: Work,
    ) -> Result<Option<Gathered>, ApiError> {
        let (hold, note) = self.held(repository, subject).await?;
        let Some(note) = note else { return Ok(None) };
        let (evidence, room) = (UntrustedEvidence::default(), self.room(work));
        let mut gathered = Gathered { evidence, patience: None, room, hold };
        let Gathered { evidence, room, .. } = &mut gathered;
        let mut never: BTreeSet<&Origin> = wanted.origins.iter().collect();
        for place in note.places.iter().filter(|place| wanted.origins.contains(&place.origin)) {
            never.remove(&place.origin);
            self.read_place(place, evidence, room).await?;
        }
        let why = "could not be asked when the evidence was collected";
        let unasked = |origin: &Origin| Unasked { origin: origin.clone(), why: why.to_owned() };
        evidence.unasked.extend(never.into_iter().map(unasked));
        if let (true, Some(configs)) = (wanted.configs, &note.configs) {
            evidence.configs = self.read_configs(configs, room).await?;
        }
        Ok(Some(gathered))
    }

    async fn read_place(
        &self,
        place: &PlaceNote,
        evidence: &mut UntrustedEvidence,
        room: &Room,
    ) -> Result<(), ApiError> {
        let read = self.read(place.pieces.iter().map(|piece| &piece.blob).collect(), room).await?;
        let mut partly = place.partly.clone();
        for (piece, bytes) in place.pieces.iter().zip(read) {
            match bytes {
                Some(bytes) => evidence.pieces.push(piece.piece(bytes, &place.origin)),
                None => partly = Some("stored evidence is not there any more".to_owned()),
            }
        }
        evidence.flawed.extend(place.flawed.iter().cloned());
        match partly {
            None => evidence.asked.push(place.origin.clone()),
            Some(why) => evidence.unasked.push(Unasked { origin: place.origin.clone(), why }),
        }
        Ok(())
    }

    async fn read_configs(&self, configs: &ConfigsNote, room: &Room) -> Result<UntrustedConfigs, ApiError> {
        Ok(match configs {
            ConfigsNote::Flawed(why) => UntrustedConfigs::Flawed(why.clone()),
            ConfigsNote::Asked(configs) => {
                let read: Option<Vec<_>> = self.read(configs.iter().collect(), room).await?.into_iter().collect();
                read.map_or(UntrustedConfigs::Unasked, UntrustedConfigs::Asked)
            }
        })
    }

    /// The blobs, in their order, with room made for all of them.
    async fn read(&self, blobs: Vec<&BlobNote>, room: &Room) -> Result<Vec<Option<Addressed>>, ApiError> {
        room.take(blobs.iter().map(|blob| blob.size).collect()).await.map_err(ApiError::undecided)?;
        let reads: Vec<_> = blobs.into_iter().map(|blob| self.read_one(blob)).collect();
        stream::iter(reads).buffered(FILES).try_collect().await
    }

    async fn read_one(&self, blob: &BlobNote) -> Result<Option<Addressed>, ApiError> {
        match self.store.blobs().read(&blob.digest, blob.size).await {
            // Damage was set aside; the piece is fetched again with the rest.
            Err(StoreError::Corrupt { .. }) => Ok(None),
            other => Ok(other?),
        }
    }

    /// The note about `subject`, of which nothing is forgotten until the hold is dropped.
    async fn held(&self, repository: &Repository, subject: &Digest) -> Result<(Hold, Option<Note>), ApiError> {
        let _writing = self.writing(repository, subject).await;
        Ok((self.holds.hold(repository, subject), self.note(repository, subject)?))
    }

    async fn writing(&self, repository: &Repository, subject: &Digest) -> MutexGuard<'_, ()> {
        self.notes.get(lock_of(repository, subject)).unwrap_or(&self.notes[0]).lock().await
    }

    /// The note about `subject`. One of another form is one that was never made.
    fn note(&self, repository: &Repository, subject: &Digest) -> Result<Option<Note>, ApiError> {
        let bytes = self.store.facts().read()?.evidence(repository, subject)?;
        Ok(bytes.and_then(|bytes| Note::from_bytes(&bytes)))
    }
}

/// Ties those of `blobs` to their subjects that a note names, so that they are reached: notes of older versions stand alone.
///
/// # Errors
/// When the store fails.
pub(crate) async fn tie(store: &Store, blobs: &HashSet<Digest>) -> Result<(), StoreError> {
    let blobs = Arc::new(blobs.clone());
    let mut after: Option<(Repository, Digest)> = None;
    loop {
        let (facts, blobs, from) = (store.facts().clone(), Arc::clone(&blobs), after.take());
        let looked = storage::work::run(move || {
            let page = facts.read()?.evidence_notes(from.as_ref(), NOTES_PAGE)?;
            let ties: Vec<_> = page.iter().flat_map(|(subject, note)| ties(subject, note, &blobs)).collect();
            let last = page.into_iter().map(|(subject, _)| subject).nth(NOTES_PAGE - 1);
            Ok::<_, StoreError>((ties, last))
        });
        let (ties, last) =
            looked.await.map_err(|_| StoreError::Stopped { operation: "look through notes on evidence" })??;
        if !ties.is_empty() {
            store.facts().apply(ties).await?;
        }
        after = last;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Edges to those of `blobs` that the note names. The note itself is not written again: it may be another by now.
fn ties((repository, subject): &(Repository, Digest), note: &[u8], blobs: &HashSet<Digest>) -> Vec<Change> {
    let named = Note::from_bytes(note).map(|note| note.names()).unwrap_or_default();
    let untied = named.into_iter().filter(|(blob, _)| blobs.contains(blob));
    let tie = |(blob, size): (Digest, u64)| Change::Edge {
        repository: repository.clone(),
        edge: Edge::noted(subject, &blob, size),
    };
    untied.map(tie).collect()
}

fn lock_of(repository: &Repository, subject: &Digest) -> usize {
    let mut hasher = DefaultHasher::new();
    (repository, subject).hash(&mut hasher);
    usize::try_from(hasher.finish() % NOTE_LOCKS as u64).unwrap_or(0)
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

#[cfg(test)]
mod tests;
