//! Places that are asked: which candidates each of them has.

use std::collections::BTreeSet;

use oci::{Digest, ManifestKind, MediaType, Reference, Repository, UntrustedManifest};
use policy::{Origin, Source};

use super::{
    Collector, Nothing,
    candidate::{Carrier, Layer, Layers, Listed},
};
use crate::evidence_tag::evidence_tag_at;

/// What one place has to offer.
#[derive(Default)]
pub(super) struct Offer {
    pub(super) layers: Vec<Layer>,
    pub(super) listed: Vec<Listed>,
    pub(super) flawed: Vec<String>,
    /// Why this is not all that is there.
    pub(super) cut: Option<String>,
}

impl Collector {
    pub(super) async fn ask(&self, repository: &Repository, subject: &Digest, origin: &Origin) -> Offer {
        let offered = match origin.source {
            Source::CosignTag => self.cosign_tag(repository, subject, origin, ".sig").await,
            Source::CosignAttestationTag => self.cosign_tag(repository, subject, origin, ".att").await,
            Source::ReferrersApi => self.referrers_api(repository, subject, origin).await,
            Source::ReferrersTag => self.referrers_tag(repository, subject, origin).await,
        };
        match offered {
            Ok(offer) => offer,
            Err(Nothing::Empty) => Offer::default(),
            Err(Nothing::Flawed(why)) => Offer { flawed: vec![why], ..Offer::default() },
            Err(Nothing::Unasked(why)) => Offer { cut: Some(why), ..Offer::default() },
        }
    }

    /// A tag of cosign's legacy layout, beside the image or where the policy says: one layer a signature or attestation.
    async fn cosign_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
        origin: &Origin,
        suffix: &str,
    ) -> Result<Offer, Nothing> {
        let location = &origin.location;
        let tag = evidence_tag_at(&location.tag_prefix, subject, suffix).ok_or(Nothing::Empty)?;
        let repository = location.repository.as_ref().unwrap_or(repository);
        let (manifest, cut) = self.doubted_manifest(repository, &Reference::Tag(tag.clone())).await?;
        // Seen in the wild: a missing tag answered with the image itself, or with an image that has other layers.
        if manifest.digest() == subject {
            return Err(Nothing::Empty);
        }
        let what = if suffix == ".sig" { "signature" } else { "attestation" };
        if matches!(manifest.kind(), ManifestKind::Index { .. }) {
            return Err(Nothing::Flawed(format!("the {what} tag holds an index")));
        }
        let media_type = if suffix == ".sig" { MediaType::SIMPLE_SIGNING } else { MediaType::DSSE };
        let (repository, origin) = (repository.clone(), origin.clone());
        let carrier = Carrier { manifest, tag: Some(tag), repository, origin };
        Ok(Offer { cut, ..Offer::of(carrier.tagged(media_type)) })
    }

    async fn referrers_api(
        &self,
        repository: &Repository,
        subject: &Digest,
        origin: &Origin,
    ) -> Result<Offer, Nothing> {
        let listed = self.upstream(repository)?.referrers(repository.path(), subject).await;
        // A list that cannot be read says nothing about what is there.
        let listed = listed.map_err(|error| match self.unasked(&error) {
            Nothing::Flawed(why) => Nothing::Unasked(why),
            nothing @ (Nothing::Unasked(_) | Nothing::Empty) => nothing,
        })?;
        // 404: upstream has no such API, and says so; nothing can be there.
        let Some(listed) = listed else { return Err(Nothing::Empty) };
        let cut = listed.cut.map(|error| error.to_string());
        let listed = listed.descriptors.iter().map(|descriptor| Listed::new(origin, descriptor)).collect();
        Ok(Offer { listed, cut, ..Offer::default() })
    }

    /// The referrers tag schema: an index under the tag `sha256-<hex>`.
    async fn referrers_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
        origin: &Origin,
    ) -> Result<Offer, Nothing> {
        let tag = evidence_tag_at("", subject, "").ok_or(Nothing::Empty)?;
        let (index, cut) = self.doubted_manifest(repository, &Reference::Tag(tag)).await?;
        // Seen in the wild: a missing tag answered with the index asked about.
        let ManifestKind::Index { manifests } = index.kind() else { return Err(Nothing::Empty) };
        if index.digest() == subject {
            return Err(Nothing::Empty);
        }
        let mut seen = BTreeSet::new();
        let manifests = manifests.iter().filter(|manifest| seen.insert(&manifest.digest));
        let listed = manifests.map(|manifest| Listed::new(origin, manifest)).collect();
        Ok(Offer { listed, cut, ..Offer::default() })
    }

    /// Opens a manifest that is listed: what its descriptor says is not believed, and whether it speaks about `subject` it must say
    /// itself.
    pub(super) async fn open(
        &self,
        repository: &Repository,
        subject: &Digest,
        listed: &Listed,
    ) -> Result<Layers, Nothing> {
        let manifest = self.manifest(repository, &Reference::Digest(listed.digest.clone())).await?;
        if !speaks_about(&manifest, subject) {
            return Err(Nothing::Empty);
        }
        let (size, max) = (manifest.addressed().bytes().len() as u64, self.limits.referrer_bytes_max);
        if size > max {
            let why =
                format!("manifest {} of {size} bytes is larger than limits.referrer_bytes_max ({max})", listed.digest);
            return Err(Nothing::Flawed(why));
        }
        let (repository, origin) = (repository.clone(), listed.origin.clone());
        Ok(Carrier { manifest, tag: None, repository, origin }.referring())
    }
}

fn speaks_about(manifest: &UntrustedManifest, subject: &Digest) -> bool {
    manifest.subject().is_some_and(|named| &named.digest == subject)
}

impl Offer {
    fn of(layers: Layers) -> Self {
        let flawed = unsigned(layers.unsigned).into_iter().collect();
        Self { layers: layers.found, flawed, ..Self::default() }
    }
}

/// Layers that call themselves signatures without one, in one clause.
pub(super) fn unsigned(count: usize) -> Option<String> {
    (count > 0).then(|| format!("{count} signature layers carry no signature annotation"))
}
