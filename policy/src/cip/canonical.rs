//! What a policy asks, as bytes: equal where two policies ask the same, whatever comments and order of fields.
//!
//! Not in it, because nothing here acts on it: labels, others' annotations, `signatureFormat` and the values of `url`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;

use super::roots::Roots;
use crate::{
    authority::{Attestation, Authority, AuthorityKind, RootRef, StaticAction},
    condition::{Conditions, Workflow},
    evidence::Location,
    glob::Glob,
    guard::{Guards, Level},
    identity::Pattern,
    policy_set::{Policy, PolicyRule},
    rego::Rego,
};

/// Changes when the same bytes would come to mean something else.
const VERSION: u32 = 2;

/// The order of fields is part of the form. What a policy leaves out is left out.
#[derive(Serialize)]
struct Form<'p> {
    version: u32,
    name: &'p str,
    mode: &'static str,
    globs: Vec<&'p str>,
    authorities: Vec<AuthorityForm<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<RuleForm<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conditions: Option<ConditionsForm<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guards: Option<GuardsForm<'p>>,
}

#[derive(Serialize)]
struct AuthorityForm<'p> {
    name: &'p str,
    #[serde(flatten)]
    kind: KindForm<'p>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attestations: Vec<AttestationForm<'p>>,
    #[serde(skip_serializing_if = "Location::is_beside")]
    location: &'p Location,
    log: bool,
    timestamp: bool,
    trust: [RootForm<'p>; 3],
}

#[derive(Serialize)]
struct AttestationForm<'p> {
    name: &'p str,
    /// As written, too: a rule over all authorities is shown that.
    predicate_type: [&'p str; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'p str>,
}

/// By content, too: two roots of one name are two roots.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum RootForm<'p> {
    Configured,
    Named { name: &'p str, content: Option<String> },
}

#[derive(Serialize)]
struct RuleForm<'p> {
    rego: &'p str,
    fetch_config_file: bool,
}

#[derive(Serialize)]
struct ConditionsForm<'p> {
    workflow: &'p Workflow,
    annotations: &'p BTreeMap<String, String>,
    attestations_per_platform: bool,
}

/// Ages in milliseconds.
#[derive(Serialize)]
struct GuardsForm<'p> {
    rollback: LevelForm,
    max_age: Option<u128>,
    min_age: Option<u128>,
    bind_name: LevelForm,
    aliases: &'p BTreeSet<(String, String)>,
    last_good: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum LevelForm {
    Pass,
    Warn,
    Deny,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum KindForm<'p> {
    Keyless { identities: Vec<[PatternForm<'p>; 2]>, ignore_sct: bool },
    Key { pem: &'p str, hash: &'static str },
    Pass,
    Fail { message: Option<&'p str> },
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum PatternForm<'p> {
    Exact(&'p str),
    Regex(&'p str),
}

pub(super) fn form(policy: &Policy, roots: &Roots) -> Vec<u8> {
    let mut globs: Vec<_> = policy.globs.iter().map(Glob::as_str).collect();
    globs.sort_unstable();
    globs.dedup();
    let form = Form {
        version: VERSION,
        name: &policy.name,
        mode: policy.mode.as_str(),
        globs,
        authorities: policy.authorities.iter().map(|it| authority(it, roots)).collect(),
        rule: policy.rule.as_ref().map(rule),
        conditions: (policy.conditions != Conditions::default()).then(|| conditions(&policy.conditions)),
        guards: (policy.guards != Guards::default()).then(|| guards(&policy.guards)),
    };
    serde_json::to_vec(&form).expect("texts, booleans and lists of them are always JSON")
}

fn authority<'p>(authority: &'p Authority, roots: &Roots) -> AuthorityForm<'p> {
    let proof = &authority.proof;
    let trust = [&proof.trust.ca, &proof.trust.log, &proof.trust.timestamp];
    AuthorityForm {
        name: &authority.name,
        kind: kind(&authority.kind),
        attestations: authority.attestations.iter().map(attestation).collect(),
        location: &authority.location,
        log: proof.log,
        timestamp: proof.timestamp,
        trust: trust.map(|reference| root(reference, roots)),
    }
}

fn attestation(attestation: &Attestation) -> AttestationForm<'_> {
    AttestationForm {
        name: &attestation.name,
        predicate_type: [attestation.predicate_type.written(), attestation.predicate_type.uri()],
        rule: attestation.rule.as_ref().map(Rego::text),
    }
}

fn root<'p>(reference: &'p RootRef, roots: &Roots) -> RootForm<'p> {
    match reference {
        RootRef::Configured => RootForm::Configured,
        RootRef::Named(name) => RootForm::Named { name, content: roots.content_digest(name).map(hex::encode) },
    }
}

fn rule(rule: &PolicyRule) -> RuleForm<'_> {
    RuleForm { rego: rule.rego.text(), fetch_config_file: rule.fetch_config_file }
}

/// Each of them in a pattern: a condition that is added has to be added here.
fn conditions(Conditions { workflow, annotations, attestations_per_platform }: &Conditions) -> ConditionsForm<'_> {
    ConditionsForm { workflow, annotations, attestations_per_platform: *attestations_per_platform }
}

/// Likewise: a guard that is added has to be added here.
fn guards(Guards { rollback, max_age, min_age, bind_name, aliases, last_good }: &Guards) -> GuardsForm<'_> {
    let millis = |age: &Option<Duration>| age.map(|age| age.as_millis());
    GuardsForm {
        rollback: level(*rollback),
        max_age: millis(max_age),
        min_age: millis(min_age),
        bind_name: level(*bind_name),
        aliases,
        last_good: *last_good,
    }
}

fn level(level: Level) -> LevelForm {
    match level {
        Level::Pass => LevelForm::Pass,
        Level::Warn => LevelForm::Warn,
        Level::Deny => LevelForm::Deny,
    }
}

fn kind(kind: &AuthorityKind) -> KindForm<'_> {
    match kind {
        AuthorityKind::Keyless(keyless) => KindForm::Keyless {
            identities: keyless
                .identities
                .iter()
                .map(|identity| [pattern(&identity.issuer), pattern(&identity.subject)])
                .collect(),
            ignore_sct: keyless.ignore_sct,
        },
        AuthorityKind::Key(key) => KindForm::Key { pem: &key.pem, hash: key.hash.map_or("", |hash| hash.as_str()) },
        AuthorityKind::Static(StaticAction::Pass) => KindForm::Pass,
        AuthorityKind::Static(StaticAction::Fail { message }) => KindForm::Fail { message: message.as_deref() },
    }
}

fn pattern(pattern: &Pattern) -> PatternForm<'_> {
    match pattern {
        Pattern::Exact(text) => PatternForm::Exact(text),
        Pattern::Regex(regex) => PatternForm::Regex(regex.as_str()),
    }
}
