//! A Sigstore of our own, made on the spot: it signs images for real, and badly on order.
//!
//! ```text
//!   root (P-384) ── intermediate ── leaf, ten minutes, with an SCT      VirtualSigstore, Signer: keyless
//!   a key (P-256, P-384, Ed25519, RSA)                                   KeySigner
//!        │ signs
//!        ├─ a simple signing payload ── LegacySignature ── image::signature_manifest   (tag sha256-<hex>.sig)
//!        ├─ a statement in DSSE ─┬───── LegacySignature ── image::attestation_manifest (tag sha256-<hex>.att)
//!        │                       └───── bundle ─────────── image::bundle_referrer      (a referrer)
//!        └─ a blob ──────────────────── bundle
//!                                            │ each logged by Rekor v1 (SET, proof, checkpoint) or v2 (proof, checkpoint),
//!                                            │ and dated by a timestamp authority where Options say so
//!                                       trusted_root.json, TrustRoot document
//! ```
//!
//! Nothing here knows how signatures are verified, and nothing that verifies knows of this: what is good is good by the same rules
//! as in the real Sigstore, and every [`Flaw`] is evidence that has one thing wrong with it. [`corpus`] mints every flaw in every
//! [`Shape`], beside valid twins. No clock is read: times are in [`Options`].

mod bundle;
mod ca;
mod corpus;
mod ct;
mod document;
mod entry;
mod envelope;
mod flaw;
mod fulcio;
mod key;
mod key_signer;
mod legacy;
mod log;
mod merkle;
mod notary;
mod party;
pub mod predicate;
mod seal;
mod shape;
mod signer;
mod token;
mod trusted_root;
mod tsa;
mod writing;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use oci::Digest;
use serde_json::Value;

use ca::{Authority, Leaf, Request};
use ct::CtLog;
use key::{Key, Keys};
use log::{Generation, Log};
use party::Party;
use tsa::TimestampAuthority;

pub use corpus::{CorpusEntry, Form, corpus, mint};
pub use document::COSIGN_SIGN;
pub use flaw::{Catch, Flaw, Part, flaws};
pub use key::KeyKind;
pub use key_signer::KeySigner;
pub use legacy::LegacySignature;
pub use shape::{EntryKind, Layout, Means, Said, Shape, Version};
pub use signer::Signer;

/// CA, CT log, transparency logs and timestamp authority, with the keys that they sign with.
pub struct VirtualSigstore {
    own: Instance,
    /// Another one with the same names, made when a flaw asks for it.
    foreign: OnceLock<Instance>,
}

struct Instance {
    ca: Authority,
    ct: CtLog,
    log: Log,
    log_v2: Log,
    tsa: TimestampAuthority,
}

/// How to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// When the certificate begins, in seconds since 1970; a timestamp authority sees the signature a second later, the log takes it in
    /// two seconds later.
    pub signed_at: u64,
    /// What is to be wrong with it.
    pub flaws: Vec<Flaw>,
    /// Annotations of the signer's own, as by `cosign sign -a`: they end up in the signed document.
    pub annotations: BTreeMap<String, String>,
    /// Whether cosign's chain annotation is written. Some signers leave it out.
    pub chain: bool,
    /// The version of a bundle. One of version 0.1 has its proof too, unless [`Flaw::ProofMissing`] is asked for.
    pub version: Version,
    /// Which log is told, and what.
    pub entry: EntryKind,
    /// Whether a timestamp authority dates the signature. Rekor v2 does not.
    pub timestamp: bool,
    /// Of a legacy attestation it dates the whole envelope, as cosign 2 asks it to, and not the signature.
    pub stamps_envelope: bool,
}

impl Options {
    /// 2025-10-09, when nothing is wrong.
    pub const SIGNED_AT: u64 = 1_760_000_000;

    /// A signature with one thing wrong.
    #[must_use]
    pub fn flawed(flaw: Flaw) -> Self {
        Self { flaws: vec![flaw], ..Self::default() }
    }

    /// A good signature made at that time, in seconds since 1970.
    #[must_use]
    pub fn at(signed_at: u64) -> Self {
        Self { signed_at, ..Self::default() }
    }

    /// Good evidence of that shape.
    #[must_use]
    pub fn shaped(shape: Shape) -> Self {
        let Shape { version, entry, timestamp, .. } = shape;
        Self { version, entry, timestamp, ..Self::default() }
    }

    /// Good evidence that Rekor v2 logs and a timestamp authority dates.
    #[must_use]
    pub fn rekor_v2() -> Self {
        Self { entry: EntryKind::RekorV2, timestamp: true, ..Self::default() }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaws.contains(&flaw)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            signed_at: Self::SIGNED_AT,
            flaws: Vec::new(),
            annotations: BTreeMap::new(),
            chain: true,
            version: Version::default(),
            entry: EntryKind::default(),
            timestamp: false,
            stamps_envelope: false,
        }
    }
}

impl Default for VirtualSigstore {
    fn default() -> Self {
        Self::new()
    }
}

