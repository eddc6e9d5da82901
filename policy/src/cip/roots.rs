//! The `TrustRoot` documents of all files, by name, and references to them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    LoadError,
    field::{Field, listed},
    report::{Report, shown},
};
use crate::{
    authority::RootRef,
    policy_set::{Place, Policy},
    trust_root::TrustRoot,
};

/// All that were written, the flawed ones too: a reference to one of these is no flaw of its own.
#[derive(Debug, Default)]
pub(super) struct Roots(BTreeMap<String, Root>);

/// One `TrustRoot` document.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) place: Place,
    /// None where it is flawed, which was reported then.
    pub(super) sound: Option<Sound>,
}

/// A trust root that can be used, and which lists it has.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) trust_root: TrustRoot,
    pub(super) holds: BTreeSet<Part>,
}

/// A list of `sigstoreKeys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    CertificateAuthorities,
    Logs,
    CertificateLogs,
    TimestampAuthorities,
}

impl Part {
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::CertificateAuthorities => "certificateAuthorities",
            Self::Logs => "tLogs",
            Self::CertificateLogs => "ctLogs",
            Self::TimestampAuthorities => "timestampAuthorities",
        }
    }
}

impl Roots {
    /// Takes one in. A name that is taken is a flaw.
    pub(super) fn add(&mut self, name: String, root: Root) -> Result<(), LoadError> {
        if let Some(other) = self.0.get(&name) {
            return Err(LoadError {
                place: root.place,
                field: "metadata.name".to_owned(),
                what: format!("\"{name}\" is the name of the TrustRoot at {} already", other.place),
                hint: Some("give each TrustRoot a name of its own".to_owned()),
            });
        }
        self.0.insert(name, root);
        Ok(())
    }

    /// Reads a `trustRootRef` to a root that has `part`. What is flawed is reported, and named all the same.
    pub(super) fn refer(&self, field: &Field<'_>, part: Part, report: &mut Report) -> RootRef {
        let Some(name) = field.text(report) else {
            return RootRef::Configured;
        };
        match self.0.get(name) {
            None => self.report_unknown(field, name, report),
            Some(root) => {
                if root.sound.as_ref().is_some_and(|sound| !sound.holds.contains(&part)) {
                    let what = format!("is {}, a TrustRoot without {}", shown(name), part.key());
                    let hint = format!("write {} into its sigstoreKeys, or name another", part.key());
                    field.error(report, what, Some(&hint));
                }
            }
        }
        RootRef::Named(name.to_owned())
    }

    /// Whether what is referred to is known to lack `part`.
    pub(super) fn lacks(&self, root: &RootRef, part: Part) -> bool {
        let RootRef::Named(name) = root else {
            return false;
        };
        self.0.get(name).and_then(|root| root.sound.as_ref()).is_some_and(|sound| !sound.holds.contains(&part))
    }

    /// What a reference stands for: two roots of one name are two roots.
    pub(super) fn content_digest(&self, name: &str) -> Option<[u8; 32]> {
        self.0.get(name)?.sound.as_ref().map(|sound| sound.trust_root.content_digest())
    }

    /// A note for each that no policy refers to: somebody meant it to count.
    pub(super) fn unused(&self, policies: &[Policy]) -> Vec<String> {
        let trusts = policies.iter().flat_map(|policy| &policy.authorities).map(|authority| &authority.proof.trust);
        let named = trusts.flat_map(|trust| [&trust.ca, &trust.log, &trust.timestamp]);
        let used: BTreeSet<_> = named
            .filter_map(|root| match root {
                RootRef::Named(name) => Some(name.as_str()),
                RootRef::Configured => None,
            })
            .collect();
        let unused = self.0.iter().filter(|(name, _)| !used.contains(name.as_str()));
        unused
            .map(|(name, root)| format!("{}: metadata.name: no policy refers to TrustRoot \"{name}\"", root.place))
            .collect()
    }

    pub(super) fn into_trust_roots(self) -> BTreeMap<String, TrustRoot> {
        let sound = |(name, root): (String, Root)| Some((name, root.sound?.trust_root));
        self.0.into_iter().filter_map(sound).collect()
    }

    fn report_unknown(&self, field: &Field<'_>, name: &str, report: &mut Report) {
        let known: Vec<_> = self.0.keys().map(String::as_str).collect();
        let expected = if known.is_empty() {
            "there is no TrustRoot document in the policy files".to_owned()
        } else {
            format!("expected {}", listed(&known))
        };
        let hint = "write a TrustRoot document with that name and sigstoreKeys into a policy file, or leave trustRootRef out \
                    and set policy.trust_root in the configuration";
        field.error(report, format!("is {}; {expected}", shown(name)), Some(hint));
    }
}
