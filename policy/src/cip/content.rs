//! Content rules: `policy` of an attestation, and of a spec.

use super::{
    field::{Field, Mapping, Refused, Schema},
    report::{Report, shown},
    scope::Scope,
};
use crate::{policy_set::PolicyRule, rego::Rego};

const REMOTE: Refused = Refused {
    key: "remote",
    what: "is not supported: policies are not fetched",
    hint: "write the policy's text into data",
};

const CONFIG_MAP: Refused = Refused {
    key: "configMapRef",
    what: "is not supported: there is no cluster to ask",
    hint: "write the policy's text into data",
};

const OF_WORKLOAD: [&str; 3] = ["includeSpec", "includeObjectMeta", "includeTypeMeta"];
const NO_WORKLOAD: &str = "a registry does not know the workload: leave this policy to the cluster's controller";
const OF_SPEC_ONLY: &str = "belongs to spec.policy only, false too";
const NOT_HERE: &str = "take it out: the rule of an attestation is shown its statement and nothing else";

const OF_SPEC: Schema = Schema {
    known: &["type", "data", "fetchConfigFile"],
    refused: &[REMOTE, CONFIG_MAP],
    // read below
    ignored: &OF_WORKLOAD,
};

const OF_ATTESTATION: Schema = Schema {
    known: &["type", "data"],
    refused: &[
        REMOTE,
        CONFIG_MAP,
        Refused { key: "fetchConfigFile", what: OF_SPEC_ONLY, hint: NOT_HERE },
        Refused { key: "includeSpec", what: OF_SPEC_ONLY, hint: NOT_HERE },
        Refused { key: "includeObjectMeta", what: OF_SPEC_ONLY, hint: NOT_HERE },
        Refused { key: "includeTypeMeta", what: OF_SPEC_ONLY, hint: NOT_HERE },
    ],
    ignored: &[],
};

/// Reads `spec.policy`.
pub(super) fn of_spec(field: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> Option<PolicyRule> {
    let mapping = field.mapping(report, &OF_SPEC)?;
    for key in OF_WORKLOAD {
        if let Some(field) = mapping.field(key)
            && field.boolean(report) == Some(true)
        {
            field.error(report, "is true, which is not supported; expected false", Some(NO_WORKLOAD));
        }
    }
    let fetch_config_file = mapping.field("fetchConfigFile").map_or(Some(false), |field| field.boolean(report));
    let rego = rego(&mapping, scope, report);
    Some(PolicyRule { rego: rego?, fetch_config_file: fetch_config_file? })
}

/// Reads `policy` of an attestation.
pub(super) fn of_attestation(field: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> Option<Rego> {
    let mapping = field.mapping(report, &OF_ATTESTATION)?;
    rego(&mapping, scope, report)
}

fn rego(policy: &Mapping<'_>, scope: Scope<'_>, report: &mut Report) -> Option<Rego> {
    let is_rego = policy
        .required(report, "type", "write type: rego")
        .and_then(|kind| kind.text(report).map(|written| (kind, written)))
        .map(|(kind, written)| is_rego(&kind, written, report));
    let elsewhere = policy.field("remote").is_some() || policy.field("configMapRef").is_some();
    let Some(data) = policy.field("data") else {
        if !elsewhere {
            policy.required(report, "data", "write the rule: package sigstore, with a rule isCompliant");
        }
        return None;
    };
    let text = data.text(report)?;
    // A text in another language has no flaws as Rego.
    if is_rego != Some(true) {
        return None;
    }
    compiled(&data, text, scope, report)
}

fn is_rego(kind: &Field<'_>, written: &str, report: &mut Report) -> bool {
    match written {
        "rego" => return true,
        "cue" => kind.error(
            report,
            "is cue, which is not supported; expected rego",
            Some("write it as Rego: package sigstore, with a rule isCompliant; docs/policy.md shows each CUE form in Rego"),
        ),
        _ => kind.error(
            report,
            format!("is {}; expected rego", shown(written)),
            Some("write type: rego, with a text in data that begins with package sigstore"),
        ),
    }
    false
}

fn compiled(data: &Field<'_>, text: &str, scope: Scope<'_>, report: &mut Report) -> Option<Rego> {
    let error = match Rego::compile(text) {
        Ok(rego) => return Some(rego),
        Err(error) => error,
    };
    match (error.line, line_in_file(data.line, text, error.line, scope.lines)) {
        (0, _) => data.error(report, error.what, Some(&error.hint)),
        (_, Some(line)) => report.error(line, &data.path, error.what, Some(&error.hint)),
        (line, None) => data.error(report, format!("in its line {line}: {}", error.what), Some(&error.hint)),
    }
    None
}

/// The line of the file that is this line of the text, where the file has the text line by line: below `data: |`, or all of it
/// behind the colon. Found by comparing, so that no other line is ever named.
fn line_in_file(data: u64, text: &str, line: u32, lines: &[&str]) -> Option<u64> {
    let wanted: Vec<_> = text.lines().map(str::trim).collect();
    let above = usize::try_from(data).ok()?;
    let stands = |first: usize| {
        let found = lines.get(first..first.checked_add(wanted.len())?)?;
        found.iter().map(|line| line.trim()).eq(wanted.iter().copied()).then_some(first)
    };
    if wanted.len() == 1 {
        return Some(data);
    }
    // `lines` counts from 0, so that this is the line below; and the one below that, where `|` has a line of its own.
    let first = stands(above).or_else(|| stands(above.checked_add(1)?))?;
    u64::try_from(first).ok()?.checked_add(u64::from(line))
}
