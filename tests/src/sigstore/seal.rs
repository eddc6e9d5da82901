//! Documents, and signatures over them: bare ones, and ones in a DSSE envelope.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::Digest;

use super::{Flaw, Options, party::Party};

/// The payload type of statements.
pub(super) const IN_TOTO: &str = "application/vnd.in-toto+json";

/// What is to be said about an image, in the words of one layout.
pub(super) struct Saying<'a> {
    pub(super) subject: &'a Digest,
    /// Of what type the document is in an envelope; none where it is signed as it is.
    pub(super) payload_type: Option<&'static str>,
    /// The document about some image.
    pub(super) write: &'a dyn Fn(&Digest) -> Vec<u8>,
}

/// A document and its signature.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) payload_type: Option<&'static str>,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Saying<'_> {
    pub(super) fn sealed(&self, party: &Party<'_>, options: &Options) -> Sealed {
        self.sealed_about(self.subject, party, options)
    }

    pub(super) fn sealed_about_another(&self, party: &Party<'_>, options: &Options) -> Sealed {
        self.sealed_about(&other_digest(self.subject), party, options)
    }

    fn sealed_about(&self, subject: &Digest, party: &Party<'_>, options: &Options) -> Sealed {
        let wrong = options.has(Flaw::PayloadTypeWrong) || options.has(Flaw::PayloadTypeRetold);
        let payload_type = self.payload_type.map(|payload_type| if wrong { "application/json" } else { payload_type });
        let mut sealed = Sealed { payload_type, payload: (self.write)(subject), signature: Vec::new() };
        sealed.signature = if options.has(Flaw::SignatureWrong) {
            party.key.sign(b"something else")
        } else if options.has(Flaw::SignedWithoutType) {
            party.key.sign(&sealed.payload)
        } else {
            party.key.sign(&sealed.message())
        };
        sealed
    }
}

impl Sealed {
    /// The bytes that the signature is over: the document, or the envelope's pre-authentication encoding.
    pub(super) fn message(&self) -> Vec<u8> {
        let Some(payload_type) = self.payload_type else { return self.payload.clone() };
        let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), self.payload.len()).into_bytes();
        message.extend(&self.payload);
        message
    }

    /// The envelope as cosign tells it to the log; this is also what it stores in `.att` layers.
    pub(super) fn envelope(&self) -> String {
        let (payload_type, payload) = (self.payload_type.unwrap_or(IN_TOTO), self.payload_member());
        let signature = STANDARD.encode(&self.signature);
        format!(r#"{{"payloadType":"{payload_type}",{payload},"signatures":[{{"keyid":"","sig":"{signature}"}}]}}"#)
    }

    /// `"payload":"…"`.
    pub(super) fn payload_member(&self) -> String {
        format!(r#""payload":"{}""#, STANDARD.encode(&self.payload))
    }
}

/// Another image than that.
pub(super) fn other_digest(digest: &Digest) -> Digest {
    Digest::of(digest.algorithm(), digest.to_string().as_bytes())
}
