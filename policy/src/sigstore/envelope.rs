//! DSSE envelopes: a statement and the one signature over it.
//!
//! Envelopes can be as large as evidence may be, so the text is never copied: it is decoded once, straight to where the signed bytes
//! are put together.

use std::borrow::Cow;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;
use sigstore_types::{Sha256Hash, SignatureBytes};

use super::bounded::Bounded;

/// A statement as it is signed. What vouches for it is elsewhere.
pub(super) struct Envelope {
    /// What the payload claims to be.
    pub payload_type: String,
    /// The SHA-256 of the envelope as it was found, where it is a document of its own.
    pub found: Option<Sha256Hash>,
    /// The pre-authentication encoding; the payload is its end.
    message: Vec<u8>,
    payload_at: usize,
}

/// An envelope as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Written<'a> {
    #[serde(borrow)]
    payload_type: Cow<'a, str>,
    #[serde(borrow)]
    payload: Cow<'a, str>,
    signatures: Bounded<Signature, SIGNATURES_SEEN>,
}

/// What vouches for an envelope (certificate, log entry, timestamp) does so for one signature, so an envelope has one. A second is
/// read, to say so.
const SIGNATURES_SEEN: usize = 2;

#[derive(Deserialize)]
struct Signature {
    sig: SignatureBytes,
}

impl Envelope {
    /// The envelope and its signature. One clause where it is none.
    pub(super) fn open(written: Written<'_>, found: Option<Sha256Hash>) -> Result<(Self, SignatureBytes), String> {
        let Written { payload_type, payload, signatures: Bounded(signatures) } = written;
        let count = signatures.len();
        let Ok([Signature { sig }]) = <[Signature; 1]>::try_from(signatures) else {
            let count = if count == SIGNATURES_SEEN { "several".to_owned() } else { count.to_string() };
            return Err(format!("an envelope has one signature, and this one has {count}"));
        };
        let payload_type = payload_type.into_owned();
        let length = payload.trim_end_matches('=').len() / 4 * 3
            + match payload.trim_end_matches('=').len() % 4 {
                0 => 0,
                rest => rest - 1,
            };
        let head = format!("DSSEv1 {} {payload_type} {length} ", payload_type.len());
        // A decoder may ask for room for one more group than there is.
        let mut message = Vec::with_capacity(head.len() + length + 4);
        message.extend_from_slice(head.as_bytes());
        engine(&payload)
            .decode_vec(payload.as_bytes(), &mut message)
            .map_err(|error| format!("an envelope's payload is not base64: {error}"))?;
        if message.len() != head.len() + length {
            return Err("an envelope's payload is not base64".to_owned());
        }
        Ok((Self { payload_type, found, message, payload_at: head.len() }, sig))
    }

    /// The bytes that are signed.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// What they say.
    pub(super) fn payload(&self) -> &[u8] {
        self.message.get(self.payload_at..).unwrap_or_default()
    }

    /// What they say, to be kept.
    pub(super) fn into_payload(mut self) -> Vec<u8> {
        self.message.drain(..self.payload_at);
        self.message
    }
}

/// Either alphabet, padded or not, as the specification of envelopes and the JSON of protocol buffers allow.
fn engine(text: &str) -> GeneralPurpose {
    let alphabet = if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}
