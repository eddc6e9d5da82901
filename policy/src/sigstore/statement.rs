//! What a statement says, and of which type it is.

use std::{collections::BTreeMap, fmt};

use oci::{Algorithm, Digest};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use super::{bounded::Bounded, envelope::Envelope};
use crate::{
    refusal::{Reason, told},
    verifier::{Claim, Flaw},
};

/// The statement by which cosign signs an image. Any other is an attestation, which says something about an image and not that
/// it is to be run.
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// Deepest nesting. Predicates are anybody's documents; SBOMs need about ten.
const JSON_DEPTH_MAX: usize = 64;
/// Most subjects of one statement. Release statements name hundreds.
const SUBJECTS_MAX: usize = 10_000;

/// All of a statement but what its predicate says, which is passed over: it can be as large as evidence may be.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Bounded<Subject, SUBJECTS_MAX>,
    #[serde(default, rename = "predicate")]
    _predicate: Predicate,
}

/// An object, or none at all: cosign's readers and the controller take nothing else.
#[derive(Default)]
struct Predicate;

impl<'de> Deserialize<'de> for Predicate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(PredicateVisitor)
    }
}

struct PredicateVisitor;

impl<'de> Visitor<'de> for PredicateVisitor {
    type Value = Predicate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a predicate that is an object")
    }

    fn visit_none<E: de::Error>(self) -> Result<Predicate, E> {
        Ok(Predicate)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Predicate, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Predicate, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Predicate)
    }
}

#[derive(Deserialize)]
struct Subject {
    digest: Digests,
    #[serde(default)]
    annotations: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    name: Name,
}

/// A subject's name. One that is no text spoils nothing: readers of statements may pass it over.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Other(IgnoredAny),
}

impl Default for Name {
    fn default() -> Self {
        Self::Other(IgnoredAny)
    }
}

#[derive(Deserialize)]
struct Digests {
    sha256: Option<String>,
    sha512: Option<String>,
}

/// What the envelope says of `subject`. Says nothing about who says so.
pub(super) fn read(envelope: &Envelope, subject: &Digest) -> Result<Claim, Flaw> {
    let statement = parse(envelope)?;
    let is_meant = |entry: &Subject| entry.digest.is(subject);
    let Some(position) = statement.subject.0.iter().position(is_meant) else {
        return Err(Flaw::new(Reason::DigestMismatch, format!("the signature is over {}", statement.first())));
    };
    let Statement { predicate_type, subject: Bounded(mut subjects), .. } = statement;
    let names = subjects.iter().filter(|entry| is_meant(entry)).filter_map(Subject::name).collect();
    let annotations = subjects.swap_remove(position).annotations.unwrap_or_default();
    Ok(if predicate_type == SIGNATURE {
        Claim::Signature { annotations, predicate_type: Some(predicate_type), names }
    } else {
        Claim::Attestation { predicate_type, annotations, names }
    })
}

/// The type of a statement that names one of these digests.
pub(super) fn about_any(envelope: &Envelope, subjects: &[Digest]) -> Result<String, Flaw> {
    let statement = parse(envelope)?;
    let named = |entry: &Subject| subjects.iter().any(|subject| entry.digest.is(subject));
    if statement.subject.0.iter().any(named) {
        return Ok(statement.predicate_type);
    }
    Err(Flaw::new(Reason::DigestMismatch, format!("the signature is over {}", statement.first())))
}

fn parse(envelope: &Envelope) -> Result<Statement, Flaw> {
    if envelope.payload_type != PAYLOAD_TYPE {
        let detail = format!("holds \"{}\", which is no statement", told(&envelope.payload_type));
        return Err(Flaw::new(Reason::NotASignature, detail));
    }
    let statement: Statement = oci::json::parse(envelope.payload(), JSON_DEPTH_MAX).map_err(|error| {
        Flaw::new(Reason::EvidenceUnreadable, format!("statement cannot be read: {}", because(&error)))
    })?;
    if !STATEMENT_TYPES.contains(&statement.kind.as_str()) {
        let detail = format!("statement has a type that is not understood: \"{}\"", told(&statement.kind));
        return Err(Flaw::new(Reason::EvidenceUnreadable, detail));
    }
    Ok(statement)
}

impl Statement {
    /// What it is about instead.
    fn first(&self) -> String {
        let other = self.subject.0.iter().find_map(|entry| entry.digest.sha256.as_ref());
        other.map_or_else(|| "no sha256 digest".to_owned(), |hex| format!("sha256:{}", told(hex)))
    }
}

impl Subject {
    fn name(&self) -> Option<&str> {
        match &self.name {
            Name::Text(name) => Some(name),
            Name::Other(_) => None,
        }
    }
}

impl Digests {
    fn is(&self, digest: &Digest) -> bool {
        let named = match digest.algorithm() {
            Algorithm::Sha256 => &self.sha256,
            Algorithm::Sha512 => &self.sha512,
        };
        named.as_deref() == Some(digest.hex())
    }
}

/// What is wrong with a document, escaped.
pub(super) fn because(error: &dyn std::error::Error) -> String {
    told(&error.source().map_or_else(|| error.to_string(), ToString::to_string))
}
