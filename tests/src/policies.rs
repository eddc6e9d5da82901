//! Policies as an operator writes them.

/// A policy whose one authority, `release`, accepts one identity for `glob`.
///
/// The identity's subject is the last line, line 13: what else the authority, and then the spec, are to say may follow.
#[must_use]
pub fn keyless(name: &str, glob: &str, issuer: &str, subject: &str) -> String {
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: {name}
spec:
  images:
  - glob: \"{glob}\"
  authorities:
  - name: release
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
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: {name}
spec:
  images:
  - glob: \"{glob}\"
  authorities:
  - name: decided
    static:
      action: {action}
"
    )
}
