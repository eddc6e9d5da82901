//! Sigstore bundles of every version, around statements in DSSE envelopes and around bare signatures.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::Digest;
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha384};

use super::{
    Flaw, Options, VirtualSigstore, document, envelope,
    key::KeyKind,
    notary::{self, Logged, Piece},
    party::{Party, Shown},
    seal::{IN_TOTO, Saying},
    shape::Version,
};

/// A bundle that holds a statement about `digest`.
pub(super) fn sign(
    party: &Party<'_>,
    sigstore: Option<&VirtualSigstore>,
    digest: &Digest,
    said: (&str, &Value),
    options: &Options,
) -> String {
    let write = |digest: &Digest| document::statement(digest, said, options);
    let saying = Saying { subject: digest, payload_type: Some(IN_TOTO), write: &write };
    let piece = notary::make(party, sigstore, &saying, options);
    let envelope = format!(r#""dsseEnvelope":{}"#, envelope::bundled(&piece, options));
    let content = if options.has(Flaw::EnvelopeTwofold) {
        let other = Piece { sealed: piece.spare.clone(), logged: Vec::new(), token: None, spare: piece.spare.clone() };
        format!(r#""dsseEnvelope":{},{envelope}"#, envelope::bundled(&other, options))
    } else {
        envelope
    };
    write_down(party, &piece, &content, options)
}

/// A bundle that holds a signature over `artifact` and nothing else.
pub(super) fn sign_blob(
    party: &Party<'_>,
    sigstore: Option<&VirtualSigstore>,
    artifact: &[u8],
    options: &Options,
) -> String {
    // A blob is about nothing: another one stands for what another subject is to statements.
    let subject = Digest::sha256(artifact);
    let write = |digest: &Digest| {
        if *digest == subject { artifact.to_vec() } else { digest.to_string().into_bytes() }
    };
    let saying = Saying { subject: &subject, payload_type: None, write: &write };
    let piece = notary::make(party, sigstore, &saying, options);
    let (algorithm, digest) = match party.key.kind {
        KeyKind::P384 => ("SHA2_384", Sha384::digest(artifact).to_vec()),
        KeyKind::P256 | KeyKind::Ed25519 | KeyKind::Rsa2048 => ("SHA2_256", Sha256::digest(artifact).to_vec()),
    };
    let content = format!(
        r#""messageSignature":{{"messageDigest":{{"algorithm":"{algorithm}","digest":"{}"}},"signature":"{}"}}"#,
        STANDARD.encode(digest),
        STANDARD.encode(&piece.sealed.signature)
    );
    write_down(party, &piece, &content, options)
}

fn write_down(party: &Party<'_>, piece: &Piece, content: &str, options: &Options) -> String {
    let mut material = holder(party, options);
    if !piece.logged.is_empty() {
        let entries: Vec<_> = piece.logged.iter().map(tlog_entry).collect();
        material.push(format!(r#""tlogEntries":[{}]"#, entries.join(",")));
    }
    if let Some(token) = &piece.token {
        let token = STANDARD.encode(token);
        material
            .push(format!(r#""timestampVerificationData":{{"rfc3161Timestamps":[{{"signedTimestamp":"{token}"}}]}}"#));
    }
    let material = material.join(",");
    let media_type = media_type(options).map(|media_type| format!(r#""mediaType":"{media_type}","#));
    format!(r#"{{{}"verificationMaterial":{{{material}}},{content}}}"#, media_type.unwrap_or_default())
}

fn version(options: &Options) -> Version {
    let is_old = options.has(Flaw::OldVersion) || options.has(Flaw::Downgraded);
    if is_old { Version::V01 } else { options.version }
}

fn media_type(options: &Options) -> Option<&'static str> {
    if options.has(Flaw::VersionMissing) {
        None
    } else if options.has(Flaw::VersionUnknown) {
        Some("application/vnd.dev.sigstore.bundle.v0.9+json")
    } else {
        Some(version(options).media_type())
    }
}

/// By what the signature is to be verified: a certificate, a chain without its root, or a key's hint.
fn holder(party: &Party<'_>, options: &Options) -> Vec<String> {
    let encoded = |der: &[u8]| format!(r#"{{"rawBytes":"{}"}}"#, STANDARD.encode(der));
    let hint = |id: [u8; 32]| format!(r#""publicKey":{{"hint":"{}"}}"#, STANDARD.encode(id));
    let leaf = match &party.shown {
        Shown::Key { hint: id } => return vec![hint(*id)],
        Shown::Certificate { .. } if options.has(Flaw::CertificateMissing) => return Vec::new(),
        Shown::Certificate { leaf, .. } => leaf,
    };
    let own = if options.has(Flaw::CertificateUnreadable) { b"no certificate" } else { leaf.der.as_slice() };
    let mut holder = if version(options) == Version::V03 && !options.has(Flaw::ChainInV03) {
        vec![format!(r#""certificate":{}"#, encoded(own))]
    } else {
        let above = leaf.issuers.iter().rev().skip(1).rev().map(Vec::as_slice);
        let chain: Vec<_> = std::iter::once(own).chain(above).map(encoded).collect();
        vec![format!(r#""x509CertificateChain":{{"certificates":[{}]}}"#, chain.join(","))]
    };
    if options.has(Flaw::CertificateAndKey) {
        holder.push(hint(party.key.id()));
    }
    holder
}

fn tlog_entry(logged: &Logged) -> String {
    let Logged { entry, kind, version, with_set, with_proof } = logged;
    let body = STANDARD.encode(&entry.body);
    let log_id = STANDARD.encode(entry.log_id);
    let time = entry.integrated_time.map(|time| format!(r#""integratedTime":"{time}","#));
    let promise = with_set
        .then(|| format!(r#""inclusionPromise":{{"signedEntryTimestamp":"{}"}},"#, STANDARD.encode(&entry.set)));
    let proof = with_proof.then(|| {
        let proof = &entry.proof;
        let hashes: Vec<_> = proof.path.iter().map(|hash| STANDARD.encode(hash)).collect();
        let checkpoint = Value::from(proof.checkpoint.as_str());
        let checkpoint = format!(r#","checkpoint":{{"envelope":{checkpoint}}}"#);
        format!(
            r#""inclusionProof":{{"logIndex":"{}","rootHash":"{}","treeSize":"{}","hashes":{}{}}},"#,
            proof.index,
            STANDARD.encode(proof.root),
            proof.size,
            Value::from(hashes),
            if proof.checkpoint.is_empty() { "" } else { &checkpoint }
        )
    });
    format!(
        r#"{{"logIndex":"{}","logId":{{"keyId":"{log_id}"}},"kindVersion":{{"kind":"{kind}","version":"{version}"}},{}{}{}"canonicalizedBody":"{body}"}}"#,
        entry.index,
        time.unwrap_or_default(),
        promise.unwrap_or_default(),
        proof.unwrap_or_default()
    )
}
