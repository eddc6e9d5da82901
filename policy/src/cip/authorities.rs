//! Authorities: who is believed, and how.

use super::{
    document::refuse_content_policy,
    field::{Field, Mapping, Refused, Schema},
    key,
    report::{Report, shown},
};
use crate::{
    authority::{Authority, AuthorityKind, Keyless, StaticAction},
    identity::{Identity, Pattern, PatternError, WholeMatch},
    policy_set::{LoadContext, Place},
};

const AUTHORITY: Schema = Schema {
    known: &["name", "key", "keyless", "static", "ctlog", "signatureFormat"],
    refused: &[Refused {
        key: "rfc3161timestamp",
        what: "is not supported by this build",
        hint: "take it out: the log's own signed time is asked for",
    }],
    ignored: &["attestations", "source"],
};

const KEYLESS: Schema = Schema {
    known: &["url", "identities", "insecureIgnoreSCT"],
    refused: &[
        Refused {
            key: "ca-cert",
            what: "is not supported: the controller never uses it either, and such an authority always fails there",
            hint: "put the CA into a trusted_root.json, and that into policy.trust_root of the configuration",
        },
        TRUST_ROOT_REF,
    ],
    ignored: &[],
};

const CTLOG: Schema = Schema { known: &["url"], refused: &[TRUST_ROOT_REF], ignored: &[] };

const STATIC: Schema = Schema { known: &["action", "message"], refused: &[], ignored: &[] };

const IDENTITY: Schema =
    Schema { known: &["issuer", "issuerRegExp", "subject", "subjectRegExp"], refused: &[], ignored: &[] };

const TRUST_ROOT_REF: Refused = Refused {
    key: "trustRootRef",
    what: "is not supported by this build",
    hint: "put keys and certificates into a trusted_root.json, and that into policy.trust_root of the configuration",
};

const PUBLIC_CA: &str = "https://fulcio.sigstore.dev";
const PUBLIC_LOG: &str = "https://rekor.sigstore.dev";

/// Reads the list, and where each authority's key, or else the authority itself, is written.
/// Flawed ones are reported and left out.
pub(super) fn read(list: &Field<'_>, context: &LoadContext<'_>, report: &mut Report) -> (Vec<Authority>, Vec<Place>) {
    let mut authorities: Vec<Authority> = Vec::new();
    let mut places = Vec::new();
    for (index, field) in list.list(report, "authority").iter().enumerate() {
        let Some((authority, line)) = authority(index, field, context, report) else {
            continue;
        };
        if authorities.iter().any(|other| other.name == authority.name) {
            let what = format!("is named {}, as another of this policy", shown(&authority.name));
            field.error(report, what, Some("give each authority a name of its own: refusals name them"));
        }
        authorities.push(authority);
        places.push(report.place(line));
    }
    (authorities, places)
}

fn authority(
    index: usize,
    field: &Field<'_>,
    context: &LoadContext<'_>,
    report: &mut Report,
) -> Option<(Authority, u64)> {
    let mapping = field.mapping(report, &AUTHORITY)?;
    refuse_for_now(&mapping, report);
    let name = name(index, &mapping, report);
    signature_format(&mapping, report);
    let log = mapping.field("ctlog").map(|ctlog| check_log(&ctlog, context, report));
    let (kind_key, kind_field) = mapping.exactly_one(report, &["key", "keyless", "static"])?;
    let mut line = field.line;
    let kind = match kind_key {
        "key" => {
            let (key, key_line) = key::read(&kind_field, log.is_some(), report)?;
            line = key_line;
            AuthorityKind::Key(key)
        }
        "keyless" => AuthorityKind::Keyless(keyless(&kind_field, context, report)?),
        _ => AuthorityKind::Static(static_action(&kind_field, &mapping, report)?),
    };
    Some((Authority { name: name?, kind }, line))
}

/// What a later build will act on. Without it the authority would ask for something else than it says.
fn refuse_for_now(authority: &Mapping<'_>, report: &mut Report) {
    if let Some(attestations) = authority.field("attestations") {
        attestations.error(
            report,
            "is not supported by this build",
            Some("leave this policy to the cluster's controller, or take attestations out and ask for a signature"),
        );
        for (key, entry) in attestations.items_if_any().iter().flat_map(Field::entries) {
            if key == "policy" {
                refuse_content_policy(&entry, report);
            }
        }
    }
    if let Some(source) = authority.field("source") {
        source.error(
            report,
            "is not supported by this build",
            Some("take it out where the signatures are beside the image; else leave this policy to the controller"),
        );
        for (key, entry) in source.items_if_any().iter().flat_map(Field::entries) {
            if key == "signaturePullSecrets" {
                entry.error(
                    report,
                    "is not supported: there is no cluster to ask for secrets",
                    Some("set username and password_file of the upstream in the configuration"),
                );
            }
        }
    }
}

