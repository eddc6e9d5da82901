//! One document: envelope, metadata, images and mode.

use super::{
    authorities, canonical,
    field::{Field, Mapping, Refused, Schema},
    node::Node,
    report::{Report, shown},
};
use crate::{
    glob::{Glob, GlobError},
    policy_set::{LoadContext, Mode, Policy},
};

const API_VERSIONS: [&str; 2] = ["policy.sigstore.dev/v1alpha1", "policy.sigstore.dev/v1beta1"];
const ANNOTATION_PREFIX: &str = "pratique.dev/";

const DOCUMENT: Schema =
    Schema { known: &["apiVersion", "kind", "metadata", "spec"], refused: &[], ignored: &["status"] };

const METADATA: Schema = Schema {
    known: &["name", "annotations", "labels"],
    refused: &[Refused {
        key: "namespace",
        what: "is there; a ClusterImagePolicy has no namespace",
        hint: "take it out",
    }],
    ignored: &[
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "selfLink",
        "ownerReferences",
        "finalizers",
    ],
};

const SPEC: Schema = Schema {
    known: &["images", "mode", "authorities"],
    refused: &[Refused {
        key: "match",
        what: "is not supported: a registry does not know which workload an image is for",
        hint: "leave this policy to the cluster's controller, or take match out and let the globs decide",
    }],
    ignored: &["policy"],
};

const IMAGE: Schema = Schema { known: &["glob"], refused: &[], ignored: &[] };

/// Reads one document; `None` where it is flawed, which is then reported.
pub(super) fn policy(node: &Node, context: &LoadContext<'_>, report: &mut Report) -> Option<Policy> {
    let document = Field::document(node);
    let document = envelope(&document, report)?;
    let name = document
        .required(report, "metadata", "write metadata: with a name: below it")
        .and_then(|metadata| name(&metadata, report));
    let spec = document
        .required(report, "spec", "write spec: with images: and authorities: below it")?
        .mapping(report, &SPEC)?;
    if let Some(policy) = spec.field("policy") {
        refuse_content_policy(&policy, report);
    }
    let mode = mode(&spec, report);
    let globs = globs(&spec, context, report);
    let authorities = spec
        .required(report, "authorities", "list at least one authority: key, keyless or static")
        .map(|field| authorities::read(&field, context, report));
    let (name, mode, (authorities, places)) = (name?, mode?, authorities?);
    if globs.is_empty() || authorities.is_empty() {
        return None;
    }
    let canonical = canonical::form(&name, mode, &globs, &authorities);
    Some(Policy { name, mode, globs, authorities, places, canonical, place: report.place(node.line) })
}

fn envelope<'n>(document: &Field<'n>, report: &mut Report) -> Option<Mapping<'n>> {
    let kind = document.entries().into_iter().find(|(key, _)| *key == "kind").map(|(_, field)| field);
    let hint = match kind.as_ref().and_then(Field::text_if_any) {
        Some("ClusterImagePolicy") | None => {
            let mapping = document.mapping(report, &DOCUMENT)?;
            mapping.required(report, "kind", "write kind: ClusterImagePolicy")?.text(report)?;
            let version = mapping.required(report, "apiVersion", "write apiVersion: policy.sigstore.dev/v1beta1")?;
            let written = version.text(report)?;
            if !API_VERSIONS.contains(&written) {
                let what = format!("is {}; expected {}", shown(written), API_VERSIONS.join(" or "));
                version.error(report, what, Some("both versions have the same fields"));
                return None;
            }
            return Some(mapping);
        }
        Some("TrustRoot") => {
            "this build takes a trust root as a trusted_root.json, by policy.trust_root in the configuration"
        }
        Some("Secret") => "write the public key itself into key.data of the authority",
        Some("List") => "write its items as documents, with a line --- between them",
        Some(_) => "a policy file holds ClusterImagePolicy documents only",
    };
    let kind = kind?;
    let written = shown(kind.text_if_any().unwrap_or_default());
    kind.error(report, format!("is {written}; expected ClusterImagePolicy"), Some(hint));
    None
}

