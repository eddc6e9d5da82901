//! A record as a tree: policy, authority, piece of evidence.

use std::fmt::Write as _;

use oci::UnixTime;
use policy::{AuthorityFinding, Finding, Mode, PieceFinding, PolicyFinding, VerifiedPiece};

use super::{Exit, Shown};
use crate::command::answer::{Explained, Judged, LookTold, TagAnswer, TagTold};

pub(super) fn tell(explained: &Explained, shown: &mut Shown) {
    let judged = &explained.judged;
    shown.out(&format!("{}@{}", judged.repository, explained.digest));
    if let Some(tag) = &explained.tag {
        self::tag(tag, shown);
    }
    if let Some(index) = &explained.through {
        let about = if judged.digest == explained.digest { "what is asked of it besides" } else { "about the index" };
        shown.out(&format!("  through index {index}, which lists it; what follows is {about}"));
    }
    let when = match (explained.is_stored, judged.decided_at, judged.ends_at) {
        (false, _, _) => "by the evidence that is stored; no verdict is".to_owned(),
        (true, Some(decided), Some(ends)) => format!("decided {decided}, holds until {ends}"),
        (true, Some(decided), None) => format!("decided {decided}, holds until policy or trust root change"),
        (true, None, _) => "decided".to_owned(),
    };
    shown.out(&format!("  {}: {when}", judged.verdict.as_str()));
    let message = judged.message.iter().map(|message| format!("  {message}"));
    let hint = judged.hint.iter().map(|hint| format!("  hint: {hint}"));
    message.chain(hint).for_each(|line| shown.out(&line));
    policies(&judged.policies, 1, &mut shown.stdout);
    shown.exit = Exit::Yes;
}

/// Where a tag leads, and where it has led.
fn tag(tag: &TagTold, shown: &mut Shown) {
    let gone = tag.gone_at.map_or_else(String::new, |at| format!(", gone since {at}"));
    shown
        .out(&format!("  tag {}: meant this since {}, last confirmed {}{gone}", tag.name, tag.seen_at, tag.checked_at));
    let instead = match &tag.answer {
        // It is what the tag means, and the verdict on it is told below.
        TagAnswer::Served { .. } => None,
        TagAnswer::LastGood { .. } => Some(format!("is answered with {}", tag.answer)),
        TagAnswer::Refused => Some("is refused".to_owned()),
        TagAnswer::Undecided => Some("cannot be decided on".to_owned()),
    };
    if let Some(instead) = instead {
        let why = tag.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        shown.out(&format!("  tag {} {instead}{why}", tag.name));
    }
    if let Some((digest, at)) = &tag.newest {
        shown.out(&format!("  newest served under it: {digest}, signed {at}"));
    }
    if !tag.targets.is_empty() {
        shown.out("  served under it, the last first:");
    }
    for target in &tag.targets {
        shown.out(&format!("    {}  {}{}", target.served_at, target.digest, signed(target.signed_at)));
    }
    shown.out("  what it has meant, the newest first:");
    for event in &tag.history {
        let answered = match &event.look {
            None => "never asked for".to_owned(),
            Some(look) => answered(look),
        };
        shown.out(&format!("    {}  {}  {answered}", event.at, event.digest));
    }
}

fn answered(look: &LookTold) -> String {
    let (said, told) = (if look.served { "served" } else { "not served" }, look.told.as_str());
    let evidence: Vec<_> = look.evidence.iter().map(ToString::to_string).collect();
    let by = if evidence.is_empty() { String::new() } else { format!(", by {}", evidence.join(", ")) };
    let told = if told.is_empty() { String::new() } else { format!(": {told}") };
    format!("{said}{}{by}{told}", signed(look.signed_at))
}

fn signed(at: Option<UnixTime>) -> String {
    at.map_or_else(String::new, |at| format!(", signed {at}"))
}

/// Each policy with what was looked at for it.
pub(super) fn policies(policies: &[PolicyFinding], depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for found in policies {
        let name = found.policy.as_deref().unwrap_or("no_match");
        let mode = if found.mode == Mode::Warn { " (warn)" } else { "" };
        let _ = writeln!(out, "{indent}policy {name}{mode}: {}", finding(&found.finding));
        for authority in &found.authorities {
            self::authority(authority, &found.finding, depth + 1, out);
        }
    }
}

fn finding(finding: &Finding) -> String {
    match finding {
        Finding::Verified { authority, .. } => format!("verified by authority \"{authority}\""),
        Finding::Unverified { by } => format!("not verified, let in by {by}"),
        Finding::Failed { reason, .. } => format!("failed: {reason}"),
        Finding::Undecided { why } => format!("undecided: {why}"),
        _ => "unknown finding".to_owned(),
    }
}

fn authority(authority: &AuthorityFinding, found: &Finding, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let said = if authority.satisfied { "satisfied" } else { "not satisfied" };
    let _ = writeln!(out, "{indent}authority \"{}\": {said}", authority.authority);
    let mut good: &[_] = &[];
    if let Finding::Verified { authority: by, pieces } = found
        && *by == authority.authority
    {
        good = pieces;
    }
    for piece in &authority.pieces {
        self::piece(piece, good, depth + 1, out);
    }
    if authority.pieces.is_empty() && !authority.satisfied {
        let _ = writeln!(out, "{indent}  no evidence was there for it");
    }
    if authority.pieces_not_told > 0 {
        let _ = writeln!(out, "{indent}  and {} more", authority.pieces_not_told);
    }
}

fn piece(piece: &PieceFinding, good: &[VerifiedPiece], depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let reason = piece.failed.map_or_else(|| "good".to_owned(), |reason| reason.to_string());
    let _ = writeln!(out, "{indent}{} from {}: {reason}: {}", piece.evidence, piece.origin, piece.told);
    let Some(verified) = good.iter().find(|it| it.evidence == piece.evidence && piece.failed.is_none()) else { return };
    if let Some(attested) = &verified.attestation {
        let _ = writeln!(out, "{indent}  type {}", attested.predicate_type);
    }
    if let Some(at) = verified.signed_at {
        let _ = writeln!(out, "{indent}  signed {at}");
    }
    for (claim, value) in verified.workflow.claims() {
        let Some(value) = value else { continue };
        let _ = writeln!(out, "{indent}  workflow {claim}: {}", value.escape_debug());
    }
}

/// What was looked at, where nothing sufficed.
pub(super) fn pieces(judged: &Judged, out: &mut String) {
    policies(&judged.policies, 0, out);
}
