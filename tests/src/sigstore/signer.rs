//! Who signs without a key of their own: an identity that an OIDC issuer vouched for.

use std::collections::BTreeMap;

/// What a certificate will say about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The OIDC issuer, a URL.
    pub issuer: String,
    /// The subject alternative name: an e-mail address, or a URI where it holds `://`.
    pub subject: String,
    /// What Fulcio's extensions say, by the last number of their names (2–6, 9–24), where it is not what the subject implies.
    pub claims: BTreeMap<u64, String>,
}

impl Signer {
    /// GitHub's OIDC issuer for workflows.
    pub const GITHUB: &'static str = "https://token.actions.githubusercontent.com";

    /// Any identity.
    #[must_use]
    pub fn new(issuer: &str, subject: &str) -> Self {
        Self { issuer: issuer.to_owned(), subject: subject.to_owned(), claims: BTreeMap::new() }
    }

    /// The workflow that releases Chainguard's public images, which the built-in policy accepts.
    #[must_use]
    pub fn chainguard() -> Self {
        Self::new(
            Self::GITHUB,
            "https://github.com/chainguard-images/images/.github/workflows/release.yaml@refs/heads/main",
        )
    }

    /// The identity that signs what a private organization of Chainguard's gets.
    #[must_use]
    pub fn chainguard_private(organization: &str, syncer: &str) -> Self {
        let issuer = "https://issuer.enforce.dev";
        Self::new(issuer, &format!("{issuer}/{organization}/{syncer}"))
    }

    /// The same workflow in somebody's fork: issuer right, subject wrong.
    #[must_use]
    pub fn fork() -> Self {
        Self::new(Self::GITHUB, "https://github.com/evil/fork/.github/workflows/release.yaml@refs/heads/main")
    }

    /// A person who logged in with GitHub: an e-mail address.
    #[must_use]
    pub fn person() -> Self {
        Self::new("https://github.com/login/oauth", "somebody@example.com")
    }

    /// Says in the extension of that number (2–6, 9–24) something else than the subject implies.
    #[must_use]
    pub fn claim(mut self, number: u64, text: &str) -> Self {
        self.claims.insert(number, text.to_owned());
        self
    }

    /// What set the workflow off: `push`, `schedule`.
    #[must_use]
    pub fn trigger(self, trigger: &str) -> Self {
        self.claim(2, trigger).claim(20, trigger)
    }

    /// The commit that it ran on.
    #[must_use]
    pub fn sha(self, sha: &str) -> Self {
        self.claim(3, sha).claim(10, sha).claim(13, sha).claim(19, sha)
    }

    /// The workflow's name.
    #[must_use]
    pub fn workflow(self, name: &str) -> Self {
        self.claim(4, name)
    }

    /// The repository that it ran for: `owner/name`.
    #[must_use]
    pub fn repository(self, repository: &str) -> Self {
        self.claim(5, repository).claim(12, &format!("https://github.com/{repository}"))
    }

    /// The branch or tag that it ran on: `refs/heads/main`.
    #[must_use]
    pub fn reference(self, reference: &str) -> Self {
        self.claim(6, reference).claim(14, reference)
    }
}
