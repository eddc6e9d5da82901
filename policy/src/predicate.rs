//! What kind of statement an attestation has to be, and what of it a content rule is shown.

mod shape;
mod shapes;

use std::fmt;

use crate::{
    refusal::told,
    rego::{RegoBounds, RegoFault, RegoInput},
};
use shape::{Member, Shape};

/// Longest predicate type. The longest in use are below a hundred.
const WRITTEN_BYTES_MAX: usize = 1024;

/// cosign's short names, and what they stand for.
const SHORT_NAMES: [(&str, &str); 10] = [
    ("custom", "https://cosign.sigstore.dev/attestation/v1"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("link", "https://in-toto.io/Link/v1"),
    ("openvex", "https://openvex.dev/ns"),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("spdx", "https://spdx.dev/Document"),
    ("spdxjson", "https://spdx.dev/Document"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
];

/// The kind of statement that a policy asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredicateType {
    written: String,
    uri: String,
}

/// Why a text is no predicate type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PredicateTypeError {
    /// One clause. Foreign text in it is escaped and bounded.
    pub what: String,
    /// The way out.
    pub hint: String,
}

/// Why a statement cannot be shown to a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PredicateFault {
    /// It is not the shape that its short name promises.
    #[error("{path} of the statement is not {wanted}, as predicateType {written} asks")]
    Mismatch {
        /// Where, escaped and bounded.
        path: String,
        /// What should be there.
        wanted: &'static str,
        /// As the policy writes it.
        written: String,
    },
    /// It is too large, or not JSON that means one thing only.
    #[error(transparent)]
    Input(#[from] RegoFault),
}

impl PredicateType {
    /// Reads what a policy writes: a URI, or one of cosign's short names, for which there is a note.
    pub fn parse(written: &str) -> Result<(Self, Option<String>), PredicateTypeError> {
        let made = |uri: &str| Self { written: written.to_owned(), uri: uri.to_owned() };
        if let Some((_, uri)) = SHORT_NAMES.iter().find(|(name, _)| *name == written) {
            let note = format!("\"{written}\" is a short name, which the controller deprecates; it stands for {uri}");
            return Ok((made(uri), Some(note)));
        }
        if written.len() > WRITTEN_BYTES_MAX {
            let what = format!("is {} bytes long, at most {WRITTEN_BYTES_MAX} are read", written.len());
            return Err(PredicateTypeError { what, hint: "write the URI that the statement gives".to_owned() });
        }
        if is_uri(written) {
            return Ok((made(written), None));
        }
        Err(PredicateTypeError {
            what: format!("is \"{}\", expected a URI or a short name of cosign's", told(written)),
            hint: hint(written),
        })
    }

    /// As the policy writes it: results are told by it.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }

    /// What a statement has to say of itself.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Whether a statement that says `predicate_type` of itself is of this kind.
    #[must_use]
    pub fn matches(&self, predicate_type: &str) -> bool {
        self.uri == predicate_type
    }

    /// What a rule is shown of a statement: its four members and nothing besides. Under three of the short names the
    /// predicate goes through a fixed shape, under any other name it is shown as it is.
    pub(crate) fn rego_input(&self, statement: &[u8], bounds: &RegoBounds) -> Result<RegoInput, PredicateFault> {
        let whole = RegoInput::parse(statement, bounds)?;
        let predicate = match self.written.as_str() {
            "slsaprovenance" => &shapes::PROVENANCE,
            "link" => &shapes::LINK,
            "vuln" => &shapes::VULNERABILITIES,
            _ => &Shape::Any,
        };
        let mut path = Vec::new();
        let fault = |error: shape::Mismatch| PredicateFault::Mismatch {
            path: told(&error.path),
            wanted: error.wanted,
            written: told(&self.written),
        };
        let shape = [
            Member::always("_type", &Shape::Text),
            Member::always("predicateType", &Shape::Text),
            Member::always("subject", &shapes::SUBJECTS),
            Member::always("predicate", predicate),
        ];
        shape::object(&shape, Some(&whole), &mut path).map_err(fault)
    }
}

/// As written; a short name with what it stands for.
impl fmt::Display for PredicateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)?;
        if self.written != self.uri {
            write!(f, " ({})", self.uri)?;
        }
        Ok(())
    }
}

/// RFC 3986 with a scheme, as far as a type needs it: a scheme, something after it, no character that no URI has.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let begins = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    let names_something = match rest.strip_prefix("//") {
        Some(rest) => !rest.starts_with('/') && !rest.is_empty(),
        None => !rest.is_empty(),
    };
    begins && scheme && names_something && rest.chars().all(allowed) && percents_are_encodings(rest)
}

fn percents_are_encodings(text: &str) -> bool {
    text.split('%').skip(1).all(|after| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
}

fn hint(written: &str) -> String {
    let folded = written.to_ascii_lowercase().replace(['-', '_', '.', ' '], "");
    match SHORT_NAMES.iter().find(|(name, _)| *name == folded) {
        Some((_, uri)) => format!("write {uri}"),
        None => "write the URI that the statement gives as its predicateType, such as https://slsa.dev/provenance/v1"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
