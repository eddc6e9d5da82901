//! `attestation`: what is attested about an image, each verified before it is told.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use policy::{Form, Judge, Mode, PolicySet, UntrustedEvidence, UntrustedPiece, VerifiedPiece};
use serde::{Deserialize, Serialize};

use super::{
    answer::{Attested, Failure, Judged, Kind, Told, Verdict},
    gather::{self, Subject},
    image::Image,
    request::Rules,
    rules, verify,
};
use crate::{
    admission::Offered,
    app::{App, InForce},
};

/// What of it.
pub(super) struct Wanted<'a> {
    pub(super) platform: Option<&'a str>,
    pub(super) predicate_type: Option<&'a str>,
}

/// A signature is no attestation, though its newer form is a statement too.
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

/// Types told of one image, where no type is asked for: publishers write a handful.
const TYPES_MAX: usize = 32;

pub(super) async fn attestations(
    app: &Arc<App>,
    image: &str,
    wanted: &Wanted<'_>,
    rules: &Rules,
) -> Result<Attested, Failure> {
    let in_force = app.in_force();
    let image = Image::parse(image, &in_force)?;
    let rules::Loaded { set, notes } = rules::policies(&in_force, rules, &image.repository)?;
    // Which places are asked does not depend on the type.
    let places = Arc::new(judge(&in_force, &set, wanted.predicate_type.unwrap_or("custom"), rules)?);
    let subject = gather::subject(app, &in_force, &image, wanted.platform).await?;
    let gathered = gather::evidence(app, &in_force, &places, &subject, rules.attachment_bytes_max).await;
    let types = match wanted.predicate_type {
        Some(one) => vec![one.to_owned()],
        None => types(&places, &subject, &gathered.evidence),
    };
    let judges: Result<Vec<_>, Failure> = types
        .into_iter()
        .map(|predicate_type| Ok((judge(&in_force, &set, &predicate_type, rules)?, predicate_type)))
        .collect();
    let (judges, now) = (judges?, app.clock.now());
    gather::judging(move || {
        let mut attested = Attested {
            image: image.typed.clone(),
            repository: subject.repository.clone(),
            digest: subject.digest().clone(),
            checks: Vec::new(),
            attestations: Vec::new(),
            failures: Vec::new(),
            notes,
        };
        for (judge, predicate_type) in &judges {
            let assessment = judge.survey(&subject.repository, subject.digest(), &gathered.evidence, now);
            let verdict = gather::judged(&image.typed, &subject.repository, subject.digest(), &assessment);
            tell(judge, predicate_type, &verdict, &gathered, &mut attested);
        }
        if judges.is_empty() {
            let told = unasked(&gathered.evidence);
            let what = || format!("nothing is attested about {}@{}", subject.repository, subject.digest());
            attested.failures.push(told.unwrap_or_else(|| Failure::no(what())));
        }
        attested
    })
    .await
}

fn judge(in_force: &InForce, set: &PolicySet, predicate_type: &str, rules: &Rules) -> Result<Judge, Failure> {
    let set = set.asking_for(predicate_type).map_err(|why| {
        let hint = "say who signs by --certificate-identity and --certificate-oidc-issuer, or by --key; a type is a URI or a short \
                    name of cosign's";
        Failure::usage(why, hint)
    })?;
    rules::judge(in_force, set, rules)
}

/// The types that are there, signed well or not.
fn types(judge: &Judge, subject: &Subject, evidence: &UntrustedEvidence) -> Vec<String> {
    let named = evidence.pieces.iter().filter_map(|piece| judge.untrusted_predicate_type(piece, subject.digest()));
    let types: BTreeSet<_> = named.filter(|it| it != SIGNATURE).collect();
    types.into_iter().take(TYPES_MAX).collect()
}

/// A place that did not answer may hold what was not found.
fn unasked(evidence: &UntrustedEvidence) -> Option<Failure> {
    let told: Vec<_> = evidence.unasked.iter().map(|it| format!("{}: {}", it.origin, it.why)).collect();
    (!told.is_empty()).then(|| Failure::unanswered(format!("could not ask {}", told.join("; "))))
}

/// Whom any policy for this image believes is believed.
fn tell(judge: &Judge, predicate_type: &str, judged: &Judged, gathered: &Offered, attested: &mut Attested) {
    let mut found = verify::verified(&judged.policies);
    // A policy that only warns lets in; where another is enforced, it does not vouch.
    let is_enforced =
        |name: &str| judged.policies.iter().any(|it| it.policy.as_deref() == Some(name) && it.mode == Mode::Enforce);
    if judged.policies.iter().any(|it| it.mode == Mode::Enforce) {
        found.retain(|(policy, _, _)| is_enforced(policy));
    }
    if found.is_empty() {
        let kind = if judged.verdict == Verdict::Undecided { Kind::Unanswered } else { Kind::No };
        let message = judged.message.clone().unwrap_or_else(|| format!("nobody is asked who signed {predicate_type}"));
        attested.failures.push(Failure { kind, message, hint: judged.hint.clone() });
        return;
    }
    for line in verify::checks_of(judge, &found) {
        if !attested.checks.contains(&line) {
            attested.checks.push(line);
        }
    }
    let mut told = BTreeSet::new();
    for good in found.iter().flat_map(|(_, _, pieces)| *pieces).filter(|it| told.insert(it.evidence.clone())) {
        match told_of(judge, predicate_type, good, &gathered.evidence) {
            Ok(one) => attested.attestations.push(one),
            Err(why) => attested.failures.push(Failure::unanswered(format!("attestation {}: {why}", good.evidence))),
        }
    }
}

fn told_of(
    judge: &Judge,
    predicate_type: &str,
    good: &VerifiedPiece,
    evidence: &UntrustedEvidence,
) -> Result<Told, String> {
    let piece = evidence.pieces.iter().find(|it| it.digest() == &good.evidence && it.origin == good.origin);
    let piece = piece.ok_or("it is not there any more")?;
    Ok(Told {
        predicate_type: good.attestation.as_ref().map_or(predicate_type, |it| &it.predicate_type).to_owned(),
        envelope: envelope(judge, piece)?,
        signer: good.signer.clone(),
        workflow: good.workflow.clone(),
        signed_at: good.signed_at,
    })
}

/// The envelope as `cosign download attestation` prints it. Its payload is the statement that was verified, whatever else the
/// document that carries it may say.
fn envelope(judge: &Judge, piece: &UntrustedPiece) -> Result<String, String> {
    let unreadable = |error: serde_json::Error| format!("its envelope cannot be read: {error}");
    let signatures = match &piece.form {
        Form::Bundle => {
            serde_json::from_slice::<Bundle>(piece.bytes.bytes()).map_err(unreadable)?.dsse_envelope.signatures
        }
        Form::CosignSignature { .. } | Form::CosignAttestation { .. } => {
            serde_json::from_slice::<Signatures>(piece.bytes.bytes()).map_err(unreadable)?.signatures
        }
    };
    let payload = STANDARD.encode(judge.statement(piece)?);
    let envelope = Envelope { payload_type: "application/vnd.in-toto+json", payload, signatures };
    serde_json::to_string(&envelope).map_err(unreadable)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: &'static str,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Signatures,
}

#[derive(Deserialize)]
struct Signatures {
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}
