//! What is signed, the signature, and what vouches for it: what every layout comes down to.

use oci::Digest;
use serde::Deserialize;
use sigstore_types::{
    ArtifactDigest, CanonicalizedBody, DerCertificate, HashAlgorithm, InclusionPromise, InclusionProof, LogId,
    LogIndex, MessageDigest, SignatureBytes, TimestampToken,
};

use super::envelope::Envelope;
use crate::{refusal::Reason, verifier::Flaw};

/// Most log entries, and most timestamps, of one signature. Each costs a verification; real ones have one.
pub(super) const PROOFS_MAX: usize = 8;

/// One signature with all that came along. Nothing is verified yet.
pub(super) struct Sealed<'a> {
    pub content: Content<'a>,
    pub signature: SignatureBytes,
    /// The certificate, and what came with it to lead to the trust root; none where a key signed.
    pub certificates: Vec<DerCertificate>,
    pub entries: Vec<Entry>,
    /// Each entry must bring its proof of inclusion; cosign's annotations hold none, but always the log's promise.
    pub proven: bool,
    pub timestamps: Vec<TimestampToken>,
    /// The document that holds the signature, where it is cosign's own: version 2 has timestamps made over that.
    pub written: Option<&'a [u8]>,
}

/// What a signature is over.
pub(super) enum Content<'a> {
    /// These bytes. With the digest that the signer wrote beside the signature, where there is one: it tells the hash that was used.
    Bytes(&'a [u8], Option<MessageDigest>),
    /// Bytes of this digest, which are not at hand.
    Digest(ArtifactDigest, Option<MessageDigest>),
    /// A statement in an envelope.
    Envelope(Envelope),
}

/// An entry of a transparency log as a signature carries it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(default)]
    pub log_index: LogIndex,
    pub log_id: LogId,
    pub kind_version: KindVersion,
    /// In seconds since 1970; zero where there is none.
    #[serde(default)]
    pub integrated_time: LogIndex,
    pub inclusion_promise: Option<InclusionPromise>,
    pub inclusion_proof: Option<InclusionProof>,
    pub canonicalized_body: CanonicalizedBody,
}

/// What kind of entry it claims to be. Kinds that are not understood are told by name, so they are text until then.
#[derive(Deserialize)]
pub(super) struct KindVersion {
    pub kind: String,
    pub version: String,
}

impl Sealed<'_> {
    /// The signer's certificate.
    pub(super) fn certificate(&self) -> Result<&DerCertificate, Flaw> {
        let missing = || Flaw::new(Reason::SignerUnsuitable, "signed by a key, and a certificate is asked for");
        self.certificates.first().ok_or_else(missing)
    }
}

impl Content<'_> {
    /// The bytes that the signature is over, where they are at hand.
    pub(super) fn message(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes, _) => Some(bytes),
            Self::Digest(..) => None,
            Self::Envelope(envelope) => Some(envelope.message()),
        }
    }

    /// Whether what is signed has that digest; no where it is not known by that algorithm.
    pub(super) fn has_digest(&self, algorithm: HashAlgorithm, digest: &[u8]) -> bool {
        if let Self::Digest(known, _) = self {
            return known.algorithm() == algorithm && known.as_bytes() == digest;
        }
        self.message().is_some_and(|message| is_digest(algorithm, message, digest))
    }
}

/// Whether `digest` is that of `bytes`.
pub(super) fn is_digest(algorithm: HashAlgorithm, bytes: &[u8], digest: &[u8]) -> bool {
    match algorithm {
        HashAlgorithm::Sha2256 => sigstore_crypto::sha256(bytes).as_slice() == digest,
        HashAlgorithm::Sha2384 => sigstore_crypto::sha384(bytes).as_slice() == digest,
        HashAlgorithm::Sha2512 => sigstore_crypto::sha512(bytes).as_slice() == digest,
        _ => false,
    }
}

/// A digest as the crates want it; none for an algorithm that they do not know.
pub(super) fn artifact_digest(digest: &Digest) -> Option<ArtifactDigest> {
    let algorithm = match digest.algorithm() {
        oci::Algorithm::Sha256 => HashAlgorithm::Sha2256,
        oci::Algorithm::Sha512 => HashAlgorithm::Sha2512,
    };
    ArtifactDigest::new(algorithm, hex::decode(digest.hex()).ok()?).ok()
}
