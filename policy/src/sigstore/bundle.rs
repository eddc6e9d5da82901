//! Sigstore bundles.

use serde::Deserialize;
use sigstore_types::{CertificateContent, MediaType, MessageSignature, TimestampToken, X509Certificate};

use super::{
    bounded::Bounded,
    envelope::{Envelope, Written},
    sealed::{Content, Entry, PROOFS_MAX, Sealed},
    statement::because,
};
use crate::{
    refusal::{Reason, told},
    verifier::Flaw,
};

/// Deepest nesting; real bundles need eight.
const JSON_DEPTH_MAX: usize = 64;
/// Most certificates of one bundle. Real ones have one, three at most.
const CERTIFICATES_MAX: usize = 16;

/// Where a bundle comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// A registry. Version 0.1 may leave the proof out, and the version is not signed: who could choose it could choose what is
    /// checked. So it is not read from there.
    Registry,
    /// A file that somebody was handed. Version 0.1 too, where it brings its proof like the others.
    Handed,
}

/// What a bundle holds.
pub(super) enum Read {
    /// A statement in an envelope.
    Statement(Sealed<'static>),
    /// A signature over bytes that are elsewhere. The rest of it is in `Sealed`, whose content is to be put in place.
    Message(Box<MessageSignature>, Rest),
}

/// What vouches for a signature.
pub(super) struct Rest {
    certificates: Vec<sigstore_types::DerCertificate>,
    entries: Vec<Entry>,
    timestamps: Vec<TimestampToken>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(default)]
    media_type: Option<String>,
    verification_material: Material,
    #[serde(borrow)]
    dsse_envelope: Option<Written<'a>>,
    message_signature: Option<MessageSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<CertificateContent>,
    x509_certificate_chain: Option<Chain>,
    public_key: Option<PublicKey>,
    #[serde(default)]
    tlog_entries: Bounded<Entry, PROOFS_MAX>,
    timestamp_verification_data: Option<Timestamps>,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Bounded<X509Certificate, CERTIFICATES_MAX>,
}

/// Its hint is nobody's word: which key it is, the policy says.
#[derive(Deserialize)]
struct PublicKey {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timestamps {
    #[serde(default)]
    rfc3161_timestamps: Bounded<Timestamp, PROOFS_MAX>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timestamp {
    signed_timestamp: TimestampToken,
}

impl Read {
    /// Whoever signs bytes that happen to be a manifest has not said that it is an image to be run.
    pub(super) fn statement(self) -> Result<Sealed<'static>, Flaw> {
        match self {
            Self::Statement(sealed) => Ok(sealed),
            Self::Message(..) => {
                Err(Flaw::new(Reason::NotASignature, "is a signature over bytes, without a statement about the image"))
            }
        }
    }
}

impl Rest {
    pub(super) fn seal(self, content: Content<'_>, signature: sigstore_types::SignatureBytes) -> Sealed<'_> {
        let Self { certificates, entries, timestamps } = self;
        Sealed { content, signature, certificates, entries, proven: true, timestamps, written: None }
    }
}

/// Reads a bundle of the versions that bring their proof. That they do is checked with the log entries.
pub(super) fn read(bytes: &[u8], from: From) -> Result<Read, Flaw> {
    oci::json::check(bytes, JSON_DEPTH_MAX).map_err(|error| unreadable(&because(&error)))?;
    let document: Document<'_> =
        serde_json::from_slice(bytes).map_err(|error| unreadable(&because(&oci::json::JsonError::from(error))))?;
    let Document { media_type, verification_material, dsse_envelope, message_signature } = document;
    let version = version(media_type.as_deref(), from)?;
    let rest = rest(verification_material, version)?;
    match (dsse_envelope, message_signature) {
        (Some(written), None) => {
            let (envelope, signature) = Envelope::open(written, None).map_err(|detail| unreadable(&detail))?;
            Ok(Read::Statement(rest.seal(Content::Envelope(envelope), signature)))
        }
        (None, Some(signature)) => Ok(Read::Message(Box::new(signature), rest)),
        (Some(_), Some(_)) => Err(unreadable("it holds both a statement and a signature over bytes")),
        (None, None) => Err(unreadable("it holds no signature")),
    }
}

/// A missing type means version 0.1, as in bundles that are older than the type.
fn version(media_type: Option<&str>, from: From) -> Result<MediaType, Flaw> {
    let version: MediaType = media_type
        .map_or(Ok(MediaType::Bundle0_1), str::parse)
        .map_err(|error: sigstore_types::Error| unreadable(&told(&error.to_string())))?;
    let proven = [MediaType::Bundle0_2, MediaType::Bundle0_3].contains(&version);
    if proven || (version == MediaType::Bundle0_1 && from == From::Handed) {
        return Ok(version);
    }
    Err(unreadable(&format!("version \"{version}\" need not bring its proof")))
}

fn rest(material: Material, version: MediaType) -> Result<Rest, Flaw> {
    let Material { certificate, x509_certificate_chain, public_key, tlog_entries, timestamp_verification_data } =
        material;
    let certificates = match (certificate, x509_certificate_chain, public_key) {
        (Some(certificate), None, None) => vec![certificate.raw_bytes],
        (None, Some(chain), None) if version != MediaType::Bundle0_3 && !chain.certificates.0.is_empty() => {
            chain.certificates.0.into_iter().map(|certificate| certificate.raw_bytes).collect()
        }
        (None, Some(_), None) => {
            return Err(unreadable("version 0.3 holds one certificate, and any other at least one"));
        }
        (None, None, Some(PublicKey {})) => Vec::new(),
        _ => return Err(unreadable("it is to name one certificate, chain of certificates or key")),
    };
    let Bounded(entries) = tlog_entries;
    for entry in &entries {
        oci::json::check(entry.canonicalized_body.as_bytes(), JSON_DEPTH_MAX)
            .map_err(|error| unreadable(&format!("log entry: {}", because(&error))))?;
        if version == MediaType::Bundle0_1 && entry.inclusion_promise.is_none() {
            return Err(unreadable("version 0.1 brings the log's promise, and this one does not"));
        }
    }
    let timestamps = timestamp_verification_data.map(|data| data.rfc3161_timestamps.0).unwrap_or_default();
    let timestamps = timestamps.into_iter().map(|timestamp| timestamp.signed_timestamp).collect();
    Ok(Rest { certificates, entries, timestamps })
}

fn unreadable(detail: &str) -> Flaw {
    Flaw::new(Reason::EvidenceUnreadable, format!("bundle cannot be read: {detail}"))
}
