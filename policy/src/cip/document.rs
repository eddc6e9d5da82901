//! One `ClusterImagePolicy`: images, mode, authorities and what it asks besides.

use super::{
    authorities, canonical, conditions, content,
    envelope::Envelope,
    field::{Field, Mapping, Refused, Schema},
    report::{Report, shown},
    scope::Scope,
};
use crate::{
    glob::{Glob, GlobError},
    policy_set::{LoadContext, Mode, Policy},
};

const SPEC: Schema = Schema {
    known: &["images", "mode", "authorities", "policy"],
    refused: &[Refused {
        key: "match",
        what: "is not supported: a registry does not know which workload an image is for",
        hint: "leave this policy to the cluster's controller, or take match out and let the globs decide",
    }],
    ignored: &[],
};

const IMAGE: Schema = Schema { known: &["glob"], refused: &[], ignored: &[] };

/// Reads one document; `None` where it is flawed, which is then reported.
pub(super) fn policy(envelope: &Envelope<'_>, scope: Scope<'_>, report: &mut Report) -> Option<Policy> {
    let metadata = envelope.metadata(report);
    let annotations = metadata.as_ref().and_then(|metadata| metadata.field("annotations"));
    let written = conditions::read(annotations.as_ref(), report);
    let name = metadata.and_then(|metadata| envelope.name(&metadata, report));
    let spec = envelope.spec("write spec: with images: and authorities: below it", report)?.mapping(report, &SPEC)?;
    let rule = match spec.field("policy") {
        Some(field) => content::of_spec(&field, scope, report).map(Some),
        None => Some(None),
    };
    let mode = mode(&spec, report);
    let globs = globs(&spec, scope.context, report);
    let authorities = spec
        .required(report, "authorities", "list at least one authority: key, keyless or static")
        .map(|field| authorities::read(&field, scope, report));
    let authorities = authorities?;
    conditions::check(&written, &authorities, mode, report);
    let (name, mode, rule) = (name?, mode?, rule?);
    if globs.is_empty() || authorities.is_empty() {
        return None;
    }
    let place = report.place(envelope.line);
    let (conditions, guards) = (written.conditions, written.guards.guards);
    let mut policy = Policy { name, mode, globs, authorities, rule, conditions, guards, canonical: Vec::new(), place };
    policy.canonical = canonical::form(&policy, scope.roots);
    Some(policy)
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
