//! The adapter to the Sigstore crates, and the only place that names them.
//!
//! Every layout comes down to one thing, a [`Sealed`]: bytes, a signature over them, and what vouches for it. A statement in an
//! envelope is the bytes of its pre-authentication encoding.
//!
//! What the crates check (read in their sources, version 0.15.1, and tried by the tests below): the certificate's chain to the trust
//! root at every trusted time, code signing usage, the certificate log's SCT; RFC 3161 timestamps; the signature.
//!
//! What is checked here, because they leave it to the caller, or do it only for what they know:
//!
//! - which forms of bundle are taken from a registry: `bundle.rs`; cosign's annotations: `legacy.rs`;
//! - envelopes and statements: who and what they are about, and of which type, without building the predicate in memory, which can be
//!   as large as evidence may be: `envelope.rs`, `statement.rs`;
//! - that a log of the trust root vouches for an entry, by its promise (SET) or by proof and checkpoint: `log.rs`; the crates are told
//!   of the time it vouches for by a log of our own: `own_log.rs`;
//! - that the entry is about this signature, this certificate or key and these bytes, for the kinds the crates know and for
//!   `intoto 0.0.1` and SHA-384, which they do not: `body.rs`;
//! - certificates with several subjects or issuers, and the workflow they name: `certificate.rs`;
//! - keys, with whatever hash the policy says: `key.rs`;
//! - authorities used beyond their own certificates' validity: `root.rs`;
//! - sizes and counts: the caller's limits, and those beside each document.
//!
//! One thing they do that this crate does not: they read the system's clock, only to refuse what is later. The caller's `now` does the
//! same here.

mod body;
mod bounded;
mod bundle;
mod certificate;
mod envelope;
mod file;
mod fuzz;
mod key;
mod legacy;
mod log;
mod own_log;
mod root;
mod sealed;
mod statement;

use oci::{Digest, UnixTime};
use serde_json::{Value, json};
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Artifact, Bundle, DerCertificate, DerPublicKey, SignatureBytes, TimestampToken, TsaAuthority};
use sigstore_verify::{Error, TimestampError, VerificationPolicy, VerificationResult};

use crate::{
    condition::Workflow,
    evidence::{Form, UntrustedPiece},
    refusal::{Reason, told},
    trust_root::{TrustRoot, TrustRootError},
    verifier::{By, Claim, Demand, Flaw, Signed, Verifier},
};
use body::Holder;
use legacy::Needs;
use log::{Logs, Vouched};
use own_log::OwnLog;
use sealed::{Content, Sealed};

pub(crate) use file::{Hand, Signable};
pub use fuzz::fuzz_dsse;
pub(crate) use key::{check as check_key, parse as parse_key};
pub(crate) use root::describe;

/// The `trusted_root.json` of the public-good Sigstore, as the crates ship it.
pub(crate) const PUBLIC_GOOD: &str = sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
/// The same of the public-good Sigstore's staging instance.
pub(crate) const STAGING: &str = sigstore_trust_root::SIGSTORE_STAGING_TRUSTED_ROOT;

/// Verifies by one trust root.
pub(crate) struct Sigstore {
    logs: Logs,
    timestamp_authorities: Vec<TsaAuthority>,
    /// Believes the trust root's certificate authorities, certificate logs and timestamp authorities, and of logs our own alone.
    verifier: sigstore_verify::Verifier,
    own_log: OwnLog,
}

/// What a signature must rest on besides its signer.
#[derive(Debug, Clone, Copy)]
struct Asked {
    log: bool,
    timestamp: bool,
    now: UnixTime,
}

impl Sigstore {
    /// Prepares the trust root's keys and certificates.
    pub(crate) fn new(trust_root: &TrustRoot) -> Result<Self, TrustRootError> {
        Self::prepare(trust_root.text()).map_err(|what| TrustRootError::Unusable { what: told(&what) })
    }

    fn prepare(text: &str) -> Result<Self, String> {
        let mut root: TrustedRoot = root::load(text)?;
        // The crates look at every key and certificate when they make a verifier, the logs' too, which are ours to use afterwards.
        sigstore_verify::Verifier::new(&root).map_err(|error| error.to_string())?;
        let (logs, timestamp_authorities) = (Logs::of(&root), root.tsa_authorities());
        let own_log = OwnLog::new()?;
        root.tlogs = vec![own_log.trusted()?];
        let verifier = sigstore_verify::Verifier::new(&root).map_err(|error| error.to_string())?;
        Ok(Self { logs, timestamp_authorities, verifier, own_log })
    }

