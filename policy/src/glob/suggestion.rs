//! What the author of a glob that matches nothing may have meant.

use oci::UpstreamName;

use super::{is_allowed, possible::Possible, tokens};

/// A glob that can match some image and is nearest to what was written.
pub(super) fn instead_of(written: &str, upstreams: &[UpstreamName]) -> Option<String> {
    let plain = written.trim_start_matches("https://").trim_start_matches("http://").to_ascii_lowercase();
    let name = with_known_host(&plain, upstreams);
    let below = format!("{}/**", without_tag(&name).trim_end_matches('/'));
    [name.clone(), with_digest(&name), below].into_iter().find(|candidate| {
        candidate.chars().all(is_allowed) && Possible::new(tokens(candidate)).can_match_an_image(upstreams)
    })
}

/// Docker Hub is spelled `index.docker.io`, and its one-component paths have `library/` before them.
fn with_known_host(name: &str, upstreams: &[UpstreamName]) -> String {
    let (first, rest) = match name.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let is_host = first.contains(['.', ':']) && rest.is_some()
        || first.contains('.') && !first.contains('*')
        || first == "localhost"
        || upstreams.iter().any(|upstream| upstream.as_str() == first);
    let path = match first {
        "docker.io" | "registry-1.docker.io" | "index.docker.io" => rest.unwrap_or("**"),
        _ if is_host => return name.to_owned(),
        _ => name,
    };
    let library = if path.contains('/') || path.contains("**") { "" } else { "library/" };
    format!("index.docker.io/{library}{path}")
}

/// Any digest, in place of a tag or of something that is no digest.
fn with_digest(name: &str) -> String {
    format!("{}@*", without_tag(name))
}

fn without_tag(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((name, tag)) if name.contains('/') && !tag.contains('/') => name,
        _ => name,
    }
}
