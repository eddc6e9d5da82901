//! What `cache` is answered with. Field names are part of the interface for programs: docs/cli.md.

use oci::{Digest, Repository, UnixTime};
use serde::{Deserialize, Serialize};

/// To `cache`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheAnswer {
    /// To `ls`.
    Listed(Listed),
    /// To `show`.
    Shown(KeptShown),
    /// To `gc` and `rm`.
    Freed(FreedTold),
    /// To `pin` and `unpin`.
    Pinned(Pinned),
    /// To `forget-newest`.
    NewestForgotten(NewestForgotten),
    /// To `scrub`.
    Scrubbed(Scrubbed),
    /// To `stats`.
    Stats(Stats),
}

/// To `ls`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// In the order of repository and digest.
    pub images: Vec<KeptImage>,
    /// After which one to ask for the others, where there may be others.
    pub next: Option<(Repository, Digest)>,
}

/// One image or index that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptImage {
    /// Of the image.
    pub repository: Repository,
    /// Of the image.
    pub digest: Digest,
    /// The tags that mean it, as last heard.
    pub tags: Vec<String>,
    /// Of the manifest.
    pub media_type: String,
    /// When it was last asked for.
    pub used_at: UnixTime,
    /// It stays whatever the budgets say.
    pub pinned: bool,
    /// It speaks about another image, and is kept for that.
    pub evidence: bool,
    /// Its layers that are here, bytes; shared ones count for each image.
    pub layer_bytes_kept: u64,
    /// All its layers, bytes.
    pub layer_bytes: u64,
}

/// To `show`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptShown {
    /// As typed.
    pub typed: String,
    /// The image.
    pub image: KeptImage,
    /// Its manifest, bytes.
    pub manifest_bytes: u64,
    /// When it was first met here.
    pub first_seen: UnixTime,
    /// Verdicts that are stored on it, of all policies so far.
    pub verdicts: u64,
    /// What it points at, and what speaks about it.
    pub parts: Vec<Part>,
}

/// One thing that an image points at, or that speaks about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// `child`, `config`, `layer`, `evidence`.
    pub kind: String,
    /// Of the part.
    pub digest: Digest,
    /// As the image states it, bytes.
    pub size: u64,
    /// It is here.
    pub kept: bool,
}

/// To `gc` and `rm`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FreedTold {
    /// Nothing has left yet.
    pub dry_run: bool,
    /// Layers.
    pub layers: AmountTold,
    /// Manifests, configs and evidence.
    pub metadata: AmountTold,
    /// Layer by layer.
    pub left_layers: Vec<LeftLayer>,
    /// Image by image.
    pub left_images: Vec<LeftImage>,
    /// A line to go with it.
    pub note: Option<String>,
}

/// A layer that has left; its image is still known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeftLayer {
    /// Of the image that needed it and was used last.
    pub repository: Repository,
    /// That image.
    pub image: Digest,
    /// When that was used.
    pub used_at: UnixTime,
    /// The layer.
    pub digest: Digest,
}

/// A manifest that has left, with verdicts, and all that nobody else needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeftImage {
    /// Where it was.
    pub repository: Repository,
    /// The manifest.
    pub digest: Digest,
}

/// To `pin` and `unpin`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pinned {
    /// As typed.
    pub image: String,
    /// Of the image.
    pub repository: Repository,
    /// Of the image: a tag that moves on leaves the pin where it is.
    pub digest: Digest,
    /// Whether it stays now.
    pub stays: bool,
}

/// To `forget-newest`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewestForgotten {
    /// As typed.
    pub image: String,
    /// The tag's.
    pub repository: Repository,
    /// The tag.
    pub tag: String,
    /// What does not count any more; none where nothing did.
    pub newest: Option<Digest>,
}

/// To `scrub`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Scrubbed {
    /// Blobs whose bytes are right.
    pub sound: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Blobs that could not be read, and why.
    pub unreadable: Vec<String>,
    /// Blobs that had rotted and were set aside.
    pub quarantined: Vec<Digest>,
    /// Of these, those that were fetched again.
    pub healed: Vec<Digest>,
    /// Of these, those that no admitted image needs.
    pub not_needed: Vec<Digest>,
    /// Of these, those that could not be fetched now.
    pub unhealed: Vec<Unhealed>,
}

/// A blob that could not be fetched again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unhealed {
    /// The blob.
    pub digest: Digest,
    /// One clause.
    pub why: String,
}

/// To `stats`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stats {
    /// Layers that are here.
    pub layers: AmountTold,
    /// Manifests, configs and evidence that are here.
    pub metadata: AmountTold,
    /// `storage.max_bytes`, where set.
    pub layers_budget: Option<MarksTold>,
    /// `storage.metadata_max_bytes`, where set.
    pub metadata_budget: Option<MarksTold>,
    /// On their way in, bytes.
    pub in_flight_bytes: u64,
    /// Manifests in repositories, evidence included.
    pub manifests: u64,
    /// Of these, pinned.
    pub pinned: u64,
    /// When the least recently used of them was used.
    pub oldest_use: Option<UnixTime>,
}

/// So many, and how large they are together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmountTold {
    /// Blobs.
    pub blobs: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A budget, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarksTold {
    /// Never more.
    pub max: u64,
    /// Above this the oldest leave,
    pub high: u64,
    /// until no more than this is left.
    pub low: u64,
}
