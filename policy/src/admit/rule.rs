//! What the rules of a policy say: of one attestation, and of what all authorities found.

use std::collections::BTreeMap;

use super::{
    case::{Case, Good, Satisfied},
    config,
};
use crate::{
    authority::Attestation,
    evidence::UntrustedPiece,
    policy_set::PolicyRule,
    predicate::PredicateFault,
    refusal::{Reason, told},
    rego::{AttestationMatch, AuthorityMatch, Compliance, PolicyInput, Rego, RegoFault, RegoInput, SignatureMatch},
    verifier::{Examined, Flaw, Signer, examine},
};

/// Whether a statement that is signed says what the attestation's rule wants.
pub(super) fn of_attestation(
    case: &Case<'_>,
    piece: &UntrustedPiece,
    attested: &Attestation,
    rule: &Rego,
) -> Examined<()> {
    examine(|| {
        let whose = format!("attestation \"{}\"", told(&attested.name));
        let input = {
            let statement = case.statement(piece)?;
            attested.predicate_type.rego_input(&statement, case.bounds).map_err(|fault| match fault {
                PredicateFault::Input(fault) => flaw(&whose, &fault),
                mismatch @ PredicateFault::Mismatch { .. } => Flaw::new(Reason::RuleUnmet, mismatch.to_string()),
            })?
        };
        run(case, rule, &input, &whose)
    })
}

/// Whether what the authorities found is what the policy's rule wants.
pub(super) fn of_policy(case: &Case<'_>, rule: &PolicyRule, satisfied: &[Satisfied<'_>]) -> Examined<()> {
    examine(|| {
        let whose = "the policy";
        let mut input = PolicyInput {
            authority_matches: satisfied.iter().map(|one| (one.authority.name.clone(), matched(one))).collect(),
            config: BTreeMap::new(),
        };
        if rule.fetch_config_file {
            input.config = config::by_platform(&case.evidence.configs)?;
        }
        let input = input.input(case.bounds).map_err(|fault| flaw(whose, &fault))?;
        run(case, &rule.rego, &input, whose)
    })
}

fn run(case: &Case<'_>, rule: &Rego, input: &RegoInput, whose: &str) -> Result<(), Flaw> {
    let ruling = rule.evaluate(input, case.bounds, case.now).map_err(|fault| flaw(whose, &fault))?;
    if ruling.read_clock {
        case.note_clock();
    }
    match ruling.outcome {
        Compliance::Compliant => Ok(()),
        Compliance::NotCompliant { why } => {
            Err(Flaw::new(Reason::RuleUnmet, format!("the rule of {whose} says no: {why}")))
        }
    }
}

/// What another try could change, or a larger limit, is undecided; the rest is a no.
fn flaw(whose: &str, fault: &RegoFault) -> Flaw {
    let reason = match fault {
        RegoFault::TimedOut { .. } | RegoFault::InputTooLarge { .. } => Reason::RuleUndecided,
        RegoFault::InputUnreadable { .. } => Reason::EvidenceUnreadable,
        RegoFault::Failed { .. } => Reason::RuleUnmet,
    };
    Flaw::new(reason, format!("the rule of {whose}: {fault}"))
}

/// By what an authority passed, in the controller's shape.
fn matched(satisfied: &Satisfied<'_>) -> AuthorityMatch {
    let Satisfied { authority, pieces } = satisfied;
    if pieces.is_empty() {
        AuthorityMatch::Static
    } else if authority.attestations.is_empty() {
        AuthorityMatch::Signatures(pieces.iter().map(signature).collect())
    } else {
        let mut by_name: BTreeMap<String, Vec<AttestationMatch>> = BTreeMap::new();
        for good in pieces {
            let Some(attested) = good.attested else { continue };
            by_name.entry(attested.name.clone()).or_default().push(AttestationMatch {
                signature: signature(good),
                predicate_type: attested.predicate_type.written().to_owned(),
                digest: good.piece.digest().to_string(),
            });
        }
        AuthorityMatch::Attestations(by_name)
    }
}

fn signature(good: &Good<'_>) -> SignatureMatch {
    let (subject, issuer) = match &good.signed.signer {
        Signer::Certificate { issuer, subject } => (subject.clone(), issuer.clone()),
        Signer::Key { .. } => (String::new(), String::new()),
    };
    let claims = good.signed.workflow.clone();
    SignatureMatch {
        id: good.signed.id.clone(),
        subject,
        issuer,
        github_workflow_trigger: claims.trigger.unwrap_or_default(),
        github_workflow_sha: claims.sha.unwrap_or_default(),
        github_workflow_name: claims.name.unwrap_or_default(),
        github_workflow_repo: claims.repository.unwrap_or_default(),
        github_workflow_ref: claims.reference.unwrap_or_default(),
    }
}
