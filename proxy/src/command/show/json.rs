//! Answers for programs. Field names are part of the interface: docs/cli.md.

use oci::UnixTime;
use policy::PolicyFinding;
use serde_json::{Map, Value, json};

use super::Exit;
use crate::command::{
    answer::{
        Answer, Attested, CacheAnswer, Checked, Differences, Explained, Failure, Judged, Kind, TagTold, Verdict,
        Verified,
    },
    verify,
};

/// One document.
pub(super) fn document(answer: &Answer) -> Value {
    match answer {
        Answer::Verified(it) => verified(it),
        Answer::Attested(it) => attested(it),
        Answer::Explained(it) => explained(it),
        Answer::Tested(it) => json!({ "images": it.iter().map(tested).collect::<Vec<_>>() }),
        Answer::Differs(it) => differences(it),
        Answer::Checked(it) => checked(it),
        Answer::Cache(it) => cache(it),
        Answer::Failed(it) => failure(it),
    }
}

/// As it is: its types are made for this.
fn cache(answer: &CacheAnswer) -> Value {
    let value = match answer {
        CacheAnswer::Listed(it) => serde_json::to_value(it),
        CacheAnswer::Shown(it) => serde_json::to_value(it),
        CacheAnswer::Freed(it) => serde_json::to_value(it),
        CacheAnswer::Pinned(it) => serde_json::to_value(it),
        CacheAnswer::NewestForgotten(it) => serde_json::to_value(it),
        CacheAnswer::Scrubbed(it) => serde_json::to_value(it),
        CacheAnswer::Stats(it) => serde_json::to_value(it),
    };
    // Names, numbers and text only.
    value.unwrap_or_default()
}

/// How a command ends that was answered so.
pub(super) fn exit(answer: &Answer) -> Exit {
    match answer {
        Answer::Verified(Verified { is_verified: true, .. }) | Answer::Explained(_) => Exit::Yes,
        Answer::Verified(Verified { judged, .. }) => of_verdict(judged.verdict).max(Exit::Unanswered),
        Answer::Attested(it) if it.attestations.is_empty() => {
            it.failures.iter().map(|it| it.kind.into()).max().unwrap_or(Exit::No)
        }
        Answer::Attested(_) => Exit::Yes,
        Answer::Tested(it) => exit_of_test(it),
        Answer::Differs(it) if it.changed.is_empty() && it.tags.is_empty() => Exit::Yes,
        Answer::Checked(it) if it.errors.is_empty() => Exit::Yes,
        Answer::Differs(_) | Answer::Checked(_) => Exit::No,
        Answer::Cache(it) => super::cache::exit(it),
        Answer::Failed(it) => it.kind.into(),
    }
}

/// All are served, or not.
pub(super) fn exit_of_test(tested: &[Result<Judged, Failure>]) -> Exit {
    let all = tested.iter().all(|one| one.as_ref().is_ok_and(|judged| judged.verdict.serves()));
    let is_usage = tested.iter().any(|one| one.as_ref().is_err_and(|failure| failure.kind == Kind::Usage));
    match (all, is_usage) {
        (true, _) => Exit::Yes,
        (false, true) => Exit::Usage,
        (false, false) => Exit::No,
    }
}

fn of_verdict(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Undecided => Exit::Unanswered,
        // Served without being verified is no for who asks whether it is verified.
        Verdict::Served | Verdict::Warned | Verdict::Refused | Verdict::Absent => Exit::No,
    }
}

fn judged(it: &Judged) -> Map<String, Value> {
    let time = |time: Option<UnixTime>| time.map(|time| time.to_string());
    let Value::Object(fields) = json!({
        "image": it.image,
        "repository": it.repository,
        "digest": it.digest,
        "verdict": it.verdict,
        "message": it.message,
        "hint": it.hint,
        "decidedAt": time(it.decided_at),
        "endsAt": time(it.ends_at),
        "policies": it.policies.iter().map(policy).collect::<Vec<_>>(),
    }) else {
        return Map::new();
    };
    fields
}

fn policy(it: &PolicyFinding) -> Value {
    let finding = match &it.finding {
        policy::Finding::Verified { authority, pieces } => json!({
            "finding": "verified",
            "authority": authority,
            "evidence": pieces.iter().map(verified_piece).collect::<Vec<_>>(),
        }),
        policy::Finding::Unverified { by } => json!({ "finding": "unverified", "by": by }),
        policy::Finding::Failed { reason, message } => {
            json!({ "finding": "failed", "reason": reason, "message": message })
        }
        policy::Finding::Undecided { why } => json!({ "finding": "undecided", "why": why }),
        _ => json!({ "finding": "unknown" }),
    };
    let mut fields = json!({ "policy": it.policy, "mode": it.mode.as_str(), "authorities": authorities(it) });
    if let (Some(fields), Value::Object(finding)) = (fields.as_object_mut(), finding) {
        fields.extend(finding);
    }
    fields
}

fn verified_piece(it: &policy::VerifiedPiece) -> Value {
    let mut fields = signed(&it.signer, &it.workflow, it.signed_at);
    fields.insert("evidence".to_owned(), it.evidence.to_string().into());
    fields.insert("from".to_owned(), it.origin.to_string().into());
    if let Some(attested) = &it.attestation {
        fields.insert("predicateType".to_owned(), attested.predicate_type.as_str().into());
    }
    fields.into()
}

