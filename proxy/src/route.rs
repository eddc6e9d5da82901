//! From a request line to a typed call, or to the reason why it is none. Nothing else happens before this.

use config::Upstream;
use http::{Method, Uri};
use oci::{Digest, Reference, Repository, RepositoryPath, UpstreamName};

use crate::error::{ApiError, NameErrorCode};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `/v2/`: is this a registry?
    Base,
    /// A manifest by tag or digest.
    Manifest {
        /// In which repository.
        named: Named,
        /// Which one.
        reference: Reference,
    },
    /// A blob by digest.
    Blob {
        /// In which repository.
        named: Named,
        /// Which one.
        digest: Digest,
    },
    /// The tags of a repository.
    Tags {
        /// Of which repository.
        named: Named,
        /// At most so many.
        n: Option<u64>,
        /// Those after this one.
        last: Option<String>,
    },
    /// What speaks about a manifest.
    Referrers {
        /// In which repository.
        named: Named,
        /// The subject.
        digest: Digest,
        /// Only those of this type.
        artifact_type: Option<String>,
    },
}

/// A repository as the client named it and as we know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Upstream name and path there.
    pub repository: Repository,
    /// The path between `/v2/` and the endpoint, as typed.
    pub typed: String,
    /// The value of `?ns=`, where the client sent one: it is told back as `OCI-Namespace`.
    pub ns: Option<UpstreamName>,
}

/// Which path belongs to which upstream.
#[derive(Debug, Clone)]
pub struct Routes {
    /// (prefix without slashes at its ends, upstream), longest prefix first.
    prefixes: Vec<(String, UpstreamName)>,
}

impl Routes {
    /// The routes to `upstreams`. Equal prefixes and names were refused when the configuration was loaded.
    #[must_use]
    pub fn new(upstreams: &[Upstream]) -> Self {
        let mut prefixes: Vec<_> =
            upstreams.iter().map(|upstream| (upstream.prefix.clone(), upstream.name.clone())).collect();
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self { prefixes }
    }

    /// The repository that a client means by `typed`, with `ns` where it sent one.
    ///
    /// # Errors
    /// `NAME_INVALID` for what cannot be a name, `NAME_UNKNOWN` for what belongs to no upstream.
    pub fn resolve(&self, typed: &str, ns: Option<&str>) -> Result<Named, ApiError> {
        // What the client typed must itself be a name: no prefix makes a bad one good.
        typed.parse::<RepositoryPath>()?;
        let unknown = || ApiError::Unknown { code: "NAME_UNKNOWN", what: format!("repository {typed}") };
        let (upstream, path) = match ns {
            Some(ns) => {
                let known = self.prefixes.iter().find(|(_, name)| name.as_str() == ns);
                (&known.ok_or_else(unknown)?.1, typed)
            }
            None => self
                .prefixes
                .iter()
                .find_map(|(prefix, name)| Some((name, strip(typed, prefix)?)))
                .ok_or_else(unknown)?,
        };
        let library = upstream.is_docker_hub() && !path.contains('/');
        let path = if library { format!("library/{path}") } else { path.to_owned() };
        Ok(Named {
            repository: Repository::new(upstream.clone(), path.parse()?),
            typed: typed.to_owned(),
            ns: ns.is_some().then(|| upstream.clone()),
        })
    }
}

/// `path` without `prefix`, where that matches whole segments and leaves something.
fn strip<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(path);
    }
    path.strip_prefix(prefix)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

impl Call {
    /// Reads the request line.
    ///
    /// # Errors
    /// 405 for any method but GET and HEAD, 404 for what is no endpoint, 400 for malformed names, tags, digests and numbers.
    pub fn parse(method: &Method, uri: &Uri, routes: &Routes) -> Result<Self, ApiError> {
        if method != Method::GET && method != Method::HEAD {
            let known = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
            let name = if known.contains(method) { method.as_str() } else { "other" };
            return Err(ApiError::Unsupported { method: name.to_owned() });
        }
        let rest = match uri.path() {
            "/v2" | "/v2/" => return Ok(Self::Base),
            path => path.strip_prefix("/v2/").ok_or(ApiError::NoSuchEndpoint)?,
        };
        let query = Query::parse(uri.query().unwrap_or_default())?;
        let (name, endpoint, last) = split(rest).ok_or(ApiError::NoSuchEndpoint)?;
        let ns = query.ns.as_deref();
        match endpoint {
            Endpoint::Manifests => Ok(Self::Manifest { named: routes.resolve(name, ns)?, reference: last.parse()? }),
            Endpoint::Blobs => Ok(Self::Blob { named: routes.resolve(name, ns)?, digest: last.parse()? }),
            Endpoint::Tags => Ok(Self::Tags { named: routes.resolve(name, ns)?, n: query.n()?, last: query.last }),
            Endpoint::Referrers => Ok(Self::Referrers {
                named: routes.resolve(name, ns)?,
                digest: last.parse()?,
                artifact_type: query.artifact_type,
            }),
        }
    }

    /// A bounded label for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Manifest { .. } => "manifest",
            Self::Blob { .. } => "blob",
            Self::Tags { .. } => "tags",
            Self::Referrers { .. } => "referrers",
        }
    }
}

enum Endpoint {
    Manifests,
    Blobs,
    Tags,
    Referrers,
}

/// Splits `<name>/manifests/<reference>` and its like at the *last* keyword: a repository may itself be called `blobs`.
fn split(rest: &str) -> Option<(&str, Endpoint, &str)> {
    let (head, last) = rest.rsplit_once('/')?;
    let (name, keyword) = head.rsplit_once('/')?;
    let endpoint = match (keyword, last) {
        ("manifests", _) => Endpoint::Manifests,
        ("blobs", _) => Endpoint::Blobs,
        ("tags", "list") => Endpoint::Tags,
        ("referrers", _) => Endpoint::Referrers,
        _ => return None,
    };
    Some((name, endpoint, last))
}

/// The parameters that mean something here; others are ignored, as the specification wants.
#[derive(Default)]
struct Query {
    ns: Option<String>,
    n: Option<String>,
    last: Option<String>,
    artifact_type: Option<String>,
}

impl Query {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for (key, value) in url::form_urlencoded::parse(text.as_bytes()) {
            let slot = match key.as_ref() {
                "ns" => &mut query.ns,
                "n" => &mut query.n,
                "last" => &mut query.last,
                "artifactType" => &mut query.artifact_type,
                _ => continue,
            };
            if slot.replace(value.into_owned()).is_none() {
                continue;
            }
            // Given twice: which one a proxy before us meant cannot be told.
            if key == "ns" {
                return Err(ApiError::Unknown { code: "NAME_UNKNOWN", what: "a namespace given twice".to_owned() });
            }
            let message = format!("query parameter {} given twice", key.escape_default());
            return Err(ApiError::Malformed(NameErrorCode("UNSUPPORTED"), message));
        }
        Ok(query)
    }

    fn n(&self) -> Result<Option<u64>, ApiError> {
        let Some(text) = &self.n else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(n) if digits => Ok(Some(n)),
            _ => Err(ApiError::Malformed(
                NameErrorCode("PAGINATION_NUMBER_INVALID"),
                format!("n=\"{}\" is not a whole number of at most 20 digits", shorten(text)),
            )),
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests;
