//! `ClusterImagePolicy` documents become policies, `TrustRoot` documents what these refer to.
//!
//! What loads means what it means in the cluster, or more; what cannot be honoured is an error by name, with file,
//! line, field and the way out. All files load together or none does.

mod attestations;
mod authorities;
mod canonical;
mod conditions;
mod content;
mod document;
mod envelope;
mod error;
mod field;
mod guards;
mod identities;
mod key;
mod node;
mod pem;
mod proof;
mod report;
mod roots;
mod scope;
mod source;
mod trust_root;

use std::{collections::BTreeMap, sync::Arc};

pub use error::{LoadError, LoadErrors};

use crate::{
    policy_set::{LoadContext, Place, Policy, SourceText},
    trust_root::TrustRoot,
};
use envelope::Kind;
use node::Node;
use report::Report;
use roots::Roots;
use scope::Scope;

/// What all files hold together.
pub(crate) struct Loaded {
    /// In order.
    pub policies: Vec<Policy>,
    /// The `TrustRoot` documents, by name.
    pub trust_roots: BTreeMap<String, TrustRoot>,
    /// For the start-up log.
    pub notes: Vec<String>,
}

/// Loads all files. The trust roots come first: a policy may refer to one of another file, or further down.
pub(crate) fn load(sources: &[SourceText], context: &LoadContext<'_>) -> Result<Loaded, LoadErrors> {
    let mut files: Vec<_> = sources.iter().map(PolicyFile::read).collect();
    let (mut errors, mut roots) = (Vec::new(), Roots::default());
    for file in &mut files {
        errors.extend(file.trust_roots(&mut roots));
    }
    let policies: Vec<_> = files.iter_mut().flat_map(|file| file.policies(context, &roots)).collect();
    let mut notes = Vec::new();
    for file in files {
        let (found, told) = file.report.into_parts();
        errors.extend(found);
        notes.extend(told);
    }
    errors.extend(taken_names(&policies));
    // In the order of files and lines.
    let nth = |error: &LoadError| sources.iter().position(|source| *source.name == *error.place.file);
    errors.sort_by_key(|error| (nth(error), error.place.line));
    if errors.is_empty() && policies.is_empty() {
        errors.push(without_policy(sources));
    }
    LoadErrors::unless_empty(errors)?;
    notes.extend(roots.unused(&policies));
    Ok(Loaded { policies, trust_roots: roots.into_trust_roots(), notes })
}

/// One file: its documents, and what is found in them.
struct PolicyFile<'s> {
    documents: Vec<(Kind, Node)>,
    lines: Vec<&'s str>,
    report: Report,
}

impl<'s> PolicyFile<'s> {
    fn read(source: &'s SourceText) -> Self {
        let mut report = Report::new(&source.name);
        let nodes = node::documents(&source.text).unwrap_or_else(|malformed| {
            report.error(malformed.line, "", malformed.what, Some(malformed.hint));
            Vec::new()
        });
        if nodes.is_empty() && report.is_flawless() {
            report.error(
                0,
                "",
                "holds no policy; expected at least one ClusterImagePolicy document",
                Some("take the file out of policy.files, or write a policy into it"),
            );
        }
        let kind = |node: Node| Some((envelope::kind(&node, &mut report)?, node));
        let documents = nodes.into_iter().filter_map(kind).collect();
        Self { documents, lines: source.text.lines().collect(), report }
    }

    fn trust_roots(&mut self, roots: &mut Roots) -> Vec<LoadError> {
        let mut taken = Vec::new();
        for (_, node) in self.documents.iter().filter(|(kind, _)| *kind == Kind::TrustRoot) {
            let envelope = envelope::read(node, Kind::TrustRoot, &mut self.report);
            if let Some((name, root)) = envelope.and_then(|envelope| trust_root::read(&envelope, &mut self.report)) {
                taken.extend(roots.add(name, root).err());
            }
        }
        taken
    }

    fn policies(&mut self, context: &LoadContext<'_>, roots: &Roots) -> Vec<Policy> {
        let mut policies = Vec::new();
        for (_, node) in self.documents.iter().filter(|(kind, _)| *kind == Kind::ClusterImagePolicy) {
            let Some(envelope) = envelope::read(node, Kind::ClusterImagePolicy, &mut self.report) else { continue };
            let scope = Scope { context, roots, lines: &self.lines, beta: envelope.beta };
            policies.extend(document::policy(&envelope, scope, &mut self.report));
        }
        policies
    }
}

fn without_policy(sources: &[SourceText]) -> LoadError {
    let (file, what, hint) = match sources.first() {
        None => ("policy.files", "names no file; expected at least one", "leave it out for the built-in policy"),
        Some(first) => (
            first.name.as_str(),
            "holds no policy, nor does any other file; expected at least one ClusterImagePolicy document",
            "write a policy beside the TrustRoot: by itself it admits nothing",
        ),
    };
    LoadError {
        place: Place { file: Arc::from(file), line: 0 },
        field: String::new(),
        what: what.to_owned(),
        hint: Some(hint.to_owned()),
    }
}

fn taken_names(policies: &[Policy]) -> Vec<LoadError> {
    let mut first: BTreeMap<&str, &Place> = BTreeMap::new();
    let mut errors = Vec::new();
    for policy in policies {
        if let Some(place) = first.get(policy.name()) {
            errors.push(LoadError {
                place: policy.place().clone(),
                field: "metadata.name".to_owned(),
                what: format!("\"{}\" is the name of the policy at {place} already", policy.name()),
                hint: Some("give each policy a name of its own".to_owned()),
            });
        } else {
            first.insert(policy.name(), policy.place());
        }
    }
    errors
}

#[cfg(test)]
mod tests;
