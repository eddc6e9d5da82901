//! Bundles that are handed over as files, with what they are about.

use oci::{Algorithm, Digest, UnixTime};
use sigstore_types::{DerPublicKey, MessageSignature};

use super::{
    Asked, Sigstore, bundle, id, key,
    sealed::{Content, Sealed, artifact_digest, is_digest},
    statement,
};
use crate::{
    condition::Workflow,
    refusal::Reason,
    verifier::{Flaw, Signed},
};

/// What a signature is about.
pub(crate) enum Signable<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// Bytes of this digest.
    Digest(&'a Digest),
}

/// By whom a signature must be.
pub(crate) enum Hand {
    /// The holder of a certificate of the trust root's CA.
    Certificate,
    /// The holder of this key.
    Key(DerPublicKey),
}

impl Sigstore {
    /// Whether the bundle is a good signature of `about`: over the bytes, or a statement that names them. A log entry is asked for in
    /// any case. Says who signed, not whether we accept them.
    pub(crate) fn verify_file(
        &self,
        bytes: &[u8],
        about: &Signable<'_>,
        by: &Hand,
        now: UnixTime,
    ) -> Result<Signed, Flaw> {
        let sealed = match bundle::read(bytes, bundle::From::Handed)? {
            bundle::Read::Statement(sealed) => {
                if let Content::Envelope(envelope) = &sealed.content {
                    statement::about_any(envelope, &about.digests())?;
                }
                sealed
            }
            bundle::Read::Message(signature, rest) => {
                let MessageSignature { message_digest, signature, .. } = *signature;
                let sealed = rest.seal(about.content(message_digest)?, signature);
                same_digest(&sealed)?;
                sealed
            }
        };
        let asked = Asked { log: true, timestamp: false, now };
        match by {
            Hand::Certificate => self.by_certificate(&sealed, true, asked),
            Hand::Key(der) => {
                if !sealed.certificates.is_empty() {
                    let detail = "signed by the holder of a certificate, and a key is asked for";
                    return Err(Flaw::new(Reason::SignerUnsuitable, detail));
                }
                key::verify_bundled(der, &sealed)?;
                // As with certificates, a timestamp that is there must be good.
                let asked = Asked { timestamp: !sealed.timestamps.is_empty(), ..asked };
                let at = self.beside_key(&sealed, der, asked)?;
                Ok(Signed { signer: key::signer(der), workflow: Workflow::default(), at, id: id(&sealed, None) })
            }
        }
    }
}

/// Whether the digest that the signer wrote beside the signature is that of what it is said to be about.
fn same_digest(sealed: &Sealed<'_>) -> Result<(), Flaw> {
    let same = match &sealed.content {
        Content::Bytes(bytes, Some(digest)) => is_digest(digest.algorithm, bytes, digest.digest.as_bytes()),
        Content::Digest(known, Some(digest)) => {
            known.algorithm() == digest.algorithm && known.as_bytes() == digest.digest.as_bytes()
        }
        Content::Bytes(_, None) | Content::Digest(_, None) | Content::Envelope(_) => true,
    };
    if same { Ok(()) } else { Err(Flaw::new(Reason::DigestMismatch, "the signature is over something else")) }
}

impl<'a> Signable<'a> {
    fn content(&self, beside: Option<sigstore_types::MessageDigest>) -> Result<Content<'a>, Flaw> {
        match self {
            Self::Bytes(bytes) => Ok(Content::Bytes(bytes, beside)),
            Self::Digest(digest) => {
                let unusable =
                    || Flaw::new(Reason::Sha512Unsupported, "a digest of this algorithm cannot be verified by");
                Ok(Content::Digest(artifact_digest(digest).ok_or_else(unusable)?, beside))
            }
        }
    }

    fn digests(&self) -> Vec<Digest> {
        match self {
            Self::Bytes(bytes) => Algorithm::ALL.map(|by| Digest::of(by, bytes)).to_vec(),
            Self::Digest(digest) => vec![(*digest).clone()],
        }
    }
}
