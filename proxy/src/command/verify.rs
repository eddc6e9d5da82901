//! `verify`: is this image signed as the rules want it?

use std::{collections::BTreeSet, sync::Arc};

use oci::{Digest, Repository};
use policy::{
    Authority, AuthorityKind, Finding, Form, Judge, PolicyFinding, Signer, UntrustedEvidence, VerifiedPiece, Workflow,
};
use serde_json::{Map, Value, json};

use super::{
    answer::{Failure, Verified},
    gather,
    image::Image,
    request::Rules,
    rules,
};
use crate::app::App;

pub(super) async fn verify(app: &Arc<App>, image: &str, rules: &Rules) -> Result<Verified, Failure> {
    let in_force = app.in_force();
    let image = Image::parse(image, &in_force)?;
    let rules::Loaded { set, notes } = rules::policies(&in_force, rules, &image.repository)?;
    let judge = Arc::new(rules::judge(&in_force, set, rules)?);
    let subject = gather::subject(app, &in_force, &image, None).await?;
    let gathered = gather::evidence(app, &in_force, &judge, &subject, rules.attachment_bytes_max).await;
    let now = app.clock.now();
    gather::judging(move || {
        let (repository, digest) = (&subject.repository, subject.digest());
        let assessment = judge.survey(repository, digest, &gathered.evidence, now);
        let judged = gather::judged(&image.typed, repository, digest, &assessment);
        let found = verified(&judged.policies);
        let is_verified = judged.verdict.serves() && found.len() == judged.policies.len() && !found.is_empty();
        let (mut checks, mut signatures) = (Vec::new(), Vec::new());
        if is_verified {
            checks = checks_of(&judge, &found);
            signatures = payloads(repository, digest, &found, &gathered.evidence);
        }
        Verified { judged, is_verified, checks, signatures, notes }
    })
    .await
}

/// A policy that evidence satisfied: its name, the authority's, and the pieces.
pub(super) type Satisfied<'a> = (&'a str, &'a str, &'a [VerifiedPiece]);

/// Those of `policies` that evidence satisfied.
pub(super) fn verified(policies: &[PolicyFinding]) -> Vec<Satisfied<'_>> {
    let mut verified = Vec::new();
    for found in policies {
        if let (Some(policy), Finding::Verified { authority, pieces }) = (&found.policy, &found.finding)
            && !pieces.is_empty()
        {
            verified.push((policy.as_str(), authority.as_str(), pieces.as_slice()));
        }
    }
    verified
}

