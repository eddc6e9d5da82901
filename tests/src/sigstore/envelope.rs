//! DSSE envelopes as each layout writes them, and what can be wrong with the writing.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Flaw, Options,
    notary::Piece,
    seal::{IN_TOTO, Sealed},
};

/// As cosign stores it in `.att` layers.
pub(super) fn legacy(piece: &Piece, options: &Options) -> String {
    let signature = |signature: &str| format!(r#"{{"keyid":"","sig":"{signature}"}}"#);
    let payload_type = payload_type(&piece.sealed, options);
    let (payload, signatures) = members(piece, signature, options);
    format!(r#"{{"payloadType":"{payload_type}",{payload},"signatures":[{signatures}]}}"#)
}

/// As it stands in bundles.
pub(super) fn bundled(piece: &Piece, options: &Options) -> String {
    let signature = |signature: &str| format!(r#"{{"sig":"{signature}"}}"#);
    let payload_type = payload_type(&piece.sealed, options);
    let (payload, signatures) = members(piece, signature, options);
    format!(r#"{{{payload},"payloadType":"{payload_type}","signatures":[{signatures}]}}"#)
}

fn payload_type(sealed: &Sealed, options: &Options) -> &'static str {
    if options.has(Flaw::PayloadTypeRetold) { IN_TOTO } else { sealed.payload_type.unwrap_or(IN_TOTO) }
}

/// The payload's member, and the list of signatures.
fn members(piece: &Piece, write: impl Fn(&str) -> String, options: &Options) -> (String, String) {
    let Piece { sealed, spare, .. } = piece;
    let payload = if options.has(Flaw::PayloadTwofold) {
        [spare.payload_member(), sealed.payload_member()].join(",")
    } else {
        sealed.payload_member()
    };
    let own = if options.has(Flaw::SignatureMissing) {
        String::new()
    } else if options.has(Flaw::SignatureUnreadable) {
        "%%%".to_owned()
    } else {
        STANDARD.encode(&sealed.signature)
    };
    let signatures = if options.has(Flaw::NoSignatures) {
        String::new()
    } else if options.has(Flaw::TwoSignatures) {
        [write(&own), write(&STANDARD.encode(&spare.signature))].join(",")
    } else {
        write(&own)
    };
    (payload, signatures)
}
