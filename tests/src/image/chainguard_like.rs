//! Images with everything that Chainguard publishes of its own: an index and its platforms, each signed and attested thrice.

use serde_json::{Map, Value};

use super::{
    Image,
    evidence::{attestation_manifest, bundle_referrer, cosign_tag, signature_manifest},
};
use crate::{
    sigstore::{COSIGN_SIGN, CorpusEntry, Form, Layout, LegacySignature, Options, Signer, VirtualSigstore, predicate},
    upstream::Registry,
};

/// Who publishes, and how.
pub struct Publisher<'a> {
    /// Who certifies and logs.
    pub sigstore: &'a VirtualSigstore,
    /// Who signs.
    pub signer: &'a Signer,
    /// How it is signed.
    pub options: &'a Options,
    /// How it is written down.
    pub layout: Layout,
}

impl Publisher<'_> {
    /// Pushes `image` under `tag`, and about it and every manifest below it a signature and three attestations: provenance, image
    /// configuration and packages, all of them other documents for the index than for its platforms.
    ///
    /// In the legacy layout they lie under the tags `.sig` and `.att`; bundles are referrers. Where the registry has no referrers API,
    /// [`Registry::put_referrers_tag`] writes the tags that stand for it.
    pub fn publish(&self, registry: &Registry, repository: &str, tag: &str, image: &Image) {
        image.push(registry, repository, Some(tag));
        self.speak_about(registry, repository, image);
    }

    fn speak_about(&self, registry: &Registry, repository: &str, image: &Image) {
        for (manifest, tag) in self.evidence(&format!("cgr.dev/{repository}"), image) {
            manifest.push(registry, repository, tag.as_deref());
        }
        for child in &image.children {
            self.speak_about(registry, repository, child);
        }
    }

    /// The manifests that speak about one image, with the tags that they are found by.
    #[must_use]
    pub fn evidence(&self, reference: &str, image: &Image) -> Vec<(Image, Option<String>)> {
        let Self { sigstore, signer, options, layout } = *self;
        let digest = &image.digest;
        let predicates = predicate::chainguard(digest, &architectures(image));
        match layout {
            Layout::Legacy => {
                let signature = sigstore.sign_legacy(signer, reference, digest, options);
                let attest = |(kind, said): &(&str, Value)| sigstore.attest_legacy(signer, digest, kind, said, options);
                let attestations: Vec<_> = predicates.iter().map(attest).collect();
                vec![
                    (signature_manifest(&[signature]), Some(cosign_tag(digest, "sig"))),
                    (attestation_manifest(&attestations), Some(cosign_tag(digest, "att"))),
                ]
            }
            Layout::Bundle => {
                let signed = (COSIGN_SIGN, Value::Object(Map::new()));
                let said = std::iter::once(signed).chain(predicates);
                let bundle = |(kind, said): (&str, Value)| sigstore.attest_bundle(signer, digest, kind, &said, options);
                let referrer = |bundle: String| (bundle_referrer(&image.descriptor(), &bundle), None);
                said.map(bundle).map(referrer).collect()
            }
        }
    }
}

fn architectures(image: &Image) -> Vec<&str> {
    let own = image.platform.iter().map(|platform| platform.architecture.as_str());
    own.chain(image.children.iter().flat_map(architectures)).collect()
}

/// The manifest that carries a piece of the corpus about `subject`, with the tag that it is found by: none for a bundle, which is a
/// referrer.
#[must_use]
pub fn corpus_manifest(subject: &Image, entry: &CorpusEntry) -> (Image, Option<String>) {
    let layer = |media_type| {
        let (payload, annotations) = (entry.payload.clone().into(), entry.annotations.clone());
        [LegacySignature { media_type, payload, annotations }]
    };
    let tag = |suffix| Some(cosign_tag(&subject.digest, suffix));
    match entry.form {
        Form::CosignSignature => (signature_manifest(&layer(oci::MediaType::SIMPLE_SIGNING)), tag("sig")),
        Form::CosignAttestation => (attestation_manifest(&layer(oci::MediaType::DSSE)), tag("att")),
        Form::Bundle => {
            let predicate_type = entry.predicate_type.unwrap_or(COSIGN_SIGN);
            let bytes = entry.payload.clone();
            (super::evidence::bundle_referrer_of(&subject.descriptor(), bytes, predicate_type), None)
        }
    }
}
