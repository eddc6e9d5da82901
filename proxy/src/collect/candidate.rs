//! What may be evidence, before it is fetched.

use std::{cmp::Ordering, sync::Arc};

use oci::{Descriptor, Digest, ManifestKind, MediaType, Repository, Tag, UntrustedManifest};
use policy::{Form, Origin, UntrustedPiece};

/// From this size on a layer is looked at only where all smaller ones together do not suffice.
const HEAVY_BYTES_MIN: u64 = 8 << 20;
/// Where cosign writes what makes a simple signing payload a signature.
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Where it writes what vouches for a signature.
const VOUCHERS: [&str; 2] = ["dev.sigstore.cosign/certificate", "dev.sigstore.cosign/bundle"];

/// A manifest whose layers are evidence.
pub(super) struct Carrier {
    pub(super) manifest: UntrustedManifest,
    /// Where it was found by a tag.
    pub(super) tag: Option<Tag>,
    pub(super) repository: Repository,
    pub(super) origin: Origin,
}

/// A layer that claims to be evidence.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) carrier: Arc<Carrier>,
    index: usize,
    kind: Kind,
}

/// A manifest that is listed as a referrer.
pub(super) struct Listed {
    pub(super) digest: Digest,
    pub(super) origin: Origin,
    /// What the list says of it is not believed, but says in which order to look.
    claims: bool,
}

/// What a layer claims to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Signature,
    Attestation,
    Bundle,
}

/// The layers of a manifest that may be evidence, and how many look like it and cannot be.
pub(super) struct Layers {
    pub(super) found: Vec<Layer>,
    pub(super) unsigned: usize,
}

impl Layers {
    /// What the manifest takes in memory for as long as its heavy layers wait for their turn. None where it has none.
    pub(super) fn waiting_bytes(&self) -> Option<u64> {
        let heavy = self.found.iter().find(|layer| layer.is_heavy())?;
        Some(heavy.carrier.manifest.addressed().bytes().len() as u64)
    }
}

impl Carrier {
    /// The layers of cosign's tags that are of its `media_type`. What else lies there is no evidence: a registry that answers a
    /// missing tag with an image has told nothing.
    pub(super) fn tagged(self, media_type: &str) -> Layers {
        let kind = if media_type == MediaType::SIMPLE_SIGNING { Kind::Signature } else { Kind::Attestation };
        self.layers(|layer, _| (layer.media_type.as_str() == media_type).then_some(kind))
    }

    /// The layers of a referrer that are evidence: exactly one bundle; or, as cosign once tried it, the layers of its tags.
    pub(super) fn referring(self) -> Layers {
        self.layers(|layer, count| match layer.media_type.as_str() {
            MediaType::SIMPLE_SIGNING => Some(Kind::Signature),
            MediaType::DSSE => Some(Kind::Attestation),
            other => (count == 1 && other.starts_with(MediaType::SIGSTORE_BUNDLE_PREFIX)).then_some(Kind::Bundle),
        })
    }

    fn layers(self, kind: impl Fn(&Descriptor, usize) -> Option<Kind>) -> Layers {
        let carrier = Arc::new(self);
        let mut layers = Layers { found: Vec::new(), unsigned: 0 };
        let ManifestKind::Image { layers: listed, .. } = carrier.manifest.kind() else { return layers };
        for (index, layer) in listed.iter().enumerate() {
            let Some(kind) = kind(layer, listed.len()) else { continue };
            // Without it nobody's signature is there, whatever the bytes are.
            if kind == Kind::Signature && layer.annotations.get(SIGNATURE).is_none_or(String::is_empty) {
                layers.unsigned += 1;
                continue;
            }
            layers.found.push(Layer { carrier: Arc::clone(&carrier), index, kind });
        }
        layers.found.sort_by(Layer::in_order);
        layers.found.dedup_by(|a, b| a.in_order(b) == Ordering::Equal);
        layers
    }
}

impl Layer {
    /// Where its bytes are, and how many.
    pub(super) fn descriptor(&self) -> &Descriptor {
        match self.carrier.manifest.kind() {
            ManifestKind::Image { layers, config } => layers.get(self.index).unwrap_or(config),
            ManifestKind::Index { .. } => unreachable!("only an image has layers"),
        }
    }

    /// Whether it is looked at last.
    pub(super) fn is_heavy(&self) -> bool {
        self.descriptor().size >= HEAVY_BYTES_MIN
    }

    /// Whether it may be as large as an attestation.
    pub(super) fn may_attest(&self) -> bool {
        self.kind != Kind::Signature
    }

    pub(super) fn piece(&self, bytes: oci::Addressed) -> UntrustedPiece {
        let annotations = || self.descriptor().annotations.clone();
        let form = match self.kind {
            Kind::Signature => Form::CosignSignature { annotations: annotations() },
            Kind::Attestation => Form::CosignAttestation { annotations: annotations() },
            Kind::Bundle => Form::Bundle,
        };
        UntrustedPiece { bytes, form, origin: self.carrier.origin.clone() }
    }

    /// What is to be looked at first comes first: small before large, what claims to be vouched for before what does not. None is left
    /// out for what it claims. Equal only where they are one and the same.
    pub(super) fn in_order(&self, other: &Self) -> Ordering {
        let key = |layer: &Self| (layer.is_heavy(), !layer.is_vouched_for());
        let (own, others) = (self.descriptor(), other.descriptor());
        let by_claim = key(self).cmp(&key(other));
        by_claim
            .then_with(|| (own.size, &own.digest).cmp(&(others.size, &others.digest)))
            .then_with(|| own.annotations.cmp(&others.annotations))
            .then_with(|| self.carrier.origin.cmp(&other.carrier.origin))
            .then_with(|| (self.kind as u8).cmp(&(other.kind as u8)))
    }

    fn is_vouched_for(&self) -> bool {
        let annotations = &self.descriptor().annotations;
        self.kind == Kind::Bundle || VOUCHERS.iter().any(|key| annotations.contains_key(*key))
    }
}

impl Listed {
    pub(super) fn new(origin: &Origin, descriptor: &Descriptor) -> Self {
        let evident = |media_type: &MediaType| {
            let media_type = media_type.as_str();
            media_type.starts_with(MediaType::SIGSTORE_BUNDLE_PREFIX)
                || media_type.starts_with("application/vnd.dev.cosign.")
                || media_type.starts_with("application/vnd.in-toto")
        };
        let claims = descriptor.artifact_type.as_ref().is_some_and(evident);
        Self { digest: descriptor.digest.clone(), origin: origin.clone(), claims }
    }

    /// What claims to be evidence is opened first.
    pub(super) fn order(&self) -> (bool, &Digest) {
        (!self.claims, &self.digest)
    }
}
