//! Conditions: annotations under `pratique.dev/`, which the controller ignores.

use std::collections::BTreeMap;

use super::{
    field::{Field, listed},
    guards,
    report::{Report, shown},
};
use crate::{
    authority::{Authority, AuthorityKind},
    condition::Conditions,
    policy_set::Mode,
};

const PREFIX: &str = "pratique.dev/";

const KNOWN: [&str; 7] = [
    "workflow-trigger",
    "workflow-sha",
    "workflow-name",
    "workflow-repository",
    "workflow-ref",
    "annotations",
    "attestations-per-platform",
];

/// Conditions and guards, and the annotations that ask for them.
pub(super) struct Written<'n> {
    pub(super) conditions: Conditions,
    pub(super) guards: guards::Written<'n>,
    asked: Vec<(Asked, Field<'n>)>,
}

/// Of whom a condition asks something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Of a certificate.
    Claim,
    /// Of what was signed.
    Annotations,
    /// Of the children of an index.
    PerPlatform,
    /// Of what vouches for the time of a signature.
    Time,
}

/// Reads the annotations of a document. Others' are nobody's business.
pub(super) fn read<'n>(annotations: Option<&Field<'n>>, report: &mut Report) -> Written<'n> {
    let mut written =
        Written { conditions: Conditions::default(), guards: guards::Written::default(), asked: Vec::new() };
    for (key, field) in annotations.map(Field::entries).unwrap_or_default() {
        if let Some(name) = ours(key) {
            let asked = match guards::KNOWN.into_iter().find(|known| *known == name) {
                Some(guard) => written.guards.read(guard, &field, report).then_some(Asked::Time),
                None => condition(name, &field, &mut written.conditions, report),
            };
            written.asked.extend(asked.map(|asked| (asked, field)));
        }
    }
    written
}

/// Nothing under `pratique.dev/` stands where nobody acts on it.
pub(super) fn refuse_all(entries: Option<&Field<'_>>, of: &str, report: &mut Report) {
    for (key, field) in entries.map(Field::entries).unwrap_or_default() {
        if ours(key).is_some() {
            let what = format!("is {of}, which asks for nothing");
            field.error(report, what, Some("write it as an annotation of a ClusterImagePolicy, or take it out"));
        }
    }
}

/// Checks that each authority can give what is asked of it. An annotation that an authority passes by asks for nothing.
pub(super) fn check(written: &Written<'_>, authorities: &[Authority], mode: Option<Mode>, report: &mut Report) {
    written.guards.check(mode, report);
    written.guards.check_dates(authorities, report);
    for (asked, field) in &written.asked {
        let unable = authorities.iter().find_map(|authority| Some((authority, unable(*asked, authority)?)));
        if let Some((authority, why)) = unable {
            let what = format!("cannot be asked of authority {}, {why}", shown(&authority.name));
            field.error(report, what, Some("put that authority into a policy of its own, without the annotation"));
        }
        let attested = |authority: &Authority| !authority.attestations.is_empty();
        if *asked == Asked::PerPlatform && unable.is_none() && !authorities.iter().any(attested) {
            let hint = "list attestations in its authorities, or take the annotation out";
            field.error(report, "is asked of a policy that wants nothing attested", Some(hint));
        }
    }
}

fn unable(asked: Asked, authority: &Authority) -> Option<&'static str> {
    match (asked, &authority.kind) {
        (Asked::Claim, AuthorityKind::Key(_)) => Some("a key, which claims nothing about a workflow"),
        (Asked::Claim | Asked::Annotations, AuthorityKind::Static(_)) => Some("which is static and looks at nothing"),
        (Asked::PerPlatform, AuthorityKind::Key(_) | AuthorityKind::Keyless(_))
            if authority.attestations.is_empty() =>
        {
            Some("which wants nothing attested")
        }
        (Asked::Time, AuthorityKind::Static(_)) => Some("which is static and knows no signed time"),
        (Asked::Time, AuthorityKind::Key(_)) if !authority.proof.log && !authority.proof.timestamp => {
            Some("a key without ctlog and rfc3161timestamp, which yields no signed time")
        }
        (Asked::Time, AuthorityKind::Key(_) | AuthorityKind::Keyless(_))
        | (Asked::Claim | Asked::Annotations, AuthorityKind::Keyless(_))
        | (Asked::Annotations, AuthorityKind::Key(_))
        | (Asked::PerPlatform, AuthorityKind::Key(_) | AuthorityKind::Keyless(_) | AuthorityKind::Static(_)) => None,
    }
}

