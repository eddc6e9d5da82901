//! What is written down about collected evidence: bytes lie in the blob store, the rest here.

use std::collections::BTreeMap;

use oci::{Addressed, Digest, UnixTime};
use policy::{Form, Origin, UntrustedConfigs, UntrustedPiece};
use serde::{Deserialize, Serialize};

use crate::collect::{Collected, Place};

/// The form of notes. One of another form is not read.
const FORMAT: u32 = 2;
/// A place that breaks off each time it is asked adds no pieces beyond so many.
const PIECES_JOINED_MAX: usize = 256;

/// What was collected about a digest, place by place, each as it was asked last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    format: u32,
    pub(super) places: Vec<PlaceNote>,
    /// None where they were never collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) configs: Option<ConfigsNote>,
}

/// What one place gave.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceNote {
    pub(super) origin: Origin,
    asked_at: UnixTime,
    /// Why this is not all that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partly: Option<String>,
    pub(super) pieces: Vec<PieceNote>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) flawed: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PieceNote {
    pub(super) blob: BlobNote,
    form: FormNote,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlobNote {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum FormNote {
    CosignSignature { annotations: BTreeMap<String, String> },
    CosignAttestation { annotations: BTreeMap<String, String> },
    Bundle,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum ConfigsNote {
    Asked(Vec<BlobNote>),
    Flawed(String),
}

impl Default for Note {
    fn default() -> Self {
        Self { format: FORMAT, places: Vec::new(), configs: None }
    }
}

impl Note {
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|note| note.format == FORMAT)
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The blobs it names, each once, and their sizes in bytes.
    pub(super) fn names(&self) -> Vec<(Digest, u64)> {
        let configs = match &self.configs {
            Some(ConfigsNote::Asked(configs)) => configs.as_slice(),
            Some(ConfigsNote::Flawed(_)) | None => &[],
        };
        let pieces = self.places.iter().flat_map(|place| &place.pieces).map(|piece| &piece.blob);
        let named = pieces.chain(configs).map(|blob| (blob.digest.clone(), blob.size));
        named.collect::<BTreeMap<_, _>>().into_iter().collect()
    }

    /// Takes over what was collected. What is known of places that were not asked, or could not be, stays.
    pub(super) fn add(&mut self, collected: &Collected, now: UnixTime) {
        for place in &collected.places {
            let pieces = collected.pieces.iter().filter(|piece| piece.origin == place.origin);
            let new = PlaceNote::new(place, pieces, now);
            match self.places.iter_mut().find(|known| known.origin == place.origin) {
                None => self.places.push(new),
                Some(known) if place.unasked.is_some() => known.join(new),
                Some(known) => *known = new,
            }
        }
        match &collected.configs {
            UntrustedConfigs::Unasked => {}
            UntrustedConfigs::Asked(configs) => {
                self.configs = Some(ConfigsNote::Asked(configs.iter().map(BlobNote::of).collect()));
            }
            UntrustedConfigs::Flawed(why) => self.configs = Some(ConfigsNote::Flawed(why.clone())),
        }
    }
}

impl PlaceNote {
    fn new<'a>(place: &Place, pieces: impl Iterator<Item = &'a UntrustedPiece>, now: UnixTime) -> Self {
        Self {
            origin: place.origin.clone(),
            asked_at: now,
            partly: place.partly.clone(),
            pieces: pieces.map(PieceNote::of).collect(),
            flawed: place.all_flawed().collect(),
        }
    }

    /// Adds what a place gave before it stopped to answer.
    fn join(&mut self, new: Self) {
        let room = PIECES_JOINED_MAX.saturating_sub(self.pieces.len());
        let pieces = new.pieces.into_iter().filter(|piece| !self.pieces.contains(piece));
        let pieces: Vec<_> = pieces.take(room).collect();
        self.pieces.extend(pieces);
    }
}

impl PieceNote {
    pub(super) fn of(piece: &UntrustedPiece) -> Self {
        let form = match &piece.form {
            Form::CosignSignature { annotations } => FormNote::CosignSignature { annotations: annotations.clone() },
            Form::CosignAttestation { annotations } => FormNote::CosignAttestation { annotations: annotations.clone() },
            Form::Bundle => FormNote::Bundle,
        };
        Self { blob: BlobNote::of(&piece.bytes), form }
    }

    /// The piece again, as found at `origin`.
    pub(super) fn piece(&self, bytes: Addressed, origin: &Origin) -> UntrustedPiece {
        let form = match &self.form {
            FormNote::CosignSignature { annotations } => Form::CosignSignature { annotations: annotations.clone() },
            FormNote::CosignAttestation { annotations } => Form::CosignAttestation { annotations: annotations.clone() },
            FormNote::Bundle => Form::Bundle,
        };
        UntrustedPiece { bytes, form, origin: origin.clone() }
    }
}

impl BlobNote {
    fn of(blob: &Addressed) -> Self {
        Self { digest: blob.digest().clone(), size: blob.bytes().len() as u64 }
    }
}
