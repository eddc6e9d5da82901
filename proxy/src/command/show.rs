//! Answers as a person reads them, or a program.
//!
//! What a program may want to read on goes to standard output, everything else to standard error.

mod cache;
mod explained;
mod json;

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use policy::{Finding, Signer, VerifiedPiece};
use serde_json::Value;

pub(super) use self::cache::size;
use super::answer::{Answer, Attested, Checked, Differences, Failure, Flaw, Judged, Kind, Told, Verdict, Verified};

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// What cosign prints: for `verify` a JSON array, for `attestation` one envelope a line.
    Cosign,
    /// Of attestations only what is attested.
    Predicate,
}

/// What a command prints, and what it ends with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// For whoever reads on.
    pub stdout: String,
    /// For whoever looks on.
    pub stderr: String,
    /// How the command ends.
    pub exit: Exit,
}

/// Exit codes; the greater one stands where there are several answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 0: done; yes.
    #[default]
    Yes,
    /// 3: nobody can say: upstream, store or server did not answer.
    Unanswered,
    /// 1: no; or what was given cannot be used.
    No,
    /// 2: the command line cannot be meant.
    Usage,
}

impl Exit {
    /// For the system.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Unanswered => 3,
        }
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::No => Self::No,
            Kind::Usage => Self::Usage,
            Kind::Unanswered => Self::Unanswered,
        }
    }
}

/// Makes an answer readable.
#[must_use]
pub fn show(answer: &Answer, output: Output) -> Shown {
    let mut shown = Shown::default();
    match answer {
        Answer::Failed(failure) => shown.failure(failure),
        _ if output == Output::Json => {
            shown.exit = json::exit(answer);
            let _ = writeln!(shown.stdout, "{}", json::document(answer));
        }
        Answer::Verified(verified) => shown.verified(verified, output),
        Answer::Attested(attested) => shown.attested(attested, output),
        Answer::Explained(explained) => explained::tell(explained, &mut shown),
        Answer::Tested(tested) => shown.tested(tested),
        Answer::Differs(differences) => shown.differences(differences),
        Answer::Checked(checked) => shown.checked(checked),
        Answer::Cache(answer) => cache::tell(answer, &mut shown),
    }
    shown
}

impl Shown {
    fn out(&mut self, line: &str) {
        let _ = writeln!(self.stdout, "{line}");
    }

    fn err(&mut self, line: &str) {
        let _ = writeln!(self.stderr, "{line}");
    }

    fn failure(&mut self, failure: &Failure) {
        self.err(&format!("pratique: {}", failure.message));
        if let Some(hint) = &failure.hint {
            self.err(&format!("hint: {hint}"));
        }
        self.exit = self.exit.max(failure.kind.into());
    }

    fn notes(&mut self, notes: &[String]) {
        for note in notes {
            self.err(&format!("note: {note}"));
        }
    }

    /// The head of cosign's output, in our words.
    fn head(&mut self, image: &str, checks: &[String], pieces: &str) {
        self.err(&format!(
            "\nVerification for {image} --\nThe following checks were performed on each of these {pieces}:"
        ));
        for check in checks {
            self.err(&format!("  - {check}"));
        }
        self.err("");
    }

    fn verified(&mut self, verified: &Verified, output: Output) {
        self.notes(&verified.notes);
        let judged = &verified.judged;
        if !verified.is_verified {
            self.unverified(judged);
            return;
        }
        let attests = |piece: &VerifiedPiece| piece.attestation.is_some();
        let attested = judged
            .policies
            .iter()
            .any(|policy| matches!(&policy.finding, Finding::Verified { pieces, .. } if pieces.iter().any(attests)));
        self.head(&judged.image, &verified.checks, if attested { "pieces of evidence" } else { "signatures" });
        if output == Output::Text {
            for signature in &verified.signatures {
                let optional = signature.get("optional").and_then(Value::as_object);
                for (name, value) in optional.into_iter().flatten() {
                    // The signer's own words must not steer the terminal.
                    let value =
                        value.as_str().map_or_else(|| value.to_string(), |text| text.escape_debug().to_string());
                    self.err(&format!("{}: {value}", name.escape_debug()));
                }
                self.out(&signature.to_string());
            }
        } else {
            let array = Value::from(verified.signatures.clone());
            self.out(&array.to_string());
        }
    }

    fn unverified(&mut self, judged: &Judged) {
        let message = match judged.verdict {
            Verdict::Served | Verdict::Warned => {
                let why = judged.message.clone().unwrap_or_else(|| "no evidence was asked for".to_owned());
                format!("{} is served, and is not verified: {why}", judged.image)
            }
            Verdict::Refused | Verdict::Absent | Verdict::Undecided => judged.message.clone().unwrap_or_default(),
        };
        let kind = if judged.verdict == Verdict::Undecided { Kind::Unanswered } else { Kind::No };
        self.failure(&Failure { kind, message, hint: judged.hint.clone() });
        explained::pieces(judged, &mut self.stderr);
    }