    /// A signature by certificate: chain, SCT and signed time, log entry and timestamp as asked.
    ///
    /// 1. The logs vouch for the entries, where the log is asked for. Where it is not, its entries count for nothing, not even as a
    ///    time: the trust root need not know that log.
    /// 2. There is a trusted time, and a timestamp where one is asked for.
    /// 3. The certificate was good at every trusted time, it was published, its key made the signature, and timestamps are good.
    /// 4. None of the times is still to come, and the logs' keys were valid at them.
    /// 5. The entries are about this signature.
    /// 6. The certificate speaks for one signer.
    fn by_certificate(&self, sealed: &Sealed<'_>, sct: bool, asked: Asked) -> Result<Signed, Flaw> {
        let certificate = sealed.certificate()?;
        // 1.
        let vouched = if asked.log { self.logs.vouch(&sealed.entries, sealed.proven)? } else { Vec::new() };
        // 2.
        let (stamped, tokens) = self.stamped(sealed);
        let times: Vec<i64> = vouched.iter().filter_map(|vouched| vouched.at).chain(stamped).collect();
        if asked.timestamp && sealed.timestamps.is_empty() {
            return Err(Flaw::new(Reason::TimeMissing, "no RFC 3161 timestamp, and one is asked for"));
        }
        if times.is_empty() && tokens.is_empty() {
            return Err(Flaw::new(Reason::TimeMissing, "no trusted time says when the signature was made"));
        }
        // 3.
        let result = self.verify_certified(sealed, (&times, &tokens), sct)?;
        let times: Vec<i64> = result.verified_timestamps().iter().map(|time| time.as_second()).collect();
        // 4. and 5.
        asked.check_past(&times)?;
        for (entry, vouched) in sealed.entries.iter().zip(&vouched) {
            vouched.check_times(&times)?;
            body::check(entry, sealed, &Holder::Certificate(certificate))?;
        }
        // 6.
        let (signer, workflow) = certificate::signer(certificate)?;
        let at = times.into_iter().min().and_then(instant);
        Ok(Signed { signer, workflow, at, id: id(sealed, Some(certificate)) })
    }

