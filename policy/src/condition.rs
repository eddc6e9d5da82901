//! What a policy asks of the very piece of evidence that satisfies one of its authorities: annotations under `pratique.dev/`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::refusal::told;

/// Conditions of one policy, beyond its authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `pratique.dev/workflow-trigger`, `-sha`, `-name`, `-repository`, `-ref`: equal to the certificate's claims.
    pub workflow: Workflow,
    /// `pratique.dev/annotations`: each with this value in what was signed.
    pub annotations: BTreeMap<String, String>,
    /// `pratique.dev/attestations-per-platform`: each child of an index brings its own.
    pub attestations_per_platform: bool,
}

/// What a certificate says of the GitHub workflow that it was issued to. In a condition: what it must say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Workflow {
    /// The event: `push`, `schedule`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// The workflow's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `owner/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// `refs/heads/main`, …
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl Workflow {
    /// Each claim with the name that policies, cosign and records know it by.
    pub fn claims(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        [
            ("trigger", self.trigger.as_deref()),
            ("sha", self.sha.as_deref()),
            ("name", self.name.as_deref()),
            ("repository", self.repository.as_deref()),
            ("ref", self.reference.as_deref()),
        ]
        .into_iter()
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims().all(|(_, value)| value.is_none())
    }
}

impl Conditions {
    /// Whether a piece meets them: what its certificate and what was signed say. The first that is not met, in one clause.
    pub(crate) fn met_by(&self, workflow: &Workflow, annotations: &BTreeMap<String, Value>) -> Result<(), String> {
        for ((name, wanted), (_, seen)) in self.workflow.claims().zip(workflow.claims()) {
            let Some(wanted) = wanted else { continue };
            if seen != Some(wanted) {
                let seen = seen.map_or_else(|| "not there".to_owned(), |seen| format!("\"{}\"", told(seen)));
                return Err(format!("workflow {name} \"{}\" is wanted, and it is {seen}", told(wanted)));
            }
        }
        for (name, wanted) in &self.annotations {
            match annotations.get(name) {
                Some(Value::String(seen)) if seen == wanted => {}
                seen => {
                    let seen = seen.map_or_else(|| "not there".to_owned(), |seen| format!("\"{}\"", told(&text(seen))));
                    return Err(format!("annotation {}=\"{}\" is wanted, and it is {seen}", told(name), told(wanted)));
                }
            }
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
