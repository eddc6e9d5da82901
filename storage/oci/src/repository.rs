//! Where content lives: an upstream's name and a path together.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::NameError;

/// The name of an upstream as policies and `?ns=` use it: a lower-case host, with a port where it has one (`cgr.dev`, `localhost:5000`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpstreamName(Box<str>);

impl UpstreamName {
    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that policies match: Docker Hub's several names are all `index.docker.io`, any other is itself.
    #[must_use]
    pub fn canonical(&self) -> &str {
        match self.as_str() {
            "docker.io" | "registry-1.docker.io" => DOCKER_HUB,
            other => other,
        }
    }

    /// Whether this is Docker Hub, under any of its names.
    #[must_use]
    pub fn is_docker_hub(&self) -> bool {
        self.canonical() == DOCKER_HUB
    }
}

const DOCKER_HUB: &str = "index.docker.io";

impl FromStr for UpstreamName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::new("upstream name", text, "a lower-case host, optionally :port");
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(error());
        }
        if let Some(port) = port {
            let canonical = port.parse::<u16>().is_ok_and(|n| n != 0 && n.to_string() == port);
            if !canonical {
                return Err(error());
            }
        }
        Ok(Self(text.into()))
    }
}

/// A path within an upstream: `chainguard/nginx`. Lower-case components joined by `/`, 255 bytes at most, as the distribution specification has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryPath(Box<str>);

impl RepositoryPath {
    /// The path as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > 255 || !text.split('/').all(is_component) {
            return Err(NameError::new(
                "repository path",
                text,
                "lower-case letters, digits and single separators (. _ __ -) in components joined by /, 255 bytes at most",
            ));
        }
        Ok(Self(text.into()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, the specification's component.
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut after_alphanumeric = false;
    for byte in component.bytes() {
        if alphanumeric(byte) {
            let joined = matches!(separator.as_str(), "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
            if !joined {
                return false;
            }
            separator.clear();
            after_alphanumeric = true;
        } else if after_alphanumeric && matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    after_alphanumeric && separator.is_empty()
}

/// Upstream name and path together: the meaning of *repository* in every key, type and log line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    upstream: UpstreamName,
    path: RepositoryPath,
}

impl Repository {
    /// The repository at `path` of `upstream`.
    #[must_use]
    pub fn new(upstream: UpstreamName, path: RepositoryPath) -> Self {
        Self { upstream, path }
    }

    /// The upstream's name.
    #[must_use]
    pub fn upstream(&self) -> &UpstreamName {
        &self.upstream
    }

    /// The path within the upstream.
    #[must_use]
    pub fn path(&self) -> &RepositoryPath {
        &self.path
    }

    /// What policies match before `@<digest>`: Docker Hub is `index.docker.io`, and its one-component paths have `library/` before them.
    #[must_use]
    pub fn canonical(&self) -> String {
        let library = if self.upstream.is_docker_hub() && !self.path.as_str().contains('/') { "library/" } else { "" };
        format!("{}/{library}{}", self.upstream.canonical(), self.path)
    }
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (upstream, path) =
            text.split_once('/').ok_or_else(|| NameError::new("repository", text, "<upstream name>/<path>"))?;
        Ok(Self::new(upstream.parse()?, path.parse()?))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.upstream, self.path)
    }
}

macro_rules! text_type {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RepositoryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_type!(UpstreamName);
text_type!(RepositoryPath);
text_type!(Repository);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_follow_the_specification() {
        for good in ["a", "chainguard/nginx", "a/b/c/d", "a.b/c_d/e__f/g-h/i--j", "0"] {
            assert!(good.parse::<RepositoryPath>().is_ok(), "{good} was refused");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a/B", ".", "..", "a/..", "a..b", "a___b", "a._b", "-a", "a-", "_a",
            "a_", "a b", "a%2fb", "a\0b", "ä", "a\n", &long,
        ] {
            assert!(bad.parse::<RepositoryPath>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn upstream_names_are_lower_case_hosts() {
        for good in ["cgr.dev", "localhost:5000", "127.0.0.1:8080", "docker.io", "registry"] {
            assert!(good.parse::<UpstreamName>().is_ok(), "{good} was refused");
        }
        for bad in
            ["", "CGR.dev", "cgr.dev:", "cgr.dev:0", "cgr.dev:05", "cgr.dev:70000", "a..b", "-a", "a/b", "u@h", "a:1:2"]
        {
            assert!(bad.parse::<UpstreamName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn docker_hub_is_matched_under_its_canonical_name() {
        let canonical = |text: &str| text.parse::<Repository>().unwrap().canonical();
        assert_eq!(canonical("docker.io/nginx"), "index.docker.io/library/nginx");
        assert_eq!(canonical("registry-1.docker.io/a/b"), "index.docker.io/a/b");
        assert_eq!(canonical("cgr.dev/nginx"), "cgr.dev/nginx");
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in "[a-z0-9.:/_-]{1,40}") {
            if let Ok(repository) = text.parse::<Repository>() {
                prop_assert_eq!(repository.to_string(), text);
            }
        }

        #[test]
        fn no_text_makes_parsing_panic(text: String) {
            let _ = text.parse::<Repository>();
            let _ = text.parse::<RepositoryPath>();
        }
    }
}
