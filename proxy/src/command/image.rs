//! The image that somebody typed: a repository of a configured upstream, and a tag or digest.

use oci::{Reference, Repository, UpstreamName};

use super::answer::Failure;
use crate::app::InForce;

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// As typed.
    pub typed: String,
    /// As known here.
    pub repository: Repository,
    /// A digest where both are written, `latest` where neither is.
    pub reference: Reference,
}

impl Image {
    /// Reads `[HOST/]PATH[:TAG][@DIGEST]`. The host is an upstream's name, or where pratique itself listens; without one, and behind
    /// pratique's own, the path is what a client would ask pratique for.
    pub(super) fn parse(typed: &str, in_force: &InForce) -> Result<Self, Failure> {
        let malformed = |error: oci::NameError| {
            Failure::usage(
                format!("image \"{}\": {error}", shown(typed)),
                "write it as cgr.dev/chainguard/nginx:latest",
            )
        };
        let (named, digest) = match typed.split_once('@') {
            Some((named, digest)) => (named, Some(digest.parse().map_err(malformed)?)),
            None => (typed, None),
        };
        // A colon before the last slash belongs to a port.
        let (name, tag) = match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (named, None),
        };
        let tag = tag.unwrap_or("latest").parse().map_err(malformed)?;
        let reference = digest.map_or(Reference::Tag(tag), Reference::Digest);
        let (ns, path) = place(name, in_force).map_err(|host| unknown_host(typed, &host, in_force))?;
        let named = in_force
            .routes
            .resolve(path, ns.as_ref().map(UpstreamName::as_str))
            .map_err(|error| Failure::usage(format!("image \"{}\": {error}", shown(typed)), names(in_force)))?;
        Ok(Self { typed: typed.to_owned(), repository: named.repository, reference })
    }
}

/// The upstream, where the name begins with one, and the path behind it; the host where it is nobody's.
fn place<'a>(name: &'a str, in_force: &InForce) -> Result<(Option<UpstreamName>, &'a str), String> {
    let Some((host, path)) = name.split_once('/') else { return Ok((None, name)) };
    let is_host = host.contains(['.', ':']) || host == "localhost";
    if let Ok(named) = host.parse::<UpstreamName>() {
        // Docker Hub has several names, whichever is configured.
        let mut known = in_force.upstreams.keys();
        if let Some(known) = known.find(|known| known.canonical() == named.canonical()) {
            return Ok((Some(known.clone()), path));
        }
    }
    if !is_host {
        return Ok((None, name));
    }
    if is_here(host, in_force) { Ok((None, path)) } else { Err(host.to_owned()) }
}

/// Whether pratique listens there, as far as the configuration says.
fn is_here(host: &str, in_force: &InForce) -> bool {
    let listen = in_force.settings.listen;
    let here = |name: &str| host == format!("{name}:{}", listen.port());
    here(&listen.ip().to_string())
        || (listen.ip().is_loopback() || listen.ip().is_unspecified()) && (here("localhost") || here("127.0.0.1"))
}

fn unknown_host(typed: &str, host: &str, in_force: &InForce) -> Failure {
    let what = format!("image \"{}\": {} is no configured upstream", shown(typed), shown(host));
    Failure::usage(what, format!("{}; or configure that registry as an upstream", names(in_force)))
}

fn names(in_force: &InForce) -> String {
    let names: Vec<_> = in_force.upstreams.keys().map(|name| format!("{name}/…")).collect();
    format!("write it as {}", names.join(" or "))
}

/// What somebody typed, as it may be told back.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_default).collect()
}
