//! What is written down about collected evidence: bytes lie in the blob store, the rest here.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
};

use oci::{Addressed, Digest, UnixTime};
use policy::{Form, Origin, UntrustedConfigs, UntrustedPiece};
use serde::{Deserialize, Serialize};

use crate::collect::{Collected, Place, SIGNATURE};

/// The form of notes. One of another form is not read.
const FORMAT: u32 = 2;
/// Of what a place does not show any more, or breaks off after, so many pieces stay, those that have satisfied a policy first.
const PIECES_KEPT_MAX: usize = 256;

/// What was collected about a digest, place by place, each as it was asked last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    format: u32,
    /// Since when what has satisfied a policy is kept in it; none in notes of older builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<UnixTime>,
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

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PieceNote {
    pub(super) blob: BlobNote,
    form: FormNote,
    /// It has satisfied a policy. Nobody takes back what he signed by not showing it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    proven: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlobNote {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        Self { format: FORMAT, since: None, places: Vec::new(), configs: None }
    }
}

impl Note {
    /// That begins now.
    pub(super) fn begun(now: UnixTime) -> Self {
        Self { since: Some(now), ..Self::default() }
    }

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

    /// Takes over what was collected. What is known of places that were not asked, or could not be, stays; so do pieces that are proven, and
    /// what somebody else has collected since the note was `before`.
    pub(super) fn add(&mut self, collected: &Collected, before: &Self, now: UnixTime) {
        for place in &collected.places {
            let pieces = collected.pieces.iter().filter(|piece| piece.origin == place.origin);
            let new = PlaceNote::new(place, pieces, now);
            let is_whole = match self.places.iter_mut().find(|known| known.origin == place.origin) {
                None => {
                    self.places.push(new);
                    true
                }
                Some(known) if place.unasked.is_some() => known.join(new),
                Some(known) => known.follow(new, before.pieces_of(&place.origin)),
            };
            if !is_whole {
                self.since = Some(now);
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

    fn pieces_of(&self, origin: &Origin) -> &[PieceNote] {
        let place = self.places.iter().find(|place| place.origin == *origin);
        place.map_or(&[], |place| place.pieces.as_slice())
    }

    /// Whether any piece has satisfied a policy.
    pub(super) fn has_proven(&self) -> bool {
        self.places.iter().any(|place| place.pieces.iter().any(|piece| piece.proven))
    }

    /// These pieces have satisfied a policy. Says whether that is news. Of one signature, or one attestation, a single copy is kept in each
    /// place: whatever else upstream writes into annotations makes no other of it.
    pub(super) fn prove(&mut self, pieces: &HashSet<Digest>) -> bool {
        let mut is_news = false;
        for place in &mut self.places {
            let known = place.pieces.iter().filter(|it| it.proven).map(PieceNote::essence);
            let mut known: HashSet<(Digest, String)> = known.collect();
            for it in place.pieces.iter_mut().filter(|it| !it.proven) {
                if pieces.contains(&it.form().piece(&it.blob.digest)) && known.insert(it.essence()) {
                    it.proven = true;
                    is_news = true;
                }
            }
        }
        is_news
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

    /// Goes over to what a place gives now, but for what is proven, and for what nobody had seen `before`. Whether all that is proven stays.
    fn follow(&mut self, new: Self, before: &[PieceNote]) -> bool {
        let known = mem::replace(self, new).pieces;
        self.keep(known.into_iter().filter(|piece| piece.proven || !before.iter().any(|it| it.is(piece))))
    }

    /// Adds what a place gave before it stopped to answer. Who breaks off again and again does not push out what is proven. Whether all of that
    /// stays.
    fn join(&mut self, new: Self) -> bool {
        let known = mem::replace(&mut self.pieces, new.pieces);
        self.keep(known.into_iter())
    }

    /// Keeps so many of these before what there is, what is proven first. Whether all of that is among them.
    fn keep(&mut self, known: impl Iterator<Item = PieceNote>) -> bool {
        let (proven, others): (Vec<_>, Vec<_>) = known.partition(|piece| piece.proven);
        let is_whole = proven.len() <= PIECES_KEPT_MAX;
        let kept = proven.into_iter().chain(others).take(PIECES_KEPT_MAX).collect();
        for piece in mem::replace(&mut self.pieces, kept) {
            if !self.pieces.iter().any(|it| it.is(&piece)) {
                self.pieces.push(piece);
            }
        }
        is_whole
    }
}

impl PieceNote {
    pub(super) fn of(piece: &UntrustedPiece) -> Self {
        let form = match &piece.form {
            Form::CosignSignature { annotations } => FormNote::CosignSignature { annotations: annotations.clone() },
            Form::CosignAttestation { annotations } => FormNote::CosignAttestation { annotations: annotations.clone() },
            Form::Bundle => FormNote::Bundle,
        };
        Self { blob: BlobNote::of(&piece.bytes), form, proven: false }
    }

    /// Whether it is the same piece.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.blob == other.blob && self.form == other.form
    }

    /// The piece again, as found at `origin`.
    pub(super) fn piece(&self, bytes: Addressed, origin: &Origin) -> UntrustedPiece {
        UntrustedPiece { bytes, form: self.form(), origin: origin.clone() }
    }

    /// What is signed, and where that is not in the same bytes the signature.
    fn essence(&self) -> (Digest, String) {
        let beside = match &self.form {
            FormNote::CosignSignature { annotations } => annotations.get(SIGNATURE).cloned(),
            FormNote::CosignAttestation { .. } | FormNote::Bundle => None,
        };
        (self.blob.digest.clone(), beside.unwrap_or_default())
    }

    fn form(&self) -> Form {
        match &self.form {
            FormNote::CosignSignature { annotations } => Form::CosignSignature { annotations: annotations.clone() },
            FormNote::CosignAttestation { annotations } => Form::CosignAttestation { annotations: annotations.clone() },
            FormNote::Bundle => Form::Bundle,
        }
    }
}

impl BlobNote {
    fn of(blob: &Addressed) -> Self {
        Self { digest: blob.digest().clone(), size: blob.bytes().len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use policy::Source;

    use super::*;

    fn origin() -> Origin {
        Origin::beside(Source::CosignTag)
    }

    fn annotated(bytes: &str, annotations: &[(&str, &str)]) -> PieceNote {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let blob = BlobNote { digest: Digest::sha256(bytes.as_bytes()), size: bytes.len() as u64 };
        PieceNote { blob, form: FormNote::CosignSignature { annotations }, proven: false }
    }

    fn piece(bytes: &str, signature: usize) -> PieceNote {
        annotated(bytes, &[(SIGNATURE, &signature.to_string())])
    }

    fn place(pieces: Vec<PieceNote>) -> PlaceNote {
        PlaceNote { origin: origin(), asked_at: UnixTime::from_millis(0), partly: None, pieces, flawed: Vec::new() }
    }

    fn id(piece: &PieceNote) -> HashSet<Digest> {
        HashSet::from([piece.form().piece(&piece.blob.digest)])
    }

    fn proven(pieces: Vec<PieceNote>) -> Note {
        let ids = id(&pieces[0]);
        let mut note = Note { places: vec![place(pieces)], ..Note::default() };
        assert!(note.prove(&ids) && !note.prove(&ids));
        note
    }

    /// Signatures over one image may have the same payload: annotations are what upstream writes.
    #[test]
    fn others_with_the_bytes_of_a_proven_piece_are_not_proven_do_not_pile_up_and_do_not_push_it_out() {
        let mut note = proven(vec![piece("good", 0), piece("good", 1)]);
        for round in 1..100 {
            let before = Note { places: vec![place(note.places[0].pieces.clone())], ..Note::default() };
            let new = place((0..64).map(|n| piece("good", round * 64 + n)).collect());
            note.places[0].follow(new, before.pieces_of(&origin()));
            let pieces = &note.places[0].pieces;
            assert_eq!((pieces.len(), pieces.iter().filter(|it| it.proven).count()), (65, 1));
            assert!(pieces[0].is(&piece("good", 0)) && pieces[0].proven);
        }
    }

    #[test]
    fn copies_of_a_proven_piece_with_more_annotations_are_not_kept_and_other_signatures_are() {
        let copy = annotated("payload", &[(SIGNATURE, "1"), ("more", "x")]);
        let (first, other) = (piece("payload", 1), piece("payload", 2));
        let all = id(&first).into_iter().chain(id(&copy)).chain(id(&other)).collect();
        let mut note = Note { places: vec![place(vec![first, copy, other])], ..Note::default() };
        assert!(note.prove(&all) && !note.prove(&all));
        assert_eq!(note.places[0].pieces.iter().map(|it| it.proven).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn who_breaks_off_again_and_again_pushes_out_nothing_that_is_proven_and_new_pieces_come_in() {
        let mut note = proven(vec![piece("good", 0)]);
        for round in 0..100 {
            let new = piece(&format!("junk {round}"), 0);
            note.places[0]
                .join(place((0..10).map(|n| piece(&format!("junk {round} {n}"), 0)).chain([new.clone()]).collect()));
            assert!(note.places[0].pieces[0].proven);
            assert!(note.places[0].pieces.iter().any(|it| it.is(&new)), "it may be the one that counts");
            assert!(note.places[0].pieces.len() <= PIECES_KEPT_MAX + 11);
        }
    }

    #[test]
    fn what_somebody_else_has_collected_meanwhile_stays() {
        let mut this = place(vec![piece("known", 0), piece("came meanwhile", 0)]);
        this.follow(place(vec![piece("new", 0)]), &[piece("known", 0)]);
        let left: Vec<_> = this.pieces.iter().map(|it| it.blob.digest.clone()).collect();
        assert_eq!(left, [Digest::sha256(b"came meanwhile"), Digest::sha256(b"new")]);
    }
}