fn name(metadata: &Field<'_>, report: &mut Report) -> Option<String> {
    let metadata = metadata.mapping(report, &METADATA)?;
    for key in ["annotations", "labels"] {
        for (key, entry) in metadata.field(key).map(|field| field.entries()).unwrap_or_default() {
            if key.to_ascii_lowercase().starts_with(ANNOTATION_PREFIX) {
                entry.error(
                    report,
                    "is nothing that this build acts on",
                    Some("take it out: an annotation under pratique.dev/ is a demand, and is not ignored"),
                );
            }
        }
    }
    let name = metadata.required(report, "name", "write a name, as it shall appear in refusals")?;
    let written = name.text(report)?;
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let mut chars = written.chars();
    if written.len() > 253 || !edge(chars.next()) || !edge(written.chars().next_back()) || !chars.all(inner) {
        let what = format!("is {}; expected lower-case letters, digits, - and .", shown(written));
        name.error(
            report,
            what,
            Some("a cluster takes no other name: letter or digit at both ends, 253 characters at most"),
        );
        return None;
    }
    Some(written.to_owned())
}

fn mode(spec: &Mapping<'_>, report: &mut Report) -> Option<Mode> {
    let Some(field) = spec.field("mode") else {
        return Some(Mode::Enforce);
    };
    match field.text(report)? {
        "enforce" => Some(Mode::Enforce),
        "warn" => {
            report.weakened(field.line, &field.path, "warn: images that fail this policy are served, with a warning");
            Some(Mode::Warn)
        }
        other => {
            let what = format!("is {}; expected enforce or warn", shown(other));
            field.error(report, what, Some("leave it out for enforce"));
            None
        }
    }
}

fn globs(spec: &Mapping<'_>, context: &LoadContext<'_>, report: &mut Report) -> Vec<Glob> {
    let Some(images) = spec.required(report, "images", "list at least one glob, as - glob: cgr.dev/chainguard/**")
    else {
        return Vec::new();
    };
    let items = images.list(report, "image with its glob");
    items.iter().filter_map(|image| glob(image, context, report)).collect()
}

fn glob(image: &Field<'_>, context: &LoadContext<'_>, report: &mut Report) -> Option<Glob> {
    let image = image.mapping(report, &IMAGE)?;
    let field = image.required(report, "glob", "write a glob, as cgr.dev/chainguard/**")?;
    match Glob::parse(field.text(report)?, context.upstreams) {
        Ok(glob) => {
            note_glob(&field, &glob, context, report);
            Some(glob)
        }
        Err(error) => {
            let hint = match &error {
                GlobError::MatchesNothing { instead: Some(instead), .. } => format!("write {instead}"),
                GlobError::MatchesNothing { instead: None, .. }
                | GlobError::Empty
                | GlobError::TooLong { .. }
                | GlobError::Character { .. } => {
                    "a glob reads like cgr.dev/chainguard/** or ghcr.io/org/app@*".to_owned()
                }
            };
            field.error(report, error.to_string(), Some(&hint));
            None
        }
    }
}

fn note_glob(field: &Field<'_>, glob: &Glob, context: &LoadContext<'_>, report: &mut Report) {
    if let Some(host) = glob.open_ended_host() {
        let what = format!("\"{glob}\" matches images of every host whose name begins with \"{host}\", strangers' too");
        report.note(field.line, &field.path, &what);
    }
    if !context.upstreams.iter().any(|upstream| glob.may_match_upstream(upstream)) {
        let what = format!("\"{glob}\" matches no image of a configured upstream");
        report.note(field.line, &field.path, &what);
    }
}

/// Content policies, of a spec or of an attestation: what can never be honoured is named first.
pub(super) fn refuse_content_policy(policy: &Field<'_>, report: &mut Report) {
    let mut named = false;
    for (key, field) in policy.entries() {
        let Some((what, hint)) = refusal_in_content_policy(key, field.text_if_any()) else {
            continue;
        };
        field.error(report, what, Some(hint));
        named = true;
    }
    if !named {
        policy.error(
            report,
            "is not supported by this build",
            Some("leave this policy to the cluster's controller: without its Rego it would ask for less than it says"),
        );
    }
}

fn refusal_in_content_policy(key: &str, written: Option<&str>) -> Option<(&'static str, &'static str)> {
    let no_workload = "a registry does not know the workload: leave this policy to the cluster's controller";
    match (key, written) {
        ("type", Some("cue")) => Some((
            "is cue, which is not supported; expected rego",
            "write it as Rego: package sigstore, with a rule isCompliant",
        )),
        ("remote", _) => Some(("is not supported: policies are not fetched", "write the policy's text into data")),
        ("configMapRef", _) => {
            Some(("is not supported: there is no cluster to ask", "write the policy's text into data"))
        }
        ("includeSpec" | "includeObjectMeta" | "includeTypeMeta", _) => Some(("is not supported", no_workload)),
        _ => None,
    }
}
