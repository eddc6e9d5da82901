use oci::{Algorithm, ManifestLimits};
use policy::{Form, Source, UntrustedPiece};
use tempfile::TempDir;

use super::*;
use crate::collect::Place;

struct Scene {
    _directory: TempDir,
    evidence: EvidenceStore,
    collector: Collector,
    repository: Repository,
    manifest: UntrustedManifest,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), 1).unwrap();
        let limits = Arc::new(Limits::default());
        let room = Arc::new(ManifestRoom::new(&limits));
        let evidence = EvidenceStore::new(store, limits, room);
        let collector = evidence.collector(&BTreeMap::new());
        let document = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        let limits = ManifestLimits { layers_max: 1, manifests_max: 1, json_depth_max: 8 };
        let manifest = UntrustedManifest::parse(addressed(document), None, &limits).unwrap();
        Self { _directory: directory, evidence, collector, repository: "cgr.dev/a".parse().unwrap(), manifest }
    }

    fn subject(&self) -> (&Repository, &Digest) {
        (&self.repository, self.manifest.digest())
    }

    /// What a collection does once `pieces` are all that it has found.
    async fn collects(&self, pieces: &[&'static [u8]]) -> Hold {
        let (repository, subject) = self.subject();
        let (hold, known) = self.evidence.held(repository, subject).await.unwrap();
        self.keeps((&known.unwrap_or_default(), &hold), pieces).await;
        hold
    }

    async fn keeps(&self, (known, hold): (&Note, &Hold), pieces: &[&'static [u8]]) {
        let pieces: Vec<_> = pieces.iter().map(|bytes| piece(bytes)).collect();
        for piece in &pieces {
            self.evidence.store.blobs().put(&piece.bytes).await.unwrap();
        }
        let (configs, places) = (UntrustedConfigs::Unasked, vec![Place::new(origin())]);
        let collected = Collected { places, pieces, configs, manifests: Vec::new(), extras: Vec::new() };
        let subject = Subject { repository: &self.repository, manifest: &self.manifest };
        let kept = self.evidence.keep(&self.collector, (subject, known, hold), &collected, UnixTime::from_millis(1));
        kept.await.unwrap();
    }

    async fn stored(&self) -> Gathered {
        let (repository, subject) = self.subject();
        let wanted = Wanted { origins: BTreeSet::from([origin()]), configs: false };
        self.evidence.stored(repository, subject, &wanted, Work::Reading).await.unwrap().unwrap()
    }

    async fn has(&self, bytes: &[u8]) -> bool {
        self.stored().await.evidence.pieces.iter().any(|piece| piece.bytes.bytes() == bytes)
    }
}

fn origin() -> Origin {
    Origin::beside(Source::CosignTag)
}

fn addressed(bytes: &'static [u8]) -> Addressed {
    Addressed::hash(Algorithm::Sha256, bytes.into())
}

fn piece(bytes: &'static [u8]) -> UntrustedPiece {
    UntrustedPiece { bytes: addressed(bytes), form: Form::Bundle, origin: origin() }
}

#[tokio::test]
async fn what_somebody_judges_by_is_not_forgotten_by_another_collection_that_finds_less() {
    for begun_before in [true, false] {
        let scene = Scene::new();
        drop(scene.collects(&[b"good", b"other"]).await);
        let (repository, subject) = scene.subject();
        let judged = Digest::sha256(b"good");
        let proven = HashSet::from([Form::Bundle.piece(&judged)]);
        if begun_before {
            // Who collects has begun before who judges.
            let (hold, known) = scene.evidence.held(repository, subject).await.unwrap();
            let judging = scene.stored().await;
            scene.keeps((&known.unwrap(), &hold), &[]).await;
            scene.evidence.prove(scene.subject(), &proven).await.unwrap();
            drop(judging);
        } else {
            let judging = scene.stored().await;
            drop(scene.collects(&[]).await);
            scene.evidence.prove(scene.subject(), &proven).await.unwrap();
            drop(judging);
        }
        assert!(scene.has(b"good").await);
        // Nobody judges any more: what has satisfied nothing leaves.
        drop(scene.collects(&[b"new"]).await);
        assert!(scene.has(b"good").await && scene.has(b"new").await && !scene.has(b"other").await);
    }
}

#[tokio::test]
async fn what_nobody_judges_by_is_forgotten_with_the_place_that_gave_it() {
    let scene = Scene::new();
    drop(scene.collects(&[b"good"]).await);
    drop(scene.collects(&[]).await);
    assert!(!scene.has(b"good").await);
}
