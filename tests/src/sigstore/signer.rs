//! Who signs without a key of their own: an identity that an OIDC issuer vouched for.

/// What a certificate will say about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The OIDC issuer, a URL.
    pub issuer: String,
    /// The subject alternative name: an e-mail address, or a URI where it holds `://`.
    pub subject: String,
}

impl Signer {
    /// GitHub's OIDC issuer for workflows.
    pub const GITHUB: &'static str = "https://token.actions.githubusercontent.com";

    /// Any identity.
    #[must_use]
    pub fn new(issuer: &str, subject: &str) -> Self {
        Self { issuer: issuer.to_owned(), subject: subject.to_owned() }
    }

    /// The workflow that releases Chainguard's public images, which the built-in policy accepts.
    #[must_use]
    pub fn chainguard() -> Self {
        Self::new(
            Self::GITHUB,
            "https://github.com/chainguard-images/images/.github/workflows/release.yaml@refs/heads/main",
        )
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
}