/// What every one of these pieces was found to be; one line each, the same line once.
pub(super) fn checks_of(judge: &Judge, found: &[Satisfied<'_>]) -> Vec<String> {
    let mut checks: Vec<String> = Vec::new();
    for (policy, authority, _) in found {
        let named = judge.policies().policies().iter().find(|it| it.name() == *policy);
        let authority = named.and_then(|it| it.authorities().iter().find(|it| it.name == *authority));
        let Some((policy, authority)) = named.zip(authority) else { continue };
        let mut lines = checks_by(authority);
        let conditions = policy.conditions();
        if !conditions.annotations.is_empty() {
            lines.push(format!(
                "What was signed carries the annotations asked for: {}",
                pairs(conditions.annotations.iter())
            ));
        }
        if !conditions.workflow.is_empty() {
            let claims = conditions.workflow.claims().filter_map(|(name, value)| Some((name, value?)));
            lines.push(format!("The certificate names the workflow asked for: {}", pairs(claims)));
        }
        if policy.rule().is_some() {
            lines.push(format!("The rule of policy {} agrees", policy.name()));
        }
        for line in lines {
            if !checks.contains(&line) {
                checks.push(line);
            }
        }
    }
    checks
}

fn checks_by(authority: &Authority) -> Vec<String> {
    let mut lines = vec!["The signed document names the digest of this image".to_owned()];
    if authority.proof.log {
        lines.push("Its entry in the transparency log exists and is about this signature; verified offline".to_owned());
    }
    if authority.proof.timestamp {
        lines.push("Its timestamp was made by a trusted timestamp authority".to_owned());
    }
    match &authority.kind {
        AuthorityKind::Keyless(keyless) => {
            let published = if keyless.ignore_sct { "" } else { ", and was published in a certificate log" };
            lines.push(format!(
                "The signing certificate leads to a trusted certificate authority, was valid when it signed{published}"
            ));
            let whom: Vec<_> = keyless.identities.iter().map(ToString::to_string).collect();
            lines.push(format!("The certificate belongs to {}", whom.join(", or to ")));
        }
        AuthorityKind::Key(_) => lines.push("The signature was made with the given key".to_owned()),
        AuthorityKind::Static(_) => {}
    }
    for attestation in &authority.attestations {
        let rule = if attestation.rule.is_some() { ", and the policy's rule agrees with its content" } else { "" };
        lines.push(format!("The statement is of type {}{rule}", attestation.predicate_type.uri()));
    }
    lines
}

fn pairs<'a, N: std::fmt::Display + 'a, V: std::fmt::Display + 'a>(pairs: impl Iterator<Item = (N, V)>) -> String {
    pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

/// What was signed, in the form of cosign's output. A piece that satisfied several policies is told once.
fn payloads(
    repository: &Repository,
    digest: &Digest,
    found: &[Satisfied<'_>],
    evidence: &UntrustedEvidence,
) -> Vec<Value> {
    let mut told = BTreeSet::new();
    let pieces = found.iter().flat_map(|(_, _, pieces)| *pieces);
    let once: Vec<_> = pieces.filter(|piece| told.insert(piece.evidence.clone())).collect();
    once.into_iter().map(|piece| payload(repository, digest, piece, evidence)).collect()
}

fn payload(repository: &Repository, digest: &Digest, piece: &VerifiedPiece, evidence: &UntrustedEvidence) -> Value {
    let simple = evidence
        .pieces
        .iter()
        .find(|it| it.digest() == &piece.evidence && matches!(it.form, Form::CosignSignature { .. }))
        .and_then(|it| serde_json::from_slice::<Value>(it.bytes.bytes()).ok());
    let critical = simple.as_ref().and_then(|simple| simple.get("critical").cloned()).unwrap_or_else(|| {
        let kind =
            piece.attestation.as_ref().map_or("https://sigstore.dev/cosign/sign/v1", |it| it.predicate_type.as_str());
        json!({
            "identity": { "docker-reference": repository.canonical() },
            "image": { "docker-manifest-digest": digest.to_string() },
            "type": kind,
        })
    });
    let own = simple.as_ref().and_then(|simple| simple.get("optional")?.as_object().cloned()).unwrap_or_default();
    // What was verified stands last: the signer's own words do not replace it.
    let optional: Map<_, _> = own.into_iter().chain(facts(piece)).collect();
    json!({ "critical": critical, "optional": optional })
}

/// What is known of a piece besides its content, by cosign's names where it has one.
fn facts(piece: &VerifiedPiece) -> Map<String, Value> {
    let mut facts = Map::new();
    match &piece.signer {
        Signer::Certificate { issuer, subject } => {
            facts.insert("Issuer".to_owned(), issuer.as_str().into());
            facts.insert("Subject".to_owned(), subject.as_str().into());
        }
        Signer::Key { fingerprint } => {
            facts.insert("Key".to_owned(), format!("sha256:{fingerprint}").into());
        }
    }
    facts.extend(claims(&piece.workflow));
    facts.extend(piece.signed_at.map(|at| ("SignedAt".to_owned(), at.to_string().into())));
    facts.insert("Evidence".to_owned(), format!("{} from {}", piece.evidence, piece.origin).into());
    facts
}

/// Cosign's names for the claims of a workflow.
pub(super) fn claims(workflow: &Workflow) -> Vec<(String, Value)> {
    let name = |claim: &str| match claim {
        "trigger" => "githubWorkflowTrigger",
        "sha" => "githubWorkflowSha",
        "name" => "githubWorkflowName",
        "repository" => "githubWorkflowRepository",
        _ => "githubWorkflowRef",
    };
    workflow.claims().filter_map(|(claim, value)| Some((name(claim).to_owned(), value?.into()))).collect()
}
