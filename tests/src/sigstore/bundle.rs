//! Statements in DSSE envelopes, and Sigstore bundles of version 0.3 around them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::Digest;
use serde_json::Value;

use super::{
    Options, VirtualSigstore,
    entry::{self, Logged},
    flaw::Flaw,
    party::{Party, Shown},
};

/// The predicate type by which cosign v3 says that an image is signed.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A statement that is signed.
pub(super) struct Envelope {
    payload_type: &'static str,
    payload: String,
    signature: Vec<u8>,
}

/// A bundle that holds a statement about `digest`.
pub(super) fn sign(
    party: &Party<'_>,
    log: Option<&VirtualSigstore>,
    digest: &Digest,
    said: (&str, &Value),
    options: &Options,
) -> String {
    let envelope = Envelope::seal(party, digest, said, options);
    let logged = log.and_then(|log| {
        let another = || Envelope::seal(party, &other_digest(digest), said, options).entry(party);
        log.log(envelope.entry(party), another, options)
    });
    let material = match &party.shown {
        Shown::Certificate { leaf, .. } => {
            format!(r#""certificate":{{"rawBytes":"{}"}}"#, STANDARD.encode(&leaf.der))
        }
        Shown::Key => {
            format!(r#""publicKey":{{"hint":"{}"}}"#, STANDARD.encode(party.key.id()))
        }
    };
    let entries = logged.map_or_else(String::new, |logged| format!(r#","tlogEntries":[{}]"#, tlog_entry(&logged)));
    let Envelope { payload_type, payload, signature } = envelope;
    let (payload, signature) = (STANDARD.encode(payload), STANDARD.encode(signature));
    format!(
        r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{{material}{entries}}},"dsseEnvelope":{{"payload":"{payload}","payloadType":"{payload_type}","signatures":[{{"sig":"{signature}"}}]}}}}"#
    )
}

impl Envelope {
    pub(super) fn seal(party: &Party<'_>, digest: &Digest, said: (&str, &Value), options: &Options) -> Self {
        let payload = statement(digest, said, options);
        let payload_type = if options.has(Flaw::PayloadTypeWrong) { "application/json" } else { IN_TOTO };
        let signed = format!("DSSEv1 {} {payload_type} {} {payload}", payload_type.len(), payload.len());
        let signature = party.sign(signed.as_bytes(), options);
        Self { payload_type, payload, signature }
    }

    /// As cosign stores it in `.att` layers.
    pub(super) fn to_json(&self) -> String {
        format!(
            r#"{{"payloadType":"{}","payload":"{}","signatures":[{{"keyid":"","sig":"{}"}}]}}"#,
            self.payload_type,
            STANDARD.encode(&self.payload),
            STANDARD.encode(&self.signature)
        )
    }

    pub(super) fn entry(&self, party: &Party<'_>) -> Vec<u8> {
        entry::dsse(party, &self.to_json(), self.payload.as_bytes(), &self.signature)
    }
}

/// Another image than that.
pub(super) fn other_digest(digest: &Digest) -> Digest {
    Digest::of(digest.algorithm(), digest.to_string().as_bytes())
}

/// Cosign signs statements of version 1, and attests in version 0.1.
fn statement(digest: &Digest, (predicate_type, predicate): (&str, &Value), options: &Options) -> String {
    let version = if predicate_type == COSIGN_SIGN { "v1" } else { "v0.1" };
    let predicate_type = if options.has(Flaw::OtherPredicate) { PROVENANCE } else { predicate_type };
    let predicate_type = Value::from(predicate_type);
    let field = |digest: &Digest| format!(r#""{}":"{}""#, digest.algorithm(), digest.hex());
    let other = other_digest(digest);
    let subject = if options.has(Flaw::OtherDigest) {
        field(&other)
    } else if options.has(Flaw::DuplicatedDigest) {
        [field(digest), field(&other), field(digest)].join(",")
    } else {
        field(digest)
    };
    let annotations = serde_json::to_string(&options.annotations).expect("a map of texts is JSON");
    format!(
        r#"{{"_type":"https://in-toto.io/Statement/{version}","subject":[{{"digest":{{{subject}}},"annotations":{annotations}}}],"predicateType":{predicate_type},"predicate":{predicate}}}"#
    )
}

fn tlog_entry(Logged { entry, with_set, with_proof }: &Logged) -> String {
    let body = STANDARD.encode(&entry.body);
    let log_id = STANDARD.encode(entry.log_id);
    let promise = with_set
        .then(|| format!(r#""inclusionPromise":{{"signedEntryTimestamp":"{}"}},"#, STANDARD.encode(&entry.set)));
    let proof = with_proof.then(|| {
        let proof = &entry.proof;
        let hashes: Vec<_> = proof.path.iter().map(|hash| STANDARD.encode(hash)).collect();
        format!(
            r#""inclusionProof":{{"logIndex":"{}","rootHash":"{}","treeSize":"{}","hashes":{},"checkpoint":{{"envelope":{}}}}},"#,
            proof.index,
            STANDARD.encode(proof.root),
            proof.size,
            Value::from(hashes),
            Value::from(proof.checkpoint.as_str())
        )
    });
    format!(
        r#"{{"logIndex":"{}","logId":{{"keyId":"{log_id}"}},"kindVersion":{{"kind":"dsse","version":"0.0.1"}},"integratedTime":"{}",{}{}"canonicalizedBody":"{body}"}}"#,
        entry.index,
        entry.integrated_time,
        promise.unwrap_or_default(),
        proof.unwrap_or_default()
    )
}
