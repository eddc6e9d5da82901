//! Every flaw in every shape that can have it, and of every shape the valid twin: minted about one image.

use std::collections::BTreeMap;

use oci::Digest;
use serde_json::Value;

use super::{
    Catch, Flaw, KeyKind, KeySigner, LegacySignature, Options, Signer, VirtualSigstore, predicate,
    shape::{Layout, Means, Said, Shape},
    writing,
};

/// As what a piece of evidence is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A layer of a `.sig` manifest.
    CosignSignature,
    /// A layer of a `.att` manifest.
    CosignAttestation,
    /// The layer of a bundle's manifest.
    Bundle,
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorpusEntry {
    /// `legacy-certificate-signature.set-flipped`, or `….valid`: a name for files.
    pub name: String,
    /// What it should be.
    pub shape: Shape,
    /// What is wrong with it; none for a valid twin.
    pub flaw: Option<Flaw>,
    /// As what it is fetched.
    pub form: Form,
    /// The layer's bytes.
    pub payload: Vec<u8>,
    /// The layer's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Under which trust root it is to be judged.
    pub trusted_root: String,
    /// Who has to notice; none for a valid twin.
    pub catch: Option<Catch>,
    /// What it is verified with where that is a key: PEM. Otherwise the signer is to be [`Signer::chainguard`].
    pub public_key: Option<String>,
    /// What an attestation is to say; nothing of a signature.
    pub predicate_type: Option<&'static str>,
}

/// The whole corpus about `subject`. Of the log it is assumed that it is asked for, with keys too.
#[must_use]
pub fn corpus(sigstore: &VirtualSigstore, subject: &Digest) -> Vec<CorpusEntry> {
    let key = KeySigner::generate(KeyKind::P256);
    let twins = Shape::ALL.into_iter().map(|shape| (shape, None));
    let flawed = Shape::ALL.into_iter().flat_map(|shape| {
        let flaws = Flaw::ALL.iter().copied().filter(move |flaw| flaw.applies_to(shape));
        flaws.map(move |flaw| (shape, Some(flaw)))
    });
    twins.chain(flawed).map(|(shape, flaw)| mint(sigstore, &key, subject, shape, flaw)).collect()
}

/// One entry of the corpus; `key` is who signs where it is done with a key.
#[must_use]
pub fn mint(
    sigstore: &VirtualSigstore,
    key: &KeySigner,
    subject: &Digest,
    shape: Shape,
    flaw: Option<Flaw>,
) -> CorpusEntry {
    let flaws: Vec<Flaw> = flaw.into_iter().collect();
    let options = Options { flaws, ..Options::shaped(shape) };
    let press = Press { sigstore, key, subject, shape, options: &options };
    let (form, payload, annotations) = press.mint();
    let fault = flaw.map_or_else(|| "valid".to_owned(), Flaw::name);
    CorpusEntry {
        name: format!("{}.{fault}", shape.name()),
        shape,
        flaw,
        form,
        payload,
        annotations,
        trusted_root: sigstore.trusted_root_json_with(&options.flaws),
        catch: flaw.map(Flaw::caught_by),
        public_key: (shape.means == Means::Key).then(|| key.public_pem()),
        predicate_type: (shape.said == Said::Attestation).then_some(predicate::PROVENANCE),
    }
}

struct Press<'a> {
    sigstore: &'a VirtualSigstore,
    key: &'a KeySigner,
    subject: &'a Digest,
    shape: Shape,
    options: &'a Options,
}

const REPOSITORY: &str = "cgr.dev/chainguard/nginx";

impl Press<'_> {
    fn mint(&self) -> (Form, Vec<u8>, BTreeMap<String, String>) {
        let said = if self.options.has(Flaw::SignatureInstead) { Said::Signature } else { self.shape.said };
        let (form, layer) = match (self.shape.layout, said) {
            (Layout::Legacy, Said::Signature) => (Form::CosignSignature, self.legacy_signature()),
            (Layout::Legacy, Said::Attestation) => (Form::CosignAttestation, self.legacy_attestation()),
            (Layout::Bundle, said) => {
                let bytes = self.bundle(said).into_bytes();
                return (Form::Bundle, writing::spoiled(bytes, self.options), BTreeMap::new());
            }
        };
        (form, layer.payload.to_vec(), layer.annotations)
    }

    fn legacy_signature(&self) -> LegacySignature {
        let Self { sigstore, key, subject, options, .. } = *self;
        match self.shape.means {
            Means::Certificate => sigstore.sign_legacy(&Signer::chainguard(), REPOSITORY, subject, options),
            Means::Key => key.sign_legacy(REPOSITORY, subject, Some(sigstore), options),
        }
    }

    fn legacy_attestation(&self) -> LegacySignature {
        let Self { sigstore, key, subject, options, .. } = *self;
        let (kind, said) = (predicate::PROVENANCE, predicate::provenance(predicate::BUILDER));
        match self.shape.means {
            Means::Certificate => sigstore.attest_legacy(&Signer::chainguard(), subject, kind, &said, options),
            Means::Key => key.attest_legacy(subject, kind, &said, Some(sigstore), options),
        }
    }

    fn bundle(&self, said: Said) -> String {
        let Self { sigstore, key, subject, options, .. } = *self;
        let signer = Signer::chainguard();
        if options.has(Flaw::NoStatement) {
            let artifact = subject.to_string();
            return match self.shape.means {
                Means::Certificate => sigstore.sign_blob(&signer, artifact.as_bytes(), options),
                Means::Key => key.sign_blob(artifact.as_bytes(), Some(sigstore), options),
            };
        }
        let (kind, predicate) = match said {
            Said::Signature => (super::COSIGN_SIGN, Value::Object(serde_json::Map::default())),
            Said::Attestation => (predicate::PROVENANCE, predicate::provenance(predicate::BUILDER)),
        };
        match self.shape.means {
            Means::Certificate => sigstore.attest_bundle(&signer, subject, kind, &predicate, options),
            Means::Key => key.attest_bundle(subject, kind, &predicate, Some(sigstore), options),
        }
    }
}
