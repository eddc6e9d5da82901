//! Authorities: who is believed, and how.

use super::{
    attestations,
    field::{Field, Mapping, Refused, Schema},
    identities, key,
    proof::{self, Written},
    report::{Report, shown},
    roots::Part,
    scope::Scope,
    source,
};
use crate::authority::{Authority, AuthorityKind, Keyless, Proof, RootRef, StaticAction};

const AUTHORITY: Schema = Schema {
    known: &[
        "name",
        "key",
        "keyless",
        "static",
        "attestations",
        "source",
        "ctlog",
        "rfc3161timestamp",
        "signatureFormat",
    ],
    refused: &[],
    ignored: &[],
};

const KEYLESS: Schema = Schema {
    known: &["url", "identities", "trustRootRef", "insecureIgnoreSCT"],
    refused: &[Refused {
        key: "ca-cert",
        what: "is not supported: the controller never uses it either, and such an authority always fails there",
        hint: "put the CA into certificateAuthorities of a TrustRoot document, and name that by trustRootRef",
    }],
    ignored: &[],
};

const STATIC: Schema = Schema { known: &["action", "message"], refused: &[], ignored: &[] };

/// Reads the list. Flawed ones are reported and left out.
pub(super) fn read(list: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> Vec<Authority> {
    let mut authorities: Vec<Authority> = Vec::new();
    for (index, field) in list.list(report, "authority").iter().enumerate() {
        let Some(authority) = authority(index, field, scope, report) else { continue };
        if authorities.iter().any(|other| other.name == authority.name) {
            let what = format!("is named {}, as another of this policy", shown(&authority.name));
            field.error(report, what, Some("give each authority a name of its own: refusals name them"));
        }
        authorities.push(authority);
    }
    authorities
}

fn authority(index: usize, field: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> Option<Authority> {
    let mapping = field.mapping(report, &AUTHORITY)?;
    let name = match mapping.field("name") {
        Some(field) => field.label(report),
        None => Some(format!("authority-{index}")),
    };
    signature_format(&mapping, report);
    let attestations = mapping.field("attestations").map(|field| attestations::read(&field, scope, report));
    let location = mapping.field("source").map(|field| source::read(&field, scope, report));
    let written = proof::read(&mapping, scope, report);
    let kind = mapping.exactly_one(report, &["key", "keyless", "static"]);
    let (kind, proof) = kind_of(&mapping, kind?, written, scope, report)?;
    Some(Authority {
        name: name?,
        kind,
        attestations: attestations.unwrap_or_default(),
        location: location.unwrap_or_default(),
        proof,
    })
}

/// Whom it believes, and on what that rests.
fn kind_of(
    authority: &Mapping<'_>,
    (key, field): (&str, Field<'_>),
    written: Written,
    scope: Scope<'_>,
    report: &mut Report,
) -> Option<(AuthorityKind, Proof)> {
    match key {
        "key" => {
            let key = key::read(&field, report)?;
            Some((AuthorityKind::Key(key), written.by_key()))
        }
        "keyless" => {
            let (keyless, ca) = keyless(&field, &written, scope, report)?;
            Some((AuthorityKind::Keyless(keyless), written.by_certificate(ca)))
        }
        _ => {
            let action = static_action(&field, authority, report)?;
            Some((AuthorityKind::Static(action), Proof::default()))
        }
    }
}

/// Both layouts satisfy any authority, so that the choice says nothing here.
fn signature_format(authority: &Mapping<'_>, report: &mut Report) {
    let Some(field) = authority.field("signatureFormat") else {
        return;
    };
    if let Some(written) = field.text(report)
        && !["legacy", "bundle"].contains(&written)
    {
        let what = format!("is {}; expected legacy or bundle", shown(written));
        field.error(report, what, Some("leave it out: either layout satisfies any authority"));
    }
}

fn keyless(field: &Field<'_>, written: &Written, scope: Scope<'_>, report: &mut Report) -> Option<(Keyless, RootRef)> {
    let mapping = field.mapping(report, &KEYLESS)?;
    let ca = proof::certificate_authority(&mapping, written, scope, report);
    let ignore_sct = mapping.field("insecureIgnoreSCT").map_or(Some(false), |field| ignore_sct(&field, report));
    if ignore_sct == Some(false)
        && scope.roots.lacks(&ca, Part::CertificateLogs)
        && let Some(reference) = mapping.field("trustRootRef")
    {
        reference.error(
            report,
            "names a TrustRoot without ctLogs, by which no certificate could be found in a certificate log",
            Some("write ctLogs into its sigstoreKeys; a Sigstore that has none needs insecureIgnoreSCT: true here"),
        );
    }
    let list = mapping.required(report, "identities", "list at least one identity: issuer and subject")?;
    let identities = identities::read(&list, report)?;
    Some((Keyless { identities, ignore_sct: ignore_sct? }, ca))
}

fn ignore_sct(field: &Field<'_>, report: &mut Report) -> Option<bool> {
    let ignored = field.boolean(report)?;
    if ignored {
        let what = "true: certificates need not have been published in a certificate log";
        report.weakened(field.line, &field.path, what);
    }
    Some(ignored)
}

fn static_action(field: &Field<'_>, authority: &Mapping<'_>, report: &mut Report) -> Option<StaticAction> {
    for key in ["attestations", "source", "ctlog", "rfc3161timestamp"] {
        if let Some(field) = authority.field(key) {
            let hint = format!("static asks nobody: take {key} out");
            field.error(report, "stands beside static; expected one of the two", Some(&hint));
        }
    }
    let mapping = field.mapping(report, &STATIC)?;
    let action = mapping.required(report, "action", "write action: pass or action: fail")?;
    let message = match mapping.field("message") {
        Some(message) => Some((message.text(report)?.to_owned(), message)),
        None => None,
    };
    match action.text(report)? {
        "fail" => Some(StaticAction::Fail { message: message.map(|(text, _)| text) }),
        "pass" => {
            if let Some((_, message)) = message {
                message.error(
                    report,
                    "stands beside action: pass; expected it with fail only",
                    Some("take it out: nobody would see it"),
                );
            }
            report.weakened(
                action.line,
                &action.path,
                "pass: images that this policy matches are served unverified by it",
            );
            Some(StaticAction::Pass)
        }
        other => {
            let what = format!("is {}; expected pass or fail", shown(other));
            action.error(report, what, Some("upper and lower case matter"));
            None
        }
    }
}
