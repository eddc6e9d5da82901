//! `TrustRoot` documents: keys and certificates of a Sigstore of one's own, for policies to refer to.

mod chain;
mod log;

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    conditions,
    envelope::Envelope,
    field::{Field, Mapping, Refused, Schema},
    report::Report,
    roots::{Part, Root, Sound},
};
use crate::trust_root::{TrustRoot, TrustRootError};

const SPEC: Schema = Schema {
    known: &["sigstoreKeys"],
    refused: &[
        Refused { key: "remote", what: NOT_FETCHED, hint: IMPORT },
        Refused { key: "repository", what: NOT_FETCHED, hint: IMPORT },
    ],
    ignored: &[],
};

const NOT_FETCHED: &str = "is not supported: a policy file brings its keys along; expected sigstoreKeys";
const IMPORT: &str = "take the trusted_root.json out of that TUF repository, and give it to pratique trust-root import, or to \
                      policy.trust_root in the configuration";

const KEYS: Schema = Schema {
    known: &["certificateAuthorities", "tLogs", "ctLogs", "timestampAuthorities"],
    refused: &[],
    ignored: &[],
};

const AUTHORITY: Schema = Schema { known: &["subject", "uri", "certChain"], refused: &[], ignored: &[] };

const SUBJECT: Schema = Schema { known: &["organization", "commonName"], refused: &[], ignored: &[] };

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";

/// Reads one document; a flawed one is reported, and has its name all the same.
pub(super) fn read(envelope: &Envelope<'_>, report: &mut Report) -> Option<(String, Root)> {
    let metadata = envelope.metadata(report);
    let annotations = metadata.as_ref().and_then(|metadata| metadata.field("annotations"));
    conditions::refuse_all(annotations.as_ref(), "an annotation of a TrustRoot", report);
    let name = metadata.and_then(|metadata| envelope.name(&metadata, report));
    let sound = envelope.spec("write spec: with sigstoreKeys: below it", report).and_then(|spec| sound(&spec, report));
    Some((name?, Root { place: report.place(envelope.line), sound }))
}

fn sound(spec: &Field<'_>, report: &mut Report) -> Option<Sound> {
    let spec = spec.mapping(report, &SPEC)?;
    if spec.field("remote").is_some() || spec.field("repository").is_some() {
        return None;
    }
    keys(&spec.required(report, "sigstoreKeys", "write certificateAuthorities, tLogs and ctLogs below it")?, report)
}

fn keys(field: &Field<'_>, report: &mut Report) -> Option<Sound> {
    let mapping = field.mapping(report, &KEYS)?;
    let mut root = Map::from_iter([("mediaType".to_owned(), MEDIA_TYPE.into())]);
    let mut holds = BTreeSet::new();
    let mut flawless = true;
    for part in [Part::CertificateAuthorities, Part::Logs, Part::CertificateLogs, Part::TimestampAuthorities] {
        let Some(list) = mapping.field(part.key()) else { continue };
        let items = list.list(report, "entry");
        let read: Vec<_> = items.iter().filter_map(|item| entry(item, part, report)).collect();
        flawless &= !read.is_empty() && read.len() == items.len();
        flawless &= !log::any_twice(&list, &read, report);
        root.insert(of_trusted_root(part).to_owned(), Value::Array(read));
        holds.insert(part);
    }
    if !holds.contains(&Part::CertificateAuthorities) && !holds.contains(&Part::TimestampAuthorities) {
        let what = "has neither certificateAuthorities nor timestampAuthorities; expected at least one of them";
        field.error(
            report,
            what,
            Some("to ask for a log of one's own alone, set policy.trust_root in the configuration"),
        );
        return None;
    }
    if !flawless {
        return None;
    }
    match TrustRoot::parse(Value::Object(root).to_string().as_bytes()) {
        Ok(trust_root) => Some(Sound { trust_root, holds }),
        Err(error) => {
            let what = match error {
                TrustRootError::Unusable { what } => format!("cannot be used: {what}"),
                TrustRootError::Json(error) => format!("cannot be used: {error}"),
            };
            field.error(report, what, Some("look at validity, kind and order of its keys and certificates"));
            None
        }
    }
}

/// What a `trusted_root.json` calls it.
fn of_trusted_root(part: Part) -> &'static str {
    match part {
        Part::CertificateAuthorities => "certificateAuthorities",
        Part::Logs => "tlogs",
        Part::CertificateLogs => "ctlogs",
        Part::TimestampAuthorities => "timestampAuthorities",
    }
}

/// An entry as a `trusted_root.json` has it.
fn entry(item: &Field<'_>, part: Part, report: &mut Report) -> Option<Value> {
    match part {
        Part::CertificateAuthorities | Part::TimestampAuthorities => authority(item, part, report),
        Part::Logs | Part::CertificateLogs => log::read(item, part, report),
    }
}

fn authority(item: &Field<'_>, part: Part, report: &mut Report) -> Option<Value> {
    let mapping = item.mapping(report, &AUTHORITY)?;
    let subject = mapping
        .required(report, "subject", "write organization and commonName below it")
        .and_then(|field| subject(&field, report));
    let uri = text(&mapping, "uri", report);
    let chain = mapping.required(report, "certChain", IN_BASE64).and_then(|field| chain::read(&field, part, report));
    Some(json!({ "subject": subject?, "uri": uri?, "certChain": { "certificates": chain? } }))
}

fn subject(field: &Field<'_>, report: &mut Report) -> Option<Value> {
    let mapping = field.mapping(report, &SUBJECT)?;
    let (organization, name) = (text(&mapping, "organization", report), text(&mapping, "commonName", report));
    Some(json!({ "organization": organization?, "commonName": name? }))
}

fn text<'n>(mapping: &Mapping<'n>, key: &str, report: &mut Report) -> Option<&'n str> {
    mapping.required(report, key, "write it, as the controller asks for it too")?.text(report)
}

const IN_BASE64: &str = "write what base64 -w0 prints of the PEM file, as the controller reads it";

/// A PEM text in base64, as Kubernetes writes bytes.
fn decoded(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let written = field.text(report)?;
    let base64: String = written.split_whitespace().collect();
    let decoded = STANDARD.decode(base64).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if decoded.is_none() {
        let seen =
            if written.trim_start().starts_with("-----BEGIN ") { "is PEM as it is" } else { "is no base64 of a text" };
        field.error(report, format!("{seen}; expected a PEM text in base64"), Some(IN_BASE64));
    }
    decoded
}