fn signed(signer: &policy::Signer, workflow: &policy::Workflow, at: Option<UnixTime>) -> Map<String, Value> {
    let mut fields = Map::new();
    match signer {
        policy::Signer::Certificate { issuer, subject } => {
            fields.insert("issuer".to_owned(), issuer.as_str().into());
            fields.insert("subject".to_owned(), subject.as_str().into());
        }
        policy::Signer::Key { fingerprint } => {
            fields.insert("key".to_owned(), format!("sha256:{fingerprint}").into());
        }
    }
    fields.extend(verify::claims(workflow));
    fields.insert("signedAt".to_owned(), at.map(|at| at.to_string()).into());
    fields
}

fn authorities(it: &PolicyFinding) -> Vec<Value> {
    let piece = |piece: &policy::PieceFinding| {
        json!({
            "evidence": piece.evidence,
            "from": piece.origin.to_string(),
            "failed": piece.failed,
            "told": piece.told,
        })
    };
    let authority = |it: &policy::AuthorityFinding| {
        json!({
            "authority": it.authority,
            "satisfied": it.satisfied,
            "evidence": it.pieces.iter().map(piece).collect::<Vec<_>>(),
            "evidenceNotTold": it.pieces_not_told,
        })
    };
    it.authorities.iter().map(authority).collect()
}

fn verified(it: &Verified) -> Value {
    let mut fields = judged(&it.judged);
    fields.insert("verified".to_owned(), it.is_verified.into());
    fields.insert("checks".to_owned(), it.checks.clone().into());
    fields.insert("signatures".to_owned(), it.signatures.clone().into());
    fields.insert("notes".to_owned(), it.notes.clone().into());
    fields.into()
}

fn attested(it: &Attested) -> Value {
    let one = |told: &crate::command::Told| {
        let mut fields = signed(&told.signer, &told.workflow, told.signed_at);
        fields.insert("predicateType".to_owned(), told.predicate_type.as_str().into());
        fields.insert("envelope".to_owned(), serde_json::from_str(&told.envelope).unwrap_or(Value::Null));
        Value::from(fields)
    };
    json!({
        "image": it.image,
        "repository": it.repository,
        "digest": it.digest,
        "checks": it.checks,
        "attestations": it.attestations.iter().map(one).collect::<Vec<_>>(),
        "failures": it.failures.iter().map(failure).collect::<Vec<_>>(),
        "notes": it.notes,
    })
}

fn explained(it: &Explained) -> Value {
    let mut fields = judged(&it.judged);
    fields.insert("image".to_owned(), it.image.as_str().into());
    fields.insert("digest".to_owned(), it.digest.to_string().into());
    fields.insert("stored".to_owned(), it.is_stored.into());
    fields.insert("through".to_owned(), it.through.as_ref().map(ToString::to_string).into());
    let tag = it.tag.as_deref().map(self::tag);
    fields.insert("tag".to_owned(), tag.into());
    fields.into()
}

fn tag(it: &TagTold) -> Value {
    let time = |at: &Option<UnixTime>| at.map(|at| at.to_string());
    let history = it.history.iter().map(|event| {
        let look = event.look.as_ref().map(|look| {
            json!({
                "at": look.at.to_string(),
                "served": look.served,
                "signed": time(&look.signed_at),
                "evidence": look.evidence.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "told": look.told,
            })
        });
        json!({ "digest": event.digest.to_string(), "since": event.at.to_string(), "answered": look })
    });
    let targets = it.targets.iter().map(|target| {
        json!({
            "digest": target.digest.to_string(),
            "served": target.served_at.to_string(),
            "signed": time(&target.signed_at),
        })
    });
    json!({
        "name": it.name,
        "digest": it.digest.to_string(),
        "since": it.seen_at.to_string(),
        "confirmed": it.checked_at.to_string(),
        "gone": time(&it.gone_at),
        "newest": it.newest.as_ref().map(|(digest, at)| json!({ "digest": digest.to_string(), "signed": at.to_string() })),
        "targets": targets.collect::<Vec<_>>(),
        "history": history.collect::<Vec<_>>(),
        "answer": it.answer.to_string(),
        "why": it.why,
    })
}

fn tested(it: &Result<Judged, Failure>) -> Value {
    match it {
        Ok(it) => judged(it).into(),
        Err(it) => failure(it),
    }
}

fn differences(it: &Differences) -> Value {
    let changed = |it: &crate::command::Changed| {
        json!({
            "repository": it.repository,
            "digest": it.digest,
            "from": it.from,
            "to": it.to,
            "message": it.message,
        })
    };
    let tag = |it: &crate::command::ChangedTag| {
        json!({
            "repository": it.repository.to_string(),
            "tag": it.tag,
            "from": it.from.to_string(),
            "to": it.to.to_string(),
            "message": it.message,
        })
    };
    json!({
        "kept": it.kept,
        "changed": it.changed.iter().map(changed).collect::<Vec<_>>(),
        "tags": it.tags.iter().map(tag).collect::<Vec<_>>(),
        "notes": it.notes,
    })
}

fn checked(it: &Checked) -> Value {
    json!({ "files": it.files, "policies": it.policies, "notes": it.notes, "errors": it.errors })
}

fn failure(it: &Failure) -> Value {
    json!({ "failure": it.kind, "message": it.message, "hint": it.hint })
}