    fn attested(&mut self, attested: &Attested, output: Output) {
        self.notes(&attested.notes);
        if !attested.attestations.is_empty() {
            self.head(&attested.image, &attested.checks, "attestations");
        }
        for told in &attested.attestations {
            self.signer(told);
            match (output, predicate(told)) {
                (Output::Predicate, Some(predicate)) => self.out(&predicate),
                (Output::Predicate, None) => {
                    self.failure(&Failure::unanswered(format!(
                        "a statement of type {} has no predicate",
                        told.predicate_type
                    )));
                }
                (Output::Text | Output::Json | Output::Cosign, _) => self.out(&told.envelope),
            }
        }
        for failure in &attested.failures {
            self.failure(failure);
        }
        // Asked for whatever there is, a type that nobody believed has signed does not spoil those that somebody has.
        if !attested.attestations.is_empty() {
            self.exit = Exit::Yes;
        }
    }

    /// Who attested, in cosign's words.
    fn signer(&mut self, told: &Told) {
        match &told.signer {
            Signer::Certificate { issuer, subject } => {
                self.err(&format!("Certificate subject: {}", subject.escape_debug()));
                self.err(&format!("Certificate issuer URL: {}", issuer.escape_debug()));
            }
            Signer::Key { .. } => self.err(&format!("Signed by: {}", told.signer)),
        }
        for (claim, value) in told.workflow.claims() {
            let Some(value) = value else { continue };
            self.err(&format!("GitHub Workflow {claim}: {}", value.escape_debug()));
        }
    }

    fn tested(&mut self, tested: &[Result<Judged, Failure>]) {
        for one in tested {
            match one {
                Ok(judged) => {
                    self.out(&format!("{}: {}", judged.image, judged.verdict.as_str()));
                    self.out(&format!("  {}@{}", judged.repository, judged.digest));
                    let message = judged.message.iter().map(|message| format!("  {message}"));
                    let hint = judged.hint.iter().map(|hint| format!("  hint: {hint}"));
                    message.chain(hint).for_each(|line| self.out(&line));
                    explained::policies(&judged.policies, 1, &mut self.stdout);
                }
                Err(failure) => self.failure(failure),
            }
        }
        self.exit = json::exit_of_test(tested);
    }

    fn differences(&mut self, differences: &Differences) {
        self.notes(&differences.notes);
        for changed in &differences.changed {
            let (from, to) = (changed.from.as_str(), changed.to.as_str());
            self.out(&format!("{}@{}: {from} -> {to}", changed.repository, changed.digest));
            if let Some(message) = &changed.message {
                self.out(&format!("  {message}"));
            }
        }
        for changed in &differences.tags {
            self.out(&format!("{}:{}: {} -> {}", changed.repository, changed.tag, changed.from, changed.to));
            if let Some(message) = &changed.message {
                self.out(&format!("  {message}"));
            }
        }
        let (kept, changed, tags) = (differences.kept, differences.changed.len(), differences.tags.len());
        let of_tags = if tags == 0 { String::new() } else { format!(", and {}", counted(tags, "tag", "tags")) };
        self.err(&format!("{kept} kept images were judged again; {changed} would change{of_tags}"));
        self.exit = if changed == 0 && tags == 0 { Exit::Yes } else { Exit::No };
    }

    fn checked(&mut self, checked: &Checked) {
        self.notes(&checked.notes);
        for flaw in &checked.errors {
            self.err(&flaw.to_string());
        }
        if checked.errors.is_empty() {
            let (policies, files) = (checked.policies.len(), checked.files.len());
            let names = checked.policies.join(", ");
            self.out(&format!(
                "{} in {}: {names}",
                counted(policies, "policy", "policies"),
                counted(files, "file", "files")
            ));
        } else {
            let (errors, files) = (checked.errors.len(), checked.files.len());
            self.err(&format!("{} in {}", counted(errors, "problem", "problems"), counted(files, "file", "files")));
            self.exit = Exit::No;
        }
    }
}

pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// What is attested, as `jq .predicate` shows it.
fn predicate(told: &Told) -> Option<String> {
    let envelope: Value = serde_json::from_str(&told.envelope).ok()?;
    let payload = STANDARD.decode(envelope.get("payload")?.as_str()?).ok()?;
    let statement: Value = serde_json::from_slice(&payload).ok()?;
    serde_json::to_string_pretty(statement.get("predicate")?).ok()
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, field, what, hint } = self;
        if !file.is_empty() {
            write!(f, "{file}")?;
            if *line > 0 {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        f.write_str(what)?;
        hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}
