//! All policies in force, and which of them govern an image.

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use config::NoMatch;
use oci::{Digest, Repository, UpstreamName};

use crate::{
    authority::{Attestation, Authority, AuthorityKind},
    cip::{self, LoadErrors},
    condition::Conditions,
    glob::Glob,
    guard::Guards,
    predicate::PredicateType,
    rego::Rego,
    trust_root::TrustRoot,
};

/// The policy in force where the operator gives none.
const BUILT_IN: &str = include_str!("built-in.yaml");

/// One policy file: its name for messages, and its text. Reading it is the caller's business.
#[derive(Debug, Clone)]
pub struct SourceText {
    /// As it shall appear in errors.
    pub name: String,
    /// The whole file.
    pub text: String,
}

/// What the meaning of a policy depends on besides its text.
#[derive(Debug, Clone, Copy)]
pub struct LoadContext<'a> {
    /// The configured upstreams: the hosts that globs can name.
    pub upstreams: &'a [UpstreamName],
    /// What holds for images that no policy matches.
    pub no_match: NoMatch,
    /// The operator replaced the public-good trust root: `keyless.url` and `ctlog.url` may then be their own.
    pub custom_trust_root: bool,
}

/// What loading gives.
#[derive(Debug)]
pub struct Loaded {
    /// The policies.
    pub set: PolicySet,
    /// Lines for the start-up log: weakenings in force, and where the controller would do something else.
    pub notes: Vec<String>,
}

/// At least one policy, loaded as a whole or not at all.
#[derive(Debug, Clone)]
pub struct PolicySet {
    policies: Vec<Policy>,
    /// The `TrustRoot` documents, by name.
    trust_roots: BTreeMap<String, TrustRoot>,
    no_match: NoMatch,
}

impl PolicySet {
    /// Loads all files as one set.
    ///
    /// # Errors
    ///
    /// Every flaw found in any of them: nothing is loaded in part.
    pub fn load(sources: &[SourceText], context: &LoadContext<'_>) -> Result<Loaded, LoadErrors> {
        let cip::Loaded { policies, trust_roots, notes } = cip::load(sources, context)?;
        Ok(Loaded { set: Self { policies, trust_roots, no_match: context.no_match }, notes })
    }

    /// The policy that ships inside: Chainguard's public images.
    ///
    /// # Errors
    ///
    /// None in a build that passed its tests.
    pub fn built_in(context: &LoadContext<'_>) -> Result<Loaded, LoadErrors> {
        Self::load(&[SourceText { name: "built-in.yaml".to_owned(), text: BUILT_IN.to_owned() }], context)
    }

    /// The policies that govern this image, in the order of loading. All of them must pass.
    #[must_use]
    pub fn matching(&self, repository: &Repository, digest: &Digest) -> Vec<&Policy> {
        let image = format!("{}@{digest}", repository.canonical());
        self.policies.iter().filter(|policy| policy.matches(&image)).collect()
    }

    /// The same policies, each believing whom it believes, asking for attestations of this one type and for nothing else. What an
    /// authority asks of the words of such an attestation stays. For telling what is attested: nothing is admitted by such a set.
    ///
    /// # Errors
    /// When that is no predicate type, or a policy believes nobody who could attest: one clause.
    pub fn asking_for(&self, predicate_type: &str) -> Result<Self, String> {
        let (wanted, _) = PredicateType::parse(predicate_type).map_err(|error| format!("predicate type {error}"))?;
        let mut set = self.clone();
        for policy in &mut set.policies {
            let asked = policy.authorities.iter().filter_map(|authority| {
                let asked = matches!(authority.kind, AuthorityKind::Keyless(_) | AuthorityKind::Key(_));
                asked.then(|| authority.asking_for(&wanted))
            });
            let authorities: Vec<_> = asked.collect();
            if authorities.is_empty() {
                return Err(format!("policy {} believes nobody who could attest anything", policy.name));
            }
            policy.rule = None;
            policy.authorities = authorities;
            policy.canonical.extend_from_slice(format!("\nasking for {}", wanted.uri()).as_bytes());
        }
        Ok(set)
    }

    /// Whether some policy governs some digest of this repository.
    #[must_use]
    pub fn may_match_repository(&self, repository: &Repository) -> bool {
        let repository = repository.canonical();
        self.policies.iter().any(|policy| policy.globs.iter().any(|glob| glob.may_match_repository(&repository)))
    }

    /// What holds for images that no policy matches.
    #[must_use]
    pub fn no_match(&self) -> NoMatch {
        self.no_match
    }

    /// The trust roots that policies name, by name.
    pub(crate) fn trust_roots(&self) -> &BTreeMap<String, TrustRoot> {
        &self.trust_roots
    }

    /// All policies, in the order of loading; never empty.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }
}

/// One `ClusterImagePolicy`.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) globs: Vec<Glob>,
    pub(crate) authorities: Vec<Authority>,
    /// What it asks beyond one satisfied authority.
    pub(crate) rule: Option<PolicyRule>,
    /// What it asks of the very piece that satisfies.
    pub(crate) conditions: Conditions,
    /// What it asks where a tag leads to an image.
    pub(crate) guards: Guards,
    pub(crate) canonical: Vec<u8>,
    pub(crate) place: Place,
}

impl Policy {
    /// Unique in its set.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its failure leads to.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The images it governs; never empty.
    #[must_use]
    pub fn globs(&self) -> &[Glob] {
        &self.globs
    }

    /// Whom it believes; never empty.
    #[must_use]
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// What it asks beyond one satisfied authority.
    #[must_use]
    pub fn rule(&self) -> Option<&PolicyRule> {
        self.rule.as_ref()
    }

    /// What it asks of the very piece that satisfies.
    #[must_use]
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// What it asks where a tag leads to an image; never of a digest.
    #[must_use]
    pub fn guards(&self) -> &Guards {
        &self.guards
    }

    /// Bytes that are equal for two policies exactly when they ask the same: they go into the fingerprint of verdicts.
    #[must_use]
    pub fn canonical_form(&self) -> &[u8] {
        &self.canonical
    }

    /// Whether it governs `<canonical repository>@<digest>`.
    #[must_use]
    pub fn matches(&self, image: &str) -> bool {
        self.globs.iter().any(|glob| glob.matches(image))
    }

    /// The file and line where it begins.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Authority {
    fn asking_for(&self, wanted: &PredicateType) -> Self {
        let same = |attestation: &&Attestation| attestation.predicate_type.uri() == wanted.uri();
        let mut attestations: Vec<_> = self.attestations.iter().filter(same).cloned().collect();
        if attestations.is_empty() {
            let name = wanted.uri().to_owned();
            attestations.push(Attestation { name, predicate_type: wanted.clone(), rule: None });
        }
        Self { attestations, ..self.clone() }
    }
}

/// A rule over what all authorities of a policy found: `spec.policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// The rule.
    pub rego: Rego,
    /// It is shown the image's config, of an index its children's: `fetchConfigFile`.
    pub fetch_config_file: bool,
}

/// What a failure of a policy leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The image is refused.
    Enforce,
    /// The image is served with a warning.
    Warn,
}

impl Mode {
    /// As policies spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Warn => "warn",
        }
    }
}

/// A line of a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub file: Arc<str>,
    /// From 1; 0 stands for the file as a whole.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}
