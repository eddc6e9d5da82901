//! A Sigstore of our own, made on the spot: it signs images for real, and badly on order.
//!
//! ```text
//!   root (P-384) ── intermediate ── leaf, ten minutes, with an SCT      VirtualSigstore, Signer: keyless
//!   a key (P-256, P-384, Ed25519, RSA)                                   KeySigner
//!        │ signs
//!        ├─ a simple signing payload ── LegacySignature ── image::signature_manifest   (tag sha256-<hex>.sig)
//!        └─ a statement in DSSE ─────── bundle v0.3 ────── image::bundle_referrer      (a referrer)
//!                                            │ each logged: SET, proof, checkpoint
//!                                       trusted_root.json
//! ```
//!
//! Nothing here knows how signatures are verified, and nothing that verifies knows of this: what is good is good by the same rules
//! as in the real Sigstore, and every [`Flaw`] is a signature that has one thing wrong with it. No clock is read: times are in
//! [`Options`].

mod bundle;
mod ca;
mod ct;
mod entry;
mod flaw;
mod fulcio;
mod key;
mod key_signer;
mod legacy;
mod log;
mod merkle;
mod party;
mod signer;
#[cfg(test)]
mod tests;
mod trusted_root;

use std::{collections::BTreeMap, sync::OnceLock};

use oci::Digest;
use serde_json::Value;

use ca::{Authority, Leaf, Request};
use ct::CtLog;
use entry::Logged;
use log::Log;
use party::Party;

pub use bundle::COSIGN_SIGN;
pub use flaw::{Catch, Flaw, Layout, Means, flaws};
pub use key::KeyKind;
pub use key_signer::KeySigner;
pub use legacy::LegacySignature;
pub use signer::Signer;

/// CA, CT log and transparency log, with the keys that they sign with.
pub struct VirtualSigstore {
    own: Instance,
    /// Another one with the same names, made when a flaw asks for it.
    foreign: OnceLock<Instance>,
}

struct Instance {
    ca: Authority,
    ct: CtLog,
    log: Log,
}

/// How to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// When the certificate begins, in seconds since 1970; the log takes the signature in two seconds later.
    pub signed_at: u64,
    /// What is to be wrong with it.
    pub flaws: Vec<Flaw>,
    /// Annotations of the signer's own, as by `cosign sign -a`: they end up in the signed document.
    pub annotations: BTreeMap<String, String>,
    /// Whether cosign's chain annotation is written. Some signers leave it out.
    pub chain: bool,
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

    fn has(&self, flaw: Flaw) -> bool {
        self.flaws.contains(&flaw)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { signed_at: Self::SIGNED_AT, flaws: Vec::new(), annotations: BTreeMap::new(), chain: true }
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
        Self { own: Instance::new(), foreign: OnceLock::new() }
    }

    /// What verifiers trust: a `trusted_root.json`.
    #[must_use]
    pub fn trusted_root_json(&self) -> String {
        trusted_root::json(&self.own)
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

    /// Signs an image as cosign v3 does: a bundle v0.3, as JSON.
    #[must_use]
    pub fn sign_bundle(&self, signer: &Signer, digest: &Digest, options: &Options) -> String {
        self.attest_bundle(signer, digest, COSIGN_SIGN, &Value::Object(serde_json::Map::default()), options)
    }

    /// Attests something about an image: a bundle v0.3, as JSON.
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

    /// Gets a certificate for `signer`, or what a flaw puts in its place.
    fn as_party<T>(&self, signer: &Signer, options: &Options, sign: impl FnOnce(&Party<'_>) -> T) -> T {
        let leaf = self.certify(signer, options);
        if options.has(Flaw::CertificateSwapped) {
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
        let at = options.signed_at;
        ca.issue(&Request { signer, at, flaws: &options.flaws, ct, ct_id })
    }

    /// Logs a body, unless it is not to be logged. `another` is the body of another image's signature by the same party.
    fn log(&self, body: Vec<u8>, another: impl FnOnce() -> Vec<u8>, options: &Options) -> Option<Logged> {
        if options.has(Flaw::NotLogged) {
            return None;
        }
        let late = if options.has(Flaw::OutsideValidity) { ca::LEAF_LIFE + 60 } else { 2 };
        let at = options.signed_at + late;
        let (own, log) = (&self.own.log, self.log_in_charge(options));
        let mut entry = if options.has(Flaw::EntryOfAnotherImage) {
            own.append(another(), at)
        } else if options.has(Flaw::SetOfAnotherEntry) {
            let set = own.append(another(), at).set;
            log::Entry { set, ..own.append(body, at) }
        } else {
            log.append(body, at)
        };
        if options.has(Flaw::SetForged) {
            entry.set = self.foreign().log.promise(&entry.body, at, own.key.id(), entry.index);
        }
        if options.has(Flaw::CheckpointForged) {
            let (size, root) = (entry.proof.size, entry.proof.root);
            entry.proof.checkpoint = self.foreign().log.checkpoint(size, root, own.key.id());
        }
        Some(entry::spoil(entry, options))
    }

    fn log_in_charge(&self, options: &Options) -> &Log {
        if options.has(Flaw::UnknownLog) { &self.foreign().log } else { &self.own.log }
    }

    fn foreign(&self) -> &Instance {
        self.foreign.get_or_init(Instance::new)
    }
}

impl Instance {
    fn new() -> Self {
        Self { ca: Authority::new(), ct: CtLog::new(), log: Log::new() }
    }
}