impl VirtualSigstore {
    /// Makes all keys and certificates anew; no two instances trust each other.
    #[must_use]
    pub fn new() -> Self {
        Self { own: Instance::new(Keys::Random), foreign: OnceLock::new() }
    }

    /// Whose keys, all for Ed25519, are the same for the same seed; and so is all that is signed in the same order without a flaw but
    /// [`Flaw::SctMissing`], whichever process does it. No CT log signs so: what asks for SCTs is refused.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let keys = Keys::Drawn { seed, drawn: AtomicU64::new(0) };
        Self { own: Instance::new(keys), foreign: OnceLock::new() }
    }

    /// What verifiers trust: a `trusted_root.json`.
    #[must_use]
    pub fn trusted_root_json(&self) -> String {
        self.trusted_root_json_with(&[])
    }

    /// The same, in which these flaws show: some are of evidence that is good, but for the time of those who vouch for it.
    #[must_use]
    pub fn trusted_root_json_with(&self, flaws: &[Flaw]) -> String {
        trusted_root::json(&self.own, flaws)
    }

    /// The same authorities and logs as a `TrustRoot` document of that name, for policies: YAML, without Rekor v2.
    #[must_use]
    pub fn trust_root_document(&self, name: &str) -> String {
        trusted_root::document(&self.own, name)
    }

    /// Signs an image as cosign does in its legacy layout. `repository` is what the payload claims as reference.
    #[must_use]
    pub fn sign_legacy(
        &self,
        signer: &Signer,
        repository: &str,
        digest: &Digest,
        options: &Options,
    ) -> LegacySignature {
        self.as_party(signer, options, |party| legacy::sign(party, Some(self), repository, digest, options))
    }

    /// Attests something about an image in the legacy layout: a DSSE envelope, for the tag `sha256-<hex>.att`.
    #[must_use]
    pub fn attest_legacy(
        &self,
        signer: &Signer,
        digest: &Digest,
        predicate_type: &str,
        predicate: &Value,
        options: &Options,
    ) -> LegacySignature {
        self.as_party(signer, options, |party| {
            let said = (predicate_type, predicate);
            legacy::attest(party, Some(self), digest, said, options)
        })
    }

    /// Signs an image as cosign v3 does: a bundle, as JSON.
    #[must_use]
    pub fn sign_bundle(&self, signer: &Signer, digest: &Digest, options: &Options) -> String {
        self.attest_bundle(signer, digest, COSIGN_SIGN, &Value::Object(serde_json::Map::default()), options)
    }

    /// Attests something about an image: a bundle, as JSON.
    #[must_use]
    pub fn attest_bundle(
        &self,
        signer: &Signer,
        digest: &Digest,
        predicate_type: &str,
        predicate: &Value,
        options: &Options,
    ) -> String {
        self.as_party(signer, options, |party| {
            bundle::sign(party, Some(self), digest, (predicate_type, predicate), options)
        })
    }

    /// Signs bytes, as `cosign sign-blob` does: a bundle, as JSON.
    #[must_use]
    pub fn sign_blob(&self, signer: &Signer, artifact: &[u8], options: &Options) -> String {
        self.as_party(signer, options, |party| bundle::sign_blob(party, Some(self), artifact, options))
    }

    /// Gets a certificate for `signer`, or what a flaw puts in its place.
    fn as_party<T>(&self, signer: &Signer, options: &Options, sign: impl FnOnce(&Party<'_>) -> T) -> T {
        if options.has(Flaw::KeyInstead) {
            let key = Key::generate(KeyKind::P256);
            return sign(&Party::keyed(&key, key.id()));
        }
        let leaf = self.certify(signer, options);
        if options.has(Flaw::CertificateSwapped) || options.has(Flaw::TwoCertificates) {
            let stranger = self.certify(&Signer::fork(), options);
            let party = Party::certified(&stranger, &leaf, options.chain);
            return sign(&party);
        }
        sign(&Party::certified(&leaf, &leaf, options.chain))
    }

    fn certify(&self, signer: &Signer, options: &Options) -> Leaf {
        let ca = if options.has(Flaw::ForeignCa) { &self.foreign().ca } else { &self.own.ca };
        let (ct, ct_id) = if options.has(Flaw::SctByUnknownLog) {
            (&self.foreign().ct, self.foreign().ct.key.id())
        } else if options.has(Flaw::SctForged) {
            (&self.foreign().ct, self.own.ct.key.id())
        } else {
            (&self.own.ct, self.own.ct.key.id())
        };
        let at = options.began_at();
        ca.issue(&Request { signer, at, flaws: &options.flaws, ct, ct_id })
    }

    fn foreign(&self) -> &Instance {
        self.foreign.get_or_init(|| Instance::new(Keys::Random))
    }
}

impl Instance {
    fn new(keys: Keys) -> Self {
        let keys = Arc::new(keys);
        Self {
            ca: Authority::new(&keys),
            ct: CtLog::new(&keys),
            log: Log::new(Generation::V1, &keys),
            log_v2: Log::new(Generation::V2, &keys),
            tsa: TimestampAuthority::new(&keys),
        }
    }
}