/// What follows the prefix; the whole key where that is spelled otherwise, with space or in another case: nothing is called that, and
/// it is not passed over either.
fn ours(key: &str) -> Option<&str> {
    let spelled: String = key.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    let is_meant = spelled.get(..PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
    is_meant.then(|| key.strip_prefix(PREFIX).unwrap_or(key))
}

fn condition(name: &str, field: &Field<'_>, conditions: &mut Conditions, report: &mut Report) -> Option<Asked> {
    let claim = match name {
        "workflow-trigger" => &mut conditions.workflow.trigger,
        "workflow-sha" => &mut conditions.workflow.sha,
        "workflow-name" => &mut conditions.workflow.name,
        "workflow-repository" => &mut conditions.workflow.repository,
        "workflow-ref" => &mut conditions.workflow.reference,
        "annotations" => {
            conditions.annotations = pairs(field, report)?;
            return Some(Asked::Annotations);
        }
        "attestations-per-platform" => {
            conditions.attestations_per_platform = truth(field, report)?;
            return conditions.attestations_per_platform.then_some(Asked::PerPlatform);
        }
        _ => {
            refuse(field, report);
            return None;
        }
    };
    *claim = Some(field.text(report)?.to_owned());
    Some(Asked::Claim)
}

fn refuse(field: &Field<'_>, report: &mut Report) {
    let known: Vec<_> = KNOWN.iter().chain(&guards::KNOWN).map(|known| format!("{PREFIX}{known}")).collect();
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let what = format!("is nothing that this build acts on; expected {}", listed(&known));
    field.error(
        report,
        what,
        Some("correct its name, or take it out: an annotation under pratique.dev/ is a demand, and is not ignored"),
    );
}

/// `key=value` pairs with commas between them: no key twice, nothing empty, no space at an edge. A value may hold `=`, not a comma.
fn pairs(field: &Field<'_>, report: &mut Report) -> Option<BTreeMap<String, String>> {
    let written = field.text(report)?;
    let mut pairs = BTreeMap::new();
    let is_plain = |text: &str| !text.is_empty() && text.trim() == text;
    for pair in written.split(',') {
        let Some((key, value)) = pair.split_once('=').filter(|(key, value)| is_plain(key) && is_plain(value)) else {
            let what = format!("holds {}; expected key=value, with commas between several", shown(pair));
            field.error(
                report,
                what,
                Some("write it as sha=abc,team=x: no spaces, nothing empty, no comma in a value"),
            );
            return None;
        };
        if pairs.insert(key.to_owned(), value.to_owned()).is_some() {
            field.error(
                report,
                format!("names {} twice", shown(key)),
                Some("keep one of the two: both can never hold"),
            );
            return None;
        }
    }
    Some(pairs)
}

/// Annotations are texts, in a cluster too.
fn truth(field: &Field<'_>, report: &mut Report) -> Option<bool> {
    match field.text_if_any() {
        Some("true") => Some(true),
        Some("false") => Some(false),
        other => {
            let seen = other.map_or_else(|| "no text".to_owned(), shown);
            let what = format!("is {seen}; expected \"true\" or \"false\"");
            let hint = match other {
                None => "write it in quotes: the values of annotations are texts",
                Some(_) => "write one of the two, or leave the annotation out",
            };
            field.error(report, what, Some(hint));
            None
        }
    }
}
