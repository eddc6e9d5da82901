//! What every document begins with: `apiVersion`, `kind` and `metadata`.

use super::{
    conditions,
    field::{Field, Mapping, Refused, Schema},
    node::Node,
    report::{Report, shown},
};

const DOCUMENT: Schema =
    Schema { known: &["apiVersion", "kind", "metadata", "spec"], refused: &[], ignored: &["status"] };

const METADATA: Schema = Schema {
    known: &["name", "annotations", "labels"],
    refused: &[Refused { key: "namespace", what: "is there; such a document has no namespace", hint: "take it out" }],
    ignored: &[
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "selfLink",
        "ownerReferences",
        "finalizers",
    ],
};

const ALPHA: &str = "policy.sigstore.dev/v1alpha1";
const BETA: &str = "policy.sigstore.dev/v1beta1";

/// What a document describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    ClusterImagePolicy,
    TrustRoot,
}

/// A document of a kind and version that are read.
pub(super) struct Envelope<'n> {
    pub(super) kind: Kind,
    /// It is `v1beta1`.
    pub(super) beta: bool,
    pub(super) line: u64,
    document: Mapping<'n>,
}

/// What a document says that it is; `None` where that is nothing that is read, which is then reported.
pub(super) fn kind(node: &Node, report: &mut Report) -> Option<Kind> {
    let written = Field::document(node).entries().into_iter().find(|(key, _)| *key == "kind").map(|(_, field)| field);
    let hint = match written.as_ref().and_then(Field::text_if_any) {
        Some("ClusterImagePolicy") | None => return Some(Kind::ClusterImagePolicy),
        Some("TrustRoot") => return Some(Kind::TrustRoot),
        Some("Secret") => "write the public key itself into key.data of the authority",
        Some("ConfigMap") => "write the rule itself into data of the policy",
        Some("List") => "write its items as documents, with a line --- between them",
        Some(_) => "a policy file holds ClusterImagePolicy and TrustRoot documents only",
    };
    let field = written?;
    let seen = shown(field.text_if_any().unwrap_or_default());
    field.error(report, format!("is {seen}; expected ClusterImagePolicy or TrustRoot"), Some(hint));
    None
}

/// Reads the document of a kind; `None` where it is flawed, which is then reported.
pub(super) fn read<'n>(node: &'n Node, kind: Kind, report: &mut Report) -> Option<Envelope<'n>> {
    let document = Field::document(node);
    let mapping = document.mapping(report, &DOCUMENT)?;
    mapping.required(report, "kind", "write kind: ClusterImagePolicy")?.text(report)?;
    let version = mapping.required(report, "apiVersion", "write apiVersion: policy.sigstore.dev/v1beta1")?;
    let written = version.text(report)?;
    let (expected, hint) = match kind {
        Kind::ClusterImagePolicy if [ALPHA, BETA].contains(&written) => ("", ""),
        Kind::TrustRoot if written == ALPHA => ("", ""),
        Kind::ClusterImagePolicy => {
            ("policy.sigstore.dev/v1alpha1 or policy.sigstore.dev/v1beta1", "both versions have the same fields")
        }
        Kind::TrustRoot => (ALPHA, "there is no other version of TrustRoot"),
    };
    if !expected.is_empty() {
        version.error(report, format!("is {}; expected {expected}", shown(written)), Some(hint));
        return None;
    }
    Some(Envelope { kind, beta: written == BETA, line: document.line, document: mapping })
}

impl<'n> Envelope<'n> {
    /// Reads `metadata`; its annotations are for the caller to read.
    pub(super) fn metadata(&self, report: &mut Report) -> Option<Mapping<'n>> {
        let metadata = self.document.required(report, "metadata", "write metadata: with a name: below it")?;
        let metadata = metadata.mapping(report, &METADATA)?;
        for key in ["annotations", "labels"] {
            if let Some(field) = metadata.field(key).filter(|field| field.entries().is_empty() && !field.is_empty()) {
                let hint = "write a name and a value on each line below it";
                field.error(report, "is no mapping; expected names with their values", Some(hint));
            }
        }
        conditions::refuse_all(metadata.field("labels").as_ref(), "a label", report);
        Some(metadata)
    }

    /// Reads the name, as a cluster takes it.
    pub(super) fn name(&self, metadata: &Mapping<'_>, report: &mut Report) -> Option<String> {
        let hint = match self.kind {
            Kind::ClusterImagePolicy => "write a name, as it shall appear in refusals",
            Kind::TrustRoot => "write a name, by which policies refer to it",
        };
        let name = metadata.required(report, "name", hint)?;
        let written = name.text(report)?;
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let mut chars = written.chars();
        if written.len() > 253 || !edge(chars.next()) || !edge(written.chars().next_back()) || !chars.all(inner) {
            let what = format!("is {}; expected lower-case letters, digits, - and .", shown(written));
            let hint = "a cluster takes no other name: letter or digit at both ends, 253 characters at most";
            name.error(report, what, Some(hint));
            return None;
        }
        Some(written.to_owned())
    }

    /// What the document is there for.
    pub(super) fn spec(&self, hint: &str, report: &mut Report) -> Option<Field<'n>> {
        self.document.required(report, "spec", hint)
    }
}