    /// The times of those timestamps that are over the whole document, and the others.
    fn stamped<'a>(&self, sealed: &'a Sealed<'_>) -> (Vec<i64>, Vec<&'a TimestampToken>) {
        let (mut times, mut others) = (Vec::new(), Vec::new());
        for token in &sealed.timestamps {
            let over_document =
                sealed.written.map(|written| self.timestamped(token, &SignatureBytes::from_bytes(written)));
            match over_document {
                Some(Ok(time)) => times.push(time),
                Some(Err(_)) | None => others.push(token),
            }
        }
        (times, others)
    }

    /// The crates' part of it. What was signed is handed to them as bytes, and the times that are known already by our own log.
    fn verify_certified(
        &self,
        sealed: &Sealed<'_>,
        (times, tokens): (&[i64], &[&TimestampToken]),
        sct: bool,
    ) -> Result<VerificationResult, Flaw> {
        let bundle = self.stand_in(sealed, times, tokens)?;
        let policy = VerificationPolicy::any_identity().skip_tlog_unsafe();
        let policy = if sct { policy } else { policy.skip_sct() };
        let artifact = match (&sealed.content, sealed.content.message()) {
            (Content::Digest(digest, _), _) => Artifact::from_digest(digest.clone()),
            (_, Some(message)) => Artifact::from_blob(message),
            (_, None) => return Err(Flaw::new(Reason::EvidenceUnreadable, "what is signed is not at hand")),
        };
        let result = self.verifier.verify(artifact, &bundle, &policy).map_err(|error| flaw(&error))?;
        // The crates say yes only after all of these. Should a later version say it earlier, it is not heard.
        if !result.certificate_verified() {
            return Err(Flaw::new(Reason::CertificateUntrusted, "the certificate was not verified"));
        }
        if sct && !result.sct_verified() {
            return Err(Flaw::new(Reason::CertificateUntrusted, "the certificate log was not verified"));
        }
        if result.verified_timestamps().len() != times.len() + tokens.len() {
            return Err(Flaw::new(Reason::TimeMissing, "not every signed time was verified"));
        }
        Ok(result)
    }

    /// A signature over bytes with the same certificates, signature and timestamps, as a bundle that the crates understand.
    fn stand_in(&self, sealed: &Sealed<'_>, times: &[i64], tokens: &[&TimestampToken]) -> Result<Bundle, Flaw> {
        let certificate = sealed.certificate()?;
        let digest = match (&sealed.content, sealed.content.message()) {
            (Content::Digest(digest, _), _) => digest.as_bytes().to_vec(),
            (_, message) => sigstore_crypto::sha256(message.unwrap_or_default()).as_slice().to_vec(),
        };
        let entry = |seconds: &i64| {
            let seconds = u64::try_from(*seconds).map_err(|_| "a time before 1970".to_owned())?;
            self.own_log.entry(&digest, (&sealed.signature, certificate), seconds)
        };
        let entries: Result<Vec<Value>, String> = times.iter().map(entry).collect();
        let raw = |certificate: &DerCertificate| json!({ "rawBytes": certificate.to_base64() });
        // The leaf alone: what certifies it, the trust root says, and a bundle brings no authority of its own along.
        let certificates = [raw(certificate)];
        let stamp = |token: &&TimestampToken| json!({ "signedTimestamp": token.to_base64() });
        let timestamps: Vec<Value> = tokens.iter().map(stamp).collect();
        let mut signature = json!({ "signature": sealed.signature.to_base64() });
        if let (Content::Bytes(_, Some(digest)) | Content::Digest(_, Some(digest)), Some(signature)) =
            (&sealed.content, signature.as_object_mut())
        {
            let digest = json!({ "algorithm": digest.algorithm.to_string(), "digest": digest.digest });
            signature.insert("messageDigest".to_owned(), digest);
        }
        let document = entries.map(|entries| {
            json!({
                // The version that may bring a chain of certificates, and need not bring the log's promise.
                "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2",
                "verificationMaterial": {
                    "x509CertificateChain": { "certificates": certificates },
                    "tlogEntries": entries,
                    "timestampVerificationData": { "rfc3161Timestamps": timestamps },
                },
                "messageSignature": signature,
            })
        });
        let unreadable = |detail: &str| Flaw::new(Reason::EvidenceUnreadable, told(detail));
        let document = document.map_err(|error| unreadable(&error))?;
        Bundle::from_json(&document.to_string()).map_err(|error| unreadable(&error.to_string()))
    }

    /// A signature by key, which was verified before: log entry and timestamp as asked. Returns the earliest time of which there is a
    /// word that was asked for.
    fn beside_key(&self, sealed: &Sealed<'_>, key: &DerPublicKey, asked: Asked) -> Result<Option<UnixTime>, Flaw> {
        let mut times = Vec::new();
        if asked.timestamp {
            if sealed.timestamps.is_empty() {
                return Err(Flaw::new(Reason::TimeMissing, "no RFC 3161 timestamp, and one is asked for"));
            }
            let (stamped, tokens) = self.stamped(sealed);
            times.extend(stamped);
            for token in tokens {
                times.push(self.timestamped(token, &sealed.signature)?);
            }
        }
        asked.check_past(&times)?;
        if asked.log {
            let vouched: Vec<Vouched<'_>> = self.logs.vouch(&sealed.entries, sealed.proven)?;
            times.extend(vouched.iter().filter_map(|vouched| vouched.at));
            asked.check_past(&times)?;
            let known = if times.is_empty() { self.volunteered(sealed, asked) } else { times.clone() };
            for (entry, vouched) in sealed.entries.iter().zip(&vouched) {
                if known.is_empty() {
                    vouched.check_undated(asked.now)?;
                } else {
                    vouched.check_times(&known)?;
                }
                body::check(entry, sealed, &Holder::Key(key))?;
            }
        }
        Ok(times.into_iter().min().and_then(instant))
    }

    /// The times of timestamps that nobody asked for. One that is no good counts for nothing, and spoils nothing.
    fn volunteered(&self, sealed: &Sealed<'_>, asked: Asked) -> Vec<i64> {
        let (mut times, tokens) = self.stamped(sealed);
        times.extend(tokens.into_iter().filter_map(|token| self.timestamped(token, &sealed.signature).ok()));
        times.retain(|time| asked.check_past(&[*time]).is_ok());
        times
    }

    /// The time in a token that an authority of the trust root made over the signature, or over these bytes in its place.
    fn timestamped(&self, token: &TimestampToken, signature: &SignatureBytes) -> Result<i64, Flaw> {
        let mut why = "the trust root has no timestamp authority".to_owned();
        for authority in &self.timestamp_authorities {
            match sigstore_verify::tsa::verify_timestamp_for_authority(token, signature, authority) {
                Ok(time) => return Ok(time.as_second()),
                Err(error) => why = error.to_string(),
            }
        }
        Err(Flaw::new(Reason::TimeMissing, format!("the signing time is not trusted: {}", told(&why))))
    }

    fn signed(&self, sealed: &Sealed<'_>, by: By<'_>, asked: Asked) -> Result<Signed, Flaw> {
        match by {
            By::Certificate { sct } => self.by_certificate(sealed, sct, asked),
            By::Key(key) => {
                key::verify(key, sealed)?;
                let der = key::parse(key)?;
                let at = self.beside_key(sealed, &der, asked)?;
                Ok(Signed { signer: key::signer(&der), workflow: Workflow::default(), at, id: id(sealed, None) })
            }
        }
    }
}

