//! The adapter to the Sigstore crates, and the only place that names them.
//!
//! What the crates check (read in their sources, version 0.15.1, and tried by the tests below): the certificate's chain to the
//! trust root at every trusted time, code signing usage, the certificate log's SCT; the log entry's promise (SET) and proof with
//! checkpoint; that the entry is about this signature, this certificate or key and this payload; RFC 3161 timestamps; that a
//! trusted time exists; the signature; that an in-toto subject has the digest.
//!
//! What they leave to the caller, and where it is done here:
//!
//! - which forms of bundle are taken from a registry, and that each log entry brings its proof: `bundle.rs`;
//! - what a simple signing payload says, duplicate keys, cosign's annotations: `legacy.rs`;
//! - what a statement says and of which type it is: `statement.rs`;
//! - certificates with several subjects or issuers: `certificate.rs`;
//! - keys with another hash than the usual one, and key signatures without log: `key.rs`;
//! - authorities used beyond their own certificates' validity, and logs beyond their keys': `root.rs`;
//! - sizes and counts: the caller's limits, and `bundle.rs`.
//!
//! One thing they do that this crate does not: they read the system's clock, only to refuse log entries dated in the future and
//! keys whose time has not come.

mod bundle;
mod certificate;
mod key;
mod legacy;
mod root;
mod statement;

use oci::{Digest, UnixTime};
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Bundle, Sha256Hash, SignatureContent};
use sigstore_verify::{
    Error, PublicKeyVerificationPolicy, TimestampError, VerificationPolicy, VerificationResult, bundle as structure,
};

use crate::{
    authority::Key,
    evidence::UntrustedPiece,
    refusal::{Reason, told},
    trust_root::{TrustRoot, TrustRootError},
    verifier::{Demand, Flaw, Signed, Verifier},
};

pub(crate) use key::check as check_key;

/// The `trusted_root.json` of the public-good Sigstore, as the crates ship it.
pub(crate) const PUBLIC_GOOD: &str = sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

/// Verifies by one trust root.
pub(crate) struct Sigstore {
    root: TrustedRoot,
    verifier: sigstore_verify::Verifier,
}

/// What a signature is made over, as the crates want it.
enum Artifact<'a> {
    /// The signed bytes themselves: a simple signing payload.
    Payload(&'a [u8]),
    /// The digest that a statement must name.
    Subject(Sha256Hash),
}

impl Sigstore {
    /// Prepares the trust root's keys and certificates.
    pub(crate) fn new(trust_root: &TrustRoot) -> Result<Self, TrustRootError> {
        let unusable = |what: String| TrustRootError::Unusable { what: told(&what) };
        let root = root::load(trust_root.text()).map_err(unusable)?;
        let verifier = sigstore_verify::Verifier::new(&root).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { root, verifier })
    }

    /// A signature by certificate: chain, SCT, log entry and signed time, all of them.
    fn by_certificate(&self, bundle: &Bundle, artifact: &Artifact<'_>, sct: bool) -> Result<Signed, Flaw> {
        let policy = VerificationPolicy::any_identity();
        let policy = if sct { policy } else { policy.skip_sct() };
        let result = artifact.verify(&self.verifier, bundle, &policy).map_err(|error| flaw(&error))?;
        if let Some(in_force) = root::without_logs_ended_before(&self.root, &result) {
            let verifier = sigstore_verify::Verifier::new(&in_force).map_err(|error| flaw(&error))?;
            artifact.verify(&verifier, bundle, &policy).map_err(|error| flaw(&error))?;
        }
        // The crates say yes only after all of these. Should a later version say it earlier, it is not heard.
        if !result.certificate_verified() {
            return Err(Flaw::new(Reason::CertificateUntrusted, "the certificate was not verified"));
        }
        if sct && !result.sct_verified() {
            return Err(Flaw::new(Reason::CertificateUntrusted, "the certificate log was not verified"));
        }
        if !result.tlog_verified() {
            return Err(Flaw::new(Reason::LogMissing, "the transparency log was not verified"));
        }
        let at = earliest(&result)
            .ok_or_else(|| Flaw::new(Reason::TimeMissing, "no trusted time says when the signature was made"))?;
        let certificate = bundle
            .signing_certificate()
            .ok_or_else(|| Flaw::new(Reason::SignerUnsuitable, "no certificate, and one is asked for"))?;
        Ok(Signed { signer: certificate::signer(certificate)?, at: Some(at) })
    }

    /// The log's part of a signature by key; the signature itself was verified before, by the authority's own hash.
    fn logged_by_key(&self, bundle: &Bundle, artifact: &Artifact<'_>, key: &Key) -> Result<Option<UnixTime>, Flaw> {
        let policy = PublicKeyVerificationPolicy::new(key::parse(key)?);
        let result = artifact.verify(&self.verifier, bundle, &policy).map_err(|error| flaw(&error))?;
        if !result.tlog_verified() {
            return Err(Flaw::new(Reason::LogMissing, "the transparency log was not verified"));
        }
        Ok(earliest(&result))
    }

    fn legacy(&self, piece: &legacy::Piece<'_>, demand: Demand<'_>) -> Result<Signed, Flaw> {
        let artifact = Artifact::Payload(piece.payload);
        match demand {
            Demand::Certificate { sct } => self.by_certificate(&piece.bundle_by_certificate()?, &artifact, sct),
            Demand::Key(key) => {
                key::verify(key, piece.payload, &piece.signature)?;
                let at = if key.log { self.logged_by_key(&piece.bundle_by_key(key)?, &artifact, key)? } else { None };
                Ok(Signed { signer: key::signer(key)?, at })
            }
        }
    }

    fn bundle(&self, bundle: &Bundle, subject: &Digest, demand: Demand<'_>) -> Result<Signed, Flaw> {
        let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
            // Whoever signs bytes that happen to be a manifest has not said that it is an image to be run.
            return Err(Flaw::new(
                Reason::NotASignature,
                "is a signature over bytes, without a statement about the image",
            ));
        };
        statement::check(envelope, subject)?;
        let artifact = Artifact::Subject(statement::sha256(subject)?);
        match demand {
            Demand::Certificate { sct } => {
                bundle::check_log(bundle)?;
                self.by_certificate(bundle, &artifact, sct)
            }
            Demand::Key(key) => {
                key::verify_envelope(key, envelope)?;
                let at = if key.log {
                    bundle::check_log(bundle)?;
                    self.logged_by_key(bundle, &artifact, key)?
                } else {
                    None
                };
                Ok(Signed { signer: key::signer(key)?, at })
            }
        }
    }
}