fn name(index: usize, authority: &Mapping<'_>, report: &mut Report) -> Option<String> {
    let Some(field) = authority.field("name") else {
        return Some(format!("authority-{index}"));
    };
    let name = field.text(report)?;
    if name.len() > 253 || name.chars().any(char::is_control) {
        let what = format!("is {}; expected one line of 253 bytes at most", shown(name));
        field.error(report, what, Some("choose a name as it shall appear in refusals"));
        return None;
    }
    Some(name.to_owned())
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

/// The log's address says only that the log is asked for: which log is believed is the trust root's business.
fn check_log(ctlog: &Field<'_>, context: &LoadContext<'_>, report: &mut Report) {
    let hint = "write url: https://rekor.sigstore.dev to ask for the log; leave ctlog out to not ask for it with a key";
    if ctlog.is_empty() {
        ctlog.error(
            report,
            "is empty, by which the controller would skip the log; expected a mapping with url",
            Some(hint),
        );
        return;
    }
    let Some(mapping) = ctlog.mapping(report, &CTLOG) else {
        return;
    };
    let Some(url) = mapping.required(report, "url", hint) else {
        return;
    };
    check_url(&url, PUBLIC_LOG, context, report);
}

fn check_url(field: &Field<'_>, public: &str, context: &LoadContext<'_>, report: &mut Report) {
    let Some(url) = field.text(report) else {
        return;
    };
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || host.contains(char::is_whitespace) {
        let what = format!("is {}; expected a URL as {public}", shown(url));
        field.error(
            report,
            what,
            Some("no request goes there: it says what is meant, the trust root what is believed"),
        );
    } else if url.trim_end_matches('/') != public && !context.custom_trust_root {
        let what = format!("is {}, which the public-good trust root does not vouch for; expected {public}", shown(url));
        field.error(
            report,
            what,
            Some("set policy.trust_root in the configuration to the trusted_root.json of that Sigstore"),
        );
    }
}

fn keyless(field: &Field<'_>, context: &LoadContext<'_>, report: &mut Report) -> Option<Keyless> {
    let mapping = field.mapping(report, &KEYLESS)?;
    if let Some(url) = mapping.field("url") {
        check_url(&url, PUBLIC_CA, context, report);
    }
    let ignore_sct = match mapping.field("insecureIgnoreSCT") {
        Some(field) => ignore_sct(&field, report)?,
        None => false,
    };
    let list = mapping.required(report, "identities", "list at least one identity: issuer and subject")?;
    let items = list.list(report, "identity");
    let identities: Vec<_> = items.iter().filter_map(|item| identity(item, report)).collect();
    (!identities.is_empty()).then_some(Keyless { identities, ignore_sct })
}

fn ignore_sct(field: &Field<'_>, report: &mut Report) -> Option<bool> {
    let ignored = field.boolean(report)?;
    if ignored {
        let what = "true: certificates need not have been published in a certificate log";
        report.weakened(field.line, &field.path, what);
    }
    Some(ignored)
}

fn identity(field: &Field<'_>, report: &mut Report) -> Option<Identity> {
    let mapping = field.mapping(report, &IDENTITY)?;
    let issuer = half(&mapping, &["issuer", "issuerRegExp"], report);
    let subject = half(&mapping, &["subject", "subjectRegExp"], report);
    Some(Identity { issuer: issuer?, subject: subject? })
}

fn half(identity: &Mapping<'_>, keys: &[&'static str; 2], report: &mut Report) -> Option<Pattern> {
    let (key, field) = identity.exactly_one(report, keys)?;
    let written = field.text(report)?;
    if !key.ends_with("RegExp") {
        return Some(Pattern::Exact(written.to_owned()));
    }
    match WholeMatch::parse(written) {
        Ok(regex) => {
            if regex.is_looser_in_cluster() {
                let what = format!(
                    "{} must match from first to last character here; the controller also accepts what holds it",
                    shown(written)
                );
                report.note(field.line, &field.path, &what);
            }
            Some(Pattern::Regex(regex))
        }
        Err(error) => {
            let hint = match &error {
                PatternError::DoesNotParse { .. } => "it is read as RE2, as the controller does".to_owned(),
                PatternError::Differs { instead, .. } => format!("write {instead}"),
                PatternError::TooLarge { .. } => "write a shorter one, or several identities".to_owned(),
            };
            field.error(report, format!("{error}, in {}", shown(written)), Some(&hint));
            None
        }
    }
}

fn static_action(field: &Field<'_>, authority: &Mapping<'_>, report: &mut Report) -> Option<StaticAction> {
    if let Some(ctlog) = authority.field("ctlog") {
        ctlog.error(
            report,
            "stands beside static; expected one of the two",
            Some("static asks nobody: take ctlog out"),
        );
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
