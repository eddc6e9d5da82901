//! What is signed: simple signing payloads and in-toto statements, and what can be wrong with them.

use oci::{Algorithm, Digest};
use serde_json::Value;

use super::{Flaw, Options, seal::other_digest, writing};

/// The predicate type by which cosign v3 says that an image is signed.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// How deep a document is nested that is nested too deep.
const DEPTH: usize = 1000;
/// How many subjects are many.
const SUBJECTS: usize = 10_000;

/// A simple signing payload, byte for byte as cosign writes it.
pub(super) fn simple_signing(repository: &str, digest: &Digest, options: &Options) -> Vec<u8> {
    let kind = if options.has(Flaw::PayloadTypeWrong) {
        "atomic container signature"
    } else {
        "cosign container image signature"
    };
    let extra = if options.has(Flaw::CriticalExtra) { r#","expires":"never""# } else { "" };
    let repository = serde_json::to_string(repository).expect("a text is JSON");
    let image = image(digest, options);
    let critical =
        format!(r#""critical":{{"identity":{{"docker-reference":{repository}}},{image},"type":"{kind}"{extra}}},"#);
    let critical = if options.has(Flaw::CriticalMissing) { String::new() } else { critical };
    let text = format!(r#"{{{critical}"optional":{}}}"#, optional(digest, options));
    writing::spoiled(garbled(text, options).into_bytes(), options)
}

/// `"image":{"docker-manifest-digest":"sha256:…"}`.
fn image(digest: &Digest, options: &Options) -> String {
    let named = |text: &str| format!(r#""docker-manifest-digest":"{text}""#);
    let (own, other) = (named(&digest.to_string()), named(&other_digest(digest).to_string()));
    let image = |named: &str| format!(r#""image":{{{named}}}"#);
    if options.has(Flaw::OtherDigest) || options.has(Flaw::DigestInOptional) {
        image(&other)
    } else if options.has(Flaw::DuplicatedDigest) {
        // Whether a careless reader takes the first or the last, it takes the one that it wants to see.
        image(&[own.as_str(), &other, &own].join(","))
    } else if options.has(Flaw::SubjectTwofold) {
        [image(&other), image(&own)].join(",")
    } else if options.has(Flaw::SubjectMissing) {
        image("")
    } else if options.has(Flaw::SubjectByOtherAlgorithm) {
        image(&named(&by_other_algorithm(digest).to_string()))
    } else if options.has(Flaw::DigestPadded) {
        image(&named(&format!(" {digest}")))
    } else {
        image(&named(&format!("{}:{}", digest.algorithm(), spelled(digest.hex(), options))))
    }
}

fn optional(digest: &Digest, options: &Options) -> String {
    if options.has(Flaw::DigestInOptional) {
        return format!(r#"{{"docker-manifest-digest":"{digest}"}}"#);
    }
    if options.has(Flaw::PayloadDeep) {
        return deep();
    }
    let annotations = (!options.annotations.is_empty()).then_some(&options.annotations);
    serde_json::to_string(&annotations).expect("a map of texts is JSON")
}

/// A statement. Cosign signs statements of version 1, and attests in version 0.1.
pub(super) fn statement(digest: &Digest, (predicate_type, predicate): (&str, &Value), options: &Options) -> Vec<u8> {
    let version = if options.has(Flaw::StatementTypeUnknown) {
        "v9"
    } else if predicate_type == COSIGN_SIGN {
        "v1"
    } else {
        "v0.1"
    };
    let mut members = Vec::new();
    if !options.has(Flaw::StatementTypeMissing) {
        members.push(format!(r#""_type":"https://in-toto.io/Statement/{version}""#));
    }
    members.extend(subject_member(digest, options));
    members.extend(predicate_type_member(predicate_type, options));
    let predicate = if options.has(Flaw::PayloadDeep) { deep() } else { predicate.to_string() };
    members.push(format!(r#""predicate":{predicate}"#));
    garbled(format!("{{{}}}", members.join(",")), options).into_bytes()
}

fn predicate_type_member(wanted: &str, options: &Options) -> Option<String> {
    let other = if wanted == COSIGN_SIGN { super::predicate::PROVENANCE } else { super::predicate::SPDX };
    let member = |predicate_type: &str| format!(r#""predicateType":{}"#, Value::from(predicate_type));
    if options.has(Flaw::PredicateTypeMissing) {
        return None;
    }
    Some(if options.has(Flaw::OtherPredicate) {
        member(other)
    } else if options.has(Flaw::PredicateTypeTwofold) {
        [member(other), member(wanted)].join(",")
    } else {
        member(wanted)
    })
}

fn subject_member(digest: &Digest, options: &Options) -> Option<String> {
    let field = |digest: &Digest| format!(r#""{}":"{}""#, digest.algorithm(), digest.hex());
    let annotations = serde_json::to_string(&options.annotations).expect("a map of texts is JSON");
    let entry = |digest: &str| format!(r#"{{"digest":{{{digest}}},"annotations":{annotations}}}"#);
    let member = |list: &str| format!(r#""subject":[{list}]"#);
    let other = other_digest(digest);
    if options.has(Flaw::SubjectMissing) {
        return None;
    }
    Some(if options.has(Flaw::OtherDigest) {
        member(&entry(&field(&other)))
    } else if options.has(Flaw::DuplicatedDigest) {
        member(&entry(&[field(digest), field(&other), field(digest)].join(",")))
    } else if options.has(Flaw::SubjectTwofold) {
        [member(&entry(&field(&other))), member(&entry(&field(digest)))].join(",")
    } else if options.has(Flaw::SubjectsEmpty) {
        member("")
    } else if options.has(Flaw::SubjectNotListed) {
        format!(r#""subject":{}"#, entry(&field(digest)))
    } else if options.has(Flaw::SubjectByOtherAlgorithm) {
        member(&entry(&field(&by_other_algorithm(digest))))
    } else if options.has(Flaw::SubjectByNameAlone) {
        member(&format!(r#"{{"name":"{digest}","digest":{{{}}}}}"#, field(&other)))
    } else if options.has(Flaw::SubjectsMany) {
        let many = (0..SUBJECTS).map(|number| entry(&field(&Digest::sha256(number.to_string().as_bytes()))));
        member(&many.collect::<Vec<_>>().join(","))
    } else {
        member(&entry(&format!(r#""{}":"{}""#, digest.algorithm(), spelled(digest.hex(), options))))
    })
}

/// The digest's digits, rightly or wrongly.
fn spelled(hex: &str, options: &Options) -> String {
    if options.has(Flaw::DigestInCapitals) {
        hex.to_ascii_uppercase()
    } else if options.has(Flaw::DigestShortened) {
        hex.chars().take(12).collect()
    } else if options.has(Flaw::DigestPadded) {
        format!(" {hex}")
    } else {
        hex.to_owned()
    }
}

fn by_other_algorithm(digest: &Digest) -> Digest {
    let other = match digest.algorithm() {
        Algorithm::Sha256 => Algorithm::Sha512,
        Algorithm::Sha512 => Algorithm::Sha256,
    };
    Digest::of(other, digest.to_string().as_bytes())
}

/// The document, or what is there instead.
fn garbled(text: String, options: &Options) -> String {
    if options.has(Flaw::PayloadNotJson) {
        "this image is signed, believe me".to_owned()
    } else if options.has(Flaw::PayloadInArray) {
        format!("[{text}]")
    } else {
        text
    }
}

fn deep() -> String {
    format!(r#"{{"deep":{}{}}}"#, "[".repeat(DEPTH), "]".repeat(DEPTH))
}