impl Asked {
    /// A certificate always needs a signed time, and where nothing else is asked for it is the log's.
    fn by(demand: Demand<'_>) -> Self {
        let Demand { by, proof, now } = demand;
        let log = proof.log || (matches!(by, By::Certificate { .. }) && !proof.timestamp);
        Self { log, timestamp: proof.timestamp, now }
    }

    fn check_past(self, seconds: &[i64]) -> Result<(), Flaw> {
        let future = |seconds: &i64| instant(*seconds).is_none_or(|instant| instant > self.now);
        if seconds.iter().any(future) {
            return Err(Flaw::new(Reason::TimeMissing, "the signing time is not trusted: it is in the future"));
        }
        Ok(())
    }

    /// What of cosign's annotations is to be read. A certificate's timestamp must be good wherever it is.
    fn needs(self, by: By<'_>) -> Needs {
        let certificate = matches!(by, By::Certificate { .. });
        Needs { certificate, log: self.log, timestamps: certificate || self.timestamp }
    }
}

impl Verifier for Sigstore {
    fn read(&self, piece: &UntrustedPiece, subject: &Digest) -> Result<Claim, Flaw> {
        match &piece.form {
            Form::CosignSignature { .. } => legacy::claim(piece.bytes.bytes(), subject),
            Form::CosignAttestation { .. } | Form::Bundle => statement::read(&envelope(piece)?, subject),
        }
    }

    fn verify(&self, piece: &UntrustedPiece, subject: &Digest, demand: Demand<'_>) -> Result<Signed, Flaw> {
        let (bytes, by, asked) = (piece.bytes.bytes(), demand.by, Asked::by(demand));
        let (sealed, claim) = match &piece.form {
            Form::CosignSignature { annotations } => {
                let claim = legacy::claim(bytes, subject)?;
                (legacy::signature(bytes, annotations, asked.needs(by))?, claim)
            }
            Form::CosignAttestation { annotations } => {
                let (envelope, signature) = legacy::attestation(bytes)?;
                let claim = statement::read(&envelope, subject)?;
                let sealed = legacy::seal(Content::Envelope(envelope), signature, annotations, asked.needs(by))?;
                (Sealed { written: Some(bytes), ..sealed }, claim)
            }
            Form::Bundle => {
                let sealed = bundle::read(bytes, bundle::From::Registry)?.statement()?;
                let Content::Envelope(envelope) = &sealed.content else {
                    return Err(Flaw::new(Reason::NotASignature, "holds no statement"));
                };
                let claim = statement::read(envelope, subject)?;
                (sealed, claim)
            }
        };
        let mut signed = self.signed(&sealed, by, asked)?;
        if matches!(claim, Claim::Attestation { .. }) {
            signed.id = certificate::id(None, sealed.certificates.first());
        }
        Ok(signed)
    }

    fn statement(&self, piece: &UntrustedPiece) -> Result<Vec<u8>, Flaw> {
        match &piece.form {
            Form::CosignSignature { .. } => Err(Flaw::new(Reason::NotASignature, "holds no statement")),
            Form::CosignAttestation { .. } | Form::Bundle => envelope(piece).map(envelope::Envelope::into_payload),
        }
    }
}

fn envelope(piece: &UntrustedPiece) -> Result<envelope::Envelope, Flaw> {
    let bytes = piece.bytes.bytes();
    if piece.form != Form::Bundle {
        return legacy::attestation(bytes).map(|(envelope, _)| envelope);
    }
    match bundle::read(bytes, bundle::From::Registry)?.statement()?.content {
        Content::Envelope(envelope) => Ok(envelope),
        Content::Bytes(..) | Content::Digest(..) => Err(Flaw::new(Reason::NotASignature, "holds no statement")),
    }
}

fn id(sealed: &Sealed<'_>, certificate: Option<&DerCertificate>) -> String {
    certificate::id(Some(&sealed.signature), certificate)
}

fn instant(seconds: i64) -> Option<UnixTime> {
    u64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000)).map(UnixTime::from_millis)
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
    let (reason, clause) = match error {
        // The crates say no more than which algorithm was tried.
        Error::SignatureInvalid(_) | Error::Crypto(_) => {
            let detail = "the signature is not by its certificate's key over its payload";
            return Flaw::new(Reason::SignatureInvalid, detail);
        }
        Error::Certificate(_) => (Reason::CertificateUntrusted, "the certificate is not trusted"),
        Error::Timestamp(_) => (Reason::TimeMissing, "the signing time is not trusted"),
        // What is left of the log to the crates is the time that our own told them.
        Error::TransparencyLog(_) => (Reason::LogInvalid, "the transparency log entry is not good"),
        Error::ArtifactMismatch(_) => (Reason::DigestMismatch, "the signature is over something else"),
        _ => (Reason::EvidenceUnreadable, "the evidence cannot be read"),
    };
    Flaw::new(reason, format!("{clause}: {detail}"))
}

#[cfg(test)]
mod tests;
