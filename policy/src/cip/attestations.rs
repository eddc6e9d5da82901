//! What an authority wants attested: `attestations`.

use super::{
    content,
    field::{Field, Schema},
    report::{Report, shown},
    scope::Scope,
};
use crate::{authority::Attestation, predicate::PredicateType};

const ATTESTATION: Schema = Schema { known: &["name", "predicateType", "policy"], refused: &[], ignored: &[] };

/// Reads the list. Flawed ones are reported and left out.
pub(super) fn read(list: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> Vec<Attestation> {
    let mut attestations: Vec<Attestation> = Vec::new();
    for field in list.list(report, "attestation") {
        let Some(attestation) = attestation(&field, scope, report) else {
            continue;
        };
        if attestations.iter().any(|other| other.name == attestation.name) {
            let what = format!("is named {}, as another of this authority", shown(&attestation.name));
            field.error(report, what, Some("give each attestation a name of its own: refusals and rules go by it"));
        }
        attestations.push(attestation);
    }
    attestations
}

fn attestation(field: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> Option<Attestation> {
    let mapping = field.mapping(report, &ATTESTATION)?;
    let name = mapping
        .required(report, "name", "write a name, as it shall appear in refusals")
        .and_then(|field| field.label(report));
    let predicate_type = mapping
        .required(report, "predicateType", "write the URI that the statement gives, as https://spdx.dev/Document")
        .and_then(|field| predicate_type(&field, report));
    let rule = match mapping.field("policy") {
        Some(field) => Some(content::of_attestation(&field, scope, report)?),
        None => None,
    };
    Some(Attestation { name: name?, predicate_type: predicate_type?, rule })
}

fn predicate_type(field: &Field<'_>, report: &mut Report) -> Option<PredicateType> {
    match PredicateType::parse(field.text(report)?) {
        Ok((predicate_type, note)) => {
            if let Some(note) = note {
                report.note(field.line, &field.path, &note);
            }
            Some(predicate_type)
        }
        Err(error) => {
            field.error(report, &error.what, Some(&error.hint));
            None
        }
    }
}
