//! Policies as an operator writes them.

use std::fmt::Display;

use crate::sigstore::Signer;

/// A policy whose one authority, `release`, accepts one identity for `glob`.
///
/// The identity's subject is the last line, line 13: what else the authority, and then the spec, are to say may follow.
#[must_use]
pub fn keyless(name: &str, glob: &str, issuer: &str, subject: &str) -> String {
    let head = head(name, glob);
    format!(
        "{head}  - name: release
    keyless:
      identities:
      - issuer: {issuer}
        subject: {subject}
"
    )
}

/// A policy whose only authority, `decided`, says `action` (`pass` or `fail`) without looking.
#[must_use]
pub fn decided(name: &str, glob: &str, action: &str) -> String {
    let head = head(name, glob);
    format!(
        "{head}  - name: decided
    static:
      action: {action}
"
    )
}

/// `policy`, of [`keyless`], with one more identity that may have signed.
#[must_use]
pub fn or_by(policy: &str, signer: &Signer) -> String {
    format!("{policy}      - issuer: {}\n        subject: {}\n", signer.issuer, signer.subject)
}

/// All that is before the authorities.
fn head(name: &str, glob: &str) -> String {
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: {name}
spec:
  images:
  - glob: \"{glob}\"
  authorities:
"
    )
}

/// `policy` with these annotations, each a line such as `pratique.dev/rollback: deny`.
///
/// # Panics
/// When there is no spec that they could stand before.
#[must_use]
pub fn annotated(policy: &str, annotations: impl IntoIterator<Item = impl Display>) -> String {
    const SPEC: &str = "\nspec:\n";
    assert!(policy.contains(SPEC), "no spec in:\n{policy}");
    let lines: Vec<_> = annotations.into_iter().map(|annotation| format!("    {annotation}\n")).collect();
    policy.replace(SPEC, &format!("\n  annotations:\n{}spec:\n", lines.concat()))
}