impl Verifier for Sigstore {
    fn verify(&self, piece: &UntrustedPiece, subject: &Digest, demand: Demand<'_>) -> Result<Signed, Flaw> {
        match piece {
            UntrustedPiece::CosignSignature { payload, annotations, .. } => {
                self.legacy(&legacy::Piece::read(payload.bytes(), annotations, subject)?, demand)
            }
            UntrustedPiece::Bundle { bytes, .. } => self.bundle(&bundle::read(bytes.bytes())?, subject, demand),
        }
    }
}

impl Artifact<'_> {
    fn verify(
        &self,
        verifier: &sigstore_verify::Verifier,
        bundle: &Bundle,
        policy: &(impl sigstore_verify::Policy + ?Sized),
    ) -> Result<VerificationResult, Error> {
        match self {
            Self::Payload(bytes) => verifier.verify(*bytes, bundle, policy),
            Self::Subject(digest) => verifier.verify(*digest, bundle, policy),
        }
    }
}

fn earliest(result: &VerificationResult) -> Option<UnixTime> {
    let millis = result.verified_timestamps().iter().map(|time| time.as_millisecond()).min()?;
    u64::try_from(millis).ok().map(UnixTime::from_millis)
}

/// The crates' reasons in ours. Their words are kept as detail, escaped: foreign text may be in them.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the crates' errors are not exhaustive; what is new is no signature to us"
)]
fn flaw(error: &Error) -> Flaw {
    let detail = told(&error.to_string());
    if matches!(error, Error::Timestamp(TimestampError::NoVerifiedTimestamp(_))) {
        return Flaw::new(Reason::TimeMissing, "no trusted time says when the signature was made");
    }
    let reason = match error {
        Error::SignatureInvalid(_) | Error::Crypto(_) => Reason::SignatureInvalid,
        Error::Certificate(_) => Reason::CertificateUntrusted,
        Error::Timestamp(_) => Reason::TimeMissing,
        Error::Bundle(
            structure::Error::MissingInclusionProof(_)
            | structure::Error::MissingInclusionPromise(_)
            | structure::Error::MissingSigningTimeEvidence,
        ) => Reason::LogMissing,
        // What a document says it is about was compared before; what is left to mismatch is the log entry.
        Error::TransparencyLog(_)
        | Error::ArtifactMismatch(_)
        | Error::Bundle(
            structure::Error::MissingCheckpoint
            | structure::Error::LogIndexOutOfRange { .. }
            | structure::Error::CheckpointRootMismatch,
        ) => Reason::LogInvalid,
        _ => Reason::EvidenceUnreadable,
    };
    let clause = match reason {
        // The crates say no more than which algorithm was tried.
        Reason::SignatureInvalid => {
            return Flaw::new(reason, "the signature is not by its certificate's key over its payload");
        }
        Reason::CertificateUntrusted => "the certificate is not trusted",
        Reason::TimeMissing => "the signing time is not trusted",
        Reason::LogMissing => "not in the transparency log",
        Reason::LogInvalid => "the transparency log entry is not good",
        _ => "the evidence cannot be read",
    };
    Flaw::new(reason, format!("{clause}: {detail}"))
}

#[cfg(test)]
mod tests;
