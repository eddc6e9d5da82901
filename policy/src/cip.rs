//! `ClusterImagePolicy` documents become policies.
//!
//! What loads means what it means in the cluster, or more; what cannot be honoured is an error by name, with file,
//! line, field and the way out. All files load together or none does.

mod authorities;
mod canonical;
mod document;
mod error;
mod field;
mod key;
mod node;
mod report;

use std::{collections::BTreeMap, sync::Arc};

pub use error::{LoadError, LoadErrors};

use crate::policy_set::{LoadContext, Place, Policy, SourceText};
use report::Report;

/// Loads all files: the policies in order, and the notes for the start-up log.
pub(crate) fn load(
    sources: &[SourceText],
    context: &LoadContext<'_>,
) -> Result<(Vec<Policy>, Vec<String>), LoadErrors> {
    let (mut policies, mut errors, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for source in sources {
        let mut report = Report::new(&source.name);
        policies.extend(file(source, context, &mut report));
        let (mut found, told) = report.into_parts();
        found.sort_by_key(|error: &LoadError| error.place.line);
        errors.extend(found);
        notes.extend(told);
    }
    errors.extend(taken_names(&policies));
    if sources.is_empty() {
        errors.push(LoadError {
            place: Place { file: Arc::from("policy.files"), line: 0 },
            field: String::new(),
            what: "names no file; expected at least one".to_owned(),
            hint: Some("leave it out for the built-in policy".to_owned()),
        });
    }
    LoadErrors::unless_empty(errors)?;
    Ok((policies, notes))
}

/// What an unusable key is called, wherever that is found out.
pub(crate) fn unusable_key(place: &Place, index: usize, reason: &str) -> LoadError {
    LoadError {
        place: place.clone(),
        field: format!("spec.authorities[{index}].key.data"),
        what: format!("holds a key that cannot be used: {reason}"),
        hint: Some("ECDSA keys on P-256 and P-384, Ed25519 and RSA keys can be used".to_owned()),
    }
}

fn file(source: &SourceText, context: &LoadContext<'_>, report: &mut Report) -> Vec<Policy> {
    let documents = match node::documents(&source.text) {
        Ok(documents) => documents,
        Err(malformed) => {
            report.error(malformed.line, "", malformed.what, Some(malformed.hint));
            return Vec::new();
        }
    };
    if documents.is_empty() {
        report.error(
            0,
            "",
            "holds no policy; expected at least one ClusterImagePolicy document",
            Some("take the file out of policy.files, or write a policy into it"),
        );
    }
    documents.iter().filter_map(|document| document::policy(document, context, report)).collect()
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
