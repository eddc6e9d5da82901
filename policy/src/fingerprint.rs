//! What a verdict rests on besides the image: if any of it changes, the verdict is no longer looked at.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use crate::policy_set::{NoMatch, Policy};

/// The version of the judge, part of every fingerprint.
///
/// Rule: raise the number with every change after which the same evidence, policy and trust root could be judged otherwise, in this
/// crate; the versions of the crates that verify, and of the engine of rules, are repeated here, and a test compares them with the
/// workspace's lock file. All stored verdicts are then made again from stored evidence. Changes of wording alone need no new version.
pub const JUDGE_VERSION: &str = "4 sigstore-verify=0.15.1 sigstore-bundle=0.15.1 sigstore-crypto=0.15.1 \
    sigstore-merkle=0.15.1 sigstore-rekor=0.15.1 sigstore-trust-root=0.15.1 \
    sigstore-tsa=0.15.1 sigstore-types=0.15.1 rustls-webpki=0.103.16 \
    x509-cert=0.2.5 x509-tsp=0.1.0 cms=0.2.3 \
    aws-lc-rs=1.19.0 aws-lc-sys=0.47.0 regorus=0.14.1";

/// SHA-256 over the policies that match an image, `no_match`, the trust root's content and the judge's version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of what holds for one image by itself.
    pub(crate) fn of(policies: &[&Policy], no_match: NoMatch, trust_root: &[u8; 32]) -> Self {
        let mut forms: Vec<&[u8]> = policies.iter().map(|policy| policy.canonical_form()).collect();
        forms.sort_unstable();
        let mut hash = Parts::new("image");
        hash.part(JUDGE_VERSION.as_bytes());
        hash.part(trust_root);
        hash.part(match no_match {
            NoMatch::Deny => b"deny",
            NoMatch::Warn => b"warn",
            NoMatch::Allow => b"allow",
        });
        for form in forms {
            hash.part(form);
        }
        hash.finish()
    }

    /// Of what holds for a child, `self` being its own, through an index.
    pub(crate) fn through(self, index: Self) -> Self {
        let mut hash = Parts::new("child");
        hash.part(&index.0);
        hash.part(&self.0);
        hash.finish()
    }

    /// The 32 bytes, as a key of stored verdicts.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Hashes parts so that no two lists of parts look alike: each is preceded by its length.
struct Parts(Sha256);

impl Parts {
    fn new(domain: &str) -> Self {
        let mut parts = Self(Sha256::new());
        parts.part(b"pratique fingerprint");
        parts.part(domain.as_bytes());
        parts
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> Fingerprint {
        Fingerprint(self.0.finalize().into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_version_names_the_crates_that_are_locked() {
        let lock = include_str!("../../Cargo.lock");
        let crates: Vec<_> = JUDGE_VERSION.split(' ').filter_map(|part| part.split_once('=')).collect();
        assert_eq!(crates.len(), JUDGE_VERSION.split(' ').count() - 1, "{JUDGE_VERSION}");
        for (name, version) in crates {
            let locked = format!("name = \"{name}\"\nversion = \"");
            let locked: Vec<_> = lock.split(&locked).skip(1).filter_map(|rest| rest.split('"').next()).collect();
            assert_eq!(locked, [version], "{name}: write what is locked into JUDGE_VERSION");
        }
        // Whatever of the family comes to be used is named.
        for name in lock.lines().filter_map(|line| line.strip_prefix("name = \"sigstore-")) {
            let name = format!("sigstore-{}=", name.trim_end_matches('"'));
            assert!(name == "sigstore-tuf=" || JUDGE_VERSION.contains(&name), "{name} is not in JUDGE_VERSION");
        }
    }

    #[test]
    fn parts_cannot_be_shifted_into_one_another() {
        let of = |parts: &[&[u8]]| {
            let mut hash = Parts::new("test");
            for part in parts {
                hash.part(part);
            }
            hash.finish()
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab"]), of(&[b"ab", b""]));
    }

    #[test]
    fn every_ground_changes_the_fingerprint() {
        let base = Fingerprint::of(&[], NoMatch::Deny, &[0; 32]);
        assert_ne!(base, Fingerprint::of(&[], NoMatch::Allow, &[0; 32]));
        assert_ne!(base, Fingerprint::of(&[], NoMatch::Deny, &[1; 32]));
        assert_ne!(base, base.through(base));
        assert_ne!(base.through(base.through(base)), base.through(base).through(base));
    }
}
