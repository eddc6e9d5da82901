//! Where signatures are looked up: `source`.

use oci::{Repository, RepositoryPath};

use super::{
    field::{Field, Refused, Schema, listed},
    report::{Report, shown},
    scope::Scope,
};
use crate::evidence::Location;

const SOURCE: Schema = Schema {
    known: &["oci", "tagPrefix"],
    refused: &[Refused {
        key: "signaturePullSecrets",
        what: "is not supported: there is no cluster to ask for secrets",
        hint: "set username and password_file of the upstream in the configuration",
    }],
    ignored: &[],
};

/// A tag has 128 characters at most, of which `sha256-<64 digits>.sig` takes 75.
const PREFIX_CHARS_MAX: usize = 128 - 75;

/// Reads the list, which has one element. What is flawed is reported.
pub(super) fn read(list: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> Location {
    let items = list.list(report, "place");
    if items.len() > 1 {
        let what = format!("lists {} places; expected one", items.len());
        list.error(report, what, Some("write an authority for each place: any of them suffices"));
    }
    let read = |item: &Field<'_>| location(item, scope, report);
    items.first().map(read).unwrap_or_default()
}

fn location(item: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> Location {
    let Some(mapping) = item.mapping(report, &SOURCE) else {
        return Location::default();
    };
    let repository = mapping.field("oci").and_then(|field| repository(&field, scope, report));
    let tag_prefix = mapping.field("tagPrefix").and_then(|field| prefix(&field, report));
    Location { repository, tag_prefix: tag_prefix.unwrap_or_default() }
}

fn repository(field: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> Option<Repository> {
    let written = field.text(report)?;
    let upstreams: Vec<_> = scope.context.upstreams.iter().map(oci::UpstreamName::as_str).collect();
    let example = format!("write it as {}/<path>", upstreams.first().unwrap_or(&"<upstream>"));
    let Some((host, path)) = written.split_once('/') else {
        let what = format!("is {}, which names no repository; expected <upstream>/<path>", shown(written));
        field.error(report, what, Some(&example));
        return None;
    };
    // Docker Hub has several names, whichever is configured.
    let named = host.parse::<oci::UpstreamName>().ok();
    let upstream = named.and_then(|named| {
        scope.context.upstreams.iter().find(|upstream| upstream.canonical() == named.canonical()).cloned()
    });
    let Some(upstream) = upstream else {
        let what =
            format!("is {}, not of a configured upstream; expected one of {}", shown(written), listed(&upstreams));
        let hint =
            "configure that registry as an upstream, or copy the signatures to one that is: nothing else is asked";
        field.error(report, what, Some(hint));
        return None;
    };
    let library = if upstream.is_docker_hub() && !path.contains('/') { "library/" } else { "" };
    if let Ok(path) = format!("{library}{path}").parse::<RepositoryPath>() {
        Some(Repository::new(upstream, path))
    } else {
        let what = format!("is {}; expected <upstream>/<path> of a repository, without tag or digest", shown(written));
        field.error(report, what, Some(&example));
        None
    }
}

fn prefix(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let written = field.text(report)?;
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins = written.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !begins || !written.chars().all(inner) || written.len() > PREFIX_CHARS_MAX {
        let what = format!(
            "is {}; expected the beginning of a tag: letters, digits, _ . and -, not . or - first, {PREFIX_CHARS_MAX} at most",
            shown(written)
        );
        field.error(report, what, Some("it stands before sha256-<hex>.sig as it is, a separator of its own included"));
        return None;
    }
    Some(written.to_owned())
}
